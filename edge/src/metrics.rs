//! How many requests are answered, with which status, and how long it takes until the answer begins; by
//! route. Names are those of OpenTelemetry's conventions for HTTP servers.

use almanac_errors::chain;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    sync::Arc,
    time::Instant,
};

/// In seconds. Objectives are at 0.25 and 1.
const BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// A pattern of the router; what matches none shares one, so that clients cannot make series.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Route(Arc<str>);

impl EncodeLabelValue for Route {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    http_request_method: &'static str,
    http_route: Route,
    http_response_status_code: u16,
}

/// Marks the answer to a search that found nothing.
#[derive(Clone, Copy)]
struct NothingFound;

/// Counts the answer among searches that found nothing: what people look for and is not there.
pub fn note_nothing_found(response: &mut Response) {
    response.extensions_mut().insert(NothingFound);
}

/// What Prometheus is answered.
pub fn exposition(registry: &Registry) -> Response {
    let mut body = String::new();
    if text::encode(&mut body, registry).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], body).into_response()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabels {
    http_route: Route,
}

type Durations = Family<Labels, Histogram, fn() -> Histogram>;

#[derive(Clone)]
pub struct HttpMetrics {
    durations: Durations,
    nothing_found: Family<RouteLabels, Counter>,
}

impl HttpMetrics {
    pub fn register(registry: &mut Registry) -> Self {
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        registry.register_with_unit(
            "http_server_request_duration",
            "From the head of a request to that of its answer",
            Unit::Seconds,
            durations.clone(),
        );
        let nothing_found = Family::default();
        registry.register(
            "almanac_searches_without_result",
            "Searches that were answered and found nothing, by route",
            nothing_found.clone(),
        );
        Self { durations, nothing_found }
    }
}

/// The metrics of a server that has these routes.
pub struct Measured {
    metrics: HttpMetrics,
    routes: matchit::Router<Route>,
    none: Route,
}

impl fmt::Debug for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Measured").finish_non_exhaustive()
    }
}

impl Measured {
    /// `patterns` are those of a router that took them all, so none is in the way of another.
    pub fn new(metrics: HttpMetrics, patterns: &BTreeSet<String>) -> Self {
        let mut routes = matchit::Router::new();
        for pattern in patterns {
            if let Err(error) = routes.insert(pattern.as_str(), Route(pattern.as_str().into())) {
                tracing::warn!(pattern, error = %chain(&error), "requests of this route are measured as those of none");
            }
        }
        Self { metrics, routes, none: Route("".into()) }
    }

    pub(crate) fn begin(&self, method: &Method, path: &str) -> Measuring<'_> {
        let route = self.routes.at(path).map_or(&self.none, |found| found.value).clone();
        let method = named(method);
        Measuring { metrics: &self.metrics, method, route, since: Instant::now() }
    }
}

/// A request that is being answered.
pub(crate) struct Measuring<'a> {
    metrics: &'a HttpMetrics,
    method: &'static str,
    route: Route,
    since: Instant,
}

impl Measuring<'_> {
    /// The pattern that it matches; empty where it matches none.
    pub(crate) fn route(&self) -> &str {
        &self.route.0
    }

    pub(crate) fn end(self, response: &Response) {
        let HttpMetrics { durations, nothing_found } = self.metrics;
        if response.extensions().get::<NothingFound>().is_some() {
            let labels = RouteLabels { http_route: self.route.clone() };
            nothing_found.get_or_create(&labels).inc();
        }
        let labels = Labels {
            http_request_method: self.method,
            http_route: self.route,
            http_response_status_code: response.status().as_u16(),
        };
        durations.get_or_create(&labels).observe(self.since.elapsed().as_secs_f64());
    }
}

/// Clients can send any method.
pub(crate) fn named(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "_OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_pattern_and_nothing_else_makes_series() {
        let mut registry = Registry::default();
        let patterns = ["/v1/plans", "/v1/plans/{id}", "/assets/{*path}"];
        let patterns = patterns.into_iter().map(str::to_owned).collect();
        let measured = Measured::new(HttpMetrics::register(&mut registry), &patterns);
        let ask = |method: &str, path: &str, status: u16| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut response = Response::default();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if status == 200 && path == "/v1/plans" {
                note_nothing_found(&mut response);
            }
            measured.begin(&method, path).end(&response);
        };
        ask("GET", "/v1/plans/7", 200);
        ask("GET", "/v1/plans/8", 200);
        ask("GET", "/v1/plans", 429);
        ask("GET", "/v1/plans", 200);
        ask("GET", "/assets/a/b", 200);
        for n in 0..10 {
            ask(&format!("X{n}"), &format!("/{n}"), 404);
        }
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let count = |labels: &str| {
            let name = format!("http_server_request_duration_seconds_count{{{labels}}} ");
            let line = text.lines().find_map(|line| line.strip_prefix(&name));
            line.and_then(|count| count.parse::<u32>().ok())
        };
        let labels = |method, route, status| {
            format!(
                "http_request_method=\"{method}\",http_route=\"{route}\",\
                 http_response_status_code=\"{status}\""
            )
        };
        assert_eq!(count(&labels("GET", "/v1/plans/{id}", 200)), Some(2), "{text}");
        assert_eq!(count(&labels("GET", "/v1/plans", 429)), Some(1), "{text}");
        assert_eq!(count(&labels("GET", "/assets/{*path}", 200)), Some(1), "{text}");
        assert_eq!(count(&labels("_OTHER", "", 404)), Some(10), "{text}");
        assert_eq!(text.matches("duration_seconds_count{").count(), 5);
        let none = "almanac_searches_without_result_total{http_route=\"/v1/plans\"} 1\n";
        assert!(text.contains(none), "{text}");
    }
}
