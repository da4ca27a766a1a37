//! Which topic names are legal, by Kafka's rules (`org.apache.kafka.common.internals.Topic`).
//!
//! Two names collide when they differ only in `.` and `_`: Kafka turns one into the other in the
//! names of metrics, so both cannot exist beside each other.

use std::fmt;

/// The longest topic name, in bytes. A folder named after a topic has room for a suffix.
pub const NAME_BYTES_MAX: usize = 249;

/// Why a name is not legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameError {
    /// No characters at all.
    Empty,
    /// `.` or `..`.
    Dots,
    /// More than [`NAME_BYTES_MAX`] bytes; carries how many.
    Long(usize),
    /// A character other than ASCII letters, digits, `.`, `_` and `-`.
    Character(char),
}

impl fmt::Display for NameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameError::Empty => f.write_str("it is empty"),
            NameError::Dots => f.write_str("it is '.' or '..', which are reserved"),
            NameError::Long(bytes) => {
                write!(f, "it has {bytes} characters, and at most {NAME_BYTES_MAX} are allowed")
            }
            NameError::Character(bad) => {
                write!(f, "it contains {bad:?}; use only ASCII letters, digits, '.', '_' and '-'")
            }
        }
    }
}

impl std::error::Error for NameError {}

/// Checks that a topic may be called `name`.
///
/// # Errors
/// [`NameError`] says which rule it breaks.
pub fn check(name: &str) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name == "." || name == ".." {
        return Err(NameError::Dots);
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::Long(name.len()));
    }
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.chars().find(|&c| !legal(c)) {
        Some(bad) => Err(NameError::Character(bad)),
        None => Ok(()),
    }
}

/// The name with `.` and `_` made equal: two topics of one cluster never share it.
#[must_use]
pub fn folded(name: &str) -> String {
    name.replace('.', "_")
}

/// The topic that remembers consumer groups.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Whether `name` is one of the topics that belong to the broker itself.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    matches!(name, OFFSETS_TOPIC | "__transaction_state" | "__share_group_state")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names() {
        let longest = "x".repeat(NAME_BYTES_MAX);
        for name in ["a", "A.b_c-9", "...", "__consumer_offsets", &longest] {
            assert_eq!(check(name), Ok(()), "{name}");
        }
    }

    #[test]
    fn illegal_names_say_why() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for (name, error) in [
            ("", NameError::Empty),
            (".", NameError::Dots),
            ("..", NameError::Dots),
            (long.as_str(), NameError::Long(250)),
            ("a b", NameError::Character(' ')),
            ("a/b", NameError::Character('/')),
            ("a\0", NameError::Character('\0')),
            ("größe", NameError::Character('ö')),
        ] {
            assert_eq!(check(name), Err(error), "{name:?}");
        }
    }
}
