//! Writes over HTTP: a request becomes a command, and its reply the answer.

use crate::{
    decider::{not_json, read_body},
    headers::{self, Preference},
    replies::Replies,
    topics::Topics,
};
use almanac_edge::{Problem, ProblemType, check_local, query::Parameters};
use almanac_event_log::{Append, EventLog, Headers, Record, partitioner::partition_of};
use almanac_schemas::{
    Codec,
    commands::{COMMAND, CommandRecord, ReplyRecord},
    json::merge_patch,
};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Path, RawQuery, Request, State},
    response::Response,
    routing::{get, post, put},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

/// Namespace of the ids that follow from idempotency keys. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d5f_3c8e_9a40_5b71_8f0e_2a5c_61d7_b904);
/// A command that was taken is decided within this time, or refused.
const DEADLINE: Duration = Duration::from_secs(30);
/// For so long after it was taken, a request without an outcome counts as under way.
const PENDING: Duration = Duration::from_secs(60);

const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

#[derive(Clone, Debug)]
pub struct CommandApiOptions {
    /// Larger bodies are refused: an event with the recipe before and after must fit a record.
    pub max_body_bytes: usize,
    /// How long a write waits for its answer when nothing else is preferred.
    pub wait: Duration,
    /// Whether requests without a token act as the local user: on loopback only.
    pub local_user: bool,
}

impl Default for CommandApiOptions {
    fn default() -> Self {
        Self { max_body_bytes: 256 << 10, wait: Duration::from_secs(5), local_user: false }
    }
}

pub struct CommandApi {
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: Topics,
    pub replies: Arc<Replies>,
    pub options: CommandApiOptions,
}

pub fn router(api: Arc<CommandApi>) -> Router {
    Router::new()
        .route("/v1/recipes", post(create))
        .route("/v1/recipes/{id}", put(change).patch(change).delete(change))
        .route("/v1/recipes/{id}/restore", post(restore))
        .route("/v1/commands/{id}", get(outcome))
        .with_state(api)
}

async fn create(State(api): State<Arc<CommandApi>>, request: Request) -> Result<Response, Problem> {
    let asked = api.read(request).await?;
    read_body(&asked.body)?;
    api.write("create", None, asked).await
}

async fn change(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let asked = api.read(request).await?;
    let verb = match asked.method {
        Method::PUT => {
            read_body(&asked.body)?;
            "replace"
        }
        Method::PATCH => {
            merge_patch(b"{}", &asked.body).map_err(|error| not_json(&error))?;
            "patch"
        }
        _ => "delete",
    };
    api.write(verb, Some(id), asked).await
}

async fn restore(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let id = headers::id(&id, "recipe")?;
    let asked = api.read(request).await?;
    api.write("restore", Some(id), asked).await
}

/// What of a request matters.
struct Asked {
    method: Method,
    path: String,
    headers: HeaderMap,
    body: Bytes,
    caller: String,
}

impl CommandApi {
    async fn read(&self, request: Request) -> Result<Asked, Problem> {
        if !self.options.local_user {
            let detail = "writes need identity, which this installation has not; on a loopback address they act as the local user";
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        }
        let (parts, body) = request.into_parts();
        check_local(&parts.headers)?;
        Parameters::parse(parts.uri.query(), &[])?;
        let limit = self.options.max_body_bytes;
        let too_large = |_| {
            let detail = format!("a body may have at most {limit} bytes");
            Problem::new(ProblemType::TooLarge, detail)
        };
        let body = to_bytes(body, limit).await.map_err(too_large)?;
        Ok(Asked {
            method: parts.method,
            path: parts.uri.path().to_owned(),
            headers: parts.headers,
            body,
            caller: "local".to_owned(),
        })
    }

    async fn write(&self, verb: &str, id: Option<Uuid>, asked: Asked) -> Result<Response, Problem> {
        let expected = headers::if_match(&asked.headers)?;
        let key = headers::idempotency_key(&asked.headers)?;
        let preference = Preference::read(&asked.headers);
        let request_id = Uuid::now_v7().to_string();
        // Every request with the same key has the same outcome, and creates the same recipe.
        let keyed = key.map(|key| {
            let method = asked.method.as_str();
            let name = [&asked.caller, method, &asked.path, &key].join("\0");
            Uuid::new_v5(&NAMESPACE, name.as_bytes())
        });
        let aggregate_id = id.or(keyed).unwrap_or_else(Uuid::now_v7).to_string();
        let now = Timestamp::now().as_millisecond();
        let command = CommandRecord {
            outcome_id: keyed.map_or_else(|| request_id.clone(), |id| id.to_string()),
            request_id,
            context: "recipes".to_owned(),
            aggregate_id,
            verb: verb.to_owned(),
            caller: asked.caller,
            is_admin: false,
            issued_at: now,
            deadline: now + DEADLINE.as_millis() as i64,
            fingerprint: fingerprint(verb, expected.as_deref(), &asked.body),
            expected: expected
                .map(|versions| versions.into_iter().map(|version| version as i64).collect()),
            body: text_of(&asked.body)?,
        };
        // Registered first: the reply may be there before the append returns.
        let Some(waiting) = self.replies.expect(&command.request_id) else {
            return Err(Problem::busy("too many writes are under way"));
        };
        self.append(&command).await?;
        let wait = if preference.respond_async {
            Duration::ZERO
        } else {
            preference.wait.unwrap_or(self.options.wait)
        };
        let reply = if wait.is_zero() { None } else { waiting.wait(wait).await };
        let mut response = match reply {
            Some(reply) => answer(&reply),
            None => accepted(&command),
        };
        if let Some(applied) = preference.applied()
            && let Ok(applied) = HeaderValue::try_from(applied)
        {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }

    async fn append(&self, command: &CommandRecord) -> Result<(), Problem> {
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
        self.log.append(vec![append]).await.map_err(|error| Problem::unavailable(&error))?;
        Ok(())
    }
}

/// The answer that a reply stands for.
fn answer(reply: &ReplyRecord) -> Response {
    let mut response = Response::new(Body::from(reply.body.clone()));
    *response.status_mut() = status_of(reply);
    for (name, value) in headers_of(reply) {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

fn headers_of(reply: &ReplyRecord) -> Vec<(HeaderName, String)> {
    let status = status_of(reply);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut headers = vec![
        (header::CONTENT_TYPE, kind.to_owned()),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    if let Some(version) = reply.version {
        headers.push((header::ETAG, format!("\"{version}\"")));
    }
    if status == StatusCode::CREATED {
        headers.push((header::LOCATION, format!("/v1/recipes/{}", reply.aggregate_id)));
    }
    if status == StatusCode::SERVICE_UNAVAILABLE {
        headers.push((header::RETRY_AFTER, "1".to_owned()));
    }
    if reply.replayed {
        headers.push((IDEMPOTENT_REPLAYED, "true".to_owned()));
    }
    headers
}

fn status_of(reply: &ReplyRecord) -> StatusCode {
    u16::try_from(reply.status)
        .ok()
        .and_then(|status| StatusCode::from_u16(status).ok())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn text_of(body: &Bytes) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::new(ProblemType::BadRequest, "the body is not UTF-8"))?;
    Ok(Some(text.to_owned()))
}

/// Two requests with one key are the same request when these agree.
fn fingerprint(verb: &str, expected: Option<&[u64]>, body: &[u8]) -> String {
    let mut hash = Xxh3::new();
    hash.update(verb.as_bytes());
    hash.update(format!("{expected:?}").as_bytes());
    hash.update(body);
    format!("{:032x}", hash.digest128())
}

/// It goes on without whoever asked; the outcome can be fetched.
fn accepted(command: &CommandRecord) -> Response {
    let id = &command.request_id;
    let body = json!({"id": id, "state": "pending", "expires_at": null, "outcome": null});
    let mut response = Response::new(Body::from(body.to_string()));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    if let Ok(location) = HeaderValue::try_from(format!("/v1/commands/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    response
}

/// What came of a command, for a day.
async fn outcome(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let id = headers::id(&id, "command")?;
    let found = api.replies.find(&api.codec, &id.to_string()).await;
    let found = found.map_err(|error| Problem::unavailable(&error))?;
    let body = match found {
        Some(reply) => {
            let headers: serde_json::Map<String, Value> = headers_of(&reply)
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
        None if is_recent(id) => {
            json!({"id": id, "state": "pending", "expires_at": null, "outcome": null})
        }
        None => {
            let detail = "there is no command with this id, or its outcome was forgotten";
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
