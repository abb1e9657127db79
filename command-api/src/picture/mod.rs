//! Uploaded pictures: decoded within bounds, made small, brought to sRGB, and encoded anew.
//!
//! What a picture costs is known from its head, before anything is decoded: its pixels bound the
//! time, and what the decoder will hold bounds the memory.

mod colour;
mod format;

use almanac_edge::{Problem, ProblemType};
use almanac_schemas::recipes::Picture;
use format::Format;
use image::{
    DynamicImage, ImageDecoder, Limits, RgbImage,
    codecs::{jpeg::JpegDecoder, jpeg::JpegEncoder, png::PngDecoder, webp::WebPDecoder},
    imageops::FilterType,
    metadata::Orientation,
};
use std::{fmt::Display, io::Cursor};

/// What a request may hold.
pub const MAX_UPLOAD: usize = 8 << 20;
/// Pixels on either side of what is decoded, and of all of it: those of a phone's camera, and not
/// those of a bomb.
const MAX_SIDE: u32 = 8_192;
const MAX_PIXELS: u64 = 25_000_000;
/// What a decoder may hold at once. With the body, the decoder's copy of it and what making it
/// small takes, a picture stays below 200 MB.
const MAX_DECODING: u64 = 152 << 20;
/// What a PNG's colour profile and notes may come to once they are inflated.
const MAX_INFLATED: u64 = 4 << 20;
/// The longer side of what is kept.
const KEPT_SIDE: u32 = 1_024;
/// What is kept is smaller than this.
const MAX_KEPT: usize = 256_000;
const CONTENT_TYPE: &str = "image/jpeg";

/// The format that a request declares, before its body is read.
pub(crate) fn declared(content_type: Option<&str>) -> Result<Format, Problem> {
    Format::declared(content_type).ok_or_else(|| {
        let detail = "Content-Type must be image/jpeg, image/png or image/webp";
        Problem::new(ProblemType::UnsupportedMediaType, detail)
    })
}

fn unusable(error: impl Display) -> Problem {
    Problem::new(ProblemType::Invalid, format!("the picture cannot be used: {error}"))
}

/// Makes of an uploaded picture what is kept. It takes a processor for a while.
pub(crate) fn prepare(declared: Format, body: &[u8]) -> Result<Picture, Problem> {
    let coding = format::examine(declared, body)?;
    let mut decoder = decoder(declared, body).map_err(unusable)?;
    let (width, height) = decoder.dimensions();
    let pixels = u64::from(width) * u64::from(height);
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(unusable(format_args!("a side has more than {MAX_SIDE} pixels")));
    }
    if pixels > MAX_PIXELS {
        return Err(unusable(format_args!("it has more than {MAX_PIXELS} pixels")));
    }
    let held = decoder.total_bytes() + coding.held_beside(pixels);
    if held > MAX_DECODING {
        let detail = format_args!(
            "decoding it would take {} MB of memory, and at most {} MB are spent; a smaller one, \
             or one that is not progressive, takes less",
            held >> 20,
            MAX_DECODING >> 20
        );
        return Err(unusable(detail));
    }
    // Encoding anew drops both: they are followed first. A picture whose notes are broken is shown
    // as it is.
    let profile = decoder.icc_profile().ok().flatten();
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let decoded = DynamicImage::from_decoder(decoder).map_err(unusable)?;
    let mut small = reduced(decoded);
    small.apply_orientation(orientation);
    let small = match &profile {
        Some(profile) => colour::to_srgb(small, profile),
        None => small,
    };
    encoded(&on_white(&small))
}

fn decoder<'a>(format: Format, body: &'a [u8]) -> image::ImageResult<Box<dyn ImageDecoder + 'a>> {
    let body = Cursor::new(body);
    Ok(match format {
        Format::Jpeg => Box::new(JpegDecoder::new(body)?),
        Format::Png => {
            let mut limits = Limits::default();
            limits.max_alloc = Some(MAX_INFLATED);
            Box::new(PngDecoder::with_limits(body, limits)?)
        }
        Format::WebP => Box::new(WebPDecoder::new(body)?),
    })
}

/// Never larger than it is. Averaging boxes comes first: the better filter would hold the picture
/// at its whole width, in floating point.
fn reduced(mut image: DynamicImage) -> DynamicImage {
    let longer = |image: &DynamicImage| image.width().max(image.height());
    if longer(&image) > 2 * KEPT_SIDE {
        image = image.thumbnail(2 * KEPT_SIDE, 2 * KEPT_SIDE);
    }
    // The larger one is gone by now.
    if longer(&image) > KEPT_SIDE {
        image = image.resize(KEPT_SIDE, KEPT_SIDE, FilterType::CatmullRom);
    }
    image
}

/// JPEG has no transparency: what shines through is white.
fn on_white(image: &DynamicImage) -> RgbImage {
    if !image.color().has_alpha() {
        return image.to_rgb8();
    }
    let rgba = image.to_rgba8();
    let mut flat = RgbImage::new(rgba.width(), rgba.height());
    for (to, from) in flat.pixels_mut().zip(rgba.pixels()) {
        let alpha = u32::from(from.0[3]);
        for (channel, value) in to.0.iter_mut().zip(from.0) {
            *channel = ((u32::from(value) * alpha + 255 * (255 - alpha)) / 255) as u8;
        }
    }
    flat
}

fn encoded(flat: &RgbImage) -> Result<Picture, Problem> {
    for quality in [88, 80, 70, 55, 40, 25] {
        let mut image = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut image, quality);
        flat.write_with_encoder(encoder).map_err(|error| Problem::internal(&error))?;
        if image.len() < MAX_KEPT {
            let (width, height) = flat.dimensions();
            return Ok(Picture { content_type: CONTENT_TYPE.to_owned(), width, height, image });
        }
    }
    Err(unusable(format_args!("it does not become smaller than {MAX_KEPT} bytes")))
}

#[cfg(test)]
mod tests;
