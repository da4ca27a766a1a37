//! One core's memory for requests that are larger than a connection's own share
//! (`queued.max.request.bytes`): who has how much of it, who waits for more, and who is put out.
//!
//! A large frame costs memory only as its bytes arrive: it has some, and comes back for more. Left alone,
//! such frames would wait for each other for ever, and one that is never finished would keep from the
//! others what it has. Hence:
//!
//! * MEMORY-1: more is given only if all frames that have some can still be finished, one after the other,
//!   with what is free then and what those before them give back.
//! * MEMORY-2: nobody keeps for long what others wait for. While somebody waits, a connection is put out
//!   whose frame comes so slowly that filling the memory it has would take longer than others may wait, or
//!   that holds requests and takes no answers, or has them wait for what others do. The slowest go first,
//!   and no more than is wanted.
//!
//! Who lacks least is served first, so that few large frames do not hold up many small ones; but one that has
//! waited for long goes before all who have nothing yet, one at a time. What is complete is answered, and its
//! memory given back, without any more of it. Lives on one core; must not know what is in a frame, nor how
//! connections are closed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tokio::sync::Notify;

use super::link::Link;
use crate::io::Instant;
use crate::limit::{REQUEST_MEMORY_PATIENCE, REQUEST_MEMORY_UNIT, REQUEST_MEMORY_WAIT};
use crate::probe::{self, Probe};

/// The memory of one core. See the module's head.
pub struct Memory {
    /// How much there is, in units.
    units: usize,
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    free: usize,
    /// What all frames that are not complete have together.
    growing: usize,
    /// The number of the next holder: they are numbered as they begin.
    next: u64,
    frames: BTreeMap<u64, Frame>,
    complete: BTreeMap<u64, Complete>,
    waiting: BTreeMap<u64, Waiting>,
    /// The frame that has waited for long and goes first, until it is complete.
    first: Option<u64>,
}

/// What a frame waits for.
#[derive(Clone, Copy)]
struct Waiting {
    /// How many units it wants.
    units: usize,
    since: Instant,
}

/// What a read buffer has for the frame in it, or for one that is expected.
struct Frame {
    link: Rc<Link>,
    units: usize,
    /// What it has when it is complete. One that is only expected has all of it.
    most: usize,
    /// Whether any of it has come.
    has_begun: bool,
    /// Bytes that came since `since`.
    arrived: u64,
    since: Instant,
    /// Since when nothing could arrive because the connection was not read.
    paused: Option<Instant>,
    seen: Seen,
    granted: Rc<Notify>,
}

/// What a request has that waits for its answer.
struct Complete {
    link: Rc<Link>,
    units: usize,
    seen: Seen,
}

/// How far a connection's answers were when they were last seen to move, and when that was.
#[derive(Default)]
struct Seen(Option<(u64, Instant)>);

/// Why a connection is put out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// Its frame comes too slowly.
    Slow,
    /// It has large requests and its answers get nowhere.
    Still,
    /// Frames wait for each other.
    Entangled,
}

impl Why {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Why::Slow => "its request comes too slowly for the memory that it keeps",
            Why::Still => {
                "it keeps memory for requests, and their answers are not taken or put off"
            }
            Why::Entangled => "its request and others wait for each other's memory",
        }
    }
}

/// Who keeps memory that others wait for, and how many units.
type Keeper = (Why, Rc<Link>, usize);

/// A frame's part of the memory. Dropped, it is free again.
pub struct Growing {
    memory: Rc<Memory>,
    number: u64,
    granted: Rc<Notify>,
}

/// A complete request's part of the memory. Dropped, it is free again.
pub struct Share {
    memory: Rc<Memory>,
    number: u64,
}

fn units_of(bytes: usize) -> usize {
    bytes.div_ceil(REQUEST_MEMORY_UNIT)
}

impl Memory {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Rc<Memory> {
        let units = units_of(bytes);
        let state = State { free: units, ..State::default() };
        Rc::new(Memory { units, state: RefCell::new(state) })
    }

    /// Whether a frame of so many bytes can ever have enough of it.
    pub fn can_hold(&self, bytes: usize) -> bool {
        units_of(bytes) <= self.units
    }

    /// The part of a frame that has nothing yet.
    pub fn begin(self: &Rc<Memory>, link: &Rc<Link>, now: Instant) -> Growing {
        let state = &mut *self.state.borrow_mut();
        let granted = Rc::new(Notify::new());
        let frame = Frame {
            link: link.clone(),
            units: 0,
            most: 0,
            has_begun: true,
            arrived: 0,
            since: now,
            paused: Some(now),
            seen: Seen::default(),
            granted: granted.clone(),
        };
        let number = state.number();
        state.frames.insert(number, frame);
        Growing { memory: self.clone(), number, granted }
    }

    /// So many bytes for a frame that is only expected: nothing of the second half of what there is, and
    /// nothing that somebody waits for.
    pub fn expect(
        self: &Rc<Memory>,
        link: &Rc<Link>,
        bytes: usize,
        now: Instant,
    ) -> Option<Growing> {
        let units = units_of(bytes);
        {
            let state = self.state.borrow();
            let has_room = state.free >= self.units / 2 + units;
            if !has_room || !state.waiting.is_empty() || !state.is_safe(self.units, None, units) {
                return None;
            }
        }
        let growing = self.begin(link, now);
        let is_given = growing.ask(bytes, bytes, now);
        assert!(is_given, "MEMORY-1: it was free just now");
        Some(growing)
    }

    /// Puts out whoever keeps what others wait for. Whoever waits calls it, from time to time.
    pub fn look(&self, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        state.age(now);
        state.give(self.units);
        let mut missing = state.missing();
        for (why, link, units) in state.keepers(now) {
            if missing == 0 {
                break;
            }
            if link.put_out(why, units * REQUEST_MEMORY_UNIT) {
                probe::hit(Probe::RequestMemoryTakenBack);
            }
            missing = missing.saturating_sub(units);
        }
    }

    #[cfg(test)]
    fn free(&self) -> usize {
        self.state.borrow().free
    }
}

impl Seen {
    /// Looks again: whether the answers have stood still for longer than others should wait.
    fn stands_still(&mut self, link: &Link, now: Instant) -> bool {
        match (link.still(), self.0) {
            (Some(step), Some((before, since))) if step == before => {
                now.since(since) >= REQUEST_MEMORY_PATIENCE
            }
            (still, _) => {
                self.0 = still.map(|step| (step, now));
                false
            }
        }
    }
}

impl Frame {
    fn lacks(&self) -> usize {
        self.most - self.units
    }

    /// Whether it keeps its memory for too long: why, and how fast it comes, in parts of a million of what
    /// others can wait for.
    fn keeps(&mut self, now: Instant) -> Option<(u128, Why)> {
        // Nothing is to come while it is not read, or its peer waits for an answer.
        if self.paused.is_some() || !self.has_begun && self.link.awaits_answer() {
            if self.paused.is_none() {
                (self.arrived, self.since) = (0, now);
            }
            // Unless that gets nowhere because of the peer, or of others.
            return self.seen.stands_still(&self.link, now).then_some((0, Why::Still));
        }
        let time = now.since(self.since);
        if time < REQUEST_MEMORY_PATIENCE {
            return None;
        }
        let should = (self.units * REQUEST_MEMORY_UNIT) as u128 * time.as_millis();
        let came = u128::from(self.arrived) * REQUEST_MEMORY_WAIT.as_millis();
        if came >= should {
            (self.arrived, self.since) = (0, now);
            return None;
        }
        Some((came * 1_000_000 / should, Why::Slow))
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    /// Whether all frames can be finished when `number`, or one that is not known yet, has been given `more`.
    /// Those that have nothing can: they keep nothing from the others.
    fn is_safe(&self, all: usize, number: Option<u64>, more: usize) -> bool {
        // What is complete is given back in any case.
        let mut free = all - self.growing - more;
        let mut frames: Vec<(usize, usize)> = Vec::new();
        for (one, frame) in &self.frames {
            let more = if number == Some(*one) { more } else { 0 };
            match frame.units + more {
                0 => {}
                units if frame.link.is_put_out() => free += units,
                units => frames.push((frame.lacks() - more, units)),
            }
        }
        if frames.iter().all(|(lacks, _)| *lacks <= free) {
            return true;
        }
        // If any order works, so does this one.
        frames.sort_unstable();
        frames.into_iter().all(|(lacks, units)| {
            let enough = lacks <= free;
            free += units;
            enough
        })
    }

    /// Who is to be given what it waits for.
    fn next_served(&self, all: usize) -> Option<u64> {
        let fits = |number: u64| self.waiting[&number].units <= self.free;
        let is_safe = |number: u64| self.is_safe(all, Some(number), self.waiting[&number].units);
        let first = self.first.filter(|first| self.waiting.contains_key(first));
        if let Some(first) = first.filter(|first| fits(*first) && is_safe(*first)) {
            return Some(first);
        }
        let least = |has_some: bool| {
            let numbers = self.waiting.keys().copied();
            let of_kind = numbers.filter(|number| (self.frames[number].units > 0) == has_some);
            of_kind.min_by_key(|number| (self.frames[number].lacks(), *number))
        };
        if let Some(growing) = least(true) {
            if !fits(growing) {
                // What others give back is for it.
                return None;
            }
            if is_safe(growing) {
                return Some(growing);
            }
        }
        if first.is_some() {
            return None;
        }
        least(false).filter(|newcomer| fits(*newcomer) && is_safe(*newcomer))
    }

    /// Gives to those who wait for as long as there is enough.
    fn give(&mut self, all: usize) {
        while let Some(number) = self.next_served(all) {
            let more = self.waiting.remove(&number).expect("it waits").units;
            self.free -= more;
            self.growing += more;
            let frame = self.frames.get_mut(&number).expect("it waits");
            frame.units += more;
            frame.granted.notify_waiters();
        }
        assert!(self.free + self.growing <= all, "MEMORY-1: no more is there than there is");
    }

    /// Whoever has waited for longest goes first if that is long, and nobody else does.
    fn age(&mut self, now: Instant) {
        if self.first.is_none() {
            let mut old = self.waiting.iter();
            let old = old.find(|(_, one)| now.since(one.since) >= REQUEST_MEMORY_WAIT / 3);
            self.first = old.map(|(number, _)| *number);
        }
    }

    /// The frame is complete, or gone.
    fn remove(&mut self, number: u64) -> Option<Frame> {
        let frame = self.frames.remove(&number)?;
        self.waiting.remove(&number);
        self.first = self.first.filter(|first| *first != number);
        self.growing -= frame.units;
        Some(frame)
    }

    /// How many units those who wait lack, beside what is about to be given back.
    fn missing(&self) -> usize {
        let wanted: usize = self.waiting.values().map(|one| one.units).sum();
        // Where there is enough for somebody who has none of it, frames that have some may need it to be
        // finished: those have to go, or enough beside them.
        let free = match self.waiting.values().any(|one| one.units <= self.free) {
            true => 0,
            false => self.free,
        };
        wanted.saturating_sub(free + self.leaving())
    }

    /// How many units are about to be given back, because those that have them were put out.
    fn leaving(&self) -> usize {
        let frames = self.frames.values().map(|frame| (&frame.link, frame.units));
        let complete = self.complete.values().map(|one| (&one.link, one.units));
        let leaving = frames.chain(complete).filter(|(link, _)| link.is_put_out());
        leaving.map(|(_, units)| units).sum()
    }

    /// Who keeps what others wait for, and how much, in the order in which they are to go. Notes how
    /// everybody got on meanwhile.
    fn keepers(&mut self, now: Instant) -> Vec<Keeper> {
        let (mut found, mut idle) = (Vec::new(), Vec::new());
        let mut others = self.complete.len();
        for (number, frame) in &mut self.frames {
            if frame.units == 0 || self.waiting.contains_key(number) {
                continue;
            }
            others += usize::from(frame.has_begun);
            if frame.link.is_put_out() {
                continue;
            }
            if let Some((pace, why)) = frame.keeps(now) {
                let who = if frame.has_begun { &mut found } else { &mut idle };
                who.push(((pace, *number), (why, frame.link.clone(), frame.units)));
            }
        }
        for (number, one) in &mut self.complete {
            if !one.link.is_put_out() && one.seen.stands_still(&one.link, now) {
                found.push(((0, *number), (Why::Still, one.link.clone(), one.units)));
            }
        }
        if others == 0 {
            // Who has done nothing but expect more goes only where nobody else has anything.
            found = idle;
        }
        found.sort_by_key(|(key, _)| *key);
        let mut keepers: Vec<Keeper> = found.into_iter().map(|(_, keeper)| keeper).collect();
        // A frame that became larger than expected asks for more than was known when others were given
        // theirs: all may wait for each other then, and the last has to begin again.
        let all_wait = self.waiting.len() == self.frames.len() && self.complete.is_empty();
        if keepers.is_empty() && all_wait {
            let last = self.frames.values().rev().find(|frame| frame.units > 0);
            keepers.extend(last.map(|last| (Why::Entangled, last.link.clone(), last.units)));
        }
        keepers
    }
}

impl Growing {
    /// Asks for as much as makes `bytes` of it, for a frame of `whole` bytes. Whether it has them; else it
    /// waits until [`Growing::granted`].
    pub fn ask(&self, whole: usize, bytes: usize, now: Instant) -> bool {
        let state = &mut *self.memory.state.borrow_mut();
        let frame = state.frames.get_mut(&self.number).expect("it holds a part");
        let wanted = units_of(bytes);
        frame.most = units_of(whole).max(wanted).max(frame.units);
        let units = wanted.saturating_sub(frame.units);
        assert!(frame.most <= self.memory.units, "MEMORY-1: it can be finished");
        if units > 0 {
            state.waiting.insert(self.number, Waiting { units, since: now });
            state.give(self.memory.units);
        }
        !state.waiting.contains_key(&self.number)
    }

    /// Asks no more.
    pub fn give_up(&self) {
        let state = &mut *self.memory.state.borrow_mut();
        state.waiting.remove(&self.number);
        state.give(self.memory.units);
    }

    /// Completes when it has what it asked for.
    pub async fn granted(&self) {
        while self.memory.state.borrow().waiting.contains_key(&self.number) {
            self.granted.notified().await;
        }
    }

    /// From now on bytes can arrive.
    pub fn resume(&self, now: Instant) {
        self.change(|frame| {
            if let Some(paused) = frame.paused.take() {
                frame.since = frame.since.after(now.since(paused));
            }
        });
    }

    /// Nothing is read from now on.
    pub fn pause(&self, now: Instant) {
        self.change(|frame| frame.paused = frame.paused.or(Some(now)));
    }

    /// Whether any of the frame has come.
    pub fn begun(&self, has_begun: bool) {
        self.change(|frame| frame.has_begun = has_begun);
    }

    /// So much has arrived, and nothing is read for now.
    pub fn arrived(&self, bytes: usize, now: Instant) {
        self.change(|frame| frame.arrived += bytes as u64);
        self.pause(now);
    }

    fn change(&self, change: impl FnOnce(&mut Frame)) {
        let state = &mut *self.memory.state.borrow_mut();
        change(state.frames.get_mut(&self.number).expect("it holds a part"));
    }

    /// The frame is complete, or requests that are under way lie in its buffer.
    pub fn complete(self) -> Share {
        let state = &mut *self.memory.state.borrow_mut();
        assert!(!state.waiting.contains_key(&self.number), "MEMORY-1: who waits is not complete");
        let frame = state.remove(self.number).expect("it holds a part");
        let Frame { link, units, seen, .. } = frame;
        let complete = Complete { link, units, seen };
        state.complete.insert(self.number, complete);
        state.give(self.memory.units);
        Share { memory: self.memory.clone(), number: self.number }
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        let state = &mut *self.memory.state.borrow_mut();
        let Some(frame) = state.remove(self.number) else { return };
        state.free += frame.units;
        state.give(self.memory.units);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let state = &mut *self.memory.state.borrow_mut();
        let complete = state.complete.remove(&self.number).expect("it holds a part");
        state.free += complete.units;
        state.give(self.memory.units);
    }
}

#[cfg(test)]
mod tests;
