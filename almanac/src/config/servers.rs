//! The servers of the cluster engine: where they are, and how to be let in.

use super::properties::Properties;
use almanac_event_log::kafka::{KafkaOptions, KafkaSecurity};
use almanac_read_store::scylla::ScyllaOptions;
use almanac_schemas::RegistryOptions;
use almanac_secrets::{Address, Kept, Secret};
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// A secret from the configuration, or from the file that it names instead.
fn secret(inline: &Secret, file: Option<&PathBuf>) -> anyhow::Result<Option<Kept>> {
    if let Some(file) = file {
        let kept = Kept::in_file(file.clone())
            .with_context(|| format!("cannot read the secret in {}", file.display()))?;
        return Ok(Some(kept));
    }
    Ok(Some(inline.clone()).filter(|text| !text.is_empty()).map(Kept::from))
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KafkaConfig {
    pub(crate) bootstrap_servers: Address,
    pub(crate) replication_factor: i32,
    pub(crate) min_insync_replicas: i32,
    #[serde(with = "humantime_serde")]
    pub(crate) call_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) transaction_timeout: Duration,
    #[serde(with = "humantime_serde")]
    pub(crate) gather: Duration,
    pub(crate) gather_from: u32,
    #[serde(with = "humantime_serde")]
    pub(crate) silence: Duration,
    pub(crate) tls: bool,
    pub(crate) ca_file: Option<String>,
    pub(crate) certificate_file: Option<String>,
    pub(crate) key_file: Option<String>,
    pub(crate) sasl_mechanism: Option<String>,
    pub(crate) sasl_username: Option<String>,
    pub(crate) sasl_password: Secret,
    pub(crate) sasl_password_file: Option<PathBuf>,
    /// librdkafka properties for what is not named here; they win.
    pub(crate) properties: Properties,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct RegistryConfig {
    pub(crate) url: Address,
    pub(crate) username: Option<String>,
    pub(crate) password: Secret,
    pub(crate) password_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) certificate_file: Option<PathBuf>,
    pub(crate) key_file: Option<PathBuf>,
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ScyllaConfig {
    pub(crate) nodes: Vec<Address>,
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
            bootstrap_servers: Address::default(),
            replication_factor: 3,
            min_insync_replicas: 2,
            call_timeout: options.call_timeout,
            transaction_timeout: options.transaction_timeout,
            gather: options.gather,
            gather_from: options.gather_from,
            silence: options.silence,
            tls: false,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            sasl_mechanism: None,
            sasl_username: None,
            sasl_password: Secret::default(),
            sasl_password_file: None,
            properties: Properties::default(),
        }
    }
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            url: Address::default(),
            username: None,
            password: Secret::default(),
            password_file: None,
            ca_file: None,
            certificate_file: None,
            key_file: None,
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
    /// For the process of this name. What brokers get to see begins with the prefix: topics, groups,
    /// transactional ids and clients.
    pub(crate) fn options(&self, prefix: &str, instance: &str) -> anyhow::Result<KafkaOptions> {
        let sasl_password = secret(&self.sasl_password, self.sasl_password_file.as_ref())?;
        Ok(KafkaOptions {
            replication_factor: self.replication_factor,
            min_insync_replicas: self.min_insync_replicas,
            call_timeout: self.call_timeout,
            transaction_timeout: self.transaction_timeout,
            gather: self.gather,
            gather_from: self.gather_from,
            silence: self.silence,
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
            properties: self.properties.all(),
            client_id: format!("{prefix}almanac-{instance}"),
            ..KafkaOptions::new(self.bootstrap_servers.clone())
        })
    }
}

impl ScyllaConfig {
    pub(crate) fn options(&self) -> anyhow::Result<ScyllaOptions> {
        let nodes = self.nodes.iter().map(|node| node.expose().to_owned());
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
            ..ScyllaOptions::new(nodes.collect(), self.keyspace.clone())
        })
    }
}

impl RegistryConfig {
    pub(crate) fn options(&self, prefix: &str) -> anyhow::Result<RegistryOptions> {
        let password = secret(&self.password, self.password_file.as_ref())?;
        Ok(RegistryOptions {
            url: self.url.clone(),
            prefix: prefix.to_owned(),
            credentials: self.username.clone().zip(password),
            ca_file: self.ca_file.clone(),
            client_certificate: self.certificate_file.clone().zip(self.key_file.clone()),
            timeout: self.timeout,
        })
    }
}

/// What would be passed over in silence: settings that mean something only together.
pub(crate) fn validate(
    kafka: &KafkaConfig,
    scylla: &ScyllaConfig,
    registry: &RegistryConfig,
) -> anyhow::Result<()> {
    let has = |secret: &Secret, file: &Option<PathBuf>| !secret.is_empty() || file.is_some();
    let registry_tls = registry.url.expose().starts_with("https://");
    for (section, tls, ca, certificate, key) in [
        (
            "kafka",
            kafka.tls,
            kafka.ca_file.is_some(),
            kafka.certificate_file.is_some(),
            kafka.key_file.is_some(),
        ),
        (
            "scylla",
            scylla.tls,
            scylla.ca_file.is_some(),
            scylla.certificate_file.is_some(),
            scylla.key_file.is_some(),
        ),
        (
            "schema_registry",
            registry_tls,
            registry.ca_file.is_some(),
            registry.certificate_file.is_some(),
            registry.key_file.is_some(),
        ),
    ] {
        if !tls && (ca || certificate || key) {
            let on = if section == "schema_registry" { "an https url" } else { "tls = true" };
            bail!("{section} names files for TLS, which needs {on}");
        }
        if certificate != key {
            bail!("{section}.certificate_file and key_file go together");
        }
    }
    if scylla.tls && scylla.ca_file.is_none() {
        // The driver does not compare names: any certificate of any public authority would do.
        bail!("scylla.tls needs ca_file, the authority of the nodes' certificates");
    }
    let kafka_password = has(&kafka.sasl_password, &kafka.sasl_password_file);
    if kafka.sasl_mechanism.is_none() && (kafka.sasl_username.is_some() || kafka_password) {
        bail!("kafka.sasl_username and sasl_password need kafka.sasl_mechanism");
    }
    for (section, username, password) in [
        ("kafka.sasl_", kafka.sasl_username.is_some(), kafka_password),
        ("scylla.", scylla.username.is_some(), has(&scylla.password, &scylla.password_file)),
        (
            "schema_registry.",
            registry.username.is_some(),
            has(&registry.password, &registry.password_file),
        ),
    ] {
        if username != password {
            bail!("{section}username and {section}password go together");
        }
    }
    Ok(())
}
