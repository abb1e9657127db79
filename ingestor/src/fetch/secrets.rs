//! What must not be told of how a provider is asked: the keys in its address and headers. Errors of
//! a client library, of TLS or of a proxy may repeat any of it, so every text about a fetch passes
//! through here before it is logged, published or served.

use almanac_secrets::without_secrets;
use reqwest::header::HeaderMap;
use std::collections::BTreeSet;
use url::Url;

/// Shorter values would be found in the middle of words; no key is that short.
const MIN_SECRET: usize = 4;
const HIDDEN: &str = "[hidden]";
/// An error may quote as much of a body as it likes.
const MAX_TOLD: usize = 600;

pub(super) struct Secrets {
    /// The longest first: one may be part of another.
    texts: Vec<String>,
}

impl Secrets {
    pub(super) fn of(url: &Url, headers: &HeaderMap) -> Self {
        let mut texts = BTreeSet::new();
        let mut hide = |text: &str| {
            if text.len() >= MIN_SECRET {
                texts.insert(text.to_owned());
            }
        };
        hide(url.as_str());
        for part in [url.username(), url.password().unwrap_or_default()] {
            hide(part);
            hide(&percent_encoding::percent_decode_str(part).decode_utf8_lossy());
        }
        hide(&url[url::Position::BeforePath..url::Position::AfterQuery]);
        if let Some(query) = url.query() {
            hide(query);
            for pair in query.split('&') {
                hide(pair.split_once('=').map_or(pair, |(_, value)| value));
            }
        }
        for (_, value) in url.query_pairs() {
            hide(&value);
        }
        for value in headers.values() {
            let value = String::from_utf8_lossy(value.as_bytes());
            hide(&value);
            // `Bearer KEY`: the key alone, too.
            value.split_whitespace().skip(1).for_each(&mut hide);
        }
        let mut texts: Vec<String> = texts.into_iter().collect();
        texts.sort_by_key(|text| std::cmp::Reverse(text.len()));
        Self { texts }
    }

    /// The text without any of them, of bounded length.
    pub(super) fn hide(&self, text: &str) -> String {
        let hidden = self.texts.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret, HIDDEN) } else { text }
        });
        let told = without_secrets(&hidden);
        let end = told.floor_char_boundary(MAX_TOLD.min(told.len()));
        if end < told.len() { format!("{}…", &told[..end]) } else { told.into_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::{AUTHORIZATION, HeaderValue};

    #[test]
    fn nothing_of_an_address_is_told_but_its_host() {
        let url =
            "https://mary:p%40ss-word@h.example:8443/feeds/t0ken/plans.xml?apikey=k3y%2Bk3y&v=1";
        let url = Url::parse(url).unwrap();
        let headers =
            HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static("Bearer b3arer"))]);
        let secrets = Secrets::of(&url, &headers);
        for text in [
            format!("error sending request for url ({url}): refused"),
            format!("request {} failed", &url[url::Position::BeforePath..]),
            "p%40ss-word, p@ss-word, k3y%2Bk3y, k3y+k3y, Bearer b3arer, b3arer".to_owned(),
            "see https://mary:p@h.example/other?apikey=k3y%2Bk3y#x".to_owned(),
        ] {
            let told = secrets.hide(&text);
            for secret in ["mary", "p%40ss", "p@ss", "t0ken", "k3y", "b3arer", "apikey"] {
                assert!(!told.contains(secret), "{secret} in {told}");
            }
        }
        assert_eq!(secrets.hide("the provider answered 503"), "the provider answered 503");
        assert!(secrets.hide(&"ñ".repeat(10_000)).len() <= MAX_TOLD + "…".len());
    }
}
