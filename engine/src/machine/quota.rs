//! Client quotas (KIP-13, KIP-124, KIP-546, KIP-599): what users and clients may use, and which of
//! several quotas counts for whom.
//!
//! Keeps: a rate is finite and above zero. The most particular quota counts, in Kafka's order:
//! user and client id, user and any client id, user; any user and client id, any user and any
//! client id, any user; client id, any client id.
//!
//! Must not know: who is measured, and when.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::image::Image;
use crate::limit::STRING_BYTES_MAX;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quota {
    /// Bytes of produce requests in a second.
    ProducerByteRate,
    /// Bytes of fetch answers in a second.
    ConsumerByteRate,
    /// Time that a core spends on requests, in percent of one core.
    RequestPercentage,
    /// Partitions that are made and deleted in a second.
    ControllerMutationRate,
}

impl Quota {
    /// All of them.
    pub const ALL: [Quota; 4] = [
        Quota::ProducerByteRate,
        Quota::ConsumerByteRate,
        Quota::RequestPercentage,
        Quota::ControllerMutationRate,
    ];

    /// Its place in [`Quota::ALL`].
    #[must_use]
    pub fn number(self) -> usize {
        self as usize
    }

    /// Kafka's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Quota::ProducerByteRate => "producer_byte_rate",
            Quota::ConsumerByteRate => "consumer_byte_rate",
            Quota::RequestPercentage => "request_percentage",
            Quota::ControllerMutationRate => "controller_mutation_rate",
        }
    }

    /// The quota of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Quota> {
        Quota::ALL.into_iter().find(|quota| quota.name() == name)
    }
}

/// How much of it in a second; for a percentage, percent. Finite and above zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl Rate {
    /// That rate, if it is one.
    #[must_use]
    pub fn new(rate: f64) -> Option<Rate> {
        (rate.is_finite() && rate > 0.0).then_some(Rate(rate))
    }

    /// As a number.
    #[must_use]
    pub fn get(self) -> f64 {
        self.0
    }
}

impl Eq for Rate {}

impl PartialOrd for Rate {
    fn partial_cmp(&self, other: &Rate) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Rate {
    fn cmp(&self, other: &Rate) -> Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// Who of a kind is meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Everybody who has no quota under a name of his own.
    Default,
    /// The one of this name.
    Named(Arc<str>),
}

impl Whose {
    /// As the protocol has it: null is the default.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            Whose::Default => None,
            Whose::Named(name) => Some(name),
        }
    }
}

/// Whom quotas are set for: a user, a client id, or a client id of a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entity {
    user: Option<Whose>,
    client_id: Option<Whose>,
}

/// Why a name is none of an entity, or a number no rate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaError {
    /// Neither a user nor a client id is named.
    Nobody,
    /// A name is empty or too long.
    Name,
    /// There is no quota of this name.
    Unknown(String),
    /// The quota cannot have this value.
    Value {
        /// Which quota.
        quota: Quota,
        /// The value, as text.
        value: String,
    },
}

impl Entity {
    /// That user, client id, or both.
    ///
    /// # Errors
    /// [`QuotaError::Nobody`] if it is neither; [`QuotaError::Name`].
    pub fn new(user: Option<Whose>, client_id: Option<Whose>) -> Result<Entity, QuotaError> {
        let names = [&user, &client_id].into_iter().flatten().filter_map(Whose::name);
        for name in names {
            if name.is_empty() || name.len() > STRING_BYTES_MAX {
                return Err(QuotaError::Name);
            }
        }
        if user.is_none() && client_id.is_none() {
            return Err(QuotaError::Nobody);
        }
        Ok(Entity { user, client_id })
    }

    /// The user, if it is about one.
    #[must_use]
    pub fn user(&self) -> Option<&Whose> {
        self.user.as_ref()
    }

    /// The client id, if it is about one.
    #[must_use]
    pub fn client_id(&self) -> Option<&Whose> {
        self.client_id.as_ref()
    }
}

/// The rate that `value` is for `quota`: bytes are whole numbers.
///
/// # Errors
/// [`QuotaError::Value`].
pub fn rate(quota: Quota, value: f64) -> Result<Rate, QuotaError> {
    let bytes = matches!(quota, Quota::ProducerByteRate | Quota::ConsumerByteRate);
    let whole = !bytes || (value - value.round()).abs() < 1e-6;
    let most = if bytes { i64::MAX as f64 } else { 1e9 };
    let rate = Rate::new(value).filter(|_| whole && value <= most);
    rate.ok_or_else(|| QuotaError::Value { quota, value: value.to_string() })
}

/// The quotas of one entity. Never empty in an image.
pub type Quotas = BTreeMap<Quota, Rate>;

impl Image {
    /// Every entity that quotas are set for, with them.
    pub fn quotas(&self) -> impl ExactSizeIterator<Item = (&Entity, &Quotas)> {
        self.state.quotas.iter()
    }

    /// The rate of `quota` that counts for a client of a user, and the entity that shares it: one
    /// user or client id where a default counts for each.
    #[must_use]
    pub fn quota(&self, quota: Quota, user: &str, client_id: &str) -> Option<(Entity, Rate)> {
        if self.state.quotas.is_empty() {
            return None;
        }
        let named = |name: &str| Some(Whose::Named(name.into()));
        let default = Some(Whose::Default);
        let (user, client_id) = (named(user), named(client_id));
        let levels = [
            (&user, &client_id),
            (&user, &default),
            (&user, &None),
            (&default, &client_id),
            (&default, &default),
            (&default, &None),
            (&None, &client_id),
            (&None, &default),
        ];
        levels.into_iter().find_map(|(of_user, of_client)| {
            let asked = Entity { user: of_user.clone(), client_id: of_client.clone() };
            let rate = *self.state.quotas.get(&asked)?.get(&quota)?;
            let user = of_user.as_ref().and(user.clone());
            let client_id = of_client.as_ref().and(client_id.clone());
            Some((Entity { user, client_id }, rate))
        })
    }
}

impl fmt::Display for Entity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for (kind, whose) in [("user", &self.user), ("client-id", &self.client_id)] {
            match whose {
                None => continue,
                Some(Whose::Default) => write!(f, "{between}any {kind}")?,
                Some(Whose::Named(name)) => write!(f, "{between}{kind} '{name}'")?,
            }
            between = ", ";
        }
        Ok(())
    }
}

impl fmt::Display for QuotaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QuotaError::Nobody => {
                f.write_str("quotas are set for a user, a client-id, or both; none is named")
            }
            QuotaError::Name => f.write_str(
                "the name of a user or client-id is empty or too long; the default has no name",
            ),
            QuotaError::Unknown(name) => {
                let known = Quota::ALL.map(Quota::name).join(", ");
                write!(f, "there is no quota '{name}' here; there are {known}")?;
                if name == "connection_creation_rate" {
                    f.write_str(": how often a client connects is not measured")?;
                }
                Ok(())
            }
            QuotaError::Value { quota, value } => write!(
                f,
                "{} cannot be {value}: give a number above 0, and a whole one for bytes",
                quota.name()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Cluster, Record};
    use super::*;

    fn whose(name: &str) -> Option<Whose> {
        match name {
            "" => None,
            "*" => Some(Whose::Default),
            name => Some(Whose::Named(name.into())),
        }
    }

    fn entity(user: &str, client_id: &str) -> Entity {
        Entity::new(whose(user), whose(client_id)).expect("somebody")
    }

    /// The most particular level counts, and each named user of a default has a share of its own.
    #[test]
    fn the_most_particular_quota_counts() {
        let levels = [
            ("", "*"),
            ("", "c"),
            ("*", ""),
            ("*", "*"),
            ("*", "c"),
            ("u", ""),
            ("u", "*"),
            ("u", "c"),
        ];
        let shares = [
            ("", "c"),
            ("", "c"),
            ("u", ""),
            ("u", "c"),
            ("u", "c"),
            ("u", ""),
            ("u", "c"),
            ("u", "c"),
        ];
        let mut cluster = Cluster::new();
        let quota = Quota::ProducerByteRate;
        assert_eq!(cluster.image().quota(quota, "u", "c"), None);
        for (number, ((user, client), share)) in levels.into_iter().zip(shares).enumerate() {
            let rate = Rate::new(number as f64 + 1.0).expect("a rate");
            let quotas = Quotas::from([(quota, rate)]);
            let record = Record::QuotasSet { entity: entity(user, client), quotas };
            cluster.apply(&record).expect("it follows");
            let counts = cluster.image().quota(quota, "u", "c");
            assert_eq!(counts, Some((entity(share.0, share.1), rate)), "{user} {client}");
            assert_eq!(cluster.image().quota(Quota::ConsumerByteRate, "u", "c"), None);
        }
        let (share, _) = cluster.image().quota(quota, "v", "d").expect("the defaults");
        assert_eq!(share, entity("v", "d"));
    }

    #[test]
    fn only_rates_are_rates() {
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 0.5, 1e30] {
            assert!(rate(Quota::ProducerByteRate, value).is_err(), "{value}");
        }
        assert!(rate(Quota::RequestPercentage, 0.5).is_ok());
        assert!(rate(Quota::ControllerMutationRate, 0.5).is_ok());
        assert!(rate(Quota::ConsumerByteRate, 1024.0).is_ok());
        assert_eq!(Entity::new(None, None), Err(QuotaError::Nobody));
        assert_eq!(Entity::new(whose("*"), Some(Whose::Named("".into()))), Err(QuotaError::Name));
    }
}
