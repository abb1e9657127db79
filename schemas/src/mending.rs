//! Records of `operations.events` that tell what is done about keys that are set aside, and about rows of
//! live tables.

use crate::codec::{Codec, CodecError};
use almanac_domain::operations::{Mending, MendingEvent, MendingFact, Outcome, Remedy, Target};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

type Row = (Remedy, MendingFact, &'static str, &'static str);

/// Each fact with its record, and with the CloudEvents type of its event.
const FACTS: [Row; 6] = [
    (
        Remedy::Redrive,
        MendingFact::Requested,
        "almanac.operations.RedriveRequested",
        "redrive.requested",
    ),
    (
        Remedy::Redrive,
        MendingFact::Reported,
        "almanac.operations.RedriveReported",
        "redrive.reported",
    ),
    (
        Remedy::Discard,
        MendingFact::Requested,
        "almanac.operations.DiscardRequested",
        "discard.requested",
    ),
    (
        Remedy::Discard,
        MendingFact::Reported,
        "almanac.operations.DiscardReported",
        "discard.reported",
    ),
    (
        Remedy::Repair,
        MendingFact::Requested,
        "almanac.operations.RepairRequested",
        "repair.requested",
    ),
    (Remedy::Repair, MendingFact::Reported, "almanac.operations.RepairReported", "repair.reported"),
];

/// What `state` says once all outcomes are known.
const COMPLETED: &str = "completed";

/// Any of the events of a request; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MendingEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub actor: String,
    pub reason: String,
    pub state: String,
    pub targets: Vec<TargetRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRecord {
    pub projection: String,
    pub edition: String,
    pub topic: String,
    pub partition: i32,
    pub key: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    pub offset: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Which remedy and fact a record is of.
pub fn fact_of(record: &str) -> Option<(Remedy, MendingFact)> {
    let found = FACTS.iter().find(|(_, _, name, _)| *name == record);
    found.map(|(remedy, fact, ..)| (*remedy, *fact))
}

fn named(remedy: Remedy, fact: MendingFact) -> (&'static str, &'static str) {
    let found = FACTS.iter().find(|(one, other, ..)| (*one, *other) == (remedy, fact));
    found.map_or(("", ""), |(_, _, record, event_type)| (record, event_type))
}

pub fn record_of(event: &MendingEvent) -> &'static str {
    named(event.after.remedy, event.fact).0
}

/// CloudEvents type of an event.
pub fn event_type(remedy: Remedy, fact: MendingFact) -> &'static str {
    named(remedy, fact).1
}

impl TargetRecord {
    pub fn from_domain(target: &Target, outcome: Option<&Outcome>) -> Self {
        let (word, detail) = match outcome {
            None => (None, None),
            Some(Outcome::Succeeded) => (Some("succeeded"), None),
            Some(Outcome::Failed(why)) => (Some("failed"), Some(why.clone())),
        };
        Self {
            projection: target.projection.clone(),
            edition: target.edition.clone(),
            topic: target.topic.clone(),
            partition: target.partition as i32,
            key: target.key.clone(),
            source: target.source.clone(),
            offset: target.offset as i64,
            outcome: word.map(str::to_owned),
            detail,
        }
    }

    pub fn to_domain(&self) -> Option<(Target, Option<Outcome>)> {
        let target = Target {
            projection: self.projection.clone(),
            edition: self.edition.clone(),
            topic: self.topic.clone(),
            partition: u32::try_from(self.partition).ok()?,
            key: self.key.clone(),
            source: self.source.clone(),
            offset: u64::try_from(self.offset).ok()?,
        };
        let outcome = match self.outcome.as_deref() {
            None => None,
            Some("succeeded") => Some(Outcome::Succeeded),
            Some("failed") => Some(Outcome::Failed(self.detail.clone().unwrap_or_default())),
            Some(_) => return None,
        };
        Some((target, outcome))
    }
}

impl MendingEventRecord {
    pub fn from_domain(event: &MendingEvent) -> Self {
        let after = &event.after;
        let targets = after.targets.iter();
        let targets =
            targets.map(|(target, outcome)| TargetRecord::from_domain(target, outcome.as_ref()));
        Self {
            id: after.id.clone(),
            version: after.version as i64,
            occurred_at: after.updated_at.as_millisecond(),
            created_at: after.requested_at.as_millisecond(),
            owner: after.requested_by.clone(),
            actor: event.actor.clone(),
            reason: after.reason.clone(),
            state: if after.is_over() { COMPLETED } else { "under_way" }.to_owned(),
            targets: targets.collect(),
        }
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Mending> {
        let (remedy, _) = fact_of(record)?;
        let time = |millis| Timestamp::from_millisecond(millis).ok();
        Some(Mending {
            id: self.id.clone(),
            version: u64::try_from(self.version).ok()?,
            remedy,
            targets: self.targets.iter().map(TargetRecord::to_domain).collect::<Option<_>>()?,
            requested_by: self.owner.clone(),
            reason: self.reason.clone(),
            requested_at: time(self.created_at)?,
            updated_at: time(self.occurred_at)?,
        })
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, event: &MendingEvent) -> Result<Bytes, CodecError> {
    codec.encode(record_of(event), &MendingEventRecord::from_domain(event))
}
