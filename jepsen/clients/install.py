"""Puts the foreign clients into a cache below the repository's `target/clients`.

Owns: the pinned versions, and where each client lives. Every function here is idempotent, does its
work once per version, and returns what the caller needs to start the client. It goes through the
ordinary package client of each language (pip, npm, mvn, go, cargo, apt) with their own settings, so
a mirror or proxy that is configured for them works here too.
Must not know: what the clients are asked to do.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = HERE.parent.parent / "target" / "clients"

KAFKA = "4.3.1"
PIP = {
    "confluent-kafka": ["confluent-kafka==2.16.1"],
    "kafka-python": ["kafka-python==3.0.12", "python-snappy", "lz4", "zstandard"],
    "aiokafka": ["aiokafka[lz4,snappy,zstd]==0.14.0"],
}
NPM = {"kafkajs": ["kafkajs@2.2.4"]}
CLIENTS_JAR = [("org.apache.kafka", "kafka-clients", KAFKA), ("org.slf4j", "slf4j-nop", "1.7.36")]
BROKER_JAR = [
    ("org.apache.kafka", "kafka_2.13", KAFKA),
    ("org.apache.kafka", "kafka-tools", KAFKA),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
]

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>trialog.clients</groupId><artifactId>{name}</artifactId><version>1</version>
<dependencies>{dependencies}</dependencies></project>
"""


class InstallError(Exception):
    """A client could not be installed; the text says which command failed and how it ended."""


def command(arguments, cwd=None, env=None, timeout_s=1200):
    """Runs one installer and keeps its output for the error message."""
    done = subprocess.run(
        [str(a) for a in arguments],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.strip().splitlines()[-15:])
        line = " ".join(map(str, arguments))
        raise InstallError(f"`{line}` ended with {done.returncode}:\n{tail}")
    return done.stdout


def need(program, hint):
    if shutil.which(program) is None:
        raise InstallError(f"`{program}` is not on the path ({hint})")
    return program


def once(folder, wanted, work):
    """Runs `work` unless `folder` already holds exactly `wanted`."""
    mark = folder / ".installed"
    if mark.is_file() and mark.read_text() == wanted:
        return
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    work()
    mark.write_text(wanted)


def pip(client):
    """The client's Python, in a virtual environment of its own."""
    return pip_of(client, PIP[client])


def pip_of(client, requirements):
    """The same for anything else that comes from PyPI."""
    folder = CACHE / client
    python = folder / "bin" / "python"

    def work():
        venv.create(folder, with_pip=True)
        command([python, "-m", "pip", "install", "--quiet", *requirements])

    once(folder, f"{sys.version_info[:2]} {requirements}", work)
    return python


def npm(client):
    """A prefix of its own; returns the folder to give to Node as NODE_PATH."""
    folder = CACHE / client
    need("npm", "install Node.js")

    def work():
        command(["npm", "install", "--prefix", folder, "--no-audit", "--no-fund", *NPM[client]])

    once(folder, str(NPM[client]), work)
    return folder / "node_modules"


def maven(name, coordinates):
    """Copies the jars and all they need into one folder; returns a class path pattern."""
    folder = CACHE / name
    need("mvn", "install Maven")

    def work():
        dependencies = "".join(
            f"<dependency><groupId>{g}</groupId><artifactId>{a}</artifactId>"
            f"<version>{v}</version></dependency>"
            for g, a, v in coordinates
        )
        pom = folder / "pom.xml"
        pom.write_text(POM.format(name=name, dependencies=dependencies))
        command(
            ["mvn", "--batch-mode", "--quiet", "--file", pom]
            + [f"-Dmaven.repo.local={CACHE / 'maven'}", f"-DoutputDirectory={folder / 'jars'}"]
            + ["-DincludeScope=runtime", "dependency:copy-dependencies"],
            env={"MAVEN_OPTS": "-Xmx256m"},
        )

    once(folder, str(coordinates), work)
    return f"{folder / 'jars'}/*"


def newest(paths):
    return max(p.stat().st_mtime for p in paths)


def stale(product, sources):
    return not product.exists() or product.stat().st_mtime < newest(sources)


def java(source):
    """Compiles one Java file against the client's jars; returns the class path to run it with."""
    need("javac", "install a JDK, 17 or newer")
    jars = maven("java", CLIENTS_JAR)
    classes = CACHE / "java-classes"
    if stale(classes / f"{source.stem}.class", [source]):
        classes.mkdir(parents=True, exist_ok=True)
        command(["javac", "-J-Xmx256m", "-nowarn", "-cp", jars, "-d", classes, source])
    return f"{classes}:{jars}"


def go(name):
    """Builds one program of the Go module beside this file; returns the binary."""
    need("go", "install Go")
    module = HERE / "go"
    binary = CACHE / "go" / "bin" / name
    if stale(binary, [module / "go.mod", module / "go.sum", *(module / name).glob("*.go")]):
        command(
            ["go", "build", "-buildvcs=false", "-o", binary, f"./{name}"],
            cwd=module,
            env={
                "GOMODCACHE": str(CACHE / "go" / "mod"),
                "GOCACHE": str(CACHE / "go" / "cache"),
                "GOFLAGS": "-modcacherw",
                "GOMAXPROCS": "2",
            },
        )
    return binary


def cargo(name):
    """Builds one of the Rust clients, which are no members of the workspace; returns the binary."""
    need("cargo", "install Rust")
    project = HERE / name
    target = CACHE / "rust"
    binary = target / "debug" / f"trialog-{name}-client"
    if stale(binary, [project / "Cargo.toml", *(project / "src").glob("*.rs")]):
        # The repository's own flags (`--cfg madsim`) are not meant for this program; only a
        # RUSTFLAGS that is not empty replaces them.
        command(
            ["cargo", "build", "--quiet", "--locked", "--target-dir", target],
            cwd=project,
            env={"RUSTFLAGS": "-Awarnings"},
        )
        os.utime(binary)
    return binary


def kcat():
    """kcat from the distribution; installed by apt when it is missing and we may."""
    if shutil.which("kcat") is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise InstallError("kcat is not on the path (install it, e.g. `apt install kcat`)")
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        try:
            command(["apt-get", "install", "-y", "-qq", "kcat"], env=quiet)
        except InstallError:
            command(["apt-get", "update", "-qq"], env=quiet)
            command(["apt-get", "install", "-y", "-qq", "kcat"], env=quiet)
    return shutil.which("kcat")
