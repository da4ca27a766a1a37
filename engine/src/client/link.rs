//! One connection to one broker: requests go out in the order in which they are sent, answers are
//! matched by correlation id.
//!
//! Two tasks belong to a link: one writes what is queued, one reads answers and hands each to
//! whoever waits. Both end when the connection does, and the connection is closed when the last
//! handle is dropped. A link on which anything went wrong (a late answer included) is dead for
//! good: every request that waits gets an error, and a new link has to be made.
//!
//! Bounded: at most [`CLIENT_REQUESTS_IN_FLIGHT_MAX`] requests wait on a link.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Observer;
use super::fault::CallError;
use super::wait::within;
use crate::id::CorrelationId;
use crate::io::{Buf, Connection, Flow, Io, Pool, write_all};
use crate::limit::CLIENT_REQUESTS_IN_FLIGHT_MAX;
use crate::wire::api::{ApiKey, ApiVersionsRequest, ApiVersionsResponse, Message, Request};
use crate::wire::code::ErrorCode;
use crate::wire::frame::{self, RequestHeader};

/// What one read from the socket has room for, at least.
const READ_BYTES: usize = 64 * 1024;

/// The version that every broker since 2018 understands, and that older ones answer with a list.
const API_VERSIONS_FIRST: i16 = 3;

/// How links are made.
#[derive(Clone, Debug)]
pub struct LinkOptions {
    /// What the client calls itself.
    pub client_id: Rc<str>,
    /// How long connecting and each request may take.
    pub request_timeout: Duration,
    /// Highest versions to use, for talking as an older client does.
    pub versions_max: BTreeMap<ApiKey, i16>,
    /// Is told of every error code.
    pub observer: Option<Observer>,
}

/// A handle to a connection. Clones share it.
pub struct Link<I: Io> {
    state: Rc<State<I>>,
}

impl<I: Io> Clone for Link<I> {
    fn clone(&self) -> Self {
        Link { state: self.state.clone() }
    }
}

struct State<I: Io> {
    io: I,
    options: LinkOptions,
    connection: I::Connection,
    outgoing: mpsc::Sender<Buf>,
    room: Arc<Semaphore>,
    pending: RefCell<BTreeMap<i32, Pending>>,
    correlation: Cell<i32>,
    dead: Cell<Option<ErrorKind>>,
    versions: RefCell<BTreeMap<i16, (i16, i16)>>,
}

/// A request whose answer has not come.
struct Pending {
    answer: oneshot::Sender<Buf>,
    _room: OwnedSemaphorePermit,
}

impl<I: Io> Drop for State<I> {
    fn drop(&mut self) {
        self.connection.close();
    }
}

impl<I: Io> State<I> {
    fn fail(&self, kind: ErrorKind) {
        if self.dead.get().is_none() {
            self.dead.set(Some(kind));
        }
        self.connection.close();
        self.room.close();
        // Dropping the senders tells everybody who waits.
        self.pending.borrow_mut().clear();
    }

    fn lost(&self) -> CallError {
        CallError::Lost(self.dead.get().unwrap_or(ErrorKind::ConnectionAborted))
    }
}

/// A place in the pipeline, see [`Link::reserve`].
pub struct Place(OwnedSemaphorePermit);

/// An answer that will come. It is a future of the answer's frame; a bound in time is
/// [`Answer::wait`].
pub struct Answer<I: Io> {
    receiver: oneshot::Receiver<Buf>,
    state: Rc<State<I>>,
    key: ApiKey,
    version: i16,
}

/// The frame of an answer.
pub struct Reply {
    frame: Buf,
    body: usize,
    /// The version that the body has.
    pub version: i16,
}

impl Reply {
    /// The bytes of the body.
    pub fn body(&self) -> &[u8] {
        &self.frame[self.body..]
    }
}

impl<I: Io> Link<I> {
    /// Connects and asks what the broker speaks.
    pub async fn open(
        io: &I,
        pool: &Pool,
        address: SocketAddr,
        options: &LinkOptions,
    ) -> Result<Link<I>, CallError> {
        let connection = match within(io, options.request_timeout, io.connect(address)).await {
            Some(Ok(connection)) => connection,
            Some(Err(error)) => return Err(CallError::Unreachable(error.kind())),
            None => return Err(CallError::Unreachable(ErrorKind::TimedOut)),
        };
        let (outgoing, queue) = mpsc::channel(2 * CLIENT_REQUESTS_IN_FLIGHT_MAX);
        let state = Rc::new(State {
            io: io.clone(),
            options: options.clone(),
            connection: connection.clone(),
            outgoing,
            room: Arc::new(Semaphore::new(CLIENT_REQUESTS_IN_FLIGHT_MAX)),
            pending: RefCell::default(),
            correlation: Cell::new(0),
            dead: Cell::new(None),
            versions: RefCell::default(),
        });
        io.spawn(write(connection.clone(), queue, Rc::downgrade(&state)));
        io.spawn(read(connection, pool.clone(), Rc::downgrade(&state)));
        let link = Link { state };
        match link.learn_versions().await {
            Ok(()) => Ok(link),
            // Nothing that the caller wanted has been sent.
            Err(CallError::Lost(kind)) => Err(CallError::Unreachable(kind)),
            Err(CallError::TimedOut) => Err(CallError::Unreachable(ErrorKind::TimedOut)),
            Err(error) => Err(error),
        }
    }

    async fn learn_versions(&self) -> Result<(), CallError> {
        let request = ApiVersionsRequest {
            client_software_name: "trialog".to_owned(),
            client_software_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let timeout = self.state.options.request_timeout;
        let key = ApiKey::ApiVersions;
        let encode = |out: &mut Vec<u8>| request.encode(out, API_VERSIONS_FIRST);
        let answer = self.send(self.reserve().await?, key, API_VERSIONS_FIRST, encode)?;
        let reply = answer.wait(timeout).await?;
        // A broker that does not know the version says so in version 0 (KIP-511).
        let told = reply.body().first_chunk().map(|code| i16::from_be_bytes(*code));
        let response = if told == Some(ErrorCode::UnsupportedVersion.code()) {
            let encode = |out: &mut Vec<u8>| request.encode(out, 0);
            let answer = self.send(self.reserve().await?, key, 0, encode)?;
            ApiVersionsResponse::parse(answer.wait(timeout).await?.body(), 0)?
        } else {
            ApiVersionsResponse::parse(reply.body(), reply.version)?
        };
        if response.error_code != ErrorCode::None.code() {
            let code = ErrorCode::from_code(response.error_code);
            return Err(CallError::Refused(code.unwrap_or(ErrorCode::UnknownServerError)));
        }
        let versions = response.api_keys.iter();
        let versions = versions.map(|api| (api.api_key, (api.min_version, api.max_version)));
        *self.state.versions.borrow_mut() = versions.collect();
        Ok(())
    }

    /// Whether the link can still be used.
    pub fn is_alive(&self) -> bool {
        self.state.dead.get().is_none()
    }

    /// The highest version of an API that both sides speak.
    pub fn version(&self, key: ApiKey, ours: RangeInclusive<i16>) -> Result<i16, CallError> {
        let versions = self.state.versions.borrow();
        let unsupported = CallError::Unsupported(key);
        let &(min, max) = versions.get(&(key as i16)).ok_or(unsupported.clone())?;
        let wish = self.state.options.versions_max.get(&key).copied().unwrap_or(i16::MAX);
        let version = max.min(*ours.end()).min(wish);
        if version >= min && version >= *ours.start() { Ok(version) } else { Err(unsupported) }
    }

    /// Waits for a place in the pipeline.
    pub async fn reserve(&self) -> Result<Place, CallError> {
        let room = self.state.room.clone().acquire_owned().await;
        room.map(Place).map_err(|_| self.unsendable())
    }

    /// Sends a request; `encode` appends its body.
    pub fn send(
        &self,
        place: Place,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Answer<I>, CallError> {
        let (sender, receiver) = oneshot::channel();
        let correlation = self.next_correlation();
        let pending = Pending { answer: sender, _room: place.0 };
        let frame = self.frame(key, version, correlation, encode);
        // Every queued request holds a place or waited for room, so there is some if it is alive.
        if !self.is_alive() || self.state.outgoing.try_send(frame).is_err() {
            return Err(self.unsendable());
        }
        self.state.pending.borrow_mut().insert(correlation.0, pending);
        Ok(Answer { receiver, state: self.state.clone(), key, version })
    }

    /// Sends a request that is not answered (a produce with acks=0).
    pub async fn send_unanswered(
        &self,
        place: Place,
        key: ApiKey,
        version: i16,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), CallError> {
        let frame = self.frame(key, version, self.next_correlation(), encode);
        // The place is kept until the queue has room, so that answered requests find some too.
        let sent = self.state.outgoing.send(frame).await;
        drop(place);
        if sent.is_ok() && self.is_alive() { Ok(()) } else { Err(self.unsendable()) }
    }

    fn frame(
        &self,
        key: ApiKey,
        api_version: i16,
        correlation_id: CorrelationId,
        encode: impl FnOnce(&mut Vec<u8>),
    ) -> Buf {
        let api_key = key as i16;
        let client_id = Some(&*self.state.options.client_id);
        let mut out = Vec::new();
        let start = frame::begin_frame(&mut out);
        RequestHeader { api_key, api_version, correlation_id, client_id }.encode(&mut out);
        encode(&mut out);
        frame::end_frame(&mut out, start, 0);
        Buf::from(out)
    }

    /// One request and its answer, of any API but Produce and Fetch.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, CallError> {
        self.call_within(request, self.timeout()).await
    }

    /// The same with a time limit of its own, for what the broker may take its time for.
    pub async fn call_within<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        self.call_at_most(request, *R::VERSIONS.end(), timeout).await
    }

    /// The same in no version above `version_max`.
    pub async fn call_at_most<R: Request>(
        &self,
        request: &R,
        version_max: i16,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        let version = self.version(R::KEY, *R::VERSIONS.start()..=version_max)?;
        let place = self.reserve().await?;
        let answer = self.send(place, R::KEY, version, |out| request.encode(out, version))?;
        let reply = answer.wait(timeout).await?;
        let response = R::Response::parse(reply.body(), version)?;
        if let Some(observer) = &self.state.options.observer {
            observer.see(R::KEY, version, &response);
        }
        Ok(response)
    }

    /// How long a request may take.
    pub fn timeout(&self) -> Duration {
        self.state.options.request_timeout
    }

    fn next_correlation(&self) -> CorrelationId {
        let next = self.state.correlation.get().checked_add(1).unwrap_or(0);
        self.state.correlation.set(next);
        CorrelationId(next)
    }

    /// The error of a request that did not go out.
    fn unsendable(&self) -> CallError {
        CallError::Unreachable(self.state.dead.get().unwrap_or(ErrorKind::WouldBlock))
    }
}

impl<I: Io> Answer<I> {
    /// Waits for the answer for at most `timeout`; afterwards the link is dead, because nobody can
    /// tell what it will still bring.
    pub async fn wait(mut self, timeout: Duration) -> Result<Reply, CallError> {
        let state = self.state.clone();
        match within(&state.io, timeout, &mut self).await {
            Some(result) => result,
            None => {
                state.fail(ErrorKind::TimedOut);
                Err(CallError::TimedOut)
            }
        }
    }

    /// Gives up on the answer and on the link.
    pub fn abandon(self) {
        self.state.fail(ErrorKind::TimedOut);
    }
}

impl<I: Io> Future for Answer<I> {
    type Output = Result<Reply, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(frame) = Pin::new(&mut self.receiver).poll(cx) else {
            return Poll::Pending;
        };
        let Ok(frame) = frame else { return Poll::Ready(Err(self.state.lost())) };
        let (key, version) = (self.key as i16, self.version);
        Poll::Ready(match frame::response_body(&frame, key, version) {
            Ok(body) => Ok(Reply { frame, body, version }),
            Err(error) => {
                self.state.fail(ErrorKind::InvalidData);
                Err(CallError::Malformed(error))
            }
        })
    }
}

/// Writes what is queued until the queue or the connection ends.
async fn write<I: Io>(
    connection: I::Connection,
    mut queue: mpsc::Receiver<Buf>,
    state: Weak<State<I>>,
) {
    while let Some(mut buf) = queue.recv().await {
        loop {
            let next = queue.try_recv().ok();
            let flow = if next.is_some() { Flow::More } else { Flow::Done };
            if let Err(error) = write_all(&connection, buf, flow).await {
                if let Some(state) = state.upgrade() {
                    state.fail(error.kind());
                }
                return;
            }
            match next {
                Some(next) => buf = next,
                None => break,
            }
        }
    }
}

/// Reads answers until the connection ends or brings something that is none.
async fn read<I: Io>(connection: I::Connection, pool: Pool, state: Weak<State<I>>) {
    let kind = read_frames(&connection, &pool, &state).await;
    if let Some(state) = state.upgrade() {
        state.fail(kind);
    }
}

async fn read_frames<I: Io>(
    connection: &I::Connection,
    pool: &Pool,
    state: &Weak<State<I>>,
) -> ErrorKind {
    let mut buf = pool.take(READ_BYTES);
    loop {
        let needed = loop {
            let Ok(size) = frame::frame_size(&buf) else { return ErrorKind::InvalidData };
            let Some(size) = size else { break frame::SIZE_BYTES };
            let whole = frame::SIZE_BYTES + size;
            if buf.len() < whole {
                break whole;
            }
            buf.advance(frame::SIZE_BYTES);
            let frame = buf.split_to(size);
            let Some(state) = state.upgrade() else { return ErrorKind::ConnectionAborted };
            if !deliver(&state, frame) {
                return ErrorKind::InvalidData;
            }
        };
        if buf.capacity() < needed || buf.spare().is_empty() {
            let mut larger = pool.take(needed.max(READ_BYTES));
            larger.put(&buf);
            buf = larger;
        }
        let (result, returned) = connection.read(buf).await;
        buf = returned;
        match result {
            Ok(0) => return ErrorKind::UnexpectedEof,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return error.kind(),
        }
    }
}

/// Hands an answer to its request; false if nobody asked for it.
fn deliver<I: Io>(state: &State<I>, frame: Buf) -> bool {
    let Ok(correlation) = frame::response_correlation_id(&frame) else { return false };
    match state.pending.borrow_mut().remove(&correlation.0) {
        Some(pending) => {
            // Whoever asked may have gone.
            let _ = pending.answer.send(frame);
            true
        }
        None => false,
    }
}
