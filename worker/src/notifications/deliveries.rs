//! What a partition of `notifications.deliveries` comes to: the deliveries that are not over, and when
//! each is tried next.

use super::queue::{Pending, Queue};
use almanac_event_log::StoredRecord;
use almanac_processor::{Change, LocalState, RoleError, traced};
use almanac_schemas::{
    Codec,
    notifications::{ATTEMPTED, DUE, DeliveryAttemptedRecord, DeliveryDueRecord},
};
use uuid::Uuid;

/// That a delivery is tried again, and there is a next attempt.
pub(super) const RETRYING: &str = "retrying";
pub(super) const DELIVERED: &str = "delivered";
pub(super) const GIVEN_UP: &str = "given_up";
pub(super) const DROPPED: &str = "dropped";

/// Where the record of a delivery stands while it is not over.
pub(super) fn due_key(delivery: Uuid) -> Vec<u8> {
    [b"d", &delivery.as_bytes()[..]].concat()
}

/// Where its attempts stand: their number, and when the next is due.
fn attempts_key(delivery: Uuid) -> Vec<u8> {
    [b"a", &delivery.as_bytes()[..]].concat()
}

/// Where the headers stand of what it is traced in.
pub(super) fn traced_key(delivery: Uuid) -> Vec<u8> {
    [b"t", &delivery.as_bytes()[..]].concat()
}

/// Where the time stands at which anything arrived last at a subscription.
pub(super) fn arrived_key(subscription: Uuid) -> Vec<u8> {
    [b"s", &subscription.as_bytes()[..]].concat()
}

/// What a record says.
pub(super) enum News {
    Due { delivery: Uuid, pending: Pending },
    Again { delivery: Uuid, pending: Pending },
    Over { delivery: Uuid },
}

impl News {
    pub(super) fn tell(self, queue: &mut Queue) {
        match self {
            Self::Due { delivery, pending } | Self::Again { delivery, pending } => {
                queue.set(delivery, pending);
            }
            Self::Over { delivery } => queue.remove(delivery),
        }
    }
}

/// Adds what follows from a record to the changes of the local state.
pub(super) async fn fold(
    codec: &Codec,
    stored: &StoredRecord,
    changes: &mut Vec<Change>,
) -> Result<Option<News>, RoleError> {
    let Some(value) = &stored.record.value else { return Ok(None) };
    let decoded = match codec.decode(value).await {
        Ok(decoded) => decoded,
        Err(error) if error.is_outage() => return Err(RoleError::other(error)),
        Err(_) => return Ok(pass_over(stored)),
    };
    let parent = traced::parent_of(&stored.record.headers);
    match decoded.record() {
        DUE => {
            let Ok(due) = decoded.read::<DeliveryDueRecord>() else { return Ok(pass_over(stored)) };
            let ids = (Uuid::try_parse(&due.delivery_id), Uuid::try_parse(&due.subscription_id));
            let (Ok(delivery), Ok(subscription)) = ids else { return Ok(pass_over(stored)) };
            changes.push((due_key(delivery), Some(value.to_vec())));
            if let Some(parent) = &parent {
                let headers = traced::headers(Some(parent)).encoded().to_vec();
                changes.push((traced_key(delivery), Some(headers)));
            }
            let pending = Pending { subscription, attempts: 0, due_ms: due.due_at };
            Ok(Some(News::Due { delivery, pending }))
        }
        ATTEMPTED => {
            let Ok(tried) = decoded.read::<DeliveryAttemptedRecord>() else {
                return Ok(pass_over(stored));
            };
            let ids =
                (Uuid::try_parse(&tried.delivery_id), Uuid::try_parse(&tried.subscription_id));
            let (Ok(delivery), Ok(subscription)) = ids else { return Ok(pass_over(stored)) };
            if tried.outcome == DELIVERED {
                let at = tried.attempted_at.to_be_bytes().to_vec();
                changes.push((arrived_key(subscription), Some(at)));
            }
            let Some(due_ms) = tried.next_attempt_at else {
                changes.extend([(due_key(delivery), None), (attempts_key(delivery), None)]);
                // Records of attempts carry it as well.
                changes.extend(parent.map(|_| (traced_key(delivery), None)));
                return Ok(Some(News::Over { delivery }));
            };
            let attempts = u64::try_from(tried.attempt).unwrap_or_default();
            let value = [attempts.to_be_bytes(), due_ms.to_be_bytes()].concat();
            changes.push((attempts_key(delivery), Some(value)));
            let pending = Pending { subscription, attempts, due_ms };
            Ok(Some(News::Again { delivery, pending }))
        }
        _ => Ok(pass_over(stored)),
    }
}

fn pass_over(stored: &StoredRecord) -> Option<News> {
    tracing::warn!(
        topic = %stored.topic, partition = stored.partition, offset = stored.offset,
        "passing over a record of deliveries that cannot be read"
    );
    None
}

/// The deliveries that are not over by a local state that is complete.
pub(super) async fn pending(codec: &Codec, state: &LocalState) -> Result<Queue, RoleError> {
    let mut queue = Queue::default();
    for entry in state.scan(b"d") {
        let (_, value) = entry?;
        let read =
            codec.decode(&value).await.and_then(|decoded| decoded.read::<DeliveryDueRecord>());
        let due = read.map_err(RoleError::other)?;
        let ids = (Uuid::try_parse(&due.delivery_id), Uuid::try_parse(&due.subscription_id));
        let (Ok(delivery), Ok(subscription)) = ids else { continue };
        let (attempts, due_ms) = match state.get(&attempts_key(delivery))? {
            None => (0, due.due_at),
            Some(value) => {
                let (attempts, due_ms) = value.split_at_checked(8).unwrap_or_default();
                match (attempts.try_into(), due_ms.try_into()) {
                    (Ok(attempts), Ok(due_ms)) => {
                        (u64::from_be_bytes(attempts), i64::from_be_bytes(due_ms))
                    }
                    _ => {
                        state.doubt("the attempts of a delivery are none")?;
                        (0, due.due_at)
                    }
                }
            }
        };
        queue.set(delivery, Pending { subscription, attempts, due_ms });
    }
    Ok(queue)
}
