//! Pictures made smaller: each size once for all who want it, few at the same time, and kept within
//! a budget of memory.

use almanac_edge::{Problem, Turns};
use almanac_schemas::recipes::Picture;
use bytes::Bytes;
use foldhash::quality::RandomState;
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use image::{
    DynamicImage, ImageDecoder, codecs::jpeg::JpegDecoder, codecs::jpeg::JpegEncoder,
    imageops::FilterType,
};
use parking_lot::Mutex;
use quick_cache::{Weighter, sync::Cache};
use std::{collections::HashMap, io::Cursor, sync::Arc, time::Duration};

const QUALITY: u8 = 82;
const AT_ONCE: usize = 2;
const WAITING: usize = 64;
/// Of a picture that is kept: larger ones are none of ours.
const MAX_PIXELS: u64 = 4 << 20;
const BUSY: &str = "too many pictures are being made smaller";

/// A picture and the width it is wanted in.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) hash: Box<str>,
    pub(super) width: u32,
}

/// A picture as it is sent.
#[derive(Clone, Debug)]
pub(super) struct Small {
    /// Of the picture that it was made of.
    pub(super) hash: Box<str>,
    pub(super) image: Bytes,
}

type Flight = Shared<BoxFuture<'static, Result<Small, Problem>>>;

pub(crate) struct Pictures {
    kept: Cache<Key, Bytes, Weights, RandomState>,
    /// What is being made.
    flights: Mutex<HashMap<Key, Flight>>,
    turns: Turns,
}

#[derive(Clone)]
struct Weights;

impl Weighter<Key, Bytes> for Weights {
    fn weight(&self, key: &Key, image: &Bytes) -> u64 {
        (key.hash.len() + image.len()) as u64 + 160
    }
}

impl Pictures {
    pub(crate) fn new(bytes: usize) -> Arc<Self> {
        let bytes = bytes as u64;
        let entries = (bytes / 8_192).clamp(64, 1 << 16) as usize;
        let kept = Cache::with(entries, bytes, Weights, RandomState::default(), Default::default());
        Arc::new(Self {
            kept,
            flights: Mutex::default(),
            turns: Turns::new(AT_ONCE, WAITING, BUSY),
        })
    }

    /// The picture in this width, as `load` finds it: what is loaded may be newer than what is
    /// asked for. It is made to its end, and kept, even when nobody waits for it any more.
    pub(super) async fn small(
        self: &Arc<Self>,
        key: Key,
        wait: Duration,
        load: impl Future<Output = Result<Picture, Problem>> + Send + 'static,
    ) -> Result<Small, Problem> {
        if let Some(image) = self.kept.get(&key) {
            return Ok(Small { hash: key.hash, image });
        }
        let flight = {
            let mut flights = self.flights.lock();
            let flight = flights.entry(key).or_insert_with_key(|key| {
                let landing = Landing { pictures: self.clone(), key: key.clone() };
                let flight = tokio::spawn(async move { landing.fly(wait, load).await });
                flight
                    .map(|made| made.unwrap_or_else(|e| Err(Problem::internal(&e))))
                    .boxed()
                    .shared()
            });
            flight.clone()
        };
        tokio::time::timeout(wait, flight).await.unwrap_or_else(|_| Err(Problem::busy(BUSY)))
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.kept.weight()
    }
}

/// A flight that is over is over for all, however it ended.
struct Landing {
    pictures: Arc<Pictures>,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.pictures.flights.lock().remove(&self.key);
    }
}

impl Landing {
    async fn fly(
        self,
        wait: Duration,
        load: impl Future<Output = Result<Picture, Problem>>,
    ) -> Result<Small, Problem> {
        let turn = self.pictures.turns.take(wait).await?;
        let picture = load.await?;
        let width = self.key.width;
        let making = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let hash = picture.hash().into_boxed_str();
            // Never larger than it is.
            let image = match width < picture.width {
                true => resize(&picture.image, width)?,
                false => picture.image,
            };
            Ok::<_, image::ImageError>(Small { hash, image: image.into() })
        });
        let made = making.await.map_err(|error| Problem::internal(&error))?;
        let made = made.map_err(|error| Problem::internal(&error))?;
        let key = Key { hash: made.hash.clone(), width };
        self.pictures.kept.insert(key, made.image.clone());
        Ok(made)
    }
}

/// What is kept is sRGB, and so is what is made of it.
fn resize(image: &[u8], width: u32) -> image::ImageResult<Vec<u8>> {
    let decoder = JpegDecoder::new(Cursor::new(image))?;
    let (across, down) = decoder.dimensions();
    if u64::from(across) * u64::from(down) > MAX_PIXELS {
        use image::error::{ImageError, LimitError, LimitErrorKind};
        return Err(ImageError::Limits(LimitError::from_kind(LimitErrorKind::DimensionError)));
    }
    let whole = DynamicImage::from_decoder(decoder)?;
    let small = whole.resize(width, u32::MAX, FilterType::CatmullRom);
    let mut bytes = Vec::new();
    small.to_rgb8().write_with_encoder(JpegEncoder::new_with_quality(&mut bytes, QUALITY))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    const LONG: Duration = Duration::from_secs(60);

    fn picture(width: u32, red: u8) -> Picture {
        let whole = image::RgbImage::from_pixel(width, 300, image::Rgb([red, 10, 10]));
        let mut image = Vec::new();
        whole.write_with_encoder(JpegEncoder::new_with_quality(&mut image, 90)).unwrap();
        Picture { content_type: "image/jpeg".to_owned(), width, height: 300, image }
    }

    fn key(picture: &Picture, width: u32) -> Key {
        Key { hash: picture.hash().into(), width }
    }

    #[test]
    fn pictures_keep_their_shape() {
        let small = resize(&picture(1_024, 200).image, 256).unwrap();
        let read = image::load_from_memory(&small).unwrap();
        assert_eq!((read.width(), read.height()), (256, 75));
        assert!(resize(b"x", 64).is_err());
        assert!(resize(&picture(14_000, 1).image, 64).is_err(), "more pixels than are kept");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn each_size_is_made_once_for_all() {
        let (pictures, loads) = (Pictures::new(1 << 20), Arc::new(AtomicUsize::new(0)));
        let whole = picture(1_024, 200);
        let small = |width| {
            let (whole, loads) = (whole.clone(), loads.clone());
            let key = key(&whole, width);
            pictures.small(key, LONG, async move {
                loads.fetch_add(1, Ordering::SeqCst);
                Ok(whole)
            })
        };
        let all = futures::future::join_all((0..200).map(|_| small(256))).await;
        assert!(
            all.iter().all(|one| one.as_ref().unwrap().image == all[0].as_ref().unwrap().image)
        );
        assert_eq!(loads.load(Ordering::SeqCst), 1);
        small(64).await.unwrap();
        small(256).await.unwrap();
        assert_eq!(loads.load(Ordering::SeqCst), 2, "both are kept");
        assert!(pictures.flights.lock().is_empty());
    }

    /// Who asks for an older picture gets the newest, and neither is taken for the other.
    #[tokio::test]
    async fn a_newer_picture_is_kept_as_what_it_is() {
        let pictures = Pictures::new(1 << 20);
        let (older, newer) = (picture(1_024, 1), picture(1_024, 250));
        let found = newer.clone();
        let made = pictures.small(key(&older, 64), LONG, async { Ok(found) }).await.unwrap();
        assert_eq!(*made.hash, *newer.hash());
        assert!(pictures.kept.get(&key(&older, 64)).is_none());
        assert!(pictures.kept.get(&key(&newer, 64)).is_some());
    }

    #[tokio::test]
    async fn what_waits_is_bounded_and_so_is_what_is_kept() {
        let pictures = Pictures::new(40_000);
        let mut held = Vec::new();
        for _ in 0..AT_ONCE {
            held.push(pictures.turns.take(LONG).await.unwrap());
        }
        let asked = |red: u8, wait| {
            let (picture, hash) = (picture(1_024, red.wrapping_mul(4)), red.to_string().into());
            pictures.small(Key { hash, width: 512 }, wait, async { Ok(picture) })
        };
        // Of a key that is not asked for again: who joins what is given up is told the same.
        let refused = asked(201, Duration::from_millis(30)).await.unwrap_err();
        assert_eq!((refused.status().as_u16(), refused.detail()), (503, BUSY));
        // What was given up leaves its place a moment after its caller.
        while pictures.turns.waiting() > 0 {
            tokio::task::yield_now().await;
        }
        let mut waiting: Vec<_> = (0..WAITING).map(|n| Box::pin(asked(n as u8, LONG))).collect();
        for one in &mut waiting {
            assert!(futures::poll!(one).is_pending());
        }
        // Those before it have their places once their tasks have run.
        while pictures.turns.waiting() < WAITING {
            tokio::task::yield_now().await;
        }
        assert_eq!(asked(200, LONG).await.unwrap_err().detail(), BUSY, "it does not wait");
        drop(held);
        for one in waiting {
            one.await.unwrap();
            assert!(pictures.used_bytes() <= 40_000, "{} bytes", pictures.used_bytes());
        }
        assert!(pictures.used_bytes() > 0 && pictures.flights.lock().is_empty());
    }
}
