//! How a command may fail: one sentence and an exit code each.

use std::fmt;
use std::io;

use trialog_engine::config::ConfigError;

/// The exit code of a mistake on the command line, by clap's convention too.
pub const USAGE: u8 = 2;

/// The exit codes, as `--help` explains them.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for a reason not listed here
  2  a mistake in an argument or a setting
  3  in use: the data or the address belong to another process
  4  no answer from the broker
  5  the broker refused
  6  the data on disk are damaged";

/// Why a command was not carried out.
#[derive(Debug)]
pub enum Failure {
    /// A mistake in an argument or a setting.
    Usage(String),
    /// The data or the address belong to another process.
    InUse(String),
    /// The broker could not be reached, or did not answer in time.
    NoAnswer(String),
    /// The broker answered with an error.
    Refused(String),
    /// The data on disk are damaged.
    Damaged(String),
    /// Anything else.
    Other(String),
    /// Standard output was closed by whoever read it. Not an error to report.
    Closed,
}

impl Failure {
    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Closed => 0,
            Failure::Other(_) => 1,
            Failure::Usage(_) => USAGE,
            Failure::InUse(_) => 3,
            Failure::NoAnswer(_) => 4,
            Failure::Refused(_) => 5,
            Failure::Damaged(_) => 6,
        }
    }

    /// A failed write to standard output.
    pub fn output(error: &io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::Closed,
            _ => Failure::Other(format!("cannot write to standard output: {error}")),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Usage(sentence)
            | Failure::InUse(sentence)
            | Failure::NoAnswer(sentence)
            | Failure::Refused(sentence)
            | Failure::Damaged(sentence)
            | Failure::Other(sentence) => f.write_str(sentence),
            Failure::Closed => f.write_str("standard output was closed"),
        }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Usage(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_explained() {
        let word = String::new;
        for failure in [
            Failure::Usage(word()),
            Failure::InUse(word()),
            Failure::NoAnswer(word()),
            Failure::Refused(word()),
            Failure::Damaged(word()),
            Failure::Other(word()),
        ] {
            let line = format!("\n  {}  ", failure.exit_code());
            assert_eq!(EXIT_CODES.matches(&line).count(), 1, "{failure:?}");
        }
    }
}
