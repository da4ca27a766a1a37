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

/// A frame of so many units that has some of them.
fn frame(memory: &Rc<Memory>, link: &Rc<Link>, whole: usize, units: usize) -> Growing {
    let growing = begin(memory, link, whole);
    assert!(ask(&growing, units));
    growing
}

fn begin(memory: &Rc<Memory>, link: &Rc<Link>, whole: usize) -> Growing {
    memory.begin(link, whole * UNIT)
}

/// Whether it has what it asks for.
fn ask(growing: &Growing, units: usize) -> bool {
    growing.ask(units * UNIT, at(0))
}

#[test]
fn no_more_is_given_than_lets_all_be_finished() {
    let memory = Memory::new(100 * UNIT);
    assert!(memory.can_hold(100 * UNIT) && !memory.can_hold(100 * UNIT + 1));
    let first = frame(&memory, &link(), 100, 40);
    let second = begin(&memory, &link(), 100);
    assert!(!ask(&second, 40), "neither could be finished");
    let third = frame(&memory, &link(), 60, 10);
    assert!(ask(&third, 60), "it is finished before the first");
    assert_eq!(memory.free(), 0);
    assert!(!ask(&first, 100));
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
    let large = begin(&memory, &link(), 60);
    assert!(!ask(&large, 60));
    let small: Vec<_> = (0..4).map(|_| frame(&memory, &link(), 4, 2)).collect();
    assert_eq!(memory.free(), 2);
    // It has waited for long enough now: who has nothing gets nothing before it.
    memory.look(at(WAIT / 3));
    let late = begin(&memory, &link(), 1);
    assert!(!ask(&late, 1));
    // Who has some goes on.
    assert!(ask(&small[0], 4));
    drop(small);
    assert!(memory.state.borrow().is_waiting(late.number));
    drop(one);
    assert_eq!(memory.free(), 100 - 60 - 1);
    drop((large, late));
    assert_eq!(memory.free(), 100);
}

#[test]
fn the_slowest_make_room_and_no_more_than_is_wanted() {
    let memory = Memory::new(100 * UNIT);
    let links: Vec<_> = (0..4).map(|_| link()).collect();
    let held: Vec<_> = links.iter().map(|link| frame(&memory, link, 25, 25)).collect();
    let waiting = begin(&memory, &link(), 40);
    assert!(!ask(&waiting, 40));
    memory.look(at(0));
    // With so much of it in that time it takes no longer than others wait.
    let enough = (25 * UNIT as u64 * PATIENCE / WAIT + 1) as usize;
    for (growing, bytes) in held.iter().zip([enough, enough / 2, 0, enough / 3]) {
        growing.arrived(bytes);
    }
    memory.look(at(PATIENCE - 100));
    assert!(links.iter().all(|link| !link.is_put_out()), "nobody has been watched for long enough");
    memory.look(at(PATIENCE));
    assert_eq!(
        links.iter().map(|link| link.is_put_out()).collect::<Vec<_>>(),
        [false, false, true, true]
    );
    // What is about to be given back counts.
    memory.look(at(PATIENCE + 100));
    assert!(!links[1].is_put_out());
    let mut held = held;
    drop(held.split_off(2));
    assert!(!memory.state.borrow().is_waiting(waiting.number));
    memory.look(at(60_000));
    assert!(!links[1].is_put_out(), "nobody waits");
}

/// With a connection goes all that it has.
#[test]
fn who_has_several_requests_makes_room_with_all_of_them() {
    let memory = Memory::new(100 * UNIT);
    let (several, other) = (link(), link());
    let first = frame(&memory, &several, 20, 20).complete();
    let held =
        [frame(&memory, &other, 40, 40).complete(), frame(&memory, &several, 40, 40).complete()];
    let waiting = begin(&memory, &link(), 50);
    assert!(!ask(&waiting, 50));
    several.writing(true);
    other.writing(true);
    memory.look(at(0));
    memory.look(at(PATIENCE));
    assert!(several.is_put_out() && !other.is_put_out());
    drop((first, held));
}

#[test]
fn who_goes_first_does_so_until_it_is_served() {
    let memory = Memory::new(100 * UNIT);
    let before = [frame(&memory, &link(), 50, 50), frame(&memory, &link(), 50, 50)];
    let [first, second] = [60, 45].map(|whole| begin(&memory, &link(), whole));
    assert!(!first.ask(40 * UNIT, at(0)) && !second.ask(45 * UNIT, at(1)));
    memory.look(at(WAIT / 3));
    let [one, other] = before;
    drop(one);
    assert!(!memory.state.borrow().is_waiting(first.number), "it has waited for longer");
    // It takes its time now: the next one that has waited for long goes first.
    memory.look(at(WAIT / 3 + 100));
    let late = begin(&memory, &link(), 1);
    assert!(!ask(&late, 1), "others have waited for long");
    drop(other);
    assert!(!memory.state.borrow().is_waiting(second.number));
    assert!(!memory.state.borrow().is_waiting(late.number));
}

/// What is complete needs nothing more: it is charged if there is enough, and not before those who wait.
#[test]
fn a_share_is_free_or_is_not_given() {
    let memory = Memory::new(100 * UNIT);
    let share = memory.share(&link(), 60 * UNIT).expect("it is free");
    assert!(memory.share(&link(), 41 * UNIT).is_none());
    let waiting = begin(&memory, &link(), 50);
    assert!(!ask(&waiting, 50));
    assert!(memory.share(&link(), UNIT).is_none(), "somebody waits");
    drop(share);
    assert_eq!(memory.free(), 50);
}

#[test]
fn who_waits_is_not_slow_and_begins_anew_with_what_it_is_given() {
    let memory = Memory::new(100 * UNIT);
    let one = link();
    let growing = frame(&memory, &one, 90, 10);
    memory.look(at(0));
    let before = frame(&memory, &link(), 20, 20);
    assert!(!ask(&growing, 90), "others have some of it");
    memory.look(at(50_000));
    assert!(!one.is_put_out());
    drop(before);
    let waiting = begin(&memory, &link(), 20);
    assert!(!ask(&waiting, 20));
    for ms in [60_000, 60_000 + PATIENCE - 100] {
        memory.look(at(ms));
        assert!(!one.is_put_out(), "it has been watched for less");
    }
    memory.look(at(60_000 + PATIENCE));
    assert!(one.is_put_out());
}

#[test]
fn memory_for_requests_whose_answers_stand_still_is_taken_back() {
    let memory = Memory::new(100 * UNIT);
    let (still, moving, working) = (link(), link(), link());
    let all = [&still, &moving, &working];
    let shares = all.map(|link| frame(&memory, link, 30, 30).complete());
    let waiting = begin(&memory, &link(), 90);
    assert!(!ask(&waiting, 90));
    still.writing(true);
    for look in 1..=3 {
        moving.progressed(at(look * PATIENCE));
        memory.look(at(look * PATIENCE));
    }
    assert!(still.is_put_out() && !moving.is_put_out() && !working.is_put_out());
    drop(shares);
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
                memory.state.borrow().is_waiting(one.0.number)
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
                    ask(part, *size);
                }
            } else if choice < ready.len() + complete.len() {
                complete.remove(choice - ready.len());
            } else {
                let (whole, size) = to_come.pop().expect("counted");
                let part = begin(&memory, &link(), whole);
                let size = size.min(whole);
                ask(&part, size);
                growing.push((part, size, whole));
            }
        }
        drop(complete);
        prop_assert_eq!(memory.free(), 64);
    }
}
