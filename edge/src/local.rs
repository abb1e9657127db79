//! Requests that act as the local user because there is no identity: from this machine, and not on
//! behalf of a web page of somebody else.

use crate::{Problem, ProblemType};
use http::{HeaderMap, header};
use std::net::IpAddr;

/// Refuses a request that a page of another origin made a browser send, unless that origin is
/// `trusted`. A browser names the page's origin; and where a foreign name was made to resolve to
/// this machine, the host is that name.
pub(crate) fn check_local(headers: &HeaderMap, trusted: &[String]) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).unwrap_or_default();
    let is_same = text(header::ORIGIN).is_none_or(|origin| {
        let of_host = |(_, of): (&str, &str)| of.eq_ignore_ascii_case(host);
        origin.split_once("://").is_some_and(of_host) || trusted.iter().any(|one| one == origin)
    });
    if is_loopback(host) && is_same {
        return Ok(());
    }
    let detail = "without a token only requests from this machine are taken, not those of web pages of other origins";
    Err(Problem::new(ProblemType::Forbidden, detail))
}

fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let is_address = name.parse().is_ok_and(|address: IpAddr| address.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn pages_of_other_origins_are_refused() {
        let is_taken = |host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            check_local(&headers, &["https://mine.example".to_owned()]).is_ok()
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "[::1]:8080", "127.1.2.3"] {
            assert!(is_taken(host, None), "{host}");
        }
        assert!(is_taken("localhost:8080", Some("http://localhost:8080")));
        assert!(!is_taken("localhost:8080", Some("http://localhost:9090")));
        assert!(!is_taken("localhost:8080", Some("https://evil.example")));
        assert!(is_taken("localhost:8080", Some("https://mine.example")));
        assert!(!is_taken("localhost:8080", Some("null")));
        assert!(!is_taken("evil.example:8080", Some("http://evil.example:8080")));
        assert!(!is_taken("evil.example", None));
        assert!(!is_taken("", None));
    }
}
