//! The integers and names that have a meaning, each with a type of its own.
//!
//! Parse once at the edge, then pass these: nothing further in re-validates them.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// A record's position in its partition, counted from 0. Kafka's offset.
    Offset(i64)
);
number!(
    /// A partition's number within its topic, counted from 0.
    PartitionIndex(i32)
);
number!(
    /// A broker's `node.id`.
    NodeId(i32)
);
number!(
    /// One core of one broker, counted from 0. Never written to disk.
    CoreId(u16)
);
number!(
    /// The term of a partition's leader (KIP-101). Rises at every start and every election.
    LeaderEpoch(i32)
);
number!(
    /// An idempotent producer's identity (KIP-98); -1 means the batch has none.
    ProducerId(i64)
);
number!(
    /// Fences older instances of one producer identity.
    ProducerEpoch(i16)
);
number!(
    /// A request's number on its connection, echoed in the answer.
    CorrelationId(i32)
);

impl Offset {
    /// The offset `count` records further on.
    #[must_use]
    pub fn plus(self, count: i64) -> Offset {
        Offset(self.0 + count)
    }
}

impl LeaderEpoch {
    /// "No epoch", as the protocol writes it.
    pub const NONE: LeaderEpoch = LeaderEpoch(-1);
}

impl ProducerId {
    /// "No producer", as a batch header writes it.
    pub const NONE: ProducerId = ProducerId(-1);
}

/// A topic's immutable identity (KIP-516). All zeros means "none".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id that stands for "no id given".
    pub const NONE: TopicId = TopicId([0; 16]);

    /// A random (version 4) id out of 128 random bits.
    #[must_use]
    pub fn from_random(high: u64, low: u64) -> TopicId {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_be_bytes());
        bytes[8..].copy_from_slice(&low.to_be_bytes());
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        TopicId(bytes)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, byte) in self.0.iter().enumerate() {
            if matches!(place, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
