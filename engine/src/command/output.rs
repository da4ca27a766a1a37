//! Results on standard output, as lines of text or one JSON object per line; failures on standard
//! error in the same form.

use std::io::{self, BufWriter, IsTerminal, StdoutLock, Write};

use serde_json::{Map, Value, json};

use super::failure::Failure;

/// Where a command's results go.
pub struct Output {
    json: bool,
    /// Somebody watches: each result is to be seen when it is there.
    watched: bool,
    out: BufWriter<StdoutLock<'static>>,
    /// The last line of the terminal says something in passing.
    is_passing: bool,
}

impl Output {
    /// Standard output, as JSON or as text.
    pub fn new(json: bool) -> Output {
        let watched = io::stdout().is_terminal();
        Output { json, watched, out: BufWriter::new(io::stdout().lock()), is_passing: false }
    }

    /// Whether the results are JSON.
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// One result: `text` for people, `json` for programs.
    pub fn line(&mut self, text: &str, json: &Value) -> Result<(), Failure> {
        self.wipe();
        let written = match self.json {
            true => writeln!(self.out, "{json}"),
            false => writeln!(self.out, "{text}"),
        };
        written.map_err(|error| Failure::output(&error))?;
        if self.watched { self.flush() } else { Ok(()) }
    }

    /// Something for people only.
    pub fn remark(&mut self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        self.wipe();
        writeln!(self.out, "{text}").map_err(|error| Failure::output(&error))
    }

    /// Whether somebody sees what is said in passing: not in a pipe, and not where programs read.
    pub fn is_seen_in_passing(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Something that the next thing said takes the place of, in one line on standard error: what goes
    /// to a file or another program does not have it.
    pub fn in_passing(&mut self, text: &str) {
        if self.is_seen_in_passing() {
            self.wipe();
            eprint!("{text}");
            self.is_passing = true;
        }
    }

    fn wipe(&mut self) {
        if std::mem::take(&mut self.is_passing) {
            // To the beginning of the line, and nothing behind.
            eprint!("\r\x1b[K");
        }
    }

    /// Bytes as they are, for text only.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Lets everything written so far be seen.
    pub fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().map_err(|error| Failure::output(&error))
    }

    /// The one sentence on standard error.
    pub fn failure(&mut self, failure: &Failure) {
        self.wipe();
        // What was printed before it comes first; if that fails there is nobody to tell.
        let _ = self.out.flush();
        if self.json {
            let object = json!({ "error": failure.to_string(), "exit": failure.exit_code() });
            eprintln!("{object}");
        } else {
            eprintln!("trialog: {failure}");
        }
    }
}

/// Adds bytes to a JSON object: as `name` if they are UTF-8, else as `name_base64`; null if there
/// are none.
pub fn put_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(std::str::from_utf8) {
        None => object.insert(name.to_owned(), Value::Null),
        Some(Ok(text)) => object.insert(name.to_owned(), text.into()),
        Some(Err(_)) => {
            let bytes = bytes.expect("just looked at");
            object.insert(format!("{name}_base64"), base64(bytes).into())
        }
    };
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let mut three = [0; 4];
        three[1..=chunk.len()].copy_from_slice(chunk);
        let bits = u32::from_be_bytes(three);
        for place in 0..4 {
            let six = (bits >> (18 - 6 * place)) & 63;
            let letter = LETTERS[six as usize];
            text.push(if place <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_standards() {
        // The examples of RFC 4648.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn bytes_that_are_no_text_say_so_by_their_name() {
        let mut object = Map::new();
        put_bytes(&mut object, "key", None);
        put_bytes(&mut object, "value", Some(b"\xff"));
        put_bytes(&mut object, "other", Some("ä".as_bytes()));
        assert_eq!(
            Value::Object(object),
            json!({ "key": null, "value_base64": "/w==", "other": "ä" })
        );
    }
}
