//! Prometheus' text format, read back as strictly as its documentation draws it.

use std::collections::{BTreeMap, BTreeSet};

/// A sample's labels in their order, with their values.
type Labels = Vec<(String, String)>;
/// One sample: its name, and its labels.
type Series = (String, Labels);

/// A page of metrics.
pub struct Page(BTreeMap<Series, f64>);

impl Page {
    /// Reads a page; whatever is not in the format ends the test.
    pub fn read(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line ends, too");
        let mut families: BTreeMap<String, String> = BTreeMap::new();
        let mut ended = BTreeSet::new();
        let mut current = String::new();
        let mut samples = BTreeMap::new();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("a name and a sentence");
                assert!(is_name(name) && help.ends_with('.'), "{line}");
                let kind = lines.next().and_then(|line| line.strip_prefix("# TYPE "));
                let (same, kind) = kind.and_then(|kind| kind.split_once(' ')).expect("its type");
                assert_eq!(name, same);
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert!(ended.insert(name.to_owned()), "{name} begins twice");
                assert!(families.insert(name.to_owned(), kind.to_owned()).is_none());
                current = name.to_owned();
                continue;
            }
            let ((name, labels), value) = sample(line);
            let kind = &families[&current];
            let suffix = name.strip_prefix(current.as_str()).expect("families stand together");
            match kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                "counter" => {
                    assert!(suffix.is_empty() && value >= 0.0, "{line}");
                    assert!(name.ends_with("_total") || name.ends_with("_count"), "{line}");
                }
                _ => assert!(suffix.is_empty(), "{line}"),
            }
            assert!(samples.insert((name, labels), value).is_none(), "twice: {line}");
        }
        let page = Page(samples);
        page.check_histograms(&families);
        page
    }

    /// The value of a series, if it is there.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let own = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.0.get(&(name.to_owned(), labels.iter().map(own).collect())).copied()
    }

    /// Buckets grow towards the count.
    fn check_histograms(&self, families: &BTreeMap<String, String>) {
        for (name, _) in families.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut buckets: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
            for ((sample, labels), value) in &self.0 {
                if *sample == format!("{name}_bucket") {
                    let (le, others): (Vec<_>, Vec<_>) =
                        labels.iter().cloned().partition(|(label, _)| label == "le");
                    let bound = le[0].1.parse::<f64>().expect("a bound");
                    buckets.entry(others).or_default().push((bound, *value));
                }
            }
            for (labels, mut counts) in buckets {
                counts.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(counts.is_sorted_by(|a, b| a.1 <= b.1), "{name}: {counts:?}");
                let (bound, all) = *counts.last().expect("one at least");
                assert_eq!(bound, f64::INFINITY);
                assert_eq!(self.0[&(format!("{name}_count"), labels.clone())], all);
                assert!(self.0.contains_key(&(format!("{name}_sum"), labels)));
            }
        }
    }
}

fn is_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    !name.is_empty() && name.chars().all(legal) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn sample(line: &str) -> (Series, f64) {
    let name_end = line.find(['{', ' ']).expect("a name");
    let (name, mut rest) = line.split_at(name_end);
    assert!(is_name(name), "{line}");
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label with its value");
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (mut value, mut chars) = (String::new(), after.char_indices());
            let end = loop {
                match chars.next().expect("the value ends") {
                    (at, '"') => break at,
                    (_, '\\') => match chars.next().expect("something escaped").1 {
                        'n' => value.push('\n'),
                        escaped @ ('\\' | '"') => value.push(escaped),
                        other => panic!("\\{other} in {line}"),
                    },
                    (_, other) => value.push(other),
                }
            };
            labels.push((label.to_owned(), value));
            rest = &after[end + 1..];
            match rest.split_at(1) {
                (",", more) => rest = more,
                ("}", more) => {
                    rest = more;
                    break;
                }
                _ => panic!("{line}"),
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a value behind one space");
    ((name.to_owned(), labels), value.parse().expect("a number"))
}
