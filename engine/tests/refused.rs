//! The program where the kernel really refuses io_uring: a filter on the system calls of the child
//! process answers for it, as a container's does.

#![allow(clippy::disallowed_methods, reason = "a process is fed and killed on the real clock")]

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use trialog_engine::io::{conform, kernel};

use super::program::{Broker, code, run, text, trialog};

/// What the filter does to `io_uring_setup`.
#[derive(Clone, Copy)]
enum Refuse {
    /// Refuses every ring with this error.
    All(i32),
    /// Has no memory for rings of more entries than this.
    Above(u32),
}

/// Puts the filter on a process that is about to start, and on all that it starts.
fn refuse(command: &mut Command, what: Refuse) {
    let (above, error) = match what {
        Refuse::All(error) => (None, error),
        Refuse::Above(entries) => (Some(entries), libc::ENOMEM),
    };
    let number = u32::try_from(libc::SYS_io_uring_setup).expect("small");
    let error = u32::try_from(error).expect("positive");
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let greater = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
    let answer = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        // Is it that call? Its number stands first, the low half of its first argument at 16.
        step(load, 0, 0, 0),
        step(equal, 0, 3, number),
        step(load, 0, 0, 16),
        step(greater, 0, 1, above.unwrap_or(0)),
        step(answer, 0, 0, libc::SECCOMP_RET_ERRNO | error),
        step(answer, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut filter = filter;
        let len = u16::try_from(filter.len()).expect("short");
        let program = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
        // SAFETY: plain system calls, as the moment between fork and exec wants them; the program
        // lives through the second.
        let failed = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
        };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes two system calls and allocates nothing.
    unsafe { command.pre_exec(install) };
}

/// Runs the program to its end behind the filter.
fn run_refused(arguments: &[&str], what: Refuse) -> Output {
    let mut command = trialog(arguments);
    refuse(&mut command, what);
    command.output().expect("the program was built")
}

/// Ends the broker at once and returns what it said on standard error.
fn last_words(mut broker: Broker) -> String {
    broker.child.kill().expect("it runs");
    let mut said = String::new();
    let stderr = broker.child.stderr.as_mut().expect("piped");
    stderr.read_to_string(&mut said).expect("text");
    said
}

#[test]
fn a_broker_without_rings_says_so_once_and_serves() {
    for error in [libc::EPERM, libc::ENOSYS] {
        let data = tempfile::tempdir().expect("a folder");
        let prepare = |command: &mut Command| refuse(command, Refuse::All(error));
        let broker = Broker::start_as(data.path(), prepare);
        assert_eq!(broker.told["io"], "pool");
        broker.ask(&["produce", "t"], "one\ntwo\n");
        // A client without rings.
        let arguments = ["consume", "t", "--json", "--bootstrap", &broker.address];
        let consumed = run_refused(&arguments, Refuse::All(error));
        assert_eq!(code(&consumed), 0, "{}", text(&consumed.stderr));
        assert_eq!(text(&consumed.stdout).lines().count(), 2);
        let said = last_words(broker);
        let lines: Vec<&str> = said.lines().filter(|line| line.contains("io_uring")).collect();
        assert_eq!(lines.len(), 1, "{said}");
        assert!(lines[0].contains("seccomp"), "it names the remedy: {said}");
        assert!(lines[0].contains("pool"), "it says what it does instead: {said}");
    }
}

#[test]
fn a_ring_that_is_asked_for_and_refused_is_an_error() {
    let data = tempfile::tempdir().expect("a folder");
    let folder = data.path().to_str().expect("text");
    let arguments = ["serve", "--data", folder, "--listen", "127.0.0.1:0", "--io", "ring"];
    let output = run_refused(&arguments, Refuse::All(libc::EPERM));
    assert_eq!(code(&output), 1);
    let said = text(&output.stderr);
    assert!(said.contains("io_uring cannot be used") && said.contains("--io pool"), "{said}");
    assert!(output.stdout.is_empty());
}

#[test]
fn the_carrier_can_be_chosen() {
    let data = tempfile::tempdir().expect("a folder");
    let chosen = |how| {
        let prepare = |command: &mut Command| {
            command.args(["--io", how]);
        };
        let broker = Broker::start_as(data.path(), prepare);
        broker.ask(&["produce", "t"], "x\n");
        let told = broker.told["io"].clone();
        let said = last_words(broker);
        assert!(!said.contains("io_uring"), "nothing is wrong, so nothing is said: {said}");
        told
    };
    assert_eq!(chosen("pool"), "pool");
    if let Err(refused) = kernel::available() {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {refused}");
        return;
    }
    // On what the pool left, and the other way round.
    assert_eq!(chosen("ring"), "ring");
    assert_eq!(chosen("pool"), "pool");
    let output = run(&["serve", "--io", "threads"]);
    assert_eq!(code(&output), 2);
}

/// Where little memory may be locked, rings become smaller and the broker says so.
#[test]
fn a_small_limit_makes_rings_smaller() {
    if let Err(refused) = kernel::available() {
        eprintln!("SKIPPED, THE RING WAS NOT TESTED: {refused}");
        return;
    }
    let data = tempfile::tempdir().expect("a folder");
    let prepare = |command: &mut Command| refuse(command, Refuse::Above(64));
    let broker = Broker::start_as(data.path(), prepare);
    assert_eq!(broker.told["io"], "ring");
    broker.ask(&["produce", "t"], "x\n");
    let said = last_words(broker);
    assert!(said.contains("ulimit -l") && said.contains("entries=64"), "{said}");
}

#[test]
fn the_doctor_names_the_carrier_and_why() {
    let data = tempfile::tempdir().expect("a folder");
    let arguments = ["doctor", "--json", "--data", data.path().to_str().expect("text")];
    let output = run_refused(&arguments, Refuse::All(libc::EPERM));
    let object = |line: &str| serde_json::from_str(line).expect("JSON");
    let findings: Vec<Value> = text(&output.stdout).lines().map(object).collect();
    let found = findings.iter().find(|finding| finding["what"] == "io_uring").expect("looked at");
    assert_eq!(found["verdict"], "caution");
    let words = |key: &str| found[key].as_str().expect("text").to_owned();
    assert!(words("found").contains("pool of threads"), "{found}");
    assert!(words("remedy").contains("seccomp"), "{found}");
}

/// A broker without rings is killed again and again in the middle of a stream of records: what was
/// acknowledged is there, in its place.
#[test]
fn kills_lose_nothing_that_was_acknowledged() {
    const KILLS: u64 = 4;
    let data = tempfile::tempdir().expect("a folder");
    let prepare = |command: &mut Command| refuse(command, Refuse::All(libc::EPERM));
    let mut acknowledged = Vec::new();
    for kill in 0..KILLS {
        let mut broker = Broker::start_as(data.path(), prepare);
        let mut producer = trialog(&["produce", "t", "--json", "--timeout", "2"])
            .args(["--bootstrap", &broker.address])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program was built");
        let mut lines = producer.stdin.take().expect("piped");
        let feed = std::thread::spawn(move || {
            // It ends when the producer does.
            for number in 0_u64.. {
                if writeln!(lines, "{kill}-{number}").is_err() {
                    return;
                }
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        // Long enough for a first acknowledgement on a machine that has other things to do.
        std::thread::sleep(Duration::from_millis(1500 + 100 * kill));
        broker.child.kill().expect("it runs");
        broker.child.wait().expect("it ends");
        let output = producer.wait_with_output().expect("it ends");
        feed.join().expect("no panic");
        let before = acknowledged.len();
        for (number, line) in text(&output.stdout).lines().enumerate() {
            let stored: Value = serde_json::from_str(line).expect("JSON");
            let offset = stored["offset"].as_u64().expect("an offset");
            acknowledged.push((offset, format!("{kill}-{number}")));
        }
        assert!(acknowledged.len() > before, "nothing was acknowledged before kill {kill}");
    }
    let broker = Broker::start_as(data.path(), prepare);
    let stored: Vec<(u64, String)> = broker
        .ask(&["consume", "t"], "")
        .into_iter()
        .map(|record| {
            let value = record["value"].as_str().expect("text").to_owned();
            (record["offset"].as_u64().expect("an offset"), value)
        })
        .collect();
    for record in &acknowledged {
        assert!(stored.binary_search(record).is_ok(), "{record:?} was acknowledged and is lost");
    }
}

/// The script for all worlds, in a process of its own that gets no rings.
#[test]
fn a_process_without_rings_conforms() {
    const ALONE: &str = "TRIALOG_TEST_REFUSED";
    if std::env::var_os(ALONE).is_none() {
        let mut command = Command::new(std::env::current_exe().expect("this test's binary"));
        command.args(["--exact", "refused::a_process_without_rings_conforms"]).env(ALONE, "1");
        refuse(&mut command, Refuse::All(libc::EPERM));
        let output = command.output().expect("a process");
        assert!(output.status.success(), "{output:?}");
        assert!(text(&output.stdout).contains("1 passed"), "{output:?}");
        return;
    }
    assert!(kernel::available().is_err(), "the filter refuses rings");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().to_owned();
    let localhost = std::net::Ipv4Addr::LOCALHOST.into();
    kernel::run(0, |io| async move { conform::all(&io, &path, localhost).await })
        .expect("the pool needs no ring");
}
