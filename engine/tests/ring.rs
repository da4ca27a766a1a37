//! The worlds of this package beside each other: one script that both must pass, and random calls
//! whose outcomes must be the same on the kernel and in RAM.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use trialog_engine::io::ram::{Chance, Ram};
use trialog_engine::io::{Buf, Error, File, Io, Open, conform, fill_at, ring, write_all_at};

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
        let kernel =
            ring::run(0, |io| async move { random_calls(&io, &path, seed, CALLS_PER_SEED).await });
        let ram = Ram::new(seed);
        let model = ram.block_on(random_calls(&ram, Path::new("/"), seed, CALLS_PER_SEED));
        for (kernel, model) in kernel.expect("a ring").into_iter().zip(model) {
            assert_eq!(kernel, model, "seed {seed}");
            errors += usize::from(kernel.contains("Err("));
        }
    }
    assert!(errors > calls / 10, "only {errors} of {calls} calls failed: too tame");
}

/// Makes the calls that `seed` draws, and says of each what it was and how it ended.
async fn random_calls<I: Io>(io: &I, dir: &Path, seed: u64, calls: usize) -> Vec<String> {
    let mut chance = Chance::new(seed);
    let mut files: Vec<Option<I::File>> = vec![None, None, None, None];
    let mut said = Vec::new();
    for _ in 0..calls {
        let line = if chance.one_in(2) {
            let slot = chance.below(files.len());
            match files[slot].clone() {
                Some(file) => on_file(&file, &mut files[slot], &mut chance).await,
                None => open(io, dir, &mut files[slot], &mut chance).await,
            }
        } else {
            on_names(io, dir, &mut chance).await
        };
        said.push(line);
    }
    said
}

fn any_path(chance: &mut Chance) -> &'static str {
    const PATHS: [&str; 10] =
        ["a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "d/e/f", "a/x", "d/e/f/g"];
    PATHS[chance.below(PATHS.len())]
}

async fn open<I: Io>(
    io: &I,
    dir: &Path,
    slot: &mut Option<I::File>,
    chance: &mut Chance,
) -> String {
    let path = any_path(chance);
    let how = match chance.below(5) {
        0 => Open::Read,
        1 => Open::Write,
        2 => Open::CreateNew,
        3 => Open::Create,
        _ => {
            let result = io.lock(&dir.join(path)).await;
            let line = format!("lock {path}: {:?}", end(result.as_ref().map(drop)));
            *slot = result.ok();
            return line;
        }
    };
    let result = io.open(&dir.join(path), how).await;
    let line = format!("open {path} {how:?}: {:?}", end(result.as_ref().map(drop)));
    *slot = result.ok();
    line
}

async fn on_names<I: Io>(io: &I, dir: &Path, chance: &mut Chance) -> String {
    let path = any_path(chance);
    let at = dir.join(path);
    match chance.below(6) {
        0 => format!("remove {path}: {:?}", end(io.remove(&at).await.as_ref())),
        1 | 2 => {
            let to = any_path(chance);
            let result = io.rename(&at, &dir.join(to)).await;
            format!("rename {path} {to}: {:?}", end(result.as_ref()))
        }
        3 => format!("list {path}: {:?}", end(io.list(&at).await.as_ref())),
        4 => format!("make {path}: {:?}", end(io.make_dir(&at).await.as_ref())),
        _ => format!("sync {path}: {:?}", end(io.sync_dir(&at).await.as_ref())),
    }
}

async fn on_file<F: File>(file: &F, slot: &mut Option<F>, chance: &mut Chance) -> String {
    let offset = chance.below(20_000) as u64;
    let len = chance.below(9000);
    match chance.below(9) {
        0 | 1 => {
            let bytes: Vec<u8> = (0..len).map(|_| chance.bits() as u8).collect();
            let (result, _) = write_all_at(file, vec![Buf::from(bytes)], offset).await;
            format!("write {offset} {len}: {:?}", end(result.as_ref()))
        }
        2..=4 => {
            let (result, buf) = fill_at(file, Buf::with_capacity(len), offset).await;
            // A sum that depends on order, so that a difference does not print thousands of bytes.
            let sum = buf.iter().fold(0_u64, |sum, &byte| sum.wrapping_mul(31) + u64::from(byte));
            format!("read {offset} {len}: {} {sum} {:?}", buf.len(), end(result.as_ref()))
        }
        5 => format!("cut {offset}: {:?}", end(file.truncate(offset).await.as_ref())),
        6 => {
            let result = file.allocate(offset, len as u64).await;
            format!("allocate {offset} {len}: {:?}", end(result.as_ref()))
        }
        7 => {
            let synced = file.sync().await;
            let length = file.length().await;
            format!("sync: {:?} {:?}", end(synced.as_ref()), end(length.as_ref()))
        }
        _ => {
            *slot = None;
            "close".to_owned()
        }
    }
}

/// How a call ended, without the words of an error, which no world promises.
fn end<T: std::fmt::Debug>(
    result: std::result::Result<T, &Error>,
) -> std::result::Result<T, String> {
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::EBADF) => "not open for writing".to_owned(),
        _ => format!("{:?}", error.kind()),
    })
}
