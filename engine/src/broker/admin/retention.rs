//! `/topics/NAME/retention`: what will become of each segment of a topic, as JSON.

use std::rc::Rc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::http::Status;
use crate::broker::ask::Ask;
use crate::broker::{Core, shard};
use crate::io::Io;
use crate::log::{Fate, Fates, Rule};

/// The topic of a path of this kind.
pub fn topic(path: &str) -> Option<&str> {
    path.strip_prefix("/topics/")?.strip_suffix("/retention").filter(|name| !name.contains('/'))
}

/// The page of a topic.
pub async fn page<I: Io>(core: &Rc<Core<I>>, name: &str) -> (Status, String) {
    let image = core.shared.image();
    let Some(topic) = image.topic(name) else {
        return (Status::NotFound, format!("there is no topic {name:?}\n"));
    };
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, _) in topic.indexed() {
        let (answer, told) = oneshot::channel();
        shard::ask(core, (topic.id, index), Ask::Fates(answer)).await;
        partitions.push(match told.await {
            Ok(Ok(fates)) => partition(index.0, &fates),
            Ok(Err(code)) => json!({ "partition": index.0, "error": code.message() }),
            Err(_) => json!({ "partition": index.0, "error": "the partition closed" }),
        });
    }
    let config = core.topic_config(topic);
    let page = json!({
        "topic": name,
        "now_ms": core.io.wall().0,
        "check_interval_ms": core.shared.config.retention_check_interval_ms,
        "delete": config.delete,
        "compact": config.compact,
        "retention_ms": config.retention_ms,
        "retention_bytes": config.retention_bytes,
        "segment_ms": config.segment_ms,
        "segment_bytes": config.segment_bytes,
        "partitions": partitions,
    });
    (Status::Ok, format!("{page}\n"))
}

fn partition(index: i32, fates: &Fates) -> Value {
    json!({
        "partition": index,
        "start": fates.start.0,
        "end": fates.end.0,
        "compacted": fates.compacted.0,
        "compaction_due": fates.compaction_due,
        "segments": fates.segments.iter().map(segment).collect::<Vec<_>>(),
    })
}

fn segment(fate: &Fate) -> Value {
    json!({
        "base": fate.base.0,
        "end": fate.end.0,
        "bytes": fate.size,
        "newest_ms": fate.newest_ms,
        "active": fate.active,
        "due": fate.due.map(rule),
        "at_ms": fate.at_ms,
        "after_bytes": fate.after_bytes,
    })
}

fn rule(rule: Rule) -> &'static str {
    match rule {
        Rule::BelowStart => "below-start",
        Rule::Time => "time",
        Rule::Size => "size",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_its_topic() {
        assert_eq!(topic("/topics/a.b-c_D/retention"), Some("a.b-c_D"));
        for other in ["/topics/a", "/topics/a/b/retention", "/topics//x/retention", "/metrics"] {
            assert_eq!(topic(other), None, "{other}");
        }
    }
}
