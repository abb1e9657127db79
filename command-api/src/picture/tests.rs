use super::*;
use image::{DynamicImage, ImageEncoder, ImageFormat, Luma, Rgb, Rgba, codecs::png::PngEncoder};
use moxcms::ColorProfile;
use peak_alloc::PeakAlloc;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is counted for the whole process: tests that take much of it come one after the other.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn encoded_as(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let image = image::RgbaImage::from_fn(width, height, |x, y| {
        let alpha = if x < width / 2 { 0 } else { 255 };
        Rgba([(x * 7) as u8, (y * 13) as u8, (x * y) as u8, alpha])
    });
    let image = DynamicImage::ImageRgba8(image);
    match format {
        ImageFormat::Jpeg => encoded_as(&DynamicImage::ImageRgb8(image.to_rgb8()), format),
        _ => encoded_as(&image, format),
    }
}

fn prepared(content_type: &str, body: &[u8]) -> Result<Picture, Problem> {
    prepare(declared(Some(content_type))?, body)
}

fn status(content_type: &str, body: &[u8]) -> u16 {
    prepared(content_type, body).unwrap_err().status().as_u16()
}

fn shown(picture: &Picture) -> RgbImage {
    image::load_from_memory(&picture.image).unwrap().to_rgb8()
}

#[test]
fn pictures_are_made_small() {
    let _turn = alone();
    for (name, format) in [
        ("image/jpeg", ImageFormat::Jpeg),
        ("image/jpg", ImageFormat::Jpeg),
        ("image/png", ImageFormat::Png),
        ("IMAGE/WEBP; x=y", ImageFormat::WebP),
    ] {
        let picture = prepared(name, &encoded(3_000, 1_500, format)).unwrap();
        assert_eq!((picture.width, picture.height), (1_024, 512), "{name}");
        assert!(picture.image.len() < MAX_KEPT, "{} bytes", picture.image.len());
        assert_eq!(image::guess_format(&picture.image).unwrap(), ImageFormat::Jpeg);
    }
    let small = prepared("image/png", &encoded(8, 4, ImageFormat::Png)).unwrap();
    assert_eq!((small.width, small.height), (8, 4), "never larger");
    let white = shown(&small).get_pixel(0, 0).0;
    assert!(white.iter().all(|value| *value > 240), "white shines through");
    let line = prepared("image/png", &encoded(MAX_SIDE, 1, ImageFormat::Png)).unwrap();
    assert_eq!((line.width, line.height), (1_024, 1));
}

#[test]
fn what_is_no_picture_is_refused() {
    let _turn = alone();
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

fn with_profile(image: &DynamicImage, profile: &[u8], format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (pixels, width, height) = (image.as_bytes(), image.width(), image.height());
    let kind = image.color().into();
    match format {
        ImageFormat::Jpeg => {
            let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 100);
            encoder.set_icc_profile(profile.to_vec()).unwrap();
            encoder.write_image(pixels, width, height, kind).unwrap();
        }
        _ => {
            let mut encoder = PngEncoder::new(&mut bytes);
            encoder.set_icc_profile(profile.to_vec()).unwrap();
            encoder.write_image(pixels, width, height, kind).unwrap();
        }
    }
    bytes
}

#[track_caller]
fn assert_near(found: Rgb<u8>, expected: [u8; 3], what: &str) {
    let is_near = found.0.iter().zip(expected).all(|(one, other)| one.abs_diff(other) <= 3);
    assert!(is_near, "{what}: {found:?}, not {expected:?}");
}

/// A phone writes Display P3. What is kept says nothing of a profile, so that it is shown as sRGB:
/// its numbers are others then.
#[test]
fn colours_stay_what_they_were() {
    let _turn = alone();
    let p3 = ColorProfile::new_display_p3().encode().unwrap();
    // The right ones were computed from the standards' matrices.
    for (sent, right) in [([200, 60, 60], [217, 42, 52]), ([90, 110, 150], [85, 111, 153])] {
        let image = image::RgbImage::from_pixel(1_600, 900, Rgb(sent));
        let plain = DynamicImage::ImageRgb8(image);
        let alpha = DynamicImage::ImageRgba8(plain.to_rgba8());
        let deep = DynamicImage::ImageRgb16(plain.to_rgb16());
        for (name, image, format) in [
            ("image/jpeg", &plain, ImageFormat::Jpeg),
            ("image/png", &plain, ImageFormat::Png),
            ("image/png", &alpha, ImageFormat::Png),
            ("image/png", &deep, ImageFormat::Png),
        ] {
            let picture = prepared(name, &with_profile(image, &p3, format)).unwrap();
            assert_near(*shown(&picture).get_pixel(500, 300), right, name);
            let untagged = prepared(name, &encoded_as(image, format)).unwrap();
            assert_near(*shown(&untagged).get_pixel(500, 300), sent, "without a profile");
            let damaged = prepared(name, &with_profile(image, &p3[..200], format)).unwrap();
            assert_near(*shown(&damaged).get_pixel(500, 300), sent, "half a profile");
        }
    }
    let gray = DynamicImage::ImageLuma8(image::GrayImage::from_pixel(64, 64, Luma([128])));
    let linear = ColorProfile::new_gray_with_gamma(1.0).encode().unwrap();
    let body = with_profile(&gray, &linear, ImageFormat::Png);
    let picture = prepared("image/png", &body).unwrap();
    assert_near(*shown(&picture).get_pixel(9, 9), [188; 3], "linear gray");
    // One that is of other channels is passed over.
    let colour = DynamicImage::ImageRgb8(gray.to_rgb8());
    let body = with_profile(&colour, &linear, ImageFormat::Png);
    assert_near(*shown(&prepared("image/png", &body).unwrap()).get_pixel(9, 9), [128; 3], "rgb");
}

/// A camera turns a picture by a note, which encoding anew drops.
#[test]
fn pictures_stand_upright() {
    let _turn = alone();
    let left_is_red = image::RgbImage::from_fn(3_000, 1_500, |x, _| {
        if x < 1_500 { Rgb([250, 0, 0]) } else { Rgb([0, 0, 250]) }
    });
    let jpeg = encoded_as(&DynamicImage::ImageRgb8(left_is_red), ImageFormat::Jpeg);
    for (orientation, size, red) in
        [(1, (1_024, 512), (9, 99)), (3, (1_024, 512), (999, 99)), (6, (512, 1_024), (99, 9))]
    {
        let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        let mut turned = jpeg[..2].to_vec();
        turned.extend([0xff, 0xe1, 0, exif.len() as u8 + 2]);
        turned.extend(exif);
        turned.extend(&jpeg[2..]);
        let picture = prepared("image/jpeg", &turned).unwrap();
        assert_eq!((picture.width, picture.height), size, "orientation {orientation}");
        assert_near(*shown(&picture).get_pixel(red.0, red.1), [250, 0, 0], "the red end");
    }
}

/// A PNG whose header says that it is larger, with the checksum (ISO 3309) that belongs to it.
fn claiming(image: &DynamicImage, width: u32, height: u32) -> Vec<u8> {
    let mut png = encoded_as(image, ImageFormat::Png);
    png[16..20].copy_from_slice(&width.to_be_bytes());
    png[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = !png[12..29].iter().fold(!0_u32, |checksum, byte| {
        (0..8).fold(checksum ^ u32::from(*byte), |checksum, _| {
            (checksum >> 1) ^ if checksum & 1 == 1 { 0xedb8_8320 } else { 0 }
        })
    });
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    png
}

/// A header that promises more than it may, before a byte of it is decoded.
#[test]
fn bombs_do_not_go_off() {
    let _turn = alone();
    let mut png = encoded(4, 4, ImageFormat::Png);
    png[16..20].copy_from_slice(&100_000_u32.to_be_bytes());
    assert_eq!(status("image/png", &png), 422, "100,000 pixels wide, and a wrong checksum");
    let refused = |body: &[u8]| {
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let problem = prepared("image/png", body).unwrap_err();
        assert_eq!(problem.status(), 422);
        let taken = MEMORY.peak_usage() - before;
        assert!(taken < 1 << 20, "{taken} bytes were taken: something was decoded");
        problem
    };
    let gray = DynamicImage::ImageLuma8(image::GrayImage::new(4, 4));
    let (wide, large) = (claiming(&gray, MAX_SIDE + 1, 1_000), claiming(&gray, 8_000, 3_126));
    assert!(refused(&wide).detail().contains("8192 pixels"));
    assert!(refused(&large).detail().contains("25000000 pixels"));
    let deep = DynamicImage::ImageRgba16(image::ImageBuffer::new(4, 4));
    let deep = claiming(&deep, 5_000, 4_500);
    assert!(refused(&deep).detail().contains("171 MB"), "{}", refused(&deep).detail());
}

fn taken(content_type: &str, body: &[u8]) -> usize {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    prepared(content_type, body).unwrap();
    MEMORY.peak_usage() - before
}

/// What the documentation promises.
#[test]
fn no_picture_takes_200_megabytes() {
    let _turn = alone();
    const MOST: usize = 200_000_000 - MAX_UPLOAD;
    let (width, height) = (5_000, 5_000);
    let deep = DynamicImage::ImageRgb16(image::ImageBuffer::from_pixel(width, height, Rgb([7; 3])));
    let alpha = DynamicImage::ImageRgba8(deep.to_rgba8());
    let plain = DynamicImage::ImageRgb8(deep.to_rgb8());
    for (name, image, format) in [
        ("image/png", &deep, ImageFormat::Png),
        ("image/png", &alpha, ImageFormat::Png),
        ("image/jpeg", &plain, ImageFormat::Jpeg),
    ] {
        let taken = taken(name, &encoded_as(image, format));
        assert!(taken < MOST, "{name}: {taken} bytes");
        assert!(taken > image.as_bytes().len(), "{name}: it is decoded");
    }
    let webp = encoded_as(&alpha.thumbnail(4_400, 4_400), ImageFormat::WebP);
    let webp = taken("image/webp", &webp);
    assert!(webp < MOST, "webp: {webp} bytes");
}

/// A profile is inflated before the pixels: 100 MB of zeros in 100 kB.
#[test]
fn a_profile_is_inflated_within_bounds() {
    let _turn = alone();
    let image = DynamicImage::ImageRgb8(image::RgbImage::from_pixel(64, 64, Rgb([9; 3])));
    let bomb = with_profile(&image, &vec![0; 100 << 20], ImageFormat::Png);
    assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
    let taken = taken("image/png", &bomb);
    assert!(taken < 4 * MAX_INFLATED as usize, "{taken} bytes");
}

/// However a picture is damaged, it is made small or refused.
#[test]
fn damaged_pictures_are_taken_or_refused() {
    let _turn = alone();
    let formats = [
        ("image/jpeg", ImageFormat::Jpeg),
        ("image/png", ImageFormat::Png),
        ("image/webp", ImageFormat::WebP),
    ];
    let seeds = formats.map(|(_, format)| encoded(9, 7, format));
    almanac_fuzzing::fuzz("pictures", seeds, |body: &[u8]| {
        for (name, _) in formats {
            if let Ok(picture) = prepared(name, body) {
                let image = shown(&picture);
                assert_eq!((image.width(), image.height()), (picture.width, picture.height));
            }
        }
    });
}
