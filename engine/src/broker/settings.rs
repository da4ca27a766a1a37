//! A topic's settings, parsed once and kept, because every produce looks at them.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::config;
use crate::id::TopicId;
use crate::io::Wall;
use crate::machine::Topic;
use crate::wire::batch::{Compression, Rules};

/// The parsed settings of one core's topics.
#[derive(Default)]
pub struct Settings(RefCell<BTreeMap<TopicId, Known>>);

/// A topic as it was in the image, and what its settings say.
type Known = (Arc<Topic>, Rc<config::Topic>);

impl Settings {
    /// The settings of `topic` as it stands in the image it was taken from.
    pub fn of(&self, broker: &config::Broker, topic: &Arc<Topic>) -> Rc<config::Topic> {
        if let Some((known, parsed)) = self.0.borrow().get(&topic.id)
            && Arc::ptr_eq(known, topic)
        {
            return parsed.clone();
        }
        let parsed = config::Topic::resolve(broker, &topic.configs);
        // The machine checks settings before it takes them.
        let parsed = Rc::new(parsed.expect("META: a topic's settings are legal"));
        self.0.borrow_mut().insert(topic.id, (topic.clone(), parsed.clone()));
        parsed
    }

    /// Forgets topics that `exists` does not know.
    pub fn retain(&self, exists: impl Fn(TopicId) -> bool) {
        self.0.borrow_mut().retain(|id, _| exists(*id));
    }
}

/// The codec that every batch of a topic is to have, if the topic has one of its own.
#[must_use]
pub fn codec(topic: &config::Topic) -> Option<Compression> {
    match topic.compression {
        config::Compression::Producer => None,
        config::Compression::Uncompressed => Some(Compression::None),
        config::Compression::Gzip => Some(Compression::Gzip),
        config::Compression::Snappy => Some(Compression::Snappy),
        config::Compression::Lz4 => Some(Compression::Lz4),
        config::Compression::Zstd => Some(Compression::Zstd),
    }
}

/// What a producer's batch must obey, sent with `version` of Produce.
#[must_use]
pub fn rules(topic: &config::Topic, version: i16, now: Wall) -> Rules {
    Rules {
        batch_bytes_max: topic.message_bytes_max,
        zstd: version >= 7,
        keys_required: topic.compact,
        append_time: topic.append_time,
        now_ms: now.0,
        timestamp_before_ms_max: topic.timestamp_before_ms_max,
        timestamp_after_ms_max: topic.timestamp_after_ms_max,
    }
}
