//! The servers of the cluster engine: where they are, and how to be let in.

use almanac_event_log::kafka::{KafkaOptions, KafkaSecurity};
use almanac_read_store::scylla::ScyllaOptions;
use anyhow::Context;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Text that is masked wherever the configuration is shown.
#[derive(Clone, Default, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "********" })
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

/// A secret from the configuration, or from the file that it names instead.
fn secret(inline: &Secret, file: Option<&PathBuf>) -> anyhow::Result<Option<String>> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("cannot read the secret in {}", file.display()))?;
        return Ok(Some(text.trim().to_owned()));
    }
    Ok(Some(inline.0.clone()).filter(|text| !text.is_empty()))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KafkaConfig {
    pub(crate) bootstrap_servers: String,
    pub(crate) replication_factor: i32,
    pub(crate) min_insync_replicas: i32,
    #[serde(with = "humantime_serde")]
    pub(crate) call_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) transaction_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) gather: Duration,
    pub(crate) gather_from: u32,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<String>,
    pub(crate) certificate_file: Option<String>,
    pub(crate) key_file: Option<String>,
    pub(crate) sasl_mechanism: Option<String>,
    pub(crate) sasl_username: Option<String>,
    pub(crate) sasl_password: Secret,
    pub(crate) sasl_password_file: Option<PathBuf>,
    /// librdkafka properties for what is not named here; they win.
    pub(crate) properties: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistryConfig {
    pub(crate) url: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
    pub(crate) password_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScyllaConfig {
    pub(crate) nodes: Vec<String>,
    pub(crate) keyspace: String,
    pub(crate) replication: String,
    pub(crate) datacenter: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<String>,
    pub(crate) certificate_file: Option<String>,
    pub(crate) key_file: Option<String>,
    #[serde(with = "humantime_serde")]
    pub(crate) request_timeout: Duration,
    pub(crate) write_concurrency: usize,
    pub(crate) write_attempts: usize,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        let options = KafkaOptions::new("");
        Self {
            bootstrap_servers: String::new(),
            replication_factor: 3,
            min_insync_replicas: 2,
            call_timeout: options.call_timeout,
            transaction_timeout: options.transaction_timeout,
            gather: options.gather,
            gather_from: options.gather_from,
            tls: false,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: Secret::default(),
            sasl_password_file: None,
            properties: BTreeMap::new(),
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            username: None,
            password: Secret::default(),
            password_file: None,
            timeout: Duration::from_secs(5),
        }
    }
}

impl Default for ScyllaConfig {
    fn default() -> Self {
        let options = ScyllaOptions::new(Vec::new(), "almanac");
        Self {
            nodes: Vec::new(),
            keyspace: options.keyspace,
            replication: "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}".to_owned(),
            datacenter: None,
            username: None,
            password: Secret::default(),
            password_file: None,
            tls: false,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            request_timeout: options.request_timeout,
            write_concurrency: options.write_concurrency,
            write_attempts: options.write_attempts,
        }
    }
}

impl KafkaConfig {
    /// As a client of this name.
    pub(crate) fn options(&self, client_id: String) -> anyhow::Result<KafkaOptions> {
        let sasl_password = secret(&self.sasl_password, self.sasl_password_file.as_ref())?;
        Ok(KafkaOptions {
            replication_factor: self.replication_factor,
            min_insync_replicas: self.min_insync_replicas,
            call_timeout: self.call_timeout,
            transaction_timeout: self.transaction_timeout,
            gather: self.gather,
            gather_from: self.gather_from,
            watchdog: self.transaction_timeout + self.call_timeout,
            security: KafkaSecurity {
                tls: self.tls,
                ca_file: self.ca_file.clone(),
                certificate_file: self.certificate_file.clone(),
                key_file: self.key_file.clone(),
                sasl_mechanism: self.sasl_mechanism.clone(),
                sasl_username: self.sasl_username.clone(),
                sasl_password,
            },
            properties: self.properties.clone(),
            client_id,
            ..KafkaOptions::new(self.bootstrap_servers.clone())
        })
    }
}

impl ScyllaConfig {
    pub(crate) fn options(&self) -> anyhow::Result<ScyllaOptions> {
        Ok(ScyllaOptions {
            replication: self.replication.clone(),
            datacenter: self.datacenter.clone(),
            username: self.username.clone(),
            password: secret(&self.password, self.password_file.as_ref())?,
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            certificate_file: self.certificate_file.clone(),
            key_file: self.key_file.clone(),
            request_timeout: self.request_timeout,
            write_concurrency: self.write_concurrency,
            write_attempts: self.write_attempts,
            ..ScyllaOptions::new(self.nodes.clone(), self.keyspace.clone())
        })
    }
}

impl RegistryConfig {
    /// Username and password.
    pub(crate) fn credentials(&self) -> anyhow::Result<Option<(String, String)>> {
        let password = secret(&self.password, self.password_file.as_ref())?;
        Ok(self.username.clone().zip(password))
    }
}
