//! Links between machines, one per direction: how far, how wide, and what hinders them just now.
//!
//! A fault never changes a link; it adds a [`Hindrance`] under the number of its [`Cause`] and takes
//! it away again. What a packet meets is the [`Weather`] of that moment: everything that hinders the
//! link, composed. Faults may therefore overlap in any way, and the one that ends first takes away
//! only its own.
//!
//! Each hindrance that really touches a packet is counted under its cause, so that a fault that
//! nobody met does not count as one that fired. Nothing here knows connections.

use std::collections::{BTreeMap, BTreeSet};

use super::Packet;
use crate::cause::{Bites, Cause};
use crate::seed::Stream;

const MILLISECOND: u64 = 1_000_000;

/// What a fault does to a link while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hindrance {
    /// Nothing arrives; who sends tries again, ever more seldom.
    Cut,
    /// Nothing arrives until the hindrance ends, and then everything at once.
    Held,
    /// Every packet takes so many times as long.
    Slow(u64),
    /// So many of 1,000 packets are late by up to two seconds.
    Tail(u64),
    /// So many of 1,000 packets are lost and sent again.
    Lossy(u64),
    /// So many of 1,000 packets arrive twice.
    Doubled(u64),
    /// So many of 1,000 packets take a way so long that later ones overtake them.
    Shuffled(u64),
    /// Bits of so many of 1,000 packets flip, and the packet's checksum shows it: they are dropped
    /// and sent again.
    Damaged(u64),
    /// Up to 32 bits of so many of 1,000 packets flip and the packet's checksum does not show it;
    /// only where the protocol above has a checksum of its own (see [`crate::atlas`]).
    Altered(u64),
    /// At most so many bytes per second.
    Narrow(u64),
    /// Connections over it have buffers of so many bytes at most.
    Tiny(usize),
    /// Wishes to connect get lost.
    Deaf,
    /// Wishes to connect are refused.
    Refusing,
    /// Connections break as soon as they are made.
    Slamming,
}

/// What a packet meets on a link now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Nothing arrives.
    pub cut: bool,
    /// Nothing arrives yet.
    pub held: bool,
    /// Wishes to connect get lost.
    pub deaf: bool,
    /// They are refused.
    pub refusing: bool,
    /// Connections break at once.
    pub slamming: bool,
    /// The largest buffer of a connection, if that is limited.
    pub tiny: Option<usize>,
    /// Whether anything hinders the link at all.
    any: bool,
}

/// One direction between two machines.
#[derive(Debug)]
struct Link {
    /// Typical delay in nanoseconds.
    latency: u64,
    /// Bytes per second.
    bandwidth: u64,
    hindrances: Vec<(Cause, Hindrance)>,
    weather: Weather,
    /// What waits for the link to be released.
    held: Vec<Packet>,
}

/// How a packet fares on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passage {
    /// Nanoseconds that it keeps the link busy.
    pub busy: u64,
    /// Nanoseconds from leaving to arriving.
    pub flight: u64,
    /// It arrives a second time, so much later.
    pub again: Option<u64>,
}

/// All links.
#[derive(Debug)]
pub struct Links {
    links: BTreeMap<(usize, usize), Link>,
    bites: Bites,
    /// Those over which batches have arrived altered.
    altered: BTreeSet<(usize, usize)>,
    random: Stream,
}

impl Link {
    fn compose(&mut self) {
        let mut weather = Weather { any: !self.hindrances.is_empty(), ..Weather::default() };
        for (_, hindrance) in &self.hindrances {
            match *hindrance {
                Hindrance::Cut => weather.cut = true,
                Hindrance::Held => weather.held = true,
                Hindrance::Deaf => weather.deaf = true,
                Hindrance::Refusing => weather.refusing = true,
                Hindrance::Slamming => weather.slamming = true,
                Hindrance::Tiny(bytes) => {
                    weather.tiny = Some(weather.tiny.map_or(bytes, |tiny| tiny.min(bytes)));
                }
                _ => {}
            }
        }
        self.weather = weather;
    }
}

impl Links {
    /// No links yet; each is drawn at first use.
    #[must_use]
    pub fn new(random: Stream) -> Self {
        let (bites, altered) = (Bites::default(), BTreeSet::new());
        Links { links: BTreeMap::new(), bites, altered, random }
    }

    /// Hinders the link between two machines, in this direction, until [`Links::lift`].
    pub fn hinder(&mut self, from: usize, to: usize, cause: Cause, hindrance: Hindrance) {
        let link = self.link(from, to);
        link.hindrances.push((cause, hindrance));
        link.compose();
    }

    /// Takes away everything that `cause` hinders, and returns what was held because of it.
    pub fn lift(&mut self, cause: Cause) -> Vec<Packet> {
        self.lift_where(|other| other == cause)
    }

    /// Takes every hindrance away but those of `kept`, and returns what was held.
    pub fn lift_all_but(&mut self, kept: &BTreeSet<Cause>) -> Vec<Packet> {
        self.lift_where(|cause| !kept.contains(&cause))
    }

    /// Counts in these from now on.
    pub fn count_into(&mut self, bites: Bites) {
        self.bites = bites;
    }

    /// How often each cause has touched a packet.
    #[must_use]
    pub fn bites(&self) -> &Bites {
        &self.bites
    }

    /// Counts one for `cause`.
    pub fn bite(&mut self, cause: Cause) {
        self.bites.count(cause);
    }

    /// What a packet meets now.
    pub fn weather(&mut self, from: usize, to: usize) -> Weather {
        self.link(from, to).weather
    }

    /// Counts one for everything of this sort that hinders the link.
    pub fn bitten(&mut self, from: usize, to: usize, sort: impl Fn(&Hindrance) -> bool) {
        let link = self.link(from, to);
        let causes: Vec<Cause> =
            link.hindrances.iter().filter(|(_, h)| sort(h)).map(|(cause, _)| *cause).collect();
        causes.into_iter().for_each(|cause| self.bite(cause));
    }

    /// Keeps a packet until the link is released.
    pub fn hold(&mut self, from: usize, to: usize, packet: Packet) {
        self.bitten(from, to, |hindrance| matches!(hindrance, Hindrance::Held));
        self.link(from, to).held.push(packet);
    }

    /// Whether a packet gets lost (and, with a sender that cares, is sent again).
    pub fn loses(&mut self, from: usize, to: usize) -> bool {
        self.meets(from, to, |hindrance| match hindrance {
            Hindrance::Lossy(per_mille) | Hindrance::Damaged(per_mille) => Some(per_mille),
            _ => None,
        })
    }

    /// Whether bits of a packet flip unnoticed. Counted by whoever flips them.
    pub fn alters(&mut self, from: usize, to: usize) -> Option<Cause> {
        if !self.weather(from, to).any {
            return None;
        }
        let link = self.links.get(&(from, to))?;
        let (cause, per_mille) = link.hindrances.iter().find_map(|(cause, h)| match h {
            Hindrance::Altered(per_mille) => Some((*cause, *per_mille)),
            _ => None,
        })?;
        self.random.chance(per_mille, 1000).then_some(cause)
    }

    /// A batch arrived altered because of `cause`.
    pub fn alter(&mut self, from: usize, to: usize, cause: Cause) {
        self.bite(cause);
        self.altered.insert((from, to));
    }

    /// Whether a batch ever arrived altered.
    #[must_use]
    pub fn has_altered(&self, from: usize, to: usize) -> bool {
        self.altered.contains(&(from, to))
    }

    /// The delay of a small packet.
    pub fn delay(&mut self, from: usize, to: usize) -> u64 {
        self.passage(from, to, 0).flight
    }

    /// How a packet of `bytes` fares.
    pub fn passage(&mut self, from: usize, to: usize, bytes: usize) -> Passage {
        let link = self.link(from, to);
        let (latency, mut bandwidth, hindered) = (link.latency, link.bandwidth, link.weather.any);
        let mut flight = self.random.delay(latency);
        let mut again = None;
        if hindered {
            for (cause, hindrance) in self.link(from, to).hindrances.clone() {
                let bites = match hindrance {
                    Hindrance::Slow(factor) => {
                        flight = flight.saturating_mul(factor);
                        true
                    }
                    Hindrance::Tail(per_mille) if self.random.chance(per_mille, 1000) => {
                        // Half of them are below 60 ms, one in twenty above a second.
                        let scale = self.random.within(0..8);
                        flight += (self.random.within(1..16) * MILLISECOND) << scale;
                        true
                    }
                    Hindrance::Shuffled(per_mille)
                        if bytes > 0 && self.random.chance(per_mille, 1000) =>
                    {
                        flight += 3 * latency + self.random.below(20 * MILLISECOND);
                        true
                    }
                    Hindrance::Doubled(per_mille)
                        if bytes > 0 && self.random.chance(per_mille, 1000) =>
                    {
                        again = Some(self.random.below(50 * MILLISECOND));
                        true
                    }
                    Hindrance::Narrow(limit) if bytes > 0 => {
                        bandwidth = bandwidth.min(limit);
                        true
                    }
                    _ => false,
                };
                if bites {
                    self.bite(cause);
                }
            }
        }
        let busy = bytes as u64 * 1_000_000_000 / bandwidth;
        Passage { busy: busy * (1 + u64::from(again.is_some())), flight: flight + busy, again }
    }

    /// Draws for every hindrance that `odds` gives odds (of 1,000) for; true if one strikes.
    fn meets(&mut self, from: usize, to: usize, odds: impl Fn(Hindrance) -> Option<u64>) -> bool {
        if !self.weather(from, to).any {
            return false;
        }
        let mut struck = false;
        for (cause, hindrance) in self.link(from, to).hindrances.clone() {
            if let Some(per_mille) = odds(hindrance)
                && self.random.chance(per_mille, 1000)
            {
                self.bite(cause);
                struck = true;
            }
        }
        struck
    }

    fn lift_where(&mut self, wanted: impl Fn(Cause) -> bool) -> Vec<Packet> {
        let mut released = Vec::new();
        for link in self.links.values_mut() {
            let before = link.hindrances.len();
            link.hindrances.retain(|(cause, _)| !wanted(*cause));
            if link.hindrances.len() != before {
                link.compose();
                if !link.weather.held {
                    released.append(&mut link.held);
                }
            }
        }
        released
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Link {
        let random = &mut self.random;
        self.links.entry((from, to)).or_insert_with(|| Link {
            latency: if from == to { 20_000 } else { random.within(40_000..1_500_000) },
            bandwidth: 125_000_000,
            hindrances: Vec::new(),
            weather: Weather::default(),
            held: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links::new(Stream::new(5))
    }

    /// Two faults cut one link; the first one to end does not heal it, and the other direction was
    /// never touched.
    #[test]
    fn overlapping_faults_each_take_away_their_own() {
        let mut links = links();
        links.hinder(0, 1, Cause(1), Hindrance::Cut);
        links.hinder(0, 1, Cause(2), Hindrance::Cut);
        links.hinder(0, 1, Cause(2), Hindrance::Tiny(4096));
        links.hinder(0, 1, Cause(3), Hindrance::Tiny(2048));
        assert_eq!(links.weather(0, 1).tiny, Some(2048));
        assert_eq!(links.weather(1, 0), Weather::default());
        links.lift(Cause(1));
        assert!(links.weather(0, 1).cut);
        links.lift(Cause(3));
        assert_eq!(links.weather(0, 1).tiny, Some(4096));
        links.hinder(0, 1, Cause(4), Hindrance::Slow(2));
        links.lift_all_but(&[Cause(2)].into());
        assert!(links.weather(0, 1).cut);
        links.lift(Cause(2));
        assert_eq!(links.weather(0, 1), Weather::default());
    }

    #[test]
    fn what_is_held_is_released_in_order_when_the_last_hold_ends() {
        let mut links = links();
        links.hinder(0, 1, Cause(1), Hindrance::Held);
        links.hinder(0, 1, Cause(2), Hindrance::Held);
        let packets = [Packet::Syn(7), Packet::Head(3, 0), Packet::Ack(3, 1, 10)];
        packets.iter().for_each(|packet| links.hold(0, 1, *packet));
        assert_eq!(links.lift(Cause(2)), []);
        assert_eq!(links.lift(Cause(1)), packets);
        assert_eq!(links.bites().of(Cause(1)), 3);
    }

    #[test]
    fn slowness_multiplies_width_is_the_narrowest_and_each_bite_counts() {
        let mut links = links();
        let mean = |links: &mut Links, bytes| {
            (0..500).map(|_| links.passage(0, 1, bytes).flight).sum::<u64>() / 500
        };
        let healthy = mean(&mut links, 0);
        links.hinder(0, 1, Cause(1), Hindrance::Slow(10));
        links.hinder(0, 1, Cause(2), Hindrance::Slow(3));
        let slow = mean(&mut links, 0);
        assert!((20 * healthy..45 * healthy).contains(&slow), "{healthy} {slow}");
        links.lift_all_but(&BTreeSet::new());
        links.hinder(0, 1, Cause(3), Hindrance::Narrow(10_000));
        links.hinder(0, 1, Cause(4), Hindrance::Narrow(1_000));
        assert_eq!(links.passage(0, 1, 500).busy, 500_000_000);
        assert_eq!(links.bites().of(Cause(1)), 500);
        assert_eq!(links.bites().of(Cause(4)), 1);
    }

    #[test]
    fn chances_strike_as_often_as_they_say() {
        let mut links = links();
        links.hinder(0, 1, Cause(1), Hindrance::Lossy(200));
        links.hinder(0, 1, Cause(2), Hindrance::Doubled(100));
        links.hinder(0, 1, Cause(3), Hindrance::Shuffled(100));
        links.hinder(0, 1, Cause(4), Hindrance::Tail(100));
        let lost = (0..2000).filter(|_| links.loses(0, 1)).count();
        assert!((300..500).contains(&lost), "{lost}");
        let passages: Vec<Passage> = (0..2000).map(|_| links.passage(0, 1, 1000)).collect();
        let doubled = passages.iter().filter(|passage| passage.again.is_some()).count();
        assert!((120..280).contains(&doubled), "{doubled}");
        let late = passages.iter().filter(|passage| passage.flight > 100 * MILLISECOND).count();
        let very = passages.iter().filter(|passage| passage.flight > 1000 * MILLISECOND).count();
        assert!(late > 60 && very > 3 && very < late, "{late} {very}");
        assert!(links.alters(0, 1).is_none());
    }
}
