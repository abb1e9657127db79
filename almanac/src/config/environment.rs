//! Settings from the environment: `ALMANAC__HTTP__LISTEN` is `http.listen`.
//!
//! A value stays the text that it is until the type of its setting is known. Guessing first would make
//! another password of `0123` or `1e3`.

use config::{ConfigBuilder, ConfigError, Environment, builder::DefaultState};
use std::ffi::OsString;

const PREFIX: &str = "ALMANAC";
const SEPARATOR: &str = "__";
/// Settings that are lists, with commas between.
const LISTS: [&str; 6] = [
    "scylla.nodes",
    "http.origins",
    "http.purge.caches",
    "http.trusted_proxies",
    "identity.algorithms",
    "console.oidc.origins",
];

/// Adds what these variables set.
pub(super) fn add(
    mut builder: ConfigBuilder<DefaultState>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<ConfigBuilder<DefaultState>, ConfigError> {
    let prefix = format!("{PREFIX}{SEPARATOR}").to_lowercase();
    let mut texts = config::Map::new();
    for (name, value) in variables {
        let Some(name) = name.to_str() else { continue };
        let Some(key) = name.to_lowercase().strip_prefix(&prefix).map(str::to_owned) else {
            continue;
        };
        let value = value.into_string().map_err(|_| {
            ConfigError::Message(format!("the environment's {name} is not valid Unicode"))
        })?;
        match LISTS.iter().find(|list| key.replace(SEPARATOR, ".") == **list) {
            Some(list) => {
                let values: Vec<&str> = value.split(',').map(str::trim).collect();
                builder = builder.set_override(*list, values)?;
            }
            None => drop(texts.insert(name.to_owned(), value)),
        }
    }
    let texts = Environment::with_prefix(PREFIX)
        .prefix_separator(SEPARATOR)
        .separator(SEPARATOR)
        .source(Some(texts));
    Ok(builder.add_source(texts))
}
