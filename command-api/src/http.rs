//! The addresses of writes, and of what came of them.

use crate::{
    CommandApiOptions,
    answers::headers_of,
    contexts::{self, Contexts},
    headers,
    write::CommandApi,
};
use almanac_edge::{
    Problem, ProblemType, Routes, cors, method_not_allowed, openapi::Fragment, openapi_fragment,
    query::Parameters,
};
use almanac_processor::RoleError;
use almanac_schemas::commands::ReplyRecord;
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    middleware,
    response::Response,
};
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// For so long after it was taken, a request without an outcome counts as under way.
const PENDING: Duration = Duration::from_secs(60);

pub fn routes(api: Arc<CommandApi>) -> Routes {
    let origins = cors::Origins::of(&api.identity);
    declared(api.topics.contexts, &api.options).map(|router| {
        router.route_layer(middleware::from_fn_with_state(origins, cors::writes)).with_state(api)
    })
}

/// What describes the routes.
pub fn openapi() -> impl Iterator<Item = Fragment> {
    let contexts = contexts::ALL.iter().map(|context| context.openapi());
    let more = contexts::ALL.iter().flat_map(|context| context.more_openapi().iter().copied());
    std::iter::once(openapi_fragment!("openapi.json")).chain(contexts).chain(more)
}

fn declared(contexts: Contexts, options: &CommandApiOptions) -> Routes<Arc<CommandApi>> {
    let mut only_here = Routes::new().get("/v1/commands/{id}", outcome);
    // The query API has these addresses too, and answers for the methods that neither has.
    let mut shared = Routes::new();
    for context in contexts {
        let routes = context.routes(options);
        only_here = only_here.merge(routes.only_here);
        shared = shared.merge(routes.shared);
    }
    shared.merge(only_here.map(|router| router.method_not_allowed_fallback(method_not_allowed)))
}

/// What came of a command, for a day.
async fn outcome(
    State(api): State<Arc<CommandApi>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    asked: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    let caller = api.identity.caller(&asked)?;
    let id = headers::id(&id, "command")?;
    let found = api.replies.find(&*api.log, &api.codec, &api.topics, id).await;
    let found = found.map_err(|error| {
        let what = match &error {
            RoleError::Log(_) => "the event log",
            _ => "the memory of outcomes",
        };
        Problem::unavailable(what, &error)
    })?;
    // To anybody else it is not there.
    let may_see = |reply: &ReplyRecord| caller.is_admin() || reply.caller == caller.subject;
    let body = match found {
        Some(reply) if may_see(&reply) => {
            let headers: serde_json::Map<String, Value> = headers_of(&reply, api.token_of(&reply))
                .into_iter()
                .map(|(name, value)| (name.as_str().to_owned(), Value::String(value)))
                .collect();
            let outcome: Value = serde_json::from_str(&reply.body).unwrap_or_default();
            let expires_at = Timestamp::from_millisecond(reply.expires_at).unwrap_or_default();
            json!({
                "id": id,
                "state": "decided",
                "expires_at": format!("{expires_at:.3}"),
                "outcome": {"status": reply.status, "headers": headers, "body": outcome},
            })
        }
        // The id says when it was made: an outcome that is not here yet may be on its way.
        found if found.is_none() && is_recent(id) => {
            json!({"id": id, "state": "pending", "expires_at": null, "outcome": null})
        }
        _ => {
            let detail =
                "no command with this id was decided or will be, or its outcome was forgotten";
            return Err(Problem::new(ProblemType::NotFound, detail));
        }
    };
    let mut response = Response::new(Body::from(body.to_string()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn is_recent(id: Uuid) -> bool {
    let Some(made) = id.get_timestamp() else { return false };
    let (seconds, _) = made.to_unix();
    let age = Timestamp::now().as_second().saturating_sub(seconds as i64);
    id.get_version_num() == 7 && (-5..PENDING.as_secs() as i64).contains(&age)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_described_and_nothing_else() {
        let routes = declared(contexts::ALL, &CommandApiOptions::default());
        assert!(routes.operations().len() > 15);
        let differences = almanac_edge::openapi::differences(&routes, openapi()).unwrap();
        assert!(differences.is_empty(), "{differences:#?}");
    }
}
