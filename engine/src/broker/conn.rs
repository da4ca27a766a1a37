//! One client connection: bytes in, requests handed on in order, answers out in order.
//!
//! Two tasks on the core that accepted it. The *reader* takes everything one receive brought, cuts
//! it into frames without copying, and hands each to [`dispatch`] before it looks at the next; the
//! *writer* waits for the oldest answer, gathers all that are ready into one write, and sends file
//! slices from the file. Between them is a bounded queue: a client that does not read its answers
//! is not read from either.
//!
//! Keeps: answers leave in the order of their requests. A frame costs memory only as its bytes
//! arrive, and all frames of a core share one budget. Must not know what is in a frame.

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::{debug, warn};

use super::Core;
use super::dispatch::{self, Client};
use super::reply::{Pending, Piece, Reply};
use crate::io::{self, Buf, Connection, Flow, Instant, Io};
use crate::limit::{
    LARGE_FRAME_BYTES, READ_AHEAD_FACTOR, READ_BUFFER_MAX, READ_BUFFER_MIN, REPLY_GATHER_BYTES,
    REQUEST_MEMORY_UNIT, REQUEST_MEMORY_WAIT,
};
use crate::probe::{self, Probe};
use crate::wire::frame;

/// What the two tasks and the requests of one connection share.
pub struct Link {
    /// Set when the peer will send no more, so that nothing waits on its behalf.
    gone: Cell<bool>,
    leaving: Notify,
    last_active: Cell<Instant>,
}

impl Link {
    /// Completes when the peer has gone: whatever waits for its sake stops waiting.
    pub async fn gone(&self) {
        while !self.gone.get() {
            self.leaving.notified().await;
        }
    }

    fn leave(&self) {
        self.gone.set(true);
        self.leaving.notify_waiters();
    }
}

struct Queued<F> {
    pending: Pending<F>,
    /// The share of the core's request memory that is free again once this is answered.
    _memory: Vec<OwnedSemaphorePermit>,
}

/// Serves `connection` until it ends. Returns when nothing of it is left.
pub async fn serve<I: Io>(core: Rc<Core<I>>, connection: I::Connection) {
    let link = Rc::new(Link {
        gone: Cell::new(false),
        leaving: Notify::new(),
        last_active: Cell::new(core.io.now()),
    });
    let client = Rc::new(Client::new(&core, &connection, link.clone()));
    let (queue, replies) = mpsc::channel(core.shared.config.requests_in_flight_max);
    let (done, writer_done) = tokio::sync::oneshot::channel();
    core.io.spawn({
        let (connection, io, link) = (connection.clone(), core.io.clone(), link.clone());
        async move {
            let outcome = write_replies::<I>(&connection, replies, &link, &io).await;
            // Whatever the reader is waiting for ends with the socket.
            connection.close();
            let _ = done.send(outcome);
        }
    });
    let idle = watch_idle(&core, &link);
    let reason = tokio::select! {
        biased; // The reader first: an idle limit only counts when there is nothing to read.
        reason = read_requests(&core, &connection, &client, &queue, &link) => reason,
        () = idle => "it was idle for longer than connections.max.idle.ms".to_owned(),
    };
    link.leave();
    drop(queue);
    if let Ok(Err(error)) = writer_done.await {
        debug!(client = %client.address, %error, "could not answer");
    }
    debug!(client = %client.address, reason, "connection closed");
}

async fn watch_idle<I: Io>(core: &Core<I>, link: &Link) {
    let Some(limit) = core.shared.config.connections_idle_ms_max.map(Duration::from_millis) else {
        return std::future::pending().await;
    };
    loop {
        let quiet = core.io.now().since(link.last_active.get());
        let Some(rest) = limit.checked_sub(quiet).filter(|rest| !rest.is_zero()) else { return };
        core.io.sleep(rest.max(Duration::from_millis(10))).await;
    }
}

/// Reads and hands on until the peer ends or misbehaves; says which.
async fn read_requests<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    client: &Rc<Client>,
    queue: &mpsc::Sender<Queued<I::File>>,
    link: &Link,
) -> String {
    let mut buf = Buf::new();
    let mut want = READ_BUFFER_MIN;
    // The size of the last frame, if it was a large one: the next one is expected to be like it.
    let mut alike = 0;
    let mut memory = Vec::new();
    loop {
        let missing = loop {
            let size = match frame::frame_size(&buf) {
                Ok(Some(size)) if size > core.shared.config.request_bytes_max => {
                    warn!(client = %client.address, size,
                        limit = core.shared.config.request_bytes_max,
                        "closing: a request larger than socket.request.max.bytes");
                    return "its request was too large".to_owned();
                }
                Ok(Some(size)) => size,
                Ok(None) => break 0,
                Err(error) => {
                    warn!(client = %client.address, %error,
                        "closing: these bytes are not Kafka's protocol; is the client meant for \
                         this port, and does it use TLS on a plain listener?");
                    return error.to_string();
                }
            };
            let whole = frame::SIZE_BYTES + size;
            if buf.len() < whole {
                probe::hit(Probe::FrameInPieces);
                break whole - buf.len();
            }
            alike = if whole >= LARGE_FRAME_BYTES { whole } else { 0 };
            let mut request = buf.split_to(whole);
            request.advance(frame::SIZE_BYTES);
            let pending = dispatch::hand_on(core, client, request).await;
            let last = matches!(pending, Pending::Now(Reply::Close));
            let queued = Queued { pending, _memory: std::mem::take(&mut memory) };
            let unsent = match queue.try_send(queued) {
                Ok(()) => None,
                Err(TrySendError::Full(unsent)) => {
                    probe::hit(Probe::AnswersQueueFull);
                    Some(unsent)
                }
                Err(TrySendError::Closed(unsent)) => Some(unsent),
            };
            if let Some(queued) = unsent
                && queue.send(queued).await.is_err()
            {
                return "its answers could not be written".to_owned();
            }
            if last {
                return "a request could not be answered".to_owned();
            }
        };
        let wished = if missing > 0 { missing.min(want) } else { want / 2 };
        if buf.spare().len() < wished {
            // Room for all of a frame that has begun, but never more than a few times what has
            // arrived. Where large frames follow each other, each gets a buffer of its own, so
            // that the beginning of the next need not be moved.
            let whole = buf.len() + missing;
            let room = whole.min((READ_AHEAD_FACTOR * buf.len()).max(READ_BUFFER_MAX));
            let is_large = whole >= LARGE_FRAME_BYTES;
            let expected = match alike {
                _ if !buf.is_empty() => 0,
                // Too large to be claimed before any of it has come.
                READ_BUFFER_MAX.. => READ_BUFFER_MAX / READ_AHEAD_FACTOR,
                alike => alike,
            };
            let room = match expected.max(if is_large { room } else { 0 }) {
                0 => room.max(want),
                exact => exact,
            };
            if room > READ_BUFFER_MAX {
                match reserve(core, room - buf.capacity().min(room)).await {
                    Some(permit) => memory.push(permit),
                    None => {
                        warn!(client = %client.address, bytes = room,
                            "closing: the memory for requests is used up by other requests");
                        return "no memory for its request".to_owned();
                    }
                }
            }
            let mut larger = core.pool.take(room);
            larger.put(&buf);
            buf = larger;
        }
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        link.last_active.set(core.io.now());
        match result {
            Ok(0) if buf.is_empty() => return "the peer closed it".to_owned(),
            Ok(0) => {
                probe::hit(Probe::PeerGoneMidway);
                return "the peer closed it in the middle of a request".to_owned();
            }
            Ok(read) => want = next_want(want, read, missing),
            Err(error) => return error.to_string(),
        }
    }
}

/// The size of the next read buffer: grows with what arrives, shrinks when little does, so that
/// idle connections hold little and large frames land in one piece.
fn next_want(want: usize, read: usize, missing: usize) -> usize {
    let larger = (2 * want).min(READ_BUFFER_MAX);
    if read >= want / 2 || missing > want {
        larger
    } else if read < want / 16 {
        (want / 2).max(READ_BUFFER_MIN)
    } else {
        want
    }
}

async fn reserve<I: Io>(core: &Core<I>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    let units = u32::try_from(bytes.div_ceil(REQUEST_MEMORY_UNIT)).ok()?;
    let memory: Arc<Semaphore> = core.request_memory.clone();
    tokio::select! {
        biased; // Memory that is there is taken, even at the last moment.
        permit = memory.acquire_many_owned(units) => permit.ok(),
        () = core.io.sleep(REQUEST_MEMORY_WAIT) => None,
    }
}

/// Writes answers in order until the queue ends or the socket fails.
async fn write_replies<I: Io>(
    connection: &I::Connection,
    mut replies: mpsc::Receiver<Queued<I::File>>,
    link: &Link,
    io: &I,
) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        let queued = match replies.try_recv() {
            Ok(queued) => queued,
            Err(_) => {
                link.last_active.set(io.now());
                flush::<I>(connection, &mut out).await?;
                match replies.recv().await {
                    Some(queued) => queued,
                    None => return connection.shutdown().await,
                }
            }
        };
        let Queued { pending, _memory } = queued;
        let reply = match pending {
            Pending::Now(reply) => reply,
            Pending::Later(mut future) => {
                let mut context = Context::from_waker(Waker::noop());
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(reply) => reply,
                    Poll::Pending => {
                        flush::<I>(connection, &mut out).await?;
                        pin!(future).await
                    }
                }
            }
        };
        match reply {
            Reply::Silence => {}
            Reply::Close => {
                flush::<I>(connection, &mut out).await?;
                return connection.shutdown().await;
            }
            Reply::Send(pieces) => send::<I>(connection, &mut out, pieces).await?,
        }
    }
}

/// Adds an answer to what waits in `out`, and sends when that is much or a file follows.
async fn send<I: Io>(
    connection: &I::Connection,
    out: &mut Vec<u8>,
    pieces: Vec<Piece<I::File>>,
) -> io::Result<()> {
    let mut pieces = pieces.into_iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Bytes(bytes) if out.is_empty() => *out = bytes,
            Piece::Bytes(bytes) => {
                probe::hit(Probe::AnswersGathered);
                out.extend_from_slice(&bytes);
            }
            Piece::File(slice) => {
                let flow = if pieces.peek().is_some() { Flow::More } else { Flow::Done };
                let head = Buf::from(std::mem::take(out));
                io::write_all(connection, head, Flow::More).await?;
                let (position, length) = (slice.position, slice.length);
                io::send_file_all(connection, &slice.file, position, length, flow).await?;
            }
        }
    }
    if out.len() >= REPLY_GATHER_BYTES { flush::<I>(connection, out).await } else { Ok(()) }
}

async fn flush<I: Io>(connection: &I::Connection, out: &mut Vec<u8>) -> io::Result<()> {
    if out.is_empty() {
        return Ok(());
    }
    io::write_all(connection, Buf::from(std::mem::take(out)), Flow::Done).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_buffers_follow_the_traffic() {
        let grown = (0..12).fold(READ_BUFFER_MIN, |want, _| next_want(want, want, 0));
        assert_eq!(grown, READ_BUFFER_MAX);
        let shrunk = (0..12).fold(grown, |want, _| next_want(want, 10, 0));
        assert_eq!(shrunk, READ_BUFFER_MIN);
        assert_eq!(next_want(64 << 10, 10 << 10, 0), 64 << 10);
        assert_eq!(next_want(64 << 10, 10 << 10, 1 << 20), 128 << 10);
    }
}
