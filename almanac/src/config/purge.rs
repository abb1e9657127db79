//! Which caches before this process are told what is out of date, and how.

use super::Config;
use almanac_edge::{
    purge::{self, Form, PurgeMetrics, PurgeOptions, Purges},
    surrogates::Surrogates,
};
use almanac_secrets::{Address, Kept};
use anyhow::{Context, bail};
use http::{HeaderName, Method};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PurgeConfig {
    /// Each is told of every change. Without any, nothing is told.
    pub(crate) caches: Vec<Address>,
    pub(crate) method: String,
    pub(crate) form: Form,
    /// For a cache to answer.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    pub(crate) keys_per_request: usize,
    /// How long changes are gathered for a request.
    #[serde(with = "humantime_serde")]
    pub(crate) gather: Duration,
    /// Keys that wait for each cache; of more, those of their collections.
    pub(crate) queue_keys: usize,
    /// After so long a cache is told once more; 0: it is not.
    #[serde(with = "humantime_serde")]
    pub(crate) repeat_after: Duration,
    /// Pauses after requests that failed; each is twice the one before.
    #[serde(with = "humantime_serde")]
    pub(crate) first_pause: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) longest_pause: Duration,
    /// Names of headers, and the files that hold their values.
    pub(crate) header_files: BTreeMap<String, PathBuf>,
}

impl Default for PurgeConfig {
    fn default() -> Self {
        Self {
            caches: Vec::new(),
            method: "PURGE".to_owned(),
            form: Form::Header,
            timeout: Duration::from_secs(5),
            keys_per_request: 64,
            gather: Duration::from_millis(100),
            queue_keys: 10_000,
            repeat_after: Duration::from_secs(2),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            header_files: BTreeMap::new(),
        }
    }
}

/// Of the header of a request: Varnish takes no line that is longer than 8 kB.
const MAX_HEADER: usize = 7_500;

impl PurgeConfig {
    fn method(&self) -> anyhow::Result<Method> {
        Method::from_bytes(self.method.as_bytes()).context("http.purge.method is no method")
    }

    fn options(&self) -> anyhow::Result<PurgeOptions> {
        let header = |(name, file): (&String, &PathBuf)| {
            let name = HeaderName::try_from(name)
                .with_context(|| format!("http.purge.header_files: {name:?} is no header"))?;
            let value = Kept::in_file(file.clone())
                .with_context(|| format!("http.purge.header_files: {}", file.display()))?;
            Ok((name, value))
        };
        Ok(PurgeOptions {
            caches: self.caches.clone(),
            method: self.method()?,
            headers: self.header_files.iter().map(header).collect::<anyhow::Result<_>>()?,
            form: self.form,
            timeout: self.timeout,
            keys_per_request: self.keys_per_request,
            gather: self.gather,
            queue_keys: self.queue_keys,
            repeat_after: self.repeat_after,
            first_pause: self.first_pause,
            longest_pause: self.longest_pause,
        })
    }
}

impl Config {
    /// How answers say what they are about. Installations whose topics share a cluster may share a cache.
    pub(crate) fn surrogates(&self) -> anyhow::Result<Option<Surrogates>> {
        Surrogates::new(&self.http.surrogate_key_header, &self.topic_prefix)
            .context("http.surrogate_key_header is no header")
    }

    pub(super) fn validate_purge(&self) -> anyhow::Result<()> {
        let (purge, surrogates) = (&self.http.purge, self.surrogates()?);
        if [purge.keys_per_request, purge.queue_keys].contains(&0) {
            bail!("http.purge.keys_per_request and queue_keys must not be 0");
        }
        if [purge.timeout, purge.first_pause].contains(&Duration::ZERO)
            || purge.longest_pause < purge.first_pause
        {
            bail!("http.purge.timeout and first_pause must not be 0, nor longest_pause be shorter");
        }
        if purge.caches.is_empty() {
            return Ok(());
        }
        let Some(surrogates) = surrogates else {
            bail!("http.purge.caches needs http.surrogate_key_header: answers must say their keys");
        };
        let longest = purge.keys_per_request * (surrogates.longest() + 1);
        if purge.form == Form::Header && longest > MAX_HEADER {
            bail!(
                "http.purge.keys_per_request: so many keys may have {longest} bytes, and caches take \
                 {MAX_HEADER} in a header"
            );
        }
        purge.method().map(drop)?;
        for cache in &purge.caches {
            purge::url(cache).context("http.purge.caches")?;
        }
        Ok(())
    }

    /// The caches that are told, if there are any.
    pub(crate) fn purges(
        &self,
        metrics: impl FnOnce() -> PurgeMetrics,
    ) -> anyhow::Result<Option<Purges>> {
        let (purge, surrogates) = (&self.http.purge, self.surrogates()?);
        match surrogates.filter(|_| !purge.caches.is_empty()) {
            Some(surrogates) => Ok(Some(Purges::new(purge.options()?, surrogates, metrics())?)),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purges(text: &str) -> anyhow::Result<Option<Purges>> {
        let config: Config = toml::from_str(text)?;
        config.validate()?;
        config.purges(PurgeMetrics::default)
    }

    #[test]
    fn caches_are_told_where_there_are_any() {
        assert!(purges("").unwrap().is_none());
        assert!(purges("http.purge.caches = [\"http://127.0.0.1:8000/\"]").unwrap().is_some());
        let caches = "[http.purge]\ncaches = [\"http://127.0.0.1:8000/\"]\n";
        for (more, part) in [
            ("keys_per_request = 0", "keys_per_request"),
            ("keys_per_request = 5000", "keys_per_request"),
            ("queue_keys = 0", "queue_keys"),
            ("longest_pause = \"1ms\"", "longest_pause"),
            ("method = \"a b\"", "http.purge.method"),
            ("form = \"surrogate\"", "surrogate"),
            ("[http.purge.header_files]\nFastly-Key = \"/nowhere/key\"", "/nowhere/key"),
            ("[http]\nsurrogate_key_header = \"\"", "surrogate_key_header"),
        ] {
            let text = match more.starts_with("[http]") {
                true => format!("{more}\n{caches}"),
                false => format!("{caches}{more}"),
            };
            let error = format!("{:#}", purges(&text).unwrap_err());
            assert!(error.contains(part), "{more}: {error}");
        }
        let tags = format!("{caches}form = \"tags\"\nkeys_per_request = 5000");
        assert!(purges(&tags).unwrap().is_some(), "a body may have more");
    }

    #[test]
    fn what_files_hold_is_not_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2").unwrap();
        let text = format!(
            "[http.purge]\ncaches = [\"https://u:hunter2@cache.example/?k=hunter2\"]\n\
             [http.purge.header_files]\nFastly-Key = {:?}",
            file.path()
        );
        let config: Config = toml::from_str(&text).unwrap();
        let shown = format!(
            "{config:?} {} {:?} {:?}",
            toml::to_string(&config).unwrap(),
            config.http.purge.options().unwrap(),
            config.purges(PurgeMetrics::default).unwrap(),
        );
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("cache.example"), "{shown}");
    }
}
