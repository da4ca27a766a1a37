//! Arbitrary values of every message, for tests and fuzzing: drawn from a string of numbers that the
//! property test shrinks. A message's declaration makes its [`Sample`].

use super::field::Form;
use super::{ApiKey, Message};
use crate::id::TopicId;

/// A value of the message `M` that `version` of `key` can carry, by `numbers`.
#[must_use]
pub fn message<M: Message + Sample>(numbers: &[u32], key: ApiKey, version: i16) -> M {
    M::sample(&mut Dice::new(numbers), Form::new(version, key.request_is_flexible(version)))
}

/// The numbers that decide a sample. When they run out every draw is 0: false, empty, null.
pub struct Dice<'a> {
    numbers: std::slice::Iter<'a, u32>,
}

impl<'a> Dice<'a> {
    /// Dice that show `numbers`, one after the other.
    #[must_use]
    pub fn new(numbers: &'a [u32]) -> Dice<'a> {
        Dice { numbers: numbers.iter() }
    }

    fn draw(&mut self) -> u32 {
        self.numbers.next().copied().unwrap_or(0)
    }

    /// A number below `end`.
    fn below(&mut self, end: u32) -> u32 {
        self.draw() % end
    }

    /// Any 64 bits, with the small numbers, -1 and the extremes more often than by chance.
    fn bits(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX,
            2 => u64::from(self.draw() % 300),
            3 => 1 << 63,
            4 => u64::MAX >> 1,
            _ => u64::from(self.draw()) << 32 | u64::from(self.draw()),
        }
    }

    /// Whether to leave out a field with this tag.
    pub fn skips(&mut self, tag: Option<u32>) -> bool {
        tag.is_some() && self.below(2) == 0
    }
}

/// A type whose values can be drawn, restricted to what the form can carry.
pub trait Sample: Sized {
    /// Draws one.
    fn sample(dice: &mut Dice<'_>, form: Form) -> Self;
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Sample for $type {
            fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
                // The low bits would never be an extreme of a narrow type.
                (dice.bits() >> (64 - <$type>::BITS)) as $type
            }
        }
    )*};
}

integers! { i8 i16 u16 i32 i64 }

impl Sample for bool {
    fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
        dice.below(2) == 1
    }
}

impl Sample for f64 {
    fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
        f64::from(dice.draw()) / 8.0
    }
}

impl Sample for TopicId {
    fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
        TopicId::from_random(dice.bits(), dice.bits())
    }
}

impl Sample for String {
    fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
        // Lengths around 127 change the size of a compact length.
        let length = match dice.below(16) {
            0..4 => 0,
            4..14 => dice.below(12),
            _ => 120 + dice.below(16),
        };
        let first = dice.draw() % 8;
        (0..length)
            .map(|place| {
                ['a', 'Z', '.', '-', '7', 'ß', '語', '😀'][((first + place * 5) % 8) as usize]
            })
            .collect()
    }
}

impl Sample for Vec<u8> {
    fn sample(dice: &mut Dice<'_>, _: Form) -> Self {
        let length = dice.below(12);
        let first = dice.draw();
        (0..length).map(|place| (first >> (place % 24)) as u8).collect()
    }
}

impl<T: Sample> Sample for Vec<T>
where
    Vec<T>: super::field::Field,
    T: super::field::Field,
{
    fn sample(dice: &mut Dice<'_>, form: Form) -> Self {
        let count = dice.below(4);
        (0..count).map(|_| T::sample(dice, form.with_null(false))).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(dice: &mut Dice<'_>, form: Form) -> Self {
        if form.nullable && dice.below(3) == 0 { None } else { Some(T::sample(dice, form)) }
    }
}
