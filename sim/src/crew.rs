//! A crew of worker processes that carry runs out and tell what came of each.
//!
//! A process of its own costs a millisecond and buys this: a run that aborts or hangs takes nobody
//! with it and is a failure like any other; nothing that one run leaves behind in memory reaches
//! the next for long; and two runs of one seed can be compared in processes that share nothing.
//!
//! The parent writes a request a line (`seed size cut`), the worker answers with a line of JSON,
//! an [`Outcome`]. The time that a run may take is the processor's, so that a machine that is
//! suspended or crowded makes nothing hang.
//!
//! A crew that is told to [`Stop`] kills its workers and keeps what it has heard. So does one of whose
//! workers is told to end: the terminal tells all of them at once.

#![allow(clippy::disallowed_methods, reason = "processes and their patience are real")]

use std::io::{BufRead, BufReader, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::outcome::Outcome;
use crate::scenario::{self, BrokerDisk, Failed, Run};

/// After so many runs a worker makes room for a new one.
const RUNS_PER_WORKER: u32 = 500;
/// How often a waiting crew looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// By these signals somebody tells a process to end (SIGINT, SIGTERM); no run can.
const TOLD_TO_END: [i32; 2] = [2, 15];
/// How much of a dead worker's last words is kept, in bytes.
const LAST_WORDS: usize = 2000;

/// How workers are started.
#[derive(Clone, Debug)]
pub struct Crew {
    /// The program, which serves with its argument `work`.
    pub program: PathBuf,
    /// How many at a time.
    pub jobs: usize,
    /// A run that takes more of a processor's time hangs; so does one that takes none for so long.
    pub limit: Duration,
    /// The disks under the brokers of every run.
    pub disk: BrokerDisk,
    /// What ends its work early.
    pub stop: Stop,
}

/// Ends the work of a crew before its time. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// No more.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether that was asked.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The option that puts brokers on disks that lie about flushes.
pub const LYING: &str = "--lying-disk";

/// One worker process.
struct Worker {
    child: Child,
    requests: ChildStdin,
    answers: Receiver<String>,
    last_words: Arc<Mutex<String>>,
    runs: u32,
}

/// Why a run has no outcome.
enum Lost {
    /// It failed, and so.
    Failed(Failed, String),
    /// It was stopped in the middle.
    Stopped,
}

impl Crew {
    /// Carries out `runs`; `hear` is told of each in the order in which they end, and says whether
    /// to go on. `again` says of which runs a second, in a fresh process, must go the same way. Runs
    /// that are stopped in the middle are not told of.
    pub fn work(
        &self,
        runs: impl Iterator<Item = Run> + Send,
        again: impl Fn(&Outcome) -> bool + Sync,
        mut hear: impl FnMut(&Run, Outcome) -> ControlFlow<()>,
    ) {
        let runs = Mutex::new(runs.fuse());
        let (sender, results) = sync_channel(self.jobs.max(1));
        thread::scope(|scope| {
            for _ in 0..self.jobs.max(1) {
                let (sender, runs, again) = (sender.clone(), &runs, &again);
                scope.spawn(move || {
                    let mut worker = None;
                    loop {
                        let run = runs.lock().expect("nobody panics with it").next();
                        let Some(run) = run else { return };
                        let Some(mut outcome) = self.ask(&mut worker, &run) else { return };
                        if again(&outcome) {
                            outcome = self.confirm(&run, outcome);
                            // What failed is told, though it may not have been confirmed.
                            if self.stop.is_asked() && outcome.wrong.is_none() {
                                return;
                            }
                        }
                        // Nobody listens any more: the sweep is over.
                        if sender.send((run, outcome)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for (run, outcome) in &results {
                if hear(&run, outcome).is_break() {
                    break;
                }
            }
            drop(results);
        });
    }

    /// Carries out one run in a fresh process.
    #[must_use]
    pub fn alone(&self, run: &Run) -> Outcome {
        let stopped = || Outcome::silent(run, Failed::Panic, "it was told to end".to_owned());
        self.ask(&mut None, run).unwrap_or_else(stopped)
    }

    /// Runs once more in a fresh process; what comes back is the first outcome, or that the two
    /// differ and where. The first, too, if the crew is stopped.
    #[must_use]
    pub fn confirm(&self, run: &Run, first: Outcome) -> Outcome {
        let Some(second) = self.ask(&mut None, run) else { return first };
        if first.agrees(&second) || first.hung() {
            return first;
        }
        if second.hung() {
            return second;
        }
        let place = self.divergence(run);
        let (first, second) = (ended(&first), ended(&second));
        let text = format!("one run {first}, another {second}\n{place}");
        let mut differs = Outcome::silent(run, Failed::Determinism, text);
        differs.wrong.as_mut().expect("just given").found_by = vec!["digest".to_owned()];
        differs
    }

    fn options(&self) -> &'static [&'static str] {
        match self.disk {
            BrokerDisk::Honest => &[],
            BrokerDisk::Lying => &[LYING],
        }
    }

    /// Looks for the first event in which two runs of one seed differ, each in a process of its own.
    fn divergence(&self, run: &Run) -> String {
        // A run that went two ways need not do so the next time.
        const ATTEMPTS: usize = 8;
        let trace = || {
            let mut command = Command::new(&self.program);
            command.args(["replay", &run.seed.to_string(), "--size", &run.size.to_string()]);
            command.args(self.options());
            command.args(["--trace", "--once", "--without", &run.cut.to_string()]);
            let output = command.stdin(Stdio::null()).output();
            output.map(|output| String::from_utf8_lossy(&output.stderr).into_owned())
        };
        let Ok(one) = trace() else { return "the trace cannot be had".to_owned() };
        for _ in 0..ATTEMPTS {
            let Ok(other) = trace() else { return "the trace cannot be had".to_owned() };
            let found = crate::tape::divergence(one.lines(), other.lines());
            if let Some((line, a, b)) = found {
                let text = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
                let (a, b) = (text(a), text(b));
                return format!("the first event that differs is number {line}:\n  {a}\n  {b}");
            }
        }
        format!("{ATTEMPTS} further pairs of runs did not differ")
    }

    /// What comes of a run; none if it is stopped.
    fn ask(&self, place: &mut Option<Worker>, run: &Run) -> Option<Outcome> {
        if self.stop.is_asked() {
            return None;
        }
        let mut worker = match place.take() {
            Some(worker) if worker.runs < RUNS_PER_WORKER => worker,
            _ => match Worker::start(self) {
                Ok(worker) => worker,
                Err(error) => {
                    let text = format!("cannot start {}: {error}", self.program.display());
                    return Some(Outcome::silent(run, Failed::Panic, text));
                }
            },
        };
        match worker.ask(run, self.limit, &self.stop) {
            Ok(outcome) => {
                *place = Some(worker);
                Some(outcome)
            }
            Err(Lost::Failed(how, text)) => Some(Outcome::silent(run, how, text)),
            Err(Lost::Stopped) => None,
        }
    }
}

/// How a run ended, for comparing it with another.
fn ended(outcome: &Outcome) -> String {
    let digest = outcome.digest.as_deref().unwrap_or("no hash");
    let how = match &outcome.wrong {
        Some(wrong) => format!("failed ({})", wrong.text.trim_end()),
        None => "passed".to_owned(),
    };
    format!("{how} with {digest} over {} events", outcome.events)
}

impl Worker {
    fn start(crew: &Crew) -> std::io::Result<Worker> {
        let mut command = Command::new(&crew.program);
        command.arg("work").args(crew.options());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let requests = child.stdin.take().expect("just piped");
        let stdout = child.stdout.take().expect("just piped");
        let mut stderr = child.stderr.take().expect("just piped");
        let (sender, answers) = sync_channel(1);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let last_words = Arc::<Mutex<String>>::default();
        let words = Arc::clone(&last_words);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                let mut words = words.lock().expect("nobody panics with it");
                words.push_str(&String::from_utf8_lossy(&bytes[..count]));
                let most = words.len().saturating_sub(LAST_WORDS);
                let cut = (most..=words.len()).find(|&at| words.is_char_boundary(at));
                words.drain(..cut.unwrap_or(0));
            }
        });
        Ok(Worker { child, requests, answers, last_words, runs: 0 })
    }

    /// Has one run carried out.
    ///
    /// # Errors
    /// The run hangs, or the process has died of it, or has been told to.
    fn ask(&mut self, run: &Run, limit: Duration, stop: &Stop) -> Result<Outcome, Lost> {
        self.runs += 1;
        let sent = writeln!(self.requests, "{} {} {}", run.seed, run.size, run.cut);
        let answer = match sent {
            Ok(()) => self.hear(limit, stop),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        let broken = |text: String| Lost::Failed(Failed::Panic, text);
        match answer {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| broken(format!("not an outcome ({error}): {line}"))),
            Err(_) if stop.is_asked() => Err(Lost::Stopped),
            Err(RecvTimeoutError::Timeout) => {
                let text = format!("no end after {} s of a processor's time", limit.as_secs());
                Err(Lost::Failed(Failed::Liveness, text))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait();
                let signal = status.as_ref().ok().and_then(|status| status.signal());
                if signal.is_some_and(|signal| TOLD_TO_END.contains(&signal)) {
                    stop.ask();
                    return Err(Lost::Stopped);
                }
                let status = status.map_or_else(|e| e.to_string(), |s| s.to_string());
                let words = self.last_words.lock().expect("nobody panics with it").clone();
                Err(broken(format!("the process ended with {status}\n{words}")))
            }
        }
    }
}

impl Worker {
    /// Waits for an answer while the worker gets on and has not used up its time, and the crew is not
    /// to stop.
    fn hear(&self, limit: Duration, stop: &Stop) -> Result<String, RecvTimeoutError> {
        let begun = self.used();
        let mut before = begun;
        let mut waited = Duration::ZERO;
        loop {
            let heard = self.answers.recv_timeout(LOOK_EVERY.min(limit));
            if heard != Err(RecvTimeoutError::Timeout) || stop.is_asked() {
                return heard;
            }
            waited += LOOK_EVERY;
            if waited < limit {
                continue;
            }
            let now = self.used();
            if now == before || now.saturating_sub(begun) >= limit {
                return heard;
            }
            (before, waited) = (now, Duration::ZERO);
        }
    }

    /// The processor's time that the worker has used.
    fn used(&self) -> Duration {
        // Fields 14 and 15 of `proc(5)`, in hundredths of a second, counted behind the name, which
        // may hold spaces.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default().split(' ').skip(12).take(2);
        let ticks = fields.filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
        Duration::from_millis(10 * ticks)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Serves as a worker: answers each request on standard input, until there are no more.
///
/// # Errors
/// Those of standard input and output, and what is not a request.
pub fn serve(disk: BrokerDisk) -> Result<(), String> {
    // A seed that panics is an outcome, which carries the text; it need not be printed, too.
    crate::panicked::hush();
    for line in std::io::stdin().lines() {
        let line = line.map_err(|error| error.to_string())?;
        let mut parts = line.splitn(3, ' ');
        let mut part = || parts.next().unwrap_or_default();
        let seed = part().parse().map_err(|_| format!("not a request: {line}"))?;
        let (size, cut) = (part().parse()?, part().parse()?);
        let run = Run { cut, ..Run::new(seed, size) };
        let begun = Instant::now();
        let result = scenario::run_on(disk, &run);
        let outcome = Outcome::of(&result, begun.elapsed()).on(disk);
        let answer = serde_json::to_string(&outcome).expect("plain data");
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{answer}").map_err(|error| error.to_string())?;
    }
    Ok(())
}
