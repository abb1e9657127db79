//! `almanac plans` and `almanac search`: what is on, from a terminal.

use super::{Client, Target, show};
use crate::config::Config;
use reqwest::Method;

/// Find plans by words, price, provider, time and sale
///
/// Examples:
///   almanac plans --q jazz --sale on --sort price
///   almanac plans --starts-from 2026-12-01T00:00:00Z --max-price 30 --json
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Plans {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long)]
    json: bool,
    /// Words, or beginnings of words, of the title
    #[arg(long)]
    q: Option<String>,
    /// That start at this time or later
    #[arg(long, value_name = "TIME")]
    starts_from: Option<String>,
    /// That start before this time
    #[arg(long, value_name = "TIME")]
    starts_until: Option<String>,
    /// That end before this time
    #[arg(long, value_name = "TIME")]
    ends_until: Option<String>,
    /// That are on at this time or later; with --overlaps-until
    #[arg(long, value_name = "TIME")]
    overlaps_from: Option<String>,
    /// That are on before this time; with --overlaps-from
    #[arg(long, value_name = "TIME")]
    overlaps_until: Option<String>,
    /// Of this provider; may be repeated
    #[arg(long, value_name = "NAME")]
    provider: Vec<String>,
    /// Of this base plan; may be repeated
    #[arg(long, value_name = "ID")]
    base_plan_id: Vec<String>,
    /// Of this organizer; may be repeated
    #[arg(long, value_name = "ID")]
    organizer_id: Vec<String>,
    /// The plan with this id; may be repeated
    #[arg(long)]
    id: Vec<String>,
    /// With a price of at least this
    #[arg(long, value_name = "PRICE")]
    min_price: Option<String>,
    /// With a price of at most this
    #[arg(long, value_name = "PRICE")]
    max_price: Option<String>,
    /// upcoming, on, sold_out or over
    #[arg(long, value_name = "STATE")]
    sale: Option<String>,
    /// Whether its provider lists it still
    #[arg(long, value_name = "BOOL")]
    listed: Option<String>,
    /// start or price; with - before it, the other way
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    sort: Option<String>,
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
    limit: u32,
    /// Where the last page ended
    #[arg(long)]
    cursor: Option<String>,
}

impl Plans {
    fn query(&self) -> Vec<(&'static str, String)> {
        let single = [
            ("q", &self.q),
            ("starts_from", &self.starts_from),
            ("starts_until", &self.starts_until),
            ("ends_until", &self.ends_until),
            ("overlaps_from", &self.overlaps_from),
            ("overlaps_until", &self.overlaps_until),
            ("min_price", &self.min_price),
            ("max_price", &self.max_price),
            ("sale", &self.sale),
            ("listed", &self.listed),
            ("sort", &self.sort),
            ("cursor", &self.cursor),
        ];
        let repeated = [
            ("provider", &self.provider),
            ("base_plan_id", &self.base_plan_id),
            ("organizer_id", &self.organizer_id),
            ("id", &self.id),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name, value.clone()?)));
        let repeated = repeated
            .into_iter()
            .flat_map(|(name, values)| values.iter().map(move |value| (name, value.clone())));
        single.chain(repeated).chain([("limit", self.limit.to_string())]).collect()
    }
}

pub(crate) async fn list(plans: &Plans, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&plans.target, config)?;
    let query = plans.query();
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, &**value)).collect();
    let page = client.send_json(client.request(Method::GET, &["v1", "plans"], &query)).await?;
    show::plans(&page, plans.json)
}

/// Find plans by when they start and end
///
/// Example:
///   almanac search --starts-at 2026-12-01T00:00:00Z --ends-at 2026-12-08T00:00:00Z
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Search {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long)]
    json: bool,
    /// Plans that start after this time; without an offset, it is the venue's wall time
    #[arg(long, value_name = "TIME")]
    starts_at: Option<String>,
    /// Plans that end before this time
    #[arg(long, value_name = "TIME")]
    ends_at: Option<String>,
}

pub(crate) async fn search(search: &Search, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&search.target, config)?;
    let bounds = [("starts_at", &search.starts_at), ("ends_at", &search.ends_at)];
    let query: Vec<(&str, &str)> =
        bounds.into_iter().filter_map(|(name, time)| Some((name, time.as_deref()?))).collect();
    let found = client.send_json(client.request(Method::GET, &["search"], &query)).await?;
    show::found(&found, search.json)
}
