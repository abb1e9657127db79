//! Keys that projections have set aside, redriven or discarded: one of them, or those that a filter matches.
//! The projectors that own the keys do it and report; the answer tells what came of each.

use super::{Answer, MAX_BODY, Operations, Reason, broken, known, projections, read, reason_of};
use crate::{
    contexts::{Decision, NewEvent, Undecided, caller_of, known_of, not_json},
    write::{Asked, CommandApi, Write},
};
use almanac_domain::operations::{
    MAX_TARGETS, Mending, MendingCommand, MendingRefusal, Remedy, Target, decide_mending,
};
use almanac_edge::{
    Problem, ProblemType, Routes, object, openapi::Fragment, openapi_fragment, prefer::Preference,
};
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::mending,
    mending::{MendingEventRecord, encode, event_type},
};
use async_trait::async_trait;
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub(super) const OPENAPI: Fragment = openapi_fragment!("parked.openapi.json");

/// How long an answer waits for what comes of the keys, where nothing else is preferred.
const DONE: Duration = Duration::from_secs(10);

/// Which of the keys that are set aside; all where nothing is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParkedFilter {
    pub projection: Option<String>,
    /// Category of the fault, or words of it.
    pub reason: Option<String>,
    /// The name that the key is parked under.
    pub key: Option<String>,
}

/// What the tables have set aside now.
#[async_trait]
pub trait ParkedKeys: Send + Sync {
    async fn matching(&self, filter: &ParkedFilter) -> Result<Vec<Target>, Problem>;
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Bulk {
    reason: Option<String>,
    #[serde(deserialize_with = "object")]
    filter: ParkedFilter,
    expect: Option<usize>,
}

pub(super) fn routes(routes: Routes<Arc<CommandApi>>) -> Routes<Arc<CommandApi>> {
    routes
        .post("/v1/admin/parked/redrive", all(Remedy::Redrive))
        .post("/v1/admin/parked/discard", all(Remedy::Discard))
        .post("/v1/admin/parked/{projection}/{key}/redrive", one(Remedy::Redrive))
        .post("/v1/admin/parked/{projection}/{key}/discard", one(Remedy::Discard))
}

type Api = State<Arc<CommandApi>>;
/// Of a projection, and one that it set aside.
type Key = Path<(String, String)>;

fn one(remedy: Remedy) -> impl Fn(Api, Key, Request) -> Answer + Clone {
    move |State(api), Path((projection, key)), request| {
        Box::pin(async move {
            let asked = api.body(api.head(&Operations, request)?, MAX_BODY).await?;
            let reason = reason_of(&asked, read::<Reason>(&asked.body)?.reason)?;
            let filter =
                ParkedFilter { projection: Some(projection), key: Some(key), reason: None };
            let targets = projections(&api)?.parked.matching(&filter).await?;
            if targets.is_empty() && !is_repeated(&api, &asked).await? {
                let detail = "this projection has not set such a key aside";
                return Err(Problem::new(ProblemType::NotFound, detail));
            }
            mend(&api, &asked, remedy, targets, &reason).await
        })
    }
}

fn all(remedy: Remedy) -> impl Fn(Api, Request) -> Answer + Clone {
    move |State(api), request| {
        Box::pin(async move {
            let asked = api.body(api.head(&Operations, request)?, MAX_BODY).await?;
            let bulk: Bulk = read(&asked.body)?;
            let reason = reason_of(&asked, bulk.reason)?;
            let Some(expect) = bulk.expect else {
                return Err(broken(&["expect"], "it must say how many keys the filter matches"));
            };
            let mut targets = projections(&api)?.parked.matching(&bulk.filter).await?;
            let is_repeated = is_repeated(&api, &asked).await?;
            if targets.len() != expect && !is_repeated {
                let detail = format!(
                    "the filter matches {} parked keys, not {expect}; nothing was done",
                    targets.len()
                );
                return Err(Problem::new(ProblemType::Conflict, detail));
            }
            targets.truncate(MAX_TARGETS);
            if targets.is_empty() && !is_repeated {
                return Ok(nothing(remedy));
            }
            mend(&api, &asked, remedy, targets, &reason).await
        })
    }
}

/// Whether a request with this idempotency key was decided before: then it is answered by what came of it,
/// whatever is set aside now.
async fn is_repeated(api: &CommandApi, asked: &Asked) -> Result<bool, Problem> {
    let Some(id) = asked.keyed()? else { return Ok(false) };
    let known = known(projections(api)?).await?;
    Ok(known.mending(&id.to_string()).is_some())
}

fn json_answer(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// As was expected: no key is set aside, and none is to be.
fn nothing(remedy: Remedy) -> Response {
    let body = serde_json::json!({
        "id": null, "action": remedy.as_str(), "state": "completed", "matched": 0, "succeeded": 0,
        "failed": [],
    });
    json_answer(StatusCode::OK, body.to_string())
}

async fn mend(
    api: &CommandApi,
    asked: &Asked,
    remedy: Remedy,
    targets: Vec<Target>,
    reason: &str,
) -> Result<Response, Problem> {
    let id = asked.new_id()?;
    let wanted = MendingCommand::Request { id: id.to_string(), remedy, targets };
    let (verb, body) = mending::command(&wanted, reason);
    let write = Write { verb, id, body: Some(body), attachment: None };
    let mut decided = api.write(asked, write).await?;
    let is_decided = decided.headers().contains_key(header::ETAG);
    if decided.status() != StatusCode::ACCEPTED || !is_decided {
        // Refused, or not decided yet: then the command tells.
        return Ok(decided);
    }
    let preference = Preference::read(&asked.headers);
    let wait = match preference.respond_async {
        true => Duration::ZERO,
        false => preference.wait.unwrap_or(DONE),
    };
    let known = over(api, &id, wait).await?;
    let is_over = known.as_ref().is_some_and(|known| known.is_over());
    if let Some(known) = &known {
        *decided.body_mut() = mending::mending(known).to_string().into();
        decided.headers_mut().remove(header::CONTENT_LENGTH);
        decided.headers_mut().remove(header::ETAG);
    }
    decided.headers_mut().remove(header::LOCATION);
    *decided.status_mut() = if is_over { StatusCode::OK } else { StatusCode::ACCEPTED };
    if !is_over
        && let Ok(location) = HeaderValue::try_from(format!("/v1/admin/parked/actions/{id}"))
    {
        decided.headers_mut().insert(header::LOCATION, location);
    }
    Ok(decided)
}

/// What is known of a request once all of it is done, or once the time is over.
async fn over(
    api: &CommandApi,
    id: &Uuid,
    wait: Duration,
) -> Result<Option<Arc<Mending>>, Problem> {
    let operations = &projections(api)?.operations;
    let mut changes = operations.changes();
    let id = id.to_string();
    let ended = changes.wait_for(|known| known.mending(&id).is_some_and(|one| one.is_over()));
    // The sender lives as long as the installation.
    let _ = tokio::time::timeout(wait, ended).await;
    Ok(operations.known().mending(&id).cloned())
}

/// Decides a command that is about parked keys; `None` for any other.
pub(super) fn decide(
    context: &Operations,
    codec: &Codec,
    newest: Option<&Decoded<'_>>,
    command: &CommandRecord,
    now: Timestamp,
) -> Result<Option<Decision>, Undecided> {
    let body = command.body.as_deref().unwrap_or_default();
    let read = mending::read_command(&command.verb, body).map_err(|error| not_json(&error))?;
    let Some((wanted, reason)) = read else { return Ok(None) };
    let known = known_of(context, newest, MendingEventRecord::knowledge)?;
    let event = decide_mending(known.as_ref(), wanted, &reason, &caller_of(command), now);
    let event = event.map_err(|refusal| refused(&refusal))?;
    let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
    let after = after.ok_or_else(|| refused(&MendingRefusal::Unknown))?;
    let (version, body) = (after.version, mending::mending(after).to_string());
    let new = event.as_ref().map(|event| {
        Ok::<_, Undecided>(NewEvent {
            value: encode(codec, event)?,
            event_type: event_type(event.after.remedy, event.fact),
            occurred_at: event.after.updated_at,
            version,
        })
    });
    Ok(Some(Decision { status: 202, version, body, event: new.transpose()? }))
}

fn refused(refusal: &MendingRefusal) -> Undecided {
    let kind = match refusal {
        MendingRefusal::Unknown => ProblemType::NotFound,
        MendingRefusal::NotAllowed => ProblemType::Forbidden,
        MendingRefusal::Nothing | MendingRefusal::TooMany => ProblemType::Conflict,
    };
    Problem::new(kind, refusal.to_string()).into()
}
