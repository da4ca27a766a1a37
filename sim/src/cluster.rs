//! Machines with programs on them, and the run they live in.
//!
//! A [`Cluster`] joins the simulated world (what machines have and do) with madsim's nodes (whose
//! tasks run). A program is an async function that is given the handle of its process's first core;
//! it is started anew at each boot, and when it returns, the process has exited. [`simulate`] is
//! the frame of every run: one fresh thread, one runtime, one world, one seed.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::LocalBoxFuture;
use madsim::runtime::{Handle, Runtime};
use madsim::task::{AbortHandle, NodeId};
use trialog_engine::id::CoreId;
use trialog_engine::probe::{self, Hits};

use crate::io::SimIo;
use crate::machine::Crash;
use crate::panicked::{self, Panicked};
use crate::seed::Seed;
use crate::timing;
use crate::trace::{Digest, Event, Watcher};
use crate::world::World;

/// All machines of a run. Clones share it.
#[derive(Clone)]
pub struct Cluster {
    world: World,
    handle: Handle,
    nodes: Arc<Mutex<Vec<NodeId>>>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
    looks: Arc<Mutex<Vec<Look>>>,
}

/// Somebody who looks once a second, and changes nothing.
type Look = Arc<dyn Fn() + Send + Sync>;

/// How a run is carried out.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The seed that everything follows from.
    pub seed: Seed,
    /// Who watches the events.
    pub watcher: Watcher,
    /// Simulated time after which the run is stopped as hung.
    pub limit: Duration,
}

/// What a run came to.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What the body returned.
    pub value: T,
    /// The hash over every event.
    pub digest: Digest,
    /// Simulated time from start to end.
    pub simulated: Duration,
    /// What the probes counted.
    pub probes: Hits,
    /// Time on a processor.
    pub cpu: Duration,
    /// The part of it that checkers and invariants took.
    pub judged: Duration,
}

type Program = Arc<dyn Fn(SimIo) -> LocalBoxFuture<'static, ()> + Send + Sync>;
type Body = Box<dyn FnOnce(Cluster) -> LocalBoxFuture<'static, ()> + Send>;

impl Frame {
    /// An unwatched run of `seed` with a limit of ten simulated minutes.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Frame { seed: Seed(seed), watcher: Watcher::Nobody, limit: Duration::from_secs(600) }
    }
}

/// Runs `body` in a world of its own, in a fresh thread, to its end.
///
/// # Errors
/// A panic, of the body or of any simulated program.
pub fn simulate<T, F>(
    frame: Frame,
    body: impl FnOnce(Cluster) -> F + Send + 'static,
) -> Result<Outcome<T>, Panicked>
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let value = Arc::new(Mutex::new(None));
    let kept = Arc::clone(&value);
    let body = move |cluster: Cluster| {
        let body = async move {
            let value = body(cluster).await;
            kept.lock().expect("nobody panics with it").replace(value);
        };
        body.boxed_local()
    };
    let Outcome { digest, simulated, probes, cpu, judged, .. } = run(frame, Box::new(body))?;
    let value = value.lock().expect("nobody panics with it").take();
    let value = value.expect("a body that has not panicked has ended");
    Ok(Outcome { value, digest, simulated, probes, cpu, judged })
}

/// [`simulate`], compiled once for all bodies, of which there are many in tests.
#[allow(clippy::disallowed_methods, reason = "a world is run by a real thread")]
fn run(frame: Frame, body: Body) -> Result<Outcome<()>, Panicked> {
    panicked::listen();
    let thread = std::thread::Builder::new().name(format!("seed-{}", frame.seed.0));
    let run = move || {
        // Where a panic leaves the world, for its hash.
        let left = Rc::new(RefCell::new(None));
        let schedule = frame.seed.derive("schedule", 0);
        let mut runtime = Runtime::with_seed_and_config(schedule, madsim::Config::default());
        runtime.set_time_limit(frame.limit);
        let handle = runtime.handle().clone();
        let kept = Rc::clone(&left);
        let played = async move {
            let time = madsim::time::TimeHandle::current();
            let world = World::new(frame.seed, time, frame.watcher);
            kept.replace(Some(world.clone()));
            let (nodes, tasks, looks) = (Arc::default(), Arc::default(), Arc::default());
            let cluster = Cluster { world: world.clone(), handle, nodes, tasks, looks };
            cluster.spawn(world.clone().drive());
            cluster.spawn(cluster.clone().each_second());
            body(cluster.clone()).await;
            let (digest, simulated) = (world.digest(), Duration::from_nanos(world.now()));
            cluster.stop().await;
            kept.take();
            (digest, simulated)
        };
        catch_unwind(AssertUnwindSafe(|| runtime.block_on(played))).map_err(|payload| {
            let world: Option<World> = left.take();
            let (digest, now) = world.map(|world| (world.digest(), world.now())).unzip();
            Panicked::with(&*payload, digest, Duration::from_nanos(now.unwrap_or(0)))
        })
    };
    let run = move || {
        let (digest, simulated) = run()?;
        let (cpu, judged) = (timing::thread_cpu(), timing::judged());
        Ok(Outcome { value: (), digest, simulated, probes: probe::take(), cpu, judged })
    };
    let thread = thread.spawn(run).expect("a thread can be started");
    thread.join().unwrap_or_else(|payload| Err(Panicked::with(&*payload, None, Duration::ZERO)))
}

impl Cluster {
    /// The world that the machines are in.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Adds a machine and starts `program` on it, now and at every later boot. Returns its number.
    pub fn add<F>(
        &self,
        name: &str,
        disk_bytes: u64,
        program: impl Fn(SimIo) -> F + Send + Sync + 'static,
    ) -> usize
    where
        F: Future<Output = ()> + 'static,
    {
        self.add_program(name, disk_bytes, Arc::new(move |io| program(io).boxed_local()))
    }

    fn add_program(&self, name: &str, disk_bytes: u64, program: Program) -> usize {
        let machine = self.world.add_machine(name, disk_bytes);
        let world = self.world.clone();
        let boot = move || {
            let (world, program) = (world.clone(), Arc::clone(&program));
            async move {
                let process = world.boot(machine);
                program(SimIo::new(world.clone(), process, CoreId(0))).await;
                world.note(Event::Exit, &[machine as u64, process.number]);
                world.exited(machine);
            }
        };
        let node = self.handle.create_node().name(name).init(boot).build();
        let mut nodes = self.nodes.lock().expect("nobody panics with it");
        assert_eq!(nodes.len(), machine, "machines are added through the cluster only");
        nodes.push(node.id());
        machine
    }

    /// Ends a machine's process, at whichever await point it is.
    pub fn crash(&self, machine: usize, crash: Crash) {
        self.world.crash(machine, crash);
        self.handle.kill(self.node(machine));
    }

    /// Starts the program of a machine that has no process.
    pub fn start(&self, machine: usize) {
        if !self.is_running(machine) {
            self.handle.restart(self.node(machine));
        }
    }

    /// Stops a machine's process where it is; its kernel goes on. Until [`Cluster::resume`] or the
    /// process's end.
    pub fn pause(&self, machine: usize) {
        self.world.note(Event::Pause, &[machine as u64]);
        self.handle.pause(self.node(machine));
    }

    /// Lets a paused process go on.
    pub fn resume(&self, machine: usize) {
        self.world.note(Event::Resume, &[machine as u64]);
        self.handle.resume(self.node(machine));
    }

    /// Whether a machine has a process.
    #[must_use]
    pub fn is_running(&self, machine: usize) -> bool {
        self.world.machine(machine, |machine| machine.process.is_some())
    }

    /// Whether the program of a machine has returned, rather than crashed.
    #[must_use]
    pub fn has_exited(&self, machine: usize) -> bool {
        self.world.machine(machine, |machine| machine.exited)
    }

    /// Runs a task beside the machines, until the run ends.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        // In a box, or each kind of task would be compiled with all of the executor.
        let handle = madsim::task::spawn_local(task.boxed_local()).abort_handle();
        self.tasks.lock().expect("nobody panics with it").push(handle);
    }

    /// How many machines there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.nodes.lock().expect("nobody panics with it").len()
    }

    /// True (simulated) time passes.
    pub async fn pass(&self, duration: Duration) {
        madsim::time::sleep(duration).await;
    }

    /// Has `look` look once in every simulated second. It must change nothing and draw nothing: since
    /// no task is added for it, a run with it and one without are then the same run.
    pub fn look_each_second(&self, look: impl Fn() + Send + Sync + 'static) {
        self.looks.lock().expect("nobody panics with it").push(Arc::new(look));
    }

    /// What there is to do once a second, beside the machines.
    async fn each_second(self) {
        loop {
            self.pass(Duration::from_secs(1)).await;
            // Every finished task leaves something behind in madsim until its tasks are counted.
            let _ = self.handle.metrics().num_tasks();
            let looks = self.looks.lock().expect("nobody panics with it").clone();
            looks.iter().for_each(|look| look());
        }
    }

    /// Ends every process and lets the executor drop what they held.
    async fn stop(&self) {
        let nodes = self.nodes.lock().expect("nobody panics with it").clone();
        for (machine, node) in nodes.into_iter().enumerate() {
            self.world.crash(machine, Crash::Kill);
            self.handle.kill(node);
        }
        self.world.finish();
        // What sleeps is held by its timer and holds the world, which holds all timers.
        self.tasks.lock().expect("nobody panics with it").iter().for_each(AbortHandle::abort);
        madsim::time::sleep(Duration::from_millis(5)).await;
        self.world.finish();
    }

    fn node(&self, machine: usize) -> NodeId {
        self.nodes.lock().expect("nobody panics with it")[machine]
    }
}

#[cfg(test)]
#[path = "cluster_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "digest_tests.rs"]
mod digest_tests;
