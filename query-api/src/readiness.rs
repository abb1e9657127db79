//! Whether the tables are as far as the topics were when this process started. Tables that are folded
//! anew answer with what is there so far, which looks like an answer and is none.

use almanac_event_log::{EventLog, Isolation, LogResult, Offset, TopicId};
use almanac_projector::{Projection, positions};
use almanac_read_store::{ReadStore, StoreResult};
use std::collections::HashMap;
use tokio::sync::OnceCell;

pub(crate) struct Readiness {
    projections: Vec<Folded>,
    ends: OnceCell<Vec<Ends>>,
}

/// A projection and the topic that it is folded from.
struct Folded {
    name: &'static str,
    version: u32,
    topic: String,
}

struct Ends {
    topic_id: TopicId,
    /// By partition.
    ends: Vec<Offset>,
}

impl Readiness {
    pub(crate) fn new(prefix: &str, projections: &[&dyn Projection]) -> Self {
        let folded = |projection: &&dyn Projection| Folded {
            name: projection.name(),
            version: projection.version(),
            topic: format!("{prefix}{}", projection.topic()),
        };
        let projections = projections.iter().map(folded).collect();
        Self { projections, ends: OnceCell::new() }
    }

    /// Notes where the topics end; the first time counts.
    pub(crate) async fn note_ends(&self, log: &dyn EventLog) -> LogResult<()> {
        let noting = async || {
            let mut noted = Vec::with_capacity(self.projections.len());
            for Folded { topic, .. } in &self.projections {
                let described = log.topic(topic).await?;
                let mut ends = Vec::with_capacity(described.partitions as usize);
                for partition in 0..described.partitions {
                    let start = log.start(topic, partition).await?;
                    let end = log.end(topic, partition, Isolation::Committed).await?;
                    // Nobody folds what is not there, and so nobody saves that he did.
                    ends.push(if end == start { 0 } else { end });
                }
                noted.push(Ends { topic_id: described.id, ends });
            }
            Ok(noted)
        };
        self.ends.get_or_try_init(noting).await.map(drop)
    }

    /// What is missing, in words; nothing once every position has reached its end.
    pub(crate) async fn missing(&self, store: &dyn ReadStore) -> StoreResult<Option<String>> {
        let Some(ends) = self.ends.get() else {
            return Ok(Some("the ends of the topics are not known".to_owned()));
        };
        for (folded, noted) in self.projections.iter().zip(ends) {
            let saved = positions::read(store, folded.name, folded.version).await?;
            let reached: HashMap<u32, Offset> = saved
                .into_iter()
                .filter(|(_, position)| position.topic_id == noted.topic_id)
                .map(|(partition, position)| (partition, position.next_offset))
                .collect();
            for (partition, end) in (0..).zip(&noted.ends) {
                let position = reached.get(&partition).copied().unwrap_or_default();
                if position < *end {
                    return Ok(Some(format!(
                        "projection {} is folded to {position} of {}/{partition}, which ended at {end} \
                         at the start",
                        folded.name, folded.topic
                    )));
                }
            }
        }
        Ok(None)
    }
}
