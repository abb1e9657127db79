//! Events and other records as Avro in Confluent's wire format.
//!
//! [`files`] lists every schema that ever landed. [`Codec`] turns records into bytes and back
//! under the ids of a [`Registry`]: a real one, or the one built into the embedded engine.

pub mod check;
mod codec;
pub mod commands;
pub mod files;
pub mod ingest;
pub mod json;
mod levels;
pub mod plans;
pub mod projections;
pub mod recipes;
mod registry;
mod token;

pub use codec::{Codec, CodecError, Decoded, WriterSchema, schema_id};
pub use registry::{
    BuiltInRegistry, ConfluentRegistry, RegisteredSchema, Registry, RegistryError, RegistryOptions,
};
pub use token::{CONSISTENCY_TOKEN, NotAToken, Token};
