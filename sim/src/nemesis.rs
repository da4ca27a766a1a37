//! Carries a fault plan out, counts what really fired, and heals in the end.
//!
//! It runs outside every machine. While the chaos lasts, crashed machines start again after the
//! pause that their fault names, and a process that ends by itself is started again as an init
//! system would. [`Nemesis::heal`] ends act one: every fault is lifted, silent damage is mended as
//! if from a good copy, everything runs, and what a broken disk may have left offline is restarted
//! once, as an operator would.
//!
//! A fault fires when it touches something: a cut that no packet met, or rot that found no file,
//! does not count. The tape is told what each fault does, and when ([`Turn`]).
//!
//! What is lost for good stays so: a machine that is gone or cut off, a program that got stuck.
//! [`Nemesis::is_lost`] says of whom nothing can be expected.

mod carry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cause::{Cause, Turn};
use crate::cluster::Cluster;
use crate::disk::{Call, Damage, Wreck};
use crate::machine::{Crash, Machine};
use crate::plan::{Kind, Plan};
use crate::trace::Event;

/// How often each kind of fault fired. Kinds that did not are absent.
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
    /// What was counted as it happened.
    counts: Counts,
    /// The kind of each fault so far.
    kinds: Vec<Kind>,
    /// How many faults have come.
    came: usize,
    traps: BTreeMap<Cause, Sprung>,
    /// Which faults keep each machine's process from going on.
    paused: BTreeMap<usize, BTreeSet<Cause>>,
    /// Which machines each fault has brought down that have not started again.
    down: BTreeMap<Cause, BTreeSet<usize>>,
    /// Faults in several steps that are still crashing something.
    crashing: u64,
    /// Machines that nobody starts again.
    gone: BTreeSet<usize>,
    /// Machines that nobody reaches again, each with the fault that keeps it so.
    cut_off: BTreeMap<usize, Cause>,
    exits: u64,
    healed: bool,
    brokers: Vec<usize>,
    watchers: Vec<Watcher>,
}

/// What a trap does when it springs.
#[derive(Clone, Copy)]
struct Sprung {
    crash: Crash,
    call: Option<Call>,
    wreck: Option<Wreck>,
    down: Duration,
}

/// Is told when the process of a machine ends, and when it starts again.
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
        nemesis.cluster.spawn(nemesis.clone().judge());
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
            let rest = planned.at.saturating_sub(passed);
            // What comes at the very beginning comes before anything runs.
            if !rest.is_zero() {
                self.cluster.pass(rest).await;
            }
            passed = passed.max(planned.at);
            self.begin(planned.kind, &planned.fault);
        }
    }

    /// Ends every fault and starts everything that is down, but for what is lost for good.
    pub async fn heal(&self) {
        let world = self.cluster.world();
        while self.with(|state| state.crashing > 0) {
            self.cluster.pass(Duration::from_millis(20)).await;
        }
        world.note(Event::Heal, &[]);
        let (brokers, cut_off) = self.with(|state| {
            state.healed = true;
            state.paused.clear();
            let cut_off: BTreeSet<Cause> = state.cut_off.values().copied().collect();
            (state.brokers.clone(), cut_off)
        });
        world.around(|net, around| net.lift_all_but(around, &cut_off));
        for machine in 0..self.cluster.size() {
            self.cluster.resume(machine);
            let hurt = world.machine(machine, |machine| {
                machine.traps.clear();
                machine.disk.mend();
                std::mem::take(&mut machine.disk.hurt)
            });
            if hurt && brokers.contains(&machine) && self.cluster.is_running(machine) {
                self.crash(machine, Crash::Kill);
            }
            self.start(machine);
        }
    }

    /// Whether nothing can be expected of a machine any more, whatever heals.
    #[must_use]
    pub fn is_lost(&self, machine: usize) -> bool {
        let unreachable = self
            .with(|state| state.gone.contains(&machine) || state.cut_off.contains_key(&machine));
        unreachable || self.cluster.world().machine(machine, |machine| machine.is_stuck())
    }

    /// How often each kind has fired so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let (mut counts, kinds) = self.with(|state| (state.counts.clone(), state.kinds.clone()));
        let world = self.cluster.world();
        let mut damage = Damage::default();
        for machine in 0..self.cluster.size() {
            damage += world.machine(machine, |machine| machine.disk.damage);
        }
        for (number, kind) in kinds.iter().enumerate() {
            let cause = Cause(number as u64);
            let met = |machine: &mut Machine| machine.disk.troubles.bites.of(cause) > 0;
            let bitten = world.net(|net| net.bites().of(cause)) > 0
                || (0..self.cluster.size()).any(|machine| world.machine(machine, met));
            *counts.entry(*kind).or_default() += u64::from(bitten);
        }
        for (kind, count) in [
            (Kind::LostWrite, damage.lost),
            (Kind::KeptFirst, damage.first),
            (Kind::KeptLast, damage.last),
            (Kind::KeptMiddle, damage.middle),
            (Kind::LostMiddle, damage.hole),
            (Kind::Scattered, damage.scattered),
            (Kind::Garbage, damage.garbled),
            (Kind::LostName, damage.names.creations),
            (Kind::LostRename, damage.names.renames),
            (Kind::LostRemoval, damage.names.removals),
            (Kind::LostTruncate, damage.uncut),
            (Kind::LengthWithoutData, damage.length_only),
        ] {
            counts.insert(kind, count);
        }
        counts.retain(|_, count| *count > 0);
        counts
    }

    /// How many processes ended by themselves.
    #[must_use]
    pub fn exits(&self) -> u64 {
        self.with(|state| state.exits)
    }

    /// Carries out the crashes that disk calls set off, and restarts what ended by itself.
    async fn judge(self) {
        loop {
            let judgement = self.cluster.world().judgement().await;
            for (machine, cause) in judgement.sprung {
                let sprung = self.with(|state| state.traps[&cause]);
                if self.cluster.is_running(machine) {
                    self.count(match (sprung.crash, sprung.call) {
                        (Crash::Kill, Some(Call::Write)) => Kind::KillAtWrite,
                        (Crash::Kill, _) => Kind::KillAtCall,
                        (Crash::PowerLoss, Some(Call::Sync)) => Kind::PowerLossAtFlush,
                        (Crash::PowerLoss, _) => Kind::PowerLossAtCall,
                    });
                    let world = self.cluster.world();
                    world.machine(machine, |machine| machine.disk.wreck = sprung.wreck);
                    self.bring_down(machine, cause);
                    self.crash(machine, sprung.crash);
                }
                self.start_after(machine, sprung.down);
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

    fn crash(&self, machine: usize, crash: Crash) {
        // What does not run is not kept from running.
        let paused = self.with(|state| state.paused.get(&machine).cloned());
        self.ends(paused.into_iter().flatten());
        self.cluster.crash(machine, crash);
        self.tell(machine, Seen::Crash(crash));
    }

    fn start(&self, machine: usize) {
        let gone = self.with(|state| state.gone.contains(&machine));
        if !self.cluster.is_running(machine) && !self.has_finished(machine) && !gone {
            let over: Vec<Cause> = self.with(|state| {
                state.paused.remove(&machine);
                let started = |(cause, machines): (&Cause, &mut BTreeSet<usize>)| {
                    (machines.remove(&machine) && machines.is_empty()).then_some(*cause)
                };
                state.down.iter_mut().filter_map(started).collect()
            });
            self.ends(over);
            self.tell(machine, Seen::Start);
            self.cluster.start(machine);
        }
    }

    /// Whether a machine is a client's that is done; it is not started any more.
    fn has_finished(&self, machine: usize) -> bool {
        !self.with(|state| state.brokers.contains(&machine)) && self.cluster.has_exited(machine)
    }

    /// A fault brings a machine down; it is at work until that starts again.
    fn bring_down(&self, machine: usize, cause: Cause) {
        self.cluster.world().tell(cause, Turn::Strikes);
        if !self.has_finished(machine) {
            self.with(|state| state.down.entry(cause).or_default().insert(machine));
        }
    }

    /// What these faults did is over.
    fn ends(&self, causes: impl IntoIterator<Item = Cause>) {
        causes.into_iter().for_each(|cause| self.cluster.world().tell(cause, Turn::Ends));
    }

    fn start_after(&self, machine: usize, down: Duration) {
        let nemesis = self.clone();
        self.cluster.spawn(async move {
            nemesis.cluster.pass(down).await;
            nemesis.start(machine);
        });
    }

    fn count(&self, kind: Kind) {
        self.with(|state| *state.counts.entry(kind).or_default() += 1);
    }

    fn kind(&self, cause: Cause) -> Kind {
        self.with(|state| state.kinds[cause.0 as usize])
    }

    /// Counts one for the kind of a fault that has touched something by being carried out.
    fn strikes(&self, cause: Cause) {
        self.count(self.kind(cause));
        self.cluster.world().tell(cause, Turn::Strikes);
    }

    fn tell(&self, machine: usize, seen: Seen) {
        let watchers = self.with(|state| state.watchers.clone());
        watchers.iter().for_each(|watcher| watcher(machine, seen));
    }

    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        look(&mut self.state.lock().expect("nobody panics with it"))
    }
}

#[cfg(test)]
mod tests;
