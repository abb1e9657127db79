//! Commands that are decided together: each sees what those before it did.

use super::{
    Decider, INPUT_POSITION, State, recipes,
    through::{self, Through},
};
use crate::{
    fingerprint,
    outcomes::{self, Changes},
};
use almanac_edge::{Problem, ProblemType, request};
use almanac_event_log::{Append, Headers, Offset, Record, StoredRecord};
use almanac_processor::{Owned, RoleError, Values, foreign::is_uuid};
use almanac_schemas::{
    Token,
    commands::{COMMAND, CommandRecord, REPLY, ReplyRecord},
    recipes as schemas,
};
use bytes::Bytes;
use jiff::Timestamp;
use std::{collections::HashMap, sync::Arc};

/// What an outcome comes to, before it is a reply.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) version: Option<u64>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn refused(problem: &Problem, version: Option<u64>) -> Self {
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

/// So many commands have what is known of their recipes and outcomes in memory at once: a recipe with
/// its picture takes up to half a megabyte.
const LOOKED_UP_TOGETHER: usize = 32;

pub(super) struct Batch<'a> {
    decider: &'a Decider,
    owned: &'a Owned,
    state: &'a State,
    partition: u32,
    now: Timestamp,
    appends: Vec<Append>,
    /// What local state knows of the commands that are being decided.
    known: Known,
    /// Newest events of aggregates that this batch changed.
    aggregates: HashMap<Bytes, Bytes>,
    /// Outcomes that this batch remembers.
    remembered: HashMap<String, Bytes>,
    aggregate_changes: Changes,
    outcome_changes: Changes,
    through: Through,
    /// By context, the token of the newest command of this batch that led to an event.
    newest_tokens: HashMap<String, String>,
}

#[derive(Default)]
struct Known {
    aggregates: Values,
    outcomes: Values,
}

/// A decided batch: what is to be committed, and what follows locally once it is.
pub(super) struct Decided {
    pub(super) appends: Vec<Append>,
    pub(super) local: Local,
    pub(super) through: Through,
}

pub(super) struct Local {
    partition: u32,
    aggregates: Changes,
    outcomes: Changes,
    /// Which of the appends are events; the others are replies.
    is_event: Vec<bool>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        decider: &'a Decider,
        owned: &'a Owned,
        state: &'a State,
        through: Through,
    ) -> Self {
        Self {
            decider,
            owned,
            state,
            partition: owned.partition(),
            now: Timestamp::now(),
            appends: Vec::new(),
            known: Known::default(),
            aggregates: HashMap::new(),
            remembered: HashMap::new(),
            aggregate_changes: Changes::new(),
            outcome_changes: Changes::new(),
            through,
            newest_tokens: HashMap::new(),
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
                let taking = self.take(command, record);
                // Its problem document and what is logged name the request.
                match command.request_id.parse() {
                    Ok(id) => request::on_behalf(id, taking).await?,
                    Err(_) => taking.await?,
                }
            }
        }
        Ok(())
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
                Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
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
        // Of another key, its recipe may be another partition's.
        let is_foreign =
            |command: &CommandRecord| command.aggregate_id.as_bytes() != record.record.key;
        if decoded.as_ref().is_some_and(is_foreign) {
            self.owned.pass_over(record);
            return Ok(None);
        }
        Ok(decoded)
    }

    /// What is known of the commands' recipes and outcomes, together and off the threads that serve.
    async fn look_up(
        &mut self,
        commands: &[(CommandRecord, &StoredRecord)],
    ) -> Result<(), RoleError> {
        let mut aggregates: Vec<Vec<u8>> =
            commands.iter().map(|(command, _)| command.aggregate_id.as_bytes().to_vec()).collect();
        let mut outcomes: Vec<Vec<u8>> = commands
            .iter()
            .filter(|(command, _)| has_key(command))
            .map(|(command, _)| outcomes::outcome_key(&command.outcome_id))
            .collect();
        aggregates.retain(|key| !self.aggregates.contains_key(key.as_slice()));
        for keys in [&mut aggregates, &mut outcomes] {
            keys.sort();
            keys.dedup();
        }
        let state = self.state;
        let (aggregates, outcomes) = tokio::try_join!(
            state.aggregates.get_all(aggregates),
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
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let newest = match self.aggregates.get(&key) {
            Some(newest) => Some(newest.clone()),
            None => self.known.aggregates.get(key.as_ref()).cloned().flatten().map(Bytes::from),
        };
        let codec = &self.decider.codec;
        if command.context != schemas::CONTEXT {
            let detail = format!("{:?} is no context of commands", command.context);
            return Ok(Answer::refused(&Problem::new(ProblemType::BadRequest, detail), None));
        }
        let (topic, partition) = (self.state.commands.0, self.partition);
        let token = Token { context: command.context.as_str().into(), topic, partition, offset };
        let token = token.to_string();
        let decided = recipes::decide(codec, newest.as_deref(), command, &token, self.now).await?;
        if let Some(fault) = decided.unreadable {
            // If only local state has it like that, the log helps; otherwise the command is refused.
            self.state.aggregates.on_disk().doubt(&fault)?;
        }
        if let Some((value, headers)) = decided.event {
            let record = self.record(key.clone(), value.clone(), headers);
            let topic = self.decider.topics.recipes.clone();
            self.appends.push(Append { topic, partition: self.partition, record });
            self.aggregate_changes.push((key.to_vec(), Some(value.to_vec())));
            self.aggregates.insert(key, value);
            self.newest_tokens.insert(command.context.clone(), token);
            self.through.reach(&command.context, offset);
        }
        Ok(decided.answer)
    }

    /// What came of an earlier command with this outcome id, if that is remembered.
    async fn outcome(&self, id: &str) -> Result<Option<ReplyRecord>, RoleError> {
        let encoded = match self.remembered.get(id) {
            Some(encoded) => Some(encoded.to_vec()),
            None => self.known.outcomes.get(&outcomes::outcome_key(id)).cloned().flatten(),
        };
        let Some(encoded) = encoded else { return Ok(None) };
        let read = match self.decider.codec.decode(&encoded).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(&error)),
            decoded => decoded.and_then(|decoded| decoded.read::<ReplyRecord>()),
        };
        let reply = match read {
            Ok(reply) => reply,
            Err(error) => {
                // From the log come only replies that can be read.
                self.state.outcomes.on_disk().doubt(&format!("outcome {id}: {error}"))?;
                return Err(RoleError::other(&error));
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
        let encoded = self.decider.codec.encode(REPLY, &reply).map_err(|e| RoleError::other(&e))?;
        outcomes::decided(&mut self.outcome_changes, &reply);
        if is_remembered(&reply) {
            outcomes::remember(&mut self.outcome_changes, &reply.outcome_id, &reply, &encoded);
            self.remembered.insert(reply.outcome_id, encoded.clone());
        }
        let key = Bytes::copy_from_slice(command.aggregate_id.as_bytes());
        let record = self.record(key, encoded, Headers::default());
        let topic = self.decider.topics.replies.clone();
        self.appends.push(Append { topic, partition: self.partition, record });
        Ok(())
    }

    fn record(&self, key: Bytes, value: Bytes, headers: Headers) -> Record {
        Record { key, value: Some(value), headers, timestamp_ms: self.now.as_millisecond() }
    }

    pub(super) fn finish(mut self) -> Decided {
        let newest = self.newest_tokens.drain();
        let newest =
            newest.map(|(context, token)| (through::key_of(&context), Some(token.into_bytes())));
        self.aggregate_changes.extend(newest);
        let events = &self.decider.topics.recipes;
        let is_event =
            self.appends.iter().map(|append| Arc::ptr_eq(&append.topic, events)).collect();
        let (aggregates, outcomes) = (self.aggregate_changes, self.outcome_changes);
        Decided {
            appends: self.appends,
            local: Local { partition: self.partition, aggregates, outcomes, is_event },
            through: self.through,
        }
    }
}

impl Local {
    /// Takes the batch in, beside the positions it leads up to where those are known: some
    /// acknowledgements lack an offset, and then the next take-over reads the records again.
    pub(super) fn take(mut self, state: &State, offsets: &[Option<Offset>], input: Offset) {
        let position = |wanted: bool| {
            let of_topic = offsets.iter().zip(&self.is_event).filter(|(_, is)| **is == wanted);
            of_topic.map(|(offset, _)| *offset).next_back().flatten().map(|offset| offset + 1)
        };
        let (events, replies) = (position(true), position(false));
        let (context, topic, partition) =
            (schemas::CONTEXT.into(), state.commands.0, self.partition);
        let input = Token { context, topic, partition, offset: input };
        let input = input.to_string().into_bytes();
        self.aggregates.push((INPUT_POSITION.to_vec(), Some(input)));
        state.aggregates.take(self.aggregates, events);
        state.outcomes.take(self.outcomes, replies);
    }
}
