//! Where schemas have ids.

use crate::{
    files::{ALL, SchemaFile},
    levels::Levels,
};
use almanac_errors::{Cause, Masked, Words};
use almanac_secrets::{Address, Kept, Secret, masked_within};
use async_trait::async_trait;
use reqwest::{Certificate, ClientBuilder, Identity};
use schema_registry_converter::{
    async_impl::schema_registry::{SrSettings, get_schema_by_id, post_schema},
    error::SRCError,
    schema_registry_common::{RawError, SchemaType, SuppliedSchema},
};
use std::{
    collections::BTreeSet,
    error::Error,
    fmt::Display,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What a registry calls an id that no schema has.
const SCHEMA_NOT_FOUND: u32 = 40_403;

#[derive(Clone, Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("schema registry at {url} is unavailable")]
    Unavailable { url: String, source: Masked },
    #[error("{setting} of the schema registry cannot be used")]
    Settings { setting: String, source: Cause },
    #[error("schema registry at {url} refuses {subject}")]
    Refused { url: String, subject: String, source: Masked },
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
    options: RegistryOptions,
    /// With the password that they were made of.
    settings: Mutex<(Option<Secret>, SrSettings)>,
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
    pub credentials: Option<(String, Kept)>,
    /// Whom to trust, in PEM; the system's authorities when absent.
    pub ca_file: Option<PathBuf>,
    /// A certificate with its chain, and its key in PKCS #8, both in PEM.
    pub client_certificate: Option<(PathBuf, PathBuf)>,
    pub timeout: Duration,
}

impl ConfluentRegistry {
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let own = client(&options)?.build().map_err(|error| wrong(&"settings", error))?;
        let (url, credentials) = (options.url.clone(), options.credentials.clone());
        let levels = Levels::new(own, url, credentials, options.timeout);
        let password = options.password();
        let settings = Mutex::new((password.clone(), settings(&options, password.as_ref())?));
        Ok(Self { options, settings, levels })
    }

    /// The subjects that there are, and the time of the answer as its header tells it. Nothing is made.
    pub async fn subjects(&self) -> Result<(BTreeSet<String>, Option<String>), RegistryError> {
        let unavailable = |source: String| RegistryError::Unavailable {
            url: self.options.url.to_string(),
            source: Masked::new(&Words::from(source), masked_within),
        };
        let (body, date) = self.levels.get("/subjects").await.map_err(unavailable)?;
        let subjects = serde_json::from_str(&body)
            .map_err(|_| unavailable("what it answers is no list of subjects".to_owned()))?;
        Ok((subjects, date))
    }

    /// For a request: with another client where the password is another one.
    fn settings(&self) -> Result<SrSettings, RegistryError> {
        let password = self.options.password();
        let mut known = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0 != password {
            let settings = settings(&self.options, password.as_ref())?;
            *known = (password, settings);
        }
        Ok(known.1.clone())
    }

    fn unavailable(&self, error: &SRCError) -> RegistryError {
        RegistryError::Unavailable { url: self.options.url.to_string(), source: masked(error) }
    }
}

impl RegistryOptions {
    fn password(&self) -> Option<Secret> {
        self.credentials.as_ref().map(|(_, password)| password.now())
    }
}

fn settings(
    options: &RegistryOptions,
    password: Option<&Secret>,
) -> Result<SrSettings, RegistryError> {
    let url = options.url.expose().trim_end_matches('/');
    let mut builder = SrSettings::new_builder(url.to_owned());
    builder.set_timeout(options.timeout);
    if let (Some((username, _)), Some(password)) = (&options.credentials, password) {
        builder.set_basic_authorization(username, Some(password.expose()));
    }
    builder.build_with(client(options)?).map_err(|error| wrong(&"settings", error))
}

fn client(options: &RegistryOptions) -> Result<ClientBuilder, RegistryError> {
    let mut client = reqwest::Client::builder();
    let read = |file: &Path| std::fs::read(file).map_err(|error| wrong(&file.display(), error));
    if let Some(file) = &options.ca_file {
        let trusted = Certificate::from_pem_bundle(&read(file)?);
        let trusted = trusted.map_err(|error| wrong(&file.display(), error))?;
        if trusted.is_empty() {
            return Err(wrong(&file.display(), "holds no certificate"));
        }
        client = client.tls_certs_only(trusted);
    }
    if let Some((certificate, key)) = &options.client_certificate {
        let identity = Identity::from_pkcs8_pem(&read(certificate)?, &read(key)?);
        let files = format!("{} and {}", certificate.display(), key.display());
        client = client.identity(identity.map_err(|error| wrong(&files, error))?);
    }
    Ok(client)
}

fn wrong(setting: &dyn Display, cause: impl Into<Cause>) -> RegistryError {
    RegistryError::Settings { setting: setting.to_string(), source: cause.into() }
}

/// The client shows the address that it asked, credentials included.
fn masked(error: &SRCError) -> Masked {
    Masked::new(error, masked_within)
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
        let subject = file.subject(&self.options.prefix);
        let settings = self.settings()?;
        // Before, so that this schema has to fit, too. Some registries only have it for subjects
        // that are there.
        let before = self.levels.ensure(&subject).await;
        let name = Some(file.record.to_owned());
        let schema = SuppliedSchema::new(name, SchemaType::Avro, file.text.to_owned());
        match post_schema(&settings, subject.clone(), schema).await {
            Ok(registered) => {
                if before.is_err()
                    && let Err(detail) = self.levels.ensure(&subject).await
                {
                    self.levels.tell(&subject, &detail);
                }
                Ok(registered.id)
            }
            Err(error) if code(&error).is_some_and(is_refusal) => Err(RegistryError::Refused {
                url: self.options.url.to_string(),
                subject,
                source: masked(&error),
            }),
            Err(error) => Err(self.unavailable(&error)),
        }
    }

    async fn fetch(&self, id: u32) -> Result<RegisteredSchema, RegistryError> {
        match get_schema_by_id(id, &self.settings()?).await {
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

    /// The names and passwords that requests come with, while the file with the password changes.
    #[tokio::test]
    async fn each_request_has_the_password_of_its_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).into();
        let (heard, mut hearing) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = vec![0; 1 << 16];
                let length = stream.read(&mut request).await.unwrap_or_default();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let mut lines = request.lines().filter_map(|line| line.split_once(": "));
                let login = lines.find(|(name, _)| name.eq_ignore_ascii_case("authorization"));
                heard.send(login.map(|(_, value)| value.to_owned())).unwrap();
                let answer = "HTTP/1.1 503 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "first\n").unwrap();
        let kept = Kept::in_file(file.clone()).unwrap();
        let registry = ConfluentRegistry::new(RegistryOptions {
            url,
            credentials: Some(("u".to_owned(), kept)),
            timeout: Duration::from_secs(5),
            ..Default::default()
        })
        .unwrap();
        let schema = SchemaFile::all_newest().next().unwrap();
        // u:first and u:second.
        for (password, login) in [("first", "dTpmaXJzdA=="), ("second", "dTpzZWNvbmQ=")] {
            std::fs::write(&file, password).unwrap();
            let _ = registry.fetch(7).await;
            let _ = registry.register(schema).await;
            // The schema, the level before, and the other schema.
            for _ in 0..3 {
                assert_eq!(hearing.recv().await.unwrap().unwrap(), format!("Basic {login}"));
            }
            while hearing.try_recv().is_ok() {}
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
