//! Makes a failure smaller: leaves out faults, clients and steps for as long as the same checker
//! still fires.
//!
//! First the end is left out: what comes after the failure has no part in it, and without it the
//! run goes the same way up to there. Where that is, is searched as in a dictionary. The rest is delta
//! debugging (Zeller, "Yesterday, my program worked", 1999) in its greedy form: try to leave out
//! everything, then each half, each quarter, down to single items, and start again while that
//! helps. Clients, faults and steps are cut to pieces of one size before smaller ones are tried:
//! whoever stops the search early has got the large ones out.
//!
//! The search knows nothing of runs: whoever calls tells it which candidates still fail, several
//! at a time, since there are several processors.

use std::collections::BTreeSet;

use crate::scenario::{Cut, Step};

/// Something that can be left out of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A fault of the plan.
    Fault(usize),
    /// A whole client.
    Client(usize),
    /// One step of a client.
    Step(Step),
}

/// How many of a run's faults and steps are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Faults of the plan.
    pub faults: usize,
    /// Steps of clients.
    pub steps: usize,
}

/// A run while it shrinks: how much there was, and what is left out of it.
#[derive(Clone, Debug)]
pub struct Shrinking {
    faults: usize,
    steps: Vec<u32>,
    cut: Cut,
}

impl Shrinking {
    /// A run of so many faults, with clients of so many steps, of which `cut` is left out.
    #[must_use]
    pub fn new(faults: usize, steps: Vec<u32>, cut: Cut) -> Self {
        Shrinking { faults, steps, cut }
    }

    /// What is left out by now.
    #[must_use]
    pub fn cut(&self) -> &Cut {
        &self.cut
    }

    /// How much is left in.
    #[must_use]
    pub fn size(&self) -> Size {
        Size { faults: self.faults_left().len(), steps: self.steps_left().len() }
    }

    /// Leaves out as much as still fails. `fails` is given candidates, at most `width` of them,
    /// and says of each whether it fails in the same way; `None` ends the search.
    pub fn shrink(&mut self, width: usize, mut fails: impl FnMut(&[Cut]) -> Option<Vec<bool>>) {
        // Whoever calls has an end in mind.
        let _ = self.search(width.max(1), &mut fails);
    }

    fn search(
        &mut self,
        width: usize,
        fails: &mut impl FnMut(&[Cut]) -> Option<Vec<bool>>,
    ) -> Option<()> {
        loop {
            let before = self.size();
            self.end_early(Self::steps_left(self), width, fails)?;
            self.end_early(Self::faults_left(self), width, fails)?;
            let most = self.clients_left().len().max(before.faults).max(before.steps);
            let mut pieces = 1;
            loop {
                // Whole clients first: that makes every further attempt cheaper.
                for items in [Self::clients_left, Self::steps_left, Self::faults_left] {
                    let items = items(self);
                    if pieces < 2 * items.len() {
                        self.reduce(items, pieces, width, fails)?;
                    }
                }
                if pieces >= most {
                    break;
                }
                pieces *= 2;
            }
            if self.size() == before {
                return Some(());
            }
        }
    }

    /// Leaves out the last of `items`, which are in the order in which they come, as many as
    /// possible; `None` if the search is to end.
    fn end_early(
        &mut self,
        items: Vec<Item>,
        width: usize,
        fails: &mut impl FnMut(&[Cut]) -> Option<Vec<bool>>,
    ) -> Option<()> {
        // With `enough` of them it still fails, with `few` it does not, as far as tried.
        let (mut few, mut enough) = (0, items.len());
        while few < enough {
            let places = (1..=width).map(|nth| few + (enough - few) * nth / (width + 1));
            let mut places: Vec<usize> = places.collect();
            places.dedup();
            let cuts: Vec<Cut> =
                places.iter().map(|&place| self.without(&items[place..])).collect();
            let verdicts = fails(&cuts)?;
            match verdicts.iter().position(|still| *still) {
                Some(at) => {
                    enough = places[at];
                    few = if at > 0 { places[at - 1] + 1 } else { few };
                }
                None => few = places.last().map_or(enough, |last| last + 1),
            }
        }
        self.cut = self.without(&items[enough..]);
        Some(())
    }

    /// Cuts `items` to so many pieces and leaves out as many of those as possible; `None` if the
    /// search is to end.
    fn reduce(
        &mut self,
        mut items: Vec<Item>,
        pieces: usize,
        width: usize,
        fails: &mut impl FnMut(&[Cut]) -> Option<Vec<bool>>,
    ) -> Option<()> {
        let chunk = items.len().div_ceil(pieces);
        let mut at = 0;
        while at < items.len() {
            let chunks: Vec<&[Item]> = items[at..].chunks(chunk).take(width).collect();
            let cuts: Vec<Cut> = chunks.iter().map(|chunk| self.without(chunk)).collect();
            let verdicts = fails(&cuts)?;
            match verdicts.iter().position(|still| *still) {
                Some(place) => {
                    self.cut.clone_from(&cuts[place]);
                    let from = at + place * chunk;
                    let to = (from + chunk).min(items.len());
                    items.drain(from..to);
                    at = from;
                }
                None => at += chunk * chunks.len(),
            }
        }
        Some(())
    }

    fn without(&self, items: &[Item]) -> Cut {
        let mut cut = self.cut.clone();
        for item in items {
            match *item {
                Item::Fault(index) => drop(cut.faults.insert(index)),
                Item::Client(index) => {
                    cut.clients.insert(index);
                    // It does nothing: its steps need not be named.
                    cut.steps.retain(|step| step.client != index);
                }
                Item::Step(step) => drop(cut.steps.insert(step)),
            }
        }
        cut
    }

    fn faults_left(&self) -> Vec<Item> {
        let left = (0..self.faults).filter(|index| !self.cut.faults.contains(index));
        left.map(Item::Fault).collect()
    }

    fn clients_left(&self) -> Vec<Item> {
        let left = (0..self.steps.len()).filter(|index| !self.cut.clients.contains(index));
        left.map(Item::Client).collect()
    }

    /// In the order in which they come if all clients take their steps evenly.
    fn steps_left(&self) -> Vec<Item> {
        let clients: BTreeSet<usize> = (0..self.steps.len()).collect();
        let active = clients.difference(&self.cut.clients);
        let steps = active
            .flat_map(|&client| (0..self.steps[client]).map(move |number| Step { client, number }));
        let mut steps: Vec<Step> = steps.filter(|step| !self.cut.steps.contains(step)).collect();
        let most = self.steps.iter().copied().max().unwrap_or_default();
        let when = |step: &Step| {
            u64::from(step.number) * u64::from(most) / u64::from(self.steps[step.client].max(1))
        };
        steps.sort_by_key(when);
        steps.into_iter().map(Item::Step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run of 20 faults and four clients of 50 steps that fails if fault 3 and fault 11 come
    /// and client 1 takes its step 40.
    fn fails(cut: &Cut) -> bool {
        let step = Step { client: 1, number: 40 };
        let there = !cut.clients.contains(&1) && !cut.steps.contains(&step);
        there && !cut.faults.contains(&3) && !cut.faults.contains(&11)
    }

    #[test]
    fn only_what_matters_is_left() {
        for width in [1, 2, 3] {
            let mut tried = 0;
            let mut run = Shrinking::new(20, vec![50; 4], Cut::default());
            run.shrink(width, |cuts| {
                assert!(cuts.len() <= width);
                tried += cuts.len();
                Some(cuts.iter().map(fails).collect())
            });
            assert!(fails(run.cut()));
            assert_eq!(run.size(), Size { faults: 2, steps: 1 }, "{}", run.cut());
            assert!(tried < 150, "{tried}");
        }
    }

    /// A failure that comes early needs few attempts to lose what comes after it: few enough for a
    /// minute, when each takes a second.
    #[test]
    fn what_comes_after_the_failure_goes_first() {
        let mut tried = 0;
        let mut run = Shrinking::new(60, vec![400, 100, 700], Cut::default());
        run.shrink(2, |cuts| {
            tried += cuts.len();
            // Every step of the first fifth matters, and so does every fault.
            let early = |step: &Step| step.number < [80, 20, 140][step.client];
            let fails = |cut: &Cut| {
                cut.clients.is_empty() && !cut.steps.iter().any(early) && cut.faults.is_empty()
            };
            (tried <= 40).then(|| cuts.iter().map(fails).collect())
        });
        assert_eq!(run.size().faults, 60);
        assert!((240..=250).contains(&run.size().steps), "{:?}", run.size());
    }

    #[test]
    fn what_is_known_when_time_is_up_stays() {
        let mut left = 3;
        let mut run = Shrinking::new(20, vec![50; 4], Cut::default());
        run.shrink(2, |cuts| {
            left -= 1;
            (left > 0).then(|| cuts.iter().map(fails).collect())
        });
        assert!(fails(run.cut()));
    }
}
