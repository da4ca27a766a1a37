//! Linearizability of one object: is there an order of its operations, each between its invocation
//! and its answer, that a sequential object allows?
//!
//! The search is Wing's and Gong's in Lowe's just-in-time form: answers are gone through in order, and
//! a change takes effect only when an answer needs it to. It goes deep first, so that a history that
//! is in order is mostly read once from its beginning to its end; it turns back where an answer fits
//! nothing. What keeps that short:
//!
//! * A read is done as soon as a state satisfies it, since that binds nobody.
//! * Of open changes that do the same, the one whose answer comes first is used first: whatever could
//!   come of another one comes of this one, too.
//! * Changes without an answer stay open for ever, so of those that do the same it only counts how
//!   many were used.
//! * Each configuration is looked at once in a place, and not at all where one was that is as far
//!   with less: in the same state, with the same answered changes done, with at least its reads
//!   done and no more unanswered changes used up.
//! * States and steps are numbered, and what becomes of a state by a step is computed once.
//!
//! Bounded: after [`LOOKS_MAX`] configurations beside one for each answer the search gives up and says
//! so. The bound counts work and not time, so that a verdict depends on the history alone.

use std::collections::{BTreeMap, BTreeSet};

/// Configurations looked at before the search gives up.
const LOOKS_MAX: usize = 500_000;

/// What an object is.
pub trait Object {
    type State: Clone + Ord;
    type Step: Ord;

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

/// Judges the operations of one object that began in one of the `initial` states.
pub fn check<O: Object>(
    initial: impl IntoIterator<Item = O::State>,
    operations: &[Operation<O::Step>],
) -> Verdict {
    within::<O>(LOOKS_MAX, initial, operations)
}

/// The same with a bound of its own.
fn within<O: Object>(
    looks_max: usize,
    initial: impl IntoIterator<Item = O::State>,
    operations: &[Operation<O::Step>],
) -> Verdict {
    let mut search = Search::<O>::new(operations);
    let unused = vec![0; search.unanswered.len()];
    let mut ahead: Vec<(usize, Configuration)> = Vec::new();
    for state in initial {
        let state = search.number(state);
        ahead.push((0, Configuration { state, used: unused.clone(), ..Configuration::default() }));
    }
    let looks_max = looks_max + search.answers.len();
    let (mut furthest, mut looks) = (0, 0);
    while let Some((at, mut configuration)) = ahead.pop() {
        let Some(answer) = search.answers.get(at) else { return Verdict::Fine };
        let number = answer.number;
        furthest = furthest.max(at);
        looks += 1;
        if looks > looks_max {
            return Verdict::Undecided;
        }
        search.satisfy(at, &mut configuration);
        if configuration.end(number) {
            ahead.push((at + 1, configuration));
        } else if search.is_new(at, &configuration) {
            search.proceed(at, &configuration, &mut ahead);
        }
    }
    search.answers.get(furthest).map_or(Verdict::Fine, |answer| Verdict::Broken(answer.number))
}

/// Where a search stands before an answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Configuration {
    /// The number of the object's state.
    state: usize,
    /// Open changes that are done and will be answered, in order.
    changes: Vec<usize>,
    /// Open reads that are done, in order.
    reads: Vec<usize>,
    /// How many of the changes without an answer are done, for each that does something else.
    used: Vec<usize>,
}

impl Configuration {
    /// The answer of an operation has come: whether it is done.
    fn end(&mut self, number: usize) -> bool {
        for done in [&mut self.changes, &mut self.reads] {
            if let Ok(place) = done.binary_search(&number) {
                done.remove(place);
                return true;
            }
        }
        false
    }
}

/// An answer, and what was open when it came.
struct Answer {
    number: usize,
    /// When it came.
    event: usize,
    reads: Vec<usize>,
    /// Changes that are answered, the next one first.
    changes: Vec<usize>,
}

/// What was looked at before one answer, by state and answered changes that are done: the unanswered
/// changes that were used, and the reads that were done.
type Seen = BTreeMap<(usize, usize, Vec<usize>), Vec<(Vec<usize>, Vec<usize>)>>;

struct Search<'o, O: Object> {
    operations: &'o [Operation<O::Step>],
    /// What each operation does, numbered.
    does: Vec<usize>,
    answers: Vec<Answer>,
    /// Of changes without an answer, for each that does something else: what it does, and when
    /// each of them was asked.
    unanswered: Vec<(usize, Vec<usize>)>,
    states: BTreeMap<O::State, usize>,
    numbered: Vec<O::State>,
    /// The step of each number.
    steps: Vec<&'o O::Step>,
    becomes: BTreeMap<(usize, usize), Option<usize>>,
    seen: Seen,
}

impl<'o, O: Object> Search<'o, O> {
    fn new(operations: &'o [Operation<O::Step>]) -> Self {
        let steps: BTreeSet<&O::Step> = operations.iter().map(|it| &it.step).collect();
        let steps: Vec<&O::Step> = steps.into_iter().collect();
        let does = operations.iter().map(|it| steps.binary_search(&&it.step).expect("collected"));
        let does: Vec<usize> = does.collect();
        let mut unanswered: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (operation, does) in operations.iter().zip(&does) {
            if operation.ended == usize::MAX && !O::is_read(&operation.step) {
                unanswered.entry(*does).or_default().push(operation.invoked);
            }
        }
        unanswered.values_mut().for_each(|asked| asked.sort_unstable());
        Search {
            operations,
            does,
            answers: answers::<O>(operations),
            unanswered: unanswered.into_iter().collect(),
            states: BTreeMap::new(),
            numbered: Vec::new(),
            steps,
            becomes: BTreeMap::new(),
            seen: Seen::new(),
        }
    }

    fn number(&mut self, state: O::State) -> usize {
        let next = self.numbered.len();
        let number = *self.states.entry(state.clone()).or_insert(next);
        if number == next {
            self.numbered.push(state);
        }
        number
    }

    /// What becomes of a state by a step; both are numbers.
    fn step(&mut self, state: usize, does: usize) -> Option<usize> {
        if let Some(known) = self.becomes.get(&(state, does)) {
            return *known;
        }
        let next = O::step(&self.numbered[state], self.steps[does]);
        let next = next.map(|next| self.number(next));
        self.becomes.insert((state, does), next);
        next
    }

    /// Marks the open reads that the state satisfies.
    fn satisfy(&mut self, at: usize, configuration: &mut Configuration) {
        for place in 0..self.answers[at].reads.len() {
            let number = self.answers[at].reads[place];
            if let Err(before) = configuration.reads.binary_search(&number)
                && self.step(configuration.state, self.does[number]).is_some()
            {
                configuration.reads.insert(before, number);
            }
        }
    }

    /// Whether nothing was looked at in this place that is as far with less; remembers it.
    fn is_new(&mut self, at: usize, configuration: &Configuration) -> bool {
        let Configuration { state, changes, reads, used } = configuration;
        let known = self.seen.entry((at, *state, changes.clone())).or_default();
        let less = |one: &[usize], other: &[usize]| one.iter().zip(other).all(|(a, b)| a <= b);
        if known.iter().any(|(used_up, done)| less(used_up, used) && includes(done, reads)) {
            return false;
        }
        known.retain(|(used_up, done)| !(less(used, used_up) && includes(reads, done)));
        known.push((used.clone(), reads.clone()));
        true
    }

    /// Lets each open change happen; the most promising configuration comes last.
    fn proceed(
        &mut self,
        at: usize,
        configuration: &Configuration,
        ahead: &mut Vec<(usize, Configuration)>,
    ) {
        let Answer { number, event, .. } = self.answers[at];
        let (wanted, mut tried) = (self.does[number], BTreeSet::new());
        let mut next: Vec<Configuration> = Vec::new();
        for place in 0..self.answers[at].changes.len() {
            let change = self.answers[at].changes[place];
            let Err(before) = configuration.changes.binary_search(&change) else { continue };
            if !tried.insert(self.does[change]) {
                continue;
            }
            if let Some(state) = self.step(configuration.state, self.does[change]) {
                let mut after = Configuration { state, ..configuration.clone() };
                after.changes.insert(before, change);
                next.push(after);
            }
        }
        for kind in 0..self.unanswered.len() {
            let (does, asked) = &self.unanswered[kind];
            let (does, used) = (*does, configuration.used[kind]);
            let open = asked.get(used).is_some_and(|asked| *asked < event);
            if !open || !tried.insert(does) {
                continue;
            }
            if let Some(state) = self.step(configuration.state, does) {
                let mut after = Configuration { state, ..configuration.clone() };
                after.used[kind] += 1;
                next.push(after);
            }
        }
        let is_read = O::is_read(&self.operations[number].step);
        // First what lets the answer come at once, then what will be answered anyway.
        next.sort_by_cached_key(|after| {
            let done = match is_read {
                true => self.step(after.state, wanted).is_some(),
                false => after.changes.binary_search(&number).is_ok(),
            };
            !done
        });
        ahead.extend(next.into_iter().rev().map(|after| (at, after)));
    }
}

/// All answers in the order in which they came.
fn answers<O: Object>(operations: &[Operation<O::Step>]) -> Vec<Answer> {
    let mut events: Vec<(usize, usize, bool)> = Vec::with_capacity(operations.len() * 2);
    for (number, operation) in operations.iter().enumerate() {
        if operation.ended != usize::MAX {
            events.push((operation.invoked, number, false));
            events.push((operation.ended, number, true));
        }
    }
    events.sort_unstable();
    let (mut reads, mut changes) = (Vec::new(), Vec::new());
    let mut answers = Vec::with_capacity(events.len() / 2);
    for (event, number, answered) in events {
        let open = if O::is_read(&operations[number].step) { &mut reads } else { &mut changes };
        if !answered {
            open.push(number);
            continue;
        }
        let mut changes_by_end = changes.clone();
        changes_by_end.sort_unstable_by_key(|&change: &usize| (operations[change].ended, change));
        answers.push(Answer { number, event, reads: reads.clone(), changes: changes_by_end });
        let open = if O::is_read(&operations[number].step) { &mut reads } else { &mut changes };
        open.retain(|other| *other != number);
    }
    answers
}

/// Whether one list has all of another; both are in order.
fn includes(one: &[usize], other: &[usize]) -> bool {
    other.iter().all(|number| one.binary_search(number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A number that can be written and read.
    struct Cell;

    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
        judge_within(LOOKS_MAX, operations)
    }

    fn judge_within(looks_max: usize, operations: &[(Step, usize, usize)]) -> Verdict {
        let operation =
            |&(step, invoked, ended): &(Step, usize, usize)| Operation { step, invoked, ended };
        let operations: Vec<_> = operations.iter().map(operation).collect();
        within::<Cell>(looks_max, [0], &operations)
    }

    /// As many unanswered writes of each of two values as there are turns, and reads that see them in
    /// turn. A search that tells writes of one value apart has more than a million sets of them to
    /// look at here.
    fn in_turn(turns: usize, reads: usize) -> Vec<(Step, usize, usize)> {
        let mut operations = Vec::new();
        for turn in 0..turns {
            operations.push((Step::Write(1), 2 * turn, usize::MAX));
            operations.push((Step::Write(2), 2 * turn + 1, usize::MAX));
        }
        let begin = operations.len();
        for read in 0..reads {
            let value = 1 + u32::try_from(read % 2).expect("small");
            operations.push((Step::Read(value), begin + 2 * read, begin + 2 * read + 1));
        }
        operations
    }

    #[test]
    fn changes_that_do_the_same_are_told_apart_by_nobody() {
        let operations = in_turn(40, 80);
        assert_eq!(judge_within(1000, &operations), Verdict::Fine);
        // One turn more than there were writes.
        let operations = in_turn(40, 81);
        assert_eq!(judge_within(10_000, &operations), Verdict::Broken(operations.len() - 1));
    }

    #[test]
    fn a_search_that_gives_up_says_so() {
        assert_eq!(judge_within(10, &in_turn(40, 80)), Verdict::Undecided);
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
            let count = 2 + below(5);
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
