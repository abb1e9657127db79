//! Bounds a line of the log, whatever stands in it: an error may quote what others wrote, and a few
//! such errors a second would fill a disk.

use super::Format;
use serde_json::Value;
use std::io::{self, Write};

/// Bytes of a line.
const LINE: usize = 8 << 10;
/// Of one text in a line of JSON that is too long.
const TEXT: usize = 1 << 10;

/// A writer that is given a whole line at once, as the formatting layer does.
pub(super) struct Bounded<W> {
    inner: W,
    format: Format,
}

impl<W: Write> Bounded<W> {
    pub(super) fn text(inner: W) -> Self {
        Self { inner, format: Format::Text }
    }

    pub(super) fn json(inner: W) -> Self {
        Self { inner, format: Format::Json }
    }
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if line.len() <= LINE {
            self.inner.write_all(line)?;
        } else {
            let shorter = match self.format {
                Format::Json => shorter_json(line),
                Format::Text => None,
            };
            let shorter = shorter.unwrap_or_else(|| cut(&String::from_utf8_lossy(line), LINE));
            self.inner.write_all(format!("{shorter}\n").as_bytes())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn cut(text: &str, at_most: usize) -> String {
    match text.get(..text.floor_char_boundary(at_most)) {
        Some(head) if head.len() < text.len() => format!("{head}… ({} bytes)", text.len()),
        _ => text.to_owned(),
    }
}

/// The same line with its texts cut, if that makes it short enough: it stays JSON.
fn shorter_json(line: &[u8]) -> Option<String> {
    let mut value: Value = serde_json::from_slice(line).ok()?;
    cut_texts(&mut value);
    Some(value.to_string()).filter(|text| text.len() <= 2 * LINE)
}

fn cut_texts(value: &mut Value) {
    match value {
        Value::String(text) => *text = cut(text, TEXT),
        Value::Array(items) => items.iter_mut().for_each(cut_texts),
        Value::Object(fields) => fields.values_mut().for_each(cut_texts),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, line: &str) -> String {
        let mut bounded = Bounded { inner: Vec::new(), format };
        bounded.write_all(line.as_bytes()).unwrap();
        String::from_utf8(bounded.inner).unwrap()
    }

    #[test]
    fn lines_are_bounded_and_json_stays_json() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(written(format, "{\"a\":1}\n"), "{\"a\":1}\n");
        }
        let long = "é".repeat(35_000);
        let text = written(Format::Text, &format!("WARN parking key={long}\n"));
        assert!(text.len() < LINE + 100 && text.starts_with("WARN parking key=é"), "{text}");
        assert!(text.ends_with("bytes)\n"), "{text}");
        let line = format!("{{\"level\":\"WARN\",\"fields\":{{\"key\":\"{long}\",\"n\":[7]}}}}\n");
        let json = written(Format::Json, &line);
        let read: Value = serde_json::from_str(&json).unwrap();
        assert!(json.len() < LINE && json.ends_with('\n'));
        assert_eq!((&read["level"], &read["fields"]["n"][0]), (&"WARN".into(), &7.into()));
        assert!(read["fields"]["key"].as_str().unwrap().ends_with("… (70000 bytes)"));
        assert!(written(Format::Json, &"x".repeat(100_000)).len() < LINE + 100);
    }
}
