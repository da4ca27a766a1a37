//! One client connection: bytes in, requests handed on in order, answers out in order.
//!
//! Two tasks on the core that accepted it. The *reader* takes everything one receive brought, cuts
//! it into frames without copying, and hands each to [`dispatch`] before it looks at the next; the
//! *writer* waits for the oldest answer, gathers all that are ready into one write, and sends file
//! slices from the file. Between them is a bounded queue: a client that does not read its answers
//! is not read from either.
//!
//! Keeps: answers leave in the order of their requests; QUEUE-1, so many requests are under way at most.
//! A frame costs memory only as its bytes arrive, and all frames of a core share one budget. Must not
//! know what is in a frame.

use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use smallvec::SmallVec;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::{debug, warn};

use super::Core;
use super::dispatch::{self, Begun, Client, Train};
use super::link::Link;
use super::memory::{Growing, Share};
use super::reply::{Pending, Piece, Reply};
use super::tally::{self, Slot};
use crate::io::{self, Buf, Connection, Flow, Instant, Io, Pool};
use crate::limit::{
    ALIKE_FRAME_BYTES, ANSWERS_UNCOUNTED_MAX, CONNECTION_BYTES_MAX, LARGE_FRAME_BYTES,
    READ_AHEAD_FACTOR, READ_AHEAD_MAX, READ_BUFFER_MIN, REPLY_GATHER_BYTES, REPLY_IDLE_BYTES,
    REQUEST_MEMORY_PATIENCE, REQUEST_MEMORY_WAIT,
};
use crate::log::{Slice, Slices};
use crate::probe::{self, Probe};
use crate::wire::api::ApiKey;
use crate::wire::frame;

/// Requests that wait for their answers, in order.
struct Queue<F> {
    answers: mpsc::Sender<Queued<F>>,
    link: Rc<Link>,
}

struct Queued<F> {
    pending: Pending<F>,
    asked: Asked,
    /// Its places among the connection's requests in flight: as its size wants, or one for each produce of
    /// a train that has a share.
    _places: OwnedSemaphorePermit,
    /// The share of the core's request memory that is free again once this is answered.
    _memory: Option<Share>,
}

/// What was asked, how often, and when it was received: for counting.
#[derive(Clone, Copy)]
struct Asked {
    slot: Option<Slot>,
    requests: usize,
    received: Instant,
}

/// Serves `connection`, which came in through the listener of that name, until it ends. Returns when
/// nothing of it is left.
pub async fn serve<I: Io>(core: Rc<Core<I>>, connection: I::Connection, listener: Arc<str>) {
    let in_flight_max = core.shared.config.requests_in_flight_max;
    let link = Link::new(core.io.now(), in_flight_max);
    let client = Rc::new(Client::new(&core, &connection, listener, link.clone()));
    let (answers, replies) = mpsc::channel(in_flight_max);
    let queue = Queue { answers, link: link.clone() };
    let (done, mut writer_done) = tokio::sync::oneshot::channel();
    core.io.spawn({
        let (connection, core, link) = (connection.clone(), core.clone(), link.clone());
        async move {
            let outcome = write_replies(&core, &connection, replies, &link).await;
            // Whatever the reader is waiting for ends with the socket.
            connection.close();
            let _ = done.send(outcome);
        }
    });
    let enough = async {
        tokio::select! {
            biased; // Who is put out has its reason in the log, however idle it is.
            put_out = link.until_put_out() => Some(put_out),
            () = idle(&core, &link) => None,
        }
    };
    let enough = io::when_woken(watch(&core, &connection, enough));
    let reason = tokio::select! {
        biased; // The reader first: an idle limit only counts when there is nothing to read.
        reason = read_requests(&core, &connection, &client, &queue, &link) => reason,
        put_out = enough => match put_out {
            None => "it was idle for longer than connections.max.idle.ms".to_owned(),
            Some((why, _)) => {
                // Also answers that are on their way have memory.
                connection.close();
                why.reason().to_owned()
            }
        },
    };
    link.leave();
    drop(queue);
    let written = tokio::select! {
        biased; // Answers that are on their way still go.
        written = &mut writer_done => written,
        // Unless the peer takes nothing of them for as long as an idle one is kept, or others need the
        // memory of what it asked.
        () = watch(&core, &connection, unanswerable(&core, &link)) => {
            probe::hit(Probe::AnswersNotTaken);
            connection.close();
            writer_done.await
        }
    };
    if let Ok(Err(error)) = written {
        debug!(client = %client.address, %error, "could not answer");
    }
    if let Some((why, bytes)) = link.why_put_out() {
        warn!(client = %client.address, client_id = client.name(), bytes, reason = why.reason(),
            "closed: others wait for the memory for requests, and this connection kept some of it; look \
             at the client and its network, or raise queued.max.request.bytes");
    }
    debug!(client = %client.address, reason, "connection closed");
}

/// Closes the connection when the broker stops; returns when `enough` does.
async fn watch<I: Io, T>(
    core: &Core<I>,
    connection: &I::Connection,
    enough: impl Future<Output = T>,
) -> T {
    let mut running = core.shared.running.subscribe();
    tokio::select! {
        biased; // Who is idle is closed in either case.
        enough = enough => enough,
        // A stopped broker must not go on answering that it has no partitions: its clients would
        // believe it and stay.
        _ = running.wait_for(|running| *running == 0) => {
            probe::hit(Probe::StoppedServing);
            // The reader comes to the end.
            connection.close();
            std::future::pending().await
        }
    }
}

/// Returns when answers are waited for no longer, although the reader has ended.
async fn unanswerable<I: Io>(core: &Core<I>, link: &Link) {
    tokio::select! {
        biased; // Either will do.
        _ = link.until_put_out() => {}
        () = blocked(core, link) => {}
    }
}

/// Returns when a write of answers has got nowhere for as long as an idle connection is kept. An answer
/// that is not there yet may take its time.
async fn blocked<I: Io>(core: &Core<I>, link: &Link) {
    let Some(limit) = core.shared.config.connections_idle_ms_max.map(Duration::from_millis) else {
        return std::future::pending().await;
    };
    let mut before = None;
    loop {
        core.io.sleep(limit.max(Duration::from_millis(10))).await;
        let now = link.writes();
        if now.is_under_way && before.replace(now) == Some(now) {
            return;
        }
    }
}

async fn idle<I: Io>(core: &Core<I>, link: &Link) {
    let Some(limit) = core.shared.config.connections_idle_ms_max.map(Duration::from_millis) else {
        return std::future::pending().await;
    };
    loop {
        // Who must wait is not idle.
        let active = Some(link.last_active()).max(link.muted_until());
        let quiet = core.io.now().since(active.unwrap_or_default());
        let Some(rest) = limit.checked_sub(quiet).filter(|rest| !rest.is_zero()) else { return };
        core.io.sleep(rest.max(Duration::from_millis(10))).await;
    }
}

/// Waits until the connection may be read again (KIP-219). False if answers cannot be written any
/// more.
async fn unmuted<I: Io>(core: &Core<I>, queue: &Queue<I::File>, link: &Link) -> bool {
    while let Some(until) = link.muted_until() {
        let rest = until.since(core.io.now());
        if rest.is_zero() {
            probe::hit(Probe::Unmuted);
            link.unmute();
            return true;
        }
        tokio::select! {
            biased; // A connection that has failed waits for nothing.
            () = queue.answers.closed() => return false,
            () = core.io.sleep(rest) => {}
        }
    }
    true
}

const UNWRITABLE: &str = "its answers could not be written";

impl<F> Queue<F> {
    /// So many places, once they are free.
    async fn places(&self, count: usize) -> OwnedSemaphorePermit {
        let count = u32::try_from(count).expect("no more than all places");
        match self.link.room().clone().try_acquire_many_owned(count) {
            Ok(places) => places,
            Err(_) => {
                probe::hit(Probe::AnswersQueueFull);
                let places = self.link.room().clone().acquire_many_owned(count).await;
                places.expect("the connection never closes its semaphore")
            }
        }
    }

    /// Has requests wait for their answers in their places. False if answers cannot be written any
    /// more. (Not together with taking the places: what is pending is large, and a future that held
    /// it would be moved about with every request.)
    fn put(
        &self,
        places: OwnedSemaphorePermit,
        pending: Pending<F>,
        asked: Asked,
        memory: &mut Option<Share>,
    ) -> bool {
        let queued = Queued { pending, asked, _places: places, _memory: memory.take() };
        // Each has a place, and there are as many as the queue has room for.
        self.answers.try_send(queued).is_ok()
    }
}

/// Sends the train off, if there is one. False if answers cannot be written any more.
///
/// What is under way beside what the connection may hold by itself is charged like a large request; where
/// there is no memory for it, it waits for those before it.
async fn depart<I: Io>(
    core: &Rc<Core<I>>,
    queue: &Queue<I::File>,
    train: &mut Option<Train>,
    memory: &mut Option<Share>,
    received: Instant,
) -> bool {
    let Some((requests, bytes)) = train.as_ref().map(|train| (train.len(), train.bytes())) else {
        return true;
    };
    let as_large = places_of(bytes, core.shared.config.requests_in_flight_max).max(requests);
    if memory.is_none() && queue.link.room().available_permits() < as_large {
        *memory = core.request_memory.share(&queue.link, bytes);
    }
    let places = queue.places(if memory.is_some() { requests } else { as_large }).await;
    let Some((departed, unsent)) = train.take().map(|train| train.depart(core)) else {
        return true;
    };
    let asked = Asked { slot: Some(tally::PRODUCE), requests, received };
    let writable = queue.put(places, Pending::Departed(departed), asked, memory);
    if let Some(unsent) = unsent {
        Box::pin(unsent.send(core)).await;
    }
    writable
}

/// Reads and hands on until the peer ends or misbehaves; says which.
async fn read_requests<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    client: &Rc<Client>,
    queue: &Queue<I::File>,
    link: &Rc<Link>,
) -> String {
    let (mut train, mut memory) = (None, None);
    let reading = (&mut train, &mut memory);
    let reason = read_until_end(core, connection, client, queue, link, reading).await;
    // What came whole before the end is answered before it.
    depart(core, queue, &mut train, &mut memory, core.io.now()).await;
    reason
}

async fn read_until_end<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    client: &Rc<Client>,
    queue: &Queue<I::File>,
    link: &Rc<Link>,
    (train, memory): (&mut Option<Train>, &mut Option<Share>),
) -> String {
    let mut buf = Buf::new();
    // The share of the core's request memory that the large frame in the buffer has.
    let mut held: Option<Growing> = None;
    let mut want = READ_BUFFER_MIN;
    // The size of the last frame, if it was not small: the next one is expected to be like it, and to have
    // a buffer of its own, so that the beginning of the one after it need not be moved.
    let mut alike = 0;
    // The buffer before this one, if it is small. As a rule its requests are answered by the time
    // that this one is full, and it takes its turn again.
    let mut used = Buf::new();
    let mut received = core.io.now();
    loop {
        let missing = loop {
            if link.muted_until().is_some() {
                let departed = depart(core, queue, train, memory, received).await;
                if !departed || !unmuted(core, queue, link).await {
                    return UNWRITABLE.to_owned();
                }
                // Who waited for his quota did not wait for us.
                received = core.io.now();
            }
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
            alike = if whole >= ALIKE_FRAME_BYTES { whole } else { 0 };
            let mut request = buf.split_to(whole);
            request.advance(frame::SIZE_BYTES);
            if let Some(held) = held.take() {
                // It had the buffer for itself: its share is free again once it is answered.
                assert_eq!(buf.capacity(), 0, "MEMORY-2: nothing else keeps the share");
                assert!(train.is_none() && memory.is_none(), "MEMORY-2: it goes with its request");
                *memory = Some(held.complete());
            }
            let mut request = match dispatch::couple(core, client, train, request) {
                Ok(()) => continue,
                Err(request) => request,
            };
            if train.is_some() {
                if !depart(core, queue, train, memory, received).await {
                    return UNWRITABLE.to_owned();
                }
                // It may be the first of another train.
                request = match dispatch::couple(core, client, train, request) {
                    Ok(()) => continue,
                    Err(request) => request,
                };
            }
            let asked = Asked { slot: Slot::of_frame(&request), requests: 1, received };
            let most = core.shared.config.requests_in_flight_max;
            let is_oldest = !link.awaits_answer();
            let places = queue.places(places_of(request.len(), most)).await;
            let mut pending = match dispatch::hand_on(core, client, request) {
                Begun::Pending(pending) => pending,
                Begun::Produce(produce) => produce.await,
            };
            if let Pending::Lone(lone, planned) = &mut pending
                && is_oldest
            {
                // Its turn has come: the partition plans before the writer wakes.
                *planned = Some(lone.ask(core).await);
            }
            let last = matches!(pending, Pending::Now(Reply::Close));
            if !queue.put(places, pending, asked, memory) {
                return UNWRITABLE.to_owned();
            }
            if last {
                return "a request could not be answered".to_owned();
            }
        };
        // Everything that the last receive brought in one piece goes together; nothing waits for
        // the next.
        if train.is_some() && !depart(core, queue, train, memory, received).await {
            return UNWRITABLE.to_owned();
        }
        let wished = if missing > 0 { missing.min(want) } else { want / 2 };
        if buf.spare().len() < wished {
            let whole = buf.len() + missing;
            // Room for all of a large frame that has begun, but never more than a few times what has
            // arrived, or than the one before was, where they follow each other.
            let room = if whole > LARGE_FRAME_BYTES {
                let least = alike.clamp(LARGE_FRAME_BYTES, READ_AHEAD_MAX);
                whole.min((READ_AHEAD_FACTOR * buf.len()).max(least))
            } else if !buf.is_empty() || alike == 0 {
                whole.max(want)
            } else if alike > LARGE_FRAME_BYTES {
                // Nothing common is claimed for what has not begun: little of it is moved later.
                READ_BUFFER_MIN
            } else {
                alike
            };
            if room > LARGE_FRAME_BYTES {
                if !core.request_memory.can_hold(whole) {
                    probe::hit(Probe::RequestTooLarge);
                    warn!(client = %client.address, bytes = whole,
                        "closing: its request is larger than one core may have of \
                         queued.max.request.bytes; raise that setting, or send less at once");
                    return "its request is too large for the memory for requests".to_owned();
                }
                let charge = |bytes| core.request_memory.at_most(Pool::memory_for(bytes));
                let begin = || core.request_memory.begin(link, charge(whole));
                let share = held.take().unwrap_or_else(begin);
                if !reserve(core, link, &share, charge(room)).await {
                    probe::hit(Probe::RequestMemoryNone);
                    warn!(client = %client.address, bytes = room,
                        "closing: the memory for requests is used up by other requests");
                    return "no memory for its request".to_owned();
                }
                held = Some(share);
            }
            let mut larger = std::mem::take(&mut used);
            if !larger.reclaim(room) {
                larger = core.pool.take(room);
            }
            larger.put(&buf);
            // Large memory was charged to its requests, and goes when they are answered.
            if buf.memory() <= LARGE_FRAME_BYTES {
                used = std::mem::take(&mut buf);
            }
            buf = larger;
        }
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        received = core.io.now();
        link.active(received);
        match result {
            Ok(0) if buf.is_empty() => return "the peer closed it".to_owned(),
            Ok(0) => {
                probe::hit(Probe::PeerGoneMidway);
                return "the peer closed it in the middle of a request".to_owned();
            }
            Ok(read) => {
                core.tally.received_bytes.add(read as u64);
                if let Some(held) = &held {
                    held.arrived(read);
                }
                want = next_want(want, read, missing);
            }
            Err(error) => return error.to_string(),
        }
    }
}

/// How many of a connection's `most` places a request of so many bytes takes while it waits for its
/// answer. Decoded it can be much larger than it came: so many of them that together they exceed what a
/// connection may hold are not held at once.
fn places_of(bytes: usize, most: usize) -> usize {
    (1 + bytes / (CONNECTION_BYTES_MAX / most).max(1)).min(most)
}

/// The size of the next read buffer: grows with what arrives, shrinks when little does, so that
/// idle connections hold little and large frames land in one piece.
fn next_want(want: usize, read: usize, missing: usize) -> usize {
    let larger = (2 * want).min(LARGE_FRAME_BYTES);
    if read >= want / 2 || missing > want {
        larger
    } else if read < want / 16 {
        (want / 2).max(READ_BUFFER_MIN)
    } else {
        want
    }
}

/// Waits until a frame's `share` is of so many bytes. False if it has waited for long enough.
async fn reserve<I: Io>(core: &Core<I>, link: &Link, share: &Growing, bytes: usize) -> bool {
    let began = core.io.now();
    if share.ask(bytes, began) {
        return true;
    }
    probe::hit(Probe::RequestMemoryUsedUp);
    core.tally.memory_waits.add(1);
    core.request_memory.look(began);
    loop {
        // Who waits is not idle.
        link.active(core.io.now().after(REQUEST_MEMORY_PATIENCE));
        tokio::select! {
            biased; // Memory that is there is taken, even at the last moment.
            () = share.granted() => return true,
            () = core.io.sleep(REQUEST_MEMORY_PATIENCE) => {}
        }
        let now = core.io.now();
        if now.since(began) >= REQUEST_MEMORY_WAIT {
            return false;
        }
        core.request_memory.look(now);
    }
}

/// Writes answers in order until the queue ends or the socket fails.
async fn write_replies<I: Io>(
    core: &Rc<Core<I>>,
    connection: &I::Connection,
    mut replies: mpsc::Receiver<Queued<I::File>>,
    link: &Link,
) -> io::Result<()> {
    let mut out = Outgoing::<I> {
        core,
        connection,
        link,
        bytes: Vec::new(),
        buf: Buf::new(),
        uncounted: Vec::new(),
    };
    loop {
        let Queued { pending, asked, _places, _memory } = match replies.try_recv() {
            Ok(queued) => queued,
            Err(_) => {
                out.flush(Flow::Done).await?;
                out.rest();
                match replies.recv().await {
                    Some(queued) => queued,
                    None => return connection.shutdown().await,
                }
            }
        };
        let reply = match pending {
            Pending::Now(reply) => reply,
            Pending::Departed(mut train) => {
                if !train.has_arrived() {
                    out.flush(Flow::Done).await?;
                }
                train.arrive(&core.io, &mut out.bytes).await;
                Reply::Silence
            }
            Pending::Lone(lone, planned) => {
                // The partition's task may have to run first.
                out.flush(Flow::Done).await?;
                let planned = match planned {
                    Some(planned) => planned,
                    None => lone.ask(core).await,
                };
                let fetched = match lone.plan(core, planned).await {
                    Some(fetched) => fetched,
                    None => put_off(link, Box::pin(lone.wait(core))).await?,
                };
                let cut = lone.put_head(core, &fetched, &mut out.bytes);
                out.send_files(cut, fetched.slices).await?;
                Reply::Silence
            }
            Pending::Later(mut future) => {
                let mut context = Context::from_waker(Waker::noop());
                match future.as_mut().poll(&mut context) {
                    Poll::Ready(reply) => reply,
                    Poll::Pending => {
                        out.flush(Flow::Done).await?;
                        match may_be_put_off(asked.slot) {
                            true => put_off(link, future).await?,
                            false => future.await,
                        }
                    }
                }
            }
        };
        match reply {
            Reply::Silence => {}
            Reply::Close => {
                out.flush(Flow::Done).await?;
                return connection.shutdown().await;
            }
            Reply::Send(pieces) => out.send(pieces).await?,
        }
        out.answered(asked);
        if out.bytes.len() >= REPLY_GATHER_BYTES {
            out.flush(Flow::Done).await?;
        }
    }
}

/// Whether an answer may wait for what others do.
fn may_be_put_off(slot: Option<Slot>) -> bool {
    let waits = [ApiKey::Fetch, ApiKey::JoinGroup, ApiKey::SyncGroup];
    slot.is_some() && waits.iter().any(|api| slot == Slot::of(*api as i16))
}

/// An answer that waits for what others do; nobody waits for it any more once the connection is put out.
async fn put_off<T>(link: &Link, answer: impl Future<Output = T>) -> io::Result<T> {
    link.put_off(true);
    let answer = tokio::select! {
        biased; // What is there is there.
        answer = answer => Ok(answer),
        _ = link.until_put_out() => Err(io::ErrorKind::ConnectionAborted.into()),
    };
    link.put_off(false);
    answer
}

/// Answers of one connection that wait to be sent together. Its memory is used again.
struct Outgoing<'a, I: Io> {
    core: &'a Core<I>,
    connection: &'a I::Connection,
    link: &'a Link,
    bytes: Vec<u8>,
    buf: Buf,
    /// What leaves with the next write, or has left, and is not counted yet.
    uncounted: Vec<Asked>,
}

impl<I: Io> Outgoing<'_, I> {
    /// Adds an answer, and sends what there is where a file follows.
    async fn send(&mut self, pieces: Vec<Piece<I::File>>) -> io::Result<()> {
        let mut pieces = pieces.into_iter().peekable();
        while let Some(piece) = pieces.next() {
            match piece {
                Piece::Bytes(bytes) => {
                    if !self.bytes.is_empty() {
                        probe::hit(Probe::AnswersGathered);
                    }
                    self.bytes.extend_from_slice(&bytes);
                }
                Piece::File(slice) => {
                    let flow = if pieces.peek().is_some() { Flow::More } else { Flow::Done };
                    self.flush(Flow::More).await?;
                    self.send_file(slice, flow).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends what there is with the slices in between: they belong where `cut` is.
    async fn send_files(&mut self, cut: usize, slices: Slices<I::File>) -> io::Result<()> {
        if slices.is_empty() {
            return Ok(());
        }
        let tail: SmallVec<[u8; 16]> = self.bytes[cut..].into();
        self.bytes.truncate(cut);
        self.flush(Flow::More).await?;
        let last = slices.len() - 1;
        for (number, slice) in slices.into_iter().enumerate() {
            let ends = number == last && tail.is_empty();
            let flow = if ends { Flow::Done } else { Flow::More };
            self.send_file(slice, flow).await?;
        }
        self.bytes.extend_from_slice(&tail);
        Ok(())
    }

    async fn send_file(&mut self, slice: Slice<I::File>, flow: Flow) -> io::Result<()> {
        let Slice { file, position, length } = slice;
        self.core.tally.sent_bytes.add(length);
        let range = position..position + length;
        let partly = || self.link.progressed(self.core.io.now());
        self.link.writing(true);
        let sent = io::send_file_out(self.connection, &file, range, flow, partly).await;
        self.link.writing(false);
        sent
    }

    async fn flush(&mut self, flow: Flow) -> io::Result<()> {
        if !self.bytes.is_empty() {
            let mut buf = std::mem::take(&mut self.buf);
            if !buf.reclaim(self.bytes.len()) {
                buf = self.core.pool.take(self.bytes.len());
            }
            buf.put(&self.bytes);
            self.core.tally.sent_bytes.add(self.bytes.len() as u64);
            self.bytes.clear();
            let partly = || self.link.progressed(self.core.io.now());
            self.link.writing(true);
            let (result, buf) = io::write_out(self.connection, buf, flow, partly).await;
            self.link.writing(false);
            self.buf = buf;
            result?;
        }
        self.count();
        Ok(())
    }

    /// This has been answered; it is counted once the answer has left.
    fn answered(&mut self, asked: Asked) {
        self.uncounted.push(asked);
        if self.uncounted.len() >= ANSWERS_UNCOUNTED_MAX {
            self.count();
        }
    }

    /// Counts what has left. Reads the clock once for all of it.
    fn count(&mut self) {
        if self.uncounted.is_empty() {
            return;
        }
        let now = self.core.io.now();
        self.link.active(now);
        for Asked { slot, requests, received } in self.uncounted.drain(..) {
            if let Some(slot) = slot {
                self.core.tally.answered(slot, requests as u64, received, now);
            }
        }
    }

    /// Gives up what only large answers need: nothing is to be sent for now.
    fn rest(&mut self) {
        if self.bytes.capacity() > REPLY_IDLE_BYTES {
            self.bytes = Vec::new();
            self.buf = Buf::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_requests_take_the_places_of_many() {
        assert_eq!(places_of(100, 256), 1);
        assert_eq!(places_of(2000, 256), 2);
        assert_eq!(places_of(100 << 10, 256), 101);
        assert_eq!(places_of(100 << 20, 256), 256);
        assert_eq!(places_of(100 << 20, 1), 1);
        assert_eq!(places_of(100, 1 << 20), 101);
    }

    #[test]
    fn read_buffers_follow_the_traffic() {
        let grown = (0..12).fold(READ_BUFFER_MIN, |want, _| next_want(want, want, 0));
        assert_eq!(grown, LARGE_FRAME_BYTES);
        let shrunk = (0..12).fold(grown, |want, _| next_want(want, 10, 0));
        assert_eq!(shrunk, READ_BUFFER_MIN);
        assert_eq!(next_want(64 << 10, 10 << 10, 0), 64 << 10);
        assert_eq!(next_want(64 << 10, 10 << 10, 1 << 20), 128 << 10);
    }
}
