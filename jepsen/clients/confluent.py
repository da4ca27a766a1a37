"""The confluent-kafka (librdkafka) client. Usage: BOOTSTRAP JOB TOPIC [key=value]..."""

import json
import os
import sys
import time

import confluent_kafka
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

TIMEOUT_S = 30


def unhex(field):
    return None if field == "-" else bytes.fromhex(field)


def tohex(value):
    return "-" if value is None else value.hex()


def write(bootstrap, topic, options):
    producer = Producer(
        {
            "bootstrap.servers": bootstrap,
            "acks": options.get("acks", "all"),
            "enable.idempotence": options.get("idempotent", "true") == "true",
            "compression.type": options.get("codec", "none"),
            "message.max.bytes": int(options.get("max", 1000000)),
            "linger.ms": 5,
            "delivery.timeout.ms": TIMEOUT_S * 1000,
        }
    )
    acks = []

    def produce(index, line):
        partition, timestamp, key, value, headers = line.split("\t")

        def delivered(error, message):
            if error is not None:
                acks[index] = f"!\t{error.name()}"
            elif message.offset() is None or message.offset() < 0:
                acks[index] = "?\t?"
            else:
                acks[index] = f"{message.partition()}\t{message.offset()}"

        placed = {} if partition == "-" else {"partition": int(partition)}
        pairs = [pair.split(":") for pair in headers.split(",") if pair]
        while True:
            try:
                producer.produce(
                    topic,
                    value=unhex(value),
                    key=unhex(key),
                    timestamp=int(timestamp),
                    headers=[(unhex(name).decode(), unhex(value)) for name, value in pairs],
                    on_delivery=delivered,
                    **placed,
                )
                return
            except BufferError:
                producer.poll(0.1)

    for index, line in enumerate(open(options["in"]).read().splitlines()):
        acks.append("!\tno delivery callback")
        produce(index, line)
        producer.poll(0)
    left = producer.flush(TIMEOUT_S)
    with open(options["out"], "w") as out:
        out.writelines(ack + "\n" for ack in acks)
    return {"ok": left == 0, "count": len(acks), "why": f"{left} records still in the queue"}


def consumer_for(bootstrap):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "not-used",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": False,
        }
    )


def partitions_of(client, topic):
    found = client.list_topics(topic, timeout=15).topics[topic]
    if found.error is not None:
        raise confluent_kafka.KafkaException(found.error)
    return sorted(found.partitions)


def read(bootstrap, topic, options):
    consumer = consumer_for(bootstrap)
    starts = dict(pair.split(":") for pair in options.get("start", "").split(",") if pair)
    wanted, ends = int(options.get("count", -1)), {}
    consumer.assign([TopicPartition(topic, p, 0) for p in partitions_of(consumer, topic)])
    for p in partitions_of(consumer, topic):
        low, ends[p] = consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=15)
        consumer.seek(TopicPartition(topic, p, int(starts.get(str(p), low))))
        ends[p] -= int(starts.get(str(p), low))
    if wanted < 0:
        wanted = sum(ends.values())
    count, deadline = 0, time.monotonic() + TIMEOUT_S
    with open(options["out"], "w") as out:
        while count < wanted and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in message.headers() or []]
            fields = [message.partition(), message.offset(), message.timestamp()[1]]
            fields += [tohex(message.key()), tohex(message.value()), ",".join(pairs)]
            out.write("\t".join(map(str, fields)) + "\n")
            count += 1
    began = time.monotonic()
    consumer.close()
    close_ms = int((time.monotonic() - began) * 1000)
    why = f"{count} of {wanted} records within {TIMEOUT_S} s"
    return {"ok": count == wanted, "count": count, "close_ms": close_ms, "why": why}


STRATEGIES = {"eager": "range", "cooperative": "cooperative-sticky"}


def member(bootstrap, topic, options):
    """One member of a group until the stop file appears."""
    settings = {
        "bootstrap.servers": bootstrap,
        "group.id": options["group"],
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "session.timeout.ms": int(options["session"]),
        "heartbeat.interval.ms": 500,
        "partition.assignment.strategy": STRATEGIES[options["strategy"]],
    }
    if "instance" in options:
        settings["group.instance.id"] = options["instance"]
    consumer = Consumer(settings)
    owned = set()

    def note():
        with open(options["owned"], "a") as out:
            out.write(",".join(map(str, sorted(owned))) + "\n")

    def gained(_, partitions):
        owned.update(p.partition for p in partitions)
        note()

    def lost(_, partitions):
        owned.difference_update(p.partition for p in partitions)
        note()

    consumer.subscribe([topic], on_assign=gained, on_revoke=lost, on_lost=lost)
    with open(options["out"], "a") as out:
        while not os.path.exists(options["stop"]):
            message = consumer.poll(0.2)
            if message is None:
                continue
            if message.error():
                raise confluent_kafka.KafkaException(message.error())
            pairs = [f"{tohex(n.encode())}:{tohex(v)}" for n, v in message.headers() or []]
            fields = [message.partition(), message.offset(), message.timestamp()[1]]
            fields += [tohex(message.key()), tohex(message.value()), ",".join(pairs)]
            out.write("\t".join(map(str, fields)) + "\n")
            out.flush()
            try:
                consumer.commit(message, asynchronous=False)
            except confluent_kafka.KafkaException as error:
                # A rebalance may overtake a commit; whoever has the partition next reads again.
                if error.args[0].name() not in OVERTAKEN:
                    raise
    consumer.close()
    return {"ok": True}


OVERTAKEN = ("REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "UNKNOWN_MEMBER_ID")


def ends(bootstrap, topic, options):
    consumer = consumer_for(bootstrap)
    marks = {
        p: consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=15)
        for p in partitions_of(consumer, topic)
    }
    consumer.close()
    return {"ok": True, "ends": marks}


def times(bootstrap, topic, options):
    consumer, found = consumer_for(bootstrap), {}
    for moment in options["times"].split(","):
        asked = [TopicPartition(topic, p, int(moment)) for p in partitions_of(consumer, topic)]
        answer = consumer.offsets_for_times(asked, timeout=15)
        for partition in answer:
            if partition.error:
                raise confluent_kafka.KafkaException(partition.error)
        found[moment] = {p.partition: p.offset for p in answer}
    consumer.close()
    return {"ok": True, "times": found}


def topics(bootstrap, topic, options):
    listed = AdminClient({"bootstrap.servers": bootstrap}).list_topics(timeout=15).topics
    return {"ok": True, "topics": {name: len(t.partitions) for name, t in listed.items()}}


def create(bootstrap, topic, options):
    new = NewTopic(topic, int(options["partitions"]), 1)
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.create_topics([new], request_timeout=15)[topic].result()
    return {"ok": True}


def delete(bootstrap, topic, options):
    admin = AdminClient({"bootstrap.servers": bootstrap})
    admin.delete_topics([topic], request_timeout=15)[topic].result()
    return {"ok": True}


def manage(bootstrap, topic, options):
    """Changes a setting, adds partitions, deletes records; what the broker says of each."""
    admin = AdminClient({"bootstrap.servers": bootstrap})
    key, value = options["setting"].split(":")
    change = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[change])
    admin.incremental_alter_configs([resource], request_timeout=15)[resource].result()
    asked = ConfigResource(ResourceType.TOPIC, topic)
    entry = admin.describe_configs([asked], request_timeout=15)[asked].result()[key]
    more = NewPartitions(topic, int(options["partitions"]))
    admin.create_partitions([more], request_timeout=15)[topic].result()
    below = TopicPartition(topic, 0, int(options["below"]))
    low = admin.delete_records([below], request_timeout=15)[below].result().low_watermark
    cluster = admin.describe_cluster(request_timeout=15).result()
    return {"ok": True, "value": entry.value, "low": low, "brokers": len(cluster.nodes)}


if __name__ == "__main__":
    bootstrap, job, topic, *rest = sys.argv[1:]
    options = dict(pair.split("=", 1) for pair in rest)
    try:
        print(json.dumps(globals()[job](bootstrap, topic, options)))
    except confluent_kafka.KafkaException as error:
        cause = error.args[0]
        name = f"{cause.name()}: {cause.str()}" if isinstance(cause, KafkaError) else str(cause)
        print(json.dumps({"ok": False, "why": name}))
