//! What is known of a plan, as the local state keeps it: small, and comparable without decoding.

use crate::config::is_provider_name;
use almanac_domain::{plans::Knowledge, weather::Place};
use almanac_schemas::{
    CodecError,
    plans::{PlanEncoder, PlanRecord, PlanStateRecord},
};
use jiff::Timestamp;
use uuid::Uuid;

/// Ordinal, sequence, flags, first seen; the encoded plan follows.
const HEADER: usize = 8 + 8 + 1 + 8;
const LISTED: u8 = 1;
const EVER_ONLINE: u8 = 2;

/// Where the position in `ingest.requests` stands that the newest state was written with.
pub(crate) const INPUT_POSITION: &[u8] = b"\x03input-position";

/// Key of a provider's own state.
pub(crate) fn provider_key(provider: &str) -> Vec<u8> {
    [b"\x01", provider.as_bytes()].concat()
}

/// What the keys of all plans of a provider start with.
pub(crate) fn plans_prefix(provider: &str) -> Vec<u8> {
    [b"\x02", provider.as_bytes(), b"\0"].concat()
}

pub(crate) fn plan_key(provider: &str, id: Uuid) -> Vec<u8> {
    let mut key = plans_prefix(provider);
    key.extend_from_slice(id.as_bytes());
    key
}

/// What the keys of all places of a provider start with.
pub(crate) fn places_prefix(provider: &str) -> Vec<u8> {
    [b"\x04", provider.as_bytes(), b"\0"].concat()
}

pub(crate) fn place_key(provider: &str, place: Place) -> Vec<u8> {
    let mut key = places_prefix(provider);
    key.extend_from_slice(place.to_string().as_bytes());
    key
}

/// What a record of a provider is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Provider,
    Plan(Uuid),
    /// A place that a forecast was asked for.
    Place(Place),
}

/// Whose record has this key, and what it is about.
pub(crate) fn owner_of(key: &[u8]) -> Option<(&str, Subject)> {
    let text = std::str::from_utf8(key).ok()?;
    let (provider, subject) = match text.split_once('/') {
        None => (text, Subject::Provider),
        Some((provider, subject)) => match subject.split_once('/') {
            None => (provider, Subject::Plan(Uuid::try_parse(subject).ok()?)),
            Some((lat, lon)) => {
                let place = Place::parse(lat, lon).filter(|place| place.to_string() == subject)?;
                (provider, Subject::Place(place))
            }
        },
    };
    is_provider_name(provider).then_some((provider, subject))
}

/// An entry of the local state.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) ordinal: u64,
    pub(crate) sequence: u64,
    pub(crate) listed: bool,
    ever_online: bool,
    first_seen_ms: i64,
    pub(crate) plan_bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    /// `None` when the bytes are not an entry, which only damage explains.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (header, plan_bytes) = bytes.split_at_checked(HEADER)?;
        let number = |at: usize| header[at..at + 8].try_into().map(u64::from_be_bytes).ok();
        Some(Self {
            ordinal: number(0)?,
            sequence: number(8)?,
            listed: header[16] & LISTED != 0,
            ever_online: header[16] & EVER_ONLINE != 0,
            first_seen_ms: number(17)? as i64,
            plan_bytes,
        })
    }

    pub(crate) fn write(ordinal: u64, known: &Knowledge, plan_bytes: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + plan_bytes.len());
        bytes.extend_from_slice(&ordinal.to_be_bytes());
        bytes.extend_from_slice(&known.sequence.to_be_bytes());
        bytes.push(u8::from(known.listed) * LISTED + u8::from(known.ever_online) * EVER_ONLINE);
        bytes.extend_from_slice(&known.first_seen_at.as_millisecond().to_be_bytes());
        bytes.extend_from_slice(plan_bytes);
        bytes
    }

    pub(crate) fn knowledge(&self, encoder: &PlanEncoder) -> Result<Knowledge, CodecError> {
        let unreadable = || CodecError::Mismatch {
            id: 0,
            record: "Plan".to_owned(),
            source: "a value in the local state is outside the domain".into(),
        };
        let plan: PlanRecord<'_> = encoder.read_plan(self.plan_bytes)?;
        Ok(Knowledge {
            sequence: self.sequence,
            plan: plan.to_domain().ok_or_else(unreadable)?,
            listed: self.listed,
            ever_online: self.ever_online,
            first_seen_at: Timestamp::from_millisecond(self.first_seen_ms)
                .map_err(|_| unreadable())?,
        })
    }
}

/// Key and value in the local state.
pub(crate) type StoredEntry = (Vec<u8>, Vec<u8>);

/// An entry from a record of `ingest.state`: key and value.
pub(crate) fn from_state_record(
    record: &PlanStateRecord<'_>,
    encoder: &PlanEncoder,
) -> Result<Option<StoredEntry>, CodecError> {
    let (Some(known), Ok(ordinal)) = (record.knowledge(), u64::try_from(record.ordinal)) else {
        return Ok(None);
    };
    let plan_bytes = encoder.plan(&record.plan)?;
    let key = plan_key(&record.plan.provider, known.plan.identity.public_id());
    Ok(Some((key, Entry::write(ordinal, &known, &plan_bytes))))
}
