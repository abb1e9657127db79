//! Segment files as disks may leave them.

use super::{frame, *};
use crate::{
    Headers, Record,
    conformance::{append, everything, spec},
};
use almanac_fuzzing::fuzz;
use bytes::Bytes;

const TEXTS: [&str; 3] = ["first", "second", "third"];

/// Behind a checksum that fits, anything may stand.
#[test]
fn any_payload_is_blocks_or_none() {
    let mut body = Vec::new();
    for (delta, text) in (0..).zip(TEXTS) {
        let value = (delta > 0).then(|| Bytes::from_static(b"value"));
        let headers = Headers::default();
        let record = Record { key: text.into(), value, headers, timestamp_ms: 1 };
        frame::encode_record(&mut body, delta, &record);
    }
    let mut positions = Vec::new();
    frame::put_synced(&mut positions, 4_096);
    fuzz("log-payloads", [body, positions], |payload: &[u8]| {
        let records = frame::decode_records(Bytes::copy_from_slice(payload), u64::MAX - 1);
        assert!(records.is_none_or(|records| records.len() * 24 <= payload.len()));
        let blocks = frame::parse_blocks(payload, 1, 8);
        assert!(blocks.is_none_or(|blocks| blocks.len() <= payload.len()));
    });
}

/// However a segment is damaged, the log is opened or names the file; and what is read of it is what was
/// written, from the beginning on.
#[test]
fn damaged_segments_are_cut_or_refused() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let written = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let log = EmbeddedLog::open(EmbeddedOptions::new(written.path())).unwrap();
        log.ensure_topics(&[spec("facts", 1)]).await.unwrap();
        for text in TEXTS {
            log.append(vec![append(&"facts".into(), 0, text)]).await.unwrap();
        }
    });
    let path = segment::log_path(written.path(), 1);
    let whole = fs::read(&path).unwrap();
    fuzz("log-segments", [whole], |bytes: &[u8]| {
        let folder = tempfile::tempdir().unwrap();
        fs::write(segment::log_path(folder.path(), 1), bytes).unwrap();
        runtime.block_on(async {
            let log = match EmbeddedLog::open(EmbeddedOptions::new(folder.path())) {
                Ok(log) => log,
                Err(error) => {
                    return assert!(error.to_string().contains("00000001.log"), "{error}");
                }
            };
            if log.topic("facts").await.is_err() {
                return;
            }
            let found = everything(&log, "facts", 0).await;
            assert!(TEXTS.iter().zip(&found).all(|(one, other)| one == other), "{found:?}");
            assert!(found.len() <= TEXTS.len(), "{found:?}");
        });
    });
}
