//! Whether the tables are as far as the topics were when this process started. Tables that are folded
//! anew answer with what is there so far, which looks like an answer and is none.

use crate::models::ReadModel;
use almanac_event_log::{EventLog, LogResult, Offset, TopicId};
use almanac_read_store::{ReadStore, StoreResult};
use almanac_tables::{Edition, positions};
use std::{collections::HashMap, sync::Arc};
use tokio::sync::OnceCell;

pub(crate) struct Readiness {
    prefix: String,
    folded: Vec<Folded>,
    ends: OnceCell<Vec<Ends>>,
}

/// A projection and one of the topics that it is folded from.
struct Folded {
    name: &'static str,
    edition: Edition,
    topic: &'static str,
}

struct Ends {
    topic_id: TopicId,
    /// By partition.
    ends: Vec<Offset>,
}

impl Readiness {
    pub(crate) fn new(prefix: &str, models: &[Arc<dyn ReadModel>]) -> Self {
        let folded = models.iter().flat_map(|model| {
            let projection = model.projection();
            let (name, edition) = (projection.name(), projection.edition());
            projection.topics().iter().map(move |topic| Folded { name, edition, topic })
        });
        Self { prefix: prefix.to_owned(), folded: folded.collect(), ends: OnceCell::new() }
    }

    /// Notes where the topics end; the first time counts.
    pub(crate) async fn note_ends(&self, log: &dyn EventLog) -> LogResult<()> {
        let noting = async || {
            let mut noted = Vec::with_capacity(self.folded.len());
            for Folded { topic, .. } in &self.folded {
                let topic = &format!("{}{topic}", self.prefix);
                let (topic_id, ends) = positions::ends(log, topic).await?;
                noted.push(Ends { topic_id, ends });
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
        for (folded, noted) in self.folded.iter().zip(ends) {
            let saved = positions::read(store, folded.name, folded.edition).await?;
            let reached: HashMap<u32, Offset> = saved
                .into_iter()
                .filter(|((topic, _), position)| {
                    topic == folded.topic && position.topic_id == noted.topic_id
                })
                .map(|((_, partition), position)| (partition, position.next_offset))
                .collect();
            for (partition, end) in (0..).zip(&noted.ends) {
                let position = reached.get(&partition).copied().unwrap_or_default();
                if position < *end {
                    return Ok(Some(format!(
                        "projection {} is folded to {position} of {}{}/{partition}, which ended at {end} \
                         at the start",
                        folded.name, self.prefix, folded.topic
                    )));
                }
            }
        }
        Ok(None)
    }
}
