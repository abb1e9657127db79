//! Requests that are being answered at the same time: so many in all, and so many of one caller.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

/// Callers are spread over so many locks.
const SHARDS: u64 = 16;

pub(super) struct AtOnce {
    pub(super) most: usize,
    pub(super) per_caller: usize,
    all: AtomicUsize,
    /// Only of callers whose requests are being answered.
    callers: Vec<Mutex<HashMap<u64, usize>>>,
}

/// A place among them, until it is dropped.
pub(crate) struct Place<'a> {
    of: &'a AtOnce,
    caller: u64,
}

/// Who has too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Caller,
}

impl AtOnce {
    pub(super) fn new(most: usize, per_caller: usize) -> Self {
        let callers = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { most, per_caller, all: AtomicUsize::new(0), callers }
    }

    pub(super) fn enter(&self, caller: u64) -> Result<Place<'_>, Full> {
        if self.all.fetch_add(1, Ordering::Relaxed) >= self.most {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::All);
        }
        let is_full = {
            let mut callers = self.shard(caller).lock();
            let of_caller = callers.entry(caller).or_default();
            let is_full = *of_caller >= self.per_caller;
            if !is_full {
                *of_caller += 1;
            }
            is_full
        };
        if is_full {
            self.all.fetch_sub(1, Ordering::Relaxed);
            return Err(Full::Caller);
        }
        Ok(Place { of: self, caller })
    }

    fn shard(&self, caller: u64) -> &Mutex<HashMap<u64, usize>> {
        &self.callers[(caller % SHARDS) as usize]
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.of.all.fetch_sub(1, Ordering::Relaxed);
        let mut callers = self.of.shard(self.caller).lock();
        if let Some(of_caller) = callers.get_mut(&self.caller) {
            *of_caller -= 1;
            if *of_caller == 0 {
                callers.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_never_has_all_places() {
        let at_once = AtOnce::new(3, 2);
        let first = at_once.enter(1).ok().unwrap();
        let second = at_once.enter(1).ok().unwrap();
        assert_eq!(at_once.enter(1).err(), Some(Full::Caller));
        let other = at_once.enter(2).ok().unwrap();
        assert_eq!(at_once.enter(3).err(), Some(Full::All));
        drop(first);
        assert!(at_once.enter(1).is_ok(), "a place came back");
        drop((second, other));
        assert_eq!(at_once.all.load(Ordering::Relaxed), 0);
        assert!(at_once.callers.iter().all(|shard| shard.lock().is_empty()), "none is remembered");
    }
}
