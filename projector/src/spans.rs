//! What folding events is to the traces of the requests that led to them.

use crate::{
    role::now_ms,
    run::{Reached, Run},
};
use almanac_event_log::StoredRecord;
use almanac_processor::traced;
use almanac_tables::Source;
use almanac_traces::{Hop, attributes as name};

/// Events that came while nobody folded them are traced if they are not older.
const RECENT_MS: i64 = 10 * 60 * 1_000;

impl Run<'_> {
    /// Spans of these events by their places. Of what is folded again nothing: a
    /// replay is none of the requests that led to its events.
    pub(crate) fn hops(&self, records: &[StoredRecord]) -> Vec<(usize, Hop)> {
        let recent = now_ms().saturating_sub(RECENT_MS);
        let mut hops = Vec::new();
        for (place, stored) in records.iter().enumerate() {
            let is_recent = stored.record.timestamp_ms >= recent;
            if stored.offset < self.end && !(self.is_resumed && is_recent) {
                continue;
            }
            let hop = traced::processing(stored);
            let Some(span) = hop.span() else { continue };
            let Source { projection, edition, .. } = self.projector.source;
            span.set(name::of(name::MESSAGING_CONSUMER_GROUP_NAME, self.owned.group().to_owned()));
            span.set(name::of(name::PROJECTION, projection));
            span.set(name::number(name::GENERATION, edition.generation));
            hops.push((place, hop));
        }
        hops
    }
}

/// Of a batch that is folded, or was not, or up to the event that stopped the projection. That one has a
/// span, which failed; what is tried again has none.
pub(crate) fn end(hops: Vec<(usize, Hop)>, records: usize, reached: Option<&Reached>) {
    let stop = reached.and_then(|reached| reached.stop.as_ref());
    let end = stop.map_or(records, |(place, _)| *place);
    let (folded, stopped): (Vec<_>, Vec<_>) = hops.into_iter().partition(|(place, _)| *place < end);
    traced::failed(stopped.iter().map(|(_, hop)| hop), "stopped");
    let folded = folded.into_iter().map(|(_, hop)| hop).collect();
    traced::end(folded, records, reached.is_none().then_some("fold"));
}
