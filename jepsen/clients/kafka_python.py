"""The kafka-python client. Usage: BOOTSTRAP JOB TOPIC [key=value]..."""

import json
import os
import sys
import time

from kafka import ConsumerRebalanceListener, KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, NewTopic
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import CommitFailedError, KafkaError, RebalanceInProgressError

TIMEOUT_S = 30


def unhex(field):
    return None if field == "-" else bytes.fromhex(field)


def tohex(value):
    return "-" if value is None else value.hex()


def write(bootstrap, topic, options):
    codec, acks = options.get("codec", "none"), options.get("acks", "all")
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        acks=acks if acks == "all" else int(acks),
        enable_idempotence=options.get("idempotent", "true") == "true",
        compression_type=None if codec == "none" else codec,
        max_request_size=int(options.get("max", 1048576)),
        linger_ms=5,
        delivery_timeout_ms=TIMEOUT_S * 1000,
        request_timeout_ms=15000,
        max_block_ms=15000,
    )
    futures = []
    for line in open(options["in"]).read().splitlines():
        partition, timestamp, key, value, headers = line.split("\t")
        pairs = [pair.split(":") for pair in headers.split(",") if pair]
        futures.append(
            producer.send(
                topic,
                value=unhex(value),
                key=unhex(key),
                headers=[(unhex(name).decode(), unhex(value)) for name, value in pairs],
                partition=None if partition == "-" else int(partition),
                timestamp_ms=int(timestamp),
            )
        )
    producer.flush(timeout=TIMEOUT_S)
    with open(options["out"], "w") as out:
        for future in futures:
            try:
                done = future.get(timeout=1)
                known = done.offset >= 0
                out.write(f"{done.partition}\t{done.offset}\n" if known else "?\t?\n")
            except KafkaError as error:
                out.write(f"!\t{type(error).__name__}\n")
    producer.close(timeout=5)
    return {"ok": True, "count": len(futures)}


def consumer_for(bootstrap):
    return KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
    )


def partitions_of(consumer, topic):
    return [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic))]


def read(bootstrap, topic, options):
    consumer = consumer_for(bootstrap)
    starts = dict(pair.split(":") for pair in options.get("start", "").split(",") if pair)
    partitions = partitions_of(consumer, topic)
    consumer.assign(partitions)
    lows, highs = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    starts = {p: int(starts.get(str(p.partition), lows[p])) for p in partitions}
    for p in partitions:
        consumer.seek(p, starts[p])
    wanted = int(options.get("count", sum(highs[p] - starts[p] for p in partitions)))
    count, deadline = 0, time.monotonic() + TIMEOUT_S
    with open(options["out"], "w") as out:
        while count < wanted and time.monotonic() < deadline:
            for records in consumer.poll(timeout_ms=500).values():
                for r in records:
                    pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in r.headers]
                    fields = [r.partition, r.offset, r.timestamp]
                    fields += [tohex(r.key), tohex(r.value), ",".join(pairs)]
                    out.write("\t".join(map(str, fields)) + "\n")
                    count += 1
    began = time.monotonic()
    consumer.close()
    close_ms = int((time.monotonic() - began) * 1000)
    why = f"{count} of {wanted} records within {TIMEOUT_S} s"
    return {"ok": count == wanted, "count": count, "close_ms": close_ms, "why": why}


STRATEGIES = {"eager": RangePartitionAssignor, "cooperative": CooperativeStickyAssignor}


class Owned(ConsumerRebalanceListener):
    """Notes every change of the partitions that this member has."""

    def __init__(self, path):
        self.path, self.partitions = path, set()

    def note(self):
        with open(self.path, "a") as out:
            out.write(",".join(map(str, sorted(self.partitions))) + "\n")

    def on_partitions_assigned(self, assigned):
        self.partitions |= {p.partition for p in assigned}
        self.note()

    def on_partitions_revoked(self, revoked):
        self.partitions -= {p.partition for p in revoked}
        self.note()


def member(bootstrap, topic, options):
    """One member of a group until the stop file appears."""
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        group_id=options["group"],
        group_instance_id=options.get("instance"),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        session_timeout_ms=int(options["session"]),
        heartbeat_interval_ms=500,
        partition_assignment_strategy=[STRATEGIES[options["strategy"]]],
    )
    consumer.subscribe([topic], listener=Owned(options["owned"]))
    with open(options["out"], "a") as out:
        while not os.path.exists(options["stop"]):
            for records in consumer.poll(timeout_ms=200).values():
                for r in records:
                    pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in r.headers]
                    fields = [r.partition, r.offset, r.timestamp]
                    fields += [tohex(r.key), tohex(r.value), ",".join(pairs)]
                    out.write("\t".join(map(str, fields)) + "\n")
            out.flush()
            try:
                consumer.commit()
            except (CommitFailedError, RebalanceInProgressError):
                pass  # A rebalance has overtaken it; whoever has the partition next reads again.
    consumer.close()
    return {"ok": True}


def ends(bootstrap, topic, options):
    consumer = consumer_for(bootstrap)
    partitions = partitions_of(consumer, topic)
    lows, highs = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    return {"ok": True, "ends": {p.partition: [lows[p], highs[p]] for p in partitions}}


def times(bootstrap, topic, options):
    consumer, found = consumer_for(bootstrap), {}
    for moment in options["times"].split(","):
        asked = {p: int(moment) for p in partitions_of(consumer, topic)}
        answer = consumer.offsets_for_times(asked)
        found[moment] = {p.partition: at.offset if at else -1 for p, at in answer.items()}
    return {"ok": True, "times": found}


def admin_for(bootstrap):
    return KafkaAdminClient(bootstrap_servers=bootstrap)


def topics(bootstrap, topic, options):
    listed = admin_for(bootstrap).describe_topics()
    return {"ok": True, "topics": {t["name"]: len(t["partitions"]) for t in listed}}


def create(bootstrap, topic, options):
    new = NewTopic(topic, num_partitions=int(options["partitions"]), replication_factor=1)
    admin_for(bootstrap).create_topics([new], timeout_ms=15000)
    return {"ok": True}


def delete(bootstrap, topic, options):
    admin_for(bootstrap).delete_topics([topic], timeout_ms=15000)
    return {"ok": True}


def manage(bootstrap, topic, options):
    """Changes a setting, adds partitions, deletes records; what the broker says of each."""
    admin = admin_for(bootstrap)
    key, value = options["setting"].split(":")
    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})])
    told = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    admin.create_partitions({topic: int(options["partitions"])}, timeout_ms=15000)
    below = TopicPartition(topic, 0)
    low = admin.delete_records({below: int(options["below"])}, timeout_ms=15000)
    cluster = admin.describe_cluster()
    return {
        "ok": True,
        "value": told["topic"][topic][key]["value"],
        "low": low[below]["low_watermark"],
        "brokers": len(cluster["brokers"]),
    }


if __name__ == "__main__":
    bootstrap, job, topic, *rest = sys.argv[1:]
    options = dict(pair.split("=", 1) for pair in rest)
    try:
        print(json.dumps(globals()[job](bootstrap, topic, options)))
    except KafkaError as error:
        print(json.dumps({"ok": False, "why": f"{type(error).__name__}: {error}"}))
