//! A span under way, and what else a piece of work can be to a trace.

use crate::{Parent, Traces, attributes};
use opentelemetry::{
    Context, KeyValue,
    trace::{SpanBuilder, SpanKind, Status, TraceContextExt, Tracer},
};
use pin_project_lite::pin_project;
use std::{
    pin::Pin,
    task::{self, Poll},
};

/// A span under way. It ends when this is dropped.
#[derive(Debug)]
pub struct Span(Context);

impl Drop for Span {
    fn drop(&mut self) {
        // Clones of the context may outlive it, with a request that was answered meanwhile.
        self.0.span().end();
    }
}

impl Span {
    pub(crate) fn start(
        traces: &Traces,
        name: String,
        kind: SpanKind,
        parent: Option<&Parent>,
        attributes: Vec<KeyValue>,
    ) -> Self {
        let before = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent.0.clone()),
            None => Context::new(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes);
        let span = traces.tracer.build_with_context(builder, &before);
        Self(Context::new().with_span(span))
    }

    pub fn set(&self, attribute: KeyValue) {
        self.0.span().set_attribute(attribute);
    }

    /// Something that happened while it was under way.
    pub fn event(&self, name: &'static str) {
        self.0.span().add_event(name, Vec::new());
    }

    /// What went wrong, of which there are few kinds.
    pub fn fail(&self, kind: impl Into<String>) {
        let span = self.0.span();
        span.set_attribute(KeyValue::new(attributes::ERROR_TYPE, kind.into()));
        span.set_status(Status::error(""));
    }

    /// Something else that was done together with it.
    pub fn link(&self, other: &Parent) {
        self.0.span().add_link(other.0.clone(), Vec::new());
    }
}

/// What a piece of work is to a trace: a span of its own; or nothing, and then a parent that came along is
/// handed on as it is.
#[derive(Debug, Default)]
pub struct Hop {
    span: Option<Span>,
    parent: Option<Parent>,
}

impl Hop {
    pub(crate) fn of(span: Span) -> Self {
        let parent = Parent::of(span.0.span().span_context());
        Self { span: Some(span), parent }
    }

    /// No span: only hands on what came along.
    pub fn handing_on(parent: Option<Parent>) -> Self {
        Self { span: None, parent }
    }

    pub fn span(&self) -> Option<&Span> {
        self.span.as_ref()
    }

    /// What is done because of this is a child of it.
    pub fn parent(&self) -> Option<&Parent> {
        self.parent.as_ref()
    }

    /// Does something as a part of this, so that it is what is [`current`](crate::current) there.
    pub fn scope<F: Future>(&self, future: F) -> Scoped<F> {
        let context = match (&self.span, &self.parent) {
            (Some(span), _) => Some(span.0.clone()),
            (None, Some(parent)) => Some(Context::new().with_remote_span_context(parent.0.clone())),
            (None, None) => None,
        };
        Scoped { future, context }
    }
}

pin_project! {
    /// What is done in a hop. Where that is nothing to a trace, it is only passed through: an `async`
    /// block that decides would hold the future twice.
    pub struct Scoped<F> {
        #[pin]
        future: F,
        context: Option<Context>,
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _attached = this.context.clone().map(Context::attach);
        this.future.poll(context)
    }
}
