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
//! Nothing is given for what has not begun to come: who has some has a request on its way, or under way.
//!
//! Who lacks least is served first, so that few large frames do not hold up many small ones; but one that has
//! waited for long goes before all who have nothing yet, one at a time, until it is served. What is complete
//! is answered, and its memory given back, without any more of it. Lives on one core; must not know what is
//! in a frame, nor how connections are closed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use tokio::sync::Notify;

use super::link::Link;
use crate::io::Instant;
use crate::limit::{
    REQUEST_MEMORY_LOOK_INTERVAL, REQUEST_MEMORY_PATIENCE, REQUEST_MEMORY_UNIT, REQUEST_MEMORY_WAIT,
};
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
    /// The frames that wait, in the order in which they are served.
    waiting: BTreeSet<Turn>,
    /// The one of them that has waited for long and goes first.
    first: Option<u64>,
    /// When somebody last looked who keeps what others wait for.
    looked: Option<Instant>,
}

/// When a waiting frame has its turn: those that have some come before those that have nothing, and then
/// those that lack less.
type Turn = (bool, usize, u64);
/// Before the turns of those that have nothing.
const NEWCOMERS: Turn = (true, 0, 0);

/// What a frame waits for.
#[derive(Clone, Copy)]
struct Waiting {
    /// How many units it wants.
    units: usize,
    since: Instant,
}

/// What a read buffer has for the frame in it.
struct Frame {
    link: Rc<Link>,
    units: usize,
    /// What it has when it is complete.
    most: usize,
    /// When its pace was first looked at, since it was last given some; and the bytes that came since.
    watched: Option<Instant>,
    arrived: u64,
    waits: Option<Waiting>,
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
}

impl Why {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Why::Slow => "its request comes too slowly for the memory that it keeps",
            Why::Still => {
                "it keeps memory for requests, and their answers are not taken or put off"
            }
        }
    }
}

/// Who keeps memory that others wait for.
type Keeper = (Why, Rc<Link>);

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

    /// So many bytes, or all there are.
    pub fn at_most(&self, bytes: usize) -> usize {
        bytes.min(self.units * REQUEST_MEMORY_UNIT)
    }

    /// The part of a frame of `whole` bytes. It has nothing yet.
    pub fn begin(self: &Rc<Memory>, link: &Rc<Link>, whole: usize) -> Growing {
        assert!(self.can_hold(whole), "MEMORY-1: it can be finished");
        let state = &mut *self.state.borrow_mut();
        let granted = Rc::new(Notify::new());
        let frame = Frame {
            link: link.clone(),
            units: 0,
            most: units_of(whole),
            watched: None,
            arrived: 0,
            waits: None,
            granted: granted.clone(),
        };
        let number = state.number();
        state.frames.insert(number, frame);
        Growing { memory: self.clone(), number, granted }
    }

    /// The part of a request of so many bytes that is complete, if it is free and nobody waits.
    pub fn share(self: &Rc<Memory>, link: &Rc<Link>, bytes: usize) -> Option<Share> {
        let state = &mut *self.state.borrow_mut();
        let units = units_of(bytes);
        if units > state.free || !state.waiting.is_empty() {
            return None;
        }
        // MEMORY-1: it is given back in any case, and what is complete counts as free.
        state.free -= units;
        let number = state.number();
        let complete = Complete { link: link.clone(), units, seen: Seen::default() };
        state.complete.insert(number, complete);
        Some(Share { memory: self.clone(), number })
    }

    /// Puts out whoever keeps what others wait for. Whoever waits calls it, from time to time; where many
    /// do, one looks for them all.
    pub fn look(&self, now: Instant) {
        let state = &mut *self.state.borrow_mut();
        if state.looked.is_some_and(|before| now.since(before) < REQUEST_MEMORY_LOOK_INTERVAL) {
            return;
        }
        state.looked = Some(now);
        state.age(now);
        state.give(self.units);
        let keepers = state.keepers(now);
        let mut missing = state.missing();
        if keepers.is_empty() || missing == 0 {
            return;
        }
        // With a connection goes all that it has.
        let mut kept: BTreeMap<*const Link, usize> = BTreeMap::new();
        for (link, units) in state.holders() {
            *kept.entry(Rc::as_ptr(link)).or_default() += units;
        }
        for (why, link) in keepers {
            if missing == 0 {
                break;
            }
            let units = kept[&Rc::as_ptr(&link)];
            if link.put_out(why, units * REQUEST_MEMORY_UNIT) {
                probe::hit(Probe::RequestMemoryTakenBack);
                missing = missing.saturating_sub(units);
            }
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

    fn turn(&self, number: u64) -> Turn {
        (self.units == 0, self.lacks(), number)
    }

    /// Whether it keeps its memory for too long: how fast it comes, in parts of a million of what others can
    /// wait for. Its own quota may be what keeps it from coming.
    fn keeps(&mut self, now: Instant) -> Option<u128> {
        let Some(watched) = self.watched else {
            (self.arrived, self.watched) = (0, Some(now));
            return None;
        };
        let time = now.since(watched);
        if time < REQUEST_MEMORY_PATIENCE {
            return None;
        }
        let should = (self.units * REQUEST_MEMORY_UNIT) as u128 * time.as_millis();
        let came = u128::from(self.arrived) * REQUEST_MEMORY_WAIT.as_millis();
        if came >= should {
            (self.arrived, self.watched) = (0, Some(now));
            return None;
        }
        Some(came * 1_000_000 / should)
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

    fn is_waiting(&self, number: u64) -> bool {
        self.frames[&number].waits.is_some()
    }

    /// How many units a frame waits for.
    fn wanted(&self, number: u64) -> usize {
        self.frames[&number].waits.expect("it waits").units
    }

    /// Who is to be given what it waits for.
    fn next_served(&self, all: usize) -> Option<u64> {
        let fits = |number: u64| self.wanted(number) <= self.free;
        let is_safe = |number: u64| self.is_safe(all, Some(number), self.wanted(number));
        if let Some(first) = self.first.filter(|first| fits(*first) && is_safe(*first)) {
            return Some(first);
        }
        if let Some(&(false, _, growing)) = self.waiting.first() {
            if !fits(growing) {
                // What others give back is for it.
                return None;
            }
            if is_safe(growing) {
                return Some(growing);
            }
        }
        if self.first.is_some() {
            return None;
        }
        let newcomer = self.waiting.range(NEWCOMERS..).next().map(|(_, _, number)| *number);
        newcomer.filter(|newcomer| fits(*newcomer) && is_safe(*newcomer))
    }

    /// Gives to those who wait for as long as there is enough.
    fn give(&mut self, all: usize) {
        while let Some(number) = self.next_served(all) {
            let more = self.waits_no_more(number).expect("it waits").units;
            self.free -= more;
            self.growing += more;
            let frame = self.frames.get_mut(&number).expect("it waits");
            frame.units += more;
            frame.watched = None;
            frame.granted.notify_waiters();
        }
        assert!(self.free + self.growing <= all, "MEMORY-1: no more is there than there is");
    }

    /// Whoever has waited for longest goes first if that is long, and nobody else does.
    fn age(&mut self, now: Instant) {
        if self.first.is_none() {
            let waiting =
                self.frames.iter().filter_map(|(number, frame)| Some((frame.waits?, number)));
            let oldest = waiting.min_by_key(|(waits, number)| (waits.since, **number));
            let old = oldest.filter(|(one, _)| now.since(one.since) >= REQUEST_MEMORY_WAIT / 3);
            self.first = old.map(|(_, number)| *number);
        }
    }

    /// The frame waits for so many units.
    fn waits(&mut self, number: u64, waits: Waiting) {
        let frame = self.frames.get_mut(&number).expect("it holds a part");
        assert!(frame.waits.replace(waits).is_none(), "MEMORY-1: it waits for one thing");
        self.waiting.insert(frame.turn(number));
    }

    /// The frame has what it waited for, or does not want it any more.
    fn waits_no_more(&mut self, number: u64) -> Option<Waiting> {
        let frame = self.frames.get_mut(&number).expect("it holds a part");
        let waited = frame.waits.take()?;
        assert!(self.waiting.remove(&frame.turn(number)), "MEMORY-1: it had its turn");
        self.first = self.first.filter(|first| *first != number);
        Some(waited)
    }

    /// The frame is complete, or gone.
    fn remove(&mut self, number: u64) -> Option<Frame> {
        if !self.frames.contains_key(&number) {
            return None;
        }
        self.waits_no_more(number);
        let frame = self.frames.remove(&number)?;
        self.growing -= frame.units;
        Some(frame)
    }

    /// How many units those who wait lack, beside what is about to be given back.
    fn missing(&self) -> usize {
        let wanted = || self.waiting.iter().map(|(_, _, number)| self.wanted(*number));
        // Where there is enough for somebody who has none of it, frames that have some may need it to be
        // finished: those have to go, or enough beside them.
        let free = if wanted().any(|units| units <= self.free) { 0 } else { self.free };
        let leaving = self.holders().filter(|(link, _)| link.is_put_out());
        let leaving: usize = leaving.map(|(_, units)| units).sum();
        wanted().sum::<usize>().saturating_sub(free + leaving)
    }

    /// All parts, and whose they are.
    fn holders(&self) -> impl Iterator<Item = (&Rc<Link>, usize)> {
        let frames = self.frames.values().map(|frame| (&frame.link, frame.units));
        frames.chain(self.complete.values().map(|one| (&one.link, one.units)))
    }

    /// Who keeps what others wait for, in the order in which they are to go. Notes how everybody got on
    /// meanwhile.
    fn keepers(&mut self, now: Instant) -> Vec<Keeper> {
        let mut found = Vec::new();
        for (number, frame) in &mut self.frames {
            if frame.units == 0 || frame.waits.is_some() || frame.link.is_put_out() {
                continue;
            }
            if let Some(pace) = frame.keeps(now) {
                found.push(((pace, *number), (Why::Slow, frame.link.clone())));
            }
        }
        for (number, one) in &mut self.complete {
            if !one.link.is_put_out() && one.seen.stands_still(&one.link, now) {
                found.push(((0, *number), (Why::Still, one.link.clone())));
            }
        }
        found.sort_by_key(|(key, _)| *key);
        found.into_iter().map(|(_, keeper)| keeper).collect()
    }
}

impl Growing {
    /// Asks for as much as makes `bytes` of it. Whether it has them; else it waits until
    /// [`Growing::granted`].
    pub fn ask(&self, bytes: usize, now: Instant) -> bool {
        let state = &mut *self.memory.state.borrow_mut();
        let frame = &state.frames[&self.number];
        let wanted = units_of(bytes);
        assert!(wanted <= frame.most, "MEMORY-1: it wants no more than was known");
        let units = wanted.saturating_sub(frame.units);
        if units > 0 {
            state.waits(self.number, Waiting { units, since: now });
            state.give(self.memory.units);
        }
        !state.is_waiting(self.number)
    }

    /// Completes when it has what it asked for.
    pub async fn granted(&self) {
        while self.memory.state.borrow().is_waiting(self.number) {
            self.granted.notified().await;
        }
    }

    /// So much more of it has arrived.
    pub fn arrived(&self, bytes: usize) {
        let state = &mut *self.memory.state.borrow_mut();
        state.frames.get_mut(&self.number).expect("it holds a part").arrived += bytes as u64;
    }

    /// The frame is complete.
    pub fn complete(self) -> Share {
        let state = &mut *self.memory.state.borrow_mut();
        assert!(!state.is_waiting(self.number), "MEMORY-1: who waits is not complete");
        let frame = state.remove(self.number).expect("it holds a part");
        let Frame { link, units, .. } = frame;
        let complete = Complete { link, units, seen: Seen::default() };
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
