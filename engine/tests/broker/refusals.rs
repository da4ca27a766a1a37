//! What the log says about requests that are refused: the reason, the client, and what would help.

use std::io::Write;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use tracing::Dispatch;
use tracing_subscriber::filter::LevelFilter;
use trialog_engine::id::{PartitionIndex, ProducerEpoch, ProducerId, TopicId};
use trialog_engine::limit::REFUSALS_LOGGED_MAX;
use trialog_engine::wire::api::{
    FindCoordinatorRequest, OffsetForLeaderEpochRequest, OffsetForLeaderPartition,
    OffsetForLeaderTopic,
};
use trialog_engine::wire::batch::Builder;

use super::peer::{Peer, To, batch, fetch_request};
use super::{metadata, offset_at, topic, with_broker};

/// What was logged.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

impl Write for Said {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Said {
    /// The lines about refused requests since the last call.
    fn lines(&self) -> Vec<String> {
        let said = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let said = String::from_utf8(said).expect("text");
        said.lines().filter(|line| line.contains("refused")).map(str::to_owned).collect()
    }
}

/// Somebody who never goes away and would hear everything. What nobody listens to is not said, and who
/// listens is looked up anew, beside the other tests, whenever somebody comes or goes.
static LISTENER: LazyLock<Dispatch> = LazyLock::new(|| {
    let log = tracing_subscriber::fmt().with_max_level(LevelFilter::DEBUG);
    Dispatch::new(log.with_writer(std::io::sink).finish())
});

/// Runs `body` with a broker whose log is heard.
fn overheard(body: impl AsyncFnOnce(Said, Peer)) {
    LazyLock::force(&LISTENER);
    let said = Said::default();
    let writer = said.clone();
    let log = tracing_subscriber::fmt()
        .with_max_level(LevelFilter::DEBUG)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let settings = [("auto.create.topics.enable", "false"), ("delete.topic.enable", "false")];
    tracing::subscriber::with_default(log, || {
        with_broker(1, &settings, async |_, _, peer| body(said, peer).await);
    });
}

/// The one line that was said has these words, and all that every such line has.
#[track_caller]
fn one(said: &Said, level: &str, words: &[&str]) {
    let lines = said.lines();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    let line = &lines[0];
    for word in words.iter().chain(&[level, "client=127.0.0.1:", "client_id=\"peer\"", "reason="]) {
        assert!(line.contains(word), "{word:?} is not in {line}");
    }
    let remedy = line.split("remedy=\"").nth(1).unwrap_or_default();
    assert!(remedy.len() > 10 && !remedy.contains("see the reason"), "{line}");
}

#[test]
fn a_refusal_names_its_reason_the_client_and_a_remedy() {
    overheard(async |said, mut peer| {
        let to = topic(&mut peer, "heard", &[]).await;
        let beyond = To { index: PartitionIndex(9), ..to };
        let unknown = To { name: "nowhere", id: TopicId::NONE, ..to };
        assert_eq!(said.lines(), Vec::<String>::new());

        metadata(&mut peer, 9, "nowhere").await;
        one(&said, "WARN", &["api=\"Metadata\"", "nowhere", "make the topic"]);
        metadata(&mut peer, 9, "no/such name").await;
        one(&said, "WARN", &["no/such name", "letters, digits"]);
        offset_at(&mut peer, 7, &beyond, -1).await;
        one(&said, "WARN", &["api=\"ListOffsets\"", "heard partition 9"]);
        offset_at(&mut peer, 6, &to, -3).await;
        one(&said, "WARN", &["heard partition 1", "timestamp -3", "newer client"]);
        let request = OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![OffsetForLeaderTopic {
                topic: "heard".to_owned(),
                partitions: vec![OffsetForLeaderPartition {
                    partition: 1,
                    current_leader_epoch: 7,
                    leader_epoch: 0,
                }],
            }],
        };
        peer.call(4, &request).await;
        one(
            &said,
            "DEBUG",
            &["api=\"OffsetForLeaderEpoch\"", "heard partition 1", "asks for metadata"],
        );

        // A fetch of one partition, and one with a session.
        peer.fetch(12, &unknown, 0, 0).await;
        one(&said, "WARN", &["api=\"Fetch\"", "nowhere partition 1"]);
        peer.fetch(13, &to, 99, 0).await;
        one(&said, "DEBUG", &["heard partition 1 from offset 99, of 0 to 0", "auto.offset.reset"]);
        let mut request = fetch_request(&to, 99, 0);
        request.session_epoch = 0;
        peer.send_fetch(13, &request).await;
        let session = peer.receive_fetch(13).await.0.session_id;
        one(&said, "DEBUG", &["heard partition 1 from offset 99"]);
        (request.session_id, request.session_epoch) = (session, 5);
        peer.send_fetch(13, &request).await;
        peer.receive_fetch(13).await;
        one(&said, "DEBUG", &["fetch session", "epoch 5", "begins a new session"]);

        // A produce that is coupled, and one that is not.
        let producer = (ProducerId(1), ProducerEpoch(0));
        let mut opening = Builder::new().producer(producer.0, producer.1, 0).transactional();
        opening.push(1_700_000_000_000, None, None, &[]);
        peer.produce(9, &to, &opening.finish()).await;
        one(&said, "WARN", &["api=\"Produce\"", "heard partition 1", "transactional.id unset"]);
        let gap = super::idempotent(4000, 0, 0, &["a"]);
        peer.produce(9, &to, &gap).await;
        peer.produce(9, &to, &super::idempotent(4000, 0, 7, &["b"])).await;
        one(&said, "WARN", &["heard partition 1", "raises its epoch"]);

        peer.create("heard", 1, &[]).await;
        one(&said, "WARN", &["api=\"CreateTopics\"", "'heard' already exists", "another name"]);
        peer.create("other", 1, &[("retention.m", "1")]).await;
        one(&said, "WARN", &["retention.m", "trialog config explain"]);
        let request = FindCoordinatorRequest {
            key: "mine".to_owned(),
            key_type: 1,
            ..FindCoordinatorRequest::default()
        };
        peer.call(1, &request).await;
        one(&said, "WARN", &["api=\"FindCoordinator\"", "mine", "leave transactional.id unset"]);
    });
}

#[test]
fn a_flood_of_refusals_leaves_room_for_others() {
    overheard(async |said, mut peer| {
        let to = topic(&mut peer, "flooded", &[]).await;
        let mut damaged = batch(&["bits"]);
        *damaged.last_mut().expect("bytes") ^= 1;
        for _ in 0..1000 {
            peer.produce(9, &to, &damaged).await;
        }
        let lines = said.lines();
        let most = REFUSALS_LOGGED_MAX as usize;
        assert!((most..most + 5).contains(&lines.len()), "{}", lines.len());
        drop(peer);
    });
}
