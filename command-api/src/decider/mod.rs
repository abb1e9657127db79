//! The owner of a partition of `commands`: decides each in order, and commits events, replies and
//! input position in one transaction. What it decides from is a local state that was read to the
//! end of the log before the first command.

mod batch;
mod through;

use crate::{
    metrics::DeciderMetrics,
    outcomes::{self, Changes},
    topics::Topics,
};
use almanac_errors::chain;
use almanac_event_log::{LogReader, Offset, ReadBatch, ReadLimit, StoredRecord, TopicId};
use almanac_processor::{
    GatherLimits, GatheredState, LocalState, Owned, Role, RoleError, StateError, StateFolder,
    foreign::is_uuid, traced,
};
use almanac_schemas::{
    CONSISTENCY_TOKEN, Codec, Token,
    commands::{REPLY, ReplyRecord},
};
use async_trait::async_trait;
use batch::Batch;
use futures::future::try_join_all;
use jiff::Timestamp;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use through::Through;

#[derive(Clone, Debug)]
pub struct DeciderOptions {
    /// Commands decided and committed together.
    pub batch_commands: usize,
    pub batch_bytes: usize,
    /// How long a batch waits for more, when several commands were decided together before it.
    pub gather: Duration,
    /// How long outcomes are remembered.
    pub outcomes: Duration,
    /// When changes of local state go to disk.
    pub flush: GatherLimits,
}

impl Default for DeciderOptions {
    fn default() -> Self {
        Self {
            batch_commands: 1_000,
            batch_bytes: 2 << 20,
            gather: Duration::from_millis(1),
            outcomes: Duration::from_secs(24 * 3600),
            flush: GatherLimits::default(),
        }
    }
}

pub struct Decider {
    pub topics: Topics,
    pub options: DeciderOptions,
    pub codec: Arc<Codec>,
    /// Folded from the events of each of the [`contexts`](crate::contexts()), in their order, by
    /// aggregate.
    pub aggregates: Vec<StateFolder>,
    /// Folded from the replies, by outcome.
    pub outcomes: StateFolder,
    pub metrics: DeciderMetrics,
}

/// The local state of one owned partition.
struct State {
    /// Of the input, as tokens name it.
    commands: TopicId,
    /// Of each context, in their order.
    aggregates: Vec<GatheredState>,
    outcomes: GatheredState,
    /// Commands below this may have been decided before the take-over.
    handled_below: Offset,
    /// Commands below this were decided before it, or passed over.
    decided_below: Option<Offset>,
}

/// Where the position of the input stands among the outcomes that were written with it.
const INPUT_POSITION: &[u8] = b"input-position";

impl State {
    /// Starts to write what is due.
    async fn flush_due(&self) -> Result<(), StateError> {
        let now_ms = Timestamp::now().as_millisecond();
        for aggregates in &self.aggregates {
            aggregates.flush_due(|_| Ok(Changes::new())).await?;
        }
        self.outcomes.flush_due(move |on_disk| outcomes::forget(on_disk, now_ms)).await
    }
}

/// Positions of the input, as local state has them.
struct Positions {
    /// Commands below this were decided, or passed over.
    decided_below: Option<Offset>,
    /// The newest commands that led to events.
    through: Through,
}

/// Reads them off the threads that serve.
async fn read_positions(
    aggregates: Vec<LocalState>,
    outcomes: LocalState,
    commands: TopicId,
) -> Result<(Vec<LocalState>, LocalState, Positions), RoleError> {
    let read = move || -> Result<_, RoleError> {
        // Replies name the commands that they answer; a command that cannot be read has none, and
        // whoever passed over it last may know.
        let replied = outcomes::decided_below(&outcomes)?;
        let handled = position_under(INPUT_POSITION, &outcomes, commands)?;
        let mut through = Through::default();
        for aggregates in &aggregates {
            through.take(Through::read(aggregates, commands.0)?);
        }
        let positions = Positions { decided_below: replied.max(handled), through };
        Ok((aggregates, outcomes, positions))
    };
    tokio::task::spawn_blocking(read).await.map_err(RoleError::other)?
}

/// A position of the input that stands in a local state, if it is one of this topic.
fn position_under(
    key: &[u8],
    state: &LocalState,
    commands: TopicId,
) -> Result<Option<Offset>, RoleError> {
    let Some(value) = state.get(key)? else { return Ok(None) };
    let token = std::str::from_utf8(&value).ok().and_then(|text| text.parse::<Token>().ok());
    if token.is_none() {
        state.doubt("a position of commands is none")?;
    }
    Ok(token.filter(|token| token.topic == commands.0).map(|token| token.offset))
}

#[async_trait]
impl Role for Decider {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let mut input = owned.take_over().await?;
        let events = self.topics.events.iter().zip(&self.aggregates);
        let (aggregates, outcomes) = tokio::try_join!(
            try_join_all(events.map(|(topic, folder)| self.fold(&owned, topic, folder))),
            self.fold(&owned, &self.topics.replies, &self.outcomes)
        )?;
        let commands = owned.log.topic(&self.topics.commands).await?.id;
        let (aggregates, outcomes, positions) =
            read_positions(aggregates, outcomes, commands).await?;
        let decided_below = positions.decided_below;
        let state = State {
            commands,
            aggregates: aggregates
                .into_iter()
                .map(|aggregates| GatheredState::new(aggregates, self.options.flush))
                .collect(),
            outcomes: GatheredState::new(outcomes, self.options.flush),
            handled_below: input.hold_against(decided_below),
            decided_below,
        };
        let mut reader = input.reader(&*owned.log).await?;
        tracing::debug!(partition = owned.partition(), "deciding commands");
        let mut through = positions.through;
        let mut next = self.read(&owned, &mut *reader, 0).await?;
        while let Some(read) = next {
            let Some(last) = read.records.last() else {
                state.flush_due().await?;
                next = self.read(&owned, &mut *reader, 0).await?;
                continue;
            };
            let mut batch = Batch::new(self, &owned, &state, through);
            batch.take_all(&read.records).await?;
            let decided = batch.finish();
            through = decided.through;
            // The next batch gathers while this one commits.
            let (hops, commands) = (decided.hops, read.records.len());
            let commit = async {
                let since = Instant::now();
                let committed = input.commit(decided.appends, last.offset + 1).await;
                traced::end(hops, commands, committed.is_err().then_some("commit"));
                let offsets = committed?;
                self.metrics.committed(&decided.account, since.elapsed());
                Ok::<_, RoleError>(offsets)
            };
            let (offsets, read) =
                tokio::join!(commit, self.read(&owned, &mut *reader, read.records.len()));
            decided.local.take(&state, &offsets?, last.offset + 1);
            state.flush_due().await?;
            next = read?;
            // The transaction took longer than the gathering: what came since is decided with it,
            // and not one transaction later.
            if let Some(read) = &mut next {
                self.take_waiting(&mut *reader, read).await?;
            }
        }
        Ok(())
    }
}

impl Decider {
    /// What waits, or `None` when the partition is to be given up. `before` commands were decided
    /// together the last time.
    async fn read(
        &self,
        owned: &Owned,
        reader: &mut dyn LogReader,
        before: usize,
    ) -> Result<Option<ReadBatch>, RoleError> {
        let options = &self.options;
        let limit = ReadLimit { records: options.batch_commands, bytes: options.batch_bytes };
        let mut batch = tokio::select! {
            () = owned.cancelled.cancelled() => return Ok(None),
            batch = reader.next(limit, Duration::from_secs(1)) => batch?,
        };
        // Who was answered together comes back together, in the course of a moment: waiting for all
        // of them makes fewer transactions. A single caller is not kept waiting.
        if before > 1 && !batch.records.is_empty() && !options.gather.is_zero() {
            tokio::time::sleep(options.gather).await;
            self.take_waiting(reader, &mut batch).await?;
        }
        Ok(Some(batch))
    }

    /// Adds what waits to a batch, as far as it has room.
    async fn take_waiting(
        &self,
        reader: &mut dyn LogReader,
        batch: &mut ReadBatch,
    ) -> Result<(), RoleError> {
        let bytes: usize = batch.records.iter().map(|stored| stored.record.size()).sum();
        let room = ReadLimit {
            records: self.options.batch_commands.saturating_sub(batch.records.len()),
            bytes: self.options.batch_bytes.saturating_sub(bytes),
        };
        if room.records > 0 && room.bytes > 0 {
            batch.records.extend(reader.next(room, Duration::ZERO).await?.records);
        }
        Ok(())
    }

    /// Reads a topic of this partition from where the local state stands to the end.
    async fn fold(
        &self,
        owned: &Owned,
        topic: &str,
        folder: &StateFolder,
    ) -> Result<LocalState, RoleError> {
        let partition = owned.partition();
        let (mut state, from) = folder.resume(&*owned.log, topic, partition).await?;
        let mut fold = owned.fold(topic, from).await?;
        let mut folded = 0;
        while let Some(records) = fold.next().await? {
            folded += records.len();
            let position = records.last().map(|record| record.offset + 1);
            let mut changes = Changes::new();
            for record in &records {
                if is_uuid(&record.record.key) {
                    self.fold_one(record, &mut changes).await?;
                } else {
                    owned.pass_over(record);
                }
            }
            state = apply(state, changes, position).await?;
        }
        let state = apply(state, Changes::new(), Some(fold.end())).await?;
        tracing::debug!(topic, partition, from, records = folded, "local state is complete");
        Ok(state)
    }

    async fn fold_one(
        &self,
        record: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<(), RoleError> {
        let Some(value) = &record.record.value else { return Ok(()) };
        if record.topic != self.topics.replies {
            // The newest event holds all that is known of its aggregate. Where it cannot be read,
            // commands to that aggregate are refused; it holds up no other.
            changes.push((record.record.key.to_vec(), Some(value.to_vec())));
            if let Some(text) = record.record.headers.get_str(CONSISTENCY_TOKEN)
                && let Ok(token) = text.parse::<Token>()
            {
                let text = text.as_bytes().to_vec();
                changes.push((through::key_of(&token.context), Some(text)));
            }
            return Ok(());
        }
        let reply = match self.codec.decode(value).await {
            Ok(decoded) if decoded.record() == REPLY => decoded.read::<ReplyRecord>(),
            Ok(_) => return Ok(()),
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            Err(error) => Err(error),
        };
        match reply {
            Ok(reply) => {
                outcomes::decided(changes, &reply);
                if batch::is_remembered(&reply) {
                    outcomes::remember(changes, &reply.outcome_id, &reply, value);
                }
            }
            Err(error) => tracing::warn!(
                topic = %record.topic, partition = record.partition, offset = record.offset, error = %chain(&error),
                "passing over a reply that cannot be read"
            ),
        }
        Ok(())
    }
}

/// Takes changes in, off the threads that serve.
async fn apply(
    state: LocalState,
    changes: Changes,
    position: Option<u64>,
) -> Result<LocalState, RoleError> {
    tokio::task::spawn_blocking(move || state.apply(changes, position).map(|()| state))
        .await
        .map_err(RoleError::other)?
        .map_err(RoleError::from)
}
