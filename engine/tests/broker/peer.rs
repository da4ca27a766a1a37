//! A broker on a RAM world, and a client that is nothing but frames.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use trialog_engine::broker::{self, AdminWish, Listen, Loggers, Options, Shared};
use trialog_engine::config;
use trialog_engine::id::{
    CoreId, CorrelationId, LeaderEpoch, NodeId, Offset, PartitionIndex, ProducerEpoch, ProducerId,
    TopicId,
};
use trialog_engine::io::ram::{Ram, RamConnection};
use trialog_engine::io::{self, Buf, Connection, Flow, Io};
use trialog_engine::wire::api::{
    ApiKey, CreatableTopic, CreatableTopicConfig, CreateTopicsRequest, CreateTopicsResponse,
    Message, Request,
};
use trialog_engine::wire::batch::Builder;
use trialog_engine::wire::codec::Reader;
use trialog_engine::wire::fetch::{
    FetchPartition, FetchPartitionResponse, FetchRequest, FetchResponse, FetchTopic,
};
use trialog_engine::wire::frame::{self, RequestHeader};
use trialog_engine::wire::produce::{
    ProducePartition, ProducePartitionResponse, ProduceRequest, ProduceResponse, ProduceTopic,
};

/// Starts a broker with `cores` cores and `settings` in the world `ram`.
pub fn start(ram: &Ram, cores: u16, settings: &[(&str, &str)]) -> Arc<Shared<Ram>> {
    let shared = prepare(cores, settings, None);
    run(ram, &shared, cores);
    shared
}

/// A broker that has not started.
pub fn prepare(
    cores: u16,
    settings: &[(&str, &str)],
    admin: Option<AdminWish>,
) -> Arc<Shared<Ram>> {
    let config = config::Broker::parse(settings.iter().copied()).expect("legal settings");
    let listen = |listener: &config::Listener| {
        let address = format!("{}:{}", listener.host, listener.port);
        let address = address.parse().expect("an address");
        Listen { name: listener.name.as_str().into(), address }
    };
    Shared::new(Options {
        listen: config.listeners.iter().map(listen).collect(),
        config,
        data: PathBuf::from("/data"),
        admin,
        cores,
        loggers: Some(Arc::new(Loggers::new("info", |_| ()))),
    })
}

/// Runs it.
pub fn run(ram: &Ram, shared: &Arc<Shared<Ram>>, cores: u16) {
    for core in 0..cores {
        let (io, shared) = (ram.clone(), shared.clone());
        ram.spawn(async move {
            broker::run(io, CoreId(core), shared).await.expect("the broker starts");
        });
    }
}

/// One connection that speaks in frames.
pub struct Peer {
    connection: RamConnection,
    /// What it calls itself.
    name: &'static str,
    sent: i32,
    buf: Vec<u8>,
    /// What is to be sent in one piece.
    held: Option<Vec<u8>>,
}

impl Peer {
    pub async fn connect(ram: &Ram, broker: &Shared<Ram>) -> Peer {
        let address = broker.listening().await.expect("it listens");
        Peer::connect_to(ram, address).await
    }

    pub async fn connect_to(ram: &Ram, address: SocketAddr) -> Peer {
        let connection = ram.connect(address).await.expect("it accepts");
        Peer { connection, name: "peer", sent: 0, buf: Vec::new(), held: None }
    }

    /// Changes what it calls itself.
    pub fn call_itself(&mut self, name: &'static str) {
        self.name = name;
    }

    /// The number of the request that was sent last, counted from 1.
    pub fn last_sent(&self) -> i32 {
        self.sent
    }

    /// Keeps what is sent from now on until [`Peer::release`].
    pub fn hold(&mut self) {
        self.held = Some(Vec::new());
    }

    /// Sends all that was held in one piece.
    pub async fn release(&mut self) {
        let held = self.held.take().expect("it was held");
        self.send_raw(&held).await;
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        if let Some(held) = &mut self.held {
            held.extend_from_slice(bytes);
            return;
        }
        // A broker that has closed the connection meanwhile is noticed when reading.
        let _ = io::write_all(&self.connection, Buf::from(bytes), Flow::Done).await;
    }

    /// Sends a request whose body `write` appends.
    pub async fn send(&mut self, key: i16, version: i16, write: impl FnOnce(&mut Vec<u8>)) {
        self.sent += 1;
        let mut out = Vec::new();
        let start = frame::begin_frame(&mut out);
        let header = RequestHeader {
            api_key: key,
            api_version: version,
            correlation_id: CorrelationId(self.sent),
            client_id: Some(self.name),
        };
        header.encode(&mut out);
        write(&mut out);
        frame::end_frame(&mut out, start, 0);
        self.send_raw(&out).await;
    }

    /// The next frame without its size; `None` when the broker has closed the connection.
    pub async fn receive(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(size) = frame::frame_size(&self.buf).expect("a sane answer")
                && self.buf.len() >= frame::SIZE_BYTES + size
            {
                let rest = self.buf.split_off(frame::SIZE_BYTES + size);
                let frame = std::mem::replace(&mut self.buf, rest);
                return Some(frame[frame::SIZE_BYTES..].to_vec());
            }
            let (read, buf) = self.connection.read(Buf::with_capacity(1 << 16)).await;
            match read {
                Ok(read) if read > 0 => self.buf.extend_from_slice(&buf),
                _ => return None,
            }
        }
    }

    /// Sends a declared request and decodes its answer.
    pub async fn call<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        self.send(R::KEY as i16, version, |out| request.encode(out, version)).await;
        let frame = self.receive().await.expect("an answer");
        let id = frame::response_correlation_id(&frame).expect("a header");
        assert_eq!(id, CorrelationId(self.sent));
        let body = frame::response_body(&frame, R::KEY as i16, version).expect("a header");
        let mut reader = Reader::new(&frame[body..]);
        let response = R::Response::decode(&mut reader, version).expect("an answer");
        assert_eq!(reader.remaining(), 0, "nothing behind the answer");
        response
    }

    pub async fn create(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreateTopicsResponse {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).to_owned(),
            value: Some((*value).to_owned()),
        };
        let topic = CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 30_000,
            ..CreateTopicsRequest::default()
        };
        self.call(7, &request).await
    }

    /// Sends one batch to one partition.
    pub async fn send_produce(&mut self, version: i16, to: &To<'_>, acks: i16, batch: &[u8]) {
        let request = ProduceRequest {
            transactional_id: None,
            acks,
            timeout_ms: 30_000,
            topics: vec![ProduceTopic {
                name: to.name,
                topic_id: to.id,
                partitions: vec![ProducePartition { index: to.index, records: Some(batch) }],
            }],
        };
        self.send(ApiKey::Produce as i16, version, |out| request.encode(out, version)).await;
    }

    pub async fn receive_produce(&mut self, version: i16) -> ProducePartitionResponse {
        self.receive_numbered(version).await.1
    }

    /// An answer to a produce, and which request it answers, counted from 1.
    pub async fn receive_numbered(&mut self, version: i16) -> (i32, ProducePartitionResponse) {
        let frame = self.receive().await.expect("an answer");
        let id = frame::response_correlation_id(&frame).expect("a header");
        let body = frame::response_body(&frame, ApiKey::Produce as i16, version).expect("a header");
        let response = ProduceResponse::decode(&frame[body..], version).expect("an answer");
        (id.0, response.topics[0].partitions[0].clone())
    }

    pub async fn produce(
        &mut self,
        version: i16,
        to: &To<'_>,
        batch: &[u8],
    ) -> ProducePartitionResponse {
        self.send_produce(version, to, -1, batch).await;
        self.receive_produce(version).await
    }

    /// Fetches from one partition; the records are those bytes of the answer.
    pub async fn fetch(
        &mut self,
        version: i16,
        to: &To<'_>,
        from: i64,
        wait_ms: i32,
    ) -> (FetchPartitionResponse<Range<usize>>, Vec<u8>) {
        self.send_fetch(version, &fetch_request(to, from, wait_ms)).await;
        let (response, records) = self.receive_fetch(version).await;
        let partition = response.topics[0].partitions[0].clone();
        (partition, records)
    }

    pub async fn send_fetch(&mut self, version: i16, request: &FetchRequest) {
        self.send(ApiKey::Fetch as i16, version, |out| request.encode(out, version)).await;
    }

    /// An answer to a fetch, and all its record bytes.
    pub async fn receive_fetch(&mut self, version: i16) -> (FetchResponse<Range<usize>>, Vec<u8>) {
        let frame = self.receive().await.expect("an answer");
        let body = frame::response_body(&frame, ApiKey::Fetch as i16, version).expect("a header");
        let bytes = &frame[body..];
        let response = FetchResponse::<Range<usize>>::decode(bytes, version).expect("an answer");
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let records = partitions.flat_map(|partition| &bytes[partition.records.clone()]);
        let records = records.copied().collect();
        (response, records)
    }
}

/// One partition, by name and id.
pub struct To<'a> {
    pub name: &'a str,
    pub id: TopicId,
    pub index: PartitionIndex,
}

pub fn fetch_request(to: &To<'_>, from: i64, wait_ms: i32) -> FetchRequest {
    FetchRequest {
        replica_id: NodeId(-1),
        max_wait_ms: wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic {
            name: to.name.to_owned(),
            topic_id: to.id,
            partitions: vec![FetchPartition {
                index: to.index,
                current_leader_epoch: LeaderEpoch::NONE,
                fetch_offset: Offset(from),
                max_bytes: 1 << 20,
                ..FetchPartition::default()
            }],
        }],
        ..FetchRequest::default()
    }
}

/// A batch of records with these values.
pub fn batch(values: &[&str]) -> Vec<u8> {
    fill(Builder::new(), values)
}

/// The same of an idempotent producer.
pub fn idempotent(producer: i64, epoch: i16, sequence: i32, values: &[&str]) -> Vec<u8> {
    fill(Builder::new().producer(ProducerId(producer), ProducerEpoch(epoch), sequence), values)
}

fn fill(mut builder: Builder, values: &[&str]) -> Vec<u8> {
    for value in values {
        builder.push(1_700_000_000_000, None, Some(value.as_bytes()), &[]);
    }
    builder.finish()
}

/// The values of all records in `bytes`, and the offset of each.
pub fn values(mut bytes: &[u8]) -> Vec<(i64, String)> {
    let mut values = Vec::new();
    while !bytes.is_empty() {
        let batch = trialog_engine::wire::batch::Batch::parse(bytes).expect("a whole batch");
        assert!(batch.crc_matches());
        for record in batch.contents().expect("readable").records() {
            let record = record.expect("a record");
            let value = String::from_utf8(record.value.unwrap_or_default().to_vec());
            values.push((record.offset.0, value.expect("text")));
        }
        bytes = &bytes[batch.size()..];
    }
    values
}
