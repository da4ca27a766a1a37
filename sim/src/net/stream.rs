//! Connections: bytes in order, buffers with back-pressure, ends and resets.
//!
//! A connection is two ends and two pipes. What a program writes waits in the pipe's queue, flies
//! as packets that the link delays, and waits again until it is read. Packets arrive in the order
//! they were sent, as TCP makes it seem: one that is late makes those behind it late, and then all
//! come at once.

use std::collections::VecDeque;
use std::io::{ErrorKind, Result};
use std::net::SocketAddr;
use std::task::Waker;

use trialog_engine::io::Flow;

use super::link::Hindrance;
use super::pipe::{Flying, Piece, Pipe, SEGMENT};
use super::{Around, MILLISECOND, Net, Packet};
use crate::agenda::Due;
use crate::atlas;
use crate::cause::Cause;
use crate::contents::Contents;
use crate::trace::Event;

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) ends: [End; 2],
    /// `pipes[side]` carries what `side` sends.
    pub(super) pipes: [Pipe; 2],
    /// A box on the way has forgotten it: nothing passes any more, and nobody is told.
    forgotten: Option<Cause>,
}

#[derive(Debug)]
pub(super) struct End {
    pub(super) machine: usize,
    pub(super) process: u64,
    boot: u64,
    address: SocketAddr,
    /// Why nothing works any more.
    broken: Option<ErrorKind>,
    /// The program has closed it.
    closed: bool,
    /// The kernel that knew it is gone.
    gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Connection {
    pub(super) fn new(ends: [End; 2]) -> Self {
        Connection { ends, pipes: Default::default(), forgotten: None }
    }
}

impl End {
    /// Whether this is a server's end of that process at that port, and open.
    pub(super) fn serves(&self, machine: usize, process: u64, port: u16) -> bool {
        let (is_its, is_open) = ((self.machine, self.process), !self.closed && !self.gone);
        is_its == (machine, process) && self.address.port() == port && is_open
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn new(machine: usize, process: u64, boot: u64, address: SocketAddr) -> Self {
        End {
            machine,
            process,
            boot,
            address,
            broken: None,
            closed: false,
            gone: false,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }
}

/// What programs do.
impl Net {
    /// Reads what has arrived; `None` means wait.
    pub fn read(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        side: usize,
        into: &mut [u8],
        waker: &Waker,
    ) -> Option<Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Some(Err(ErrorKind::NotConnected.into()));
        };
        let peer = connection.ends[1 - side].machine;
        let pipe = &mut connection.pipes[1 - side];
        let end = &mut connection.ends[side];
        if end.closed {
            return Some(Err(ErrorKind::NotConnected.into()));
        }
        if pipe.unread == 0 {
            if let Some(kind) = end.broken {
                return Some(Err(kind.into()));
            }
            if pipe.ended || into.is_empty() {
                return Some(Ok(0));
            }
            end.reader = Some(waker.clone());
            return None;
        }
        let mut count = into.len().min(pipe.unread);
        if count > 1 && self.random.chance(self.tuning.short_per_mille, 1000) {
            self.shortened += 1;
            count = 1 + self.random.below(count as u64 - 1) as usize;
        }
        let me = end.machine;
        let size = window(self.tuning.receive_buffer, self.links.weather(peer, me).tiny);
        let open = |pipe: &Pipe| size.saturating_sub(pipe.unread + pipe.flying) >= SEGMENT;
        let was_shut = !open(pipe);
        let taken = pipe.take(&mut into[..count]);
        let (facts, contents) = ([id, side as u64, taken as u64], Contents::of(&into[..taken]));
        around.trace.note_with(around.now, Event::Read, &facts, contents);
        let idle = pipe.flight.is_empty() && !pipe.queue.is_empty();
        if (was_shut || idle) && open(pipe) {
            let at = around.now + self.links.delay(me, peer);
            around.agenda.enter(at, Due::Net(Packet::Pump(id, 1 - side)));
        }
        Some(Ok(taken))
    }

    /// How many bytes side `side` could hand over now, `None` while it must wait for room.
    pub fn room(&mut self, id: u64, side: usize, waker: &Waker) -> Option<Result<usize>> {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Some(Err(ErrorKind::NotConnected.into()));
        };
        let peer = connection.ends[1 - side].machine;
        let (pipe, end) = (&connection.pipes[side], &mut connection.ends[side]);
        if let Some(kind) = end.broken {
            return Some(Err(kind.into()));
        }
        if end.closed || pipe.ending {
            return Some(Err(ErrorKind::BrokenPipe.into()));
        }
        let tiny = self.links.weather(end.machine, peer).tiny;
        let room = pipe.room(self.tuning.send_buffer.min(tiny.unwrap_or(usize::MAX)));
        if room == 0 {
            end.writer = Some(waker.clone());
            if tiny.is_some() {
                self.links.bitten(end.machine, peer, |h| matches!(h, Hindrance::Tiny(_)));
            }
            return None;
        }
        if room > 1 && self.random.chance(self.tuning.short_per_mille, 1000) {
            self.shortened += 1;
            return Some(Ok(1 + self.random.below(room as u64 - 1) as usize));
        }
        Some(Ok(room))
    }

    /// Takes a piece for which there is room.
    pub fn send(
        &mut self,
        around: &mut Around<'_>,
        id: u64,
        side: usize,
        piece: Piece,
        flow: Flow,
    ) {
        let (event, ino, place, contents) = match &piece {
            Piece::Bytes(bytes) => (Event::Write, 0, 0, Contents::of(bytes)),
            Piece::File { ino, offset, .. } => (Event::SendFile, *ino, *offset, Contents::NONE),
            Piece::End => (Event::Shutdown, 0, 0, Contents::NONE),
        };
        let more = u64::from(flow == Flow::More);
        let facts = [id, side as u64, piece.len() as u64, more, ino, place];
        let named = &facts[..event.facts().len()];
        around.trace.note_with(around.now, event, named, contents);
        let connection = self.connections.get_mut(&id).expect("room was found");
        connection.pipes[side].push(piece);
        connection.pipes[side].corked = flow == Flow::More;
        self.pump(around, id, side, false);
    }

    /// Ends this side's half.
    ///
    /// # Errors
    /// Why there is nothing to end.
    pub fn shutdown(&mut self, around: &mut Around<'_>, id: u64, side: usize) -> Result<()> {
        let connection = self.connections.get(&id).ok_or(ErrorKind::NotConnected)?;
        if let Some(kind) = connection.ends[side].broken {
            return Err(kind.into());
        }
        if connection.ends[side].closed {
            return Err(ErrorKind::NotConnected.into());
        }
        if !connection.pipes[side].ending {
            self.send(around, id, side, Piece::End, Flow::Done);
        }
        Ok(())
    }

    /// A read was dropped while it waited: as in a ring, it may still swallow what comes.
    pub fn read_dropped(&mut self, id: u64, side: usize, wanted: usize) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !connection.ends[side].closed
        {
            connection.ends[side].reader = None;
            connection.pipes[1 - side].swallow += self.random.below(wanted as u64 + 1) as usize;
        }
    }

    /// Ends both halves of one side.
    pub fn close(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.ends[side].closed {
            return;
        }
        around.trace.note(around.now, Event::Close, &[id, side as u64]);
        connection.ends[side].closed = true;
        connection.ends[side].wake();
        let healthy = connection.ends[side].broken.is_none();
        if healthy && connection.pipes[1 - side].unread > 0 {
            self.drop_sent(around, id, side);
            self.reset(around, id, 1 - side);
        } else if healthy && !connection.pipes[side].ending {
            self.send(around, id, side, Piece::End, Flow::Done);
        }
        self.tidy(id);
    }

    /// The two addresses of one side: its own and its peer's.
    #[must_use]
    pub fn addresses(&self, id: u64, side: usize) -> Option<(SocketAddr, SocketAddr)> {
        let ends = &self.connections.get(&id)?.ends;
        Some((ends[side].address, ends[1 - side].address))
    }
}

/// What faults do to connections that are there.
impl Net {
    /// The connections whose ends live on these two machines, in order.
    #[must_use]
    pub fn connections_between(&self, one: usize, other: usize) -> Vec<u64> {
        let joins = |connection: &Connection| {
            let [a, b] = [connection.ends[0].machine, connection.ends[1].machine];
            (a, b) == (one, other) || (b, a) == (one, other)
        };
        let open = self.connections.iter().filter(|(_, connection)| joins(connection));
        open.map(|(&id, _)| id).collect()
    }

    /// Breaks a connection on both sides at once.
    pub fn break_connection(&mut self, around: &mut Around<'_>, id: u64, cause: Cause) {
        self.links.bite(cause);
        self.break_both(around, id);
    }

    /// Breaks it as soon as one side is in the middle of what it sends: a part of a packet still
    /// arrives, then nothing.
    pub fn break_mid_frame(&mut self, id: u64, cause: Cause) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.pipes.iter_mut().for_each(|pipe| pipe.sever = Some(cause));
        }
    }

    /// A box on the way forgets the connection: each side believes in it until it has tried for
    /// long enough.
    pub fn forget(&mut self, id: u64, cause: Cause) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.forgotten = Some(cause);
        }
    }

    /// A box on the way ends what `machine` sends: its peer reads the end, and what is sent after it
    /// is answered by a reset.
    pub fn end_half(&mut self, around: &mut Around<'_>, id: u64, machine: usize, cause: Cause) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let side = usize::from(connection.ends[0].machine != machine);
            around.trace.note(around.now, Event::HalfClosed, &[id, side as u64]);
            let pipe = &mut connection.pipes[side];
            (pipe.ended, pipe.torn) = (true, true);
            if let Some(reader) = connection.ends[1 - side].reader.take() {
                reader.wake();
            }
            self.links.bite(cause);
        }
    }

    fn break_both(&mut self, around: &mut Around<'_>, id: u64) {
        for side in 0..2 {
            self.broken(around, id, side, ErrorKind::ConnectionReset);
        }
        self.tidy(id);
    }
}

/// What packets do.
impl Net {
    /// Puts on the wire what the receiver's window allows.
    pub(super) fn pump(&mut self, around: &mut Around<'_>, id: u64, side: usize, late: bool) {
        loop {
            let Some(connection) = self.connections.get_mut(&id) else { return };
            let (from, to) = (connection.ends[side].machine, connection.ends[1 - side].machine);
            let pipe = &mut connection.pipes[side];
            if pipe.corked && !late && pipe.queued < SEGMENT {
                // As Linux does, a promise of more is believed for 200 ms.
                let at = around.now + 200 * MILLISECOND;
                if pipe.queued > 0 {
                    around.agenda.enter(at, Due::Net(Packet::Pump(id, side)));
                }
                return;
            }
            let size = window(self.tuning.receive_buffer, self.links.weather(from, to).tiny);
            let Some((piece, split)) = pipe.next(self.tuning.packet, size) else { return };
            if let (true, Piece::File { machine, ino, .. }) = (split, &piece) {
                around.machines[*machine].disk.use_file(*ino);
            }
            let passage = self.links.passage(from, to, piece.len());
            let start = pipe.busy_until.max(around.now);
            pipe.busy_until = start + passage.busy;
            let at = start + passage.flight;
            pipe.flight.push_back(Flying { at, piece });
            if let Some(later) = passage.again {
                around.agenda.enter(at + later, Due::Net(Packet::Copy(id, side)));
            }
            if !pipe.scheduled {
                pipe.scheduled = true;
                around.agenda.enter(at, Due::Net(Packet::Head(id, side)));
            }
        }
    }

    /// The head of the flight arrives, or cannot.
    pub(super) fn head(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.pipes[side].scheduled = false;
        if connection.pipes[side].flight.is_empty() {
            return self.tidy(id);
        }
        let (from, to) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        let (gone, boot) = (connection.ends[1 - side].gone, connection.ends[1 - side].boot);
        if let Some(cause) = connection.forgotten {
            self.links.bite(cause);
            return self.fail_delivery(around, id, side);
        }
        let powered = around.machines[to].powered;
        if self.is_cut(from, to) || !powered || self.links.loses(from, to) {
            return self.fail_delivery(around, id, side);
        }
        assert!(gone || around.machines[to].boot == boot, "a boot ends every connection");
        let connection = self.connections.get_mut(&id).expect("just seen");
        let flying = connection.pipes[side].flight.pop_front().expect("not empty");
        connection.pipes[side].failed = None;
        let count = flying.piece.len();
        connection.pipes[side].flying -= count;
        let end = matches!(flying.piece, Piece::End);
        let mut bytes = self.materialize(around, flying.piece);
        if let Some(cause) = self.links.alters(from, to)
            && atlas::alter_batch(&mut bytes, &mut self.random)
        {
            self.links.alter(from, to, cause);
        }
        let connection = self.connections.get_mut(&id).expect("just seen");
        let nobody = connection.pipes[side].torn || connection.ends[1 - side].closed;
        let refused = gone || (nobody && !end);
        let facts = [id, side as u64, count as u64, u64::from(end), u64::from(refused)];
        around.trace.note_arrival(around.now, &facts, &bytes);
        if refused {
            self.drop_sent(around, id, side);
            self.reset(around, id, side);
            return self.tidy(id);
        }
        let pipe = &mut connection.pipes[side];
        let severed = pipe.sever.filter(|_| count > 1);
        if severed.is_some() {
            bytes.truncate(1 + self.random.below(count as u64 - 1) as usize);
        }
        pipe.ended |= end;
        pipe.arrive(bytes);
        if let Some(next) = pipe.flight.front() {
            pipe.scheduled = true;
            around.agenda.enter(next.at.max(around.now), Due::Net(Packet::Head(id, side)));
        }
        if let Some(reader) = connection.ends[1 - side].reader.take() {
            reader.wake();
        }
        if let Some(cause) = severed {
            return self.break_connection(around, id, cause);
        }
        if count > 0 {
            let at = around.now + self.links.delay(to, from);
            around.agenda.enter(at, Due::Net(Packet::Ack(id, side, count)));
        }
        self.tidy(id);
    }

    /// A packet that has arrived before arrives again: its receiver knows its number and drops it.
    pub(super) fn copy(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        if self.connections.contains_key(&id) {
            around.trace.note(around.now, Event::Duplicate, &[id, side as u64]);
        }
    }

    fn fail_delivery(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let connection = self.connections.get_mut(&id).expect("the caller saw it");
        let pipe = &mut connection.pipes[side];
        let (times, since) = pipe.failed.unwrap_or((0, around.now));
        if around.now - since > self.tuning.patience {
            self.broken(around, id, side, ErrorKind::TimedOut);
            return self.tidy(id);
        }
        around.trace.note(around.now, Event::Undelivered, &[id, side as u64, u64::from(times)]);
        pipe.failed = Some((times + 1, since));
        pipe.scheduled = true;
        let at = around.now + self.retry_delay(times);
        around.agenda.enter(at, Due::Net(Packet::Head(id, side)));
    }

    pub(super) fn ack(&mut self, around: &mut Around<'_>, id: u64, side: usize, count: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        if self.is_cut(peer, me) {
            let at = around.now + self.retry_delay(2);
            around.agenda.enter(at, Due::Net(Packet::Ack(id, side, count)));
            return;
        }
        around.trace.note(around.now, Event::Ack, &[id, side as u64, count as u64]);
        let tiny = self.links.weather(me, peer).tiny;
        let buffer = self.tuning.send_buffer.min(tiny.unwrap_or(usize::MAX));
        let connection = self.connections.get_mut(&id).expect("just seen");
        let pipe = &mut connection.pipes[side];
        // Less, if the pipe was abandoned in the meantime.
        pipe.unacknowledged = pipe.unacknowledged.saturating_sub(count);
        // A writer is woken when there is room that is worth it, as in Linux.
        if 3 * pipe.room(buffer) >= buffer
            && let Some(writer) = connection.ends[side].writer.take()
        {
            writer.wake();
        }
        self.pump(around, id, side, false);
    }

    /// Sends word to `side` that the connection is no more.
    fn reset(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        let at = around.now + self.links.delay(peer, me);
        around.agenda.enter(at, Due::Net(Packet::Reset(id, side)));
    }

    pub(super) fn reset_arrives(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        let Some(connection) = self.connections.get(&id) else { return };
        let (me, peer) = (connection.ends[side].machine, connection.ends[1 - side].machine);
        // A lost reset is not sent again by itself: the next packet will provoke another.
        if connection.forgotten.is_none() && !self.is_cut(peer, me) {
            self.broken(around, id, side, ErrorKind::ConnectionReset);
            self.tidy(id);
        }
    }

    /// A machine is off: its ends are gone without a word.
    pub(super) fn streams_power_loss(&mut self, around: &mut Around<'_>, machine: usize) {
        for (id, side) in self.ends_of(|end| end.machine == machine && !end.gone) {
            let connection = self.connections.get_mut(&id).expect("just listed");
            let end = &mut connection.ends[side];
            (end.gone, end.closed) = (true, true);
            (end.reader, end.writer) = (None, None);
            let incoming = &mut connection.pipes[1 - side];
            incoming.arrived = VecDeque::new();
            incoming.unread = 0;
            if !incoming.queue.is_empty() && incoming.flight.is_empty() {
                // Who waits for the window to open asks again (RFC 9293, 3.8.6.1), and learns it so.
                let at = around.now + self.retry_delay(0);
                around.agenda.enter(at, Due::Net(Packet::Pump(id, 1 - side)));
            }
            self.drop_sent(around, id, side);
            self.tidy(id);
        }
    }

    fn broken(&mut self, around: &mut Around<'_>, id: u64, side: usize, kind: ErrorKind) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let event = if kind == ErrorKind::TimedOut { Event::TimedOut } else { Event::Reset };
        around.trace.note(around.now, event, &[id, side as u64]);
        connection.ends[side].broken.get_or_insert(kind);
        connection.ends[side].wake();
        self.drop_sent(around, id, side);
    }

    fn drop_sent(&mut self, around: &mut Around<'_>, id: u64, side: usize) {
        if let Some(connection) = self.connections.get_mut(&id) {
            for (machine, ino) in connection.pipes[side].abandon() {
                around.machines[machine].disk.close(ino);
            }
        }
    }

    /// Forgets a connection of which nothing more can come.
    fn tidy(&mut self, id: u64) {
        let Some(connection) = self.connections.get(&id) else { return };
        let over = |side: usize| {
            let (end, pipe) = (&connection.ends[side], &connection.pipes[side]);
            end.closed && pipe.queue.is_empty() && pipe.flight.is_empty()
        };
        if over(0) && over(1) {
            self.connections.remove(&id);
        }
    }

    fn materialize(&mut self, around: &mut Around<'_>, piece: Piece) -> Vec<u8> {
        match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::File { machine, ino, offset, len } => {
                let disk = &mut around.machines[machine].disk;
                let bytes = disk.peek(ino, offset, len);
                disk.close(ino);
                bytes
            }
            Piece::End => Vec::new(),
        }
    }

    pub(super) fn ends_of(&self, wanted: impl Fn(&End) -> bool) -> Vec<(u64, usize)> {
        let connections = self.connections.iter();
        let ends = connections.flat_map(|(&id, c)| [(id, 0, &c.ends[0]), (id, 1, &c.ends[1])]);
        ends.filter(|(_, _, end)| wanted(end)).map(|(id, side, _)| (id, side)).collect()
    }
}

/// The receiver's window, which is never too small for a packet.
fn window(buffer: usize, tiny: Option<usize>) -> usize {
    buffer.min(tiny.map_or(usize::MAX, |tiny| tiny.max(SEGMENT)))
}
