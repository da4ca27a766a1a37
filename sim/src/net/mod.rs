//! The simulated network: links between machines, and stream connections over them.
//!
//! [`link`] says how packets fare between two machines, [`connect`] how connections come about,
//! [`stream`] what they do once they are there, [`pipe`] is one direction of one of them. They
//! behave as TCP does where a program can tell: finite buffers with back-pressure, short reads and
//! writes, half-close, resets, connects that are refused or hang. Across a cut nothing arrives in
//! that direction, neither bytes nor the news that a peer died nor acknowledgements; senders try
//! again, ever more seldom, and give up in the end. A machine without power says nothing, and one
//! that came back answers old connections with a reset.
//!
//! Packets that are lost, doubled or out of order are TCP's to mend: a program sees them as time.
//! A packet whose bits flipped is dropped by its checksum, and now and then is not: see
//! [`crate::atlas`] for where that is survivable.
//!
//! It owns connections and links. It knows machines only by whether they are on, and by their
//! files where `send file` refers to them.

pub mod connect;
pub mod link;
pub mod pipe;
pub mod stream;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use crate::agenda::{Agenda, Due};
use crate::cause::{Bites, Cause};
use crate::disk::Ino;
use crate::machine::Machine;
use crate::seed::Stream;
use crate::trace::{Event, Trace};
use connect::{Attempt, Listener};
use link::{Hindrance, Links};
use pipe::Pipe;
use stream::Connection;

const MILLISECOND: u64 = 1_000_000;

/// An answer of so many bytes comes within two seconds over any whole link: the slowest carries 4 KiB in each
/// round trip of a few milliseconds. Who asks for more than comes in time asks for the same for ever.
pub(crate) const MODEST_ANSWER_BYTES: i32 = 256 << 10;

/// Something that happens on the network by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet {
    /// A wish to connect reaches the server.
    Syn(u64),
    /// The server's answer reaches the client.
    SynAck(u64),
    /// The server's refusal reaches the client.
    Refusal(u64),
    /// The head of what side `.1` of connection `.0` sends arrives.
    Head(u64, usize),
    /// A packet of side `.1` arrives once more.
    Copy(u64, usize),
    /// Side `.1` learns that `.2` bytes arrived.
    Ack(u64, usize, usize),
    /// Side `.1` may be able to send more.
    Pump(u64, usize),
    /// Side `.1` learns that the connection is no more.
    Reset(u64, usize),
}

/// The sizes and patience of every connection, drawn once per run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Bytes that a sender may hand over before they are acknowledged.
    pub send_buffer: usize,
    /// Bytes that wait for a reader at most.
    pub receive_buffer: usize,
    /// Bytes of a packet at most.
    pub packet: usize,
    /// Connections that wait to be accepted.
    pub backlog: usize,
    /// In how many of 1,000 cases a read or a write is cut short.
    pub short_per_mille: u64,
    /// How long a sender tries before it gives up, in nanoseconds.
    pub patience: u64,
}

/// All the network needs of the world around it.
pub struct Around<'a> {
    /// True time.
    pub now: u64,
    /// What will happen.
    pub agenda: &'a mut Agenda,
    /// What has happened.
    pub trace: &'a mut Trace,
    /// Everyone.
    pub machines: &'a mut [Machine],
}

/// The network. See the module's head.
#[derive(Debug)]
pub struct Net {
    links: Links,
    listeners: BTreeMap<(usize, u16), Listener>,
    attempts: BTreeMap<u64, Attempt>,
    connections: BTreeMap<u64, Connection>,
    numbered: u64,
    next_port: u16,
    tuning: Tuning,
    random: Stream,
    /// Reads and writes that were cut short.
    pub shortened: u64,
}

impl Tuning {
    /// Sizes and odds for one run.
    #[must_use]
    pub fn drawn(random: &mut Stream) -> Self {
        Tuning {
            send_buffer: random.pick(&[4 << 10, 64 << 10, 256 << 10]),
            receive_buffer: random.pick(&[4 << 10, 64 << 10, 256 << 10]),
            packet: random.pick(&[1448, 8948, 65_483]),
            backlog: 64,
            short_per_mille: random.pick(&[0, 0, 10, 200]),
            patience: random.within(10_000..30_000) * MILLISECOND,
        }
    }
}

impl Net {
    /// A network without machines; `links` is what links draw from, `random` is everything else's.
    #[must_use]
    pub fn new(tuning: Tuning, links: Stream, random: Stream) -> Self {
        Net {
            links: Links::new(links),
            listeners: BTreeMap::new(),
            attempts: BTreeMap::new(),
            connections: BTreeMap::new(),
            numbered: 0,
            next_port: 40_000,
            tuning,
            random,
            shortened: 0,
        }
    }

    /// Hinders the way from one machine to another until `cause` is lifted.
    pub fn hinder(&mut self, from: usize, to: usize, cause: Cause, hindrance: Hindrance) {
        self.links.hinder(from, to, cause, hindrance);
    }

    /// Ends everything that `cause` hinders; what was held because of it arrives now.
    pub fn lift(&mut self, around: &mut Around<'_>, cause: Cause) {
        for packet in self.links.lift(cause) {
            around.agenda.enter(around.now, Due::Net(packet));
        }
    }

    /// Ends every hindrance but those that these causes keep.
    pub fn lift_all_but(&mut self, around: &mut Around<'_>, kept: &BTreeSet<Cause>) {
        for packet in self.links.lift_all_but(kept) {
            around.agenda.enter(around.now, Due::Net(packet));
        }
    }

    /// The same network, counting what faults touch in these.
    #[must_use]
    pub fn count_into(mut self, bites: Bites) -> Net {
        self.links.count_into(bites);
        self
    }

    /// How often each cause has touched something.
    #[must_use]
    pub fn bites(&self) -> &Bites {
        self.links.bites()
    }

    /// Whether a record batch that came from one machine to another was ever altered on its way.
    #[must_use]
    pub fn has_altered(&self, from: usize, to: usize) -> bool {
        self.links.has_altered(from, to)
    }

    /// A process is gone and its kernel is not: sockets say goodbye.
    pub fn process_death(&mut self, around: &mut Around<'_>, machine: usize, process: u64) {
        let listening = self.listeners.iter().filter(|(_, l)| l.process == process);
        let ports: Vec<u16> = listening.map(|(&(_, port), _)| port).collect();
        for port in ports {
            let address = SocketAddr::new(Machine::address(machine), port);
            self.unlisten(around, machine, process, address);
        }
        let trying = self.attempts.iter().filter(|(_, attempt)| attempt.process == process);
        let trying: Vec<u64> = trying.map(|(&id, _)| id).collect();
        for id in trying {
            self.give_up(around, id);
        }
        for (id, side) in self.ends_of(|end| end.process == process) {
            self.close(around, id, side);
        }
    }

    /// A machine is off: nothing is said to anybody.
    pub fn power_loss(&mut self, around: &mut Around<'_>, machine: usize) {
        self.listeners.retain(|&(host, _), _| host != machine);
        self.attempts.retain(|_, attempt| attempt.machine != machine);
        self.streams_power_loss(around, machine);
    }

    /// The files of `machine` that pieces under way refer to, with how many do.
    #[must_use]
    pub fn files_under_way(&self, machine: usize) -> BTreeMap<Ino, u64> {
        let mut kept = BTreeMap::new();
        let pipes = self.connections.values().flat_map(|connection| &connection.pipes);
        for (host, ino) in pipes.flat_map(Pipe::files) {
            if host == machine {
                *kept.entry(ino).or_default() += 1;
            }
        }
        kept
    }

    /// Lets a packet do what it does, unless the link holds it.
    pub fn happen(&mut self, around: &mut Around<'_>, packet: Packet) {
        if let Some((from, to)) = self.way_of(packet)
            && self.links.weather(from, to).held
        {
            around.trace.note(around.now, Event::Held, &[from as u64, to as u64]);
            return self.links.hold(from, to, packet);
        }
        match packet {
            Packet::Syn(id) => self.syn(around, id),
            Packet::SynAck(id) => self.syn_ack(around, id),
            Packet::Refusal(id) => self.refusal(around, id),
            Packet::Head(id, side) => self.head(around, id, side),
            Packet::Copy(id, side) => self.copy(around, id, side),
            Packet::Ack(id, side, count) => self.ack(around, id, side, count),
            Packet::Pump(id, side) => self.pump(around, id, side, true),
            Packet::Reset(id, side) => self.reset_arrives(around, id, side),
        }
    }

    /// Which link a packet comes over; none if it is a timer of its own machine.
    fn way_of(&self, packet: Packet) -> Option<(usize, usize)> {
        match packet {
            Packet::Syn(id) => {
                let attempt = self.attempts.get(&id)?;
                Some((attempt.machine, attempt.server?))
            }
            Packet::SynAck(id) | Packet::Refusal(id) => {
                let attempt = self.attempts.get(&id)?;
                Some((attempt.server?, attempt.machine))
            }
            Packet::Head(id, side) | Packet::Copy(id, side) => {
                let ends = &self.connections.get(&id)?.ends;
                Some((ends[side].machine, ends[1 - side].machine))
            }
            Packet::Ack(id, side, _) | Packet::Reset(id, side) => {
                let ends = &self.connections.get(&id)?.ends;
                Some((ends[1 - side].machine, ends[side].machine))
            }
            Packet::Pump(..) => None,
        }
    }

    /// Whether a packet is stopped by a cut, which counts.
    fn is_cut(&mut self, from: usize, to: usize) -> bool {
        let cut = self.links.weather(from, to).cut;
        if cut {
            self.links.bitten(from, to, |hindrance| matches!(hindrance, Hindrance::Cut));
        }
        cut
    }

    fn retry_delay(&mut self, times: u32) -> u64 {
        let typical = (200 * MILLISECOND) << times.min(4);
        typical / 2 + self.random.below(typical)
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_001);
        self.next_port
    }
}

#[cfg(test)]
mod tests;
