//! Who asks: bearer tokens (RFC 6750) that are JWTs, checked against keys at hand.
//!
//! The first start makes a key, with which tokens for development are minted; an installation with an
//! identity provider names a file with that provider's keys (JWKS, RFC 7517) instead.

mod claims;
mod keys;
mod own;
mod remote;
mod ring;
mod verified;

pub use claims::ClaimMapping;
pub use own::{Minted, make_key, mint};
pub use remote::{KeyAddress, RemoteOptions};

use crate::{Problem, ProblemType, TrustedProxies, limits::Class, local::check_local};
use almanac_errors::Cause;
use claims::{Claims, caller_of, is_for};
use http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use remote::Remote;
use ring::{Keys, Ring};
use std::{
    convert::Infallible,
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use verified::VerifiedTokens;

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
/// Subjects of Almanac's own parts begin like this. No token has one.
pub const RESERVED: &str = "urn:almanac:";
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
    #[error("cannot {action} the keys in {file}")]
    File { action: &'static str, file: PathBuf, source: std::io::Error },
    #[error("{source_name} is no JWK set")]
    NotKeys { source_name: String, source: Cause },
    #[error("{source_name} holds no key that tokens can be checked with")]
    NoKey { source_name: String },
    #[error("the token cannot be signed")]
    Signing(#[source] jsonwebtoken::errors::Error),
    #[error("the address of the keys must begin with http:// or https://")]
    Address,
    #[error("keys cannot be fetched with these settings")]
    Client(#[source] reqwest::Error),
    #[error("{0:?} is no algorithm that tokens are checked with here; there are {1}")]
    Algorithm(String, String),
}

#[derive(Clone, Debug)]
pub struct IdentityOptions {
    /// Files with keys.
    pub files: Vec<PathBuf>,
    /// An address with keys.
    pub remote: Option<RemoteOptions>,
    /// `iss` and `aud` that tokens must have, where these are set.
    pub issuer: Option<String>,
    pub audience: Option<String>,
    /// The claim that holds the audience: `aud`, or for access tokens of Cognito `client_id`.
    pub audience_claim: String,
    /// Algorithms that are taken, of those that a key fits.
    pub algorithms: Vec<SigningAlgorithm>,
    /// How far the issuer's clock may be off.
    pub leeway: Duration,
    /// Claims whose values stand for scopes.
    pub claims: Vec<ClaimMapping>,
    /// Whether requests without a token act as the local user: on a loopback address only, and
    /// only those that come from this machine itself.
    pub local_user: bool,
    /// Origins whose pages may write.
    pub origins: Vec<String>,
    /// Whose word about the address of who asks is taken.
    pub proxies: TrustedProxies,
    /// Whether what is public to read needs a token all the same.
    pub closed_reads: bool,
}

impl Default for IdentityOptions {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            remote: None,
            issuer: None,
            audience: None,
            audience_claim: "aud".to_owned(),
            algorithms: SigningAlgorithm::all().collect(),
            leeway: Duration::from_secs(30),
            claims: Vec::new(),
            local_user: false,
            origins: Vec::new(),
            proxies: TrustedProxies::default(),
            closed_reads: false,
        }
    }
}

/// An algorithm that tokens may be signed with. `none` is not among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SigningAlgorithm(Algorithm);

impl SigningAlgorithm {
    const ALL: [(&'static str, Algorithm); 10] = [
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("EdDSA", Algorithm::EdDSA),
        // Of the key of our own, and of secrets in files only.
        ("HS256", Algorithm::HS256),
    ];

    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().map(|(_, algorithm)| Self(algorithm))
    }

    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, one)| *one == self.0).map_or("", |(name, _)| name)
    }
}

impl FromStr for SigningAlgorithm {
    type Err = IdentityError;

    fn from_str(text: &str) -> Result<Self, IdentityError> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, algorithm)| Self(*algorithm)).ok_or_else(|| {
            let known = Self::ALL.map(|(name, _)| name).join(", ");
            IdentityError::Algorithm(text.to_owned(), known)
        })
    }
}

pub struct Identity {
    ring: Ring,
    verified: VerifiedTokens,
    pub(crate) options: IdentityOptions,
}

/// Why a token is not taken.
enum Refused {
    Token(String),
    /// Nothing is known that it could be checked with, yet.
    NoKeys,
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Self::Token(reason)
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The token of a request, if it has one and nothing else.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let is_one = values.next().is_none() && scheme.eq_ignore_ascii_case("bearer");
    is_one.then_some(token.trim())
}

impl Identity {
    pub fn new(options: IdentityOptions) -> Result<Self, IdentityError> {
        let remote = options.remote.as_ref().map(Remote::new).transpose()?;
        let ring = Ring::new(&options.files, remote)?;
        Ok(Self { ring, verified: VerifiedTokens::new(), options })
    }

    pub fn origins(&self) -> &[String] {
        &self.options.origins
    }

    /// Keeps the keys right: files that change are read again, an address is asked again. It goes
    /// on for as long as it is polled.
    pub async fn follow(&self) -> Infallible {
        self.ring.follow().await
    }

    /// A token may be signed with a key that is new: then the keys are fetched before it is
    /// checked, at most once a minute for all callers.
    pub(crate) async fn prepare(&self, headers: &HeaderMap) {
        if !self.ring.has_address() {
            return;
        }
        let Some(token) = bearer(headers).filter(|token| token.len() <= MAX_TOKEN) else { return };
        let keys = self.ring.keys();
        if self.verified.get(token, keys.generation, now()).is_some() {
            return;
        }
        if let Some(id) = decode_header(token).ok().and_then(|head| head.kid) {
            self.ring.look_for(&id).await;
        }
    }

    /// Whether requests are held against this before they reach a route.
    pub(crate) fn needs_a_gate(&self) -> bool {
        self.options.closed_reads || self.ring.has_address()
    }

    /// Where reads are closed, any good token opens them.
    pub(crate) fn check_reads(&self, class: Class, headers: &HeaderMap) -> Result<(), Problem> {
        match self.options.closed_reads && class != Class::Write {
            true => self.caller(headers).map(drop),
            false => Ok(()),
        }
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
        if !headers.contains_key(header::AUTHORIZATION) {
            if self.options.local_user {
                check_local(headers, &self.options.origins)?;
                return Ok(Caller::local());
            }
            let detail = "a bearer token is needed in Authorization";
            return Err(Problem::new(ProblemType::Unauthorized, detail));
        }
        let checked = match bearer(headers) {
            Some(token) => self.check(token),
            None => Err("Authorization must be one bearer token".to_owned().into()),
        };
        checked.map_err(|refused| match refused {
            Refused::Token(detail) => {
                let challenge = "error=\"invalid_token\"".to_owned();
                Problem::new(ProblemType::Unauthorized, detail).with_challenge(challenge)
            }
            Refused::NoKeys => Problem::busy("the identity provider does not answer; try again"),
        })
    }

    fn check(&self, token: &str) -> Result<Caller, Refused> {
        if token.len() > MAX_TOKEN {
            return Err(format!("a token may have at most {MAX_TOKEN} bytes").into());
        }
        let (keys, now) = (self.ring.keys(), now());
        if let Some(caller) = self.verified.get(token, keys.generation, now) {
            return Ok(caller);
        }
        let claims = self.verify(token, &keys)?;
        if let Some(audience) = &self.options.audience
            && !is_for(&claims, &self.options.audience_claim, audience)
        {
            return Err("the token is meant for others".to_owned().into());
        }
        let caller = caller_of(&claims, &self.options)?;
        let expires_at = claims.get("exp").and_then(serde_json::Value::as_f64).unwrap_or_default();
        let expires_at = (expires_at as u64).saturating_add(self.options.leeway.as_secs());
        self.verified.insert(token, &caller, keys.generation, expires_at);
        Ok(caller)
    }

    /// The claims of a token, if one of the keys signed it.
    fn verify(&self, token: &str, keys: &Keys) -> Result<Claims, Refused> {
        use jsonwebtoken::errors::ErrorKind;
        let head = decode_header(token).map_err(|_| "the token is no JWT".to_owned())?;
        // Whatever it asks to be understood (RFC 7515, section 4.1.11), nothing of it is here.
        if head.crit.is_some() {
            let reason = "the token has critical headers that are not understood here";
            return Err(reason.to_owned().into());
        }
        if !self.options.algorithms.contains(&SigningAlgorithm(head.alg)) {
            let reason = "the token is signed with an algorithm that is not taken here";
            return Err(reason.to_owned().into());
        }
        if keys.list.is_empty() {
            return Err(Refused::NoKeys);
        }
        let mut reason = "the token is signed with no key that is known here".to_owned();
        for key in &keys.list {
            let is_other = matches!((&head.kid, &key.id), (Some(one), Some(other)) if one != other);
            if is_other || !key.algorithms.contains(&head.alg) {
                continue;
            }
            let error = match decode::<Claims>(token, &key.key, &self.validation(head.alg)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => error,
            };
            reason = match error.kind() {
                ErrorKind::ExpiredSignature => "the token has expired".to_owned(),
                ErrorKind::ImmatureSignature => "the token is not valid yet".to_owned(),
                ErrorKind::InvalidIssuer => "the token is another issuer's".to_owned(),
                ErrorKind::MissingRequiredClaim(claim) => format!("the token lacks {claim}"),
                ErrorKind::Json(_) => "a claim of the token has a wrong type".to_owned(),
                _ => continue,
            };
        }
        Err(reason.into())
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = self.options.leeway.as_secs();
        validation.validate_nbf = true;
        let mut required = vec!["exp", "sub"];
        match &self.options.issuer {
            Some(issuer) => {
                validation.set_issuer(&[issuer]);
                required.push("iss");
            }
            None => validation.iss = None,
        }
        // Which claim holds the audience is configured.
        validation.validate_aud = false;
        validation.set_required_spec_claims(&required);
        validation
    }
}

#[cfg(test)]
mod tests;
