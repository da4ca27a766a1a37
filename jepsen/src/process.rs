//! Child processes that cannot outlive the trial.
//!
//! Each is killed and reaped when its handle is dropped, and by the kernel should this program die
//! without unwinding. Children have process groups of their own: a Ctrl-C reaches them through us.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::stop::{Stop, broken, until};

/// A child that runs, or ran.
pub struct Process {
    name: &'static str,
    child: Child,
}

impl Process {
    /// Starts `command` as a child that dies with us.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Process, Stop> {
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe and touches nothing of the parent's memory.
        unsafe {
            command.pre_exec(|| {
                let refused = libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0;
                if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let child = command.spawn().map_err(broken(format!("starting {name}")))?;
        Ok(Process { name, child })
    }

    /// Its pipe for commands, if it was started with one; taken out.
    pub fn take_input(&mut self) -> Option<std::process::ChildStdin> {
        self.child.stdin.take()
    }

    pub fn signal(&self, signal: libc::c_int) -> Result<(), Stop> {
        let pid = libc::pid_t::try_from(self.child.id()).expect("the kernel's own process id");
        // SAFETY: a plain system call; the child is not reaped yet, so the id is still its own.
        let refused = unsafe { libc::kill(pid, signal) } != 0;
        if refused {
            let error = std::io::Error::last_os_error();
            return Err(Stop::Broken(format!("signal {signal} to {}: {error}", self.name)));
        }
        Ok(())
    }

    /// Its exit status, once it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>, Stop> {
        self.child.try_wait().map_err(broken(format!("waiting for {}", self.name)))
    }

    /// Waits for its end; `None` if it takes longer than `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<Option<ExitStatus>, Stop> {
        until(patience, || self.ended())
    }

    /// Kills it, and whatever it has started, with SIGKILL, and reaps it.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            let group = libc::pid_t::try_from(self.child.id()).expect("the kernel's process id");
            // SAFETY: a plain system call; the child leads a group of its own and is not reaped
            // yet, so the number is still its group's.
            unsafe { libc::kill(-group, libc::SIGKILL) };
        }
        // Fails only if it was reaped already.
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

/// Runs a helper to its end and returns what it printed on stdout; its stderr explains a failure.
pub fn run(name: &'static str, command: &mut Command) -> Result<String, Stop> {
    command.stdin(Stdio::null());
    let output = command.output().map_err(broken(format!("starting {name}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let how = how(output.status);
        return Err(Stop::Broken(format!("{name} {how}: {}", said.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// "ended with code 3", for sentences.
pub fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with code {code}"),
        (None, Some(signal)) => format!("was ended by signal {signal}"),
        (None, None) => "ended".to_owned(),
    }
}
