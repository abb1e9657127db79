//! What stands before the reads: cross-origin rules, consistency tokens, compression. One layer for
//! all three, since each layer costs every request several allocations.

use crate::{consistency, packing::Packing, state::ApiState};
use almanac_edge::cors;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use std::{convert::Infallible, sync::Arc};
use tower::{Service, ServiceExt};

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
    let packing = &front.state.packing;
    cors::reads(&front.origins, request, async |request| match tokens {
        Tokens::Ignored => packed(packing, request, next).await,
        Tokens::Checked => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::check(&front.state, path, headers) {
                Ok(awaited) => awaited.told_by(packed(packing, request, next).await),
                Err(problem) => problem.into_response(),
            }
        }
        Tokens::Awaited(context) => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::wait(&front.state, context, path, headers).await {
                Ok(awaited) => awaited.told_by(packed(packing, request, next).await),
                Err(problem) => problem.into_response(),
            }
        }
    })
    .await
}

/// The service's answer, compressed for who asks for it.
pub(crate) async fn packed<S>(packing: &Packing, request: Request, service: S) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    // A client may send several lines of it.
    let accepted: Vec<HeaderValue> =
        request.headers().get_all(header::ACCEPT_ENCODING).into_iter().cloned().collect();
    let Ok(answer) = service.oneshot(request).await;
    packing.pack(accepted, answer).await
}

/// [`packed`] as a layer.
pub(crate) async fn packing(
    State(state): State<Arc<ApiState>>,
    request: Request,
    next: Next,
) -> Response {
    packed(&state.packing, request, next).await
}
