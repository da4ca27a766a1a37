//! How each fault is carried out.
//!
//! What hinders a link or ails a disk is added under the fault's cause and lifted when its time is
//! over. What takes several steps (crash loops, swizzles, flapping ...) is a task; those that crash
//! something are waited for before everything heals.

use std::time::Duration;

use super::{Nemesis, Sprung};
use crate::atlas;
use crate::cause::{Cause, Turn};
use crate::clock::Mischief;
use crate::disk::Trouble;
use crate::fault::{Breach, Fault};
use crate::machine::{Crash, Trap};
use crate::net::link::Hindrance;
use crate::plan::Kind;
use crate::seed::{Stream, nanos};
use crate::trace::Event;

/// How often a fault looks whether there is something that it may damage.
const LOOK_AGAIN: Duration = Duration::from_millis(150);
/// How long a process may take to stop when it is told to.
const GRACE: Duration = Duration::from_secs(5);

/// How long a fault waits for its machine to run before it is given up.
const UP_MAX: Duration = Duration::from_secs(15);

impl Nemesis {
    /// Lets one fault come.
    pub(super) fn begin(&self, kind: Kind, fault: &Fault) {
        let world = self.cluster.world().clone();
        world.note_text(Event::Fault, &[], &format!("fault: {kind}: {fault:?}"));
        let place = self.with(|state| {
            state.came += 1;
            state.came - 1
        });
        let cause = self.comes(kind, place);
        match fault.clone() {
            Fault::Crash { machine, crash, down } => self.crashing(async move |nemesis| {
                nemesis.crash_once_up(machine, crash, down, cause).await;
            }),
            Fault::Trap { machine, crash, call, calls, sectors_min, wreck, down } => {
                self.with(|state| state.traps.insert(cause, Sprung { crash, call, wreck, down }));
                let trap = Trap { cause, call, sectors_min, left: calls };
                world.machine(machine, |machine| machine.traps.push(trap));
            }
            Fault::CrashLoop { machine, crash, times, pause } => {
                self.crashing(async move |nemesis| {
                    for _ in 0..times {
                        nemesis.crash_once_up(machine, crash, pause / 2, cause).await;
                        nemesis.cluster.pass(pause).await;
                    }
                });
            }
            Fault::Blackout { machines, down } => {
                self.count(kind);
                for machine in machines {
                    self.bring_down(machine, cause);
                    // Also one without a process: its page cache is gone.
                    self.crash(machine, Crash::PowerLoss);
                    self.start_after(machine, down);
                }
            }
            Fault::RollingRestart { machines, down } => self.crashing(async move |nemesis| {
                for machine in machines {
                    nemesis.stop_once_up(machine, down, cause).await;
                    nemesis.cluster.pass(down).await;
                }
            }),
            Fault::GracefulStop { machine, down } => self.crashing(async move |nemesis| {
                nemesis.stop_once_up(machine, down, cause).await;
            }),
            Fault::LostData { machine, down } => self.crashing(async move |nemesis| {
                if !nemesis.once_up(machine).await {
                    return;
                }
                nemesis.bring_down(machine, cause);
                nemesis.crash(machine, Crash::PowerLoss);
                nemesis.start_after(machine, down);
                let lost = nemesis.cluster.world().machine(machine, |machine| {
                    let lost = machine.disk.used() > 0;
                    machine.disk.replace();
                    lost
                });
                if lost {
                    nemesis.count(kind);
                }
            }),
            Fault::Pause { machine, lasting } => {
                if self.cluster.is_running(machine) {
                    self.count(kind);
                    self.pause(machine, cause);
                    self.after(lasting, move |nemesis| nemesis.unpause(machine, cause));
                }
            }
            Fault::SlowNode { machine, lasting } => {
                self.steps(async move |nemesis| {
                    let mut is_slow = false;
                    for _ in 0..lasting.as_millis() / 10 {
                        if nemesis.pause(machine, cause) && !is_slow {
                            is_slow = true;
                            nemesis.count(kind);
                        }
                        nemesis.cluster.pass(Duration::from_millis(9)).await;
                        nemesis.unpause(machine, cause);
                        nemesis.cluster.pass(Duration::from_millis(1)).await;
                        if nemesis.is_healed() {
                            return;
                        }
                    }
                });
            }
            Fault::Disk { machine, trouble, lasting } => {
                self.ail(machine, cause, trouble, lasting);
            }
            Fault::Misread { machine, times, lasting } => {
                let safe = world.machine(machine, |m| atlas::safe_segments(&m.disk));
                self.ail(machine, cause, Trouble::Misread(times, safe), lasting);
            }
            Fault::Rot { machine, rot, draw } => self.steps(async move |nemesis| {
                let mut random = Stream::new(draw);
                while !nemesis.is_healed() {
                    let world = nemesis.cluster.world();
                    if world.machine(machine, |m| atlas::strike(&mut m.disk, rot, &mut random)) {
                        return nemesis.strikes(cause);
                    }
                    nemesis.cluster.pass(LOOK_AGAIN).await;
                }
            }),
            Fault::Misdirected { machine, draw, lasting } => self.steps(async move |nemesis| {
                let mut random = Stream::new(draw);
                while !nemesis.is_healed() {
                    let world = nemesis.cluster.world();
                    let victim = world.machine(machine, |m| atlas::victim(&m.disk, &mut random));
                    if let Some((ino, sector)) = victim {
                        let trouble = Trouble::Misdirected(ino, sector);
                        return nemesis.ail(machine, cause, trouble, lasting);
                    }
                    nemesis.cluster.pass(LOOK_AGAIN).await;
                }
            }),
            Fault::Links { between, hindrance, lasting } => {
                self.hinder(&between, cause, hindrance);
                self.after(lasting, move |nemesis| nemesis.lift(cause));
            }
            Fault::Swizzle { order, release, with, pause } => {
                // One more cause for each machine, so that each is released by itself.
                let causes: Vec<Cause> = order.iter().map(|_| self.comes(kind, place)).collect();
                self.steps(async move |nemesis| {
                    for (machine, cause) in order.iter().zip(&causes) {
                        let others = with.iter().filter(|other| *other != machine);
                        let links: Vec<_> =
                            others.flat_map(|&o| [(o, *machine), (*machine, o)]).collect();
                        nemesis.hinder(&links, *cause, Hindrance::Held);
                        nemesis.cluster.pass(pause).await;
                        if nemesis.is_healed() {
                            return nemesis.lift_all(&causes);
                        }
                    }
                    for machine in release {
                        nemesis.cluster.pass(pause).await;
                        let place = order.iter().position(|other| *other == machine);
                        nemesis.lift(causes[place.expect("released as it was held")]);
                    }
                });
            }
            Fault::Flapping { between, times, period } => self.steps(async move |nemesis| {
                for _ in 0..times {
                    nemesis.hinder(&between, cause, Hindrance::Cut);
                    nemesis.cluster.pass(period / 2).await;
                    nemesis.lift(cause);
                    nemesis.cluster.pass(period / 2).await;
                    if nemesis.is_healed() {
                        return;
                    }
                }
            }),
            Fault::HiddenDeath { machine, lasting, down } => {
                self.hinder(&self.links_of(machine), cause, Hindrance::Cut);
                self.after(lasting, move |nemesis| nemesis.lift(cause));
                if self.cluster.is_running(machine) {
                    self.bring_down(machine, self.comes(kind, place));
                    self.crash(machine, Crash::Kill);
                }
                self.start_after(machine, down);
            }
            Fault::Connections { one, other, breach } => {
                for id in world.net(|net| net.connections_between(one, other)) {
                    world.around(|net, around| match breach {
                        Breach::Reset => net.break_connection(around, id, cause),
                        Breach::MidFrame => net.break_mid_frame(id, cause),
                        Breach::Forgotten => net.forget(id, cause),
                        Breach::HalfClosed => net.end_half(around, id, one, cause),
                    });
                }
            }
            Fault::Clock { machine, mischief: mischief @ Mischief::DeadBattery } => {
                // It counts once a boot finds it.
                let now = world.now();
                world.machine(machine, |machine| {
                    machine.clock.suffer(now, mischief);
                    machine.dead_battery = Some(cause);
                });
            }
            Fault::Clock { machine, mischief } => {
                self.strikes(cause);
                let now = world.now();
                world.machine(machine, |machine| machine.clock.suffer(now, mischief));
            }
            Fault::Gone { machine, crash } => {
                self.strikes(cause);
                self.with(|state| state.gone.insert(machine));
                // If it is down just now, it stays down.
                self.crash(machine, crash);
            }
            Fault::CutOff { machine } => {
                self.with(|state| state.cut_off.insert(machine, cause));
                self.hinder(&self.links_of(machine), cause, Hindrance::Cut);
            }
            Fault::LittleMemory { machine, bytes } => {
                world.machine(machine, |machine| machine.request_memory = Some((cause, bytes)));
            }
            Fault::Stuck { machine } => {
                // It counts once a program says that it is.
                world.machine(machine, |machine| machine.sticks = Some(cause));
            }
            Fault::ClockStrobe { machine, by_ms, times, period } => {
                self.strikes(cause);
                self.steps(async move |nemesis| {
                    for number in 0..times {
                        let by_ms = if number % 2 == 0 { by_ms } else { -by_ms };
                        let world = nemesis.cluster.world();
                        let now = world.now();
                        let jump = Mischief::Jump(by_ms);
                        world.machine(machine, |machine| machine.clock.suffer(now, jump));
                        nemesis.cluster.pass(period).await;
                    }
                    nemesis.ends([cause]);
                });
            }
        }
    }

    /// Crashes a machine now, or as soon as it runs again. Not one whose program is over.
    async fn crash_once_up(&self, machine: usize, crash: Crash, down: Duration, cause: Cause) {
        if self.once_up(machine).await {
            self.count(self.kind(cause));
            self.bring_down(machine, cause);
            self.crash(machine, crash);
            self.start_after(machine, down);
        }
    }

    /// Tells a machine's process to stop, now or as soon as it runs, and waits until it has; it is
    /// killed if that takes too long.
    async fn stop_once_up(&self, machine: usize, down: Duration, cause: Cause) {
        if !self.once_up(machine).await {
            return;
        }
        self.count(self.kind(cause));
        self.bring_down(machine, cause);
        self.cluster.world().tell_to_stop(machine);
        let step = Duration::from_millis(20);
        for _ in 0..GRACE.as_millis() / step.as_millis() {
            if !self.cluster.is_running(machine) {
                return;
            }
            self.cluster.pass(step).await;
        }
        self.crash(machine, Crash::Kill);
        self.start_after(machine, down);
    }

    /// Waits until a machine runs; false if it never will: its program is over, or it ends as soon
    /// as it starts, as a broker does that cannot read its metadata.
    async fn once_up(&self, machine: usize) -> bool {
        let step = Duration::from_millis(20);
        for _ in 0..UP_MAX.as_millis() / step.as_millis() {
            if self.cluster.is_running(machine) {
                return true;
            }
            if !self.with(|state| state.brokers.contains(&machine)) {
                return false;
            }
            self.cluster.pass(step).await;
        }
        false
    }

    fn ail(&self, machine: usize, cause: Cause, trouble: Trouble, lasting: Duration) {
        let world = self.cluster.world();
        let until = world.now() + nanos(lasting);
        world.machine(machine, |machine| {
            let used = machine.disk.used();
            machine.disk.troubles.add(cause, trouble, used, until);
        });
        self.after(lasting, move |nemesis| {
            nemesis.ends([cause]);
            let world = nemesis.cluster.world();
            world.machine(machine, |machine| machine.disk.troubles.lift(cause));
        });
    }

    fn hinder(&self, between: &[(usize, usize)], cause: Cause, hindrance: Hindrance) {
        self.cluster.world().net(|net| {
            for &(from, to) in between {
                net.hinder(from, to, cause, hindrance);
            }
        });
    }

    /// All links from and to a machine.
    fn links_of(&self, machine: usize) -> Vec<(usize, usize)> {
        let others = (0..self.cluster.size()).filter(|other| *other != machine);
        others.flat_map(|other| [(other, machine), (machine, other)]).collect()
    }

    fn lift(&self, cause: Cause) {
        if !self.is_healed() {
            self.ends([cause]);
        }
        self.cluster.world().around(|net, around| net.lift(around, cause));
    }

    fn lift_all(&self, causes: &[Cause]) {
        causes.iter().for_each(|cause| self.lift(*cause));
    }

    /// A cause for what a fault does, or for one of the ways in which it does it.
    fn comes(&self, kind: Kind, place: usize) -> Cause {
        let cause = self.with(|state| {
            state.kinds.push(kind);
            Cause(state.kinds.len() as u64 - 1)
        });
        self.cluster.world().tell(cause, Turn::Comes(place));
        cause
    }

    /// Keeps a machine's process from going on; false if it has none.
    fn pause(&self, machine: usize, cause: Cause) -> bool {
        let runs = self.cluster.is_running(machine);
        if runs {
            self.with(|state| state.paused.entry(machine).or_default().insert(cause));
            self.cluster.world().tell(cause, Turn::Strikes);
            self.cluster.pause(machine);
        }
        runs
    }

    /// The process goes on once no fault keeps it any more.
    fn unpause(&self, machine: usize, cause: Cause) {
        let (kept, free) = self.with(|state| {
            let Some(causes) = state.paused.get_mut(&machine) else { return (false, false) };
            let kept = causes.remove(&cause);
            (kept, kept && causes.is_empty())
        });
        if kept && self.cluster.is_running(machine) {
            self.ends([cause]);
        }
        if free {
            self.cluster.resume(machine);
        }
    }

    fn is_healed(&self) -> bool {
        self.with(|state| state.healed)
    }

    /// Runs `undo` after `lasting`, unless everything has been healed by then.
    fn after(&self, lasting: Duration, undo: impl FnOnce(&Nemesis) + 'static) {
        let nemesis = self.clone();
        self.cluster.spawn(async move {
            nemesis.cluster.pass(lasting).await;
            if !nemesis.is_healed() {
                undo(&nemesis);
            }
        });
    }

    /// A fault in several steps.
    fn steps(&self, work: impl AsyncFnOnce(&Nemesis) + 'static) {
        let nemesis = self.clone();
        self.cluster.spawn(async move { work(&nemesis).await });
    }

    /// A fault in several steps that crashes something; healing waits for it.
    fn crashing(&self, work: impl AsyncFnOnce(&Nemesis) + 'static) {
        self.with(|state| state.crashing += 1);
        self.steps(async move |nemesis| {
            work(nemesis).await;
            nemesis.with(|state| state.crashing -= 1);
        });
    }
}
