//! Who may look at what a recipe was: anybody while it is there, and its owner and admins once it is
//! deleted.

use super::Recipes;
use super::{cache::Document, gone};
use crate::v1::private::{VARY, may_read, of_the_caller};
use almanac_edge::Problem;
use axum::response::Response;
use http::{HeaderMap, header};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Public,
    /// Of the caller alone: nothing between keeps it.
    Private,
}

impl Access {
    pub(super) fn applied(self, response: Response) -> Response {
        match self {
            Self::Private => of_the_caller(response, VARY),
            Self::Public => response,
        }
    }
}

/// `document` is the newest of the recipe.
pub(super) fn allowed(
    state: &Recipes,
    document: &Document,
    headers: &HeaderMap,
) -> Result<Access, Problem> {
    let Some(deleted) = &document.deleted else { return Ok(Access::Public) };
    match state.identity.caller(headers) {
        Ok(caller) if may_read(&caller, &deleted.owner) => Ok(Access::Private),
        // Who sent a token learns what is wrong with it.
        Err(problem) if headers.contains_key(header::AUTHORIZATION) => Err(problem),
        _ => Err(gone()),
    }
}
