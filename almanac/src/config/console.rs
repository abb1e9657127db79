//! The page at `/`: how people sign in there.

use almanac_query_api::SignIn;
use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsoleConfig {
    pub(crate) oidc: Option<OidcConfig>,
}

/// An identity provider at which people sign in: OpenID Connect, with PKCE and without a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcConfig {
    pub(crate) issuer: String,
    /// The page, as the provider knows it: a public client, with the page's address to return to.
    pub(crate) client_id: String,
    /// What its tokens are to allow, beside telling who somebody is.
    #[serde(default = "openid")]
    pub(crate) scope: String,
    /// Where the page asks for tokens, if that is not where the issuer is.
    #[serde(default)]
    pub(crate) origins: Vec<String>,
}

fn openid() -> String {
    "openid".to_owned()
}

impl ConsoleConfig {
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        self.sign_in().map(drop)
    }

    pub(crate) fn sign_in(&self) -> anyhow::Result<Option<SignIn>> {
        let Some(oidc) = &self.oidc else { return Ok(None) };
        if oidc.client_id.is_empty() {
            bail!("console.oidc.client_id must name the page");
        }
        if !oidc.scope.split(' ').any(|scope| scope == "openid") {
            bail!("console.oidc.scope must have openid among its words");
        }
        let mut origins = vec![origin(&oidc.issuer).context("console.oidc.issuer")?];
        for one in &oidc.origins {
            origins.push(origin(one).context("console.oidc.origins")?);
        }
        Ok(Some(SignIn {
            issuer: oidc.issuer.clone(),
            client_id: oidc.client_id.clone(),
            scope: oidc.scope.clone(),
            origins,
        }))
    }
}

/// Scheme, host and port of an address. It becomes a word of the page's policy, so nothing else may be
/// in it.
fn origin(url: &str) -> anyhow::Result<String> {
    let (scheme, rest) = url.split_once("://").context("it must be an address")?;
    let host = rest.split('/').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(is_plain) {
        bail!("{host:?} is no host with a port");
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_loopback = ["localhost", "127.0.0.1", "[::1]"].contains(&name);
    match scheme {
        "https" => {}
        "http" if is_loopback => {}
        _ => bail!("it must begin with https://"),
    }
    Ok(format!("{scheme}://{host}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_hosts_and_nothing_else() {
        assert_eq!(origin("https://id.example/realms/a").unwrap(), "https://id.example");
        assert_eq!(origin("http://127.0.0.1:8180").unwrap(), "http://127.0.0.1:8180");
        for bad in [
            "id.example",
            "http://id.example",
            "https://",
            "https://a.example; script-src *",
            "https://me@a.example",
            "ftp://a.example",
        ] {
            assert!(origin(bad).is_err(), "{bad}");
        }
    }
}
