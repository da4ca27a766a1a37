//! The project's Rust files as text: found through git, so that what is ignored does not count.

use std::path::Path;
use std::process::Command;

/// One source file.
pub struct Source {
    /// Its path below the root, with forward slashes.
    pub path: String,
    /// Its contents.
    pub text: String,
}

impl Source {
    /// The lines before the unit tests (`#[cfg(test)]` on a module ends them), with their numbers.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let in_tests = self.path.contains("/tests") || self.path.ends_with("tests.rs");
        let mut tests = in_tests;
        let mut lines = self.text.lines().enumerate().peekable();
        std::iter::from_fn(move || {
            let (number, line) = lines.next()?;
            let next_opens = lines.peek().is_some_and(|(_, next)| next.starts_with("mod "));
            let next_inline = lines.peek().is_some_and(|(_, next)| next.ends_with('{'));
            tests |= line.starts_with("#[cfg(test)]") && next_opens && next_inline;
            (!tests).then_some((number + 1, line))
        })
    }

    /// The line without its comment and without the insides of plain string literals.
    pub fn bare(line: &str) -> String {
        let mut bare = String::new();
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\\' if quoted => {
                    chars.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                other if !quoted => bare.push(other),
                _ => {}
            }
        }
        bare
    }
}

/// All Rust files that git knows or would add.
pub fn sources(root: &Path) -> Result<Vec<Source>, String> {
    let paths = tracked(root)?.into_iter().filter(|path| path.ends_with(".rs"));
    let mut sources = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(root.join(&path));
        // A file that is deleted and not yet committed so is still listed.
        let Ok(text) = text else { continue };
        sources.push(Source { path, text });
    }
    if sources.is_empty() {
        return Err("git lists no Rust files; is this a checkout?".to_owned());
    }
    Ok(sources)
}

/// All files that git knows or would add.
pub fn tracked(root: &Path) -> Result<Vec<String>, String> {
    let listed = Command::new("git")
        .current_dir(root)
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .output()
        .map_err(|error| format!("cannot run git: {error}"))?;
    if !listed.status.success() {
        return Err(String::from_utf8_lossy(&listed.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_taken_out() {
        assert_eq!(Source::bare(r#"call("a // b", x); // crate::y"#), "call(, x); ");
        assert_eq!(Source::bare(r#"f("\"crate::z")"#), "f()");
    }

    #[test]
    fn unit_tests_are_no_code() {
        let text = "one\n#[cfg(test)]\nmod tests;\ntwo\n#[cfg(test)]\nmod tests {\nthree\n}\n";
        let source = Source { path: "a.rs".into(), text: text.into() };
        let lines: Vec<_> = source.code_lines().map(|(number, _)| number).collect();
        assert_eq!(lines, [1, 2, 3, 4]);
    }
}
