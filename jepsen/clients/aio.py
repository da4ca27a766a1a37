"""The aiokafka client. Usage: BOOTSTRAP JOB TOPIC [key=value]..."""

import asyncio
import json
import os
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError, for_code

TIMEOUT_S = 30


def unhex(field):
    return None if field == "-" else bytes.fromhex(field)


def tohex(value):
    return "-" if value is None else value.hex()


async def write(bootstrap, topic, options):
    codec, acks = options.get("codec", "none"), options.get("acks", "all")
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap,
        acks=acks if acks == "all" else int(acks),
        enable_idempotence=options.get("idempotent", "true") == "true",
        compression_type=None if codec == "none" else codec,
        max_request_size=int(options.get("max", 1048576)),
        linger_ms=5,
    )
    await producer.start()
    acknowledged, count = [], 0
    for line in open(options["in"]).read().splitlines():
        partition, timestamp, key, value, headers = line.split("\t")
        pairs = [pair.split(":") for pair in headers.split(",") if pair]
        acknowledged.append(
            await producer.send(
                topic,
                value=unhex(value),
                key=unhex(key),
                headers=[(unhex(name).decode(), unhex(value)) for name, value in pairs],
                partition=None if partition == "-" else int(partition),
                timestamp_ms=int(timestamp),
            )
        )
        count += 1
    with open(options["out"], "w") as out:
        for future in acknowledged:
            try:
                done = await asyncio.wait_for(future, TIMEOUT_S)
                known = done is not None and done.offset >= 0
                out.write(f"{done.partition}\t{done.offset}\n" if known else "?\t?\n")
            except KafkaError as error:
                out.write(f"!\t{type(error).__name__}\n")
    await producer.stop()
    return {"ok": True, "count": count}


async def consumer_for(bootstrap, topic):
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )
    await consumer.start()
    count = (await topics(bootstrap, topic, {}))["topics"][topic]
    partitions = [TopicPartition(topic, p) for p in range(count)]
    consumer.assign(partitions)
    return consumer, partitions


async def read(bootstrap, topic, options):
    consumer, partitions = await consumer_for(bootstrap, topic)
    starts = dict(pair.split(":") for pair in options.get("start", "").split(",") if pair)
    lows = await consumer.beginning_offsets(partitions)
    highs = await consumer.end_offsets(partitions)
    starts = {p: int(starts.get(str(p.partition), lows[p])) for p in partitions}
    for p in partitions:
        consumer.seek(p, starts[p])
    wanted = int(options.get("count", sum(highs[p] - starts[p] for p in partitions)))
    count, deadline = 0, time.monotonic() + TIMEOUT_S
    with open(options["out"], "w") as out:
        while count < wanted and time.monotonic() < deadline:
            for records in (await consumer.getmany(timeout_ms=500)).values():
                for r in records:
                    pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in r.headers]
                    fields = [r.partition, r.offset, r.timestamp]
                    fields += [tohex(r.key), tohex(r.value), ",".join(pairs)]
                    out.write("\t".join(map(str, fields)) + "\n")
                    count += 1
    began = time.monotonic()
    await consumer.stop()
    close_ms = int((time.monotonic() - began) * 1000)
    why = f"{count} of {wanted} records within {TIMEOUT_S} s"
    return {"ok": count == wanted, "count": count, "close_ms": close_ms, "why": why}


class Owned(ConsumerRebalanceListener):
    """Notes every change of the partitions that this member has."""

    def __init__(self, path):
        self.path = path

    def note(self, partitions):
        with open(self.path, "a") as out:
            out.write(",".join(str(p.partition) for p in sorted(partitions)) + "\n")

    def on_partitions_assigned(self, assigned):
        self.note(assigned)

    def on_partitions_revoked(self, revoked):
        self.note([])


async def member(bootstrap, topic, options):
    """One member of a group until the stop file appears."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=options["group"],
        group_instance_id=options.get("instance"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(options["session"]),
        heartbeat_interval_ms=500,
    )
    consumer.subscribe([topic], listener=Owned(options["owned"]))
    await consumer.start()
    with open(options["out"], "a") as out:
        while not os.path.exists(options["stop"]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                for r in records:
                    pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in r.headers]
                    fields = [r.partition, r.offset, r.timestamp]
                    fields += [tohex(r.key), tohex(r.value), ",".join(pairs)]
                    out.write("\t".join(map(str, fields)) + "\n")
            out.flush()
            try:
                await consumer.commit()
            except (CommitFailedError, IllegalStateError):
                pass  # A rebalance has overtaken it; whoever has the partition next reads again.
    await consumer.stop()
    return {"ok": True}


async def ends(bootstrap, topic, options):
    consumer, partitions = await consumer_for(bootstrap, topic)
    lows = await consumer.beginning_offsets(partitions)
    highs = await consumer.end_offsets(partitions)
    await consumer.stop()
    return {"ok": True, "ends": {p.partition: [lows[p], highs[p]] for p in partitions}}


async def times(bootstrap, topic, options):
    consumer, partitions = await consumer_for(bootstrap, topic)
    found = {}
    for moment in options["times"].split(","):
        answer = await consumer.offsets_for_times({p: int(moment) for p in partitions})
        found[moment] = {p.partition: at.offset if at else -1 for p, at in answer.items()}
    await consumer.stop()
    return {"ok": True, "times": found}


async def with_admin(bootstrap, work):
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        return await work(admin)
    finally:
        await admin.close()


async def topics(bootstrap, topic, options):
    listed = await with_admin(bootstrap, lambda admin: admin.describe_topics())
    return {"ok": True, "topics": {t["topic"]: len(t["partitions"]) for t in listed}}


async def create(bootstrap, topic, options):
    new = NewTopic(topic, int(options["partitions"]), 1)
    answer = await with_admin(bootstrap, lambda admin: admin.create_topics([new], 15000))
    return verdict(answer.topic_errors[0])


async def delete(bootstrap, topic, options):
    answer = await with_admin(bootstrap, lambda admin: admin.delete_topics([topic], 15000))
    return verdict(answer.topic_error_codes[0])


def verdict(answer):
    return {"ok": answer[1] == 0, "why": for_code(answer[1]).__name__}


if __name__ == "__main__":
    bootstrap, job, topic, *rest = sys.argv[1:]
    options = dict(pair.split("=", 1) for pair in rest)
    try:
        print(json.dumps(asyncio.run(globals()[job](bootstrap, topic, options))))
    except KafkaError as error:
        print(json.dumps({"ok": False, "why": f"{type(error).__name__}: {error}"}))
