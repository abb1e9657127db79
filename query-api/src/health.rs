//! Whether this process lives, whether it may be sent requests, and its metrics.

use crate::{metrics::What, state::ApiState};
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde_json::json;
use std::sync::Arc;

pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

pub(crate) async fn readyz(State(state): State<Arc<ApiState>>) -> Response {
    let supervisor = &state.options.supervisor;
    let unready = state.unready.read().clone().or_else(|| supervisor.waits_for());
    // Their names only: what an error says is for the log, not for whoever may ask here.
    let failing = supervisor.failing().into_iter().map(|one| one.task.to_string());
    let told = state.told();
    // Caches answer while the log is away, so it is no reason to send requests elsewhere: every other
    // process is as far away from it.
    let (status, word) = match &unready {
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
        None if told.iter().any(|(_, sign)| sign.is_err()) => (StatusCode::OK, "degraded"),
        None => (StatusCode::OK, "ready"),
    };
    let mut body = json!({
        "status": word,
        "waiting_for": unready,
        "failing_tasks": failing.collect::<Vec<_>>(),
        "out_of_date_partitions": state.slots.iter().map(|slot| slot.live().model.out_of_date()).sum::<usize>(),
    });
    for (name, sign) in told {
        body[name] = sign.unwrap_or_else(|word| word).into();
    }
    (status, [(header::CONTENT_TYPE, "application/json")], body.to_string()).into_response()
}

pub(crate) async fn metrics(State(state): State<Arc<ApiState>>) -> Response {
    for (what, sign) in state.told() {
        state.metrics.followed.get_or_create(&What { what }).set(sign.is_ok().into());
    }
    almanac_edge::exposition(&state.registry)
}
