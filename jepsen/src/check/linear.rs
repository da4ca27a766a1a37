//! Linearizability of one object: is there an order of its operations, each between its invocation
//! and its answer, that a sequential object allows?
//!
//! The search is Wing's and Gong's in Lowe's just-in-time form: events are gone through in order, and
//! a change takes effect only when an answer needs it to. Kept are all configurations that explain
//! what has been seen so far: a state, and which open operations are done. A read is done as soon as a
//! state satisfies it, since that binds nobody. Changes without an answer stay open for ever; of two
//! configurations that differ only in how many of them were used up, the poorer one is dropped.
//! Bounded: with more than [`CONFIGURATIONS_MAX`] configurations the search gives up and says so.

use std::collections::{BTreeMap, BTreeSet};

/// Configurations looked at for one answer before the search gives up.
const CONFIGURATIONS_MAX: usize = 20_000;

/// What an object is.
pub trait Object {
    type State: Clone + Ord;
    type Step;

    /// The state after a step, if that step can happen here and be answered as it was.
    fn step(state: &Self::State, step: &Self::Step) -> Option<Self::State>;

    /// Whether a step only looks.
    fn is_read(step: &Self::Step) -> bool;
}

/// One operation on the object.
#[derive(Clone, Debug)]
pub struct Operation<S> {
    pub step: S,
    pub invoked: usize,
    /// `usize::MAX` for a change whose fate nobody knows.
    pub ended: usize,
}

/// What the search came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// No order explains the answer of this operation (its index), together with what was before.
    Broken(usize),
    /// Too many orders to look at.
    Undecided,
}

/// A state, and the open operations that are done.
type Configuration<S> = (S, BTreeSet<usize>);

/// Judges the operations of one object that began in one of the `initial` states.
pub fn check<O: Object>(
    initial: impl IntoIterator<Item = O::State>,
    operations: &[Operation<O::Step>],
) -> Verdict {
    let mut events: Vec<(usize, usize, bool)> = Vec::with_capacity(operations.len() * 2);
    for (number, operation) in operations.iter().enumerate() {
        events.push((operation.invoked, number, false));
        if operation.ended != usize::MAX {
            events.push((operation.ended, number, true));
        }
    }
    events.sort_unstable();
    let mut search = Search::<'_, O> {
        operations,
        open: BTreeSet::new(),
        configurations: initial.into_iter().map(|state| (state, BTreeSet::new())).collect(),
    };
    for (_, number, answered) in events {
        if !answered {
            search.invoke(number);
            continue;
        }
        let verdict = search.answer(number);
        if verdict != Verdict::Fine {
            return verdict;
        }
    }
    Verdict::Fine
}

struct Search<'o, O: Object> {
    operations: &'o [Operation<O::Step>],
    /// Asked, and not answered yet.
    open: BTreeSet<usize>,
    configurations: BTreeSet<Configuration<O::State>>,
}

impl<O: Object> Search<'_, O> {
    fn invoke(&mut self, number: usize) {
        self.open.insert(number);
        if O::is_read(&self.operations[number].step) {
            let old = std::mem::take(&mut self.configurations);
            self.configurations = old.into_iter().map(|it| self.satisfied(it)).collect();
        }
    }

    /// Marks the open reads that a configuration satisfies.
    fn satisfied(&self, (state, mut done): Configuration<O::State>) -> Configuration<O::State> {
        for number in &self.open {
            let step = &self.operations[*number].step;
            if O::is_read(step) && !done.contains(number) && O::step(&state, step).is_some() {
                done.insert(*number);
            }
        }
        (state, done)
    }

    /// Keeps the configurations in which an operation is done by now.
    fn answer(&mut self, number: usize) -> Verdict {
        let mut kept = BTreeSet::new();
        let mut seen = self.configurations.clone();
        let mut ahead: Vec<_> = std::mem::take(&mut self.configurations).into_iter().collect();
        while let Some((state, mut done)) = ahead.pop() {
            if done.remove(&number) {
                kept.insert((state, done));
                continue;
            }
            for other in &self.open {
                let step = &self.operations[*other].step;
                if O::is_read(step) || done.contains(other) {
                    continue;
                }
                let Some(state) = O::step(&state, step) else { continue };
                let mut done = done.clone();
                done.insert(*other);
                let next = self.satisfied((state, done));
                if seen.insert(next.clone()) {
                    ahead.push(next);
                }
            }
            if seen.len() > CONFIGURATIONS_MAX {
                return Verdict::Undecided;
            }
        }
        self.open.remove(&number);
        if kept.is_empty() {
            return Verdict::Broken(number);
        }
        self.configurations = self.richest(kept);
        Verdict::Fine
    }

    /// Without the configurations that another one makes needless.
    fn richest(&self, all: BTreeSet<Configuration<O::State>>) -> BTreeSet<Configuration<O::State>> {
        let loose = |number: &usize| self.operations[*number].ended == usize::MAX;
        let mut groups: BTreeMap<_, Vec<BTreeSet<usize>>> = BTreeMap::new();
        for (state, done) in all {
            let (used, firm): (BTreeSet<usize>, BTreeSet<usize>) =
                done.into_iter().partition(|number| loose(number));
            let group = groups.entry((state, firm)).or_default();
            if group.iter().any(|less| less.is_subset(&used)) {
                continue;
            }
            group.retain(|more| !used.is_subset(more));
            group.push(used);
        }
        let whole = groups.into_iter().flat_map(|((state, firm), group)| {
            group.into_iter().map(move |used| (state.clone(), used.union(&firm).copied().collect()))
        });
        whole.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that can be written and read.
    struct Cell;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Write(u32),
        Read(u32),
    }

    impl Object for Cell {
        type State = u32;
        type Step = Step;

        fn step(state: &u32, step: &Step) -> Option<u32> {
            match *step {
                Step::Write(value) => Some(value),
                Step::Read(value) => (*state == value).then_some(value),
            }
        }

        fn is_read(step: &Step) -> bool {
            matches!(step, Step::Read(_))
        }
    }

    fn judge(operations: &[(Step, usize, usize)]) -> Verdict {
        let operation =
            |&(step, invoked, ended): &(Step, usize, usize)| Operation { step, invoked, ended };
        let operations: Vec<_> = operations.iter().map(operation).collect();
        check::<Cell>([0], &operations)
    }

    #[test]
    fn textbook_histories_are_told_apart() {
        use Step::{Read, Write};
        const NEVER: usize = usize::MAX;
        assert_eq!(judge(&[(Write(1), 0, 1), (Read(1), 2, 3)]), Verdict::Fine);
        assert_eq!(judge(&[(Write(1), 0, 1), (Read(0), 2, 3)]), Verdict::Broken(1));
        // A read that overlaps may show either, but not the old one after the new one.
        assert_eq!(judge(&[(Write(1), 0, 9), (Read(1), 1, 2), (Read(1), 3, 4)]), Verdict::Fine);
        let torn = [(Write(1), 0, 9), (Read(1), 1, 2), (Read(0), 3, 4)];
        assert_eq!(judge(&torn), Verdict::Broken(2));
        // A slow read may show what was there before a write that it outlives.
        assert_eq!(judge(&[(Read(0), 0, 9), (Write(1), 1, 2), (Read(1), 3, 4)]), Verdict::Fine);
        // A write without an answer may come late, but only once.
        let late = [(Write(1), 0, NEVER), (Read(0), 1, 2), (Read(1), 3, 4)];
        assert_eq!(judge(&late), Verdict::Fine);
        let twice = [
            (Write(1), 0, NEVER),
            (Read(1), 1, 2),
            (Write(2), 3, 4),
            (Read(2), 5, 6),
            (Read(1), 7, 8),
        ];
        assert_eq!(judge(&twice), Verdict::Broken(4));
    }

    /// Every history of a few operations, against trying all orders.
    #[test]
    fn the_search_agrees_with_trying_every_order() {
        let mut state = 1_u64;
        let mut below = |bound: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).expect("31 bits") % bound
        };
        let mut broken = 0;
        for _ in 0..3000 {
            let count = 2 + below(4);
            let mut places: Vec<usize> = (0..count * 2).collect();
            for at in (1..places.len()).rev() {
                places.swap(at, below(at + 1));
            }
            let operations: Vec<_> = places
                .chunks(2)
                .map(|pair| {
                    let value = u32::try_from(below(2)).expect("small");
                    let read = below(2) == 0;
                    let step = if read { Step::Read(value) } else { Step::Write(value) };
                    let lost = !read && below(4) == 0;
                    let (invoked, ended) = (pair[0].min(pair[1]), pair[0].max(pair[1]));
                    (step, invoked, if lost { usize::MAX } else { ended })
                })
                .collect();
            let fine = orders(&operations, &mut Vec::new());
            assert_eq!(judge(&operations) == Verdict::Fine, fine, "{operations:?}");
            broken += usize::from(!fine);
        }
        assert!((300..2700).contains(&broken), "{broken} of 3000 broken: too little is judged");
    }

    /// Whether some order that keeps real time explains every answer.
    fn orders(all: &[(Step, usize, usize)], order: &mut Vec<usize>) -> bool {
        let left: Vec<usize> = (0..all.len()).filter(|at| !order.contains(at)).collect();
        if left.iter().all(|at| all[*at].2 == usize::MAX) && explains(all, order) {
            return true;
        }
        for at in &left {
            let early = left.iter().any(|other| all[*other].2 < all[*at].1);
            if early {
                continue;
            }
            order.push(*at);
            let found = orders(all, order);
            order.pop();
            if found {
                return true;
            }
        }
        false
    }

    fn explains(all: &[(Step, usize, usize)], order: &[usize]) -> bool {
        let mut state = 0;
        order.iter().all(|at| match Cell::step(&state, &all[*at].0) {
            Some(next) => {
                state = next;
                true
            }
            None => false,
        })
    }
}
