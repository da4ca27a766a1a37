//! The records of the cluster machine, as bytes.
//!
//! One record is one value in the metadata log. All numbers are big-endian.
//!
//! ```text
//! offset  bytes  field
//! 0       1      format version, 1 today; a reader refuses a newer one by name
//! 1       1      kind
//! 2       ..     by kind:
//!
//! kind 1  ClusterFormed         cluster id 16
//! kind 2  BrokerStarted         node 4, incarnation 8
//! kind 3  TopicCreated          topic id 16, name STRING, partitions LIST of (replicas LIST of
//!                               node 4), configs LIST of (key STRING, value STRING)
//! kind 4  TopicDeleted          topic id 16
//! kind 5  TopicConfigured       topic id 16, configs LIST of (key STRING, value STRING)
//! kind 6  ProducerIdsAllocated  node 4, next producer id 8
//! kind 7  PartitionsAdded       topic id 16, partitions LIST of (replicas LIST of node 4)
//! kind 8  BrokerConfigured      node 4 (-1: all brokers), configs LIST of (key STRING, value STRING)
//!
//! STRING  length 2, then that many bytes of UTF-8
//! LIST    count 4, then that many items
//! ```
//!
//! Nothing follows the last field. Configs are sorted by key, each key once. A record says what
//! became true, never what was asked: replaying needs no rule that may change later, except the
//! leader epoch, which rises by one at every `BrokerStarted` of the leader.

use std::collections::BTreeMap;

use thiserror::Error;

use super::image::ClusterId;
use super::quota::{Entity, Quota, Quotas, Rate, Whose};
use crate::id::{NodeId, ProducerId, TopicId};

/// The format version that is written, and the newest that is read.
pub const FORMAT_VERSION: u8 = 1;

/// Something that became true of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster got its identity. The first record of all.
    ClusterFormed {
        /// The identity.
        cluster: ClusterId,
    },
    /// A broker started; every partition that it leads begins a new leader epoch.
    BrokerStarted {
        /// Which broker.
        node: NodeId,
        /// The random number of this start.
        incarnation: u64,
    },
    /// A topic exists from now on, each partition led by the first of its replicas in epoch 0.
    TopicCreated {
        /// Its identity.
        id: TopicId,
        /// Its name.
        name: String,
        /// The replicas of each partition, by index.
        partitions: Vec<Vec<NodeId>>,
        /// The settings of its own.
        configs: BTreeMap<String, String>,
    },
    /// A topic is gone.
    TopicDeleted {
        /// Which one.
        id: TopicId,
    },
    /// A topic has more partitions from now on, behind those it had, each led by the first of its
    /// replicas in epoch 0.
    PartitionsAdded {
        /// Which topic.
        id: TopicId,
        /// The replicas of each new partition.
        partitions: Vec<Vec<NodeId>>,
    },
    /// The settings of a topic's own are these from now on.
    TopicConfigured {
        /// Which topic.
        id: TopicId,
        /// All of its settings, changed or not.
        configs: BTreeMap<String, String>,
    },
    /// The settings that the cluster keeps for a broker are these from now on.
    BrokerConfigured {
        /// Which broker; all of them if none is named.
        node: Option<NodeId>,
        /// All of those settings, changed or not.
        configs: BTreeMap<String, String>,
    },
    /// The quotas of users or clients are these from now on; none removes them.
    QuotasSet {
        /// Whose.
        entity: Entity,
        /// All of its quotas, changed or not.
        quotas: Quotas,
    },
    /// All producer ids below `next` have been given out.
    ProducerIdsAllocated {
        /// The broker that took the last block.
        node: NodeId,
        /// The first id that is still free.
        next: ProducerId,
    },
}

/// Why bytes are not a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Written by a newer version of the program.
    #[error(
        "the metadata record has format version {0}, and this program reads up to \
         {FORMAT_VERSION}; start it with the program that wrote it, or a newer one"
    )]
    NewerFormat(u8),
    /// A version or kind that was never written.
    #[error("the metadata record is damaged: unknown {what} {value}")]
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its value.
        value: u8,
    },
    /// The bytes end inside a field.
    #[error("the metadata record is damaged: it ends within {0}")]
    Short(&'static str),
    /// Bytes follow the last field.
    #[error("the metadata record is damaged: {0} bytes follow its end")]
    Trailing(usize),
    /// A field that cannot be what it says.
    #[error("the metadata record is damaged: {0}")]
    Malformed(&'static str),
}

impl Record {
    /// Appends the record's bytes to `out`.
    ///
    /// # Panics
    /// If a name or setting is longer than 65535 bytes; `decide` bounds them far lower.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(FORMAT_VERSION);
        match self {
            Record::ClusterFormed { cluster } => {
                out.push(1);
                out.extend(cluster.0);
            }
            Record::BrokerStarted { node, incarnation } => {
                out.push(2);
                out.extend(node.0.to_be_bytes());
                out.extend(incarnation.to_be_bytes());
            }
            Record::TopicCreated { id, name, partitions, configs } => {
                out.push(3);
                out.extend(id.0);
                put_string(out, name);
                put_partitions(out, partitions);
                put_configs(out, configs);
            }
            Record::TopicDeleted { id } => {
                out.push(4);
                out.extend(id.0);
            }
            Record::TopicConfigured { id, configs } => {
                out.push(5);
                out.extend(id.0);
                put_configs(out, configs);
            }
            Record::ProducerIdsAllocated { node, next } => {
                out.push(6);
                out.extend(node.0.to_be_bytes());
                out.extend(next.0.to_be_bytes());
            }
            Record::PartitionsAdded { id, partitions } => {
                out.push(7);
                out.extend(id.0);
                put_partitions(out, partitions);
            }
            Record::BrokerConfigured { node, configs } => {
                out.push(8);
                out.extend(node.map_or(-1, |node| node.0).to_be_bytes());
                put_configs(out, configs);
            }
            Record::QuotasSet { entity, quotas } => {
                out.push(9);
                put_whose(out, entity.user());
                put_whose(out, entity.client_id());
                put_count(out, quotas.len());
                for (quota, rate) in quotas {
                    out.push(quota_code(*quota));
                    out.extend(rate.get().to_bits().to_be_bytes());
                }
            }
        }
    }

    /// The record's bytes alone.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }

    /// Reads one record from exactly `bytes`. Memory is bounded by the number of bytes given.
    ///
    /// # Errors
    /// [`RecordError`] says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let mut from = Cursor { rest: bytes };
        match from.u8("its version")? {
            FORMAT_VERSION => {}
            newer if newer > FORMAT_VERSION => return Err(RecordError::NewerFormat(newer)),
            value => return Err(RecordError::Unknown { what: "version", value }),
        }
        let record = match from.u8("its kind")? {
            1 => Record::ClusterFormed { cluster: ClusterId(from.array("the cluster id")?) },
            2 => Record::BrokerStarted {
                node: from.node("the node id")?,
                incarnation: u64::from_be_bytes(from.array("the incarnation")?),
            },
            3 => Record::TopicCreated {
                id: from.topic()?,
                name: from.string("the topic's name")?,
                partitions: from.partitions()?,
                configs: from.configs()?,
            },
            4 => Record::TopicDeleted { id: from.topic()? },
            5 => Record::TopicConfigured { id: from.topic()?, configs: from.configs()? },
            6 => Record::ProducerIdsAllocated {
                node: from.node("the node id")?,
                next: ProducerId(i64::from_be_bytes(from.array("the next producer id")?)),
            },
            7 => Record::PartitionsAdded { id: from.topic()?, partitions: from.partitions()? },
            8 => Record::BrokerConfigured {
                node: match from.node("the node id")? {
                    NodeId(-1) => None,
                    NodeId(..-1) => return Err(RecordError::Malformed("a negative node id")),
                    node => Some(node),
                },
                configs: from.configs()?,
            },
            9 => Record::QuotasSet { entity: from.entity()?, quotas: from.quotas()? },
            value => return Err(RecordError::Unknown { what: "kind", value }),
        };
        match from.rest.len() {
            0 => Ok(record),
            more => Err(RecordError::Trailing(more)),
        }
    }
}

fn put_partitions(out: &mut Vec<u8>, partitions: &[Vec<NodeId>]) {
    put_count(out, partitions.len());
    for replicas in partitions {
        put_count(out, replicas.len());
        for node in replicas {
            out.extend(node.0.to_be_bytes());
        }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend(u32::try_from(count).expect("bounded by decide").to_be_bytes());
}

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend(u16::try_from(text.len()).expect("bounded by decide").to_be_bytes());
    out.extend(text.as_bytes());
}

fn put_configs(out: &mut Vec<u8>, configs: &BTreeMap<String, String>) {
    put_count(out, configs.len());
    for (key, value) in configs {
        put_string(out, key);
        put_string(out, value);
    }
}

/// A quota's number in a record.
fn quota_code(quota: Quota) -> u8 {
    match quota {
        Quota::ProducerByteRate => 1,
        Quota::ConsumerByteRate => 2,
        Quota::RequestPercentage => 3,
        Quota::ControllerMutationRate => 4,
    }
}

fn put_whose(out: &mut Vec<u8>, whose: Option<&Whose>) {
    match whose {
        None => out.push(0),
        Some(Whose::Default) => out.push(1),
        Some(Whose::Named(name)) => {
            out.push(2);
            put_string(out, name);
        }
    }
}

/// What is left to read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize, what: &'static str) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(RecordError::Short(what))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(RecordError::Short(what))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn u8(&mut self, what: &'static str) -> Result<u8, RecordError> {
        self.array::<1>(what).map(|[byte]| byte)
    }

    fn node(&mut self, what: &'static str) -> Result<NodeId, RecordError> {
        self.array(what).map(|bytes| NodeId(i32::from_be_bytes(bytes)))
    }

    fn topic(&mut self) -> Result<TopicId, RecordError> {
        self.array("the topic id").map(TopicId)
    }

    fn string(&mut self, what: &'static str) -> Result<String, RecordError> {
        let length = u16::from_be_bytes(self.array(what)?);
        let bytes = self.take(usize::from(length), what)?;
        let text = std::str::from_utf8(bytes).map_err(|_| RecordError::Malformed("not UTF-8"))?;
        Ok(text.to_owned())
    }

    /// A list's count, refused if even items of `least` bytes each would not fit into the rest.
    fn count(&mut self, least: usize, what: &'static str) -> Result<usize, RecordError> {
        let count = u32::from_be_bytes(self.array(what)?);
        let count = usize::try_from(count).map_err(|_| RecordError::Short(what))?;
        if count > self.rest.len() / least {
            return Err(RecordError::Short(what));
        }
        Ok(count)
    }

    fn partitions(&mut self) -> Result<Vec<Vec<NodeId>>, RecordError> {
        let count = self.count(8, "the partitions")?;
        let mut partitions = Vec::with_capacity(count);
        for _ in 0..count {
            let replicas = self.count(4, "the replicas")?;
            if replicas == 0 {
                return Err(RecordError::Malformed("a partition without replicas"));
            }
            let nodes: Result<Vec<_>, _> = (0..replicas).map(|_| self.node("a replica")).collect();
            partitions.push(nodes?);
        }
        Ok(partitions)
    }

    fn configs(&mut self) -> Result<BTreeMap<String, String>, RecordError> {
        let count = self.count(4, "the settings")?;
        let mut configs = BTreeMap::new();
        for _ in 0..count {
            let key = self.string("a setting's name")?;
            let value = self.string("a setting's value")?;
            if configs.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(RecordError::Malformed("settings out of order"));
            }
            configs.insert(key, value);
        }
        Ok(configs)
    }

    fn whose(&mut self) -> Result<Option<Whose>, RecordError> {
        Ok(match self.u8("a quota's owner")? {
            0 => None,
            1 => Some(Whose::Default),
            2 => Some(Whose::Named(self.string("a quota's owner")?.into())),
            value => return Err(RecordError::Unknown { what: "owner", value }),
        })
    }

    fn entity(&mut self) -> Result<Entity, RecordError> {
        let (user, client_id) = (self.whose()?, self.whose()?);
        Entity::new(user, client_id).map_err(|_| RecordError::Malformed("quotas of nobody"))
    }

    fn quotas(&mut self) -> Result<Quotas, RecordError> {
        let count = self.count(9, "the quotas")?;
        let mut quotas = Quotas::new();
        for _ in 0..count {
            let code = self.u8("a quota")?;
            let found = Quota::ALL.into_iter().find(|quota| quota_code(*quota) == code);
            let quota = found.ok_or(RecordError::Unknown { what: "quota", value: code })?;
            let rate = f64::from_bits(u64::from_be_bytes(self.array("a rate")?));
            let rate = Rate::new(rate).ok_or(RecordError::Malformed("a rate that is none"))?;
            if quotas.last_key_value().is_some_and(|(last, _)| *last >= quota) {
                return Err(RecordError::Malformed("quotas out of order"));
            }
            quotas.insert(quota, rate);
        }
        Ok(quotas)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_configs() -> impl Strategy<Value = BTreeMap<String, String>> {
        proptest::collection::btree_map("[a-z.]{0,12}", ".{0,12}", 0..4)
    }

    fn any_whose() -> impl Strategy<Value = Option<Whose>> {
        prop_oneof![
            Just(None),
            Just(Some(Whose::Default)),
            "[a-z]{1,9}".prop_map(|name| Some(Whose::Named(name.as_str().into()))),
        ]
    }

    fn any_quotas() -> impl Strategy<Value = Quotas> {
        let quota = (0..Quota::ALL.len()).prop_map(|place| Quota::ALL[place]);
        let rate = (1_u32..).prop_map(|rate| Rate::new(f64::from(rate) / 8.0).expect("a rate"));
        proptest::collection::btree_map(quota, rate, 0..5)
    }

    fn any_record() -> impl Strategy<Value = Record> {
        let id = any::<[u8; 16]>().prop_map(TopicId);
        let node = any::<i32>().prop_map(NodeId);
        let replicas = proptest::collection::vec(node.clone(), 1..4);
        let added = proptest::collection::vec(replicas.clone(), 0..5);
        prop_oneof![
            any::<[u8; 16]>().prop_map(|bytes| Record::ClusterFormed { cluster: ClusterId(bytes) }),
            (node.clone(), any::<u64>())
                .prop_map(|(node, incarnation)| Record::BrokerStarted { node, incarnation }),
            (id.clone(), ".{0,20}", proptest::collection::vec(replicas, 0..5), any_configs())
                .prop_map(|(id, name, partitions, configs)| Record::TopicCreated {
                    id,
                    name,
                    partitions,
                    configs
                }),
            id.clone().prop_map(|id| Record::TopicDeleted { id }),
            (id.clone(), any_configs())
                .prop_map(|(id, configs)| Record::TopicConfigured { id, configs }),
            (proptest::option::of((0..i32::MAX).prop_map(NodeId)), any_configs())
                .prop_map(|(node, configs)| Record::BrokerConfigured { node, configs }),
            (id, added).prop_map(|(id, partitions)| Record::PartitionsAdded { id, partitions }),
            (any_whose(), any_whose(), any_quotas()).prop_map(|(user, client_id, quotas)| {
                let user = user.or((client_id.is_none()).then_some(Whose::Default));
                let entity = Entity::new(user, client_id).expect("somebody");
                Record::QuotasSet { entity, quotas }
            }),
            (node, any::<i64>()).prop_map(|(node, next)| Record::ProducerIdsAllocated {
                node,
                next: ProducerId(next)
            }),
        ]
    }

    proptest! {
        #[test]
        fn a_record_survives_its_bytes(record in any_record()) {
            prop_assert_eq!(Record::decode(&record.to_bytes()), Ok(record));
        }

        #[test]
        fn every_prefix_is_refused(record in any_record()) {
            let bytes = record.to_bytes();
            for end in 0..bytes.len() {
                prop_assert!(Record::decode(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn a_trailing_byte_is_refused(record in any_record(), byte: u8) {
            let mut bytes = record.to_bytes();
            bytes.push(byte);
            prop_assert_eq!(Record::decode(&bytes), Err(RecordError::Trailing(1)));
        }

        #[test]
        fn what_decodes_has_one_encoding(
            kind in 1_u8..10,
            tail in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut bytes = vec![FORMAT_VERSION, kind];
            bytes.extend(tail);
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.to_bytes(), bytes);
            }
        }

        #[test]
        fn a_flipped_byte_never_panics(record in any_record(), at: usize, mask in 1_u8..) {
            let mut bytes = record.to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= mask;
            if let Ok(other) = Record::decode(&bytes) {
                prop_assert_ne!(other, record);
            }
        }
    }

    #[test]
    fn the_bytes_are_as_drawn() {
        let record = Record::TopicCreated {
            id: TopicId([9; 16]),
            name: "ab".into(),
            partitions: vec![vec![NodeId(1)]],
            configs: BTreeMap::from([("k".into(), "v".into())]),
        };
        let mut drawn = vec![1, 3];
        drawn.extend([9; 16]);
        drawn.extend([0, 2, b'a', b'b']);
        drawn.extend([0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        drawn.extend([0, 0, 0, 1, 0, 1, b'k', 0, 1, b'v']);
        assert_eq!(record.to_bytes(), drawn);
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let error = Record::decode(&[2, 99, 0]).expect_err("newer");
        assert_eq!(error, RecordError::NewerFormat(2));
        assert!(error.to_string().contains("format version 2"));
        assert_eq!(
            Record::decode(&[0, 1]),
            Err(RecordError::Unknown { what: "version", value: 0 })
        );
        assert_eq!(Record::decode(&[]), Err(RecordError::Short("its version")));
    }

    #[test]
    fn huge_counts_are_refused_before_memory_is_taken() {
        let mut bytes = vec![FORMAT_VERSION, 3];
        bytes.extend([0; 16]);
        bytes.extend([0, 1, b'a']);
        bytes.extend([0xff; 4]);
        assert_eq!(Record::decode(&bytes), Err(RecordError::Short("the partitions")));
    }
}
