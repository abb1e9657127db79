//! Refuses a registry that is not the one the log was written with: one that lost its schemas and began
//! to count anew, or another installation's. Records name their schemas by its ids, so that none of them
//! could be read, and what would be written beside them could not be told apart from them.

use almanac_event_log::{EventLog, Isolation, LogError, ReadLimit, StoredRecord};
use almanac_schemas::{
    Registry, RegistryError,
    files::{ALL, event_topics},
    schema_id,
};
use std::time::Duration;

/// Of a partition, as many from its end: what others wrote there says nothing.
const TAIL: u64 = 64;
const LIMIT: ReadLimit = ReadLimit { records: TAIL as usize, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
pub(crate) enum LineageError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(
        "{registry} is not the one that topic {topic} was written with: the record at partition \
         {partition}, offset {offset} is a {event} of schema {id}, which it {knows}; bring its content \
         back, or name the right one"
    )]
    Another {
        registry: String,
        topic: String,
        partition: u32,
        offset: u64,
        event: String,
        id: u32,
        knows: String,
    },
}

impl LineageError {
    pub(crate) fn is_outage(&self) -> bool {
        match self {
            // Topics that were made just now: not every broker has heard of them.
            Self::Log(LogError::UnknownTopic { .. } | LogError::UnknownPartition { .. }) => true,
            Self::Log(error) => error.retry() == almanac_event_log::Retry::Later,
            Self::Registry(error) => matches!(error, RegistryError::Unavailable { .. }),
            Self::Another { .. } => false,
        }
    }
}

/// Looks at the newest events of each topic of events; `name` is the registry's in errors.
pub(crate) async fn check(
    log: &dyn EventLog,
    registry: &dyn Registry,
    name: &str,
    prefix: &str,
) -> Result<(), LineageError> {
    for topic in event_topics() {
        let topic = format!("{prefix}{topic}");
        for partition in 0..log.topic(&topic).await?.partitions {
            let mut differing = None;
            let mut agrees = false;
            for record in tail(log, &topic, partition).await?.iter().rev() {
                match compare(registry, name, record).await? {
                    Some(Ok(())) => {
                        agrees = true;
                        break;
                    }
                    Some(Err(another)) => differing = differing.or(Some(another)),
                    None => {}
                }
            }
            if agrees {
                break;
            }
            differing.map_or(Ok(()), Err)?;
        }
    }
    Ok(())
}

async fn tail(
    log: &dyn EventLog,
    topic: &str,
    partition: u32,
) -> Result<Vec<StoredRecord>, LineageError> {
    let end = log.end(topic, partition, Isolation::Committed).await?;
    let from = end.saturating_sub(TAIL).max(log.start(topic, partition).await?);
    let mut records = Vec::new();
    if from < end {
        let mut reader = log.read_to(topic, partition, from, end).await?;
        loop {
            let batch = reader.next(LIMIT, WAIT).await?;
            // Not to know is no reason to go on.
            if batch.records.is_empty() && batch.at_end.is_empty() {
                let what = format!("reading the newest records of {topic}/{partition}");
                return Err(LogError::TimedOut { what, after_ms: WAIT.as_millis() }.into());
            }
            records.extend(batch.records);
            if !batch.at_end.is_empty() {
                break;
            }
        }
    }
    Ok(records)
}

/// Whether the registry knows the record's schema as what the record says to be; `None` for what is no
/// event of ours.
async fn compare(
    registry: &dyn Registry,
    name: &str,
    record: &StoredRecord,
) -> Result<Option<Result<(), LineageError>>, RegistryError> {
    let event = record.record.headers.get_str("ce_type").unwrap_or_default();
    let known = ALL.iter().find(|file| file.event_type() == event);
    let id = record.record.value.as_deref().and_then(schema_id);
    let (Some(known), Some(id)) = (known, id) else { return Ok(None) };
    let knows = match registry.fetch(id).await {
        Ok(schema) => match schema.record() {
            Some(found) if found == known.record => return Ok(Some(Ok(()))),
            Some(found) => format!("knows as {found}"),
            None => "does not know as a record".to_owned(),
        },
        Err(RegistryError::UnknownId { .. }) => "does not know".to_owned(),
        Err(error) => return Err(error),
    };
    Ok(Some(Err(LineageError::Another {
        registry: name.to_owned(),
        topic: record.topic.to_string(),
        partition: record.partition,
        offset: record.offset,
        event: event.to_owned(),
        id,
        knows,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{
        Append, Durability, Headers, HeadersBuilder, Record, Retention, TopicSpec,
        embedded::{EmbeddedLog, EmbeddedOptions},
    };
    use almanac_schemas::{BuiltInRegistry, RegisteredSchema, files::SchemaFile, plans, recipes};
    use async_trait::async_trait;

    /// Counts from another number than the one that the log was written with.
    struct Shifted(u32);

    #[async_trait]
    impl Registry for Shifted {
        async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
            panic!("{} is registered before the log is known to fit", file.record)
        }

        async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
            BuiltInRegistry.fetch(id + self.0).await
        }
    }

    async fn log(folder: &tempfile::TempDir) -> EmbeddedLog {
        let log = EmbeddedLog::open(EmbeddedOptions::new(folder.path())).unwrap();
        let spec = |name: &str| TopicSpec {
            name: name.to_owned(),
            partitions: 3,
            retention: Retention::Forever,
            durability: Durability::Buffered,
        };
        let specs: Vec<_> =
            event_topics().iter().map(|topic| spec(&format!("x.{topic}"))).collect();
        log.ensure_topics(&specs).await.unwrap();
        log
    }

    async fn append(log: &EmbeddedLog, topic: &str, headers: Headers, value: &[u8]) {
        let value = Some(value.to_vec().into());
        let record = Record { key: "k".into(), value, headers, timestamp_ms: 0 };
        log.append(vec![Append { topic: topic.into(), partition: 1, record }]).await.unwrap();
    }

    /// An event that names this schema; nobody reads what follows.
    async fn event(log: &EmbeddedLog, topic: &str, record: &str) {
        let file = SchemaFile::newest(record).unwrap();
        let mut headers = HeadersBuilder::with_capacity(64);
        headers.push("ce_type", file.event_type().as_bytes());
        let mut value = vec![0];
        value.extend(file.built_in_id().unwrap().to_be_bytes());
        append(log, topic, headers.build(), &value).await;
    }

    async fn check(log: &EmbeddedLog, shift: u32) -> Result<(), LineageError> {
        super::check(log, &Shifted(shift), "the registry", "x.").await
    }

    #[tokio::test]
    async fn a_registry_that_counts_anew_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(&folder).await;
        check(&log, 1).await.unwrap();
        event(&log, "x.recipes.events", recipes::CREATED).await;
        check(&log, 0).await.unwrap();
        // Whatever follows that is no event of ours is passed over.
        append(&log, "x.recipes.events", Headers::default(), b"nonsense").await;
        event(&log, "x.plans.events", plans::LISTED).await;
        check(&log, 0).await.unwrap();

        let told = check(&log, 1).await.unwrap_err();
        assert!(!told.is_outage());
        let told = told.to_string();
        for part in [
            "the registry is not the one that topic x.plans.events was written with",
            "partition 1, offset 0 is a plan.listed of schema 1",
            "knows as almanac.plans.PlanChanged",
        ] {
            assert!(told.contains(part), "{told}");
        }
        let told = check(&log, 1_000).await.unwrap_err().to_string();
        assert!(told.contains("of schema 1, which it does not know;"), "{told}");
    }

    #[tokio::test]
    async fn one_event_that_lies_about_itself_stops_no_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = log(&folder).await;
        event(&log, "x.plans.events", plans::LISTED).await;
        let mut headers = HeadersBuilder::with_capacity(64);
        headers.push("ce_type", b"plan.listed");
        append(&log, "x.plans.events", headers.build(), &[0, 0, 0, 0, 99]).await;
        check(&log, 0).await.unwrap();
    }
}
