//! Turns for work that takes a processor for a while: few at once, some that wait, and the others
//! are told to come back.

use crate::Problem;
use std::{sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub struct Turns {
    turns: Arc<Semaphore>,
    queue: Semaphore,
    places: usize,
    refusal: &'static str,
}

impl Turns {
    /// `refusal` is what they are told who find no place, or wait in vain.
    pub fn new(at_once: usize, waiting: usize, refusal: &'static str) -> Self {
        let (turns, queue) = (Arc::new(Semaphore::new(at_once)), Semaphore::new(waiting));
        Self { turns, queue, places: waiting, refusal }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.places - self.queue.available_permits()
    }

    /// A turn until it is dropped.
    pub async fn take(&self, wait: Duration) -> Result<OwnedSemaphorePermit, Problem> {
        let busy = || Problem::busy(self.refusal);
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let _place = self.queue.try_acquire().map_err(|_| busy())?;
        let turn = tokio::time::timeout(wait, self.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or_else(busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn few_at_once_some_wait_and_no_more() {
        let turns = Turns::new(1, 2, "too much");
        let (short, long) = (Duration::from_millis(50), Duration::from_secs(60));
        let first = turns.take(long).await.unwrap();
        let (one, other) = tokio::join!(turns.take(short), turns.take(short));
        for refused in [one, other] {
            assert_eq!(refused.unwrap_err().detail(), "too much", "they waited in vain");
        }
        let mut waiting = [Box::pin(turns.take(long)), Box::pin(turns.take(long))];
        for wait in &mut waiting {
            assert!(futures::poll!(wait).is_pending());
        }
        // It does not wait: there is no place.
        assert!(turns.take(long).await.is_err());
        drop(first);
        for wait in waiting {
            assert!(wait.await.is_ok(), "who waits comes next");
        }
    }
}
