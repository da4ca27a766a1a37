"""Traffic of a real client (confluent-kafka, that is librdkafka), recorded as a history.

    traffic.py write --bootstrap H:P --history FILE --topics a:1,b:3 --producers N --consumers N
                     --members N --seed N
    traffic.py read  --bootstrap H:P --history FILE --topics a:1,b:3

`write` sends until it is told to stop on stdin ("stop": deliver what is in flight, then end;
"abandon": end at once), `read` reads every partition from its beginning to its end. The format of
the history is that of the library's `history` module. On stdout: "ready", "acknowledged N" now and
then, and last "done {...}".
"""

import argparse
import collections
import functools
import json
import os
import random
import sys
import threading
import time

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

CONSUMERS_FROM = 100  # Process numbers: producers from 0, consumers from here,
FINAL_READER = 200  # the last reader,
MEMBERS_FROM = 300  # members of the group,
GENERATION = 1000  # and this is added for each new life of a producer or member.
LIVES_MAX = 8  # of a member
GROUP = "jepsen-group"
CATCH_UP_SECONDS = 60
IN_FLIGHT_MAX = 400  # Unanswered records of one producer.
FLUSH_SECONDS = 60
READ_SECONDS = 120
CODECS = ["none", "lz4", "zstd", "gzip", "snappy"]
BASE = {"reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500, "retry.backoff.ms": 50}


class History:
    """Lines in the order of their times, whichever thread they come from."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.file = open(path, "w", encoding="ascii")
        self.file.write('{"format":"trialog-history","version":2}\n')

    def add(self, process, phase, verb, rest):
        with self.lock:
            now = time.monotonic_ns()
            head = f'{{"time":{now},"process":{process},"type":"{phase}","f":"{verb}"'
            self.file.write(head + (f",{rest}" if rest else "") + "}\n")

    def flush(self):
        with self.lock:
            self.file.flush()


class Tally:
    def __init__(self):
        self.lock = threading.Lock()
        self.acknowledged = 0
        self.read = 0
        self.fatal = []
        self.lost_position = []
        self.errors = collections.Counter()
        self.ends = {}  # Of each partition, one past the last acknowledged record,
        self.progress = {}  # and one past the last that a member of the group has read.

    def acknowledge(self, message):
        with self.lock:
            self.acknowledged += 1
            raise_to(self.ends, message)

    def behind(self):
        """Partitions that the group has not read to their acknowledged end."""
        with self.lock:
            at = self.progress
            return sorted(
                f"{topic}/{part} at {at.get((topic, part), 0)} of {end}"
                for (topic, part), end in self.ends.items()
                if at.get((topic, part), 0) < end
            )

    def note(self, error):
        with self.lock:
            self.errors[error.name()] += 1


def raise_to(marks, message):
    place = message.topic(), message.partition()
    marks[place] = max(marks.get(place, 0), message.offset() + 1)


PATTERN = bytes(range(251)) * 140


def payload(value):
    """The one payload of a value: the value itself, and a tail that follows from it."""
    mixed = value * 0x9E3779B97F4A7C15 >> 20
    # Mostly small, and now and then large, so that segments fill.
    length = mixed % 30_000 if mixed % 10 == 0 else mixed % 600
    return f"{value:016x}:".encode() + PATTERN[value % 251 : value % 251 + length]


def value_of(data):
    """The value that a payload carries; -1 if no client of ours wrote exactly this."""
    try:
        value = int(data[:16], 16)
    except (TypeError, ValueError):
        return -1
    return value if data == payload(value) else -1


def name(text):
    return json.dumps(text)


class Writer(threading.Thread):
    """One idempotent producer with acks=all, and its later lives should it die."""

    def __init__(self, number, options, topics, history, tally, stopping):
        super().__init__(daemon=True)
        self.number, self.process = number, number
        self.options, self.topics, self.history = options, topics, history
        self.tally, self.stopping = tally, stopping
        self.random = random.Random(options.seed * 1000 + number)
        self.counter = 0
        self.left = 0

    def connect(self):
        settings = {
            "bootstrap.servers": self.options.bootstrap,
            "client.id": f"writer-{self.process}",
            "acks": "all",
            "enable.idempotence": True,
            "linger.ms": self.random.choice([0, 2, 10]),
            # A batch that the broker refuses for good, such as one that no segment can hold, makes
            # librdkafka go on in a new epoch; what it then repeats may be stored twice, and no
            # broker can tell. So batches stay small.
            "batch.size": 65536,
            "compression.type": CODECS[self.number % len(CODECS)],
            # Long enough to live through every outage of a trial.
            "message.timeout.ms": 300_000,
            "error_cb": self.tally.note,
            **BASE,
        }
        return Producer(settings)

    def run(self):
        producer = self.connect()
        while not self.stopping.is_set():
            if self.dead(producer):
                self.process += GENERATION
                self.counter = 0
                producer = self.connect()
            if len(producer) >= IN_FLIGHT_MAX:
                producer.poll(0.02)
                continue
            for _ in range(self.random.randrange(1, 30)):
                self.send(producer)
            producer.poll(0)
            time.sleep(self.random.expovariate(self.options.bursts))
        self.left = producer.flush(FLUSH_SECONDS)

    def dead(self, producer):
        """Whether the client gave up for good; librdkafka then wants a new producer."""
        producer.poll(0)
        with self.tally.lock:
            return any(process == self.process for process, _ in self.tally.fatal)

    def send(self, producer):
        topic, count = self.random.choice(self.topics)
        value = (self.process << 32) | self.counter
        self.counter += 1
        where, rest = {}, ""
        if self.random.random() < 0.5:
            where["partition"] = self.random.randrange(count)
            rest = f',"partition":{where["partition"]}'
        elif self.random.random() < 0.5:
            where["key"] = f"key-{self.random.randrange(20)}"
            rest = f',"key":"{where["key"]}"'
        head = f'"topic":{name(topic)},"value":{value}'
        process = self.process
        self.history.add(process, "invoke", "send", head + rest)
        callback = functools.partial(self.answered, process, head)
        try:
            producer.produce(topic, payload(value), on_delivery=callback, **where)
        except (BufferError, KafkaException) as error:
            # It never entered the client's queue.
            self.history.add(process, "fail", "send", f'{head},"error":{name(str(error))}')
            self.check_fatal(process, error)

    def answered(self, process, head, error, message):
        if error is None:
            rest = f'{head},"partition":{message.partition()},"offset":{message.offset()}'
            self.history.add(process, "ok", "send", rest)
            self.tally.acknowledge(message)
            return
        self.history.add(process, "info", "send", f'{head},"error":{name(error.name())}')
        self.tally.note(error)
        self.check_fatal(process, error)

    def check_fatal(self, process, error):
        cause = error.args[0] if isinstance(error, KafkaException) else error
        known = isinstance(cause, KafkaError)
        if known and (cause.fatal() or cause.code() == KafkaError._FATAL):
            with self.tally.lock:
                if not any(dead == process for dead, _ in self.tally.fatal):
                    self.tally.fatal.append((process, cause.str()))


def record_poll(history, process, messages):
    rows = (
        f"[{name(m.topic())},{m.partition()},{m.offset()},{value_of(m.value())}]" for m in messages
    )
    history.add(process, "ok", "poll", f'"records":[{",".join(rows)}]')


def assign(consumer, history, process, places):
    """Reads from the given places on; recorded as leaving everything and then seeking."""
    rows = ",".join(f"[{name(place.topic)},{place.partition}]" for place in places)
    history.add(process, "ok", "assign", '"partitions":[]')
    history.add(process, "ok", "assign", f'"partitions":[{rows}]')
    for place in places:
        rest = f'"topic":{name(place.topic)},"partition":{place.partition},"offset":{place.offset}'
        history.add(process, "ok", "seek", rest)
    consumer.assign(places)


class Reader(threading.Thread):
    """A consumer that follows the ends; every second one also wanders back now and then."""

    def __init__(self, number, options, topics, history, tally, stopping):
        super().__init__(daemon=True)
        self.process = CONSUMERS_FROM + number
        self.wanders = number % 2 == 1
        self.options, self.topics, self.history = options, topics, history
        self.tally, self.stopping = tally, stopping
        self.random = random.Random(options.seed * 1000 + self.process)

    def run(self):
        consumer = Consumer({
            "bootstrap.servers": self.options.bootstrap,
            "client.id": f"reader-{self.process}",
            "group.id": f"reader-{self.process}",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 50,
            "error_cb": self.tally.note,
            **BASE,
        })
        ends = {(topic, part): 0 for topic, count in self.topics for part in range(count)}
        self.go(consumer, {place: OFFSET_BEGINNING for place in ends})
        turn = time.monotonic() + self.random.uniform(1, 3)
        while not self.stopping.is_set():
            good = []
            for message in consumer.consume(500, 0.2):
                if message.error() is None:
                    good.append(message)
                    ends[message.topic(), message.partition()] = message.offset() + 1
                elif message.error().code() in (
                    KafkaError._AUTO_OFFSET_RESET,
                    KafkaError.OFFSET_OUT_OF_RANGE,
                    KafkaError._LOG_TRUNCATION,
                ):
                    # What was read before is not there any more.
                    with self.tally.lock:
                        self.tally.lost_position.append(f"{self.process}: {message.error().str()}")
                    consumer.close()
                    return
                else:
                    self.tally.note(message.error())
            if good:
                record_poll(self.history, self.process, good)
                with self.tally.lock:
                    self.tally.read += len(good)
            if self.wanders and time.monotonic() > turn:
                self.go(consumer, {
                    place: self.random.randrange(max(0, end - 300), end) if end else 0
                    for place, end in ends.items()
                })
                turn = time.monotonic() + self.random.uniform(1, 3)
        consumer.close()

    def go(self, consumer, places):
        found = [TopicPartition(topic, part, at) for (topic, part), at in places.items()]
        assign(consumer, self.history, self.process, found)


class Member(threading.Thread):
    """A member of the one group: commits what it has read, leaves now and then and comes back."""

    def __init__(self, number, options, topics, history, tally, stopping):
        super().__init__(daemon=True)
        self.process = MEMBERS_FROM + number
        self.options, self.topics, self.history = options, topics, history
        self.tally, self.stopping = tally, stopping
        self.random = random.Random(options.seed * 1000 + self.process)

    def run(self):
        for life in range(LIVES_MAX):
            last = life + 1 == LIVES_MAX
            leaves = float("inf") if last else time.monotonic() + self.random.uniform(4, 20)
            self.live(leaves)
            if self.stopping.is_set():
                return
            self.process += GENERATION

    def live(self, leaves):
        # All members of a group must agree on how they share.
        eager = self.options.seed % 2 == 0
        self.consumer = Consumer({
            "bootstrap.servers": self.options.bootstrap,
            "client.id": f"member-{self.process}",
            "group.id": GROUP,
            "partition.assignment.strategy": "range" if eager else "cooperative-sticky",
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 500,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "fetch.wait.max.ms": 100,
            "error_cb": self.tally.note,
            **BASE,
        })
        # What it reads, what it has got and not recorded yet, and what it will commit.
        self.owned, self.read, self.due = set(), [], {}
        names = [topic for topic, _ in self.topics]
        rest = f'"group":{name(GROUP)},"topics":{json.dumps(names)}'
        self.history.add(self.process, "ok", "subscribe", rest)
        self.consumer.subscribe(
            names, on_assign=self.gained, on_revoke=self.gave_up, on_lost=self.gave_up
        )
        while not self.stopping.is_set() and time.monotonic() < leaves:
            self.turn()
        self.note_read()
        self.consumer.close()

    def turn(self):
        wait = 0.2
        while len(self.read) < 200:
            message = self.consumer.poll(wait)
            if message is None:
                break
            if message.error() is not None:
                self.tally.note(message.error())
                break
            self.read.append(message)
            wait = 0
        self.note_read()
        if self.due:
            self.commit()

    def note_read(self):
        """Records what was read, before whatever happens next."""
        if self.read:
            record_poll(self.history, self.process, self.read)
            with self.tally.lock:
                self.tally.read += len(self.read)
                for message in self.read:
                    raise_to(self.tally.progress, message)
            for message in self.read:
                raise_to(self.due, message)
        self.read = []

    def generation(self):
        """librdkafka keeps it in the front of what it hands to a transaction. Outside of the group
        there is none, and one that nobody else has stands for it."""
        data = self.consumer.consumer_group_metadata()
        number = int.from_bytes(data[7:11], "little", signed=True)
        return number if number >= 0 else -self.process

    def gained(self, _, partitions):
        self.note_read()
        self.owned |= {(place.topic, place.partition) for place in partitions}
        rest = f'"group":{name(GROUP)},"generation":{self.generation()},'
        self.history.add(self.process, "ok", "assigned", rest + f'"partitions":{pairs(self.owned)}')

    def gave_up(self, _, partitions):
        self.note_read()
        gone = {(place.topic, place.partition) for place in partitions}
        self.owned -= gone
        for place in gone:
            self.due.pop(place, None)
        rest = f'"group":{name(GROUP)},"generation":{self.generation()},'
        self.history.add(self.process, "ok", "revoked", rest + f'"partitions":{pairs(gone)}')

    def commit(self):
        due, self.due = self.due, {}
        rows = ",".join(f"[{name(topic)},{part},{at}]" for (topic, part), at in due.items())
        rest = f'"group":{name(GROUP)},"generation":{self.generation()},"offsets":[{rows}]'
        self.history.add(self.process, "invoke", "commit", rest)
        offsets = [TopicPartition(topic, part, at) for (topic, part), at in due.items()]
        try:
            answered = self.consumer.commit(offsets=offsets, asynchronous=False)
            refused = [place.error for place in answered if place.error is not None]
        except KafkaException as error:
            refused = [error.args[0]]
        # The client may have asked twice and heard of the second refusal only.
        self.history.add(self.process, "info" if refused else "ok", "commit", rest)
        for error in refused:
            self.tally.note(error)


def pairs(places):
    return json.dumps(sorted(list(place) for place in places))


def create_topics(options, topics):
    admin = AdminClient({"bootstrap.servers": options.bootstrap, **BASE})
    # One with the smallest segments that Kafka knows, so that logs roll during the trial.
    wanted = [
        NewTopic(topic, count, 1, config={} if place else {"segment.bytes": "1048576"})
        for place, (topic, count) in enumerate(topics)
    ]
    for topic, created in admin.create_topics(wanted, request_timeout=30).items():
        try:
            created.result()
        except KafkaException as error:
            sys.exit(f"cannot create {topic}: {error}")


def write(options, topics):
    history, tally, stopping = History(options.history), Tally(), threading.Event()
    create_topics(options, topics)
    writers = [
        Writer(number, options, topics, history, tally, stopping)
        for number in range(options.producers)
    ]
    readers_stop = threading.Event()
    readers = [
        Reader(number, options, topics, history, tally, readers_stop)
        for number in range(options.consumers)
    ]
    members = [
        Member(number, options, topics, history, tally, readers_stop)
        for number in range(options.members)
    ]
    for thread in writers + readers + members:
        thread.start()
    print("ready", flush=True)
    orders = []

    def listen():
        orders.append(sys.stdin.readline().strip())

    threading.Thread(target=listen, daemon=True).start()
    while not orders:
        time.sleep(0.05)
        history.flush()
        print("acknowledged", tally.acknowledged, flush=True)
    abandoned = orders[0] != "stop"
    if not abandoned:
        stopping.set()
        for thread in writers:
            thread.join()
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while members and tally.behind() and time.monotonic() < deadline:
            time.sleep(0.05)
        readers_stop.set()
        for thread in readers + members:
            thread.join(10)
    report = {
        "acknowledged": tally.acknowledged,
        "read": tally.read,
        "undelivered": sum(writer.left for writer in writers),
        "fatal": [f"producer {process}: {text}" for process, text in tally.fatal],
        "lost_position": tally.lost_position,
        "behind": tally.behind() if members and not abandoned else [],
        "errors": dict(sorted(tally.errors.items())),
    }
    history.flush()
    print("done", json.dumps(report), flush=True)
    os._exit(0)


def read(options, topics):
    history, tally = History(options.history), Tally()
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap,
        "client.id": "final-reader",
        "group.id": "final-reader",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "error_cb": tally.note,
        **BASE,
    })
    deadline = time.monotonic() + READ_SECONDS
    missing = []
    known = consumer.list_topics(timeout=30).topics
    places = []
    for topic, count in topics:
        there = known[topic].partitions if topic in known else {}
        for part in range(count):
            if part in there:
                places.append(TopicPartition(topic, part, OFFSET_BEGINNING))
            else:
                missing.append(f"{topic}/{part}")
    assign(consumer, history, FINAL_READER, places)
    open_ends = {(place.topic, place.partition) for place in places}
    while open_ends:
        if time.monotonic() > deadline:
            sys.exit(f"no end of {sorted(open_ends)} within {READ_SECONDS} s; {dict(tally.errors)}")
        good = []
        for message in consumer.consume(1000, 0.2):
            if message.error() is None:
                good.append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                open_ends.discard((message.topic(), message.partition()))
            else:
                tally.note(message.error())
        if good:
            record_poll(history, FINAL_READER, good)
            tally.read += len(good)
    consumer.close()
    if options.members:
        look_at_commits(options, history, tally, places)
    history.flush()
    print("done", json.dumps({"read": tally.read, "missing": missing}), flush=True)
    os._exit(0)


def look_at_commits(options, history, tally, places):
    """What the group has committed in the end."""
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap, "group.id": GROUP, "error_cb": tally.note, **BASE
    })
    group = f'"group":{name(GROUP)}'
    history.add(FINAL_READER, "invoke", "committed", group)
    found = consumer.committed([TopicPartition(p.topic, p.partition) for p in places], timeout=30)
    shown = [[p.topic, p.partition, p.offset if p.offset >= 0 else None] for p in found]
    history.add(FINAL_READER, "ok", "committed", f'{group},"offsets":{json.dumps(shown)}')
    consumer.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("job", choices=["write", "read"])
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--history", required=True)
    parser.add_argument("--topics", required=True)
    parser.add_argument("--producers", type=int, default=4)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--members", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--bursts", type=float, default=20.0, help="per second and producer")
    options = parser.parse_args()
    topics = [(t.split(":")[0], int(t.split(":")[1])) for t in options.topics.split(",")]
    {"write": write, "read": read}[options.job](options, topics)


main()
