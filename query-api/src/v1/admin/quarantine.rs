//! What ingestors set aside of the bodies that providers sent, the oldest first.

use super::known;
use crate::{
    state::ApiState,
    v1::{
        cursor,
        events::{Wanted, page, start},
    },
};
use almanac_edge::{Problem, conditional, openapi::Fragment, openapi_fragment, query::Parameters};
use almanac_schemas::ingest::QUARANTINE;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;

pub(crate) const OPENAPI: Fragment = openapi_fragment!("quarantine.openapi.json");

pub(super) async fn quarantine(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let names = ["provider", "since", "limit", "cursor"];
    let parameters = Parameters::parse(query.as_deref(), &names)?;
    known(&state, &headers).await?;
    let wanted = Wanted {
        key: parameters.one("provider")?.map(str::to_owned),
        since: parameters.time("since")?,
        ..Wanted::default()
    };
    let bound = format!("quarantine {:?}", (&wanted.key, wanted.since));
    let after = parameters.one("cursor")?;
    let after = after.map(|text| cursor::decode::<String>(&bound, text)).transpose()?;
    let topic = format!("{}{QUARANTINE}", state.options.prefix);
    let limit = parameters.limit()?;
    let _turn = state.turn(&headers).await?;
    let positions = start(&state, &topic, after.as_deref()).await?;
    let (records, room, positions, is_over) =
        page(&state, &topic, positions, &wanted, limit).await?;
    let items: Vec<Value> = records.iter().filter_map(|text| item(text)).collect();
    let next = cursor::next(&bound, (!is_over).then(|| positions.encode()));
    let next: Value = serde_json::from_str(&next).unwrap_or_default();
    let body = json!({ "items": items, "next_cursor": next }).to_string();
    let mut response = conditional::json(&headers, room.hold(body)?);
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// A record of the topic as it is told.
fn item(record: &str) -> Option<Value> {
    let mut record: Value = serde_json::from_str(record).ok()?;
    let mut item = record["data"].take();
    let fields = item.as_object_mut()?;
    let observed_at = Timestamp::from_millisecond(fields.get("observed_at")?.as_i64()?).ok()?;
    fields.insert("observed_at".to_owned(), json!(observed_at));
    for name in ["partition", "offset"] {
        fields.insert(name.to_owned(), record[name].take());
    }
    Some(item)
}
