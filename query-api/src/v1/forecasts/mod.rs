//! `/v1/forecasts`: the newest known of a place, and how good the gos of earlier ones were.

mod model;
mod score;

pub(crate) use model::{Forecasts, MODEL};

use super::store_problem;
use almanac_domain::weather::{Location, Place};
use almanac_edge::{
    Problem, conditional,
    query::{Parameters, bad},
};
use almanac_read_store::Slice;
use almanac_tables::forecasts::{PUBLISHED, UNAVAILABLE};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use jiff::Timestamp;
use rust_decimal::Decimal;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// The place that `lat` and `lon` lie in.
fn place(parameters: &Parameters) -> Result<Place, Problem> {
    let degrees = |name: &'static str, most: i64| {
        let text = parameters.one(name)?.ok_or_else(|| bad(name, "it is required"))?;
        let value: Option<Decimal> = text.parse().ok();
        let value = value.filter(|value| value.abs() <= Decimal::from(most));
        value.ok_or_else(|| bad(name, &format!("it must be from -{most} to {most} degrees")))
    };
    let location = Location { lat: degrees("lat", 90)?, lon: degrees("lon", 180)? };
    Place::of(&location).ok_or_else(|| bad("lat", "it must be a place on earth"))
}

/// What is known of each source for a place, by the name of the source: the newest forecast, and why
/// there was none.
async fn known(
    state: &Forecasts,
    place: Place,
) -> Result<BTreeMap<String, [Option<Value>; 2]>, Problem> {
    let rows = state.store.slice(&state.tables.forecasts, &place.to_string(), &Slice::all()).await;
    let rows = rows.map_err(|error| store_problem(&error))?;
    let mut sources: BTreeMap<String, [Option<Value>; 2]> = BTreeMap::new();
    for row in rows {
        let Some((source, kind)) = row.clustering.rsplit_once('/') else { continue };
        let Ok(value) = serde_json::from_slice(&row.body) else { continue };
        let known = sources.entry(source.to_owned()).or_default();
        match kind {
            PUBLISHED => known[0] = Some(value),
            UNAVAILABLE => known[1] = Some(value),
            _ => {}
        }
    }
    Ok(sources)
}

fn instant(value: &Value) -> Option<Timestamp> {
    value.as_str()?.parse().ok()
}

/// A source as it is listed now.
fn describe(
    source: &str,
    [published, unavailable]: [Option<Value>; 2],
    now: Timestamp,
) -> Option<Value> {
    // What is older than the newest forecast is over.
    let since = published.as_ref().and_then(|one| instant(&one["fetched_at"]));
    let unavailable = unavailable
        .filter(|one| since.is_none_or(|since| instant(&one["observed_at"]) > Some(since)));
    let Some(mut item) = published else {
        return Some(
            json!({"source": source, "issued_at": null, "fetched_at": null, "age_s": null,
            "is_fresh": false, "variables": {}, "unavailable": unavailable?}),
        );
    };
    let of = instant(&item["issued_at"]).or(since);
    item["age_s"] = of.map(|of| now.duration_since(of).as_secs().max(0)).into();
    item["is_fresh"] = instant(&item["fresh_until"]).is_some_and(|until| now < until).into();
    item["unavailable"] = unavailable.unwrap_or_default();
    Some(item)
}

async fn newest(
    State(state): State<Arc<Forecasts>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["lat", "lon"])?;
    let place = place(&parameters)?;
    let now = Timestamp::now();
    let known = known(&state, place).await?.into_iter();
    let items: Vec<Value> =
        known.filter_map(|(source, known)| describe(&source, known, now)).collect();
    let number = |value: Decimal| value.to_string().parse::<f64>().unwrap_or_default();
    let place = json!({"lat": number(place.lat()), "lon": number(place.lon())});
    let body = json!({"place": place, "items": items, "next_cursor": null});
    Ok(conditional::json(&headers, body.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_available_before_the_newest_is_over() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let published = json!({"source": "s", "issued_at": null, "fetched_at": "2026-01-01T11:00:00Z",
            "fresh_until": "2026-01-01T11:30:00Z", "variables": {}});
        let unavailable = |at: &str| Some(json!({"observed_at": at, "code": "timeout"}));
        let told = |published: Option<&Value>, at| {
            describe("s", [published.cloned(), unavailable(at)], now).unwrap()
        };
        let item = told(Some(&published), "2026-01-01T10:00:00Z");
        assert_eq!((&item["age_s"], &item["is_fresh"]), (&3_600.into(), &false.into()));
        assert_eq!(item["unavailable"], Value::Null);
        let item = told(Some(&published), "2026-01-01T11:59:00Z");
        assert_eq!(item["unavailable"]["code"], "timeout");
        let item = told(None, "2026-01-01T10:00:00Z");
        assert_eq!((&item["source"], &item["fetched_at"]), (&"s".into(), &Value::Null));
        assert!(describe("s", [None, None], now).is_none());
    }
}
