"""Drives kcat, which is a command and no library. Usage: BOOTSTRAP JOB TOPIC [key=value]..."""

import json
import re
import subprocess
import sys

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
    count = 0
    with open(options["out"], "w") as out:
        at = 0
        while at < len(raw):
            end = raw.index(b"\n", at)
            head = raw[at:end].split(b" ", 5)
            partition, offset, timestamp, key_size, value_size, named = head
            key, at = taken(raw, end + 1, int(key_size))
            value, at = taken(raw, at, int(value_size))
            at += 1
            pairs = [pair.split(b"=", 1) for pair in named.split(b",") if pair]
            headers = ",".join(f"{name.hex()}:{value.hex()}" for name, value in pairs)
            fields = [partition.decode(), offset.decode(), timestamp.decode(), key, value, headers]
            out.write("\t".join(fields) + "\n")
            count += 1
    return {"ok": True, "count": count}


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
