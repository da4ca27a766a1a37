//! One direction of a simulated connection: from the sender's buffer over the wire to the
//! receiver's.
//!
//! ```text
//!  write, send file        pump               deliver            read
//!  ----------------> queue -----> flight (a delay) -----> arrived ----->
//!                    `--- room: SEND bytes until acknowledged ---'
//!                                 `--- window: RECEIVE bytes until read ---'
//! ```
//!
//! Bytes keep their order. What `send file` was asked to send is a reference to the file until the
//! moment of delivery, and only then read: a file that changes under way shows.

use std::collections::VecDeque;

use crate::cause::Cause;
use crate::disk::Ino;

/// Less than this is not sent while more is promised or a part of it would fit only.
pub const SEGMENT: usize = 1448;

/// Something that travels.
#[derive(Debug)]
pub enum Piece {
    /// Bytes of a write.
    Bytes(Vec<u8>),
    /// A part of a file of machine `machine`, which is kept alive until it is delivered.
    File {
        /// Whose file.
        machine: usize,
        /// Which one.
        ino: Ino,
        /// From where.
        offset: u64,
        /// How many bytes.
        len: usize,
    },
    /// The sender has finished.
    End,
}

/// A piece on the wire.
#[derive(Debug)]
pub struct Flying {
    /// When it arrives, if the link lets it.
    pub at: u64,
    /// What it is.
    pub piece: Piece,
}

/// One direction of a connection. See the module's head.
#[derive(Debug, Default)]
pub struct Pipe {
    /// Taken from the sender, not yet on the wire.
    pub queue: VecDeque<Piece>,
    /// On the wire, in order.
    pub flight: VecDeque<Flying>,
    /// Delivered, not yet read.
    pub arrived: VecDeque<Vec<u8>>,
    /// Bytes in `queue`.
    pub queued: usize,
    /// Bytes in `flight`.
    pub flying: usize,
    /// Bytes in `arrived`.
    pub unread: usize,
    /// Bytes that were sent and not yet acknowledged.
    pub unacknowledged: usize,
    /// The sender has said that nothing more comes.
    pub ending: bool,
    /// The receiver knows.
    pub ended: bool,
    /// The sender promised more at once, so a small rest waits.
    pub corked: bool,
    /// The wire is taken until then.
    pub busy_until: u64,
    /// Whether a delivery is on the agenda.
    pub scheduled: bool,
    /// How often in a row the head could not be delivered, and since when.
    pub failed: Option<(u32, u64)>,
    /// Bytes that a dropped read will swallow.
    pub swallow: usize,
    /// A fault breaks the connection in the middle of the next packet.
    pub sever: Option<Cause>,
    /// A fault has told the receiver that this is the end, and the sender nothing.
    pub torn: bool,
}

impl Piece {
    /// Its bytes.
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "no piece is asked whether it is empty")]
    pub fn len(&self) -> usize {
        match self {
            Piece::Bytes(bytes) => bytes.len(),
            Piece::File { len, .. } => *len,
            Piece::End => 0,
        }
    }

    /// Takes at most `count` bytes off the front; the rest stays in `self`.
    fn split(&mut self, count: usize) -> Piece {
        match self {
            Piece::Bytes(bytes) => {
                let rest = bytes.split_off(count);
                Piece::Bytes(std::mem::replace(bytes, rest))
            }
            Piece::File { machine, ino, offset, len } => {
                let front =
                    Piece::File { machine: *machine, ino: *ino, offset: *offset, len: count };
                *offset += count as u64;
                *len -= count;
                front
            }
            Piece::End => Piece::End,
        }
    }
}

impl Pipe {
    /// How many more bytes the sender may hand over, of `capacity`.
    #[must_use]
    pub fn room(&self, capacity: usize) -> usize {
        capacity.saturating_sub(self.queued + self.unacknowledged)
    }

    /// Takes a piece from the sender.
    pub fn push(&mut self, piece: Piece) {
        assert!(!self.ending, "nothing follows the end");
        self.ending = matches!(piece, Piece::End);
        self.queued += piece.len();
        self.queue.push_back(piece);
    }

    /// The next piece for the wire, of at most `max` bytes, if the receiver's `window` allows one.
    /// The second value says that the piece was split, so that it needs a keeper of its own.
    pub fn next(&mut self, max: usize, window: usize) -> Option<(Piece, bool)> {
        let head = self.queue.front_mut()?;
        let free = window.saturating_sub(self.unread + self.flying);
        let count = head.len().min(max).min(free);
        if count < head.len().min(SEGMENT) {
            // A sliver of a window is not worth a packet.
            return None;
        }
        let split = count < head.len();
        let piece = if split { head.split(count) } else { self.queue.pop_front()? };
        self.queued -= count;
        self.flying += count;
        self.unacknowledged += count;
        Some((piece, split))
    }

    /// Bytes have arrived.
    pub fn arrive(&mut self, mut bytes: Vec<u8>) {
        let lost = self.swallow.min(bytes.len());
        if lost > 0 {
            self.swallow = 0;
            bytes.drain(..lost);
        }
        if !bytes.is_empty() {
            self.unread += bytes.len();
            self.arrived.push_back(bytes);
        }
    }

    /// Moves up to `into.len()` bytes to the reader.
    pub fn take(&mut self, into: &mut [u8]) -> usize {
        let mut done = 0;
        while done < into.len()
            && let Some(head) = self.arrived.front_mut()
        {
            let count = head.len().min(into.len() - done);
            into[done..done + count].copy_from_slice(&head[..count]);
            done += count;
            if count == head.len() {
                self.arrived.pop_front();
            } else {
                head.drain(..count);
            }
        }
        self.unread -= done;
        done
    }

    /// Drops everything that has not arrived, and returns the files that were kept for it.
    pub fn abandon(&mut self) -> Vec<(usize, Ino)> {
        let queue = std::mem::take(&mut self.queue);
        let flight = std::mem::take(&mut self.flight).into_iter().map(|flying| flying.piece);
        (self.queued, self.flying, self.unacknowledged) = (0, 0, 0);
        let kept = queue.into_iter().chain(flight).filter_map(|piece| match piece {
            Piece::File { machine, ino, .. } => Some((machine, ino)),
            _ => None,
        });
        kept.collect()
    }

    /// The files that pieces under way refer to.
    pub fn files(&self) -> impl Iterator<Item = (usize, Ino)> {
        let flying = self.flight.iter().map(|flying| &flying.piece);
        self.queue.iter().chain(flying).filter_map(|piece| match piece {
            Piece::File { machine, ino, .. } => Some((*machine, *ino)),
            _ => None,
        })
    }
}
