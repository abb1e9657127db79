//! Answers that are for one caller alone.

use almanac_edge::{Problem, ProblemType, identity::Caller, query::Parameters};
use axum::response::Response;
use http::{HeaderValue, header};

/// What is whose: its owner and admins read it. To others it is not there.
pub(super) fn may_read(caller: &Caller, owner: &str) -> bool {
    caller.subject == owner || caller.is_admin()
}

/// Whose things are to be listed, where `owner` says it: anybody's for admins, one's own for others.
pub(super) fn listed_owner<'a>(
    parameters: &'a Parameters,
    caller: &Caller,
) -> Result<Option<&'a str>, Problem> {
    match parameters.one("owner")? {
        Some(owner) if !may_read(caller, owner) => {
            let detail = "only an admin lists what is somebody else's";
            Err(Problem::new(ProblemType::Forbidden, detail))
        }
        owner => Ok(owner),
    }
}

/// Nothing between keeps it, and no cache gives it to another caller. `also` is what else it varies by.
pub(super) fn of_the_caller(mut response: Response, also: &'static str) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(header::VARY, HeaderValue::from_static(also));
    response
}

/// What most private answers vary by.
pub(super) const VARY: &str = "Authorization, Accept-Encoding";

/// An id as it stands in keys, whatever the case it came in.
pub(super) fn parse_id(id: &str, missing: impl FnOnce() -> Problem) -> Result<String, Problem> {
    match id.parse::<uuid::Uuid>() {
        Ok(id) => Ok(id.to_string()),
        Err(_) => Err(missing()),
    }
}
