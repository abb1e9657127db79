//! Configuration: defaults, then one TOML file, then the environment. Unknown keys are errors.

mod console;
mod environment;
mod identity;
mod limits;
mod notifications;
mod properties;
mod purge;
mod roles;
mod servers;
mod telemetry;

use almanac_command_api::MAX_UPLOAD;
use almanac_ingestor::config::{IngestOptions, ProviderConfig};
use almanac_projector::ProjectorOptions;
use almanac_query_api::MAX_PAGE_BYTES;
use almanac_worker::WorkerOptions;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    net::ToSocketAddrs,
    path::{Path, PathBuf},
    time::Duration,
};

pub(crate) use console::ConsoleConfig;
pub(crate) use identity::IdentityConfig;
pub(crate) use limits::LimitsConfig;
pub(crate) use notifications::NotificationsConfig;
pub(crate) use purge::PurgeConfig;
pub(crate) use roles::{CommandsConfig, HttpConfig, SupervisionConfig};
pub(crate) use servers::{KafkaConfig, RegistryConfig, ScyllaConfig};
pub(crate) use telemetry::{OtlpConfig, TelemetryConfig};

/// Who asks for a profile waits with an open connection.
const LONGEST_PROFILE: Duration = Duration::from_secs(600);

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
    /// Whether nobody acts before an export was imported. Of no effect afterwards.
    pub(crate) await_import: bool,
    pub(crate) http: HttpConfig,
    pub(crate) console: ConsoleConfig,
    pub(crate) identity: IdentityConfig,
    pub(crate) limits: LimitsConfig,
    pub(crate) kafka: KafkaConfig,
    pub(crate) schema_registry: RegistryConfig,
    pub(crate) scylla: ScyllaConfig,
    pub(crate) commands: CommandsConfig,
    pub(crate) projector: ProjectorOptions,
    pub(crate) worker: WorkerOptions,
    pub(crate) notifications: NotificationsConfig,
    pub(crate) supervision: SupervisionConfig,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) ingest: IngestOptions,
    pub(crate) providers: Vec<ProviderConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Engine {
    Embedded,
    Cluster,
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
            await_import: false,
            http: HttpConfig::default(),
            console: ConsoleConfig::default(),
            identity: IdentityConfig::default(),
            limits: LimitsConfig::default(),
            kafka: KafkaConfig::default(),
            schema_registry: RegistryConfig::default(),
            scylla: ScyllaConfig::default(),
            commands: CommandsConfig::default(),
            projector: ProjectorOptions::default(),
            worker: WorkerOptions::default(),
            notifications: NotificationsConfig::default(),
            supervision: SupervisionConfig::default(),
            telemetry: TelemetryConfig::default(),
            ingest: IngestOptions::default(),
            providers: Vec::new(),
        }
    }
}

/// An event holds a recipe twice, and text grows by escapes.
const MAX_COMMAND_BYTES: usize = 320 << 10;

impl Config {
    /// Reads the file, if one is named, and the environment (`ALMANAC__HTTP__LISTEN`).
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        Self::load_with(file, std::env::vars_os())
    }

    fn load_with(
        file: Option<&Path>,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> anyhow::Result<Self> {
        let variables: Vec<(OsString, OsString)> = variables.into_iter().collect();
        let mut builder = telemetry::defaults_of(config::Config::builder(), |wanted| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.and_then(|(_, value)| value.to_str().map(str::to_owned))
        })?;
        if let Some(file) = file {
            if !file.is_file() {
                bail!("there is no configuration file {}", file.display());
            }
            let source = config::File::from(file).format(config::FileFormat::Toml);
            builder = builder.add_source(source);
        }
        let config: Self = environment::add(builder, variables)
            .and_then(|builder| builder.build())
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
        let projector = &self.projector;
        let batches = [projector.batch_events, projector.load_events];
        if batches.contains(&0) || projector.batch_bytes == 0 || projector.load_bytes == 0 {
            bail!("projector.batch_events, load_events and their bytes must not be 0");
        }
        if projector.schema_attempts == 0 || projector.stopped_retry.is_zero() {
            bail!("projector.schema_attempts and stopped_retry must not be 0");
        }
        let projections = almanac_projector::all()?;
        let is_known = |name: &String| projections.iter().any(|one| one.name() == name);
        if let Some(name) = projector.recovery_of.keys().find(|name| !is_known(name)) {
            bail!("projector.recovery_of names {name:?}, which is no projection");
        }
        if self.scylla.write_concurrency == 0 || self.scylla.write_attempts == 0 {
            bail!("scylla.write_concurrency and write_attempts must not be 0");
        }
        let http = &self.http;
        if http.event_stream_time.is_zero() {
            bail!("http.event_stream_time must not be 0");
        }
        self.console.validate()?;
        if let Some(url) = &http.public_url
            && !(url.starts_with("https://") || url.starts_with("http://"))
        {
            bail!("http.public_url must begin with https:// or http://");
        }
        if http.profile_time.subsec_nanos() != 0 || http.profile_time > LONGEST_PROFILE {
            bail!("http.profile_time must be whole seconds, at most {}", LONGEST_PROFILE.as_secs());
        }
        if http.answer_bytes < MAX_PAGE_BYTES {
            bail!("http.answer_bytes must be {MAX_PAGE_BYTES} at least: a page may have as many");
        }
        if [http.max_connections, http.lists, http.event_streams].contains(&0) {
            bail!("http.max_connections, lists and event_streams must not be 0");
        }
        if [http.head_timeout, http.body_timeout, http.write_timeout].contains(&Duration::ZERO) {
            bail!("http.head_timeout, body_timeout and write_timeout must not be 0");
        }
        if http.body_bytes.saturating_sub(http.body_reserve_bytes) < MAX_UPLOAD {
            bail!(
                "http.body_bytes must be {MAX_UPLOAD} more than body_reserve_bytes at least: \
                 a picture may have as many"
            );
        }
        // Half of it may be one caller's.
        if http.body_reserve_bytes / 2 < commands.max_body_bytes {
            bail!("http.body_reserve_bytes must hold two bodies of commands.max_body_bytes");
        }
        self.identity.validate()?;
        self.limits.validate()?;
        http.trusted_proxies()?;
        self.validate_purge()?;
        servers::validate(&self.kafka, &self.scylla, &self.schema_registry)?;
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
        let worker = &self.worker;
        if worker.concurrency == 0 || worker.attempts == 0 || commands.open_analyses == 0 {
            bail!("worker.concurrency and attempts, and commands.open_analyses must not be 0");
        }
        if worker.ask_again.is_zero() || worker.computation_time.is_zero() {
            bail!("worker.ask_again and computation_time must not be 0");
        }
        self.notifications.validate()?;
        self.telemetry.otlp.validate()?;
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_secrets::{Kept, Secret};

    fn load(text: &str) -> anyhow::Result<Config> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        Config::load_with(Some(file.path()), [])
    }

    fn load_from_environment(variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let os = |(name, value): &(&str, &str)| (OsString::from(name), OsString::from(value));
        Config::load_with(None, variables.iter().map(os))
    }

    fn now(kept: Option<&Kept>) -> Option<Secret> {
        kept.map(Kept::now)
    }

    #[test]
    fn what_the_environment_says_is_taken_as_it_is() {
        for text in ["0123", "1e3", "true", "NaN", " padded ", "a,b", "0x10", "1.0"] {
            let config = load_from_environment(&[
                ("ALMANAC__INSTANCE", text),
                ("ALMANAC__KAFKA__SASL_MECHANISM", "PLAIN"),
                ("ALMANAC__KAFKA__SASL_USERNAME", text),
                ("ALMANAC__KAFKA__SASL_PASSWORD", text),
                ("ALMANAC__SCYLLA__USERNAME", text),
                ("ALMANAC__SCYLLA__PASSWORD", text),
                ("ALMANAC__SCHEMA_REGISTRY__USERNAME", text),
                ("ALMANAC__SCHEMA_REGISTRY__PASSWORD", text),
                ("ALMANAC__DATA_DIR", text),
            ])
            .unwrap();
            assert_eq!(
                (config.instance.as_str(), config.data_dir.as_path()),
                (text, Path::new(text))
            );
            let kafka = config.kafka.options("", "").unwrap().security;
            assert_eq!(kafka.sasl_username.as_deref(), Some(text));
            assert_eq!(now(kafka.sasl_password.as_ref()), Some(text.into()));
            let scylla = config.scylla.options().unwrap();
            assert_eq!(scylla.username.as_deref(), Some(text));
            assert_eq!(now(scylla.password.as_ref()), Some(text.into()));
            let registry = config.schema_registry.options("").unwrap();
            let (username, password) = registry.credentials.unwrap();
            assert_eq!((username.as_str(), password.now().expose()), (text, text));
        }
    }

    #[test]
    fn the_environment_sets_numbers_switches_times_and_lists() {
        let config = load_from_environment(&[
            ("ALMANAC__PARTITIONS", "12"),
            ("ALMANAC__DEMO", "false"),
            ("ALMANAC__SESSION_TIMEOUT", "7s"),
            ("ALMANAC__KAFKA__REPLICATION_FACTOR", "1"),
            ("ALMANAC__KAFKA__TLS", "true"),
            ("ALMANAC__HTTP__CACHE_BYTES", "1048576"),
            ("ALMANAC__HTTP__ORIGINS", "https://a.example, https://b.example"),
            ("ALMANAC__SCYLLA__NODES", "one:9042"),
            ("ALMANAC__SUPERVISION__PANICS", "3"),
            ("almanac__commands__wait", "250ms"),
            ("OTHER__PARTITIONS", "99"),
        ])
        .unwrap();
        assert_eq!((config.partitions, config.demo, config.kafka.tls), (12, false, true));
        assert_eq!(config.session_timeout, Duration::from_secs(7));
        assert_eq!((config.kafka.replication_factor, config.http.cache_bytes), (1, 1 << 20));
        assert_eq!(config.http.origins, ["https://a.example", "https://b.example"]);
        let nodes: Vec<&str> = config.scylla.nodes.iter().map(|node| node.expose()).collect();
        assert_eq!(nodes, ["one:9042"]);
        assert_eq!(config.supervision.panics, 3);
        assert_eq!(config.commands.wait, Duration::from_millis(250));
        for (name, value, part) in [
            ("ALMANAC__PARTITIONS", "1e1", "partitions"),
            ("ALMANAC__DEMO", "perhaps", "demo"),
            ("ALMANAC__NO_SUCH", "1", "no_such"),
        ] {
            let error = format!("{:#}", load_from_environment(&[(name, value)]).unwrap_err());
            assert!(error.contains(part), "{name}={value}: {error}");
        }
    }

    #[test]
    fn variables_of_opentelemetry_are_defaults() {
        let usual = [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/x/"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "1500"),
            ("OTEL_TRACES_SAMPLER", "parentbased_traceidratio"),
            ("OTEL_TRACES_SAMPLER_ARG", "0.25"),
            ("OTEL_SERVICE_NAME", "calendar"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "2000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100"),
            ("OTEL_BSP_SCHEDULE_DELAY", "250"),
        ];
        let with = |more: &[(&'static str, &'static str)]| {
            let all: Vec<_> = usual.iter().chain(more).copied().collect();
            load_from_environment(&all).unwrap().telemetry.otlp
        };
        let otlp = with(&[]);
        let address = |otlp: &OtlpConfig| otlp.address().unwrap().unwrap().to_string();
        assert_eq!(address(&otlp), "http://collector:4318/x/v1/traces");
        assert_eq!((otlp.sample_ratio, otlp.service_name.as_str()), (0.25, "calendar"));
        assert_eq!((otlp.queue_spans, otlp.batch_spans), (2_000, 100));
        assert_eq!(
            (otlp.timeout, otlp.delay),
            (Duration::from_millis(1_500), Duration::from_millis(250))
        );
        let otlp = with(&[
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://other:1/y"),
            ("ALMANAC__TELEMETRY__OTLP__SAMPLE_RATIO", "0.5"),
        ]);
        assert_eq!((address(&otlp).as_str(), otlp.sample_ratio), ("http://other:1/y", 0.5));
        assert!(with(&[("OTEL_SDK_DISABLED", "true")]).endpoint.is_none());
        let never = load_from_environment(&[("OTEL_TRACES_SAMPLER", "always_off")]).unwrap();
        assert_eq!(never.telemetry.otlp.sample_ratio, 0.0);
    }

    #[test]
    fn the_example_is_the_defaults() {
        let example = load(include_str!("../../../almanac.example.toml")).unwrap();
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
            ("[kafka]\nca_file = \"ca.pem\"", "kafka names files for TLS"),
            ("[kafka]\nsasl_username = \"a\"\nsasl_password = \"b\"", "kafka.sasl_mechanism"),
            ("[scylla]\ntls = true", "scylla.tls needs ca_file"),
            ("[scylla]\ntls = true\ncertificate_file = \"a\"", "scylla.certificate_file"),
            ("[scylla]\nusername = \"a\"", "scylla.password"),
            ("[schema_registry]\nurl = \"http://x\"\nca_file = \"a\"", "https"),
            ("[schema_registry]\npassword = \"a\"", "schema_registry.username"),
            ("[projector]\nbatch_events = 0", "projector.batch_events"),
            ("[projector]\nload_events = 0", "load_events"),
            ("[worker]\nconcurrency = 0", "worker.concurrency"),
            ("[worker]\nask_again = \"0s\"", "worker.ask_again"),
            ("[scylla]\npassword = 20211231", "text in quotes, not a number"),
            ("[limits]\nread = { rate = -1 }", "limits.read"),
            ("[limits]\nread = { rate = 0.001, burst = 100000 }", "limits.read"),
            ("[limits]\ninstances = 0", "limits.instances"),
            ("[limits]\nsearch = { rate = 5, bursts = 5 }", "bursts"),
            ("[http]\ntrusted_proxies = [\"10.0.0.0/99\"]", "http.trusted_proxies"),
            ("[identity]\nreads = \"some\"", "some"),
            ("[identity]\nlocal_user = true", "false or \"loopback\""),
            ("[identity]\nlocal_user = \"anybody\"", "false or \"loopback\""),
            ("[http]\nevent_streams = 0", "event_streams"),
            ("[telemetry.otlp]\nendpoint = \"collector\"", "telemetry.otlp.endpoint"),
            ("[telemetry.otlp]\nsample_ratio = 1.5", "telemetry.otlp.sample_ratio"),
            ("[telemetry.otlp]\nqueue_spans = 5", "telemetry.otlp.batch_spans"),
            ("[telemetry.otlp]\ntimeout = \"0s\"", "telemetry.otlp.timeout"),
            ("[http]\nbody_bytes = 1000", "http.body_bytes"),
            ("[http]\nanswer_bytes = 1000", "http.answer_bytes"),
            ("[http]\nevent_stream_time = \"0s\"", "http.event_stream_time"),
            ("[http]\nprofile_time = \"11m\"", "http.profile_time"),
            ("[http]\nwrite_timeout = \"0s\"", "write_timeout"),
            ("[http]\nsurrogate_key_header = \"a b\"", "http.surrogate_key_header"),
            ("[http.purge]\ncaches = [\"varnish\"]", "http.purge.caches"),
            ("[[providers]]\nname = \"A b\"\nkind = \"fever-plans\"\nurl = \"http://x/\"", "A b"),
            (
                "[[providers]]\nname = \"a\"\nkind = \"fever-plans\"\nurl = \"ftp://x/\"",
                "http or https",
            ),
            ("[[providers]]\nname = \"a\"\nkind = \"psychic\"\nurl = \"http://x/\"", "psychic"),
        ] {
            let error = format!("{:#}", load(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("20211231"), "{error}");
        }
    }

    #[test]
    fn the_local_user_is_for_a_loopback_without_an_identity_provider() {
        for (text, expected) in [
            ("", true),
            ("[identity]\nlocal_user = \"loopback\"", true),
            ("[identity]\nlocal_user = false", false),
            ("[identity]\njwks_file = \"a\"", false),
            ("[identity]\njwks_file = \"a\"\nlocal_user = \"loopback\"", false),
            ("[http]\nlisten = \"0.0.0.0:8080\"", false),
            ("[http]\nlisten = \"[::1]:8080\"", true),
        ] {
            let config = load(text).unwrap();
            assert_eq!(config.identity_options().unwrap().local_user, expected, "{text}");
            let printed = toml::to_string(&config).unwrap();
            let again = load(&printed).unwrap();
            assert_eq!(again.has_local_user(), expected, "what is printed can be read: {text}");
        }
    }

    #[test]
    fn secrets_are_masked() {
        // Where none of them is a reason to refuse.
        let config = load(
            r#"
            [kafka]
            bootstrap_servers = "SASL_SSL://u:hunter2@kafka-1:9092,SASL_SSL://u:hunter2@kafka-2:9092"
            sasl_mechanism = "PLAIN"
            sasl_username = "a"
            sasl_password = "hunter2"
            [kafka.properties]
            "ssl.key.password" = "hunter2"
            "sasl.oauthbearer.client.secret" = "hunter2"
            "sasl.oauthbearer.token.endpoint.url" = "https://u:hunter2@id.example/token?k=hunter2"
            "client.rack" = "rack-7"
            "socket.timeout.ms" = 12345
            [schema_registry]
            url = "https://u:hunter2@registry.example/apis?key=hunter2"
            username = "a"
            password = "hunter2"
            [scylla]
            nodes = ["u:hunter2@scylla-1:9042"]
            username = "a"
            password = "hunter2"
            [[providers]]
            name = "a"
            kind = "fever-plans"
            url = "https://u:hunter2@provider.example/plans.xml?apikey=hunter2"
            headers = { Authorization = "Basic hunter2", X-Api-Key = "hunter2" }
            [http.purge]
            caches = ["https://u:hunter2@cache.example/purge?key=hunter2"]
            [telemetry.otlp]
            endpoint = "https://u:hunter2@otel.example/v1/traces?key=hunter2"
            headers = { Authorization = "Bearer hunter2" }
            "#,
        )
        .unwrap();
        let printed = toml::to_string(&config).unwrap();
        for text in [&printed, &format!("{config:?}")] {
            assert!(!text.contains("hunter2"), "{text}");
            for shown in [
                "kafka-2:9092",
                "registry.example/apis",
                "X-Api-Key",
                "https://********@provider.example/plans.xml?********",
            ] {
                assert!(text.contains(shown), "{shown}: {text}");
            }
        }
        assert!(
            printed.contains("rack-7")
                && printed.contains("12345")
                && printed.contains("https://********@id.example/token")
        );
        let kafka = config.kafka.options("", "").unwrap();
        assert_eq!(now(kafka.security.sasl_password.as_ref()), Some("hunter2".into()));
        assert_eq!(kafka.properties["ssl.key.password"].expose(), "hunter2");
        assert!(!format!("{kafka:?}").contains("hunter2"));
        let scylla = config.scylla.options().unwrap();
        assert_eq!(scylla.nodes, ["u:hunter2@scylla-1:9042"]);
        assert!(!almanac_read_store::scylla::shown(&scylla.nodes).contains("hunter2"));
        let registry = config.schema_registry.options("").unwrap();
        assert!(registry.url.expose().starts_with("https://u:hunter2@"));
        assert_eq!(config.providers[0].headers["X-Api-Key"].expose(), "hunter2");
    }
}
