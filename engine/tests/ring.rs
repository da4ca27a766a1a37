//! The worlds of this package beside each other: one script that both must pass, and random calls
//! whose outcomes must be the same on the kernel and in RAM.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use trialog_engine::io::ram::Ram;
use trialog_engine::io::{Io, conform, ring};

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Whether there are no rings here; says so.
fn skipped() -> bool {
    let reason = ring::available().err();
    if let Some(reason) = &reason {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {reason}");
    }
    reason.is_some()
}

#[test]
fn ram_conforms() {
    for seed in 0..4 {
        let ram = Ram::new(seed);
        ram.block_on(async {
            let dir = Path::new("/conform");
            ram.make_dir(dir).await.expect("make");
            conform::all(&ram, dir, LOCALHOST).await;
        });
    }
}

#[test]
fn ring_conforms() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_owned();
    ring::run(0, |io| async move { conform::all(&io, &path, LOCALHOST).await }).expect("a ring");
}

/// A few thousand calls by default; set `TRIALOG_RANDOM_CALLS` for more.
#[test]
fn random_calls_end_the_same_on_the_kernel_and_in_ram() {
    if skipped() {
        return;
    }
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
            let kernel = ring::run(0, |io| async move {
                conform::random::network(&io, &io, &path, LOCALHOST, seed, CALLS_PER_SEED).await
            });
            let root = Path::new("/");
            let model = conform::random::network(&ram, &ram, root, LOCALHOST, seed, CALLS_PER_SEED);
            (kernel, ram.block_on(model))
        } else {
            let kernel = ring::run(0, |io| async move {
                conform::random::files(&io, &path, seed, CALLS_PER_SEED).await
            });
            let model = conform::random::files(&ram, Path::new("/"), seed, CALLS_PER_SEED);
            (kernel, ram.block_on(model))
        };
        for (kernel, model) in kernel.expect("a ring").into_iter().zip(model) {
            assert_eq!(kernel, model, "seed {seed}");
            errors += usize::from(kernel.contains("Err("));
        }
    }
    assert!(errors > calls / 12, "only {errors} of {calls} calls failed: too tame");
}
