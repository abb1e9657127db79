//! `almanac token`: a bearer token for development.

use crate::config::Config;
use crate::say::say;
use almanac_edge::{
    Scope,
    identity::{LOCAL, Minted, mint},
};
use anyhow::bail;
use std::time::Duration;

/// Mint a bearer token for development, signed with the key that Almanac made
///
/// Examples:
///   almanac token --scope 'recipes:write events:read' --subject mary --lifetime 1h
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Token {
    /// Scopes with spaces between, such as "recipes:write events:read"
    #[arg(long, value_name = "SCOPES")]
    scope: String,
    /// Whom the token names; by default the local user
    #[arg(long, value_name = "NAME", default_value = LOCAL)]
    subject: String,
    /// How long it is good for
    #[arg(long, value_name = "DURATION", default_value = "12h", value_parser = humantime)]
    lifetime: Duration,
}

fn humantime(text: &str) -> Result<Duration, String> {
    let unquoted = serde_json::Value::String(text.to_owned());
    humantime_serde::deserialize(unquoted).map_err(|error| error.to_string())
}

pub(crate) fn run(token: &Token, config: &Config) -> anyhow::Result<()> {
    let scopes = token.scope.split_whitespace().map(str::parse).collect::<Result<Vec<Scope>, _>>();
    let scopes = scopes.map_err(anyhow::Error::msg)?;
    if !config.identity.has_own_key() {
        bail!("[identity] names an identity provider: it issues the tokens");
    }
    let file = config.own_key_file();
    if !file.exists() {
        bail!("there is no key at {}: Almanac makes one on its first start", file.display());
    }
    let minted = Minted {
        subject: &token.subject,
        scopes: &scopes,
        lifetime: token.lifetime,
        issuer: config.identity.issuer.as_deref(),
        audience: config.identity.audience.as_deref(),
    };
    say!("{}", mint(&file, &minted)?);
    Ok(())
}
