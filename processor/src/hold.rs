//! A time in which nobody acts: owners keep their partitions, and handle nothing.

use std::future::Future;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Whether to wait; by default never.
#[derive(Clone, Debug, Default)]
pub struct Hold(Option<watch::Receiver<bool>>);

impl Hold {
    pub fn new(is_held: watch::Receiver<bool>) -> Self {
        Self(Some(is_held))
    }

    pub fn is_held(&self) -> bool {
        self.0.as_ref().is_some_and(|is_held| *is_held.borrow())
    }

    /// Resolves once it is so; never where nobody can tell any more.
    async fn until(&self, held: bool) {
        let Some(mut is_held) = self.0.clone() else {
            return if held {
                std::future::pending().await
            };
        };
        if is_held.wait_for(|is_held| *is_held == held).await.is_err() {
            std::future::pending().await
        }
    }

    /// Runs something while it is not held: told to end when a hold begins, and begun again behind it.
    pub(crate) async fn between<E, F: Future<Output = Result<(), E>>>(
        &self,
        cancelled: &CancellationToken,
        run: impl Fn(CancellationToken) -> F,
    ) -> Result<(), E> {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return Ok(()),
                () = self.until(false) => {}
            }
            let until_held = cancelled.child_token();
            let running = run(until_held.clone());
            tokio::pin!(running);
            tokio::select! {
                ended = &mut running => return ended,
                () = self.until(true) => until_held.cancel(),
            }
            running.await?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn what_is_held_ends_and_begins_again() {
        let (held, is_held) = watch::channel(true);
        let (hold, stop) = (Hold::new(is_held), CancellationToken::new());
        let (begun, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (began, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let run = |cancelled: CancellationToken| {
            let (begun, ended, began) = (&begun, &ended, began.clone());
            async move {
                begun.fetch_add(1, Ordering::SeqCst);
                began.send(()).unwrap();
                cancelled.cancelled().await;
                ended.fetch_add(1, Ordering::SeqCst);
                Ok::<(), ()>(())
            }
        };
        let running = hold.between(&stop, run);
        let steps = async {
            assert_eq!(begun.load(Ordering::SeqCst), 0);
            held.send_replace(false);
            begins.recv().await.unwrap();
            held.send_replace(true);
            while ended.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            assert!(hold.is_held() && begun.load(Ordering::SeqCst) == 1);
            held.send_replace(false);
            begins.recv().await.unwrap();
            stop.cancel();
        };
        let (outcome, ()) = tokio::join!(running, steps);
        assert_eq!((outcome, ended.load(Ordering::SeqCst)), (Ok(()), 2));
        assert!(!Hold::default().is_held());
    }
}
