//! The addresses at which analyses are requested and cancelled.

use super::{Analyses, CANCEL, REQUEST, body, inputs};
use crate::{
    CommandApiOptions,
    contexts::{Routes, invalid, not_json},
    documents::act,
    write::{Asked, CommandApi, Write},
};
use almanac_domain::{
    Fault,
    aggregate::{Caller, Refusal},
    analyses::{Origin, Request as Wanted, State as AnalysisState, Subject as WantedSubject},
    weather::Schedule,
};
use almanac_edge::Problem;
use almanac_schemas::{
    analyses::{AnalysisHead, AnalysisRequestedRecord, CONTEXT, MAX_INPUT_BYTES},
    json::weather::{AnalysisRequest, Subject, read_analysis, render_schedule},
    schedules,
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;
use uuid::Uuid;

/// Of an inline schedule: the event of the request must fit a record.
const MAX_SCHEDULE_BYTES: usize = 600 << 10;

pub(super) fn routes(_options: &CommandApiOptions) -> Routes {
    let shared = almanac_edge::Routes::new()
        .post("/v1/analyses", request)
        .delete("/v1/analyses/{id}", act(&Analyses, CANCEL, false));
    Routes { shared, ..Routes::default() }
}

async fn request(
    State(api): State<Arc<CommandApi>>,
    request: Request,
) -> Result<Response, Problem> {
    let head = api.head(&Analyses, request)?;
    let (limit, subject) = (api.options.open_analyses, head.caller().subject.clone());
    if api.open_of(CONTEXT, &subject) >= limit {
        let detail = format!(
            "{limit} of your analyses have not ended yet, which is as many as may be open; wait for \
             one, or cancel one"
        );
        return Err(head.refused(Problem::too_many(detail, 1)).await);
    }
    let asked = api.body(head, MAX_INPUT_BYTES + api.options.max_body_bytes).await?;
    let (read, packed) = checked(&api, &asked).await?;
    if let Subject::Stored(id) = &read.subject {
        stored(&api, *id, &asked).await?;
    }
    let id = asked.new_id()?;
    let input = match (&read.forecast, &packed) {
        (Some(forecast), Some(packed)) => {
            Some(inputs::write(&api, id, &asked.caller.subject, forecast, packed).await?)
        }
        _ => None,
    };
    let subject = match read.subject {
        Subject::Stored(id) => WantedSubject::Stored(id.to_string()),
        Subject::Inline(schedule) => WantedSubject::Inline(Box::new(schedule)),
    };
    let (sources, options, origin) = (read.sources, read.options, Origin::Request);
    let wanted = Wanted { subject, input, sources, options, origin };
    let record = AnalysisRequestedRecord::from_domain(AnalysisHead::default(), &wanted);
    let body = serde_json::to_string(&record).map_err(|error| Problem::internal(&error))?;
    let write = Write { verb: REQUEST, id, body: Some(body), attachment: None };
    let response = api.write(&asked, write).await?;
    Ok(accepted(id, response))
}

/// What can be refused without knowing more than the request, all at once; off the threads that serve,
/// since a forecast may have hundreds of thousands of values.
async fn checked(
    api: &CommandApi,
    asked: &Asked,
) -> Result<(AnalysisRequest, Option<inputs::Packed>), Problem> {
    let body = asked.body.clone();
    let read = tokio::task::spawn_blocking(move || {
        let read = read_analysis(&body).map_err(|error| not_json(&error))?.map_err(invalid)?;
        let packed = read.forecast.is_some().then(|| inputs::pack(&body)).transpose()?;
        if let Subject::Inline(schedule) = &read.subject
            && render_schedule(schedule).len() > MAX_SCHEDULE_BYTES
        {
            let rule = format!("it is larger than {MAX_SCHEDULE_BYTES} bytes");
            return Err(invalid(vec![fault(&["schedule"], rule)]));
        }
        Ok::<_, Problem>((read, packed))
    });
    let (read, packed) = read.await.map_err(|error| Problem::internal(&error))??;
    let faults = of_sources(api, &read);
    if faults.is_empty() { Ok((read, packed)) } else { Err(invalid(faults)) }
}

fn fault(place: &[&str], rule: impl Into<String>) -> Fault {
    let place = place.iter().map(|part| (*part).to_owned()).collect();
    Fault { place, rule: rule.into() }
}

/// Sources that there are not, and limits on what none of those asked for can give.
fn of_sources(api: &CommandApi, read: &AnalysisRequest) -> Vec<Fault> {
    if read.forecast.is_some() {
        return Vec::new();
    }
    let known = &api.options.forecast_sources;
    let mut faults = Vec::new();
    for (place, name) in read.sources.iter().enumerate() {
        if !known.iter().any(|source| source.name == *name) {
            let names: Vec<&str> = known.iter().map(|source| source.name.as_str()).collect();
            let rule = match names.is_empty() {
                true => "no forecast provider is configured".to_owned(),
                false => format!("there is no such source; there are {}", names.join(", ")),
            };
            faults.push(fault(&["sources", &place.to_string()], rule));
        }
    }
    let is_asked = |name: &String| read.sources.is_empty() || read.sources.contains(name);
    let asked: Vec<_> = known.iter().filter(|source| is_asked(&source.name)).collect();
    let Subject::Inline(Schedule { tasks, .. }) = &read.subject else { return faults };
    for (task, limits) in tasks.iter().map(|task| &task.limits).enumerate() {
        for (place, limit) in limits.iter().enumerate() {
            if !asked.iter().any(|source| source.variables.contains(&limit.variable)) {
                let (task, place) = (task.to_string(), place.to_string());
                let pointer = ["schedule", "tasks", &task, "limits", &place, "variable"];
                faults.push(fault(&pointer, "none of the sources has this variable"));
            }
        }
    }
    faults
}

/// Refuses a schedule that is not there, was deleted, or is somebody else's, if that is known here.
async fn stored(api: &CommandApi, id: Uuid, asked: &Asked) -> Result<(), Problem> {
    // Admins, too, analyse their own.
    let caller = Caller { subject: asked.caller.subject.clone(), is_admin: false };
    let rule = match api.permit(schedules::CONTEXT, id, &caller).await {
        Err(Refusal::Unknown | Refusal::NotAllowed) => "you have no schedule with this id",
        Err(Refusal::Deleted { .. }) => "the schedule was deleted",
        _ => return Ok(()),
    };
    Err(invalid(vec![fault(&["schedule_id"], rule)]))
}

/// A request is accepted whatever comes of it, and where to look is known: also where the decider has
/// not answered yet.
fn accepted(id: Uuid, mut response: Response) -> Response {
    let is_pending = response.status() == StatusCode::ACCEPTED
        && response
            .headers()
            .get(header::LOCATION)
            .and_then(|location| location.to_str().ok())
            .is_some_and(|location| location.starts_with("/v1/commands/"));
    if is_pending {
        let location = HeaderValue::try_from(format!("/v1/{CONTEXT}/{id}"));
        if let Ok(location) = location {
            response.headers_mut().insert(header::LOCATION, location);
        }
        *response.body_mut() = Body::from(body(&id.to_string(), AnalysisState::Queued));
    }
    response
}
