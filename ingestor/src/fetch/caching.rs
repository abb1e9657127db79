//! What a provider's headers ask for: how long its answer stays fresh, and when to come back.

use jiff::{SignedDuration, Timestamp};
use reqwest::header::{AGE, CACHE_CONTROL, EXPIRES, HeaderMap, HeaderName, RETRY_AFTER};
use std::time::{Duration, SystemTime};

/// Seconds or an HTTP date (RFC 9110, section 10.2.3).
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}

/// Until when the answer stays fresh (RFC 9111, section 4.2), when it says so.
pub(super) fn fresh_until(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let mut max_age = None;
    // A header may come in several lines.
    for line in headers.get_all(CACHE_CONTROL) {
        let directives = line.to_str().unwrap_or_default().to_ascii_lowercase();
        for directive in directives.split(',').map(str::trim) {
            if matches!(directive, "no-cache" | "no-store") {
                return None;
            }
            if let Some(seconds) = directive.strip_prefix("max-age=") {
                max_age = seconds.trim_matches('"').parse::<i64>().ok();
            }
        }
    }
    let age = text(AGE).and_then(|age| age.trim().parse::<i64>().ok()).unwrap_or(0);
    if let Some(max_age) = max_age {
        let seconds = max_age.saturating_sub(age).clamp(0, 10 * 365 * 86_400);
        return now.checked_add(SignedDuration::from_secs(seconds)).ok();
    }
    let expires = httpdate::parse_http_date(text(EXPIRES)?).ok()?;
    Timestamp::try_from(expires).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn freshness_follows_the_headers() {
        let now: Timestamp = "2021-06-30T19:00:00Z".parse().unwrap();
        let seconds = |pairs: &[(&'static str, &'static str)]| {
            fresh_until(&headers(pairs), now).map(|until| until.as_second() - now.as_second())
        };
        assert_eq!(seconds(&[]), None);
        assert_eq!(seconds(&[("cache-control", "public, max-age=60")]), Some(60));
        assert_eq!(seconds(&[("cache-control", "max-age=60"), ("age", "45")]), Some(15));
        assert_eq!(seconds(&[("cache-control", "no-cache, max-age=60")]), None);
        assert_eq!(seconds(&[("expires", "Wed, 30 Jun 2021 19:05:00 GMT")]), Some(300));
        assert_eq!(
            seconds(&[
                ("cache-control", "max-age=0"),
                ("expires", "Wed, 30 Jun 2021 19:05:00 GMT")
            ]),
            Some(0)
        );
        assert_eq!(seconds(&[("expires", "soon")]), None);
        let mut lines = headers(&[("cache-control", "max-age=60")]);
        lines.append(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        assert_eq!(fresh_until(&lines, now), None, "all lines count");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(retry_after(&headers(&[("retry-after", "17")])), Some(Duration::from_secs(17)));
        assert_eq!(
            retry_after(&headers(&[("retry-after", "Wed, 30 Jun 2021 19:05:00 GMT")])),
            None
        );
        assert_eq!(retry_after(&headers(&[("retry-after", "later")])), None);
    }
}
