//! `GET /search`, to the letter of the published contract (docs/search-openapi.yaml).

mod body;
pub(crate) mod cache;
mod parameters;
pub(crate) mod partition;
mod shelves;

use crate::{answers::AnswerMemory, front::packed, state::ApiState};
use almanac_edge::{conditional, cors, request};
use axum::{
    body::Body,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use body::Runs;
use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use partition::{Bounds, Partition};
use shelves::Shelf;
use std::{convert::Infallible, ops::RangeInclusive, sync::Arc};
use tower::service_fn;

const HEAD: Bytes = Bytes::from_static(b"{\"data\":{\"events\":[");
const TAIL: Bytes = Bytes::from_static(b"]},\"error\":null}");
/// Answers up to this size hold on to the cached rows they are made of until they are sent; larger
/// ones take day after day.
const AT_ONCE: usize = 4 << 20;

/// The whole request is taken, since extracting its headers would copy them.
pub(crate) async fn get(State(state): State<Arc<ApiState>>, request: Request) -> Response {
    let answer = service_fn(|request: Request| {
        let state = &state;
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(respond(state, &parts).await) }
    });
    packed(&state.packing, request, answer).await
}

async fn respond(state: &Arc<ApiState>, request: &Parts) -> Response {
    let bounds = match parameters::parse(request.uri.query().unwrap_or_default()) {
        Ok(bounds) => bounds,
        Err(detail) => return error(StatusCode::BAD_REQUEST, "BAD_REQUEST", &detail),
    };
    let answered = answer(state, bounds, &request.headers).await;
    let mut response = answered.unwrap_or_else(|failure| {
        tracing::warn!(request_id = request::logged(), error = %failure, "search could not be answered");
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
    let (mut next, last) = bounds.days();
    let mut found = Found::default();
    loop {
        if found.length > AT_ONCE {
            return Ok(streamed(state.clone(), bounds, found, next..=last));
        }
        let missing = {
            let shelves = state.search.shelves();
            loop {
                match shelves.at(next) {
                    Some(Shelf::Loaded(block)) if block.rows.first_day() <= last => {
                        state.search.touch(block);
                        found.take(&block.rows, &bounds, next..=last);
                        next = block.rows.last_day() + 1;
                    }
                    Some(Shelf::Missing(day)) if day <= last => break Some(day),
                    _ => {
                        let tag = found.tag();
                        let body = || Body::new(found.body(&state.answers));
                        return Ok(conditional::tagged(headers, &tag, body));
                    }
                }
                if found.length > AT_ONCE {
                    break None;
                }
            }
        };
        let Some(day) = missing else { continue };
        let block = state.search.get(day).await?;
        found.take(&block.rows, &bounds, day..=day);
        next = day + 1;
    }
}

/// Runs of rows, and what identifies them.
#[derive(Default)]
struct Found {
    runs: Vec<Bytes>,
    length: usize,
    sum: u64,
}

impl Found {
    fn take(&mut self, rows: &Partition, bounds: &Bounds, days: RangeInclusive<i32>) {
        rows.matching(bounds, days, |run| {
            self.length += run.bytes.len();
            self.sum = self.sum.wrapping_add(run.sum);
            self.runs.push(run.bytes);
        });
    }

    fn tag(&self) -> String {
        // The length beside the sum tells an empty answer from rows whose hashes cancel out.
        conditional::tag_of((u128::from(self.sum) << 64) | self.length as u128)
    }

    fn body(self, memory: &AnswerMemory) -> Runs {
        Runs::whole(memory, HEAD, self.runs, TAIL)
    }
}

/// A large answer: what is there so far, then block by block, in bounded memory. It carries no
/// entity tag, which would have to be known before the last day is.
fn streamed(
    state: Arc<ApiState>,
    bounds: Bounds,
    found: Found,
    days: RangeInclusive<i32>,
) -> Response {
    let (first, last) = days.into_inner();
    let later = stream::try_unfold((state, first), move |(state, next)| async move {
        if next > last {
            return Ok(None);
        }
        let (wanted, block) = {
            let shelf = match state.search.shelves().at(next) {
                Some(Shelf::Loaded(block)) => Ok(block.clone()),
                Some(Shelf::Missing(day)) => Err(day),
                None => return Ok(None),
            };
            match shelf {
                Ok(block) => (next..=last, block),
                Err(day) if day > last => return Ok(None),
                Err(day) => {
                    let block = state.search.get(day).await.map_err(std::io::Error::other)?;
                    (day..=day, block)
                }
            }
        };
        if block.rows.first_day() > last {
            return Ok(None);
        }
        let next = block.rows.last_day().min(*wanted.end()).saturating_add(1);
        let mut runs = Vec::new();
        block.rows.matching(&bounds, wanted, |run| runs.push(run.bytes));
        Ok(Some((runs, (state, next))))
    });
    let runs = stream::iter([Ok::<_, std::io::Error>(found.runs)]).chain(later);
    let mut is_first = true;
    // An error cuts the answer off, so that no client takes it for complete.
    let rows = runs.map_ok(move |mut runs| {
        if let Some(first) = runs.first_mut().filter(|_| std::mem::take(&mut is_first)) {
            first.advance(1);
        }
        stream::iter(runs.into_iter().map(Ok::<_, std::io::Error>))
    });
    let head = stream::iter([Ok(HEAD)]);
    let tail = stream::iter([Ok(TAIL)]);
    let chunks = head.chain(rows.try_flatten()).chain(tail);
    let mut response = Response::new(Body::from_stream(chunks));
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
