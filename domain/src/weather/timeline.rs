//! The forecast cut into cells: stretches of time in which no variable changes its sample.
//!
//! Values are kept as ranks among the distinct values of their variable. A limit becomes a rank as
//! well, so that comparing is exact, whatever the decimals, and as fast as comparing integers.

use super::{
    Between, Combine, Series, Variable,
    instant::{HOUR, Nanos},
};
use rust_decimal::Decimal;
use std::collections::HashMap;

/// Place of a value among the distinct ones, from 1; 0 is no value.
pub(super) type Rank = u32;

const NONE: u32 = u32::MAX;

pub(super) struct Timeline {
    /// Cell `i` reaches from the `i`th to the next of these.
    pub(super) bounds: Vec<Nanos>,
    /// Whether any span covers the cell; one that none does is a gap.
    pub(super) covered: Vec<bool>,
    columns: Vec<(Variable, Column)>,
}

/// One variable, cell by cell.
pub(super) struct Column {
    /// In ascending order; rank 1 is the first.
    distinct: Vec<Decimal>,
    /// The highest value that the verdict of the cell rests on.
    pub(super) high: Vec<Rank>,
    /// The lowest, where any cell has another than the highest.
    low: Option<Vec<Rank>>,
    /// Highest and lowest of the samples whose spans the cell is part of, without the one that ends
    /// them, where they differ from the above.
    own: Option<(Vec<Rank>, Vec<Rank>)>,
    /// Where the verdict rests on a missing value as well as on one that is there.
    partly_missing: Option<Vec<bool>>,
    /// Whether another sample begins to count with this cell.
    pub(super) begins: Vec<bool>,
    /// The end of the last cell with a value.
    pub(super) end: Nanos,
}

impl Column {
    pub(super) fn low(&self) -> &[Rank] {
        self.low.as_deref().unwrap_or(&self.high)
    }

    pub(super) fn own_high(&self) -> &[Rank] {
        self.own.as_ref().map_or(&self.high, |(high, _)| high)
    }

    pub(super) fn own_low(&self) -> &[Rank] {
        self.own.as_ref().map_or_else(|| self.low(), |(_, low)| low)
    }

    pub(super) fn is_missing(&self, cell: usize) -> bool {
        self.high[cell] == 0 || self.partly_missing.as_ref().is_some_and(|missing| missing[cell])
    }

    pub(super) fn partly_missing(&self) -> Option<&[bool]> {
        self.partly_missing.as_deref()
    }

    pub(super) fn value(&self, rank: Rank) -> Option<Decimal> {
        self.distinct.get((rank as usize).checked_sub(1)?).copied()
    }

    /// The rank of the smallest value above `limit`.
    pub(super) fn first_above(&self, limit: Decimal) -> Rank {
        self.distinct.partition_point(|value| *value <= limit) as Rank + 1
    }

    /// The rank of the smallest value that is not below `limit`.
    pub(super) fn first_from(&self, limit: Decimal) -> Rank {
        self.distinct.partition_point(|value| *value < limit) as Rank + 1
    }
}

/// A part of a sample's span. After its first hour, a longer span rests on the sample that ends it,
/// too.
struct Piece {
    from: Nanos,
    until: Nanos,
    sample: u32,
    /// The sample that ends the span, or [`NONE`].
    ending: u32,
}

impl Timeline {
    /// Of the series that have any of these variables.
    pub(super) fn new(
        series: &[Series],
        variables: &[Variable],
        between: Between,
        combine: Combine,
    ) -> Self {
        let wanted = |one: &&Series| variables.iter().any(|name| one.column(*name).is_some());
        let series: Vec<&Series> = series.iter().filter(wanted).collect();
        let pieces: Vec<Vec<Piece>> = series.iter().map(|one| pieces(one, between)).collect();
        let mut bounds = Vec::new();
        for piece in pieces.iter().flatten() {
            // Most begin where the one before ended.
            if bounds.last() != Some(&piece.from) {
                bounds.push(piece.from);
            }
            bounds.push(piece.until);
        }
        bounds.sort();
        bounds.dedup();
        let cells = bounds.len().saturating_sub(1);
        let placed: Vec<Vec<u32>> = pieces.iter().map(|pieces| place(&bounds, pieces)).collect();
        let is_covered = |cell: usize| placed.iter().any(|placed| placed[cell] != NONE);
        let covered = (0..cells).map(is_covered).collect();
        let columns = variables.iter().map(|variable| {
            let tracks: Vec<Track<'_>> = series
                .iter()
                .zip(pieces.iter().zip(&placed))
                .filter_map(|(one, (pieces, placed))| {
                    Some(Track { values: one.column(*variable)?, pieces, placed })
                })
                .collect();
            (*variable, column(&tracks, &bounds, combine))
        });
        Self { covered, columns: columns.collect(), bounds }
    }

    pub(super) fn cells(&self) -> usize {
        self.covered.len()
    }

    pub(super) fn column(&self, variable: Variable) -> Option<&Column> {
        self.columns.iter().find(|(known, _)| *known == variable).map(|(_, column)| column)
    }

    /// The cell that an instant lies in.
    pub(super) fn cell_at(&self, instant: Nanos) -> Option<usize> {
        let after = self.bounds.partition_point(|bound| *bound <= instant);
        after.checked_sub(1).filter(|cell| *cell < self.cells())
    }
}

fn pieces(series: &Series, between: Between) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(series.from.len());
    for (number, (from, until)) in series.from.iter().zip(&series.until).enumerate() {
        let (from, until, sample) = (*from, *until, number as u32);
        let is_long = until - from > HOUR;
        if !is_long || between == Between::Hold {
            pieces.push(Piece { from, until, sample, ending: NONE });
            continue;
        }
        pieces.push(Piece { from, until: from + HOUR, sample, ending: NONE });
        // Where no sample ends it, nothing is known of the rest.
        if series.from.get(number + 1) == Some(&until) {
            pieces.push(Piece { from: from + HOUR, until, sample, ending: sample + 1 });
        }
    }
    pieces
}

/// For every cell the piece that covers it, or [`NONE`].
fn place(bounds: &[Nanos], pieces: &[Piece]) -> Vec<u32> {
    let mut placed = vec![NONE; bounds.len().saturating_sub(1)];
    let mut cell = 0;
    for (number, piece) in pieces.iter().enumerate() {
        while bounds[cell] < piece.from {
            cell += 1;
        }
        while bounds[cell] < piece.until {
            placed[cell] = number as u32;
            cell += 1;
        }
    }
    placed
}

/// One variable of one series.
struct Track<'a> {
    values: &'a [Option<Decimal>],
    pieces: &'a [Piece],
    placed: &'a [u32],
}

/// What a verdict rests on, in one cell.
#[derive(Clone, Copy, Default)]
struct Resting {
    own_high: Rank,
    own_low: Rank,
    high: Rank,
    low: Rank,
    is_missing: bool,
}

impl Resting {
    fn of(own: Rank, ending: Option<Rank>) -> Self {
        let is_missing = own == 0 || ending == Some(0);
        let ending = ending.unwrap_or_default();
        let (high, low) = (own.max(ending), lower(own, ending));
        Self { own_high: own, own_low: own, high, low, is_missing }
    }

    fn and(self, other: Self) -> Self {
        Self {
            own_high: self.own_high.max(other.own_high),
            own_low: lower(self.own_low, other.own_low),
            high: self.high.max(other.high),
            low: lower(self.low, other.low),
            is_missing: self.is_missing || other.is_missing,
        }
    }
}

/// The lower of the ranks that are there.
fn lower(one: Rank, other: Rank) -> Rank {
    if one == 0 || other == 0 { one.max(other) } else { one.min(other) }
}

fn column(tracks: &[Track<'_>], bounds: &[Nanos], combine: Combine) -> Column {
    let (distinct, ranks) = rank(tracks);
    let cells = bounds.len().saturating_sub(1);
    let mut high = Vec::with_capacity(cells);
    let mut low = Vec::with_capacity(cells);
    let mut own_high = Vec::with_capacity(cells);
    let mut own_low = Vec::with_capacity(cells);
    let mut partly_missing = vec![false; cells];
    let mut begins = Vec::with_capacity(cells);
    let (mut end, mut before) = (bounds.first().copied().unwrap_or_default(), u64::MAX);
    for cell in 0..cells {
        let mut found: Option<Resting> = None;
        // Missing values, whose long spans are ended by ones that are there.
        let mut ended = Resting::default();
        // Tells which samples count: of the first source, or of all.
        let mut samples = 0_u64;
        for (number, (track, ranks)) in tracks.iter().zip(&ranks).enumerate() {
            let Some(piece) = track.pieces.get(track.placed[cell] as usize) else { continue };
            let own = ranks[piece.sample as usize];
            let ending = ranks.get(piece.ending as usize).copied();
            let sample = (u64::from(piece.sample) + 1).wrapping_add((number as u64 + 1) << 40);
            if own == 0 {
                let ending = ending.unwrap_or_default();
                ended = ended.and(Resting { high: ending, low: ending, ..Resting::default() });
                // No value, but its span is one.
                if found.is_none() && samples == 0 {
                    samples = sample;
                }
                continue;
            }
            let resting = Resting::of(own, ending);
            match (combine, found) {
                (_, None) => {
                    found = Some(resting);
                    samples = sample;
                }
                (Combine::Worst, Some(others)) => {
                    found = Some(others.and(resting));
                    samples = samples.wrapping_mul(31).wrapping_add(sample);
                }
                (Combine::First, Some(_)) => {}
            }
            if combine == Combine::First {
                break;
            }
        }
        begins.push(samples != before);
        before = samples;
        if found.is_some() {
            end = bounds[cell + 1];
        }
        let resting = match (combine, found) {
            (Combine::First, Some(found)) => found,
            // What one source refuses no other permits.
            (Combine::Worst, Some(found)) => found.and(ended),
            (_, None) => Resting { is_missing: true, ..ended },
        };
        partly_missing[cell] = resting.is_missing && resting.high != 0;
        high.push(resting.high);
        low.push(resting.low);
        own_high.push(resting.own_high);
        own_low.push(resting.own_low);
    }
    let is_own = own_high == high && own_low == low;
    Column {
        distinct,
        own: (!is_own).then_some((own_high, own_low)),
        low: (low != high).then_some(low),
        partly_missing: partly_missing.contains(&true).then_some(partly_missing),
        high,
        begins,
        end,
    }
}

/// The distinct values in order, and for each track its values as ranks among them.
fn rank(tracks: &[Track<'_>]) -> (Vec<Decimal>, Vec<Vec<Rank>>) {
    let mut found: HashMap<Decimal, u32> = HashMap::new();
    let mut distinct: Vec<Decimal> = Vec::new();
    let mut numbered: Vec<Vec<Rank>> = Vec::with_capacity(tracks.len());
    for track in tracks {
        let mut number = |value: &Option<Decimal>| {
            let Some(value) = value else { return 0 };
            *found.entry(*value).or_insert_with(|| {
                distinct.push(*value);
                distinct.len() as u32
            })
        };
        numbered.push(track.values.iter().map(&mut number).collect());
    }
    let mut order: Vec<u32> = (0..distinct.len() as u32).collect();
    order.sort_unstable_by_key(|number| distinct[*number as usize]);
    let mut ranks = vec![0; distinct.len() + 1];
    for (rank, number) in (1..).zip(&order) {
        ranks[*number as usize + 1] = rank;
    }
    for value in numbered.iter_mut().flatten() {
        *value = ranks[*value as usize];
    }
    let sorted = order.iter().map(|number| distinct[*number as usize]).collect();
    (sorted, numbered)
}
