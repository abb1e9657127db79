//! Requests that act as the local user because there is no identity: from this machine, and not on
//! behalf of somebody else: neither of a client behind a proxy, nor of a web page.

use crate::{Problem, ProblemType};
use http::{HeaderMap, HeaderName, header};
use std::net::{Ipv4Addr, Ipv6Addr};

/// What proxies, tunnels and content delivery networks add to a request that they pass on, beside
/// `X-Forwarded` and all that begins so.
const OF_PROXIES: [&str; 12] = [
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "x-original-host",
    "x-envoy-external-address",
    "x-proxyuser-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
];
const FORWARDED: &str = "x-forwarded";

/// Refuses a request that was passed on for somebody else, and one that a page of another origin
/// made a browser send, unless that origin is `trusted`. A browser names the page's origin; and
/// where a foreign name was made to resolve to this machine, the host is that name.
pub(crate) fn check_local(headers: &HeaderMap, trusted: &[String]) -> Result<(), Problem> {
    if let Some(name) = headers.keys().find(|name| is_of_proxy(name)) {
        let detail = format!(
            "a bearer token is needed in Authorization: the request came through a proxy ({name})"
        );
        return Err(Problem::new(ProblemType::Unauthorized, detail));
    }
    let is_local = one(headers, header::HOST).is_some_and(|host| {
        is_loopback(host)
            && match headers.contains_key(header::ORIGIN) {
                true => one(headers, header::ORIGIN).is_some_and(|origin| {
                    let of_host = |(_, of): (&str, &str)| of.eq_ignore_ascii_case(host);
                    origin.split_once("://").is_some_and(of_host)
                        || trusted.iter().any(|one| one == origin)
                }),
                false => true,
            }
    });
    if is_local {
        return Ok(());
    }
    let detail = "without a token only requests from this machine are taken, not those of web pages of other origins";
    Err(Problem::new(ProblemType::Forbidden, detail))
}

fn is_of_proxy(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with(FORWARDED) || OF_PROXIES.contains(&name)
}

/// The value of a header that stands once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// `localhost`, or a loopback address as it stands in an address of the web (RFC 3986), with a
/// port or without: nothing else, whatever it begins or ends with.
fn is_loopback(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, behind)) => {
            let is_loopback = address.parse().is_ok_and(|one: Ipv6Addr| one.is_loopback());
            (is_loopback, behind)
        }
        None => {
            let (name, port) = host.split_at(host.find(':').unwrap_or(host.len()));
            let is_address = name.parse().is_ok_and(|one: Ipv4Addr| one.is_loopback());
            (is_address || name.eq_ignore_ascii_case("localhost"), port)
        }
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    name && (port.is_empty()
        || port.strip_prefix(':').is_some_and(|port| is_port(port) && port.parse::<u16>().is_ok()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const HOST: (&str, &str) = ("host", "127.0.0.1:8080");

    fn status(headers: &[(&'static str, &'static str)]) -> u16 {
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            all.append(*name, HeaderValue::from_static(value));
        }
        let checked = check_local(&all, &["https://mine.example".to_owned()]);
        checked.err().map_or(200, |problem| problem.status().as_u16())
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let local = ("host", "localhost:8080");
        for (origin, expected) in [
            ("http://localhost:8080", 200),
            ("https://mine.example", 200),
            ("http://localhost:9090", 403),
            ("https://evil.example", 403),
            ("https://mine.example.evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            assert_eq!(status(&[local, ("origin", origin)]), expected, "{origin}");
        }
        let both = [("origin", "http://localhost:8080"), ("origin", "https://evil.example")];
        assert_eq!(status(&[local, both[0], both[1]]), 403, "which of them is it?");
        let evil = [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")];
        assert_eq!(status(&evil), 403);
    }

    #[test]
    fn only_a_loopback_host_is_local() {
        for host in [
            "127.0.0.1:8080",
            "127.0.0.1",
            "127.1.2.3",
            "localhost",
            "LocalHost:8080",
            "[::1]:8080",
            "[::1]",
            "[0:0:0:0:0:0:0:1]:80",
        ] {
            assert_eq!(status(&[("host", host)]), 200, "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "localhost.evil.example:8080",
            "evil.example:8080",
            "localhost:",
            "localhost:8080@evil.example",
            "localhost:8080:evil.example",
            "localhost:99999",
            "localhost:+1",
            "localhost@evil.example",
            "localhost,evil.example",
            "xlocalhost",
            "127.0.0.1.evil.example",
            "127.0.0.1:80.evil.example",
            "127.0.0.1@evil.example",
            "127.1",
            "2130706433",
            "0.0.0.0",
            "[::1].evil.example",
            "[::1]evil.example:8080",
            "[::1]:80@evil.example",
            "[::1",
            "::1",
            "[127.0.0.1]",
            "[::]",
            "[fe80::1]",
        ] {
            assert_eq!(status(&[("host", host)]), 403, "{host}");
        }
        assert_eq!(status(&[]), 403);
        assert_eq!(status(&[HOST, ("host", "evil.example")]), 403, "which of them is it?");
    }

    #[test]
    fn what_a_proxy_passes_on_is_not_local() {
        assert_eq!(status(&[HOST]), 200);
        for name in [
            "forwarded",
            "via",
            "x-forwarded-for",
            "x-forwarded-host",
            "x-forwarded-proto",
            "x-forwarded-port",
            "x-forwarded-server",
            "x-forwarded",
            "x-real-ip",
            "cf-connecting-ip",
            "true-client-ip",
        ] {
            assert_eq!(status(&[HOST, (name, "for=192.0.2.1")]), 401, "{name}");
            assert_eq!(status(&[HOST, (name, "")]), 401, "an empty {name}");
            let trusted = ("origin", "https://mine.example");
            assert_eq!(status(&[HOST, trusted, (name, "x")]), 401, "a trusted page through {name}");
        }
    }
}
