//! What a picture is, told from its head: the format, whether it is whole, and what its decoder
//! will hold beside the pixels.

use almanac_edge::{Problem, ProblemType};
use image::ImageFormat;

/// Scans of a JPEG: each is a walk over all of it. Encoders make about ten.
const MAX_SCANS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Jpeg,
    Png,
    WebP,
}

impl Format {
    pub(super) fn declared(content_type: Option<&str>) -> Option<Self> {
        let name = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
        match name.to_ascii_lowercase().as_str() {
            // The second is registered nowhere, and sent all the same.
            "image/jpeg" | "image/jpg" => Some(Self::Jpeg),
            "image/png" => Some(Self::Png),
            "image/webp" => Some(Self::WebP),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
        }
    }

    fn of_bytes(body: &[u8]) -> Option<Self> {
        match image::guess_format(body).ok()? {
            ImageFormat::Jpeg => Some(Self::Jpeg),
            ImageFormat::Png => Some(Self::Png),
            ImageFormat::WebP => Some(Self::WebP),
            _ => None,
        }
    }
}

/// What a decoder holds beside the picture that it makes, in bytes for a hundred pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Coding {
    per_hundred_pixels: u64,
}

impl Coding {
    pub(super) fn held_beside(self, pixels: u64) -> u64 {
        pixels.saturating_mul(self.per_hundred_pixels) / 100
    }
}

/// The body must be of the format that is declared, and whole as far as a decoder would not notice.
pub(super) fn examine(declared: Format, body: &[u8]) -> Result<Coding, Problem> {
    let invalid = |detail: String| Problem::new(ProblemType::Invalid, detail);
    if Format::of_bytes(body) != Some(declared) {
        let name = declared.name();
        return Err(invalid(format!("the body is not what it claims to be, {name}")));
    }
    let per_hundred_pixels = match declared {
        // Rows go where they belong as they come.
        Format::Png => 0,
        // A frame of its own, or planes; those that move have a canvas as well.
        Format::WebP if is_animated(body) => 800,
        Format::WebP => 400,
        Format::Jpeg => {
            let found = Jpeg::walk(body);
            // The decoder paints what is missing of a JPEG grey.
            if !found.is_whole {
                return Err(invalid("the picture is cut off".to_owned()));
            }
            if found.scans > MAX_SCANS {
                return Err(invalid(format!("the picture has more than {MAX_SCANS} scans")));
            }
            // In several scans, all coefficients are kept until the last of them: two bytes each.
            if found.scans > 1 { found.samples_per_hundred_pixels * 2 } else { 0 }
        }
    };
    Ok(Coding { per_hundred_pixels })
}

/// The flag of the extended header (RFC 9649, section 2.7).
fn is_animated(body: &[u8]) -> bool {
    body.get(12..16) == Some(b"VP8X") && body.get(20).is_some_and(|flags| flags & 0x02 != 0)
}

/// What the segments of a JPEG tell (ITU-T T.81, annex B).
#[derive(Debug, Default, PartialEq, Eq)]
struct Jpeg {
    /// The end of the image follows a scan. Pictures in the segments before have ends of their own.
    is_whole: bool,
    scans: usize,
    samples_per_hundred_pixels: u64,
}

impl Jpeg {
    fn walk(body: &[u8]) -> Self {
        let mut found = Self::default();
        let mut at = 2;
        while let Some(&[0xff, marker, ref rest @ ..]) = body.get(at..) {
            match (marker, rest) {
                // Padding before a marker.
                (0xff, _) => at += 1,
                (0xd9, _) => {
                    found.is_whole = found.scans > 0;
                    return found;
                }
                (_, &[high, low, ref segment @ ..]) => {
                    // Of all kinds of frames but the tables whose numbers lie between.
                    if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
                        found.samples_per_hundred_pixels = samples(segment);
                    }
                    at += 2 + usize::from(u16::from_be_bytes([high, low]));
                    if marker == 0xda {
                        found.scans += 1;
                        at = end_of_scan(body, at);
                    }
                }
                _ => return found,
            }
        }
        found
    }
}

/// Where the next marker stands: within a scan, 0xff is followed by zero or the number of a restart.
fn end_of_scan(body: &[u8], from: usize) -> usize {
    let scan = body.get(from..).unwrap_or_default();
    let is_marker = |two: &[u8]| two[0] == 0xff && !matches!(two[1], 0x00 | 0xd0..=0xd7 | 0xff);
    from + scan.windows(2).position(is_marker).unwrap_or(scan.len())
}

/// Of a frame header behind its length: components are often stored at a lower resolution.
fn samples(frame: &[u8]) -> u64 {
    let components = usize::from(frame.get(5).copied().unwrap_or(0));
    let factors = frame.get(6..).unwrap_or_default().chunks_exact(3).take(components);
    let factors = factors.map(|one| (u64::from(one[1] >> 4), u64::from(one[1] & 0x0f)));
    let most = factors.clone().map(|(across, down)| across.max(1) * down.max(1)).max();
    let all: u64 = factors.map(|(across, down)| across * down).sum();
    (all * 100).div_ceil(most.unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_formats_are_those_that_clients_send() {
        for (name, format) in [
            ("image/jpeg", Some(Format::Jpeg)),
            ("image/jpg", Some(Format::Jpeg)),
            ("Image/JPG; q=1", Some(Format::Jpeg)),
            ("IMAGE/WEBP; x=y", Some(Format::WebP)),
            ("image/png", Some(Format::Png)),
            ("image/gif", None),
            ("", None),
        ] {
            assert_eq!(Format::declared(Some(name)), format, "{name:?}");
        }
        assert_eq!(Format::declared(None), None);
    }

    /// A JPEG of segments: start, a frame of these factors, so many scans, and its end.
    fn jpeg(factors: &[u8], scans: usize) -> Vec<u8> {
        let mut body = vec![0xff, 0xd8];
        // A segment that holds a picture with an end of its own.
        body.extend([0xff, 0xe1, 0, 6, 0xff, 0xd8, 0xff, 0xd9]);
        let length = 8 + 3 * factors.len() as u8;
        body.extend([0xff, 0xc2, 0, length, 8, 0, 16, 0, 16, factors.len() as u8]);
        body.extend(factors.iter().enumerate().flat_map(|(id, factor)| [id as u8, *factor, 0]));
        for _ in 0..scans {
            body.extend([0xff, 0xff, 0xda, 0, 3, 1, 0x12, 0xff, 0x00, 0xff, 0xd3, 0x34]);
        }
        body.extend([0xff, 0xd9]);
        body
    }

    #[test]
    fn the_segments_of_a_jpeg_tell_what_it_will_take() {
        let walked = |factors: &[u8], scans| {
            let found = Jpeg::walk(&jpeg(factors, scans));
            (found.is_whole, found.scans, found.samples_per_hundred_pixels)
        };
        assert_eq!(walked(&[0x22, 0x11, 0x11], 1), (true, 1, 150));
        assert_eq!(walked(&[0x11, 0x11, 0x11], 40), (true, 40, 300));
        assert_eq!(walked(&[0x11], 2), (true, 2, 100));
        assert_eq!(walked(&[0x11], 0), (false, 0, 100), "an end without a scan");
        let whole = jpeg(&[0x22, 0x11, 0x11], 2);
        for cut in 0..whole.len() {
            assert!(!Jpeg::walk(&whole[..cut]).is_whole, "cut at {cut}");
        }
    }
}
