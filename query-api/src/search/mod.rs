//! `GET /search`, to the letter of the published contract (docs/search-openapi.yaml).

mod body;
pub(crate) mod cache;
mod deflated;
mod parameters;
pub(crate) mod partition;
mod shelves;

use crate::{answers::AnswerMemory, front::packed, packing::prefers_gzip, v1::plans::Plans};
use almanac_edge::{conditional, cors, note_nothing_found, request};
use almanac_errors::chain;
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use body::Runs;
use bytes::{Buf, Bytes};
use deflated::Member;
use futures::{StreamExt, TryStreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts};
use partition::Bounds;
use shelves::{Block, Shelf};
use std::{
    convert::Infallible,
    ops::{Range, RangeInclusive},
    sync::Arc,
};
use tower::service_fn;

const HEAD: Bytes = Bytes::from_static(b"{\"data\":{\"events\":[");
const TAIL: Bytes = Bytes::from_static(b"]},\"error\":null}");
/// Answers up to this size hold on to the cached rows they are made of until they are sent; larger
/// ones take day after day.
const AT_ONCE: usize = 4 << 20;

/// The whole request is taken, since extracting its headers would copy them.
pub(crate) async fn get(State(state): State<Arc<Plans>>, request: Request) -> Response {
    let answer = service_fn(|request: Request| {
        let state = &state;
        let (parts, _) = request.into_parts();
        async move { Ok::<_, Infallible>(respond(state, &parts).await) }
    });
    packed(&state.packing, request, answer).await
}

async fn respond(state: &Arc<Plans>, request: &Parts) -> Response {
    let bounds = match parameters::parse(request.uri.query().unwrap_or_default()) {
        Ok(bounds) => bounds,
        Err(detail) => return error(StatusCode::BAD_REQUEST, "BAD_REQUEST", &detail),
    };
    let answered = answer(state, bounds, &request.headers).await;
    let mut response = answered.unwrap_or_else(|failure| {
        tracing::warn!(request_id = request::logged(), error = %chain(&failure), "search could not be answered");
        let detail = "the read store does not answer; try again";
        let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", detail);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response
    });
    cors::allow_any_origin(response.headers_mut());
    response
}

async fn answer(
    state: &Arc<Plans>,
    bounds: Bounds,
    headers: &HeaderMap,
) -> almanac_read_store::StoreResult<Response> {
    let (mut next, last) = bounds.days();
    let mut found = Found { is_gzip: prefers_gzip(headers), ..Found::default() };
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
                        found.take(block, &bounds, next..=last);
                        next = block.rows.last_day() + 1;
                    }
                    Some(Shelf::Missing(day)) if day <= last => break Some(day),
                    _ => {
                        drop(shelves);
                        return Ok(whole(state, found, headers));
                    }
                }
                if found.length > AT_ONCE {
                    break None;
                }
            }
        };
        let Some(day) = missing else { continue };
        let block = state.search.get(day).await?;
        found.take(&block, &bounds, day..=day);
        next = day + 1;
    }
}

/// An answer that is all there.
fn whole(state: &Arc<Plans>, found: Found, headers: &HeaderMap) -> Response {
    let (tag, found_nothing, mut is_gzip) = (found.tag(), found.length == 0, false);
    let body = || {
        if found.is_gzip
            && let Some(body) = found.gzip(state)
        {
            is_gzip = true;
            return Body::from(body);
        }
        Body::new(found.body(&state.answers))
    };
    let mut response = conditional::tagged(headers, &tag, body);
    if found_nothing {
        note_nothing_found(&mut response);
    }
    if is_gzip {
        let encoding = HeaderValue::from_static("gzip");
        response.headers_mut().insert(header::CONTENT_ENCODING, encoding);
    }
    response
}

/// Runs of rows, and what identifies them.
#[derive(Default)]
struct Found {
    runs: Vec<Bytes>,
    /// Of which block each run is, where it is to be compressed.
    blocks: Vec<(Arc<Block>, Range<usize>)>,
    is_gzip: bool,
    length: usize,
    sum: u64,
}

impl Found {
    fn take(&mut self, block: &Arc<Block>, bounds: &Bounds, days: RangeInclusive<i32>) {
        block.rows.matching(bounds, days, |run| {
            self.length += run.bytes.len();
            self.sum = self.sum.wrapping_add(run.sum);
            self.runs.push(run.bytes);
            if self.is_gzip {
                self.blocks.push((block.clone(), run.rows));
            }
        });
    }

    fn tag(&self) -> String {
        // The length beside the sum tells an empty answer from rows whose hashes cancel out.
        conditional::tag_of((u128::from(self.sum) << 64) | self.length as u128)
    }

    fn body(self, memory: &AnswerMemory) -> Runs {
        Runs::whole(memory, HEAD, self.runs, TAIL)
    }

    /// The answer made of what is kept compressed, where all of it is and that is worth it. What is not
    /// is compressed for those who ask next.
    fn gzip(&self, state: &Arc<Plans>) -> Option<Bytes> {
        let missing = self.blocks.iter().find(|(block, _)| block.deflated().is_none());
        if let Some((block, _)) = missing {
            if let Some(turn) = state.search.turn_to_deflate() {
                let (state, block) = (state.clone(), block.clone());
                state.options.packing.background.clone().spawn_blocking(move || {
                    let _turn = turn;
                    state.search.deflate(&block);
                });
            }
            return None;
        }
        let plain = HEAD.len() + self.length + TAIL.len();
        let mut member = Member::with_capacity(plain / 2);
        member.put(&HEAD);
        for (number, (run, (block, rows))) in self.runs.iter().zip(&self.blocks).enumerate() {
            let (kept, places) = (block.deflated()?, block.rows.places());
            match number {
                0 => member.put_first_rows(kept, run, places, rows.clone()),
                _ => member.put_rows(kept, run, places, rows.clone()),
            }
        }
        member.put(&TAIL);
        let body = member.end();
        let part = if body.len() < plain { state.answers.part(body.len()) } else { None };
        part.map(|part| part.hold(body))
    }
}

/// A large answer: what is there so far, then block by block, in bounded memory. It carries no
/// entity tag, which would have to be known before the last day is.
fn streamed(
    state: Arc<Plans>,
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
    let mut response = almanac_edge::search_error(status, code, message);
    cors::allow_any_origin(response.headers_mut());
    response
}

#[cfg(test)]
mod tests {
    use crate::testing::{installation, list_plans};
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[tokio::test]
    async fn gzip_is_made_of_what_is_kept() {
        let installation = installation().await;
        let search = &installation.plans.search;
        list_plans(&installation.plans, 300).await;
        let ask = async |minute: usize, encoding: &str| {
            let path =
                format!("/search?starts_at=2031-06-30T{:02}:{:02}:30Z", minute / 60, minute % 60);
            installation.get(&path, &[("accept-encoding", encoding)]).await
        };
        let inflated = |body: &[u8]| {
            let mut text = String::new();
            GzDecoder::new(body).read_to_string(&mut text).unwrap();
            text
        };
        let day = search.shelves().days(i32::MIN, i32::MAX)[0];
        let block = search.get(day).await.unwrap();
        let used = search.used_bytes();
        let first = ask(0, "gzip").await;
        assert_eq!(first.headers["content-encoding"], "gzip", "compressed as it is asked for");
        while block.deflated().is_none() || search.turn_to_deflate().is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        assert!(search.used_bytes() > used, "what is kept is counted");
        for minute in [0, 1, 62, 63, 64, 100, 191, 192, 290] {
            let plain = ask(minute, "identity").await;
            let gzip = ask(minute, "gzip, br").await;
            assert_eq!(gzip.headers["content-encoding"], "gzip");
            assert_eq!(inflated(&gzip.body), plain.text(), "{minute}");
            assert!(gzip.body.len() < plain.body.len());
            assert_eq!(gzip.headers["etag"], plain.headers["etag"]);
            assert_eq!(gzip.headers["vary"], plain.headers["vary"]);
        }
        let tag = ask(0, "gzip").await.headers["etag"].to_str().unwrap().to_owned();
        let path = "/search?starts_at=2031-06-30T00:00:30Z";
        let same = [("accept-encoding", "gzip"), ("if-none-match", &tag)];
        let same = installation.get(path, &same).await;
        assert_eq!((same.status, same.headers.get("content-encoding")), (304, None));
    }
}
