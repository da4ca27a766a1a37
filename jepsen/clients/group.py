"""Consumer groups on trial: members that come, idle, leave and are killed.

Owns: the group jobs and their verdicts. A member is one run of the client's program that subscribes,
commits what it has read after every poll, notes each record it read and each change of its
partitions, and leaves the group when a file appears. Judged are the records (all of them, in order
within each partition, with their content), who owned what, and the offsets that the broker has in
the end, which the judge asks for itself.
Must not know: how a client is programmed.
"""

import struct
import time

import process
import records
from jobs import SEED, Failure, check, tail
from records import PARTITIONS

COUNT = 240
READ_S = 25
SETTLE_S = 30  # beginning delay, one session and a few heartbeats
SESSION_MS = 6000


class Member:
    """One consumer of a group."""

    def __init__(self, trial, group, topic, name, strategy, instance=""):
        self.trial, self.topic, self.instance = trial, topic, instance
        self.out, self.owned, self.stop_file = (
            trial.folder / f"{group}-{name}.{kind}" for kind in ("out", "owned", "stop")
        )
        for path in (self.out, self.owned):
            path.write_text("")
        options = {"group": group, "out": self.out, "owned": self.owned, "stop": self.stop_file}
        options |= {"strategy": strategy, "session": SESSION_MS}
        if instance:
            options["instance"] = instance
        self.running = trial.begin("member", topic, **options)

    def seen(self):
        text = self.out.read_text()
        whole = text[: text.rfind("\n") + 1]
        part = self.out.with_suffix(".part")
        part.write_text(whole)
        return records.parse_seen(part)

    def partitions(self):
        """The partitions it owns; None until it was told for the first time."""
        if self.running.poll() is not None:
            out, errors = self.running.communicate()
            raise Failure(f"a member ended: {tail(errors or out)}")
        lines = self.owned.read_text().splitlines()
        return {int(p) for p in lines[-1].split(",") if p} if lines else None

    def changes(self):
        """How often it was told what it owns."""
        return len(self.owned.read_text().splitlines())

    def leave(self):
        self.stop_file.write_text("")
        answer = self.trial.finish("member", self.running)
        check(answer["ok"], f"member: {answer.get('why')}")

    def kill(self):
        self.running.kill()
        self.running.wait()


class Group:
    def __init__(self, trial, strategy):
        self.trial, self.strategy = trial, strategy
        self.topic = trial.topic(f"group-{strategy}")
        self.name = f"g.{self.topic}"
        self.written = []
        self.members = []
        self.gone = []

    def write(self):
        """Some more records, the same number for each partition."""
        more = records.generate(self.trial.client.kind, SEED + len(self.written), COUNT)
        self.trial.write_all(self.topic, more)
        self.written += more

    def join(self, count=1, instance=""):
        started = len(self.members) + len(self.gone)
        for number in range(started, started + count):
            member = Member(self.trial, self.name, self.topic, number, self.strategy, instance)
            self.members.append(member)

    def settled(self):
        """Waits until every partition has one owner and no more members idle than must."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            owned = [member.partitions() for member in self.members]
            if self.strategy == "cooperative" and self.trial.can("idle-untold"):
                owned = [one or set() for one in owned]
            known = [one for one in owned if one is not None]
            parts = [p for one in known for p in one]
            idle = sum(not one for one in known)
            if len(known) == len(owned) and sorted(parts) == list(range(PARTITIONS)):
                if idle == max(0, len(owned) - PARTITIONS):
                    return
            check(time.monotonic() < deadline, f"partitions after {SETTLE_S} s: {owned}")
            time.sleep(0.1)

    def read_all(self, repeats):
        """Waits until every record was read; without `repeats`, each just once."""
        deadline = time.monotonic() + READ_S
        wanted = [p for p in range(PARTITIONS) for r in self.written if r.partition == p]
        while True:
            seen = [one for member in self.members + self.gone for one in member.seen()]
            places = {(one.partition, one.offset) for one in seen}
            if len(places) >= len(wanted):
                break
            check(time.monotonic() < deadline, f"read {len(places)} of {len(wanted)} records")
            time.sleep(0.1)
        check(repeats or len(places) == len(seen), f"{len(seen) - len(places)} records read twice")
        once = {(one.partition, one.offset): one for one in seen}
        # In the order of offsets, as one reader would have seen them.
        ordered = [once[place] for place in sorted(once)]
        why = records.compare(self.written, ordered, times=self.trial.can("times-set"))
        check(why is None, why)
        for member in self.members + self.gone:
            self.in_order(member)

    def in_order(self, member):
        """What one member read of a partition never skips; it may begin again further back."""
        last = {}
        for one in member.seen():
            before = last.get(one.partition)
            jumped = before is not None and one.offset > before + 1
            # Another member may have had the partition in between.
            check(not jumped or len(self.members) + len(self.gone) > 1, f"skipped to {one}")
            last[one.partition] = one.offset

    def leave(self, member):
        self.members.remove(member)
        self.gone.append(member)
        member.leave()

    def kill(self, member):
        self.members.remove(member)
        self.gone.append(member)
        member.kill()

    def end(self):
        for member in list(self.members):
            self.leave(member)
        got = committed(self.trial.bootstrap, self.name, self.topic)
        ends = [sum(r.partition == p for r in self.written) for p in range(PARTITIONS)]
        check(got == ends, f"committed {got}, should be {ends}")

    def clear(self):
        for member in self.members:
            member.running.kill()


def committed(bootstrap, group, topic):
    """The offsets that the broker has, by OffsetFetch version 1."""
    body = process.text(group) + struct.pack(">i", 1) + process.text(topic)
    body += struct.pack(f">i{PARTITIONS}i", PARTITIONS, *range(PARTITIONS))
    reply = process.request(*address(bootstrap), 9, 1, body)
    at = 4 + 2 + len(topic.encode()) + 4
    found = []
    for _ in range(PARTITIONS):
        _, offset, text = struct.unpack_from(">iqh", reply, at)
        at += 14 + max(text, 0)
        code = struct.unpack_from(">h", reply, at)[0]
        at += 2
        check(code == 0, f"OffsetFetch answered {code}")
        found.append(offset)
    return found


def rewind(bootstrap, group, topic, offset):
    """Commits for a group without members, by OffsetCommit version 2."""
    body = process.text(group) + struct.pack(">i", -1) + process.text("")
    body += struct.pack(">qi", -1, 1) + process.text(topic) + struct.pack(">i", PARTITIONS)
    for partition in range(PARTITIONS):
        body += struct.pack(">iq", partition, offset) + process.text("rewound")
    reply = process.request(*address(bootstrap), 8, 2, body)
    at = 4 + 2 + len(topic.encode()) + 4
    for _ in range(PARTITIONS):
        code = struct.unpack_from(">ih", reply, at)[1]
        at += 6
        check(code == 0, f"OffsetCommit answered {code}")


def address(bootstrap):
    host, port = bootstrap.rsplit(":", 1)
    return host, int(port)


def tried(work):
    def job(trial, strategy):
        group = Group(trial, strategy)
        try:
            work(group)
        finally:
            group.clear()

    return job


@tried
def job_alone(group):
    """One member reads all, goes on where it was, and where it is told to."""
    group.write()
    group.join()
    group.settled()
    group.read_all(repeats=False)
    group.end()
    group.write()
    group.join()
    group.settled()
    group.read_all(repeats=False)
    group.end()
    rewind(group.trial.bootstrap, group.name, group.topic, 3)
    group.join()
    group.settled()
    deadline = time.monotonic() + READ_S
    wanted = len(group.written) - 3 * PARTITIONS
    while (count := len(group.members[-1].seen())) < wanted:
        check(time.monotonic() < deadline, f"read {count} of {wanted} records after a rewind")
        time.sleep(0.1)
    first = {one.partition: one.offset for one in reversed(group.members[-1].seen())}
    check(set(first.values()) == {3}, f"began at {first}, should begin at 3")
    group.end()


@tried
def job_together(group):
    """Two members, a third, and one that leaves: everything is read just once."""
    group.write()
    group.join(2)
    group.settled()
    group.read_all(repeats=False)
    group.join()
    group.settled()
    group.write()
    group.read_all(repeats=True)
    group.leave(group.members[0])
    group.settled()
    group.write()
    group.read_all(repeats=True)
    group.end()


@tried
def job_idle(group):
    """A fourth member idles, and takes over from one that is killed."""
    group.join(4)
    group.settled()
    group.write()
    group.read_all(repeats=True)
    busy = next(member for member in group.members if member.partitions())
    group.kill(busy)
    group.write()
    group.settled()
    group.read_all(repeats=True)
    group.end()


@tried
def job_static(group):
    """A member with a name of its own is killed and comes back within its session: it has what it had,
    and the other one is not disturbed (KIP-345)."""
    group.write()
    group.join(instance="one")
    group.join(instance="two")
    group.settled()
    group.read_all(repeats=False)
    first, second = group.members
    had, told = first.partitions(), second.changes()
    group.kill(first)
    group.join(instance=first.instance)
    group.settled()
    has = group.members[-1].partitions()
    check(has == had, f"had partitions {had}, and {has} when it was back")
    check(second.changes() == told, "the other member was told of a rebalance")
    group.write()
    group.read_all(repeats=True)
    group.end()


def jobs(trial):
    strategies = [s for s in ("eager", "cooperative") if f"group-{s}" in trial.client.can]
    for strategy in strategies:
        yield f"group of one, {strategy}", lambda t, s=strategy: job_alone(t, s)
        yield f"group of two and three, {strategy}", lambda t, s=strategy: job_together(t, s)
        yield f"group of four, {strategy}", lambda t, s=strategy: job_idle(t, s)
        if "static" in trial.client.can:
            yield f"group of static members, {strategy}", lambda t, s=strategy: job_static(t, s)
