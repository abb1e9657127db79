//! Client settings, each set on purpose: librdkafka's defaults are for bulk throughput.

use super::fenced::ProcessMark;
use almanac_secrets::{Address, Kept, Secret};
use rdkafka::ClientConfig;
use std::{collections::BTreeMap, time::Duration};

/// Kafka's own default for a batch; Almanac keeps single records below 1 MB.
pub(super) const MESSAGE_MAX_BYTES: usize = 1_000_000;

#[derive(Clone, Debug)]
pub struct KafkaOptions {
    pub bootstrap_servers: Address,
    pub client_id: String,
    /// For topics that Almanac creates.
    pub replication_factor: i32,
    /// Below this many in-sync replicas nothing is acknowledged.
    pub min_insync_replicas: i32,
    /// One request to the brokers, answered or given up.
    pub call_timeout: Duration,
    /// A transaction open for longer is ended by the broker. It bounds how long a dead owner can
    /// hold up readers when nobody takes over.
    pub transaction_timeout: Duration,
    /// A transactional call that takes longer is abandoned with its thread and producer.
    pub watchdog: Duration,
    /// How long a take-over waits for transactions that others left open.
    pub stable_timeout: Duration,
    /// Where `gather_from` records or more wait for the batch before theirs to be answered, the
    /// next leaves no sooner than this after it; zero sends it at once.
    pub gather: Duration,
    pub gather_from: u32,
    /// A reader that hears nothing for so long asks where its partitions end by another client, and
    /// is opened anew when it is behind. So often, members and producers ask whether they still find
    /// brokers.
    pub silence: Duration,
    pub security: KafkaSecurity,
    /// librdkafka properties for what is not named here; they win.
    pub properties: BTreeMap<String, Secret>,
}

/// TLS and SASL. The defaults mean plain text without authentication.
#[derive(Clone, Debug, Default)]
pub struct KafkaSecurity {
    pub tls: bool,
    pub ca_file: Option<String>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub sasl_mechanism: Option<String>,
    pub sasl_username: Option<String>,
    pub sasl_password: Option<Kept>,
}

impl KafkaOptions {
    pub fn new(bootstrap_servers: impl Into<Address>) -> Self {
        Self {
            bootstrap_servers: bootstrap_servers.into(),
            client_id: "almanac".to_owned(),
            replication_factor: 1,
            min_insync_replicas: 1,
            call_timeout: Duration::from_secs(10),
            transaction_timeout: Duration::from_secs(15),
            watchdog: Duration::from_secs(25),
            stable_timeout: Duration::from_secs(30),
            gather: Duration::from_millis(5),
            gather_from: 4,
            silence: Duration::from_secs(5),
            security: KafkaSecurity::default(),
            properties: BTreeMap::new(),
        }
    }

    /// librdkafka wants it to be shorter than a transaction may take, and at least this long.
    fn request_timeout(&self) -> Duration {
        let longest = self.transaction_timeout.saturating_sub(Duration::from_secs(1));
        self.call_timeout.min(longest).max(Duration::from_secs(1))
    }

    pub(super) fn common(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", self.bootstrap_servers.expose())
            .set("client.id", &self.client_id)
            // A broker that comes back is found within a second, not ten.
            .set("reconnect.backoff.ms", "50")
            .set("reconnect.backoff.max.ms", "1000")
            .set("socket.nagle.disable", "true")
            .set("log.connection.close", "false")
            // A request that a frozen or lost broker never answers is given up with its connection;
            // the default of a minute is how late a member would join again.
            .set("socket.timeout.ms", self.request_timeout().as_millis().to_string())
            .set("topic.metadata.refresh.interval.ms", "5000")
            .set("allow.auto.create.topics", "false");
        let security = &self.security;
        let protocol = match (security.tls, security.sasl_mechanism.is_some()) {
            (false, false) => "plaintext",
            (true, false) => "ssl",
            (false, true) => "sasl_plaintext",
            (true, true) => "sasl_ssl",
        };
        config.set("security.protocol", protocol);
        let optional = [
            ("ssl.ca.location", &security.ca_file),
            ("ssl.certificate.location", &security.certificate_file),
            ("ssl.key.location", &security.key_file),
            ("sasl.mechanism", &security.sasl_mechanism),
            ("sasl.username", &security.sasl_username),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                config.set(name, value);
            }
        }
        if let Some(password) = &security.sasl_password {
            config.set("sasl.password", password.now().expose());
        }
        config
    }

    /// What is configured by name wins over everything above.
    pub(super) fn overridden(&self, mut config: ClientConfig) -> ClientConfig {
        for (name, value) in &self.properties {
            config.set(name, value.expose());
        }
        config
    }

    /// A batch that is not full waits for `linger`.
    fn producer(&self, linger: Duration) -> ClientConfig {
        let mut config = self.common();
        config
            .set("acks", "all")
            .set("enable.idempotence", "true")
            // Java clients place keys with murmur2; ours name partitions, but a tool that uses
            // this configuration must agree.
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", (MESSAGE_MAX_BYTES + 65_536).to_string())
            .set("linger.ms", (linger.as_secs_f64() * 1_000.0).to_string())
            .set("queue.buffering.max.messages", "200000")
            .set("queue.buffering.max.kbytes", "131072")
            .set("compression.type", "lz4");
        config
    }

    pub(super) fn idempotent_producer(&self, linger: Duration) -> ClientConfig {
        let mut config = self.producer(linger);
        config.set("message.timeout.ms", self.call_timeout.as_millis().to_string());
        self.overridden(config)
    }

    pub(super) fn transactional_producer(&self, transactional_id: &str) -> ClientConfig {
        let mut config = self.producer(Duration::ZERO);
        let timeout = self.transaction_timeout.as_millis().to_string();
        config
            .set("transactional.id", transactional_id)
            .set("transaction.timeout.ms", &timeout)
            .set("message.timeout.ms", &timeout)
            // The request after a commit often meets CONCURRENT_TRANSACTIONS while the broker
            // writes markers; the default of 100 ms would dominate every transaction.
            .set("retry.backoff.ms", "2")
            .set("retry.backoff.max.ms", "5");
        self.overridden(config)
    }

    /// A consumer that reads what it is told to read and commits nothing.
    pub(super) fn reader(&self, isolation: &str) -> ClientConfig {
        let mut config = self.common();
        config
            // librdkafka wants a group even where none is used.
            .set("group.id", format!("{}-reader", self.client_id))
            .set("isolation.level", isolation)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            // A fetch is answered as soon as there is one record; the wait only bounds idling.
            .set("fetch.min.bytes", "1")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "20")
            .set("queued.min.messages", "20000")
            .set("queued.max.messages.kbytes", "32768");
        self.overridden(config)
    }

    /// The same with little fetched ahead: many of these are open at once.
    pub(super) fn browser(&self) -> ClientConfig {
        let mut config = self.reader("read_committed");
        config
            .set("queued.min.messages", "100")
            .set("queued.max.messages.kbytes", "1024")
            .set("fetch.message.max.bytes", "262144")
            .set("fetch.max.bytes", (MESSAGE_MAX_BYTES + 65_536).to_string());
        self.overridden(config)
    }

    /// How often the offsets that a client has reached are told to who reads to an end.
    pub(super) fn with_reached(mut config: ClientConfig) -> ClientConfig {
        config.set("statistics.interval.ms", "200");
        config
    }

    /// `process` is told to brokers, and by them to others of the same instance.
    pub(super) fn member(
        &self,
        group: &str,
        instance: &str,
        session: Duration,
        process: &ProcessMark,
    ) -> ClientConfig {
        let mut config = self.reader("read_committed");
        config
            .set("group.id", group)
            .set("group.instance.id", instance)
            // An eager assignor: a revocation then always takes everything, and one generation
            // belongs to one assignment.
            .set("partition.assignment.strategy", "range")
            .set("session.timeout.ms", session.as_millis().to_string())
            .set("heartbeat.interval.ms", (session.as_millis() / 4).max(500).to_string())
            .set("max.poll.interval.ms", (session.as_millis() * 3).max(60_000).to_string())
            .set("auto.offset.reset", "earliest");
        let mut config = self.overridden(config);
        // Part of what a member joins with, unlike its client id, which brokers take from the member
        // whose place it takes. A member fetches nothing, so where it stands is of no matter.
        config.set("client.rack", process.to_string());
        config
    }
}
