//! What stands before the reads: cross-origin rules, consistency tokens, compression. One layer for
//! all three, since each layer costs every request several allocations.

use crate::{consistency, state::ApiState};
use almanac_edge::cors;
use axum::{
    body::Body,
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use http_body_util::BodyExt;
use std::{convert::Infallible, future::ready, sync::Arc};
use tokio::sync::Semaphore;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_http::compression::CompressionLayer;

/// What becomes of consistency tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    /// There are no tables behind the answers.
    Ignored,
    /// The tables follow no commands: tokens must be ours, and there is nothing to wait for.
    Checked,
    /// The tables follow the commands of this context.
    Awaited(&'static str),
}

pub(crate) struct Front {
    state: Arc<ApiState>,
    origins: cors::Origins,
    tokens: Tokens,
}

impl Front {
    pub(crate) fn new(state: &Arc<ApiState>, tokens: Tokens) -> Arc<Self> {
        let origins = cors::Origins::of(&state.identity);
        Arc::new(Self { state: state.clone(), origins, tokens })
    }
}

pub(crate) async fn front(
    State(front): State<Arc<Front>>,
    request: Request,
    next: Next,
) -> Response {
    // Other methods end in 405, whatever else is wrong with them.
    let is_read = cors::is_read(request.method().as_str().as_bytes());
    let tokens = if is_read { front.tokens } else { Tokens::Ignored };
    let brotli = &front.state.brotli;
    cors::reads(&front.origins, request, async |request| match tokens {
        Tokens::Ignored => packed(brotli, request, next).await,
        Tokens::Checked => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::check(&front.state, path, headers) {
                Ok(awaited) => awaited.told_by(packed(brotli, request, next).await),
                Err(problem) => problem.into_response(),
            }
        }
        Tokens::Awaited(context) => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::wait(&front.state, context, path, headers).await {
                Ok(awaited) => awaited.told_by(packed(brotli, request, next).await),
                Err(problem) => problem.into_response(),
            }
        }
    })
    .await
}

/// The service's answer, compressed for who asks for it: the layer would cost all others. Each
/// answer in brotli takes a place in `brotli` until it is sent; without one, it is gzip that is
/// offered. A brotli encoder holds fourteen megabytes, one of gzip a quarter.
pub(crate) async fn packed<S>(brotli: &Arc<Semaphore>, request: Request, service: S) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    // A client may send several lines of it.
    let accepted: Vec<HeaderValue> =
        request.headers().get_all(header::ACCEPT_ENCODING).into_iter().cloned().collect();
    let Ok(answer) = service.oneshot(request).await;
    if accepted.is_empty() {
        return answer;
    }
    let place = brotli.clone().try_acquire_owned().ok();
    let mut request = Request::new(Body::empty());
    request.headers_mut().extend(accepted.into_iter().map(|one| (header::ACCEPT_ENCODING, one)));
    let mut answer = Some(answer);
    let service = service_fn(|_| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
    let packing = CompressionLayer::new().br(place.is_some()).layer(service);
    let Ok(answer) = packing.oneshot(request).await;
    let is_brotli =
        answer.headers().get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "br");
    match place.filter(|_| is_brotli) {
        Some(place) => answer.map(|body| {
            Body::new(body.map_frame(move |frame| {
                let _until_it_is_sent = &place;
                frame
            }))
        }),
        None => answer.map(Body::new),
    }
}

/// [`packed`] as a layer.
pub(crate) async fn packing(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    packed(&state.brotli, request, next).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a body that is never at its end is packed with.
    async fn answer(brotli: &Arc<Semaphore>, accepted: &'static str) -> (String, Response) {
        // In lines of their own, which mean the same.
        let request = (accepted.split(", "))
            .fold(Request::get("/"), |request, one| request.header(header::ACCEPT_ENCODING, one));
        let endless = service_fn(|_: Request| {
            let body = Body::from_stream(futures::stream::repeat(Ok::<_, Infallible>("x")));
            ready(Ok(Response::new(body)))
        });
        let answer = packed(brotli, request.body(Body::empty()).unwrap(), endless).await;
        let encoding = answer.headers().get(header::CONTENT_ENCODING);
        (encoding.map_or("", |encoding| encoding.to_str().unwrap()).to_owned(), answer)
    }

    #[tokio::test]
    async fn brotli_is_for_a_few_at_once_and_gzip_for_all() {
        let brotli = Arc::new(Semaphore::new(1));
        let (encoding, others) = answer(&brotli, "gzip").await;
        assert_eq!(encoding, "gzip");
        let (encoding, first) = answer(&brotli, "gzip, br").await;
        assert_eq!(encoding, "br", "gzip takes no place");
        assert_eq!(answer(&brotli, "gzip, br").await.0, "gzip");
        assert_eq!(answer(&brotli, "br").await.0, "");
        drop((first, others));
        assert_eq!(answer(&brotli, "br").await.0, "br");
    }
}
