//! `/v1/admin`: what operators are told. How far tables are is read from the positions and the ends of the
//! log as they are when somebody asks.

mod audit;
mod groups;
mod lag;
pub(crate) mod parked;
mod projections;
pub(crate) mod quarantine;
mod rebuilds;
mod status;
mod topics;
mod trace;

use super::cursor;
use crate::state::ApiState;
use almanac_edge::{
    Problem, Routes, Scope, conditional, openapi::Fragment, openapi_fragment, query::Parameters,
};
use almanac_event_log::LogError;
use almanac_operations::Known;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

pub(crate) const OPENAPI: [Fragment; 6] = [
    openapi_fragment!("admin.openapi.json"),
    openapi_fragment!("status.openapi.json"),
    groups::OPENAPI,
    parked::OPENAPI,
    quarantine::OPENAPI,
    trace::OPENAPI,
];

/// How long an answer waits to be of all that was done before it was asked for.
const COMPLETE: Duration = Duration::from_secs(2);

pub(crate) fn routes() -> Routes<Arc<ApiState>> {
    Routes::new()
        .get("/v1/admin/projections", projections::projections)
        .get("/v1/admin/projections/{name}", projections::projection)
        .get("/v1/admin/rebuilds", rebuilds::rebuilds)
        .get("/v1/admin/rebuilds/{id}", rebuilds::rebuild)
        .get("/v1/admin/audit", audit::audit)
        .get("/v1/admin/status", status::status)
        .get("/v1/admin/topics", topics::topics)
        .get("/v1/admin/groups", groups::groups)
        .get("/v1/admin/trace/{id}", trace::trace)
        .get("/v1/admin/parked", parked::parked)
        .get("/v1/admin/parked/actions/{id}", parked::action)
        .get("/v1/admin/parked/{projection}/{key}", parked::one)
        .get("/v1/admin/quarantine", quarantine::quarantine)
}

async fn known(state: &ApiState, headers: &HeaderMap) -> Result<Arc<Known>, Problem> {
    state.identity.require(headers, Scope::OperatorRead)?;
    state.options.operations.now(COMPLETE).await.map_err(|error| log_problem(&error))
}

fn log_problem(error: &LogError) -> Problem {
    Problem::unavailable("the event log", error)
}

fn answer(headers: &HeaderMap, body: &Value) -> Response {
    let mut response = conditional::json(headers, body.to_string());
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A page of a list whose items have keys, in the order in which they come.
fn page<T>(
    list: &str,
    query: Option<&str>,
    items: impl Iterator<Item = (String, T)>,
) -> Result<(Vec<T>, String), Problem> {
    let parameters = Parameters::parse(query, &["limit", "cursor"])?;
    let limit = parameters.limit()?;
    let after = parameters.one("cursor")?;
    let after = after.map(|text| cursor::decode::<String>(list, text)).transpose()?;
    let mut items = items.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key != after));
    if after.is_some() {
        items.next();
    }
    Ok(cut(list, limit, items))
}

/// The first of what is left of a list.
fn cut<T>(list: &str, limit: usize, items: impl Iterator<Item = (String, T)>) -> (Vec<T>, String) {
    let mut some: Vec<(String, T)> = items.take(limit + 1).collect();
    let has_more = some.len() > limit;
    some.truncate(limit);
    let last = some.last().map(|(key, _)| key.clone()).filter(|_| has_more);
    (some.into_iter().map(|(_, item)| item).collect(), cursor::next(list, last))
}

fn list(headers: &HeaderMap, items: &[Value], next: &str) -> Response {
    let next = serde_json::from_str(next).unwrap_or(Value::Null);
    answer(headers, &json!({ "items": items, "next_cursor": next }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let all = || (0..5).map(|n| (format!("k{n}"), n));
        let (some, next) = page("list", Some("limit=2"), all()).unwrap();
        assert_eq!(some, [0, 1]);
        let query = format!("limit=3&cursor={}", next.trim_matches('"'));
        let (some, next) = page("list", Some(&query), all()).unwrap();
        assert_eq!((some, next.as_str()), (vec![2, 3, 4], "null"));
        assert!(page("other", Some(&query), all()).is_err(), "a cursor of another list");
    }
}
