//! Rows kept compressed: any run of them becomes a gzip member without being compressed again.
//!
//! What is kept of each row is deflated against the row before it alone, which stands before it in every
//! run but those that it begins, and ends on a byte; pieces of many rows, each against itself, are kept
//! beside them, since they are smaller. A run is its first row as it is, and then what is kept of the
//! others. The checksum of a run follows from those of the rows before its beginning and before its end.

use bytes::Bytes;
use crc32fast::Hasher;
use flate2::{Compress, Compression, FlushCompress, Status};
use std::ops::Range;

/// Rows of a piece.
const PIECE: usize = 64;
/// Of deflate's blocks that are not compressed.
const MOST_STORED: usize = u16::MAX as usize;
/// Deflated, no flags, no time, unknown system.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// A last block with nothing in it.
const END: [u8; 2] = [3, 0];

pub(super) struct Deflated {
    /// Where each row ends in `each`, and each piece in `pieces`.
    row_ends: Vec<u32>,
    each: Vec<u8>,
    piece_ends: Vec<u32>,
    pieces: Vec<u8>,
    /// Checksums of all rows before each row; one more than there are rows.
    sums: Vec<u32>,
}

/// Appends what deflates to `bytes`, ended on a byte.
fn deflate(
    compress: &mut Compress,
    bytes: &[u8],
    flush: FlushCompress,
    out: &mut Vec<u8>,
) -> Option<()> {
    let mut rest = bytes;
    loop {
        // More than it ever takes: an end without spare room is not known to be one.
        out.reserve(rest.len() + rest.len() / 8 + 64);
        let before = compress.total_in();
        let status = compress.compress_vec(rest, out, flush).ok()?;
        rest = rest.get((compress.total_in() - before) as usize..)?;
        match status {
            Status::Ok if rest.is_empty() && out.len() < out.capacity() => return Some(()),
            Status::Ok | Status::BufError => {}
            Status::StreamEnd => return None,
        }
    }
}

impl Deflated {
    /// Of rows, each after a comma: their bytes, and where each begins; one more than there are.
    pub(super) fn of(bytes: &[u8], places: &[u32]) -> Option<Self> {
        let rows = places.len().saturating_sub(1);
        let row = |number: usize| &bytes[places[number] as usize..places[number + 1] as usize];
        let mut compress = Compress::new(Compression::default(), false);
        let (mut each, mut row_ends) = (Vec::new(), Vec::with_capacity(rows));
        let (mut pieces, mut piece_ends) = (Vec::new(), Vec::with_capacity(rows / PIECE));
        let (mut sums, mut hasher) = (Vec::with_capacity(rows + 1), Hasher::new());
        let mut unused = Vec::new();
        sums.push(0);
        for number in 0..rows {
            if let Some(before) = number.checked_sub(1) {
                unused.clear();
                // Without its comma, which the first row of an answer does not have.
                let before = row(before).get(1..)?;
                deflate(&mut compress, before, FlushCompress::Sync, &mut unused)?;
                deflate(&mut compress, row(number), FlushCompress::Full, &mut each)?;
            }
            row_ends.push(each.len() as u32);
            hasher.update(row(number));
            sums.push(hasher.clone().finalize());
        }
        for last in (PIECE..=rows).step_by(PIECE) {
            let piece = &bytes[places[last - PIECE] as usize..places[last] as usize];
            deflate(&mut compress, piece, FlushCompress::Full, &mut pieces)?;
            piece_ends.push(pieces.len() as u32);
        }
        each.shrink_to_fit();
        pieces.shrink_to_fit();
        Some(Self { row_ends, each, piece_ends, pieces, sums })
    }

    /// Bytes in memory, about.
    pub(super) fn weight(&self) -> usize {
        let numbers = self.row_ends.len() + self.piece_ends.len() + self.sums.len();
        self.each.len() + self.pieces.len() + numbers * 4
    }
}

fn part<'b>(bytes: &'b [u8], ends: &[u32], parts: Range<usize>) -> &'b [u8] {
    let start = parts.start.checked_sub(1).map_or(0, |before| ends[before]);
    &bytes[start as usize..ends[parts.end - 1] as usize]
}

/// A gzip member on its way.
pub(super) struct Member {
    out: Vec<u8>,
    /// Where the block begins that more may be stored in.
    stored: Option<usize>,
    /// Of what it inflates to.
    sum: u32,
    length: u64,
}

impl Member {
    pub(super) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(bytes + HEADER.len() + END.len() + 8);
        out.extend_from_slice(&HEADER);
        Self { out, stored: None, sum: 0, length: 0 }
    }

    /// Goes on with a text as it is.
    pub(super) fn put(&mut self, text: &[u8]) {
        let mut hasher = Hasher::new_with_initial_len(self.sum, self.length);
        hasher.update(text);
        self.sum = hasher.finalize();
        self.length += text.len() as u64;
        self.store(text);
    }

    /// Goes on with a run of rows: `bytes` is the run's own, and `places` those of all rows.
    pub(super) fn put_rows(
        &mut self,
        kept: &Deflated,
        bytes: &[u8],
        places: &[u32],
        rows: Range<usize>,
    ) {
        if rows.is_empty() {
            return;
        }
        self.sum_rows(kept, places, rows.clone());
        let mut at = rows.start;
        if !at.is_multiple_of(PIECE) || at + PIECE > rows.end {
            self.store(&bytes[..(places[at + 1] - places[at]) as usize]);
            at += 1;
        }
        self.follow(kept, at..rows.end);
    }

    /// Goes on with the first run of an answer, whose first comma is left out.
    pub(super) fn put_first_rows(
        &mut self,
        kept: &Deflated,
        bytes: &[u8],
        places: &[u32],
        rows: Range<usize>,
    ) {
        if rows.is_empty() {
            return;
        }
        self.put(&bytes[1..(places[rows.start + 1] - places[rows.start]) as usize]);
        let rest = rows.start + 1..rows.end;
        self.sum_rows(kept, places, rest.clone());
        self.follow(kept, rest);
    }

    /// Takes rows into checksum and length.
    fn sum_rows(&mut self, kept: &Deflated, places: &[u32], rows: Range<usize>) {
        let length = u64::from(places[rows.end] - places[rows.start]);
        if length == 0 {
            return;
        }
        // What stands before the rows where they are kept cancels out.
        let before = self.sum ^ kept.sums[rows.start];
        let mut sum = Hasher::new_with_initial_len(before, self.length);
        sum.combine(&Hasher::new_with_initial_len(kept.sums[rows.end], length));
        self.sum = sum.finalize();
        self.length += length;
    }

    /// What is kept of rows behind the one that stands before them.
    fn follow(&mut self, kept: &Deflated, rows: Range<usize>) {
        let mut at = rows.start;
        while at < rows.end {
            let piece = at.div_ceil(PIECE);
            let pieces = piece..rows.end / PIECE;
            if at.is_multiple_of(PIECE) && !pieces.is_empty() {
                at = pieces.end * PIECE;
                self.append(part(&kept.pieces, &kept.piece_ends, pieces));
            } else {
                let until = if pieces.is_empty() { rows.end } else { piece * PIECE };
                self.append(part(&kept.each, &kept.row_ends, at..until));
                at = until;
            }
        }
    }

    fn append(&mut self, deflated: &[u8]) {
        self.stored = None;
        self.out.extend_from_slice(deflated);
    }

    fn store(&mut self, mut text: &[u8]) {
        while !text.is_empty() {
            let start = *self.stored.get_or_insert_with(|| {
                let start = self.out.len();
                self.out.extend_from_slice(&[0, 0, 0, 0xff, 0xff]);
                start
            });
            let before = self.out.len() - start - 5;
            let now = text.len().min(MOST_STORED - before);
            let (stored, rest) = text.split_at(now);
            self.out.extend_from_slice(stored);
            let length = (before + now) as u16;
            self.out[start + 1..start + 3].copy_from_slice(&length.to_le_bytes());
            self.out[start + 3..start + 5].copy_from_slice(&(!length).to_le_bytes());
            text = rest;
            if !text.is_empty() {
                self.stored = None;
            }
        }
    }

    pub(super) fn end(mut self) -> Bytes {
        self.out.extend_from_slice(&END);
        self.out.extend_from_slice(&self.sum.to_le_bytes());
        self.out.extend_from_slice(&(self.length as u32).to_le_bytes());
        Bytes::from(self.out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use proptest::prelude::*;
    use std::io::Read;

    /// Rows after commas, and where each begins.
    fn rows(texts: &[String]) -> (Vec<u8>, Vec<u32>) {
        let (mut bytes, mut places) = (Vec::new(), vec![0]);
        for text in texts {
            bytes.extend_from_slice(format!(",{{\"title\":\"{text}\",\"end\":null}}").as_bytes());
            places.push(bytes.len() as u32);
        }
        (bytes, places)
    }

    fn inflated(member: Bytes) -> Vec<u8> {
        let mut text = Vec::new();
        // A second member would be no part of it.
        let mut decoder = GzDecoder::new(&member[..]);
        decoder.read_to_end(&mut text).unwrap();
        assert!(decoder.into_inner().is_empty(), "nothing follows the member");
        text
    }

    fn check(blocks: &[Vec<String>], runs: &[(usize, Range<usize>)]) -> usize {
        let blocks: Vec<_> = blocks
            .iter()
            .map(|texts| {
                let (bytes, places) = rows(texts);
                let kept = Deflated::of(&bytes, &places).unwrap();
                assert!(kept.weight() > 0);
                (bytes, places, kept)
            })
            .collect();
        let mut expected = b"{\"events\":[".to_vec();
        let mut member = Member::with_capacity(100);
        member.put(&expected);
        let mut is_first = true;
        for (block, run) in runs {
            let (bytes, places, kept) = &blocks[*block];
            let bytes = &bytes[places[run.start] as usize..places[run.end] as usize];
            if is_first {
                member.put_first_rows(kept, bytes, places, run.clone());
            } else {
                member.put_rows(kept, bytes, places, run.clone());
            }
            expected.extend_from_slice(bytes.get(usize::from(is_first)..).unwrap_or_default());
            is_first &= run.is_empty();
        }
        member.put(b"]}");
        expected.extend_from_slice(b"]}");
        let member = member.end();
        let length = member.len();
        assert_eq!(inflated(member), expected);
        length
    }

    #[test]
    fn many_rows_are_small() {
        let texts: Vec<String> =
            (0..1_000).map(|number| format!("Camela en concierto número {number}")).collect();
        let plain = rows(&texts).0.len();
        for (run, most) in [(0..1_000, plain / 6), (1..999, plain / 6), (70..90, 20 * 58 / 2)] {
            let length = check(std::slice::from_ref(&texts), &[(0, run.clone())]);
            assert!(length < most, "{run:?}: {length} of {most}");
        }
    }

    #[test]
    fn what_is_stored_may_be_long() {
        let texts = vec!["x".repeat(10), "y".repeat(200_000), "z".repeat(70_000)];
        check(&[texts], &[(0, 1..2), (0, 2..3), (0, 0..3), (0, 1..3)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_runs_inflate_to_the_rows(
            blocks in prop::collection::vec(prop::collection::vec("[a-d豆]{0,12}", 1..300), 1..3),
            runs in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
        ) {
            let runs: Vec<_> = runs
                .iter()
                .map(|(block, one, other)| {
                    let block = block.index(blocks.len());
                    let (one, other) = (one.index(blocks[block].len() + 1), other.index(blocks[block].len() + 1));
                    (block, one.min(other)..one.max(other))
                })
                .collect();
            check(&blocks, &runs);
        }
    }
}
