//! `trialog topic explain-retention`: what will become of each segment of a topic, in words.
//!
//! The broker tells it at its admin listener (`/topics/NAME/retention`); retention itself decides by
//! the same function.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use trialog_engine::machine::name;

use super::failure::Failure;
use super::output::Output;
use super::time;

/// The longest answer that is read, in bytes: some hundred thousand segments.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Asks the broker and prints its answer.
pub fn explain(
    topic: &str,
    admin: &str,
    timeout: Duration,
    output: &mut Output,
) -> Result<(), Failure> {
    if let Err(error) = name::check(topic) {
        return Err(Failure::Usage(format!("topic name {topic:?} is not legal: {error}")));
    }
    let page = get(admin, &format!("/topics/{topic}/retention"), timeout)?;
    let page: Value = serde_json::from_str(&page).map_err(|error| {
        let what = format!("{admin} does not answer as a trialog broker does: {error}");
        Failure::Other(what)
    })?;
    output.remark(&settings(&page))?;
    for partition in page["partitions"].as_array().into_iter().flatten() {
        explain_partition(&page, partition, output)?;
    }
    Ok(())
}

fn get(admin: &str, path: &str, timeout: Duration) -> Result<String, Failure> {
    let unreachable = |error: std::io::Error| {
        Failure::NoAnswer(format!(
            "no answer from {admin}: {error}; it is the broker's setting trialog.admin.listener: \
             give it with --admin HOST:PORT"
        ))
    };
    let until = Instant::now() + timeout;
    let mut addresses = admin.to_socket_addrs().map_err(unreachable)?;
    let address = addresses.next().ok_or_else(|| {
        Failure::Usage(format!("'{admin}' has no address; give --admin HOST:PORT"))
    })?;
    let mut stream = TcpStream::connect_timeout(&address, timeout).map_err(unreachable)?;
    stream.set_write_timeout(Some(timeout)).map_err(unreachable)?;
    let request = format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(unreachable)?;
    let mut answer = Vec::new();
    let mut chunk = vec![0; 64 << 10];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(unreachable(std::io::ErrorKind::TimedOut.into()));
        }
        stream.set_read_timeout(Some(left)).map_err(unreachable)?;
        match stream.read(&mut chunk).map_err(unreachable)? {
            0 => break,
            read => answer.extend_from_slice(&chunk[..read]),
        }
        if answer.len() as u64 > ANSWER_BYTES_MAX {
            return Err(Failure::Other(format!("{admin} answers with far too much")));
        }
    }
    body(admin, &String::from_utf8_lossy(&answer))
}

/// The body of a good answer.
fn body(admin: &str, answer: &str) -> Result<String, Failure> {
    let strange =
        || Failure::Other(format!("{admin} does not speak HTTP: is it the admin listener?"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(strange)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.ok_or_else(strange)? {
        "200" => Ok(body.to_owned()),
        _ => Err(Failure::Refused(body.trim_end().to_owned())),
    }
}

fn number(value: &Value, key: &str) -> i64 {
    value[key].as_i64().unwrap_or(0)
}

fn truth(value: &Value, key: &str) -> bool {
    value[key].as_bool().unwrap_or(false)
}

/// What the topic's settings say, in a line.
fn settings(page: &Value) -> String {
    let (ms, bytes) = (number(page, "retention_ms"), number(page, "retention_bytes"));
    let mut rules = Vec::new();
    if truth(page, "delete") {
        if ms >= 0 {
            rules.push(format!("records older than {} go (retention.ms={ms})", span(ms)));
        }
        if bytes >= 0 {
            let size = size(bytes);
            rules.push(format!("a partition keeps {size} (retention.bytes={bytes})"));
        }
        if rules.is_empty() {
            rules.push("nothing is removed by age or size".to_owned());
        }
    }
    if truth(page, "compact") {
        rules.push("compaction keeps the last record of each key".to_owned());
    }
    if rules.is_empty() {
        rules.push("nothing is removed (cleanup.policy is empty)".to_owned());
    }
    let topic = page["topic"].as_str().unwrap_or_default();
    let (every, roll) = (number(page, "check_interval_ms"), number(page, "segment_ms"));
    format!(
        "{topic}: {}. Whole segments go, the oldest first, at checks that are at most {} apart; one \
         is written to for at most {} or {}.",
        rules.join("; "),
        span(every),
        span(roll),
        size(number(page, "segment_bytes")),
    )
}

fn explain_partition(page: &Value, partition: &Value, output: &mut Output) -> Result<(), Failure> {
    let index = number(partition, "partition");
    if let Some(error) = partition["error"].as_str() {
        let told = json!({ "topic": page["topic"], "partition": index, "error": error });
        return output.line(&format!("partition {index}: {error}"), &told);
    }
    let (start, end) = (number(partition, "start"), number(partition, "end"));
    output.remark(&format!("\npartition {index}: offsets {start} to {end}"))?;
    let segments: Vec<&Value> = partition["segments"].as_array().into_iter().flatten().collect();
    if segments.is_empty() {
        output.remark("  no segments: it is empty")?;
    }
    for segment in segments {
        let (rule, words) = fate(page, partition, segment);
        let (base, end) = (number(segment, "base"), number(segment, "end"));
        let bytes = number(segment, "bytes");
        let text = format!("  {base}..{end} ({}): {words}", size(bytes));
        let mut told = segment.clone();
        if let Some(object) = told.as_object_mut() {
            object.insert("topic".to_owned(), page["topic"].clone());
            object.insert("partition".to_owned(), index.into());
            object.insert("rule".to_owned(), rule.into());
            object.insert("words".to_owned(), words.into());
        }
        output.line(&text, &told)?;
    }
    Ok(())
}

/// The rule that takes a segment first, and what that means.
fn fate(page: &Value, partition: &Value, segment: &Value) -> (&'static str, String) {
    let now = number(page, "now_ms");
    let (base, end) = (number(segment, "base"), number(segment, "end"));
    let start = number(partition, "start");
    let newest = time::format(number(segment, "newest_ms"));
    let closing = if truth(segment, "active") { " and is closed" } else { "" };
    let mut words = Vec::new();
    let rule = match segment["due"].as_str() {
        Some("below-start") => {
            words.push(format!(
                "goes with the next checkpoint: all of it is below the start of the log, {start}, \
                 which DeleteRecords or retention has raised"
            ));
            "delete-records"
        }
        Some("time") => {
            words
                .push(format!("goes at the next check, by time: its newest record is of {newest}"));
            "time"
        }
        Some("size") => {
            words.push(
                "goes at the next check, by size: the segments behind it are enough".to_owned(),
            );
            "size"
        }
        _ => {
            let rule = match segment["at_ms"].as_i64() {
                Some(at) => {
                    let wait = if at > now {
                        format!("after {} (in {})", time::format(at), span(at - now))
                    } else {
                        "once it is on the disk and everything before it has gone".to_owned()
                    };
                    words.push(format!("goes by time {wait}: its newest record is of {newest}"));
                    "time"
                }
                None => "none",
            };
            let rule = match segment["after_bytes"].as_i64() {
                Some(more) if rule == "none" => {
                    words.push(format!(
                        "goes by size once {} more are written{closing}",
                        size(more)
                    ));
                    "size"
                }
                Some(more) => {
                    words.push(format!("or by size once {} more are written{closing}", size(more)));
                    rule
                }
                None => rule,
            };
            if base < start && start < end {
                words.push(format!("its records below {start} are gone for readers already"));
            }
            rule
        }
    };
    let compacted = compaction(page, partition, segment, &mut words);
    match (rule, compacted) {
        ("none", true) => ("compaction", words.join("; ")),
        ("none", false) if words.is_empty() => ("none", "stays: no rule removes it".to_owned()),
        (rule, _) => (rule, words.join("; ")),
    }
}

/// What compaction does with a segment, if it has anything to do with it.
fn compaction(page: &Value, partition: &Value, segment: &Value, words: &mut Vec<String>) -> bool {
    if !truth(page, "compact") {
        return false;
    }
    let compacted = number(partition, "compacted");
    words.push(if truth(segment, "active") {
        "compaction waits until it is closed".to_owned()
    } else if number(segment, "end") <= compacted {
        "compacted: each key has one record here and before; it is written anew, smaller, when \
         later records replace some of them"
            .to_owned()
    } else if truth(partition, "compaction_due") {
        "compaction is due and will keep the last record of each key".to_owned()
    } else {
        "compaction keeps the last record of each key once enough is new \
         (min.cleanable.dirty.ratio, min.compaction.lag.ms)"
            .to_owned()
    });
    true
}

/// A span of time in its two largest units.
fn span(ms: i64) -> String {
    const UNITS: [(i64, &str); 5] =
        [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
    let first = UNITS.iter().position(|(unit, _)| ms >= *unit).unwrap_or(UNITS.len() - 1);
    let (unit, name) = UNITS[first];
    let mut text = format!("{} {name}", ms / unit);
    if let Some((smaller, name)) = UNITS.get(first + 1)
        && ms % unit >= *smaller
    {
        text.push_str(&format!(" {} {name}", ms % unit / smaller));
    }
    text
}

/// A number of bytes in the unit that fits.
fn size(bytes: i64) -> String {
    const UNITS: [(i64, &str); 4] =
        [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match UNITS.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / *unit as f64),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_read_well() {
        for (ms, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (61_000, "1 min 1 s"),
            (3_600_000, "1 h"),
            (604_800_000, "7 d"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(span(ms), text);
        }
        for (bytes, text) in [(0, "0 bytes"), (1023, "1023 bytes"), (1536, "1.5 KiB")] {
            assert_eq!(size(bytes), text);
        }
        assert_eq!(size(5 << 30), "5.0 GiB");
    }

    fn told(page: Value, segment: Value) -> (&'static str, String) {
        let partition = json!({ "start": 15, "end": 99, "compacted": 10, "compaction_due": false });
        fate(&page, &partition, &segment)
    }

    #[test]
    fn each_rule_is_told_in_words() {
        let page = json!({ "now_ms": 1000, "delete": true, "compact": false });
        let segment = |due: Value, at_ms: Value, after_bytes: Value| {
            json!({
                "base": 20, "end": 30, "bytes": 100, "newest_ms": 0, "active": false,
                "due": due, "at_ms": at_ms, "after_bytes": after_bytes,
            })
        };
        let (none, time, size) = (Value::Null, json!(3_601_000), json!(2048));
        for (segment, rule, text) in [
            (segment(json!("below-start"), none.clone(), none.clone()), "delete-records", "15"),
            (segment(json!("time"), json!(1), none.clone()), "time", "1970-01-01T00:00"),
            (segment(json!("size"), none.clone(), json!(0)), "size", "at the next check, by size"),
            (segment(none.clone(), time.clone(), none.clone()), "time", "(in 1 h)"),
            (segment(none.clone(), time, size.clone()), "time", "or by size once 2.0 KiB more"),
            (segment(none.clone(), none.clone(), size), "size", "once 2.0 KiB more are written"),
            (segment(none.clone(), none.clone(), none.clone()), "none", "no rule removes it"),
        ] {
            let (found, words) = told(page.clone(), segment);
            assert_eq!(found, rule, "{words}");
            assert!(words.contains(text), "{words}");
        }
        let page = json!({ "now_ms": 1000, "delete": false, "compact": true });
        let (rule, words) = told(page, segment(none.clone(), none.clone(), none));
        assert_eq!(rule, "compaction");
        assert!(words.contains("min.cleanable.dirty.ratio"), "{words}");
    }

    #[test]
    fn an_answer_is_a_body_or_a_reason() {
        let good = body("a", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n{}").expect("good");
        assert_eq!(good, "{}");
        let missing = body("a", "HTTP/1.1 404 Not Found\r\n\r\nthere is no topic\n");
        assert!(matches!(missing, Err(Failure::Refused(text)) if text == "there is no topic"));
        assert!(matches!(body("a", "220 ready\r\n"), Err(Failure::Other(_))));
    }
}
