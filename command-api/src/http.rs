//! Writes over HTTP: a request becomes a command, and its reply the answer.

use crate::{
    answers::{accepted, answer, headers_of},
    decider::{not_json, problem_of, read_body, read_revision},
    fingerprint, headers, picture,
    replies::Replies,
    standings::Standings,
    thumbnail,
    topics::Topics,
};
use almanac_domain::recipes::{Caller as RecipeCaller, Expected, Refusal};
use almanac_edge::{
    Bodies, BodyOptions, Caller, Held, Identity, Problem, ProblemType, Scope, Turns, cors, discard,
    method_not_allowed,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::Parameters,
    request,
};
use almanac_event_log::{
    Append, EventLog, Headers, LogResult, Offset, Record, Retry, TopicId, partitioner::partition_of,
};
use almanac_processor::RoleError;
use almanac_schemas::{
    Codec, Token,
    commands::{COMMAND, CommandRecord, ReplyRecord},
    json::merge_patch,
    recipes,
};
use axum::{
    Router,
    body::{Body, Bytes},
    extract::{Path, RawQuery, Request, State},
    middleware,
    response::Response,
    routing::{get, post, put},
};
use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Namespace of the ids that follow from idempotency keys. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d5f_3c8e_9a40_5b71_8f0e_2a5c_61d7_b904);
/// A command that was taken is decided within this time, or refused.
const DEADLINE: Duration = Duration::from_secs(30);
/// For so long after it was taken, a request without an outcome counts as under way.
const PENDING: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct CommandApiOptions {
    /// Larger bodies are refused: an event with the recipe before and after must fit a record.
    pub max_body_bytes: usize,
    /// How long a write waits for its answer when nothing else is preferred.
    pub wait: Duration,
    /// Pictures decoded at the same time; so many others wait for their turn, as long as a write
    /// waits for its answer.
    pub pictures: usize,
    pub waiting_pictures: usize,
    pub bodies: BodyOptions,
}

impl Default for CommandApiOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 256 << 10,
            wait: Duration::from_secs(5),
            pictures: 2,
            waiting_pictures: 8,
            bodies: BodyOptions::default(),
        }
    }
}

pub struct CommandApi {
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: Topics,
    pub replies: Arc<Replies>,
    pub standings: Arc<Standings>,
    pub identity: Arc<Identity>,
    pub options: CommandApiOptions,
    /// Of the topic of commands, as tokens name it.
    commands: TopicId,
    decoding: Turns,
    bodies: Bodies,
}

impl CommandApi {
    /// Needs the topics to be there.
    pub async fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topics: Topics,
        replies: Arc<Replies>,
        identity: Arc<Identity>,
        options: CommandApiOptions,
    ) -> LogResult<Arc<Self>> {
        let commands = log.topic(&topics.commands).await?.id;
        let refusal = "too many pictures are being decoded";
        let decoding = Turns::new(options.pictures, options.waiting_pictures, refusal);
        let bodies = Bodies::new(&options.bodies);
        let standings = Standings::new(log.clone(), codec.clone(), &topics);
        Ok(Arc::new(Self {
            log,
            codec,
            topics,
            replies,
            standings,
            identity,
            options,
            commands,
            decoding,
            bodies,
        }))
    }
}

pub fn router(api: Arc<CommandApi>) -> Router {
    let origins = cors::Origins::of(&api.identity);
    let only_here = Router::new()
        .route("/v1/recipes/{id}/restore", post(restore))
        .route("/v1/commands/{id}", get(outcome))
        .method_not_allowed_fallback(method_not_allowed);
    // The query API has these addresses too, and answers for the methods that neither has.
    Router::new()
        .route("/v1/recipes", post(create))
        .route("/v1/recipes/{id}", put(change).patch(change).delete(change))
        .route("/v1/recipes/{id}/thumbnail", put(set_thumbnail).delete(remove_thumbnail))
        .merge(only_here)
        .route_layer(middleware::from_fn_with_state(origins, cors::writes))
        .with_state(api)
}

async fn create(State(api): State<Arc<CommandApi>>, request: Request) -> Result<Response, Problem> {
    let head = api.head(request)?;
    let asked = api.body(head, api.options.max_body_bytes).await?;
    read_body(&asked.body)?;
    let body = text_of(&asked.body)?;
    api.write("create", None, &asked, body, None).await
}

async fn change(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let asked = api.read_of(request, id, false).await?;
    let verb = match asked.method {
        Method::PUT => {
            read_revision(&asked.body)?;
            "replace"
        }
        Method::PATCH => {
            merge_patch(b"{}", &asked.body).map_err(|error| not_json(&error))?;
            "patch"
        }
        _ => "delete",
    };
    let body = text_of(&asked.body)?;
    api.write(verb, Some(id), &asked, body, None).await
}

async fn restore(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let asked = api.read_of(request, id, true).await?;
    api.write("restore", Some(id), &asked, None, None).await
}

async fn set_thumbnail(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let head = api.head(request)?;
    let declared = head.headers.get(header::CONTENT_TYPE);
    let declared = match picture::declared(declared.and_then(|value| value.to_str().ok())) {
        Ok(declared) => declared,
        Err(problem) => return Err(head.refused(problem).await),
    };
    let head = api.permitted(head, id, false).await?;
    let asked = api.body(head, picture::MAX_UPLOAD).await?;
    let wait = Preference::read(&asked.headers).wait.unwrap_or(api.options.wait);
    let turn = api.decoding.take(wait).await?;
    let body = asked.body.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        picture::prepare(declared, &body)
    });
    let picture = prepared.await.map_err(|error| {
        // A decoder that stumbles over a picture is no reason to send it again.
        tracing::error!(%error, "a picture could not be decoded");
        Problem::new(ProblemType::Invalid, "the picture cannot be decoded")
    })??;
    let body = Some(thumbnail::body(&picture));
    api.write("thumbnail", Some(id), &asked, body, Some(picture.image)).await
}

async fn remove_thumbnail(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let asked = api.read_of(request, id, false).await?;
    api.write("remove_thumbnail", Some(id), &asked, None, None).await
}

/// A request before its body is read.
struct Head {
    method: Method,
    path: String,
    headers: HeaderMap,
    caller: Caller,
    body: Body,
}

impl Head {
    /// Ends a request whose body nobody wants.
    async fn refused(self, problem: Problem) -> Problem {
        discard(&self.headers, self.body).await;
        problem
    }
}

/// What of a request matters.
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Held,
    caller: Caller,
}

impl CommandApi {
    fn head(&self, request: Request) -> Result<Head, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.identity.require(&parts.headers, Scope::RecipesWrite)?;
        Parameters::parse(parts.uri.query(), &[])?;
        let (method, path) = (parts.method, parts.uri.path().to_owned());
        Ok(Head { method, path, headers: parts.headers, caller, body })
    }

    async fn body(&self, head: Head, limit: usize) -> Result<Asked, Problem> {
        let Head { method, path, headers, caller, body } = head;
        let body = self.bodies.read(&caller.subject, body, limit).await?;
        Ok(Asked { method, path, headers, body, caller })
    }

    /// Refuses before the body is read what a decider would refuse of it for certain.
    async fn permitted(&self, head: Head, id: Uuid, restores: bool) -> Result<Head, Problem> {
        let read = headers::if_match(&head.headers)
            .and_then(|versions| Ok((versions, headers::idempotency_key(&head.headers)?)));
        let (versions, key) = match read {
            Ok(read) => read,
            Err(problem) => return Err(head.refused(problem).await),
        };
        let (subject, is_admin) = (head.caller.subject.clone(), head.caller.is_admin());
        let caller = RecipeCaller { subject, is_admin };
        let expected = versions.map_or(Expected::Any, Expected::Versions);
        match self.standings.permit(id, restores, &caller, &expected).await {
            Ok(()) => Ok(head),
            // It may repeat a request that led to this: the decider remembers.
            Err(Refusal::Deleted { .. } | Refusal::Stale { .. }) if key.is_some() => Ok(head),
            Err(refusal) => {
                let (problem, version) = problem_of(&refusal);
                Err(head.refused(problem.at_version(version)).await)
            }
        }
    }

    /// A request to change a recipe.
    async fn read_of(&self, request: Request, id: Uuid, restores: bool) -> Result<Asked, Problem> {
        let head = self.permitted(self.head(request)?, id, restores).await?;
        self.body(head, self.options.max_body_bytes).await
    }

    async fn write(
        &self,
        verb: &str,
        id: Option<Uuid>,
        asked: &Asked,
        body: Option<String>,
        attachment: Option<Vec<u8>>,
    ) -> Result<Response, Problem> {
        let expected = headers::if_match(&asked.headers)?;
        let key = headers::idempotency_key(&asked.headers)?;
        let preference = Preference::read(&asked.headers);
        let request_id = request::id().unwrap_or_else(Uuid::now_v7).to_string();
        // Every request with the same key has the same outcome, and creates the same recipe.
        let keyed = key.map(|key| {
            let method = asked.method.as_str();
            let name = [&asked.caller.subject, method, &asked.path, &key].join("\0");
            Uuid::new_v5(&NAMESPACE, name.as_bytes())
        });
        let aggregate_id = id.or(keyed).unwrap_or_else(Uuid::now_v7).to_string();
        let now = Timestamp::now().as_millisecond();
        let command = CommandRecord {
            outcome_id: keyed.map_or_else(|| request_id.clone(), |id| id.to_string()),
            request_id,
            context: recipes::CONTEXT.to_owned(),
            aggregate_id,
            verb: verb.to_owned(),
            caller: asked.caller.subject.clone(),
            is_admin: asked.caller.is_admin(),
            issued_at: now,
            deadline: now + DEADLINE.as_millis() as i64,
            fingerprint: fingerprint::of(verb, expected.as_deref(), &asked.body),
            expected: expected
                .map(|versions| versions.into_iter().map(|version| version as i64).collect()),
            body,
            attachment,
        };
        // Registered first: the reply may be there before the append returns.
        let Some(waiting) = self.replies.expect(&command.request_id) else {
            return Err(Problem::busy("too many writes are under way"));
        };
        let wait = preference.wait.unwrap_or(self.options.wait);
        let until = Instant::now() + wait;
        let wait_for_log = if wait.is_zero() { self.options.wait } else { wait };
        let offset = self.append(&command, wait_for_log).await?;
        let wait = match preference.respond_async {
            true => Duration::ZERO,
            false => until.saturating_duration_since(Instant::now()),
        };
        let reply = if wait.is_zero() { None } else { waiting.wait(wait).await };
        let mut response = match reply {
            Some(reply) => answer(&reply, self.token_of(&reply)),
            None => accepted(
                &command,
                offset.map(|offset| self.token(&command.context, &command.aggregate_id, offset)),
            ),
        };
        if let Some(applied) = preference.applied_to_write() {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }

    /// What a reader waits for to see a command's events.
    fn token(&self, context: &str, aggregate_id: &str, offset: Offset) -> Token {
        let partition = partition_of(aggregate_id.as_bytes(), self.topics.partitions);
        Token { context: context.into(), topic: self.commands.0, partition, offset }
    }

    /// The same once the command is decided: it may have led to nothing, and then there is no more
    /// to wait for than before.
    fn token_of(&self, reply: &ReplyRecord) -> Option<Token> {
        let through = u64::try_from(reply.events_through?).ok()?;
        Some(self.token(&reply.context, &reply.aggregate_id, through))
    }

    /// Its offset is known, most of the time. An error says that the command was not written and
    /// will not be; one that may be, or is still on its way when the time is over, is under way.
    async fn append(
        &self,
        command: &CommandRecord,
        at_most: Duration,
    ) -> Result<Option<Offset>, Problem> {
        let value = self.codec.encode(COMMAND, command).map_err(|e| Problem::internal(&e))?;
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let partition = partition_of(&key, self.topics.partitions);
        let record = Record {
            key,
            value: Some(value),
            headers: Headers::default(),
            timestamp_ms: command.issued_at,
        };
        let append = Append { topic: self.topics.commands.clone(), partition, record };
        let log = self.log.clone();
        let mut appending = Box::pin(async move { log.append(vec![append]).await });
        let request = command.request_id.clone();
        match tokio::time::timeout(at_most, &mut appending).await {
            Ok(Ok(offsets)) => Ok(offsets.first().copied().flatten()),
            Ok(Err(error)) if error.retry() == Retry::Unknown => {
                tracing::warn!(request, %error, "a command may be under way or not");
                Ok(None)
            }
            Ok(Err(error)) => Err(Problem::unavailable("the event log", &error)),
            Err(_) => {
                // Whoever asked knows where to look; what is on its way goes on without.
                tokio::spawn(async move {
                    if let Err(error) = appending.await {
                        tracing::warn!(request, %error, "a command that was answered 202");
                    }
                });
                Ok(None)
            }
        }
    }
}

fn text_of(body: &Bytes) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::new(ProblemType::BadRequest, "the body is not UTF-8"))?;
    Ok(Some(text.to_owned()))
}

/// What came of a command, for a day.
async fn outcome(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = api.identity.caller(&asked)?;
    let id = headers::id(&id, "command")?;
    let found = api.replies.find(&*api.log, &api.codec, &api.topics, id).await;
    let found = found.map_err(|error| {
        let what = match &error {
            RoleError::Log(_) => "the event log",
            _ => "the memory of outcomes",
        };
        Problem::unavailable(what, &error)
    })?;
    // To anybody else it is not there.
    let may_see = |reply: &ReplyRecord| caller.is_admin() || reply.caller == caller.subject;
    let body = match found {
        Some(reply) if may_see(&reply) => {
            let headers: serde_json::Map<String, Value> = headers_of(&reply, api.token_of(&reply))
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), Value::String(value)))
                .collect();
            let outcome: Value = serde_json::from_str(&reply.body).unwrap_or_default();
            let expires_at = Timestamp::from_millisecond(reply.expires_at).unwrap_or_default();
            json!({
                "id": id,
                "state": "decided",
                "expires_at": format!("{expires_at:.3}"),
                "outcome": {"status": reply.status, "headers": headers, "body": outcome},
            })
        }
        // The id says when it was made: an outcome that is not here yet may be on its way.
        found if found.is_none() && is_recent(id) => {
            json!({"id": id, "state": "pending", "expires_at": null, "outcome": null})
        }
        _ => {
            let detail =
                "no command with this id was decided or will be, or its outcome was forgotten";
            return Err(Problem::new(ProblemType::NotFound, detail));
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn is_recent(id: Uuid) -> bool {
    let Some(made) = id.get_timestamp() else { return false };
    let (seconds, _) = made.to_unix();
    let age = Timestamp::now().as_second().saturating_sub(seconds as i64);
    id.get_version_num() == 7 && (-5..PENDING.as_secs() as i64).contains(&age)
}
