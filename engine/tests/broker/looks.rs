//! A disk that does not say what is on it: listings, lengths and the room that there is. What cannot be
//! seen is not gone.

use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::oneshot;
use trialog_engine::broker::{self, Shared};
use trialog_engine::id::{CoreId, PartitionIndex, TopicId};
use trialog_engine::io::Io;
use trialog_engine::io::ram::{Call, Effect, Fault, Loss, Ram};
use trialog_engine::wire::code::ErrorCode;

use super::operator::delete_topic;
use super::peer::{self, Peer, To, batch, values};
use super::{topic, with_broker};

fn fails(ram: &Ram, call: Call, after: u64, times: u64) {
    ram.inject(Fault { call, after, times, effect: Effect::Eio });
}

/// Starts a broker that may refuse to: why it does.
async fn try_start(ram: &Ram) -> Result<Arc<Shared<Ram>>, String> {
    let shared = peer::prepare(1, &[], None);
    let (ended, end) = oneshot::channel();
    let (io, own) = (ram.clone(), shared.clone());
    ram.spawn(async move {
        let _ = ended.send(broker::run(io, CoreId(0), own).await);
    });
    match select(pin!(shared.listening()), pin!(end)).await {
        Either::Left(_) => {}
        Either::Right((end, _)) => {
            let refused = end.expect("it says how it ended").expect_err("nobody has stopped it");
            return Err(refused.to_string());
        }
    }
    Ok(shared)
}

/// What every partition of a topic answers to who reads it from the beginning.
async fn read(peer: &mut Peer, name: &str) -> Vec<(ErrorCode, Vec<String>)> {
    let mut all = Vec::new();
    for index in (0..3).map(PartitionIndex) {
        let to = To { name, id: TopicId::NONE, index };
        let (answer, records) = peer.fetch(12, &to, 0, 0).await;
        let records = values(&records).into_iter().map(|(_, value)| value).collect();
        all.push((answer.error, records));
    }
    all
}

/// A folder that cannot be listed is not an empty one, and a file whose length is not known is not
/// short: a start is refused, or a partition is offline, until it is tried again. Nothing is removed but
/// what is left of a deleted topic, and that in the end.
#[test]
fn what_cannot_be_seen_is_not_gone() {
    let (mut refused, mut offline, mut struck) = (0, 0, 0);
    for is_clean in [false, true] {
        for (call, after) in [Call::List, Call::Length]
            .into_iter()
            .flat_map(|call| (0..12).map(move |at| (call, at)))
        {
            let ram = Ram::new(after + 3);
            let world = ram.clone();
            ram.block_on(async {
                let shared = try_start(&world).await.expect("a sound disk");
                let mut peer = Peer::connect(&world, &shared).await;
                for name in ["kept", "gone"] {
                    let to = topic(&mut peer, name, &[]).await;
                    for index in (0..3).map(PartitionIndex) {
                        let to = To { index, ..to };
                        assert_eq!(
                            peer.produce(9, &to, &batch(&[name])).await.error,
                            ErrorCode::None
                        );
                    }
                }
                if is_clean {
                    delete_topic(&mut peer, "gone").await;
                    world.sleep(Duration::from_secs(1)).await;
                    shared.stop();
                } else {
                    // Its files stay, and the next start has to look for them.
                    fails(&world, Call::Remove, 0, 1000);
                    delete_topic(&mut peer, "gone").await;
                }
                world.sleep(Duration::from_secs(5)).await;
            });
            let whole = vec![(ErrorCode::None, vec!["kept".to_owned()]); 3];
            let ram = ram.crash(Loss::Nothing);
            let world = ram.clone();
            fails(&ram, call, after, 1);
            ram.block_on(async {
                match try_start(&world).await {
                    Err(_) => refused += 1,
                    Ok(shared) => {
                        let mut peer = Peer::connect(&world, &shared).await;
                        for (found, whole) in read(&mut peer, "kept").await.into_iter().zip(&whole)
                        {
                            let is_offline = found.0 == ErrorCode::KafkaStorageError;
                            offline += usize::from(is_offline);
                            assert!(is_offline || found == *whole, "{call:?} {after}: {found:?}");
                        }
                    }
                }
            });
            struck += ram.faults_hit();
            let ram = ram.crash(Loss::Everything);
            let world = ram.clone();
            ram.block_on(async {
                let shared = try_start(&world).await.expect("a sound disk again");
                let mut peer = Peer::connect(&world, &shared).await;
                assert_eq!(read(&mut peer, "kept").await, whole, "{call:?} {after}");
                // A clean stop leaves the deleted topic's folder, with nothing in it.
                let gone = world.list(Path::new("/data/topics/gone")).await.unwrap_or_default();
                assert_eq!(gone, [], "{call:?} {after}");
            });
        }
    }
    assert!(refused > 5 && offline > 2 && struck > 20, "{refused} {offline} {struck}");
}

/// A full disk that does not say so for once is not believed to have room; and one that never says
/// anything is not believed to be full for ever.
#[test]
fn room_that_is_not_told_is_as_it_was() {
    let settings = [("trialog.disk.free.min.bytes", "100000")];
    with_broker(1, &settings, async |ram, shared, mut peer| {
        let to = topic(&mut peer, "full", &[]).await;
        let second = Duration::from_secs(1);
        ram.set_capacity(ram.used() + 50_000);
        ram.sleep(2 * second).await;
        assert!(shared.is_full());
        fails(&ram, Call::Space, 0, 3);
        for _ in 0..30 {
            ram.sleep(second / 5).await;
            assert!(shared.is_full(), "a look that failed has changed its mind");
        }
        assert_eq!(ram.faults_hit(), 3);
        fails(&ram, Call::Space, 0, u64::MAX);
        ram.sleep(10 * second).await;
        assert!(!shared.is_full(), "only a write can tell");
        assert_eq!(peer.produce(9, &to, &batch(&["x"])).await.error, ErrorCode::None);
    });
}
