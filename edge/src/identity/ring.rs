//! The keys that are known now, and how they are kept right: files are read again when they change,
//! an address is asked again when its keys are stale, both when the process is told to (SIGHUP). What
//! cannot be read leaves the known keys as they are.

use super::{
    IdentityError,
    keys::{self, Key, Origin},
    remote::{FetchError, Fetched, Remote},
};
use almanac_errors::chain;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use std::{
    convert::Infallible,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

/// Files are looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// An address is asked for a key that is unknown at most so often, for all callers together.
const REFETCH_EVERY: Duration = Duration::from_secs(60);
/// After a failure it is asked again after so long, twice as long each time up to the most.
const FIRST_RETRY: Duration = Duration::from_secs(2);
const LAST_RETRY: Duration = Duration::from_secs(300);

/// All keys. The generation is another whenever they are.
pub(super) struct Keys {
    pub(super) list: Vec<Arc<Key>>,
    pub(super) generation: u64,
}

pub(super) struct Ring {
    keys: ArcSwap<Keys>,
    files: Mutex<Vec<FileKeys>>,
    remote: Option<Remote>,
    fetched: Mutex<FetchedKeys>,
    /// Callers wait for the next fetch here; it counts those that ended.
    fetches: watch::Sender<u64>,
    wanted: Notify,
    asked: Mutex<Asked>,
}

struct FileKeys {
    file: PathBuf,
    seen: Seen,
    keys: Vec<Arc<Key>>,
}

#[derive(Default)]
struct FetchedKeys {
    text: Vec<u8>,
    keys: Vec<Arc<Key>>,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

fn see(file: &Path) -> io::Result<Seen> {
    let found = fs::metadata(file)?;
    let modified = (found.mtime(), found.mtime_nsec());
    Ok(Seen { modified, length: found.len(), inode: found.ino() })
}

/// Who asked for a key that is unknown.
#[derive(Default)]
struct Asked {
    under_way: bool,
    /// No fetch has begun since somebody asked.
    is_wanted: bool,
    last: Option<Instant>,
}

#[derive(Debug, PartialEq, Eq)]
enum Ask {
    /// A fetch is to be started, or is under way.
    Start,
    Wait,
    /// Somebody asked a moment ago: the key is nobody's.
    Unknown,
}

impl Asked {
    fn ask(&mut self, now: Instant) -> Ask {
        if self.under_way {
            return Ask::Wait;
        }
        if self.last.is_some_and(|last| now.duration_since(last) < REFETCH_EVERY) {
            return Ask::Unknown;
        }
        *self = Self { under_way: true, is_wanted: true, last: Some(now) };
        Ask::Start
    }
}

fn read(file: &Path) -> Result<FileKeys, IdentityError> {
    let failed = |source| IdentityError::File { action: "read", file: file.to_owned(), source };
    // First: what is written while it is read is seen the next time.
    let seen = see(file).map_err(failed)?;
    let text = fs::read(file).map_err(failed)?;
    let keys = keys::parse(&file.display().to_string(), &text, Origin::File)?;
    Ok(FileKeys { file: file.to_owned(), seen, keys: keys.into_iter().map(Arc::new).collect() })
}

impl Ring {
    /// Files must be there and hold keys; an address is asked by [`Self::follow`].
    pub(super) fn new(files: &[PathBuf], remote: Option<Remote>) -> Result<Self, IdentityError> {
        let files = files.iter().map(|file| read(file)).collect::<Result<_, _>>()?;
        let ring = Self {
            keys: ArcSwap::from_pointee(Keys { list: Vec::new(), generation: 0 }),
            files: Mutex::new(files),
            remote,
            fetched: Mutex::default(),
            fetches: watch::Sender::new(0),
            wanted: Notify::new(),
            asked: Mutex::default(),
        };
        ring.publish();
        Ok(ring)
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
    }

    pub(super) fn has_address(&self) -> bool {
        self.remote.is_some()
    }

    #[cfg(test)]
    pub(super) fn forget_asking(&self) {
        self.asked.lock().last = None;
    }

    #[cfg(test)]
    pub(super) fn is_asking(&self) -> bool {
        self.asked.lock().under_way
    }

    fn publish(&self) {
        let mut list: Vec<_> = self.fetched.lock().keys.clone();
        list.extend(self.files.lock().iter().flat_map(|file| file.keys.iter().cloned()));
        let generation = self.keys.load().generation + 1;
        self.keys.store(Arc::new(Keys { list, generation }));
    }

    /// A key that is unknown may be new: the address is asked once for all callers that wait.
    pub(super) async fn look_for(&self, id: &str) {
        let Some(remote) = &self.remote else { return };
        if self.keys.load().list.iter().any(|key| key.id.as_deref() == Some(id)) {
            return;
        }
        let mut fetches = self.fetches.subscribe();
        match self.asked.lock().ask(Instant::now()) {
            Ask::Start => self.wanted.notify_one(),
            Ask::Wait => {}
            Ask::Unknown => return,
        }
        // An issuer's keys take two requests.
        let _ = timeout(remote.timeout * 2, fetches.changed()).await;
    }

    /// Keeps the keys right for as long as it is polled.
    pub(super) async fn follow(&self) -> Infallible {
        let mut hangups = signal(SignalKind::hangup()).ok();
        let mut due = Instant::now();
        let mut failures = 0;
        loop {
            let is_fetch_due = tokio::select! {
                () = sleep_until(due), if self.remote.is_some() => true,
                () = self.wanted.notified() => self.asked.lock().is_wanted,
                () = hung_up(&mut hangups) => {
                    self.read_again(true);
                    true
                }
                () = sleep(LOOK_EVERY) => {
                    self.read_again(false);
                    false
                }
            };
            if let Some(remote) = self.remote.as_ref().filter(|_| is_fetch_due) {
                due = Instant::now() + self.fetch(remote, &mut failures).await;
            }
        }
    }

    /// Reads the files that changed, or all of them.
    fn read_again(&self, all: bool) {
        let mut changed = false;
        for known in &mut *self.files.lock() {
            let now = see(&known.file);
            if !all && now.as_ref().is_ok_and(|now| *now == known.seen) {
                continue;
            }
            match read(&known.file) {
                Ok(read) => {
                    *known = read;
                    changed = true;
                }
                // Once for each state of the file.
                Err(error) if known.seen != now.as_ref().copied().unwrap_or_default() => {
                    known.seen = now.unwrap_or_default();
                    tracing::warn!(error = %chain(&error), "keys cannot be read again; those that are known stand");
                }
                Err(_) => {}
            }
        }
        if changed {
            self.publish();
            tracing::info!("keys of identity were read again");
        }
    }

    /// Asks the address; when to ask the next time.
    async fn fetch(&self, remote: &Remote, failures: &mut u32) -> Duration {
        {
            let mut asked = self.asked.lock();
            (asked.under_way, asked.is_wanted) = (true, false);
        }
        let fetched = remote.fetch().await;
        let next = self.took(fetched, &remote.shown(), failures);
        self.asked.lock().under_way = false;
        self.fetches.send_modify(|number| *number += 1);
        next
    }

    fn took(
        &self,
        fetched: Result<Fetched, FetchError>,
        address: &str,
        failures: &mut u32,
    ) -> Duration {
        match fetched {
            Ok(Fetched { keys, text, fresh_for }) => {
                *failures = 0;
                let is_new = self.fetched.lock().text != text;
                if is_new {
                    let keys: Vec<_> = keys.into_iter().map(Arc::new).collect();
                    tracing::info!(address, keys = keys.len(), "keys of identity were fetched");
                    *self.fetched.lock() = FetchedKeys { text, keys };
                    self.publish();
                }
                fresh_for
            }
            Err(error) => {
                let retry = FIRST_RETRY * 2_u32.saturating_pow(*failures);
                *failures = (*failures + 1).min(8);
                tracing::warn!(error = %chain(&error), "keys of identity cannot be fetched; those that are known stand");
                retry.min(LAST_RETRY)
            }
        }
    }
}

/// Resolves when the process is told to read again.
async fn hung_up(hangups: &mut Option<Signal>) {
    let told = match hangups {
        Some(hangups) => hangups.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_refetch_a_minute_for_all() {
        let (mut asked, now) = (Asked::default(), Instant::now());
        assert_eq!(asked.ask(now), Ask::Start);
        for _ in 0..100 {
            assert_eq!(asked.ask(now), Ask::Wait, "they share it");
        }
        asked.under_way = false;
        assert_eq!(asked.ask(now + REFETCH_EVERY / 2), Ask::Unknown);
        assert_eq!(asked.ask(now + REFETCH_EVERY), Ask::Start);
    }
}
