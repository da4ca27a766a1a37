"""Processes, ports and the three plain requests that the judge itself sends.

Owns: starting and stopping the broker under test, and creating topics without the help of any of
the clients on trial (CreateTopics version 4, the last one before the flexible encodings, written
out by hand so that a fault in one client's admin does not hide another client's result).
Must not know: clients and jobs.
"""

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

READY_S = 60


class BrokerError(Exception):
    """The broker did not start, or did not answer as Kafka's protocol says."""


def free_port():
    """Below the kernel's ports for outgoing connections: a client that connects while the broker is
    down could else be given the very port, and connect to itself."""
    for port in range(random.randrange(20000, 31000), 32000):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise BrokerError("no port is free")


def text(value):
    raw = value.encode()
    return struct.pack(">h", len(raw)) + raw


def request(host, port, key, version, body, timeout_s=15):
    """Sends one request with header version 1 and returns the body of the response."""
    head = struct.pack(">hhi", key, version, 7) + text("judge")
    with socket.create_connection((host, port), timeout=timeout_s) as s:
        s.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
        reply = receive(s, struct.unpack(">i", receive(s, 4))[0])
    if struct.unpack(">i", reply[:4])[0] != 7:
        raise BrokerError("the response carries another correlation id")
    return reply[4:]


def receive(s, count):
    parts = b""
    while len(parts) < count:
        part = s.recv(min(count - len(parts), 1 << 20))
        if not part:
            raise BrokerError(f"connection closed after {len(parts)} of {count} bytes")
        parts += part
    return parts


def answers(host, port):
    """Whether somebody there answers ApiVersions without an error."""
    try:
        return request(host, port, 18, 0, b"", timeout_s=2)[:2] == b"\0\0"
    except (OSError, BrokerError, struct.error):
        return False


def create_topic(bootstrap, name, partitions, configs=None):
    host, port = bootstrap.rsplit(":", 1)
    body = struct.pack(">i", 1) + text(name) + struct.pack(">ihi", partitions, 1, 0)
    configs = configs or {}
    body += struct.pack(">i", len(configs))
    body += b"".join(text(key) + text(value) for key, value in configs.items())
    body += struct.pack(">i?", 15000, False)
    reply = request(host, int(port), 19, 4, body)
    # throttle time, array of (name, error code, message)
    size = struct.unpack(">h", reply[8:10])[0]
    error = struct.unpack(">h", reply[10 + size : 12 + size])[0]
    if error != 0:
        raise BrokerError(f"CreateTopics v4 of `{name}` was answered with error code {error}")


class Server:
    """A broker that we start and stop: `trialog`, or anything else that announces itself alike."""

    def __init__(self, arguments, log):
        self.log = log
        self.ready = threading.Event()
        self.errors = open(log, "ab")
        self.process = subprocess.Popen(
            [str(a) for a in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            start_new_session=True,
        )
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        """Drains stdout for as long as the broker lives, so that it never blocks on the pipe."""
        for line in self.process.stdout:
            self.errors.write(line)
            self.errors.flush()
            if b"listening on" in line:
                self.ready.set()

    def wait_ready(self):
        deadline = time.monotonic() + READY_S
        while not self.ready.wait(0.05):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                tail = Path(self.log).read_text(errors="replace").strip().splitlines()[-10:]
                raise BrokerError("the broker did not start:\n" + "\n".join(tail))

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        """Asks politely, then insists; returns the exit status."""
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()


def scratch():
    return Path(tempfile.mkdtemp(prefix="trialog-clients-"))


def discard(folder):
    shutil.rmtree(folder, ignore_errors=True)
