//! Records of `commands` and `replies`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

pub const TOPIC: &str = "commands";
pub const REPLIES: &str = "replies";

pub const COMMAND: &str = "almanac.commands.Command";
pub const REPLY: &str = "almanac.commands.Reply";

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRecord {
    pub request_id: String,
    pub outcome_id: String,
    pub context: String,
    pub aggregate_id: String,
    pub verb: String,
    pub caller: String,
    pub is_admin: bool,
    pub issued_at: i64,
    pub deadline: i64,
    pub expected: Option<Vec<i64>>,
    pub fingerprint: String,
    pub body: Option<String>,
    #[serde(default, with = "serde_bytes")]
    pub attachment: Option<Vec<u8>>,
}

/// What a role says, and about what.
pub struct RoleCommand<'a> {
    pub caller: &'a str,
    pub context: &'a str,
    pub aggregate_id: String,
    pub verb: &'a str,
    pub body: String,
    /// Milliseconds since the Unix epoch.
    pub issued_at: i64,
}

/// A role's command that is not decided within this time is refused. Whoever sent it sends it again.
const ROLE_DEADLINE_MS: i64 = 60_000;

impl CommandRecord {
    /// A command of the installation itself. It has no key: nothing of its outcome is remembered.
    pub fn of_role(said: RoleCommand<'_>) -> Self {
        let request_id = Uuid::now_v7().to_string();
        Self {
            outcome_id: request_id.clone(),
            request_id,
            context: said.context.to_owned(),
            aggregate_id: said.aggregate_id,
            verb: said.verb.to_owned(),
            caller: said.caller.to_owned(),
            is_admin: false,
            issued_at: said.issued_at,
            deadline: said.issued_at + ROLE_DEADLINE_MS,
            expected: None,
            fingerprint: String::new(),
            body: Some(said.body),
            attachment: None,
        }
    }
}

fn first_context() -> String {
    crate::recipes::CONTEXT.to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplyRecord {
    pub request_id: String,
    pub outcome_id: String,
    pub caller: String,
    pub aggregate_id: String,
    pub fingerprint: String,
    pub command_offset: i64,
    pub decided_at: i64,
    pub expires_at: i64,
    pub replayed: bool,
    pub status: i32,
    pub version: Option<i64>,
    pub body: String,
    /// Of the command's own context.
    #[serde(default)]
    pub events_through: Option<i64>,
    #[serde(default = "first_context")]
    pub context: String,
    /// Of every context; none in records from when there was one.
    #[serde(default)]
    pub through: Option<BTreeMap<String, i64>>,
}
