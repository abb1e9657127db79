//! The key of an installation without an identity provider, and tokens signed with it.

use super::{IdentityError, Scope};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::{Deserialize, Serialize};
use std::{fs, path::Path, time::Duration};
use uuid::Uuid;

/// The only key of the file: symmetric, since nobody but this installation checks its tokens.
#[derive(Serialize, Deserialize)]
struct OwnKey {
    kty: String,
    alg: String,
    kid: String,
    k: String,
}

#[derive(Serialize, Deserialize)]
struct OwnKeys {
    keys: Vec<OwnKey>,
}

/// Makes the key on the first start; nobody else on this machine may read it. Of several processes
/// that share the file and start together, one makes it for all.
pub fn make_key(file: &Path) -> Result<(), IdentityError> {
    let error = |action| {
        let file = file.to_owned();
        move |source| IdentityError::File { action, file, source }
    };
    if file.exists() {
        return Ok(());
    }
    let secret: [u8; 32] = rand::random();
    let key = OwnKey {
        kty: "oct".to_owned(),
        alg: "HS256".to_owned(),
        kid: Uuid::new_v4().to_string(),
        k: URL_SAFE_NO_PAD.encode(secret),
    };
    let text = serde_json::to_string_pretty(&OwnKeys { keys: vec![key] }).unwrap_or_default();
    almanac_secrets::write_once(file, text.as_bytes()).map_err(error("write"))
}

/// What a minted token says.
#[derive(Clone, Debug)]
pub struct Minted<'a> {
    pub subject: &'a str,
    pub scopes: &'a [Scope],
    pub lifetime: Duration,
    pub issuer: Option<&'a str>,
    pub audience: Option<&'a str>,
}

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    scope: String,
    iat: i64,
    exp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    iss: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    aud: Option<&'a str>,
}

/// A token signed with the key in `file`.
pub fn mint(file: &Path, minted: &Minted<'_>) -> Result<String, IdentityError> {
    let text = fs::read_to_string(file).map_err(|source| IdentityError::File {
        action: "read",
        file: file.to_owned(),
        source,
    })?;
    let keys: OwnKeys = serde_json::from_str(&text).map_err(|error| IdentityError::NotKeys {
        source_name: file.display().to_string(),
        source: error.into(),
    })?;
    let key = keys
        .keys
        .first()
        .ok_or_else(|| IdentityError::NoKey { source_name: file.display().to_string() })?;
    let secret = URL_SAFE_NO_PAD.decode(&key.k).map_err(|error| IdentityError::NotKeys {
        source_name: file.display().to_string(),
        source: error.into(),
    })?;
    let secret = EncodingKey::from_secret(&secret);
    let now = Timestamp::now().as_second();
    let lifetime = i64::try_from(minted.lifetime.as_secs()).unwrap_or(i64::MAX);
    let claims = Claims {
        sub: minted.subject,
        scope: minted.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" "),
        iat: now,
        exp: now.saturating_add(lifetime),
        iss: minted.issuer,
        aud: minted.audience,
    };
    let head = Header { kid: Some(key.kid.clone()), ..Header::new(Algorithm::HS256) };
    encode(&head, &claims, &secret).map_err(IdentityError::Signing)
}
