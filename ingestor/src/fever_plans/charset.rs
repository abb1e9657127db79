//! The encoding of a body, by the order of RFC 7303: a byte-order mark, the charset of the
//! Content-Type, the XML declaration, and UTF-8 where nobody says anything.

use super::{BodyError, Place, clipped};
use encoding_rs::{Encoding, UTF_8, UTF_16BE, UTF_16LE};
use quick_xml::{
    encoding::DecodingReader,
    events::{BytesDecl, BytesStart},
};
use std::io::{self, BufRead, Cursor, Read};

/// A declaration stands within this.
const MAX_DECLARATION: u64 = 1_024;

type Rest<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// The body as UTF-8. Reading fails at the first bytes that the encoding does not have.
pub(super) fn decoded<R: BufRead>(
    mut body: R,
    charset: Option<&str>,
) -> Result<DecodingReader<Rest<R>>, BodyError> {
    let mut beginning = Vec::new();
    body.by_ref().take(MAX_DECLARATION).read_to_end(&mut beginning).map_err(|error| {
        BodyError::Io { place: Place { line: 1, column: 1 }, source: error.into() }
    })?;
    let encoding = encoding_of(&beginning, charset)?;
    let mut reader = DecodingReader::new(Cursor::new(beginning).chain(body));
    // Before it has read anything: afterwards it could be too late.
    reader.set_encoding(encoding);
    Ok(reader)
}

fn encoding_of(beginning: &[u8], charset: Option<&str>) -> Result<&'static Encoding, BodyError> {
    if let Some((encoding, _)) = Encoding::for_bom(beginning) {
        return Ok(encoding);
    }
    // No XML begins with a character that has such a byte but in UTF-16.
    match beginning {
        [0, b'<', ..] => return Ok(UTF_16BE),
        [b'<', 0, ..] => return Ok(UTF_16LE),
        _ => {}
    }
    // Nor does this body: who says UTF-16 wrote it with a library that says so always.
    let fits = |encoding: &&'static Encoding| !matches!(encoding.name(), "UTF-16LE" | "UTF-16BE");
    let of_header = charset.and_then(|name| Encoding::for_label_no_replacement(name.as_bytes()));
    if let Some(encoding) = of_header.filter(fits) {
        return Ok(encoding);
    }
    let Some(label) = declared(beginning) else { return Ok(UTF_8) };
    // It cannot be guessed: most encodings read the bytes of others, as other letters.
    let encoding = Encoding::for_label_no_replacement(label.as_bytes())
        .ok_or_else(|| BodyError::UnknownEncoding { label: clipped(label) })?;
    Ok(Some(encoding).filter(fits).unwrap_or(UTF_8))
}

/// The encoding that the declaration names.
fn declared(beginning: &[u8]) -> Option<String> {
    let body = beginning.trim_ascii_start();
    let rest = body
        .strip_prefix(b"<?xml")
        .filter(|rest| rest.first().is_some_and(u8::is_ascii_whitespace))?;
    let end = memchr::memmem::find(rest, b"?>")?;
    let declaration = String::from_utf8_lossy(&body[2..5 + end]);
    let declaration = BytesDecl::from_start(BytesStart::from_content(declaration, 3));
    let label = declaration.encoding()?.ok()?;
    Some(label.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(beginning: &[u8], charset: Option<&str>) -> Result<&'static str, String> {
        encoding_of(beginning, charset).map(Encoding::name).map_err(|error| error.to_string())
    }

    #[test]
    fn the_order_is_mark_header_declaration() {
        let latin = b"<?xml version='1.0' encoding='ISO-8859-1'?><planList/>".as_slice();
        assert_eq!(name(latin, None), Ok("windows-1252"), "the web's name for it");
        assert_eq!(name(latin, Some("windows-1251")), Ok("windows-1251"));
        let marked = [b"\xef\xbb\xbf", latin].concat();
        assert_eq!(name(&marked, Some("windows-1251")), Ok("UTF-8"));
        assert_eq!(name(b"<planList/>", None), Ok("UTF-8"));
        assert_eq!(name(b"", Some("koi8-r")), Ok("KOI8-R"));
        assert_eq!(name(b"\xff\xfe<\0", Some("utf-8")), Ok("UTF-16LE"));
        assert_eq!(name(b"\0<\0p", Some("utf-8")), Ok("UTF-16BE"));
        let spaces = " ".repeat(200);
        let long = format!("\n<?xml{spaces}version=\"1.0\"{spaces}encoding = \"windows-1250\" ?>");
        assert_eq!(name(long.as_bytes(), None), Ok("windows-1250"));
    }

    #[test]
    fn what_cannot_be_so_is_passed_over_and_what_is_unknown_refused() {
        let dot_net = b"<?xml version=\"1.0\" encoding=\"utf-16\"?><planList/>";
        assert_eq!(name(dot_net, None), Ok("UTF-8"), "bytes that are plainly no UTF-16");
        assert_eq!(name(dot_net, Some("utf-16")), Ok("UTF-8"));
        for label in ["x-klingon", "utf-7", "iso-2022-cn"] {
            let body = format!("<?xml version=\"1.0\" encoding=\"{label}\"?><planList/>");
            assert!(name(body.as_bytes(), None).unwrap_err().contains(label));
            assert_eq!(name(body.as_bytes(), Some("utf-8")), Ok("UTF-8"));
        }
        assert_eq!(name(b"<?xml encoding=\"never closed", None), Ok("UTF-8"));
    }
}
