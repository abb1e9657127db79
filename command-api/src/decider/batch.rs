//! Commands that are decided together: each sees what those before it did.

use super::{
    Decider, INPUT_POSITION, State,
    through::{self, Through},
};
use crate::{
    contexts::{Context, NewEvent, Undecided, find},
    fingerprint,
    metrics::{Account, Outcome},
    outcomes::{self, Changes},
};
use almanac_edge::{Problem, ProblemType, request};
use almanac_errors::{Cause, chain};
use almanac_event_log::{Append, Headers, Offset, Record, StoredRecord};
use almanac_processor::{Envelope, Owned, RoleError, Values, foreign::is_uuid, traced};
use almanac_schemas::{
    Token,
    commands::{COMMAND, CommandRecord, REPLIES, REPLY, ReplyRecord},
};
use almanac_traces::{Hop, Parent, attributes as name};
use bytes::Bytes;
use futures::future::try_join_all;
use jiff::Timestamp;
use std::collections::HashMap;

/// Events hold milliseconds: an answer says of a time what reads will say.
fn in_milliseconds(time: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
}

/// What an outcome comes to, before it is a reply.
struct Answer {
    status: u16,
    version: Option<u64>,
    body: String,
}

impl Answer {
    fn refused(problem: &Problem, version: Option<u64>) -> Self {
        Self { status: problem.status().as_u16(), version, body: problem.body() }
    }
}

/// Outcomes that time or an operator may change are not remembered: asking again may have another.
/// Nor are those of requests without a key, which nobody can repeat.
pub(super) fn is_remembered(reply: &ReplyRecord) -> bool {
    reply.outcome_id != reply.request_id
        && !reply.replayed
        && !matches!(reply.status, 401 | 429 | 500 | 503)
}

/// Without a key, the outcome is known by the request's own id, and nothing of it is remembered.
fn has_key(command: &CommandRecord) -> bool {
    command.outcome_id != command.request_id
}

/// So many commands have what is known of their aggregates and outcomes in memory at once: the newest
/// event of a recipe with its picture takes up to half a megabyte.
const LOOKED_UP_TOGETHER: usize = 32;

pub(super) struct Batch<'a> {
    decider: &'a Decider,
    owned: &'a Owned,
    state: &'a State,
    partition: u32,
    now: Timestamp,
    appends: Vec<Append>,
    /// What each of the appends is.
    written: Vec<Written>,
    /// What local state knows of the commands that are being decided.
    known: Known,
    /// Newest events of aggregates that this batch changed, by context.
    aggregates: Vec<HashMap<Bytes, Bytes>>,
    /// Outcomes that this batch remembers.
    remembered: HashMap<String, Bytes>,
    /// By context.
    aggregate_changes: Vec<Changes>,
    outcome_changes: Changes,
    through: Through,
    account: Account,
    /// By context, the token of the newest command of this batch that led to an event.
    newest_tokens: Vec<Option<String>>,
    /// What the command that is being decided came along with.
    parent: Option<Parent>,
    /// Of those that are traced.
    hops: Vec<Hop>,
}

#[derive(Default)]
struct Known {
    /// By context.
    aggregates: Vec<Values>,
    outcomes: Values,
}

/// What is appended to the log.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    Reply,
    /// Of the context at this place.
    Event(usize),
}

/// A decided batch: what is to be committed, and what follows locally once it is.
pub(super) struct Decided {
    pub(super) appends: Vec<Append>,
    pub(super) local: Local,
    pub(super) through: Through,
    pub(super) account: Account,
    /// Spans that end with the transaction.
    pub(super) hops: Vec<Hop>,
}

pub(super) struct Local {
    partition: u32,
    /// By context.
    aggregates: Vec<Changes>,
    outcomes: Changes,
    /// What each of the appends was.
    written: Vec<Written>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        decider: &'a Decider,
        owned: &'a Owned,
        state: &'a State,
        through: Through,
    ) -> Self {
        let contexts = decider.topics.contexts.len();
        Self {
            decider,
            owned,
            state,
            partition: owned.partition(),
            now: in_milliseconds(Timestamp::now()),
            appends: Vec::new(),
            written: Vec::new(),
            known: Known::default(),
            aggregates: vec![HashMap::new(); contexts],
            remembered: HashMap::new(),
            aggregate_changes: vec![Changes::new(); contexts],
            outcome_changes: Changes::new(),
            through,
            account: Account::default(),
            newest_tokens: vec![None; contexts],
            parent: None,
            hops: Vec::new(),
        }
    }

    /// Decides each command. An error is an outage or damage, never the commands' fault.
    pub(super) async fn take_all(&mut self, records: &[StoredRecord]) -> Result<(), RoleError> {
        for some in records.chunks(LOOKED_UP_TOGETHER) {
            let mut commands = Vec::with_capacity(some.len());
            for record in some {
                commands.extend(self.read(record).await?.map(|command| (command, record)));
            }
            self.look_up(&commands).await?;
            for (command, record) in &commands {
                let hop = self.hop(command, record);
                self.parent = hop.parent().cloned();
                let taking = hop.scope(self.take(command, record));
                // Its problem document and what is logged name the request.
                match command.request_id.parse() {
                    Ok(id) => request::on_behalf(id, taking).await?,
                    Err(_) => taking.await?,
                }
                if let Some(span) = hop.span() {
                    // It ends with the transaction.
                    span.event("decided");
                    self.hops.push(hop);
                }
            }
        }
        Ok(())
    }

    /// What deciding a command is to its trace. Commands that are read again were decided, and have their
    /// spans.
    fn hop(&self, command: &CommandRecord, record: &StoredRecord) -> Hop {
        if record.offset < self.state.handled_below {
            return Hop::handing_on(traced::parent_of(&record.record.headers));
        }
        let hop = traced::processing(record);
        if let Some(span) = hop.span() {
            span.set(name::of(name::MESSAGING_CONSUMER_GROUP_NAME, self.owned.group().to_owned()));
            span.set(name::text(
                name::COMMAND_VERB,
                &format!("{} {}", command.context, command.verb),
            ));
            span.set(name::text(name::REQUEST_ID, &command.request_id));
        }
        hop
    }

    /// The command of a record, if it is one.
    async fn read(&self, record: &StoredRecord) -> Result<Option<CommandRecord>, RoleError> {
        if !is_uuid(&record.record.key) {
            self.owned.pass_over(record);
            return Ok(None);
        }
        let codec = &self.decider.codec;
        let decoded = match &record.record.value {
            Some(value) => match codec.decode(value).await {
                Ok(decoded) if decoded.record() == COMMAND => decoded.read::<CommandRecord>().ok(),
                Err(error) if error.is_outage() => return Err(RoleError::other(error)),
                _ => None,
            },
            None => None,
        };
        if decoded.is_none() {
            // Nobody waits for an answer that can be told to nobody.
            tracing::warn!(
                topic = %record.topic, partition = record.partition, offset = record.offset,
                "passing over a command that cannot be read"
            );
        }
        // Of another key, its aggregate may be another partition's.
        let is_foreign =
            |command: &CommandRecord| command.aggregate_id.as_bytes() != record.record.key;
        if decoded.as_ref().is_some_and(is_foreign) {
            self.owned.pass_over(record);
            return Ok(None);
        }
        Ok(decoded)
    }

    /// What is known of the commands' aggregates and outcomes, together and off the threads that serve.
    async fn look_up(
        &mut self,
        commands: &[(CommandRecord, &StoredRecord)],
    ) -> Result<(), RoleError> {
        let contexts = self.decider.topics.contexts;
        let mut aggregates = vec![Vec::new(); contexts.len()];
        for (command, _) in commands {
            if let Some((place, _)) = find(contexts, &command.context)
                && !self.aggregates[place].contains_key(command.aggregate_id.as_bytes())
            {
                aggregates[place].push(command.aggregate_id.as_bytes().to_vec());
            }
        }
        let mut outcomes: Vec<Vec<u8>> = commands
            .iter()
            .filter(|(command, _)| has_key(command))
            .map(|(command, _)| outcomes::outcome_key(&command.outcome_id))
            .collect();
        for keys in aggregates.iter_mut().chain([&mut outcomes]) {
            keys.sort();
            keys.dedup();
        }
        let state = self.state;
        let aggregates = state.aggregates.iter().zip(aggregates);
        let (aggregates, outcomes) = tokio::try_join!(
            try_join_all(aggregates.map(|(state, keys)| state.get_all(keys))),
            state.outcomes.get_all(outcomes)
        )?;
        self.known = Known { aggregates, outcomes };
        Ok(())
    }

    async fn take(
        &mut self,
        command: &CommandRecord,
        record: &StoredRecord,
    ) -> Result<(), RoleError> {
        if self.was_decided(command, record.offset).await? {
            return Ok(());
        }
        let mut outcome_id = &command.outcome_id;
        let earlier = match has_key(command) {
            true => self.outcome(outcome_id).await?,
            false => None,
        };
        let (answer, replayed) = match earlier {
            Some(earlier) if fingerprint::agree(&earlier.fingerprint, &command.fingerprint) => {
                let version = earlier.version.and_then(|version| u64::try_from(version).ok());
                let status = u16::try_from(earlier.status).unwrap_or(500);
                (Answer { status, version, body: earlier.body }, true)
            }
            Some(_) => {
                let detail = "this key was used for another request within the last day";
                let problem = Problem::new(ProblemType::IdempotencyKeyReused, detail);
                // It is no outcome of the key's request, but one of this request alone.
                outcome_id = &command.request_id;
                (Answer::refused(&problem, None), false)
            }
            None if command.deadline < self.now.as_millisecond() => {
                let detail = "the command was not decided before its deadline; nothing was done";
                let problem = Problem::new(ProblemType::Unavailable, detail);
                (Answer::refused(&problem, None), false)
            }
            None => (self.decide(command, record.offset).await?, false),
        };
        self.reply(command, record, outcome_id, (answer, replayed))
    }

    /// Whether an earlier owner decided the command: what is read again, because the group's offset was
    /// moved, is not decided again. Past its deadline, its outcome may be forgotten.
    async fn was_decided(
        &self,
        command: &CommandRecord,
        offset: Offset,
    ) -> Result<bool, RoleError> {
        if offset >= self.state.handled_below {
            return Ok(false);
        }
        let is_late = command.deadline < self.now.as_millisecond();
        if is_late && self.state.decided_below.is_some_and(|below| offset < below) {
            return Ok(true);
        }
        let request = vec![outcomes::request_key(&command.request_id)];
        Ok(self.state.outcomes.get_all(request).await?.into_values().any(|known| known.is_some()))
    }

    async fn decide(
        &mut self,
        command: &CommandRecord,
        offset: Offset,
    ) -> Result<Answer, RoleError> {
        let contexts = self.decider.topics.contexts;
        let Some((place, context)) = find(contexts, &command.context) else {
            let detail = format!("{:?} is no context of commands", command.context);
            return Ok(Answer::refused(&Problem::new(ProblemType::BadRequest, detail), None));
        };
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let (changed, known) = (&self.aggregates[place], self.known.aggregates.get(place));
        let newest = match changed.get(&key) {
            Some(newest) => Some(newest.clone()),
            None => {
                known.and_then(|known| known.get(key.as_ref()).cloned().flatten()).map(Bytes::from)
            }
        };
        let codec = &self.decider.codec;
        let decoded = match &newest {
            None => Ok(None),
            Some(value) => match codec.decode(value).await {
                Err(error) if error.is_outage() => return Err(RoleError::other(error)),
                decoded => decoded.map(Some),
            },
        };
        let decided = decoded
            .map_err(|error| Undecided::Unreadable(error.into()))
            .and_then(|newest| context.decide(codec, newest.as_ref(), command, self.now));
        let decision = match decided {
            Ok(decision) => decision,
            Err(Undecided::Refused { problem, version }) => {
                return Ok(Answer::refused(&problem, version));
            }
            Err(Undecided::Unreadable(fault)) => {
                let (noun, id) = (context.noun(), &command.aggregate_id);
                let fault = UnreadableEvent { noun, id: id.clone(), source: fault };
                let answer = Answer::refused(&Problem::internal(&fault), None);
                // If only local state has it like that, the log helps; otherwise the command is
                // refused.
                self.state.aggregates[place].on_disk().doubt(fault)?;
                return Ok(answer);
            }
            Err(Undecided::Failed(error)) => return Err(error),
        };
        if let Some(event) = decision.event {
            self.happened(context, place, command, event, offset);
        }
        let (status, version) = (decision.status, Some(decision.version));
        Ok(Answer { status, version, body: decision.body })
    }

    /// Takes in an event that a command of this offset led to.
    fn happened(
        &mut self,
        context: &dyn Context,
        place: usize,
        command: &CommandRecord,
        event: NewEvent,
        offset: Offset,
    ) {
        let (topic, partition) = (self.state.commands.0, self.partition);
        let token = Token { context: context.name().into(), topic, partition, offset };
        let token = token.to_string();
        let headers = envelope(context, command, &event, &token, self.parent.as_ref());
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let record = self.record(key.clone(), event.value.clone(), headers);
        let topic = self.decider.topics.events[place].clone();
        self.appends.push(Append { topic, partition, record });
        self.written.push(Written::Event(place));
        self.aggregate_changes[place].push((key.to_vec(), Some(event.value.to_vec())));
        self.aggregates[place].insert(key, event.value);
        self.newest_tokens[place] = Some(token);
        self.through.reach(context.name(), offset);
        self.account.events.push(event.event_type);
    }

    /// What came of an earlier command with this outcome id, if that is remembered.
    async fn outcome(&self, id: &str) -> Result<Option<ReplyRecord>, RoleError> {
        let encoded = match self.remembered.get(id) {
            Some(encoded) => Some(encoded.to_vec()),
            None => self.known.outcomes.get(&outcomes::outcome_key(id)).cloned().flatten(),
        };
        let Some(encoded) = encoded else { return Ok(None) };
        let read = match self.decider.codec.decode(&encoded).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            decoded => decoded.and_then(|decoded| decoded.read::<ReplyRecord>()),
        };
        let reply = match read {
            Ok(reply) => reply,
            Err(error) => {
                // From the log come only replies that can be read.
                self.state.outcomes.on_disk().doubt(format!("outcome {id}: {}", chain(&error)))?;
                return Err(RoleError::other(error));
            }
        };
        Ok((reply.expires_at >= self.now.as_millisecond()).then_some(reply))
    }

    fn reply(
        &mut self,
        command: &CommandRecord,
        record: &StoredRecord,
        outcome_id: &str,
        (answer, replayed): (Answer, bool),
    ) -> Result<(), RoleError> {
        let kept_ms = i64::try_from(self.decider.options.outcomes.as_millis()).unwrap_or(i64::MAX);
        let (events_through, through) = self.through.told_to(&command.context);
        let reply = ReplyRecord {
            request_id: command.request_id.clone(),
            outcome_id: outcome_id.to_owned(),
            caller: command.caller.clone(),
            aggregate_id: command.aggregate_id.clone(),
            fingerprint: command.fingerprint.clone(),
            command_offset: record.offset as i64,
            decided_at: self.now.as_millisecond(),
            expires_at: self.now.as_millisecond().saturating_add(kept_ms),
            replayed,
            status: i32::from(answer.status),
            version: answer.version.map(|version| version as i64),
            body: answer.body,
            events_through,
            context: command.context.clone(),
            through: Some(through),
        };
        let encoded = self.decider.codec.encode(REPLY, &reply).map_err(RoleError::other)?;
        outcomes::decided(&mut self.outcome_changes, &reply);
        if is_remembered(&reply) {
            outcomes::remember(&mut self.outcome_changes, &reply.outcome_id, &reply, &encoded);
            self.remembered.insert(reply.outcome_id, encoded.clone());
        }
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let record = self.record(key, encoded, traced::headers(self.parent.as_ref()));
        let topic = self.decider.topics.replies.clone();
        self.appends.push(Append { topic, partition: self.partition, record });
        self.written.push(Written::Reply);
        let context = find(self.decider.topics.contexts, &command.context);
        self.account.outcomes.push(Outcome {
            context: context.map_or("", |(_, context)| context.name()),
            status: answer.status,
            replayed,
            issued_at: command.issued_at,
        });
        Ok(())
    }

    fn record(&self, key: Bytes, value: Bytes, headers: Headers) -> Record {
        Record { key, value: Some(value), headers, timestamp_ms: self.now.as_millisecond() }
    }

    pub(super) fn finish(mut self) -> Decided {
        let contexts = self.decider.topics.contexts.iter().zip(&mut self.aggregate_changes);
        for ((context, changes), token) in contexts.zip(self.newest_tokens) {
            let key = through::key_of(context.name());
            changes.extend(token.map(|token| (key, Some(token.into_bytes()))));
        }
        Decided {
            appends: self.appends,
            local: Local {
                partition: self.partition,
                aggregates: self.aggregate_changes,
                outcomes: self.outcome_changes,
                written: self.written,
            },
            through: self.through,
            account: self.account,
            hops: self.hops,
        }
    }
}

fn envelope(
    context: &dyn Context,
    command: &CommandRecord,
    event: &NewEvent,
    token: &str,
    parent: Option<&Parent>,
) -> Headers {
    let (id, version) = (&command.aggregate_id, event.version);
    Envelope {
        id: &format!("{id}.{version}"),
        source: &format!("/v1/{}/{id}", context.name()),
        event_type: event.event_type,
        subject: id,
        time: &event.occurred_at.to_string(),
        sequence: Some(version),
        causation: Some(&command.request_id),
        correlation: Some(&command.request_id),
        consistency_token: Some(token),
        parent,
    }
    .headers()
}

impl Local {
    /// Takes the batch in, beside the positions it leads up to where those are known: some
    /// acknowledgements lack an offset, and then the next take-over reads the records again.
    pub(super) fn take(mut self, state: &State, offsets: &[Option<Offset>], input: Offset) {
        let position = |wanted: Written| {
            let written = offsets.iter().zip(&self.written).filter(|(_, is)| **is == wanted);
            written.map(|(offset, _)| *offset).next_back().flatten().map(|offset| offset + 1)
        };
        for (place, (changes, state)) in
            self.aggregates.into_iter().zip(&state.aggregates).enumerate()
        {
            if !changes.is_empty() {
                state.take(changes, position(Written::Event(place)));
            }
        }
        let replies = position(Written::Reply);
        let (topic, partition) = (state.commands.0, self.partition);
        // It is no context's.
        let input = Token { context: REPLIES.into(), topic, partition, offset: input };
        let input = input.to_string().into_bytes();
        self.outcomes.push((INPUT_POSITION.to_vec(), Some(input)));
        state.outcomes.take(self.outcomes, replies);
    }
}

/// Why a command cannot be held against its aggregate.
#[derive(Debug, thiserror::Error)]
#[error("the newest event of {noun} {id} cannot be read")]
struct UnreadableEvent {
    noun: &'static str,
    id: String,
    source: Cause,
}
