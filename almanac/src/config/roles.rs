//! What the roles may be told.

use almanac_command_api::{CommandApiOptions, DeciderOptions};
use almanac_edge::{BodyOptions, ServeOptions};
use almanac_processor::{GatherLimits, RestartLimits};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

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
    /// Memory for pictures that were made smaller.
    pub(crate) picture_cache_bytes: usize,
    /// How long a read waits for its consistency token when the client prefers nothing else.
    #[serde(with = "humantime_serde")]
    pub(crate) wait: Duration,
    /// Origins whose pages may write, such as "https://console.example".
    pub(crate) origins: Vec<String>,
    /// Connections open at once; more wait.
    pub(crate) max_connections: usize,
    /// For the head of a request, and for the next one on an open connection.
    #[serde(with = "humantime_serde")]
    pub(crate) head_timeout: Duration,
    /// For the whole body of a request.
    #[serde(with = "humantime_serde")]
    pub(crate) body_timeout: Duration,
    /// For a client to take some of its answer.
    #[serde(with = "humantime_serde")]
    pub(crate) write_timeout: Duration,
    /// Memory for the bodies of all requests that are being answered.
    pub(crate) body_bytes: usize,
    /// What of it is for bodies of at most `commands.max_body_bytes`, so that large ones keep nobody
    /// from writing.
    pub(crate) body_reserve_bytes: usize,
    /// What of the rest one caller's bodies may take.
    pub(crate) body_bytes_per_caller: usize,
    /// Bytes of a body that arrive in a second, over five; slower ones are given up.
    pub(crate) body_least_rate: usize,
    /// Memory for answers that are on their way, beside a little for each connection.
    pub(crate) answer_bytes: usize,
    /// Lists and pages of events that are put together at once; others wait for their turn.
    pub(crate) lists: usize,
    /// Streams of events that are open at once.
    pub(crate) event_streams: usize,
    /// After so long a stream of events ends, and its client goes on with another.
    #[serde(with = "humantime_serde")]
    pub(crate) event_stream_time: Duration,
    /// Large answers that are sent in gzip at once; others go out uncompressed.
    pub(crate) gzip_answers: usize,
    /// Answers that are sent in brotli at once; others are offered gzip.
    pub(crate) brotli_answers: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        let (serve, bodies) = (ServeOptions::default(), BodyOptions::default());
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            cache_bytes: 512 << 20,
            warm_up: Duration::from_secs(1),
            recipe_cache_bytes: 64 << 20,
            picture_cache_bytes: 32 << 20,
            wait: Duration::from_secs(2),
            origins: Vec::new(),
            max_connections: serve.max_connections,
            head_timeout: serve.head_timeout,
            body_timeout: bodies.timeout,
            write_timeout: serve.write_timeout,
            body_bytes: bodies.bytes,
            body_reserve_bytes: bodies.reserve,
            body_bytes_per_caller: bodies.per_caller,
            body_least_rate: bodies.least_rate,
            answer_bytes: 64 << 20,
            lists: 32,
            event_streams: 64,
            event_stream_time: Duration::from_secs(900),
            gzip_answers: 16,
            brotli_answers: 8,
        }
    }
}

impl HttpConfig {
    pub(crate) fn serve_options(&self) -> ServeOptions {
        ServeOptions {
            max_connections: self.max_connections,
            head_timeout: self.head_timeout,
            write_timeout: self.write_timeout,
        }
    }

    /// `small` is what a recipe's body may have.
    fn body_options(&self, small: usize) -> BodyOptions {
        BodyOptions {
            bytes: self.body_bytes,
            reserve: self.body_reserve_bytes,
            small,
            per_caller: self.body_bytes_per_caller,
            timeout: self.body_timeout,
            least_rate: self.body_least_rate,
            ..BodyOptions::default()
        }
    }
}

/// Who may do what: bearer tokens that are JWTs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentityConfig {
    /// The identity provider's keys, a JWK set; without it a key of our own is used.
    pub(crate) jwks_file: Option<PathBuf>,
    /// Where that key is, made on the first start; in `data_dir` when absent. Processes that are to take
    /// the same tokens share it.
    pub(crate) own_key_file: Option<PathBuf>,
    /// `iss` and `aud` that tokens must have.
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    /// Who acts as the local user without a token.
    pub(crate) local_user: LocalUser,
}

/// Whether anybody is believed without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LocalUser {
    /// Programs of this machine, while Almanac listens on a loopback address and no `jwks_file`
    /// says who else there is.
    #[default]
    Loopback,
    Nobody,
}

const LOOPBACK: &str = "loopback";

impl Serialize for LocalUser {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Loopback => serializer.serialize_str(LOOPBACK),
            Self::Nobody => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for LocalUser {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = LocalUser;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "false or \"{LOOPBACK}\"")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<LocalUser, E> {
                match value {
                    false => Ok(LocalUser::Nobody),
                    true => Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self)),
                }
            }

            // In the environment everything is text.
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<LocalUser, E> {
                match value {
                    LOOPBACK => Ok(LocalUser::Loopback),
                    "false" => Ok(LocalUser::Nobody),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
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
    /// Local state goes to disk after so many changes, bytes, or so long, whichever comes first.
    pub(crate) flush_changes: usize,
    pub(crate) flush_bytes: usize,
    #[serde(with = "humantime_serde")]
    pub(crate) flush_interval: Duration,
    /// Pictures decoded at the same time, and so many that wait for their turn; more are told to come
    /// back.
    pub(crate) pictures: usize,
    pub(crate) waiting_pictures: usize,
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
            flush_changes: decider.flush.changes,
            flush_bytes: decider.flush.bytes,
            flush_interval: decider.flush.age,
            pictures: api.pictures,
            waiting_pictures: api.waiting_pictures,
        }
    }
}

impl CommandsConfig {
    pub(crate) fn api_options(&self, http: &HttpConfig) -> CommandApiOptions {
        CommandApiOptions {
            max_body_bytes: self.max_body_bytes,
            wait: self.wait,
            pictures: self.pictures,
            waiting_pictures: self.waiting_pictures,
            bodies: http.body_options(self.max_body_bytes),
        }
    }

    pub(crate) fn decider_options(&self) -> DeciderOptions {
        DeciderOptions {
            batch_commands: self.batch_commands,
            batch_bytes: self.batch_bytes,
            gather: self.gather,
            outcomes: self.outcomes,
            flush: self.flush(),
        }
    }

    pub(crate) fn flush(&self) -> GatherLimits {
        GatherLimits {
            changes: self.flush_changes,
            bytes: self.flush_bytes,
            age: self.flush_interval,
        }
    }
}

/// When a task that fails is started over no more.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SupervisionConfig {
    /// So many panics of one task within this time are survived; the next ends the process.
    pub(crate) panics: usize,
    #[serde(with = "humantime_serde")]
    pub(crate) within: Duration,
}

impl Default for SupervisionConfig {
    fn default() -> Self {
        let RestartLimits { panics, within, .. } = RestartLimits::default();
        Self { panics, within }
    }
}

impl SupervisionConfig {
    pub(crate) fn limits(&self) -> RestartLimits {
        let Self { panics, within } = *self;
        RestartLimits { panics, within, ..RestartLimits::default() }
    }
}
