//! `Prefer` (RFC 7240): how long a client waits, and what it takes instead.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::time::Duration;

pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const MAX_WAIT: Duration = Duration::from_secs(30);

/// What a client prefers of how it is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Preference {
    pub wait: Option<Duration>,
    /// Writes: the answer may come later, at an address of its own.
    pub respond_async: bool,
    /// Reads: an error rather than an older answer.
    pub is_strict: bool,
}

impl Preference {
    /// Preferences that are not known, or are malformed, are passed over.
    pub fn read(headers: &HeaderMap) -> Self {
        let mut preference = Self::default();
        let values = headers.get_all(PREFER).iter().filter_map(|value| value.to_str().ok());
        for one in values.flat_map(|value| value.split([',', ';'])).map(str::trim) {
            if one.eq_ignore_ascii_case("respond-async") {
                preference.respond_async = true;
            } else if let Some((name, value)) = one.split_once('=') {
                preference.take(name.trim(), value.trim().trim_matches('"'));
            }
        }
        preference
    }

    fn take(&mut self, name: &str, value: &str) {
        if name.eq_ignore_ascii_case("wait")
            && let Ok(seconds) = value.parse()
        {
            self.wait.get_or_insert(Duration::from_secs(seconds).min(MAX_WAIT));
        }
        if name.eq_ignore_ascii_case("handling") && value.eq_ignore_ascii_case("strict") {
            self.is_strict = true;
        }
    }

    /// What a write applies, as `Preference-Applied` says it.
    pub fn applied_to_write(self) -> Option<HeaderValue> {
        Self::applied(self.respond_async.then(|| "respond-async".to_owned()), self.wait)
    }

    /// The same for a read.
    pub fn applied_to_read(self) -> Option<HeaderValue> {
        Self::applied(self.is_strict.then(|| "handling=strict".to_owned()), self.wait)
    }

    fn applied(first: Option<String>, wait: Option<Duration>) -> Option<HeaderValue> {
        let wait = wait.map(|wait| format!("wait={}", wait.as_secs()));
        let applied: Vec<String> = first.into_iter().chain(wait).collect();
        let text = (!applied.is_empty()).then(|| applied.join(", "))?;
        HeaderValue::try_from(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_and_echoed() {
        let read = |values: &[&'static str]| {
            let pairs = values.iter().map(|value| (PREFER, HeaderValue::from_static(value)));
            Preference::read(&pairs.collect())
        };
        assert_eq!(read(&["wait=7"]).wait, Some(Duration::from_secs(7)));
        assert_eq!(
            read(&["respond-async, wait=3600"]).applied_to_write().unwrap(),
            "respond-async, wait=30"
        );
        assert_eq!(read(&["wait=x, foo", "Wait=\"2\""]).applied_to_write().unwrap(), "wait=2");
        assert_eq!(
            read(&["handling=strict; wait=1"]).applied_to_read().unwrap(),
            "handling=strict, wait=1"
        );
        assert_eq!(read(&["handling=lenient"]), Preference::default());
        assert_eq!(read(&["return=minimal"]).applied_to_write(), None);
    }
}
