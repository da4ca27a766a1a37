//! A tap on the wire: which Kafka requests and answers really arrived.
//!
//! It hears the bytes that the simulated network delivers, puts frames together, and knows of each
//! answer which API, version and error codes it carried: that is what a report draws between the
//! lanes. It changes nothing, draws nothing, and knows no program: bytes
//! that are no Kafka frames end its interest in their connection.

use std::collections::{BTreeMap, VecDeque};

use trialog_engine::id::TopicId;
use trialog_engine::wire::api::{
    ApiKey, ApiVersionsResponse, CreatePartitionsResponse, CreateTopicsResponse,
    DeleteRecordsResponse, DeleteTopicsResponse, DescribeClusterResponse, DescribeConfigsResponse,
    DescribeGroupsResponse, FindCoordinatorResponse, HeartbeatResponse,
    IncrementalAlterConfigsResponse, InitProducerIdResponse, JoinGroupResponse, LeaveGroupResponse,
    ListGroupsResponse, ListOffsetsResponse, Message, MetadataResponse, OffsetCommitResponse,
    OffsetFetchResponse, OffsetForLeaderEpochResponse, SyncGroupResponse,
};
use trialog_engine::wire::code::ErrorCode;
use trialog_engine::wire::fetch::FetchResponse;
use trialog_engine::wire::frame::{SIZE_BYTES, frame_size, response_body, response_correlation_id};
use trialog_engine::wire::produce::ProduceResponse;

/// A larger frame is passed over unread.
const FRAME_READ_MAX: usize = 4 << 20;
/// Requests of one connection that wait for their answers; more are forgotten.
const ASKED_MAX: usize = 1000;

/// A frame that has arrived whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Its bytes, the size in front included.
    pub bytes: usize,
    /// What is asked or answered.
    pub api: ApiKey,
    /// In which version.
    pub version: i16,
    /// The error codes of an answer, each once; none for a request.
    pub errors: Vec<i16>,
    /// What an answer says of partitions: their start and high watermark.
    pub marks: Vec<Mark>,
}

/// What a broker told a reader of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The topic's name.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Where the log starts, -1 if it is not said.
    pub start: i64,
    /// Where readers' reading ends.
    pub high: i64,
}

/// The tap of one run.
#[derive(Debug, Default)]
pub struct Tap {
    talks: BTreeMap<u64, Talk>,
    names: BTreeMap<TopicId, String>,
}

/// One connection: what has arrived of the frame that is under way, on each side, and what has
/// been asked.
#[derive(Debug, Default)]
struct Talk {
    arrived: [Vec<u8>; 2],
    asked: VecDeque<(ApiKey, i16, i32)>,
    foreign: bool,
}

impl Tap {
    /// Bytes that side `side` of a connection sent have arrived. Side 0 is who connected.
    pub fn hear(&mut self, connection: u64, side: usize, mut bytes: &[u8]) -> Vec<Heard> {
        let talk = self.talks.entry(connection).or_default();
        let mut heard = Vec::new();
        while !bytes.is_empty() && !talk.foreign {
            // Into the buffer only as far as the frame goes that is under way.
            let buffer = &mut talk.arrived[side];
            let missing = match frame_size(buffer) {
                Ok(Some(size)) => SIZE_BYTES + size - buffer.len(),
                Ok(None) => SIZE_BYTES - buffer.len(),
                Err(_) => {
                    talk.foreign = true;
                    break;
                }
            };
            let (now, later) = bytes.split_at(missing.min(bytes.len()));
            buffer.extend_from_slice(now);
            bytes = later;
            match frame_size(buffer) {
                Ok(Some(size)) if size <= FRAME_READ_MAX => {
                    if buffer.len() == SIZE_BYTES + size {
                        let frame = std::mem::take(buffer);
                        let names = &mut self.names;
                        match talk.frame(side, &frame[SIZE_BYTES..], names) {
                            Some(whole) => heard.extend(whole),
                            None => talk.foreign = true,
                        }
                    }
                }
                Ok(None) => {}
                Ok(Some(_)) | Err(_) => talk.foreign = true,
            }
        }
        heard
    }
}

impl Talk {
    /// Reads a whole frame, without its size. `None` if it is none of Kafka's; nothing inside if
    /// there is nothing to say about it.
    fn frame(
        &mut self,
        side: usize,
        frame: &[u8],
        names: &mut BTreeMap<TopicId, String>,
    ) -> Option<Option<Heard>> {
        let bytes = SIZE_BYTES + frame.len();
        let word = |at: usize| Some(i16::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        if side == 0 {
            let (api, version) = (ApiKey::from_code(word(0)?)?, word(2)?);
            let id = i32::from_be_bytes(*frame.get(4..)?.first_chunk()?);
            if self.asked.len() == ASKED_MAX {
                self.asked.pop_front();
            }
            self.asked.push_back((api, version, id));
            return Some(Some(Heard { bytes, api, version, errors: vec![], marks: vec![] }));
        }
        let id = response_correlation_id(frame).ok()?.0;
        // Answers come in order; what has none (acks=0) is passed over.
        let place = self.asked.iter().position(|asked| asked.2 == id)?;
        self.asked.drain(..place);
        let (api, version, _) = self.asked.pop_front()?;
        let body = frame.get(response_body(frame, api as i16, version).ok()?..)?;
        let Said { mut errors, marks } = said(api, version, body, names);
        errors.sort_unstable();
        errors.dedup();
        Some(Some(Heard { bytes, api, version, errors, marks }))
    }
}

/// What an answer says.
#[derive(Default)]
struct Said {
    errors: Vec<i16>,
    marks: Vec<Mark>,
}

/// Reads the body of an answer. One that is not understood says nothing.
fn said(api: ApiKey, version: i16, body: &[u8], names: &mut BTreeMap<TopicId, String>) -> Said {
    match api {
        ApiKey::Fetch => fetched(version, body, names),
        ApiKey::Produce => {
            let answer = ProduceResponse::decode(body, version);
            let topics = answer.map(|answer| answer.topics).unwrap_or_default();
            let partitions = topics.iter().flat_map(|topic| &topic.partitions);
            Said { errors: partitions.map(|p| p.error.code()).collect(), marks: Vec::new() }
        }
        _ => Said { errors: errors(api, version, body, names).unwrap_or_default(), marks: vec![] },
    }
}

fn fetched(version: i16, body: &[u8], names: &BTreeMap<TopicId, String>) -> Said {
    let Ok(answer) = FetchResponse::decode(body, version) else { return Said::default() };
    let mut said = Said { errors: vec![answer.error.code()], marks: Vec::new() };
    for topic in &answer.topics {
        let known = names.get(&topic.topic_id);
        let name = if topic.name.is_empty() { known.cloned() } else { Some(topic.name.clone()) };
        for partition in &topic.partitions {
            said.errors.push(partition.error.code());
            if partition.error == ErrorCode::None
                && let Some(topic) = &name
            {
                said.marks.push(Mark {
                    topic: topic.clone(),
                    partition: partition.index.0,
                    start: partition.log_start_offset.0,
                    high: partition.high_watermark.0,
                });
            }
        }
    }
    said
}

/// The error codes of an answer's body; none for an API that this file does not read.
fn errors(
    api: ApiKey,
    version: i16,
    body: &[u8],
    names: &mut BTreeMap<TopicId, String>,
) -> Option<Vec<i16>> {
    /// All error codes along a path of lists.
    macro_rules! codes {
        ($response:ident) => {
            vec![$response::parse(body, version).ok()?.error_code]
        };
        ($response:ident, $list:ident) => {
            $response::parse(body, version).ok()?.$list.iter().map(|item| item.error_code).collect()
        };
        ($response:ident, $list:ident, $inner:ident) => {
            $response::parse(body, version)
                .ok()?
                .$list
                .iter()
                .flat_map(|item| item.$inner.iter().map(|item| item.error_code))
                .collect()
        };
    }
    Some(match api {
        ApiKey::ApiVersions => {
            // Version 0 is how a broker answers a version that it does not know.
            let answer = ApiVersionsResponse::parse(body, version);
            let answer = answer.or_else(|_| ApiVersionsResponse::parse(body, 0));
            vec![answer.ok()?.error_code]
        }
        ApiKey::Metadata => {
            let answer = MetadataResponse::parse(body, version).ok()?;
            let mut codes = vec![answer.error_code];
            for topic in answer.topics {
                codes.push(topic.error_code);
                codes.extend(topic.partitions.iter().map(|partition| partition.error_code));
                if let Some(name) = topic.name {
                    names.insert(topic.topic_id, name);
                }
            }
            codes
        }
        ApiKey::ListOffsets => codes!(ListOffsetsResponse, topics, partitions),
        ApiKey::OffsetForLeaderEpoch => codes!(OffsetForLeaderEpochResponse, topics, partitions),
        ApiKey::CreateTopics => codes!(CreateTopicsResponse, topics),
        ApiKey::DeleteTopics => codes!(DeleteTopicsResponse, responses),
        ApiKey::CreatePartitions => codes!(CreatePartitionsResponse, results),
        ApiKey::DeleteRecords => codes!(DeleteRecordsResponse, topics, partitions),
        ApiKey::DescribeConfigs => codes!(DescribeConfigsResponse, results),
        ApiKey::IncrementalAlterConfigs => codes!(IncrementalAlterConfigsResponse, responses),
        ApiKey::InitProducerId => codes!(InitProducerIdResponse),
        ApiKey::DescribeCluster => codes!(DescribeClusterResponse),
        ApiKey::FindCoordinator => {
            let answer = FindCoordinatorResponse::parse(body, version).ok()?;
            let several = answer.coordinators.iter().map(|found| found.error_code);
            std::iter::once(answer.error_code).chain(several).collect()
        }
        ApiKey::JoinGroup => codes!(JoinGroupResponse),
        ApiKey::SyncGroup => codes!(SyncGroupResponse),
        ApiKey::Heartbeat => codes!(HeartbeatResponse),
        ApiKey::LeaveGroup => codes!(LeaveGroupResponse),
        ApiKey::ListGroups => codes!(ListGroupsResponse),
        ApiKey::DescribeGroups => codes!(DescribeGroupsResponse, groups),
        ApiKey::OffsetCommit => codes!(OffsetCommitResponse, topics, partitions),
        ApiKey::OffsetFetch => {
            let answer = OffsetFetchResponse::parse(body, version).ok()?;
            let groups = answer.groups.iter().map(|group| group.error_code);
            std::iter::once(answer.error_code).chain(groups).collect()
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trialog_engine::wire::api::{InitProducerIdResponse, ListGroupsResponse};
    use trialog_engine::wire::frame::{begin_frame, end_frame, put_response_header};

    fn request(api: ApiKey, version: i16, id: i32) -> Vec<u8> {
        let mut bytes = vec![0, 0, 0, 8];
        bytes.extend((api as i16).to_be_bytes());
        bytes.extend(version.to_be_bytes());
        bytes.extend(id.to_be_bytes());
        bytes
    }

    fn answer(api: ApiKey, version: i16, id: i32, body: &impl Message) -> Vec<u8> {
        let mut out = Vec::new();
        let start = begin_frame(&mut out);
        put_response_header(&mut out, api as i16, version, trialog_engine::id::CorrelationId(id));
        body.encode(&mut out, version);
        end_frame(&mut out, start, 0);
        out
    }

    #[test]
    fn answers_are_known_by_their_requests_however_the_bytes_come() {
        let mut asked = request(ApiKey::ListGroups, 3, 7);
        asked.extend(request(ApiKey::InitProducerId, 4, 8));
        let refusal = InitProducerIdResponse { error_code: 14, ..Default::default() };
        // The first answer never comes, as with acks=0.
        let told = answer(ApiKey::InitProducerId, 4, 8, &refusal);
        for size in [1, 3, 5, 100] {
            let mut tap = Tap::default();
            let asks: Vec<Heard> =
                asked.chunks(size).flat_map(|part| tap.hear(1, 0, part)).collect();
            assert_eq!(
                asks.iter().map(|heard| heard.api).collect::<Vec<_>>(),
                [ApiKey::ListGroups, ApiKey::InitProducerId]
            );
            let answers: Vec<Heard> =
                told.chunks(size).flat_map(|part| tap.hear(1, 1, part)).collect();
            assert_eq!(answers.len(), 1);
            assert_eq!(
                (answers[0].api, answers[0].errors.as_slice()),
                (ApiKey::InitProducerId, &[14][..])
            );
        }
    }

    #[test]
    fn other_protocols_are_left_alone() {
        let mut tap = Tap::default();
        assert!(tap.hear(1, 0, b"GET / HTTP/1.1\r\n\r\n").is_empty());
        assert!(tap.hear(2, 0, &[0xff; 100]).is_empty());
        let strange = [0, 0, 0, 8, 0x7f, 0xff, 0, 0, 0, 0, 0, 0];
        assert!(tap.hear(3, 0, &strange).is_empty());
        let unasked = answer(ApiKey::ListGroups, 3, 1, &ListGroupsResponse::default());
        assert!(tap.hear(4, 1, &unasked).is_empty());
    }
}
