//! Records as they travel: key, value, headers, time.

use bytes::{BufMut, Bytes, BytesMut};
use std::sync::Arc;

/// What is appended: the log adds an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub key: Bytes,
    /// `None` is a tombstone, of use in compacted topics only.
    pub value: Option<Bytes>,
    pub headers: Headers,
    /// Milliseconds since the Unix epoch, given by the producer.
    pub timestamp_ms: i64,
}

impl Record {
    /// Bytes that count towards batch and transaction bounds.
    pub fn size(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len) + self.headers.encoded().len()
    }
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    pub topic: Arc<str>,
    pub partition: u32,
    pub offset: u64,
    pub record: Record,
}

/// Record headers, kept in one buffer: an event has about ten of them, and an allocation for each
/// would cost more than encoding the event.
///
/// Encoding, repeated: name length (u8), name, value length (u16 little-endian), value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Bytes);

impl Headers {
    /// Takes over an encoded buffer; `None` when it is not well-formed.
    pub fn from_encoded(encoded: Bytes) -> Option<Self> {
        let mut at = 0;
        while at < encoded.len() {
            let name_length = usize::from(encoded[at]);
            let value_at = at + 1 + name_length;
            let length = encoded.get(value_at..value_at + 2)?;
            std::str::from_utf8(&encoded[at + 1..value_at]).ok()?;
            at = value_at + 2 + usize::from(u16::from_le_bytes([length[0], length[1]]));
        }
        (at == encoded.len()).then_some(Self(encoded))
    }

    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// The first header with this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(found, _)| *found == name).map(|(_, value)| value)
    }

    /// The first header with this name, when it is text.
    pub fn get_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.get(name)?).ok()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut rest: &[u8] = &self.0;
        std::iter::from_fn(move || {
            let (&name_length, after) = rest.split_first()?;
            let (name, after) = after.split_at_checked(usize::from(name_length))?;
            let (length, after) = after.split_at_checked(2)?;
            let length = usize::from(u16::from_le_bytes([length[0], length[1]]));
            let (value, after) = after.split_at_checked(length)?;
            rest = after;
            Some((std::str::from_utf8(name).ok()?, value))
        })
    }
}

/// Writes headers into one buffer.
#[derive(Default)]
pub struct HeadersBuilder(BytesMut);

impl HeadersBuilder {
    pub fn with_capacity(bytes: usize) -> Self {
        Self(BytesMut::with_capacity(bytes))
    }

    /// Names longer than 255 bytes and values longer than 65,535 are cut: headers carry
    /// identifiers, and none of ours comes near.
    pub fn push(&mut self, name: &str, value: &[u8]) -> &mut Self {
        let name = &name.as_bytes()[..name.len().min(usize::from(u8::MAX))];
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.0.reserve(3 + name.len() + value.len());
        self.0.put_u8(name.len() as u8);
        self.0.put_slice(name);
        self.0.put_u16_le(value.len() as u16);
        self.0.put_slice(value);
        self
    }

    pub fn build(self) -> Headers {
        Headers(self.0.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_the_round_trip() {
        let mut builder = HeadersBuilder::default();
        builder.push("ce_id", b"a.1").push("empty", b"").push("binary", &[0, 255]);
        let headers = builder.build();
        let again = Headers::from_encoded(headers.encoded().clone()).unwrap();
        assert_eq!(again.get_str("ce_id"), Some("a.1"));
        assert_eq!(again.get("empty"), Some(&b""[..]));
        assert_eq!(again.get("binary"), Some(&[0, 255][..]));
        assert_eq!(again.get("absent"), None);
        assert_eq!(again.iter().count(), 3);
    }

    #[test]
    fn malformed_headers_are_refused() {
        for bad in [&b"\x05ab"[..], b"\x01a\xff\xff", b"\x01a\x01", b"\x01\xff\x00\x00"] {
            assert!(Headers::from_encoded(Bytes::copy_from_slice(bad)).is_none(), "{bad:?}");
        }
    }
}
