//! Addresses of servers. A user's name and password may stand before the host, a key in the query.

use crate::MASK;
use serde::{Deserialize, Serialize, Serializer};
use std::fmt;
use url::Url;

/// The address of a server, or several with commas between.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Address(String);

/// Why an address leads to no web server. The address itself is not told: keys stand in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWebAddress {
    #[error("it is not http or https")]
    Scheme,
    #[error(transparent)]
    Url(#[from] url::ParseError),
}

impl Address {
    /// The address of a web server.
    pub fn web(&self) -> Result<Url, NoWebAddress> {
        let url = Url::parse(&self.0)?;
        match matches!(url.scheme(), "http" | "https") && url.has_host() {
            true => Ok(url),
            false => Err(NoWebAddress::Scheme),
        }
    }

    /// The address as it is used, secrets included.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<T: Into<String>> From<T> for Address {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.0))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", masked(&self.0))
    }
}

impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&masked(&self.0))
    }
}

const SCHEME: &str = "://";

/// An address without what stands before its host, in its query and behind that.
pub fn masked(address: &str) -> String {
    // Of several, each where it begins: hosts hold no comma, and passwords may.
    let mut shown = String::with_capacity(address.len());
    let mut rest = address;
    while let Some(at) = next_of_several(rest) {
        shown.push_str(&masked_one(&rest[..at]));
        shown.push(',');
        rest = &rest[at + 1..];
    }
    shown.push_str(&masked_one(rest));
    shown
}

/// The comma after which another address begins.
fn next_of_several(text: &str) -> Option<usize> {
    let mut commas = text.match_indices(',').map(|(at, _)| at);
    commas.find(|&at| {
        let (before, after) = (&text[..at], &text[at + 1..]);
        let of_next = after.find(SCHEME);
        // Before a scheme, only the user and password of the same address have this sign.
        let is_password =
            !before.contains('@') && after[..of_next.unwrap_or(after.len())].contains('@');
        let is_query = before.contains(['?', '#']) && of_next.is_none();
        !is_password && !is_query
    })
}

/// Whether a user and the beginning of a password may stand there: a port is a number.
fn has_user(text: &str) -> bool {
    let text = text.split_once(SCHEME).map_or(text, |(_, behind)| behind);
    text.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn masked_one(address: &str) -> String {
    let (scheme, behind) = match address.find(SCHEME) {
        Some(at) => address.split_at(at + SCHEME.len()),
        None => ("", address),
    };
    let end = behind.find(['/', '?', '#']).unwrap_or(behind.len());
    // A password may hold the marks that end a host: it is one where no port would stand.
    let end = match behind[..end].contains('@') || !has_user(&behind[..end]) {
        true => end,
        false => behind
            .rfind('@')
            .map_or(end, |at| at + behind[at..].find(['/', '?', '#']).unwrap_or(behind.len() - at)),
    };
    let (authority, path) = behind.split_at(end);
    let host = authority.rsplit('@').next().unwrap_or_default();
    let before = if host.len() < authority.len() { format!("{MASK}@") } else { String::new() };
    let (path, query) = match path.find(['?', '#']) {
        Some(at) => (&path[..at], format!("{}{MASK}", &path[at..=at])),
        None => (path, String::new()),
    };
    format!("{scheme}{before}{host}{path}{query}")
}

/// A text, such as another library's error, with each address in it masked.
pub fn masked_within(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(SCHEME) {
        let is_around =
            |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '(' | ')' | '`');
        let start = rest[..at]
            .rfind(is_around)
            .map_or(0, |space| space + rest[space..].chars().next().map_or(1, char::len_utf8));
        let end = rest[at..].find(is_around).map_or(rest.len(), |length| at + length);
        shown.push_str(&rest[..start]);
        shown.push_str(&masked(&rest[start..end]));
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_passwords_and_queries_are_masked() {
        for (address, shown) in [
            ("", ""),
            ("https://h.example/a/b.xml", "https://h.example/a/b.xml"),
            ("https://h.example:8443", "https://h.example:8443"),
            ("https://user:pw@h.example/a.xml", "https://********@h.example/a.xml"),
            ("https://key@h.example", "https://********@h.example"),
            ("https://u:p@ss@[::1]:9/x", "https://********@[::1]:9/x"),
            ("https://u:p/w?d#@h.example/x", "https://********@h.example/x"),
            ("https://h.example/a?apikey=k&b=c", "https://h.example/a?********"),
            ("https://h.example?apikey=k", "https://h.example?********"),
            ("https://h.example/a#token", "https://h.example/a#********"),
            ("https://h.example/@scope/a", "https://h.example/@scope/a"),
            ("https://u:p@h.example/a?k=u@x", "https://********@h.example/a?********"),
            ("https://h.example/a?list=1,2,key", "https://h.example/a?********"),
            ("https://u:p,w@h.example/a", "https://********@h.example/a"),
            ("user:pw@h.example:9092", "********@h.example:9092"),
            ("127.0.0.1:9092,127.0.0.2:9092", "127.0.0.1:9092,127.0.0.2:9092"),
            (
                "SASL_SSL://u:p@a:1,SASL_SSL://u:q@b:2",
                "SASL_SSL://********@a:1,SASL_SSL://********@b:2",
            ),
            ("http://a/x?k=1,http://u:p@b/y", "http://a/x?********,http://********@b/y"),
            ("a:1,SASL_SSL://u:p@b:2", "a:1,SASL_SSL://********@b:2"),
            ("https://u:12,34@h", "https://********@h"),
        ] {
            assert_eq!(masked(address), shown);
            let address = Address::from(address);
            assert_eq!(address.to_string(), shown);
            assert_eq!(format!("{address:?}"), format!("{shown:?}"));
            assert_eq!(serde_json::to_string(&address).unwrap(), format!("{shown:?}"));
        }
    }

    #[test]
    fn so_are_those_within_a_text() {
        for (text, shown) in [
            ("nothing", "nothing"),
            (
                "error sending request for url (http://u:p@h:1/a?k=1): refused",
                "error sending request for url (http://********@h:1/a?********): refused",
            ),
            (
                "\"https://u:p@é/\" and http://b?k=1 too",
                "\"https://********@é/\" and http://b?******** too",
            ),
        ] {
            assert_eq!(masked_within(text), shown);
        }
    }

    #[test]
    fn web_addresses_are_told_from_others() {
        let web = |text: &str| Address::from(text).web();
        assert_eq!(web("https://u:p@host/path?k=1").unwrap().host_str(), Some("host"));
        assert_eq!(web("ftp://host/").unwrap_err(), NoWebAddress::Scheme);
        for text in ["", "host:9092", "http://", "varnish"] {
            let error = web(text).unwrap_err().to_string();
            assert!(!error.is_empty() && (text.is_empty() || !error.contains(text)), "{error}");
        }
    }
}
