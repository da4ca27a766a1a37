//! The text form of a cut: what `--without` is given on the command line, and failures print.
//!
//! ```text
//! faults=0-3,7/clients=2/steps=0:4-90,3:0
//! ```
//!
//! Faults, clients and steps (of a client, behind the colon) are numbers or ranges that include
//! both ends. A part that leaves nothing out is not written.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{Cut, Step};

/// More numbers than this in one range are a slip of the pen.
const RANGE_MAX: u64 = 1_000_000;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        let numbers = |set: &BTreeSet<usize>| ranges(set.iter().map(|&number| number as u64));
        if !self.faults.is_empty() {
            parts.push(format!("faults={}", numbers(&self.faults).join(",")));
        }
        if !self.clients.is_empty() {
            parts.push(format!("clients={}", numbers(&self.clients).join(",")));
        }
        if !self.steps.is_empty() {
            let clients: BTreeSet<usize> = self.steps.iter().map(|step| step.client).collect();
            let of = |client: usize| {
                let steps = self.steps.iter().filter(move |step| step.client == client);
                let runs = ranges(steps.map(|step| u64::from(step.number)));
                runs.into_iter().map(move |run| format!("{client}:{run}"))
            };
            let steps: Vec<String> = clients.into_iter().flat_map(of).collect();
            parts.push(format!("steps={}", steps.join(",")));
        }
        f.write_str(&parts.join("/"))
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Cut, String> {
        let mut cut = Cut::default();
        for part in text.split('/').filter(|part| !part.is_empty()) {
            let (what, which) = part.split_once('=').ok_or_else(|| misread(part))?;
            for item in which.split(',') {
                match what {
                    "faults" => cut.faults.extend(range(item)?.map(|number| number as usize)),
                    "clients" => cut.clients.extend(range(item)?.map(|number| number as usize)),
                    "steps" => {
                        let (client, numbers) =
                            item.split_once(':').ok_or_else(|| misread(item))?;
                        let client = client.parse().map_err(|_| misread(item))?;
                        let numbers = range(numbers)?.map(u32::try_from);
                        for number in numbers {
                            let number = number.map_err(|_| misread(item))?;
                            cut.steps.insert(Step { client, number });
                        }
                    }
                    _ => return Err(misread(part)),
                }
            }
        }
        Ok(cut)
    }
}

fn misread(part: &str) -> String {
    format!("'{part}' is not of the form faults=0-3,7/clients=2/steps=0:4-90,3:0")
}

fn range(text: &str) -> Result<std::ops::RangeInclusive<u64>, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|_| misread(text));
    let (from, to) = text.split_once('-').unwrap_or((text, text));
    let (from, to) = (number(from)?, number(to)?);
    if from > to || to - from > RANGE_MAX {
        return Err(misread(text));
    }
    Ok(from..=to)
}

/// Rising numbers, neighbours joined.
fn ranges(numbers: impl Iterator<Item = u64>) -> Vec<String> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => runs.push((number, number)),
        }
    }
    let text = |(from, to)| if from == to { format!("{from}") } else { format!("{from}-{to}") };
    runs.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        let step = |client, number| Step { client, number };
        let cut = Cut {
            faults: [0, 1, 2, 3, 7].into(),
            clients: [2].into(),
            steps: [step(0, 4), step(0, 5), step(3, 0), step(3, 2)].into(),
        };
        let text = "faults=0-3,7/clients=2/steps=0:4-5,3:0,3:2";
        assert_eq!(cut.to_string(), text);
        assert_eq!(text.parse(), Ok(cut));
        assert_eq!("".parse(), Ok(Cut::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["faults", "faults=", "faults=3-1", "steps=4", "fish=1", "faults=0-99999999"] {
            assert!(text.parse::<Cut>().is_err(), "{text}");
        }
    }
}
