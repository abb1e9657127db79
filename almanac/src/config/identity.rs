//! Whose tokens are taken, and what they allow.

use super::Config;
use almanac_edge::{
    Caching, Scope,
    identity::{ClaimMapping, IdentityOptions, KeyAddress, RemoteOptions, SigningAlgorithm},
};
use almanac_secrets::Address;
use anyhow::{Context, anyhow, bail};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, path::PathBuf, time::Duration};

/// Who may do what: bearer tokens that are JWTs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct IdentityConfig {
    /// The identity provider's keys, a JWK set at an address or in a file; with an issuer alone its
    /// discovery document names the address; without any of them a key of our own is used.
    pub(crate) jwks_url: Option<Address>,
    pub(crate) jwks_file: Option<PathBuf>,
    /// For each document from an address, and whom to trust there.
    #[serde(with = "humantime_serde")]
    pub(crate) timeout: Duration,
    pub(crate) ca_file: Option<PathBuf>,
    /// Where that key is, made on the first start; in `data_dir` when absent. Processes that are to take
    /// the same tokens share it.
    pub(crate) own_key_file: Option<PathBuf>,
    /// `iss` and `aud` that tokens must have.
    pub(crate) issuer: Option<String>,
    pub(crate) audience: Option<String>,
    /// The claim that holds the audience.
    pub(crate) audience_claim: String,
    /// Algorithms that are taken.
    pub(crate) algorithms: Vec<String>,
    /// How far the issuer's clock may be off.
    #[serde(with = "humantime_serde")]
    pub(crate) leeway: Duration,
    /// By claim, what its values allow: scopes with spaces between.
    pub(crate) claims: BTreeMap<String, BTreeMap<String, String>>,
    /// Whether what is public to read needs a token.
    pub(crate) reads: Reads,
    /// Who acts as the local user without a token.
    pub(crate) local_user: LocalUser,
}

impl Default for IdentityConfig {
    fn default() -> Self {
        let options = IdentityOptions::default();
        let algorithms = options.algorithms.iter().map(|one| one.name().to_owned()).collect();
        Self {
            jwks_url: None,
            jwks_file: None,
            timeout: Duration::from_secs(5),
            ca_file: None,
            own_key_file: None,
            issuer: None,
            audience: None,
            audience_claim: options.audience_claim,
            algorithms,
            leeway: options.leeway,
            claims: BTreeMap::new(),
            reads: Reads::default(),
            local_user: LocalUser::default(),
        }
    }
}

impl IdentityConfig {
    /// Where an identity provider's keys are asked for.
    fn remote(&self) -> Option<RemoteOptions> {
        let is_file = self.jwks_file.is_some() || self.own_key_file.is_some();
        let address = match (&self.jwks_url, &self.issuer) {
            (Some(url), _) => KeyAddress::Jwks(url.expose().to_owned()),
            (None, Some(issuer)) if !is_file => KeyAddress::Discovery(issuer.clone()),
            _ => return None,
        };
        Some(RemoteOptions { address, timeout: self.timeout, ca_file: self.ca_file.clone() })
    }

    /// Whether tokens are signed with the key that the first start makes.
    pub(crate) fn has_own_key(&self) -> bool {
        self.jwks_file.is_none() && self.remote().is_none()
    }

    pub(super) fn validate(&self) -> anyhow::Result<()> {
        if self.jwks_url.is_some() && (self.jwks_file.is_some() || self.own_key_file.is_some()) {
            bail!("identity.jwks_url does not go together with jwks_file or own_key_file");
        }
        if self.timeout.is_zero() {
            bail!("identity.timeout must not be 0");
        }
        if self.algorithms.is_empty() {
            bail!("identity.algorithms must name one at least");
        }
        self.algorithms()?;
        self.mappings().map(drop)
    }

    fn algorithms(&self) -> anyhow::Result<Vec<SigningAlgorithm>> {
        let all = self.algorithms.iter().map(|name| name.parse());
        all.collect::<Result<_, _>>().context("identity.algorithms")
    }

    fn mappings(&self) -> anyhow::Result<Vec<ClaimMapping>> {
        let scopes = |text: &String| -> Result<Vec<Scope>, String> {
            text.split_whitespace().map(str::parse).collect()
        };
        let mapping = |(claim, values): (&String, &BTreeMap<String, String>)| {
            let values = values.iter().map(|(value, text)| Ok((value.clone(), scopes(text)?)));
            let values = values.collect::<Result<_, String>>();
            let values = values.map_err(|error| anyhow!("identity.claims.{claim:?}: {error}"))?;
            Ok(ClaimMapping { claim: claim.clone(), values })
        };
        self.claims.iter().map(mapping).collect()
    }
}

impl Config {
    /// Whether programs of this machine act as the local user, without a token.
    pub(crate) fn has_local_user(&self) -> bool {
        let identity = &self.identity;
        identity.local_user == LocalUser::Loopback && identity.has_own_key() && self.is_loopback()
    }

    /// Where the key stands that the first start makes.
    pub(crate) fn own_key_file(&self) -> PathBuf {
        let configured = self.identity.own_key_file.clone();
        configured.unwrap_or_else(|| self.data_dir.join("identity.jwks.json"))
    }

    /// What caches may keep.
    pub(crate) fn caching(&self) -> anyhow::Result<Caching> {
        let closed_reads = self.identity.reads == Reads::Token;
        Ok(Caching::new(&self.http.caching_options(closed_reads, self.surrogates()?)))
    }

    /// Whose tokens are taken. The local user needs none, while nobody else is configured.
    pub(crate) fn identity_options(&self) -> anyhow::Result<IdentityOptions> {
        let identity = &self.identity;
        let remote = identity.remote();
        let file = || identity.jwks_file.clone().unwrap_or_else(|| self.own_key_file());
        Ok(IdentityOptions {
            files: if remote.is_some() { Vec::new() } else { vec![file()] },
            remote,
            issuer: identity.issuer.clone(),
            audience: identity.audience.clone(),
            audience_claim: identity.audience_claim.clone(),
            algorithms: identity.algorithms()?,
            leeway: identity.leeway,
            claims: identity.mappings()?,
            local_user: self.has_local_user(),
            origins: self.http.origins.clone(),
            proxies: self.http.trusted_proxies()?,
            closed_reads: identity.reads == Reads::Token,
        })
    }
}

/// Who may read what is public.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reads {
    #[default]
    Public,
    /// Who has a good token, whatever its scopes.
    Token,
}

/// Whether anybody is believed without a token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LocalUser {
    /// Programs of this machine, while Almanac listens on a loopback address and no `jwks_file`
    /// says who else there is.
    #[default]
    Loopback,
    Nobody,
}

const LOOPBACK: &str = "loopback";

impl Serialize for LocalUser {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Loopback => serializer.serialize_str(LOOPBACK),
            Self::Nobody => serializer.serialize_bool(false),
        }
    }
}

impl<'de> Deserialize<'de> for LocalUser {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = LocalUser;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "false or \"{LOOPBACK}\"")
            }

            fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<LocalUser, E> {
                match value {
                    false => Ok(LocalUser::Nobody),
                    true => Err(E::invalid_value(serde::de::Unexpected::Bool(true), &self)),
                }
            }

            // In the environment everything is text.
            fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<LocalUser, E> {
                match value {
                    LOOPBACK => Ok(LocalUser::Loopback),
                    "false" => Ok(LocalUser::Nobody),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> anyhow::Result<Config> {
        let config: Config = toml::from_str(&format!("[identity]\n{text}"))?;
        config.validate()?;
        Ok(config)
    }

    #[test]
    fn keys_come_from_one_place() {
        let own = config("").unwrap();
        assert!(own.identity.has_own_key() && own.has_local_user());
        for (text, address) in [
            (
                "jwks_url = \"https://id.example/keys\"",
                KeyAddress::Jwks("https://id.example/keys".into()),
            ),
            (
                "issuer = \"https://id.example/\"",
                KeyAddress::Discovery("https://id.example/".into()),
            ),
            (
                "issuer = \"x\"\njwks_url = \"https://id.example/keys\"",
                KeyAddress::Jwks("https://id.example/keys".into()),
            ),
        ] {
            let config = config(text).unwrap();
            let options = config.identity_options().unwrap();
            assert_eq!(options.remote.map(|remote| remote.address), Some(address), "{text}");
            assert!(options.files.is_empty() && !options.local_user, "{text}");
            assert!(!config.identity.has_own_key(), "{text}");
        }
        let own = config("issuer = \"x\"\nown_key_file = \"key.json\"").unwrap();
        assert!(own.identity.has_own_key() && own.identity_options().unwrap().remote.is_none());
        let both = config("jwks_url = \"https://id.example/\"\njwks_file = \"a\"").unwrap_err();
        assert!(both.to_string().contains("identity.jwks_url"), "{both}");
    }

    #[test]
    fn claims_stand_for_scopes() {
        let text = "[identity.claims.\"realm_access.roles\"]\n\
                    \"Sea planner\" = \"schedules:write analyses:write\"";
        let options = config(text).unwrap().identity_options().unwrap();
        let [mapping] = &options.claims[..] else { panic!("{:?}", options.claims) };
        assert_eq!(mapping.claim, "realm_access.roles");
        assert_eq!(mapping.values["Sea planner"], [Scope::SchedulesWrite, Scope::AnalysesWrite]);
        for (text, told) in [
            ("claims.roles = { cook = \"recipes:eat\" }", "recipes:eat"),
            ("algorithms = [\"none\"]", "none"),
            ("algorithms = []", "identity.algorithms"),
        ] {
            let error = format!("{:#}", config(text).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
