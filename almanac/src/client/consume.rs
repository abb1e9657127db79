//! `almanac consume TOPIC`: domain events in a terminal or a pipe, for those without a Kafka client.

use super::{Client, Target, show};
use crate::{
    config::Config,
    say::{self, say},
};
use jiff::Timestamp;
use reqwest::Method;
use std::time::Duration;

/// Print the events of a topic as they come, until Ctrl-C or --limit
///
/// Examples:
///   almanac consume plans.events
///   almanac consume recipes.events --from-beginning --key ID
///   almanac consume analyses.events --since 2026-11-01T00:00:00Z --raw | jq .data
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Consume {
    #[command(flatten)]
    target: Target,
    /// The topic, without the installation's prefix
    topic: String,
    /// Start with the oldest event; without, with those that are still to come
    #[arg(long, conflicts_with = "since")]
    from_beginning: bool,
    /// Start with the events of this time
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only events of this key, such as the id of a recipe
    #[arg(long)]
    key: Option<String>,
    /// Only events of this type, such as recipe.revised
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// End after so many
    #[arg(long, value_name = "NUMBER")]
    limit: Option<u64>,
    /// Print each event as CloudEvents JSON, one a line
    #[arg(long, visible_alias = "json")]
    raw: bool,
}

/// Between two looks at a topic that has nothing new.
const PAUSE: Duration = Duration::from_millis(500);
/// Items of a page.
const PAGE: u64 = 500;

pub(crate) async fn run(consume: &Consume, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&consume.target, config)?;
    let path = ["v1", "events", &consume.topic];
    let since = consume.since.map(|since| since.to_string());
    let is_all = consume.from_beginning || since.is_some();
    let mut after = if is_all { "beginning" } else { "latest" }.to_owned();
    let mut left = consume.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let limit = left.min(PAGE).to_string();
        let mut query = vec![("after", after.as_str()), ("limit", limit.as_str())];
        let filters = [("key", &consume.key), ("type", &consume.event_type), ("since", &since)];
        query.extend(
            filters.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))),
        );
        let page = client.send_json(client.request(Method::GET, &path, &query)).await?;
        let items = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().for_each(|item| say!("{}", show::event(item, consume.raw)));
        say::flush();
        left -= items.len() as u64;
        // A page that a filter leaves empty may still have moved on.
        let next = page["next_cursor"].as_str().unwrap_or_default().to_owned();
        let is_at_end = items.is_empty() && next == after;
        after = next;
        if is_at_end {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}
