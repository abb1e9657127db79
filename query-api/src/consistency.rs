//! Reads that carry consistency tokens: they wait until the tables have reached them.

use crate::state::ApiState;
use almanac_edge::{
    Problem,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::bad,
};
use almanac_schemas::Token;
use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue};

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
pub(crate) fn check(state: &ApiState, headers: &HeaderMap) -> Result<(), Problem> {
    tokens(state, headers).map(drop)
}

/// For reads of recipes: waits for what the tokens of a request name, as long as it prefers.
pub(crate) async fn wait(state: &ApiState, headers: &HeaderMap) -> Result<Awaited, Problem> {
    let tokens = tokens(state, headers)?;
    if tokens.is_empty() {
        return Ok(Awaited::default());
    }
    let preference = Preference::read(headers);
    let wait = preference.wait.unwrap_or(state.options.wait);
    let is_reached = state.progress.reached(&*state.log, &state.codec, &tokens, wait).await;
    if !is_reached && preference.is_strict {
        return Err(Problem::busy("the tables have not reached the consistency token"));
    }
    Ok(Awaited { is_stale: !is_reached, applied: preference.applied_to_read() })
}

/// How waiting ended.
#[derive(Default)]
pub(crate) struct Awaited {
    is_stale: bool,
    applied: Option<HeaderValue>,
}

impl Awaited {
    /// Says so in the answer.
    pub(crate) fn told_by(self, mut answer: Response) -> Response {
        let headers = answer.headers_mut();
        if self.is_stale {
            headers.insert(CONSISTENCY, HeaderValue::from_static("stale"));
        }
        if let Some(applied) = self.applied {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
        answer
    }
}
