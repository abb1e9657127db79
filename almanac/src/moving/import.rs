//! Records that come into an installation which held none.
//!
//! They are appended in the order in which they stood, by nobody else, so that the end of a partition says
//! how many are there: an import that broke off goes on behind them, and a stranger's record shows.

use super::{Line, MovedTopic, Moving, bodies, surface::log_problem};
use almanac_edge::{Problem, ProblemType, identity::LOCAL};
use almanac_errors::chain;
use almanac_event_log::{
    Append, Headers, Isolation, LogError, Offset, ReadLimit, Record, partitioner::partition_of,
};
use almanac_operations::{Import, Known};
use almanac_processor::Envelope;
use almanac_schemas::{
    RegistryError,
    files::SchemaFile,
    imports::{BaseRecord, ID, ImportCompletedRecord, ImportEvent, ImportStartedRecord},
    operations::TOPIC,
};
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// How long an answer waits until the process has seen what it tells of.
const SHOWN: Duration = Duration::from_secs(5);
const FIRST: ReadLimit = ReadLimit { records: 1, bytes: 1 };
const WAIT: Duration = Duration::from_secs(5);
const MAX_REASON: usize = 1_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// SHA-256 of the manifest: the same one goes on, another is refused.
    pub(crate) manifest: String,
    /// Version and engine of the installation that was exported.
    pub(crate) source: String,
    /// How many partitions each topic has there.
    pub(crate) topics: BTreeMap<String, u32>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Whole {
    #[serde(default)]
    pub(crate) reason: Option<String>,
    /// Records of each partition, by topic.
    pub(crate) records: BTreeMap<String, Vec<u64>>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) id: Option<String>,
    /// `none`, `under_way` or `completed`.
    pub(crate) state: String,
    pub(crate) topics: Vec<Coming>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Coming {
    pub(crate) topic: String,
    /// Of the topic, here.
    pub(crate) id: String,
    pub(crate) partitions: Vec<Came>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Came {
    /// Offset of the first record that comes.
    pub(crate) base: Offset,
    /// What came so far.
    pub(crate) records: u64,
}

fn conflict(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Conflict, detail)
}

fn invalid(detail: impl Into<String>) -> Problem {
    Problem::new(ProblemType::Invalid, detail)
}

const START_OVER: &str = "start over with an empty installation";

fn reason_of(reason: Option<String>, actor: &str) -> Result<String, Problem> {
    let reason = reason.unwrap_or_default().trim().to_owned();
    if reason.is_empty() && actor != LOCAL {
        return Err(invalid("reason: it must say why"));
    }
    if reason.len() > MAX_REASON {
        return Err(invalid("reason: it must have at most 1000 bytes"));
    }
    Ok(reason)
}

impl Moving {
    async fn known(&self) -> Result<Arc<Known>, Problem> {
        self.operations.now(SHOWN).await.map_err(|error| log_problem(&error))
    }

    /// Begins an import, or goes on with it.
    pub(super) async fn begin(&self, asked: Asked, actor: &str) -> Result<State, Problem> {
        let _turn = self.importing.lock().await;
        let reason = reason_of(asked.reason, actor)?;
        let known = self.known().await?;
        if let Some(import) = known.import() {
            if import.completed.is_some() {
                return Err(conflict("an export came into this installation already"));
            }
            if import.manifest != asked.manifest {
                let detail = format!(
                    "another export is coming into this installation: go on with that, or {START_OVER}"
                );
                return Err(conflict(detail));
            }
            return self.state_of(Some(import)).await;
        }
        let described = self.outline().await.map_err(|error| log_problem(&error))?;
        for MovedTopic { topic, ends, .. } in &described.topics {
            let wanted = asked.topics.get(topic).copied().unwrap_or_default();
            if wanted != ends.len() as u32 {
                let here = ends.len();
                let detail = format!(
                    "topic {topic} has {here} partitions here and {wanted} in the export, which must be of all \
                     topics: begin with an empty installation of `partitions = {wanted}`"
                );
                return Err(conflict(detail));
            }
        }
        let mut bases = Vec::new();
        for MovedTopic { topic, ends, .. } in &described.topics {
            for partition in 0..ends.len() as u32 {
                let base = self.empty(topic, partition).await?;
                let own = topic == TOPIC
                    && partition == partition_of(ID.to_string().as_bytes(), ends.len() as u32);
                let base = base + u64::from(own);
                if base > 0 {
                    let (topic, offset) = (topic.clone(), base as i64);
                    bases.push(BaseRecord { topic, partition: partition as i32, offset });
                }
            }
        }
        let event = ImportStartedRecord {
            id: ID.to_string(),
            version: 1,
            occurred_at: Timestamp::now().as_millisecond(),
            actor: actor.to_owned(),
            reason,
            import_id: uuid::Uuid::now_v7().to_string(),
            manifest: asked.manifest,
            source: asked.source,
            bases,
        };
        let id = event.import_id.clone();
        tracing::info!(
            import = id,
            source = event.source,
            "an import begins; nobody acts until it is complete"
        );
        self.tell(&ImportEvent::Started(event), 1).await?;
        let known = self.known().await?;
        // Another process may have begun one at the same time: the first in the log is the one.
        match known.import() {
            Some(import) if import.id == id => self.state_of(Some(import)).await,
            Some(_) => {
                Err(conflict(format!("another import began at the same time: {START_OVER}")))
            }
            None => Err(Problem::busy("the import began and is not seen yet; ask again")),
        }
    }

    pub(super) async fn state(&self) -> Result<State, Problem> {
        self.state_of(self.known().await?.import()).await
    }

    async fn state_of(&self, import: Option<&Import>) -> Result<State, Problem> {
        let state = match import {
            None => "none",
            Some(Import { completed: None, .. }) => "under_way",
            Some(_) => "completed",
        };
        let mut topics = Vec::new();
        for topic in super::topics() {
            let name = self.full(topic);
            let described = self.log.topic(&name).await.map_err(|error| log_problem(&error))?;
            let mut partitions = Vec::new();
            for partition in 0..described.partitions {
                partitions.push(self.came(import, topic, partition).await?);
            }
            let id = described.id.to_string();
            topics.push(Coming { topic: topic.to_owned(), id, partitions });
        }
        let id = import.map(|import| import.id.clone());
        Ok(State { id, state: state.to_owned(), topics })
    }

    async fn came(
        &self,
        import: Option<&Import>,
        topic: &str,
        partition: u32,
    ) -> Result<Came, Problem> {
        let end = self.log.end(&self.full(topic), partition, Isolation::Uncommitted).await;
        let end = end.map_err(|error| log_problem(&error))?;
        let is_it = |base: &&BaseRecord| base.topic == topic && base.partition as u32 == partition;
        let base = import.and_then(|import| import.bases.iter().find(is_it));
        let base = base.map_or(0, |base| base.offset as u64);
        Ok(Came { base, records: end.saturating_sub(base) })
    }

    /// The end of a partition without records; marks of transactions may stand in it.
    async fn empty(&self, topic: &str, partition: u32) -> Result<Offset, Problem> {
        let name = self.full(topic);
        let look = async || -> Result<(Offset, bool), LogError> {
            let start = self.log.start(&name, partition).await?;
            let end = self.log.end(&name, partition, Isolation::Uncommitted).await?;
            if start == end {
                return Ok((end, true));
            }
            let mut reader = self.log.read_to(&name, partition, start, end).await?;
            let batch = reader.next(FIRST, WAIT).await?;
            Ok((end, batch.records.is_empty() && !batch.at_end.is_empty()))
        };
        match look().await.map_err(|error| log_problem(&error))? {
            (end, true) => Ok(end),
            (_, false) => Err(conflict(format!(
                "{topic}/{partition} holds records: an import needs an installation without events, which \
                 `await_import = true` keeps from acting meanwhile"
            ))),
        }
    }

    /// Takes the next records of a partition.
    pub(super) async fn take(
        &self,
        id: &str,
        topic: &'static str,
        partition: u32,
        first: u64,
        lines: &[u8],
    ) -> Result<Came, Problem> {
        let _turn = self.importing.lock().await;
        let known = self.known().await?;
        let import = under_way(&known, id)?;
        let came = self.came(Some(import), topic, partition).await?;
        if came.records != first {
            let records = came.records;
            let detail = format!("{topic}/{partition} goes on with record {records}, not {first}");
            return Err(conflict(detail));
        }
        let name: Arc<str> = self.full(topic).into();
        let mut appends = Vec::new();
        let mut before = None;
        let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        for (number, line) in (first..).zip(lines) {
            let (offset, record) = self.record(line).await.map_err(|problem| match problem {
                Fault::Outage(problem) => problem,
                Fault::Wrong(why) => {
                    invalid(format!("{topic}/{partition}, record {number}: {why}"))
                }
            })?;
            if before.is_some_and(|before| before >= offset) {
                let why = format!("offset {offset} does not come behind {}", before.unwrap_or(0));
                return Err(invalid(format!("{topic}/{partition}, record {number}: {why}")));
            }
            before = Some(offset);
            appends.push(Append { topic: name.clone(), partition, record });
        }
        let records = first + appends.len() as u64;
        self.log.append(appends).await.map_err(|error| log_problem(&error))?;
        Ok(Came { records, ..came })
    }

    async fn record(&self, line: &[u8]) -> Result<(Offset, Record), Fault> {
        let line: Line = serde_json::from_slice(line)
            .map_err(|error| Fault::Wrong(format!("it is no record: {error}")))?;
        let Line::Record(moved) = line else {
            return Err(Fault::Wrong("it is no record".to_owned()));
        };
        let value = match (&moved.schema, moved.body()?) {
            (None, None) => None,
            (Some(named), Some(datum)) => {
                let file = SchemaFile::named(&named.record, named.version).ok_or_else(|| {
                    let (record, version) = (&named.record, named.version);
                    format!("this almanac does not know version {version} of {record}")
                })?;
                // What nobody could read later does not come in.
                bodies::read(file, &datum)?;
                let mut value = vec![0];
                value.extend(self.id_of(file).await?.to_be_bytes());
                value.extend(datum);
                Some(Bytes::from(value))
            }
            _ => return Err(Fault::Wrong("a body needs a schema, and a schema a body".to_owned())),
        };
        let (key, headers) = (moved.key()?, moved.headers()?);
        Ok((moved.offset, Record { key, value, headers, timestamp_ms: moved.timestamp }))
    }

    /// The id of a schema at this installation's registry.
    async fn id_of(&self, file: &'static SchemaFile) -> Result<u32, Fault> {
        let key = (file.record, file.version);
        if let Some(id) = self.ids.lock().get(&key) {
            return Ok(*id);
        }
        let id = self.registry.register(file).await.map_err(|error| match error {
            RegistryError::Unavailable { .. } => {
                Fault::Outage(Problem::unavailable("the schema registry", &error))
            }
            error => Fault::Wrong(chain(&error).to_string()),
        })?;
        self.ids.lock().insert(key, id);
        Ok(id)
    }

    /// All records are there: from here on they are acted on.
    pub(super) async fn complete(
        &self,
        id: &str,
        whole: Whole,
        actor: &str,
    ) -> Result<State, Problem> {
        let _turn = self.importing.lock().await;
        let reason = reason_of(whole.reason, actor)?;
        let known = self.known().await?;
        if let Some(import) = known.import().filter(|import| import.id == id)
            && import.completed.is_some()
        {
            return self.state_of(Some(import)).await;
        }
        let import = under_way(&known, id)?;
        let mut all = 0;
        for coming in self.state_of(Some(import)).await?.topics {
            let expected = whole.records.get(&coming.topic).map(Vec::as_slice).unwrap_or_default();
            for (partition, came) in (0..).zip(&coming.partitions) {
                let (wanted, came) = (expected.get(partition).copied().unwrap_or(0), came.records);
                if came < wanted {
                    let left = wanted - came;
                    let detail =
                        format!("{left} records of {}/{partition} are missing", coming.topic);
                    return Err(conflict(detail));
                }
                if came > wanted {
                    return Err(conflict(format!(
                        "{}/{partition} holds {came} records instead of {wanted}: something else wrote there, \
                         or an answer of the log was lost; {START_OVER}",
                        coming.topic
                    )));
                }
                all += came;
            }
        }
        let event = ImportCompletedRecord {
            id: ID.to_string(),
            version: 2,
            occurred_at: Timestamp::now().as_millisecond(),
            actor: actor.to_owned(),
            reason,
            import_id: id.to_owned(),
            records: all as i64,
        };
        self.tell(&ImportEvent::Completed(event), 2).await?;
        tracing::info!(import = id, records = all, "the import is complete");
        self.state_of(self.known().await?.import()).await
    }

    async fn tell(&self, event: &ImportEvent, version: u64) -> Result<(), Problem> {
        let value = event.encode(&self.codec).map_err(|error| Problem::internal(&error))?;
        let topic = self.full(TOPIC);
        let partitions =
            self.log.topic(&topic).await.map_err(|error| log_problem(&error))?.partitions;
        let (key, now) = (ID.to_string(), Timestamp::now());
        let headers: Headers = Envelope {
            id: &uuid::Uuid::now_v7().to_string(),
            source: "/v1/admin/import",
            event_type: event.event_type(),
            subject: &key,
            time: &format!("{now:.3}"),
            sequence: Some(version),
            causation: None,
            correlation: None,
            consistency_token: None,
            parent: None,
        }
        .headers();
        let partition = partition_of(key.as_bytes(), partitions);
        let (key, timestamp_ms) = (Bytes::from(key), now.as_millisecond());
        let record = Record { key, value: Some(value), headers, timestamp_ms };
        let append = Append { topic: topic.as_str().into(), partition, record };
        self.log.append(vec![append]).await.map_err(|error| log_problem(&error))?;
        Ok(())
    }
}

fn under_way<'a>(known: &'a Known, id: &str) -> Result<&'a Import, Problem> {
    match known.import() {
        Some(import) if import.id == id && import.completed.is_none() => Ok(import),
        Some(import) if import.id == id => Err(conflict("the import is complete")),
        _ => Err(Problem::new(ProblemType::NotFound, "there is no import with this id")),
    }
}

enum Fault {
    Wrong(String),
    Outage(Problem),
}

impl From<String> for Fault {
    fn from(why: String) -> Self {
        Self::Wrong(why)
    }
}
