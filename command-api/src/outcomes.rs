//! Outcomes in a local state: found by their id until they expire, and then forgotten.

use almanac_event_log::Offset;
use almanac_processor::{Change, LocalState, StateError};
use almanac_schemas::commands::ReplyRecord;
use uuid::Uuid;

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

/// Where it stands that a request was decided, keyed or not. Ids of requests begin with the time at
/// which they were made: what expires first comes first.
pub(crate) fn request_key(request_id: &str) -> Vec<u8> {
    match Uuid::try_parse(request_id) {
        Ok(id) => [b"r", &id.as_bytes()[..]].concat(),
        Err(_) => [b"r", request_id.as_bytes()].concat(),
    }
}

/// Where the position behind the newest decided command stands.
const DECIDED_BELOW: &[u8] = b"d";

/// Takes in that the command of this reply was decided.
pub(crate) fn decided(changes: &mut Changes, reply: &ReplyRecord) {
    let expires_at = reply.expires_at.to_be_bytes().to_vec();
    changes.push((request_key(&reply.request_id), Some(expires_at)));
    // One that came with an import answers a command of another log, and says nothing of this one's.
    if let Ok(offset) = u64::try_from(reply.command_offset) {
        let below = offset.saturating_add(1);
        changes.push((DECIDED_BELOW.to_vec(), Some(below.to_be_bytes().to_vec())));
    }
}

/// The position behind the newest command that has a reply.
pub(crate) fn decided_below(state: &LocalState) -> Result<Option<Offset>, StateError> {
    let Some(value) = state.get(DECIDED_BELOW)? else { return Ok(None) };
    let below = value.as_ref().try_into().ok().map(u64::from_be_bytes);
    if below.is_none() {
        state.doubt("the position behind the newest decided command is none")?;
    }
    Ok(below)
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
    for entry in state.scan(b"r").take(FORGOTTEN_AT_ONCE * 2) {
        let (key, value) = entry?;
        match value.as_ref().try_into().ok().map(i64::from_be_bytes) {
            Some(at) if at >= now_ms => break,
            Some(_) => {}
            None => state.doubt("the time at which a request expires is none")?,
        }
        changes.push((key.to_vec(), None));
    }
    Ok(changes)
}
