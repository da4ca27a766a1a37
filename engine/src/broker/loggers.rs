//! The levels of what a broker reports, logger by logger. Like Kafka's they can be changed while it
//! runs, and last as long as its process (KIP-412).
//!
//! A logger is a module, with the modules inside it that have no level of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::level_filters::LevelFilter;

/// The logger of everything that has no other, by its name in Kafka.
pub const ROOT: &str = "root";

/// All loggers.
const NAMES: &[&str] = &[
    ROOT,
    "trialog",
    "trialog_engine",
    "trialog_engine::broker",
    "trialog_engine::broker::admin",
    "trialog_engine::broker::conn",
    "trialog_engine::broker::dispatch",
    "trialog_engine::broker::door",
    "trialog_engine::broker::host",
    "trialog_engine::broker::partition",
    "trialog_engine::broker::room",
    "trialog_engine::client",
    "trialog_engine::io",
    "trialog_engine::log",
    "trialog_engine::log::compact",
    "trialog_engine::log::recover",
    "trialog_engine::machine::group",
];

/// Why a level was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoggerError {
    /// There is no such logger.
    #[error("there is no logger '{0}'; describing the broker's loggers names all of them")]
    Unknown(String),
    /// There is no such level.
    #[error("'{0}' is not a level: it is one of TRACE, DEBUG, INFO, WARN, ERROR, FATAL and OFF")]
    Level(String),
    /// What others inherit cannot go.
    #[error("the level of root can be set, but not deleted: other loggers have theirs from it")]
    Root,
}

/// A new level for a logger; `None` has it take that of the logger around it.
pub type Change<'a> = (&'a str, Option<&'a str>);

/// The loggers of the process that a broker runs in.
pub struct Loggers {
    set: Mutex<Set>,
    show: Box<dyn Fn(&str) + Send + Sync>,
}

/// What is set.
#[derive(Clone)]
struct Set {
    levels: BTreeMap<String, LevelFilter>,
    /// Directives that say more than a level for a module.
    others: Vec<String>,
}

impl Loggers {
    /// Those that these directives, in the notation of `tracing`, have chosen. Whenever a level changes,
    /// `show` is called with the directives that are to hold from then on.
    #[must_use]
    pub fn new(directives: &str, show: impl Fn(&str) + Send + Sync + 'static) -> Loggers {
        // What directives do not name is shown if it is an error.
        let mut levels = BTreeMap::from([(ROOT.to_owned(), LevelFilter::ERROR)]);
        let mut others = Vec::new();
        for directive in directives.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let (name, level) = match directive.split_once('=') {
                Some((name, level)) => (name, level.parse().ok()),
                None => match directive.parse() {
                    Ok(level) => (ROOT, Some(level)),
                    Err(_) => (directive, Some(LevelFilter::TRACE)),
                },
            };
            match level.filter(|_| !name.contains(['[', '{', '"'])) {
                Some(level) => _ = levels.insert(name.to_owned(), level),
                None => others.push(directive.to_owned()),
            }
        }
        Loggers { set: Mutex::new(Set { levels, others }), show: Box::new(show) }
    }

    fn lock(&self) -> MutexGuard<'_, Set> {
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every logger with the level that it has or inherits.
    #[must_use]
    pub fn all(&self) -> Vec<(&'static str, &'static str)> {
        let set = self.lock();
        NAMES.iter().map(|name| (*name, in_words(set.level(name)))).collect()
    }

    /// Makes all of the changes, or none; or only checks them.
    ///
    /// # Errors
    /// A [`LoggerError`] for the first that cannot be made.
    pub fn change(&self, changes: &[Change<'_>], check_only: bool) -> Result<(), LoggerError> {
        let mut set = self.lock();
        let mut new = set.clone();
        for &(name, level) in changes {
            if !NAMES.contains(&name) {
                return Err(LoggerError::Unknown(name.to_owned()));
            }
            match level.map(parsed).transpose()? {
                Some(level) => _ = new.levels.insert(name.to_owned(), level),
                None if name == ROOT => return Err(LoggerError::Root),
                None => _ = new.levels.remove(name),
            }
        }
        if !check_only {
            (self.show)(&new.directives());
            *set = new;
        }
        Ok(())
    }
}

impl Set {
    /// The level of the nearest logger around it that has one.
    fn level(&self, name: &str) -> LevelFilter {
        let around = |other: &str| match name.strip_prefix(other) {
            Some(rest) => rest.is_empty() || rest.starts_with("::"),
            None => false,
        };
        let nearest = self.levels.iter().filter(|(other, _)| around(other));
        let nearest = nearest.max_by_key(|(other, _)| other.len());
        *nearest.map_or(&self.levels[ROOT], |(_, level)| level)
    }

    fn directives(&self) -> String {
        let levels = self.levels.iter().map(|(name, level)| match name.as_str() {
            ROOT => level.to_string(),
            name => format!("{name}={level}"),
        });
        self.others.iter().cloned().chain(levels).collect::<Vec<_>>().join(",")
    }
}

/// A level by its name in Kafka, in any case.
fn parsed(name: &str) -> Result<LevelFilter, LoggerError> {
    Ok(match name.trim().to_ascii_uppercase().as_str() {
        "OFF" => LevelFilter::OFF,
        // Nothing here is worse than an error.
        "FATAL" | "ERROR" => LevelFilter::ERROR,
        "WARN" => LevelFilter::WARN,
        "INFO" => LevelFilter::INFO,
        "DEBUG" => LevelFilter::DEBUG,
        "TRACE" => LevelFilter::TRACE,
        _ => return Err(LoggerError::Level(name.to_owned())),
    })
}

fn in_words(level: LevelFilter) -> &'static str {
    level.into_level().map_or("OFF", |level| level.as_str())
}

impl fmt::Debug for Loggers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loggers").field(&self.lock().directives()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn level(loggers: &Loggers, name: &str) -> &'static str {
        loggers.all().into_iter().find(|one| one.0 == name).expect("it is one of them").1
    }

    /// Loggers, and the directives that they showed last.
    fn heard(directives: &str) -> (Loggers, Arc<Mutex<String>>) {
        let shown = Arc::<Mutex<String>>::default();
        let to = shown.clone();
        let show = move |text: &str| text.clone_into(&mut to.lock().expect("not poisoned"));
        (Loggers::new(directives, show), shown)
    }

    #[test]
    fn directives_are_levels_of_loggers() {
        let given = "info, trialog_engine::log=warn,trialog_engine::io,[span]=debug,off";
        let (loggers, shown) = heard(given);
        assert_eq!(level(&loggers, ROOT), "OFF", "the last word counts");
        assert_eq!(level(&loggers, "trialog_engine::log::compact"), "WARN");
        assert_eq!(level(&loggers, "trialog_engine::io"), "TRACE");
        assert_eq!(level(&loggers, "trialog_engine::broker"), "OFF");
        loggers.change(&[], false).expect("nothing is wrong");
        let expected = "[span]=debug,off,trialog_engine::io=trace,trialog_engine::log=warn";
        assert_eq!(*shown.lock().expect("not poisoned"), expected);
        assert_eq!(level(&Loggers::new("", |_| ()), ROOT), "ERROR");
    }

    #[test]
    fn a_level_is_set_inherited_and_taken_off() {
        let (loggers, shown) = heard("info");
        loggers.change(&[("trialog_engine::log", Some("debug"))], false).expect("legal");
        assert_eq!(level(&loggers, "trialog_engine::log::recover"), "DEBUG");
        assert_eq!(level(&loggers, "trialog_engine::io"), "INFO");
        assert_eq!(*shown.lock().expect("not poisoned"), "info,trialog_engine::log=debug");
        loggers
            .change(&[("trialog_engine::log", None), (ROOT, Some("FATAL"))], false)
            .expect("legal");
        assert_eq!(level(&loggers, "trialog_engine::log::recover"), "ERROR");
        assert_eq!(*shown.lock().expect("not poisoned"), "error");
    }

    #[test]
    fn all_changes_are_made_or_none() {
        let (loggers, shown) = heard("info");
        let good = (ROOT, Some("WARN"));
        for (bad, error) in [
            (("nobody", Some("INFO")), LoggerError::Unknown("nobody".to_owned())),
            (("trialog", Some("loud")), LoggerError::Level("loud".to_owned())),
            ((ROOT, None), LoggerError::Root),
        ] {
            assert_eq!(loggers.change(&[good, bad], false), Err(error));
        }
        assert_eq!(loggers.change(&[good], true), Ok(()), "only checked");
        assert_eq!(level(&loggers, ROOT), "INFO");
        assert_eq!(*shown.lock().expect("not poisoned"), "");
    }

    #[test]
    fn every_module_that_reports_has_a_logger_of_its_own() {
        fn visit(dir: &Path, module: &str, lonely: &mut Vec<String>) {
            for entry in std::fs::read_dir(dir).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name =
                    path.file_stem().and_then(|name| name.to_str()).expect("text").to_owned();
                let inner = format!("{module}::{name}");
                if path.is_dir() {
                    visit(&path, &inner, lonely);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("text");
                let reports = ["trace!(", "debug!(", "info!(", "warn!(", "error!("];
                let reports = reports.iter().any(|call| text.contains(&format!(" {call}")));
                let of_own = |logger: &str| logger.contains("::") && inner.starts_with(logger);
                if reports && !NAMES.iter().any(|logger| of_own(logger)) {
                    lonely.push(inner);
                }
            }
        }
        let mut lonely = Vec::new();
        let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        visit(&src, "trialog_engine", &mut lonely);
        // The program's own.
        lonely.retain(|module| !module.starts_with("trialog_engine::command"));
        assert_eq!(lonely, [""; 0]);
    }
}
