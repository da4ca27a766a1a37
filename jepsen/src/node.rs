//! One broker process: started on a data directory, killed, started again.
//!
//! Owns the process, its address and its log file. The broker is any program that understands
//! `serve --data DIR --listen HOST:PORT [--set key=value]...`, prints a line with
//! `listening on HOST:PORT` when it is ready, and stops on SIGTERM.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::process::{Process, how};
use crate::stop::{Stop, broken, until};

/// How long a broker may take from its start to its first `listening on`, recovery included.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// How long a graceful stop may take.
const STOP_PATIENCE: Duration = Duration::from_secs(30);

pub struct Node {
    binary: PathBuf,
    data: PathBuf,
    settings: Vec<String>,
    address: SocketAddr,
    log: PathBuf,
    process: Option<Process>,
    /// Where in the log file the current process began to write.
    log_from: u64,
}

impl Node {
    /// A broker that is not started yet, on a free port of the loopback interface.
    pub fn new(binary: &Path, data: &Path, log: &Path, settings: &[String]) -> Result<Node, Stop> {
        Ok(Node {
            binary: binary.to_owned(),
            data: data.to_owned(),
            settings: settings.to_vec(),
            address: free_address()?,
            log: log.to_owned(),
            process: None,
            log_from: 0,
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the process, with a setting of this start alone, and returns at once.
    pub fn spawn(&mut self, setting: &str) -> Result<(), Stop> {
        assert!(self.process.is_none(), "the broker runs already");
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .map_err(broken(self.log.display()))?;
        self.log_from = log.metadata().map_err(broken(self.log.display()))?.len();
        let errors = log.try_clone().map_err(broken(self.log.display()))?;
        let mut command = Command::new(&self.binary);
        command.arg("serve").arg("--data").arg(&self.data);
        command.arg("--listen").arg(self.address.to_string());
        for setting in [setting].into_iter().chain(self.settings.iter().map(String::as_str)) {
            command.arg("--set").arg(setting);
        }
        command.stdin(Stdio::null()).stdout(log).stderr(errors);
        self.process = Some(Process::start("the broker", &mut command)?);
        Ok(())
    }

    /// Waits until the process says that it listens.
    pub fn wait_ready(&mut self) -> Result<(), Stop> {
        let ready = until(START_PATIENCE, || {
            let said = self.said()?;
            if said.lines().any(|line| line.contains("listening on")) {
                return Ok(Some(()));
            }
            self.check_alive()?;
            Ok(None)
        })?;
        match ready {
            Some(()) => Ok(()),
            None => Err(self.failed(&format!("did not listen within {START_PATIENCE:?}"))),
        }
    }

    /// Fails if the process has ended although nobody ended it.
    pub fn check_alive(&mut self) -> Result<(), Stop> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.ended()? {
            None => Ok(()),
            Some(status) => Err(self.failed(&format!("{} on its own", how(status)))),
        }
    }

    /// kill -9.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGSTOP: it answers nothing from here on.
    pub fn pause(&self) -> Result<(), Stop> {
        let process = self.process.as_ref().expect("the broker runs");
        process.signal(libc::SIGSTOP)
    }

    /// SIGTERM, and a graceful end with code 0 is demanded.
    pub fn stop(&mut self) -> Result<(), Stop> {
        self.check_alive()?;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.signal(libc::SIGTERM)?;
        let status = process.wait(STOP_PATIENCE)?;
        match status {
            // 143 is how a Java virtual machine ends gracefully on SIGTERM.
            Some(status) if matches!(status.code(), Some(0 | 143)) => {
                self.process = None;
                Ok(())
            }
            Some(status) => Err(self.failed(&format!("{} on SIGTERM", how(status)))),
            None => Err(self.failed(&format!("ignored SIGTERM for {STOP_PATIENCE:?}"))),
        }
    }

    /// What the current process has printed so far.
    fn said(&self) -> Result<String, Stop> {
        let all = std::fs::read(&self.log).map_err(broken(self.log.display()))?;
        let from = usize::try_from(self.log_from).unwrap_or(usize::MAX).min(all.len());
        Ok(String::from_utf8_lossy(&all[from..]).into_owned())
    }

    fn failed(&self, what: &str) -> Stop {
        let said = self.said().unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(8)..].join("\n    ");
        Stop::Broker(format!("it {what}; the end of {}:\n    {tail}", self.log.display()))
    }
}

/// An address on loopback that nobody listens on just now. It is kept over restarts, as clients
/// know it.
///
/// It lies below the ports that the kernel gives to outgoing connections: a client that connects
/// while the broker is down could else be given the very port, connect to itself, and keep the
/// restarted broker from listening.
fn free_address() -> Result<SocketAddr, Stop> {
    let first = 20_000 + u16::try_from(std::process::id() % 10_000).expect("below 10,000");
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    match (first..32_000).find(free) {
        Some(port) => Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port))),
        None => Err(broken("finding a port")("all from 20000 to 32000 are taken")),
    }
}
