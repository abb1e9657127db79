//! Events as CloudEvents JSON.

use crate::CONSISTENCY_TOKEN;
use serde_json::{Value, json};

/// An event in the JSON format of CloudEvents. `header` finds its attributes among the headers of its
/// record.
pub fn cloud_event(header: impl Fn(&str) -> Option<String>, data: Value) -> Value {
    json!({
        "specversion": "1.0",
        "id": header("ce_id"),
        "source": header("ce_source"),
        "type": header("ce_type"),
        "subject": header("ce_subject"),
        "time": header("ce_time"),
        "datacontenttype": "application/json",
        "correlationid": header("ce_correlationid"),
        "consistencytoken": header(CONSISTENCY_TOKEN),
        "sequence": header("ce_sequence").and_then(|sequence| sequence.parse::<u64>().ok()),
        "data": data,
    })
}
