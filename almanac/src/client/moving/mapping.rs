//! Positions of the installation that was exported, in what comes into another one.
//!
//! Offsets differ there, and topics have other ids. Where a record names a position that somebody follows,
//! it is made one of the new installation; where it tells how far somebody was, it is taken away.

use super::container::Unpacked;
use almanac_schemas::{analyses, commands::REPLY, forecasts, ingest::FORECAST_STATE};
use almanac_traces::{TRACEPARENT, TRACESTATE};
use apache_avro::types::Value;
use std::collections::HashMap;

/// Headers that mean nothing in another installation: how far requests were handled with a record of ingestors'
/// state, and which trace it was written in, whose request nobody makes again.
const TAKEN_AWAY: [&str; 3] = ["input-position", TRACEPARENT, TRACESTATE];

/// Where the records of a partition stand now.
#[derive(Default)]
struct Shifted {
    /// Of the first.
    base: u64,
    /// Offsets as they were, in order.
    was: Vec<u64>,
}

/// Where the records of the topics stand now that others name.
#[derive(Default)]
pub(super) struct Mapping {
    /// By the topic's id as it was: its id now.
    ids: HashMap<String, String>,
    /// By the topic's id as it was, and partition.
    shifted: HashMap<(String, u32), Shifted>,
}

/// Topics whose positions stand in events, and that come before these.
pub(super) const NAMED: [&str; 2] = [analyses::INPUTS, forecasts::TOPIC];

/// The topic whose events name them: its bodies are others after an import.
pub(crate) const NAMING: &str = analyses::TOPIC;

impl Mapping {
    pub(super) fn topic(&mut self, was: &str, is: &str) {
        self.ids.insert(was.to_owned(), is.to_owned());
    }

    /// The records of a partition, one after the other.
    pub(super) fn push(&mut self, topic: &str, partition: u32, base: u64, was: u64) {
        let shifted = self.shifted.entry((topic.to_owned(), partition)).or_default();
        shifted.base = base;
        shifted.was.push(was);
    }

    fn offset(&self, topic: &str, partition: u32, was: u64) -> Option<u64> {
        let shifted = self.shifted.get(&(topic.to_owned(), partition))?;
        let place = shifted.was.binary_search(&was).ok()?;
        Some(shifted.base + place as u64)
    }

    pub(super) fn map(&self, record: &str, one: &mut Unpacked) {
        one.headers.retain(|(name, _)| !TAKEN_AWAY.contains(&name.as_str()));
        let Some(Value::Record(fields)) = &mut one.body else { return };
        match record {
            REPLY => {
                // Of the log of commands, which does not move: no command there has this answer.
                set(fields, "command_offset", Value::Long(-1));
                set_null(fields, "events_through");
                set_null(fields, "through");
            }
            FORECAST_STATE => set_null(fields, "answered"),
            analyses::COMPLETED => {
                if let Some(Value::Array(used)) = field(fields, "forecasts") {
                    for one in used {
                        if let Value::Record(at) = one {
                            self.place(at, &["offset"]);
                        }
                    }
                }
            }
            analyses::REQUESTED => {
                if let Some(Value::Union(_, input)) = field(fields, "input")
                    && let Value::Record(at) = &mut **input
                {
                    self.place(at, &["first_offset", "last_offset"]);
                }
            }
            _ => {}
        }
    }

    /// A place that was not exported keeps its topic's old id, which nobody takes for one of here.
    fn place(&self, at: &mut Fields, offsets: &[&str]) {
        let Some(Value::String(topic)) = field(at, "topic_id") else { return };
        let topic = topic.clone();
        let Some(Value::Int(partition)) = field(at, "partition") else { return };
        let Ok(partition) = u32::try_from(*partition) else { return };
        let mut mapped = Vec::new();
        for name in offsets {
            let Some(Value::Long(was)) = field(at, name) else { return };
            let Ok(was) = u64::try_from(*was) else { return };
            let Some(is) = self.offset(&topic, partition, was) else { return };
            mapped.push((*name, is));
        }
        let Some(id) = self.ids.get(&topic) else { return };
        set(at, "topic_id", Value::String(id.clone()));
        for (name, is) in mapped {
            set(at, name, Value::Long(is as i64));
        }
    }
}

type Fields = Vec<(String, Value)>;

fn field<'a>(fields: &'a mut Fields, name: &str) -> Option<&'a mut Value> {
    fields.iter_mut().find(|(found, _)| found == name).map(|(_, value)| value)
}

fn set(fields: &mut Fields, name: &str, value: Value) {
    if let Some(found) = field(fields, name) {
        *found = value;
    }
}

/// Of fields that may be null, which is their first kind.
fn set_null(fields: &mut Fields, name: &str) {
    set(fields, name, Value::Union(0, Box::new(Value::Null)));
}
