//! Segment files on disk: naming, recovery.

use super::{
    files::Segment,
    frame::{self, Block, FRAME_HEADER, MAGIC},
    index::Index,
    index_file,
};
use crate::{LogError, LogResult};
use almanac_errors::chain;
use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

pub(super) fn log_path(folder: &Path, number: u32) -> PathBuf {
    folder.join(format!("{number:08}.log"))
}

pub(super) fn io_error(
    action: &'static str,
    file: &Path,
) -> impl FnOnce(std::io::Error) -> LogError {
    let file = file.to_owned();
    move |error| LogError::Io { action, file, source: error.into() }
}

/// A segment file that is open for writing.
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: File,
}

/// The file to go on with.
pub(super) struct Recovered {
    pub(super) active: u32,
    pub(super) active_length: u64,
    pub(super) active_file: Option<SegmentFile>,
}

/// Reads the folder. Sealed segments come from their index files where these are whole; anything
/// else is scanned. Only the very end of the newest file may be torn.
pub(super) fn recover(folder: &Path, index: &mut Index) -> LogResult<Recovered> {
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

    let mut recovered = Recovered {
        active: numbers.last().copied().unwrap_or(1),
        active_length: 0,
        active_file: None,
    };
    for (place, number) in numbers.iter().enumerate() {
        let is_last = place + 1 == numbers.len();
        let path = log_path(folder, *number);
        let length = fs::metadata(&path).map_err(io_error("inspect", &path))?.len();
        let indexed = match is_last {
            true => None,
            false => index_file::load(folder, *number, length, index),
        };
        let refs_at = match indexed {
            Some(refs_at) => Some(refs_at),
            None => {
                let (file, good) = read_whole(&path, *number, length, is_last, index)?;
                if is_last {
                    recovered.active_length = good;
                    recovered.active_file = Some(SegmentFile { path: path.clone(), file });
                    None
                } else {
                    make_index(folder, *number, good, index)
                }
            }
        };
        index.segments.insert(*number, Arc::new(Segment::new(path, refs_at)));
    }
    Ok(recovered)
}

/// Takes in a segment without an index file; returns the length of what is good.
fn read_whole(
    path: &Path,
    number: u32,
    length: u64,
    is_last: bool,
    index: &mut Index,
) -> LogResult<(File, u64)> {
    let file =
        OpenOptions::new().read(true).write(true).open(path).map_err(io_error("open", path))?;
    let (good, synced) = scan(&file, path, number, length, is_last, index)?;
    if good < length {
        tracing::warn!(
            file = %path.display(), at = good, bytes = length - good,
            "dropping an unfinished write at the end of the log; it was never acknowledged"
        );
        file.set_len(good).map_err(io_error("truncate", path))?;
    }
    // A process that was killed may have left what only the system's memory holds, and a sync that
    // failed what the system takes for written. Whoever reads it from here on may act on it, so it has
    // to stay.
    if is_last {
        write_again(&file, path, synced, good)?;
    }
    file.sync_all().map_err(io_error("sync", path))?;
    Ok((file, good))
}

/// Writes the index file that a sealed segment lacks. Without one, memory keeps its blocks.
fn make_index(folder: &Path, number: u32, length: u64, index: &mut Index) -> Option<u64> {
    let blocks = index.blocks_of(number);
    let encoded = index_file::encode(length, index, &blocks);
    match index_file::write(folder, number, &encoded) {
        Ok(()) => {
            index.put_runs(number, index_file::runs(number, &blocks, true));
            Some(encoded.refs_at)
        }
        Err(error) => {
            tracing::warn!(error = %chain(&error), "a log segment stays without its index file");
            None
        }
    }
}

/// Applies every frame of a file; returns the length of what is good, and how much of it was synced
/// for certain. A bad frame is an error
/// unless it lies where the newest file was not synced: a power failure may leave any part of what
/// was written last, the later without the earlier, and nobody was told of it.
fn scan(
    file: &File,
    path: &Path,
    number: u32,
    length: u64,
    is_last: bool,
    index: &mut Index,
) -> LogResult<(u64, u64)> {
    let corrupt = |position: u64, detail: &str| LogError::Corrupt {
        file: path.to_owned(),
        position,
        source: detail.into(),
    };
    let (mut position, mut synced) = (0, 0);
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
            return Ok((position, synced));
        };
        let payload_at = position + FRAME_HEADER as u64;
        let blocks = frame::parse_blocks(&payload, number, payload_at)
            .ok_or_else(|| corrupt(position, "frame with unknown content"))?;
        for block in blocks {
            if let Block::Synced { length } = &block {
                synced = *length;
            }
            if !index.apply(block) {
                return Err(corrupt(position, "frame contradicts what precedes it"));
            }
        }
        position = payload_at + payload.len() as u64;
    }
    Ok((position, synced))
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
pub(super) fn write_again(file: &File, path: &Path, from: u64, to: u64) -> LogResult<()> {
    let mut at = from;
    while at < to {
        let Some(payload) = read_frame(file, path, at, to)? else {
            return Err(LogError::Lost { file: path.to_owned(), position: at });
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
