//! How to reach the servers.

use super::{login::Login, retries::Patient};
use crate::{StoreError, StoreResult};
use almanac_secrets::{Kept, masked};
use openssl::ssl::{SslContextBuilder, SslFiletype, SslMethod, SslVerifyMode};
use scylla::{
    client::{
        execution_profile::ExecutionProfile, session::Session, session_builder::SessionBuilder,
    },
    errors::ExecutionError,
    policies::load_balancing::DefaultPolicy,
    statement::Consistency,
};
use std::{sync::Arc, time::Duration};

#[derive(Clone, Debug)]
pub struct ScyllaOptions {
    pub nodes: Vec<String>,
    pub keyspace: String,
    /// The replication clause of the keyspace, when Almanac creates it.
    pub replication: String,
    /// Prefer nodes of this datacenter.
    pub datacenter: Option<String>,
    pub username: Option<String>,
    pub password: Option<Kept>,
    pub tls: bool,
    pub ca_file: Option<String>,
    pub certificate_file: Option<String>,
    pub key_file: Option<String>,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// Statements and batches under way per call of `write`.
    pub write_concurrency: usize,
    /// How often each of them is sent while the servers do not take it, before `write` fails.
    pub write_attempts: usize,
}

/// The nodes as they may be told.
pub fn shown(nodes: &[String]) -> String {
    let nodes: Vec<String> = nodes.iter().map(|node| masked(node)).collect();
    nodes.join(", ")
}

impl ScyllaOptions {
    pub fn new(nodes: Vec<String>, keyspace: impl Into<String>) -> Self {
        Self {
            nodes,
            keyspace: keyspace.into(),
            replication: "{'class': 'SimpleStrategy', 'replication_factor': 1}".to_owned(),
            datacenter: None,
            username: None,
            password: None,
            tls: false,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(10),
            write_concurrency: 64,
            write_attempts: 4,
        }
    }

    /// Makes the keyspace when it is missing.
    pub(super) async fn connect(&self) -> StoreResult<Session> {
        let session = self.session().await?;
        self.ensure_keyspace(&session).await.map_err(|error| StoreError::Unavailable {
            what: format!("read store at {}", shown(&self.nodes)),
            source: error.into(),
        })?;
        Ok(session)
    }

    /// Makes nothing.
    pub(super) async fn session(&self) -> StoreResult<Session> {
        let what = format!("read store at {}", shown(&self.nodes));
        let fits = (1..=48).contains(&self.keyspace.len())
            && self.keyspace.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        if !fits {
            return Err(StoreError::Refused {
                what: format!("keyspace {:?}", self.keyspace),
                source: "lowercase letters, digits and _ only, at most 48".into(),
            });
        }
        let mut policy = DefaultPolicy::builder().token_aware(true);
        if let Some(datacenter) = &self.datacenter {
            policy = policy.prefer_datacenter(datacenter.clone()).permit_dc_failover(false);
        }
        let profile = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .request_timeout(Some(self.request_timeout))
            .load_balancing_policy(policy.build())
            .retry_policy(Arc::new(Patient))
            .build();
        let mut builder = SessionBuilder::new()
            .known_nodes(&self.nodes)
            .connection_timeout(self.connect_timeout)
            .fetch_schema_metadata(false)
            .fetch_full_schema_metadata(false)
            .default_execution_profile_handle(profile.into_handle());
        if let (Some(username), Some(password)) = (&self.username, &self.password) {
            let (username, password) = (username.clone(), password.clone());
            builder = builder.authenticator_provider(Arc::new(Login { username, password }));
        }
        if self.tls {
            let context = self.tls_context().map_err(|error| StoreError::Refused {
                what: "tls settings of the read store".to_owned(),
                source: error.into(),
            })?;
            builder = builder.tls_context(Some(context));
        }
        builder
            .build()
            .await
            .map_err(|error| StoreError::Unavailable { what, source: error.into() })
    }

    /// Who may only use a keyspace that is there may not even ask for it to be made.
    async fn ensure_keyspace(&self, session: &Session) -> Result<(), ExecutionError> {
        let cql = "SELECT keyspace_name FROM system_schema.keyspaces WHERE keyspace_name = ?";
        let found = session.query_unpaged(cql, (&self.keyspace,)).await?;
        if found.into_rows_result().is_ok_and(|rows| rows.rows_num() > 0) {
            return Ok(());
        }
        let (keyspace, replication) = (&self.keyspace, &self.replication);
        let cql =
            format!("CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = {replication}");
        session.query_unpaged(cql, ()).await.map(drop)
    }

    fn tls_context(&self) -> Result<openssl::ssl::SslContext, openssl::error::ErrorStack> {
        let mut builder = SslContextBuilder::new(SslMethod::tls_client())?;
        builder.set_verify(SslVerifyMode::PEER);
        match &self.ca_file {
            Some(file) => builder.set_ca_file(file)?,
            None => builder.set_default_verify_paths()?,
        }
        if let (Some(certificate), Some(key)) = (&self.certificate_file, &self.key_file) {
            builder.set_certificate_chain_file(certificate)?;
            builder.set_private_key_file(key, SslFiletype::PEM)?;
        }
        Ok(builder.build())
    }
}
