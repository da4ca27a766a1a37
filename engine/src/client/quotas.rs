//! Looking at and changing the quotas of users and client ids (KIP-546).

use std::collections::BTreeMap;

use super::admin::{Admin, AdminError};
use super::fault::CallError;
use crate::io::Io;
use crate::wire::api::{
    AlterClientQuotasRequest, AlteredEntity, AlteredQuotas, DescribeClientQuotasRequest,
    QuotaOperation,
};
use crate::wire::code::ErrorCode;

/// Whom of a kind a quota is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaOwner {
    /// Everybody without a quota under a name of his own.
    Default,
    /// The one of this name.
    Named(String),
}

/// Whom quotas are set for: a user, a client id, or a client id of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaEntity {
    /// The user, if it is about one.
    pub user: Option<QuotaOwner>,
    /// The client id, if it is about one.
    pub client_id: Option<QuotaOwner>,
}

impl QuotaOwner {
    fn of(name: Option<String>) -> QuotaOwner {
        name.map_or(QuotaOwner::Default, QuotaOwner::Named)
    }

    /// Its name; none for the default.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        match self {
            QuotaOwner::Default => None,
            QuotaOwner::Named(name) => Some(name),
        }
    }
}

impl<I: Io> Admin<I> {
    /// Every quota that is set, by Kafka's names: bytes or partitions in a second, or percent.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn quotas(&self) -> Result<Vec<(QuotaEntity, BTreeMap<String, f64>)>, AdminError> {
        let request = DescribeClientQuotasRequest::default();
        self.retried(|| async {
            let response = self.call_controller(&request).await?;
            accepted(response.error_code, response.error_message)?;
            let entries = response.entries.unwrap_or_default().into_iter().map(|entry| {
                let mut entity = QuotaEntity::default();
                for part in entry.entity {
                    let owner = Some(QuotaOwner::of(part.entity_name));
                    match part.entity_type.as_str() {
                        "user" => entity.user = owner,
                        "client-id" => entity.client_id = owner,
                        _ => {}
                    }
                }
                let values = entry.values.into_iter().map(|one| (one.key, one.value)).collect();
                (entity, values)
            });
            // Of brokers with quotas of addresses, what is about none of ours.
            Ok(entries.filter(|(entity, _)| *entity != QuotaEntity::default()).collect())
        })
        .await
    }

    /// Sets quotas, and removes those whose value is `None`.
    ///
    /// # Errors
    /// [`AdminError`].
    pub async fn alter_quotas(
        &self,
        entity: &QuotaEntity,
        changes: &BTreeMap<String, Option<f64>>,
    ) -> Result<(), AdminError> {
        let part = |kind: &str, owner: &Option<QuotaOwner>| {
            owner.as_ref().map(|owner| AlteredEntity {
                entity_type: kind.to_owned(),
                entity_name: owner.name().map(str::to_owned),
            })
        };
        let parts = [part("user", &entity.user), part("client-id", &entity.client_id)];
        let operation = |(key, value): (&String, &Option<f64>)| QuotaOperation {
            key: key.clone(),
            value: value.unwrap_or_default(),
            remove: value.is_none(),
        };
        let altered = AlteredQuotas {
            entity: parts.into_iter().flatten().collect(),
            ops: changes.iter().map(operation).collect(),
        };
        let request = AlterClientQuotasRequest { entries: vec![altered], validate_only: false };
        self.retried(|| async {
            let response = self.call_controller(&request).await?;
            let result = response.entries.into_iter().next();
            let result = result.ok_or(CallError::Refused(ErrorCode::UnknownServerError))?;
            accepted(result.error_code, result.error_message)
        })
        .await
    }
}

/// The part of an answer that says whether it worked.
fn accepted(code: i16, message: Option<String>) -> Result<(), AdminError> {
    match ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError) {
        ErrorCode::None => Ok(()),
        code => Err(AdminError::Refused { code, message }),
    }
}
