//! An answer made of cached rows where they lie: nothing is copied before the socket takes it.

use crate::answers::AnswerMemory;
use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll},
};

/// Runs shorter than this on average are joined: a copy is then cheaper than a place of its own in
/// the list that the socket is given.
const WORTH_A_PLACE: usize = 2 << 10;

pub(super) struct Runs {
    chunks: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl Runs {
    /// Rows between head and tail. Every run begins with a comma; the first one's is cut off.
    /// Joined, they need memory of their own, and those that are not small have to find it.
    pub(super) fn whole(
        memory: &AnswerMemory,
        head: Bytes,
        mut runs: Vec<Bytes>,
        tail: Bytes,
    ) -> Self {
        if let Some(first) = runs.first_mut() {
            first.advance(1);
        }
        let length: usize = runs.iter().map(Bytes::len).sum();
        let total = head.len() + length + tail.len();
        let is_joined = length <= runs.len() * WORTH_A_PLACE || length <= 4 * WORTH_A_PLACE;
        let chunks = if is_joined && let Some(part) = memory.part(total) {
            let mut joined = Vec::with_capacity(total);
            joined.extend_from_slice(&head);
            runs.iter().for_each(|run| joined.extend_from_slice(run));
            joined.extend_from_slice(&tail);
            vec![part.hold(Bytes::from(joined))]
        } else {
            let mut chunks = Vec::with_capacity(runs.len() + 2);
            chunks.push(head);
            chunks.append(&mut runs);
            chunks.push(tail);
            chunks
        };
        Self { chunks: chunks.into_iter(), left: total as u64 }
    }
}

impl Body for Runs {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let chunk = self.chunks.next();
        self.left -= chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        Poll::Ready(chunk.map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.chunks.len() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answers::UNCOUNTED;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn short_and_long_runs_give_the_same_text() {
        let memory = AnswerMemory::new(UNCOUNTED + 10_000);
        for length in [1, 10, 2_000, 5_000, 100_000] {
            let runs: Vec<Bytes> =
                (0..40).map(|_| Bytes::from(format!(",{}", "x".repeat(length)))).collect();
            let body =
                Runs::whole(&memory, Bytes::from_static(b"["), runs, Bytes::from_static(b"]"));
            let hint = body.size_hint().exact();
            let sent = body.collect().await.unwrap().to_bytes();
            assert_eq!(hint, Some(sent.len() as u64));
            let wanted = format!("[{}]", vec!["x".repeat(length); 40].join(","));
            assert_eq!(sent, wanted.as_bytes());
        }
        let (head, tail) = (Bytes::from_static(b"["), Bytes::from_static(b"]"));
        let empty = Runs::whole(&memory, head, Vec::new(), tail);
        assert_eq!(empty.collect().await.unwrap().to_bytes(), "[]");
    }

    /// A copy that nobody takes is counted; who finds no room for one is sent the rows themselves.
    #[test]
    fn copies_are_counted_until_they_are_sent() {
        let memory = AnswerMemory::new(UNCOUNTED * 2);
        let runs: Vec<Bytes> = vec![Bytes::from(vec![b','; 1_000]); UNCOUNTED / 1_000 + 10];
        let body = || Runs::whole(&memory, Bytes::new(), runs.clone(), Bytes::new());
        let (first, second) = (body(), body());
        assert_eq!(first.chunks.len(), 1, "one copy");
        assert_eq!(second.chunks.len(), runs.len() + 2, "the cached rows");
        drop(first);
        assert_eq!(body().chunks.len(), 1);
    }
}
