//! Who may look at what a recipe was: anybody while it is there, and its owner and admins once it is
//! deleted.

use super::{cache::Document, gone};
use crate::state::ApiState;
use almanac_edge::Problem;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Public,
    /// Of the caller alone: nothing between keeps it.
    Private,
}

impl Access {
    pub(super) fn applied(self, mut response: Response) -> Response {
        if self == Self::Private {
            let headers = response.headers_mut();
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
            let vary = HeaderValue::from_static("Authorization, Accept-Encoding");
            headers.insert(header::VARY, vary);
        }
        response
    }
}

/// `document` is the newest of the recipe.
pub(super) fn allowed(
    state: &ApiState,
    document: &Document,
    headers: &HeaderMap,
) -> Result<Access, Problem> {
    let Some(deleted) = &document.deleted else { return Ok(Access::Public) };
    match state.identity.caller(headers) {
        Ok(caller) if caller.is_admin() || caller.subject == deleted.owner => Ok(Access::Private),
        // Who sent a token learns what is wrong with it.
        Err(problem) if headers.contains_key(header::AUTHORIZATION) => Err(problem),
        _ => Err(gone()),
    }
}
