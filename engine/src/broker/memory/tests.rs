//! Who gets memory for requests, who waits, and who is put out.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

const UNIT: usize = REQUEST_MEMORY_UNIT;
/// In ms.
const PATIENCE: u64 = REQUEST_MEMORY_PATIENCE.as_millis() as u64;
const WAIT: u64 = REQUEST_MEMORY_WAIT.as_millis() as u64;

fn at(ms: u64) -> Instant {
    Instant(0).after(Duration::from_millis(ms))
}

fn link() -> Rc<Link> {
    Link::new(at(0), 1)
}

/// A frame that is read.
fn frame(memory: &Rc<Memory>, link: &Rc<Link>, whole: usize, units: usize) -> Growing {
    let growing = memory.begin(link, at(0));
    assert!(ask(&growing, whole, units));
    growing.resume(at(0));
    growing
}

/// Whether it has what it asks for.
fn ask(growing: &Growing, whole: usize, units: usize) -> bool {
    growing.ask(whole * UNIT, units * UNIT, at(0))
}

#[test]
fn no_more_is_given_than_lets_all_be_finished() {
    let memory = Memory::new(100 * UNIT);
    assert!(memory.can_hold(100 * UNIT) && !memory.can_hold(100 * UNIT + 1));
    let first = frame(&memory, &link(), 100, 40);
    let second = memory.begin(&link(), at(0));
    assert!(!ask(&second, 100, 40), "neither could be finished");
    let third = frame(&memory, &link(), 60, 10);
    assert!(ask(&third, 60, 60), "it is finished before the first");
    assert_eq!(memory.free(), 0);
    assert!(!ask(&first, 100, 100));
    drop(third.complete());
    assert_eq!(memory.free(), 0, "the first has all");
    drop(first.complete());
    assert_eq!(memory.free(), 60, "the second has what it wanted");
    drop(second);
    assert_eq!(memory.free(), 100);
}

#[test]
fn who_lacks_least_goes_first_but_nobody_waits_for_ever() {
    let memory = Memory::new(100 * UNIT);
    let one = frame(&memory, &link(), 90, 90);
    let large = memory.begin(&link(), at(0));
    assert!(!ask(&large, 60, 60));
    let small: Vec<_> = (0..4).map(|_| frame(&memory, &link(), 2, 2)).collect();
    assert_eq!(memory.free(), 2);
    // It has waited for long enough now: who has nothing gets nothing before it.
    memory.look(at(WAIT / 3));
    let late = memory.begin(&link(), at(0));
    assert!(!ask(&late, 1, 1));
    // Who has some goes on.
    assert!(ask(&small[0], 4, 4));
    drop(small);
    assert!(!ask(&late, 1, 1));
    drop(one);
    assert_eq!(memory.free(), 100 - 60 - 1);
    drop((large, late));
    assert_eq!(memory.free(), 100);
}

#[test]
fn what_is_expected_gets_nothing_of_the_second_half() {
    let memory = Memory::new(100 * UNIT);
    let expected = memory.expect(&link(), 50 * UNIT, at(0)).expect("it is free");
    assert!(memory.expect(&link(), UNIT, at(0)).is_none());
    drop(expected);
    assert_eq!(memory.free(), 100);
}

#[test]
fn the_slowest_make_room_and_no_more_than_is_wanted() {
    let memory = Memory::new(100 * UNIT);
    let links: Vec<_> = (0..4).map(|_| link()).collect();
    let held: Vec<_> = links.iter().map(|link| frame(&memory, link, 25, 25)).collect();
    let waiting = memory.begin(&link(), at(0));
    assert!(!ask(&waiting, 40, 40));
    // With so much of it in that time it takes no longer than others wait.
    let enough = (25 * UNIT as u64 * PATIENCE / WAIT + 1) as usize;
    for (growing, bytes) in held.iter().zip([enough, enough / 2, 0, enough / 3]) {
        growing.arrived(bytes, at(PATIENCE - 10));
        growing.resume(at(PATIENCE - 10));
    }
    memory.look(at(PATIENCE - 1));
    assert!(links.iter().all(|link| !link.is_put_out()), "nobody has been watched for long enough");
    memory.look(at(PATIENCE));
    assert_eq!(
        links.iter().map(|link| link.is_put_out()).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    // What is about to be given back counts.
    memory.look(at(PATIENCE + 1));
    assert!(!links[1].is_put_out());
    let mut held = held;
    drop(held.split_off(2));
    assert!(!memory.state.borrow().waiting.contains_key(&waiting.number));
    memory.look(at(60_000));
    assert!(!links[1].is_put_out(), "nobody waits");
}

#[test]
fn who_is_not_read_is_not_slow() {
    let memory = Memory::new(100 * UNIT);
    let one = link();
    let growing = frame(&memory, &one, 100, 100);
    let waiting = memory.begin(&link(), at(0));
    assert!(!ask(&waiting, 1, 1));
    growing.pause(at(1000));
    memory.look(at(50_000));
    assert!(!one.is_put_out());
    growing.resume(at(50_000));
    memory.look(at(50_000 + PATIENCE - 1001));
    assert!(!one.is_put_out(), "it was read for less");
    memory.look(at(50_000 + PATIENCE - 1000));
    assert!(one.is_put_out());
}

#[test]
fn memory_for_requests_whose_answers_stand_still_is_taken_back() {
    let memory = Memory::new(100 * UNIT);
    let (still, moving, working) = (link(), link(), link());
    let all = [&still, &moving, &working];
    let shares = all.map(|link| frame(&memory, link, 30, 30).complete());
    let waiting = memory.begin(&link(), at(0));
    assert!(!ask(&waiting, 90, 90));
    still.writing(true);
    for look in 1..=3 {
        moving.progressed(at(look * PATIENCE));
        memory.look(at(look * PATIENCE));
    }
    assert!(still.is_put_out() && !moving.is_put_out() && !working.is_put_out());
    drop(shares);
}

/// A frame that was only expected is larger than that, and asks for more than anybody knew.
#[test]
fn frames_that_wait_for_each_other_begin_again() {
    let memory = Memory::new(100 * UNIT);
    let (expected, other) = (link(), link());
    let first = memory.expect(&expected, 50 * UNIT, at(0)).expect("it is free");
    let second = frame(&memory, &other, 100, 40);
    assert!(!ask(&first, 100, 100));
    second.pause(at(0));
    assert!(!ask(&second, 100, 100));
    memory.look(at(PATIENCE));
    assert!(other.is_put_out() && !expected.is_put_out());
    drop(second);
    assert_eq!(memory.free(), 0);
}

proptest! {
    /// Honest frames of any sizes, which grow as they like and give back when they like: somebody can
    /// always go on, and all are finished.
    #[test]
    fn growing_frames_never_wait_for_each_other(
        frames in prop::collection::vec((1_usize..=64, 1_usize..=64), 1..40),
        turns in prop::collection::vec(any::<prop::sample::Index>(), 0..400),
    ) {
        let memory = Memory::new(64 * UNIT);
        // Its part, how large it is, and how large it is to be.
        let mut growing: Vec<(Growing, usize, usize)> = Vec::new();
        let mut to_come = frames;
        let mut complete: Vec<Share> = Vec::new();
        let mut turns = turns.into_iter();
        while !(growing.is_empty() && to_come.is_empty()) {
            let waits = |one: &(Growing, usize, usize)| {
                memory.state.borrow().waiting.contains_key(&one.0.number)
            };
            let ready: Vec<usize> =
                (0..growing.len()).filter(|&place| !waits(&growing[place])).collect();
            let choices = ready.len() + usize::from(!to_come.is_empty()) + complete.len();
            prop_assert!(choices > 0, "MEMORY-1: all wait for each other");
            let choice = turns.next().map_or(0, |turn| turn.index(choices));
            if let Some(&place) = ready.get(choice) {
                let (part, size, whole) = &mut growing[place];
                if *size == *whole {
                    complete.push(growing.remove(place).0.complete());
                } else {
                    *size = (4 * *size).min(*whole);
                    ask(part, *whole, *size);
                }
            } else if choice < ready.len() + complete.len() {
                complete.remove(choice - ready.len());
            } else {
                let (whole, size) = to_come.pop().expect("counted");
                let part = memory.begin(&link(), at(0));
                let size = size.min(whole);
                ask(&part, whole, size);
                growing.push((part, size, whole));
            }
        }
        drop(complete);
        prop_assert_eq!(memory.free(), 64);
    }
}
