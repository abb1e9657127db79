//! A recipe's picture as a row: its table has text only.

use crate::recipes::Picture;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
struct Row<'a> {
    content_type: &'a str,
    width: u32,
    height: u32,
    /// Base64 (RFC 4648, section 4).
    image: String,
}

pub fn render(picture: &Picture) -> String {
    let Picture { content_type, width, height, image } = picture;
    let (width, height, image) = (*width, *height, STANDARD.encode(image));
    serde_json::to_string(&Row { content_type, width, height, image }).unwrap_or_default()
}

/// Reads what [`render`] wrote.
pub fn read(text: &str) -> Option<Picture> {
    let row: Row<'_> = serde_json::from_str(text).ok()?;
    let image = STANDARD.decode(row.image).ok()?;
    let content_type = row.content_type.to_owned();
    Some(Picture { content_type, width: row.width, height: row.height, image })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_survive_the_round_trip() {
        let content_type = "image/jpeg".to_owned();
        let picture = Picture { content_type, width: 4, height: 3, image: vec![0, 255, 7] };
        assert_eq!(read(&render(&picture)), Some(picture));
        assert_eq!(read("{}"), None);
    }
}
