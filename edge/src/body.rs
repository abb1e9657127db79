//! Bodies of requests: each up to a limit, all of them together up to another.

use crate::{Problem, ProblemType};
use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::{ops::Deref, sync::Arc, time::Duration};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// What is read of a refused body and thrown away: a client that still sends when its connection is
/// closed would see that, and not the answer.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct BodyOptions {
    /// Memory for the bodies of all requests that are being answered.
    pub bytes: usize,
    /// For the whole of a body to arrive.
    pub timeout: Duration,
}

impl Default for BodyOptions {
    fn default() -> Self {
        Self { bytes: 64 << 20, timeout: Duration::from_secs(60) }
    }
}

/// The memory that bodies share.
pub struct Bodies {
    free: Arc<Semaphore>,
    timeout: Duration,
}

/// A body, and its part of the memory until it is dropped.
pub struct Held {
    bytes: Bytes,
    _part: Option<OwnedSemaphorePermit>,
}

impl Deref for Held {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Bodies {
    pub fn new(options: &BodyOptions) -> Self {
        let bytes = options.bytes.min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(bytes)), timeout: options.timeout }
    }

    /// The whole body, or the problem with it.
    pub async fn read(&self, body: Body, limit: usize) -> Result<Held, Problem> {
        let mut stream = body.into_data_stream();
        let problem = match timeout(self.timeout, self.gather(&mut stream, limit)).await {
            Ok(Ok(held)) => return Ok(held),
            Ok(Err(Refused::Broken(error))) => {
                return Err(Problem::new(
                    ProblemType::BadRequest,
                    format!("the body broke off: {error}"),
                ));
            }
            Ok(Err(Refused::TooLarge)) => {
                let detail = format!("a body may have at most {limit} bytes");
                Problem::new(ProblemType::TooLarge, detail)
            }
            Ok(Err(Refused::NoRoom)) => Problem::busy("too many bodies are being read"),
            Err(_) => {
                let detail = format!("the body took longer than {:?}", self.timeout);
                return Err(Problem::new(ProblemType::Timeout, detail));
            }
        };
        // Whether or not all of it was sent, the answer is the same.
        let _ = timeout(DRAINED_FOR, drain(&mut stream)).await;
        Err(problem)
    }

    async fn gather(&self, stream: &mut BodyDataStream, limit: usize) -> Result<Held, Refused> {
        let (mut whole, mut gathered) = (Bytes::new(), BytesMut::new());
        let (mut length, mut part) = (0, None::<OwnedSemaphorePermit>);
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(Refused::Broken)?;
            length += piece.len();
            if length > limit {
                return Err(Refused::TooLarge);
            }
            let more = u32::try_from(piece.len()).map_err(|_| Refused::TooLarge)?;
            let more = self.free.clone().try_acquire_many_owned(more);
            let more = more.map_err(|_| Refused::NoRoom)?;
            match &mut part {
                None => part = Some(more),
                Some(part) => part.merge(more),
            }
            // Most bodies are one piece, which is not copied.
            if whole.is_empty() && gathered.is_empty() {
                whole = piece;
            } else {
                gathered.extend_from_slice(&std::mem::take(&mut whole));
                gathered.extend_from_slice(&piece);
            }
        }
        let bytes = if gathered.is_empty() { whole } else { gathered.freeze() };
        Ok(Held { bytes, _part: part })
    }
}

enum Refused {
    Broken(axum::Error),
    TooLarge,
    NoRoom,
}

async fn drain(stream: &mut BodyDataStream) {
    let mut drained = 0;
    while drained < DRAINED_BYTES
        && let Some(Ok(part)) = stream.next().await
    {
        drained += part.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn body(parts: usize, taken: &Arc<AtomicUsize>) -> Body {
        let taken = taken.clone();
        Body::from_stream(futures::stream::iter((0..parts).map(move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"))
        })))
    }

    fn bodies(bytes: usize) -> Bodies {
        Bodies::new(&BodyOptions { bytes, timeout: Duration::from_millis(100) })
    }

    async fn refused(bodies: &Bodies, body: Body, limit: usize) -> http::StatusCode {
        bodies.read(body, limit).await.err().expect("it is refused").status()
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_whole() {
        for parts in [0, 1, 3] {
            let read = bodies(100).read(body(parts, &Arc::default()), 30).await;
            assert_eq!(**read.ok().unwrap(), *"0123456789".repeat(parts).as_bytes());
        }
    }

    #[tokio::test]
    async fn a_larger_one_is_refused_once_it_was_sent() {
        let taken = Arc::default();
        assert_eq!(refused(&bodies(5_000), body(100, &taken), 29).await, 413);
        assert_eq!(taken.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_told_apart() {
        let parts = [Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))];
        let body = Body::from_stream(futures::stream::iter(parts));
        assert_eq!(refused(&bodies(100), body, 100).await, 400);
    }

    #[tokio::test]
    async fn one_that_does_not_come_is_given_up() {
        let start = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]);
        let body = Body::from_stream(start.chain(futures::stream::pending()));
        assert_eq!(refused(&bodies(100), body, 100).await, 408);
    }

    #[tokio::test]
    async fn all_together_stay_within_their_memory() {
        let bodies = bodies(50);
        let first = bodies.read(body(3, &Arc::default()), 100).await.ok().unwrap();
        assert_eq!(refused(&bodies, body(3, &Arc::default()), 100).await, 503);
        assert_eq!(bodies.free.available_permits(), 20, "what is refused gives its part back");
        drop(first);
        assert!(bodies.read(body(5, &Arc::default()), 100).await.is_ok());
        assert_eq!(bodies.free.available_permits(), 50);
    }
}
