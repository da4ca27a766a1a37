//! A disk that can lose power: an ext4 file system in a loop device on an ordinary file.
//!
//! Owns the backing file and the mount. The loop device does direct I/O, so the backing file holds
//! exactly what the file system has sent to its disk. A power cut is ext4's own shutdown without
//! flushing its journal: from that instant nothing more reaches the disk, whatever the page cache
//! holds, and the next mount recovers as after a real cut. The kernel's write-back could otherwise
//! go on while the backing file is copied, and the copy would show a state that no disk ever had.
//!
//! What this cannot show: loss of writes that the disk took and was not yet told to flush. The
//! simulator's disk has that.
//!
//! Everything happens in a mount namespace of this process, and the loop device is detached lazily:
//! when the last process of the trial is gone, however it went, so are mount and device.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::run;
use crate::stop::{Stop, broken, until};

/// The size of the disk. The backing file is sparse: it costs what is written.
const DISK_BYTES: u64 = 1 << 30;
/// `EXT4_IOC_SHUTDOWN` (`_IOR('X', 125, __u32)`), and the way that does not flush the journal.
const EXT4_IOC_SHUTDOWN: libc::Ioctl = 0x8004_587d_u32 as libc::Ioctl;
const SHUTDOWN_WITHOUT_FLUSH: u32 = 2;

pub struct Disk {
    image: PathBuf,
    mount: PathBuf,
    mounted: bool,
}

/// Prepares this process for mounting; fails with the reason where that is not possible.
pub fn prepare() -> Result<(), Stop> {
    let skipped = |why: String| Stop::Skipped(format!("a power cut needs {why}"));
    // SAFETY: plain system calls without memory.
    if unsafe { libc::geteuid() } != 0 {
        return Err(skipped("root (mounts and loop devices)".to_owned()));
    }
    for tool in ["losetup", "mkfs.ext4", "mount", "umount", "cp"] {
        let found = Command::new(tool)
            .arg("--version")
            .output()
            .or_else(|_| Command::new(Path::new("/usr/sbin").join(tool)).arg("-V").output());
        found.map_err(|error| skipped(format!("the program {tool}: {error}")))?;
    }
    // SAFETY: affects this thread and the children it starts; nothing else runs yet.
    let refused = unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0;
    if refused {
        let error = std::io::Error::last_os_error();
        return Err(skipped(format!("a mount namespace of its own: {error}")));
    }
    run("mount --make-rprivate", Command::new("mount").args(["--make-rprivate", "/"]))
        .map_err(|stop| skipped(format!("private mounts: {stop}")))?;
    Ok(())
}

impl Disk {
    /// A new, empty disk in `folder`, mounted.
    pub fn create(folder: &Path) -> Result<Disk, Stop> {
        let (image, mount) = (folder.join("disk.img"), folder.join("mount"));
        std::fs::create_dir_all(&mount).map_err(broken(mount.display()))?;
        let file = File::create(&image).map_err(broken(image.display()))?;
        file.set_len(DISK_BYTES).map_err(broken(image.display()))?;
        drop(file);
        run("mkfs.ext4", Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image))?;
        let mut disk = Disk { image, mount, mounted: false };
        disk.attach().map_err(|stop| {
            Stop::Skipped(format!("a power cut needs a loop device with direct I/O: {stop}"))
        })?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount
    }

    /// Its backing file.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Writes out everything that the page cache holds for it.
    pub fn sync(&self) -> Result<(), Stop> {
        let root = File::open(&self.mount).map_err(broken(self.mount.display()))?;
        // SAFETY: the descriptor is open.
        let refused = unsafe { libc::syncfs(root.as_raw_fd()) } != 0;
        if refused {
            let error = std::io::Error::last_os_error();
            return Err(Stop::Broken(format!("syncfs: {error}")));
        }
        Ok(())
    }

    /// The power fails now: nothing that is not on the disk yet will get there.
    pub fn fail_power(&self) -> Result<(), Stop> {
        let root = File::open(&self.mount).map_err(broken(self.mount.display()))?;
        let how = SHUTDOWN_WITHOUT_FLUSH;
        // SAFETY: the descriptor is open, and the call reads one u32 that outlives it.
        let refused = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_SHUTDOWN, &raw const how) };
        if refused != 0 {
            let error = std::io::Error::last_os_error();
            return Err(Stop::Skipped(format!("this kernel cannot shut ext4 down: {error}")));
        }
        Ok(())
    }

    /// After the power failed: copies what the disk holds, puts the copy in its place and mounts
    /// it, which recovers the file system. Nobody may use the old one any more.
    pub fn power_on(&mut self) -> Result<(), Stop> {
        let copy = self.image.with_extension("copy");
        run("cp", Command::new("cp").arg("--sparse=always").arg(&self.image).arg(&copy))?;
        self.detach()?;
        std::fs::rename(&copy, &self.image).map_err(broken(copy.display()))?;
        self.attach()
    }

    fn attach(&mut self) -> Result<(), Stop> {
        let mut losetup = Command::new("losetup");
        losetup.args(["--direct-io=on", "--find", "--show"]).arg(&self.image);
        let device = run("losetup", &mut losetup)?.trim().to_owned();
        let mut mount = Command::new("mount");
        mount.args(["-t", "ext4", &device]).arg(&self.mount);
        let mounted = run("mount", &mut mount);
        self.mounted = mounted.is_ok();
        let direct = uses_direct_io(&device);
        // From here on the device goes when the mount goes.
        let detached = run("losetup --detach", Command::new("losetup").args(["--detach", &device]));
        mounted.and(detached)?;
        if !direct {
            return Err(Stop::Skipped(format!("{device} does not do direct I/O")));
        }
        Ok(())
    }

    fn detach(&mut self) -> Result<(), Stop> {
        if !self.mounted {
            return Ok(());
        }
        // The kernel may still be ending I/O of a process that was just killed.
        let mut last = None;
        let done = until(Duration::from_secs(10), || {
            last = run("umount", Command::new("umount").arg(&self.mount)).err();
            Ok(last.is_none().then_some(()))
        })?;
        if let (None, Some(stop)) = (done, last) {
            return Err(stop);
        }
        self.mounted = false;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            // Lazily: whatever still uses it is being killed.
            let _ = Command::new("umount").arg("--lazy").arg(&self.mount).output();
        }
    }
}

fn uses_direct_io(device: &str) -> bool {
    let name = device.rsplit('/').next().unwrap_or(device);
    let setting = Path::new("/sys/block").join(name).join("loop/dio");
    std::fs::read_to_string(setting).is_ok_and(|text| text.trim() == "1")
}
