//! Where a redirect leads (RFC 9110, section 15.4), and whether that is still the same host.

use super::FetchError;
use reqwest::{Response, StatusCode, header::LOCATION};
use url::Url;

/// The address of a redirect; `None` when the answer is none.
pub(super) fn target(response: &Response, from: &Url) -> Result<Option<Url>, FetchError> {
    let is_redirect = matches!(
        response.status(),
        StatusCode::MOVED_PERMANENTLY
            | StatusCode::FOUND
            | StatusCode::SEE_OTHER
            | StatusCode::TEMPORARY_REDIRECT
            | StatusCode::PERMANENT_REDIRECT
    );
    let Some(location) = response.headers().get(LOCATION).filter(|_| is_redirect) else {
        return Ok(None);
    };
    let location = std::str::from_utf8(location.as_bytes()).map_err(|_| FetchError::BadRedirect)?;
    let target = from.join(location.trim()).map_err(|_| FetchError::BadRedirect)?;
    if !matches!(target.scheme(), "http" | "https") || !target.has_host() {
        return Err(FetchError::BadRedirect);
    }
    Ok(Some(target))
}

/// The same host and port, or the same host reached by TLS from now on.
pub(super) fn is_same_host(first: &Url, other: &Url) -> bool {
    let port = |url: &Url| url.port_or_known_default();
    let is_upgrade = (first.scheme(), port(first), other.scheme(), port(other))
        == ("http", Some(80), "https", Some(443));
    first.host_str() == other.host_str()
        && (first.scheme() == other.scheme() && port(first) == port(other) || is_upgrade)
}

/// An address that does not say who asks is asked as before.
pub(super) fn keep_userinfo(first: &Url, target: &mut Url) {
    if target.username().is_empty() && target.password().is_none() {
        // Neither can fail: the address has a host.
        let _ = target.set_username(first.username());
        let _ = target.set_password(first.password());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_the_same_by_name_port_and_scheme() {
        let same = |a: &str, b: &str| is_same_host(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(same("http://a.example/x", "http://a.example:80/y"));
        assert!(same("http://a.example/x", "https://a.example/y"), "by TLS from now on");
        assert!(same("http://u:p@a.example/x", "http://A.example/y"));
        for other in ["http://a.example/", "https://b.example/", "https://a.example:8443/"] {
            assert!(!same("https://a.example/x", other), "{other}");
        }
        assert!(!same("http://a.example:8080/", "https://a.example:8443/"));
    }
}
