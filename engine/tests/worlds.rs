//! The worlds of this package beside each other: one script that all must pass, and random calls
//! whose outcomes must be the same on the kernel, by a ring and by a pool of threads, and in RAM.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use trialog_engine::io::kernel::{self, Carrier};
use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Io, conform};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether there are no rings here; says so.
fn skipped() -> bool {
    let reason = kernel::available().err();
    if let Some(reason) = &reason {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {reason}");
    }
    reason.is_some()
}

#[test]
fn ram_conforms() {
    for seed in 0..2 {
        let ram = Ram::new(seed);
        ram.block_on(async {
            let dir = Path::new("/conform");
            ram.make_dir(dir).await.expect("make");
            conform::all(&ram, dir, LOCALHOST).await;
        });
    }
}

fn conforms(carrier: Carrier) {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_owned();
    let script = |io| async move { conform::all(&io, &path, LOCALHOST).await };
    kernel::run_by(carrier, 0, script).expect("a core");
}

#[test]
fn ring_conforms() {
    if !skipped() {
        conforms(Carrier::Ring);
    }
}

#[test]
fn pool_conforms() {
    conforms(Carrier::Pool);
}

#[test]
fn random_calls_end_the_same_by_a_ring_and_in_ram() {
    if !skipped() {
        compare(Carrier::Ring);
    }
}

#[test]
fn random_calls_end_the_same_by_a_pool_and_in_ram() {
    compare(Carrier::Pool);
}

/// A few thousand calls by default; set `TRIALOG_RANDOM_CALLS` for more.
fn compare(carrier: Carrier) {
    let calls: usize = match std::env::var("TRIALOG_RANDOM_CALLS") {
        Ok(calls) => calls.parse().expect("a number"),
        Err(_) => 6000,
    };
    const CALLS_PER_SEED: usize = 300;
    let mut errors = 0;
    for seed in 0..calls.div_ceil(CALLS_PER_SEED) as u64 {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().to_owned();
        let ram = Ram::new(seed);
        let (kernel, model) = if seed % 4 == 3 {
            let kernel = kernel::run_by(carrier, 0, |io| async move {
                conform::random::network(&io, &io, &path, LOCALHOST, seed, CALLS_PER_SEED).await
            });
            let root = Path::new("/");
            let model = conform::random::network(&ram, &ram, root, LOCALHOST, seed, CALLS_PER_SEED);
            (kernel, ram.block_on(model))
        } else {
            let kernel = kernel::run_by(carrier, 0, |io| async move {
                conform::random::files(&io, &path, seed, CALLS_PER_SEED).await
            });
            let model = conform::random::files(&ram, Path::new("/"), seed, CALLS_PER_SEED);
            (kernel, ram.block_on(model))
        };
        for (kernel, model) in kernel.expect("a core").into_iter().zip(model) {
            assert_eq!(kernel, model, "seed {seed}");
            errors += usize::from(kernel.contains("Err("));
        }
    }
    assert!(errors > calls / 12, "only {errors} of {calls} calls failed: too tame");
}
