//! One seed of a trial, from the empty world to the verdict.
//!
//! Topics are made in peace. Act one: the nodes start and faults come. Act two: everything heals for
//! good, nodes must end and what must come about must come about, within the trial's patience. Then
//! a last reader reads every topic to its end, and the judge reads the history.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use trialog_engine::client::{ConsumerOptions, NewTopic, Start};
use trialog_engine::id::PartitionIndex;
use trialog_jepsen::check::{self, Expect};
use trialog_jepsen::history::{Event, Fault, History, Op, Phase, Process};

use super::node::{Node, lock};
use super::scene::{Actor, Scene};
use super::{Played, Trial, broker};
use crate::cluster::{Cluster, Frame, simulate};
use crate::io::SimIo;
use crate::nemesis::{Nemesis, Seen};
use crate::net::MODEST_ANSWER_BYTES;
use crate::plan::{Plan, Scope};
use crate::seed::Seed;
use crate::trace::Watcher;

const NEMESIS: Process = Process(u32::MAX);
const DISK_BYTES: u64 = 64 << 20;
/// How often `always` is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long making topics, and the last reading, may take: nothing disturbs them.
const PEACE: Duration = Duration::from_secs(60);

/// What went wrong: what found it, and in sentences.
type Trouble = (String, String);

/// Plays a seed.
pub fn play(trial: &Trial, number: u64) -> Played {
    let loud = std::env::var_os("TRIALOG_TRACE").is_some();
    let limit = trial.chaos + trial.patience + 4 * PEACE;
    let watcher = if loud { Watcher::Print } else { Watcher::Nobody };
    let frame = Frame { watcher, limit, ..Frame::new(number) };
    let (trial, seed) = (trial.clone(), Seed(number));
    let outcome = simulate(frame, move |cluster| async move {
        let mut scene = Scene::new(seed.stream("trial scene", 0));
        (trial.setting)(&mut scene);
        let stage = Stage { seed, cluster, history: Arc::default() };
        let (faults, trouble) = stage.run(&trial, scene).await;
        let acknowledged = stage.acknowledged();
        (faults, acknowledged, trouble)
    });
    match outcome {
        Ok(outcome) => {
            let (faults, acknowledged, trouble) = outcome.value;
            let (digest, simulated) = (Some(outcome.digest), outcome.simulated);
            Played { trouble, acknowledged, faults, digest, simulated }
        }
        Err(panicked) => {
            let trouble = Some(("a panic".to_owned(), panicked.to_string()));
            let (digest, simulated) = (panicked.digest, panicked.simulated);
            Played { trouble, acknowledged: 0, faults: 0, digest, simulated }
        }
    }
}

/// The world of one seed.
struct Stage {
    seed: Seed,
    cluster: Cluster,
    history: Arc<Mutex<History>>,
}

impl Stage {
    /// Plays the scene; returns how many faults came, and what went wrong.
    async fn run(&self, trial: &Trial, scene: Scene) -> (u64, Option<Trouble>) {
        let cluster = &self.cluster;
        assert_eq!(cluster.add("broker", DISK_BYTES, broker::serve), broker::MACHINE);
        let topics: Vec<NewTopic> = scene.topics.iter().map(|(topic, _)| topic.clone()).collect();
        if let Err(trouble) = self.alone("a node that makes topics", topics, prepare).await {
            return (0, Some(trouble));
        }
        let nodes: Vec<usize> = scene.actors.iter().map(|actor| self.start(actor)).collect();
        let nemesis = Nemesis::new(cluster.clone(), vec![broker::MACHINE]);
        self.watch(&nemesis);
        let scope = Scope {
            brokers: vec![broker::MACHINE],
            clients: nodes.clone(),
            keepers: Vec::new(),
            chaos: trial.chaos,
            crashes_min: 0,
        };
        let plan = match nodes.is_empty() {
            true => Plan::default(),
            false => trial.faults.plan(&mut self.seed.stream("plan", 0), &scope),
        };
        let trouble = self.acts(trial, &scene, &nodes, &nemesis, &plan).await.err();
        let trouble = trouble.map(|(what, text)| {
            let machines = (0..cluster.size())
                .map(|machine| {
                    let name = cluster.world().machine(machine, |machine| machine.name.clone());
                    format!("{machine} {name}")
                })
                .collect::<Vec<_>>();
            (what, format!("{text}\nMachines: {}. Faults:\n{plan}", machines.join(", ")))
        });
        (nemesis.counts().values().sum(), trouble)
    }

    async fn acts(
        &self,
        trial: &Trial,
        scene: &Scene,
        nodes: &[usize],
        nemesis: &Nemesis,
        plan: &Plan,
    ) -> Result<(), Trouble> {
        let faults = nemesis.clone();
        let carried_out = plan.clone();
        self.cluster.spawn(async move { faults.run(&carried_out).await });
        self.look(scene, trial.chaos, || false).await?;
        nemesis.heal().await;
        let running = || {
            let all = scene.actors.iter().zip(nodes);
            let ends = |machine| self.cluster.has_exited(machine) || nemesis.is_lost(machine);
            all.filter(|(actor, machine)| actor.ends && !ends(**machine))
                .map(|(actor, _)| format!("node {} has not ended", actor.name))
                .chain(
                    scene
                        .eventually
                        .iter()
                        .filter(|(_, done)| !done())
                        .map(|(name, _)| name.clone()),
                )
                .collect::<Vec<_>>()
        };
        self.look(scene, trial.patience, || running().is_empty()).await?;
        if let Some(stuck) = running().first() {
            let seconds = trial.patience.as_secs_f64();
            let text = format!("{seconds} s after everything had healed: {}", running().join("; "));
            return Err((format!("eventually: {stuck}"), text));
        }
        self.judge(scene).await?;
        self.look(scene, Duration::ZERO, || true).await
    }

    /// Lets time pass until `done`, at most for `limit`, and looks at what must always hold.
    async fn look(
        &self,
        scene: &Scene,
        limit: Duration,
        done: impl Fn() -> bool,
    ) -> Result<(), Trouble> {
        let mut passed = Duration::ZERO;
        loop {
            for (name, holds) in &scene.always {
                if let Err(text) = holds() {
                    let seconds = self.cluster.world().now() as f64 / 1e9;
                    let text = format!("{text} (seen {seconds:.1} s after the start)");
                    return Err((format!("always: {name}"), text));
                }
            }
            if done() || passed >= limit {
                return Ok(());
            }
            self.cluster.pass(LOOK).await;
            passed += LOOK;
        }
    }

    async fn judge(&self, scene: &Scene) -> Result<(), Trouble> {
        if scene.topics.is_empty() {
            return Ok(());
        }
        self.push(Op::Final);
        let topics: Vec<NewTopic> = scene.topics.iter().map(|(topic, _)| topic.clone()).collect();
        self.alone("the last reader", topics, read_everything).await?;
        let expect = scene
            .topics
            .iter()
            .fold(Expect::default(), |expect, (topic, promise)| expect.but(&topic.name, *promise));
        let history = lock(&self.history);
        let report = check::all(&history, &expect);
        match report.findings.first() {
            Some(finding) => Err((finding.anomaly.to_string(), report.explained(&history))),
            None => Ok(()),
        }
    }

    /// Runs a program on a machine of its own to its end.
    async fn alone<F: Future<Output = ()> + 'static>(
        &self,
        name: &str,
        topics: Vec<NewTopic>,
        program: impl Fn(Node, Vec<NewTopic>) -> F + Send + Sync + 'static,
    ) -> Result<(), Trouble> {
        let node = self.node();
        let machine =
            self.cluster.add(name, DISK_BYTES, move |io| program(node(io), topics.clone()));
        let mut passed = Duration::ZERO;
        while !self.cluster.has_exited(machine) {
            if passed >= PEACE {
                let text = format!("{} s were not enough, without any fault", PEACE.as_secs());
                return Err((format!("{name} is stuck"), text));
            }
            self.cluster.pass(LOOK).await;
            passed += LOOK;
        }
        Ok(())
    }

    /// Starts an actor's machine and returns its number.
    fn start(&self, actor: &Actor) -> usize {
        let (program, node) = (Arc::clone(&actor.program), self.node());
        self.cluster.add(&actor.name, DISK_BYTES, move |io| program(node(io)))
    }

    /// Makes nodes of processes.
    fn node(&self) -> impl Fn(SimIo) -> Node + Send + Sync + 'static {
        let (seed, history) = (self.seed, Arc::clone(&self.history));
        move |io| Node::new(io, seed, Arc::clone(&history))
    }

    /// Puts the broker's crashes and starts into the history.
    fn watch(&self, nemesis: &Nemesis) {
        let (history, world) = (Arc::clone(&self.history), self.cluster.world().clone());
        nemesis.watch(move |machine, seen| {
            if machine == broker::MACHINE {
                let fault = match seen {
                    Seen::Crash(_) => Fault::Crash,
                    Seen::Start => Fault::Restart,
                };
                let op = Op::Nemesis { fault, node: 0 };
                let (time_ns, process, phase) = (world.now(), NEMESIS, Phase::Info);
                lock(&history).push(Event { time_ns, process, phase, op });
            }
        });
    }

    fn push(&self, op: Op) {
        let time_ns = self.cluster.world().now();
        lock(&self.history).push(Event { time_ns, process: NEMESIS, phase: Phase::Info, op });
    }

    fn acknowledged(&self) -> u64 {
        let history = lock(&self.history);
        let stored = history
            .events()
            .iter()
            .filter(|event| event.phase == Phase::Ok && matches!(event.op, Op::Send { .. }));
        stored.count() as u64
    }
}

/// Makes the topics.
async fn prepare(node: Node, topics: Vec<NewTopic>) {
    let admin = node.client().admin();
    for topic in topics {
        while let Err(error) = admin.create_topic(&topic).await {
            let there = admin.list_topics().await.unwrap_or_default();
            if there.iter().any(|listed| listed.name == topic.name) {
                break;
            }
            node.io().world().say(&format!("topic {}: {error}", topic.name));
            node.sleep(LOOK).await;
        }
    }
}

/// Reads every partition from its beginning to its end.
async fn read_everything(node: Node, topics: Vec<NewTopic>) {
    let options = ConsumerOptions { bytes_max: MODEST_ANSWER_BYTES, ..ConsumerOptions::default() };
    let mut consumer = node.consumer(options);
    let mut parts = Vec::new();
    for topic in &topics {
        for partition in (0..topic.partitions).map(PartitionIndex) {
            consumer.assign(&topic.name, partition, Start::Earliest);
            parts.push((topic.name.as_str(), partition));
        }
    }
    for (topic, partition) in parts {
        loop {
            let end = node.client().admin().list_offset(topic, partition, Start::Latest).await;
            let end = end.ok().flatten().map(|(end, _)| end);
            if end.is_some() && consumer.position(topic, partition) >= end {
                break;
            }
            // Failures pass: nothing disturbs this reader.
            let _ = consumer.poll(Duration::from_millis(300)).await;
        }
    }
}
