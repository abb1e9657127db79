//! The record and its schema, as a file of `schemas/src/` and a line of `schemas/src/files.rs` have them.

use crate::rules::Greeting;
use almanac_schemas::files::SchemaFile;
use serde::{Deserialize, Serialize};

pub(crate) const CONTEXT: &str = "greetings";
pub(crate) const TOPIC: &str = "greetings.events";
pub(crate) const MADE: &str = "almanac.greetings.GreetingMade";

pub(crate) const SCHEMA: SchemaFile = SchemaFile {
    topic: TOPIC,
    record: MADE,
    version: 1,
    text: include_str!("GreetingMade.v1.avsc"),
};

#[derive(Serialize, Deserialize)]
pub(crate) struct GreetingMadeRecord {
    pub(crate) id: String,
    pub(crate) version: i64,
    pub(crate) owner: String,
    pub(crate) text: String,
}

impl GreetingMadeRecord {
    pub(crate) fn greeting(&self, record: &str) -> Option<Greeting> {
        (record == MADE).then(|| Greeting { owner: self.owner.clone(), text: self.text.clone() })
    }

    pub(crate) fn body(&self) -> String {
        serde_json::json!({ "id": self.id, "text": self.text }).to_string()
    }
}
