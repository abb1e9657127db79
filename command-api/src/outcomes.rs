//! Outcomes in a local state: found by their id until they expire, and then forgotten.

use almanac_processor::{Change, LocalState, StateError};
use almanac_schemas::commands::ReplyRecord;

/// Changes of the local state.
pub(crate) type Changes = Vec<Change>;

const FORGOTTEN_AT_ONCE: usize = 2_000;

/// Where the encoded reply stands; it may have expired and not been forgotten yet.
pub(crate) fn outcome_key(id: &str) -> Vec<u8> {
    [b"o", id.as_bytes()].concat()
}

/// Sorted by when they expire.
fn expiry_key(expires_at_ms: i64, id: &str) -> Vec<u8> {
    [b"x", &expires_at_ms.to_be_bytes()[..], id.as_bytes()].concat()
}

/// Remembers the encoded reply under an id.
pub(crate) fn remember(changes: &mut Changes, id: &str, reply: &ReplyRecord, encoded: &[u8]) {
    changes.push((outcome_key(id), Some(encoded.to_vec())));
    changes.push((expiry_key(reply.expires_at, id), Some(Vec::new())));
}

/// Removes some of what has expired. Called with every write to disk, so that forgetting keeps up
/// with remembering.
pub(crate) fn forget(state: &LocalState, now_ms: i64) -> Result<Changes, StateError> {
    let mut changes = Changes::new();
    for entry in state.scan(b"x").take(FORGOTTEN_AT_ONCE) {
        let (key, _) = entry?;
        let expires_at = key.get(1..9).and_then(|bytes| bytes.try_into().ok());
        let expired = expires_at.map(i64::from_be_bytes).is_none_or(|at| at < now_ms);
        if !expired {
            break;
        }
        let id = String::from_utf8_lossy(key.get(9..).unwrap_or_default()).into_owned();
        changes.push((outcome_key(&id), None));
        changes.push((key.to_vec(), None));
    }
    Ok(changes)
}
