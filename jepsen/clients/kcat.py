"""Drives kcat, which is a command and no library. Usage: BOOTSTRAP JOB TOPIC [key=value]..."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time

TIMEOUT_S = 30
FORMAT = "%p %o %T %K %S %h\\n%k%s\\n"


class Failed(Exception):
    pass


def kcat(bootstrap, *arguments, text=b""):
    done = subprocess.run(
        ["kcat", "-b", bootstrap, *map(str, arguments)],
        input=text,
        capture_output=True,
        timeout=TIMEOUT_S,
    )
    if done.returncode != 0:
        raise Failed(f"kcat ended with {done.returncode}: {done.stderr.decode()[-300:].strip()}")
    return done.stdout


def unhex(field):
    return b"" if field == "-" else bytes.fromhex(field)


def write(bootstrap, topic, options):
    """One run of kcat per partition: the partition is a flag of the command."""
    lines = [line.split("\t") for line in open(options["in"]).read().splitlines()]
    flags = ["-P", "-t", topic, "-K", "\\t", "-z", options.get("codec", "none")]
    flags += ["-X", f"acks={options.get('acks', 'all')}", "-X", "linger.ms=5"]
    flags += ["-X", f"message.max.bytes={options.get('max', 1000000)}"]
    flags += ["-X", f"enable.idempotence={options.get('idempotent', 'true')}"]
    for partition in sorted({line[0] for line in lines}):
        own = [line for line in lines if line[0] == partition]
        place = [] if partition == "-" else ["-p", partition]
        for pair in filter(None, own[0][4].split(",")):
            name, value = pair.split(":")
            place += ["-H", f"{unhex(name).decode()}={unhex(value).decode()}"]
        text = b""
        for _, _, key, value, _ in own:
            text += (b"" if key == "-" else unhex(key) + b"\t") + unhex(value) + b"\n"
        kcat(bootstrap, *flags, *place, text=text)
    with open(options["out"], "w") as out:
        out.write("?\t?\n" * len(lines))
    return {"ok": True, "count": len(lines)}


def read(bootstrap, topic, options):
    flags = ["-C", "-t", topic, "-f", FORMAT, "-q"]
    if "from_time" in options:
        raw = kcat(bootstrap, *flags, "-e", "-o", f"s@{options['from_time']}")
    elif "start" in options:
        starts = [pair.split(":") for pair in options["start"].split(",")]
        raw = b"".join(kcat(bootstrap, *flags, "-e", "-p", p, "-o", at) for p, at in starts)
    else:
        end = ["-c", options["count"]] if "count" in options else ["-e"]
        raw = kcat(bootstrap, *flags, "-o", "beginning", *end)
    with open(options["out"], "w") as out:
        return {"ok": True, "count": note(raw, out)}


def note(raw, out):
    """Writes down the records in what kcat printed, and returns how many there were."""
    count, at = 0, 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        head = raw[at:end].split(b" ", 5)
        partition, offset, timestamp, key_size, value_size, named = head
        key, at = taken(raw, end + 1, int(key_size))
        value, at = taken(raw, at, int(value_size))
        at += 1
        if at > len(raw):
            raise ValueError("the last record is not whole")
        pairs = [pair.split(b"=", 1) for pair in named.split(b",") if pair]
        headers = ",".join(f"{name.hex()}:{value.hex()}" for name, value in pairs)
        fields = [partition.decode(), offset.decode(), timestamp.decode(), key, value, headers]
        out.write("\t".join(fields) + "\n")
        count += 1
    return count


STRATEGIES = {"eager": "range", "cooperative": "cooperative-sticky"}


def member(bootstrap, topic, options):
    """One member of a group until the stop file appears; kcat commits by itself."""
    flags = ["-u", "-f", FORMAT, "-X", "auto.offset.reset=earliest"]
    flags += ["-X", f"session.timeout.ms={options['session']}", "-X", "heartbeat.interval.ms=500"]
    flags += ["-X", f"partition.assignment.strategy={STRATEGIES[options['strategy']]}"]
    flags += ["-X", "auto.commit.interval.ms=200"]
    told = options["owned"] + ".told"
    printed = options["out"] + ".raw"
    with open(printed, "wb") as raw, open(told, "w") as errors:
        running = subprocess.Popen(
            ["kcat", "-b", bootstrap, *flags, "-G", options["group"], topic],
            stdin=subprocess.DEVNULL,
            stdout=raw,
            stderr=errors,
        )
    die_together(running)
    read = 0
    while not os.path.exists(options["stop"]) and running.poll() is None:
        time.sleep(0.1)
        read = take(printed, read, options["out"])
        note_owned(told, options["owned"])
    running.send_signal(signal.SIGINT)
    status = running.wait(timeout=TIMEOUT_S)
    take(printed, read, options["out"])
    return {"ok": status == 0, "why": f"kcat ended with {status}: {open(told).read()[-300:]}"}


def die_together(running):
    """A judge that kills this program means kcat."""
    watch = f"while kill -0 {os.getpid()} 2>/dev/null; do sleep 0.1; done; kill -9 {running.pid}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.Popen(["sh", "-c", watch], start_new_session=True, **quiet)


def take(printed, read, path):
    """Takes over what kcat has printed since; returns how much was taken in all."""
    with open(printed, "rb") as raw:
        raw.seek(read)
        text = raw.read()
    whole = io.StringIO()
    try:
        note(text, whole)
    except ValueError:
        return read  # A record is being printed; it comes whole the next time.
    with open(path, "a") as out:
        out.write(whole.getvalue())
    return read + len(text)


def note_owned(told, path):
    owned, lines = set(), []
    for line in open(told).read().splitlines():
        if " rebalanced" in line:
            partitions = {int(p) for p in re.findall(r"\[(\d+)\]", line)}
            lost = "revo" in line or "unassign" in line
            owned = owned - partitions if lost else owned | partitions
            lines.append(",".join(map(str, sorted(owned))) + "\n")
    with open(path, "w") as out:
        out.writelines(lines)


def taken(raw, at, size):
    return ("-", at) if size < 0 else (raw[at : at + size].hex(), at + size)


def query(bootstrap, topic, moment):
    """kcat -Q asks for one moment per partition and prints `topic [partition] offset N`."""
    found = {}
    for partition in range(topics(bootstrap, topic, {})["topics"][topic]):
        answer = kcat(bootstrap, "-Q", "-t", f"{topic}:{partition}:{moment}").decode()
        found[partition] = int(re.search(r"offset (-?\d+)", answer).group(1))
    return found


def ends(bootstrap, topic, options):
    low, high = query(bootstrap, topic, -2), query(bootstrap, topic, -1)
    return {"ok": True, "ends": {p: [low[p], high[p]] for p in low}}


def times(bootstrap, topic, options):
    moments = options["times"].split(",")
    return {"ok": True, "times": {m: query(bootstrap, topic, m) for m in moments}}


def topics(bootstrap, topic, options):
    listed = json.loads(kcat(bootstrap, "-L", "-J"))["topics"]
    return {"ok": True, "topics": {t["topic"]: len(t["partitions"]) for t in listed}}


if __name__ == "__main__":
    bootstrap, job, topic, *rest = sys.argv[1:]
    options = dict(pair.split("=", 1) for pair in rest)
    try:
        print(json.dumps(globals()[job](bootstrap, topic, options)))
    except Failed as error:
        print(json.dumps({"ok": False, "why": str(error)}))
    except subprocess.TimeoutExpired:
        print(json.dumps({"ok": False, "why": f"kcat did not end within {TIMEOUT_S} s"}))
