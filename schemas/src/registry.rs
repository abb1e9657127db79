//! Where schemas have ids.

use crate::{
    files::{ALL, SchemaFile},
    levels::Levels,
};
use almanac_secrets::{Address, Secret, masked_within};
use async_trait::async_trait;
use reqwest::{Certificate, ClientBuilder, Identity};
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id, post_schema},
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SuppliedSchema},
};
use std::{
    error::Error,
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

/// What a registry calls an id that no schema has.
const SCHEMA_NOT_FOUND: u32 = 40_403;

#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema registry at {url} is unavailable: {detail}")]
    Unavailable { url: String, detail: String },
    #[error("{setting} of the schema registry: {detail}")]
    Settings { setting: String, detail: String },
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

impl RegisteredSchema {
    /// Full name of the record.
    pub fn record(&self) -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(&self.text).ok()?;
        let name = json.get("name")?.as_str()?;
        Some(match json.get("namespace").and_then(|namespace| namespace.as_str()) {
            Some(namespace) if !name.contains('.') => format!("{namespace}.{name}"),
            _ => name.to_owned(),
        })
    }
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
    url: Address,
    prefix: String,
    settings: SrSettings,
    levels: Levels,
}

/// Where a registry is, and how to be let in.
#[derive(Clone, Default)]
pub struct RegistryOptions {
    /// The address that a Confluent client is given.
    pub url: Address,
    /// The installation's topic prefix.
    pub prefix: String,
    /// Username and password.
    pub credentials: Option<(String, Secret)>,
    /// Whom to trust, in PEM; the system's authorities when absent.
    pub ca_file: Option<PathBuf>,
    /// A certificate with its chain, and its key in PKCS #8, both in PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub timeout: Duration,
}

impl ConfluentRegistry {
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let (client, own) = (client(&options)?, client(&options)?);
        let RegistryOptions { url, prefix, credentials, timeout, .. } = options;
        let own = own.build().map_err(|error| wrong(&"settings", &error))?;
        let levels = Levels::new(own, url.clone(), credentials.clone(), timeout);
        let mut builder = SrSettings::new_builder(url.expose().trim_end_matches('/').to_owned());
        builder.set_timeout(timeout);
        if let Some((username, password)) = credentials {
            builder.set_basic_authorization(&username, Some(password.expose()));
        }
        let settings = builder.build_with(client).map_err(|error| wrong(&"settings", &error))?;
        Ok(Self { url, prefix, settings, levels })
    }

    fn unavailable(&self, error: &SRCError) -> RegistryError {
        let detail = masked_within(&with_causes(error));
        RegistryError::Unavailable { url: self.url.to_string(), detail }
    }
}

fn client(options: &RegistryOptions) -> Result<ClientBuilder, RegistryError> {
    let mut client = reqwest::Client::builder();
    let read = |file: &Path| std::fs::read(file).map_err(|error| wrong(&file.display(), &error));
    if let Some(file) = &options.ca_file {
        let trusted = Certificate::from_pem_bundle(&read(file)?);
        let trusted = trusted.map_err(|error| wrong(&file.display(), &error))?;
        if trusted.is_empty() {
            return Err(wrong(&file.display(), &"holds no certificate"));
        }
        client = client.tls_certs_only(trusted);
    }
    if let Some((certificate, key)) = &options.client_certificate {
        let identity = Identity::from_pkcs8_pem(&read(certificate)?, &read(key)?);
        let files = format!("{} and {}", certificate.display(), key.display());
        client = client.identity(identity.map_err(|error| wrong(&files, &error))?);
    }
    Ok(client)
}

fn wrong(setting: &dyn Display, detail: &dyn Display) -> RegistryError {
    RegistryError::Settings { setting: setting.to_string(), detail: detail.to_string() }
}

/// A connection that fails says why three causes further down.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let told = error.to_string();
        if !text.contains(&told) {
            text = format!("{text}: {told}");
        }
        cause = error.source();
    }
    text
}

/// The code of a registry's own error. Where there is none, somebody else answered: a proxy that
/// reaches no registry, perhaps. That says nothing of the schema, and it may pass.
fn code(error: &SRCError) -> Option<u32> {
    let raw = error.source()?.downcast_ref::<RawError>()?;
    Some(raw.error_code).filter(|code| *code != 0)
}

/// Whether the registry will say no again. Codes are a status, or begin with one.
fn is_refusal(code: u32) -> bool {
    let status = if code < 1_000 { code } else { code / 100 };
    (400..500).contains(&status) && ![408, 429].contains(&status)
}

#[async_trait]
impl Registry for ConfluentRegistry {
    async fn register(&self, file: &SchemaFile) -> Result<u32, RegistryError> {
        let subject = file.subject(&self.prefix);
        // Before, so that this schema has to fit, too. Some registries only have it for subjects
        // that are there.
        let before = self.levels.ensure(&subject).await;
        let name = Some(file.record.to_owned());
        let schema = SuppliedSchema::new(name, SchemaType::Avro, file.text.to_owned());
        match post_schema(&self.settings, subject.clone(), schema).await {
            Ok(registered) => {
                if before.is_err()
                    && let Err(detail) = self.levels.ensure(&subject).await
                {
                    self.levels.tell(&subject, &detail);
                }
                Ok(registered.id)
            }
            Err(error) if code(&error).is_some_and(is_refusal) => Err(RegistryError::Refused {
                url: self.url.to_string(),
                subject,
                detail: masked_within(&error.to_string()),
            }),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        match get_schema_by_id(id, &self.settings).await {
            Ok(schema) => Ok(RegisteredSchema { id, text: schema.schema }),
            Err(error) if code(&error) == Some(SCHEMA_NOT_FOUND) => {
                Err(RegistryError::UnknownId { id })
            }
            Err(error) => Err(self.unavailable(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    /// A registry that answers everything in one way.
    async fn answering(status: &str, body: &str) -> ConfluentRegistry {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).into();
        let length = body.len();
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1 << 16]).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let timeout = Duration::from_secs(5);
        ConfluentRegistry::new(RegistryOptions { url, timeout, ..Default::default() }).unwrap()
    }

    /// Whoever takes an outage for a missing schema sets sound records aside for ever.
    #[tokio::test]
    async fn only_the_registry_itself_says_that_a_schema_is_missing() {
        let missing = r#"{"error_code":40403,"message":"Schema not found"}"#;
        let fetched = answering("404 Not Found", missing).await.fetch(7).await;
        assert!(matches!(fetched, Err(RegistryError::UnknownId { id: 7 })), "{fetched:?}");
        for (status, body) in [
            ("404 Not Found", "<html>no such route</html>"),
            ("401 Unauthorized", r#"{"error_code":401,"message":"Unauthorized"}"#),
            ("429 Too Many Requests", ""),
            ("500 Internal Server Error", r#"{"error_code":50001,"message":"data store"}"#),
            ("503 Service Unavailable", ""),
            ("504 Gateway Timeout", "<html>"),
            ("200 OK", "<html>welcome</html>"),
            ("200 OK", "{}"),
        ] {
            let fetched = answering(status, body).await.fetch(7).await;
            assert!(
                matches!(fetched, Err(RegistryError::Unavailable { .. })),
                "{status} {body}: {fetched:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_start_waits_for_a_registry_but_not_for_another_opinion() {
        let file = SchemaFile::all_newest().next().unwrap();
        for (status, body, is_final) in [
            ("409 Conflict", r#"{"error_code":409,"message":"incompatible"}"#, true),
            ("422 Unprocessable Entity", r#"{"error_code":42201,"message":"invalid"}"#, true),
            ("403 Forbidden", r#"{"error_code":40301,"message":"denied"}"#, true),
            ("429 Too Many Requests", r#"{"error_code":42901,"message":"later"}"#, false),
            ("404 Not Found", "<html>", false),
            ("500 Internal Server Error", r#"{"error_code":50002,"message":"timed out"}"#, false),
        ] {
            let registered = answering(status, body).await.register(file).await;
            let refused = matches!(registered, Err(RegistryError::Refused { .. }));
            let unavailable = matches!(registered, Err(RegistryError::Unavailable { .. }));
            assert_eq!((refused, unavailable), (is_final, !is_final), "{status}: {registered:?}");
        }
    }
}
