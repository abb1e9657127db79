//! librdkafka's properties, some of which are secrets.

use almanac_secrets::{Secret, masked};
use serde::{Deserialize, Serialize, Serializer};
use std::collections::BTreeMap;

/// Properties by librdkafka's names. Printed, those that may hold a secret are masked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "BTreeMap<String, String>")]
pub(crate) struct Properties(BTreeMap<String, Secret>);

/// Numbers and switches may stand there without quotes.
impl From<BTreeMap<String, String>> for Properties {
    fn from(all: BTreeMap<String, String>) -> Self {
        Self(all.into_iter().map(|(name, value)| (name, value.into())).collect())
    }
}

impl Properties {
    pub(super) fn all(&self) -> BTreeMap<String, Secret> {
        self.0.clone()
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| {
            let shown = match may_be_secret(name) {
                true => almanac_secrets::MASK.to_owned(),
                false => masked(value.expose()),
            };
            (name, shown)
        }))
    }
}

/// By what librdkafka names keys, passwords, tokens and what they are made with, now or in a
/// later version.
fn may_be_secret(name: &str) -> bool {
    const PLACES: [&str; 4] = [".location", ".url", ".ms", ".bytes"];
    const SECRETS: [&str; 10] = [
        "password",
        "passphrase",
        "secret",
        "token",
        "credential",
        "assertion",
        ".pem",
        // Texts that secrets are part of.
        "oauthbearer.config",
        "oauthbearer.extensions",
        "kinit",
    ];
    let name = name.to_ascii_lowercase();
    !PLACES.iter().any(|end| name.ends_with(end)) && SECRETS.iter().any(|part| name.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_be_secret_is_masked() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.keystore.password",
            "ssl.key.pem",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.client.credentials.client.secret",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.extensions",
            "sasl.oauthbearer.assertion.private.key.passphrase",
            "sasl.oauthbearer.assertion.private.key.pem",
            "sasl.kerberos.kinit.cmd",
            "SASL.Password",
        ] {
            assert!(may_be_secret(name), "{name}");
        }
        for name in [
            "socket.timeout.ms",
            "client.rack",
            "security.protocol",
            "ssl.key.location",
            "ssl.ca.location",
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.mechanism",
            "compression.type",
        ] {
            assert!(!may_be_secret(name), "{name}");
        }
    }
}
