//! The two engines behind their ports. An installation uses one or the other.

use crate::{
    config::{Config, Engine},
    lineage::{self, LineageError},
};
use almanac_errors::chain;
use almanac_event_log::{
    EventLog, LogError, TopicSpec,
    embedded::{EmbeddedLog, EmbeddedOptions},
    kafka::KafkaLog,
};
use almanac_processor::StateFolder;
use almanac_query_api::StateError;
use almanac_read_store::{ReadStore, StoreError, embedded::EmbeddedStore, scylla::ScyllaStore};
use almanac_schemas::{BuiltInRegistry, Codec, ConfluentRegistry, Registry};
use anyhow::Context;
use std::{
    convert::Infallible,
    fmt::Display,
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Everything that a role may need, opened.
#[derive(Clone)]
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) store: Arc<dyn ReadStore>,
    pub(crate) codec: Arc<Codec>,
}

/// Opens the engine and makes the topics. Servers that are not there yet are waited for.
pub(crate) async fn open(
    config: &Config,
    topics: &[TopicSpec],
    waiting: &Waiting,
    background: &tokio::runtime::Handle,
) -> anyhow::Result<Opened> {
    let (log, store): (Arc<dyn EventLog>, Arc<dyn ReadStore>) = match config.engine {
        Engine::Embedded => {
            let folder = config.data_dir.clone();
            let (log, tables) = (folder.join("log"), folder.join("tables"));
            // Opened in the background, so that the store's own threads stay there as well.
            let store = background.spawn_blocking(move || EmbeddedStore::open(&tables, 32 << 20));
            let options = EmbeddedOptions::new(log);
            let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(options));
            let (log, store) = tokio::try_join!(log, store)?;
            (Arc::new(log?), Arc::new(store?))
        }
        Engine::Cluster => {
            let options = config.scylla.options()?;
            let what =
                format!("the read store at {}", almanac_read_store::scylla::shown(&options.nodes));
            let log =
                KafkaLog::connect(config.kafka.options(&config.topic_prefix, &config.instance())?)?;
            let connect = || ScyllaStore::connect(&options);
            let store = wait_for(&what, connect, store_is_outage, waiting).await?;
            (Arc::new(log), Arc::new(store))
        }
    };
    let what = format!("kafka at {}", config.kafka.bootstrap_servers);
    let ensure = || log.ensure_topics(topics);
    wait_for(&what, ensure, log_is_outage, waiting).await?;
    let registry = registry(config)?;
    let name = registry_name(config);
    // Before anything is registered: what is to be brought back needs its ids.
    let check = || lineage::check(&*log, &*registry, &name, &config.topic_prefix);
    wait_for(&format!("{what} and {name}"), check, LineageError::is_outage, waiting).await?;
    let codec = Arc::new(codec(config, registry, waiting).await?);
    Ok(Opened { log, store, codec })
}

async fn codec(
    config: &Config,
    registry: Arc<dyn Registry>,
    waiting: &Waiting,
) -> anyhow::Result<Codec> {
    let what = registry_name(config);
    let make = || Codec::new(registry.clone());
    wait_for(&what, make, almanac_schemas::CodecError::is_outage, waiting).await
}

pub(crate) fn registry(config: &Config) -> anyhow::Result<Arc<dyn Registry>> {
    Ok(match config.engine {
        Engine::Embedded => Arc::new(BuiltInRegistry),
        Engine::Cluster => {
            let options = config.schema_registry.options(&config.topic_prefix)?;
            Arc::new(ConfluentRegistry::new(options)?)
        }
    })
}

fn registry_name(config: &Config) -> String {
    match config.engine {
        Engine::Embedded => "the registry in this version of almanac".to_owned(),
        Engine::Cluster => format!("the schema registry at {}", config.schema_registry.url),
    }
}

/// Local state of a role. The name says which form its entries have: another form starts anew.
pub(crate) async fn state_folder(config: &Config, name: &str) -> anyhow::Result<StateFolder> {
    let folder = config.data_dir.join("state").join(name);
    std::fs::create_dir_all(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let opened = tokio::task::spawn_blocking(move || StateFolder::open(&folder)).await?;
    Ok(opened?)
}

/// Making topics may be repeated whatever became of it.
fn log_is_outage(error: &LogError) -> bool {
    use almanac_event_log::Retry;
    matches!(error.retry(), Retry::Later | Retry::Unknown)
}

fn store_is_outage(error: &StoreError) -> bool {
    error.retry() == almanac_read_store::Retry::Later
}

/// What a start asks of servers once the engine is open. They may still go away, or be slow for as long as
/// others start as well: it is asked again.
#[derive(Clone)]
pub(crate) struct Asking {
    log: String,
    store: String,
    /// A disk that fails does not come back.
    are_servers: bool,
    waiting: Waiting,
}

impl Asking {
    pub(crate) fn new(config: &Config, waiting: &Waiting) -> anyhow::Result<Self> {
        let (log, store) = match config.engine {
            Engine::Embedded => {
                ("the log on this disk".to_owned(), "the tables on this disk".to_owned())
            }
            Engine::Cluster => {
                let nodes = config.scylla.options()?.nodes;
                let nodes = almanac_read_store::scylla::shown(&nodes);
                let kafka = &config.kafka.bootstrap_servers;
                (
                    format!("topics in kafka at {kafka}"),
                    format!("tables in the read store at {nodes}"),
                )
            }
        };
        let are_servers = config.engine == Engine::Cluster;
        Ok(Self { log, store, are_servers, waiting: waiting.clone() })
    }

    pub(crate) async fn log<T, F>(&self, attempt: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, LogError>>,
    {
        let is_outage = |error: &LogError| self.are_servers && log_is_outage(error);
        wait_for(&self.log, attempt, is_outage, &self.waiting).await
    }

    pub(crate) async fn store<T, F>(&self, attempt: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let is_outage = |error: &StoreError| self.are_servers && store_is_outage(error);
        wait_for(&self.store, attempt, is_outage, &self.waiting).await
    }

    /// What needs both.
    pub(crate) async fn state<T, F>(&self, attempt: impl FnMut() -> F) -> anyhow::Result<T>
    where
        F: Future<Output = Result<T, StateError>>,
    {
        let is_outage = |error: &StateError| {
            self.are_servers
                && match error {
                    StateError::Log(error) => log_is_outage(error),
                    StateError::Store(error) => store_is_outage(error),
                }
        };
        let what = format!("{} and {}", self.log, self.store);
        wait_for(&what, attempt, is_outage, &self.waiting).await
    }
}

/// How long all attempts may take before it is said what is waited for, whatever they say.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long a start waits for servers.
#[derive(Clone)]
pub(crate) struct Waiting {
    most: Duration,
    /// Of all waits together; none for as long as it takes.
    until: Option<Instant>,
    shutdown: CancellationToken,
}

impl Waiting {
    /// From now on; zero is for as long as it takes.
    pub(crate) fn new(most: Duration, shutdown: &CancellationToken) -> Self {
        let until = (!most.is_zero()).then(|| Instant::now() + most);
        Self { most, until, shutdown: shutdown.clone() }
    }
}

/// Tries again until it works, saying what is waited for; gives up on what time does not mend, and on outages
/// once the time to wait is over. What goes on by itself, however slowly, is not interrupted.
pub(crate) async fn wait_for<T, E: Display + std::error::Error + Send + Sync + 'static, F>(
    what: &str,
    mut attempt: impl FnMut() -> F,
    is_outage: impl Fn(&E) -> bool,
    waiting: &Waiting,
) -> anyhow::Result<T>
where
    F: Future<Output = Result<T, E>>,
{
    let mut pause = Duration::from_millis(200);
    let said = async {
        tokio::time::sleep(PATIENCE).await;
        tracing::info!("waiting for {what}");
        std::future::pending::<Infallible>().await
    };
    tokio::pin!(said);
    loop {
        let error = tokio::select! {
            () = waiting.shutdown.cancelled() => anyhow::bail!("stopped while waiting for {what}"),
            never = &mut said => match never {},
            result = attempt() => match result {
                Ok(value) => return Ok(value),
                Err(error) if is_outage(&error) => error,
                Err(error) => return Err(error.into()),
            },
        };
        if waiting.until.is_some_and(|until| until <= Instant::now()) {
            let most = waiting.most;
            let told = format!("gave up on {what} after {most:?} (supervision.start_within)");
            return Err(anyhow::Error::new(error).context(told));
        }
        tracing::warn!(error = %chain(&error), "waiting for {what}");
        tokio::select! {
            () = waiting.shutdown.cancelled() => {}
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(Duration::from_secs(5));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    const SHORT: Duration = Duration::from_millis(10);

    fn waiting(most: Duration) -> Waiting {
        Waiting::new(most, &CancellationToken::new())
    }

    #[tokio::test]
    async fn a_start_gives_up_on_a_server_in_time_and_names_it() {
        let refused = async || Err::<(), _>(io::Error::other("connection refused"));
        let error =
            wait_for("kafka at k:9092", refused, |_| true, &waiting(SHORT)).await.unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "gave up on kafka at k:9092 after 10ms (supervision.start_within): connection refused"
        );
    }

    #[tokio::test]
    async fn what_takes_longer_and_works_is_not_given_up() {
        let slow = async || {
            tokio::time::sleep(SHORT * 2).await;
            Ok::<_, io::Error>("read")
        };
        assert_eq!(wait_for("kafka", slow, |_| true, &waiting(SHORT)).await.unwrap(), "read");
    }

    #[tokio::test]
    async fn a_start_without_a_bound_waits_until_the_server_answers() {
        let mut attempts = 0;
        let late = || {
            attempts += 1;
            let answer = if attempts < 3 { Err(io::Error::other("away")) } else { Ok(attempts) };
            std::future::ready(answer)
        };
        assert_eq!(wait_for("kafka", late, |_| true, &waiting(Duration::ZERO)).await.unwrap(), 3);
    }
}
