//! Text that others wrote, as it may stand in a log.

use std::fmt::{self, Write as _};

/// Characters that are shown unless told otherwise.
const SHOWN: usize = 120;

/// Shows the beginning of what others wrote, such as a record's key: bounded, on one line, and with
/// its length where it is cut. `tracing::warn!(key = %Excerpt::of(&record.key), …)`.
#[derive(Clone, Copy, Debug)]
pub struct Excerpt<'a> {
    foreign: &'a [u8],
    at_most: usize,
}

impl<'a> Excerpt<'a> {
    pub fn of(foreign: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        Self { foreign: foreign.as_ref(), at_most: SHOWN }
    }

    /// With so many characters shown.
    pub fn at_most(self, characters: usize) -> Self {
        Self { at_most: characters, ..self }
    }
}

impl fmt::Display for Excerpt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // No character is longer than four bytes, so that these hold all that is shown.
        let head = &self.foreign[..self.foreign.len().min(4 * self.at_most + 4)];
        let text = String::from_utf8_lossy(head);
        let mut shown = text.chars();
        for character in shown.by_ref().take(self.at_most) {
            match character.is_control() {
                true => write!(f, "{}", character.escape_default())?,
                false => f.write_char(character)?,
            }
        }
        match shown.next() {
            Some(_) => write!(f, "… ({} bytes)", self.foreign.len()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_shown_in_bounds() {
        let shown = |bytes: &[u8]| Excerpt::of(bytes).to_string();
        assert_eq!(shown(b""), "");
        assert_eq!(shown("día/1 🎭".as_bytes()), "día/1 🎭");
        assert_eq!(shown(b"a\nb\0\x1b[2J\xff"), "a\\nb\\u{0}\\u{1b}[2J\u{fffd}");
        let exact = "é".repeat(SHOWN);
        assert_eq!(shown(exact.as_bytes()), exact);
        assert_eq!(shown(format!("{exact}é").as_bytes()), format!("{exact}… (242 bytes)"));
        let long = shown(&[b'k'; 70_000]);
        assert!(long.ends_with("k… (70000 bytes)") && long.len() < 200, "{long}");
        assert!(shown(&[0; 70_000]).len() < 1_000);
        assert_eq!(Excerpt::of("reason").at_most(3).to_string(), "rea… (6 bytes)");
    }
}
