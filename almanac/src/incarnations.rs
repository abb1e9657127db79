//! Watches that the topics of a running process stay those it started with.
//!
//! Tokens, positions and caches name a topic by its id. A topic that is deleted and made again has
//! another one, and what this process keeps of it means nothing from then on: the process ends and says
//! so, since only a new start opens everything again.

use almanac_errors::chain;
use almanac_event_log::{EventLog, LogError, TopicId, TopicSpec};
use almanac_processor::Ending;
use std::{sync::Arc, time::Duration};

/// A topic is not made again in less time than a tenth of this; asking costs a request per topic.
const PERIOD: Duration = Duration::from_secs(10);

pub(crate) struct Incarnations {
    log: Arc<dyn EventLog>,
    topics: Vec<(String, TopicId)>,
}

impl Incarnations {
    /// Notes the ids of topics that are there.
    pub(crate) async fn note(
        log: &Arc<dyn EventLog>,
        specs: &[TopicSpec],
    ) -> Result<Self, LogError> {
        let mut topics = Vec::with_capacity(specs.len());
        for spec in specs {
            topics.push((spec.name.clone(), log.topic(&spec.name).await?.id));
        }
        Ok(Self { log: log.clone(), topics })
    }

    /// Ends once a topic is another one. An outage, or a topic that is away for now, is others' to tell.
    pub(crate) async fn watch(&self) -> Result<(), Ending> {
        loop {
            tokio::time::sleep(PERIOD).await;
            for (topic, was) in &self.topics {
                match self.log.topic(topic).await {
                    Ok(found) if found.id != *was => {
                        let (topic, was, is) = (topic.clone(), *was, found.id);
                        let replaced = LogError::TopicReplaced { topic, was, is };
                        return Err(Ending::is_final(&replaced));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = %chain(&error), topic, "the id of a topic is unknown")
                    }
                }
            }
        }
    }
}
