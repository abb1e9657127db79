//! One fetch: request, checks, and the body spooled to a file, whole or not at all.

use crate::config::{ConfigError, IngestOptions, ProviderConfig};
use jiff::{SignedDuration, Timestamp};
use reqwest::{
    Client, Response, StatusCode,
    header::{
        AGE, CACHE_CONTROL, ETAG, EXPIRES, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
        IF_NONE_MATCH, LAST_MODIFIED, RETRY_AFTER,
    },
    redirect,
};
use std::{
    fs::File,
    io::{BufWriter, Seek, Write},
    path::PathBuf,
    time::{Duration, SystemTime},
};
use xxhash_rust::xxh3::Xxh3;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the provider answered {status}")]
    Status { status: u16, retry_after: Option<Duration> },
    #[error("no {what} within {after_ms} ms")]
    TimedOut { what: &'static str, after_ms: u128 },
    #[error("the body is larger than {limit} bytes")]
    TooLarge { limit: u64 },
    #[error("{0}")]
    Network(String),
    #[error("redirected to {0}, which is another host; allow_redirects_to_other_hosts is off")]
    ForeignRedirect(String),
    #[error("cannot spool the body to {folder}: {detail}")]
    Spool { folder: PathBuf, detail: String },
}

impl FetchError {
    /// Whether time alone may mend it.
    pub(crate) fn worth_retrying(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::TimedOut { .. } | Self::Network(_) | Self::Spool { .. } => true,
            Self::TooLarge { .. } | Self::ForeignRedirect(_) => false,
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
    pub(crate) file: File,
    /// Decompressed.
    pub(crate) bytes: u64,
    pub(crate) hash: String,
    pub(crate) validators: Validators,
    pub(crate) fresh_until: Option<Timestamp>,
}

/// Fetches one provider.
pub(crate) struct Fetcher {
    client: Client,
    url: String,
    host: String,
    headers: HeaderMap,
    options: IngestOptions,
}

impl Fetcher {
    pub(crate) fn new(
        provider: &ProviderConfig,
        options: &IngestOptions,
    ) -> Result<Self, ConfigError> {
        let wrong = |detail: String| provider.wrong(detail);
        let mut headers = HeaderMap::new();
        let mut put = |name: &str, value: &str, secret: bool| -> Result<(), ConfigError> {
            let parsed = HeaderName::try_from(name)
                .map_err(|_| wrong(format!("{name:?} is not a header name")))?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| wrong(format!("the value of header {name} is not allowed")))?;
            value.set_sensitive(secret);
            headers.insert(parsed, value);
            Ok(())
        };
        for (name, value) in &provider.headers {
            put(name, value, false)?;
        }
        for (name, file) in &provider.header_files {
            let value = std::fs::read_to_string(file)
                .map_err(|error| wrong(format!("header file {}: {error}", file.display())))?;
            put(name, value.trim(), true)?;
        }
        let host = url::Url::parse(&provider.url)
            .ok()
            .and_then(|url| Some(format!("{}:{}", url.host_str()?, url.port_or_known_default()?)))
            .ok_or_else(|| wrong("url has no host".to_owned()))?;
        let client = Client::builder()
            .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(options.connect_timeout)
            .redirect(redirect_policy(provider.allow_redirects_to_other_hosts))
            .pool_max_idle_per_host(1)
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        let url = provider.url.clone();
        Ok(Self { client, url, host, headers, options: options.clone() })
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) async fn fetch(&self, validators: &Validators) -> Result<Fetched, FetchError> {
        let total = self.options.total_timeout;
        tokio::time::timeout(total, self.fetch_in_time(validators)).await.unwrap_or(Err(
            FetchError::TimedOut { what: "complete answer", after_ms: total.as_millis() },
        ))
    }

    async fn fetch_in_time(&self, validators: &Validators) -> Result<Fetched, FetchError> {
        let mut request = self.client.get(&self.url).headers(self.headers.clone());
        if let Some(etag) = &validators.etag {
            request = request.header(IF_NONE_MATCH, etag);
        }
        if let Some(last_modified) = &validators.last_modified {
            request = request.header(IF_MODIFIED_SINCE, last_modified);
        }
        let first_byte = self.options.first_byte_timeout;
        let response = tokio::time::timeout(first_byte, request.send())
            .await
            .map_err(|_| FetchError::TimedOut { what: "answer", after_ms: first_byte.as_millis() })?
            .map_err(|error| network_error(&error))?;
        let fresh_until = fresh_until(response.headers(), Timestamp::now());
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(Fetched::NotModified { fresh_until }),
            StatusCode::OK => self.spool(response, fresh_until).await.map(Fetched::Body),
            status => Err(FetchError::Status {
                status: status.as_u16(),
                retry_after: retry_after(response.headers()),
            }),
        }
    }

    async fn spool(
        &self,
        mut response: Response,
        fresh_until: Option<Timestamp>,
    ) -> Result<Body, FetchError> {
        let limit = self.options.max_body_bytes;
        if response.content_length().is_some_and(|length| length > limit) {
            return Err(FetchError::TooLarge { limit });
        }
        let header = |name: HeaderName| {
            let value = response.headers().get(name)?.to_str().ok()?;
            (value.len() <= 512).then(|| value.to_owned())
        };
        let validators = Validators { etag: header(ETAG), last_modified: header(LAST_MODIFIED) };
        let folder = self.options.spool_dir();
        let spool_error = |error: std::io::Error| FetchError::Spool {
            folder: folder.clone(),
            detail: error.to_string(),
        };
        let file = tempfile::tempfile_in(&folder).map_err(spool_error)?;
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let mut hash = Xxh3::new();
        let mut bytes = 0;
        while let Some(chunk) = response.chunk().await.map_err(|error| network_error(&error))? {
            bytes += chunk.len() as u64;
            if bytes > limit {
                return Err(FetchError::TooLarge { limit });
            }
            hash.update(&chunk);
            writer.write_all(&chunk).map_err(spool_error)?;
        }
        let mut file = writer.into_inner().map_err(|error| spool_error(error.into_error()))?;
        file.rewind().map_err(spool_error)?;
        Ok(Body {
            file,
            bytes,
            hash: format!("{:032x}", hash.digest128()),
            validators,
            fresh_until,
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("redirect to another host")]
struct ForeignHost(String);

fn redirect_policy(anywhere: bool) -> redirect::Policy {
    redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > 5 {
            return attempt.error("too many redirects");
        }
        let first = attempt.previous().first();
        let same = first.is_some_and(|first| {
            first.host_str() == attempt.url().host_str()
                && first.port_or_known_default() == attempt.url().port_or_known_default()
        });
        if anywhere || same {
            return attempt.follow();
        }
        let host = attempt.url().host_str().unwrap_or("an unknown host").to_owned();
        attempt.error(ForeignHost(host))
    })
}

fn network_error(error: &reqwest::Error) -> FetchError {
    let mut cause = std::error::Error::source(error);
    let mut text = error.to_string();
    while let Some(inner) = cause {
        if let Some(ForeignHost(host)) = inner.downcast_ref() {
            return FetchError::ForeignRedirect(host.clone());
        }
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    FetchError::Network(text)
}

/// Seconds or an HTTP date (RFC 9110, section 10.2.3).
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::now()).ok()
}

/// Until when the answer stays fresh (RFC 9111, section 4.2), when it says so.
fn fresh_until(headers: &HeaderMap, now: Timestamp) -> Option<Timestamp> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let directives = text(CACHE_CONTROL).unwrap_or_default().to_ascii_lowercase();
    let mut max_age = None;
    for directive in directives.split(',').map(str::trim) {
        if matches!(directive, "no-cache" | "no-store") {
            return None;
        }
        if let Some(seconds) = directive.strip_prefix("max-age=") {
            max_age = seconds.trim_matches('"').parse::<i64>().ok();
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
