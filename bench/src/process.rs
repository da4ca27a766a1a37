//! A broker in a process of its own, because its memory and descriptors are counted, or because it
//! is killed. The process is the bench's program, started again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::broker::{metadata, serve};
use crate::load::{call, connect};
use crate::machine::{SERVER_CORE, cpu_of, pin};

/// The folder of the data, when this program is started again as the broker.
const SERVE: &str = "TRIALOG_BENCH_SERVE";

/// Is the broker, if this process was started as one, and says whether it was. To be called before
/// anything else is done.
#[must_use]
pub fn served(settings: &[(&str, &str)]) -> bool {
    let Some(data) = std::env::var_os(SERVE) else { return false };
    pin(SERVER_CORE);
    serve(Path::new(&data), settings);
    true
}

/// A broker in a process of its own, on the server's core.
pub struct Broker {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    admin: SocketAddr,
    /// From the start of the process to an answer.
    pub first_answer: Duration,
}

impl Broker {
    /// Starts one and asks it `first`, or which topics there are of a name that is not there.
    #[must_use]
    pub fn start(data: &Path, first: Option<&[u8]>) -> Broker {
        let begun = Instant::now();
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .env(SERVE, data)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut words = BufReader::new(child.stdout.take().expect("piped"));
        let mut next = || -> SocketAddr {
            let mut line = String::new();
            words.read_line(&mut line).expect("it speaks");
            line.trim().parse().expect("an address")
        };
        let (address, admin) = (next(), next());
        let none = metadata("none");
        call(&mut connect(address), first.unwrap_or(&none));
        Broker { child, address, admin, first_answer: begun.elapsed() }
    }

    /// Bytes of memory of its own that it has; pages of files do not count.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.expect("a number") << 10
    }

    /// Descriptors that it has open.
    #[must_use]
    pub fn descriptors(&self) -> u64 {
        let dir = std::fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        dir.expect("it runs").count() as u64
    }

    /// Processor time that it has used.
    #[must_use]
    pub fn cpu(&self) -> Duration {
        cpu_of(self.child.id())
    }

    /// The value of one of the numbers that it shows to operators.
    #[must_use]
    pub fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.admin).expect("it listens");
        let request = "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("it answers");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.expect("there is such a number").trim().parse().expect("a number")
    }

    /// Has it close its logs and end.
    pub fn stop(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success(), "it ends cleanly");
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}
