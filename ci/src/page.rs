//! The page of a run: written by the simulator, and drawn by a browser where there is one.
//!
//! Three pages: of a run that is wrong, whose first bad event must be marked, of a run of about a
//! hundred events, and of one of about a hundred thousand. Each must be drawn in light and in dark, and
//! say, in attributes of its body, that it shows as many events as the simulator says there are.
//! Without a browser the step passes, and says that it has not looked.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::SKIPPED;
use crate::sweep::{self, Output};

/// Where distributions put the browser.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
/// The simulator's exit codes of runs (`cargo sim --help`): it passed, it showed what must never be,
/// and the last one of those for runs that failed in other ways.
const PASSED: i32 = 0;
const UNSAFE: i32 = 10;
const THIN: i32 = 14;
/// Seeds are tried up to this one for a run that is as it is wanted.
const SEEDS: Range<u64> = 0..20;

/// A page that is to be drawn.
struct Wanted {
    what: &'static str,
    /// Of `cargo sim report`, behind the seed.
    arguments: &'static [&'static str],
    /// How the run must end.
    code: i32,
    /// How many messages, disk calls and operations it shows.
    events: Range<u64>,
}

const PAGES: [Wanted; 3] = [
    // A broker that loses what it acknowledged.
    Wanted {
        what: "failing",
        arguments: &["--size", "small", "--lying-disk"],
        code: UNSAFE,
        events: 1_000..1_000_000,
    },
    // Nobody does anything: brokers start, and what they have is read.
    Wanted {
        what: "small",
        arguments: &["--size", "small", "--without", "faults=0-999/clients=0-999"],
        code: PASSED,
        events: 50..200,
    },
    Wanted { what: "large", arguments: &[], code: PASSED, events: 80_000..200_000 },
];

/// A page that is written.
struct Page {
    path: PathBuf,
    seed: u64,
    /// How many events it has, as the simulator says.
    events: u64,
}

/// Writes the pages and has a browser draw them.
pub fn check(root: &Path) -> Result<String, String> {
    let folder = root.join("target/pages");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let browser = browser();
    let mut notes = Vec::new();
    for wanted in &PAGES {
        let page = write(root, &folder, wanted)?;
        if let Some(browser) = &browser {
            for theme in ["light", "dark"] {
                draw(browser, &page, theme, wanted.code == UNSAFE)?;
            }
        }
        notes.push(format!("{} (seed {}, {} events)", wanted.what, page.seed, page.events));
    }
    let (notes, names) = (notes.join(", "), BROWSERS.join(", "));
    let Some(browser) = browser else {
        return Ok(format!("{SKIPPED}no browser ({names}): written AND NOT DRAWN: {notes}"));
    };
    fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(format!("drawn by {}: {notes}", browser.display()))
}

/// Writes the page of the first seed whose run is as it is wanted.
fn write(root: &Path, folder: &Path, wanted: &Wanted) -> Result<Page, String> {
    let Wanted { what, arguments, code, events: enough } = wanted;
    let path = folder.join(format!("{what}.html"));
    let to = path.to_str().ok_or("a path that is no text")?;
    for seed in SEEDS {
        let number = seed.to_string();
        let arguments = [&["report", &number, "-o", to], *arguments].concat();
        let ended = sweep::run(root, "sim", &arguments, Output::Taken)?;
        let (shown, events) = (ended.code, counted(&ended.text));
        // A run may fail in another way than it is to; a command that cannot do its work writes nothing.
        let (Some(PASSED | UNSAFE..=THIN), Some(events)) = (shown, events) else {
            let command = arguments.join(" ");
            return Err(format!("cargo sim {command}: exit code {shown:?}, {}", ended.text));
        };
        if shown == Some(*code) && enough.contains(&events) {
            return Ok(Page { path, seed, events });
        }
    }
    Err(format!(
        "no seed of {SEEDS:?} has a {what} page: a run that ends with {code} and has {enough:?} events"
    ))
}

/// How many events a page has, by what `cargo sim report` prints: `FILE: 17 events`.
fn counted(said: &str) -> Option<u64> {
    let (_, count) = said.trim_end().strip_suffix(" events")?.rsplit_once(": ")?;
    count.parse().ok()
}

/// Has the browser draw a page.
fn draw(browser: &Path, page: &Page, theme: &str, is_bad: bool) -> Result<(), String> {
    let Page { path, events, .. } = page;
    let mut command = Command::new(browser);
    command.args(["--headless", "--no-sandbox", "--disable-gpu"]);
    command.args(["--virtual-time-budget=10000", "--dump-dom"]);
    command.arg(format!("file://{}?theme={theme}#bad", path.display()));
    let drawn = command.output().map_err(|error| format!("{}: {error}", browser.display()))?;
    if !drawn.status.success() {
        return Err(format!("{}: {}", browser.display(), drawn.status));
    }
    let looked = look(&String::from_utf8_lossy(&drawn.stdout), is_bad);
    let shown = looked.map_err(|why| format!("{}, {theme}: {why}", path.display()))?;
    if shown != *events {
        return Err(format!("{}: shows {shown} of {events} events", path.display()));
    }
    Ok(())
}

/// Looks whether a page is drawn, with or without a mark at the first bad event; returns how many
/// events it shows.
fn look(drawn: &str, is_bad: bool) -> Result<u64, String> {
    let body = drawn.split("<body").nth(1).and_then(|rest| rest.split('>').next());
    let body = body.ok_or("there is no body")?;
    let says = |name: &str| {
        let value = body.split(&format!("data-{name}=\"")).nth(1)?.split('"').next()?;
        Some(value.to_owned())
    };
    let number = |name: &str| says(name).and_then(|value| value.parse::<f64>().ok());
    if says("ready").as_deref() != Some("yes") {
        return Err(format!("the script did not come to its end: <body{body}>"));
    }
    if number("drawn").is_none() {
        return Err(format!("nothing was drawn: <body{body}>"));
    }
    let leads = drawn.contains(r#"id="badlink""#);
    if (number("bad").is_some(), leads) != (is_bad, is_bad) {
        return Err(format!(
            "the mark at the first bad event is not as it should be: <body{body}>"
        ));
    }
    let events = says("events").and_then(|value| value.parse().ok());
    events.ok_or_else(|| format!("it does not say how much it shows: <body{body}>"))
}

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    let all = BROWSERS.iter().flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    all.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_believed_only_if_it_says_all_that_it_must() {
        let page = |body: &str, link: &str| format!("<html><body{body}><main>{link}</main></body>");
        let whole = r#" data-drawn="2.5" data-events="104" data-ready="yes""#;
        let bad = format!(r#"{whole} data-bad="77.5""#);
        let link = r#"<a id="badlink">"#;
        assert_eq!(look(&page(whole, ""), false), Ok(104));
        assert_eq!(look(&page(&bad, link), true), Ok(104));
        assert!(look(&page(&bad, ""), true).is_err(), "nothing leads to the mark");
        assert!(look(&page(whole, link), true).is_err(), "there is no mark");
        assert!(look(&page(&bad, link), false).is_err(), "a mark in a run that passed");
        for gone in ["data-drawn", "data-events", "data-ready"] {
            let body = whole.replace(gone, "data-other");
            assert!(look(&page(&body, ""), false).is_err(), "without {gone}");
        }
        assert!(look(&page(&whole.replace("yes", "no"), ""), false).is_err());
        assert!(look("", false).is_err());
        assert_eq!(counted("a: b/17.html: 104 events\n"), Some(104));
        assert_eq!(counted("cargo sim: no room\n"), None);
    }
}
