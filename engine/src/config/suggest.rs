//! The nearest known key to one that was mistyped.

/// The candidate that `given` most likely meant; `None` if none is near. The first of equals wins.
#[must_use]
pub fn nearest(
    given: &str,
    candidates: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    // An endless key gets no suggestion, so that the comparison below stays cheap.
    if given.len() > 128 {
        return None;
    }
    let given = given.trim().to_ascii_lowercase().replace(['_', '-'], ".");
    let most = given.len().max(6) / 3;
    let scored = candidates.map(|name| (score(&given, name, most), name));
    let (best, name) = scored.min_by_key(|&(score, _)| score)?;
    (best <= most).then_some(name)
}

/// How far apart two keys are. A key that contains the other whole (`retention.ms` in
/// `log.retention.ms`) is as near as one typing error.
///
/// A name that is longer or shorter by more than `most` is not looked at: requests may be full of
/// keys that nobody knows, and each of them costs a core's time.
fn score(given: &str, name: &str, most: usize) -> usize {
    let whole = |short: &str, long: &str| {
        short.contains('.') && long.ends_with(&format!(".{short}")) && !short.is_empty()
    };
    if whole(given, name) || whole(name, given) {
        return 1;
    }
    if given.len().abs_diff(name.len()) > most {
        return usize::MAX;
    }
    distance(given.as_bytes(), name.as_bytes())
}

/// Levenshtein's distance with neighbours swapped counted as one.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut least = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(before[j - 2] + 1);
            }
            row.push(least);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in
            [("", "", 0), ("abc", "", 3), ("abc", "abd", 1), ("abc", "acb", 1), ("ab", "cd", 2)]
        {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
            assert_eq!(distance(b.as_bytes(), a.as_bytes()), expected, "{b} {a}");
        }
    }

    #[test]
    fn the_nearest_key_is_found() {
        let keys = ["log.retention.ms", "log.retention.bytes", "num.partitions", "node.id"];
        for (given, expected) in [
            ("log.retntion.ms", Some("log.retention.ms")),
            ("retention.ms", Some("log.retention.ms")),
            ("num_partitions", Some("num.partitions")),
            ("broker.id", None),
            ("process.roles", None),
            ("", None),
        ] {
            assert_eq!(nearest(given, keys.into_iter()), expected, "{given}");
        }
        assert_eq!(nearest(&"x".repeat(5000), keys.into_iter()), None);
    }
}
