//! Schedules as workers know them: followed, with the newest event of each and the places of all.

use crate::{
    read::{self, Trouble},
    repeats::{Repeating, Repeats},
};
use almanac_domain::{
    schedules::Knowledge,
    weather::{Place, TaskState},
};
use almanac_event_log::{EventLog, Offset, StoredRecord};
use almanac_processor::{Changes, Follow, Followed, GatheredState, RoleError};
use almanac_schemas::{
    Codec,
    schedules::{ScheduleEventRecord, TOPIC},
};
use async_trait::async_trait;
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

/// How long an analysis waits until all writes before it are known here.
const COMPLETE_WITHIN: Duration = Duration::from_secs(15);

/// Where the newest event of a schedule stands.
fn event_key(id: Uuid) -> Vec<u8> {
    [b"e", &id.as_bytes()[..]].concat()
}

/// Where the offset of the event with this number stands.
fn version_key(id: Uuid, version: u64) -> Vec<u8> {
    [b"v", &id.as_bytes()[..], &version.to_be_bytes()].concat()
}

const REPEATING: &[u8] = b"r";

fn repeating_key(id: Uuid) -> Vec<u8> {
    [REPEATING, &id.as_bytes()[..]].concat()
}

pub(crate) struct Schedules {
    pub(crate) followed: Followed,
    pub(crate) fold: Arc<ScheduleFold>,
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
}

pub(crate) struct ScheduleFold {
    codec: Arc<Codec>,
    repeats: Arc<Repeats>,
}

impl Schedules {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topic: Arc<str>,
        partitions: u32,
        repeats: Arc<Repeats>,
    ) -> Self {
        let followed = Followed::new(log.clone(), topic, partitions);
        let fold = Arc::new(ScheduleFold { codec: codec.clone(), repeats });
        Self { followed, fold, log, codec }
    }

    /// The schedule as of every write that was acknowledged before this is called.
    pub(crate) async fn newest(&self, id: Uuid) -> Result<Option<Knowledge>, Trouble> {
        let partition = self.partition_of(id);
        let complete = self.followed.complete(partition);
        match tokio::time::timeout(COMPLETE_WITHIN, complete).await {
            Ok(complete) => complete?,
            Err(_) => {
                let detail = format!("{TOPIC}/{partition} is not followed to its end");
                return Err(Trouble::outage(detail));
            }
        }
        match self.get(partition, event_key(id)).await? {
            Some(value) => Ok(Some(self.knowledge(&value).await?)),
            None => Ok(None),
        }
    }

    /// The schedule after the event with this number.
    pub(crate) async fn at_version(&self, id: Uuid, version: u64) -> Result<Knowledge, Trouble> {
        let partition = self.partition_of(id);
        let offset = self.get(partition, version_key(id, version)).await?;
        let offset = offset.and_then(|bytes| bytes.try_into().ok()).map(u64::from_be_bytes);
        let lost = || Trouble::lost(format!("schedule {id} has no version {version}"));
        let offset: Offset = offset.ok_or_else(lost)?;
        let value = read::value(&*self.log, self.followed.topic(), partition, offset).await?;
        self.knowledge(&value).await
    }

    fn partition_of(&self, id: Uuid) -> u32 {
        self.followed.partition_of(id.to_string().as_bytes())
    }

    async fn get(&self, partition: u32, key: Vec<u8>) -> Result<Option<Vec<u8>>, Trouble> {
        let found = self.followed.get(partition, key).await?;
        found.ok_or_else(|| Trouble::outage(format!("{TOPIC} is not followed")))
    }

    async fn knowledge(&self, value: &[u8]) -> Result<Knowledge, Trouble> {
        read::decoded(&self.codec, value, |decoded| {
            Ok(decoded.read::<ScheduleEventRecord>()?.knowledge(decoded.record()))
        })
        .await
    }
}

/// What of a schedule makes it repeat by itself.
fn repeating(id: Uuid, partition: u32, known: &Knowledge) -> Option<Repeating> {
    let every_s = known.schedule.repeat_every_s.filter(|_| !known.is_deleted)?;
    let is_completed = |state: &TaskState| matches!(state, TaskState::Completed { .. });
    if known.states.iter().all(is_completed) {
        return None;
    }
    Some(Repeating {
        id,
        partition,
        owner: known.owner.clone(),
        every_ms: every_s.saturating_mul(1_000),
        since_ms: known.created_at.as_millisecond(),
        place: Place::of(&known.schedule.location).map(|place| place.to_string()),
    })
}

#[async_trait]
impl Follow for ScheduleFold {
    type Note = (Uuid, Option<Repeating>);

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        let mut found = Vec::new();
        for state in states {
            for entry in state.on_disk().scan(REPEATING) {
                let (_, value) = entry?;
                match serde_json::from_slice::<Repeating>(&value) {
                    Ok(repeating) => found.push(repeating),
                    Err(error) => state.on_disk().doubt(error)?,
                }
            }
        }
        self.repeats.schedules(found);
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<Self::Note>, RoleError> {
        // Keys that are none of ours stand for no schedule.
        let key = std::str::from_utf8(&stored.record.key).ok();
        let Some(id) = key.and_then(|key| Uuid::try_parse(key).ok()) else { return Ok(None) };
        let Some(value) = &stored.record.value else { return Ok(None) };
        changes.push((event_key(id), Some(value.to_vec())));
        let known = match self.codec.decode(value).await {
            Ok(decoded) => {
                let event = decoded.read::<ScheduleEventRecord>().ok();
                event.and_then(|event| event.knowledge(decoded.record()))
            }
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            Err(_) => None,
        };
        // Of what cannot be read nothing is known: its analyses fail with that.
        let Some(known) = known else { return Ok(None) };
        let offset = stored.offset.to_be_bytes().to_vec();
        changes.push((version_key(id, known.version), Some(offset)));
        let repeating = repeating(id, stored.partition, &known);
        let kept = repeating.as_ref().and_then(|one| serde_json::to_vec(one).ok());
        changes.push((repeating_key(id), kept));
        Ok(Some((id, repeating)))
    }

    fn taken(&self, notes: Vec<Self::Note>) {
        for (id, repeating) in notes {
            self.repeats.schedule(id, repeating);
        }
    }
}
