//! Records of `subscriptions.events`.

use crate::codec::{Codec, CodecError};
use almanac_domain::subscriptions::{Disabled, Event, Fact, Knowledge, Subscription};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Name of the context in commands, tokens and progress.
pub const CONTEXT: &str = "subscriptions";
pub const TOPIC: &str = "subscriptions.events";
pub const CREATED: &str = "almanac.subscriptions.SubscriptionCreated";
pub const DELETED: &str = "almanac.subscriptions.SubscriptionDeleted";
pub const DISABLED: &str = "almanac.subscriptions.SubscriptionDisabled";

/// Any of the events of a subscription; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub types: Vec<String>,
    pub subject: Option<String>,
    pub url: String,
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
    pub disabled_at: Option<i64>,
    pub disabled_reason: Option<String>,
}

fn record_of(fact: Fact) -> &'static str {
    match fact {
        Fact::Created => CREATED,
        Fact::Deleted => DELETED,
        Fact::Disabled => DISABLED,
    }
}

/// CloudEvents type of an event of a subscription.
pub fn event_type(fact: Fact) -> &'static str {
    match fact {
        Fact::Created => "subscription.created",
        Fact::Deleted => "subscription.deleted",
        Fact::Disabled => "subscription.disabled",
    }
}

impl SubscriptionEventRecord {
    pub fn from_domain(id: &str, event: &Event) -> Self {
        let after = &event.after;
        let Subscription { types, subject, url } = &after.subscription;
        Self {
            id: id.to_owned(),
            version: after.version as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            created_at: after.created_at.as_millisecond(),
            owner: after.owner.clone(),
            types: types.clone(),
            subject: subject.clone(),
            url: url.clone(),
            sealed: after.sealed.clone(),
            disabled_at: after.disabled.as_ref().map(|disabled| disabled.at.as_millisecond()),
            disabled_reason: after.disabled.as_ref().map(|disabled| disabled.reason.clone()),
        }
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Knowledge> {
        if ![CREATED, DELETED, DISABLED].contains(&record) {
            return None;
        }
        let disabled = match (self.disabled_at, &self.disabled_reason) {
            (Some(at), Some(reason)) => {
                let at = Timestamp::from_millisecond(at).ok()?;
                Some(Disabled { at, reason: reason.clone() })
            }
            _ => None,
        };
        let (types, subject, url) = (self.types.clone(), self.subject.clone(), self.url.clone());
        Some(Knowledge {
            version: u64::try_from(self.version).ok()?,
            subscription: Subscription { types, subject, url },
            sealed: self.sealed.clone(),
            owner: self.owner.clone(),
            disabled,
            is_deleted: record == DELETED,
            created_at: Timestamp::from_millisecond(self.created_at).ok()?,
            updated_at: Timestamp::from_millisecond(self.occurred_at).ok()?,
        })
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, id: &str, event: &Event) -> Result<Bytes, CodecError> {
    codec.encode(record_of(event.fact), &SubscriptionEventRecord::from_domain(id, event))
}
