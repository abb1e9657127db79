//! Routes that note their operations as they are registered, so that a test can hold them against the
//! document, and no other way to register one.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodFilter, MethodRouter, on},
};
use http::Method;
use std::collections::BTreeSet;

/// What the document describes: an address, as a pattern, and a method.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operation {
    pub path: String,
    /// As the document writes it: in small letters.
    pub method: String,
}

impl Operation {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self { path: path.to_owned(), method: method.to_lowercase() }
    }
}

#[must_use]
pub struct Routes<S = ()> {
    router: Router<S>,
    operations: BTreeSet<Operation>,
    patterns: BTreeSet<String>,
}

impl<S: Clone + Send + Sync + 'static> Default for Routes<S> {
    fn default() -> Self {
        Self { router: Router::new(), operations: BTreeSet::new(), patterns: BTreeSet::new() }
    }
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub fn new() -> Self {
        Self::default()
    }

    /// Also answers `HEAD`, which no document describes by itself.
    pub fn get<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.route(&[Method::GET], path, on(MethodFilter::GET, handler))
    }

    pub fn post<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.route(&[Method::POST], path, on(MethodFilter::POST, handler))
    }

    pub fn put<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.route(&[Method::PUT], path, on(MethodFilter::PUT, handler))
    }

    pub fn patch<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.route(&[Method::PATCH], path, on(MethodFilter::PATCH, handler))
    }

    pub fn delete<H: Handler<T, S>, T: 'static>(self, path: &str, handler: H) -> Self {
        self.route(&[Method::DELETE], path, on(MethodFilter::DELETE, handler))
    }

    /// For handlers with layers or a fallback of their own, which answer these methods.
    pub fn route(mut self, methods: &[Method], path: &str, route: MethodRouter<S>) -> Self {
        self.operations.extend(methods.iter().map(|method| Operation::new(method.as_str(), path)));
        self.patterns.insert(path.to_owned());
        self.router = self.router.route(path, route);
        self
    }

    /// An address that the document leaves out: it belongs to something that is described elsewhere.
    pub fn undocumented<H: Handler<T, S>, T: 'static>(mut self, path: &str, handler: H) -> Self {
        self.patterns.insert(path.to_owned());
        self.router = self.router.route(path, on(MethodFilter::GET, handler));
        self
    }

    pub fn merge(mut self, other: Self) -> Self {
        self.router = self.router.merge(other.router);
        self.operations.extend(other.operations);
        self.patterns.extend(other.patterns);
        self
    }

    /// Puts something before all routes, or behind them, or gives them their state.
    pub fn map<T>(self, change: impl FnOnce(Router<S>) -> Router<T>) -> Routes<T> {
        Routes { router: change(self.router), operations: self.operations, patterns: self.patterns }
    }

    pub fn operations(&self) -> &BTreeSet<Operation> {
        &self.operations
    }

    /// The address of each route, documented or not.
    pub fn patterns(&self) -> &BTreeSet<String> {
        &self.patterns
    }

    pub fn into_router(self) -> Router<S> {
        self.router
    }
}
