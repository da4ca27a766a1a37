//! Standard input, line by line, read by a thread of its own so that a slow typist does not hold
//! up the network.

use std::io::{self, BufRead, Read};
use std::thread;

use tokio::sync::mpsc;

use trialog_engine::limit::FRAME_BYTES_MAX;

/// Lines that may wait between the reading thread and whoever takes them.
const LINES_WAITING_MAX: usize = 1024;

/// Standard input's lines, without their ends. An error is the last item.
pub fn standard_input() -> mpsc::Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel(LINES_WAITING_MAX);
    let read = move || {
        let mut input = io::stdin().lock();
        // It ends with the input, or when nobody wants more lines.
        while let Some(line) = next(&mut input).transpose() {
            let failed = line.is_err();
            if sender.blocking_send(line).is_err() || failed {
                break;
            }
        }
    };
    thread::spawn(read);
    receiver
}

/// The next line, without its end; none at the end of the input. A line that would fit into no
/// request is an error.
fn next(input: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let most = FRAME_BYTES_MAX as u64;
    let mut line = Vec::new();
    input.by_ref().take(most + 1).read_until(b'\n', &mut line)?;
    if line.len() as u64 > most {
        let message = format!("a line of the input has more than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    if line.is_empty() {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    Ok(Some(line))
}

/// Key and value of a line: what stands before the first `separator`, and what behind it. A line
/// without it has no key.
pub fn key_and_value(line: &[u8], separator: &[u8]) -> (Option<Vec<u8>>, Vec<u8>) {
    assert!(!separator.is_empty(), "the command line refuses an empty separator");
    match line.windows(separator.len()).position(|part| part == separator) {
        Some(at) => (Some(line[..at].to_vec()), line[at + separator.len()..].to_vec()),
        None => (None, line.to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_every_way() {
        let mut input: &[u8] = b"one\ntwo\r\n\nlast";
        let mut lines = Vec::new();
        while let Some(line) = next(&mut input).expect("short lines") {
            lines.push(String::from_utf8(line).expect("text"));
        }
        assert_eq!(lines, ["one", "two", "", "last"]);
    }

    #[test]
    fn keys() {
        assert_eq!(key_and_value(b"k: v: w", b": "), (Some(b"k".to_vec()), b"v: w".to_vec()));
        assert_eq!(key_and_value(b"alone", b":"), (None, b"alone".to_vec()));
        assert_eq!(key_and_value(b":v", b":"), (Some(Vec::new()), b"v".to_vec()));
    }
}
