//! Where the notifications stand in the log that were to be sent: what each API instance knows of them,
//! so that one can be sent again however it ended.

use almanac_errors::Cause;
use almanac_event_log::{
    Append, EventLog, Headers, LogError, Offset, Record, StoredRecord, read_range,
};
use almanac_processor::{
    Change, Changes, Follow, Followed, GatherLimits, GatheredState, RoleError, StateError,
    StateFolder, traced,
};
use almanac_schemas::{
    Codec, CodecError,
    notifications::{DUE, DeliveryDueRecord},
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc, time::Duration};
use uuid::Uuid;

/// For the log to tell what it holds of a partition, and to hand out a record.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks at whether deliveries are followed.
const STARTING_PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Deliveries {
    log: Arc<dyn EventLog>,
    codec: Arc<Codec>,
    followed: Followed,
    fold: Arc<DeliveryFold>,
}

struct DeliveryFold {
    codec: Arc<Codec>,
    /// Of each partition, the first offset that the log held when it began to be followed.
    starts: Mutex<Vec<Offset>>,
    /// By partition, deliveries that the log holds no more: forgotten with the next record.
    expired: Mutex<HashMap<u32, Vec<Vec<u8>>>>,
}

/// Why a delivery is not found.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Missing {
    /// There is none, or it was forgotten.
    #[error("no delivery with this id is known")]
    Unknown,
    /// The log has dropped it.
    #[error("what was to be delivered is not kept any more")]
    Gone,
    #[error(transparent)]
    Outage(Cause),
}

impl From<LogError> for Missing {
    fn from(error: LogError) -> Self {
        match error {
            LogError::OffsetOutOfRange { .. } => Self::Gone,
            error => Self::Outage(error.into()),
        }
    }
}

impl From<StateError> for Missing {
    fn from(error: StateError) -> Self {
        Self::Outage(error.into())
    }
}

impl From<CodecError> for Missing {
    fn from(error: CodecError) -> Self {
        match error.is_outage() {
            true => Self::Outage(error.into()),
            false => Self::Gone,
        }
    }
}

impl Deliveries {
    pub(crate) fn new(
        log: Arc<dyn EventLog>,
        codec: Arc<Codec>,
        topic: Arc<str>,
        partitions: u32,
    ) -> Self {
        let (starts, expired) = Default::default();
        let fold = DeliveryFold { codec: codec.clone(), starts, expired };
        let followed = Followed::new(log.clone(), topic, partitions);
        Self { log, codec, followed, fold: Arc::new(fold) }
    }

    /// Follows the deliveries until an error.
    pub(crate) async fn follow(
        &self,
        folder: &StateFolder,
        flush: GatherLimits,
    ) -> Result<(), RoleError> {
        let mut starts = Vec::new();
        for partition in 0..self.followed.partitions() {
            starts.push(self.log.start(self.followed.topic(), partition).await?);
        }
        *self.fold.starts.lock() = starts;
        self.followed.follow(folder, flush, &self.fold).await
    }

    /// What was to be sent to a subscription.
    pub(crate) async fn find(
        &self,
        subscription: Uuid,
        delivery: Uuid,
    ) -> Result<DeliveryDueRecord, Missing> {
        let found = tokio::time::timeout(PATIENCE, self.look_up(subscription, delivery)).await;
        let silent =
            || Missing::Outage(format!("{} does not answer", self.followed.topic()).into());
        found.map_err(|_| silent())?
    }

    async fn look_up(
        &self,
        subscription: Uuid,
        delivery: Uuid,
    ) -> Result<DeliveryDueRecord, Missing> {
        let subscription = subscription.to_string();
        let partition = self.followed.partition_of(subscription.as_bytes());
        while !self.followed.is_followed() {
            tokio::time::sleep(STARTING_PAUSE).await;
        }
        self.followed.complete(partition).await?;
        let found = self.followed.get(partition, key(delivery)).await?;
        let silent = || Missing::Outage("deliveries are not followed any more".into());
        let offset = found.ok_or_else(silent)?.ok_or(Missing::Unknown)?;
        let offset = offset.try_into().map(Offset::from_be_bytes).map_err(|_| Missing::Unknown)?;
        let topic = self.followed.topic();
        if offset < self.log.start(topic, partition).await? {
            return Err(Missing::Gone);
        }
        let records = read_range(&*self.log, topic, partition, offset, offset).await?;
        let value = records.into_iter().next().and_then(|stored| stored.record.value);
        let decoded = self.codec.decode(value.as_deref().ok_or(Missing::Gone)?).await?;
        let due: DeliveryDueRecord = decoded.read()?;
        (due.subscription_id == subscription).then_some(due).ok_or(Missing::Unknown)
    }

    /// Has something sent.
    pub(crate) async fn add(&self, due: &DeliveryDueRecord) -> Result<(), AddError> {
        let value = self.codec.encode(DUE, due)?;
        let key = Bytes::copy_from_slice(due.subscription_id.as_bytes());
        let partition = self.followed.partition_of(&key);
        let (headers, timestamp_ms) = (Headers::default(), due.due_at);
        let record = Record { key, value: Some(value), headers, timestamp_ms };
        let topic = self.followed.topic().clone();
        let append = Append { topic, partition, record };
        traced::append(&*self.log, append, almanac_traces::current()).await?;
        Ok(())
    }
}

/// Why something is not sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AddError {
    #[error(transparent)]
    Codec(#[from] CodecError),
    #[error(transparent)]
    Log(#[from] LogError),
}

fn key(delivery: Uuid) -> Vec<u8> {
    delivery.as_bytes().to_vec()
}

#[async_trait]
impl Follow for DeliveryFold {
    type Note = ();

    fn resumed(&self, states: &[GatheredState]) -> Result<(), RoleError> {
        let starts = self.starts.lock().clone();
        let mut expired = HashMap::new();
        for (partition, (state, start)) in (0..).zip(states.iter().zip(starts)) {
            let mut keys = Vec::new();
            for entry in state.on_disk().scan(b"") {
                let (key, offset) = entry?;
                let offset = <[u8; 8]>::try_from(&*offset).map(Offset::from_be_bytes);
                if offset.unwrap_or_default() < start {
                    keys.push(key.to_vec());
                }
            }
            expired.insert(partition, keys);
        }
        *self.expired.lock() = expired;
        Ok(())
    }

    async fn fold(
        &self,
        stored: &StoredRecord,
        changes: &mut Changes,
    ) -> Result<Option<()>, RoleError> {
        let expired = self.expired.lock().remove(&stored.partition).unwrap_or_default();
        changes.extend(expired.into_iter().map(|key| -> Change { (key, None) }));
        let Some(value) = &stored.record.value else { return Ok(None) };
        let decoded = match self.codec.decode(value).await {
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            decoded => decoded,
        };
        let decoded = decoded.ok().filter(|decoded| decoded.record() == DUE);
        let due = decoded.and_then(|decoded| decoded.read::<DeliveryDueRecord>().ok());
        if let Some(delivery) = due.and_then(|due| Uuid::try_parse(&due.delivery_id).ok()) {
            changes.push((key(delivery), Some(stored.offset.to_be_bytes().to_vec())));
        }
        Ok(None)
    }
}
