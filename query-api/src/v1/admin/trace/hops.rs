//! What was found of an id, each with what it is, where it stands and what caused it.

use almanac_event_log::StoredRecord;
use almanac_schemas::{
    commands::{CommandRecord, ReplyRecord},
    notifications::{DeliveryAttemptedRecord, DeliveryDueRecord},
};
use jiff::Timestamp;
use serde_json::{Value, json};

/// In the order in which things of the same time come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Command,
    Reply,
    Event,
    Table,
    Delivery,
    Attempt,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Reply => "reply",
            Self::Event => "event",
            Self::Table => "table",
            Self::Delivery => "delivery",
            Self::Attempt => "attempt",
        }
    }
}

#[derive(Debug)]
pub(super) struct Hop {
    pub(super) kind: Kind,
    /// Milliseconds since the Unix epoch: when it happened, of a table when its event did.
    pub(super) at_ms: i64,
    /// Topic with the prefix, partition, and offset.
    pub(super) place: Option<(String, u32, u64)>,
    pub(super) table: Option<Value>,
    pub(super) id: String,
    pub(super) key: String,
    pub(super) what: String,
    pub(super) caused_by: Option<String>,
}

impl Hop {
    fn of(kind: Kind, stored: &StoredRecord, id: &str, what: String) -> Self {
        Self {
            kind,
            at_ms: stored.record.timestamp_ms,
            place: Some((stored.topic.to_string(), stored.partition, stored.offset)),
            table: None,
            id: id.to_owned(),
            key: String::from_utf8_lossy(&stored.record.key).into_owned(),
            what,
            caused_by: None,
        }
    }

    pub(super) fn command(stored: &StoredRecord, command: &CommandRecord) -> Self {
        let CommandRecord { request_id, context, verb, caller, .. } = command;
        let hop = Self::of(
            Kind::Command,
            stored,
            request_id,
            format!("{context}: {verb}, asked by {caller}"),
        );
        Self { at_ms: command.issued_at, ..hop }
    }

    pub(super) fn reply(stored: &StoredRecord, reply: &ReplyRecord) -> Self {
        let again = if reply.replayed { ", as it was decided before" } else { "" };
        let version = reply.version.map_or(String::new(), |version| format!(", version {version}"));
        let what = format!("answered {}{version}{again}", reply.status);
        let hop = Self::of(Kind::Reply, stored, &reply.outcome_id, what);
        Self { at_ms: reply.decided_at, caused_by: Some(reply.request_id.clone()), ..hop }
    }

    pub(super) fn event(stored: &StoredRecord) -> Self {
        let header = |name: &str| stored.record.headers.get_str(name);
        let (id, what) = (header("ce_id"), header("ce_type"));
        let hop = Self::of(
            Kind::Event,
            stored,
            id.unwrap_or_default(),
            what.unwrap_or("an event without a type").to_owned(),
        );
        let time = header("ce_time").and_then(|time| time.parse::<Timestamp>().ok());
        let cause = header("ce_causationid").or(header("ce_correlationid"));
        let at_ms = time.map_or(hop.at_ms, Timestamp::as_millisecond);
        Self { at_ms, caused_by: cause.map(str::to_owned), ..hop }
    }

    pub(super) fn due(stored: &StoredRecord, due: &DeliveryDueRecord) -> Self {
        let what =
            format!("{} is to be told to subscription {}", due.event_type, due.subscription_id);
        let hop = Self::of(Kind::Delivery, stored, &due.delivery_id, what);
        Self { at_ms: due.due_at, caused_by: Some(due.event_id.clone()), ..hop }
    }

    pub(super) fn attempt(stored: &StoredRecord, tried: &DeliveryAttemptedRecord) -> Self {
        let mut what = format!("attempt {}: {}", tried.attempt, tried.outcome);
        what.extend(tried.status.map(|status| format!(", answered {status}")));
        what.extend(tried.detail.as_ref().map(|detail| format!(", {detail}")));
        let hop = Self::of(Kind::Attempt, stored, &tried.delivery_id, what);
        Self { at_ms: tried.attempted_at, caused_by: Some(tried.event_id.clone()), ..hop }
    }

    /// By time, then in the order in which one leads to the other, then by place.
    pub(super) fn order(&self) -> (i64, Kind, &Option<(String, u32, u64)>, &str) {
        (self.at_ms, self.kind, &self.place, &self.what)
    }

    pub(super) fn json(&self) -> Value {
        let at = Timestamp::from_millisecond(self.at_ms).ok().filter(|_| self.kind != Kind::Table);
        let place = self.place.as_ref();
        json!({
            "kind": self.kind.as_str(),
            "at": at.map(|at| format!("{at:.3}")),
            "topic": place.map(|place| &place.0),
            "partition": place.map(|place| place.1),
            "offset": place.map(|place| place.2),
            "table": self.table,
            "id": self.id,
            "key": self.key,
            "what": self.what,
            "caused_by": self.caused_by,
        })
    }
}
