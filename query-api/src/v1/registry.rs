//! The registry built into the embedded engine, read-only, under the addresses of Confluent's API,
//! so that ordinary Avro clients find the schemas of `/v1/events` and of exported records.

use crate::state::ApiState;
use almanac_schemas::files::{ALL, SchemaFile};
use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

fn answer(status: StatusCode, body: &Value) -> Response {
    (status, [(header::CONTENT_TYPE, CONTENT_TYPE)], body.to_string()).into_response()
}

/// Errors in Confluent's form, which its clients read.
fn missing(code: u32, message: &str) -> Response {
    answer(StatusCode::NOT_FOUND, &json!({"error_code": code, "message": message}))
}

fn files_of<'a>(
    state: &'a ApiState,
    subject: &'a str,
) -> impl Iterator<Item = &'static SchemaFile> + 'a {
    let serves = state.options.serve_registry;
    ALL.iter().filter(move |file| serves && file.subject(&state.options.prefix) == subject)
}

pub(crate) async fn subjects(State(state): State<Arc<ApiState>>) -> Response {
    let mut subjects: Vec<String> =
        ALL.iter().map(|file| file.subject(&state.options.prefix)).collect();
    subjects.dedup();
    if !state.options.serve_registry {
        return missing(40401, "this installation uses an external registry");
    }
    answer(StatusCode::OK, &json!(subjects))
}

pub(crate) async fn versions(
    State(state): State<Arc<ApiState>>,
    Path(subject): Path<String>,
) -> Response {
    let versions: Vec<u32> = files_of(&state, &subject).map(|file| file.version).collect();
    if versions.is_empty() {
        return missing(40401, "subject not found");
    }
    answer(StatusCode::OK, &json!(versions))
}

pub(crate) async fn version(
    State(state): State<Arc<ApiState>>,
    Path((subject, version)): Path<(String, String)>,
) -> Response {
    let found = match version.as_str() {
        "latest" => files_of(&state, &subject).max_by_key(|file| file.version),
        version => {
            files_of(&state, &subject).find(|file| Some(file.version) == version.parse().ok())
        }
    };
    match found {
        Some(file) => {
            let id = file.built_in_id();
            let body = json!({"subject": subject, "id": id, "version": file.version, "schemaType": "AVRO", "schema": file.text});
            answer(StatusCode::OK, &body)
        }
        None => missing(40402, "version not found"),
    }
}

pub(crate) async fn by_id(State(state): State<Arc<ApiState>>, Path(id): Path<String>) -> Response {
    let file = id.parse().ok().and_then(|id: u32| ALL.get(id.checked_sub(1)? as usize));
    match file.filter(|_| state.options.serve_registry) {
        Some(file) => answer(StatusCode::OK, &json!({"schema": file.text, "schemaType": "AVRO"})),
        None => missing(40403, "schema not found"),
    }
}
