//! The world of one run: every machine, the network, the agenda and the trace.
//!
//! [`World`] is the shared handle; all of it lives behind one lock that is never held across an
//! await, and one thread runs it. Tasks of simulated processes enter it through `io::SimIo` only.
//! The driver ([`World::drive`]) makes things happen when they are due.
//!
//! What it keeps: nothing that a dead process still does (its destructors included) has an effect,
//! since every way in names the process and is refused once that is over.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use madsim::time::TimeHandle;
use trialog_engine::io::{Instant, Wall};

use crate::agenda::{Agenda, Due};
use crate::cause::{Bites, Cause, Turn};
use crate::clock::Clock;
use crate::contents::Contents;
use crate::disk::{Call, Disk, Ino};
use crate::machine::{Ask, Crash, Machine, Pending, Reply, Speed};
use crate::net::{Around, Net, Tuning};
use crate::seed::{Seed, Stream};
use crate::tape::{Entry, Tape, What};
use crate::trace::{Digest, Event, Trace, Watcher};

/// How often the tape is told of the disks, in simulated nanoseconds.
const DISKS_EVERY: u64 = 50_000_000;

/// A handle to the world. Clones share it.
#[derive(Clone)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    time: TimeHandle,
}

/// What is behind the lock.
pub(crate) struct Inner {
    pub(crate) seed: Seed,
    pub(crate) machines: Vec<Machine>,
    pub(crate) net: Net,
    pub(crate) agenda: Agenda,
    pub(crate) trace: Trace,
    timers: BTreeMap<u64, Timer>,
    numbered: u64,
    processes: u64,
    /// Traps that have sprung, with their machines.
    sprung: Vec<(usize, Cause)>,
    /// Processes that ended by themselves.
    exits: Vec<usize>,
    judge: Option<Waker>,
    /// When the disks are looked at again, for the tape.
    disks_due: u64,
}

/// What [`World::judgement`] waits for.
#[derive(Debug, Default)]
pub struct Judgement {
    /// Machines that are to crash now, and the fault that wants it.
    pub sprung: Vec<(usize, Cause)>,
    /// Machines whose process ended by itself.
    pub exits: Vec<usize>,
}

struct Timer {
    key: (u64, u64),
    over: bool,
    waker: Option<Waker>,
}

/// Who calls: one incarnation of one machine's program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its machine.
    pub machine: usize,
    /// Its number over the whole run.
    pub number: u64,
}

impl World {
    /// An empty world, on the clock of the madsim runtime that `time` belongs to.
    #[must_use]
    pub fn new(seed: Seed, time: TimeHandle, watcher: Watcher) -> Self {
        let mut random = seed.stream("network", 0);
        let tuning = Tuning::drawn(&mut random);
        let trace = Trace::new(watcher);
        let bites = bites(trace.tape(), &time);
        let inner = Inner {
            seed,
            machines: Vec::new(),
            net: Net::new(tuning, seed.stream("links", 0), random).count_into(bites),
            agenda: Agenda::default(),
            trace,
            timers: BTreeMap::new(),
            numbered: 0,
            processes: 0,
            sprung: Vec::new(),
            exits: Vec::new(),
            judge: None,
            disks_due: 0,
        };
        World { inner: Arc::new(Mutex::new(inner)), time }
    }

    /// True time in nanoseconds since the run began.
    #[must_use]
    pub fn now(&self) -> u64 {
        crate::seed::nanos(self.time.elapsed())
    }

    /// Adds a machine, switched on and without a process, and returns its number.
    #[must_use]
    pub fn add_machine(&self, name: &str, disk_bytes: u64) -> usize {
        let now = self.now();
        let mut inner = self.lock();
        let index = inner.machines.len();
        let bites = bites(inner.trace.tape(), &self.time);
        let stream = |concern| inner.seed.stream(concern, index as u64);
        let mut clock = stream("clock");
        let (offset_ms, drift) =
            (clock.below(2_000) as i64 - 1_000, clock.below(200_000) as i64 - 100_000);
        let machine = Machine {
            name: name.to_owned(),
            process: None,
            exited: false,
            powered: true,
            boot: 1,
            clock: Clock::new(now, offset_ms, drift),
            disk: Disk::new(disk_bytes, stream("disk")),
            speed: Speed::drawn(stream("disk speed")),
            random: Stream::new(0),
            calls: BTreeMap::new(),
            calls_made: 0,
            traps: Vec::new(),
            told_to_stop: false,
            stop_wakers: Vec::new(),
            sticks: None,
            stuck: None,
            request_memory: None,
            dead_battery: None,
        };
        inner.machines.push(machine);
        let contents = Contents::of(name.as_bytes());
        inner.trace.note_with(now, Event::Machine, &[index as u64], contents);
        inner.machines[index].disk.troubles.bites = bites;
        if let Some(tape) = inner.trace.tape() {
            tape.add(Entry { at: now, what: What::Machine { name: name.into() } });
        }
        index
    }

    /// Starts a process on a machine that has none; switches the machine on if it is off.
    #[must_use]
    pub fn boot(&self, machine: usize) -> Process {
        let now = self.now();
        let mut inner = self.lock();
        inner.processes += 1;
        let number = inner.processes;
        let random = inner.seed.stream("io random", number << 16 | machine as u64);
        let host = &mut inner.machines[machine];
        assert!(host.process.is_none(), "one process per machine");
        if !host.powered {
            host.power_up(now);
        }
        host.process = Some(number);
        host.exited = false;
        host.told_to_stop = false;
        host.random = random;
        inner.trace.note(now, Event::Boot, &[machine as u64, number]);
        Process { machine, number }
    }

    /// Ends a machine's process, if it has one, and its power if that is how it ends.
    pub fn crash(&self, machine: usize, crash: Crash) {
        let now = self.now();
        self.lock().crash(now, machine, crash);
    }

    /// A machine's process has ended by itself.
    pub(crate) fn exited(&self, machine: usize) {
        let now = self.now();
        let mut inner = self.lock();
        inner.crash(now, machine, Crash::Kill);
        inner.machines[machine].exited = true;
        inner.exits.push(machine);
        inner.wake_judge();
    }

    /// Waits for processes that ended by themselves and for traps that a disk call has sprung.
    pub async fn judgement(&self) -> Judgement {
        poll_fn(|cx| {
            let mut inner = self.lock();
            if inner.sprung.is_empty() && inner.exits.is_empty() {
                inner.judge = Some(cx.waker().clone());
                return Poll::Pending;
            }
            let sprung = std::mem::take(&mut inner.sprung);
            Poll::Ready(Judgement { sprung, exits: std::mem::take(&mut inner.exits) })
        })
        .await
    }

    /// Whether this process still runs.
    #[must_use]
    pub fn is_alive(&self, process: Process) -> bool {
        self.lock().is_alive(process)
    }

    /// Looks at one machine, or changes it (to inject a fault, say).
    pub fn machine<T>(&self, machine: usize, look: impl FnOnce(&mut Machine) -> T) -> T {
        look(&mut self.lock().machines[machine])
    }

    /// Looks at the network, or changes it.
    pub fn net<T>(&self, look: impl FnOnce(&mut Net) -> T) -> T {
        look(&mut self.lock().net)
    }

    /// As [`World::net`], with the rest of the world at hand.
    pub(crate) fn around<T>(&self, look: impl FnOnce(&mut Net, &mut Around<'_>) -> T) -> T {
        let now = self.now();
        self.lock().around(now, look)
    }

    /// Takes an event into the trace.
    pub fn note(&self, event: Event, facts: &[u64]) {
        let now = self.now();
        self.lock().trace.note(now, event, facts);
    }

    /// Takes an event into the trace together with what it is about.
    pub fn note_with(&self, event: Event, facts: &[u64], contents: Contents) {
        let now = self.now();
        self.lock().trace.note_with(now, event, facts, contents);
    }

    /// The same with a text, which whoever watches is told.
    pub fn note_text(&self, event: Event, facts: &[u64], text: &str) {
        let now = self.now();
        let mut inner = self.lock();
        inner.trace.note_with(now, event, facts, Contents::of(text.as_bytes()));
        inner.trace.say(now, format_args!("{text}"));
    }

    /// Whether anybody watches: texts for [`World::say`] need not be made otherwise.
    #[must_use]
    pub fn is_watched(&self) -> bool {
        self.lock().trace.is_watched()
    }

    /// Tells `text` to whoever watches.
    pub fn say(&self, text: &str) {
        let now = self.now();
        self.lock().trace.say(now, format_args!("{text}"));
    }

    /// Tells the tape, if there is one, what a fault does.
    pub fn tell(&self, cause: Cause, turn: Turn) {
        let at = self.now();
        if let Some(tape) = self.lock().trace.tape() {
            tape.add(Entry { at, what: What::Fault { cause, turn } });
        }
    }

    /// The hash so far.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.lock().trace.digest()
    }

    /// Tells a machine's process to stop, as an operator does.
    pub fn tell_to_stop(&self, machine: usize) {
        let now = self.now();
        let mut inner = self.lock();
        inner.trace.note(now, Event::Stop, &[machine as u64]);
        let host = &mut inner.machines[machine];
        host.told_to_stop = true;
        host.stop_wakers.drain(..).for_each(Waker::wake);
    }

    /// Makes things happen when they are due, for ever.
    pub async fn drive(self) {
        poll_fn(|cx| self.drive_once(cx)).await
    }

    /// Forgets all that is to come; for the end of a run.
    pub fn finish(&self) {
        let mut inner = self.lock();
        inner.agenda.clear();
        inner.timers.clear();
        inner.judge = None;
    }

    fn drive_once(&self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = self.now();
            let mut inner = self.lock();
            while let Some(due) = inner.agenda.pop(now) {
                inner.happen(now, due);
            }
            inner.look_at_disks(now);
            let Some(next) = inner.agenda.arm(now, cx.waker()) else { return Poll::Pending };
            drop(inner);
            let mut sleep = std::pin::pin!(self.time.sleep(Duration::ZERO));
            let deadline = self.time.now_instant() + Duration::from_nanos(next.saturating_sub(now));
            sleep.as_mut().reset(deadline);
            // Polled once it has left a timer behind that wakes this task; that is all we want.
            if std::future::Future::poll(sleep, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere ends the run anyway; destructors on the way out may still come here.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What tasks of a process ask. Each is refused (`None`, or nothing happens) once it is dead.
impl World {
    pub(crate) fn monotonic(&self, process: Process) -> Instant {
        let now = self.now();
        let mut inner = self.lock();
        let shown = inner.machines[process.machine].clock.monotonic(now);
        if inner.is_alive(process) {
            inner.trace.note_clock(shown.0);
        }
        shown
    }

    pub(crate) fn wall(&self, process: Process) -> Wall {
        let now = self.now();
        let mut inner = self.lock();
        let shown = inner.machines[process.machine].clock.wall(now);
        if inner.is_alive(process) {
            inner.trace.note_clock(shown.0 as u64);
        }
        shown
    }

    pub(crate) fn random(&self, process: Process) -> u64 {
        let now = self.now();
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return 0;
        }
        let Process { machine, number } = process;
        let drawn = inner.machines[machine].random.bits();
        inner.trace.note(now, Event::Random, &[machine as u64, number, drawn]);
        drawn
    }

    /// Whether this process has been told to stop; if not, it is woken when it is.
    pub(crate) fn told_to_stop(&self, process: Process, waker: &Waker) -> bool {
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return false;
        }
        let host = &mut inner.machines[process.machine];
        if !host.told_to_stop && !host.stop_wakers.iter().any(|known| known.will_wake(waker)) {
            host.stop_wakers.push(waker.clone());
        }
        host.told_to_stop
    }

    pub(crate) fn timer_start(&self, process: Process, duration: Duration) -> Option<u64> {
        let now = self.now();
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return None;
        }
        let clock = inner.machines[process.machine].clock;
        // A program that sleeps for ever is woken after a century.
        let nanos = crate::seed::nanos(duration).min(100 * 365 * 86_400 * 1_000_000_000);
        inner.numbered += 1;
        let id = inner.numbered;
        let key = inner.agenda.enter(now + clock.true_time(nanos), Due::Timer(id));
        inner.timers.insert(id, Timer { key, over: false, waker: None });
        Some(id)
    }

    pub(crate) fn timer_poll(&self, id: u64, cx: &Context<'_>) -> Poll<()> {
        let mut inner = self.lock();
        match inner.timers.get_mut(&id) {
            Some(timer) if timer.over => {
                inner.timers.remove(&id);
                Poll::Ready(())
            }
            Some(timer) => {
                timer.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    pub(crate) fn timer_stop(&self, id: u64) {
        let mut inner = self.lock();
        if let Some(timer) = inner.timers.remove(&id) {
            inner.agenda.cancel(timer.key);
        }
    }

    pub(crate) fn call_start(&self, process: Process, mut ask: Ask) -> Option<u64> {
        let now = self.now();
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return None;
        }
        inner.numbered += 1;
        let id = inner.numbered;
        let host = &mut inner.machines[process.machine];
        host.calls_made += 1;
        let call = ask.call();
        let mut sprung = Vec::new();
        let sectors = match &ask {
            Ask::Sync(ino, _) if !host.traps.is_empty() => host.disk.sectors_dirty(*ino),
            _ => 0,
        };
        host.traps.retain_mut(|trap| {
            let counts = trap.call.is_none_or(|wanted| wanted == call);
            if counts && (call != Call::Sync || sectors >= trap.sectors_min) {
                trap.left -= 1;
            }
            if trap.left == 0 {
                sprung.push((process.machine, trap.cause));
            }
            trap.left > 0
        });
        if !sprung.is_empty() {
            inner.sprung.append(&mut sprung);
            inner.wake_judge();
        }
        let host = &mut inner.machines[process.machine];
        let file = match &mut ask {
            Ask::SyncDir(path, sync) => {
                // A folder that is not there answers when the call takes effect.
                *sync = host.disk.sync_dir_begin(path).ok();
                None
            }
            Ask::Sync(ino, flush) => {
                *flush = host.disk.sync_begin(*ino);
                Some(*ino)
            }
            Ask::Read(ino, ..)
            | Ask::Write(ino, ..)
            | Ask::Allocate(ino, ..)
            | Ask::Truncate(ino, _)
            | Ask::Length(ino) => Some(*ino),
            _ => None,
        };
        if let Some(ino) = file {
            host.disk.use_file(ino);
        }
        let at = host.effect_at(now, &ask);
        let (facts, contents) = (ask.facts(), ask.contents());
        let pending = Pending {
            locking: matches!(ask, Ask::Lock(_)),
            ask: Some(ask),
            at,
            file,
            reply: None,
            waker: None,
            abandoned: false,
        };
        host.calls.insert(id, pending);
        inner.agenda.enter(at, Due::Disk { machine: process.machine, call: id });
        let facts = [id, facts[0], facts[1], facts[2], process.machine as u64];
        inner.trace.note_with(now, Event::DiskCall, &facts, contents);
        Some(id)
    }

    pub(crate) fn call_poll(&self, process: Process, id: u64, cx: &Context<'_>) -> Poll<Reply> {
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return Poll::Pending;
        }
        let calls = &mut inner.machines[process.machine].calls;
        let pending = calls.get_mut(&id).expect("polled after its end");
        match pending.reply.take() {
            Some(reply) => {
                calls.remove(&id);
                Poll::Ready(reply)
            }
            None => {
                pending.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(crate) fn call_drop(&self, process: Process, id: u64) {
        let mut inner = self.lock();
        if !inner.is_alive(process) {
            return;
        }
        let host = &mut inner.machines[process.machine];
        let Some(pending) = host.calls.get_mut(&id) else { return };
        pending.abandoned = true;
        pending.waker = None;
        if pending.ask.is_none() {
            let pending = host.calls.remove(&id).expect("just seen");
            if let Some(Reply::File(Ok(ino))) = pending.reply {
                if pending.locking {
                    host.disk.unlock(ino);
                }
                host.disk.close(ino);
            }
        }
    }

    pub(crate) fn file_close(&self, process: Process, ino: Ino, locked: bool) {
        let mut inner = self.lock();
        if inner.is_alive(process) {
            let disk = &mut inner.machines[process.machine].disk;
            if locked {
                disk.unlock(ino);
            }
            disk.close(ino);
        }
    }
}

impl Inner {
    /// Keeps the state of the disks on the tape, if there is one, every now and then.
    fn look_at_disks(&mut self, now: u64) {
        let Some(tape) = self.trace.tape() else { return };
        if now < self.disks_due {
            return;
        }
        for (machine, host) in self.machines.iter().enumerate() {
            let (used, dirty) = (host.disk.used(), host.disk.dirty());
            let capacity = used + host.disk.free();
            let what = What::Disk { machine, used, dirty, capacity };
            tape.add(Entry { at: now, what });
        }
        self.disks_due = now + DISKS_EVERY;
    }

    fn wake_judge(&mut self) {
        if let Some(judge) = self.judge.take() {
            judge.wake();
        }
    }

    pub(crate) fn is_alive(&self, process: Process) -> bool {
        self.machines[process.machine].process == Some(process.number)
    }

    pub(crate) fn around<T>(
        &mut self,
        now: u64,
        look: impl FnOnce(&mut Net, &mut Around<'_>) -> T,
    ) -> T {
        let Inner { net, agenda, trace, machines, .. } = self;
        look(net, &mut Around { now, agenda, trace, machines })
    }

    fn happen(&mut self, now: u64, due: Due) {
        match due {
            Due::Timer(id) => {
                if let Some(timer) = self.timers.get_mut(&id) {
                    self.trace.note(now, Event::Timer, &[id]);
                    timer.over = true;
                    if let Some(waker) = timer.waker.take() {
                        waker.wake();
                    }
                }
            }
            Due::Disk { machine, call } => self.call_happens(now, machine, call),
            Due::Net(packet) => self.around(now, |net, around| net.happen(around, packet)),
        }
    }

    fn call_happens(&mut self, now: u64, machine: usize, id: u64) {
        let host = &mut self.machines[machine];
        let Some(pending) = host.calls.get_mut(&id) else { return };
        let ask = pending.ask.take().expect("a call takes effect once");
        let (file, abandoned) = (pending.file, pending.abandoned);
        assert!(host.process.is_some(), "calls end with their process");
        let locking = matches!(ask, Ask::Lock(_));
        let reply = self.take_effect(now, machine, id, ask);
        let host = &mut self.machines[machine];
        if let Some(ino) = file {
            host.disk.close(ino);
        }
        if abandoned {
            host.calls.remove(&id);
            if let Reply::File(Ok(ino)) = reply {
                if locking {
                    host.disk.unlock(ino);
                }
                host.disk.close(ino);
            }
            return;
        }
        let pending = host.calls.get_mut(&id).expect("just seen");
        pending.reply = Some(reply);
        if let Some(waker) = pending.waker.take() {
            waker.wake();
        }
    }

    /// Carries a disk call out.
    fn take_effect(&mut self, now: u64, machine: usize, id: u64, ask: Ask) -> Reply {
        let path = ask.path().filter(|_| self.trace.is_watched()).cloned();
        let reply = self.machines[machine].carry_out(ask);
        let (ok, number) = reply.outcome();
        let facts = [id, u64::from(ok), number];
        self.trace.note_with(now, Event::DiskDone, &facts, reply.contents());
        if let Some(path) = path {
            self.trace.say(now, format_args!("    {}", path.display()));
        }
        reply
    }

    fn crash(&mut self, now: u64, machine: usize, crash: Crash) {
        let Some(number) = self.machines[machine].process.take() else {
            if crash == Crash::PowerLoss && self.machines[machine].powered {
                self.power_off(now, machine);
            }
            return;
        };
        let event = match crash {
            Crash::Kill => Event::Kill,
            Crash::PowerLoss => Event::PowerLoss,
        };
        self.trace.note(now, event, &[machine as u64, number]);
        let host = &mut self.machines[machine];
        host.stop_wakers.clear();
        // What was under way may still take effect, each call for itself.
        for (id, pending) in std::mem::take(&mut host.calls) {
            let host = &mut self.machines[machine];
            // A fault that has a wish for what is not flushed leaves it so.
            let flush = matches!(pending.ask, Some(Ask::Sync(..) | Ask::SyncDir(..)));
            if let Some(ask) = pending.ask
                && host.speed.random.chance(1, 2)
                && !(flush && host.disk.wreck.is_some())
            {
                let _ = self.take_effect(now, machine, id, ask);
            }
        }
        match crash {
            Crash::Kill => {
                self.around(now, |net, around| net.process_death(around, machine, number));
                let kept = self.net.files_under_way(machine);
                self.machines[machine].disk.process_death(kept);
            }
            Crash::PowerLoss => self.power_off(now, machine),
        }
    }

    fn power_off(&mut self, now: u64, machine: usize) {
        self.around(now, |net, around| net.power_loss(around, machine));
        let host = &mut self.machines[machine];
        host.powered = false;
        let damage = host.disk.power_loss();
        let facts = [machine as u64, damage.kept, damage.dropped, damage.garbled];
        self.trace.note(now, Event::DiskCrash, &facts);
    }
}

/// Where faults are counted that touch something: on the tape as well, if there is one.
fn bites(tape: Option<&Tape>, time: &TimeHandle) -> Bites {
    tape.map_or_else(Bites::default, |tape| Bites::taped(tape.clone(), time.clone()))
}

/// Ends when the world's timer `id` does.
pub(crate) struct Sleep {
    world: World,
    id: Option<u64>,
}

impl Sleep {
    pub(crate) fn new(world: World, process: Process, duration: Duration) -> Self {
        let id = world.timer_start(process, duration);
        Sleep { world, id }
    }
}

impl std::future::Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.id.map_or(Poll::Pending, |id| self.world.timer_poll(id, cx))
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.world.timer_stop(id);
        }
    }
}
