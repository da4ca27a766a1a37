//! Offsets and epochs: their order, and that they never go back.

use trialog_engine::broker::Reading;
use trialog_engine::id::Offset;

use super::{Violation, name};

/// LOG-1, READ-1 and READ-2, within the life of one process.
pub fn check(now: &Reading, before: Option<&Reading>) -> Vec<Violation> {
    let mut wrong = Vec::new();
    let mut claim = |holds: bool, id, what: &str| {
        if !holds {
            wrong.push(Violation { id, text: format!("{}: {what}: {now:?}", name(now)) });
        }
    };
    claim(now.start <= now.flushed, "LOG-1", "the start is beyond the flushed end");
    claim(now.flushed <= now.end, "LOG-1", "the flushed end is beyond the end");
    claim(now.readable <= now.end, "READ-1", "the readable end is beyond the end");
    // One name may stand for two topics, one after the other.
    if let Some(before) = before.filter(|before| before.topic_id == now.topic_id) {
        claim(now.readable >= before.readable, "READ-2", "the readable end went back");
        claim(now.start >= before.start, "LOG-1", "the start went back");
        claim(now.epoch >= before.epoch, "META-3", "the epoch went back");
    }
    wrong
}

/// META-3: each start of the leader has a higher epoch than every earlier one.
pub fn check_epoch(now: &Reading, process: u64, newest: &mut (i32, u64)) -> Option<Violation> {
    let (epoch, holder) = *newest;
    let fine = if holder == process { now.epoch.0 >= epoch } else { now.epoch.0 > epoch };
    *newest = (now.epoch.0.max(epoch), process);
    (!fine).then(|| Violation {
        id: "META-3",
        text: format!("{}: epoch {} after epoch {epoch}", name(now), now.epoch),
    })
}

/// ACK-2 and READ-1: what was acknowledged or read lies below the readable end, then and in every
/// later life, and a flushed topic shows only what is flushed.
pub fn check_floor(now: &Reading, floor: Option<&Offset>) -> Option<Violation> {
    if now.readable > now.flushed {
        let text = format!("{}: more can be read than is flushed: {now:?}", name(now));
        return Some(Violation { id: "READ-1", text });
    }
    let floor = *floor?;
    (now.readable < floor).then(|| Violation {
        id: "ACK-2",
        text: format!(
            "{}: offset {} was acknowledged or read, and the readable end is {}",
            name(now),
            floor.0 - 1,
            now.readable
        ),
    })
}

/// LOG-9: retention by size leaves as many bytes as it was told to.
pub fn check_kept(now: &Reading, before: Option<&Reading>, kept: u64) -> Option<Violation> {
    let moved =
        before.is_some_and(|before| before.topic_id == now.topic_id && before.start < now.start);
    (moved && now.bytes < kept).then(|| Violation {
        id: "LOG-9",
        text: format!("{}: less than {kept} bytes are left: {now:?}", name(now)),
    })
}
