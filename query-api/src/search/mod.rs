//! `GET /search`, to the letter of the published contract (docs/search-openapi.yaml).

pub(crate) mod cache;
mod parameters;
pub(crate) mod partition;

use crate::state::ApiState;
use almanac_edge::{conditional, cors};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::{BufMut, Bytes, BytesMut};
use cache::Day;
use futures::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use partition::{Bounds, Partition};
use std::{convert::Infallible, sync::Arc};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;
use xxhash_rust::xxh3::Xxh3;

const HEAD: &[u8] = b"{\"data\":{\"events\":[";
const TAIL: &[u8] = b"]},\"error\":null}";
/// Answers up to this size are made at once; larger ones are streamed.
const AT_ONCE: usize = 256 << 10;
/// Days loaded ahead of a stream.
const AHEAD: usize = 4;

/// The whole request is taken, since extracting its headers would copy them; and the answer is
/// compressed here, since a layer would cost those who do not ask for it.
pub(crate) async fn get(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    if !request.headers().contains_key(header::ACCEPT_ENCODING) {
        let (parts, _) = request.into_parts();
        return respond(&state, &parts).await;
    }
    let answer = service_fn(|request: Request| {
        let state = state.clone();
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(respond(&state, &parts).await) }
    });
    match CompressionLayer::new().layer(answer).oneshot(request).await {
        Ok(packed) => packed.map(Body::new),
        Err(never) => match never {},
    }
}

async fn respond(state: &Arc<ApiState>, request: &Parts) -> Response {
    let bounds = match parameters::parse(request.uri.query().unwrap_or_default()) {
        Ok(bounds) => bounds,
        Err(detail) => return error(StatusCode::BAD_REQUEST, "BAD_REQUEST", &detail),
    };
    let answered = answer(state, bounds, &request.headers).await;
    let mut response = answered.unwrap_or_else(|failure| {
        tracing::warn!(error = %failure, "search could not be answered");
        let detail = "the read store does not answer; try again";
        let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", detail);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    });
    cors::allow_any_origin(response.headers_mut());
    response
}

async fn answer(
    state: &Arc<ApiState>,
    bounds: Bounds,
    headers: &HeaderMap,
) -> almanac_read_store::StoreResult<Response> {
    let (low, high) = bounds.starts();
    let days = state.search.between(low, high);
    let mut found = Found::default();
    for (place, day) in days.iter().enumerate() {
        let partition = match state.search.at_hand(day) {
            Some(partition) => partition,
            None => state.search.get(day).await?,
        };
        found.take(&partition, &bounds);
        if found.length > AT_ONCE {
            let rest = days[place + 1..].to_vec();
            return Ok(streamed(state.clone(), bounds, found, rest));
        }
    }
    let tag = found.tag();
    Ok(conditional::tagged(headers, &tag, || Body::from(found.join())))
}

/// Runs of rows, and what identifies them.
#[derive(Default)]
struct Found {
    runs: Vec<Bytes>,
    length: usize,
    hash: Xxh3,
}

impl Found {
    fn take(&mut self, partition: &Partition, bounds: &Bounds) {
        let before = self.runs.len();
        partition.matching(bounds, |run| {
            self.length += run.len() + 1;
            self.runs.push(run);
        });
        if self.runs.len() > before {
            // The rows of a run follow from its partition, its address in it and its length.
            self.hash.update(&partition.hash.to_le_bytes());
            for run in &self.runs[before..] {
                self.hash.update(&(run.len() as u64).to_le_bytes());
                self.hash.update(&run[..run.len().min(64)]);
            }
        }
    }

    fn tag(&self) -> String {
        conditional::tag_of(self.hash.digest128())
    }

    fn join(self) -> Bytes {
        let mut body = BytesMut::with_capacity(HEAD.len() + self.length + TAIL.len());
        body.put_slice(HEAD);
        for (place, run) in self.runs.iter().enumerate() {
            if place > 0 {
                body.put_u8(b',');
            }
            body.put_slice(run);
        }
        body.put_slice(TAIL);
        body.freeze()
    }
}

/// A large answer: what is there so far, then day by day, in bounded memory. It carries no entity
/// tag, which would have to be known before the last day is.
fn streamed(state: Arc<ApiState>, bounds: Bounds, found: Found, rest: Vec<Arc<Day>>) -> Response {
    let first = {
        let mut body = found.join().to_vec();
        body.truncate(body.len() - TAIL.len());
        Bytes::from(body)
    };
    let later = stream::iter(rest)
        .map(move |day| {
            let state = state.clone();
            async move { state.search.get(&day).await }
        })
        .buffered(AHEAD)
        .flat_map(move |partition| {
            let chunks = match partition {
                Ok(partition) => {
                    let mut chunks = Vec::new();
                    partition.matching(&bounds, |run| {
                        chunks.push(Ok(Bytes::from_static(b",")));
                        chunks.push(Ok(run));
                    });
                    chunks
                }
                // The status is sent already: the connection breaks, and the client sees that the
                // answer is not whole.
                Err(error) => vec![Err(std::io::Error::other(error))],
            };
            stream::iter(chunks)
        });
    let tail = stream::iter([Ok(Bytes::from_static(TAIL))]);
    let body = Body::from_stream(stream::iter([Ok(first)]).chain(later).chain(tail));
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    response
}

/// The contract's envelope for errors of any status.
pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    let body = serde_json::json!({"data": null, "error": {"code": code, "message": message}});
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    cors::allow_any_origin(headers);
    response
}
