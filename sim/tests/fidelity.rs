//! The simulated disk and network beside the kernel's: random calls must end the same.
//!
//! A few thousand calls by default, half a minute's worth at most; set `TRIALOG_RANDOM_CALLS` for
//! more.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trialog_engine::io::kernel::Carrier;
use trialog_engine::io::{conform, kernel};
use trialog_sim::cluster::{Frame, simulate};
use trialog_sim::machine::Machine;

const CALLS_PER_SEED: usize = 300;
/// One seed of so many goes by the pool, which stands in for the ring where the kernel refuses it.
const POOL_ONE_IN: u64 = 4;
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Script {
    Files,
    Network,
}

/// Runs the script on a simulated machine.
fn simulated(script: Script, seed: u64) -> Vec<String> {
    let said: Arc<Mutex<Option<Vec<String>>>> = Arc::default();
    let result = Arc::clone(&said);
    let outcome = simulate(Frame::new(seed), move |cluster| async move {
        let machine = cluster.add("machine", 64 << 20, move |io| {
            let result = Arc::clone(&result);
            async move {
                let root = Path::new("/");
                let lines = match script {
                    Script::Files => conform::random::files(&io, root, seed, CALLS_PER_SEED).await,
                    Script::Network => {
                        let ip = Machine::address(0);
                        conform::random::network(&io, &io, root, ip, seed, CALLS_PER_SEED).await
                    }
                };
                *result.lock().expect("one thread") = Some(lines);
            }
        });
        while !cluster.has_exited(machine) {
            cluster.pass(Duration::from_millis(50)).await;
        }
    });
    outcome.expect("no panic");
    let mut said = said.lock().expect("one thread");
    said.take().expect("the script has ended")
}

/// Runs it on the kernel.
fn real(script: Script, seed: u64, carrier: Carrier, dir: PathBuf) -> Vec<String> {
    let lines = kernel::run_by(carrier, 0, |io| async move {
        match script {
            Script::Files => conform::random::files(&io, &dir, seed, CALLS_PER_SEED).await,
            Script::Network => {
                conform::random::network(&io, &io, &dir, LOCALHOST, seed, CALLS_PER_SEED).await
            }
        }
    });
    lines.expect("a core")
}

fn compare(script: Script, calls_by_default: usize) {
    let calls: usize = match std::env::var("TRIALOG_RANDOM_CALLS") {
        Ok(calls) => calls.parse().expect("a number"),
        Err(_) => calls_by_default,
    };
    let refused = kernel::available().err();
    if let Some(reason) = &refused {
        eprintln!("SKIPPED, THE RING WAS NOT COMPARED, only the pool: {reason}");
    }
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let (mut compared, mut errors) = (0, 0);
    for seed in 0..calls.div_ceil(CALLS_PER_SEED) as u64 {
        let dir = target.join(format!("fidelity-{script:?}-{seed}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a folder");
        let by_pool = refused.is_some() || seed % POOL_ONE_IN == POOL_ONE_IN - 1;
        let carrier = if by_pool { Carrier::Pool } else { Carrier::Ring };
        let kernel = real(script, seed, carrier, dir.clone());
        std::fs::remove_dir_all(&dir).expect("it is there");
        let model = simulated(script, seed);
        assert_eq!(kernel.len(), model.len(), "{script:?}, seed {seed}");
        for (number, (kernel, model)) in kernel.iter().zip(&model).enumerate() {
            assert_eq!(kernel, model, "{script:?}, seed {seed}, call {number}");
            errors += usize::from(kernel.contains("Err(") || kernel.contains("Connection"));
        }
        compared += kernel.len();
    }
    println!("{script:?}: {compared} calls ended the same, {errors} of them with an error");
    assert!(errors * 100 > compared, "only {errors} of {compared} calls failed: too tame");
}

#[test]
fn files_end_every_call_as_the_kernel_does() {
    compare(Script::Files, 3000);
}

#[test]
fn connections_end_every_call_as_the_kernel_does() {
    compare(Script::Network, 3000);
}
