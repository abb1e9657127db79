//! A day of plans as search wants it: columns to compare, rows already serialized.

use almanac_projector::plans::StartKey;
use almanac_read_store::Row;
use bytes::Bytes;
use std::ops::Range;
use xxhash_rust::xxh3::xxh3_64;

/// "No end": never matches an upper bound.
const NO_END: i64 = i64::MAX;

#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// Instants in seconds, ascending.
    starts: Vec<i64>,
    ends: Vec<i64>,
    /// What the provider's clock shows minus UTC, in seconds, for starts and ends.
    start_offsets: Vec<i32>,
    end_offsets: Vec<i32>,
    /// Where each row begins in `bytes`; one more than there are rows.
    places: Vec<u32>,
    /// All rows, each followed by a comma.
    bytes: Bytes,
    /// The latest end; [`NO_END`] when a plan has none.
    last_end: i64,
    pub(crate) hash: u64,
}

/// Bounds of a search, in whole seconds. `wall` bounds compare what the provider's clock shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) after: Option<Bound>,
    pub(crate) before: Option<Bound>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) seconds: i64,
    pub(crate) wall: bool,
}

/// No clock differs from UTC by more.
const MAX_OFFSET: i64 = 26 * 3_600;

impl Bounds {
    /// Instants between which matching starts lie, exclusive: exact for instants, wide for wall
    /// times. A plan ends no earlier than it starts, so the upper bound holds for starts too.
    pub(crate) fn starts(&self) -> (i64, i64) {
        let slack = |bound: Bound| if bound.wall { MAX_OFFSET } else { 0 };
        (
            self.after.map_or(i64::MIN, |bound| bound.seconds - slack(bound)),
            self.before.map_or(i64::MAX, |bound| bound.seconds + slack(bound)),
        )
    }
}

impl Partition {
    /// From the rows of a partition of `plans_by_start`; what does not look like one is left out.
    pub(crate) fn from_rows(rows: &[Row]) -> Self {
        let mut partition = Self { last_end: i64::MIN, ..Self::default() };
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.body.len() / 2).sum());
        partition.places.push(0);
        for row in rows {
            let Some(key) = StartKey::parse(&row.clustering) else { continue };
            let Some(summary) = summary_of(&row.body) else { continue };
            partition.starts.push(key.starts_at.unix_seconds);
            partition.start_offsets.push(key.starts_at.utc_offset_seconds);
            let end = key.ends_at.map_or(NO_END, |end| end.unix_seconds);
            partition.ends.push(end);
            partition.end_offsets.push(key.ends_at.map_or(0, |end| end.utc_offset_seconds));
            partition.last_end = partition.last_end.max(end);
            bytes.extend_from_slice(summary);
            bytes.push(b',');
            partition.places.push(bytes.len() as u32);
        }
        bytes.shrink_to_fit();
        partition.hash = xxh3_64(&bytes);
        partition.bytes = Bytes::from(bytes);
        partition
    }

    /// Bytes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.starts.len() * 28 + 200
    }

    /// Hands every run of neighbouring rows that match to `take`, without the last comma.
    pub(crate) fn matching(&self, bounds: &Bounds, mut take: impl FnMut(Bytes)) {
        let (low, high) = bounds.starts();
        let first = self.starts.partition_point(|start| *start <= low);
        let last = self.starts.partition_point(|start| *start < high);
        if first >= last {
            return;
        }
        if self.all_match(bounds) {
            take(self.run(first..last));
            return;
        }
        let mut run_start = None;
        for row in first..last {
            match (self.matches(row, bounds), run_start) {
                (true, None) => run_start = Some(row),
                (false, Some(start)) => {
                    take(self.run(start..row));
                    run_start = None;
                }
                _ => {}
            }
        }
        if let Some(start) = run_start {
            take(self.run(start..last));
        }
    }

    /// Whether every row whose start is within the bounds matches, without looking at each.
    fn all_match(&self, bounds: &Bounds) -> bool {
        let after_is_exact = bounds.after.is_none_or(|bound| !bound.wall);
        let before_is_clear = match bounds.before {
            None => true,
            Some(bound) => !bound.wall && self.last_end < bound.seconds,
        };
        after_is_exact && before_is_clear
    }

    fn matches(&self, row: usize, bounds: &Bounds) -> bool {
        let starts_after = bounds.after.is_none_or(|bound| {
            let offset = if bound.wall { i64::from(self.start_offsets[row]) } else { 0 };
            self.starts[row] + offset > bound.seconds
        });
        let ends_before = bounds.before.is_none_or(|bound| {
            let offset = if bound.wall { i64::from(self.end_offsets[row]) } else { 0 };
            self.ends[row] != NO_END && self.ends[row] + offset < bound.seconds
        });
        starts_after && ends_before
    }

    fn run(&self, rows: Range<usize>) -> Bytes {
        let (start, end) = (self.places[rows.start] as usize, self.places[rows.end] as usize);
        self.bytes.slice(start..end - 1)
    }
}

/// The first part of an index row's body.
fn summary_of(body: &[u8]) -> Option<&[u8]> {
    const HEAD: &[u8] = b"{\"summary\":";
    const NEXT: &[u8] = b"},\"plan\":{";
    let rest = body.strip_prefix(HEAD)?;
    // Quotes inside texts are escaped, and a summary holds no objects: the first match is it.
    let end = rest.windows(NEXT.len()).position(|window| window == NEXT)?;
    Some(&rest[..=end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(start: &str, end: &str, offset: i32, name: &str) -> Row {
        Row {
            clustering: format!("{start}/{name}/{end}/{offset}/{offset}"),
            timestamp: 1,
            body: Bytes::from(format!(
                "{{\"summary\":{{\"id\":\"{name}\"}},\"plan\":{{\"x\":1}}}}"
            )),
        }
    }

    fn found(
        partition: &Partition,
        after: Option<(&str, bool)>,
        before: Option<(&str, bool)>,
    ) -> String {
        let bound = |(text, wall): (&str, bool)| Bound {
            seconds: text.parse::<jiff::Timestamp>().unwrap().as_second(),
            wall,
        };
        let bounds = Bounds { after: after.map(bound), before: before.map(bound) };
        let mut names = Vec::new();
        partition.matching(&bounds, |run| {
            let text = format!("[{}]", std::str::from_utf8(&run).unwrap());
            let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            names.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        });
        names.join("")
    }

    #[test]
    fn bounds_are_strict_and_know_walls() {
        let partition = Partition::from_rows(&[
            row("2021-06-30T18:00:00Z", "2021-06-30T23:00:00Z", 7_200, "a"),
            row("2021-06-30T19:00:00Z", "2021-06-30T20:00:00Z", 7_200, "b"),
            row("2021-06-30T20:00:00Z", "-", 7_200, "c"),
            row("2021-06-30T21:00:00Z", "2021-06-30T22:00:00Z", 0, "d"),
        ]);
        let z = |text: &'static str| Some((text, false));
        let wall = |text: &'static str| Some((text, true));
        assert_eq!(found(&partition, None, None), "abcd");
        assert_eq!(found(&partition, z("2021-06-30T18:00:00Z"), None), "bcd");
        assert_eq!(found(&partition, None, z("2021-06-30T23:00:00Z")), "bd", "c has no end");
        assert_eq!(found(&partition, None, z("2021-06-30T23:00:01Z")), "abd");
        assert_eq!(found(&partition, z("2021-06-30T19:00:00Z"), z("2021-06-30T19:00:00Z")), "");
        assert_eq!(found(&partition, z("2021-06-30T21:00:00Z"), z("2021-06-30T18:00:00Z")), "");
        // On the wall, a to c begin at 20:00, 21:00 and 22:00, d at 21:00.
        assert_eq!(found(&partition, wall("2021-06-30T20:59:59Z"), None), "bcd");
        assert_eq!(found(&partition, wall("2021-06-30T21:00:00Z"), None), "c");
        assert_eq!(found(&partition, None, wall("2021-06-30T22:00:01Z")), "bd");
    }
}
