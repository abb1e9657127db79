//! The id of a request: its answer carries it as `Request-Id`, its problem document and what is
//! logged on its behalf name it, and a write's command goes by it.

use axum::{Router, body::Body, response::Response};
use http::{HeaderName, HeaderValue, Request};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use std::{
    convert::Infallible,
    time::{SystemTime, UNIX_EPOCH},
};
use tracing::field::{DisplayValue, display};
use uuid::{Builder, Uuid, fmt::Hyphenated};

pub const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");

tokio::task_local! {
    static CURRENT: Uuid;
}

/// The id of the request that is being answered here.
pub fn id() -> Option<Uuid> {
    CURRENT.try_with(|id| *id).ok()
}

/// The same as a field of a log line: without a request there is none.
pub fn logged() -> Option<DisplayValue<Uuid>> {
    id().map(display)
}

/// Does something on behalf of a request that was taken elsewhere.
pub async fn on_behalf<F: Future>(id: Uuid, future: F) -> F::Output {
    CURRENT.scope(id, future).await
}

/// A version 7 UUID. Every request is given one, so it costs no system call and no lock, as the
/// library's own way to make them does.
fn new_id() -> Uuid {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let millis = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid()
}

/// Every answer of the router, under an id of its own.
pub(crate) async fn answer(
    router: &TowerToHyperService<Router>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let id = new_id();
    let answered = CURRENT.scope(id, router.call(request)).await;
    answered.map(|mut response| {
        let mut text = Uuid::encode_buffer();
        let text: &str = Hyphenated::from_uuid(id).encode_lower(&mut text);
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_when_they_were_made() {
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let (one, other) = (new_id(), new_id());
        assert_ne!(one, other);
        assert_eq!(one.get_version_num(), 7);
        let (made, _) = one.get_timestamp().unwrap().to_unix();
        assert!((before..=before + 5).contains(&made));
    }

    #[tokio::test]
    async fn what_is_done_for_a_request_knows_it() {
        assert_eq!(id(), None);
        let one = new_id();
        assert_eq!(on_behalf(one, async { id() }).await, Some(one));
        assert_eq!(id(), None);
    }
}
