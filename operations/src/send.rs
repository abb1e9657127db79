//! What a role wants done, as a command to the decider from the installation itself.

use crate::Operations;
use almanac_domain::operations::{Command, MendingCommand, Outcome, PROJECTOR, Target};
use almanac_event_log::{Append, Headers, Record, partitioner::partition_of};
use almanac_schemas::{
    CodecError,
    commands::{COMMAND, CommandRecord, RoleCommand},
    json::{mending, operations},
    operations::{CONTEXT, id_of},
};
use bytes::Bytes;
use jiff::Timestamp;

#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Log(#[from] almanac_event_log::LogError),
}

impl Operations {
    /// On return the command is in the log. What comes of it is seen in the events.
    pub async fn send(
        &self,
        projection: &str,
        command: &Command,
        reason: &str,
    ) -> Result<(), SendError> {
        let (verb, body) = operations::command(command, reason);
        self.command(id_of(projection).to_string(), verb, body).await
    }

    /// Tells what came of keys that somebody wanted mended. On return the command is in the log.
    pub async fn report(
        &self,
        request: &str,
        outcomes: Vec<(Target, Outcome)>,
    ) -> Result<(), SendError> {
        let (verb, body) = mending::command(&MendingCommand::Report(outcomes), "");
        self.command(request.to_owned(), verb, body).await
    }

    async fn command(
        &self,
        aggregate_id: String,
        verb: &'static str,
        body: String,
    ) -> Result<(), SendError> {
        let now = Timestamp::now().as_millisecond();
        let command = CommandRecord::of_role(RoleCommand {
            caller: PROJECTOR,
            context: CONTEXT,
            aggregate_id,
            verb,
            body,
            issued_at: now,
        });
        let value = self.codec.encode(COMMAND, &command)?;
        let key = Bytes::from(command.aggregate_id);
        let partition = partition_of(&key, self.partitions);
        let record =
            Record { key, value: Some(value), headers: Headers::default(), timestamp_ms: now };
        let append = Append { topic: self.commands.as_str().into(), partition, record };
        self.log.append(vec![append]).await?;
        Ok(())
    }
}
