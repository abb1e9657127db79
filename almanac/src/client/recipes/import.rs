//! The recipe that a page carries for machines.

use crate::client::read;
use almanac_schemas::json::schema_org;
use anyhow::{Context, bail};
use std::{path::Path, time::Duration};

/// Pages of recipes are long, but not like this.
const MAX_PAGE: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
const SCRIPT_END: &str = "</script";

/// JSON-LD from a file or an address, taken out of the page around it.
pub(super) async fn from(source: &str) -> anyhow::Result<String> {
    let is_address = source.starts_with("http://") || source.starts_with("https://");
    let page = if is_address { fetched(source).await? } else { read(Path::new(source))? };
    let page = String::from_utf8_lossy(&page);
    if page.trim_start().starts_with(['{', '[']) {
        return Ok(page.into_owned());
    }
    // One with faults is one: the server names them.
    let mut scripts = scripts(&page).into_iter();
    match scripts.find(|text| schema_org::holds_recipe(text.as_bytes())) {
        Some(found) => Ok(found.to_owned()),
        None => bail!("{source} carries no recipe as JSON-LD of schema.org"),
    }
}

async fn fetched(address: &str) -> anyhow::Result<Vec<u8>> {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .user_agent(concat!("almanac/", env!("CARGO_PKG_VERSION")))
        .build()?;
    let answer = client.get(address).send().await.and_then(reqwest::Response::error_for_status);
    let mut answer = answer.with_context(|| format!("cannot fetch {address}"))?;
    let mut page = Vec::new();
    while let Some(chunk) = answer.chunk().await.context("the page was cut off")? {
        page.extend_from_slice(&chunk);
        if page.len() > MAX_PAGE {
            bail!("the page is longer than {} MiB", MAX_PAGE >> 20);
        }
    }
    Ok(page)
}

/// What stands in the scripts of a page that are JSON-LD.
fn scripts(page: &str) -> Vec<&str> {
    // Of the same length: only ASCII letters change.
    let lower = page.to_ascii_lowercase();
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(start) = lower[at..].find("<script").map(|start| at + start) {
        let Some(open) = lower[start..].find('>').map(|end| start + end) else { break };
        let end = lower[open..].find(SCRIPT_END).map_or(page.len(), |end| open + end);
        if lower[start..open].contains(schema_org::MEDIA_TYPE) {
            found.push(page[open + 1..end].trim());
        }
        at = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_recipe_of_a_page_is_found_among_its_scripts() {
        let page = "<html><SCRIPT>if (a > b) {}</SCRIPT>\
            <script type='application/ld+json'>{\"@type\":\"WebSite\",\"name\":\"Recipe\"}</script>\
            <script data-x=\"1\" TYPE=\"application/LD+JSON\">\n{\"@graph\":[{\"@type\":\"Recipe\"}]}\n</script>";
        assert_eq!(scripts(page).len(), 2);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("page.html");
        std::fs::write(&file, page).unwrap();
        let found = from(file.to_str().unwrap()).await.unwrap();
        assert_eq!(found, "{\"@graph\":[{\"@type\":\"Recipe\"}]}");
        std::fs::write(&file, "<html><script type='application/ld+json'>{</html>").unwrap();
        let refused = from(file.to_str().unwrap()).await.unwrap_err().to_string();
        assert!(refused.ends_with("carries no recipe as JSON-LD of schema.org"), "{refused}");
    }
}
