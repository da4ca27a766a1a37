//! A run from its seed to its verdict: two acts and a judgement.
//!
//! Act one: clients of every kind work on brokers of a few cores each, on machines of their own,
//! while the nemesis does what the plan says. Act two: everything heals but what is lost for good
//! ([`losses`]); every other client must finish what it is at, the records must get acknowledged, and
//! last readers must read every partition to its end, each within a bound of simulated time. Then the
//! judge reads the history.

pub mod rehearsal;

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use trialog_engine::probe::Hits;
use trialog_jepsen::check::{Expect, Finding, Report, Tally};

use super::seen::Seen;
use super::shape::{Nature, Shape};
use super::stage::{Kept, Stage};
use super::{
    Facts, Failed, Failure, Passed, Recorder, Run, Watch, host, losses, promise, workload,
};
use crate::cluster::{Cluster, Frame, simulate};
use crate::fault::Fault;
use crate::invariant::Sighting;
use crate::io::SimIo;
use crate::machine::Crash;
use crate::nemesis::{Counts, Nemesis};
use crate::plan::{Kind, Plan, Planned, Scope};
use crate::seed::Seed;
use crate::sweep::crashes;
use crate::tape::Tape;
use crate::trace::Watcher;

/// How long the healed system may take to get the clients' work done, in simulated time: twice the
/// longest delivery time-out, since a record may have begun to wait just before.
const LIVENESS: Duration = Duration::from_secs(150);
/// How long the last readers may take.
const CATCH_UP: Duration = Duration::from_secs(60);

/// What found that clients cannot finish what they are at.
const STUCK_CLIENT: &str = "stuck-client";
/// What found that the last readers cannot read everything.
const STUCK_READER: &str = "stuck-reader";

/// The disks under the brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerDisk {
    /// They fail, but keep their word.
    Honest,
    /// They say that they have flushed, and have not. A trial on them must fail, or it does not
    /// bite.
    Lying,
}

/// Carries a run out.
///
/// # Errors
/// What went wrong, with the command that repeats it.
pub fn run(run: &Run) -> Result<Passed, Failure> {
    run_on(BrokerDisk::Honest, run)
}

/// Carries a run out on a certain kind of disk.
///
/// # Errors
/// What went wrong; the command repeats it only on honest disks.
pub fn run_on(disk: BrokerDisk, run: &Run) -> Result<Passed, Failure> {
    let shape = Arc::new(Shape::draw(Seed(run.seed), run.size));
    let plan = plan(run, &shape);
    let kept = Kept::default();
    kept.expect_clients(shape.clients.len());
    let mut facts = Box::new(Facts {
        run: run.clone(),
        plan: plan.clone(),
        steps: Vec::new(),
        tally: Tally::default(),
        findings: Vec::new(),
        sightings: Vec::new(),
        counts: Counts::default(),
        seen: Seen::of_shape(&shape),
        digest: None,
        simulated: Duration::ZERO,
        probes: Hits::default(),
        cpu: Duration::ZERO,
        judged: Duration::ZERO,
        history: None,
        tape: Vec::new(),
    });
    let tape = Tape::new();
    let watcher = match run.watch {
        Watch::Quiet => Watcher::Nobody,
        Watch::Loud => Watcher::Print,
        Watch::Tape => Watcher::Tape(tape.clone()),
    };
    let frame = Frame { watcher, ..Frame::new(run.seed) };
    let play = {
        let (run, kept) = (run.clone(), kept.clone());
        move |cluster| play(cluster, run, disk, shape, plan, kept)
    };
    let verdict = match simulate(frame, play) {
        Ok(outcome) => {
            facts.digest = Some(outcome.digest);
            facts.simulated = outcome.simulated;
            facts.counts = outcome.value.counts;
            facts.tally = outcome.value.tally;
            facts.findings = outcome.value.findings;
            facts.probes = outcome.probes;
            (facts.cpu, facts.judged) = (outcome.cpu, outcome.judged);
            outcome.value.verdict
        }
        Err(panicked) => {
            (facts.digest, facts.simulated) = (panicked.digest, panicked.simulated);
            let found_by = vec![asserted(&panicked.text)];
            Err(Wrong { how: Failed::Panic, found_by, text: panicked.to_string() })
        }
    };
    facts.steps = kept.steps();
    facts.seen.answers = kept.answers();
    facts.sightings = kept.sightings();
    if run.watch == Watch::Tape {
        let mut history = kept.history.lock().unwrap_or_else(PoisonError::into_inner);
        facts.history = Some(std::mem::take(&mut history));
        facts.tape = tape.take();
    }
    match verdict.and_then(|()| thick_enough(&facts)) {
        Ok(()) => Ok(Passed { facts }),
        Err(Wrong { how, found_by, text }) => Err(Failure { how, found_by, text, facts }),
    }
}

/// The id of the invariant whose assertion failed, if its text begins with one.
fn asserted(text: &str) -> String {
    let id = text.split(':').next().unwrap_or_default();
    let is_id = id.split_once('-').is_some_and(|(word, number)| {
        word.bytes().all(|byte| byte.is_ascii_uppercase()) && number.parse::<u16>().is_ok()
    });
    if is_id { id.to_owned() } else { "panic".to_owned() }
}

/// Whether a run of which nothing was left out proved enough.
fn thick_enough(facts: &Facts) -> Result<(), Wrong> {
    let Facts { run, tally, simulated, .. } = facts;
    let (size, crashes) = (run.size, crashes(&facts.counts));
    let enough = tally.acknowledged >= size.acknowledged_min()
        && crashes >= size.crashes_min() as u64
        && *simulated >= size.simulated_min();
    if enough || !run.cut.is_empty() {
        return Ok(());
    }
    let (acknowledged, seconds) = (tally.acknowledged, simulated.as_secs_f64());
    let text = format!("only {acknowledged} records, {crashes} crashes and {seconds:.1} s");
    Err(Wrong { how: Failed::Thin, found_by: vec!["thin".to_owned()], text })
}

/// The fault plan of a run.
fn plan(run: &Run, shape: &Shape) -> Plan {
    let scope = Scope {
        brokers: (0..shape.brokers.len()).collect(),
        clients: (0..shape.clients.len()).map(|client| shape.machine(client)).collect(),
        keepers: shape.keepers().map(|client| shape.machine(client)).collect(),
        chaos: shape.chaos,
        crashes_min: run.size.crashes_min(),
    };
    let mut plan = Plan::draw(Seed(run.seed), &scope);
    let random = &mut Seed(run.seed).stream("suspension", 0);
    for broker in shape.crowded().filter(|_| random.chance(1, 2)).collect::<Vec<_>>() {
        // Who waits for room waits for minutes, and a run is shorter.
        plan.suspend(random, broker, shape.chaos);
    }
    for broker in 0..shape.brokers.len() {
        let mut topics = shape.topics_of(broker).map(|at| shape.topics[at].nature);
        // So that something is promised of what is only in the page cache.
        if topics.any(|nature| nature == Nature::Cached)
            && Seed(run.seed).stream("page cache", broker as u64).chance(1, 3)
        {
            plan.spare_page_cache(broker);
        }
    }
    plan.add(losses::draw(Seed(run.seed), shape));
    let little = shape.brokers.iter().enumerate().filter_map(|(machine, broker)| {
        let fault = Fault::LittleMemory { machine, bytes: broker.request_memory? };
        Some(Planned { at: Duration::ZERO, kind: Kind::LittleMemory, fault })
    });
    plan.add(little.collect());
    plan
}

/// What a run in its world came to.
struct Played {
    verdict: Result<(), Wrong>,
    counts: Counts,
    tally: Tally,
    findings: Vec<Finding>,
}

/// What went wrong.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    how: Failed,
    found_by: Vec<String>,
    text: String,
}

impl Wrong {
    fn stuck(what: &str, text: String) -> Wrong {
        Wrong { how: Failed::Liveness, found_by: vec![what.to_owned()], text }
    }
}

async fn play(
    cluster: Cluster,
    run: Run,
    broker_disk: BrokerDisk,
    shape: Arc<Shape>,
    plan: Plan,
    kept: Kept,
) -> Played {
    let world = cluster.world().clone();
    world.say(&format!("{shape:#?}\n{plan}"));
    let recorder = Recorder::new(world, kept.history.clone());
    let stage = Stage::new(Seed(run.seed), shape.clone(), recorder, run.cut.clone(), kept);
    let brokers = start_brokers(&cluster, &stage, broker_disk);
    let mut clients = Vec::new();
    for (number, client) in shape.clients.iter().enumerate() {
        let name = format!("{} {number}", client.role.name());
        clients.push(cluster.add(&name, shape.disk_bytes, with(&stage, workload::perform)));
    }
    let nemesis = Nemesis::new(cluster.clone(), brokers.clone());
    stage.recorder.watch(&nemesis, brokers);
    let faults = plan.faults.into_iter().enumerate();
    let faults = faults.filter(|(index, _)| !run.cut.faults.contains(index));
    let plan = Plan { faults: faults.map(|(_, fault)| fault).collect() };
    let acted = act(&cluster, &stage, &nemesis, &plan, &clients).await;
    let waited = acted.as_ref().copied().unwrap_or_default();
    // The last power cuts, behind which the disks are examined, meet nobody: they do not count.
    let counts = nemesis.counts();
    let examined = examine(&cluster, &stage).await;
    let acted = acted.and(examined);
    stage.forget_brokers();
    let expect = promise::expect(&shape, cluster.world(), &plan, waited);
    let report = stage.recorder.judge(&Expect { caught_up: caught_up(&acted), ..expect });
    let verdict = gravest(verdict(&stage, &report), acted);
    Played { verdict, counts, tally: report.tally, findings: report.findings }
}

/// Starts the brokers, on the first machines, with somebody who looks at them.
fn start_brokers(cluster: &Cluster, stage: &Stage, disk: BrokerDisk) -> Vec<usize> {
    let looking = stage.clone();
    cluster.look_each_second(move || looking.look());
    let start = |broker: usize| {
        let program = with(stage, move |io, stage| host::serve(io, stage, broker));
        let machine = cluster.add(&format!("broker {broker}"), stage.shape.disk_bytes, program);
        cluster.world().machine(machine, |machine| {
            machine.disk.flushes_lie = disk == BrokerDisk::Lying;
        });
        machine
    };
    (0..stage.shape.brokers.len()).map(start).collect()
}

/// The two acts. Returns how long the last readers were held back, so that compaction could end.
async fn act(
    cluster: &Cluster,
    stage: &Stage,
    nemesis: &Nemesis,
    plan: &Plan,
    clients: &[usize],
) -> Result<Duration, Wrong> {
    let begun = cluster.world().now();
    nemesis.run(plan).await;
    let over = begun + crate::seed::nanos(stage.shape.chaos);
    cluster.pass(Duration::from_nanos(over.saturating_sub(cluster.world().now()))).await;
    nemesis.heal().await;
    stage.draw_curtain();
    // Of who is lost nothing is asked, and nobody may wait for it.
    let is_at_it = |machine: usize| !cluster.has_exited(machine) && !nemesis.is_lost(machine);
    let all_done = within(cluster, LIVENESS, || !clients.iter().any(|&m| is_at_it(m))).await;
    // Also if it never comes to a final reading: what was read until now is none.
    stage.recorder.finale();
    if !all_done {
        let ((done, goal), seconds) = (stage.progress(), LIVENESS.as_secs());
        let at_it = clients.iter().filter(|&&machine| is_at_it(machine));
        let at_it: Vec<String> = at_it
            .map(|&machine| cluster.world().machine(machine, |machine| machine.name.clone()))
            .collect();
        let (at_it, complaints) = (at_it.join(", "), said(stage));
        let text = format!(
            "{seconds} s after everything healed, {done} of {goal} records are acknowledged and \
             these clients are not done: {at_it}\n{complaints}"
        );
        return Err(Wrong::stuck(STUCK_CLIENT, text));
    }
    let waited = promise::tidying(&stage.shape, cluster.world(), plan);
    cluster.pass(waited).await;
    let mut readers = Vec::new();
    for broker in 0..stage.shape.brokers.len() {
        let program = with(stage, move |io, stage| workload::read_everything(io, stage, broker));
        let name = format!("last reader {broker}");
        readers.push(cluster.add(&name, stage.shape.disk_bytes, program));
    }
    if !within(cluster, CATCH_UP, || readers.iter().all(|&m| cluster.has_exited(m))).await {
        let text = format!("a last reader is stuck\n{}", said(stage));
        return Err(Wrong::stuck(STUCK_READER, text));
    }
    Ok(waited)
}

/// Cuts the power of every broker a last time, and looks at what that left.
async fn examine(cluster: &Cluster, stage: &Stage) -> Result<(), Wrong> {
    stage.begin_examination();
    let brokers: Vec<usize> = (0..stage.shape.brokers.len()).collect();
    for &broker in &brokers {
        cluster.crash(broker, Crash::PowerLoss);
    }
    // What the dead said last says nothing about disks that are being recovered.
    stage.forget_brokers();
    cluster.pass(Duration::from_millis(1)).await;
    for &broker in &brokers {
        cluster.start(broker);
    }
    if within(cluster, CATCH_UP, || brokers.iter().all(|&m| cluster.has_exited(m))).await {
        return Ok(());
    }
    Err(Wrong::stuck("stuck-examiner", "a disk cannot be read".to_owned()))
}

/// Whether everything was read at the end, so that what nobody saw is not there.
fn caught_up(acted: &Result<(), Wrong>) -> bool {
    let early = |wrong: &Wrong| {
        wrong.found_by.iter().any(|by| [STUCK_CLIENT, STUCK_READER].contains(&&**by))
    };
    !acted.as_ref().is_err_and(early)
}

/// What a run is said to have failed by: what must never happen counts more than what did not.
fn gravest(safe: Result<(), Wrong>, live: Result<(), Wrong>) -> Result<(), Wrong> {
    match (safe, live) {
        (Err(mut wrong), Err(stuck)) => {
            wrong.text.push_str(&format!("besides, {}\n", stuck.text.trim_end()));
            wrong.found_by.extend(stuck.found_by);
            wrong.found_by.sort();
            Err(wrong)
        }
        (Err(wrong), Ok(())) => Err(wrong),
        (Ok(()), live) => live,
    }
}

/// Whether the history and the complaints are what they must be.
fn verdict(stage: &Stage, report: &Report) -> Result<(), Wrong> {
    let mut found_by: Vec<String> =
        report.anomalies().map(|(anomaly, _)| anomaly.to_string()).collect();
    let mut text = String::new();
    if !found_by.is_empty() {
        text = report.to_string();
    }
    for Sighting { at, found_by: name, text: seen, .. } in stage.sightings() {
        found_by.push(name.to_owned());
        text.push_str(&format!("{name}: {seen} (seen at {:.6} s)\n", at as f64 / 1e9));
    }
    if found_by.is_empty() {
        return Ok(());
    }
    found_by.sort();
    found_by.dedup();
    Err(Wrong { how: Failed::Safety, found_by, text })
}

/// All that was complained about.
fn said(stage: &Stage) -> String {
    let complaints = stage.complaints().into_iter().map(|complaint| complaint.text);
    complaints.collect::<Vec<_>>().join("\n")
}

/// A program that is given the stage.
fn with<F: Future<Output = ()> + 'static>(
    stage: &Stage,
    program: impl Fn(SimIo, Stage) -> F + Send + Sync + 'static,
) -> impl Fn(SimIo) -> F + Send + Sync + 'static {
    let stage = stage.clone();
    move |io| program(io, stage.clone())
}

/// Waits until `done`, at most for `limit`.
async fn within(cluster: &Cluster, limit: Duration, done: impl Fn() -> bool) -> bool {
    let step = Duration::from_millis(100);
    for _ in 0..limit.as_millis() / step.as_millis() {
        if done() {
            return true;
        }
        cluster.pass(step).await;
    }
    done()
}

#[cfg(test)]
mod tests;
