//! Pictures of recipes: decoded under limits, made small, encoded anew, and carried by a command.

use almanac_edge::{Problem, ProblemType};
use almanac_schemas::{commands::CommandRecord, recipes::Picture};
use image::{
    DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage,
    codecs::jpeg::JpegEncoder, imageops::FilterType,
};
use serde::{Deserialize, Serialize};
use std::io::Cursor;
use xxhash_rust::xxh3::xxh3_128;

/// What a request may hold.
pub const MAX_UPLOAD: usize = 8 << 20;
/// Pixels on either side of what is decoded, and memory that decoding may take.
const MAX_SIDE: u32 = 8_192;
const MAX_MEMORY: u64 = 200 << 20;
/// The longer side of what is kept.
const KEPT_SIDE: u32 = 1_024;
/// What is kept is smaller than this.
const MAX_KEPT: usize = 256_000;
const CONTENT_TYPE: &str = "image/jpeg";

/// What a command says about the picture that is attached to it.
#[derive(Serialize, Deserialize)]
struct Attached {
    content_type: String,
    width: u32,
    height: u32,
}

/// The body of a command that carries this picture.
pub(crate) fn body(picture: &Picture) -> String {
    let Picture { content_type, width, height, .. } = picture;
    let attached = Attached { content_type: content_type.clone(), width: *width, height: *height };
    serde_json::to_string(&attached).unwrap_or_default()
}

/// The picture that a command carries.
pub(crate) fn of_command(command: &CommandRecord) -> Option<Picture> {
    let attached: Attached = serde_json::from_str(command.body.as_deref()?).ok()?;
    Some(Picture {
        content_type: attached.content_type,
        width: attached.width,
        height: attached.height,
        image: command.attachment.clone()?,
    })
}

/// Stands for the picture in addresses and entity tags.
pub(crate) fn hash(picture: &Picture) -> String {
    format!("{:032x}", xxh3_128(&picture.image))
}

/// Reads an uploaded picture. It takes a processor for a while, and memory within the limits.
pub(crate) fn prepare(declared: Option<&str>, body: &[u8]) -> Result<Picture, Problem> {
    let format = format_of(declared, body)?;
    let unusable = |error: &dyn std::fmt::Display| {
        let detail = format!("the picture cannot be used: {error}");
        Problem::new(ProblemType::Invalid, detail)
    };
    let mut limits = Limits::default();
    limits.max_image_width = Some(MAX_SIDE);
    limits.max_image_height = Some(MAX_SIDE);
    limits.max_alloc = Some(MAX_MEMORY);
    let mut reader = ImageReader::with_format(Cursor::new(body), format);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|error| unusable(&error))?;
    let (width, height) = decoder.dimensions();
    if width > MAX_SIDE || height > MAX_SIDE {
        return Err(unusable(&format!("a side has more than {MAX_SIDE} pixels")));
    }
    if decoder.total_bytes() > MAX_MEMORY {
        return Err(unusable(&format!("decoded it takes more than {MAX_MEMORY} bytes")));
    }
    // Cameras turn pictures by a note that encoding anew would drop.
    let orientation = decoder.orientation().map_err(|error| unusable(&error))?;
    let mut decoded = DynamicImage::from_decoder(decoder).map_err(|error| unusable(&error))?;
    decoded.apply_orientation(orientation);
    let small = match decoded.width().max(decoded.height()) > KEPT_SIDE {
        true => decoded.resize(KEPT_SIDE, KEPT_SIDE, FilterType::CatmullRom),
        false => decoded,
    };
    let flat = on_white(&small);
    for quality in [88, 80, 70, 55, 40, 25] {
        let mut image = Vec::new();
        let encoder = JpegEncoder::new_with_quality(&mut image, quality);
        flat.write_with_encoder(encoder).map_err(|error| Problem::internal(&error))?;
        if image.len() < MAX_KEPT {
            let (width, height) = flat.dimensions();
            return Ok(Picture { content_type: CONTENT_TYPE.to_owned(), width, height, image });
        }
    }
    Err(unusable(&format!("it does not become smaller than {MAX_KEPT} bytes")))
}

/// The format that the bytes have, which must be the one that the request declares.
fn format_of(declared: Option<&str>, body: &[u8]) -> Result<ImageFormat, Problem> {
    const KNOWN: [(&str, ImageFormat); 3] = [
        ("image/jpeg", ImageFormat::Jpeg),
        ("image/png", ImageFormat::Png),
        ("image/webp", ImageFormat::WebP),
    ];
    let declared = declared.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let known = KNOWN.iter().find(|(name, _)| name.eq_ignore_ascii_case(declared));
    let Some((name, format)) = known else {
        let detail = "Content-Type must be image/jpeg, image/png or image/webp";
        return Err(Problem::new(ProblemType::UnsupportedMediaType, detail));
    };
    if image::guess_format(body).ok() != Some(*format) {
        let detail = format!("the body is not what it claims to be, {name}");
        return Err(Problem::new(ProblemType::Invalid, detail));
    }
    // The decoder paints what is missing of a JPEG grey.
    if *format == ImageFormat::Jpeg && !is_whole_jpeg(body) {
        return Err(Problem::new(ProblemType::Invalid, "the picture is cut off"));
    }
    Ok(*format)
}

/// Whether the end of the image follows its first scan (ITU-T T.81, B.1). Pictures in the segments
/// before have ends of their own.
fn is_whole_jpeg(body: &[u8]) -> bool {
    let mut at = 2;
    while let Some(&[0xff, marker, high, low]) = body.get(at..at + 4) {
        let length = usize::from(u16::from_be_bytes([high, low]));
        match marker {
            // Padding before a marker.
            0xff => at += 1,
            0xda => return body[at + 4..].windows(2).any(|two| two == [0xff, 0xd9]),
            _ => at += 2 + length,
        }
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgba;

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let image = image::RgbaImage::from_fn(width, height, |x, y| {
            Rgba([
                (x * 7) as u8,
                (y * 13) as u8,
                (x * y) as u8,
                if x < width / 2 { 0 } else { 255 },
            ])
        });
        let image = DynamicImage::ImageRgba8(image);
        let image = match format {
            ImageFormat::Jpeg => DynamicImage::ImageRgb8(image.to_rgb8()),
            _ => image,
        };
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn status(declared: &str, body: &[u8]) -> u16 {
        prepare(Some(declared), body).unwrap_err().status().as_u16()
    }

    #[test]
    fn pictures_are_made_small() {
        for (name, format) in [
            ("image/jpeg", ImageFormat::Jpeg),
            ("image/png", ImageFormat::Png),
            ("IMAGE/WEBP; x=y", ImageFormat::WebP),
        ] {
            let picture = prepare(Some(name), &encoded(3_000, 1_500, format)).unwrap();
            assert_eq!((picture.width, picture.height), (1_024, 512), "{name}");
            assert!(picture.image.len() < MAX_KEPT, "{} bytes", picture.image.len());
            assert_eq!(image::guess_format(&picture.image).unwrap(), ImageFormat::Jpeg);
        }
        let small = prepare(Some("image/png"), &encoded(8, 4, ImageFormat::Png)).unwrap();
        assert_eq!((small.width, small.height), (8, 4), "never larger");
        let read = image::load_from_memory(&small.image).unwrap().to_rgb8();
        assert!(read.get_pixel(0, 0).0.iter().all(|value| *value > 240), "white shines through");
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        let png = encoded(64, 64, ImageFormat::Png);
        assert_eq!(status("image/jpeg", &png), 422, "not what it claims");
        assert_eq!(status("image/png", b"<html>"), 422);
        assert_eq!(status("image/png", b""), 422);
        assert_eq!(status("image/gif", b"GIF89a"), 415);
        assert_eq!(status("", &png), 415);
        for cut in [9, 40, png.len() / 2, png.len() - 20] {
            assert_eq!(status("image/png", &png[..cut]), 422, "cut at {cut}");
        }
        let jpeg = encoded(64, 64, ImageFormat::Jpeg);
        for cut in [2, 20, jpeg.len() / 2, jpeg.len() - 1] {
            assert_eq!(status("image/jpeg", &jpeg[..cut]), 422, "cut at {cut}");
        }
    }

    /// A header that promises more than it may, before a byte of it is decoded.
    #[test]
    fn bombs_do_not_go_off() {
        let mut png = encoded(4, 4, ImageFormat::Png);
        png[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
        assert_eq!(status("image/png", &png), 422, "100,000 pixels wide, and a wrong checksum");
        // All white and 8,193 pixels wide: a few kilobytes that would be 200 MB.
        let bomb = image::GrayImage::from_pixel(MAX_SIDE + 1, 8_000, image::Luma([255]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageLuma8(bomb).write_to(&mut bytes, ImageFormat::Png).unwrap();
        assert_eq!(status("image/png", &bytes.into_inner()), 422);
        let wide = image::RgbaImage::from_pixel(MAX_SIDE, MAX_SIDE, Rgba([0, 0, 0, 255]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::ImageRgba8(wide).write_to(&mut bytes, ImageFormat::Png).unwrap();
        assert_eq!(status("image/png", &bytes.into_inner()), 422, "more memory than it may take");
    }

    #[test]
    fn a_command_carries_a_picture() {
        let picture = prepare(Some("image/png"), &encoded(8, 4, ImageFormat::Png)).unwrap();
        let mut command = CommandRecord {
            request_id: String::new(),
            outcome_id: String::new(),
            context: "recipes".to_owned(),
            aggregate_id: String::new(),
            verb: "thumbnail".to_owned(),
            caller: String::new(),
            is_admin: false,
            issued_at: 0,
            deadline: 0,
            expected: None,
            fingerprint: String::new(),
            body: Some(body(&picture)),
            attachment: Some(picture.image.clone()),
        };
        assert_eq!(of_command(&command), Some(picture));
        command.attachment = None;
        assert_eq!(of_command(&command), None);
    }
}
