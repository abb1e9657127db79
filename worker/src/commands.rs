//! What a worker wants done: commands for the decider, from the installation itself.

use crate::Topics;
use almanac_domain::analyses::{Failure, Outcome, Stage, WORKER};
use almanac_event_log::{Append, EventLog, Headers, Record, partitioner::partition_of};
use almanac_processor::{RoleError, traced};
use almanac_schemas::{
    Codec,
    analyses::{
        AnalysisCompletedRecord, AnalysisFailedRecord, AnalysisHead, AnalysisProgressedRecord,
        AnalysisRequestedRecord, CONTEXT,
    },
    commands::{COMMAND, CommandRecord, RoleCommand},
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

/// A command fits a record with room for what the decider adds.
const MAX_BYTES: usize = 950_000;

pub(crate) struct Commands {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topics: Topics,
}

/// What a worker says of an analysis.
pub(crate) enum Said {
    Completed(Box<Outcome>),
    Failed(Failure),
    Progressed(Stage),
    Requested(Box<AnalysisRequestedRecord>),
}

impl Said {
    /// As the command says it.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Completed(_) => "complete",
            Self::Failed(_) => "fail",
            Self::Progressed(_) => "progress",
            Self::Requested(_) => "request",
        }
    }
}

impl Commands {
    pub(crate) fn new(log: Arc<dyn EventLog>, codec: Arc<Codec>, topics: Topics) -> Self {
        Self { log, codec, topics }
    }

    /// On return the command is in the log. What comes of it is seen in the events.
    pub(crate) async fn send(&self, id: Uuid, said: &Said) -> Result<(), RoleError> {
        let (verb, body) = (said.verb(), body(id, said)?);
        if body.len() > MAX_BYTES {
            let detail = "the result is larger than a record may be";
            let failure = Failure { code: "too_large".to_owned(), detail: detail.to_owned() };
            return Box::pin(self.send(id, &Said::Failed(failure))).await;
        }
        let now = Timestamp::now().as_millisecond();
        let command = CommandRecord::of_role(RoleCommand {
            caller: WORKER,
            context: CONTEXT,
            aggregate_id: id.to_string(),
            verb,
            body,
            issued_at: now,
        });
        let value = self.codec.encode(COMMAND, &command).map_err(RoleError::other)?;
        let key = Bytes::from(command.aggregate_id);
        let partition = partition_of(&key, self.topics.partitions);
        let record =
            Record { key, value: Some(value), headers: Headers::default(), timestamp_ms: now };
        let append = Append { topic: self.topics.commands.clone(), partition, record };
        traced::append(&*self.log, append, almanac_traces::current()).await?;
        Ok(())
    }
}

fn body(id: Uuid, said: &Said) -> Result<String, RoleError> {
    let head = || AnalysisHead { id: id.to_string(), ..AnalysisHead::default() };
    match said {
        Said::Completed(outcome) => json(&AnalysisCompletedRecord::from_domain(head(), outcome)),
        Said::Failed(failure) => json(&AnalysisFailedRecord::from_domain(head(), failure)),
        Said::Progressed(stage) => json(&AnalysisProgressedRecord::from_domain(head(), *stage)),
        Said::Requested(request) => json(request),
    }
}

fn json(record: &impl Serialize) -> Result<String, RoleError> {
    serde_json::to_string(record).map_err(RoleError::other)
}
