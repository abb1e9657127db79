//! Colours: what is kept is sRGB, which is what a picture without a profile is taken for.

use almanac_errors::chain;
use image::{DynamicImage, RgbImage, RgbaImage};
use moxcms::{CmsError, ColorProfile, DataColorSpace, Layout, TransformOptions};

/// The picture with its colours in sRGB. One whose profile cannot be used, or is of other channels
/// than the picture has, is sRGB already for all that can be known.
pub(super) fn to_srgb(image: DynamicImage, profile: &[u8]) -> DynamicImage {
    let Ok(profile) = ColorProfile::new_from_slice(profile) else { return image };
    match converted(&image, &profile) {
        Ok(Some(converted)) => converted,
        Ok(None) => image,
        Err(error) => {
            tracing::debug!(error = %chain(&error), "a colour profile cannot be used; the picture is taken for sRGB");
            image
        }
    }
}

fn converted(
    image: &DynamicImage,
    profile: &ColorProfile,
) -> Result<Option<DynamicImage>, CmsError> {
    let (has_color, has_alpha) = (image.color().has_color(), image.color().has_alpha());
    let (source, from) = match profile.color_space {
        DataColorSpace::Rgb if has_alpha => (image.to_rgba8().into_raw(), Layout::Rgba),
        DataColorSpace::Rgb => (image.to_rgb8().into_raw(), Layout::Rgb),
        DataColorSpace::Gray if has_color => return Ok(None),
        DataColorSpace::Gray if has_alpha => (image.to_luma_alpha8().into_raw(), Layout::GrayAlpha),
        DataColorSpace::Gray => (image.to_luma8().into_raw(), Layout::Gray),
        // A decoder has made RGB of it, in its own way.
        _ => return Ok(None),
    };
    let (to, channels) = if has_alpha { (Layout::Rgba, 4) } else { (Layout::Rgb, 3) };
    let srgb = ColorProfile::new_srgb();
    let transform = profile.create_transform_8bit(from, &srgb, to, TransformOptions::default())?;
    let (width, height) = (image.width(), image.height());
    let mut target = vec![0; width as usize * height as usize * channels];
    transform.transform(&source, &mut target)?;
    Ok(match has_alpha {
        true => RgbaImage::from_raw(width, height, target).map(DynamicImage::ImageRgba8),
        false => RgbImage::from_raw(width, height, target).map(DynamicImage::ImageRgb8),
    })
}
