//! What is exact, and therefore gated (`cargo ci bench`): heap allocations for each steady-state request
//! (row 18 of the performance bars). Ends with an error if a bar is missed.
//!
//! `cargo bench -p trialog-bench --bench budget`. Everything that the process allocates is counted,
//! but for the load's thread.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use trialog_bench::broker::{Broker, fetch, produce};
use trialog_bench::load::{Stream, call, connect, pipelined};
use trialog_bench::machine::{LOAD_CORE, pin, private_network};

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static IS_LOAD: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is being taken down has no flag any more.
    if !IS_LOAD.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// The system's allocator, which counts how often it is asked.
struct Counting;

// SAFETY: every call is handed on unchanged to the system's allocator; counting allocates nothing,
// because the flag is a constant-initialised thread local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promises are the ones `System` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn main() {
    // `cargo test --benches` asks harness-less benches for a list; there is nothing to list.
    if std::env::args().any(|argument| argument == "--list" || argument == "--test") {
        return;
    }
    let _ = private_network();
    pin(LOAD_CORE);
    IS_LOAD.set(true);
    let dir = tempfile::tempdir().expect("a folder for the data");
    let broker = Broker::start(dir.path());
    let mut stream = connect(broker.address);
    println!("{:44} {:>9} {:>6}", "18 allocations per request", "found", "bar");

    broker.create("counted");
    let small = produce("counted", 1, 100);
    let large = produce("counted", 62, 1024);
    // The first offset holds the first batch.
    let one = call(&mut stream, &small).len() + 4;
    let mut met = row(&mut stream, "produce, 100 B, one at a time", (&small, one), 1);
    met &= row(&mut stream, "produce, 100 B, 64 deep", (&small, one), 64);
    met &= row(&mut stream, "produce, 64 KiB, two deep", (&large, one), 2);
    let plan = fetch("counted", 0, 1);
    let answer = call(&mut stream, &plan).len() + 4;
    met &= row(&mut stream, "fetch of one partition", (&plan, answer), 1);
    drop(broker);
    if !met {
        std::process::exit(1);
    }
}

/// What a steady-state request may allocate.
const BAR: f64 = 1.0;

/// Counts over many requests after some that do not count; whether the bar is met.
fn row(stream: &mut Stream, name: &str, (request, answer): (&[u8], usize), deep: u64) -> bool {
    const TIMES: u64 = 2048;
    pipelined(stream, request, answer, TIMES, deep);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    pipelined(stream, request, answer, TIMES, deep);
    let count = ALLOCATIONS.load(Ordering::Relaxed) - before;
    // To a hundredth: the broker has something else to do now and then.
    let each = (100.0 * count as f64 / TIMES as f64).round() / 100.0;
    let met = each <= BAR;
    println!("{name:44} {each:>9.2} {BAR:>6.2} {}", if met { "met" } else { "MISSED" });
    met
}
