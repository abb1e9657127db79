//! Reads that carry consistency tokens: they wait until the tables have reached them. And rows of
//! keys that are set aside: they are older than they seem, and say so.

use crate::{front::Tables, parked::Parked, state::Shared};
use almanac_edge::{
    Problem,
    prefer::{PREFERENCE_APPLIED, Preference},
    query::bad,
};
use almanac_schemas::Token;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use std::time::Duration;

const CONSISTENCY_TOKEN: HeaderName = HeaderName::from_static("consistency-token");
const CONSISTENCY: HeaderName = HeaderName::from_static("consistency");
const MAX_TOKENS: usize = 20;

/// The tokens of a request: the header may repeat, and hold several with commas between.
fn tokens(state: &Shared, headers: &HeaderMap) -> Result<Vec<Token>, Problem> {
    let mut tokens = Vec::new();
    for value in headers.get_all(CONSISTENCY_TOKEN) {
        for text in value.to_str().unwrap_or_default().split(',') {
            let token = text.trim().parse().ok().filter(|token| state.progress.is_ours(token));
            let wrong = "it must hold tokens that this installation gave out";
            tokens.push(token.ok_or_else(|| bad("consistency-token", wrong))?);
        }
    }
    if tokens.len() > MAX_TOKENS {
        return Err(bad("consistency-token", &format!("at most {MAX_TOKENS} are taken")));
    }
    Ok(tokens)
}

/// The key in an address such as `/v1/recipes/{id}/history`.
fn key_in(path: &str) -> Option<&str> {
    path.split('/').nth(3).filter(|key| !key.is_empty())
}

/// Whether what this address names is set aside.
fn is_parked(parked: &Parked, path: &str) -> bool {
    // Ids are read in capitals, too; what is no id is no key.
    parked.has_any()
        && key_in(path).is_some_and(|key| parked.has(key.to_ascii_lowercase().as_bytes()))
}

/// Whether an event of what this address names was discarded.
fn is_incomplete(parked: &Parked, path: &str) -> bool {
    key_in(path).is_some_and(|key| parked.lacks_of(key.to_ascii_lowercase().as_bytes()))
}

/// For reads of tables that no command changes: tokens are checked, and there is nothing to wait
/// for. A list may lack what happened to any key that is set aside.
pub(crate) fn check(
    state: &Shared,
    parked: Option<&Parked>,
    path: &str,
    headers: &HeaderMap,
) -> Result<Awaited, Problem> {
    tokens(state, headers)?;
    let is_stale = parked.is_some_and(|parked| match key_in(path) {
        Some(_) => is_parked(parked, path),
        None => parked.has_any(),
    });
    let is_incomplete = parked.is_some_and(|parked| is_incomplete(parked, path));
    Ok(Awaited { is_stale, is_incomplete, ..Awaited::default() })
}

/// For reads of tables of contexts: waits for what the tokens of a request name, as long as it
/// prefers. Tokens of other contexts ask nothing of these tables.
pub(crate) async fn wait(
    state: &Shared,
    tables: &Tables,
    path: &str,
    headers: &HeaderMap,
) -> Result<Awaited, Problem> {
    let tokens = tokens(state, headers)?;
    let is_parked = is_parked(&tables.parked, path);
    let is_incomplete = is_incomplete(&tables.parked, path);
    if tokens.is_empty() {
        return Ok(Awaited { is_stale: is_parked, is_incomplete, ..Awaited::default() });
    }
    let preference = Preference::read(headers);
    let wait = preference.wait.unwrap_or(state.options.wait);
    let awaited: Vec<&Token> =
        tokens.iter().filter(|token| tables.contexts.contains(&&*token.context)).collect();
    let is_reached = reached(state, &tables.parked, &awaited, (path, is_parked), wait).await;
    if !is_reached && preference.is_strict {
        let detail = match is_parked {
            false => "the tables have not reached the consistency token",
            true => "an event of this cannot be folded: its newest state is not in the tables",
        };
        return Err(Problem::busy(detail));
    }
    let applied = preference.applied_to_read();
    let is_stale = !is_reached || is_parked;
    Ok(Awaited { is_stale, is_incomplete, is_unreached: !is_reached, applied })
}

async fn reached(
    state: &Shared,
    parked: &Parked,
    tokens: &[&Token],
    (path, is_parked): (&str, bool),
    wait: Duration,
) -> bool {
    if tokens.is_empty() {
        return true;
    }
    if is_parked {
        return false;
    }
    let all = async {
        state.progress.reached(&*state.log, &state.codec, tokens).await;
        // What is folded may have passed over the key of a command. An address with a key has been
        // looked at, and may have been set aside meanwhile.
        if self::is_parked(parked, path) {
            return false;
        }
        let names_one = key_in(path).is_some_and(|key| key.len() == 36);
        names_one
            || !parked.has_any()
            || !parked.has_of_commands(&*state.log, state.progress.commands(), tokens).await
    };
    tokio::time::timeout(wait, all).await.unwrap_or(false)
}

/// How waiting ended.
#[derive(Default)]
pub(crate) struct Awaited {
    is_stale: bool,
    /// Whether an event is left out for good.
    is_incomplete: bool,
    /// Whether a token asked for more than there is.
    is_unreached: bool,
    applied: Option<HeaderValue>,
}

impl Awaited {
    /// Says so in the answer.
    pub(crate) fn told_by(self, mut answer: Response) -> Response {
        // Who has a token knows better than tables that lack what it is of.
        if self.is_unreached && answer.status() == StatusCode::NOT_FOUND {
            answer =
                Problem::busy("the tables have not reached the consistency token").into_response();
        }
        let headers = answer.headers_mut();
        let word = match (self.is_stale, self.is_incomplete) {
            (true, _) => Some("stale"),
            (false, true) => Some("incomplete"),
            (false, false) => None,
        };
        if let Some(word) = word {
            headers.insert(CONSISTENCY, HeaderValue::from_static(word));
        }
        if let Some(applied) = self.applied {
            headers.insert(PREFERENCE_APPLIED, applied);
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{models::ReadModel, testing::installation};
    use almanac_tables::{parked, plans};

    #[tokio::test]
    async fn lists_of_plans_say_that_a_key_is_set_aside() {
        let installation = installation().await;
        let (state, parked) = (&installation.state, installation.plans.parked());
        let is_stale =
            |path: &str| check(state, Some(parked), path, &HeaderMap::new()).ok().unwrap().is_stale;
        assert!(!is_stale("/v1/plans"));
        let place = format!("{}/{}", plans::PROJECTION, plans::VERSION);
        let table = parked::table().unwrap();
        installation.store.put(&table, &place, "plans.events/000001/aside", 1, "{}").await;
        parked.load(&*installation.store).await.unwrap();
        assert!(is_stale("/v1/plans"));
        assert!(is_stale("/v1/plans/aside/history"));
        assert!(!is_stale("/v1/plans/another"), "what is not set aside is as new as any");
    }
}
