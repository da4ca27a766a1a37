//! Whether this kernel lets us have rings, what stands in for them, how large they may be, and
//! which processor a core is.

use std::future::Future;
use std::sync::OnceLock;

use io_uring::{IoUring, Probe, opcode};
use tokio::task::LocalSet;

use crate::io::{Error, Result};
use crate::limit::{RING_ENTRIES as ENTRIES, RING_WORKERS_MAX};

/// The smallest ring that is worth having.
const ENTRIES_MIN: u32 = 8;

/// What carries the operations on files that are not done inline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// io_uring. The default, where the kernel has it.
    Ring,
    /// A few threads for each core, which make the blocking calls.
    Pool,
}

/// What carries file operations where nobody asks for one of the two: a ring, or what stands in
/// for it and why.
#[must_use]
pub fn carrier() -> (Carrier, Option<Unavailable>) {
    match available() {
        Ok(()) => (Carrier::Ring, None),
        Err(refused) => (Carrier::Pool, Some(refused)),
    }
}

/// Why io_uring cannot be used here, and what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("io_uring cannot be used: {reason}. {remedy}")]
pub struct Unavailable {
    /// What the kernel said.
    pub reason: String,
    /// What to change.
    pub remedy: &'static str,
}

/// Whether this process may use io_uring, with all that the engine needs of it (Linux 6.0).
///
/// # Errors
/// The reason, and the remedy.
pub fn available() -> std::result::Result<(), Unavailable> {
    static ANSWER: OnceLock<std::result::Result<(), Unavailable>> = OnceLock::new();
    ANSWER.get_or_init(try_ring).clone()
}

fn try_ring() -> std::result::Result<(), Unavailable> {
    let ring = build(ENTRIES_MIN).map_err(|error| Unavailable {
        reason: format!("the kernel refuses a ring ({error})"),
        remedy: match error.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => {
                "Set the sysctl kernel.io_uring_disabled to 0; in a container, use a seccomp \
                 profile that allows io_uring_setup (docker run --security-opt seccomp=unconfined)"
            }
            Some(libc::ENOSYS) => {
                "Run on Linux 6.0 or newer; in a container, use a seccomp profile that allows \
                 io_uring_setup (docker run --security-opt seccomp=unconfined)"
            }
            Some(libc::EINVAL) => "Run on Linux 6.0 or newer",
            Some(libc::ENOMEM) => "Raise the limit of locked memory (ulimit -l)",
            _ => "Run on Linux 6.0 or newer with io_uring enabled",
        },
    })?;
    let mut probe = Probe::new();
    let missing = match ring.submitter().register_probe(&mut probe) {
        Err(error) => Some(format!("the kernel does not say what its rings can do ({error})")),
        Ok(()) => [
            ("accept", opcode::Accept::CODE),
            ("cancel", opcode::AsyncCancel::CODE),
            ("close", opcode::Close::CODE),
            ("connect", opcode::Connect::CODE),
            ("fadvise", opcode::Fadvise::CODE),
            ("fallocate", opcode::Fallocate::CODE),
            ("fsync", opcode::Fsync::CODE),
            ("mkdirat", opcode::MkDirAt::CODE),
            ("openat", opcode::OpenAt::CODE),
            ("read", opcode::Read::CODE),
            ("renameat", opcode::RenameAt::CODE),
            ("unlinkat", opcode::UnlinkAt::CODE),
        ]
        .into_iter()
        .find(|(_, code)| !probe.is_supported(*code))
        .map(|(name, _)| format!("the kernel's rings do not know {name}")),
    };
    match missing {
        Some(reason) => Err(Unavailable { reason, remedy: "Run on Linux 6.0 or newer" }),
        None => Ok(()),
    }
}

/// Whether rings can truncate (Linux 6.9).
pub(super) fn truncates() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let mut probe = Probe::new();
        let probed =
            build(ENTRIES_MIN).and_then(|ring| ring.submitter().register_probe(&mut probe));
        probed.is_ok() && probe.is_supported(opcode::Ftruncate::CODE)
    })
}

fn build(entries: u32) -> Result<IoUring> {
    IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(entries)
}

/// As large a ring as the limit of locked memory allows.
fn shrinking<T>(what: &str, mut build: impl FnMut(u32) -> Result<T>) -> Result<T> {
    let mut entries = ENTRIES;
    loop {
        match build(entries) {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && entries > ENTRIES_MIN => {
                entries /= 2;
            }
            Err(error) => return Err(error),
            Ok(ring) => {
                if entries < ENTRIES {
                    tracing::warn!(
                        entries,
                        wanted = ENTRIES,
                        "the limit of locked memory (ulimit -l) makes the {what} ring smaller"
                    );
                }
                return Ok(ring);
            }
        }
    }
}

pub(super) fn storage_ring() -> Result<IoUring> {
    let ring = shrinking("storage", build)?;
    // By default the kernel allows four for each processor, which makes a group commit over
    // many files wait in line.
    ring.submitter().register_iowq_max_workers(&mut [RING_WORKERS_MAX, 0])?;
    Ok(ring)
}

/// One core's runtime: tokio-uring's, with a current-thread reactor and a ring of its own, or the
/// same without the ring.
pub(super) enum Runtime {
    Ring(tokio_uring::Runtime),
    Pool(tokio::runtime::Runtime, LocalSet),
}

impl Runtime {
    pub(super) fn new(carrier: Carrier) -> Result<Runtime> {
        if carrier == Carrier::Pool {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            return Ok(Runtime::Pool(runtime, LocalSet::new()));
        }
        // A runtime whose ring is refused leaks, so the size is found out before.
        let entries = shrinking("runtime", |entries| build(entries).map(|_| entries))?;
        let mut ring = tokio_uring::uring_builder();
        ring.setup_coop_taskrun().setup_single_issuer();
        let mut builder = tokio_uring::builder();
        builder.entries(entries).uring_builder(&ring);
        tokio_uring::Runtime::new(&builder).map(Runtime::Ring)
    }

    pub(super) fn block_on<F: Future>(&self, body: F) -> F::Output {
        match self {
            Runtime::Ring(runtime) => runtime.block_on(body),
            Runtime::Pool(runtime, tasks) => tasks.block_on(runtime, body),
        }
    }
}

/// The processors that this process was allowed when it was first asked.
fn processors() -> &'static [usize] {
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    ALLOWED.get_or_init(allowed)
}

/// Binds the calling thread to the processor of core number `core`: the `core`-th of those that
/// this process was allowed when it was first asked, counted round.
pub(super) fn pin(core: usize) -> Result<()> {
    let processors = processors();
    if processors.is_empty() {
        return Err(Error::other("the kernel names no processor that this process may use"));
    }
    bind(&[processors[core % processors.len()]])
}

/// Lets the calling thread run on every processor again.
pub(super) fn unpin() -> Result<()> {
    bind(processors())
}

fn bind(processors: &[usize]) -> Result<()> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    for &processor in processors {
        // SAFETY: a zeroed set is an empty set, and the number came out of such a set.
        unsafe { libc::CPU_SET(processor, &mut *set.as_mut_ptr()) };
    }
    // SAFETY: the set is initialised, and 0 is the calling thread.
    let result = unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set.as_ptr()) };
    super::descriptor::checked(result).map(drop)
}

fn allowed() -> Vec<usize> {
    let mut set = std::mem::MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: the set has room for the answer, and 0 is the calling thread.
    let result =
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) };
    if result != 0 {
        return Vec::new();
    }
    // SAFETY: filled by the call; all zeros would be valid too.
    let set = unsafe { set.assume_init() };
    let size = usize::try_from(libc::CPU_SETSIZE).expect("positive");
    // SAFETY: the number is below the size of the set.
    (0..size).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_shrinks_to_what_may_be_locked() {
        let limited = |entries| match entries {
            65.. => Err(Error::from_raw_os_error(libc::ENOMEM)),
            entries => Ok(entries),
        };
        assert_eq!(shrinking("test", limited).expect("small ones work"), 64);
        let none = |_| Err::<(), _>(Error::from_raw_os_error(libc::ENOMEM));
        assert_eq!(shrinking("test", none).expect_err("none").raw_os_error(), Some(libc::ENOMEM));
        let refused = |_| Err::<(), _>(Error::from_raw_os_error(libc::EPERM));
        assert_eq!(shrinking("test", refused).expect_err("no").raw_os_error(), Some(libc::EPERM));
    }
}
