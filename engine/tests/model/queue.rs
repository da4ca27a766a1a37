//! A twin of crossbeam's bounded queue over loom's atomics: its algorithm (Vyukov's ring of slots
//! with stamps) and its orderings, so that it promises what the real one promises and nothing more.
//! A queue behind a lock would order far too much, and hide what is missing elsewhere.

use loom::cell::UnsafeCell;
use loom::sync::atomic::{AtomicUsize, Ordering, fence};

/// The real queues are larger; full and empty are what matters.
const CAPACITY_MAX: usize = 2;

pub struct ArrayQueue<T> {
    head: AtomicUsize,
    tail: AtomicUsize,
    slots: Box<[Slot<T>]>,
    lap: usize,
}

struct Slot<T> {
    stamp: AtomicUsize,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: a value is touched only by whoever moved head or tail past its slot, which loom checks.
unsafe impl<T: Send> Send for ArrayQueue<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for ArrayQueue<T> {}

impl<T> ArrayQueue<T> {
    pub fn new(capacity: usize) -> Self {
        let slot = |index| Slot { stamp: AtomicUsize::new(index), value: UnsafeCell::new(None) };
        let slots: Box<[Slot<T>]> = (0..capacity.min(CAPACITY_MAX)).map(slot).collect();
        let lap = (slots.len() + 1).next_power_of_two();
        ArrayQueue { head: AtomicUsize::new(0), tail: AtomicUsize::new(0), slots, lap }
    }

    /// The place after `place`: the next slot, or the first one of the next lap.
    fn after(&self, place: usize) -> usize {
        if (place & (self.lap - 1)) + 1 < self.slots.len() {
            place + 1
        } else {
            (place & !(self.lap - 1)) + self.lap
        }
    }

    pub fn push(&self, value: T) -> Result<(), T> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[tail & (self.lap - 1)];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == tail {
                let (next, success) = (self.after(tail), Ordering::SeqCst);
                match self.tail.compare_exchange(tail, next, success, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: the slot is this thread's from the exchange to the stamp.
                        slot.value.with_mut(|place| unsafe { *place = Some(value) });
                        slot.stamp.store(tail + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(moved) => tail = moved,
                }
            } else if stamp + self.lap == tail + 1 {
                fence(Ordering::SeqCst);
                if self.head.load(Ordering::Relaxed) + self.lap == tail {
                    return Err(value);
                }
                loom::thread::yield_now();
                tail = self.tail.load(Ordering::Relaxed);
            } else {
                loom::thread::yield_now();
                tail = self.tail.load(Ordering::Relaxed);
            }
        }
    }

    pub fn pop(&self) -> Option<T> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let slot = &self.slots[head & (self.lap - 1)];
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                let (next, success) = (self.after(head), Ordering::SeqCst);
                match self.head.compare_exchange(head, next, success, Ordering::Relaxed) {
                    Ok(_) => {
                        // SAFETY: the slot is this thread's from the exchange to the stamp.
                        let value = slot.value.with_mut(|place| unsafe { (*place).take() });
                        slot.stamp.store(head + self.lap, Ordering::Release);
                        return value;
                    }
                    Err(moved) => head = moved,
                }
            } else if stamp == head {
                fence(Ordering::SeqCst);
                if self.tail.load(Ordering::Relaxed) == head {
                    return None;
                }
                loom::thread::yield_now();
                head = self.head.load(Ordering::Relaxed);
            } else {
                loom::thread::yield_now();
                head = self.head.load(Ordering::Relaxed);
            }
        }
    }

    /// How many values are in it, while nobody moves.
    pub fn len(&self) -> usize {
        let (head, tail) = (self.head.load(Ordering::SeqCst), self.tail.load(Ordering::SeqCst));
        let (first, last) = (head & (self.lap - 1), tail & (self.lap - 1));
        match last.cmp(&first) {
            std::cmp::Ordering::Greater => last - first,
            std::cmp::Ordering::Less => self.slots.len() - first + last,
            std::cmp::Ordering::Equal if head == tail => 0,
            std::cmp::Ordering::Equal => self.slots.len(),
        }
    }
}
