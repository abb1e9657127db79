//! One fetch: request, checks, and the body spooled to a file, whole or not at all.

mod caching;
mod coding;
mod redirect;
mod secrets;
#[cfg(test)]
mod tests;

use crate::config::{ConfigError, IngestOptions, ProviderConfig};
use almanac_errors::{Cause, Masked};
use caching::{fresh_until, retry_after};
use coding::Coding;
use encoding_rs::Encoding;
use jiff::Timestamp;
use reqwest::{
    Client, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED,
    },
};
use secrets::Secrets;
use std::{
    fs::File,
    io::{BufWriter, Read, Seek, Write},
    path::PathBuf,
    time::Duration,
};
use url::Url;
use xxhash_rust::xxh3::Xxh3;

const MAX_REDIRECTS: usize = 5;

#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the provider answered {status}")]
    Status {
        status: u16,
        retry_after: Option<Duration>,
        /// The beginning of its body, where that is read.
        said: Vec<u8>,
    },
    #[error("no {what} within {after_ms} ms")]
    TimedOut { what: &'static str, after_ms: u128 },
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error(transparent)]
    Network(Masked),
    #[error("redirected to {0}, which is another host; allow_redirects_to_other_hosts is off")]
    ForeignRedirect(String),
    #[error("redirected to what is no http address")]
    BadRedirect,
    #[error("redirected more than {} times", MAX_REDIRECTS)]
    TooManyRedirects,
    #[error("the body has the unknown Content-Encoding {name:?}")]
    UnknownCoding { name: String },
    #[error("the body has more than {limit} content codings")]
    TooManyCodings { limit: usize },
    #[error("the compressed body is cut off or damaged")]
    Coded { source: Cause },
    #[error("cannot spool the body to {folder}")]
    Spool { folder: PathBuf, source: Cause },
}

impl FetchError {
    /// Whether time alone may mend it.
    pub(crate) fn worth_retrying(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::TimedOut { .. } | Self::Network(_) | Self::Spool { .. } | Self::Coded { .. } => {
                true
            }
            Self::TooLarge { .. }
            | Self::ForeignRedirect(_)
            | Self::BadRedirect
            | Self::TooManyRedirects
            | Self::UnknownCoding { .. }
            | Self::TooManyCodings { .. } => false,
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// What to compare with.
#[derive(Clone, Debug, Default)]
pub(crate) struct Validators {
    pub(crate) etag: Option<String>,
    pub(crate) last_modified: Option<String>,
}

pub(crate) enum Fetched {
    NotModified { fresh_until: Option<Timestamp> },
    Body(Body),
}

pub(crate) struct Body {
    pub(crate) status: u16,
    pub(crate) file: File,
    /// Decompressed.
    pub(crate) bytes: u64,
    pub(crate) hash: String,
    /// The encoding that the Content-Type names, by its name in the WHATWG's standard.
    pub(crate) charset: Option<&'static str>,
    pub(crate) validators: Validators,
    pub(crate) fresh_until: Option<Timestamp>,
}

/// Which answers are bodies, and what is read of the others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    accepted: &'static [StatusCode],
    /// Of a body that tells why there is none.
    refusal_bytes: u64,
}

impl Reading {
    pub(crate) const FEED: Self = Self { accepted: &[StatusCode::OK], refusal_bytes: 0 };
    /// Services of forecasts answer 203 from a version that is about to end, and say in a body what
    /// they refuse.
    pub(crate) const FORECAST: Self = Self {
        accepted: &[StatusCode::OK, StatusCode::NON_AUTHORITATIVE_INFORMATION],
        refusal_bytes: 2_048,
    };
}

/// Fetches from one address of a provider.
pub(crate) struct Fetcher {
    client: Client,
    url: Url,
    host: String,
    /// Sent to the configured host only.
    headers: HeaderMap,
    follow_anywhere: bool,
    secrets: Secrets,
    reading: Reading,
    options: IngestOptions,
}

impl Fetcher {
    pub(crate) fn new(
        provider: &ProviderConfig,
        options: &IngestOptions,
    ) -> Result<Self, ConfigError> {
        Self::at(provider, provider.url.expose(), options, Reading::FEED)
    }

    pub(crate) fn at(
        provider: &ProviderConfig,
        address: &str,
        options: &IngestOptions,
        reading: Reading,
    ) -> Result<Self, ConfigError> {
        let wrong = |detail: String| provider.wrong(detail);
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str| -> Result<(), ConfigError> {
            let parsed = HeaderName::try_from(name)
                .map_err(|_| wrong(format!("{name:?} is not a header name")))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| wrong(format!("the value of header {name} is not allowed")))?;
            value.set_sensitive(true);
            headers.insert(parsed, value);
            Ok(())
        };
        for (name, value) in &provider.headers {
            put(name, value.expose())?;
        }
        for (name, file) in &provider.header_files {
            let value = std::fs::read_to_string(file)
                .map_err(|error| wrong(format!("header file {}: {error}", file.display())))?;
            put(name, value.trim())?;
        }
        // What is wrong with it is not told in the parser's words: they may repeat a key.
        let url = Url::parse(address).map_err(|_| wrong("url is no address".to_owned()))?;
        let host = url
            .host_str()
            .zip(url.port_or_known_default())
            .map(|(host, port)| format!("{host}:{port}"))
            .ok_or_else(|| wrong("url has no host".to_owned()))?;
        let client = Client::builder()
            .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .no_gzip()
            .no_brotli()
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| wrong(error.without_url().to_string()))?;
        Ok(Self {
            client,
            host,
            secrets: Secrets::of(&url, &headers),
            url,
            headers,
            follow_anywhere: provider.allow_redirects_to_other_hosts,
            reading,
            options: options.clone(),
        })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The configured address.
    pub(crate) fn url(&self) -> &Url {
        &self.url
    }

    pub(crate) async fn fetch(&self, validators: &Validators) -> Result<Fetched, FetchError> {
        self.fetch_at(&self.url, validators).await
    }

    /// Fetches an address on the configured host.
    pub(crate) async fn fetch_at(
        &self,
        url: &Url,
        validators: &Validators,
    ) -> Result<Fetched, FetchError> {
        let total = self.options.total_timeout;
        tokio::time::timeout(total, self.fetch_in_time(url, validators)).await.unwrap_or(Err(
            FetchError::TimedOut { what: "complete answer", after_ms: total.as_millis() },
        ))
    }

    /// A text about a fetch as it may be told: bounded, and without keys.
    pub(crate) fn tell(&self, text: &str) -> String {
        self.secrets.hide(text)
    }

    async fn fetch_in_time(
        &self,
        url: &Url,
        validators: &Validators,
    ) -> Result<Fetched, FetchError> {
        let first_byte = self.options.first_byte_timeout;
        let response =
            tokio::time::timeout(first_byte, self.answer(url, validators)).await.map_err(
                |_| FetchError::TimedOut { what: "answer", after_ms: first_byte.as_millis() },
            )??;
        let fresh_until = fresh_until(response.headers(), Timestamp::now());
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::NotModified { fresh_until }),
            status if self.reading.accepted.contains(&status) => {
                self.spool(response, fresh_until).await.map(Fetched::Body)
            }
            status => Err(FetchError::Status {
                status: status.as_u16(),
                retry_after: retry_after(response.headers()),
                said: self.said(response).await,
            }),
        }
    }

    /// The beginning of a body that tells why there is no other; empty where it cannot be read.
    async fn said(&self, response: Response) -> Vec<u8> {
        let mut said = Vec::new();
        if self.reading.refusal_bytes > 0
            && let Ok(body) = self.spool(response, None).await
        {
            let _ = body.file.take(self.reading.refusal_bytes).read_to_end(&mut said);
        }
        said
    }

    /// The first answer that is no redirect. Followed here and not by the client, which sends
    /// whatever it does not know as a credential to the other host, too.
    async fn answer(&self, url: &Url, validators: &Validators) -> Result<Response, FetchError> {
        let mut url = url.clone();
        let mut at_home = true;
        for _ in 0..=MAX_REDIRECTS {
            let mut request =
                self.client.get(url.clone()).header(ACCEPT_ENCODING, coding::ACCEPTED);
            if at_home {
                request = request.headers(self.headers.clone());
            }
            if let Some(etag) = &validators.etag {
                request = request.header(IF_NONE_MATCH, etag);
            }
            if let Some(last_modified) = &validators.last_modified {
                request = request.header(IF_MODIFIED_SINCE, last_modified);
            }
            let response = request.send().await.map_err(|error| self.network_error(error))?;
            let Some(mut target) = redirect::target(&response, &url)? else { return Ok(response) };
            let same = redirect::is_same_host(&self.url, &target);
            if !same && !self.follow_anywhere {
                return Err(FetchError::ForeignRedirect(target.origin().ascii_serialization()));
            }
            // Who was sent away once is not trusted to say what is asked of the first host.
            at_home &= same;
            if at_home {
                redirect::keep_userinfo(&self.url, &mut target);
            }
            url = target;
        }
        Err(FetchError::TooManyRedirects)
    }

    async fn spool(
        &self,
        mut response: Response,
        fresh_until: Option<Timestamp>,
    ) -> Result<Body, FetchError> {
        let limit = self.options.max_body_bytes;
        let status = response.status().as_u16();
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge { limit });
        }
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            (value.len() <= 512).then(|| value.to_owned())
        };
        let validators = Validators { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        let codings: Vec<Coding> = coding::named(response.headers())?;
        let charset = charset(response.headers());
        let folder = self.options.spool_dir();
        let spool_error = |error: std::io::Error| FetchError::Spool {
            folder: folder.clone(),
            source: error.into(),
        };
        let file = tempfile::tempfile_in(&folder).map_err(spool_error)?;
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let mut hash = Xxh3::new();
        let mut bytes = 0;
        let mut beginning = Vec::with_capacity(2);
        while let Some(chunk) = response.chunk().await.map_err(|error| self.network_error(error))? {
            beginning.extend(chunk.iter().take(2 - beginning.len()));
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(FetchError::TooLarge { limit });
            }
            hash.update(&chunk);
            writer.write_all(&chunk).map_err(spool_error)?;
        }
        let mut file = writer.into_inner().map_err(|error| spool_error(error.into_error()))?;
        if coding::is_coded(&codings, &beginning) {
            let undoing =
                tokio::task::spawn_blocking(move || coding::undo(file, &codings, &folder, limit));
            let plain =
                undoing.await.map_err(|error| FetchError::Coded { source: error.into() })??;
            (file, bytes, hash) = (plain.file, plain.bytes, plain.hash);
        } else {
            file.rewind().map_err(spool_error)?;
        }
        // The same bytes in another encoding are another body.
        hash.update(charset.unwrap_or_default().as_bytes());
        Ok(Body {
            status,
            file,
            bytes,
            hash: format!("{:032x}", hash.digest128()),
            charset,
            validators,
            fresh_until,
        })
    }

    fn network_error(&self, error: reqwest::Error) -> FetchError {
        FetchError::Network(Masked::new(&error.without_url(), |text| self.tell(text)))
    }
}

/// The encoding that a Content-Type names. One that nobody knows says nothing.
fn charset(headers: &HeaderMap) -> Option<&'static str> {
    let content_type = String::from_utf8_lossy(headers.get(CONTENT_TYPE)?.as_bytes());
    let label = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })?;
    Encoding::for_label_no_replacement(label.trim().as_bytes()).map(Encoding::name)
}
