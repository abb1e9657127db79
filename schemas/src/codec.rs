//! Records to bytes and back: magic byte 0, schema id (four bytes, big-endian), Avro datum.

use crate::{
    files::SchemaFile,
    registry::{RegisteredSchema, Registry, RegistryError},
};
use almanac_errors::Cause;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_avro_fast::ser::SerializerConfig;
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

pub(crate) const PREFIX: usize = 5;
/// Schemas of records that others wrote; a topic has a handful.
const MAX_FOREIGN_SCHEMAS: usize = 1_000;

#[derive(Clone, Debug, thiserror::Error)]
pub enum CodecError {
    #[error("value of {length} bytes does not start with the magic byte and a schema id")]
    NotConfluent { length: usize },
    #[error("schema {id} cannot be used")]
    BadSchema { id: u32, source: Cause },
    #[error("record does not match schema {id} of {record}")]
    Mismatch { id: u32, record: String, source: Cause },
    #[error("cannot encode {record}")]
    Encode { record: &'static str, source: Cause },
    #[error("no schema of {record} is known to this program")]
    UnknownRecord { record: &'static str },
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

impl CodecError {
    /// Whether the same call may succeed later. Everything else is the record's fault.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Registry(RegistryError::Unavailable { .. }))
    }
}

/// The schema that a record was written with.
pub struct WriterSchema {
    pub id: u32,
    /// Full name of the record.
    pub record: String,
    schema: serde_avro_fast::Schema,
}

/// A record with its name, to be read as whatever type has that name.
pub struct Decoded<'a> {
    pub writer: Arc<WriterSchema>,
    datum: &'a [u8],
}

impl<'a> Decoded<'a> {
    pub fn record(&self) -> &str {
        &self.writer.record
    }

    /// Reads the datum; fields that the type lacks are passed over, fields that the schema lacks
    /// take the type's defaults.
    pub fn read<T: Deserialize<'a>>(&self) -> Result<T, CodecError> {
        serde_avro_fast::from_datum_slice(self.datum, &self.writer.schema).map_err(|error| {
            CodecError::Mismatch {
                id: self.writer.id,
                record: self.writer.record.clone(),
                source: error.into(),
            }
        })
    }
}

struct OwnSchema {
    id: u32,
    schema: serde_avro_fast::Schema,
}

pub struct Codec {
    registry: Arc<dyn Registry>,
    own: HashMap<&'static str, OwnSchema>,
    writers: RwLock<HashMap<u32, Arc<WriterSchema>>>,
}

pub(crate) fn parse(id: u32, text: &str) -> Result<serde_avro_fast::Schema, CodecError> {
    text.parse().map_err(|error: serde_avro_fast::schema::SchemaError| CodecError::BadSchema {
        id,
        source: error.into(),
    })
}

impl Codec {
    /// Registers the newest schema of every record, so that encoding never waits.
    pub async fn new(registry: Arc<dyn Registry>) -> Result<Self, CodecError> {
        Self::of(registry, SchemaFile::all_newest()).await
    }

    /// The same for these.
    pub async fn of(
        registry: Arc<dyn Registry>,
        files: impl IntoIterator<Item = &'static SchemaFile>,
    ) -> Result<Self, CodecError> {
        let mut own = HashMap::new();
        let mut writers = HashMap::new();
        for file in files {
            let id = registry.register(file).await?;
            own.insert(file.record, OwnSchema { id, schema: parse(id, file.text)? });
            let registered = RegisteredSchema { id, text: file.text.to_owned() };
            writers.insert(id, Arc::new(writer_schema(&registered)?));
        }
        Ok(Self { registry, own, writers: RwLock::new(writers) })
    }

    pub fn encode<T: Serialize>(
        &self,
        record: &'static str,
        value: &T,
    ) -> Result<Bytes, CodecError> {
        let own = self.own(record)?;
        let buffer = with_prefix(own.id, 256);
        let mut config = SerializerConfig::new(&own.schema);
        serde_avro_fast::to_datum(value, buffer, &mut config)
            .map(Bytes::from)
            .map_err(|error| CodecError::Encode { record, source: error.into() })
    }

    fn own(&self, record: &'static str) -> Result<&OwnSchema, CodecError> {
        self.own.get(record).ok_or(CodecError::UnknownRecord { record })
    }

    /// The id under which this program writes a record.
    pub fn id_of(&self, record: &'static str) -> Result<u32, CodecError> {
        Ok(self.own(record)?.id)
    }

    /// Finds the schema that `value` was written with, asking the registry when it is new here.
    pub async fn decode<'a>(&self, value: &'a [u8]) -> Result<Decoded<'a>, CodecError> {
        let (id, datum) = split(value)?;
        let known = {
            let writers = self.writers.read().unwrap_or_else(PoisonError::into_inner);
            writers.get(&id).cloned()
        };
        let writer = match known {
            Some(known) => known,
            None => self.learn(id).await?,
        };
        Ok(Decoded { writer, datum })
    }

    async fn learn(&self, id: u32) -> Result<Arc<WriterSchema>, CodecError> {
        let registered = self.registry.fetch(id).await?;
        let writer = Arc::new(writer_schema(&registered)?);
        let mut writers = self.writers.write().unwrap_or_else(PoisonError::into_inner);
        if writers.len() < MAX_FOREIGN_SCHEMAS {
            writers.insert(id, writer.clone());
        }
        Ok(writer)
    }
}

pub(crate) fn with_prefix(id: u32, capacity: usize) -> Vec<u8> {
    let mut buffer = Vec::with_capacity(PREFIX + capacity);
    buffer.push(0);
    buffer.extend_from_slice(&id.to_be_bytes());
    buffer
}

/// The id of the schema that a value was written with, if it is in the wire format.
pub fn schema_id(value: &[u8]) -> Option<u32> {
    split(value).ok().map(|(id, _)| id)
}

fn split(value: &[u8]) -> Result<(u32, &[u8]), CodecError> {
    match value {
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        _ => Err(CodecError::NotConfluent { length: value.len() }),
    }
}

fn writer_schema(registered: &RegisteredSchema) -> Result<WriterSchema, CodecError> {
    let id = registered.id;
    let record = registered.record().ok_or_else(|| CodecError::BadSchema {
        id,
        source: "it is no schema of a record with a name".into(),
    })?;
    Ok(WriterSchema { id, record, schema: parse(id, &registered.text)? })
}
