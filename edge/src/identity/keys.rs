//! Keys that tokens are checked with: what of a JWK set (RFC 7517) is usable here.

use super::IdentityError;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Of a set, so many keys count: a token without a key's id is tried with each.
const MAX_KEYS: usize = 32;

pub(super) struct Key {
    pub(super) id: Option<String>,
    /// The algorithms that fit the key: never those that the token would like.
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

/// Where a set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// A file of this installation, which may hold a secret shared with nobody.
    File,
    /// An address. A secret that is published is none, and whoever knows it could sign.
    Address,
}

/// Each key by itself: one of a kind that is unknown here must not hide the others.
#[derive(Deserialize)]
struct Set {
    keys: Vec<Value>,
}

/// The keys of a set; `source` names it in errors.
pub(super) fn parse(source: &str, text: &[u8], origin: Origin) -> Result<Vec<Key>, IdentityError> {
    let set: Set = serde_json::from_slice(text).map_err(|error| IdentityError::NotKeys {
        source_name: source.to_owned(),
        source: error.into(),
    })?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value(key).ok());
    let keys: Vec<Key> = keys.filter_map(|key| key_of(&key, origin)).take(MAX_KEYS).collect();
    if keys.is_empty() {
        return Err(IdentityError::NoKey { source_name: source.to_owned() });
    }
    Ok(keys)
}

/// A key, if it is one for signatures of a kind that is checked here.
fn key_of(jwk: &Jwk, origin: Origin) -> Option<Key> {
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
        AlgorithmParameters::OctetKey(_) if origin == Origin::File => vec![Algorithm::HS256],
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
mod tests {
    use super::*;
    use serde_json::json;

    fn ids(set: &Value, origin: Origin) -> Result<Vec<String>, String> {
        let keys = parse("a set", set.to_string().as_bytes(), origin);
        let ids = keys.map(|keys| keys.into_iter().filter_map(|key| key.id).collect());
        ids.map_err(|error| almanac_errors::chain(&error).to_string())
    }

    /// The documents of identity providers come from outside as well.
    #[test]
    fn any_document_is_keys_or_none() {
        let key = json!({"kty": "OKP", "crv": "Ed25519", "x": super::super::tests::ED_PUBLIC, "kid": "one"});
        let rsa = json!({"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256", "kid": "two"});
        let document = json!({"keys": [key, rsa]}).to_string();
        almanac_fuzzing::fuzz("key-sets", [document], |bytes: &[u8]| {
            for origin in [Origin::File, Origin::Address] {
                let _ = parse("fuzzed", bytes, origin);
            }
        });
    }

    #[test]
    fn what_is_unknown_hides_nothing() {
        let x = super::super::tests::ED_PUBLIC;
        let set = json!({"keys": [
            {"kty": "AKP", "alg": "ML-DSA-65", "kid": "later", "pub": "AA"},
            {"kty": "RSA", "alg": "RSA-OAEP", "use": "enc", "kid": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "crv": "secp256k1", "kid": "curve", "x": "AA", "y": "AA"},
            {"kty": "OKP", "crv": "Ed25519", "kid": "good", "x": x, "x5t": "unknown", "issuer": "x"},
            {"kty": "oct", "alg": "HS256", "kid": "secret", "k": "c2VjcmV0"},
            "nonsense",
        ]});
        assert_eq!(ids(&set, Origin::Address).unwrap(), ["good"], "no published secret");
        assert_eq!(ids(&set, Origin::File).unwrap(), ["good", "secret"]);
        let many: Vec<Value> = (0..100)
            .map(|n| json!({"kty": "OKP", "crv": "Ed25519", "kid": n.to_string(), "x": x}))
            .collect();
        assert_eq!(ids(&json!({"keys": many}), Origin::Address).unwrap().len(), MAX_KEYS);
        for (text, told) in [("{}", "is no JWK set"), ("{\"keys\": []}", "holds no key")] {
            let error = parse("a set", text.as_bytes(), Origin::Address).err().unwrap();
            let error = almanac_errors::chain(&error).to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
