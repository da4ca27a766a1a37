//! How a broker is, in a status and a few lines of text.
//!
//! *Started* when it listens and every core has opened its logs. *Ready* when it has started and
//! is not stopping; a broker without room for records or with a log offline stays ready, because
//! its other partitions, and everybody who reads, commits or deletes, are served as before. *Live*
//! as long as every core takes its turns: anything less only a restart can mend.

use std::fmt::Write as _;

use super::http::Status;
use crate::broker::room::Level;
use crate::broker::{Core, Shared};
use crate::io::Io;
use crate::limit::SILENCE_MAX;
use crate::probe::{self, Probe};

/// How far the start of a broker has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// It listens: its metadata are there.
    pub listens: bool,
    /// Cores whose logs are all open, or offline.
    pub cores_done: usize,
    /// Logs to be opened, as far as they have been counted.
    pub logs: u64,
    /// How many of them are open or offline.
    pub logs_opened: u64,
    /// How many of those had to be recovered.
    pub logs_recovered: u64,
    /// Bytes looked at for that.
    pub recovered_bytes: u64,
}

/// How far the start of `shared` has come.
pub fn start<I: Io>(shared: &Shared<I>) -> Start {
    let mut start = Start { listens: shared.was_listening(), ..Start::default() };
    for tally in &shared.tallies {
        let (counted, opened) = (tally.logs_to_open.get(), tally.logs_opened.get());
        start.logs += counted.saturating_sub(1);
        start.logs_opened += opened;
        start.cores_done += usize::from(counted > 0 && opened + 1 >= counted);
        start.logs_recovered += tally.logs_recovered.get();
        start.recovered_bytes += tally.recovered_bytes.get();
    }
    start
}

impl Start {
    /// Whether a broker of `cores` cores has started.
    pub fn is_over(&self, cores: usize) -> bool {
        self.listens && self.cores_done == cores
    }
}

/// `/startupz`.
pub fn started<I: Io>(core: &Core<I>) -> (Status, String) {
    let start = start(&core.shared);
    let over = start.is_over(core.shared.tallies.len());
    let mut text = String::new();
    let _ = match (over, start.listens) {
        (true, _) => writeln!(text, "started"),
        (false, true) => writeln!(text, "starting: opening logs"),
        (false, false) => writeln!(text, "starting: reading the cluster's metadata"),
    };
    let Start { logs, logs_opened, logs_recovered, recovered_bytes, .. } = start;
    let _ = writeln!(text, "logs: {logs_opened} of {logs} opened");
    let _ = writeln!(text, "recovery: {logs_recovered} logs, {recovered_bytes} bytes read");
    (if over { Status::Ok } else { Status::Unavailable }, text)
}

/// `/readyz`.
pub fn ready<I: Io>(core: &Core<I>) -> (Status, String) {
    let shared = &core.shared;
    if *shared.stop.borrow() {
        return (Status::Unavailable, "stopping\n".to_owned());
    }
    let start = start(shared);
    if !start.is_over(shared.tallies.len()) {
        probe::hit(Probe::AdminWhileStarting);
        let (_, text) = started(core);
        return (Status::Unavailable, format!("not ready\n{text}"));
    }
    let mut text = "ready\n".to_owned();
    let failed = shared.gauges.read().iter().filter(|reading| reading.failed).count();
    let waiting: u64 = shared.tallies.iter().map(|tally| tally.logs_offline.get()).sum();
    let offline = waiting + failed as u64;
    if offline > 0 {
        let _ = writeln!(
            text,
            "warning: {offline} partitions are offline, their logs cannot be used; the \
            broker's log names them"
        );
    }
    let free = shared.room.free().map_or("?".to_owned(), |free| free.to_string());
    let _ = match shared.room.level() {
        Level::Plenty => Ok(()),
        Level::Little => writeln!(
            text,
            "warning: the disk is nearly full, {free} bytes are free; \
            producers are refused below {}",
            core.marks().min
        ),
        Level::None => writeln!(
            text,
            "error: the disk is full, {free} bytes are free; producers \
            are refused until there are more than {}, everything else goes on",
            core.marks().min
        ),
    };
    (Status::Ok, text)
}

/// `/livez`.
pub fn live<I: Io>(core: &Core<I>) -> (Status, String) {
    let now = core.io.now().0;
    let silent = core.shared.tallies.iter().enumerate().filter_map(|(number, tally)| {
        // A core that has not had its first turn is starting.
        let turn_at = Some(tally.turn_at.get()).filter(|at| *at > 0)?;
        let silent = std::time::Duration::from_nanos(now.saturating_sub(turn_at));
        (silent >= SILENCE_MAX).then_some((number, silent))
    });
    let silent: Vec<_> = silent.collect();
    if silent.is_empty() {
        return (Status::Ok, "live\n".to_owned());
    }
    let mut text = "not live\n".to_owned();
    for (number, silent) in silent {
        let _ = writeln!(text, "core {number} has not had a turn for {} s", silent.as_secs());
    }
    (Status::Unavailable, text)
}
