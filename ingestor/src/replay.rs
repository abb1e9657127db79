//! Stored bodies, read back from `ingest.payloads`: a parser that was corrected reads them again.

use crate::{
    fetch::{Body, Validators},
    role::Topics,
};
use almanac_errors::chain;
use almanac_event_log::{EventLog, Isolation, LogReader, ReadLimit, StoredRecord};
use almanac_processor::RoleError;
use almanac_schemas::{
    Codec,
    ingest::{PAYLOAD_CHUNK, PayloadChunkRecord},
};
use encoding_rs::Encoding;
use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, Write},
    path::PathBuf,
    time::Duration,
};
use xxhash_rust::xxh3::Xxh3;

const LIMIT: ReadLimit = ReadLimit { records: 16, bytes: 8 << 20 };
const WAIT: Duration = Duration::from_secs(1);

/// A stored body, still compressed.
pub(crate) struct Payload {
    pub(crate) id: String,
    pub(crate) fetched_at_ms: i64,
    /// The encoding that its Content-Type named.
    charset: Option<&'static str>,
    file: File,
    /// Chunks that were written to the file, and how many there are.
    chunks: (i32, i32),
}

/// The stored bodies of one provider, oldest first.
pub(crate) struct Payloads<'a> {
    codec: &'a Codec,
    provider: &'a str,
    since_ms: i64,
    spool_dir: PathBuf,
    reader: Box<dyn LogReader>,
    waiting: std::vec::IntoIter<StoredRecord>,
    open: Option<Payload>,
}

impl<'a> Payloads<'a> {
    pub(crate) async fn open(
        log: &dyn EventLog,
        topics: &Topics,
        codec: &'a Codec,
        provider: &'a str,
        partition: u32,
        since_ms: i64,
        spool_dir: PathBuf,
    ) -> Result<Self, RoleError> {
        let start = log.start(&topics.payloads, partition).await?;
        let end = log.end(&topics.payloads, partition, Isolation::Uncommitted).await?;
        let reader = log.read_to(&topics.payloads, partition, start, end).await?;
        let waiting = Vec::new().into_iter();
        Ok(Self { codec, provider, since_ms, spool_dir, reader, waiting, open: None })
    }

    /// The next body that is there with all its chunks.
    pub(crate) async fn next(&mut self) -> Result<Option<Payload>, RoleError> {
        loop {
            while let Some(record) = self.waiting.next() {
                if let Some(payload) = self.take(&record).await? {
                    return Ok(Some(payload));
                }
            }
            let batch = self.reader.next(LIMIT, WAIT).await?;
            if batch.records.is_empty() && !batch.at_end.is_empty() {
                return Ok(None);
            }
            self.waiting = batch.records.into_iter();
        }
    }

    /// The newest of them.
    pub(crate) async fn newest(mut self) -> Result<Option<Payload>, RoleError> {
        let mut newest = None;
        while let Some(payload) = self.next().await? {
            newest = Some(payload);
        }
        Ok(newest)
    }

    async fn take(&mut self, record: &StoredRecord) -> Result<Option<Payload>, RoleError> {
        let Some(value) = &record.record.value else { return Ok(None) };
        if record.record.key != self.provider.as_bytes() {
            return Ok(None);
        }
        let chunk: PayloadChunkRecord<'_> = match self.codec.decode(value).await {
            Ok(decoded) if decoded.record() != PAYLOAD_CHUNK => return Ok(None),
            Err(error) if error.is_outage() => return Err(RoleError::other(error)),
            decoded => match decoded.and_then(|decoded| decoded.read()) {
                Ok(chunk) => chunk,
                Err(error) => {
                    tracing::warn!(
                        topic = %record.topic, partition = record.partition, offset = record.offset,
                        error = %chain(&error), "passing over a part of a stored body that cannot be read"
                    );
                    return Ok(None);
                }
            },
        };
        if chunk.fetched_at < self.since_ms {
            return Ok(None);
        }
        let io = |error: io::Error| RoleError::other(error);
        // Chunks of a body follow each other. One that began and did not go on was cut off by a
        // crash, and one whose first chunks have expired cannot be read any more.
        if chunk.chunk == 0 {
            let file = tempfile::tempfile_in(&self.spool_dir).map_err(io)?;
            self.open = Some(Payload {
                id: chunk.payload_id.clone(),
                fetched_at_ms: chunk.fetched_at,
                charset: chunk
                    .charset
                    .and_then(|name| Encoding::for_label_no_replacement(name.as_bytes()))
                    .map(Encoding::name),
                file,
                chunks: (0, chunk.chunks),
            });
        }
        let Some(open) = self.open.as_mut().filter(|open| {
            open.id == chunk.payload_id && open.chunks == (chunk.chunk, chunk.chunks)
        }) else {
            return Ok(None);
        };
        open.file.write_all(chunk.bytes).map_err(io)?;
        open.chunks.0 += 1;
        Ok(self.open.take_if(|open| open.chunks.0 == open.chunks.1))
    }
}

impl Payload {
    /// Decompresses it, up to the limit that held when it was fetched. Blocks.
    pub(crate) fn into_body(mut self, limit: u64, spool_dir: &std::path::Path) -> io::Result<Body> {
        self.file.rewind()?;
        let mut decoder = zstd::Decoder::new(BufReader::new(self.file))?.take(limit + 1);
        let mut file = tempfile::tempfile_in(spool_dir)?;
        let (mut hash, mut bytes) = (Xxh3::new(), 0);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = decoder.read(&mut buffer)?;
            if length == 0 {
                break;
            }
            bytes += length as u64;
            hash.update(&buffer[..length]);
            file.write_all(&buffer[..length])?;
        }
        if bytes > limit {
            return Err(io::Error::other(format!(
                "stored body {} is larger than {limit} bytes",
                self.id
            )));
        }
        file.rewind()?;
        hash.update(self.charset.unwrap_or_default().as_bytes());
        Ok(Body {
            status: 200,
            file,
            bytes,
            hash: format!("{:032x}", hash.digest128()),
            charset: self.charset,
            validators: Validators::default(),
            fresh_until: None,
        })
    }
}
