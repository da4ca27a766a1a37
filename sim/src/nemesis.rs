//! Carries a fault plan out, counts what really fired, and heals in the end.
//!
//! It runs outside every machine. While the chaos lasts, crashed machines start again after the
//! pause that their fault names, and a process that ends by itself is started again as an init
//! system would. [`Nemesis::heal`] ends act one: every fault is lifted, everything runs, and what
//! a broken disk may have left offline is restarted once, as an operator would.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::disk::{Faults, Fired};
use crate::machine::Crash;
use crate::net::link::{Cause, Hindrance};
use crate::plan::{Fault, Kind, Plan};
use crate::trace::Event;

/// How often each kind of fault fired.
pub type Counts = BTreeMap<Kind, u64>;

/// A process that ended by itself is started again after this long.
const RESTART_PAUSE: Duration = Duration::from_millis(500);

/// The nemesis of one run. Clones share it.
#[derive(Clone)]
pub struct Nemesis {
    cluster: Cluster,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    /// How many faults have come.
    causes: u64,
    capacities: BTreeMap<usize, u64>,
    downtimes: BTreeMap<usize, Duration>,
    /// Crashes that wait for their machine to be up.
    crashes_pending: u64,
    exits: u64,
    healed: bool,
    brokers: Vec<usize>,
    watchers: Vec<Watcher>,
}

/// Is told of broker crashes and restarts.
type Watcher = Arc<dyn Fn(usize, Seen)>;

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A machine's process is gone.
    Crash(Crash),
    /// It starts again.
    Start,
}

impl Nemesis {
    /// A nemesis for a cluster of which `brokers` run brokers.
    #[must_use]
    pub fn new(cluster: Cluster, brokers: Vec<usize>) -> Self {
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "shared with madsim's tasks on one thread"
        )]
        let state = Arc::new(Mutex::new(State { brokers, ..State::default() }));
        let nemesis = Nemesis { cluster, state };
        madsim::task::spawn_local(nemesis.clone().judge());
        nemesis
    }

    /// Tells `watcher` of every crash and every start from now on.
    pub fn watch(&self, watcher: impl Fn(usize, Seen) + 'static) {
        self.with(|state| state.watchers.push(Arc::new(watcher)));
    }

    /// Carries `plan` out; returns after its last fault has come (not: ended).
    pub async fn run(&self, plan: &Plan) {
        let mut passed = Duration::ZERO;
        for planned in &plan.faults {
            self.cluster.pass(planned.at.saturating_sub(passed)).await;
            passed = passed.max(planned.at);
            self.begin(&planned.fault);
        }
    }

    /// Ends every fault and starts everything that is down.
    pub async fn heal(&self) {
        let world = self.cluster.world();
        while self.with(|state| state.crashes_pending > 0) {
            self.cluster.pass(Duration::from_millis(20)).await;
        }
        world.note(Event::Heal, &[]);
        let (capacities, brokers) = self.with(|state| {
            state.healed = true;
            (std::mem::take(&mut state.capacities), state.brokers.clone())
        });
        world.around(|net, around| net.lift_all(around));
        for (machine, capacity) in capacities {
            world.machine(machine, |machine| machine.disk.set_capacity(capacity));
        }
        for machine in 0..self.cluster.size() {
            world.machine(machine, |machine| {
                machine.disk.faults = Faults::default();
                machine.speed.factor = 1;
                machine.speed.stalled_until = 0;
                machine.crash_at_call = None;
            });
        }
        for machine in 0..self.cluster.size() {
            let hurt = world.machine(machine, |machine| {
                let Fired { read_errors, write_errors, sync_errors, full, .. } = machine.disk.fired;
                read_errors + write_errors + sync_errors + full > 0
            });
            if hurt && brokers.contains(&machine) && self.cluster.is_running(machine) {
                self.crash(machine, Crash::Kill);
            }
            self.start(machine);
        }
    }

    /// How often each kind has fired so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = self.with(|state| state.counts.clone());
        let fired = self.cluster.world().disk_faults_fired();
        for (kind, count) in [
            (Kind::ReadError, fired.read_errors),
            (Kind::WriteError, fired.write_errors),
            (Kind::FlushError, fired.sync_errors),
            (Kind::FullDisk, fired.full),
            (Kind::ShortTransfer, fired.short),
        ] {
            if count > 0 {
                counts.insert(kind, count);
            }
        }
        counts
    }

    /// How many processes ended by themselves.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.with(|state| state.exits)
    }

    fn begin(&self, fault: &Fault) {
        let world = self.cluster.world().clone();
        world.note(Event::Fault, &[fault_number(fault)]);
        world.say(&format!("fault: {fault:?}"));
        match *fault {
            Fault::Crash { machine, crash, down } => {
                self.with(|state| state.crashes_pending += 1);
                let nemesis = self.clone();
                madsim::task::spawn_local(async move {
                    nemesis.crash_once_up(machine, crash, down).await;
                    nemesis.with(|state| state.crashes_pending -= 1);
                });
            }
            Fault::CrashAtCall { machine, crash, calls, down } => {
                self.with(|state| state.downtimes.insert(machine, down));
                world.machine(machine, |machine| {
                    machine.crash_at_call = Some((machine.calls_made + calls, crash));
                });
            }
            Fault::SlowDisk { machine, factor, lasting } => {
                self.count(Kind::SlowDisk);
                world.machine(machine, |machine| machine.speed.factor = factor);
                self.after(lasting, move |nemesis| {
                    nemesis.cluster.world().machine(machine, |machine| machine.speed.factor = 1);
                });
            }
            Fault::StalledDisk { machine, lasting } => {
                self.count(Kind::StalledDisk);
                let until = world.now() + crate::seed::nanos(lasting);
                world.machine(machine, |machine| machine.speed.stalled_until = until);
            }
            Fault::FullDisk { machine, room, lasting } => {
                let capacity = world.machine(machine, |machine| {
                    let (used, free) = (machine.disk.used(), machine.disk.free());
                    machine.disk.set_capacity(used + room);
                    used + free
                });
                self.with(|state| *state.capacities.entry(machine).or_insert(capacity));
                self.after(lasting, move |nemesis| {
                    if let Some(capacity) = nemesis.with(|state| state.capacities.remove(&machine))
                    {
                        let world = nemesis.cluster.world();
                        world.machine(machine, |machine| machine.disk.set_capacity(capacity));
                    }
                });
            }
            Fault::ReadErrors { machine, count } => {
                world.machine(machine, |machine| machine.disk.faults.read_errors += count);
            }
            Fault::WriteErrors { machine, count } => {
                world.machine(machine, |machine| machine.disk.faults.write_errors += count);
            }
            Fault::FlushErrors { machine, count } => {
                world.machine(machine, |machine| machine.disk.faults.sync_errors += count);
            }
            Fault::ShortTransfers { machine, per_mille, lasting } => {
                world.machine(machine, |machine| machine.disk.faults.short_per_mille = per_mille);
                self.after(lasting, move |nemesis| {
                    let world = nemesis.cluster.world();
                    world.machine(machine, |machine| machine.disk.faults.short_per_mille = 0);
                });
            }
            Fault::Cut { from, to, lasting } => {
                self.count(Kind::Cut);
                self.hinder(&[(from, to)], lasting, Hindrance::Cut);
            }
            Fault::Partition { one, other, lasting } => {
                self.count(Kind::Partition);
                self.hinder(&[(one, other), (other, one)], lasting, Hindrance::Cut);
            }
            Fault::SlowLink { one, other, factor, lasting } => {
                self.count(Kind::SlowLink);
                self.hinder(&[(one, other), (other, one)], lasting, Hindrance::Slow(factor));
            }
            Fault::LossyLink { one, other, per_mille, lasting } => {
                self.count(Kind::LossyLink);
                self.hinder(&[(one, other), (other, one)], lasting, Hindrance::Lossy(per_mille));
            }
            Fault::Reset { one, other } => {
                for id in world.net(|net| net.connections_between(one, other)) {
                    self.count(Kind::Reset);
                    let cause = self.cause();
                    world.around(|net, around| net.break_connection(around, id, cause));
                }
            }
            Fault::ConnectsHang { from, to, lasting } => {
                self.count(Kind::ConnectsHang);
                self.hinder(&[(from, to)], lasting, Hindrance::Deaf);
            }
            Fault::ConnectsRefused { machine, lasting } => {
                self.count(Kind::ConnectsRefused);
                let all: Vec<_> = (0..self.cluster.size()).map(|from| (from, machine)).collect();
                self.hinder(&all, lasting, Hindrance::Refusing);
            }
            Fault::ClockJump { machine, by_ms } => {
                self.count(Kind::ClockJump);
                world.machine(machine, |machine| machine.clock.jump(by_ms));
            }
            Fault::ClockDrift { machine, drift } => {
                self.count(Kind::ClockDrift);
                let now = world.now();
                world.machine(machine, |machine| machine.clock.set_drift(now, drift));
            }
        }
    }

    /// Carries out the crashes that disk calls set off, and restarts what ended by itself.
    async fn judge(self) {
        loop {
            let judgement = self.cluster.world().judgement().await;
            for (machine, crash) in judgement.crashes {
                if self.cluster.is_running(machine) {
                    self.count_crash(machine, crash, true);
                    self.crash(machine, crash);
                }
                let down = self.with(|state| state.downtimes.get(&machine).copied());
                self.start_after(machine, down.unwrap_or(RESTART_PAUSE));
            }
            for machine in judgement.exits {
                if self.with(|state| state.brokers.contains(&machine)) {
                    self.with(|state| state.exits += 1);
                    self.tell(machine, Seen::Crash(Crash::Kill));
                    self.start_after(machine, RESTART_PAUSE);
                }
            }
        }
    }

    /// Crashes a machine now, or as soon as it runs again. Not one whose program is over.
    async fn crash_once_up(&self, machine: usize, crash: Crash, down: Duration) {
        while !self.cluster.is_running(machine) {
            if !self.with(|state| state.brokers.contains(&machine)) {
                return;
            }
            self.cluster.pass(Duration::from_millis(20)).await;
        }
        self.count_crash(machine, crash, false);
        self.crash(machine, crash);
        self.start_after(machine, down);
    }

    fn crash(&self, machine: usize, crash: Crash) {
        self.cluster.crash(machine, crash);
        self.tell(machine, Seen::Crash(crash));
    }

    fn start(&self, machine: usize) {
        let finished = !self.with(|state| state.brokers.contains(&machine))
            && self.cluster.has_exited(machine);
        if !self.cluster.is_running(machine) && !finished {
            self.tell(machine, Seen::Start);
            self.cluster.start(machine);
        }
    }

    fn start_after(&self, machine: usize, down: Duration) {
        let nemesis = self.clone();
        madsim::task::spawn_local(async move {
            nemesis.cluster.pass(down).await;
            nemesis.start(machine);
        });
    }

    /// Runs `undo` after `lasting`, unless everything has been healed by then.
    fn after(&self, lasting: Duration, undo: impl FnOnce(&Nemesis) + 'static) {
        let nemesis = self.clone();
        madsim::task::spawn_local(async move {
            nemesis.cluster.pass(lasting).await;
            if !nemesis.with(|state| state.healed) {
                undo(&nemesis);
            }
        });
    }

    /// Hinders links for a while.
    fn hinder(&self, between: &[(usize, usize)], lasting: Duration, hindrance: Hindrance) {
        let cause = self.cause();
        self.cluster.world().net(|net| {
            for &(from, to) in between {
                net.hinder(from, to, cause, hindrance);
            }
        });
        self.after(lasting, move |nemesis| {
            nemesis.cluster.world().around(|net, around| net.lift(around, cause));
        });
    }

    fn cause(&self) -> Cause {
        self.with(|state| {
            state.causes += 1;
            Cause(state.causes)
        })
    }

    fn count_crash(&self, machine: usize, crash: Crash, at_call: bool) {
        let broker = self.with(|state| state.brokers.contains(&machine));
        self.count(match (broker, crash, at_call) {
            (false, ..) => Kind::ClientCrash,
            (_, Crash::Kill, false) => Kind::Kill,
            (_, Crash::Kill, true) => Kind::KillAtCall,
            (_, Crash::PowerLoss, false) => Kind::PowerLoss,
            (_, Crash::PowerLoss, true) => Kind::PowerLossAtCall,
        });
    }

    fn count(&self, kind: Kind) {
        self.with(|state| *state.counts.entry(kind).or_default() += 1);
    }

    fn tell(&self, machine: usize, seen: Seen) {
        let watchers = self.with(|state| state.watchers.clone());
        watchers.iter().for_each(|watcher| watcher(machine, seen));
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("nobody panics with it"))
    }
}

/// A number for the trace.
fn fault_number(fault: &Fault) -> u64 {
    let text = format!("{fault:?}");
    text.bytes().fold(17, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
