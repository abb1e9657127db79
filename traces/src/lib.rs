//! Spans of requests and records, and the W3C headers that carry them on.
//!
//! Nothing is traced until [`start`] was called; until then each hop costs the look whether it was. A trace
//! begins with a request alone ([`serving`]), where it is drawn whether it is sampled. Everything behind it
//! follows the draw: a span is made where what came along says that it is sampled, and nowhere else.

pub mod attributes;
mod parent;
mod span;

pub use opentelemetry::{KeyValue, trace::SpanKind};
pub use parent::{Parent, TRACEPARENT, TRACESTATE};
pub use span::{Hop, Scoped, Span};

use opentelemetry::trace::TraceContextExt;
use opentelemetry_sdk::trace::SdkTracer;
use rand::RngExt;
use std::sync::OnceLock;

/// Where spans go, and of which requests there are any.
#[derive(Debug)]
pub struct Traces {
    /// Its sampler must follow parents, and take what has none.
    pub tracer: SdkTracer,
    /// Of requests, the share that is sampled: 0 to 1.
    pub sample_ratio: f64,
    /// Whether clients say which of their requests are sampled. Otherwise it is drawn for theirs as well.
    pub trust_parents: bool,
    /// The log, as `messaging.system` names it.
    pub messaging_system: &'static str,
}

impl Traces {
    fn draw(&self) -> bool {
        self.sample_ratio >= 1.0 || rand::rng().random::<f64>() < self.sample_ratio
    }
}

/// A process has one place that its spans go to, as it has one for its log.
static TRACES: OnceLock<Traces> = OnceLock::new();

/// From now on there are spans. Only the first call in a process counts.
pub fn start(traces: Traces) {
    let _ = TRACES.set(traces);
}

fn on() -> Option<&'static Traces> {
    TRACES.get()
}

/// What a log names, as `messaging.system` does.
pub fn messaging_system() -> &'static str {
    on().map_or("", |traces| traces.messaging_system)
}

/// The span that is under way here, or what a request brought along.
pub fn current() -> Option<Parent> {
    opentelemetry::Context::map_current(|context| {
        context.has_active_span().then(|| Parent::of(context.span().span_context()))?
    })
}

/// What is done for a request. `method` and `route` name it, so neither may be what a client made up.
pub fn serving(
    headers: &http::HeaderMap,
    method: &'static str,
    route: &str,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Hop {
    let Some(traces) = on() else { return Hop::default() };
    let brought = Parent::of_http(headers);
    let is_sampled = match &brought {
        Some(brought) if traces.trust_parents => brought.is_sampled(),
        _ => traces.draw(),
    };
    let brought = brought.map(|brought| brought.sampled(is_sampled));
    if !is_sampled {
        return Hop::handing_on(brought);
    }
    let name = if route.is_empty() { method.to_owned() } else { format!("{method} {route}") };
    Hop::of(Span::start(traces, name, SpanKind::Server, brought.as_ref(), attributes()))
}

/// What is done because of something that may have been sampled.
pub fn following(
    parent: Option<Parent>,
    kind: SpanKind,
    name: impl FnOnce() -> String,
    attributes: impl FnOnce() -> Vec<KeyValue>,
) -> Hop {
    match (on(), parent) {
        (Some(traces), Some(parent)) if parent.is_sampled() => {
            Hop::of(Span::start(traces, name(), kind, Some(&parent), attributes()))
        }
        (_, parent) => Hop::handing_on(parent),
    }
}

/// A part of what is under way here.
pub fn part(name: &'static str) -> Hop {
    following(current(), SpanKind::Internal, || name.to_owned(), Vec::new)
}
