//! Days of plans as search wants them: columns to compare, rows already serialized.

use super::deflated::Deflated;
use almanac_read_store::Row;
use almanac_tables::plans::StartKey;
use bytes::Bytes;
use std::ops::{Range, RangeInclusive};
use xxhash_rust::xxh3::xxh3_64;

/// "No end": never matches an upper bound.
const NO_END: i64 = i64::MAX;

/// The rows of one or several neighbouring days.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// The days, ascending, each with its first row.
    days: Vec<(i32, u32)>,
    /// Instants in seconds, ascending.
    starts: Vec<i64>,
    ends: Vec<i64>,
    /// What the provider's clock shows minus UTC, in seconds, for starts and ends.
    start_offsets: Vec<i32>,
    end_offsets: Vec<i32>,
    /// Where each row begins in `bytes`; one more than there are rows.
    places: Vec<u32>,
    /// Sums of the hashes of all rows before each row; one more than there are rows.
    sums: Vec<u64>,
    /// All rows, each after a comma.
    bytes: Bytes,
}

/// Neighbouring rows that match, each after a comma.
pub(crate) struct Run {
    pub(crate) bytes: Bytes,
    /// The sum of the hashes of the rows. Rows are sorted by what is in them, so that the sum
    /// identifies them, on whatever instance and however they are grouped.
    pub(crate) sum: u64,
    /// Which rows of the partition these are.
    pub(super) rows: Range<usize>,
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

impl Bounds {
    /// The first and the last UTC day in which matching starts may lie.
    pub(crate) fn days(&self) -> (i32, i32) {
        let (low, high) = self.starts();
        (day_of(low), day_of(high))
    }
}

/// Days since 1970-01-01.
pub(crate) fn day_of(unix_seconds: i64) -> i32 {
    let day = unix_seconds.div_euclid(86_400);
    // The last day is kept free for "one after the last".
    i32::try_from(day).unwrap_or(if day < 0 { i32::MIN } else { i32::MAX - 1 })
}

impl Partition {
    /// From the rows of a partition of `plans_by_start`; what does not look like one is left out.
    pub(crate) fn from_rows(day: i32, rows: &[Row]) -> Self {
        let mut partition = Self::with_capacity(rows.len());
        partition.days.push((day, 0));
        let mut bytes = Vec::with_capacity(rows.iter().map(|row| row.body.len() / 2).sum());
        let mut sum = 0_u64;
        for row in rows {
            let Some(key) = StartKey::parse(&row.clustering) else { continue };
            let Some(summary) = summary_of(&row.body) else { continue };
            partition.starts.push(key.starts_at.unix_seconds);
            partition.start_offsets.push(key.starts_at.utc_offset_seconds);
            partition.ends.push(key.ends_at.map_or(NO_END, |end| end.unix_seconds));
            partition.end_offsets.push(key.ends_at.map_or(0, |end| end.utc_offset_seconds));
            bytes.push(b',');
            bytes.extend_from_slice(summary);
            sum = sum.wrapping_add(xxh3_64(summary));
            partition.sums.push(sum);
            partition.places.push(bytes.len() as u32);
        }
        bytes.shrink_to_fit();
        partition.bytes = Bytes::from(bytes);
        partition
    }

    fn with_capacity(rows: usize) -> Self {
        let (mut places, mut sums) = (Vec::with_capacity(rows + 1), Vec::with_capacity(rows + 1));
        places.push(0);
        sums.push(0);
        Self {
            starts: Vec::with_capacity(rows),
            ends: Vec::with_capacity(rows),
            start_offsets: Vec::with_capacity(rows),
            end_offsets: Vec::with_capacity(rows),
            places,
            sums,
            ..Self::default()
        }
    }

    /// One partition of several pieces that follow each other; a piece is a partition with the
    /// days of it that are wanted, by their places in [`Self::days`].
    pub(crate) fn join(pieces: &[(&Self, Range<usize>)]) -> Self {
        let rows = |piece: &(&Self, Range<usize>)| piece.0.rows_of(piece.1.clone());
        let mut joined = Self::with_capacity(pieces.iter().map(|piece| rows(piece).len()).sum());
        let mut bytes = Vec::with_capacity(pieces.iter().map(|(from, days)| from.size(days)).sum());
        for piece in pieces {
            let (from, rows) = (piece.0, rows(piece));
            let row_shift = joined.starts.len() as u32;
            for (day, first) in &from.days[piece.1.clone()] {
                joined.days.push((*day, first - rows.start as u32 + row_shift));
            }
            joined.starts.extend_from_slice(&from.starts[rows.clone()]);
            joined.ends.extend_from_slice(&from.ends[rows.clone()]);
            joined.start_offsets.extend_from_slice(&from.start_offsets[rows.clone()]);
            joined.end_offsets.extend_from_slice(&from.end_offsets[rows.clone()]);
            let (place, sum) = (from.places[rows.start], from.sums[rows.start]);
            let place_shift = bytes.len() as u32;
            let sum_shift = joined.sums.last().copied().unwrap_or(0);
            let (inner, end) = (rows.start + 1..rows.end + 1, from.places[rows.end]);
            let places = from.places[inner.clone()].iter().map(|at| at - place + place_shift);
            joined.places.extend(places);
            let sums = from.sums[inner].iter().map(|at| at.wrapping_sub(sum));
            joined.sums.extend(sums.map(|at| at.wrapping_add(sum_shift)));
            bytes.extend_from_slice(&from.bytes[place as usize..end as usize]);
        }
        joined.bytes = Bytes::from(bytes);
        joined
    }

    /// The days it holds, ascending.
    pub(crate) fn days(&self) -> impl ExactSizeIterator<Item = i32> {
        self.days.iter().map(|(day, _)| *day)
    }

    pub(crate) fn first_day(&self) -> i32 {
        self.days.first().map_or(i32::MAX, |(day, _)| *day)
    }

    pub(crate) fn last_day(&self) -> i32 {
        self.days.last().map_or(i32::MIN, |(day, _)| *day)
    }

    fn rows_of(&self, days: Range<usize>) -> Range<usize> {
        let first_of = |place: usize| {
            self.days.get(place).map_or(self.starts.len(), |(_, first)| *first as usize)
        };
        first_of(days.start)..first_of(days.end)
    }

    /// Bytes of the serialized rows of some of its days.
    pub(crate) fn size(&self, days: &Range<usize>) -> usize {
        let rows = self.rows_of(days.clone());
        (self.places[rows.end] - self.places[rows.start]) as usize
    }

    /// Bytes in memory, about.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.starts.len() * 36 + self.days.len() * 8 + 300
    }

    /// Its rows as they are kept compressed.
    pub(super) fn deflated(&self) -> Option<Deflated> {
        Deflated::of(&self.bytes, &self.places)
    }

    /// Where each row begins; one more than there are rows.
    pub(super) fn places(&self) -> &[u32] {
        &self.places
    }

    /// Hands every run of neighbouring rows of these days that match to `take`.
    pub(crate) fn matching(
        &self,
        bounds: &Bounds,
        days: RangeInclusive<i32>,
        mut take: impl FnMut(Run),
    ) {
        let rows = if *days.start() <= self.first_day() && *days.end() >= self.last_day() {
            0..self.starts.len()
        } else {
            let from = self.days.partition_point(|(day, _)| day < days.start());
            let until = self.days.partition_point(|(day, _)| day <= days.end());
            self.rows_of(from..until.max(from))
        };
        let (low, high) = bounds.starts();
        let starts = &self.starts[rows.clone()];
        let first = rows.start + starts.partition_point(|start| *start <= low);
        let last = rows.start + starts.partition_point(|start| *start < high);
        let mut row = first;
        while row < last {
            let run_start = row;
            row += self.count_while(row..last, bounds, true);
            if row > run_start {
                take(self.run(run_start..row));
            }
            row += self.count_while(row..last, bounds, false);
        }
    }

    /// How many of the first rows match, or do not.
    fn count_while(&self, rows: Range<usize>, bounds: &Bounds, wanted: bool) -> usize {
        let has_wall = [bounds.after, bounds.before].iter().flatten().any(|bound| bound.wall);
        let stop = match bounds.before {
            // Starts are within exact bounds already; ends are compared in one sweep.
            Some(before) if !has_wall => {
                let ends = &self.ends[rows.clone()];
                ends.iter().position(|end| (*end < before.seconds) != wanted)
            }
            None if !has_wall => (!wanted).then_some(0),
            _ => rows.clone().position(|row| self.matches(row, bounds) != wanted),
        };
        stop.unwrap_or(rows.len())
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

    fn run(&self, rows: Range<usize>) -> Run {
        let (start, end) = (self.places[rows.start] as usize, self.places[rows.end] as usize);
        Run {
            bytes: self.bytes.slice(start..end),
            sum: self.sums[rows.end].wrapping_sub(self.sums[rows.start]),
            rows,
        }
    }
}

/// The first part of an index row's body.
fn summary_of(body: &[u8]) -> Option<&[u8]> {
    const HEAD: &[u8] = b"{\"summary\":";
    const NEXT: &[u8] = b"},\"plan\":{";
    let rest = body.strip_prefix(HEAD)?;
    // Quotes inside texts are escaped, and a summary holds no objects: the first match is it.
    let end = memchr::memmem::find(rest, NEXT)?;
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
        partition.matching(&bounds, i32::MIN..=i32::MAX, |run| {
            let rows = std::str::from_utf8(&run.bytes).unwrap();
            let text = format!("[{}]", rows.strip_prefix(',').unwrap());
            let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            names.extend(rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()));
        });
        names.join("")
    }

    #[test]
    fn days_are_joined_and_cut_without_a_trace() {
        let day = |number: i32, names: &[&str]| {
            let rows: Vec<Row> = names
                .iter()
                .enumerate()
                .map(|(hour, name)| {
                    let start = format!("2021-06-{number:02}T{hour:02}:00:00Z");
                    row(&start, "2021-12-30T23:00:00Z", 0, name)
                })
                .collect();
            Partition::from_rows(number, &rows)
        };
        let (one, two, three) = (day(1, &["a", "b"]), day(2, &[]), day(3, &["c", "d", "e"]));
        let joined = Partition::join(&[(&one, 0..1), (&two, 0..1), (&three, 0..1)]);
        assert_eq!(joined.days().collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(found(&joined, None, None), "abcde");
        assert_eq!(found(&joined, Some(("2021-06-01T00:30:00Z", false)), None), "bcde");
        let sum = |partition: &Partition| {
            let mut sum = 0_u64;
            let bounds = Bounds::default();
            partition.matching(&bounds, i32::MIN..=i32::MAX, |run| sum = sum.wrapping_add(run.sum));
            sum
        };
        assert_eq!(sum(&joined), sum(&one).wrapping_add(sum(&three)));
        let again = Partition::join(&[(&joined, 0..1), (&joined, 2..3)]);
        assert_eq!(again.days().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(found(&again, None, None), "abcde");
        assert_eq!(sum(&again), sum(&joined));
        let cut = Partition::join(&[(&joined, 1..3)]);
        assert_eq!(found(&cut, None, None), "cde");
        assert_eq!((cut.first_day(), cut.last_day()), (2, 3));
        let mut names = String::new();
        joined.matching(&Bounds::default(), 2..=3, |run| {
            names.push_str(std::str::from_utf8(&run.bytes).unwrap());
        });
        assert_eq!(names.matches("id").count(), 3, "only rows of the days asked for: {names}");
        assert_eq!(cut.size(&(0..2)), three.size(&(0..1)));
    }

    #[test]
    fn bounds_are_strict_and_know_walls() {
        let partition = Partition::from_rows(
            18_808,
            &[
                row("2021-06-30T18:00:00Z", "2021-06-30T23:00:00Z", 7_200, "a"),
                row("2021-06-30T19:00:00Z", "2021-06-30T20:00:00Z", 7_200, "b"),
                row("2021-06-30T20:00:00Z", "-", 7_200, "c"),
                row("2021-06-30T21:00:00Z", "2021-06-30T22:00:00Z", 0, "d"),
            ],
        );
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
