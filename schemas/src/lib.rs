//! Events and other records as Avro in Confluent's wire format.
//!
//! [`files`] lists every schema that ever landed. [`Codec`] turns records into bytes and back
//! under the ids of a [`Registry`]: a real one, or the one built into the embedded engine.

pub mod analyses;
pub mod check;
mod codec;
pub mod commands;
pub mod files;
pub mod forecasts;
#[cfg(test)]
mod fuzzed;
pub mod imports;
pub mod ingest;
pub mod json;
mod levels;
pub mod mending;
pub mod notifications;
pub mod operations;
pub mod pausing;
pub mod plans;
pub mod projections;
pub mod recipes;
mod registry;
pub mod schedules;
pub mod subscriptions;
mod token;

pub use codec::{Codec, CodecError, Decoded, WriterSchema, schema_id};
pub use registry::{
    BuiltInRegistry, ConfluentRegistry, RegisteredSchema, Registry, RegistryError, RegistryOptions,
};
pub use token::{CONSISTENCY_TOKEN, NotAToken, Token};
