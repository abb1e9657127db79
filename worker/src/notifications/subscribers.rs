//! The subscriptions that there are, in memory: few and small beside what they are told of.

use almanac_domain::subscriptions::Knowledge;
use almanac_event_log::{EventLog, StoredRecord};
use almanac_processor::{Changes, Follow, Followed, GatheredState, RoleError};
use almanac_schemas::{Codec, subscriptions::SubscriptionEventRecord};
use async_trait::async_trait;
use futures::future::try_join_all;
use parking_lot::RwLock;
use std::{collections::HashMap, sync::Arc};
use uuid::Uuid;

pub(super) struct Subscribers {
    pub(super) followed: Followed,
    pub(super) fold: Arc<SubscriberFold>,
}

/// Folds their events.
pub(super) struct SubscriberFold {
    codec: Arc<Codec>,
    known: RwLock<HashMap<Uuid, Arc<Knowledge>>>,
}

impl Subscribers {
    pub(super) fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topic: Arc<str>,
        partitions: u32,
    ) -> Self {
        let fold = Arc::new(SubscriberFold { codec, known: RwLock::default() });
        Self { followed: Followed::new(log, topic, partitions), fold }
    }

    pub(super) fn get(&self, id: Uuid) -> Option<Arc<Knowledge>> {
        self.fold.known.read().get(&id).cloned()
    }

    /// All that are active.
    pub(super) fn active(&self) -> Vec<(Uuid, Arc<Knowledge>)> {
        let known = self.fold.known.read();
        let active = known.iter().filter(|(_, known)| known.is_active());
        active.map(|(id, known)| (*id, known.clone())).collect()
    }

    /// Waits until every subscription is known that was acknowledged before this was called.
    pub(super) async fn complete(&self) -> Result<(), RoleError> {
        let partitions = 0..self.followed.partitions();
        try_join_all(partitions.map(|partition| self.followed.complete(partition))).await?;
        Ok(())
    }
}

impl SubscriberFold {
    async fn read(&self, value: &[u8]) -> Result<Option<Knowledge>, RoleError> {
        match self.codec.decode(value).await {
            Ok(decoded) => {
                let event = decoded.read::<SubscriptionEventRecord>().ok();
                Ok(event.and_then(|event| event.knowledge(decoded.record())))
            }
            Err(error) if error.is_outage() => Err(RoleError::other(error)),
            Err(_) => Ok(None),
        }
    }
}

#[async_trait]
impl Follow for SubscriberFold {
    type Note = (Uuid, Arc<Knowledge>);

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        self.known.write().clear();
        let handle = tokio::runtime::Handle::current();
        for state in states {
            for entry in state.on_disk().scan(b"") {
                let (key, value) = entry?;
                let Ok(id) = Uuid::from_slice(&key) else { continue };
                if let Some(known) = handle.block_on(self.read(&value))? {
                    self.known.write().insert(id, Arc::new(known));
                }
            }
        }
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<Self::Note>, RoleError> {
        let (Ok(id), Some(value)) =
            (Uuid::try_parse_ascii(&stored.record.key), &stored.record.value)
        else {
            return Ok(None);
        };
        let Some(known) = self.read(value).await? else {
            tracing::warn!(
                topic = %stored.topic, partition = stored.partition, offset = stored.offset,
                "passing over an event of a subscription that cannot be read"
            );
            return Ok(None);
        };
        changes.push((id.as_bytes().to_vec(), Some(value.to_vec())));
        Ok(Some((id, Arc::new(known))))
    }

    fn taken(&self, notes: Vec<Self::Note>) {
        if !notes.is_empty() {
            self.known.write().extend(notes);
        }
    }
}
