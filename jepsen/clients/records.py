"""What is written, what was read, and whether the two agree.

Owns: the records that clients are told to write (from a seed, the same for every language because
they are handed over as lines of a file), the two line formats, and the comparison. A client never
judges itself: it reports every record it read, and the verdict falls here.

A record to write is a line  `partition  timestamp  key  value  headers`,
a record that was read       `partition  offset  timestamp  key  value  headers`,
an acknowledgement           `partition  offset`, or `!  ERROR`, or `?  ?` when none is given,
fields separated by tabs; bytes as hex, `-` for null; headers as `name:value,...`, both in hex;
partition `-` leaves the choice to the client.
Must not know: clients, brokers, processes.
"""

import hashlib
import random
import time
from dataclasses import dataclass

PARTITIONS = 3


@dataclass(frozen=True)
class Record:
    partition: int | None
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple

    def line(self):
        partition = "-" if self.partition is None else self.partition
        return "\t".join([str(partition), str(self.timestamp), *self.content()])

    def content(self):
        headers = ",".join(f"{hexed(name)}:{hexed(value)}" for name, value in self.headers)
        return [hexed(self.key), hexed(self.value), headers]


@dataclass(frozen=True)
class Seen:
    partition: int
    offset: int
    record: Record


def hexed(value):
    return "-" if value is None else value.hex()


def unhexed(field):
    return None if field == "-" else bytes.fromhex(field)


def parse_seen(path):
    seen = []
    for line in path.read_text().splitlines():
        partition, offset, timestamp, key, value, headers = line.split("\t")
        pairs = [pair.split(":") for pair in headers.split(",") if pair]
        pairs = tuple((unhexed(name), unhexed(value)) for name, value in pairs)
        record = Record(int(partition), int(timestamp), unhexed(key), unhexed(value), pairs)
        seen.append(Seen(int(partition), int(offset), record))
    return seen


def parse_acks(path):
    return [tuple(line.split("\t", 1)) for line in path.read_text().splitlines()]


def generate(kind, seed, count):
    """Records of one kind; which kinds a client can write is a property of its interface.

    rich:    explicit partitions; null, empty and binary keys and values; headers with null values
             and repeated names; times that jump back
    plain:   like rich, but each header name once, in order, with printable values
    text:    printable, never empty, the same header on all (what kcat can write)
    keyed:   the client's partitioner chooses by key
    unkeyed: the client's partitioner chooses freely
    """
    dice = random.Random(f"{kind} {seed}")
    base = (int(time.time()) - 900) * 1000
    return [one(kind, dice, index, base) for index in range(count)]


def one(kind, dice, index, base):
    timestamp = base + index * 7 - (5000 if index % 10 == 9 else 0)
    partition = dice.randrange(PARTITIONS)
    marked = b"%06d " % index
    if kind in ("keyed", "unkeyed"):
        key = b"key %d" % dice.randrange(40) if kind == "keyed" else None
        return Record(None, timestamp, key, marked + words(dice, dice.randrange(60)), ())
    if kind == "text":
        key = None if dice.randrange(8) == 0 else b"key %d" % dice.randrange(40)
        value = marked + words(dice, dice.randrange(60))
        return Record(partition, timestamp, key, value, ((b"by", b"kcat"),))
    key = dice.choice([None, b"", dice.randbytes(1 + dice.randrange(40)), b"key", b"\xff\0"])
    value = dice.choice([None, b"", marked, *[marked + filling(dice) for _ in range(5)]])
    if key is None and value is None:
        value = b""  # some clients refuse a record with neither
    return Record(partition, timestamp, key, value, headers(kind, dice))


def filling(dice):
    size = dice.choice([0, 1, 10, 100, 1000, 3000])
    return dice.randbytes(size) if dice.randrange(2) else words(dice, size // 6)


def words(dice, count):
    return b" ".join(dice.choice([b"light", b"night", b"water", b"stone"]) for _ in range(count))


def headers(kind, dice):
    names = [b"a", b"b", "größe".encode(), b"trace-id"]
    chosen = sorted(dice.sample(names, dice.randrange(3)))
    values = [b"", b"1", "wärme".encode()]
    if kind == "rich":
        values += [None, dice.randbytes(20)]
        chosen += chosen[: dice.randrange(2)]
    return tuple((name, dice.choice(values)) for name in chosen)


def largest(limit):
    """A null-key record whose batch, alone and not compressed, is exactly `limit` bytes long.

    61 bytes of batch header, 3 of record length, 7 of fixed fields (attributes, time delta, offset
    delta, null key, number of headers: one each; they and the value's own length of 3 make 8), and
    the value.
    """
    return Record(0, int(time.time()) * 1000, None, b"x" * (limit - 61 - 3 - 8), ())


def by_partition(seen):
    partitions = {}
    for one_seen in seen:
        partitions.setdefault(one_seen.partition, []).append(one_seen)
    return partitions


def content_hash(records):
    """One hash over partitions, in order, and contents, without times and offsets."""
    digest = hashlib.sha256()
    for record in sorted(records, key=lambda r: r.partition):
        digest.update("\t".join([str(record.partition), *record.content()]).encode() + b"\n")
    return digest.hexdigest()[:16]


def dense(seen, starts):
    """Offsets of every partition rise by exactly one from where reading began."""
    for partition, records in sorted(by_partition(seen).items()):
        wanted = starts.get(partition, 0)
        for one_seen in records:
            if one_seen.offset != wanted:
                return f"partition {partition}: offset {one_seen.offset} where {wanted} was due"
            wanted += 1
    return None


def differ(wanted, got, times, where):
    names = ["key", "value", "headers"]
    pairs = list(zip(names, wanted.content(), got.content()))
    if times:
        pairs.append(("timestamp", str(wanted.timestamp), str(got.timestamp)))
    for name, want, have in pairs:
        if want != have:
            return f"{where}: {name} is {short(have)}, written was {short(want)}"
    return None


def short(field):
    return field if len(field) <= 40 else f"{field[:24]}... ({len(field) // 2} bytes)"


def compare(written, seen, acks=None, starts=None, times=True):
    """Count, order and content of what was read against what was written; None, or why not."""
    starts = starts or {}
    if len(seen) != len(written):
        return f"{len(seen)} records read, {len(written)} written"
    why = dense(seen, starts)
    if why:
        return why
    if all(record.partition is not None for record in written):
        why = compare_placed(written, seen, times)
    else:
        why = compare_chosen(written, seen, times)
    return why or (compare_acks(written, seen, acks, times) if acks is not None else None)


def compare_placed(written, seen, times):
    got = by_partition(seen)
    for partition in sorted({record.partition for record in written}):
        wanted = [record for record in written if record.partition == partition]
        have = got.get(partition, [])
        if len(have) != len(wanted):
            return f"partition {partition}: {len(have)} records read, {len(wanted)} written"
        for want, one_seen in zip(wanted, have):
            where = f"partition {partition} offset {one_seen.offset}"
            why = differ(want, one_seen.record, times, where)
            if why:
                return why
    if content_hash(written) != content_hash([one_seen.record for one_seen in seen]):
        return "the content hashes differ"
    return None


def compare_chosen(written, seen, times):
    """Partitions were the client's choice: all there, in order within each, one home per key."""
    home = {}
    index_of = {record.value[:6]: index for index, record in enumerate(written)}
    found = set()
    for partition, records in sorted(by_partition(seen).items()):
        last = -1
        for one_seen in records:
            where = f"partition {partition} offset {one_seen.offset}"
            index = index_of.get((one_seen.record.value or b"")[:6])
            if index is None or index in found:
                return f"{where}: a record that was not written, or twice"
            if index < last:
                return f"{where}: record {index} after record {last}"
            why = differ(written[index], one_seen.record, times, where)
            if why:
                return why
            key = one_seen.record.key
            if key is not None and home.setdefault(key, partition) != partition:
                return f"{where}: key {key!r} is in partition {home[key]} too"
            last = index
            found.add(index)
    return None


def compare_acks(written, seen, acks, times):
    """The offset that was acknowledged for each record is where that record was found."""
    if len(acks) != len(written):
        return f"{len(acks)} acknowledgements for {len(written)} records"
    places = {(str(s.partition), str(s.offset)): s.record for s in seen}
    for index, (record, ack) in enumerate(zip(written, acks)):
        if ack[0] == "!":
            return f"record {index} was refused: {ack[1]}"
        if ack[0] == "?":
            return f"record {index} was not acknowledged with an offset"
        if ack not in places:
            return f"record {index} was acknowledged at {ack}, where nothing was read"
        why = differ(record, places[ack], times, f"record {index}, acknowledged at {ack}")
        if why:
            return why
    return None


def first_at_or_after(seen, timestamp):
    """Per partition, the first offset whose time is not before `timestamp`, or -1."""
    answer = {}
    for partition in range(PARTITIONS):
        records = by_partition(seen).get(partition, [])
        answer[partition] = next((s.offset for s in records if s.record.timestamp >= timestamp), -1)
    return answer
