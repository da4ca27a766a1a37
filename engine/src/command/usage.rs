//! What this process takes of its machine, by what the kernel tells in `/proc` (proc(5)).

use std::fs;

use trialog_engine::broker::Usage;

/// Where `/proc/self/stat` has what, counted from behind the command's name, which may hold anything.
const UTIME: usize = 11;
const STIME: usize = 12;
const STARTTIME: usize = 19;
const VSIZE: usize = 20;
const RSS: usize = 21;

/// Looks. `None` where there is no `/proc`.
pub fn look() -> Option<Usage> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let field = |at: usize| fields.get(at)?.parse::<u64>().ok();
    let (tick, page) = (system(libc::_SC_CLK_TCK)?, system(libc::_SC_PAGESIZE)?);
    let seconds = |ticks: u64| ticks as f64 / tick as f64;
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let max_fds = soft_limit(&limits, "Max open files")?;
    // One of them is the folder that is being read.
    let open_fds = fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1);
    Some(Usage {
        cpu_seconds: seconds(field(UTIME)? + field(STIME)?),
        started_at: booted_at()? + seconds(field(STARTTIME)?),
        virtual_bytes: field(VSIZE)?,
        resident_bytes: field(RSS)? * page,
        open_fds: open_fds as u64,
        max_fds: Some(max_fds).filter(|max| *max != u64::MAX),
    })
}

/// When the machine started, in seconds since 1970.
fn booted_at() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// A soft limit out of `/proc/self/limits`; `u64::MAX` for none.
pub fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

fn system(name: i32) -> Option<u64> {
    // SAFETY: the call takes a number and returns one.
    u64::try_from(unsafe { libc::sysconf(name) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_plausible() {
        let before = look().expect("there is a /proc");
        let held: Vec<_> = (0..10).map(|_| fs::File::open("/dev/null").expect("there")).collect();
        let taken = vec![1_u8; 64 << 20];
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let worked = |now: Usage| now.cpu_seconds >= before.cpu_seconds + 0.02;
        while !look().is_some_and(worked) && std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        let after = look().expect("there is a /proc");
        drop((held, taken));
        assert!(worked(after), "{before:?} {after:?}");
        assert!(after.resident_bytes >= before.resident_bytes + (32 << 20), "{before:?} {after:?}");
        assert!(after.virtual_bytes >= after.resident_bytes, "{after:?}");
        // Other tests open and close files meanwhile.
        assert!(after.open_fds >= 10, "{after:?}");
        assert!(after.max_fds.is_none_or(|max| max > after.open_fds), "{after:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let age = now.expect("after 1970").as_secs_f64() - after.started_at;
        assert!((-2.0..86_400.0).contains(&age), "started {age} s ago");
    }

    #[test]
    fn a_limit_may_be_none() {
        let limits = |soft: &str| {
            format!("Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  4096  files\n")
        };
        let files = |limits: &str| soft_limit(limits, "Max open files");
        assert_eq!(files(&limits("1024")), Some(1024));
        assert_eq!(files(&limits("unlimited")), Some(u64::MAX));
        assert_eq!(files("Max processes  1  1  processes\n"), None);
    }
}
