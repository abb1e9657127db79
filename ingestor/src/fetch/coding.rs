//! The content codings of a body (RFC 9110, section 8.4.1), undone by us and not by the HTTP
//! client: that one takes one spelling of a name and one member of a gzip file, and passes over
//! what providers serve as a compressed file without saying so.

use super::FetchError;
use flate2::bufread::{DeflateDecoder, GzDecoder, ZlibDecoder};
use reqwest::header::{CONTENT_ENCODING, HeaderMap};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Cursor, Read, Seek, Write},
    path::Path,
};
use xxhash_rust::xxh3::Xxh3;

/// What is offered to providers.
pub(super) const ACCEPTED: &str = "gzip, deflate, br, zstd";
/// More of them on top of each other is an attack.
const MAX_CODINGS: usize = 4;
/// As RFC 9659 bounds it for HTTP: 8 MiB.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
const BUFFER: usize = 64 << 10;
const GZIP: [u8; 2] = [0x1f, 0x8b];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Brotli,
    Zstd,
}

/// The codings that the headers name, in the order in which they were applied.
pub(super) fn named(headers: &HeaderMap) -> Result<Vec<Coding>, FetchError> {
    let mut codings = Vec::new();
    for line in headers.get_all(CONTENT_ENCODING) {
        for name in String::from_utf8_lossy(line.as_bytes()).split(',') {
            let coding = match name.trim().to_ascii_lowercase().as_str() {
                "" | "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "br" => Coding::Brotli,
                "zstd" => Coding::Zstd,
                other => {
                    let name = other.chars().take(40).collect();
                    return Err(FetchError::UnknownCoding { name });
                }
            };
            codings.push(coding);
        }
    }
    if codings.len() > MAX_CODINGS {
        return Err(FetchError::TooManyCodings { limit: MAX_CODINGS });
    }
    Ok(codings)
}

/// A body as it was meant.
pub(super) struct Plain {
    pub(super) file: File,
    pub(super) bytes: u64,
    pub(super) hash: Xxh3,
}

/// Whether there is anything to undo: a `.gz` file often comes without a word about it.
pub(super) fn is_coded(codings: &[Coding], beginning: &[u8]) -> bool {
    !codings.is_empty() || beginning.starts_with(&GZIP)
}

/// Undoes the codings of a spooled body into another file. Blocks. No step of it may give more than
/// `limit` bytes.
pub(super) fn undo(
    mut body: File,
    codings: &[Coding],
    folder: &Path,
    limit: u64,
) -> Result<Plain, FetchError> {
    let spool_error =
        |error: io::Error| FetchError::Spool { folder: folder.to_owned(), source: error.into() };
    body.rewind().map_err(spool_error)?;
    let read_error = |error: io::Error| {
        if error.get_ref().is_some_and(|inner| inner.is::<TooLarge>()) {
            return FetchError::TooLarge { limit };
        }
        FetchError::Coded { source: error.into() }
    };
    let mut reader =
        layers(BufReader::with_capacity(BUFFER, body), codings, limit).map_err(read_error)?;
    let file = tempfile::tempfile_in(folder).map_err(spool_error)?;
    let mut writer = BufWriter::with_capacity(4 * BUFFER, file);
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    loop {
        let part = match reader.fill_buf() {
            Ok([]) => break,
            Ok(part) => part,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(error)),
        };
        hash.update(part);
        writer.write_all(part).map_err(spool_error)?;
        let length = part.len();
        bytes += length as u64;
        reader.consume(length);
    }
    let mut file = writer.into_inner().map_err(|error| spool_error(error.into_error()))?;
    file.rewind().map_err(spool_error)?;
    Ok(Plain { file, bytes, hash })
}

type Layer = Box<dyn BufRead>;

fn layers(body: impl BufRead + 'static, codings: &[Coding], limit: u64) -> io::Result<Layer> {
    let mut reader: Layer = Box::new(body);
    for coding in codings.iter().rev() {
        reader = match coding {
            Coding::Gzip => gzip(reader, limit)?.0,
            Coding::Deflate => {
                let (beginning, rest) = peek(reader)?;
                // RFC 9110 means the zlib format; some servers send the bare stream. The header of
                // the former is never the beginning of the latter as encoders write it.
                let [method, flags] = beginning.map(u16::from);
                if method & 0x0f == 8 && (method << 8 | flags).is_multiple_of(31) {
                    bounded(ZlibDecoder::new(rest), limit)
                } else {
                    bounded(DeflateDecoder::new(rest), limit)
                }
            }
            Coding::Brotli => bounded(brotli::Decompressor::new(reader, BUFFER), limit),
            Coding::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
                decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
                bounded(decoder, limit)
            }
        };
    }
    // A compressed file is often served as what it is, and then perhaps compressed once more.
    for _ in 0..MAX_CODINGS {
        let (layer, was_gzip) = gzip(reader, limit)?;
        reader = layer;
        if !was_gzip {
            break;
        }
    }
    Ok(reader)
}

/// Undoes gzip where it begins like that. What is called gzip and is none is what it was meant to
/// be: somebody on the way undid it and left the header.
fn gzip(reader: Layer, limit: u64) -> io::Result<(Layer, bool)> {
    let (beginning, rest) = peek(reader)?;
    Ok(match beginning {
        GZIP => (bounded(Members(Some(GzDecoder::new(rest))), limit), true),
        _ => (rest, false),
    })
}

/// The first two bytes, and everything.
fn peek(mut reader: Layer) -> io::Result<([u8; 2], Layer)> {
    let mut beginning = Vec::with_capacity(2);
    reader.by_ref().take(2).read_to_end(&mut beginning)?;
    let mut first = [0; 2];
    first[..beginning.len()].copy_from_slice(&beginning);
    Ok((first, Box::new(Cursor::new(beginning).chain(reader))))
}

/// The members of a gzip file, one after the other. What follows the last one and is none is
/// padding, as for gzip itself.
struct Members<R>(Option<GzDecoder<R>>);

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(member) = &mut self.0 else { return Ok(0) };
            let length = member.read(buffer)?;
            if length > 0 || buffer.is_empty() {
                return Ok(length);
            }
            let mut rest = match self.0.take() {
                Some(member) => member.into_inner(),
                None => return Ok(0),
            };
            if rest.fill_buf()?.first() == Some(&GZIP[0]) {
                self.0 = Some(GzDecoder::new(rest));
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes")]
struct TooLarge(u64);

/// Fails beyond the limit.
struct Bounded<R> {
    inner: R,
    limit: u64,
    left: u64,
}

fn bounded(inner: impl Read + 'static, limit: u64) -> Layer {
    Box::new(BufReader::with_capacity(BUFFER, Bounded { inner, limit, left: limit }))
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self
            .left
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other(TooLarge(self.limit)))?;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{
        Compression,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use reqwest::header::HeaderValue;

    const TEXT: &[u8] = b"<planList><output/></planList>";

    fn gz(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn undone_within(body: &[u8], codings: &[Coding], limit: u64) -> Result<Vec<u8>, FetchError> {
        let folder = tempfile::tempdir().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(body).unwrap();
        let mut plain = undo(file, codings, folder.path(), limit)?;
        let mut text = Vec::new();
        plain.file.read_to_end(&mut text).unwrap();
        assert_eq!(plain.bytes, text.len() as u64);
        assert_eq!(plain.hash.digest128(), xxhash_rust::xxh3::xxh3_128(&text));
        Ok(text)
    }

    fn undone(body: &[u8], codings: &[Coding]) -> Result<Vec<u8>, FetchError> {
        undone_within(body, codings, 1 << 20)
    }

    #[test]
    fn names_are_read_as_written_anywhere() {
        let named = |value: &'static str| {
            named(&HeaderMap::from_iter([(CONTENT_ENCODING, HeaderValue::from_static(value))]))
        };
        for name in ["gzip", "GZIP", "x-gzip", "X-GZip", " gzip ", "identity, gzip"] {
            assert_eq!(named(name).unwrap(), [Coding::Gzip], "{name}");
        }
        assert_eq!(
            named("Deflate, BR,zstd").unwrap(),
            [Coding::Deflate, Coding::Brotli, Coding::Zstd]
        );
        assert_eq!(named("identity").unwrap(), []);
        let unknown = named("compress");
        assert!(
            matches!(&unknown, Err(FetchError::UnknownCoding { name }) if name == "compress"),
            "{unknown:?}"
        );
        assert!(matches!(named("br,br,br,br,br"), Err(FetchError::TooManyCodings { .. })));
    }

    #[test]
    fn every_way_of_compressing_is_undone() {
        let (mut zlib, mut raw) = (
            ZlibEncoder::new(Vec::new(), Compression::default()),
            DeflateEncoder::new(Vec::new(), Compression::default()),
        );
        zlib.write_all(TEXT).unwrap();
        raw.write_all(TEXT).unwrap();
        let members = [gz(&TEXT[..7]), gz(b""), gz(&TEXT[7..])].concat();
        let mut brotli = Vec::new();
        brotli::BrotliCompress(&mut &TEXT[..], &mut brotli, &Default::default()).unwrap();
        for (body, codings) in [
            (TEXT.to_vec(), vec![]),
            (gz(TEXT), vec![Coding::Gzip]),
            (gz(TEXT), vec![]),
            (members.clone(), vec![Coding::Gzip]),
            (members, vec![]),
            // A compressed file that the server compressed once more, and one that it did not.
            (gz(&gz(TEXT)), vec![Coding::Gzip]),
            (gz(&gz(TEXT)), vec![Coding::Gzip, Coding::Gzip]),
            (gz(TEXT), vec![Coding::Gzip, Coding::Gzip]),
            // A header that somebody left who undid what it says.
            (TEXT.to_vec(), vec![Coding::Gzip]),
            ([gz(TEXT), vec![0; 512]].concat(), vec![Coding::Gzip]),
            (zlib.finish().unwrap(), vec![Coding::Deflate]),
            (raw.finish().unwrap(), vec![Coding::Deflate]),
            (brotli, vec![Coding::Brotli]),
            (zstd::encode_all(TEXT, 1).unwrap(), vec![Coding::Zstd]),
            (zstd::encode_all(&gz(TEXT)[..], 1).unwrap(), vec![Coding::Gzip, Coding::Zstd]),
        ] {
            assert_eq!(undone(&body, &codings).unwrap(), TEXT, "{codings:?}");
        }
        assert_eq!(undone(b"", &[Coding::Gzip]).unwrap(), b"");
    }

    #[test]
    fn what_is_cut_off_or_damaged_is_refused() {
        let body = gz(TEXT);
        for length in 2..body.len() {
            let cut = undone(&body[..length], &[Coding::Gzip]);
            assert!(matches!(cut, Err(FetchError::Coded { .. })), "{length}: {cut:?}");
        }
        let mut damaged = body.clone();
        damaged[15] ^= 0xff;
        assert!(undone(&damaged, &[]).is_err());
        let two = [body.clone(), body[..20].to_vec()].concat();
        assert!(undone(&two, &[Coding::Gzip]).is_err(), "the second member is cut off");
    }

    #[test]
    fn every_layer_is_bounded() {
        let limit = 1 << 16;
        let large = vec![b' '; limit + 1];
        let (gz_large, zstd_large) = (gz(&large), zstd::encode_all(&large[..], 1).unwrap());
        let exact = gz(&large[..limit]);
        assert_eq!(undone_within(&exact, &[], limit as u64).unwrap().len(), limit);
        // Members that give nothing: what they are packed into is large all the same.
        let nothing = gz(b"").repeat(limit / 10);
        let mut deflated = DeflateEncoder::new(Vec::new(), Compression::default());
        deflated.write_all(&large).unwrap();
        for (body, codings) in [
            (gz_large.clone(), vec![]),
            (gz_large, vec![Coding::Gzip]),
            (zstd_large, vec![Coding::Zstd]),
            (deflated.finish().unwrap(), vec![Coding::Deflate]),
            (gz(&nothing), vec![Coding::Gzip]),
        ] {
            let found = undone_within(&body, &codings, limit as u64);
            assert!(
                matches!(found, Err(FetchError::TooLarge { limit: told }) if told == limit as u64),
                "{codings:?}: {found:?}"
            );
        }
    }
}
