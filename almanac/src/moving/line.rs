//! A record on its way, as a line of JSON.

use almanac_event_log::{Headers, HeadersBuilder, Offset, Record};
use almanac_schemas::files::SchemaFile;
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a page of records holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Line {
    Record(Moved),
    /// Something that no version of Almanac wrote.
    Skipped {
        offset: Offset,
        why: String,
    },
    /// The last line of a page; one that lacks it broke off.
    Next(Place),
}

/// Where the next page begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Everything up to this was handed out; null where there was nothing.
    pub(crate) after: Option<Offset>,
    pub(crate) is_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moved {
    /// Where it stood in the installation that it comes from.
    pub(crate) offset: Offset,
    /// Milliseconds since the Unix epoch.
    pub(crate) timestamp: i64,
    /// Base64, like the values of headers and the body.
    pub(crate) key: String,
    pub(crate) headers: Vec<(String, String)>,
    /// Name and version of the schema that the body was written with; absent for a tombstone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) schema: Option<Named>,
    /// Avro, without the id of its schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) body: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Named {
    pub(crate) record: String,
    pub(crate) version: u32,
}

impl Named {
    pub(crate) fn of(file: &SchemaFile) -> Self {
        Self { record: file.record.to_owned(), version: file.version }
    }
}

pub(crate) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(crate) fn decode(what: &str, text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| format!("{what} is no base64: {error}"))
}

impl Moved {
    /// Of a record whose body was written with this schema.
    pub(crate) fn of(offset: Offset, record: &Record, body: Option<(&SchemaFile, &[u8])>) -> Self {
        let headers = record.headers.iter();
        Self {
            offset,
            timestamp: record.timestamp_ms,
            key: encode(&record.key),
            headers: headers.map(|(name, value)| (name.to_owned(), encode(value))).collect(),
            schema: body.map(|(file, _)| Named::of(file)),
            body: body.map(|(_, datum)| encode(datum)),
        }
    }

    pub(crate) fn key(&self) -> Result<Bytes, String> {
        decode("the key", &self.key).map(Bytes::from)
    }

    pub(crate) fn headers(&self) -> Result<Headers, String> {
        let mut headers = HeadersBuilder::with_capacity(384);
        for (name, value) in &self.headers {
            headers.push(name, &decode("a header", value)?);
        }
        Ok(headers.build())
    }

    pub(crate) fn body(&self) -> Result<Option<Vec<u8>>, String> {
        self.body.as_deref().map(|body| decode("the body", body)).transpose()
    }
}

/// What there is to export.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Outline {
    /// Of Almanac.
    pub(crate) version: String,
    pub(crate) engine: String,
    pub(crate) topics: Vec<MovedTopic>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct MovedTopic {
    pub(crate) topic: String,
    pub(crate) id: String,
    /// By partition: the offset behind the last record that readers see.
    pub(crate) ends: Vec<Offset>,
}
