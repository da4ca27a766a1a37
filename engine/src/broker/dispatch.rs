//! From a frame to its handler: header, version, rights, and the one table of what is served.
//!
//! Requests of one connection are handed on in order; what has to stay in order (a produce's place
//! in its partition's queue) is done before [`hand_on`] returns, the rest in the answer's future.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, trace, warn};

use super::Core;
use super::allowance::Allowance;
use super::auth::Authorizer;
use super::handle;
pub use super::handle::train::Train;
use super::link::Link;
use super::quota::{self, Timed};
use super::remedy;
use super::reply::{Pending, Reply};
use super::tally::{self, Slot, Tally};
use crate::id::CorrelationId;
use crate::io::{Buf, Connection, Io};
use crate::machine::quota::Quota;
use crate::probe::{self, Probe};
use crate::wire::api::{ApiKey, Message, Request};
use crate::wire::code::ErrorCode;
use crate::wire::codec::{DecodeError, Reader};
use crate::wire::frame::{self, RequestHeader};

/// What is served, and in which versions: an API stands here only when the behaviour behind it is
/// really there.
pub const SERVED: &[(ApiKey, RangeInclusive<i16>)] = &[
    (ApiKey::Produce, 3..=13),
    (ApiKey::Fetch, 4..=18),
    (ApiKey::ListOffsets, 1..=11),
    (ApiKey::Metadata, 0..=13),
    (ApiKey::OffsetCommit, 2..=10),
    (ApiKey::OffsetFetch, 1..=10),
    (ApiKey::FindCoordinator, 0..=6),
    (ApiKey::JoinGroup, 0..=9),
    (ApiKey::Heartbeat, 0..=4),
    (ApiKey::LeaveGroup, 0..=5),
    (ApiKey::SyncGroup, 0..=5),
    (ApiKey::DescribeGroups, 0..=6),
    (ApiKey::ListGroups, 0..=5),
    (ApiKey::ApiVersions, 0..=4),
    (ApiKey::CreateTopics, 2..=7),
    (ApiKey::DeleteTopics, 1..=6),
    (ApiKey::DeleteRecords, 0..=2),
    (ApiKey::InitProducerId, 0..=5),
    (ApiKey::OffsetForLeaderEpoch, 2..=4),
    (ApiKey::DeleteGroups, 0..=2),
    (ApiKey::OffsetDelete, 0..=0),
    (ApiKey::DescribeClientQuotas, 0..=1),
    (ApiKey::AlterClientQuotas, 0..=1),
    (ApiKey::DescribeUserScramCredentials, 0..=0),
    (ApiKey::DescribeConfigs, 1..=4),
    (ApiKey::AlterConfigs, 0..=2),
    (ApiKey::DescribeLogDirs, 1..=5),
    (ApiKey::CreatePartitions, 0..=3),
    (ApiKey::ElectLeaders, 0..=2),
    (ApiKey::IncrementalAlterConfigs, 0..=1),
    (ApiKey::ListPartitionReassignments, 0..=0),
    (ApiKey::DescribeCluster, 0..=2),
    (ApiKey::DescribeProducers, 0..=0),
    (ApiKey::ListConfigResources, 0..=1),
    (ApiKey::DescribeTopicPartitions, 0..=0),
];

/// Who is at the other end of a connection.
pub struct Client {
    /// Who the requests are from. Without authentication everybody is `User:ANONYMOUS`, as in
    /// Kafka.
    pub principal: &'static str,
    /// The listener it came through.
    pub listener: Arc<str>,
    /// Its address.
    pub address: SocketAddr,
    /// The address it reached this broker at.
    pub local: SocketAddr,
    /// Its connection.
    pub link: Rc<Link>,
    /// Decides what it may do.
    pub authorizer: Authorizer,
    /// Its core's counters.
    tally: Arc<Tally>,
    /// What it may still cause in the log.
    allowance: RefCell<Allowance>,
    /// What it last called itself.
    name: RefCell<String>,
    /// Whether what it uses is measured, and as of which version of the meters.
    pub measured: Cell<(u64, bool)>,
}

/// One request, without its body.
#[derive(Clone)]
pub struct Incoming {
    /// Who sent it.
    pub client: Rc<Client>,
    /// Its API.
    pub api: ApiKey,
    /// Its version, one that is served.
    pub version: i16,
    correlation_id: CorrelationId,
    /// For how long its client is told that it is throttled, in ms; none where no quota is set.
    throttle_ms: Option<Rc<Cell<i32>>>,
}

impl Client {
    /// Somebody who has just connected.
    pub fn new<I: Io>(
        core: &Core<I>,
        connection: &I::Connection,
        listener: Arc<str>,
        link: Rc<Link>,
    ) -> Self {
        let client = Client {
            principal: "User:ANONYMOUS",
            listener,
            address: connection.peer_address(),
            local: connection.local_address(),
            link,
            authorizer: Authorizer::AllowAll,
            tally: core.tally.clone(),
            allowance: RefCell::default(),
            name: RefCell::default(),
            measured: Cell::default(),
        };
        trace!(core = %core.id, client = %client.address, listener = %client.listener, "connected");
        client
    }

    /// What it last called itself.
    pub fn name(&self) -> String {
        self.name.borrow().clone()
    }

    fn called(&self, name: Option<&str>) {
        let name = name.unwrap_or("");
        if *self.name.borrow() != name {
            name.clone_into(&mut self.name.borrow_mut());
            self.measured.set((0, false));
        }
    }
}

impl Incoming {
    /// A produce that was taken together with others.
    pub fn produce(client: Rc<Client>, version: i16, correlation_id: CorrelationId) -> Self {
        let (api, throttle_ms) = (ApiKey::Produce, None);
        Incoming { client, api, version, correlation_id, throttle_ms }
    }

    /// Whether any use has to be measured.
    pub fn is_measured(&self) -> bool {
        self.throttle_ms.is_some()
    }

    /// For how long the client is told that it is throttled, in ms.
    pub fn throttle_ms(&self) -> i32 {
        self.throttle_ms.as_ref().map_or(0, |told| told.get())
    }

    /// Notes that the request used `amount` of a quota.
    pub fn charge<I: Io>(&self, core: &Core<I>, quota: Quota, amount: f64) {
        let Some(told) = &self.throttle_ms else { return };
        tell(core, told, quota, quota::charge(core, &self.client, quota, amount));
    }

    /// Notes that the request is about to use `amount` of a quota. False if its client owes some of it
    /// already, so that it must not.
    #[must_use]
    pub fn charge_if_paid<I: Io>(&self, core: &Core<I>, quota: Quota, amount: f64) -> bool {
        let Some(told) = &self.throttle_ms else { return true };
        match quota::charge_if_paid(core, &self.client, quota, amount) {
            Ok(()) => true,
            Err(pause) => {
                tell(core, told, quota, pause);
                false
            }
        }
    }

    /// Notes that a core worked on the request for so long.
    pub fn charge_time<I: Io>(&self, core: &Core<I>, busy: Duration) {
        self.charge(core, Quota::RequestPercentage, 100.0 * busy.as_secs_f64());
    }

    /// Answers with `response`.
    pub fn reply<F>(&self, response: &impl Message) -> Reply<F> {
        self.reply_with(|out| response.encode(out, self.version))
    }

    /// Answers with the body that `write` appends.
    pub fn reply_with<F>(&self, write: impl FnOnce(&mut Vec<u8>)) -> Reply<F> {
        let mut out = self.begin();
        write(&mut out);
        if self.end(&mut out, 0) { Reply::bytes(out) } else { Reply::Close }
    }

    /// Ends the frame `out`, `further` bytes of which are sent from files. False if no frame is that
    /// large: how much a request asks for is its client's choice, so this closes a connection and never
    /// ends the process.
    #[must_use]
    pub fn end(&self, out: &mut [u8], further: usize) -> bool {
        match frame::try_end_frame(out, 0, further) {
            Ok(()) => true,
            Err(error) => {
                self.warn(
                    &format!("closing: its answer would be {error}"),
                    "ask for fewer topics, partitions or groups with one request",
                );
                false
            }
        }
    }

    /// A frame with its header, to be ended by [`Incoming::end`].
    pub fn begin(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128);
        let start = self.begin_in(&mut out);
        assert_eq!(start, 0);
        out
    }

    /// Appends a frame's size, to be filled in by [`frame::end_frame`], and its header. Returns
    /// where the frame begins.
    pub fn begin_in(&self, out: &mut Vec<u8>) -> usize {
        let start = frame::begin_frame(out);
        let api = self.api as i16;
        frame::put_response_header(out, api, self.version, self.correlation_id);
        start
    }

    /// Counts this request as refused.
    pub fn count_refused(&self) {
        if let Some(slot) = Slot::of(self.api as i16) {
            self.client.tally.refused.0[slot.number()].add(1);
        }
    }

    /// Counts and logs why this request is refused, who sent it, and what would help. One connection
    /// causes so many lines and no more; what is missing is counted.
    pub fn warn(&self, reason: &str, remedy: &str) {
        self.count_refused();
        let client = &self.client;
        // As good a clock as it takes: the request came when the peer was last heard of, or before.
        let now = client.link.last_active();
        let Some(withheld) = client.allowance.borrow_mut().take(now) else { return };
        let withheld = Some(withheld).filter(|lines| *lines > 0);
        warn!(client = %client.address, client_id = *client.name.borrow(), api = self.api.name(),
            version = self.version, reason, remedy, withheld, "request refused");
    }

    /// The same of a part of this request that is refused with `code`, for which there is a remedy
    /// ([`remedy::of`]). What clients get over by themselves is for those who look closely.
    pub fn refused(&self, code: ErrorCode, reason: impl fmt::Display) {
        let remedy = remedy::of(code);
        if remedy::is_expected(code) {
            self.count_refused();
            debug!(client = %self.client.address, client_id = *self.client.name.borrow(),
                api = self.api.name(), version = self.version, %reason, remedy, "request refused");
        } else {
            self.warn(&reason.to_string(), remedy);
        }
    }
}

/// Counts that a client has to wait, and has its answer tell it for how long: what is longest.
fn tell<I: Io>(core: &Core<I>, told: &Cell<i32>, quota: Quota, pause: Duration) {
    if !pause.is_zero() {
        core.tally.throttles[quota.number()].add(pause, 1);
    }
    let ms = i32::try_from(pause.as_micros().div_ceil(1000)).unwrap_or(i32::MAX);
    told.set(told.get().max(ms));
}

impl Drop for Client {
    fn drop(&mut self) {
        let withheld = self.allowance.get_mut().withheld();
        if withheld > 0 {
            warn!(client = %self.address, client_id = *self.name.get_mut(), withheld,
                "so many more of its requests were refused, for which there was no line");
        }
    }
}

/// Couples `bytes`, one frame without its size, to the requests before it if it is a produce like
/// them ([`handle::train`]). Gives it back if it has to be handed on by itself, after the train.
pub fn couple<I: Io>(
    core: &Rc<Core<I>>,
    client: &Rc<Client>,
    train: &mut Option<Train>,
    bytes: Buf,
) -> Result<(), Buf> {
    if Slot::of_frame(&bytes) != Some(tally::PRODUCE) {
        return Err(bytes);
    }
    let Ok((header, body)) = RequestHeader::decode(&bytes) else { return Err(bytes) };
    let RequestHeader { api_version, correlation_id, client_id, .. } = header;
    client.called(client_id);
    if quota::is_measured(core, client) {
        return Err(bytes);
    }
    handle::train::couple(core, client, train, (api_version, correlation_id), (bytes, body))
}

/// A request that has begun to be handled.
pub enum Begun<'a, F> {
    /// Handed on.
    Pending(Pending<F>),
    /// A produce on its way to its partitions, which may have no room: nothing else of its connection
    /// is handed on before it is there. (Boxed, so that other requests do not carry its size.)
    Produce(Pin<Box<dyn Future<Output = Pending<F>> + 'a>>),
}

/// Decodes `bytes`, one frame without its size, and hands it to its handler.
pub fn hand_on<'a, I: Io>(
    core: &'a Rc<Core<I>>,
    client: &Rc<Client>,
    bytes: Buf,
) -> Begun<'a, I::File> {
    let (header, body) = match RequestHeader::decode(&bytes) {
        Ok(decoded) => decoded,
        Err(error) => {
            warn!(client = %client.address, %error,
                "closing: a frame without a request header; is the client a Kafka client?");
            return Begun::Pending(Pending::Now(Reply::Close));
        }
    };
    client.called(header.client_id);
    let api = ApiKey::from_code(header.api_key);
    let served = api.and_then(|api| SERVED.iter().find(|(served, _)| *served == api));
    let Some((api, versions)) = served else {
        let api = api.map_or_else(|| header.api_key.to_string(), |api| api.name().to_owned());
        warn!(client = %client.address, client_id = header.client_id, api,
            "closing: this broker does not serve this API, and says so in its ApiVersions");
        return Begun::Pending(Pending::Now(Reply::Close));
    };
    let incoming = Incoming {
        client: client.clone(),
        api: *api,
        version: header.api_version,
        correlation_id: header.correlation_id,
        throttle_ms: quota::is_measured(core, client).then(Rc::default),
    };
    if !versions.contains(&header.api_version) {
        if *api == ApiKey::ApiVersions {
            return Begun::Pending(Pending::Now(handle::versions::unsupported(&incoming)));
        }
        probe::hit(Probe::VersionRefused);
        incoming.warn(
            &format!("versions {} to {} are served", versions.start(), versions.end()),
            "use a client that asks ApiVersions first, or set its protocol version",
        );
        return Begun::Pending(Pending::Now(Reply::Close));
    }
    Begun::Pending(match api {
        ApiKey::Produce if incoming.is_measured() => {
            return Begun::Produce(Box::pin(async move {
                incoming.charge(core, Quota::ProducerByteRate, bytes.len() as f64);
                let measured = incoming.clone();
                let work = handle::produce::hand_on(core, incoming, bytes, body);
                let (pending, busy) = Timed::new(&core.io, work).await;
                measured.charge_time(core, busy);
                pending
            }));
        }
        ApiKey::Produce => {
            return Begun::Produce(Box::pin(handle::produce::hand_on(core, incoming, bytes, body)));
        }
        ApiKey::Fetch => handle::fetch::hand_on(core, incoming, &bytes[body..]),
        ApiKey::ListOffsets => later(core, incoming, &bytes[body..], handle::offsets::list),
        ApiKey::Metadata => later(core, incoming, &bytes[body..], handle::metadata::describe),
        ApiKey::FindCoordinator => later(core, incoming, &bytes[body..], handle::coordinator::find),
        ApiKey::OffsetCommit => later(core, incoming, &bytes[body..], handle::commit::commit),
        ApiKey::OffsetFetch => later(core, incoming, &bytes[body..], handle::commit::fetch),
        ApiKey::OffsetDelete => later(core, incoming, &bytes[body..], handle::commit::forget),
        ApiKey::DescribeClientQuotas => {
            later(core, incoming, &bytes[body..], handle::quotas::describe)
        }
        ApiKey::AlterClientQuotas => later(core, incoming, &bytes[body..], handle::quotas::alter),
        ApiKey::DescribeUserScramCredentials => {
            later(core, incoming, &bytes[body..], handle::scram::describe)
        }
        ApiKey::JoinGroup => later(core, incoming, &bytes[body..], handle::membership::join),
        ApiKey::SyncGroup => later(core, incoming, &bytes[body..], handle::membership::sync),
        ApiKey::Heartbeat => later(core, incoming, &bytes[body..], handle::membership::heartbeat),
        ApiKey::LeaveGroup => later(core, incoming, &bytes[body..], handle::membership::leave),
        ApiKey::ListGroups => later(core, incoming, &bytes[body..], handle::groups::list),
        ApiKey::DescribeGroups => later(core, incoming, &bytes[body..], handle::groups::describe),
        ApiKey::DeleteGroups => later(core, incoming, &bytes[body..], handle::groups::delete),
        ApiKey::ApiVersions => later(core, incoming, &bytes[body..], handle::versions::list),
        ApiKey::CreateTopics => later(core, incoming, &bytes[body..], handle::topics::create),
        ApiKey::DeleteTopics => later(core, incoming, &bytes[body..], handle::topics::delete),
        ApiKey::DeleteRecords => later(core, incoming, &bytes[body..], handle::records::delete),
        ApiKey::InitProducerId => later(core, incoming, &bytes[body..], handle::producer_id::init),
        ApiKey::OffsetForLeaderEpoch => {
            later(core, incoming, &bytes[body..], handle::offsets::for_leader_epoch)
        }
        ApiKey::DescribeConfigs => later(core, incoming, &bytes[body..], handle::configs::describe),
        ApiKey::AlterConfigs => later(core, incoming, &bytes[body..], handle::configs::alter),
        ApiKey::IncrementalAlterConfigs => {
            later(core, incoming, &bytes[body..], handle::configs::alter_some)
        }
        ApiKey::ListConfigResources => later(core, incoming, &bytes[body..], handle::configs::list),
        ApiKey::CreatePartitions => {
            later(core, incoming, &bytes[body..], handle::partitions::create)
        }
        ApiKey::ElectLeaders => later(core, incoming, &bytes[body..], handle::partitions::elect),
        ApiKey::ListPartitionReassignments => {
            later(core, incoming, &bytes[body..], handle::partitions::reassignments)
        }
        ApiKey::DescribeCluster => later(core, incoming, &bytes[body..], handle::describe::cluster),
        ApiKey::DescribeLogDirs => {
            later(core, incoming, &bytes[body..], handle::describe::log_dirs)
        }
        ApiKey::DescribeProducers => {
            later(core, incoming, &bytes[body..], handle::describe::producers)
        }
        ApiKey::DescribeTopicPartitions => {
            later(core, incoming, &bytes[body..], handle::describe::topic_partitions)
        }
        other => unreachable!("{} stands in the table of what is served", other.name()),
    })
}

/// Decodes a request whose handling need not begin before its turn, and defers it to its answer.
fn later<I, R, H>(
    core: &Rc<Core<I>>,
    incoming: Incoming,
    body: &[u8],
    handle: H,
) -> Pending<I::File>
where
    I: Io,
    R: Request + 'static,
    H: AsyncFnOnce(Rc<Core<I>>, Incoming, R) -> R::Response + 'static,
{
    match R::decode(&mut Reader::new(body), incoming.version) {
        Ok(request) => {
            let core = core.clone();
            Pending::later(async move {
                let work = handle(core.clone(), incoming.clone(), request);
                if !incoming.is_measured() {
                    return incoming.reply(&work.await);
                }
                let (mut response, busy) = Timed::new(&core.io, work).await;
                incoming.charge_time(&core, busy);
                response.set_throttle_time(incoming.throttle_ms());
                incoming.reply(&response)
            })
        }
        Err(error) => malformed(&incoming, &error),
    }
}

/// Refuses a request that cannot be decoded: without its fields there is nothing to answer.
pub fn malformed<F>(incoming: &Incoming, error: &DecodeError) -> Pending<F> {
    probe::hit(Probe::RequestMalformed);
    incoming.warn(
        &format!("the request cannot be decoded: {error}"),
        "closing the connection; report this to the client's makers if it persists",
    );
    Pending::Now(Reply::Close)
}
