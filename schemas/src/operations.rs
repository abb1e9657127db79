//! Records of `operations.events`.

use crate::codec::{Codec, CodecError};
use almanac_domain::operations::{Event, Fact, Failure, Knowledge, Rebuild, Request};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the context in commands, tokens and progress.
pub const CONTEXT: &str = "operations";
pub const TOPIC: &str = "operations.events";

/// Namespace of the ids of projections. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x3b1c_0f64_97d2_5e0a_8c44_d1a7_52e9_6b10);

/// Each fact with its record, and with the CloudEvents type of its event.
const FACTS: [(Fact, &str, &str); 10] = [
    (Fact::Requested, "almanac.operations.RebuildRequested", "rebuild.requested"),
    (Fact::Advanced, "almanac.operations.RebuildAdvanced", "rebuild.advanced"),
    (Fact::Verified, "almanac.operations.RebuildVerified", "rebuild.verified"),
    (Fact::Failed, "almanac.operations.RebuildFailed", "rebuild.failed"),
    (Fact::Paused, "almanac.operations.RebuildPaused", "rebuild.paused"),
    (Fact::Resumed, "almanac.operations.RebuildResumed", "rebuild.resumed"),
    (Fact::Cancelled, "almanac.operations.RebuildCancelled", "rebuild.cancelled"),
    (Fact::Activated, "almanac.operations.GenerationActivated", "generation.activated"),
    (Fact::RolledBack, "almanac.operations.GenerationRolledBack", "generation.rolled_back"),
    (Fact::Dropped, "almanac.operations.GenerationDropped", "generation.dropped"),
];

/// The aggregate of a projection.
pub fn id_of(projection: &str) -> Uuid {
    Uuid::new_v5(&NAMESPACE, projection.as_bytes())
}

/// Any of the events of a projection's rebuilds; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationEventRecord {
    pub id: String,
    pub version: i64,
    pub occurred_at: i64,
    pub created_at: i64,
    pub owner: String,
    pub actor: String,
    pub reason: String,
    pub projection: String,
    pub live: i32,
    pub kept: Option<i32>,
    pub newest: i32,
    pub rebuild_id: String,
    pub fold: i32,
    pub generation: i32,
    pub state: String,
    pub paused_in: Option<String>,
    pub dry_run: bool,
    pub automatic: bool,
    pub events_per_s: i32,
    pub until: Option<String>,
    pub requested_at: i64,
    pub requested_by: String,
    pub request_reason: String,
    pub certificate: Option<String>,
    pub differences: Option<i64>,
    pub failure_category: Option<String>,
    pub failure_detail: Option<String>,
    pub dropped: bool,
}

/// Which fact a record is of.
pub fn fact_of(record: &str) -> Option<Fact> {
    FACTS.iter().find(|(_, name, _)| *name == record).map(|(fact, ..)| *fact)
}

fn named(fact: Fact) -> (&'static str, &'static str) {
    let found = FACTS.iter().find(|(one, ..)| *one == fact);
    found.map_or(("", ""), |(_, record, event_type)| (record, event_type))
}

pub fn record_of(fact: Fact) -> &'static str {
    named(fact).0
}

/// CloudEvents type of an event.
pub fn event_type(fact: Fact) -> &'static str {
    named(fact).1
}

impl OperationEventRecord {
    pub fn from_domain(event: &Event) -> Self {
        let after = &event.after;
        let Rebuild { request, failure, .. } = &after.rebuild;
        Self {
            id: id_of(&request.projection).to_string(),
            version: after.version as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            created_at: after.created_at.as_millisecond(),
            owner: after.rebuild.requested_by.clone(),
            actor: event.actor.clone(),
            reason: event.reason.clone(),
            projection: request.projection.clone(),
            live: after.live as i32,
            kept: after.kept.map(|kept| kept as i32),
            newest: after.newest as i32,
            rebuild_id: request.id.clone(),
            fold: request.fold as i32,
            generation: after.rebuild.generation as i32,
            state: after.rebuild.state.as_str().to_owned(),
            paused_in: after.rebuild.paused_in.map(|state| state.as_str().to_owned()),
            dry_run: request.dry_run,
            automatic: request.automatic,
            events_per_s: i32::try_from(request.events_per_s).unwrap_or(i32::MAX),
            until: request.until.clone(),
            requested_at: after.rebuild.requested_at.as_millisecond(),
            requested_by: after.rebuild.requested_by.clone(),
            request_reason: after.rebuild.reason.clone(),
            certificate: after.rebuild.certificate.clone(),
            differences: after.rebuild.differences.map(|count| count as i64),
            failure_category: failure.as_ref().map(|failure| failure.category.clone()),
            failure_detail: failure.as_ref().map(|failure| failure.detail.clone()),
            dropped: after.rebuild.is_dropped,
        }
    }

    /// What is known after the event; `record` is the record's name.
    pub fn knowledge(&self, record: &str) -> Option<Knowledge> {
        fact_of(record)?;
        let time = |millis| Timestamp::from_millisecond(millis).ok();
        let number = |number: i32| u32::try_from(number).ok();
        let failure = self.failure_category.clone().map(|category| Failure {
            category,
            detail: self.failure_detail.clone().unwrap_or_default(),
        });
        let paused_in = self.paused_in.as_deref().map(str::parse).transpose().ok()?;
        let request = Request {
            id: self.rebuild_id.clone(),
            projection: self.projection.clone(),
            fold: number(self.fold)?,
            dry_run: self.dry_run,
            automatic: self.automatic,
            events_per_s: number(self.events_per_s)?,
            until: self.until.clone(),
        };
        let rebuild = Rebuild {
            request,
            generation: number(self.generation)?,
            state: self.state.parse().ok()?,
            paused_in,
            requested_at: time(self.requested_at)?,
            requested_by: self.requested_by.clone(),
            reason: self.request_reason.clone(),
            certificate: self.certificate.clone(),
            differences: self.differences.and_then(|count| u64::try_from(count).ok()),
            failure,
            is_dropped: self.dropped,
        };
        Some(Knowledge {
            version: u64::try_from(self.version).ok()?,
            live: number(self.live)?,
            kept: self.kept.and_then(number),
            newest: number(self.newest)?,
            rebuild,
            created_at: time(self.created_at)?,
            updated_at: time(self.occurred_at)?,
        })
    }
}

/// Encodes an event under the newest schema of its record.
pub fn encode(codec: &Codec, event: &Event) -> Result<Bytes, CodecError> {
    codec.encode(record_of(event.fact), &OperationEventRecord::from_domain(event))
}
