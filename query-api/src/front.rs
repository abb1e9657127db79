//! What stands before the reads: cross-origin rules, consistency tokens, compression. One layer for
//! all three, since each layer costs every request several allocations.

use crate::{
    consistency,
    packing::Packing,
    parked::Parked,
    state::{ApiState, Shared},
};
use almanac_edge::{Routes, cors, method_not_allowed};
use axum::{
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use std::{convert::Infallible, sync::Arc};
use tower::{Service, ServiceExt};

/// What becomes of consistency tokens.
#[derive(Clone)]
pub(crate) enum Tokens {
    /// There are no tables behind the answers.
    Ignored,
    /// The tables follow no commands: tokens must be ours, and there is nothing to wait for. Of
    /// addresses that name a key, it may be set aside.
    Checked(Option<Arc<Parked>>),
    Awaited(Tables),
}

/// Tables that follow commands.
#[derive(Clone)]
pub(crate) struct Tables {
    /// Those whose commands lead to what is read.
    pub(crate) contexts: Vec<&'static str>,
    /// Keys that are set aside.
    pub(crate) parked: Arc<Parked>,
}

pub(crate) struct Front {
    shared: Arc<Shared>,
    origins: cors::Origins,
    tokens: Tokens,
}

impl Front {
    fn new(shared: &Arc<Shared>, tokens: Tokens) -> Arc<Self> {
        let origins = cors::Origins::of(&shared.identity);
        Arc::new(Self { shared: shared.clone(), origins, tokens })
    }
}

/// Routes that read, with all that stands before them.
pub(crate) fn reading<S: Clone + Send + Sync + 'static>(
    shared: &Arc<Shared>,
    tokens: Tokens,
    routes: Routes<S>,
) -> Routes<S> {
    let front = middleware::from_fn_with_state(Front::new(shared, tokens), front);
    routes.map(|router| router.method_not_allowed_fallback(method_not_allowed).layer(front))
}

async fn front(State(front): State<Arc<Front>>, request: Request, next: Next) -> Response {
    // Other methods end in 405, whatever else is wrong with them.
    let is_read = cors::is_read(request.method().as_str().as_bytes());
    let tokens = if is_read { &front.tokens } else { &Tokens::Ignored };
    let (shared, packing) = (&front.shared, &front.shared.packing);
    cors::reads(&front.origins, request, async |request| match tokens {
        Tokens::Ignored => packed(packing, request, next).await,
        Tokens::Checked(parked) => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::check(shared, parked.as_deref(), path, headers) {
                Ok(awaited) => awaited.told_by(packed(packing, request, next).await),
                Err(problem) => problem.into_response(),
            }
        }
        Tokens::Awaited(tables) => {
            let (path, headers) = (request.uri().path(), request.headers());
            match consistency::wait(shared, tables, path, headers).await {
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
