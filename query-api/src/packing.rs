//! Answers compressed for who asks for it, behind the threads that answer.
//!
//! What compressing costs follows from the answer, not from the request: a few bytes ask for a
//! tenth of a second of processor. A small answer is compressed where it is. A larger one takes a
//! place, of which there are few, and is compressed in the background, piece by piece, as its
//! client takes it. Without a place it goes out as it is.

use axum::{body::Body, response::Response};
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    convert::Infallible,
    future::ready,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};
use tower::{Layer, ServiceExt, service_fn};
use tower_http::{BoxError, compression::CompressionLayer};

/// Up to here a thread that answers does it itself: half a millisecond.
const SMALL: u64 = 16 << 10;
/// What is compressed before others get their turn.
const PIECE: usize = 16 << 10;
/// What a piece costs beside its bytes, in bytes: a large answer may come in very short ones.
const EACH: usize = 128;
/// Compressed pieces of this size are handed over, and so many wait to be sent.
const HANDED_OVER: usize = 16 << 10;
const AHEAD: usize = 2;

/// How many answers are compressed at once, and where.
#[derive(Clone, Debug)]
pub struct PackingOptions {
    /// Large answers in gzip; others go out uncompressed.
    pub gzip_answers: usize,
    /// Answers in brotli, small ones too, each with fourteen megabytes of memory for its encoder;
    /// others are offered gzip.
    pub brotli_answers: usize,
    /// The runtime that compresses the large ones.
    pub background: Handle,
}

pub(crate) struct Packing {
    gzip: Arc<Semaphore>,
    brotli: Arc<Semaphore>,
    background: Handle,
}

impl Packing {
    pub(crate) fn new(options: &PackingOptions) -> Self {
        Self {
            gzip: Arc::new(Semaphore::new(options.gzip_answers)),
            brotli: Arc::new(Semaphore::new(options.brotli_answers)),
            background: options.background.clone(),
        }
    }

    /// The answer in an encoding that is accepted and has a place, or as it is.
    pub(crate) async fn pack(&self, accepted: Vec<HeaderValue>, answer: Response) -> Response {
        if accepted.is_empty() || answer.headers().contains_key(header::CONTENT_ENCODING) {
            return answer;
        }
        let is_small = answer.body().size_hint().upper().is_some_and(|most| most <= SMALL);
        let brotli = self.brotli.clone().try_acquire_owned().ok();
        let gzip = match is_small {
            true => None,
            false => self.gzip.clone().try_acquire_owned().ok(),
        };
        let mut request = http::Request::new(Body::empty());
        let lines = accepted.into_iter().map(|one| (header::ACCEPT_ENCODING, one));
        request.headers_mut().extend(lines);
        let mut answer = Some(answer.map(Pieces::new));
        let service = service_fn(|_| ready(Ok::<_, Infallible>(answer.take().unwrap_or_default())));
        let layer = CompressionLayer::new().br(brotli.is_some()).gzip(is_small || gzip.is_some());
        let Ok(answer) = layer.layer(service).oneshot(request).await;
        let encoding = answer.headers().get(header::CONTENT_ENCODING);
        let place = match encoding.map(HeaderValue::as_bytes) {
            Some(b"br") => brotli,
            Some(b"gzip") => gzip,
            _ => return answer.map(|body| body.into_inner().whole),
        };
        if is_small {
            return answer.map(|body| {
                Body::new(body.map_frame(move |frame| {
                    let _until_it_is_sent = &place;
                    frame
                }))
            });
        }
        answer.map(|body| {
            let (sender, pieces) = mpsc::channel(AHEAD);
            self.background.spawn(compress(body, sender, place));
            Body::new(Handed { pieces })
        })
    }
}

/// Whether gzip is accepted, and nothing else is more welcome.
pub(crate) fn prefers_gzip(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT_ENCODING).into_iter();
    let codings = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let qualities: Vec<(&str, f32)> = codings
        .map(|coding| {
            let (name, parameter) = coding.split_once(';').unwrap_or((coding, "q=1"));
            let quality = parameter.trim().strip_prefix(['q', 'Q']);
            let quality = quality.and_then(|rest| rest.trim_start().strip_prefix('='));
            // Of one that cannot be read, somebody else may make something.
            (name.trim(), quality.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0))
        })
        .collect();
    let of = |name: &str| {
        let named = qualities.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        named.map(|(_, quality)| *quality)
    };
    let any = of("*");
    let gzip = of("gzip").or(of("x-gzip")).or(any).unwrap_or(0.0);
    let others = [of("br").or(any), of("identity")];
    gzip > 0.0 && others.into_iter().flatten().all(|other| gzip >= other)
}

/// A compressed piece; `None` is the end, without which an answer is cut off.
type Piece = Result<Option<Bytes>, BoxError>;

async fn compress<B>(body: B, sender: mpsc::Sender<Piece>, _place: Option<OwnedSemaphorePermit>)
where
    B: http_body::Body<Data = Bytes, Error = BoxError>,
{
    let mut body = pin!(body);
    let mut gathered = BytesMut::new();
    loop {
        let piece = match body.frame().await {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                gathered.extend_from_slice(&data);
                if gathered.len() < HANDED_OVER {
                    continue;
                }
                Ok(Some(gathered.split().freeze()))
            }
            Some(Err(error)) => Err(error),
            None => break,
        };
        let is_end = piece.is_err();
        // Who left wants no more.
        if sender.send(piece).await.is_err() || is_end {
            return;
        }
    }
    if !gathered.is_empty() && sender.send(Ok(Some(gathered.freeze()))).await.is_err() {
        return;
    }
    let _ = sender.send(Ok(None)).await;
}

/// A body on its way into an encoder: in small pieces, between which others have their turn.
#[derive(Default)]
struct Pieces {
    whole: Body,
    rest: Bytes,
    /// What was handed out since others had a turn.
    since: usize,
}

impl Pieces {
    fn new(whole: Body) -> Self {
        Self { whole, ..Self::default() }
    }
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.since >= PIECE {
            self.since = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.whole).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let length = self.rest.len().min(PIECE);
        self.since += length + EACH;
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.whole.size_hint()
    }
}

/// What the background hands over.
struct Handed {
    pieces: mpsc::Receiver<Piece>,
}

impl http_body::Body for Handed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(match ready!(self.pieces.poll_recv(context)) {
            Some(Ok(Some(piece))) => Some(Ok(Frame::data(piece))),
            Some(Ok(None)) => None,
            Some(Err(error)) => Some(Err(error)),
            None => Some(Err("the answer was not compressed to its end".into())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::{collections::BTreeSet, thread};

    const LARGE: usize = 1 << 20;

    /// Places for gzip and brotli, and a runtime whose threads have a name.
    fn packing(gzip: usize, brotli: usize) -> (Packing, tokio::runtime::Runtime) {
        let background = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("background")
            .build()
            .unwrap();
        let options = PackingOptions {
            gzip_answers: gzip,
            brotli_answers: brotli,
            background: background.handle().clone(),
        };
        (Packing::new(&options), background)
    }

    /// Lines of their own mean the same.
    fn accepted(encodings: &'static str) -> Vec<HeaderValue> {
        encodings.split(", ").map(HeaderValue::from_static).collect()
    }

    fn encoding(answer: &Response) -> &str {
        let encoding = answer.headers().get(header::CONTENT_ENCODING);
        encoding.map_or("", |encoding| encoding.to_str().unwrap())
    }

    /// What a body that is never at its end is packed with.
    async fn endless(packing: &Packing, encodings: &'static str) -> (String, Response) {
        let mut word = 1_u64;
        // Noise, of which pieces come out as large as they went in.
        let noise = std::iter::repeat_with(|| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 56) as u8
        });
        let noise: Bytes = noise.take(PIECE).collect();
        let parts = futures::stream::repeat(Ok::<_, Infallible>(noise));
        let answer = Response::new(Body::from_stream(parts));
        let answer = packing.pack(accepted(encodings), answer).await;
        (encoding(&answer).to_owned(), answer)
    }

    async fn until_free(places: &Arc<Semaphore>, number: usize) {
        while places.available_permits() < number {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn gzip_is_preferred_where_nothing_is_more_welcome() {
        for (accepted, is_preferred) in [
            ("gzip", true),
            ("gzip, deflate, br, zstd", true),
            ("GZIP;q=0.5, br;q=0.4", true),
            ("x-gzip", true),
            ("*", true),
            ("*;q=0.5, br;q=0.2", true),
            ("br, gzip;q=0.9", false),
            ("br", false),
            ("gzip;q=0", false),
            ("gzip;q=0, *", false),
            ("gzip; Q = 0.5, identity", false),
            ("gzip;q=x", false),
            ("identity", false),
            ("", false),
        ] {
            let lines = accepted.split(", ").map(|line| HeaderValue::from_str(line).unwrap());
            let headers = lines.map(|line| (header::ACCEPT_ENCODING, line)).collect();
            assert_eq!(prefers_gzip(&headers), is_preferred, "{accepted}");
        }
        assert!(!prefers_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn every_encoding_has_few_places() {
        let (packing, background) = packing(1, 1);
        let (first, gzip) = endless(&packing, "gzip").await;
        assert_eq!(first, "gzip");
        assert_eq!(endless(&packing, "gzip").await.0, "", "it goes out as it is");
        let (second, brotli) = endless(&packing, "gzip, br").await;
        assert_eq!(second, "br");
        assert_eq!(endless(&packing, "gzip, br").await.0, "");
        let small = packing.pack(accepted("gzip"), Response::new("x".repeat(1_000).into())).await;
        assert_eq!(encoding(&small), "gzip", "small ones in gzip take no place");
        drop(gzip);
        until_free(&packing.gzip, 1).await;
        let (third, gzip) = endless(&packing, "gzip, br").await;
        assert_eq!(third, "gzip");
        drop((brotli, gzip));
        until_free(&packing.brotli, 1).await;
        let small = packing.pack(accepted("br"), Response::new("x".repeat(1_000).into())).await;
        assert_eq!((encoding(&small), packing.brotli.available_permits()), ("br", 0));
        drop(small);
        assert_eq!(packing.brotli.available_permits(), 1);
        background.shutdown_background();
    }

    #[tokio::test]
    async fn large_answers_are_compressed_behind_those_who_answer() {
        let (packing, background) = packing(1, 1);
        for encodings in ["gzip", "br"] {
            let threads = Arc::new(Mutex::new(BTreeSet::new()));
            let seen = threads.clone();
            let parts = (0..LARGE / 1_000).map(move |_| {
                seen.lock().insert(thread::current().name().unwrap_or_default().to_owned());
                Ok::<_, Infallible>("x".repeat(1_000))
            });
            let answer = Response::new(Body::from_stream(futures::stream::iter(parts)));
            let answer = packing.pack(accepted(encodings), answer).await;
            assert_eq!(encoding(&answer), encodings);
            assert!(answer.into_body().collect().await.unwrap().to_bytes().len() < LARGE / 10);
            let threads: Vec<String> = threads.lock().iter().cloned().collect();
            assert_eq!(threads, ["background"], "{encodings}");
        }
        background.shutdown_background();
    }

    #[tokio::test]
    async fn others_have_their_turn_between_pieces() {
        let large = Bytes::from(vec![b'x'; LARGE]);
        for (body, frames) in [
            (Body::from(large.clone()), LARGE / PIECE),
            (
                Body::from_stream(futures::stream::iter((0..LARGE / 64).map({
                    let large = large.clone();
                    move |_| Ok::<_, Infallible>(large.slice(..64))
                }))),
                LARGE / 64,
            ),
        ] {
            let mut pieces = Pieces::new(body);
            let (mut taken, mut turns, mut in_a_row) = (0, 0, 0);
            let mut context = Context::from_waker(std::task::Waker::noop());
            loop {
                match Pin::new(&mut pieces).poll_frame(&mut context) {
                    Poll::Pending => (turns, in_a_row) = (turns + 1, 0),
                    Poll::Ready(None) => break,
                    Poll::Ready(Some(frame)) => {
                        taken += 1;
                        in_a_row += frame.unwrap().into_data().unwrap().len();
                        assert!(in_a_row <= PIECE);
                    }
                }
            }
            assert_eq!(taken, frames);
            assert!(turns >= LARGE / PIECE - 1, "{turns}");
        }
    }

    #[tokio::test]
    async fn what_was_not_compressed_to_its_end_is_cut_off() {
        let (packing, background) = packing(1, 0);
        let (_, answer) = endless(&packing, "gzip").await;
        let mut body = answer.into_body();
        assert!(body.frame().await.unwrap().is_ok());
        background.shutdown_background();
        let end = loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                end => break end,
            }
        };
        assert!(end.is_some_and(|end| end.is_err()), "no client takes it for complete");
    }
}
