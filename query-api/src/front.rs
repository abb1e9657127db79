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
use http::header;
use std::{convert::Infallible, sync::Arc};
use tower::{Layer, Service, ServiceExt};
use tower_http::compression::CompressionLayer;

/// What becomes of consistency tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tokens {
    /// There are no tables behind the answers.
    Ignored,
    /// The tables follow no commands: tokens must be ours, and there is nothing to wait for.
    Checked,
    Awaited,
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
    cors::reads(&front.origins, request, async |request| match tokens {
        Tokens::Ignored => packed(request, next).await,
        Tokens::Checked => match consistency::check(&front.state, request.headers()) {
            Ok(()) => packed(request, next).await,
            Err(problem) => problem.into_response(),
        },
        Tokens::Awaited => match consistency::wait(&front.state, request.headers()).await {
            Ok(awaited) => awaited.told_by(packed(request, next).await),
            Err(problem) => problem.into_response(),
        },
    })
    .await
}

/// The service's answer, compressed for who asks for it: the layer would cost all others.
pub(crate) async fn packed<S>(request: Request, service: S) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let answered = if request.headers().contains_key(header::ACCEPT_ENCODING) {
        let packing = CompressionLayer::new().layer(service);
        packing.oneshot(request).await.map(|answer| answer.map(Body::new))
    } else {
        service.oneshot(request).await
    };
    match answered {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// [`packed`] as a layer.
pub(crate) async fn packing(request: Request, next: Next) -> Response {
    packed(request, next).await
}
