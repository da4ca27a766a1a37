//! The program under hostile load: thousands of connections that say nothing, that stop within a large
//! request, that do not read their answers, that open groups and say a lot of themselves, all at once.
//! Nothing aborts, memory stays within its bounds (`docs/map.md`), and a client that behaves hardly notices.

#![allow(clippy::disallowed_methods, reason = "the program and its time are real")]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use trialog_engine::id::{CorrelationId, NodeId, Offset, PartitionIndex};
use trialog_engine::limit::{
    CONNECTION_BYTES_MAX, COORDINATOR_MEMBERS_BYTES_MAX, LARGE_FRAME_BYTES,
};
use trialog_engine::wire::api::{
    ApiKey, ApiVersionsRequest, FindCoordinatorRequest, JoinGroupRequest, JoinGroupRequestProtocol,
    MetadataRequest, Request,
};
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use trialog_engine::wire::frame::{self, RequestHeader};
use trialog_engine::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::program::Broker;

/// What the broker may hold of requests that are larger than a connection's own share.
const QUEUED_BYTES_MAX: usize = 64 << 20;
const SILENT: usize = 2000;
const HALF: usize = 500;
/// What is sent of a large request that is never finished: it needs memory of the common share.
const HALF_BYTES: usize = 1_200_000;
const DEAF: usize = 300;
const GROUPS: usize = 300;
/// Members of groups of their own, which say so much of themselves that together it is more than all groups
/// may keep.
const LARGE_GROUPS: usize = 150;
const LARGE_GROUP_BYTES: usize = 1_000_000;
/// What a client that behaves sends beside its small requests.
const LARGE_PRODUCE_BYTES: usize = 1_000_000;
// It needs memory of the common share.
const _: () = assert!(LARGE_PRODUCE_BYTES > 4 * LARGE_FRAME_BYTES);
/// Code, stacks, pools, page tables of a debug build, and what an allocator keeps.
const SLACK_BYTES: usize = 96 << 20;

fn request(key: ApiKey, version: i16, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::begin_frame(&mut out);
    let header = RequestHeader {
        api_key: key as i16,
        api_version: version,
        correlation_id: CorrelationId(1),
        client_id: Some("load"),
    };
    header.encode(&mut out);
    body(&mut out);
    frame::end_frame(&mut out, start, 0);
    out
}

fn declared<R: Request>(version: i16, request_: &R) -> Vec<u8> {
    request(R::KEY, version, |out| request_.encode(out, version))
}

fn produce(bytes: usize) -> Vec<u8> {
    let mut builder = Builder::new();
    builder.push(1_700_000_000_000, None, Some(&vec![b'x'; bytes]), &[]);
    let batch = builder.finish();
    let partition = ProducePartition { index: PartitionIndex(0), records: Some(&batch[..]) };
    let topic = ProduceTopic { name: "t", partitions: vec![partition], ..ProduceTopic::default() };
    let topics = vec![topic];
    let produce = ProduceRequest { transactional_id: None, acks: 1, timeout_ms: 10_000, topics };
    request(ApiKey::Produce, 9, |out| produce.encode(out, 9))
}

fn fetch() -> Vec<u8> {
    let partition = FetchPartition {
        index: PartitionIndex(0),
        fetch_offset: Offset(0),
        max_bytes: 1 << 20,
        ..FetchPartition::default()
    };
    let topic =
        FetchTopic { name: "t".to_owned(), partitions: vec![partition], ..FetchTopic::default() };
    let fetch = FetchRequest {
        replica_id: NodeId(-1),
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    request(ApiKey::Fetch, 11, |out| fetch.encode(out, 11))
}

fn join(group: usize, bytes: usize) -> Vec<u8> {
    let protocol = JoinGroupRequestProtocol { name: "range".to_owned(), metadata: vec![0; bytes] };
    let join = JoinGroupRequest {
        group_id: format!("group-{group}"),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol],
        ..JoinGroupRequest::default()
    };
    declared(2, &join)
}

/// A connection that is never waited for.
struct Hostile {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Hostile {
    fn connect(broker: &Broker, bytes: Vec<u8>) -> Hostile {
        let stream = TcpStream::connect(&broker.address).expect("it accepts");
        stream.set_nonblocking(true).expect("a socket");
        Hostile { stream, rest: bytes }
    }

    /// Sends what can be sent now; what the broker closes is closed.
    fn push(&mut self) {
        while !self.rest.is_empty() {
            match self.stream.write(&self.rest[..self.rest.len().min(256 << 10)]) {
                Ok(sent) => drop(self.rest.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => self.rest.clear(),
            }
        }
    }
}

/// One that behaves.
struct Client(TcpStream);

impl Client {
    fn connect(broker: &Broker) -> Client {
        let stream = TcpStream::connect(&broker.address).expect("it accepts");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket");
        Client(stream)
    }

    fn call(&mut self, request: &[u8]) -> Vec<u8> {
        self.0.write_all(request).expect("it reads");
        let mut size = [0; 4];
        self.0.read_exact(&mut size).expect("it answers");
        let mut answer = vec![0; u32::from_be_bytes(size) as usize];
        self.0.read_exact(&mut answer).expect("it answers whole");
        answer
    }

    /// Times of so many small produces with a flush each, sorted.
    fn latencies(&mut self, count: usize, mut between: impl FnMut()) -> Vec<Duration> {
        let small = produce(100);
        let mut times = Vec::new();
        for _ in 0..count {
            between();
            let began = Instant::now();
            self.call(&small);
            times.push(began.elapsed());
        }
        times.sort();
        times
    }
}

/// Resident memory of the broker, in bytes.
fn resident(broker: &Broker) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", broker.child.id()));
    let status = status.expect("it is alive");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says");
    let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kib << 10
}

/// How many files this process may have open; raised as far as it goes.
fn open_files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("Linux says");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a limit");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(u64::MAX)
}

#[test]
fn hostile_load_stays_within_bounds_and_others_hardly_notice() {
    let wanted = SILENT + HALF + DEAF + GROUPS + LARGE_GROUPS + 100;
    // Where few files may be open, as many of each kind as go.
    let scale = (open_files_max() as f64 / wanted as f64).min(1.0);
    let number = |of: usize| (of as f64 * scale) as usize;
    let data = tempfile::tempdir().expect("a folder");
    let bound = format!("queued.max.request.bytes={QUEUED_BYTES_MAX}");
    let broker = Broker::start_as(data.path(), |command| {
        // Nobody reads what it logs.
        command.args(["--set", &bound]).env("TRIALOG_LOG", "error");
        // One partition has all groups.
        command.args(["--set", "offsets.topic.num.partitions=1"]);
    });
    broker.ask(&["topic", "create", "t"], "");
    let mut good = Client::connect(&broker);
    let find = FindCoordinatorRequest {
        coordinator_keys: vec!["group".to_owned()],
        ..FindCoordinatorRequest::default()
    };
    assert!(!good.call(&declared(4, &find)).is_empty());
    // Something that slow readers can be slow at.
    for _ in 0..4 {
        good.call(&produce(400_000));
    }
    let before = good.latencies(100, || {});
    let base = resident(&broker);

    let mut hostile: Vec<Hostile> = Vec::new();
    let silent = (0..number(SILENT)).map(|_| Hostile::connect(&broker, Vec::new()));
    hostile.extend(silent);
    let half = &produce(2 * HALF_BYTES)[..HALF_BYTES];
    hostile.extend((0..number(HALF)).map(|_| Hostile::connect(&broker, half.to_vec())));
    let all = MetadataRequest { topics: None, ..MetadataRequest::default() };
    let versions = declared(0, &ApiVersionsRequest::default());
    let deaf = [fetch().repeat(40), declared(4, &all).repeat(40), versions.repeat(40)].concat();
    hostile.extend((0..number(DEAF)).map(|_| Hostile::connect(&broker, deaf.clone())));
    let groups = (0..number(GROUPS)).map(|group| Hostile::connect(&broker, join(group, 50)));
    hostile.extend(groups);
    let large = GROUPS..GROUPS + number(LARGE_GROUPS);
    hostile.extend(large.map(|group| Hostile::connect(&broker, join(group, LARGE_GROUP_BYTES))));
    let mut peak = 0;
    let pushed = Instant::now();
    while pushed.elapsed() < Duration::from_secs(2) {
        hostile.iter_mut().for_each(Hostile::push);
        peak = peak.max(resident(&broker));
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut turn = 0;
    let during = good.latencies(100, || {
        turn += 1;
        if turn % 10 == 0 {
            hostile.iter_mut().for_each(Hostile::push);
            peak = peak.max(resident(&broker));
        }
    });
    // A newcomer is served as well, and so is a request that needs memory of the common share.
    let mut newcomer = Client::connect(&broker);
    assert!(!newcomer.call(&declared(0, &ApiVersionsRequest::default())).is_empty());
    let large = produce(LARGE_PRODUCE_BYTES);
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        let began = Instant::now();
        newcomer.call(&large);
        longest = longest.max(began.elapsed());
        hostile.iter_mut().for_each(Hostile::push);
        peak = peak.max(resident(&broker));
    }

    let share = hostile.len() * CONNECTION_BYTES_MAX;
    let attempted = number(HALF) * HALF_BYTES;
    let groups = number(LARGE_GROUPS) * LARGE_GROUP_BYTES;
    let most = base
        + QUEUED_BYTES_MAX
        + COORDINATOR_MEMBERS_BYTES_MAX
        + share.min(number(HALF) * CONNECTION_BYTES_MAX + hostile.len() * (32 << 10))
        + SLACK_BYTES;
    let mib = |bytes: usize| bytes >> 20;
    let at = |times: &[Duration], percent: usize| times[times.len() * percent / 100];
    println!(
        "{} hostile connections: {} MiB resident, {} before, at most {} (half requests alone are {}, groups \
         {}); a produce took {:?} (99 %: {:?}), before {:?} ({:?}), a large one up to {longest:?}",
        hostile.len(),
        mib(peak),
        mib(base),
        mib(most),
        mib(attempted),
        mib(groups),
        at(&during, 50),
        at(&during, 99),
        at(&before, 50),
        at(&before, 99),
    );
    assert!(peak <= most, "{} MiB resident, at most {}", mib(peak), mib(most));
    let patience = 5 * at(&before, 50) + Duration::from_millis(50);
    assert!(at(&during, 50) <= patience, "{:?} before, {:?} now", at(&before, 50), at(&during, 50));
    // None of them is stuck behind hostile work, either: those right behind a push share two cores with all
    // that it sends, on a machine that may do much else.
    let patience = 10 * at(&before, 99) + Duration::from_secs(5);
    assert!(at(&during, 99) <= patience, "{:?} before, {:?} now", at(&before, 99), at(&during, 99));
    assert!(longest <= Duration::from_secs(30), "a large produce took {longest:?}");
    drop(hostile);
    // Rid of them, it is as it was.
    good.latencies(10, || {});
}
