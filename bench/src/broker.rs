//! The broker under test: one core of it on the server's core of this process, over the real kernel.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use trialog_engine::broker::{self, AdminWish, Options, Shared};
use trialog_engine::config;
use trialog_engine::id::{
    CoreId, CorrelationId, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicId,
};
use trialog_engine::io::kernel::{self, KernelIo};
use trialog_engine::wire::api::{
    ApiKey, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicState, DeleteTopicsRequest, Message, MetadataRequest, MetadataRequestTopic,
};
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::codec::Reader;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchTopic};
use trialog_engine::wire::frame::{self, RequestHeader};
use trialog_engine::wire::produce::{ProducePartition, ProduceRequest, ProduceTopic};

use crate::load;
use crate::machine::{SERVER_CORE, pin};

/// A running broker.
pub struct Broker {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared<KernelIo>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// When a topic acknowledges.
#[derive(Clone, Copy)]
pub enum Durability {
    /// Once it is in the page cache (D1).
    PageCache,
    /// Once it is on the disk (D2).
    Flushed,
}

impl Durability {
    /// The value of `trialog.durability`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Durability::PageCache => "page-cache",
            Durability::Flushed => "flush",
        }
    }
}

/// A version whose answers have a fixed size.
const PRODUCE_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 11;

impl Broker {
    /// Starts one with its data in `dir`.
    #[must_use]
    pub fn start(dir: &Path) -> Broker {
        let shared = Shared::new(Options {
            config: config::Broker::parse::<&str, &str>([]).expect("the defaults are legal"),
            data: dir.join("data"),
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
            admin: None,
            loggers: None,
            cores: 1,
        });
        let (told, address) = std::sync::mpsc::channel();
        let thread = std::thread::spawn({
            let shared = shared.clone();
            move || {
                let body = async |io: KernelIo| {
                    use trialog_engine::io::Io;
                    let listening = shared.clone();
                    io.spawn(async move {
                        let address = listening.listening().await.expect("it listens");
                        told.send(address).expect("somebody waits");
                    });
                    broker::run(io, CoreId(0), shared).await.expect("it runs");
                };
                // The kernel world counts only the processors that its thread was allowed.
                pin(SERVER_CORE);
                kernel::run(0, body).expect("the kernel allows rings");
            }
        });
        let address = address.recv().expect("it starts");
        Broker { address, shared, thread: Some(thread) }
    }

    /// Makes a topic of one partition that is acknowledged from the page cache.
    pub fn create(&self, name: &str) {
        self.create_as(name, 1, Durability::PageCache);
    }

    /// Makes a topic.
    pub fn create_as(&self, name: &str, partitions: i32, durability: Durability) {
        create_as(self.address, name, partitions, durability);
    }

    /// Deletes a topic.
    pub fn delete(&self, name: &str) {
        let state = DeleteTopicState { name: Some(name.to_owned()), topic_id: TopicId::NONE };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: 30_000,
            ..DeleteTopicsRequest::default()
        };
        let bytes = frame_of(ApiKey::DeleteTopics as i16, 6, |out| request.encode(out, 6));
        load::call(&mut load::connect(self.address), &bytes);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the broker ends without a panic");
        }
    }
}

/// Runs a broker of one core on this thread, with its data in `data`: prints where it listens for
/// clients and, in a second line, for operators, and serves until standard input ends, and closes its
/// logs then.
pub fn serve(data: &Path, settings: &[(&str, &str)]) {
    let shared = Shared::new(Options {
        config: config::Broker::parse(settings.iter().copied()).expect("settings are legal"),
        data: data.to_owned(),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()],
        cores: 1,
        loggers: None,
        admin: Some(AdminWish {
            address: "127.0.0.1:0".parse().expect("an address"),
            optional: false,
            usage: || None,
        }),
    });
    let ends = shared.clone();
    std::thread::spawn(move || {
        let mut nothing = Vec::new();
        // However it ends, so does the broker.
        let _ = std::io::Read::read_to_end(&mut std::io::stdin(), &mut nothing);
        ends.stop();
    });
    let body = async |io: KernelIo| {
        use trialog_engine::io::Io;
        let listening = shared.clone();
        io.spawn(async move {
            let address = listening.listening().await.expect("it listens");
            let admin = listening.admin_listening().await.expect("it listens");
            println!("{address}\n{admin}");
        });
        broker::run(io, CoreId(0), shared).await.expect("it runs");
    };
    kernel::run(0, body).expect("the kernel lets a core start");
}

/// Makes a topic whose records are acknowledged from the page cache.
pub fn create(address: SocketAddr, name: &str, partitions: i32) {
    create_as(address, name, partitions, Durability::PageCache);
}

/// Makes a topic.
pub fn create_as(address: SocketAddr, name: &str, partitions: i32, durability: Durability) {
    let config = |name: &str, value: &str| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    };
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: vec![
            config("trialog.durability", durability.name()),
            config("max.message.bytes", "4000000"),
        ],
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
        ..CreateTopicsRequest::default()
    };
    let bytes = frame_of(ApiKey::CreateTopics as i16, 7, |out| request.encode(out, 7));
    let answer = load::call(&mut load::connect(address), &bytes);
    let body = frame::response_body(&answer, ApiKey::CreateTopics as i16, 7).expect("a header");
    let response = CreateTopicsResponse::decode(&mut Reader::new(&answer[body..]), 7);
    let topic = &response.expect("an answer").topics[0];
    assert_eq!(topic.error_code, 0, "{:?}", topic.error_message);
}

/// A request for the metadata of one topic.
#[must_use]
pub fn metadata(topic: &str) -> Vec<u8> {
    let topic = MetadataRequestTopic { name: Some(topic.to_owned()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    frame_of(ApiKey::Metadata as i16, 8, |out| request.encode(out, 8))
}

/// A batch with `records` records of `size` bytes each.
#[must_use]
pub fn batch(records: usize, size: usize) -> Vec<u8> {
    let mut batch = Builder::new();
    let value = vec![b'x'; size];
    let now = now_ms();
    for _ in 0..records {
        batch.push(now, None, Some(&value), &[]);
    }
    batch.finish()
}

/// A produce request of one such batch, to partition 0.
#[must_use]
pub fn produce(topic: &str, records: usize, size: usize) -> Vec<u8> {
    produce_batch(topic, 1, &batch(records, size))
}

/// A produce request of one record for each of the topic's first `partitions` partitions.
#[must_use]
pub fn produce_to_all(topic: &str, partitions: i32, size: usize) -> Vec<u8> {
    produce_batch(topic, partitions, &batch(1, size))
}

/// A produce request of one record of `size` bytes by a producer that numbers its records.
#[must_use]
pub fn idempotent(topic: &str, size: usize, sequence: i32) -> Vec<u8> {
    let mut batch = Builder::new().producer(ProducerId(1), ProducerEpoch(0), sequence);
    batch.push(now_ms(), None, Some(&vec![b'x'; size]), &[]);
    produce_batch(topic, 1, &batch.finish())
}

/// A produce request of one batch to one partition.
#[must_use]
pub fn produce_to(topic: &str, partition: i32, records: usize, size: usize) -> Vec<u8> {
    produce_batches(topic, partition..partition + 1, &batch(records, size))
}

fn produce_batch(topic: &str, partitions: i32, batch: &[u8]) -> Vec<u8> {
    produce_batches(topic, 0..partitions, batch)
}

fn produce_batches(topic: &str, partitions: std::ops::Range<i32>, batch: &[u8]) -> Vec<u8> {
    let partition = |index| ProducePartition { index: PartitionIndex(index), records: Some(batch) };
    let request = ProduceRequest {
        transactional_id: None,
        acks: 1,
        timeout_ms: 30_000,
        topics: vec![ProduceTopic {
            name: topic,
            topic_id: TopicId::NONE,
            partitions: partitions.map(partition).collect(),
        }],
    };
    frame_of(ApiKey::Produce as i16, PRODUCE_VERSION, |out| request.encode(out, PRODUCE_VERSION))
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
    i64::try_from(now.as_millis()).expect("before the year 292 million")
}

/// A fetch request of up to `bytes` of partition 0 from `offset` on.
#[must_use]
pub fn fetch(topic: &str, offset: i64, bytes: i32) -> Vec<u8> {
    fetch_from(topic, 0, offset, bytes, 100)
}

/// A fetch request that waits up to `wait_ms` for the first byte.
#[must_use]
pub fn fetch_from(topic: &str, partition: i32, offset: i64, bytes: i32, wait_ms: i32) -> Vec<u8> {
    let request = FetchRequest {
        replica_id: NodeId(-1),
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: bytes,
        session_epoch: -1,
        topics: vec![FetchTopic {
            name: topic.to_owned(),
            topic_id: TopicId::NONE,
            partitions: vec![FetchPartition {
                index: PartitionIndex(partition),
                current_leader_epoch: LeaderEpoch::NONE,
                fetch_offset: Offset(offset),
                max_bytes: bytes,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    };
    frame_of(ApiKey::Fetch as i16, FETCH_VERSION, |out| request.encode(out, FETCH_VERSION))
}

fn frame_of(key: i16, version: i16, write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    let start = frame::begin_frame(&mut out);
    let header = RequestHeader {
        api_key: key,
        api_version: version,
        correlation_id: CorrelationId(1),
        client_id: Some("bench"),
    };
    header.encode(&mut out);
    write(&mut out);
    frame::end_frame(&mut out, start, 0);
    out
}
