//! Configuration: defaults, then one TOML file, then the environment. Unknown keys are errors.

use almanac_command_api::{CommandApiOptions, DeciderOptions};
use almanac_edge::identity::IdentityOptions;
use almanac_event_log::kafka::{KafkaOptions, KafkaSecurity};
use almanac_ingestor::config::{IngestOptions, ProviderConfig};
use almanac_read_store::scylla::ScyllaOptions;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    time::Duration,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) engine: Engine,
    pub(crate) data_dir: PathBuf,
    /// Name of this process within its groups; made of host and data_dir when empty.
    pub(crate) instance: String,
    /// Lets several installations share a cluster.
    pub(crate) topic_prefix: String,
    /// Of every topic; it can never change.
    pub(crate) partitions: u32,
    #[serde(with = "humantime_serde")]
    pub(crate) session_timeout: Duration,
    /// Whether `up` makes up a provider when none is configured.
    pub(crate) demo: bool,
    pub(crate) http: HttpConfig,
    pub(crate) identity: IdentityConfig,
    pub(crate) kafka: KafkaConfig,
    pub(crate) schema_registry: RegistryConfig,
    pub(crate) scylla: ScyllaConfig,
    pub(crate) commands: CommandsConfig,
    pub(crate) ingest: IngestOptions,
    pub(crate) providers: Vec<ProviderConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Embedded,
    Cluster,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct HttpConfig {
    pub(crate) listen: String,
    /// Memory for cached partitions of search.
    pub(crate) cache_bytes: usize,
    /// How long a start may wait for that memory to fill before it counts as ready.
    #[serde(with = "humantime_serde")]
    pub(crate) warm_up: Duration,
    /// Memory for recipes and answers to questions about them.
    pub(crate) recipe_cache_bytes: usize,
    /// How long a read waits for its consistency token when the client prefers nothing else.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
    /// Origins whose pages may write, such as "https://console.example".
    pub(crate) origins: Vec<String>,
}

/// Who may do what: bearer tokens that are JWTs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentityConfig {
    /// The identity provider's keys, a JWK set; without it the key that `up` makes is used.
    pub(crate) jwks_file: Option<PathBuf>,
    /// `iss` and `aud` that tokens must have.
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
}

/// The write side.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CommandsConfig {
    /// Requests that wait for their answers; more are told to come back.
    pub(crate) max_waiting: usize,
    /// Larger bodies are refused: an event with the recipe before and after must fit a record.
    pub(crate) max_body_bytes: usize,
    /// How long a write waits for its answer when nothing else is preferred.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
    /// How long outcomes and idempotency keys are remembered.
    #[serde(with = "humantime_serde")]
    pub(crate) outcomes: Duration,
    /// Commands decided and committed together.
    pub(crate) batch_commands: usize,
    pub(crate) batch_bytes: usize,
    /// How long a batch waits for more, when several were decided together before it.
    #[serde(with = "humantime_serde")]
    pub(crate) gather: Duration,
    /// Pictures decoded at the same time.
    pub(crate) pictures: usize,
}

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            engine: Engine::Embedded,
            data_dir: "./data".into(),
            instance: String::new(),
            topic_prefix: String::new(),
            partitions: 8,
            session_timeout: Duration::from_secs(10),
            demo: true,
            http: HttpConfig::default(),
            identity: IdentityConfig::default(),
            kafka: KafkaConfig::default(),
            schema_registry: RegistryConfig::default(),
            scylla: ScyllaConfig::default(),
            commands: CommandsConfig::default(),
            ingest: IngestOptions::default(),
            providers: Vec::new(),
        }
    }
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            cache_bytes: 512 << 20,
            warm_up: Duration::from_secs(1),
            recipe_cache_bytes: 64 << 20,
            wait: Duration::from_secs(2),
            origins: Vec::new(),
        }
    }
}

impl Default for CommandsConfig {
    fn default() -> Self {
        let (api, decider) = (CommandApiOptions::default(), DeciderOptions::default());
        Self {
            max_waiting: 10_000,
            max_body_bytes: api.max_body_bytes,
            wait: api.wait,
            outcomes: decider.outcomes,
            batch_commands: decider.batch_commands,
            batch_bytes: decider.batch_bytes,
            gather: decider.gather,
            pictures: api.pictures,
        }
    }
}

impl CommandsConfig {
    pub(crate) fn api_options(&self) -> CommandApiOptions {
        CommandApiOptions {
            max_body_bytes: self.max_body_bytes,
            wait: self.wait,
            pictures: self.pictures,
        }
    }

    pub(crate) fn decider_options(&self) -> DeciderOptions {
        DeciderOptions {
            batch_commands: self.batch_commands,
            batch_bytes: self.batch_bytes,
            gather: self.gather,
            outcomes: self.outcomes,
        }
    }
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
        }
    }
}

/// An event holds a recipe twice, and text grows by escapes.
const MAX_COMMAND_BYTES: usize = 320 << 10;

impl Config {
    /// Reads the file, if one is named, and the environment (`ALMANAC__HTTP__LISTEN`).
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = config::Config::builder();
        if let Some(file) = file {
            if !file.is_file() {
                bail!("there is no configuration file {}", file.display());
            }
            let source = config::File::from(file).format(config::FileFormat::Toml);
            builder = builder.add_source(source);
        }
        let environment = config::Environment::with_prefix("ALMANAC")
            .prefix_separator("__")
            .separator("__")
            .list_separator(",")
            .with_list_parse_key("scylla.nodes")
            .with_list_parse_key("http.origins")
            .try_parsing(true);
        let config: Self = builder
            .add_source(environment)
            .build()
            .and_then(config::Config::try_deserialize)
            .context("the configuration cannot be read")?;
        config.validate()?;
        Ok(config)
    }

    fn validate(&self) -> anyhow::Result<()> {
        if self.partitions == 0 || self.partitions > 1_000 {
            bail!("partitions must be 1 to 1000, not {}", self.partitions);
        }
        if !self.topic_prefix.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
            bail!("topic_prefix {:?} may hold letters, digits, ., _ and - only", self.topic_prefix);
        }
        let commands = &self.commands;
        if commands.max_body_bytes > MAX_COMMAND_BYTES {
            bail!(
                "commands.max_body_bytes may be at most {MAX_COMMAND_BYTES}: a record holds 1 MB"
            );
        }
        let bounds = [commands.batch_commands, commands.batch_bytes, commands.max_waiting];
        if bounds.contains(&0) || commands.pictures == 0 {
            bail!("commands.batch_commands, batch_bytes, max_waiting and pictures must not be 0");
        }
        if self.engine == Engine::Cluster {
            let needed = [
                ("kafka.bootstrap_servers", self.kafka.bootstrap_servers.is_empty()),
                ("schema_registry.url", self.schema_registry.url.is_empty()),
                ("scylla.nodes", self.scylla.nodes.is_empty()),
            ];
            for (name, missing) in needed {
                if missing {
                    bail!("engine = \"cluster\" needs {name}");
                }
            }
        }
        for provider in &self.providers {
            provider.validate()?;
        }
        Ok(())
    }

    /// Whether only this machine can reach the HTTP address.
    pub(crate) fn is_loopback(&self) -> bool {
        self.http
            .listen
            .to_socket_addrs()
            .is_ok_and(|mut all| all.all(|one| one.ip().is_loopback()))
    }

    /// Where the key stands that `up` makes.
    pub(crate) fn own_key_file(&self) -> PathBuf {
        self.data_dir.join("identity.jwks.json")
    }

    /// Whose tokens are taken. The local user needs none, while nobody else is configured.
    pub(crate) fn identity_options(&self) -> IdentityOptions {
        let identity = &self.identity;
        IdentityOptions {
            files: vec![identity.jwks_file.clone().unwrap_or_else(|| self.own_key_file())],
            is_required: identity.jwks_file.is_some(),
            issuer: identity.issuer.clone(),
            audience: identity.audience.clone(),
            local_user: self.is_loopback() && identity.jwks_file.is_none(),
            origins: self.http.origins.clone(),
        }
    }

    /// The name of this process in its groups: the same after a restart, another for another
    /// data folder.
    pub(crate) fn instance(&self) -> String {
        if !self.instance.is_empty() {
            return self.instance.clone();
        }
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let folder = std::path::absolute(&self.data_dir).unwrap_or_else(|_| self.data_dir.clone());
        let text = format!("{}\0{}", host.trim(), folder.display());
        format!("almanac-{:016x}", xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
    }

    pub(crate) fn kafka_options(&self) -> anyhow::Result<KafkaOptions> {
        let kafka = &self.kafka;
        let sasl_password = secret(&kafka.sasl_password, kafka.sasl_password_file.as_ref())?;
        Ok(KafkaOptions {
            replication_factor: kafka.replication_factor,
            min_insync_replicas: kafka.min_insync_replicas,
            call_timeout: kafka.call_timeout,
            transaction_timeout: kafka.transaction_timeout,
            watchdog: kafka.transaction_timeout + kafka.call_timeout,
            security: KafkaSecurity {
                tls: kafka.tls,
                ca_file: kafka.ca_file.clone(),
                certificate_file: kafka.certificate_file.clone(),
                key_file: kafka.key_file.clone(),
                sasl_mechanism: kafka.sasl_mechanism.clone(),
                sasl_username: kafka.sasl_username.clone(),
                sasl_password,
            },
            properties: kafka.properties.clone(),
            client_id: self.instance(),
            ..KafkaOptions::new(kafka.bootstrap_servers.clone())
        })
    }

    pub(crate) fn scylla_options(&self) -> anyhow::Result<ScyllaOptions> {
        let scylla = &self.scylla;
        Ok(ScyllaOptions {
            replication: scylla.replication.clone(),
            datacenter: scylla.datacenter.clone(),
            username: scylla.username.clone(),
            password: secret(&scylla.password, scylla.password_file.as_ref())?,
            tls: scylla.tls,
            ca_file: scylla.ca_file.clone(),
            certificate_file: scylla.certificate_file.clone(),
            key_file: scylla.key_file.clone(),
            request_timeout: scylla.request_timeout,
            ..ScyllaOptions::new(scylla.nodes.clone(), scylla.keyspace.clone())
        })
    }

    /// Username and password for the registry.
    pub(crate) fn registry_credentials(&self) -> anyhow::Result<Option<(String, String)>> {
        let registry = &self.schema_registry;
        let password = secret(&registry.password, registry.password_file.as_ref())?;
        Ok(registry.username.clone().zip(password))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> anyhow::Result<Config> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        Config::load(Some(file.path()))
    }

    #[test]
    fn the_example_is_the_defaults() {
        let example = load(include_str!("../../almanac.example.toml")).unwrap();
        let text = |config: &Config| toml::to_string(config).unwrap();
        assert_eq!(text(&example), text(&Config::default()));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, part) in [
            ("enginee = \"embedded\"", "enginee"),
            ("engine = \"sqlite\"", "sqlite"),
            ("engine = \"cluster\"", "kafka.bootstrap_servers"),
            ("partitions = 0", "partitions"),
            ("[commands]\nbatch_commands = 0", "commands.batch_commands"),
            ("[commands]\nmax_body_bytes = 1000000", "commands.max_body_bytes"),
            ("[[providers]]\nname = \"A b\"\nkind = \"fever-plans\"\nurl = \"http://x/\"", "A b"),
            ("[[providers]]\nname = \"a\"\nkind = \"fever-plans\"\nurl = \"ftp://x/\"", "ftp"),
            ("[[providers]]\nname = \"a\"\nkind = \"psychic\"\nurl = \"http://x/\"", "psychic"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn secrets_are_masked() {
        let config = load("[kafka]\nsasl_password = \"hunter2\"").unwrap();
        assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
        assert!(!format!("{config:?}").contains("hunter2"));
        let options = config.kafka_options().unwrap();
        assert_eq!(options.security.sasl_password.as_deref(), Some("hunter2"));
    }
}
