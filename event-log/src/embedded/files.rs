//! Files of segments: opened when they are read, and closed again when others were read since.

use super::segment::io_error;
use crate::LogResult;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// What is known of a segment, whether or not its files are open.
#[derive(Debug)]
pub(super) struct Segment {
    /// Another one once the cleaner has replaced its files.
    serial: u64,
    pub(super) path: PathBuf,
    /// Where the blocks stand in the segment's index file, once it has one.
    pub(super) refs_at: Option<u64>,
}

impl Segment {
    pub(super) fn new(path: PathBuf, refs_at: Option<u64>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self { serial: NEXT.fetch_add(1, Ordering::Relaxed), path, refs_at }
    }

    /// The same files, with an index file now.
    pub(super) fn sealed(&self, refs_at: u64) -> Self {
        Self { serial: self.serial, path: self.path.clone(), refs_at: Some(refs_at) }
    }

    pub(super) fn index_path(&self) -> PathBuf {
        self.path.with_extension("idx")
    }
}

/// Which file of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Log,
    Index,
}

#[derive(Debug)]
pub(super) struct OpenFiles {
    limit: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    /// Counts what is asked for.
    turn: u64,
    files: HashMap<(u64, Kind), (Arc<File>, u64)>,
}

impl OpenFiles {
    pub(super) fn new(limit: usize) -> Self {
        Self { limit: limit.max(1), open: Mutex::default() }
    }

    pub(super) fn log(&self, segment: &Segment) -> LogResult<Arc<File>> {
        self.get((segment.serial, Kind::Log), &segment.path)
    }

    pub(super) fn index(&self, segment: &Segment) -> LogResult<Arc<File>> {
        self.get((segment.serial, Kind::Index), &segment.index_path())
    }

    fn get(&self, key: (u64, Kind), path: &Path) -> LogResult<Arc<File>> {
        let mut open = self.open.lock();
        open.turn += 1;
        let turn = open.turn;
        if let Some((file, used)) = open.files.get_mut(&key) {
            *used = turn;
            return Ok(file.clone());
        }
        let file = Arc::new(File::open(path).map_err(io_error("open", path))?);
        open.files.insert(key, (file.clone(), turn));
        while open.files.len() > self.limit
            && let Some((oldest, _)) = open.files.iter().min_by_key(|(_, (_, used))| *used)
        {
            let oldest = *oldest;
            open.files.remove(&oldest);
        }
        Ok(file)
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.open.lock().files.len()
    }
}
