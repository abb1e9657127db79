//! `/v1/admin/export` and `/v1/admin/import`.

use super::{
    MovedTopic, Outline,
    export::{self, Wanted},
    import::{Asked, Whole},
};
use almanac_edge::{
    Identity, Problem, ProblemType, Routes, Scope, method_not_allowed, object,
    openapi::Fragment,
    openapi_fragment,
    query::{Parameters, bad},
};
use almanac_event_log::{EventLog, Isolation, LogError, Offset};
use almanac_operations::Operations;
use almanac_schemas::{Codec, Registry};
use axum::{
    Json,
    body::{Body, Bytes, to_bytes},
    extract::{Path, RawQuery, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::{collections::HashMap, sync::Arc, time::Duration};

pub(crate) const OPENAPI: Fragment = openapi_fragment!("moving.openapi.json");
const LINES: HeaderValue = HeaderValue::from_static("application/x-ndjson");

/// What moving needs of an installation.
pub(crate) struct Moving {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) registry: Arc<dyn Registry>,
    pub(crate) identity: Arc<Identity>,
    pub(crate) prefix: String,
    pub(crate) engine: &'static str,
    pub(crate) codec: Arc<Codec>,
    pub(crate) operations: Arc<Operations>,
    /// One request at a time.
    pub(crate) importing: tokio::sync::Mutex<()>,
    /// Of schemas at the registry, by record and version.
    pub(crate) ids: Mutex<HashMap<(&'static str, u32), u32>>,
}

pub(crate) fn routes(moving: Arc<Moving>) -> Routes {
    declared().map(|router| router.with_state(moving))
}

fn declared() -> Routes<Arc<Moving>> {
    Routes::new()
        .get("/v1/admin/export", get)
        .get("/v1/admin/import", state)
        .post("/v1/admin/import", begin)
        .post("/v1/admin/import/{id}/records", take)
        .post("/v1/admin/import/{id}/complete", complete)
        .map(|router| router.method_not_allowed_fallback(method_not_allowed))
}

pub(super) fn log_problem(error: &LogError) -> Problem {
    Problem::unavailable("the event log", error)
}

impl Moving {
    /// The topic's name in the log.
    pub(super) fn full(&self, topic: &str) -> String {
        format!("{}{topic}", self.prefix)
    }

    pub(super) async fn outline(&self) -> Result<Outline, LogError> {
        let mut topics = Vec::new();
        for topic in super::topics() {
            let name = self.full(topic);
            let described = self.log.topic(&name).await?;
            let mut ends = Vec::new();
            for partition in 0..described.partitions {
                ends.push(self.log.end(&name, partition, Isolation::Committed).await?);
            }
            topics.push(MovedTopic { topic: topic.to_owned(), id: described.id.to_string(), ends });
        }
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Ok(Outline { version, engine: self.engine.to_owned(), topics })
    }
}

pub(super) fn number<T: std::str::FromStr>(
    parameters: &Parameters,
    name: &'static str,
) -> Result<Option<T>, Problem> {
    let text = parameters.one(name)?;
    let read = text.map(|text| text.parse().map_err(|_| bad(name, "it must be a number")));
    read.transpose()
}

pub(super) fn served(topic: &str) -> Result<&'static str, Problem> {
    let topics = super::topics();
    topics.iter().find(|known| **known == topic).copied().ok_or_else(|| {
        let detail = format!("only these topics move: {}", topics.join(", "));
        Problem::new(ProblemType::NotFound, detail)
    })
}

async fn get(
    State(moving): State<Arc<Moving>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    moving.identity.require(&headers, Scope::OperatorRead)?;
    let parameters =
        Parameters::parse(query.as_deref(), &["topic", "partition", "after", "until"])?;
    // What is wrong is refused whether or not the answer needs it.
    let partition: u32 = number(&parameters, "partition")?.unwrap_or(0);
    let after: Option<Offset> = number(&parameters, "after")?;
    let until: Option<Offset> = number(&parameters, "until")?;
    let known = moving.operations.known();
    if known.import().is_some_and(|import| import.completed.is_none()) {
        let detail = "an import is under way: what is here is not whole";
        return Err(Problem::new(ProblemType::Conflict, detail));
    }
    let Some(topic) = parameters.one("topic")? else {
        let outline = moving.outline().await.map_err(|error| log_problem(&error))?;
        return Ok(Json(outline).into_response());
    };
    let topic = moving.full(served(topic)?);
    let described = moving.log.topic(&topic).await.map_err(|error| log_problem(&error))?;
    if partition >= described.partitions {
        let rule = format!("the topic has {} partitions, from 0 on", described.partitions);
        return Err(bad("partition", &rule));
    }
    let end = moving.log.end(&topic, partition, Isolation::Committed).await;
    let end = end.map_err(|error| log_problem(&error))?;
    // Beyond the end there is nothing to wait for.
    let until = until.unwrap_or(end).min(end);
    let from = export::from(&moving, &topic, partition, after).await;
    let from = from.map_err(|error| log_problem(&error))?;
    let body = export::page(moving, Wanted { topic, partition, from, until }).await?;
    Ok(([(header::CONTENT_TYPE, LINES)], body).into_response())
}

/// A request of records; that of a single one may be a megabyte, and text is longer.
const MAX_LINES: usize = 16 << 20;
const MAX_BODY: usize = 256 << 10;
const BODY_TIME: Duration = Duration::from_secs(60);

async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    match tokio::time::timeout(BODY_TIME, to_bytes(body, limit)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) => {
            let is_large = std::error::Error::source(&error)
                .is_some_and(|cause| cause.to_string().contains("limit"));
            let kind = if is_large { ProblemType::TooLarge } else { ProblemType::BadRequest };
            Err(Problem::new(kind, format!("the body of at most {limit} bytes broke off: {error}")))
        }
        Err(_) => Err(Problem::new(ProblemType::Timeout, "the body came too slowly")),
    }
}

async fn document<T: DeserializeOwned>(body: Body) -> Result<T, Problem> {
    let body = read(body, MAX_BODY).await?;
    let read = serde_json::from_slice(&body).and_then(object::<serde_json::Value, T>);
    read.map_err(|error| Problem::new(ProblemType::Invalid, format!("the body is wrong: {error}")))
}

/// Who asks, if it may.
fn actor(moving: &Moving, headers: &HeaderMap) -> Result<String, Problem> {
    Ok(moving.identity.require(headers, Scope::Admin)?.subject)
}

async fn state(
    State(moving): State<Arc<Moving>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    moving.identity.require(&headers, Scope::OperatorRead)?;
    Parameters::parse(query.as_deref(), &[])?;
    Ok(Json(moving.state().await?).into_response())
}

async fn begin(
    State(moving): State<Arc<Moving>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let actor = actor(&moving, &headers)?;
    let asked: Asked = document(body).await?;
    Ok(Json(moving.begin(asked, &actor).await?).into_response())
}

async fn take(
    State(moving): State<Arc<Moving>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    actor(&moving, &headers)?;
    let parameters = Parameters::parse(query.as_deref(), &["topic", "partition", "first"])?;
    let needed = |name: &'static str| bad(name, "it is needed");
    let topic = served(parameters.one("topic")?.ok_or_else(|| needed("topic"))?)?;
    let partition = number(&parameters, "partition")?.ok_or_else(|| needed("partition"))?;
    let first = number(&parameters, "first")?.ok_or_else(|| needed("first"))?;
    let described = moving.log.topic(&moving.full(topic)).await;
    let described = described.map_err(|error| log_problem(&error))?;
    if partition >= described.partitions {
        let rule = format!("the topic has {} partitions, from 0 on", described.partitions);
        return Err(bad("partition", &rule));
    }
    let lines = read(body, MAX_LINES).await?;
    Ok(Json(moving.take(&id, topic, partition, first, &lines).await?).into_response())
}

async fn complete(
    State(moving): State<Arc<Moving>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let actor = actor(&moving, &headers)?;
    let whole: Whole = document(body).await?;
    Ok(Json(moving.complete(&id, whole, &actor).await?).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let differences = almanac_edge::openapi::differences(&declared(), [OPENAPI]).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
