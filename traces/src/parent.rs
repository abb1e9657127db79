//! What carries a trace on: `traceparent` and `tracestate`, as W3C Trace Context has them.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TraceFlags},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;

pub const TRACEPARENT: &str = "traceparent";
pub const TRACESTATE: &str = "tracestate";
/// Of all members of a `tracestate`, which stands in records that are kept. W3C wants at least as many.
const MAX_STATE: usize = 512;

/// A span that something else is done because of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parent(pub(crate) SpanContext);

impl Parent {
    pub(crate) fn of(context: &SpanContext) -> Option<Self> {
        context.is_valid().then(|| Self(context.clone()))
    }

    /// From headers; `None` where there is none, or one that nobody understands.
    pub fn read<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let parent = get(TRACEPARENT)?;
        let state = get(TRACESTATE).filter(|state| state.len() <= MAX_STATE);
        Self::parse(parent, state)
    }

    fn parse(parent: &str, state: Option<&str>) -> Option<Self> {
        let carrier = Carrier { parent, state };
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &carrier);
        Self::of(context.span().span_context())
    }

    /// Of a request. Somebody who sends two parents has none.
    pub fn of_http(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let parent = parents.next()?.to_str().ok()?;
        if parents.next().is_some() {
            return None;
        }
        let states = headers.get_all(TRACESTATE).iter().map(HeaderValue::to_str);
        let states = states.collect::<Result<Vec<&str>, _>>().unwrap_or_default();
        let is_short = states.iter().map(|state| state.len() + 1).sum::<usize>() <= MAX_STATE;
        let state = is_short.then(|| states.join(","));
        Self::parse(parent, state.as_deref().filter(|state| !state.is_empty()))
    }

    pub fn is_sampled(&self) -> bool {
        self.0.is_sampled()
    }

    /// The same place in the same trace, with another decision.
    pub(crate) fn sampled(self, is_sampled: bool) -> Self {
        let (id, span, flags) = (self.0.trace_id(), self.0.span_id(), self.0.trace_flags());
        let state = self.0.trace_state().clone();
        Self(SpanContext::new(id, span, flags.with_sampled(is_sampled), true, state))
    }

    /// Names and values of its headers.
    pub fn each(&self, mut put: impl FnMut(&'static str, &str)) {
        put(TRACEPARENT, &self.text());
        let state = self.0.trace_state().header();
        if !state.is_empty() {
            put(TRACESTATE, &state);
        }
    }

    /// Its `traceparent`.
    fn text(&self) -> String {
        let flags = self.0.trace_flags() & TraceFlags::SAMPLED;
        format!("00-{}-{}-{:02x}", self.0.trace_id(), self.0.span_id(), flags)
    }

    /// Puts it on a request.
    pub fn put(&self, headers: &mut HeaderMap) {
        self.each(|name, value| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        });
    }

    /// Both as hexadecimal digits.
    pub fn ids(&self) -> (String, String) {
        (self.0.trace_id().to_string(), self.0.span_id().to_string())
    }
}

struct Carrier<'a> {
    parent: &'a str,
    state: Option<&'a str>,
}

impl Extractor for Carrier<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        match name {
            TRACEPARENT => Some(self.parent),
            TRACESTATE => self.state,
            _ => None,
        }
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT, TRACESTATE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn written(parent: &Parent) -> HeaderMap {
        let mut headers = HeaderMap::new();
        parent.put(&mut headers);
        headers
    }

    #[test]
    fn what_was_read_is_written_again() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", PARENT.parse().unwrap());
        headers.append("tracestate", "rojo=1".parse().unwrap());
        headers.append("tracestate", "congo=t61".parse().unwrap());
        let parent = Parent::of_http(&headers).unwrap();
        assert!(parent.is_sampled());
        let again = written(&parent);
        assert_eq!(again["traceparent"], PARENT);
        assert_eq!(again["tracestate"], "rojo=1,congo=t61");
        let other = written(&parent.clone().sampled(false));
        assert_eq!(other["traceparent"], PARENT.replace("-01", "-00"));
        assert_eq!(other["tracestate"], "rojo=1,congo=t61");
        assert_eq!(Parent::read(|name| again.get(name)?.to_str().ok()).unwrap(), parent);
    }

    #[test]
    fn what_nobody_understands_is_no_parent() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "é",
        ] {
            assert_eq!(Parent::read(|name| (name == TRACEPARENT).then_some(bad)), None, "{bad:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append("traceparent", PARENT.parse().unwrap());
        headers.append("traceparent", PARENT.parse().unwrap());
        assert_eq!(Parent::of_http(&headers), None);
    }

    #[test]
    fn a_state_that_is_too_long_is_left_out() {
        let mut headers = HeaderMap::new();
        headers.append("traceparent", PARENT.parse().unwrap());
        headers.append("tracestate", format!("a={}", "x".repeat(200)).parse().unwrap());
        assert!(written(&Parent::of_http(&headers).unwrap()).contains_key("tracestate"));
        headers.append("tracestate", format!("b={}", "x".repeat(255)).parse().unwrap());
        headers.append("tracestate", format!("c={}", "x".repeat(100)).parse().unwrap());
        let parent = Parent::of_http(&headers).unwrap();
        assert!(!written(&parent).contains_key("tracestate"));
    }
}
