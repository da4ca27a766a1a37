//! `seeds.txt`: every seed that ever failed, and its story.
//!
//! ```text
//! # a comment
//! 1234 full 2026-01-02 The broker acknowledged before the flush when two cores were behind.
//! ```
//!
//! A seed, a size, the day or commit whose tree failed, and a sentence. A seed means something else once the simulator draws
//! differently; the stories stay, and running them costs little.

use crate::scenario::{Run, Size};

/// The file, as it was when this was compiled.
pub const FILE: &str = include_str!("../seeds.txt");

/// A seed that failed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// The run.
    pub run: Run,
    /// When, and what was wrong.
    pub story: String,
}

/// Reads the file.
///
/// # Errors
/// The line that is not of the form above.
pub fn read(text: &str) -> Result<Vec<Story>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let lines = lines.filter(|line| !line.starts_with('#'));
    let story = |line: &str| {
        let (seed, rest) = line.split_once(' ')?;
        let (size, story) = rest.trim_start().split_once(' ')?;
        let run = Run::new(seed.parse().ok()?, size.parse::<Size>().ok()?);
        let story = story.trim().to_owned();
        (!story.is_empty()).then_some(Story { run, story })
    };
    lines.map(|line| story(line).ok_or_else(|| format!("seeds.txt: not a story: {line}"))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_well_formed() {
        read(FILE).expect("well formed");
    }

    #[test]
    fn a_seed_needs_a_size_and_a_story() {
        let stories = read("# so\n\n12 full 2026-01-02 Once upon a time.\n").expect("well formed");
        assert_eq!(stories[0].run, Run::new(12, Size::Full));
        assert_eq!(stories[0].story, "2026-01-02 Once upon a time.");
        for wrong in ["12", "12 full", "x full story", "12 large story"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
