//! The machine under the bench: processor time, pinning, and a network of its own.

use std::fs;
use std::io;
use std::time::Duration;

/// The core that servers run on; the load runs on the other one.
pub const SERVER_CORE: usize = 0;
/// The core that the load runs on.
pub const LOAD_CORE: usize = 1;

/// Processor time of everything in this process but the calling thread: the server under test
/// together with the kernel workers that act for it.
#[must_use]
pub fn server_cpu() -> Duration {
    process_cpu().saturating_sub(thread_cpu())
}

/// Processor time of the calling thread.
#[must_use]
pub fn thread_cpu() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Processor time of the whole process, its kernel workers included.
#[must_use]
pub fn process_cpu() -> Duration {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Processor time of another process.
#[must_use]
pub fn cpu_of(process: u32) -> Duration {
    let mut id = 0;
    let process = libc::pid_t::try_from(process).expect("a process id");
    // SAFETY: `id` is a valid place for the answer.
    let failed = unsafe { libc::clock_getcpuclockid(process, &raw mut id) };
    assert_eq!(failed, 0, "the process runs");
    clock(id)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the answer.
    let failed = unsafe { libc::clock_gettime(id, &raw mut time) };
    assert_eq!(failed, 0, "the clock exists");
    Duration::new(time.tv_sec.try_into().expect("positive"), time.tv_nsec.try_into().expect("ns"))
}

/// Keeps the calling thread on one core. On a machine with fewer cores it stays where it is.
pub fn pin(core: usize) {
    // SAFETY: an all-zero set is a valid one, and the calls only look at it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// Moves the process into a network namespace of its own with a loopback and the `reno` congestion
/// control, so that the host's settings do not decide the result. Says what it got; without the
/// right to do so the host's network is used.
#[must_use]
pub fn private_network() -> String {
    // SAFETY: called before any other thread exists; it only changes this process's namespace.
    let refused = unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0;
    let control = "/proc/sys/net/ipv4/tcp_congestion_control";
    if !refused {
        loopback_up().expect("a namespace of our own lets us bring up its loopback");
        // Where reno is not there, what is there is printed.
        let _ = fs::write(control, "reno");
    }
    let congestion = fs::read_to_string(control).unwrap_or_default();
    let whose = if refused { "the host's network" } else { "a network namespace of its own" };
    format!("{whose}, congestion control {}", congestion.trim())
}

fn loopback_up() -> io::Result<()> {
    // SAFETY: plain system calls on a descriptor that is closed below; the request is zeroed and
    // then named, and both calls only read or fill it.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0);
        if socket < 0 {
            return Err(io::Error::last_os_error());
        }
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as libc::c_char;
        request.ifr_name[1] = b'o' as libc::c_char;
        let up = libc::IFF_UP | libc::IFF_RUNNING;
        request.ifr_ifru.ifru_flags = libc::c_short::try_from(up).expect("two low bits");
        let failed = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request) != 0;
        let error = io::Error::last_os_error();
        libc::close(socket);
        if failed { Err(error) } else { Ok(()) }
    }
}

/// As many open descriptors as this process may have; those that it starts inherit that.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or fill a structure that lives through them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// The load average of the last minute, as printed beside the results.
#[must_use]
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}
