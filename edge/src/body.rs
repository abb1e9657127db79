//! Bodies of requests, up to a limit.

use crate::{Problem, ProblemType};
use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::time::Duration;

/// What is read of a refused body and thrown away: a client that still sends when its connection is
/// closed would see that, and not the answer.
const DRAINED_BYTES: usize = 64 << 20;
const DRAINED_FOR: Duration = Duration::from_secs(5);

/// The whole body, or the problem with it.
pub async fn read(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let mut stream = body.into_data_stream();
    let broken =
        |error| Problem::new(ProblemType::BadRequest, format!("the body broke off: {error}"));
    let mut whole = match stream.next().await {
        None => return Ok(Bytes::new()),
        Some(first) => first.map_err(broken)?,
    };
    let mut gathered: Option<BytesMut> = None;
    loop {
        let length = gathered.as_ref().map_or(whole.len(), BytesMut::len);
        if length > limit {
            // Whether or not all of it was sent, the answer is the same.
            let _ = tokio::time::timeout(DRAINED_FOR, drain(&mut stream)).await;
            let detail = format!("a body may have at most {limit} bytes");
            return Err(Problem::new(ProblemType::TooLarge, detail));
        }
        let Some(more) = stream.next().await else { break };
        let more = more.map_err(broken)?;
        gathered
            .get_or_insert_with(|| BytesMut::from(std::mem::take(&mut whole)))
            .extend_from_slice(&more);
    }
    Ok(gathered.map_or(whole, BytesMut::freeze))
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
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    fn body(parts: usize, taken: &Arc<AtomicUsize>) -> Body {
        let taken = taken.clone();
        Body::from_stream(futures::stream::iter((0..parts).map(move |_| {
            taken.fetch_add(1, Ordering::Relaxed);
            Ok::<_, std::io::Error>(Bytes::from_static(b"0123456789"))
        })))
    }

    #[tokio::test]
    async fn a_body_within_the_limit_is_whole() {
        for parts in [0, 1, 3] {
            let read = read(body(parts, &Arc::default()), 30).await.unwrap();
            assert_eq!(read, "0123456789".repeat(parts));
        }
    }

    #[tokio::test]
    async fn a_larger_one_is_refused_once_it_was_sent() {
        let taken = Arc::default();
        let problem = read(body(100, &taken), 29).await.unwrap_err();
        assert_eq!(problem.status(), 413);
        assert_eq!(taken.load(Ordering::Relaxed), 100);
    }

    #[tokio::test]
    async fn one_that_breaks_off_is_told_apart() {
        let parts = [Ok(Bytes::from_static(b"{")), Err(std::io::Error::other("reset"))];
        let problem = read(Body::from_stream(futures::stream::iter(parts)), 100).await.unwrap_err();
        assert_eq!(problem.status(), 400);
    }
}
