//! What a new user does: starts the program without arguments, does what its greeting says, and stops
//! it with Ctrl-C.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use super::program::{code, text, trialog};

/// A process that a failed test must not leave behind.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the greeting says behind `label`, to the end of the line.
fn said<'a>(greeting: &'a str, label: &str) -> &'a str {
    let line = greeting.lines().find_map(|line| line.trim().strip_prefix(label));
    line.unwrap_or_else(|| panic!("no {label} in {greeting}")).trim()
}

/// Reads the greeting, to its last line.
fn greeting(words: &mut BufReader<ChildStdout>) -> String {
    let mut greeting = String::new();
    while !greeting.contains("stop with Ctrl-C") {
        let read = words.read_line(&mut greeting).expect("text");
        assert_ne!(read, 0, "it ended after {greeting:?}");
    }
    greeting
}

/// Runs one of the commands that the greeting shows, as the program under test.
fn shown(command: &str, folder: &Path, input: &str) -> String {
    let arguments: Vec<&str> = command.split_whitespace().skip(1).collect();
    let mut command = trialog(&arguments);
    command.current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input.as_bytes()).expect("it reads its input");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(code(&output), 0, "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn without_arguments_it_serves_from_a_folder_here_and_ctrl_c_stops_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = trialog(&[]);
    // Only the ports are not the defaults: somebody's own broker may have those.
    command
        .env("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:0")
        .env("KAFKA_TRIALOG_ADMIN_LISTENER", "127.0.0.1:0")
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut broker = Killed(command.spawn().expect("the program was built"));
    let mut words = BufReader::new(broker.0.stdout.take().expect("piped"));
    let greeting = greeting(&mut words);

    assert!(greeting.starts_with("listening on 127.0.0.1:"), "{greeting}");
    assert!(said(&greeting, "data in").contains("trialog-data"), "{greeting}");
    let produce = said(&greeting, "produce:").strip_prefix("echo hello | ").expect("a pipe");
    shown(produce, folder.path(), "hello\n");
    assert!(shown(said(&greeting, "consume:"), folder.path(), "").contains("hello"));
    let data = fs::read_dir(folder.path().join("trialog-data")).expect("the folder for the data");
    assert_ne!(data.count(), 0);

    let id = i32::try_from(broker.0.id()).expect("a process id");
    // SAFETY: sends a signal to a child that has not been waited for.
    assert_eq!(unsafe { libc::kill(id, libc::SIGINT) }, 0);
    let status = broker.0.wait().expect("it ends");
    assert_eq!(status.code(), Some(0), "Ctrl-C is an orderly stop");
}
