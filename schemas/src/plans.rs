//! Records of `plans.events`, and plans in them.
//!
//! The types borrow from what they are made of or read from. In every record that holds a plan,
//! the plan is the last field: its bytes are encoded once and shared by the event, by the state
//! that the next body is compared with, and by that comparison.

use crate::{
    codec::{Codec, CodecError, parse, with_prefix},
    files::SchemaFile,
};
use almanac_domain::plans::{
    Changes, Knowledge, LocalTime, Plan, PlanEvent, PlanFact, PlanIdentity, SellMode, Zone,
};
use almanac_errors::Cause;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_avro_fast::ser::SerializerConfig;
use std::borrow::Cow;

pub const TOPIC: &str = "plans.events";
pub const LISTED: &str = "almanac.plans.PlanListed";
pub const CHANGED: &str = "almanac.plans.PlanChanged";
pub const DELISTED: &str = "almanac.plans.PlanDelisted";
pub const RELISTED: &str = "almanac.plans.PlanRelisted";
pub const FEED_OBSERVED: &str = "almanac.plans.FeedObserved";
pub const STATE: &str = "almanac.ingest.PlanState";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalTimeRecord {
    pub unix_seconds: i64,
    pub utc_offset_seconds: i32,
}

impl From<LocalTime> for LocalTimeRecord {
    fn from(time: LocalTime) -> Self {
        Self { unix_seconds: time.unix_seconds(), utc_offset_seconds: time.offset_seconds() }
    }
}

impl LocalTimeRecord {
    /// `None` when it lies outside the years 1 to 9999, which no event of ours does.
    pub fn to_domain(self) -> Option<LocalTime> {
        LocalTime::from_parts(self.unix_seconds, self.utc_offset_seconds)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneRecord<'a> {
    #[serde(borrow)]
    pub zone_id: Cow<'a, str>,
    #[serde(borrow)]
    pub name: Option<Cow<'a, str>>,
    pub capacity: i64,
    #[serde(borrow)]
    pub price: Option<Cow<'a, str>>,
    pub numbered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRecord<'a> {
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub provider: Cow<'a, str>,
    #[serde(borrow)]
    pub base_plan_id: Cow<'a, str>,
    #[serde(borrow)]
    pub plan_id: Cow<'a, str>,
    #[serde(borrow)]
    pub title: Cow<'a, str>,
    #[serde(borrow)]
    pub organizer_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub sell_mode: Cow<'a, str>,
    pub starts_at: LocalTimeRecord,
    pub ends_at: Option<LocalTimeRecord>,
    pub sell_from: Option<LocalTimeRecord>,
    pub sell_to: Option<LocalTimeRecord>,
    pub sold_out: bool,
    #[serde(borrow)]
    pub currency: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub url: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub zones: Vec<ZoneRecord<'a>>,
}

impl<'a> PlanRecord<'a> {
    pub fn from_domain(plan: &'a Plan, id: &'a str) -> Self {
        let text = |text: &'a Option<String>| text.as_deref().map(Cow::Borrowed);
        Self {
            id: Cow::Borrowed(id),
            provider: Cow::Borrowed(&plan.identity.provider),
            base_plan_id: Cow::Borrowed(&plan.identity.base_plan_id),
            plan_id: Cow::Borrowed(&plan.identity.plan_id),
            title: Cow::Borrowed(&plan.title),
            organizer_id: text(&plan.organizer_id),
            sell_mode: Cow::Borrowed(plan.sell_mode.as_str()),
            starts_at: plan.starts_at.into(),
            ends_at: plan.ends_at.map(Into::into),
            sell_from: plan.sell_from.map(Into::into),
            sell_to: plan.sell_to.map(Into::into),
            sold_out: plan.sold_out,
            currency: text(&plan.currency),
            url: text(&plan.url),
            zones: plan
                .zones
                .iter()
                .map(|zone| ZoneRecord {
                    zone_id: Cow::Borrowed(&zone.zone_id),
                    name: text(&zone.name),
                    capacity: i64::from(zone.capacity),
                    price: zone.price.map(|price| Cow::Owned(price.to_string())),
                    numbered: zone.numbered,
                })
                .collect(),
        }
    }

    /// `None` when a value is outside the domain, which nothing that we wrote is.
    pub fn to_domain(&self) -> Option<Plan> {
        let text = |text: &Option<Cow<'_, str>>| text.as_ref().map(|text| text.to_string());
        let time = |time: Option<LocalTimeRecord>| match time {
            Some(time) => time.to_domain().map(Some),
            None => Some(None),
        };
        let zones = self.zones.iter().map(|zone| {
            let price = match &zone.price {
                Some(price) => Some(price.parse().ok()?),
                None => None,
            };
            Some(Zone {
                zone_id: zone.zone_id.to_string(),
                name: text(&zone.name),
                capacity: u32::try_from(zone.capacity).ok()?,
                price,
                numbered: zone.numbered,
            })
        });
        Some(Plan {
            identity: PlanIdentity {
                provider: self.provider.to_string(),
                base_plan_id: self.base_plan_id.to_string(),
                plan_id: self.plan_id.to_string(),
            },
            title: self.title.to_string(),
            organizer_id: text(&self.organizer_id),
            sell_mode: SellMode::parse(&self.sell_mode),
            starts_at: self.starts_at.to_domain()?,
            ends_at: time(self.ends_at)?,
            sell_from: time(self.sell_from)?,
            sell_to: time(self.sell_to)?,
            sold_out: self.sold_out,
            currency: text(&self.currency),
            url: text(&self.url),
            zones: zones.collect::<Option<_>>()?,
        })
    }
}

/// Any of the four events of a plan; which one, the name of the record says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PlanEventRecord<'a> {
    pub sequence: i64,
    pub occurred_at: i64,
    pub listed: bool,
    pub ever_online: bool,
    pub first_seen_at: i64,
    #[serde(borrow, default)]
    pub changed: Vec<Cow<'a, str>>,
    #[serde(default)]
    pub previous_starts_at: Option<LocalTimeRecord>,
    #[serde(default)]
    pub previous_ends_at: Option<LocalTimeRecord>,
    #[serde(borrow)]
    pub plan: PlanRecord<'a>,
}

/// What the next body is compared with.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct PlanStateRecord<'a> {
    pub ordinal: i64,
    pub sequence: i64,
    pub listed: bool,
    pub ever_online: bool,
    pub first_seen_at: i64,
    #[serde(borrow)]
    pub plan: PlanRecord<'a>,
}

impl PlanStateRecord<'_> {
    pub fn knowledge(&self) -> Option<Knowledge> {
        Some(Knowledge {
            sequence: u64::try_from(self.sequence).ok()?,
            plan: self.plan.to_domain()?,
            listed: self.listed,
            ever_online: self.ever_online,
            first_seen_at: Timestamp::from_millisecond(self.first_seen_at).ok()?,
        })
    }
}

#[derive(Serialize)]
struct EventHead<'a> {
    sequence: i64,
    occurred_at: i64,
    listed: bool,
    ever_online: bool,
    first_seen_at: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_starts_at: Option<LocalTimeRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_ends_at: Option<Option<LocalTimeRecord>>,
}

#[derive(Serialize)]
struct StateHead {
    ordinal: i64,
    sequence: i64,
    listed: bool,
    ever_online: bool,
    first_seen_at: i64,
}

/// A record without its last field, the plan.
struct Head {
    id: u32,
    record: &'static str,
    schema: serde_avro_fast::Schema,
}

/// Encodes plans, and the records that end in one.
pub struct PlanEncoder {
    plan: serde_avro_fast::Schema,
    listed: Head,
    changed: Head,
    delisted: Head,
    relisted: Head,
    state: Head,
}

impl PlanEncoder {
    pub fn new(codec: &Codec) -> Result<Self, CodecError> {
        let head = |record| {
            let (head, _) = split_schema(record)?;
            let id = codec.id_of(record)?;
            Ok::<_, CodecError>(Head { id, record, schema: parse(id, &head)? })
        };
        Ok(Self {
            plan: parse(codec.id_of(STATE)?, &split_schema(STATE)?.1)?,
            listed: head(LISTED)?,
            changed: head(CHANGED)?,
            delisted: head(DELISTED)?,
            relisted: head(RELISTED)?,
            state: head(STATE)?,
        })
    }

    /// The plan alone, without magic byte and schema id.
    pub fn plan(&self, plan: &PlanRecord<'_>) -> Result<Vec<u8>, CodecError> {
        let mut config = SerializerConfig::new(&self.plan);
        serde_avro_fast::to_datum(plan, Vec::with_capacity(256), &mut config)
            .map_err(|error| CodecError::Encode { record: "Plan", source: error.into() })
    }

    /// Reads what [`Self::plan`] wrote.
    pub fn read_plan<'a>(&self, bytes: &'a [u8]) -> Result<PlanRecord<'a>, CodecError> {
        serde_avro_fast::from_datum_slice(bytes, &self.plan).map_err(|error| CodecError::Mismatch {
            id: 0,
            record: "Plan".to_owned(),
            source: error.into(),
        })
    }

    /// An event whose plan is `plan_bytes`; returns the record's name with its value.
    pub fn event(
        &self,
        event: &PlanEvent,
        plan_bytes: &[u8],
    ) -> Result<(&'static str, Bytes), CodecError> {
        let (head, changes): (_, Option<&Changes>) = match &event.fact {
            PlanFact::Listed => (&self.listed, None),
            PlanFact::Delisted => (&self.delisted, None),
            PlanFact::Changed { changes } => (&self.changed, Some(changes)),
            PlanFact::Relisted { changes } => (&self.relisted, Some(changes)),
        };
        let values = EventHead {
            sequence: event.after.sequence as i64,
            occurred_at: event.occurred_at.as_millisecond(),
            listed: event.after.listed,
            ever_online: event.after.ever_online,
            first_seen_at: event.after.first_seen_at.as_millisecond(),
            changed: changes
                .map(|changes| changes.fields.iter().map(|field| field.as_str()).collect()),
            previous_starts_at: changes.map(|changes| changes.previous_starts_at.into()),
            previous_ends_at: changes.map(|changes| changes.previous_ends_at.map(Into::into)),
        };
        Ok((head.record, head.complete(&values, plan_bytes)?))
    }

    pub fn state(
        &self,
        ordinal: u64,
        known: &Knowledge,
        plan_bytes: &[u8],
    ) -> Result<Bytes, CodecError> {
        let values = StateHead {
            ordinal: ordinal as i64,
            sequence: known.sequence as i64,
            listed: known.listed,
            ever_online: known.ever_online,
            first_seen_at: known.first_seen_at.as_millisecond(),
        };
        self.state.complete(&values, plan_bytes)
    }
}

impl Head {
    fn complete(&self, values: &impl Serialize, plan_bytes: &[u8]) -> Result<Bytes, CodecError> {
        let buffer = with_prefix(self.id, 64 + plan_bytes.len());
        let mut config = SerializerConfig::new(&self.schema);
        let mut buffer = serde_avro_fast::to_datum(values, buffer, &mut config)
            .map_err(|error| CodecError::Encode { record: self.record, source: error.into() })?;
        // An Avro record is its fields, one after the other: the last one is simply appended.
        buffer.extend_from_slice(plan_bytes);
        Ok(Bytes::from(buffer))
    }
}

/// The newest schema of a record, without its last field; and that field's own schema, with the
/// named types that the rest defined for it.
fn split_schema(record: &'static str) -> Result<(String, String), CodecError> {
    let file = SchemaFile::newest(record).ok_or(CodecError::UnknownRecord { record })?;
    let bad = |source: Cause| CodecError::Encode { record, source };
    let mut json: serde_json::Value =
        serde_json::from_str(file.text).map_err(|error| bad(error.into()))?;
    let fields = json
        .get_mut("fields")
        .and_then(|fields| fields.as_array_mut())
        .ok_or_else(|| bad("it has no fields".into()))?;
    let last = fields.pop().ok_or_else(|| bad("it has no fields".into()))?;
    if last.get("name").and_then(|name| name.as_str()) != Some("plan") {
        return Err(bad("its last field is not the plan".into()));
    }
    let plan = last.get("type").ok_or_else(|| bad("its plan has no type".into()))?;
    Ok((json.to_string(), plan.to_string()))
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRecord {
    pub place: String,
    pub subject: String,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedObservedRecord {
    pub provider: String,
    pub observed_at: i64,
    pub outcome: String,
    pub detail: Option<String>,
    pub listed_plans: Option<i64>,
    pub listed: i64,
    pub changed: i64,
    pub delisted: i64,
    pub relisted: i64,
    pub quarantined: i64,
    pub faults: Vec<FaultRecord>,
    pub body_bytes: Option<i64>,
    pub duration_ms: i64,
    pub breaker: String,
    pub consecutive_failures: i64,
    pub next_fetch_at: i64,
    pub next_fetch_reason: String,
    pub payload_id: Option<String>,
}
