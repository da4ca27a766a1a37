//! The file system under the data folder: its kind, its room, and what a flush takes.

#![allow(clippy::disallowed_methods, reason = "a flush is timed on the real clock")]

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::Finding;

/// Room below which a broker is soon in trouble, in bytes.
const ROOM_WANTED: u64 = 1 << 30;

/// A flush that takes longer makes every acknowledgement slow.
const FLUSH_SLOW: Duration = Duration::from_millis(20);

/// A flush that takes less has not reached any device.
const FLUSH_TOO_FAST: Duration = Duration::from_micros(8);

const FLUSHES: usize = 21;

/// Looks at the file system that `data` is, or would be, on.
pub fn look(data: &Path) -> Vec<Finding> {
    let Some(folder) = existing(data) else {
        let found = format!("{} cannot be reached", data.display());
        return vec![Finding::bad("data folder", found, "name another one with --data")];
    };
    let mut findings = vec![kind(&folder), room(&folder)];
    match timed(&folder) {
        Ok((flush, allocation)) => findings.extend([flush, allocation]),
        Err(error) => findings.push(Finding::bad(
            "data folder",
            format!("cannot write in {}: {error}", folder.display()),
            "give it to the user that the broker runs as",
        )),
    }
    findings
}

/// The folder itself or the nearest one above it that exists.
fn existing(data: &Path) -> Option<PathBuf> {
    let whole = std::path::absolute(data).ok()?;
    whole.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn kind(folder: &Path) -> Finding {
    let what = "file system";
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    match kind_of(&mounts, folder) {
        Some(kind @ ("tmpfs" | "ramfs")) => Finding::bad(
            what,
            kind,
            "put the data on a disk: what is here is gone after a power cut, flushed or not",
        ),
        Some(kind @ ("nfs" | "nfs4" | "cifs" | "fuse" | "9p" | "virtiofs")) => Finding::caution(
            what,
            kind,
            "prefer a local ext4 or xfs: whether a flush reaches a disk is up to the server",
        ),
        Some(kind) => Finding::good(what, kind),
        None => Finding::caution(what, "unknown", "mount /proc"),
    }
}

/// The kind of the file system that `folder` is on, out of `/proc/self/mountinfo`.
fn kind_of<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (left, right) = line.split_once(" - ")?;
        let point = left.split(' ').nth(4)?;
        folder.starts_with(point).then_some((point.len(), right.split(' ').next()?))
    };
    // The deepest one counts, and of several on one place the last.
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

fn room(folder: &Path) -> Finding {
    let what = "free room";
    let path = std::ffi::CString::new(folder.as_os_str().as_encoded_bytes()).unwrap_or_default();
    let mut stat = std::mem::MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: the path ends in a zero, and `stat` has room for the answer.
    let result = unsafe { libc::statvfs(path.as_ptr(), stat.as_mut_ptr()) };
    if result != 0 {
        return Finding::caution(what, io::Error::last_os_error().to_string(), "check the disk");
    }
    // SAFETY: filled by the call; all zeros would be valid too.
    let stat = unsafe { stat.assume_init() };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{} MiB in {}", free >> 20, folder.display());
    match free {
        0..ROOM_WANTED => Finding::caution(what, found, "free some, or set retention.bytes"),
        _ => Finding::good(what, found),
    }
}

/// Writes and flushes a small file as a log does, and removes it.
fn timed(folder: &Path) -> io::Result<(Finding, Finding)> {
    let path = folder.join(format!(".trialog-doctor-{}", std::process::id()));
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    let measured = flushes(&file);
    let allocation = allocation(&file);
    fs::remove_file(&path)?;
    Ok((flush(measured?), allocation))
}

/// The median time of writing 4 KiB and flushing them.
fn flushes(mut file: &File) -> io::Result<Duration> {
    file.write_all(&[0; 4096 * FLUSHES])?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(FLUSHES);
    for number in 0..FLUSHES {
        let begun = Instant::now();
        file.write_all_at(&[1; 4096], 4096 * number as u64)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    Ok(times[FLUSHES / 2])
}

fn flush(median: Duration) -> Finding {
    let what = "flush of 4 KiB";
    let found = format!("{:.2} ms (median of {FLUSHES})", median.as_secs_f64() * 1e3);
    if median > FLUSH_SLOW {
        return Finding::caution(
            what,
            found,
            "every acknowledgement waits for one: use a faster disk, or for topics that may lose \
             their newest records set trialog.durability=page-cache",
        );
    }
    if median < FLUSH_TOO_FAST {
        return Finding::caution(
            what,
            found,
            "no device is that fast: make sure that flushes are not ignored (a mount option, a \
             virtual disk with an unsafe cache)",
        );
    }
    Finding::good(what, found)
}

fn allocation(file: &File) -> Finding {
    let what = "allocation";
    // SAFETY: the descriptor is open.
    match unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, 1 << 20) } {
        0 => Finding::good(what, "room can be reserved ahead"),
        _ => Finding::caution(
            what,
            format!("refused: {}", io::Error::last_os_error()),
            "prefer ext4 or xfs: without it appends cost more, and a full disk is noticed later",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
        22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
        30 22 0:25 / /srv/data rw shared:5 - tmpfs tmpfs rw\n\
        31 22 8:2 / /srv/data/log rw - xfs /dev/sdb1 rw\n";

    #[test]
    fn the_deepest_mount_counts() {
        let kind = |path: &str| kind_of(MOUNTS, Path::new(path));
        assert_eq!(kind("/home/x"), Some("ext4"));
        assert_eq!(kind("/srv/data"), Some("tmpfs"));
        assert_eq!(kind("/srv/data/log/a"), Some("xfs"));
        assert_eq!(kind("/srv/database"), Some("ext4"));
    }

    #[test]
    fn a_real_folder_is_looked_at_and_left_clean() {
        let folder = tempfile::tempdir().expect("a folder");
        let findings = look(&folder.path().join("not/yet/there"));
        assert_eq!(findings.len(), 4, "{findings:?}");
        assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 0);
    }

    #[test]
    fn slow_and_unbelievable_flushes_are_named() {
        assert!(flush(Duration::from_millis(1)).remedy.is_none());
        assert!(flush(Duration::from_millis(30)).remedy.is_some());
        assert!(flush(Duration::from_micros(1)).remedy.is_some());
    }
}
