//! What stands before every route: who asks, whether reads are open, and how much one may ask for.
//! Where none of that is configured there is no gate.

use crate::{
    Identity, Problem, ProblemType, cors, discard,
    limits::{Class, Excess, Limits, SEARCH, Taken},
    search_error,
};
use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, Method, Request, header};
use hyper::body::Incoming;
use std::{fmt, sync::Arc};

pub struct Gate {
    identity: Arc<Identity>,
    limits: Option<Arc<Limits>>,
    origins: cors::Origins,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("limits", &self.limits.is_some()).finish_non_exhaustive()
    }
}

/// Here a ticket may stand for a token: the route itself finds out who asks.
const BY_TICKET: &str = "/v1/notifications/stream";
/// The addresses of operators, which are wanted most when too much is asked for.
const OPERATORS: &str = "/v1/admin";

impl Gate {
    /// `None` where there is nothing to hold requests against.
    pub fn new(identity: Arc<Identity>, limits: Option<Arc<Limits>>) -> Option<Arc<Self>> {
        if limits.is_none() && !identity.needs_a_gate() {
            return None;
        }
        let origins = cors::Origins::of(&identity);
        Some(Arc::new(Self { identity, limits, origins }))
    }

    pub(crate) fn limits(&self) -> Option<&Limits> {
        self.limits.as_deref()
    }

    /// The answer of `call`, or a refusal.
    pub(crate) async fn answer<F: Future<Output = Response>>(
        &self,
        request: Request<Incoming>,
        call: impl FnOnce(Request<Incoming>) -> F,
    ) -> Response {
        let Some(class) = Class::of(request.method(), request.uri().path()) else {
            return call(request).await;
        };
        let limits = self.limits.as_deref();
        let is_for_operators = request.uri().path().starts_with(OPERATORS);
        if !is_for_operators && limits.is_some_and(Limits::sheds) {
            return self.refuse(request, &Refusal::excess(class, Excess::Queue), None).await;
        }
        let headers = request.headers();
        self.identity.prepare(headers).await;
        let Some(limits) = limits else {
            return match self.check_reads(class, &request) {
                Ok(()) => call(request).await,
                Err(problem) => self.refuse(request, &Refusal::Identity(problem), None).await,
            };
        };
        let caller = limits.key(&self.identity.party(headers));
        let taken = match limits.take(class, caller) {
            Ok(taken) => taken,
            Err((excess, taken)) => {
                return self.refuse(request, &Refusal::excess(class, excess), Some(taken)).await;
            }
        };
        // Whoever has no good token is held to the limits of its address.
        if let Err(problem) = self.check_reads(class, &request) {
            return self.refuse(request, &Refusal::Identity(problem), taken).await;
        }
        let _place = match limits.enter(caller) {
            Ok(place) => place,
            Err(_) if is_for_operators => None,
            Err(excess) => {
                return self.refuse(request, &Refusal::excess(class, excess), taken).await;
            }
        };
        let mut response = call(request).await;
        if let Some(taken) = taken {
            taken.tell(response.headers_mut());
        }
        response
    }

    fn check_reads(&self, class: Class, request: &Request<Incoming>) -> Result<(), Problem> {
        match request.uri().path() {
            BY_TICKET => Ok(()),
            _ => self.identity.check_reads(class, request.headers()),
        }
    }

    /// A refusal in the form that the address answers errors in.
    async fn refuse(
        &self,
        request: Request<Incoming>,
        refusal: &Refusal,
        taken: Option<Taken<'_>>,
    ) -> Response {
        let (parts, body) = request.into_parts();
        discard(&parts.headers, Body::new(body)).await;
        let mut response = refusal.response(parts.uri.path() == SEARCH);
        self.open(&parts.method, &parts.headers, &mut response);
        if let Some(taken) = taken {
            taken.tell(response.headers_mut());
        }
        response
    }

    /// Lets pages of other origins see a refusal where they would see the answer.
    fn open(&self, method: &Method, asked: &HeaderMap, response: &mut Response) {
        self.origins.open(cors::is_read(method.as_str().as_bytes()), asked, response);
    }
}

enum Refusal {
    Identity(Problem),
    /// With the seconds after which to come back, where the request is one too many of its caller.
    Excess(Problem, &'static str),
}

impl Refusal {
    fn excess(class: Class, excess: Excess) -> Self {
        let name = class.name();
        match excess {
            Excess::Rate { retry_after_s, is_day } => {
                let policy = if is_day { format!("{name}-day") } else { name.to_owned() };
                let detail = format!(
                    "the limit \"{policy}\" is used up; a request is taken again in {retry_after_s} s; see /v1/limits"
                );
                let retry_after_s = u32::try_from(retry_after_s).unwrap_or(u32::MAX);
                Self::Excess(Problem::too_many(detail, retry_after_s), "TOO_MANY_REQUESTS")
            }
            Excess::Caller => {
                let detail = "too many requests of this caller are under way; see /v1/limits";
                Self::Excess(Problem::too_many(detail, 1), "TOO_MANY_REQUESTS")
            }
            Excess::All => {
                Self::Excess(Problem::busy("too many requests are under way"), "UNAVAILABLE")
            }
            Excess::Queue => {
                Self::Excess(Problem::busy("more is asked for than can be answered"), "UNAVAILABLE")
            }
        }
    }

    fn response(&self, is_search: bool) -> Response {
        let (problem, code) = match self {
            Self::Identity(problem) => {
                let code = match problem.kind() {
                    ProblemType::Unauthorized => "UNAUTHORIZED",
                    ProblemType::Unavailable => "UNAVAILABLE",
                    _ => "FORBIDDEN",
                };
                (problem, code)
            }
            Self::Excess(problem, code) => (problem, *code),
        };
        let whole = problem.clone().into_response();
        if !is_search {
            return whole;
        }
        let mut response = search_error(problem.status(), code, problem.detail());
        for name in [header::RETRY_AFTER, header::WWW_AUTHENTICATE] {
            if let Some(value) = whole.headers().get(&name) {
                response.headers_mut().insert(name, HeaderValue::clone(value));
            }
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_the_form_of_their_address() {
        let excess = Excess::Rate { retry_after_s: 3, is_day: false };
        let refusal = Refusal::excess(Class::Search, excess);
        for (is_search, kind) in [(true, "application/json"), (false, "application/problem+json")] {
            let response = refusal.response(is_search);
            assert_eq!(response.status(), 429);
            assert_eq!(response.headers()["retry-after"], "3");
            assert_eq!(response.headers()["content-type"], kind);
            assert_eq!(response.headers()["cache-control"], "no-store");
        }
        let shed = Refusal::excess(Class::Read, Excess::Queue).response(false);
        assert_eq!(
            (shed.status().as_u16(), &shed.headers()["retry-after"]),
            (503, &"1".parse().unwrap())
        );
    }
}
