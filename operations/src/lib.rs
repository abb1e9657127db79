//! What operators did to an installation, followed from `operations.events`: which generation of each
//! projection's tables is live, which rebuilds there are, which providers rest, and who did what and why.
//!
//! Roles that fill tables and roles that read them both act on it. Events of operators are few, so that
//! every process reads them from the start and keeps what follows from them in memory.

mod known;
mod send;

pub use known::{Import, Known, Noted};
pub use send::SendError;

use almanac_domain::operations::Pausing;
use almanac_errors::chain;
use almanac_event_log::{EventLog, Isolation, LogError, LogReader, LogResult, Offset, ReadLimit};
use almanac_schemas::{
    Codec, Decoded,
    imports::ImportEvent,
    mending::{self, MendingEventRecord},
    operations::{OperationEventRecord, TOPIC, fact_of},
    pausing::{self, PausingEventRecord},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

const LIMIT: ReadLimit = ReadLimit { records: 1_000, bytes: 4 << 20 };
const WAIT: Duration = Duration::from_secs(1);

pub struct Operations {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    topic: String,
    commands: String,
    partitions: u32,
    known: watch::Sender<Arc<Known>>,
    /// By partition: everything below is taken in.
    next: Vec<watch::Sender<Offset>>,
}

/// An event of operators.
enum News {
    /// With the name of its record.
    Rebuild(String, Box<OperationEventRecord>),
    Mending(String, MendingEventRecord),
    Import(ImportEvent),
    Pausing(Pausing),
}

impl News {
    /// Later versions may tell of more.
    fn of(decoded: &Decoded<'_>) -> Option<Self> {
        if let Ok(Some(event)) = ImportEvent::read(decoded) {
            return Some(Self::Import(event));
        }
        let record = decoded.record();
        if mending::fact_of(record).is_some() {
            return Some(Self::Mending(record.to_owned(), decoded.read().ok()?));
        }
        if pausing::is_of(record) {
            let read = decoded.read::<PausingEventRecord>().ok()?;
            return Some(Self::Pausing(read.knowledge(record)?));
        }
        fact_of(record)?;
        Some(Self::Rebuild(record.to_owned(), Box::new(decoded.read().ok()?)))
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Operations {
    /// Takes in all that was done so far. Needs the topics to be there.
    pub async fn open(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        prefix: &str,
    ) -> LogResult<Arc<Self>> {
        let topic = format!("{prefix}{TOPIC}");
        let partitions = log.topic(&topic).await?.partitions;
        let operations = Self {
            commands: format!("{prefix}{}", almanac_schemas::commands::TOPIC),
            codec,
            partitions,
            known: watch::Sender::new(Arc::default()),
            next: (0..partitions).map(|_| watch::Sender::new(0)).collect(),
            topic,
            log,
        };
        for partition in 0..partitions {
            let start = operations.log.start(&operations.topic, partition).await?;
            let end =
                operations.log.end(&operations.topic, partition, Isolation::Uncommitted).await?;
            let next = operations.next[partition as usize].clone();
            next.send_replace(start);
            if start == end {
                continue;
            }
            let mut reader =
                operations.log.read_to(&operations.topic, partition, start, end).await?;
            while *next.borrow() < end {
                let is_at_end = operations.take(&mut *reader, &[partition]).await?;
                if is_at_end {
                    break;
                }
            }
        }
        Ok(Arc::new(operations))
    }

    /// Follows the topic until an error; started again, it goes on from where it was.
    pub async fn follow(&self) -> LogResult<()> {
        let next = self.next.iter().map(|next| *next.borrow());
        let from: Vec<(u32, Offset)> = (0..).zip(next).collect();
        let places: Vec<u32> = from.iter().map(|(partition, _)| *partition).collect();
        let mut reader = self.log.read(&self.topic, &from).await?;
        loop {
            self.take(&mut *reader, &places).await?;
        }
    }

    /// `places` are the partitions in the order in which the reader was opened with them. Whether an end
    /// was reached.
    async fn take(&self, reader: &mut dyn LogReader, places: &[u32]) -> LogResult<bool> {
        let batch = reader.next(LIMIT, WAIT).await?;
        let mut news = Vec::new();
        for stored in &batch.records {
            let Some(value) = &stored.record.value else { continue };
            let decoded = match self.codec.decode(value).await {
                Ok(decoded) => decoded,
                Err(error) if error.is_outage() => {
                    let what = "schema registry".to_owned();
                    return Err(LogError::Unavailable { what, source: error.into() });
                }
                Err(error) => {
                    tracing::warn!(
                        topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                        error = %chain(&error), "passing over an event that cannot be read"
                    );
                    continue;
                }
            };
            news.extend(News::of(&decoded));
        }
        if !news.is_empty() {
            self.known.send_modify(|known| {
                let known = Arc::make_mut(known);
                for one in &news {
                    match one {
                        News::Rebuild(record, event) => known.take(record, event),
                        News::Mending(record, event) => known.take_mending(record, event),
                        News::Import(event) => known.take_import(event),
                        News::Pausing(event) => known.take_pausing(event.clone()),
                    }
                }
            });
        }
        for stored in &batch.records {
            self.reach(stored.partition, stored.offset + 1);
        }
        if !batch.at_end.is_empty() {
            for (place, partition) in places.iter().enumerate() {
                if let Some(position) = reader.position(place) {
                    self.reach(*partition, position);
                }
            }
        }
        Ok(!batch.at_end.is_empty())
    }

    fn reach(&self, partition: u32, position: Offset) {
        if let Some(next) = self.next.get(partition as usize) {
            next.send_if_modified(|next| {
                let is_further = *next < position;
                *next = position.max(*next);
                is_further
            });
        }
    }

    /// What is known here; it may be a moment old.
    pub fn known(&self) -> Arc<Known> {
        self.known.borrow().clone()
    }

    /// Tells of changes.
    pub fn changes(&self) -> watch::Receiver<Arc<Known>> {
        self.known.subscribe()
    }

    /// What is known once all is taken in that the log holds now; what is known here when that takes
    /// longer than `at_most`.
    pub async fn now(&self, at_most: Duration) -> LogResult<Arc<Known>> {
        let complete = async {
            for (partition, next) in (0..).zip(&self.next) {
                let end = self.log.end(&self.topic, partition, Isolation::Committed).await?;
                // The sender lives as long as this.
                let _ = next.subscribe().wait_for(|next| *next >= end).await;
            }
            LogResult::Ok(())
        };
        if let Ok(ended) = tokio::time::timeout(at_most, complete).await {
            ended?;
        }
        Ok(self.known())
    }
}
