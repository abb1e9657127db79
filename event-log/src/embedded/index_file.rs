//! The index file of a segment that will not change any more: everything that a start needs without
//! reading the segment, and then where its blocks are, so that memory need not know.
//!
//! The length of the segment that it belongs to comes first, then a frame of topics and positions as
//! they were when it was written, then one with the blocks in the order of topic, partition and offset.

use super::{
    frame::{self, FRAME_HEADER},
    index::{BlockRef, Blocks, Index, Run},
    segment::io_error,
};
use crate::{LogError, LogResult, Offset};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// A block with its topic's number and its partition.
pub(super) type Placed = (u16, u32, BlockRef);

const LENGTH: usize = 8;
const REF: usize = 2 + 4 + 8 + 8 + 8 + 4 + 4;
/// Blocks read at once.
const READ_AHEAD: u32 = 256;

pub(super) fn path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.idx"))
}

/// An index file as it will be.
pub(super) struct Encoded {
    bytes: Vec<u8>,
    pub(super) refs_at: u64,
}

/// `blocks` in the order of the file.
pub(super) fn encode(segment_length: u64, index: &Index, blocks: &[Placed]) -> Encoded {
    let mut out = segment_length.to_le_bytes().to_vec();
    let start = frame::begin_frame(&mut out);
    for (number, topic) in index.topics.iter().enumerate() {
        frame::put_topic(&mut out, number as u16, &topic.declaration);
    }
    for ((group, topic, partition), next_offset) in &index.positions {
        frame::put_position(&mut out, group, *topic, *partition, *next_offset);
    }
    frame::finish_frame(&mut out, start);
    let start = frame::begin_frame(&mut out);
    for (topic, partition, block) in blocks {
        put(&mut out, *topic, *partition, block);
    }
    frame::finish_frame(&mut out, start);
    Encoded { bytes: out, refs_at: (start + FRAME_HEADER) as u64 }
}

/// Writes it beside the one that is there; a rename makes it count.
pub(super) fn write_draft(folder: &Path, number: u32, encoded: &Encoded) -> LogResult<PathBuf> {
    let draft = path(folder, number).with_extension("idx.new");
    let mut file = File::create(&draft).map_err(io_error("create", &draft))?;
    let written = file.write_all(&encoded.bytes).and_then(|()| file.sync_all());
    written.map_err(|error| {
        // Half of it would only fill the disk.
        let _ = fs::remove_file(&draft);
        io_error("write", &draft)(error)
    })?;
    Ok(draft)
}

pub(super) fn write(folder: &Path, number: u32, encoded: &Encoded) -> LogResult<()> {
    let draft = write_draft(folder, number, encoded)?;
    fs::rename(&draft, path(folder, number)).map_err(io_error("rename", &draft))
}

/// The runs that these blocks make: with their places in the index file, or with themselves.
pub(super) fn runs(number: u32, blocks: &[Placed], in_file: bool) -> Vec<(u16, u32, Run)> {
    let mut first = 0;
    let of_partitions = blocks.chunk_by(|one, next| (one.0, one.1) == (next.0, next.1));
    let runs = of_partitions.map(|some| {
        let count = some.len() as u32;
        let blocks = match in_file {
            true => Blocks::File { first, count },
            false => Blocks::Memory(some.iter().map(|(_, _, block)| *block).collect()),
        };
        first += count;
        let run = Run {
            segment: number,
            base: some[0].2.base,
            last: some[some.len() - 1].2.last,
            bytes: some.iter().map(|(_, _, block)| u64::from(block.length)).sum(),
            blocks,
        };
        (some[0].0, some[0].1, run)
    });
    runs.collect()
}

/// Takes an index file into `index`, and tells where its blocks stand. Nothing, with the blocks in
/// `index` unchanged, when it is missing or doubtful: then the segment itself is read.
pub(super) fn load(folder: &Path, number: u32, length: u64, index: &mut Index) -> Option<u64> {
    let bytes = fs::read(path(folder, number)).ok()?;
    let (told, rest) = bytes.split_first_chunk::<LENGTH>()?;
    if u64::from_le_bytes(*told) != length {
        return None;
    }
    let (declared, rest) = split_frame(rest)?;
    let (refs, _) = split_frame(rest)?;
    let refs_at = (LENGTH + FRAME_HEADER + declared.len() + FRAME_HEADER) as u64;
    let declared = frame::parse_blocks(declared, number, 0)?;
    let blocks: Vec<Placed> = refs.chunks_exact(REF).map(|bytes| parse(bytes, number)).collect();
    let is_ordered = |pair: &[Placed]| {
        let (one, next) = (&pair[0], &pair[1]);
        (one.0, one.1) < (next.0, next.1)
            || ((one.0, one.1) == (next.0, next.1) && one.2.last < next.2.base)
    };
    if !blocks.windows(2).all(is_ordered) || blocks.iter().any(|one| one.2.last < one.2.base) {
        return None;
    }
    declared.into_iter().all(|block| index.apply(block)).then_some(())?;
    let runs = runs(number, &blocks, true);
    let fits = |(topic, partition, run): &(u16, u32, Run)| {
        let known = index.topics.get(usize::from(*topic));
        let known = known.and_then(|topic| topic.partitions.get(*partition as usize));
        known.is_some_and(|known| known.end <= run.base)
    };
    if !runs.iter().all(fits) {
        return None;
    }
    for (topic, partition, run) in runs {
        index.topics[usize::from(topic)].partitions[partition as usize].push(run);
    }
    Some(refs_at)
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, checksum) = frame::parse_frame_header(bytes)?;
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + length)?;
    (crc32c::crc32c(payload) == checksum).then_some((payload, &bytes[FRAME_HEADER + length..]))
}

fn put(out: &mut Vec<u8>, topic: u16, partition: u32, block: &BlockRef) {
    out.extend_from_slice(&topic.to_le_bytes());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&block.base.to_le_bytes());
    out.extend_from_slice(&block.last.to_le_bytes());
    out.extend_from_slice(&block.position.to_le_bytes());
    out.extend_from_slice(&block.length.to_le_bytes());
    out.extend_from_slice(&block.checksum.to_le_bytes());
}

/// `bytes` are as many as [`REF`].
fn parse(bytes: &[u8], number: u32) -> Placed {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
    let block = BlockRef {
        base: long(6),
        last: long(14),
        segment: number,
        position: long(22),
        length: word(30),
        checksum: word(34),
    };
    (u16::from_le_bytes([bytes[0], bytes[1]]), word(2), block)
}

/// An index file whose blocks are looked up one by one.
pub(super) struct Refs<'a> {
    pub(super) file: &'a File,
    pub(super) path: &'a Path,
    pub(super) refs_at: u64,
    pub(super) segment: u32,
}

impl Refs<'_> {
    /// As many of the blocks from `first` on.
    pub(super) fn read(&self, first: u32, count: u32) -> LogResult<Vec<BlockRef>> {
        let mut bytes = vec![0; count as usize * REF];
        let at = self.refs_at + u64::from(first) * REF as u64;
        self.file.read_exact_at(&mut bytes, at).map_err(|error| LogError::Corrupt {
            file: self.path.to_owned(),
            position: at,
            source: error.into(),
        })?;
        Ok(bytes.chunks_exact(REF).map(|bytes| parse(bytes, self.segment).2).collect())
    }

    /// Of `count` blocks from `first` on, those from the first that holds or follows `offset`, as long
    /// as `wanted` says of the next one.
    pub(super) fn from(
        &self,
        (first, count): (u32, u32),
        offset: Offset,
        mut wanted: impl FnMut(&BlockRef) -> bool,
    ) -> LogResult<Vec<BlockRef>> {
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.read(first + middle, 1)?[0].last < offset {
                true => low = middle + 1,
                false => high = middle,
            }
        }
        let mut found = Vec::new();
        while low < count {
            let some = READ_AHEAD.min(count - low);
            for block in self.read(first + low, some)? {
                if !wanted(&block) {
                    return Ok(found);
                }
                found.push(block);
            }
            low += some;
        }
        Ok(found)
    }
}
