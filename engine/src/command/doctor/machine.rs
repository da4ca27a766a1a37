//! Kernel, rings, limits, processors and clock.

use std::fs;
use std::mem::MaybeUninit;

use trialog_engine::io::kernel;

use super::{Finding, cgroup};
use crate::command::runtime::cores_available;
use crate::command::usage::soft_limit;

/// Open files that a broker with many partitions and clients wants.
const FILES_WANTED: u64 = 65_536;

/// Memory that should be available, in MiB.
const MEMORY_WANTED_MIB: u64 = 256;

/// Everything about the machine but its disk.
pub fn look() -> Vec<Finding> {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    vec![kernel(), rings(), locked_memory(&limits), open_files(&limits), cores(), memory(), clock()]
}

fn kernel() -> Finding {
    let what = "kernel";
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    match version(release) {
        Some(at_least) if at_least >= (6, 9) => Finding::good(what, release),
        Some(at_least) if at_least >= (6, 0) => Finding::caution(
            what,
            release,
            "from 6.5 on a look into the page cache, from 6.9 on cutting files costs less",
        ),
        _ => Finding::caution(
            what,
            release,
            "run on Linux 6.0 or newer, from which on io_uring has all that a broker uses",
        ),
    }
}

/// Major and minor version of a kernel's release.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn rings() -> Finding {
    match kernel::available() {
        Ok(()) => Finding::good("io_uring", "allowed, with all that is needed: a broker uses it"),
        Err(refused) => Finding::caution(
            "io_uring",
            format!("{}: a broker uses a pool of threads (--io pool)", refused.reason),
            format!("{}: flushes and cold reads then cost less", refused.remedy),
        ),
    }
}

fn locked_memory(limits: &str) -> Finding {
    let what = "locked memory";
    match soft_limit(limits, "Max locked memory") {
        Some(bytes) if bytes < 8 << 20 => Finding::caution(
            what,
            format!("limited to {} KiB", bytes >> 10),
            "raise it (ulimit -l, or LimitMEMLOCK= in a unit): rings become smaller to fit",
        ),
        Some(u64::MAX) => Finding::good(what, "not limited"),
        Some(bytes) => Finding::good(what, format!("limited to {} MiB", bytes >> 20)),
        None => Finding::caution(what, "unknown", "mount /proc"),
    }
}

fn open_files(limits: &str) -> Finding {
    let what = "open files";
    match soft_limit(limits, "Max open files") {
        Some(files) if files < FILES_WANTED => Finding::caution(
            what,
            format!("limited to {files}"),
            format!(
                "raise it to {FILES_WANTED} (ulimit -n, or LimitNOFILE= in a unit): every client \
                 and every segment in use takes one"
            ),
        ),
        Some(files) => Finding::good(what, format!("limited to {files}")),
        None => Finding::caution(what, "unknown", "mount /proc"),
    }
}

fn cores() -> Finding {
    Finding::good("processors", format!("{}, a broker uses each", cores_available()))
}

fn memory() -> Finding {
    let what = "memory";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = |name| text.lines().find_map(|line: &str| line.strip_prefix(name));
    let mebibytes = |name| {
        let kibibytes: u64 = line(name)?.split_whitespace().next()?.parse().ok()?;
        Some(kibibytes >> 10)
    };
    let (Some(mut total), Some(mut free)) = (mebibytes("MemTotal:"), mebibytes("MemAvailable:"))
    else {
        return Finding::caution(what, "unknown", "mount /proc");
    };
    let limit = cgroup::memory().filter(|limit| limit.max >> 20 < total);
    let mut by = "";
    if let Some(limit) = limit {
        (total, free) = (limit.max >> 20, free.min(limit.left >> 20));
        by = ", as a control group limits it";
    }
    let found = format!("{free} of {total} MiB available{by}");
    if free >= MEMORY_WANTED_MIB {
        return Finding::good(what, found);
    }
    let remedy = "free some: reads are served from the page cache, and there is next to none";
    match limit {
        Some(_) => Finding::caution(what, found, format!("raise the limit, or {remedy}")),
        None => Finding::caution(what, found, remedy),
    }
}

/// Time stamps and time-based retention follow the wall clock.
fn clock() -> Finding {
    let what = "clock";
    let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let source = fs::read_to_string(source).unwrap_or_default();
    let source = source.trim();
    if matches!(source, "hpet" | "acpi_pm" | "jiffies") {
        return Finding::caution(
            what,
            format!("read from {source}, which is slow"),
            "choose tsc or the hypervisor's clock (clocksource= on the kernel's command line)",
        );
    }
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: with no modes set the call only fills in the structure, which has room for it.
    let answer = unsafe { libc::adjtimex(state.as_mut_ptr()) };
    if answer == libc::TIME_ERROR {
        return Finding::caution(
            what,
            "not synchronised, as far as the kernel knows",
            "run a time service (chrony, systemd-timesyncd): time stamps and retention by age \
             follow this clock",
        );
    }
    Finding::good(what, format!("synchronised, read from {source}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.18.0-rc1+"), Some((6, 18)));
        assert_eq!(version("5.15.167.4-microsoft"), Some((5, 15)));
        assert_eq!(version(""), None);
    }

    #[test]
    fn limits() {
        let text = "Limit                     Soft Limit           Hard Limit           Units\n\
                    Max locked memory         8388608              8388608              bytes\n\
                    Max open files            unlimited            1048576              files\n";
        assert_eq!(soft_limit(text, "Max locked memory"), Some(8 << 20));
        assert_eq!(soft_limit(text, "Max open files"), Some(u64::MAX));
        assert_eq!(soft_limit(text, "Max cpu time"), None);
    }

    #[test]
    fn this_machine_is_looked_at() {
        let findings = look();
        assert!(findings.iter().all(|finding| !finding.found.is_empty()), "{findings:?}");
    }
}
