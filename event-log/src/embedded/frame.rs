//! The bytes of a segment file.
//!
//! A file is a sequence of frames, one per transaction. A frame is a header of 16 bytes (magic,
//! payload length, CRC-32C of the payload, CRC-32C of the header so far) and a payload of blocks.
//! All integers are little-endian. A frame tells how much of its file was synced when it was made:
//! what is damaged beyond that was never acknowledged. A record block carries a CRC of its own, so
//! that a reader checks what it reads without reading the whole frame.

use super::index::{BlockRef, TopicDeclaration};
use crate::{Durability, Headers, Offset, Record, Retention, TopicId};
use bytes::{Buf, BufMut, Bytes};
use std::{sync::Arc, time::Duration};
use uuid::Uuid;

pub(super) const FRAME_HEADER: usize = 16;
pub(super) const MAGIC: &[u8; 4] = b"ALF1";
/// A length beyond this is damage, not a frame: the writer refuses larger transactions.
pub(super) const MAX_PAYLOAD: usize = 256 << 20;

const RECORDS: u8 = 1;
const POSITION: u8 = 2;
const TOPIC: u8 = 3;
const SYNCED: u8 = 4;
const RECORDS_HEADER: usize = 1 + 2 + 4 + 8 + 8 + 4 + 4;
const NO_VALUE: u32 = u32::MAX;

/// One block of a frame, borrowed from its payload.
#[derive(Debug)]
pub(super) enum Block {
    Records {
        topic: u16,
        partition: u32,
        block: BlockRef,
    },
    Position {
        group: Arc<str>,
        topic: u16,
        partition: u32,
        next_offset: Offset,
    },
    Topic {
        number: u16,
        declaration: TopicDeclaration,
    },
    /// Bytes of this file that were synced before the frame was written.
    Synced {
        length: u64,
    },
}

/// Starts a frame in `out`; returns where it starts, for [`finish_frame`].
pub(super) fn begin_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER]);
    start
}

pub(super) fn finish_frame(out: &mut [u8], start: usize) {
    let payload = &out[start + FRAME_HEADER..];
    let length = payload.len() as u32;
    let checksum = crc32c::crc32c(payload);
    let header = &mut out[start..start + FRAME_HEADER];
    header[..4].copy_from_slice(MAGIC);
    header[4..8].copy_from_slice(&length.to_le_bytes());
    header[8..12].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32c::crc32c(&header[..12]);
    header[12..].copy_from_slice(&own.to_le_bytes());
}

/// The payload length and checksum of a valid frame header.
pub(super) fn parse_frame_header(header: &[u8]) -> Option<(usize, u32)> {
    if header.len() < FRAME_HEADER || &header[..4] != MAGIC {
        return None;
    }
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
    let length = word(4) as usize;
    (word(12) == crc32c::crc32c(&header[..12]) && length <= MAX_PAYLOAD)
        .then_some((length, word(8)))
}

/// Appends a record block; `body` was made by [`encode_record`]. Returns where the body starts
/// in `out`.
pub(super) fn put_records(
    out: &mut Vec<u8>,
    topic: u16,
    partition: u32,
    base: Offset,
    last: Offset,
    body: &[u8],
) -> (usize, u32) {
    let checksum = crc32c::crc32c(body);
    out.put_u8(RECORDS);
    out.put_u16_le(topic);
    out.put_u32_le(partition);
    out.put_u64_le(base);
    out.put_u64_le(last);
    out.put_u32_le(body.len() as u32);
    out.put_u32_le(checksum);
    let at = out.len();
    out.extend_from_slice(body);
    (at, checksum)
}

pub(super) fn put_position(
    out: &mut Vec<u8>,
    group: &str,
    topic: u16,
    partition: u32,
    next_offset: Offset,
) {
    out.put_u8(POSITION);
    put_text(out, group);
    out.put_u16_le(topic);
    out.put_u32_le(partition);
    out.put_u64_le(next_offset);
}

pub(super) fn put_synced(out: &mut Vec<u8>, length: u64) {
    out.put_u8(SYNCED);
    out.put_u64_le(length);
}

pub(super) fn put_topic(out: &mut Vec<u8>, number: u16, declaration: &TopicDeclaration) {
    out.put_u8(TOPIC);
    out.put_u16_le(number);
    out.extend_from_slice(declaration.id.0.as_bytes());
    out.put_u32_le(declaration.partitions);
    let (kind, milliseconds) = match declaration.retention {
        Retention::Forever => (0, 0),
        Retention::Compacted => (1, 0),
        Retention::For(age) => (2, age.as_millis() as u64),
    };
    out.put_u8(kind);
    out.put_u64_le(milliseconds);
    out.put_u8(u8::from(declaration.durability == Durability::Buffered));
    put_text(out, &declaration.name);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    out.put_u16_le(text.len() as u16);
    out.extend_from_slice(text.as_bytes());
}

/// Reads the blocks of a payload whose checksum was right. `position` is where the payload starts
/// in its file. `None` means the bytes do not follow the format.
pub(super) fn parse_blocks(payload: &[u8], segment: u32, position: u64) -> Option<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut rest = payload;
    while rest.has_remaining() {
        let block = match rest.get_u8() {
            RECORDS => {
                if rest.remaining() < RECORDS_HEADER - 1 {
                    return None;
                }
                let topic = rest.get_u16_le();
                let partition = rest.get_u32_le();
                let base = rest.get_u64_le();
                let last = rest.get_u64_le();
                let length = rest.get_u32_le();
                let checksum = rest.get_u32_le();
                let body_at = position + (payload.len() - rest.len()) as u64;
                if rest.remaining() < length as usize {
                    return None;
                }
                rest.advance(length as usize);
                let block = BlockRef { base, last, segment, position: body_at, length, checksum };
                Block::Records { topic, partition, block }
            }
            POSITION => {
                let group = get_text(&mut rest)?.into();
                if rest.remaining() < 14 {
                    return None;
                }
                Block::Position {
                    group,
                    topic: rest.get_u16_le(),
                    partition: rest.get_u32_le(),
                    next_offset: rest.get_u64_le(),
                }
            }
            TOPIC => {
                if rest.remaining() < 32 {
                    return None;
                }
                let number = rest.get_u16_le();
                let mut id = [0; 16];
                rest.copy_to_slice(&mut id);
                let partitions = rest.get_u32_le();
                let kind = rest.get_u8();
                let milliseconds = rest.get_u64_le();
                let retention = match kind {
                    0 => Retention::Forever,
                    1 => Retention::Compacted,
                    2 => Retention::For(Duration::from_millis(milliseconds)),
                    _ => return None,
                };
                let durability = match rest.get_u8() {
                    0 => Durability::Synced,
                    _ => Durability::Buffered,
                };
                let name = get_text(&mut rest)?.into();
                let id = TopicId(Uuid::from_bytes(id));
                let declaration = TopicDeclaration { name, id, partitions, retention, durability };
                Block::Topic { number, declaration }
            }
            SYNCED => {
                if rest.remaining() < 8 {
                    return None;
                }
                Block::Synced { length: rest.get_u64_le() }
            }
            _ => return None,
        };
        blocks.push(block);
    }
    Some(blocks)
}

fn get_text(rest: &mut &[u8]) -> Option<String> {
    if rest.remaining() < 2 {
        return None;
    }
    let length = usize::from(rest.get_u16_le());
    let text = rest.get(..length)?;
    let text = std::str::from_utf8(text).ok()?.to_owned();
    rest.advance(length);
    Some(text)
}

/// Appends one record to a block body: its offset relative to the block's base comes first.
pub(super) fn encode_record(body: &mut Vec<u8>, delta: u32, record: &Record) {
    let value_length = record.value.as_ref().map_or(NO_VALUE, |value| value.len() as u32);
    body.reserve(24 + record.size());
    body.put_u32_le(delta);
    body.put_i64_le(record.timestamp_ms);
    body.put_u32_le(record.key.len() as u32);
    body.put_u32_le(value_length);
    body.put_u32_le(record.headers.encoded().len() as u32);
    body.extend_from_slice(&record.key);
    if let Some(value) = &record.value {
        body.extend_from_slice(value);
    }
    body.extend_from_slice(record.headers.encoded());
}

/// The records of a block body with their offsets; they share the body's memory. `None` means
/// the bytes do not follow the format.
pub(super) fn decode_records(mut body: Bytes, base: Offset) -> Option<Vec<(Offset, Record)>> {
    let mut records = Vec::new();
    while body.has_remaining() {
        if body.remaining() < 24 {
            return None;
        }
        let offset = base.checked_add(u64::from(body.get_u32_le()))?;
        let timestamp_ms = body.get_i64_le();
        let key_length = body.get_u32_le() as usize;
        let value_length = body.get_u32_le();
        let headers_length = body.get_u32_le() as usize;
        let value_bytes = if value_length == NO_VALUE { 0 } else { value_length as usize };
        if body.remaining() < key_length + value_bytes + headers_length {
            return None;
        }
        let key = body.split_to(key_length);
        let value = body.split_to(value_bytes);
        let headers = Headers::from_encoded(body.split_to(headers_length))?;
        let value = (value_length != NO_VALUE).then_some(value);
        records.push((offset, Record { key, value, headers, timestamp_ms }));
    }
    Some(records)
}
