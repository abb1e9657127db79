//! Where spans go. What OpenTelemetry's own variables set counts where neither the file nor a variable of
//! ours says otherwise.

use almanac_secrets::{Address, Secret};
use anyhow::bail;
use config::{ConfigBuilder, ConfigError, builder::DefaultState};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, time::Duration};
use url::Url;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TelemetryConfig {
    pub(crate) otlp: OtlpConfig,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OtlpConfig {
    /// Of a collector that takes OTLP over HTTP. Without a path, `/v1/traces` is asked. Without an endpoint
    /// nothing is traced.
    pub(crate) endpoint: Option<Address>,
    /// What is sent along, such as credentials.
    pub(crate) headers: BTreeMap<String, Secret>,
    /// Of requests, the share that is traced.
    pub(crate) sample_ratio: f64,
    /// Whether clients say which of their requests are traced.
    pub(crate) trust_parents: bool,
    pub(crate) service_name: String,
    /// For one delivery to the collector, further attempts included; and for the last at the end.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    /// Spans that wait for their delivery; of more, the newest are dropped and counted.
    pub(crate) queue_spans: usize,
    /// Delivered at once.
    pub(crate) batch_spans: usize,
    /// How long spans wait for others.
    #[serde(with = "humantime_serde")]
    pub(crate) delay: Duration,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            sample_ratio: 1.0,
            trust_parents: false,
            service_name: "almanac".to_owned(),
            timeout: Duration::from_secs(5),
            queue_spans: 4_096,
            batch_spans: 512,
            delay: Duration::from_secs(2),
        }
    }
}

const PATH: &str = "/v1/traces";

impl OtlpConfig {
    /// Where spans are sent to, if anywhere.
    pub(crate) fn address(&self) -> anyhow::Result<Option<Url>> {
        let Some(endpoint) = self.endpoint.as_ref().filter(|endpoint| !endpoint.is_empty()) else {
            return Ok(None);
        };
        let Ok(mut url) = endpoint.web() else {
            bail!("telemetry.otlp.endpoint {endpoint} is no http or https URL");
        };
        if url.path() == "/" {
            url.set_path(PATH);
        }
        Ok(Some(url))
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        self.address()?;
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            bail!("telemetry.otlp.sample_ratio must be 0 to 1, not {}", self.sample_ratio);
        }
        if self.batch_spans == 0 || self.queue_spans < self.batch_spans {
            bail!("telemetry.otlp.batch_spans must not be 0, nor more than queue_spans");
        }
        if self.timeout.is_zero() || self.delay.is_zero() {
            bail!("telemetry.otlp.timeout and delay must not be 0");
        }
        Ok(())
    }
}

/// What these variables of OpenTelemetry's mean here, as defaults. Others, such as
/// `OTEL_EXPORTER_OTLP_HEADERS` and `OTEL_RESOURCE_ATTRIBUTES`, the library reads itself.
pub(super) fn defaults_of(
    mut builder: ConfigBuilder<DefaultState>,
    get: impl Fn(&str) -> Option<String>,
) -> Result<ConfigBuilder<DefaultState>, ConfigError> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
        || get("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none")
    {
        return Ok(builder);
    }
    let of_all = |name: &str| get(&format!("OTEL_EXPORTER_OTLP_{name}"));
    let of_traces = |name: &str| of_all(&format!("TRACES_{name}"));
    let base = of_all("ENDPOINT").map(|base| format!("{}{PATH}", base.trim_end_matches('/')));
    let milliseconds = |value: String| format!("{value}ms");
    let sampler = get("OTEL_TRACES_SAMPLER").unwrap_or_default();
    let ratio = match sampler.strip_prefix("parentbased_").unwrap_or(&sampler) {
        "always_off" => Some("0".to_owned()),
        "traceidratio" => get("OTEL_TRACES_SAMPLER_ARG"),
        _ => None,
    };
    for (key, value) in [
        ("endpoint", of_traces("ENDPOINT").or(base)),
        ("timeout", of_traces("TIMEOUT").or_else(|| of_all("TIMEOUT")).map(milliseconds)),
        ("sample_ratio", ratio),
        ("service_name", get("OTEL_SERVICE_NAME")),
        ("queue_spans", get("OTEL_BSP_MAX_QUEUE_SIZE")),
        ("batch_spans", get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE")),
        ("delay", get("OTEL_BSP_SCHEDULE_DELAY").map(milliseconds)),
    ] {
        if let Some(value) = value {
            builder = builder.set_default(format!("telemetry.otlp.{key}"), value)?;
        }
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn otlp(endpoint: &str) -> OtlpConfig {
        OtlpConfig { endpoint: Some(endpoint.into()), ..OtlpConfig::default() }
    }

    #[test]
    fn an_endpoint_without_a_path_is_asked_for_traces() {
        for (endpoint, expected) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            ("http://collector:4318/", "http://collector:4318/v1/traces"),
            ("https://u:p@otel.example/x/otlp", "https://u:p@otel.example/x/otlp"),
        ] {
            assert_eq!(otlp(endpoint).address().unwrap().unwrap().as_str(), expected);
        }
        assert!(otlp("").address().unwrap().is_none());
        for wrong in ["collector:4318", "grpc://collector:4317", "http://"] {
            let error = otlp(wrong).address().unwrap_err().to_string();
            assert!(error.contains("telemetry.otlp.endpoint"), "{wrong}: {error}");
        }
    }
}
