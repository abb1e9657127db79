//! `/v1/providers`: how the feeds are doing. No fragments of bodies.

use super::store_problem;
use crate::state::ApiState;
use almanac_edge::{Problem, ProblemType, conditional, query::Parameters};
use almanac_projector::plans::PROVIDERS_PARTITION;
use almanac_read_store::Slice;
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// The observations of every provider, by kind: last, success, failure, body.
async fn observations(
    state: &ApiState,
) -> Result<BTreeMap<String, BTreeMap<String, Value>>, Problem> {
    let rows = state
        .store
        .slice(&state.tables.providers, PROVIDERS_PARTITION, &Slice::all())
        .await
        .map_err(|error| store_problem(&error))?;
    let mut providers: BTreeMap<String, BTreeMap<String, Value>> = BTreeMap::new();
    for row in rows {
        let Some((name, kind)) = row.clustering.rsplit_once('/') else { continue };
        let Ok(value) = serde_json::from_slice(&row.body) else { continue };
        providers.entry(name.to_owned()).or_default().insert(kind.to_owned(), value);
    }
    Ok(providers)
}

/// When each provider last answered well.
pub(super) async fn last_good_bodies(state: &ApiState) -> Result<HashMap<String, String>, Problem> {
    let providers = observations(state).await?;
    let time = |kinds: BTreeMap<String, Value>| {
        Some(kinds.get("success")?.get("observed_at")?.as_str()?.to_owned())
    };
    Ok(providers.into_iter().filter_map(|(name, kinds)| Some((name, time(kinds)?))).collect())
}

fn describe(name: &str, kinds: &BTreeMap<String, Value>, freshness_s: Option<i64>) -> Value {
    let of = |kind: &str, field: &str| kinds.get(kind).map_or(&Value::Null, |value| &value[field]);
    let age_s = of("success", "observed_at")
        .as_str()
        .and_then(|time| time.parse::<jiff::Timestamp>().ok())
        .map(|time| jiff::Timestamp::now().as_second() - time.as_second());
    json!({
        "name": name,
        "last_outcome": of("last", "outcome"),
        "last_success_at": of("success", "observed_at"),
        "last_failure_at": of("failure", "observed_at"),
        "last_failure": of("failure", "detail"),
        "consecutive_failures": of("last", "consecutive_failures"),
        "breaker": of("last", "breaker"),
        "next_fetch_at": of("last", "next_fetch_at"),
        "next_fetch_reason": of("last", "next_fetch_reason"),
        "freshness": { "age_s": age_s, "objective_s": freshness_s,
            "met": age_s.zip(freshness_s).map(|(age, objective)| age <= objective) },
        "listed_plans": of("last", "listed_plans"),
        "last_body": {
            "bytes": of("body", "body_bytes"), "observed_at": of("body", "observed_at"),
            "listed": of("body", "listed"), "changed": of("body", "changed"),
            "delisted": of("body", "delisted"), "relisted": of("body", "relisted"),
            "quarantined": of("body", "quarantined"), "faults": of("body", "faults"),
        },
        "last_replay": kinds.get("replay").map(|replay| json!({
            "at": replay["observed_at"], "detail": replay["detail"],
            "listed": replay["listed"], "changed": replay["changed"],
            "delisted": replay["delisted"], "relisted": replay["relisted"],
            "quarantined": replay["quarantined"], "faults": replay["faults"],
        })),
    })
}

pub(crate) async fn list(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let providers = observations(&state).await?;
    let items: Vec<Value> = providers
        .iter()
        .map(|(name, kinds)| describe(name, kinds, state.freshness_of(name)))
        .collect();
    Ok(conditional::json(&headers, json!({"items": items, "next_cursor": null}).to_string()))
}

pub(crate) async fn one(
    State(state): State<Arc<ApiState>>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let providers = observations(&state).await?;
    let kinds = providers.get(&name).ok_or_else(|| {
        Problem::new(ProblemType::NotFound, "no provider with this name was ever fetched")
    })?;
    let body = describe(&name, kinds, state.freshness_of(&name));
    Ok(conditional::json(&headers, body.to_string()))
}
