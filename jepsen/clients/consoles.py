"""Consoles and exporters on trial: programs that people look after a Kafka cluster with.

Owns: how each is started and what it must have printed. The judge prepares one topic and one group
itself (records by kcat, offsets by a request of its own), so every expected number is known.

kafka-tools   Apache Kafka's own command-line tools, the newest protocol versions of everything
kafka-python-admin   the command line of kafka-python (`python -m kafka.admin`)
kafkatop      a lag monitor over librdkafka's admin client
offsets-exporter   prometheus-kafka-consumer-group-exporter: knows groups only by reading
              `__consumer_offsets` and decoding its records, as Burrow does. Its watermarks ask
              ListOffsets version 0, which Kafka 4 does not serve any more either (KIP-896), so only
              what it takes from the records is judged.
Must not know: what the other clients are asked to do.
"""

import json
import re
import subprocess
import time
import urllib.request

import group
import install
import process
import records
from jobs import SEED, check, tail
from records import PARTITIONS

COUNT = 90
COMMITTED = 12
PROGRAM_S = 60
EXPORTER_S = 40

KAFKATOP = "kafkatop==1.16"
KAFKA_PYTHON = install.PIP["kafka-python"][0].split("==")[1]
EXPORTER = ["prometheus-kafka-consumer-group-exporter==0.5.5", "kafka-python==2.0.6"]


class Console:
    """A topic with records, whose ends are known, and a group that has read some of each partition."""

    def __init__(self, eyes, name):
        self.bootstrap, self.folder = eyes.bootstrap, eyes.folder
        self.topic = eyes.topic(f"console-{name}")
        self.group = f"g.{self.topic}"
        written = records.generate("text", SEED, COUNT)
        eyes.write_all(self.topic, written)
        self.ends = [sum(r.partition == p for r in written) for p in range(PARTITIONS)]
        self.commit(COMMITTED)

    def commit(self, offset):
        """The first commit may find the coordinator still loading, or its topic not there yet."""
        process.request(*group.address(self.bootstrap), 10, 0, process.text(self.group))
        deadline = time.monotonic() + PROGRAM_S
        while True:
            try:
                return group.rewind(self.bootstrap, self.group, self.topic, offset)
            except Exception as failure:
                check(time.monotonic() < deadline, str(failure))
                time.sleep(0.3)


def run(arguments):
    done = subprocess.run(
        [str(a) for a in arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PROGRAM_S,
    )
    check(done.returncode == 0, f"ended with {done.returncode}: {tail(done.stdout)}")
    return done.stdout


def tool(console, name, *arguments):
    jars = install.maven("reference", install.BROKER_JAR)
    java = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    java += ["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", jars]
    name = name if name.startswith("kafka.") else f"org.apache.kafka.tools.{name}"
    out = run([*java, name, "--bootstrap-server", console.bootstrap, *arguments])
    check("Exception" not in out, tail(out))
    return out


def holds(out, *wanted):
    """Each wanted text is there; runs of spaces count as one, for tables."""
    flat = re.sub(r"[ \t]+", " ", out)
    missing = [text for text in wanted if text not in flat]
    check(not missing, f"{missing} is missing in: {tail(out)}")


def topics(console):
    """kafka-topics: create, describe, alter, list, delete."""
    name = f"{console.topic}-own"
    tool(console, "TopicCommand", "--create", "--topic", name, "--partitions", 2)
    tool(console, "TopicCommand", "--alter", "--topic", name, "--partitions", 4)
    out = tool(console, "TopicCommand", "--describe", "--topic", name)
    holds(out, "PartitionCount: 4", "ReplicationFactor: 1", "Partition: 3 Leader: ")
    check(name in tool(console, "TopicCommand", "--list").split(), "not in the list")
    tool(console, "TopicCommand", "--delete", "--topic", name)
    check(name not in tool(console, "TopicCommand", "--list").split(), "deleted, still listed")


def configs(console):
    """kafka-configs: alter, describe, remove; every key of the broker; its loggers."""
    entity = ["--entity-type", "topics", "--entity-name", console.topic]
    command = "kafka.admin.ConfigCommand"
    tool(console, command, *entity, "--alter", "--add-config", "retention.ms=86400000")
    holds(tool(console, command, *entity, "--describe"), "retention.ms=86400000")
    tool(console, command, *entity, "--alter", "--delete-config", "retention.ms")
    out = tool(console, command, *entity, "--describe")
    check("retention.ms" not in out, tail(out))
    every = ["--entity-type", "brokers", "--entity-name", 1, "--describe", "--all"]
    holds(tool(console, command, *every), "log.retention.hours=", "listeners=")
    loggers = ["--entity-type", "broker-loggers", "--entity-name", 1]
    for level in ("WARN", "INFO"):
        tool(console, command, *loggers, "--alter", "--add-config", f"root={level}")
        holds(tool(console, command, *loggers, "--describe"), f"root={level}")


def quotas(console):
    """kafka-configs: quotas of a client, none of addresses; a setting of all brokers. An election."""
    command = "kafka.admin.ConfigCommand"
    client = ["--entity-type", "clients", "--entity-name", f"importer-of-{console.topic}"]
    brokers = ["--entity-type", "brokers", "--entity-default"]
    for entity, pair, shown in (
        (client, "producer_byte_rate=1048576", "producer_byte_rate=1048576.0"),
        (brokers, "max.connections.per.ip=5000", "max.connections.per.ip=5000"),
    ):
        name = pair.split("=")[0]
        tool(console, command, *entity, "--alter", "--add-config", pair)
        holds(tool(console, command, *entity, "--describe"), shown)
        tool(console, command, *entity, "--alter", "--delete-config", name)
        out = tool(console, command, *entity, "--describe")
        check(shown not in out, f"removed, still described: {tail(out)}")
    out = tool(console, command, "--entity-type", "ips", "--describe")
    check("rate" not in out, tail(out))
    which = ["--election-type", "preferred", "--topic", console.topic, "--partition", 0]
    holds(tool(console, "LeaderElectionCommand", *which), console.topic)


def groups(console):
    """kafka-consumer-groups: lag, reset, deletion of offsets and of the group."""
    command = "consumer.group.ConsumerGroupCommand"
    of = ["--group", console.group]
    out = tool(console, command, *of, "--describe")
    for partition, end in enumerate(console.ends):
        holds(out, f"{console.topic} {partition} {COMMITTED} {end} {end - COMMITTED}")
    back = ["--topic", console.topic, "--to-offset", 7, "--execute"]
    tool(console, command, *of, "--reset-offsets", *back)
    holds(tool(console, command, *of, "--describe"), f"{console.topic} 0 7 {console.ends[0]} ")
    tool(console, command, *of, "--delete-offsets", "--topic", f"{console.topic}:2")
    out = tool(console, command, *of, "--describe")
    check(not re.search(rf"{re.escape(console.topic)}\s+2\s+7\s", out), tail(out))
    holds(tool(console, command, "--list"), console.group)
    tool(console, command, *of, "--delete")
    check(console.group not in tool(console, command, "--list").split(), "deleted, still listed")


def logs(console):
    """kafka-get-offsets, kafka-delete-records, kafka-log-dirs, kafka-transactions."""
    out = tool(console, "GetOffsetShell", "--topic", console.topic)
    holds(out, *(f"{console.topic}:{index}:{end}" for index, end in enumerate(console.ends)))
    cut = console.folder / "cut.json"
    partitions = [{"topic": console.topic, "partition": 0, "offset": 10}]
    cut.write_text(json.dumps({"version": 1, "partitions": partitions}))
    tool(console, "DeleteRecordsCommand", "--offset-json-file", cut)
    out = tool(console, "GetOffsetShell", "--topic", console.topic, "--time", "-2")
    holds(out, f"{console.topic}:0:10", f"{console.topic}:1:0")
    out = tool(console, "LogDirsCommand", "--describe", "--topic-list", console.topic)
    answer = json.loads(out[out.index("{") :])
    sizes = [p["size"] for d in answer["brokers"][0]["logDirs"] for p in d["partitions"]]
    check(len(sizes) == PARTITIONS and min(sizes) > 0, f"sizes {sizes}")
    which = ["--topic", console.topic, "--partition", 0]
    holds(tool(console, "TransactionsCommand", "describe-producers", *which), "ProducerId")


def loads(console):
    """kafka-producer-perf-test and kafka-consumer-perf-test, the load generators people know."""
    size = ["--num-records", 20000, "--record-size", 200, "--throughput", -1]
    out = tool(console, "ProducerPerformance", "--topic", console.topic, *size)
    holds(out, "20000 records sent")
    out = tool(console, "ConsumerPerformance", "--topic", console.topic, "--num-records", 20000)
    read = [line.split(", ") for line in out.splitlines() if re.match(r"\d{4}-", line)]
    check(read and int(read[-1][4]) >= 20000, tail(out))


def kafka_python_admin(console):
    """Topics, partitions, settings, offsets of groups, deletion of records."""
    python = install.pip("kafka-python")
    command = [python, "-m", "kafka.admin", "-b", console.bootstrap]

    def ask(*words):
        """Its answer is one line of JSON."""
        return json.loads(run([*command, "--format", "json", *words]).strip().splitlines()[-1])

    def change(*words):
        """Some answers have keys that it cannot write as JSON."""
        run([*command, *words])

    own = f"{console.topic}-own"
    change("topics", "create", "-t", own, "--num-partitions", 2, "--replication-factor", 1)
    change("partitions", "create", "-p", f"{own}:4")
    described = ask("topics", "describe", "-t", own)[0]["partitions"]
    check(len(described) == 4, f"described {described}")
    check(own in ask("topics", "list"), "not in the list")
    of_own = ["-r", "topic", "-n", own]
    change("configs", "alter", *of_own, "-c", "retention.ms=86400000")

    def retention():
        return ask("configs", "describe", *of_own)["topic"][own]["retention.ms"]["value"]

    check(retention() == "86400000", f"retention.ms {retention()}")
    change("configs", "reset", *of_own, "-c", "retention.ms")
    check(retention() != "86400000", "reset, and still the same")
    change("topics", "delete", "-t", own)
    check(own not in ask("topics", "list"), "deleted, still listed")

    def standing():
        found = ask("groups", "list-offsets", "-g", console.group)[console.topic]
        return {int(p): (one["offset"], one["lag"]) for p, one in found.items()}

    wanted = {p: (COMMITTED, end - COMMITTED) for p, end in enumerate(console.ends)}
    check(standing() == wanted, f"the group stands at {standing()}")
    change("groups", "alter-offsets", "-g", console.group, "-o", f"{console.topic}:1:5")
    check(standing()[1] == (5, console.ends[1] - 5), f"altered to {standing()}")
    change("partitions", "delete-records", "-r", f"{console.topic}:0:10")
    starts = ask("partitions", "list-offsets", "-p", f"{console.topic}:*:earliest")[console.topic]
    check([starts[str(p)]["offset"] for p in range(2)] == [10, 0], f"starts {starts}")
    change("groups", "delete", "-g", console.group)
    listed = [one["group_id"] for one in ask("groups", "list")]
    check(console.group not in listed, "deleted, still listed")


def kafkatop(console):
    python = install.pip_of("kafkatop", [KAFKATOP])
    command = [python.parent / "kafkatop", "--kafka-broker", console.bootstrap]
    out = run([*command, "--all", "--summary-json"])
    answer = json.loads(out[out.index("{") :])
    check(console.group in answer, f"groups {sorted(answer)}")
    found = answer[console.group]
    lags = [end - COMMITTED for end in console.ends]
    wanted = {"partitions": PARTITIONS, "lag_max": max(lags), "lag_min": min(lags)}
    check(found["topics"].get(console.topic) == wanted, f"answered {found}")
    check(found["state"].endswith("EMPTY"), f"answered {found}")


def exporter(console):
    python = install.pip_of("offsets-exporter", EXPORTER)
    port = process.free_port()
    command = [python, "-m", "prometheus_kafka_consumer_group_exporter", "--from-start"]
    command += ["--bootstrap-brokers", console.bootstrap, "--port", str(port)]
    command = [str(a) for a in command]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        offsets = {str(partition): float(COMMITTED) for partition in range(PARTITIONS)}
        expect_metric(running, port, console, offsets)
        console.commit(COMMITTED + 5)
        offsets = {str(partition): float(COMMITTED + 5) for partition in range(PARTITIONS)}
        expect_metric(running, port, console, offsets)
    finally:
        running.kill()
        running.wait()


def expect_metric(running, port, console, wanted):
    line = re.compile(
        r'kafka_consumer_group_offset\{group="(.*)",partition="(\d+)",topic="(.*)"\} (\S+)'
    )
    deadline, found = time.monotonic() + EXPORTER_S, None
    while found != wanted:
        check(running.poll() is None, f"ended with {running.poll()}")
        check(time.monotonic() < deadline, f"exported {found}, should be {wanted}")
        time.sleep(0.3)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            continue
        rows = [m.groups() for m in map(line.match, lines) if m]
        found = {p: float(v) for g, p, t, v in rows if (g, t) == (console.group, console.topic)}


JOBS = [
    ("kafka-tools", install.KAFKA, "topics", topics),
    ("kafka-tools", install.KAFKA, "configs", configs),
    ("kafka-tools", install.KAFKA, "quotas, an election", quotas),
    ("kafka-tools", install.KAFKA, "groups", groups),
    ("kafka-tools", install.KAFKA, "logs", logs),
    ("kafka-tools", install.KAFKA, "loads", loads),
    ("kafka-python-admin", KAFKA_PYTHON, "topics and groups", kafka_python_admin),
    ("kafkatop", KAFKATOP.split("==")[1], "lag of a group", kafkatop),
    ("offsets-exporter", EXPORTER[0].split("==")[1], "reads __consumer_offsets", exporter),
]
NAMES = list(dict.fromkeys(name for name, *_ in JOBS))


def prepare(names):
    """Installs what they need."""
    if "kafka-tools" in names:
        install.maven("reference", install.BROKER_JAR)
    if "kafka-python-admin" in names:
        install.pip("kafka-python")
    if "kafkatop" in names:
        install.pip_of("kafkatop", [KAFKATOP])
    if "offsets-exporter" in names:
        install.pip_of("offsets-exporter", EXPORTER)


def jobs(eyes, names):
    """Every job of these consoles; `eyes` is a client that can write."""
    for name, version, job, work in JOBS:
        if name in names:
            yield name, version, job, lambda n=name, w=work: w(Console(eyes, n))
