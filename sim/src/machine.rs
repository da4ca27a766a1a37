//! One simulated machine: its power, its one process, its disk with its speed, its clock.
//!
//! A process is one incarnation of the program that runs on the machine. Every handle is bound to
//! the incarnation that made it and is dead for ever once that is over: its calls never complete
//! and its destructors do nothing. A kill ends the process and leaves the kernel (page cache,
//! sockets that say goodbye); a power loss ends both.
//!
//! Disk calls are objects here: they take effect when the agenda says so, or when their process
//! dies, or never, whatever became of the future that waits for them.

use std::collections::BTreeMap;
use std::io::Result;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::task::Waker;

use serde::Serialize;
use trialog_engine::io::{Buf, Entry, Open, Space};

use crate::atlas;
use crate::cause::Cause;
use crate::clock::Clock;
use crate::contents::Contents;
use crate::disk::{Call, Disk, Flush, FolderSync, Ino, SECTOR};
use crate::seed::Stream;

/// How a process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Crash {
    /// The process dies, the machine goes on: the page cache stays, the kernel closes the sockets.
    Kill,
    /// The machine goes off: nothing that was not flushed is certain, and nobody is told.
    PowerLoss,
}

/// One machine. See the module's head.
#[derive(Debug)]
pub struct Machine {
    /// For people.
    pub name: String,
    /// The running process, counted from 1 over the whole run; `None` while there is none.
    pub process: Option<u64>,
    /// Whether its last process ended by itself.
    pub exited: bool,
    /// Whether the machine is on.
    pub powered: bool,
    /// How often it was switched on.
    pub boot: u64,
    /// Its clocks.
    pub clock: Clock,
    /// The fault by which its wall clock does not outlive the power.
    pub dead_battery: Option<Cause>,
    /// Its disk.
    pub disk: Disk,
    /// How fast the disk is.
    pub speed: Speed,
    /// What `Io::random` draws from.
    pub random: Stream,
    /// Disk calls that have not been collected yet.
    pub calls: BTreeMap<u64, Pending>,
    /// How many disk calls this machine has made in its life.
    pub calls_made: u64,
    /// Crashes that wait for a certain disk call.
    pub traps: Vec<Trap>,
    /// The process has been told to stop.
    pub told_to_stop: bool,
    /// Who waits to be told.
    pub stop_wakers: Vec<Waker>,
    /// The fault by which its programs get stuck for good, each where it chooses to.
    pub sticks: Option<Cause>,
    /// The process that has got stuck last.
    pub stuck: Option<u64>,
    /// The fault by which a broker that starts has so many bytes of memory for large requests.
    pub request_memory: Option<(Cause, u64)>,
}

/// A crash that waits for a disk call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// The fault that set it.
    pub cause: Cause,
    /// The sort of call that it counts; every call if none is named.
    pub call: Option<Call>,
    /// Of flushes, it counts those that have so many sectors to write.
    pub sectors_min: u64,
    /// It springs when that many more have been made.
    pub left: u64,
}

/// The speed of a disk; times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct Speed {
    /// A call that the page cache serves.
    pub cached: u64,
    /// A flush.
    pub flush: u64,
    /// Where the draws come from.
    pub random: Stream,
}

/// One disk call on its way, or done and not yet collected.
#[derive(Debug)]
pub struct Pending {
    /// What was asked, until it has taken effect.
    pub ask: Option<Ask>,
    /// When it takes effect.
    pub at: u64,
    /// The file that the call keeps open.
    pub file: Option<Ino>,
    /// What came of it.
    pub reply: Option<Reply>,
    /// Who waits; `None` before the first poll.
    pub waker: Option<Waker>,
    /// Whether the file that it opens is locked then.
    pub locking: bool,
    /// Nobody will collect the reply.
    pub abandoned: bool,
}

/// What a disk call asks.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Ask {
    Open(PathBuf, Open),
    Lock(PathBuf),
    Remove(PathBuf),
    Rename(PathBuf, PathBuf),
    List(PathBuf),
    MakeDir(PathBuf),
    SyncDir(PathBuf, Option<FolderSync>),
    Space(PathBuf),
    Read(Ino, u64, Buf),
    Write(Ino, u64, Vec<Buf>),
    Sync(Ino, Flush),
    Allocate(Ino, u64, u64),
    Truncate(Ino, u64),
    Length(Ino),
}

/// What came of a disk call.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Reply {
    Done(Result<()>),
    File(Result<Ino>),
    Names(Result<Vec<Entry>>),
    Number(Result<u64>),
    Space(Result<Space>),
    Read(Result<usize>, Buf),
    Written(Result<usize>, Vec<Buf>),
}

impl Ask {
    /// A number for the trace, and the facts beside it.
    #[must_use]
    pub fn facts(&self) -> [u64; 3] {
        match self {
            Ask::Open(..) => [1, 0, 0],
            Ask::Lock(_) => [2, 0, 0],
            Ask::Remove(_) => [3, 0, 0],
            Ask::Rename(..) => [4, 0, 0],
            Ask::List(_) => [5, 0, 0],
            Ask::MakeDir(_) => [6, 0, 0],
            Ask::SyncDir(..) => [7, 0, 0],
            Ask::Space(_) => [8, 0, 0],
            Ask::Read(ino, offset, _) => [9, *ino, *offset],
            Ask::Write(ino, offset, _) => [10, *ino, *offset],
            Ask::Sync(ino, _) => [11, *ino, 0],
            Ask::Allocate(ino, offset, len) => [12, *ino, offset + len],
            Ask::Truncate(ino, len) => [13, *ino, *len],
            Ask::Length(ino) => [14, *ino, 0],
        }
    }

    /// What it moves or is about, for the trace.
    #[must_use]
    pub fn contents(&self) -> Contents {
        let path = |path: &Path| Contents::of(path.as_os_str().as_encoded_bytes());
        match self {
            Ask::Open(at, how) => path(at).and(format!("{how:?}").as_bytes()),
            Ask::Rename(from, to) => path(from).and(to.as_os_str().as_encoded_bytes()),
            Ask::Lock(at)
            | Ask::Remove(at)
            | Ask::List(at)
            | Ask::MakeDir(at)
            | Ask::SyncDir(at, _)
            | Ask::Space(at) => path(at),
            Ask::Write(_, _, bufs) => bufs.iter().fold(Contents::NONE, |all, buf| all.and(buf)),
            Ask::Allocate(_, offset, len) => Contents::NONE.and_number(*offset).and_number(*len),
            Ask::Read(..) | Ask::Sync(..) | Ask::Truncate(..) | Ask::Length(_) => Contents::NONE,
        }
    }

    /// Its sort, for faults.
    #[must_use]
    pub fn call(&self) -> Call {
        match self {
            Ask::Open(..) | Ask::Lock(_) => Call::Open,
            Ask::Remove(_) | Ask::Rename(..) | Ask::MakeDir(_) => Call::Name,
            Ask::Read(..) => Call::Read,
            Ask::Write(..) => Call::Write,
            Ask::Sync(..) => Call::Sync,
            Ask::SyncDir(..) => Call::SyncDir,
            Ask::Allocate(..) => Call::Allocate,
            Ask::Truncate(..) => Call::Truncate,
            Ask::List(_) | Ask::Length(_) => Call::Look,
            Ask::Space(_) => Call::Space,
        }
    }

    /// The path that it names, for people.
    #[must_use]
    pub fn path(&self) -> Option<&PathBuf> {
        match self {
            Ask::Open(path, _)
            | Ask::Lock(path)
            | Ask::Remove(path)
            | Ask::Rename(path, _)
            | Ask::List(path)
            | Ask::MakeDir(path)
            | Ask::Space(path)
            | Ask::SyncDir(path, _) => Some(path),
            _ => None,
        }
    }
}

impl Reply {
    /// Whether it went well, and how many or which.
    #[must_use]
    pub fn outcome(&self) -> (bool, u64) {
        match self {
            Reply::Done(result) => (result.is_ok(), 0),
            Reply::File(result) | Reply::Number(result) => {
                (result.is_ok(), result.as_ref().copied().unwrap_or(0))
            }
            Reply::Space(result) => (result.is_ok(), result.as_ref().map_or(0, |space| space.free)),
            Reply::Names(result) => {
                (result.is_ok(), result.as_ref().map_or(0, |names| names.len() as u64))
            }
            Reply::Read(result, _) | Reply::Written(result, _) => {
                (result.is_ok(), result.as_ref().map_or(0, |&count| count as u64))
            }
        }
    }

    /// What came back, for the trace.
    #[must_use]
    pub fn contents(&self) -> Contents {
        match self {
            Reply::Read(Ok(_), buf) => Contents::of(buf),
            Reply::Names(Ok(entries)) => entries.iter().fold(Contents::NONE, |contents, entry| {
                contents.and(entry.name.as_bytes()).and_number(u64::from(entry.is_dir))
            }),
            Reply::Done(Err(error))
            | Reply::File(Err(error))
            | Reply::Names(Err(error))
            | Reply::Number(Err(error))
            | Reply::Space(Err(error))
            | Reply::Read(Err(error), _)
            | Reply::Written(Err(error), _) => Contents::of(format!("{error:?}").as_bytes()),
            Reply::Space(Ok(space)) => Contents::NONE.and_number(space.total),
            Reply::Done(Ok(()))
            | Reply::File(Ok(_))
            | Reply::Number(Ok(_))
            | Reply::Written(Ok(_), _) => Contents::NONE,
        }
    }
}

impl Machine {
    /// The machine's address on the simulated network.
    #[must_use]
    pub fn address(index: usize) -> IpAddr {
        let low = u8::try_from(index + 1).expect("at most 254 machines");
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, low))
    }

    /// Whether its program is to get stuck for good now; a program that asks does so, which counts as
    /// the fault's doing.
    pub fn gets_stuck(&mut self) -> bool {
        if let Some(cause) = self.sticks {
            self.stuck = self.process;
            self.disk.troubles.bites.count(cause);
        }
        self.sticks.is_some()
    }

    /// It was switched on.
    pub fn power_up(&mut self, now: u64) {
        self.powered = true;
        self.boot += 1;
        self.clock.reboot(now);
        if let Some(cause) = self.dead_battery.take() {
            self.disk.troubles.bites.count(cause);
        }
    }

    /// A request has had to wait for memory. Where that is scarce by a fault, it is the fault's doing.
    pub fn lacks_memory(&mut self) {
        if let Some((cause, _)) = self.request_memory {
            self.disk.troubles.bites.count(cause);
        }
    }

    /// Whether its process lives and does nothing any more.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        self.stuck.is_some() && self.stuck == self.process
    }

    /// When a call that is made at `now` takes effect.
    pub fn effect_at(&mut self, now: u64, ask: &Ask) -> u64 {
        let typical = match ask {
            Ask::Sync(..) | Ask::SyncDir(..) => self.speed.flush,
            _ => self.speed.cached,
        };
        let delay = self.speed.random.delay(typical);
        let under_way = self.calls.values().filter(|call| call.ask.is_some());
        let ends = under_way.map(|call| call.at);
        self.disk.troubles.ends_at(now, delay, ends, &mut self.speed.random)
    }

    /// Makes a call take effect.
    pub fn carry_out(&mut self, ask: Ask) -> Reply {
        let disk = &mut self.disk;
        match ask {
            Ask::Open(path, how) => Reply::File(disk.open(&path, how)),
            Ask::Lock(path) => Reply::File(
                disk.open(&path, Open::Create)
                    .and_then(|ino| disk.lock(ino).map(|()| ino).inspect_err(|_| disk.close(ino))),
            ),
            Ask::Remove(path) => Reply::Done(disk.remove(&path)),
            Ask::Rename(from, to) => Reply::Done(disk.rename(&from, &to)),
            Ask::List(path) => Reply::Names(disk.list(&path)),
            Ask::MakeDir(path) => Reply::Done(disk.make_dir(&path)),
            Ask::SyncDir(path, None) => Reply::Done(disk.sync_dir_begin(&path).map(|_| ())),
            Ask::SyncDir(_, Some(sync)) => Reply::Done(disk.sync_dir_end(sync)),
            Ask::Space(path) => Reply::Space(disk.space(&path)),
            Ask::Read(ino, offset, mut buf) => {
                let result = disk.read(ino, offset, buf.spare());
                if let Ok(count) = result {
                    buf.commit(count);
                }
                Reply::Read(result, buf)
            }
            Ask::Write(ino, offset, bufs) => {
                let parts: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).collect();
                let result = disk.write(ino, offset, &parts);
                while let Some((victim, sector, bytes)) = disk.strays.pop() {
                    let bytes = bytes[..SECTOR].try_into().expect("a sector at least");
                    atlas::overwrite(disk, victim, sector, &bytes);
                }
                Reply::Written(result, bufs)
            }
            Ask::Sync(ino, flush) => Reply::Done(disk.sync_end(ino, &flush)),
            Ask::Allocate(ino, offset, len) => Reply::Done(disk.allocate(ino, offset, len)),
            Ask::Truncate(ino, len) => Reply::Done(disk.truncate(ino, len)),
            Ask::Length(ino) => Reply::Number(disk.tell_length(ino)),
        }
    }
}

impl Speed {
    /// A quick disk, as drawn for one machine: page cache in microseconds, a flush below two
    /// milliseconds.
    #[must_use]
    pub fn drawn(mut random: Stream) -> Self {
        Speed {
            cached: random.within(2_000..30_000),
            flush: random.within(100_000..2_000_000),
            random,
        }
    }
}
