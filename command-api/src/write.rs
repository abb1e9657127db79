//! The generic write: a request becomes a command, and its reply the answer.

use crate::{
    answers::{accepted, answer},
    contexts::{Context, Projections, problem_of},
    deliveries::Deliveries,
    fingerprint, headers,
    replies::Replies,
    standings::Standings,
    topics::Topics,
};
use almanac_domain::{
    aggregate::{self, Expected, Refusal},
    weather::Variable,
};
use almanac_edge::{
    Bodies, BodyOptions, Caller, Held, Identity, Problem, ProblemType, discard,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::Parameters,
    request,
};
use almanac_errors::chain;
use almanac_event_log::{
    Append, EventLog, Headers, LogResult, Offset, Record, Retry, TopicId, partitioner::partition_of,
};
use almanac_processor::{GatherLimits, RoleError, StateFolder, traced};
use almanac_schemas::{
    Codec, Token,
    commands::{COMMAND, CommandRecord, ReplyRecord},
    json::subscriptions::Reach,
    notifications::DELIVERIES,
};
use almanac_secrets::SealingKey;
use almanac_traces::Parent;
use axum::{
    body::{Body, Bytes},
    extract::Request,
    response::Response,
};
use futures::future::try_join_all;
use http::{HeaderMap, Method};
use jiff::Timestamp;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use uuid::Uuid;

/// Namespace of the ids that follow from idempotency keys. It must never change.
const NAMESPACE: Uuid = Uuid::from_u128(0x5d5f_3c8e_9a40_5b71_8f0e_2a5c_61d7_b904);
/// A command that was taken is decided within this time, or refused.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct CommandApiOptions {
    /// Larger bodies are refused: an event with the recipe before and after must fit a record.
    pub max_body_bytes: usize,
    /// How long a write waits for its answer when nothing else is preferred.
    pub wait: Duration,
    /// How long a request that looks like one to refuse waits until all is known that was acknowledged
    /// before it. After that the decider tells.
    pub check_wait: Duration,
    /// Pictures decoded at the same time; so many others wait for their turn, as long as a write
    /// waits for its answer.
    pub pictures: usize,
    pub waiting_pictures: usize,
    pub bodies: BodyOptions,
    /// Analyses of one caller that may be without an end.
    pub open_analyses: usize,
    /// What forecasts can be asked for.
    pub forecast_sources: Vec<ForecastSource>,
    pub notifications: Notifications,
    /// What operators may act on.
    pub projections: Option<Projections>,
}

/// What is needed to take subscriptions.
#[derive(Clone, Debug, Default)]
pub struct Notifications {
    /// Keeps their secrets; without it none are taken.
    pub sealing: Option<SealingKey>,
    /// Where they may lead.
    pub reach: Reach,
}

/// A provider of forecasts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForecastSource {
    pub name: String,
    /// What it can give, at some places at least.
    pub variables: Vec<Variable>,
}

impl Default for CommandApiOptions {
    fn default() -> Self {
        Self {
            max_body_bytes: 256 << 10,
            wait: Duration::from_secs(5),
            check_wait: Duration::from_secs(1),
            pictures: 2,
            waiting_pictures: 8,
            bodies: BodyOptions::default(),
            open_analyses: 1_000,
            forecast_sources: Vec::new(),
            notifications: Notifications::default(),
            projections: None,
        }
    }
}

pub struct CommandApi {
    pub log: Arc<dyn EventLog>,
    pub codec: Arc<Codec>,
    pub topics: Topics,
    pub replies: Arc<Replies>,
    /// Of the contexts, in their order.
    standings: Vec<Arc<Standings>>,
    pub(crate) deliveries: Deliveries,
    pub identity: Arc<Identity>,
    pub options: CommandApiOptions,
    /// Of the topic of commands, as tokens name it.
    commands: TopicId,
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
        let bodies = Bodies::new(&options.bodies);
        let standings = topics.contexts.iter().zip(&*topics.events).map(|(context, topic)| {
            let (topic, wait) = (topic.clone(), options.check_wait);
            Standings::new(*context, log.clone(), codec.clone(), topic, topics.partitions, wait)
        });
        let standings = standings.collect();
        let (due, partitions) = (topics.named(DELIVERIES), topics.partitions);
        let deliveries = Deliveries::new(log.clone(), codec.clone(), due, partitions);
        Ok(Arc::new(Self {
            log,
            codec,
            topics,
            replies,
            standings,
            deliveries,
            identity,
            options,
            commands,
            bodies,
        }))
    }

    /// Follows the events of every context until an error, each into a folder of its own. `flush`
    /// tells when changes of local state go to disk.
    pub async fn follow_standings(
        &self,
        folders: &[StateFolder],
        flush: GatherLimits,
    ) -> Result<(), RoleError> {
        let all = self.standings.iter().zip(folders);
        try_join_all(all.map(|(standings, folder)| standings.follow(folder, flush))).await?;
        Ok(())
    }
}

/// A request before its body is read.
pub(crate) struct Head {
    context: &'static dyn Context,
    method: Method,
    path: String,
    pub(crate) headers: HeaderMap,
    caller: Caller,
    body: Body,
}

impl Head {
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Ends a request whose body nobody wants.
    pub(crate) async fn refused(self, problem: Problem) -> Problem {
        discard(&self.headers, self.body).await;
        problem
    }
}

/// What of a request matters.
pub(crate) struct Asked {
    context: &'static dyn Context,
    pub(crate) method: Method,
    path: String,
    pub(crate) headers: HeaderMap,
    /// As it came: the same key with another body is another request.
    pub(crate) body: Held,
    /// What tells bodies apart in its place, where it holds a secret.
    stand_in: Option<Vec<u8>>,
    pub(crate) caller: Caller,
}

impl Asked {
    /// Every request with the same key has the same outcome, and creates the same aggregate.
    pub(crate) fn keyed(&self) -> Result<Option<Uuid>, Problem> {
        let key = headers::idempotency_key(&self.headers)?;
        Ok(key.map(|key| {
            let method = self.method.as_str();
            let name = [&self.caller.subject, method, &self.path, &key].join("\0");
            Uuid::new_v5(&NAMESPACE, name.as_bytes())
        }))
    }

    /// Bodies are told apart by this instead: nothing of the body itself is remembered.
    pub(crate) fn stands_for_body(&mut self, stand_in: Vec<u8>) {
        self.stand_in = Some(stand_in);
    }

    /// The id of what the request creates.
    pub(crate) fn new_id(&self) -> Result<Uuid, Problem> {
        Ok(self.keyed()?.unwrap_or_else(Uuid::now_v7))
    }
}

/// What a request becomes.
pub(crate) struct Write<'a> {
    pub(crate) verb: &'a str,
    /// Of the aggregate.
    pub(crate) id: Uuid,
    /// Of the command; it may say less than that of the request.
    pub(crate) body: Option<String>,
    pub(crate) attachment: Option<Vec<u8>>,
}

impl CommandApi {
    pub(crate) fn head(
        &self,
        context: &'static dyn Context,
        request: Request,
    ) -> Result<Head, Problem> {
        let (parts, body) = request.into_parts();
        let caller = self.identity.require(&parts.headers, context.scope())?;
        Parameters::parse(parts.uri.query(), &[])?;
        let (method, path) = (parts.method, parts.uri.path().to_owned());
        Ok(Head { context, method, path, headers: parts.headers, caller, body })
    }

    pub(crate) async fn body(&self, head: Head, limit: usize) -> Result<Asked, Problem> {
        let Head { context, method, path, headers, caller, body } = head;
        let body = self.bodies.read(&caller.subject, body, limit).await?;
        Ok(Asked { context, method, path, headers, body, stand_in: None, caller })
    }

    /// Refuses before the body is read what a decider would refuse of it for certain.
    pub(crate) async fn permitted(
        &self,
        head: Head,
        id: Uuid,
        restores: bool,
    ) -> Result<Head, Problem> {
        let read = headers::if_match(&head.headers)
            .and_then(|versions| Ok((versions, headers::idempotency_key(&head.headers)?)));
        let (versions, key) = match read {
            Ok(read) => read,
            Err(problem) => return Err(head.refused(problem).await),
        };
        let (subject, is_admin) = (head.caller.subject.clone(), head.caller.is_admin());
        let caller = aggregate::Caller { subject, is_admin };
        let expected = versions.map_or(Expected::Any, Expected::Versions);
        let Some(standings) = self.standings(head.context.name()) else { return Ok(head) };
        match standings.permit(id, restores, &caller, &expected).await {
            Ok(()) => Ok(head),
            // It may repeat a request that led to this: the decider remembers.
            Err(Refusal::Deleted { .. } | Refusal::Stale { .. }) if key.is_some() => Ok(head),
            Err(refusal) => {
                let (problem, version) = problem_of(head.context, &refusal);
                Err(head.refused(problem.at_version(version)).await)
            }
        }
    }

    /// Follows what was to be delivered to subscriptions until an error.
    pub async fn follow_deliveries(
        &self,
        folder: &StateFolder,
        flush: GatherLimits,
    ) -> Result<(), RoleError> {
        self.deliveries.follow(folder, flush).await
    }

    /// The same for what no decider decides: where it cannot be told how the aggregate stands, it is
    /// refused for now.
    pub(crate) async fn known(
        &self,
        context: &'static dyn Context,
        caller: &aggregate::Caller,
        id: Uuid,
    ) -> Result<(), Problem> {
        let known = match self.standings(context.name()) {
            Some(standings) => standings.certainly(id, caller).await,
            None => None,
        };
        match known {
            Some(Ok(())) => Ok(()),
            Some(Err(refusal)) => {
                let (problem, version) = problem_of(context, &refusal);
                Err(problem.at_version(version))
            }
            None => Err(Problem::busy("it is not known yet how this stands; try again")),
        }
    }

    /// Whether something is still to come of an aggregate, as far as it is known here.
    pub(crate) fn is_open(&self, context: &'static dyn Context, id: Uuid) -> bool {
        self.standings(context.name()).is_some_and(|standings| standings.is_open(id))
    }

    fn standings(&self, context: &str) -> Option<&Arc<Standings>> {
        self.standings.iter().find(|standings| standings.context() == context)
    }

    /// Whether a caller may use an aggregate of another context, as far as that is known here.
    pub(crate) async fn permit(
        &self,
        context: &str,
        id: Uuid,
        caller: &aggregate::Caller,
    ) -> Result<(), Refusal> {
        match self.standings(context) {
            Some(standings) => standings.permit(id, false, caller, &Expected::Any).await,
            None => Ok(()),
        }
    }

    /// How many aggregates of a caller something is still to come of, as far as it is known here.
    pub(crate) fn open_of(&self, context: &str, caller: &str) -> usize {
        self.standings(context).map_or(0, |standings| standings.open_of(caller))
    }

    /// A request to change an aggregate that there is.
    pub(crate) async fn read_of(
        &self,
        context: &'static dyn Context,
        request: Request,
        id: Uuid,
        restores: bool,
    ) -> Result<Asked, Problem> {
        let head = self.permitted(self.head(context, request)?, id, restores).await?;
        self.body(head, self.options.max_body_bytes).await
    }

    /// Writes a command, and waits for its reply.
    pub(crate) async fn write(&self, asked: &Asked, write: Write<'_>) -> Result<Response, Problem> {
        let Write { verb, id, body, attachment } = write;
        let expected = headers::if_match(&asked.headers)?;
        let keyed = asked.keyed()?;
        let preference = Preference::read(&asked.headers);
        let request_id = request::id().unwrap_or_else(Uuid::now_v7).to_string();
        let now = Timestamp::now().as_millisecond();
        let command = CommandRecord {
            outcome_id: keyed.map_or_else(|| request_id.clone(), |id| id.to_string()),
            request_id,
            context: asked.context.name().to_owned(),
            aggregate_id: id.to_string(),
            verb: verb.to_owned(),
            caller: asked.caller.subject.clone(),
            is_admin: asked.caller.is_admin(),
            issued_at: now,
            deadline: now + DEADLINE.as_millis() as i64,
            fingerprint: match &asked.stand_in {
                Some(stand_in) => fingerprint::of(verb, expected.as_deref(), stand_in),
                None => fingerprint_of(verb, expected.as_deref(), &asked.body).await?,
            },
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
        // Where nothing is traced here, what came along is handed on all the same.
        let parent = almanac_traces::current().or_else(|| Parent::of_http(&asked.headers));
        let offset = self.append(&command, parent, wait_for_log).await?;
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
    pub(crate) fn token_of(&self, reply: &ReplyRecord) -> Option<Token> {
        let through = u64::try_from(reply.events_through?).ok()?;
        Some(self.token(&reply.context, &reply.aggregate_id, through))
    }

    /// Its offset is known, most of the time. An error says that the command was not written and
    /// will not be; one that may be, or is still on its way when the time is over, is under way.
    async fn append(
        &self,
        command: &CommandRecord,
        parent: Option<Parent>,
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
        let mut appending = Box::pin(async move { traced::append(&*log, append, parent).await });
        let request = command.request_id.clone();
        match tokio::time::timeout(at_most, &mut appending).await {
            Ok(Ok(offset)) => Ok(offset),
            Ok(Err(error)) if error.retry() == Retry::Unknown => {
                tracing::warn!(request, error = %chain(&error), "a command may be under way or not");
                Ok(None)
            }
            Ok(Err(error)) => Err(Problem::unavailable("the event log", &error)),
            Err(_) => {
                // Whoever asked knows where to look; what is on its way goes on without.
                tokio::spawn(async move {
                    if let Err(error) = appending.await {
                        tracing::warn!(request, error = %chain(&error), "a command that was answered 202");
                    }
                });
                Ok(None)
            }
        }
    }
}

/// A body of many megabytes is read off the threads that serve.
async fn fingerprint_of(
    verb: &str,
    expected: Option<&[u64]>,
    body: &Bytes,
) -> Result<String, Problem> {
    const SMALL: usize = 512 << 10;
    if body.len() <= SMALL {
        return Ok(fingerprint::of(verb, expected, body));
    }
    let (verb, expected, body) = (verb.to_owned(), expected.map(<[u64]>::to_vec), body.clone());
    let reading =
        tokio::task::spawn_blocking(move || fingerprint::of(&verb, expected.as_deref(), &body));
    reading.await.map_err(|error| Problem::internal(&error))
}

/// The text of a body, if it has any.
pub(crate) fn text_of(body: &Bytes) -> Result<Option<String>, Problem> {
    if body.is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(body)
        .map_err(|_| Problem::new(ProblemType::BadRequest, "the body is not UTF-8"))?;
    Ok(Some(text.to_owned()))
}
