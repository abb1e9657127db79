//! What operators did, newest first.

use super::{known, list, page};
use crate::state::ApiState;
use almanac_edge::Problem;
use almanac_operations::Noted;
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use http::HeaderMap;
use serde_json::{Value, json};
use std::sync::Arc;

pub(super) async fn audit(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = known(&state, &headers).await?;
    let mut all: Vec<(String, &Noted)> =
        known.noted().map(|one| (format!("{:.3} {}", one.time, one.event_type), one)).collect();
    all.sort_by(|one, other| other.0.cmp(&one.0));
    // Several of one moment: each needs a key of its own.
    let all = all.into_iter().map(|(key, one)| (format!("{key} {}", one.target), one));
    let (some, next) = page("audit", query.as_deref(), all)?;
    let items: Vec<Value> = some.into_iter().map(item).collect();
    Ok(list(&headers, &items, &next))
}

fn item(noted: &Noted) -> Value {
    json!({
        "time": format!("{:.3}", noted.time),
        "actor": noted.actor,
        "action": action(noted.event_type),
        "type": noted.event_type,
        "target": noted.target,
        "reason": noted.reason,
        "before": noted.before,
        "outcome": noted.outcome,
    })
}

/// The last word of the address that an action has; what projectors do has none, and is told by its
/// event.
fn action(event_type: &'static str) -> &'static str {
    match event_type {
        "rebuild.requested" | "repair.requested" => "rebuilds",
        "rebuild.paused" | "provider.paused" => "pause",
        "rebuild.resumed" | "provider.resumed" => "resume",
        "rebuild.cancelled" => "cancel",
        "generation.activated" => "activate",
        "generation.rolled_back" => "rollback",
        "generation.dropped" => "drop",
        "import.started" => "import",
        "import.completed" => "complete",
        "redrive.requested" => "redrive",
        "discard.requested" => "discard",
        other => other,
    }
}
