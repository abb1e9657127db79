//! Segment files on disk: naming, recovery, sealing.

use super::{
    frame::{self, Block, FRAME_HEADER, MAGIC},
    index::{BlockRef, Index, SegmentFile},
};
use crate::{LogError, LogResult};
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) fn log_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

pub(super) fn index_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.idx"))
}

pub(super) fn io_error(
    action: &'static str,
    file: &Path,
) -> impl FnOnce(std::io::Error) -> LogError {
    let file = file.to_owned();
    move |error| LogError::Io { action, file, detail: error.to_string() }
}

/// What recovery found: the index, and the file to go on with.
pub(super) struct Recovered {
    pub(super) index: Index,
    pub(super) active: u32,
    pub(super) active_length: u64,
}

/// Reads the folder. Sealed segments come from their index files where these are whole; anything
/// else is scanned. Only the very end of the newest file may be torn.
pub(super) fn recover(folder: &Path) -> LogResult<Recovered> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let path = entry.map_err(io_error("list", folder))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        match (extension, stem.and_then(|stem| stem.parse::<u32>().ok())) {
            (Some("log"), Some(number)) => numbers.push(number),
            // A rewrite that did not get to its rename.
            (Some("new"), _) => fs::remove_file(&path).map_err(io_error("remove", &path))?,
            _ => {}
        }
    }
    numbers.sort_unstable();

    let mut index = Index::default();
    let mut active_length = 0;
    for (place, number) in numbers.iter().enumerate() {
        let is_last = place + 1 == numbers.len();
        let path = log_path(folder, *number);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        let length = file.metadata().map_err(io_error("inspect", &path))?.len();
        let from_index =
            !is_last && load_index(&index_path(folder, *number), *number, length, &mut index);
        if !from_index {
            let good = scan(&file, &path, *number, length, is_last, &mut index)?;
            if good < length {
                tracing::warn!(
                    file = %path.display(), at = good, bytes = length - good,
                    "dropping an unfinished write at the end of the log; it was never acknowledged"
                );
                file.set_len(good).map_err(io_error("truncate", &path))?;
            }
            // A process that was killed may have left what only the system's memory holds. Whoever
            // reads it from here on may act on it, so it has to stay.
            file.sync_all().map_err(io_error("sync", &path))?;
            active_length = good;
        }
        index.segments.insert(*number, Arc::new(SegmentFile { path, file }));
    }
    let active = numbers.last().copied().unwrap_or(1);
    Ok(Recovered { index, active, active_length })
}

/// Applies every frame of a file; returns the length of what is good. A bad frame is an error
/// unless it lies where the newest file was not synced: a power failure may leave any part of what
/// was written last, the later without the earlier, and nobody was told of it.
fn scan(
    file: &File,
    path: &Path,
    number: u32,
    length: u64,
    is_last: bool,
    index: &mut Index,
) -> LogResult<u64> {
    let corrupt = |position: u64, detail: &str| LogError::Corrupt {
        file: path.to_owned(),
        position,
        detail: detail.to_owned(),
    };
    let mut position = 0;
    while position < length {
        let Some(payload) = read_frame(file, path, position, length)? else {
            if !is_last {
                return Err(corrupt(position, "bad frame in a finished segment"));
            }
            let mut from = position + 1;
            while let Some((later, payload)) = find_frame(file, path, from, length)? {
                // Frames of earlier versions tell nothing; all before them counts as synced.
                if synced_before(&payload, number).is_none_or(|synced| synced > position) {
                    let detail = format!("bad frame, but a valid one follows at byte {later}");
                    return Err(corrupt(position, &detail));
                }
                from = later + (FRAME_HEADER + payload.len()) as u64;
            }
            return Ok(position);
        };
        let payload_at = position + FRAME_HEADER as u64;
        let blocks = frame::parse_blocks(&payload, number, payload_at)
            .ok_or_else(|| corrupt(position, "frame with unknown content"))?;
        for block in blocks {
            if !index.apply(block) {
                return Err(corrupt(position, "frame contradicts what precedes it"));
            }
        }
        position = payload_at + payload.len() as u64;
    }
    Ok(position)
}

/// The payload of the frame at `position`, or `None` when there is no whole and sound one.
pub(super) fn read_frame(
    file: &File,
    path: &Path,
    position: u64,
    length: u64,
) -> LogResult<Option<Vec<u8>>> {
    if length - position < FRAME_HEADER as u64 {
        return Ok(None);
    }
    let mut header = [0; FRAME_HEADER];
    file.read_exact_at(&mut header, position).map_err(io_error("read", path))?;
    let Some((payload_length, checksum)) = frame::parse_frame_header(&header) else {
        return Ok(None);
    };
    let payload_at = position + FRAME_HEADER as u64;
    if length - payload_at < payload_length as u64 {
        return Ok(None);
    }
    let mut payload = vec![0; payload_length];
    file.read_exact_at(&mut payload, payload_at).map_err(io_error("read", path))?;
    Ok((crc32c::crc32c(&payload) == checksum).then_some(payload))
}

/// Writes what stands between two frames' beginnings once more.
pub(super) fn write_again(segment: &SegmentFile, from: u64, to: u64) -> LogResult<()> {
    let (file, path) = (&segment.file, &segment.path);
    let mut at = from;
    while at < to {
        let Some(payload) = read_frame(file, path, at, to)? else {
            let detail = "the system lost what was written; stop almanac and start it again";
            return Err(LogError::Corrupt {
                file: path.clone(),
                position: at,
                detail: detail.to_owned(),
            });
        };
        let length = FRAME_HEADER + payload.len();
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, at).map_err(io_error("read", path))?;
        file.write_all_at(&bytes, at).map_err(io_error("write", path))?;
        at += length as u64;
    }
    Ok(())
}

/// How much of its file was synced when a frame was written.
fn synced_before(payload: &[u8], number: u32) -> Option<u64> {
    frame::parse_blocks(payload, number, 0)?.into_iter().find_map(|block| match block {
        Block::Synced { length } => Some(length),
        _ => None,
    })
}

/// The next place at or after `from` where a whole and sound frame starts, with its payload.
fn find_frame(
    file: &File,
    path: &Path,
    from: u64,
    length: u64,
) -> LogResult<Option<(u64, Vec<u8>)>> {
    const WINDOW: usize = 1 << 20;
    let mut buffer = vec![0; WINDOW];
    let mut at = from;
    while at < length {
        let wanted = WINDOW.min((length - at) as usize);
        file.read_exact_at(&mut buffer[..wanted], at).map_err(io_error("read", path))?;
        for found in buffer[..wanted].windows(MAGIC.len()).enumerate() {
            if found.1 == MAGIC {
                let candidate = at + found.0 as u64;
                if let Some(payload) = read_frame(file, path, candidate, length)? {
                    return Ok(Some((candidate, payload)));
                }
            }
        }
        if wanted < WINDOW {
            break;
        }
        // The magic may lie across the border of two windows.
        at += (wanted - (MAGIC.len() - 1)) as u64;
    }
    Ok(None)
}

/// Writes the index file of a segment that will not change any more: everything that a start
/// needs without reading the segment.
pub(super) fn write_index(folder: &Path, number: u32, length: u64, index: &Index) -> LogResult<()> {
    let mut out = length.to_le_bytes().to_vec();
    let start = frame::begin_frame(&mut out);
    for (topic_number, topic) in index.topics.iter().enumerate() {
        frame::put_topic(&mut out, topic_number as u16, &topic.declaration);
    }
    for ((group, topic, partition), next_offset) in &index.positions {
        frame::put_position(&mut out, group, *topic, *partition, *next_offset);
    }
    frame::finish_frame(&mut out, start);
    let start = frame::begin_frame(&mut out);
    for (topic_number, topic) in index.topics.iter().enumerate() {
        for (partition, partition_index) in topic.partitions.iter().enumerate() {
            for block in partition_index.blocks.iter().filter(|block| block.segment == number) {
                put_block_ref(&mut out, topic_number as u16, partition as u32, block);
            }
        }
    }
    frame::finish_frame(&mut out, start);

    let path = index_path(folder, number);
    let temporary = path.with_extension("idx.new");
    let mut file = File::create(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(&out).map_err(io_error("write", &temporary))?;
    file.sync_all().map_err(io_error("sync", &temporary))?;
    fs::rename(&temporary, &path).map_err(io_error("rename", &temporary))
}

fn put_block_ref(out: &mut Vec<u8>, topic: u16, partition: u32, block: &BlockRef) {
    out.extend_from_slice(&topic.to_le_bytes());
    out.extend_from_slice(&partition.to_le_bytes());
    out.extend_from_slice(&block.base.to_le_bytes());
    out.extend_from_slice(&block.last.to_le_bytes());
    out.extend_from_slice(&block.position.to_le_bytes());
    out.extend_from_slice(&block.length.to_le_bytes());
    out.extend_from_slice(&block.checksum.to_le_bytes());
}
const BLOCK_REF: usize = 2 + 4 + 8 + 8 + 8 + 4 + 4;

/// Takes an index file into `index`. `false`, with `index` unchanged, when it is missing or
/// doubtful: then the segment itself is read.
fn load_index(path: &Path, number: u32, segment_length: u64, index: &mut Index) -> bool {
    let Some((blocks, refs)) = parse_index(path, number, segment_length) else { return false };
    for block in blocks {
        if !index.apply(block) {
            return false;
        }
    }
    refs.into_iter().all(|block| index.apply(block))
}

fn parse_index(path: &Path, number: u32, segment_length: u64) -> Option<(Vec<Block>, Vec<Block>)> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.read_to_end(&mut bytes).ok()?;
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    if u64::from_le_bytes(*length) != segment_length {
        return None;
    }
    let (declarations, rest) = split_frame(rest)?;
    let (refs, _) = split_frame(rest)?;
    let declarations = frame::parse_blocks(declarations, number, 0)?;
    let refs = refs
        .chunks_exact(BLOCK_REF)
        .map(|bytes| {
            let word =
                |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap_or_default());
            let long =
                |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap_or_default());
            Block::Records {
                topic: u16::from_le_bytes([bytes[0], bytes[1]]),
                partition: word(2),
                block: BlockRef {
                    base: long(6),
                    last: long(14),
                    segment: number,
                    position: long(22),
                    length: word(30),
                    checksum: word(34),
                },
            }
        })
        .collect();
    Some((declarations, refs))
}

fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, checksum) = frame::parse_frame_header(bytes)?;
    let payload = bytes.get(FRAME_HEADER..FRAME_HEADER + length)?;
    (crc32c::crc32c(payload) == checksum).then_some((payload, &bytes[FRAME_HEADER + length..]))
}
