//! A producer's last header: a sum of its record, so that whoever reads it sees whether all of it is as it
//! was sent, and not only the number that the history knows.

use trialog_engine::client::{ConsumedRecord, NewRecord};

use crate::sum::sum;

/// The header's name.
pub const NAME: &str = "seal";

/// What it says of a record; of its time only if the broker keeps what the sender says.
pub fn of(record: &NewRecord<'_>, kept: Option<i64>) -> Vec<u8> {
    let headers = record.headers.iter().map(|header| (header.key, header.value));
    mark(record.key, record.value, headers, kept)
}

/// What it says of a record that is nothing but a value.
pub fn of_value(value: &[u8]) -> Vec<u8> {
    mark(None, Some(value), std::iter::empty(), None)
}

/// Whether a record is as it was sent.
pub fn is_whole(got: &ConsumedRecord) -> bool {
    let (key, value) = (got.key.as_deref(), got.value.as_deref());
    match got.headers.split_last() {
        Some(((name, Some(seal)), rest)) if name == NAME => {
            let headers = rest.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
            let kept = (seal.first() == Some(&1)).then_some(got.timestamp);
            *seal == mark(key, value, headers, kept)
        }
        _ => false,
    }
}

fn mark<'a>(
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    kept: Option<i64>,
) -> Vec<u8> {
    let time = kept.unwrap_or_default().to_be_bytes();
    let headers = headers.flat_map(|(name, value)| [Some(name), value]);
    let parts: Vec<_> = [key, value, Some(&time)].into_iter().chain(headers).collect();
    [&[u8::from(kept.is_some())][..], &sum(parts).to_be_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use trialog_engine::id::{Offset, PartitionIndex};
    use trialog_engine::wire::batch::RecordHeader;

    use super::*;

    #[test]
    fn every_part_of_a_record_counts() {
        let header = RecordHeader { key: b"a", value: Some(b"1") };
        let sent = NewRecord {
            topic: "t",
            partition: None,
            timestamp: Some(5),
            key: Some(b"key"),
            value: Some(b"value"),
            headers: &[header],
        };
        let heard = |kept| ConsumedRecord {
            topic: Rc::from("t"),
            partition: PartitionIndex(0),
            offset: Offset(0),
            timestamp: 5,
            key: Some(b"key".to_vec()),
            value: Some(b"value".to_vec()),
            headers: vec![
                ("a".to_owned(), Some(b"1".to_vec())),
                (NAME.to_owned(), Some(of(&sent, kept))),
            ],
        };
        assert!(is_whole(&heard(Some(5))) && is_whole(&heard(None)));
        let changes: [fn(&mut ConsumedRecord); 6] = [
            |got| got.key = None,
            |got| got.value = Some(b"valuf".to_vec()),
            |got| got.headers[0].1 = None,
            |got| _ = got.headers.remove(0),
            |got| _ = got.headers.pop(),
            |got| got.timestamp = 6,
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut got = heard(Some(5));
            change(&mut got);
            assert!(!is_whole(&got), "change {number}");
        }
        let mut stamped = heard(None);
        stamped.timestamp = 6;
        assert!(is_whole(&stamped), "the broker's own time");
    }
}
