//! Bodies of requests: each up to a limit, those of a caller up to a share, all of them together up
//! to another, and none slower than may be.

mod room;

use crate::{Problem, ProblemType};
use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, header};
use room::{Full, Part, Room};
use std::{
    ops::Deref,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{timeout, timeout_at};

/// What is read of a refused body and thrown away: a client that still sends when its connection is
/// closed would see that, and not the answer.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct BodyOptions {
    /// Memory for the bodies of all requests that are being answered.
    pub bytes: usize,
    /// What of it is for small bodies alone, and how large these may be.
    pub reserve: usize,
    pub small: usize,
    /// What one caller's bodies may take of it. The largest body that is allowed fits always.
    pub per_caller: usize,
    /// For the whole of a body to arrive.
    pub timeout: Duration,
    /// Bytes that arrive in a second, or the body is given up.
    pub least_rate: usize,
    /// Over so long a time: clients pause for a moment.
    pub rated_over: Duration,
}

impl Default for BodyOptions {
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            reserve: 8 << 20,
            small: 256 << 10,
            per_caller: 32 << 20,
            timeout: Duration::from_secs(60),
            least_rate: 4_096,
            rated_over: Duration::from_secs(5),
        }
    }
}

/// The memory that bodies share.
pub struct Bodies {
    room: Arc<Room>,
    timeout: Duration,
    least: usize,
    rated_over: Duration,
}

/// A body, and its part of the memory until it is dropped.
pub struct Held {
    bytes: Bytes,
    _part: Part,
}

impl Deref for Held {
    type Target = Bytes;

    fn deref(&self) -> &Bytes {
        &self.bytes
    }
}

impl Bodies {
    pub fn new(options: &BodyOptions) -> Self {
        let (timeout, rated_over) = (options.timeout, options.rated_over);
        // Rounded up, so that some is asked for however short the time is.
        let least = (options.least_rate as f64 * rated_over.as_secs_f64()).ceil() as usize;
        Self { room: Room::new(options), timeout, least, rated_over }
    }

    /// The whole body of a caller's request, or the problem with it.
    pub async fn read(&self, caller: &str, body: Body, limit: usize) -> Result<Held, Problem> {
        let mut stream = body.into_data_stream();
        let part = self.room.part(caller, limit);
        let problem = match timeout(self.timeout, self.gather(&mut stream, part, limit)).await {
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
            Ok(Err(Refused::NoRoom(Full::All))) => Problem::busy("too many bodies are being read"),
            Ok(Err(Refused::NoRoom(Full::Caller))) => {
                Problem::busy("too many bodies of yours are being read")
            }
            Ok(Err(Refused::Slow)) => {
                let (least, over) = (self.least, self.rated_over);
                let detail = format!("of the body came less than {least} bytes within {over:?}");
                return Err(Problem::new(ProblemType::Timeout, detail));
            }
            Err(_) => {
                let detail = format!("the body took longer than {:?}", self.timeout);
                return Err(Problem::new(ProblemType::Timeout, detail));
            }
        };
        discard_stream(&mut stream).await;
        Err(problem)
    }

    async fn gather(
        &self,
        stream: &mut BodyDataStream,
        mut part: Part,
        limit: usize,
    ) -> Result<Held, Refused> {
        let (mut whole, mut gathered) = (Bytes::new(), BytesMut::new());
        let (mut length, mut rated) = (0, 0);
        let mut judged_at = Instant::now() + self.rated_over;
        loop {
            let piece = match timeout_at(judged_at.into(), stream.next()).await {
                Ok(Some(piece)) => piece.map_err(Refused::Broken)?,
                Ok(None) => break,
                Err(_) if length - rated < self.least => return Err(Refused::Slow),
                Err(_) => {
                    (rated, judged_at) = (length, Instant::now() + self.rated_over);
                    continue;
                }
            };
            length += piece.len();
            if length > limit {
                return Err(Refused::TooLarge);
            }
            part.grow(length).map_err(Refused::NoRoom)?;
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
    NoRoom(Full),
    Slow,
}

/// Reads what a client sends of a body that nobody wants, so that it sees the answer. One that asked
/// whether it may send (RFC 9110, section 10.1.1) sees it without.
pub async fn discard(headers: &HeaderMap, body: Body) {
    if !headers.contains_key(header::EXPECT) {
        discard_stream(&mut body.into_data_stream()).await;
    }
}

/// Whether or not all of it was sent, the answer is the same.
async fn discard_stream(stream: &mut BodyDataStream) {
    let drain = async {
        let mut drained = 0;
        while drained < DRAINED_BYTES
            && let Some(Ok(part)) = stream.next().await
        {
            drained += part.len();
        }
    };
    let _ = timeout(DRAINED_FOR, drain).await;
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

    fn options(bytes: usize) -> BodyOptions {
        BodyOptions {
            bytes,
            reserve: 0,
            small: 0,
            per_caller: bytes,
            timeout: Duration::from_millis(200),
            least_rate: 0,
            ..BodyOptions::default()
        }
    }

    fn bodies(bytes: usize) -> Bodies {
        Bodies::new(&options(bytes))
    }

    async fn refused(bodies: &Bodies, body: Body, limit: usize) -> http::StatusCode {
        bodies.read("mary", body, limit).await.err().expect("it is refused").status()
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_whole() {
        for parts in [0, 1, 3] {
            let read = bodies(100).read("mary", body(parts, &Arc::default()), 30).await;
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

    /// Sends so many pieces at once, and no more.
    fn stalling(parts: usize) -> Body {
        let parts = (0..parts).map(|_| Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789")));
        Body::from_stream(futures::stream::iter(parts).chain(futures::stream::pending()))
    }

    #[tokio::test]
    async fn one_that_does_not_come_is_given_up() {
        assert_eq!(refused(&bodies(100), stalling(1), 100).await, 408);
        // Long before its time is over, when there is a least rate.
        let rated_over = Duration::from_millis(20);
        let timeout = Duration::from_secs(3_600);
        let rated = BodyOptions { timeout, least_rate: 500, rated_over, ..options(100) };
        let rated = Bodies::new(&rated);
        for parts in [0, 1, 5] {
            let problem = rated.read("mary", stalling(parts), 100).await.err().unwrap();
            assert_eq!(problem.status(), 408);
            assert!(problem.detail().contains("less than 10 bytes"), "{}", problem.detail());
        }
        assert_eq!(rated.room.free(), 100, "what is given up gives its part back");
    }

    #[tokio::test]
    async fn all_together_stay_within_their_memory() {
        let bodies = bodies(50);
        let first = bodies.read("mary", body(3, &Arc::default()), 100).await.ok().unwrap();
        assert_eq!(refused(&bodies, body(3, &Arc::default()), 100).await, 503);
        assert_eq!(bodies.room.free(), 20, "what is refused gives its part back");
        drop(first);
        assert!(bodies.read("mary", body(5, &Arc::default()), 100).await.is_ok());
        assert_eq!(bodies.room.free(), 50);
    }

    /// Of eight large ones that are never finished, the others notice nothing.
    #[tokio::test]
    async fn a_caller_takes_a_share_and_small_ones_have_a_reserve() {
        let timeout = Duration::from_secs(3_600);
        let shared =
            BodyOptions { reserve: 20, small: 10, per_caller: 40, timeout, ..options(100) };
        let bodies = Bodies::new(&shared);
        let mut stalled: Vec<_> =
            (0..8).map(|_| Box::pin(bodies.read("tom", stalling(2), 40))).collect();
        for upload in &mut stalled {
            assert!(futures::poll!(upload).is_pending(), "refused or not, it waits for more");
        }
        assert_eq!(bodies.room.free(), 60, "two of them hold 20 each");
        // Another caller's large one fits beside them, and small ones of anybody.
        let large = bodies.read("mary", body(4, &Arc::default()), 40).await;
        let small = bodies.read("eve", body(1, &Arc::default()), 40).await;
        assert!(large.is_ok() && small.is_ok() && bodies.room.free() == 10);
        let full = bodies.read("eve", body(2, &Arc::default()), 40).await;
        assert_eq!(full.err().unwrap().detail(), "too many bodies are being read");
        let own = bodies.read("tom", body(1, &Arc::default()), 40).await;
        assert!(own.is_ok() && bodies.room.free() == 0, "a small one beside the stalled ones");
        let full = bodies.read("tom", body(1, &Arc::default()), 40).await;
        assert_eq!(full.err().unwrap().detail(), "too many bodies of yours are being read");
        drop((stalled, large, small, own));
        assert_eq!(bodies.room.free(), 100);
        // The largest that is allowed fits, whatever the share.
        assert!(bodies.read("tom", body(8, &Arc::default()), 80).await.is_ok());
    }
}
