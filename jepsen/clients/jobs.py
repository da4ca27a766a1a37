"""What each client is asked to do, and when the broker has passed.

Owns: the list of jobs and their verdicts. A job starts the client's program, hands it records or a
question, and judges what it reports: count, order per partition, content, offsets. A program that
merely ends well has passed nothing.
Must not know: how clients are installed, how the broker was started.
"""

import json
import re
import subprocess
import time
from pathlib import Path

import process
import records
from records import PARTITIONS

COUNT = 400
MANY = 8000  # about 4 MB, so that reading takes many fetches
LIMIT = 1048588  # Kafka's default `max.message.bytes`, header included
MOST = 4000000  # what a client may send when the broker's own limit is on trial
PROGRAM_S = 60
CLOSE_MS = 5000
FOLLOW_S = 3.0  # a record at the end of a partition reaches a waiting reader this fast
SEED = 7
RUN = f"{int(time.time()):x}"  # keeps the topics of several runs on one broker apart


class Failure(Exception):
    """A job did not pass; the text says why."""


def check(condition, why):
    if not condition:
        raise Failure(why)


class Trial:
    """One client against one broker: its program, its topics, its scratch folder."""

    def __init__(self, client, command, bootstrap, folder, reader=None, tapped=None):
        self.client = client
        self.command = command
        self.bootstrap = bootstrap
        self.folder = folder
        self.reader = reader or self
        self.tapped = tapped
        self.tap = None
        self.base = None
        self.used = 0

    def topic(self, name, partitions=PARTITIONS, **configs):
        """A new topic, created by the judge itself; `partitions` 0 leaves it missing."""
        self.used += 1
        full = f"{self.client.name}-{name}-{RUN}-{self.used}"
        if partitions:
            configs = {key.replace("_", "."): value for key, value in configs.items()}
            process.create_topic(self.bootstrap, full, partitions, configs)
        return full

    def begin(self, job, topic, **options):
        words = [f"{name.rstrip('_')}={value}" for name, value in options.items()]
        arguments = [*self.command, self.bootstrap, job, topic, *words]
        return subprocess.Popen(
            [str(a) for a in arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
        )

    def finish(self, job, running):
        """The program's answer: the last line it printed."""
        try:
            out, errors = running.communicate(timeout=PROGRAM_S)
        except subprocess.TimeoutExpired:
            running.kill()
            _, errors = running.communicate()
            raise Failure(f"{job}: no answer within {PROGRAM_S} s; {tail(errors)}") from None
        try:
            return json.loads(out.strip().splitlines()[-1])
        except (IndexError, ValueError):
            status = running.returncode
            raise Failure(f"{job}: ended with {status}; {tail(errors or out)}") from None

    def ask(self, job, topic, **options):
        answer = self.finish(job, self.begin(job, topic, **options))
        check(answer["ok"], f"{job}: {answer.get('why')}")
        return answer

    def write(self, topic, written, **options):
        """Returns one acknowledgement per record."""
        given, acks = self.folder / "given", self.folder / "acks"
        given.write_text("".join(record.line() + "\n" for record in written))
        self.ask("write", topic, in_=given, out=acks, **options)
        return records.parse_acks(acks)

    def write_all(self, topic, written, **options):
        """The same, where a refusal is a failure."""
        acks = self.write(topic, written, **options)
        bad = [(index, ack[1]) for index, ack in enumerate(acks) if ack[0] == "!"]
        check(not bad, f"{len(bad)} records refused, first {bad[:1]}")
        return acks

    def read(self, topic, **options):
        out = self.folder / "seen"
        answer = self.ask("read", topic, out=out, **options)
        check(answer.get("close_ms", 0) <= CLOSE_MS, f"close took {answer.get('close_ms')} ms")
        return records.parse_seen(out)

    def can(self, what):
        return what in self.client.can

    def acknowledged(self, written, acks, options):
        """The acknowledgements, if this client names offsets for such records."""
        placed = all(record.partition is not None for record in written)
        named = self.can("offsets") or (placed and self.can("offsets-if-placed"))
        return acks if named and options.get("acks") != "0" else None


def tail(text):
    return " | ".join(text.strip().splitlines()[-3:])[-400:]


def round_trip(trial, name, kind=None, partitions=PARTITIONS, count=COUNT, **options):
    topic = trial.topic(name, partitions)
    written = records.generate(kind or trial.client.kind, SEED, count)
    acks = trial.write_all(topic, written, **options)
    # Without an acknowledgement the records may still be on their way; readers that can, wait.
    wait = {"count": count} if options.get("acks") == "0" and trial.reader.can("follow") else {}
    seen = trial.reader.read(topic, **wait)
    acks = trial.acknowledged(written, acks, options)
    verdict(written, seen, acks, times=trial.can("times-set"))
    return topic, written, seen


def verdict(written, seen, acks=None, starts=None, times=True):
    why = records.compare(written, seen, acks, starts, times)
    check(why is None, why)


def base(trial):
    """A topic with compressed batches that the reading jobs of one client share."""
    if trial.base is None:
        trial.base = round_trip(trial, "base", codec="gzip")
    return trial.base


def job_list(trial):
    topic = trial.topic("list", 5)
    found = trial.ask("topics", topic)["topics"]
    check(found.get(topic) == 5, f"topic with 5 partitions is listed with {found.get(topic)}")


def job_admin(trial):
    topic = trial.topic("admin", 0)
    answer = trial.ask("create", topic, partitions=5)
    check(answer.get("partitions", 5) == 5, f"created with {answer.get('partitions')} partitions")
    listed(trial, topic, 5)
    refused(trial, "create", topic, r"already.?exists|topicexists", partitions=5)
    trial.ask("delete", topic)
    listed(trial, topic, None)
    refused(trial, "delete", topic, r"unknown.?topic|does not (exist|host)")
    trial.ask("create", topic, partitions=2)
    listed(trial, topic, 2)


def listed(trial, topic, partitions):
    """Kafka spreads what it created or deleted a moment after it has answered."""
    deadline = time.monotonic() + 3
    while (found := trial.ask("topics", topic)["topics"].get(topic)) != partitions:
        check(time.monotonic() < deadline, f"listed with {found} partitions, not {partitions}")


def refused(trial, job, topic, pattern, **options):
    answer = trial.finish(job, trial.begin(job, topic, **options))
    why = str(answer.get("why"))
    check(not answer["ok"], f"{job} succeeded, should be refused with {pattern}")
    check(re.search(pattern, why, re.IGNORECASE), f"{job} was refused with {why}, not {pattern}")


def job_big(trial):
    """The largest batch that fits is taken, and one byte more is refused."""
    largest_fits(trial, trial.topic("big"), LIMIT)


def job_big_for_topic(trial):
    """The same with the topic's own limit."""
    largest_fits(trial, trial.topic("own-limit", max_message_bytes="20000"), 20000)


def largest_fits(trial, topic, limit):
    fits = records.largest(limit)
    acks = trial.write_all(topic, [fits], max=MOST)
    too_large = [records.largest(limit + 1)]
    refused_record(trial, topic, too_large, r"too.?large", f"a batch of {limit + 1} bytes")
    acks = trial.acknowledged([fits], acks, {})
    verdict([fits], trial.reader.read(topic), acks, times=trial.can("times-set"))


def refused_record(trial, topic, one, pattern, what):
    try:
        ack = trial.write(topic, one, max=MOST)[0]
    except Failure as failure:
        ack = ("!", str(failure))
    check(ack[0] == "!", f"{what} was accepted")
    check(re.search(pattern, ack[1], re.IGNORECASE), f"{what} was refused with {ack[1]}")


def job_compacted(trial):
    """A compacted topic takes records with keys and refuses those without."""
    topic = trial.topic("compacted", cleanup_policy="compact")
    written = records.generate("keyed", SEED, 50)
    trial.write_all(topic, written)
    keyless = records.generate("unkeyed", SEED, 1)
    # aiokafka does not know code 87 by name.
    pattern = r"invalid.?record|failed (to validate|the validation)|UnknownError"
    refused_record(trial, topic, keyless, pattern, "a record without a key")
    verdict(written, trial.reader.read(topic), times=trial.can("times-set"))


def job_append_time(trial):
    """With LogAppendTime every record carries the broker's time, not its own."""
    topic = trial.topic("append-time", message_timestamp_type="LogAppendTime")
    written = records.generate(trial.client.kind, SEED, COUNT)
    began = int(time.time() * 1000)
    acks = trial.acknowledged(written, trial.write_all(topic, written, codec="gzip"), {})
    ended = int(time.time() * 1000)
    seen = trial.reader.read(topic)
    verdict(written, seen, acks, times=False)
    for one in seen:
        moment = one.record.timestamp
        check(began <= moment <= ended, f"offset {one.offset}: time {moment}, not {began}..{ended}")


def job_cut(trial):
    """The connection is cut after a produce reached the broker, before its answer reached the
    client. The client tries again, and idempotence makes it once."""
    trial = trial.tapped(trial)
    topic = trial.topic("cut")
    written = records.generate(trial.client.kind, SEED + 3, COUNT)
    trial.tap.cuts = 3
    try:
        acks = trial.acknowledged(written, trial.write_all(topic, written), {})
        left = trial.tap.cuts
    finally:
        trial.tap.cuts = 0
    check(left < 3, "no produce request was seen")
    verdict(written, trial.reader.read(topic), acks, times=trial.can("times-set"))


def job_from_offset(trial):
    """Starts within batches: what comes before the asked offset must not be seen."""
    topic, written, seen = base(trial)
    ends = {p: len(r) for p, r in records.by_partition(seen).items()}
    starts = {p: at for p, at in zip(sorted(ends), (17, ends[1] // 2, ends[2] - 1))}
    asked = ",".join(f"{p}:{at}" for p, at in starts.items())
    wanted = [s.record for s in seen if s.offset >= starts[s.partition]]
    verdict(wanted, trial.read(topic, start=asked), starts=starts)


def moments(seen):
    middle = seen[len(seen) // 2].record.timestamp
    stamps = [s.record.timestamp for s in seen]
    return [min(stamps) - 1000, middle, middle + 1, max(stamps), max(stamps) + 1]


def job_by_time(trial):
    topic, written, seen = base(trial)
    asked = moments(seen)
    found = trial.ask("times", topic, times=",".join(map(str, asked)))["times"]
    ends = {p: len(r) for p, r in records.by_partition(seen).items()}
    for moment in asked:
        wanted = records.first_at_or_after(seen, moment)
        if trial.can("late-is-end"):
            wanted = {p: ends[p] if at < 0 else at for p, at in wanted.items()}
        got = {int(p): at for p, at in found[str(moment)].items()}
        place = f"{moment - min(asked) - 1000} ms after the first record"
        check(got == wanted, f"at {moment} ({place}): offsets {got}, should be {wanted}")


def job_read_from_time(trial):
    topic, written, seen = base(trial)
    middle = seen[len(seen) // 2].record.timestamp
    starts = records.first_at_or_after(seen, middle)
    wanted = [s.record for s in seen if 0 <= starts[s.partition] <= s.offset]
    verdict(wanted, trial.read(topic, from_time=middle), starts=starts)


def job_ends(trial):
    topic, written, seen = base(trial)
    wanted = {str(p): [0, len(r)] for p, r in records.by_partition(seen).items()}
    found = trial.ask("ends", topic)["ends"]
    check(found == wanted, f"ends {found}, should be {wanted}")


def job_newest(trial):
    topic, written, seen = base(trial)
    wanted = {
        str(p): max(r, key=lambda s: s.record.timestamp).offset
        for p, r in records.by_partition(seen).items()
    }
    found = trial.ask("newest", topic)["newest"]
    check(found == wanted, f"offsets of the largest time {found}, should be {wanted}")


def job_out_of_range(trial):
    topic, written, seen = base(trial)
    pattern = r"out.?of.?range|AUTO_?OFFSET_?RESET|outside the range"
    out = trial.folder / "seen"
    start = ",".join(f"{p}:999999" for p in range(PARTITIONS))
    refused(trial, "read", topic, pattern, start=start, count=1, out=out)


def job_follow(trial):
    """A reader that waits at the end gets what is written later, at once."""
    topic = trial.topic("follow")
    written = records.generate(trial.client.kind, SEED + 1, 50)
    out = trial.folder / "followed"
    reading = trial.begin("read", topic, count=50, out=out)
    try:
        time.sleep(2.5)
        check(reading.poll() is None, "the reader ended before anything was written")
        trial.write_all(topic, written)
        began = time.monotonic()
        answer = trial.finish("read", reading)
    finally:
        reading.kill()
    check(answer["ok"], f"read: {answer.get('why')}")
    waited = time.monotonic() - began
    check(waited < FOLLOW_S, f"the last record came {waited:.1f} s after it was acknowledged")
    verdict(written, records.parse_seen(out), times=trial.can("times-set"))


def job_manage(trial):
    """Changes a setting, adds partitions and deletes records; the next reader sees all of it."""
    topic = trial.topic("manage")
    written = records.generate(cross_kind(trial.client), SEED, COUNT)
    trial.write_all(topic, written)
    grown = PARTITIONS + 2
    options = {"setting": "max.message.bytes:900000", "partitions": grown, "below": 3}
    answer = trial.ask("manage", topic, **options)
    check(answer["value"] == "900000", f"the setting is now {answer['value']}")
    check(answer["low"] == 3, f"partition 0 begins at {answer['low']}, and 3 was asked for")
    check(answer["brokers"] == 1, f"{answer['brokers']} brokers")
    listed = trial.ask("topics", topic)["topics"][topic]
    check(listed == grown, f"{listed} partitions, and {grown} were asked for")
    first = trial.ask("ends", topic)["ends"]["0"][0]
    check(first == 3, f"partition 0 begins at {first} for a reader, and 3 was asked for")


def jobs(trial):
    """(name, function of the trial) in the order in which they run."""
    client, can = trial.client, trial.can
    if can("topics"):
        yield "list topics", job_list
    if can("admin"):
        yield "create, delete topics", job_admin
    if can("manage"):
        yield "change a topic in use", job_manage
    for codec in client.codecs:
        yield f"produce {codec}", lambda t, c=codec: round_trip(t, c, codec=c)
    if can("idempotent"):
        yield "produce not idempotent", lambda t: round_trip(t, "plain", idempotent="false")
    if can("acks"):
        for acks in ("1", "0"):
            options = {"acks": acks, "idempotent": "false"}
            yield f"produce acks={acks}", lambda t, o=options: round_trip(t, "acks", **o)
    if can("newest-protocol"):
        options = {"protocol": "newest", "codec": "zstd"}
        yield "produce newest versions", lambda t, o=options: round_trip(t, "new", **o)
    if can("choose"):
        yield "produce keyed", lambda t: round_trip(t, "keyed", kind="keyed")
        yield "produce unkeyed", lambda t: round_trip(t, "unkeyed", kind="unkeyed")
    if can("auto"):
        auto = {"kind": "unkeyed", "partitions": 0}
        yield "produce to a new topic", lambda t, o=auto: round_trip(t, "auto", **o)
    yield "produce a lot", lambda t: round_trip(t, "lot", count=MANY)
    if can("time-type"):
        yield "produce, LogAppendTime", job_append_time
    if can("choose"):
        yield "produce to a compacted topic", job_compacted
    if can("retries") and trial.tapped:
        yield "produce, connection cut", job_cut
    yield "largest batch, one above", job_big
    yield "topic's own largest batch", job_big_for_topic
    if can("ends"):
        yield "first and last offsets", job_ends
    if can("read"):
        yield "consume from an offset", job_from_offset
    if can("times"):
        yield "offsets by time", job_by_time
    if can("from-time"):
        yield "consume from a time", job_read_from_time
    if can("newest"):
        yield "offset of largest time", job_newest
    if can("strict"):
        yield "offset out of range", job_out_of_range
    if can("follow"):
        yield "wait for new records", job_follow


def cross_kind(client):
    """What every reader can show: kcat prints headers as text, rskafka drops repeated ones."""
    return "text" if client.kind == "text" else "plain"


def cross_write(trial, codec):
    topic = trial.topic("cross")
    written = records.generate(cross_kind(trial.client), SEED + 2, COUNT)
    trial.write_all(topic, written, codec=codec)
    return topic, written


def cross_read(trial, writer, topic, written):
    verdict(written, trial.read(topic), times="times-set" in writer.can)
