//! The id of a request: its answer carries it as `Request-Id`, its problem document and what is
//! logged on its behalf name it, and a write's command goes by it.

use crate::{
    Caching, Gate, Measured,
    limits::Class,
    metrics::{Measuring, named},
};
use almanac_traces::{Hop, attributes as name};
use axum::{Router, body::Body, response::Response};
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use hyper::{body::Incoming, service::Service};
use hyper_util::service::TowerToHyperService;
use std::{
    convert::Infallible,
    sync::Arc,
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

/// What stands before the router.
#[derive(Clone, Debug, Default)]
pub struct Before {
    /// Counts and times them.
    pub measured: Option<Arc<Measured>>,
    /// What requests are held against.
    pub gate: Option<Arc<Gate>>,
    /// What caches may keep of the answers.
    pub caching: Option<Arc<Caching>>,
}

/// Every answer of the router, under an id of its own.
pub(crate) async fn answer(
    router: &TowerToHyperService<Router>,
    before: &Before,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let id = new_id();
    name_host(&mut request);
    let measured = before.measured.as_deref();
    let measuring = measured.map(|measured| measured.begin(request.method(), request.uri().path()));
    let caching = before.caching.as_deref();
    let asked = caching.and_then(|caching| {
        caching.asked(request.method(), request.uri().path(), request.headers())
    });
    let hop = serving(&request, measuring.as_ref().map_or("", Measuring::route), id);
    let answering = async {
        match &before.gate {
            None => router.call(request).await,
            Some(gate) => {
                let call = async |request| {
                    let Ok(answer) = router.call(request).await;
                    answer
                };
                Ok(gate.answer(request, call).await)
            }
        }
    };
    let answered = CURRENT.scope(id, hop.scope(answering)).await;
    answered.map(|mut response| {
        end(&hop, response.status());
        if let Some(measuring) = measuring {
            measuring.end(&response);
        }
        if let Some((caching, asked)) = caching.zip(asked) {
            caching.tell(asked, &mut response);
        }
        let mut text = Uuid::encode_buffer();
        let text: &str = Hyphenated::from_uuid(id).encode_lower(&mut text);
        if let Ok(value) = HeaderValue::from_str(text) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        response
    })
}

/// Who names the host in the first line of a request asks for that one, whatever `Host` says (RFC 9112,
/// section 3.2.2).
fn name_host<B>(request: &mut Request<B>) {
    let Some(authority) = request.uri().authority() else { return };
    let named = HeaderValue::from_str(authority.as_str());
    request.headers_mut().remove(header::HOST);
    if let Ok(named) = named {
        request.headers_mut().insert(header::HOST, named);
    }
}

/// Probes, scrapes, pages and what browsers ask beforehand are nobody's trace.
fn serving(request: &Request<Incoming>, route: &str, id: Uuid) -> Hop {
    if Class::of(request.method(), request.uri().path()).is_none() {
        return Hop::default();
    }
    let method = named(request.method());
    almanac_traces::serving(request.headers(), method, route, || {
        let mut all = vec![
            name::of(name::HTTP_REQUEST_METHOD, method),
            name::text(name::URL_PATH, request.uri().path()),
            name::of(name::URL_SCHEME, "http"),
            name::of(name::REQUEST_ID, id.to_string()),
        ];
        if !route.is_empty() {
            all.push(name::of(name::HTTP_ROUTE, route.to_owned()));
        }
        all
    })
}

/// The head of the answer is there; its body may take as long as its client.
fn end(hop: &Hop, status: StatusCode) {
    let Some(span) = hop.span() else { return };
    span.set(name::number(name::HTTP_RESPONSE_STATUS_CODE, status.as_u16()));
    if status.is_server_error() {
        span.fail(status.as_str());
    }
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
