//! Providers that an operator pauses and resumes.

use super::{Answer, MAX_BODY, Operations, Reason, known, projections, read, reason_of, shown};
use crate::{
    contexts::{Decision, NewEvent, Undecided, caller_of, known_of, not_json},
    write::{CommandApi, Write},
};
use almanac_domain::operations::{Pause, PauseRefusal, decide_pausing};
use almanac_edge::{Problem, ProblemType, Routes, openapi::Fragment, openapi_fragment};
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::pausing,
    pausing::{PausingEventRecord, encode, event_type, id_of},
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use jiff::Timestamp;
use std::sync::Arc;

pub(super) const OPENAPI: Fragment = openapi_fragment!("pausing.openapi.json");

pub(super) fn routes(routes: Routes<Arc<CommandApi>>) -> Routes<Arc<CommandApi>> {
    routes
        .post("/v1/admin/providers/{name}/pause", of(Pause::Pause))
        .post("/v1/admin/providers/{name}/resume", of(Pause::Resume))
}

fn of(wanted: Pause) -> impl Fn(State<Arc<CommandApi>>, Path<String>, Request) -> Answer + Clone {
    move |State(api), Path(name), request| {
        Box::pin(async move { act(&api, &name, wanted, request).await })
    }
}

async fn act(
    api: &CommandApi,
    name: &str,
    wanted: Pause,
    request: Request,
) -> Result<Response, Problem> {
    let asked = api.body(api.head(&Operations, request)?, MAX_BODY).await?;
    let of = projections(api)?;
    let reason = reason_of(&asked, read::<Reason>(&asked.body)?.reason)?;
    if !of.providers.iter().any(|known| known == name) {
        // One that is configured no more can still be resumed: else it is told of for ever.
        if known(of).await?.paused(name).is_none() {
            let detail = "no provider with this name is configured";
            return Err(Problem::new(ProblemType::NotFound, detail));
        }
    }
    let (verb, body) = pausing::command(name, wanted, &reason);
    let write = Write { verb, id: id_of(name), body: Some(body), attachment: None };
    let response = api.write(&asked, write).await?;
    shown(of).await;
    Ok(response)
}

/// Decides a command that is about a provider; `None` for any other.
pub(super) fn decide(
    context: &Operations,
    codec: &Codec,
    newest: Option<&Decoded<'_>>,
    command: &CommandRecord,
    now: Timestamp,
) -> Result<Option<Decision>, Undecided> {
    let body = command.body.as_deref().unwrap_or_default();
    let read = pausing::read_command(&command.verb, body).map_err(|error| not_json(&error))?;
    let Some((wanted, provider, reason)) = read else { return Ok(None) };
    let known = known_of(context, newest, PausingEventRecord::knowledge)?;
    let caller = caller_of(command);
    let event = decide_pausing(known.as_ref(), &provider, wanted, &reason, &caller, now);
    let event = event.map_err(|refusal| refused(&refusal))?;
    let after = event.as_ref().or(known.as_ref());
    let after = after.ok_or_else(|| refused(&PauseRefusal::NotPaused(provider)))?;
    let (version, body) = (after.version, pausing::pausing(after).to_string());
    let new = event.as_ref().map(|event| {
        Ok::<_, Undecided>(NewEvent {
            value: encode(codec, event)?,
            event_type: event_type(event),
            occurred_at: event.since,
            version,
        })
    });
    Ok(Some(Decision { status: 200, version, body, event: new.transpose()? }))
}

fn refused(refusal: &PauseRefusal) -> Undecided {
    let kind = match refusal {
        PauseRefusal::NotAllowed => ProblemType::Forbidden,
        PauseRefusal::NotPaused(_) => ProblemType::Conflict,
    };
    Problem::new(kind, refusal.to_string()).into()
}
