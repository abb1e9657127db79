//! Who holds how much of the memory for bodies.
//!
//! Bodies stand in the common memory, up to a share of each caller. A small one that finds no room
//! there stands in the reserve, where no large one ever stands: who has large ones under way, or
//! meets others who have, can still write.

use super::BodyOptions;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

pub(super) struct Room {
    common: usize,
    reserve: usize,
    small: usize,
    per_caller: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: Amount,
    callers: HashMap<Arc<str>, Amount>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    common: usize,
    reserve: usize,
}

impl Amount {
    fn of(&mut self, place: Place) -> &mut usize {
        match place {
            Place::Common => &mut self.common,
            Place::Reserve => &mut self.reserve,
        }
    }
}

#[derive(Clone, Copy)]
enum Place {
    Common,
    Reserve,
}

/// Whose share is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Caller,
}

/// What one body holds, given back when it is dropped.
pub(super) struct Part {
    room: Arc<Room>,
    caller: Arc<str>,
    /// What the caller may hold of the common memory, this body with the others.
    share: usize,
    held: usize,
    place: Place,
}

impl Room {
    pub(super) fn new(options: &BodyOptions) -> Arc<Self> {
        let reserve = options.reserve.min(options.bytes);
        Arc::new(Self {
            common: options.bytes - reserve,
            reserve,
            small: options.small,
            per_caller: options.per_caller,
            taken: Mutex::default(),
        })
    }

    /// For a body of at most `limit` bytes.
    pub(super) fn part(self: &Arc<Self>, caller: &str, limit: usize) -> Part {
        Part {
            room: self.clone(),
            caller: caller.into(),
            share: self.per_caller.max(limit),
            held: 0,
            place: Place::Common,
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        let taken = self.taken.lock();
        let holds = |amount: &Amount| *amount != Amount::default();
        assert!(taken.callers.values().all(holds), "nobody is kept who holds nothing");
        self.common + self.reserve - taken.all.common - taken.all.reserve
    }
}

impl Part {
    /// Makes it hold so many bytes. When there is no room, it holds what it held.
    pub(super) fn grow(&mut self, length: usize) -> Result<(), Full> {
        let room = self.room.clone();
        let mut taken = room.taken.lock();
        let (held, place) = (self.held, self.place);
        self.give_back(&mut taken);
        let own = taken.callers.get(&self.caller).copied().unwrap_or_default();
        let fits_share = own.common + length <= self.share;
        let is_small = length <= room.small;
        let found = if fits_share && taken.all.common + length <= room.common {
            Ok(Place::Common)
        } else if is_small
            && own.reserve + length <= room.reserve.div_ceil(2)
            && taken.all.reserve + length <= room.reserve
        {
            Ok(Place::Reserve)
        } else if fits_share {
            Err(Full::All)
        } else {
            Err(Full::Caller)
        };
        match found {
            Ok(place) => self.take(&mut taken, place, length),
            Err(_) => self.take(&mut taken, place, held),
        }
        found.map(drop)
    }

    fn take(&mut self, taken: &mut Taken, place: Place, length: usize) {
        (self.place, self.held) = (place, length);
        if length > 0 {
            *taken.all.of(place) += length;
            *taken.callers.entry(self.caller.clone()).or_default().of(place) += length;
        }
    }

    fn give_back(&mut self, taken: &mut Taken) {
        *taken.all.of(self.place) -= self.held;
        if let Some(own) = taken.callers.get_mut(&self.caller) {
            *own.of(self.place) -= self.held;
            if *own == Amount::default() {
                taken.callers.remove(&self.caller);
            }
        }
        self.held = 0;
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let room = self.room.clone();
        self.give_back(&mut room.taken.lock());
    }
}
