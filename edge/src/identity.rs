//! Who asks: bearer tokens (RFC 6750) that are JWTs, checked against keys at hand.
//!
//! The first start makes a key, with which tokens for development are minted; an installation with an
//! identity provider names a file with that provider's keys (JWKS, RFC 7517) instead.

mod own;

pub use own::{Minted, make_key, mint};

use crate::{Problem, ProblemType, local::check_local};
use http::{HeaderMap, header};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use serde::Deserialize;
use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// What a token may allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    RecipesWrite,
    SchedulesWrite,
    AnalysesWrite,
    SubscriptionsWrite,
    EventsRead,
    OperatorRead,
    Admin,
}

impl Scope {
    pub const ALL: [Self; 7] = [
        Self::RecipesWrite,
        Self::SchedulesWrite,
        Self::AnalysesWrite,
        Self::SubscriptionsWrite,
        Self::EventsRead,
        Self::OperatorRead,
        Self::Admin,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::RecipesWrite => "recipes:write",
            Self::SchedulesWrite => "schedules:write",
            Self::AnalysesWrite => "analyses:write",
            Self::SubscriptionsWrite => "subscriptions:write",
            Self::EventsRead => "events:read",
            Self::OperatorRead => "operator:read",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == text);
        found.ok_or_else(|| {
            let known = Self::ALL.map(Self::as_str).join(", ");
            format!("there is no scope {text:?}; there are {known}")
        })
    }
}

/// The local user's name: whoever asks from this machine without a token.
pub const LOCAL: &str = "local";
const MAX_SUBJECT: usize = 255;
const MAX_TOKEN: usize = 8 << 10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub subject: String,
    scopes: Vec<Scope>,
}

impl Caller {
    fn local() -> Self {
        Self { subject: LOCAL.to_owned(), scopes: Scope::ALL.to_vec() }
    }

    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    pub fn is_admin(&self) -> bool {
        self.has(Scope::Admin)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("cannot {action} the keys in {file}: {cause}")]
    File { action: &'static str, file: PathBuf, cause: std::io::Error },
    #[error("{file} is no JWK set: {detail}")]
    NotKeys { file: PathBuf, detail: String },
    #[error("{file} holds no key that tokens can be checked with")]
    NoKey { file: PathBuf },
    #[error("the token cannot be signed: {0}")]
    Signing(String),
}

#[derive(Clone, Debug, Default)]
pub struct IdentityOptions {
    /// Files with keys.
    pub files: Vec<PathBuf>,
    /// `iss` and `aud` that tokens must have, where these are set.
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// Whether requests without a token act as the local user: on a loopback address only, and
    /// only those that come from this machine itself.
    pub local_user: bool,
    /// Origins whose pages may write.
    pub origins: Vec<String>,
}

struct Key {
    id: Option<String>,
    /// The algorithms that fit the key: never those that the token would like.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

pub struct Identity {
    keys: Vec<Key>,
    options: IdentityOptions,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    #[serde(default)]
    scope: String,
}

impl Identity {
    pub fn new(options: IdentityOptions) -> Result<Self, IdentityError> {
        let mut keys = Vec::new();
        for file in &options.files {
            keys.extend(read_keys(file)?);
        }
        Ok(Self { keys, options })
    }

    pub fn origins(&self) -> &[String] {
        &self.options.origins
    }

    /// Who asks, if the token allows this.
    pub fn require(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, Problem> {
        let caller = self.caller(headers)?;
        if caller.has(scope) {
            return Ok(caller);
        }
        let detail = format!("the token lacks the scope {scope}");
        let challenge = format!("error=\"insufficient_scope\", scope=\"{scope}\"");
        Err(Problem::new(ProblemType::Forbidden, detail).with_challenge(challenge))
    }

    /// Who asks.
    pub fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let Some(value) = values.next() else {
            if self.options.local_user {
                check_local(headers, &self.options.origins)?;
                return Ok(Caller::local());
            }
            let detail = "a bearer token is needed in Authorization";
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        };
        let text = value.to_str().ok().filter(|_| values.next().is_none());
        let token = text.and_then(|text| {
            let (scheme, token) = text.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let checked = match token {
            Some(token) => self.check(token),
            None => Err("Authorization must be one bearer token".to_owned()),
        };
        checked.map_err(|detail| {
            let challenge = "error=\"invalid_token\"".to_owned();
            Problem::new(ProblemType::Unauthorized, detail).with_challenge(challenge)
        })
    }

    fn check(&self, token: &str) -> Result<Caller, String> {
        use jsonwebtoken::errors::ErrorKind;
        if token.len() > MAX_TOKEN {
            return Err(format!("a token may have at most {MAX_TOKEN} bytes"));
        }
        let head = decode_header(token).map_err(|_| "the token is no JWT".to_owned())?;
        // Whatever it asks to be understood (RFC 7515, section 4.1.11), nothing of it is here.
        if head.crit.is_some() {
            return Err("the token has critical headers that are not understood here".to_owned());
        }
        let mut reason = "the token is signed with no key that is known here".to_owned();
        for key in &self.keys {
            let is_other = matches!((&head.kid, &key.id), (Some(one), Some(other)) if one != other);
            if is_other || !key.algorithms.contains(&head.alg) {
                continue;
            }
            let error = match decode::<Claims>(token, &key.key, &self.validation(head.alg)) {
                Ok(decoded) => return caller_of(decoded.claims),
                Err(error) => error,
            };
            reason = match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
                ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
                ErrorKind::InvalidIssuer => "the token is another issuer's".to_owned(),
                ErrorKind::InvalidAudience => "the token is meant for others".to_owned(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks {claim}"),
                ErrorKind::Json(_) => "the token lacks sub, or a claim has a wrong type".to_owned(),
                _ => continue,
            };
        }
        Err(reason)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = 30;
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        match &self.options.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        match &self.options.audience {
            Some(audience) => {
                validation.set_audience(&[audience]);
                required.push("aud");
            }
            None => validation.validate_aud = false,
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn caller_of(claims: Claims) -> Result<Caller, String> {
    let subject = claims.sub;
    let is_usable = !subject.trim().is_empty()
        && subject.len() <= MAX_SUBJECT
        && !subject.chars().any(char::is_control);
    if !is_usable {
        return Err(format!("sub must have 1 to {MAX_SUBJECT} bytes of text"));
    }
    // Scopes of other services are none of ours.
    let scopes = claims.scope.split(' ').filter_map(|scope| scope.parse().ok()).collect();
    Ok(Caller { subject, scopes })
}

fn read_keys(file: &Path) -> Result<Vec<Key>, IdentityError> {
    let text = std::fs::read_to_string(file).map_err(|cause| IdentityError::File {
        action: "read",
        file: file.to_owned(),
        cause,
    })?;
    let set: JwkSet = serde_json::from_str(&text).map_err(|error| IdentityError::NotKeys {
        file: file.to_owned(),
        detail: error.to_string(),
    })?;
    let keys: Vec<Key> = set.keys.iter().filter_map(key_of).collect();
    if keys.is_empty() {
        return Err(IdentityError::NoKey { file: file.to_owned() });
    }
    Ok(keys)
}

/// A key, if it is one for signatures of a kind that is checked here.
fn key_of(jwk: &Jwk) -> Option<Key> {
    use jsonwebtoken::jwk::PublicKeyUse;
    if matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption)) {
        return None;
    }
    let fitting = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => vec![
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        AlgorithmParameters::EllipticCurve(curve) => match curve.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => return None,
        },
        AlgorithmParameters::OctetKeyPair(_) => vec![Algorithm::EdDSA],
        AlgorithmParameters::OctetKey(_) => vec![Algorithm::HS256],
        #[allow(unreachable_patterns)]
        _ => return None,
    };
    let named = jwk.common.key_algorithm.and_then(|name| name.to_string().parse().ok());
    let algorithms = match named {
        Some(one) if fitting.contains(&one) => vec![one],
        Some(_) => return None,
        None => fitting,
    };
    let key = DecodingKey::from_jwk(jwk).ok()?;
    Some(Key { id: jwk.common.key_id.clone(), algorithms, key })
}

#[cfg(test)]
mod tests;
