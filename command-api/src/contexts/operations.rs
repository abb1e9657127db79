//! Operations: what operators do to the tables of projections and to providers. Each action is an event with its actor and
//! its reason, and the decider refuses what does not fit what was done before.

mod parked;
mod partial;
mod pausing;

use super::{Context, Decision, NewEvent, Routes, Undecided, caller_of, invalid, known_of};
use crate::{
    CommandApiOptions,
    write::{Asked, CommandApi, Write},
};
use almanac_domain::{
    Fault,
    operations::{Command, Refusal, Remedy, Request as Rebuild, Step, decide},
};
use almanac_edge::{
    Problem, ProblemType, Scope, identity::LOCAL, object, openapi::Fragment, openapi_fragment,
};
use almanac_errors::chain;
use almanac_operations::Operations as Known;
use almanac_schemas::{
    Codec, Decoded,
    commands::CommandRecord,
    json::operations,
    operations::{CONTEXT, OperationEventRecord, TOPIC, encode, event_type, id_of},
};
use axum::{
    extract::{Path, Request, State},
    response::Response,
};
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde::{Deserialize, de::DeserializeOwned};
use std::{fmt, sync::Arc, time::Duration};

pub use parked::{ParkedFilter, ParkedKeys};
pub use partial::{Only, Parts};

pub(crate) struct Operations;

/// What operators may act on.
#[derive(Clone)]
pub struct Projections {
    pub operations: Arc<Known>,
    /// Names, and the versions of their folds.
    pub folds: Vec<(&'static str, u32)>,
    /// Keys that their tables have set aside.
    pub parked: Arc<dyn ParkedKeys>,
    /// What partial rebuilds are of.
    pub parts: Arc<dyn Parts>,
    /// Names of those that are configured.
    pub providers: Vec<String>,
}

impl fmt::Debug for Projections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.folds).finish()
    }
}

/// Events read a second while a rebuild hydrates, where nothing else is wanted.
const EVENTS_PER_S: u32 = 10_000;
/// Bodies are a reason and a few options.
const MAX_BODY: usize = 64 << 10;
const MAX_REASON: usize = 1_000;
/// How long an answer waits until its action shows.
const SHOWN: Duration = Duration::from_secs(5);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Reason {
    reason: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asking {
    reason: Option<String>,
    dry_run: bool,
    activate: Option<Activation>,
    events_per_s: Option<u32>,
    only: Option<serde_json::Value>,
    /// Positions to fold to and not beyond, by topic and partition.
    until: Option<serde_json::Map<String, serde_json::Value>>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Activation {
    Auto,
    Manual,
}

impl Context for Operations {
    fn name(&self) -> &'static str {
        CONTEXT
    }

    fn noun(&self) -> &'static str {
        "projection"
    }

    fn events(&self) -> &'static str {
        TOPIC
    }

    fn scope(&self) -> Scope {
        Scope::Admin
    }

    fn deleted(&self) -> &'static str {
        "the projection is gone"
    }

    fn is_deletion(&self, _record: &str) -> bool {
        false
    }

    fn openapi(&self) -> Fragment {
        openapi_fragment!("operations.openapi.json")
    }

    fn more_openapi(&self) -> &'static [Fragment] {
        const { &[parked::OPENAPI, pausing::OPENAPI] }
    }

    fn routes(&self, _options: &CommandApiOptions) -> Routes {
        let only_here = almanac_edge::Routes::new()
            .post("/v1/admin/rebuilds/{id}/activate", of(|| Step::Activate))
            .post("/v1/admin/rebuilds/{id}/rollback", of(|| Step::Rollback))
            .post("/v1/admin/rebuilds/{id}/cancel", of(|| Step::Cancel))
            .post("/v1/admin/rebuilds/{id}/pause", of(|| Step::Pause))
            .post("/v1/admin/rebuilds/{id}/resume", of(|| Step::Resume))
            .post("/v1/admin/rebuilds/{id}/drop", of(|| Step::Drop))
            .post("/v1/admin/projections/{name}/rebuilds", rebuild);
        let only_here = pausing::routes(parked::routes(only_here));
        Routes { only_here, ..Routes::default() }
    }

    fn decide(
        &self,
        codec: &Codec,
        newest: Option<&Decoded<'_>>,
        command: &CommandRecord,
        now: Timestamp,
    ) -> Result<Decision, Undecided> {
        let body = command.body.as_deref().unwrap_or_default();
        if let Some(decided) = parked::decide(self, codec, newest, command, now)? {
            return Ok(decided);
        }
        if let Some(decided) = pausing::decide(self, codec, newest, command, now)? {
            return Ok(decided);
        }
        let known = known_of(self, newest, OperationEventRecord::knowledge)?;
        let read = operations::read_command(&command.verb, body);
        let read = read.map_err(|error| super::not_json(&error))?;
        let Some((wanted, reason)) = read else {
            return Err(Undecided::unknown_verb(self, &command.verb));
        };
        let begins = matches!(wanted, Command::Rebuild(_));
        let event = decide(known.as_ref(), wanted, &reason, &caller_of(command), now);
        let event = event.map_err(|refusal| refused(&refusal))?;
        let after = event.as_ref().map(|event| &event.after).or(known.as_ref());
        let after = after.ok_or_else(|| refused(&Refusal::Unknown))?;
        let body = operations::rebuild(after).to_string();
        let (status, version) = (if begins { 202 } else { 200 }, after.version);
        let event = event.as_ref().map(|event| {
            Ok::<_, Undecided>(NewEvent {
                value: encode(codec, event)?,
                event_type: event_type(event.fact),
                occurred_at: event.occurred_at,
                version: event.after.version,
            })
        });
        Ok(Decision { status, version, body, event: event.transpose()? })
    }
}

fn refused(refusal: &Refusal) -> Undecided {
    let kind = match refusal {
        Refusal::Unknown => ProblemType::NotFound,
        Refusal::NotAllowed => ProblemType::Forbidden,
        Refusal::UnderWay { .. } | Refusal::Impossible { .. } => ProblemType::Conflict,
    };
    Problem::new(kind, refusal.to_string()).into()
}

fn read<T: DeserializeOwned + Default>(body: &[u8]) -> Result<T, Problem> {
    if body.is_empty() {
        return Ok(T::default());
    }
    let value: serde_json::Value = serde_json::from_slice(body).map_err(|error| {
        Problem::new(ProblemType::BadRequest, format!("the body is no JSON: {error}"))
    })?;
    object(value).map_err(|error| broken(&[], &error.to_string()))
}

fn broken(place: &[&str], rule: &str) -> Problem {
    let place = place.iter().map(|part| (*part).to_owned()).collect();
    invalid(vec![Fault { place, rule: rule.to_owned() }])
}

/// Whoever acts from elsewhere says why.
fn reason_of(asked: &Asked, reason: Option<String>) -> Result<String, Problem> {
    let reason = reason.unwrap_or_default().trim().to_owned();
    if reason.is_empty() && asked.caller.subject != LOCAL {
        return Err(broken(&["reason"], "it must say why"));
    }
    if reason.len() > MAX_REASON {
        return Err(broken(&["reason"], "it must have at most 1000 bytes"));
    }
    Ok(reason)
}

fn projections(api: &CommandApi) -> Result<&Projections, Problem> {
    let none = || Problem::new(ProblemType::NotFound, "there is no such projection");
    api.options.projections.as_ref().ok_or_else(none)
}

/// What operators did until now.
async fn known(projections: &Projections) -> Result<Arc<almanac_operations::Known>, Problem> {
    let known = projections.operations.now(SHOWN).await;
    known.map_err(|error| Problem::unavailable("the event log", &error))
}

/// Once the answer is given, whoever asks here is told of the action.
async fn shown(projections: &Projections) {
    if let Err(error) = projections.operations.now(SHOWN).await {
        tracing::debug!(error = %chain(&error), "what operators did cannot be read now");
    }
}

async fn rebuild(
    State(api): State<Arc<CommandApi>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let asked = api.body(api.head(&Operations, request)?, MAX_BODY).await?;
    let projections = projections(&api)?;
    let found = projections.folds.iter().find(|(known, _)| *known == name);
    let Some((projection, fold)) = found else {
        let known: Vec<&str> = projections.folds.iter().map(|(name, _)| *name).collect();
        let detail = format!("there is no projection {name}; there are {}", known.join(", "));
        return Err(Problem::new(ProblemType::NotFound, detail));
    };
    let asking: Asking = read(&asked.body)?;
    let reason = reason_of(&asked, asking.reason)?;
    if let Some(only) = asking.only.filter(|only| !only.is_null()) {
        let only = partial::read(&only)?;
        let whole = [
            ("dry_run", asking.dry_run),
            ("activate", asking.activate == Some(Activation::Manual)),
            ("events_per_s", asking.events_per_s.is_some()),
            ("until", asking.until.is_some()),
        ];
        if let Some((name, _)) = whole.iter().find(|(_, is_given)| *is_given) {
            return Err(broken(&[name], "a partial rebuild changes rows of the live tables"));
        }
        return partial::begin(&api, &asked, projection, &only, &reason).await;
    }
    let automatic = asking.activate == Some(Activation::Auto);
    if asking.dry_run && automatic {
        return Err(broken(&["activate"], "a dry run is never switched to"));
    }
    if asking.until.is_some() && !asking.dry_run {
        return Err(broken(&["until"], "only a dry run ends at positions"));
    }
    let id = asked.new_id()?.to_string();
    let wanted = Command::Rebuild(Rebuild {
        id: id.clone(),
        projection: (*projection).to_owned(),
        fold: *fold,
        dry_run: asking.dry_run,
        automatic,
        events_per_s: asking.events_per_s.unwrap_or(EVENTS_PER_S).min(i32::MAX as u32),
        until: asking.until.map(|until| serde_json::Value::Object(until).to_string()),
    });
    let (verb, body) = operations::command(&wanted, &reason);
    let write = Write { verb, id: id_of(projection), body: Some(body), attachment: None };
    let mut response = api.write(&asked, write).await?;
    shown(projections).await;
    locate(&mut response, &id);
    Ok(response)
}

/// Where a rebuild is told of, once it is decided.
fn locate(response: &mut Response, id: &str) {
    let is_decided = response.headers().contains_key(header::ETAG);
    if response.status() == StatusCode::ACCEPTED
        && is_decided
        && let Ok(location) = HeaderValue::try_from(format!("/v1/admin/rebuilds/{id}"))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
}

type Answer = std::pin::Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

fn of(
    step: fn() -> Step,
) -> impl Fn(State<Arc<CommandApi>>, Path<String>, Request) -> Answer + Clone {
    move |State(api), Path(id), request| {
        Box::pin(async move { act(&api, id, step(), request).await })
    }
}

async fn act(
    api: &CommandApi,
    id: String,
    step: Step,
    request: Request,
) -> Result<Response, Problem> {
    let asked = api.body(api.head(&Operations, request)?, MAX_BODY).await?;
    let projections = projections(api)?;
    let reason = reason_of(&asked, read::<Reason>(&asked.body)?.reason)?;
    let known = known(projections).await?;
    if known.mending(&id).is_some_and(|known| known.remedy == Remedy::Repair) {
        let detail = "a partial rebuild goes through by itself, and is not undone";
        return Err(Problem::new(ProblemType::Conflict, detail));
    }
    let Some(rebuild) = known.rebuild(&id) else {
        return Err(Problem::new(ProblemType::NotFound, "there is no rebuild with this id"));
    };
    let projection = id_of(&rebuild.rebuild.request.projection);
    let (verb, body) = operations::command(&Command::Of(id, step), &reason);
    let write = Write { verb, id: projection, body: Some(body), attachment: None };
    let response = api.write(&asked, write).await?;
    shown(projections).await;
    Ok(response)
}
