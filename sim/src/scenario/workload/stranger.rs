//! A stranger: speaks the protocol wrongly, or of what never was, and hears how it is answered.
//!
//! It is made of nothing but frames. What cannot be decoded, and what is not served, must do no harm
//! to anybody else; what names a fetch session that is not there, or a wrong turn of one, must not
//! be answered as if it were right; and what a fetch says of a history that parts from the log's
//! must be told where (KIP-595), never beyond what was asked.

use trialog_engine::broker::SERVED;
use trialog_engine::client::{Client, Start};
use trialog_engine::id::{LeaderEpoch, PartitionIndex, TopicId};
use trialog_engine::wire::api::{ApiKey, MetadataRequest, MetadataRequestTopic};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic};

use super::wire::{Wire, at_most};
use crate::invariant::after::EpochEnd;
use crate::io::SimIo;
use crate::scenario::shape::{Oddity, StrangerShape};
use crate::scenario::stage::{Actor, Voice};
use crate::seed::Stream;

/// The newest version of Fetch in which topics have names.
const VERSION: i16 = 12;
/// A session that nobody has, as good as certainly.
const NO_SESSION: i32 = 7_777_777;

/// A stranger's program.
pub(super) async fn perform(actor: Actor, shape: StrangerShape) {
    super::admin::prepare(&actor).await;
    let voice = actor.voice();
    while !actor.stage.curtain() {
        let (mut random, left_out) = actor.step();
        let oddity = random.pick(&shape.oddities);
        if !left_out {
            let limit = actor.shape().request_timeout;
            let _ = at_most(&actor.io, limit, make(&voice, oddity, &mut random)).await;
        }
        actor.pause(&mut random, shape.pause).await;
    }
}

/// One oddity, on a connection of its own.
async fn make(voice: &Voice, oddity: Oddity, random: &mut Stream) -> Option<()> {
    let wire = &mut Wire::open(&voice.actor, "stranger").await?;
    match oddity {
        Oddity::Malformed => {
            let (api, versions) = &SERVED[random.below(SERVED.len() as u64) as usize];
            let body = vec![random.pick(&[0, 1, 0x7f, 0xff]); random.below(12) as usize];
            wire.ask(*api, *versions.end(), |out| out.extend_from_slice(&body)).await?;
            wire.hear().await?;
        }
        Oddity::Version => {
            let (api, versions) = &SERVED[random.below(SERVED.len() as u64) as usize];
            let version = random.pick(&[versions.start() - 1, versions.end() + 1, i16::MAX]);
            wire.ask(*api, version, |_| ()).await?;
            wire.hear().await?;
        }
        Oddity::SessionOfNobody => {
            let told = fetch(voice, wire, (NO_SESSION, 1), FetchPartition::default()).await?;
            expect_refused(voice, &told, "a session that is not there");
        }
        Oddity::SessionEpoch => {
            let opened = fetch(voice, wire, (0, 0), FetchPartition::default()).await?;
            if opened.session_id != 0 {
                let turn = (opened.session_id, random.within(2..9) as i32);
                let told = fetch(voice, wire, turn, FetchPartition::default()).await?;
                expect_refused(voice, &told, "a turn of its session that is yet to come");
                if random.chance(1, 2) {
                    // Ends the session; else it is left to itself.
                    fetch(voice, wire, (opened.session_id, -1), FetchPartition::default()).await?;
                }
            }
        }
        Oddity::Rush => {
            let home = voice.actor.shape().home;
            super::rush::rush(&voice.actor, home, topic(&voice.actor), random, async {}).await;
        }
        Oddity::Diverging => {
            let name = topic(&voice.actor);
            let asked = LeaderEpoch(random.below(6) as i32);
            let client = voice.actor.client();
            let now = epoch(&client, name).await?;
            let admin = client.admin();
            let end = admin.list_offset(name, PartitionIndex(0), Start::Latest).await.ok()??.0;
            let wanted = FetchPartition {
                fetch_offset: end,
                last_fetched_epoch: asked,
                max_bytes: 1000,
                ..FetchPartition::default()
            };
            let told = fetch(voice, wire, (0, -1), wanted).await?;
            for one in told.topics.iter().flat_map(|topic| &topic.partitions) {
                let Some((epoch, parts)) = one.diverging_epoch else { continue };
                if one.error == ErrorCode::None && parts > end {
                    accuse(voice, &format!("its history ends at {end}, and parts at {parts}"));
                }
                if one.error == ErrorCode::None && asked < now {
                    let told = EpochEnd { asked, epoch, end: parts };
                    let (actor, at) = (&voice.actor, voice.actor.shape().topics[0]);
                    actor.stage.told_end(at, PartitionIndex(0), told);
                }
            }
        }
    }
    Some(())
}

/// The epoch in which the first partition of a topic is.
async fn epoch(client: &Client<SimIo>, name: &str) -> Option<LeaderEpoch> {
    let topic = MetadataRequestTopic { topic_id: TopicId::NONE, name: Some(name.to_owned()) };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let answer = client.call(&request).await.ok()?;
    let partition = answer.topics.first()?.partitions.first()?;
    Some(LeaderEpoch(partition.leader_epoch))
}

/// A topic that lasts.
fn topic(actor: &Actor) -> &str {
    &actor.topic(actor.shape().topics[0]).name
}

async fn fetch(
    voice: &Voice,
    wire: &mut Wire,
    (session_id, session_epoch): (i32, i32),
    wanted: FetchPartition,
) -> Option<FetchResponse<std::ops::Range<usize>>> {
    let name = topic(&voice.actor).to_owned();
    let topic = FetchTopic { name, partitions: vec![wanted], ..FetchTopic::default() };
    let request = FetchRequest {
        min_bytes: 0,
        max_bytes: 1000,
        session_id,
        session_epoch,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    wire.ask(ApiKey::Fetch, VERSION, |out| request.encode(out, VERSION)).await?;
    let answer = wire.hear().await?;
    FetchResponse::decode(answer.body(ApiKey::Fetch, VERSION)?, VERSION).ok()
}

fn expect_refused<R>(voice: &Voice, told: &FetchResponse<R>, what: &str) {
    if told.error == ErrorCode::None {
        accuse(voice, &format!("a fetch in {what} was answered"));
    }
}

fn accuse(voice: &Voice, what: &str) {
    voice.actor.stage.accuse("fetch-session", format!("stranger {voice}: {what}"));
}
