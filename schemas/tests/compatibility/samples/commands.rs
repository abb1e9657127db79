//! Commands and replies.

use crate::samples::{now, recipes::RECIPE_ID};
use almanac_schemas::commands::{CommandRecord, ReplyRecord};
use std::collections::BTreeMap;

pub(crate) fn command() -> CommandRecord {
    CommandRecord {
        request_id: "r".to_owned(),
        outcome_id: "o".to_owned(),
        context: "recipes".to_owned(),
        aggregate_id: RECIPE_ID.to_owned(),
        verb: "patch".to_owned(),
        caller: "mary".to_owned(),
        is_admin: false,
        issued_at: now().as_millisecond(),
        deadline: now().as_millisecond() + 5_000,
        expected: Some(vec![1, 2]),
        fingerprint: "00ff".to_owned(),
        body: Some("{}".to_owned()),
        attachment: Some(vec![0, 255]),
    }
}

pub(crate) fn reply() -> ReplyRecord {
    ReplyRecord {
        request_id: "r".to_owned(),
        outcome_id: "o".to_owned(),
        caller: "mary".to_owned(),
        aggregate_id: RECIPE_ID.to_owned(),
        fingerprint: "00ff".to_owned(),
        command_offset: 7,
        decided_at: now().as_millisecond(),
        expires_at: now().as_millisecond() + 86_400_000,
        replayed: false,
        status: 200,
        version: Some(3),
        body: "{}".to_owned(),
        events_through: Some(6),
        context: "recipes".to_owned(),
        through: Some(BTreeMap::from([("recipes".to_owned(), 5)])),
    }
}
