//! What a seed draws of topics: what befalls what is in them, and how they change.

use std::collections::BTreeMap;

use crate::seed::Stream;

/// Longer than any clock jumps.
const FOR_EVER_MS: i64 = 1_000_000_000_000_000;
/// What `delete.retention.ms` may be.
const TOMBSTONES_KEPT_MS: [i64; 5] = [0, 500, 5000, FOR_EVER_MS, FOR_EVER_MS];

/// How old records must be before compaction takes them.
const LAG_MIN: &str = "min.compaction.lag.ms";

/// How old they may be at most before it must.
const LAG_MAX: &str = "max.compaction.lag.ms";

/// One topic.
#[derive(Clone, Debug)]
pub struct TopicShape {
    /// Unique over all brokers.
    pub name: String,
    /// The index of its broker.
    pub broker: usize,
    /// How many it begins with.
    pub partitions: i32,
    /// How many it may come to have while it is used.
    pub partitions_most: i32,
    /// Settings that differ from the broker's.
    pub configs: BTreeMap<String, String>,
    /// What befalls what is in it.
    pub nature: Nature,
}

/// A setting that is changed while a topic is used, and what it may become; `None` takes it off.
pub type Alteration = (&'static str, &'static [Option<&'static str>]);

impl TopicShape {
    /// Whether its records carry the broker's time instead of their sender's.
    #[must_use]
    pub fn stamps(&self) -> bool {
        self.configs.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime")
    }

    /// How many bytes retention by size must leave, if it has its way.
    #[must_use]
    pub fn kept_bytes(&self) -> Option<u64> {
        let bytes = self.configs.get("retention.bytes").and_then(|bytes| bytes.parse().ok());
        bytes.filter(|_| self.nature == Nature::Trimmed)
    }

    /// Whether its tombstones outlive the run, however clocks jump.
    #[must_use]
    pub fn keeps_tombstones(&self) -> bool {
        self.configs.get("delete.retention.ms").is_some_and(|ms| *ms == FOR_EVER_MS.to_string())
    }

    /// How old records must be before compaction takes them, if that is said. Then nobody says otherwise.
    #[must_use]
    pub fn compaction_lag_ms(&self) -> Option<u32> {
        self.configs.get(LAG_MIN).and_then(|ms| ms.parse().ok())
    }

    /// How old records may be before compaction must take them, if that is said and nothing stands
    /// against it. Then nobody says otherwise.
    #[must_use]
    pub fn tidied_ms(&self) -> Option<u32> {
        let most = self.configs.get(LAG_MAX).and_then(|ms| ms.parse().ok());
        most.filter(|_| self.compaction_lag_ms().is_none())
    }

    /// Whether a client may delete its records. In the page cache it may do so to what is not flushed
    /// yet; of a compacted topic, only if it begins with a policy that deletes, too.
    #[must_use]
    pub fn may_be_shortened(&self) -> bool {
        match self.nature {
            Nature::Shortened | Nature::Cached => true,
            Nature::Compacted => self.configs["cleanup.policy"] != "compact",
            Nature::Lasting | Nature::Trimmed | Nature::Fleeting => false,
        }
    }

    /// How old records must be for retention by time to take them away, if it ever does.
    #[must_use]
    pub fn kept_ms(&self) -> Option<u32> {
        self.configs.get("retention.ms").and_then(|ms| ms.parse().ok())
    }

    /// Whether somebody who changes it may change what retention takes.
    #[must_use]
    pub fn may_keep_less(&self) -> bool {
        self.alterations().iter().any(|(key, _)| key.starts_with("retention."))
    }

    /// Whether there is something to change that not every topic has.
    pub(super) fn may_change(&self) -> bool {
        self.may_be_shortened()
            || matches!(self.nature, Nature::Compacted | Nature::Cached)
            || self.partitions_most > self.partitions
    }

    /// The settings that may be changed without changing what is promised.
    #[must_use]
    pub fn alterations(&self) -> Vec<Alteration> {
        let mut all: Vec<Alteration> = vec![
            ("segment.ms", &[None, Some("150"), Some("900"), Some("5000")]),
            ("index.interval.bytes", &[None, Some("1"), Some("500")]),
            ("compression.type", &[None, Some("gzip"), Some("lz4"), Some("uncompressed")]),
            ("min.insync.replicas", &[None, Some("1"), Some("2")]),
        ];
        match self.nature {
            Nature::Lasting | Nature::Fleeting | Nature::Shortened => {}
            Nature::Cached => {
                all.push(("flush.messages", &[None, Some("1"), Some("30")]));
                all.push(("flush.ms", &[None, Some("10"), Some("2000")]));
                all.push(("trialog.durability", &[None, Some("flush"), Some("page-cache")]));
            }
            Nature::Trimmed => {
                all.push(("retention.bytes", &[None, Some("700"), Some("20000")]));
                all.push(("retention.ms", &[Some("-1"), Some("500"), Some("20000")]));
            }
            Nature::Compacted => {
                if self.tidied_ms().is_none() {
                    all.push(("cleanup.policy", &[Some("compact"), Some("compact,delete"), None]));
                }
                all.push(("min.cleanable.dirty.ratio", &[None, Some("0.0"), Some("0.9")]));
                if !self.keeps_tombstones() {
                    all.push(("delete.retention.ms", &[None, Some("0"), Some("3000")]));
                }
                if self.compaction_lag_ms().is_none() && self.tidied_ms().is_none() {
                    all.push((LAG_MIN, &[None, Some("0"), Some("2000")]));
                }
            }
        }
        all
    }
}

/// What befalls the records of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nature {
    /// Flushed before they are acknowledged, kept for ever.
    Lasting,
    /// Acknowledged from the page cache: a power cut may take them.
    Cached,
    /// Removed by size or time.
    Trimmed,
    /// Removed when a client says so (DeleteRecords).
    Shortened,
    /// Removed when their key has a later one.
    Compacted,
    /// The topic is deleted and created again while it is used.
    Fleeting,
}

impl Nature {
    /// All of them.
    pub const ALL: [Nature; 6] = [
        Nature::Lasting,
        Nature::Cached,
        Nature::Trimmed,
        Nature::Shortened,
        Nature::Compacted,
        Nature::Fleeting,
    ];
}

/// The topics of a broker.
pub(super) fn topics(random: &mut Stream, broker: usize) -> Vec<TopicShape> {
    let mut natures = vec![Nature::Lasting];
    natures.extend(Nature::ALL.into_iter().filter(|_| random.chance(1, 4)));
    let topic = |(number, nature)| {
        let partitions = random.within(1..4) as i32;
        let grows = nature != Nature::Fleeting && random.chance(1, 5);
        TopicShape {
            name: format!("{}-{broker}-{number}", format!("{nature:?}").to_lowercase()),
            broker,
            partitions,
            partitions_most: partitions + if grows { random.within(1..3) as i32 } else { 0 },
            configs: configs(random, nature),
            nature,
        }
    };
    natures.into_iter().enumerate().map(topic).collect()
}

fn configs(random: &mut Stream, nature: Nature) -> BTreeMap<String, String> {
    let mut configs = BTreeMap::new();
    let mut set = |key: &str, value: String| configs.insert(key.to_owned(), value);
    // Clocks jump here; what a record's timestamp says is on trial only where retention asks.
    set("message.timestamp.after.max.ms", i64::MAX.to_string());
    set("message.timestamp.before.max.ms", i64::MAX.to_string());
    set("retention.ms", "-1".to_owned());
    if random.chance(1, 2) {
        set("segment.ms", random.within(200..4000).to_string());
    }
    if random.chance(1, 4) {
        set("message.timestamp.type", "LogAppendTime".to_owned());
    }
    if random.chance(1, 4) {
        set("index.interval.bytes", random.pick(&[1, 500]).to_string());
    }
    match nature {
        // What retention would take is kept for ever by having no policy at all.
        Nature::Lasting | Nature::Fleeting | Nature::Shortened => {
            if random.chance(1, 5) {
                set("cleanup.policy", String::new());
                set("retention.ms", random.within(100..5000).to_string());
                set("retention.bytes", random.within(100..5000).to_string());
            }
        }
        Nature::Cached => {
            set("trialog.durability", "page-cache".to_owned());
            if random.chance(1, 2) {
                set("flush.messages", random.within(1..50).to_string());
            }
            if random.chance(1, 2) {
                set("flush.ms", random.within(10..3000).to_string());
            }
        }
        Nature::Trimmed => {
            set("segment.ms", random.within(100..2000).to_string());
            if random.chance(1, 2) {
                set("retention.bytes", random.within(500..20_000).to_string());
            } else {
                set("retention.ms", random.within(500..20_000).to_string());
            }
        }
        Nature::Compacted => {
            let deletes = random.chance(1, 3);
            set("cleanup.policy", if deletes { "compact,delete" } else { "compact" }.to_owned());
            if deletes && random.chance(1, 2) {
                set("retention.ms", random.within(1000..20_000).to_string());
            }
            set("segment.ms", random.within(100..3000).to_string());
            set("min.cleanable.dirty.ratio", random.pick(&["0.0", "0.3", "0.5"]).to_owned());
            set("delete.retention.ms", random.pick(&TOMBSTONES_KEPT_MS).to_string());
            let mut least = 0;
            if random.chance(1, 3) {
                least = random.pick(&[500, 5000, 12_000]);
                set(LAG_MIN, least.to_string());
            }
            if random.chance(1, 3) {
                // Below the least a broker would refuse it.
                set(LAG_MAX, random.pick(&[300, 3000]).max(least).to_string());
            }
        }
    }
    configs
}
