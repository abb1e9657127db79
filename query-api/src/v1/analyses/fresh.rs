//! Analyses that were asked for a moment ago. From the answer of the write on there is one, although
//! its event may not be in the tables yet, nor decided.

use super::{Analyses, missing};
use almanac_edge::{Problem, identity::Caller};
use almanac_event_log::{Isolation, LogError, LogResult, ReadLimit, partitioner::partition_of};
use almanac_schemas::{
    Token,
    analyses::{AnalysisEventRecord, CONTEXT},
    commands::{COMMAND, CommandRecord},
};
use jiff::Timestamp;
use std::time::Duration;
use tokio::{sync::SemaphorePermit, time::Instant};

/// Commands that are looked through from the end, and their bytes.
const TAIL: u64 = 5_000;
const TAIL_BYTES: usize = 64 << 20;
const LIMIT: ReadLimit = ReadLimit { records: 256, bytes: 4 << 20 };
const TAIL_WAIT: Duration = Duration::from_secs(1);

/// What there is of an analysis.
pub(super) enum Found {
    Event(Box<AnalysisEventRecord>),
    /// Asked for by this caller, and not decided or not in the tables yet.
    Asked {
        at: Timestamp,
    },
}

fn log_problem(error: &LogError) -> Problem {
    Problem::unavailable("the event log", error)
}

impl Analyses {
    /// An analysis that the caller may know of. Where the tables have none, they are first waited for
    /// until they are as far as the commands are now, and then the newest commands are looked through.
    pub(super) async fn find(
        &self,
        id: &str,
        caller: &Caller,
        within: Duration,
    ) -> Result<Found, Problem> {
        if let Some(event) = self.newest(id).await? {
            return Ok(Found::Event(Box::new(event)));
        }
        let deadline = Instant::now() + within;
        let turn = self.lookup(deadline).await?;
        let (commands, partitions) = (self.progress.commands(), self.progress.partitions());
        let partition = partition_of(id.as_bytes(), partitions);
        let end = self.log.end(commands, partition, Isolation::Committed).await;
        let end = end.map_err(|error| log_problem(&error))?;
        drop(turn);
        let Some(last) = end.checked_sub(1) else { return Err(missing()) };
        let token = Token {
            context: CONTEXT.into(),
            topic: self.progress.commands_id().0,
            partition,
            offset: last,
        };
        let tokens = [&token];
        let reached = self.progress.reached(&*self.log, &self.codec, &tokens);
        let is_reached = tokio::time::timeout_at(deadline, reached).await.is_ok();
        if let Some(event) = self.newest(id).await? {
            return Ok(Found::Event(Box::new(event)));
        }
        if is_reached {
            return Err(missing());
        }
        let _turn = self.lookup(Instant::now() + TAIL_WAIT).await?;
        let asked = self.command(id, caller, partition, end).await;
        match asked.map_err(|error| log_problem(&error))? {
            Some(at) => Ok(Found::Asked { at }),
            None => Err(missing()),
        }
    }

    async fn lookup(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Problem> {
        let turn = tokio::time::timeout_at(deadline, self.lookups.acquire()).await;
        // Never closed.
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or_else(|| Problem::busy("too many analyses are looked for"))
    }

    /// When the newest commands have the one that asked for this analysis.
    async fn command(
        &self,
        id: &str,
        caller: &Caller,
        partition: u32,
        end: u64,
    ) -> LogResult<Option<Timestamp>> {
        let commands = self.progress.commands();
        let start = self.log.start(commands, partition).await?;
        let from = end.saturating_sub(TAIL).max(start);
        let mut reader = self.log.read_to(commands, partition, from, end).await?;
        let mut bytes = 0;
        loop {
            let batch = reader.next(LIMIT, TAIL_WAIT).await?;
            for record in &batch.records {
                bytes += record.record.size();
                if record.record.key != id.as_bytes() {
                    continue;
                }
                let Some(value) = &record.record.value else { continue };
                let Ok(decoded) = self.codec.decode(value).await else { continue };
                if decoded.record() != COMMAND {
                    continue;
                }
                let Ok(command) = decoded.read::<CommandRecord>() else { continue };
                if command.context == CONTEXT && command.caller == caller.subject {
                    return Ok(Timestamp::from_millisecond(command.issued_at).ok());
                }
            }
            if batch.records.is_empty() || bytes > TAIL_BYTES {
                return Ok(None);
            }
        }
    }
}
