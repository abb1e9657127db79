//! Reads that carry consistency tokens: they wait until the tables have reached them.

use crate::state::ApiState;
use almanac_edge::{
    Problem,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::bad,
};
use almanac_schemas::Token;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::Arc;

const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const CONSISTENCY: HeaderName = HeaderName::from_static("consistency");
const MAX_TOKENS: usize = 20;

/// The tokens of a request: the header may repeat, and hold several with commas between.
fn tokens(state: &ApiState, headers: &HeaderMap) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    for value in headers.get_all(CONSISTENCY_TOKEN) {
        for text in value.to_str().unwrap_or_default().split(',') {
            let token = text.trim().parse().ok().filter(|token| state.progress.is_ours(*token));
            let wrong = "it must hold tokens that this installation gave out";
            tokens.push(token.ok_or_else(|| bad("consistency-token", wrong))?);
        }
    }
    if tokens.len() > MAX_TOKENS {
        return Err(bad("consistency-token", &format!("at most {MAX_TOKENS} are taken")));
    }
    Ok(tokens)
}

/// For reads of tables that no command changes: tokens are checked, and there is nothing to wait
/// for.
pub(crate) async fn check(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    match tokens(&state, request.headers()) {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

/// For reads of recipes.
pub(crate) async fn wait(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    let tokens = match tokens(&state, request.headers()) {
        Ok(tokens) if tokens.is_empty() => return next.run(request).await,
        Ok(tokens) => tokens,
        Err(problem) => return problem.into_response(),
    };
    let preference = Preference::read(request.headers());
    let wait = preference.wait.unwrap_or(state.options.wait);
    let is_reached = state.progress.reached(&*state.log, &state.codec, &tokens, wait).await;
    let mut response = if is_reached || !preference.is_strict {
        next.run(request).await
    } else {
        Problem::busy("the tables have not reached the consistency token").into_response()
    };
    let headers = response.headers_mut();
    if !is_reached && !preference.is_strict {
        headers.insert(CONSISTENCY, HeaderValue::from_static("stale"));
    }
    if let Some(applied) = preference.applied_to_read() {
        headers.insert(PREFERENCE_APPLIED, applied);
    }
    response
}
