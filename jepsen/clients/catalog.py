"""The foreign clients: how each one is started and what its interface can do at all.

Owns: one entry per client. A capability that is missing here is a thing the client's own interface
lacks (kcat cannot set a time, kafkajs reads only in groups); a thing that a broker lacks is a
failure, never a missing capability.
Must not know: what the jobs check.
"""

import subprocess
from dataclasses import dataclass
from typing import Callable

import install

ALL_CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


@dataclass(frozen=True)
class Client:
    name: str
    version: Callable
    command: Callable  # installs what is missing and returns the arguments to start it with
    kind: str = "rich"  # of the records it can write, see records.generate
    codecs: tuple = ALL_CODECS
    can: frozenset = frozenset()


# idempotent    has an idempotent producer (and an ordinary one)
# acks          acks=0 and acks=1 can be chosen
# offsets       reports the offset of each acknowledged record; with offsets-if-placed it does so
#               only where the record named its partition
# retries       writes again, by itself, after its connection broke
# time-type     knows that a time can be the broker's, and reports it so
# choose        has a partitioner of its own, for records with and without keys
# auto          asks for topics to be created when it writes to a missing one
# times-set     sets the time of each record
# read          reads assigned partitions from an offset, without a group
# follow        can wait at the end for records that are yet to come
# strict        can be told to fail, not to jump, when an offset is out of range
# times, ends, newest   asks for offsets by time, both ends, the largest time
# late-is-end   answers the end of the partition where no record is that late
# topics, admin lists topics; creates and deletes them
# group-eager, group-cooperative   reads in groups, with strategies of that kind
# static        members may have names of their own
# idle-untold   a cooperative member that gets nothing is not told so (also by Apache Kafka)
# manage        changes settings, adds partitions, deletes records
# newest-protocol   has to be told to speak its newest versions
ADMIN = {"topics", "admin", "times", "ends"}
PRODUCER = {"idempotent", "retries", "acks", "choose", "auto", "times-set", "time-type"}
LIBRARY = ADMIN | PRODUCER | {"offsets", "read", "follow", "strict"}
BOTH = {"group-eager", "group-cooperative"}


def script(client, name):
    return [install.pip(client), install.HERE / name]


def java_command():
    classes = install.java(install.HERE / "java" / "Client.java")
    small = ["-Xmx160m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    return ["java", *small, "-cp", classes, "Client"]


def kafkajs_command():
    path = install.npm("kafkajs")
    # The library is looked up from the script's own folder first; this names ours.
    return ["env", f"NODE_PATH={path}", "KAFKAJS_NO_PARTITIONER_WARNING=1"] + [
        install.need("node", "install Node.js"),
        install.HERE / "kafkajs.js",
    ]


def kcat_command():
    install.kcat()
    return ["python3", install.HERE / "kcat.py"]


def kcat_version():
    out = subprocess.run(["kcat", "-V"], capture_output=True, text=True).stdout
    return out.split("Version ")[1].split(" ")[0] if "Version " in out else "?"


def pinned(requirement):
    return lambda: requirement.replace("@", "==").split("==")[1]


def go_version(module):
    lines = (install.HERE / "go" / "go.mod").read_text().splitlines()
    return lambda: next(line.split()[1] for line in lines if line.strip().startswith(module + " "))


CLIENTS = [
    Client(
        "kcat",
        kcat_version,
        kcat_command,
        kind="text",
        can=frozenset({"idempotent", "acks", "choose", "auto", "read", "follow", "from-time"})
        | (ADMIN - {"admin"})
        | BOTH,
    ),
    Client(
        "confluent-kafka",
        pinned(install.PIP["confluent-kafka"][0]),
        lambda: script("confluent-kafka", "confluent.py"),
        can=frozenset(LIBRARY | BOTH | {"manage", "static"}),
    ),
    Client(
        "kafka-python",
        pinned(install.PIP["kafka-python"][0]),
        lambda: script("kafka-python", "kafka_python.py"),
        kind="plain",
        can=frozenset(LIBRARY | BOTH | {"manage", "static", "idle-untold"}),
    ),
    Client(
        "aiokafka",
        pinned(install.PIP["aiokafka"][0]),
        lambda: script("aiokafka", "aio.py"),
        can=frozenset(LIBRARY | {"group-eager", "static"}),
    ),
    Client(
        "kafkajs",
        pinned(install.NPM["kafkajs"][0]),
        kafkajs_command,
        kind="plain",
        codecs=("none", "gzip"),
        can=frozenset(PRODUCER | ADMIN | {"offsets-if-placed", "late-is-end", "group-eager"}),
    ),
    Client(
        "java",
        lambda: install.KAFKA,
        java_command,
        can=frozenset(LIBRARY | BOTH | {"newest", "static"}),
    ),
    Client(
        "franz-go",
        go_version("github.com/twmb/franz-go"),
        lambda: [install.go("franz")],
        can=frozenset(LIBRARY | BOTH | {"newest", "static", "late-is-end"}),
    ),
    Client(
        "sarama",
        go_version("github.com/IBM/sarama"),
        lambda: [install.go("sarama")],
        can=frozenset(LIBRARY | {"newest-protocol", "group-eager", "static"}),
    ),
    Client(
        "rskafka",
        lambda: "0.6.0",
        lambda: [install.cargo("rskafka")],
        kind="plain",
        can=frozenset(ADMIN | {"offsets", "times-set", "read"}),
    ),
    Client(
        "rdkafka",
        lambda: "0.39.0",
        lambda: [install.cargo("rdkafka")],
        can=frozenset(
            PRODUCER | BOTH | {"topics", "ends", "offsets", "read", "follow", "strict", "static"}
        ),
    ),
]
BY_NAME = {client.name: client for client in CLIENTS}
