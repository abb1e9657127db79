//! Where schemas have ids.

use crate::files::{ALL, SchemaFile};
use async_trait::async_trait;
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id, post_schema},
    schema_registry_common::{SchemaType, SuppliedSchema},
};
use std::time::Duration;

#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema registry at {url} is unavailable: {detail}")]
    Unavailable { url: String, detail: String },
    #[error("schema registry at {url} refuses {subject}: {detail}")]
    Refused { url: String, subject: String, detail: String },
    #[error("schema registry has no schema with id {id}")]
    UnknownId { id: u32 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegisteredSchema {
    pub id: u32,
    pub text: String,
}

#[async_trait]
pub trait Registry: Send + Sync + 'static {
    /// The id of a schema under its subject; registers it when it is new. The same schema has the
    /// same id for ever.
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError>;

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError>;
}

/// The registry of the embedded engine: the files of this program, numbered.
#[derive(Clone, Copy, Debug, Default)]
pub struct BuiltInRegistry;

#[async_trait]
impl Registry for BuiltInRegistry {
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
        file.built_in_id().ok_or(RegistryError::UnknownId { id: 0 })
    }

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        let file = id.checked_sub(1).and_then(|place| ALL.get(place as usize));
        let file = file.ok_or(RegistryError::UnknownId { id })?;
        Ok(RegisteredSchema { id, text: file.text.to_owned() })
    }
}

/// Any registry that speaks Confluent's API.
pub struct ConfluentRegistry {
    url: String,
    prefix: String,
    settings: SrSettings,
}

impl ConfluentRegistry {
    /// `url` is the address that a Confluent client is given; `prefix` the installation's topic
    /// prefix.
    pub fn new(
        url: &str,
        prefix: &str,
        credentials: Option<(&str, &str)>,
        timeout: Duration,
    ) -> Result<Self, RegistryError> {
        let mut builder = SrSettings::new_builder(url.trim_end_matches('/').to_owned());
        builder.set_timeout(timeout);
        if let Some((username, password)) = credentials {
            builder.set_basic_authorization(username, Some(password));
        }
        let settings = builder.build().map_err(|error| RegistryError::Unavailable {
            url: url.to_owned(),
            detail: error.to_string(),
        })?;
        Ok(Self { url: url.to_owned(), prefix: prefix.to_owned(), settings })
    }
}

#[async_trait]
impl Registry for ConfluentRegistry {
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
        let subject = file.subject(&self.prefix);
        let name = Some(file.record.to_owned());
        let schema = SuppliedSchema::new(name, SchemaType::Avro, file.text.to_owned());
        match post_schema(&self.settings, subject.clone(), schema).await {
            Ok(registered) => Ok(registered.id),
            Err(error) if error.retriable => {
                Err(RegistryError::Unavailable { url: self.url.clone(), detail: error.to_string() })
            }
            Err(error) => Err(RegistryError::Refused {
                url: self.url.clone(),
                subject,
                detail: error.to_string(),
            }),
        }
    }

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        match get_schema_by_id(id, &self.settings).await {
            Ok(schema) => Ok(RegisteredSchema { id, text: schema.schema }),
            Err(error) if error.retriable => {
                Err(RegistryError::Unavailable { url: self.url.clone(), detail: error.to_string() })
            }
            Err(_) => Err(RegistryError::UnknownId { id }),
        }
    }
}
