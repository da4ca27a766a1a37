"""A wire tap: which request, in which version, each client sent, and what came back.

Owns: a proxy between the clients and a broker that advertises the proxy's address. It passes bytes
on as they are, and reads only the frame sizes and the first fields of each request header. On
demand it cuts the connection when a Produce has been answered, and keeps the answer back.
Keeps: for each request the client and job on trial, the key, the version, the sizes, the time the
answer took, and whether the connection ended before it.
Must not know: what a right answer is.
"""

import json
import socket
import struct
import threading
import time
from collections import OrderedDict

KEYS = {
    0: "Produce",
    1: "Fetch",
    2: "ListOffsets",
    3: "Metadata",
    8: "OffsetCommit",
    9: "OffsetFetch",
    10: "FindCoordinator",
    18: "ApiVersions",
    19: "CreateTopics",
    20: "DeleteTopics",
    22: "InitProducerId",
    23: "OffsetForLeaderEpoch",
    32: "DescribeConfigs",
    60: "DescribeCluster",
    71: "GetTelemetrySubscriptions",
    72: "PushTelemetry",
    75: "DescribeTopicPartitions",
}


class Tap:
    """Listens on a port of its own and connects each client on to the broker."""

    def __init__(self, port, log):
        self.log = open(log, "w")
        self.lock = threading.Lock()
        self.upstream = None
        self.label = ("judge", "start")
        self.seen = OrderedDict()
        self.cuts = 0
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self.connect, args=(client,), daemon=True).start()

    def connect(self, client):
        try:
            broker = socket.create_connection(("127.0.0.1", self.upstream))
        except OSError:
            client.close()
            return
        open_requests, label = OrderedDict(), self.label
        for end in (client, broker):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        toward = threading.Thread(
            target=self.pump, args=(client, broker, self.request, open_requests, label), daemon=True
        )
        toward.start()
        self.pump(broker, client, self.response, open_requests, label)
        for key, version, size, _ in open_requests.values():
            self.note(label, key, version, size, None, None)
        toward.join(5)
        client.close()
        broker.close()

    def pump(self, source, sink, read_frame, open_requests, label):
        """Copies one direction; whole frames are looked at as they complete."""
        kept = b""
        try:
            while part := source.recv(1 << 16):
                kept += part
                while len(kept) >= 4:
                    end = 4 + struct.unpack(">i", kept[:4])[0]
                    if len(kept) < end:
                        break
                    key = read_frame(kept[4:end], open_requests, label)
                    kept = kept[end:]
                    if key == 0 and self.cut():
                        raise OSError("cut on purpose")
                sink.sendall(part)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            for end in (source, sink):
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass  # it is gone already

    def request(self, frame, open_requests, label):
        key, version, correlation = struct.unpack(">hhi", frame[:8])
        if key == 0 and produce_acks(frame, version) == 0:
            self.note(label, key, version, len(frame), 0, 0)
        else:
            open_requests[correlation] = (key, version, len(frame), time.monotonic())

    def response(self, frame, open_requests, label):
        entry = open_requests.pop(struct.unpack(">i", frame[:4])[0], None)
        if entry is not None:
            key, version, size, began = entry
            took = round((time.monotonic() - began) * 1000, 1)
            self.note(label, key, version, size, len(frame), took)
            return key
        return None

    def cut(self):
        """Whether this answer to a Produce is one that the client must not see."""
        with self.lock:
            now, self.cuts = self.cuts > 0, max(self.cuts - 1, 0)
        return now

    def note(self, label, key, version, sent, received, took_ms):
        name = KEYS.get(key, str(key))
        row = {"client": label[0], "job": label[1], "api": name, "version": version}
        row |= {"request_bytes": sent, "response_bytes": received, "ms": took_ms}
        with self.lock:
            self.seen.setdefault(label[0], {}).setdefault(key, set()).add(version)
            self.log.write(json.dumps(row) + "\n")
            self.log.flush()

    def table(self):
        """One line per client: every request it sent, with the versions."""
        with self.lock:
            for client, keys in self.seen.items():
                used = [f"{KEYS.get(k, k)} {ranges(v)}" for k, v in sorted(keys.items())]
                yield f"{client:16} {', '.join(used)}"


def ranges(versions):
    return "/".join(map(str, sorted(versions)))


def produce_acks(frame, version):
    """The acks field lies behind the client id and, from version 3, the transactional id."""
    try:
        at = 8 + 2 + max(struct.unpack(">h", frame[8:10])[0], 0)
        if version >= 9:
            at += 1  # no tagged fields in the header
            at += max(frame[at] - 1, 0) + 1
        elif version >= 3:
            at += 2 + max(struct.unpack(">h", frame[at : at + 2])[0], 0)
        return struct.unpack(">h", frame[at : at + 2])[0]
    except (struct.error, IndexError):
        return None
