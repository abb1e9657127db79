//! Records of `commands` and `replies`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
