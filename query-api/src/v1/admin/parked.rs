//! Keys that projections have set aside: which there are, the event that cannot be folded, and what came of
//! what operators wanted done.

use super::{answer, cut, known, list, log_problem, projections::time};
use crate::{
    state::{ApiState, ProjectionNames},
    v1::{cursor, store_problem},
};
use almanac_domain::operations::Remedy;
use almanac_edge::{Problem, ProblemType, openapi::Fragment, openapi_fragment, query::Parameters};
use almanac_errors::chain;
use almanac_event_log::{Excerpt, ReadLimit, StoredRecord};
use almanac_operations::Known;
use almanac_read_store::{ReadStore, StoreResult};
use almanac_schemas::{
    json::{AnyJson, cloud_event, mending},
    schema_id,
};
use almanac_tables::{
    Edition,
    parked::{self, Category, Parked},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

pub(crate) const OPENAPI: Fragment = openapi_fragment!("parked.openapi.json");

/// Of a value that is shown as it is.
const RAW: usize = 4_096;
/// Events that are longer as JSON are shown as they are.
const MAX_DECODED: usize = 256 << 10;
const LIMIT: ReadLimit = ReadLimit { records: 1, bytes: 1 };
const WAIT: Duration = Duration::from_secs(2);

/// Which of the keys that are set aside; all where nothing is named.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter<'a> {
    pub projection: Option<&'a str>,
    /// Category of the fault; what names none is looked for in its words.
    pub reason: Option<&'a str>,
    /// The name that the key is parked under.
    pub key: Option<&'a str>,
}

/// A key that the tables of one edition have set aside.
#[derive(Clone, Debug)]
pub struct SetAside {
    pub projection: &'static str,
    pub edition: Edition,
    pub parked: Parked,
}

impl Filter<'_> {
    fn takes(&self, parked: &Parked) -> bool {
        let is_of_reason = |wanted: &str| {
            if Category::ALL.iter().any(|one| one.as_str() == wanted) {
                return category(parked) == wanted;
            }
            parked.fault().to_lowercase().contains(&wanted.to_lowercase())
        };
        parked.is_set_aside()
            && self.key.is_none_or(|key| parked.name == key)
            && self.reason.is_none_or(is_of_reason)
    }
}

/// Rows of earlier versions do not say.
fn category(parked: &Parked) -> &'static str {
    parked.category().map_or("event", |category| category.as_str())
}

/// All keys that a filter matches, of every edition that is filled, in their order.
pub async fn matching(
    store: &dyn ReadStore,
    known: &Known,
    projections: &[ProjectionNames],
    filter: &Filter<'_>,
) -> StoreResult<Vec<SetAside>> {
    let mut found = Vec::new();
    let wanted =
        projections.iter().filter(|one| filter.projection.is_none_or(|name| one.name == name));
    for one in wanted {
        for generation in known.filled(one.name, one.fold) {
            let edition = Edition { version: one.fold, generation };
            let all = parked::all(store, one.name, edition).await?.into_iter();
            let some = all.filter(|parked| filter.takes(parked));
            let projection = one.name;
            found.extend(some.map(|parked| SetAside { projection, edition, parked }));
        }
    }
    Ok(found)
}

pub(super) async fn parked(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let names = ["projection", "reason", "key", "limit", "cursor"];
    let parameters = Parameters::parse(query.as_deref(), &names)?;
    let known = known(&state, &headers).await?;
    let filter = Filter {
        projection: parameters.one("projection")?,
        reason: parameters.one("reason")?,
        key: parameters.one("key")?,
    };
    let all = matching(&*state.store, &known, &state.options.projections, &filter).await;
    let all = all.map_err(|error| store_problem(&error))?;
    let keyed = all.iter().map(|one| {
        let Parked { topic, partition, name, .. } = &one.parked;
        (format!("{} {} {topic} {partition:06} {name}", one.projection, one.edition), one)
    });
    let mut all: Vec<_> = keyed.collect();
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let bound = format!("parked {:?}", (filter.projection, filter.reason, filter.key));
    let after = parameters.one("cursor")?;
    let after = after.map(|text| cursor::decode::<String>(&bound, text)).transpose()?;
    // The key at which a page ended may be mended meanwhile.
    let left = all.into_iter().filter(|(key, _)| after.as_ref().is_none_or(|after| key > after));
    let (some, next) = cut(&bound, parameters.limit()?, left);
    let items: Vec<Value> = some.into_iter().map(item).collect();
    Ok(list(&headers, &items, &next))
}

fn item(one: &SetAside) -> Value {
    let parked = &one.parked;
    json!({
        "projection": one.projection,
        "version": one.edition.to_string(),
        "key": parked.name,
        "topic": parked.topic,
        "partition": parked.partition,
        "offset": parked.offset(),
        "last_offset": parked.last(),
        "since": parked.at_ms().map_or(Value::Null, time),
        "reason": category(parked),
        "fault": parked.fault(),
        "discarded": parked.discarded().iter().map(|one| {
            json!({"offset": one.offset, "fault": one.reason})
        }).collect::<Vec<_>>(),
    })
}

/// One key in every edition that has set it aside, the live one first; with the event.
pub(super) async fn one(
    State(state): State<Arc<ApiState>>,
    Path((projection, key)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let known = known(&state, &headers).await?;
    let filter = Filter { projection: Some(&projection), key: Some(&key), reason: None };
    let found = matching(&*state.store, &known, &state.options.projections, &filter).await;
    let mut found = found.map_err(|error| store_problem(&error))?;
    found.sort_by_key(|one| {
        one.edition.generation != known.live(one.projection, one.edition.version)
    });
    let none =
        || Problem::new(ProblemType::NotFound, "this projection has not set such a key aside");
    let first = found.first().ok_or_else(none)?;
    let mut body = item(first);
    body["event"] = event(&state, &first.parked).await?;
    body["also"] = found[1..].iter().map(item).collect();
    Ok(answer(&headers, &body))
}

/// The event that cannot be folded, as far as it can be read.
async fn event(state: &ApiState, parked: &Parked) -> Result<Value, Problem> {
    let topic = format!("{}{}", state.options.prefix, parked.topic);
    let (partition, offset) = (parked.partition, parked.offset());
    let read = async {
        let mut reader = state.log.read_to(&topic, partition, offset, offset + 1).await?;
        reader.next(LIMIT, WAIT).await
    };
    let batch = read.await.map_err(|error| log_problem(&error))?;
    let Some(record) = batch.records.into_iter().find(|one| one.offset == offset) else {
        return Ok(Value::Null);
    };
    Ok(shown(state, &record).await)
}

async fn shown(state: &ApiState, record: &StoredRecord) -> Value {
    let headers = &record.record.headers;
    let value = record.record.value.as_deref();
    let mut data = Value::Null;
    let mut fault = Value::Null;
    let mut schema = Value::Null;
    if let Some(value) = value {
        schema = schema_id(value).map_or(Value::Null, Into::into);
        match state.codec.decode(value).await.and_then(|decoded| decoded.read()) {
            Ok(AnyJson(read)) if read.to_string().len() <= MAX_DECODED => data = read,
            Ok(_) => fault = format!("as JSON it has more than {MAX_DECODED} bytes").into(),
            Err(error) => {
                fault = Excerpt::of(&chain(&error).to_string()).at_most(1_000).to_string().into()
            }
        }
    }
    let mut shown = cloud_event(|name| headers.get_str(name).map(str::to_owned), data);
    shown["partition"] = record.partition.into();
    shown["offset"] = record.offset.into();
    shown["schema_id"] = schema;
    shown["bytes"] = value.map_or(Value::Null, |value| value.len().into());
    shown["unread"] = fault.clone();
    // What could not be read is shown as it is.
    shown["raw"] = match value {
        Some(value) if !fault.is_null() => {
            almanac_tables::hex(&value[..value.len().min(RAW)]).into()
        }
        _ => Value::Null,
    };
    shown
}

/// What came of a request.
pub(super) async fn action(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let known = known(&state, &headers).await?;
    let none =
        || Problem::new(ProblemType::NotFound, "there is no such request, or it is an old one");
    let found = known.mending(&id).filter(|known| known.remedy != Remedy::Repair);
    let found = found.ok_or_else(none)?;
    Ok(answer(&headers, &mending::mending(found)))
}
