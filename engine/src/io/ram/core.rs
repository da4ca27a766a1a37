//! The RAM world's executor: one thread, virtual time, and a seeded choice of who runs next.
//!
//! Owns the tasks and the timers. A poll costs a little virtual time; when nothing is ready, time
//! jumps to the next timer, so a test that sleeps for an hour takes no time at all. When nothing
//! is ready and no timer is set, nothing can ever happen again, and the run panics.
//!
//! Knows nothing of disks and networks. They find the core they run on through
//! [`Core::current`], as ring code finds its ring.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::io::Instant;
use crate::io::chance::Chance;
use crate::io::yield_now;

/// What one poll of a task costs.
const POLL_NANOS: u64 = 200;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// The number of the future that [`Core::run`] was given.
const MAIN: u64 = 0;

thread_local! {
    static CURRENT: RefCell<Option<Rc<Core>>> = const { RefCell::new(None) };
}

pub(super) struct Core {
    now: Cell<Instant>,
    chance: RefCell<Chance>,
    halted: Arc<AtomicBool>,
    ready: Arc<Mutex<Vec<u64>>>,
    tasks: RefCell<BTreeMap<u64, (Task, Waker)>>,
    task_next: Cell<u64>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    timer_next: Cell<u64>,
}

struct Ready {
    task: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<Vec<u64>>>,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().expect("no panic under this lock").push(self.task);
        }
    }
}

/// Makes a core the current one until dropped.
struct Entered(Option<Rc<Core>>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

impl Core {
    pub(super) fn new(seed: u64, halted: Arc<AtomicBool>) -> Rc<Core> {
        Rc::new(Core {
            now: Cell::new(Instant(1_000_000_000)),
            chance: RefCell::new(Chance::new(seed)),
            halted,
            ready: Arc::default(),
            tasks: RefCell::default(),
            task_next: Cell::new(MAIN + 1),
            timers: RefCell::default(),
            timer_next: Cell::new(0),
        })
    }

    /// The core that is running on this thread.
    ///
    /// # Panics
    /// If there is none: a RAM file or connection was used outside of its world's `block_on`.
    pub(super) fn current() -> Rc<Core> {
        CURRENT.with_borrow(|core| core.clone()).expect("used outside of the RAM world's block_on")
    }

    pub(super) fn now(&self) -> Instant {
        self.now.get()
    }

    pub(super) fn random(&self) -> u64 {
        self.chance.borrow_mut().bits()
    }

    pub(super) fn one_in(&self, n: usize) -> bool {
        self.chance.borrow_mut().one_in(n)
    }

    /// A length in `1 ..= len`, mostly all of it; 0 stays 0.
    pub(super) fn shorten(&self, len: usize) -> usize {
        let mut chance = self.chance.borrow_mut();
        if len > 1 && chance.one_in(4) { 1 + chance.below(len) } else { len }
    }

    fn waker(&self, task: u64) -> (Arc<Ready>, Waker) {
        let ready =
            Arc::new(Ready { task, queued: AtomicBool::new(false), ready: self.ready.clone() });
        (ready.clone(), Waker::from(ready))
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        let id = self.task_next.get();
        self.task_next.set(id + 1);
        let (ready, waker) = self.waker(id);
        // The flag is lowered in the same breath as the task is taken to be polled.
        let task = Box::pin(async move {
            let mut task = pin!(task);
            std::future::poll_fn(|cx| {
                ready.queued.store(false, Ordering::Relaxed);
                task.as_mut().poll(cx)
            })
            .await;
        });
        waker.wake_by_ref();
        self.tasks.borrow_mut().insert(id, (task, waker));
    }

    /// Drops every task. Their destructors run, in a world that is dead by then.
    pub(super) fn clear(&self) {
        let tasks = self.tasks.take();
        self.timers.take();
        drop(tasks);
    }

    pub(super) fn sleep(self: &Rc<Self>, duration: Duration) -> Sleep {
        Sleep { core: self.clone(), until: self.now().after(duration), registered: None }
    }

    /// Carries out `effect` now or a little later, as a device would. When the caller drops the
    /// future meanwhile, the effect still happens.
    pub(super) async fn perform<T: 'static>(
        self: &Rc<Self>,
        effect: impl FnOnce() -> T + 'static,
    ) -> T {
        if self.one_in(2) {
            let result = effect();
            if self.halted.load(Ordering::Relaxed) {
                // The power was cut just before it: nobody lives to see the result.
                return std::future::pending().await;
            }
            return result;
        }
        let (sender, receiver) = oneshot::channel();
        let core = self.clone();
        self.spawn(async move {
            core.lag().await;
            let result = effect();
            core.lag().await;
            // The caller may have gone away.
            let _ = sender.send(result);
        });
        receiver.await.expect("a task is not dropped while its world runs")
    }

    /// A device's moment: often none, sometimes a turn of the others, sometimes real time.
    pub(super) async fn lag(self: &Rc<Self>) {
        let dice = self.random();
        match dice % 8 {
            0..4 => {}
            4..7 => yield_now().await,
            _ => self.sleep(Duration::from_nanos(dice >> 8 & 0xf_ffff)).await,
        }
    }

    /// Polls `main` and all tasks until `main` is done. None when the world was halted first.
    pub(super) fn run<T>(self: &Rc<Self>, main: impl Future<Output = T>) -> Option<T> {
        let _entered = Entered(CURRENT.replace(Some(self.clone())));
        let mut main = pin!(main);
        let (main_ready, main_waker) = self.waker(MAIN);
        main_waker.wake_by_ref();
        loop {
            if self.halted.load(Ordering::Relaxed) {
                return None;
            }
            self.fire_timers();
            let Some(id) = self.pick() else {
                let next = self.timers.borrow().keys().next().map(|(at, _)| *at);
                let at = next.expect("nothing can run any more: every task waits for another");
                self.now.set(at.max(self.now()));
                continue;
            };
            self.now.set(self.now().after(Duration::from_nanos(POLL_NANOS)));
            if id == MAIN {
                main_ready.queued.store(false, Ordering::Relaxed);
                let polled = main.as_mut().poll(&mut Context::from_waker(&main_waker));
                if self.halted.load(Ordering::Relaxed) {
                    return None;
                }
                if let Poll::Ready(value) = polled {
                    // A wake-up of this main future must not reach the next one.
                    self.ready.lock().expect("no panic under this lock").retain(|&id| id != MAIN);
                    return Some(value);
                }
                continue;
            }
            let task = self.tasks.borrow_mut().remove(&id);
            if let Some((mut task, waker)) = task
                && task.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
            {
                self.tasks.borrow_mut().insert(id, (task, waker));
            }
        }
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.lock().expect("no panic under this lock");
        let count = ready.len();
        (count > 0).then(|| ready.swap_remove(self.chance.borrow_mut().below(count)))
    }

    fn fire_timers(&self) {
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry() else { return };
            if first.key().0 > self.now() {
                return;
            }
            let waker = first.remove();
            drop(timers);
            waker.wake();
        }
    }
}

/// Completes at a moment of virtual time.
pub(super) struct Sleep {
    core: Rc<Core>,
    until: Instant,
    registered: Option<(Instant, u64)>,
}

impl Sleep {
    fn forget(&mut self) {
        if let Some(key) = self.registered.take() {
            let waker = self.core.timers.borrow_mut().remove(&key);
            drop(waker);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.forget();
        if self.core.now() >= self.until {
            return Poll::Ready(());
        }
        let key = (self.until, self.core.timer_next.get());
        self.core.timer_next.set(key.1 + 1);
        self.core.timers.borrow_mut().insert(key, cx.waker().clone());
        self.registered = Some(key);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.forget();
    }
}
