//! Keys at an address: a JWK set, or an issuer that says where its set is (OpenID Connect
//! Discovery). What comes is somebody else's: bounded in size and time, and held against what is
//! configured.

use super::{
    IdentityError,
    keys::{self, Key, Origin},
};
use bytes::BytesMut;
use http::{HeaderMap, header};
use reqwest::{Certificate, Client, Url, redirect::Policy};
use serde::Deserialize;
use std::{path::PathBuf, time::Duration};

const MAX_BYTES: usize = 256 << 10;
/// How long a set counts as fresh, whatever its headers say; and where they say nothing.
const LEAST: Duration = Duration::from_secs(300);
const MOST: Duration = Duration::from_secs(86_400);
const UNTOLD: Duration = Duration::from_secs(3_600);

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyAddress {
    Jwks(String),
    /// The issuer that is configured beside; its discovery document names the address.
    Discovery(String),
}

#[derive(Clone, Debug)]
pub struct RemoteOptions {
    pub address: KeyAddress,
    /// For each of the documents.
    pub timeout: Duration,
    /// Whom to trust, in PEM; the system's authorities when absent.
    pub ca_file: Option<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    /// The source is without the address, which may hold a secret.
    #[error("cannot get {url}")]
    Http { url: String, source: reqwest::Error },
    #[error("{url} answers with status {status}")]
    Status { url: String, status: u16 },
    #[error("{url} answers with more than {MAX_BYTES} bytes")]
    TooLarge { url: String },
    #[error("{url} is no discovery document")]
    NotDiscovery { url: String, source: serde_json::Error },
    #[error("{url} is the discovery document of another issuer, {found:?}")]
    OtherIssuer { url: String, found: String },
    #[error("{url} names keys at {found:?}, which is no address that keys can be trusted from")]
    BadKeyAddress { url: String, found: String },
    #[error(transparent)]
    Keys(#[from] IdentityError),
}

pub(super) struct Remote {
    client: Client,
    address: Url,
    /// Where `address` is that of a discovery document: whose.
    issuer: Option<String>,
    pub(super) timeout: Duration,
}

/// A set, and for how long it is fresh.
pub(super) struct Fetched {
    pub(super) keys: Vec<Key>,
    pub(super) text: Vec<u8>,
    pub(super) fresh_for: Duration,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

impl Remote {
    pub(super) fn new(options: &RemoteOptions) -> Result<Self, IdentityError> {
        let (text, issuer) = match &options.address {
            KeyAddress::Jwks(url) => (url.clone(), None),
            KeyAddress::Discovery(issuer) => {
                let base = issuer.trim_end_matches('/');
                (format!("{base}/.well-known/openid-configuration"), Some(issuer.clone()))
            }
        };
        let is_http = |url: &Url| matches!(url.scheme(), "http" | "https");
        let address = text.parse().ok().filter(is_http).ok_or(IdentityError::Address)?;
        let mut client = Client::builder()
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .redirect(Policy::limited(3))
            .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")));
        if let Some(file) = &options.ca_file {
            let failed =
                |source| IdentityError::File { action: "read", file: file.clone(), source };
            let bundle = std::fs::read(file).map_err(failed)?;
            let trusted = Certificate::from_pem_bundle(&bundle).map_err(IdentityError::Client)?;
            client = client.tls_certs_only(trusted);
        }
        let client = client.build().map_err(IdentityError::Client)?;
        Ok(Self { client, address, issuer, timeout: options.timeout })
    }

    /// The address as logs may show it.
    pub(super) fn shown(&self) -> String {
        shown(&self.address)
    }

    pub(super) async fn fetch(&self) -> Result<Fetched, FetchError> {
        let address = match &self.issuer {
            None => self.address.clone(),
            Some(issuer) => self.discover(issuer).await?,
        };
        let (headers, text) = self.get(&address).await?;
        let keys = keys::parse(&shown(&address), &text, Origin::Address)?;
        Ok(Fetched { keys, text, fresh_for: fresh_for(&headers) })
    }

    async fn discover(&self, issuer: &str) -> Result<Url, FetchError> {
        let url = self.shown();
        let (_, text) = self.get(&self.address).await?;
        let document: Discovery = serde_json::from_slice(&text)
            .map_err(|source| FetchError::NotDiscovery { url: url.clone(), source })?;
        if document.issuer != issuer {
            return Err(FetchError::OtherIssuer { url, found: document.issuer });
        }
        let found: Option<Url> = document.jwks_uri.parse().ok();
        // Keys that came in the clear would be anybody's on the way.
        let may =
            |found: &Url| found.scheme() == "https" || found.scheme() == self.address.scheme();
        found.filter(may).ok_or(FetchError::BadKeyAddress { url, found: document.jwks_uri })
    }

    async fn get(&self, url: &Url) -> Result<(HeaderMap, Vec<u8>), FetchError> {
        let shown = shown(url);
        let http = |error: reqwest::Error| FetchError::Http {
            url: shown.clone(),
            source: error.without_url(),
        };
        let request = self.client.get(url.clone()).header(header::ACCEPT, "application/json");
        let mut answer = request.send().await.map_err(http)?;
        let status = answer.status();
        if status != http::StatusCode::OK {
            return Err(FetchError::Status { url: shown, status: status.as_u16() });
        }
        let headers = answer.headers().clone();
        let mut text = BytesMut::new();
        while let Some(part) = answer.chunk().await.map_err(http)? {
            if text.len() + part.len() > MAX_BYTES {
                return Err(FetchError::TooLarge { url: shown });
            }
            text.extend_from_slice(&part);
        }
        Ok((headers, text.into()))
    }
}

fn shown(url: &Url) -> String {
    let port = url.port().map_or(String::new(), |port| format!(":{port}"));
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path())
}

/// What `Cache-Control` says, within bounds.
fn fresh_for(headers: &HeaderMap) -> Duration {
    let values = headers.get_all(header::CACHE_CONTROL).iter();
    let values = values.filter_map(|value| value.to_str().ok());
    let mut told = UNTOLD;
    for directive in values.flat_map(|value| value.split(',')).map(str::trim) {
        if directive.eq_ignore_ascii_case("no-cache") || directive.eq_ignore_ascii_case("no-store")
        {
            return LEAST;
        }
        let age =
            directive.split_once('=').filter(|(name, _)| name.eq_ignore_ascii_case("max-age"));
        if let Some(seconds) = age.and_then(|(_, age)| age.trim_matches('"').parse().ok()) {
            told = Duration::from_secs(seconds);
        }
    }
    told.clamp(LEAST, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn freshness_follows_the_headers_within_bounds() {
        for (value, seconds) in [
            ("public, max-age=1800, must-revalidate", 1_800),
            ("max-age=1", 300),
            ("max-age=31536000", 86_400),
            ("no-cache", 300),
            ("No-Store, max-age=7200", 300),
            ("private", 3_600),
            ("max-age=nonsense", 3_600),
        ] {
            let value = HeaderValue::from_static(value);
            let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, value.clone())]);
            assert_eq!(fresh_for(&headers), Duration::from_secs(seconds), "{value:?}");
        }
        assert_eq!(fresh_for(&HeaderMap::new()), UNTOLD);
    }

    #[test]
    fn addresses_are_shown_without_what_lets_in() {
        let url: Url = "https://user:hunter2@id.example:8443/keys?key=hunter2".parse().unwrap();
        assert_eq!(shown(&url), "https://id.example:8443/keys");
        let options = |address| RemoteOptions { address, timeout: LEAST, ca_file: None };
        let bad = Remote::new(&options(KeyAddress::Jwks("ftp://hunter2/".to_owned())));
        assert!(!bad.err().unwrap().to_string().contains("hunter2"));
    }
}
