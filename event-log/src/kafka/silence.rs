//! What it means when nothing comes from a partition: nothing is there, a transaction that somebody
//! left open holds it back, or the consumer lost its brokers.

use super::{
    asker::{Asker, finds_brokers},
    told,
};
use crate::{Isolation, LogResult, Offset, Retry, TopicId};
use rdkafka::{ClientContext, client::Client};
use std::time::{Duration, Instant};

/// How long a consumer may look for its brokers when others find them.
const LOOK: Duration = Duration::from_secs(2);
/// A transaction of Almanac's own is over by then: the transaction's time-out bounds it.
const OPEN_FOR: Duration = Duration::from_secs(5);

pub(super) struct Partition {
    pub(super) number: u32,
    /// The offset after the last record that was handed out, or where reading began.
    pub(super) next: Offset,
    pub(super) heard: Instant,
    /// An end up to which there is nothing to read, as a consumer said that was opened for it.
    empty_to: Offset,
    opened_for: Option<Offset>,
    /// The last stable offset that does not move although more was written, and since when.
    pinned: Option<(Offset, Instant)>,
}

impl Partition {
    pub(super) fn new(number: u32, next: Offset, now: Instant) -> Self {
        Self { number, next, heard: now, empty_to: 0, opened_for: None, pinned: None }
    }

    /// A record before `next`, or the end.
    pub(super) fn heard(&mut self, next: Option<Offset>, now: Instant) {
        self.heard = now;
        match next {
            Some(next) => self.next = next,
            // Compaction may leave nothing below the end: no position ever gets there.
            None => self.empty_to = self.opened_for.take().unwrap_or(0).max(self.empty_to),
        }
    }
}

/// What others found.
pub(super) struct Found {
    /// Of the topic, if the broker that was asked tells it.
    pub(super) id: Option<TopicId>,
    /// Last stable offset and high watermark of each partition.
    pub(super) ends: Vec<(Offset, Offset)>,
    /// Whether the consumer's own client finds brokers.
    pub(super) finds_brokers: bool,
}

/// Asks with another client. Blocks.
pub(super) fn ask(
    asker: &Asker,
    client: &Client<impl ClientContext>,
    topic: &str,
    partitions: &[u32],
) -> LogResult<Found> {
    let stable = asker.ends(topic, partitions, Isolation::Committed)?;
    let high = asker.ends(topic, partitions, Isolation::Uncommitted)?;
    let id = match asker.describe(topic) {
        Ok(described) => Some(described.id),
        Err(error) if error.retry() == Retry::Later => None,
        Err(error) => return Err(error),
    };
    let ends = stable.into_iter().zip(high).collect();
    Ok(Found { id, ends, finds_brokers: finds_brokers(client, topic, LOOK) })
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    UpToDate,
    /// Records are there, and were when it was asked, and none came.
    Behind {
        partition: u32,
        position: Offset,
        end: Offset,
    },
    /// It will hear of nothing any more.
    Lost,
}

/// `reached` and `found.ends` go with the partitions; `asked` is when the question was put.
pub(super) fn judge(
    partitions: &mut [Partition],
    reached: &[Offset],
    found: &Found,
    asked: Instant,
) -> Verdict {
    let mut verdict = Verdict::UpToDate;
    for ((partition, reached), (stable, high)) in
        partitions.iter_mut().zip(reached).zip(&found.ends)
    {
        let was_heard = partition.heard > asked;
        let position = (*reached).max(partition.empty_to);
        if position < *stable && !was_heard {
            partition.opened_for = Some(*stable);
            if verdict == Verdict::UpToDate {
                let number = partition.number;
                verdict = Verdict::Behind { partition: number, position, end: *stable };
            }
        }
        partition.pinned = match partition.pinned {
            _ if stable >= high => None,
            Some((offset, since)) if offset == *stable => Some((offset, since)),
            _ => Some((*stable, asked)),
        };
    }
    match verdict {
        Verdict::UpToDate if !found.finds_brokers => Verdict::Lost,
        verdict => verdict,
    }
}

/// Says which partitions a transaction that nobody ends holds back. It is of another application, or
/// of an owner that died: one of Almanac's own is ended by the next owner.
pub(super) fn say_pinned(topic: &str, partitions: &[Partition], found: &Found, now: Instant) {
    for (partition, (stable, high)) in partitions.iter().zip(&found.ends) {
        let Some((_, since)) = partition.pinned else { continue };
        if now.duration_since(since) < OPEN_FOR {
            continue;
        }
        let partition = partition.number;
        if told::is_first(&format!("open transaction {topic}/{partition}/{stable}")) {
            tracing::warn!(
                topic,
                partition,
                last_stable_offset = stable,
                high_watermark = high,
                "a transaction that is open holds back what was written after it: nothing behind \
                 the last stable offset is read until it ends; `kafka-transactions.sh \
                 describe-producers --topic {topic} --partition {partition}` tells whose it is"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(stable: Offset, high: Offset, finds_brokers: bool) -> Found {
        Found { id: None, ends: vec![(stable, high)], finds_brokers }
    }

    fn judged(partition: &mut Partition, found: &Found, asked: Instant) -> Verdict {
        let reached = [partition.next];
        judge(std::slice::from_mut(partition), &reached, found, asked)
    }

    #[test]
    fn silence_is_an_end_only_where_nothing_is_left() {
        let opened = Instant::now();
        let asked = opened + Duration::from_secs(5);
        let mut partition = Partition::new(3, 7, opened);
        assert_eq!(judged(&mut partition, &found(7, 7, true), asked), Verdict::UpToDate);
        assert_eq!(judged(&mut partition, &found(7, 7, false), asked), Verdict::Lost);
        let behind = Verdict::Behind { partition: 3, position: 7, end: 9 };
        assert_eq!(judged(&mut partition, &found(9, 9, true), asked), behind);
        // Something came while it was asked.
        partition.heard(Some(8), asked + Duration::from_millis(1));
        assert_eq!(judged(&mut partition, &found(9, 9, true), asked), Verdict::UpToDate);
    }

    /// Compaction removed what stood before the end: that is not asked about for ever.
    #[test]
    fn a_gap_before_the_end_is_believed_once() {
        let opened = Instant::now();
        let asked = opened + Duration::from_secs(5);
        let mut partition = Partition::new(0, 7, opened);
        assert_ne!(judged(&mut partition, &found(9, 9, true), asked), Verdict::UpToDate);
        partition.heard(None, asked);
        assert_eq!(judged(&mut partition, &found(9, 9, true), asked), Verdict::UpToDate);
        assert_ne!(judged(&mut partition, &found(10, 10, true), asked), Verdict::UpToDate);
    }

    #[test]
    fn a_transaction_left_open_is_noticed() {
        let opened = Instant::now();
        let mut partition = Partition::new(0, 7, opened);
        let at = |seconds| opened + Duration::from_secs(seconds);
        judged(&mut partition, &found(7, 9, true), at(5));
        assert_eq!(partition.pinned, Some((7, at(5))));
        judged(&mut partition, &found(7, 12, true), at(10));
        assert_eq!(partition.pinned, Some((7, at(5))), "since when it was first seen");
        partition.next = 12;
        judged(&mut partition, &found(12, 13, true), at(15));
        assert_eq!(partition.pinned, Some((12, at(15))), "another one");
        judged(&mut partition, &found(13, 13, true), at(20));
        assert_eq!(partition.pinned, None);
    }
}
