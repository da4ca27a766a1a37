//! Clients under test: a real Kafka client that writes and reads, and records what it sees.
//!
//! Owns the virtual environment of the Python client (made on first use below `target/jepsen`) and
//! the processes that make the traffic: the script, or this program again with our own client
//! (`own`). Both understand the same orders and write the library's history format; nothing they
//! say is believed beyond that.

use std::collections::BTreeMap;
use std::io::{BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use trialog_jepsen::history::History;

use crate::binary::work_root;
use crate::process::{Process, how, run};
use crate::stop::{Stop, broken, interrupted, until};

const SCRIPT: &str = include_str!("workload/traffic.py");
/// What `pip` installs; any 2.x speaks the same interface.
const PACKAGE: &str = "confluent-kafka==2.*";
/// Topics and their partitions; the first has small segments.
const TOPICS: &str = "jepsen-rolling:1,jepsen-few:2,jepsen-many:5";
/// How long the script may take to create its topics, and to read everything at the end.
const PATIENCE: Duration = Duration::from_secs(150);

/// A client, ready to be started.
pub enum Client {
    /// confluent-kafka-python, that is librdkafka, in a virtual environment.
    Python { interpreter: PathBuf, script: PathBuf },
    /// Our own, in a process of this program.
    Own { program: PathBuf },
}

/// How much traffic.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub producers: u32,
    pub consumers: u32,
    /// Members of the one group.
    pub members: u32,
    pub seed: u64,
}

/// What the script says of itself at its end.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Summary {
    pub undelivered: u64,
    /// Producers that gave up for good, and why.
    pub fatal: Vec<String>,
    /// Consumers whose position was not there any more.
    pub lost_position: Vec<String>,
    /// Partitions that the group had not read to their end, long after the last write.
    pub behind: Vec<String>,
    /// Partitions that the broker did not know at the end.
    pub missing: Vec<String>,
    /// What clients were told, by name, with counts.
    pub errors: BTreeMap<String, u64>,
}

impl Client {
    /// Our own.
    pub fn own() -> Result<Client, Stop> {
        let program = std::env::current_exe().map_err(broken("finding this program"))?;
        println!("client: our own");
        Ok(Client::Own { program })
    }

    /// Finds or makes the virtual environment.
    pub fn python() -> Result<Client, Stop> {
        let root = work_root();
        let folder = root.join("venv");
        let interpreter = folder.join("bin").join("python");
        let script = root.join("traffic.py");
        std::fs::create_dir_all(&root).map_err(broken(root.display()))?;
        std::fs::write(&script, SCRIPT).map_err(broken(script.display()))?;
        let works = |interpreter: &Path| {
            let mut ask = Command::new(interpreter);
            ask.args(["-c", "import confluent_kafka as c; print(c.version(), c.libversion()[0])"]);
            run("the Python client", &mut ask)
        };
        if works(&interpreter).is_err() {
            println!("installing {PACKAGE} into {}", folder.display());
            let mut venv = Command::new("python3");
            run(
                "python3 -m venv (the clients need Python 3 with venv)",
                venv.args(["-m", "venv"]).arg(&folder),
            )?;
            let mut pip = Command::new(&interpreter);
            pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", PACKAGE]);
            run("pip install (the clients need the package index once)", &mut pip)?;
        }
        let versions = works(&interpreter)?;
        println!("client: confluent-kafka and librdkafka {}", versions.trim());
        Ok(Client::Python { interpreter, script })
    }

    fn command(
        &self,
        job: &str,
        broker: SocketAddr,
        history: &Path,
        log: &Path,
    ) -> Result<Command, Stop> {
        let out = std::fs::File::create(log).map_err(broken(log.display()))?;
        let errors = out.try_clone().map_err(broken(log.display()))?;
        let mut command = match self {
            Client::Python { interpreter, script } => {
                let mut command = Command::new(interpreter);
                command.arg(script);
                command
            }
            Client::Own { program } => {
                let mut command = Command::new(program);
                command.arg("traffic");
                command
            }
        };
        command.arg(job).arg("--bootstrap").arg(broker.to_string());
        command.arg("--history").arg(history).args(["--topics", TOPICS]);
        command.stdin(Stdio::null()).stdout(out).stderr(errors);
        Ok(command)
    }

    /// Starts writers and readers; returns when the topics exist and the first record is under way.
    pub fn write(&self, broker: SocketAddr, folder: &Path, load: Load) -> Result<Writers, Stop> {
        let (history, log) = (folder.join("clients.jsonl"), folder.join("clients.log"));
        let mut command = self.command("write", broker, &history, &log)?;
        command.arg("--producers").arg(load.producers.to_string());
        command.arg("--consumers").arg(load.consumers.to_string());
        command.arg("--members").arg(load.members.to_string());
        command.arg("--seed").arg((load.seed % 1_000_000).to_string()).stdin(Stdio::piped());
        let mut process = Process::start("the traffic", &mut command)?;
        let input = process.take_input();
        let mut writers = Writers { process, input, history, log };
        let ready = until(PATIENCE, || {
            let said = writers.said()?;
            let ready = said.lines().any(|line| line == "ready");
            if !ready {
                writers.check_alive()?;
            }
            Ok(ready.then_some(()))
        })?;
        match ready {
            Some(()) => Ok(writers),
            None => Err(Stop::Broker(format!("clients could not begin within {PATIENCE:?}"))),
        }
    }

    /// Reads every partition from its beginning to its end, and what the group has committed.
    pub fn read(
        &self,
        broker: SocketAddr,
        folder: &Path,
        members: u32,
    ) -> Result<(History, Summary), Stop> {
        let (history, log) = (folder.join("reading.jsonl"), folder.join("reading.log"));
        let mut command = self.command("read", broker, &history, &log)?;
        command.arg("--members").arg(members.to_string());
        let mut process = Process::start("the reading", &mut command)?;
        let status = process.wait(PATIENCE)?;
        let said = std::fs::read_to_string(&log).unwrap_or_default();
        match (status, summary(&said)) {
            (Some(_), Some(summary)) => Ok((load(&history)?, summary)),
            (status, _) => {
                let how = status.map_or("took too long".to_owned(), how);
                Err(Stop::Broker(format!("the final reading {how}: {}", said.trim())))
            }
        }
    }
}

/// Clients that are at it.
pub struct Writers {
    process: Process,
    input: Option<ChildStdin>,
    history: PathBuf,
    log: PathBuf,
}

impl Writers {
    /// Records acknowledged so far.
    pub fn acknowledged(&self) -> Result<u64, Stop> {
        let said = self.said()?;
        let counts = said.lines().rev().filter_map(|line| line.strip_prefix("acknowledged "));
        Ok(counts.filter_map(|count| count.trim().parse().ok()).next().unwrap_or(0))
    }

    /// Fails if the clients have ended on its own.
    pub fn check_alive(&mut self) -> Result<(), Stop> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => {
                let (how, said) = (how(status), self.said()?);
                Err(Stop::Broken(format!("the traffic {how}: {}", said.trim())))
            }
        }
    }

    /// Delivers what is in flight, then ends.
    pub fn stop(self) -> Result<(History, Summary), Stop> {
        self.end("stop\n")
    }

    /// Ends at once: what is not acknowledged by now never will be.
    pub fn abandon(self) -> Result<(History, Summary), Stop> {
        self.end("abandon\n")
    }

    fn end(mut self, order: &str) -> Result<(History, Summary), Stop> {
        interrupted()?;
        if let Some(input) = &mut self.input {
            input.write_all(order.as_bytes()).map_err(broken("telling the clients to end"))?;
        }
        let status = self.process.wait(PATIENCE)?;
        let said = self.said()?;
        match (status, summary(&said)) {
            (Some(_), Some(summary)) => Ok((load(&self.history)?, summary)),
            (Some(status), None) => {
                Err(Stop::Broken(format!("the traffic {}: {}", how(status), said.trim())))
            }
            (None, _) => Err(Stop::Broker(format!("clients could not finish in {PATIENCE:?}"))),
        }
    }

    fn said(&self) -> Result<String, Stop> {
        std::fs::read_to_string(&self.log).map_err(broken(self.log.display()))
    }
}

fn summary(said: &str) -> Option<Summary> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("done "))?;
    serde_json::from_str(line).ok()
}

/// Reads a history file.
pub fn load(path: &Path) -> Result<History, Stop> {
    let file = std::fs::File::open(path).map_err(broken(path.display()))?;
    History::read(&mut BufReader::new(file)).map_err(broken(path.display()))
}
