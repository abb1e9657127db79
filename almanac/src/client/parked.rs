//! `almanac parked …`: keys that projections have set aside, and what to do about them. What a command says at
//! its end comes from the outcome that the server stored.

use super::{
    Client, Exit, Target,
    show::{clean, items, print_json, text},
    writes::HELD,
};
use crate::{config::Config, say::say};
use anyhow::{Context, bail};
use reqwest::{Method, StatusCode, header};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Between two looks at what goes on.
const LOOK: Duration = Duration::from_millis(500);
/// Of a value that is shown as it is.
const RAW: usize = 400;

/// List, redrive and discard keys whose events cannot be folded
///
/// Examples:
///   almanac parked list
///   almanac parked show recipes KEY
///   almanac parked redrive recipes KEY --reason 'the schema is registered'
///   almanac parked redrive --fault schema --expect 12 --reason 'the same'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Parked {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Args)]
struct Filter {
    /// Of this projection only
    #[arg(long, value_name = "NAME")]
    projection: Option<String>,
    /// With this category of fault (event, schema, unknown_event, panic), or with these words in it
    #[arg(long, value_name = "TEXT")]
    fault: Option<String>,
    /// This key only
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

#[derive(clap::Args)]
struct Action {
    /// Name of a projection and of a key, for a single one; or else --expect, with a filter
    #[arg(num_args = 2, value_names = ["PROJECTION", "KEY"], conflicts_with_all = ["projection", "fault", "key", "expect"])]
    one: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// How many keys the filter matches, as you believe; at another number nothing is done
    #[arg(long, value_name = "NUMBER", required_unless_present = "one")]
    expect: Option<u64>,
    /// Give up waiting after so many seconds; it goes on all the same
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    at_most: u64,
    /// Why, for the audit; needed beyond this machine
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
}

#[derive(clap::Subcommand)]
enum Command {
    /// List the keys that are set aside, and why
    ///
    /// Example:  almanac parked list --projection recipes --fault schema
    #[command(verbatim_doc_comment)]
    List {
        #[command(flatten)]
        filter: Filter,
    },
    /// Show a key with the event that cannot be folded
    ///
    /// Example:  almanac parked show recipes 0190f3a2-0000-7000-8000-000000000000
    #[command(verbatim_doc_comment)]
    Show {
        projection: String,
        /// As `almanac parked list` names it
        key: String,
    },
    /// Fold the events of keys once more, now that the cause is gone
    ///
    /// Examples:
    ///   almanac parked redrive recipes KEY --reason 'the schema is registered'
    ///   almanac parked redrive --projection recipes --fault schema --expect 12 --reason 'the same'
    #[command(verbatim_doc_comment)]
    Redrive(Action),
    /// Pass over the event that cannot be folded, for good, and fold those after it
    ///
    /// Examples:
    ///   almanac parked discard recipes KEY --reason 'written by hand, no recipe'
    ///   almanac parked discard --fault 'no event' --expect 3 --reason 'a stranger wrote it'
    #[command(verbatim_doc_comment)]
    Discard(Action),
}

impl Filter {
    fn query(&self) -> Vec<(&'static str, &str)> {
        let all = [("projection", &self.projection), ("reason", &self.fault), ("key", &self.key)];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

pub(crate) async fn run(parked: &Parked, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&parked.target, config)?;
    match &parked.command {
        Command::List { filter } => {
            let all = client.all(&["v1", "admin", "parked"], &filter.query()).await?;
            if parked.json {
                return print_json(&all.into());
            }
            table(&all);
            Ok(())
        }
        Command::Show { projection, key } => {
            let path = ["v1", "admin", "parked", projection, key];
            let one = client.send_json(client.request(Method::GET, &path, &[])).await?;
            if parked.json {
                return print_json(&one);
            }
            show(&one);
            Ok(())
        }
        Command::Redrive(action) => act(&client, "redrive", action, parked.json).await,
        Command::Discard(action) => act(&client, "discard", action, parked.json).await,
    }
}

const COLUMNS: [&str; 7] = ["PROJECTION", "VERSION", "KEY", "AT", "SINCE", "REASON", "FAULT"];
/// The last column is cut there; `show` tells all.
const FAULT: usize = 80;

fn table(all: &[Value]) {
    if all.is_empty() {
        say!("no key is parked");
        return;
    }
    let rows: Vec<[String; 7]> = all.iter().map(row).collect();
    let headings = COLUMNS.map(str::to_owned);
    let width = |column: usize| {
        let all = std::iter::once(&headings).chain(&rows);
        all.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..COLUMNS.len() - 1).map(width).collect();
    for row in std::iter::once(&headings).chain(&rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let mut line: Vec<String> = cells.collect();
        line.push(row[COLUMNS.len() - 1].clone());
        say!("{}", line.join("  "));
    }
}

fn row(one: &Value) -> [String; 7] {
    let fault = clean(text(one, "fault"));
    let cut: String = fault.chars().take(FAULT).collect();
    let fault = if cut.len() < fault.len() { format!("{cut}…") } else { fault };
    [
        clean(text(one, "projection")),
        clean(text(one, "version")),
        clean(text(one, "key")),
        format!("{}/{}@{}", clean(text(one, "topic")), one["partition"], one["offset"]),
        text(one, "since").get(..19).unwrap_or("-").replace('T', " "),
        clean(text(one, "reason")),
        fault,
    ]
}

fn show(one: &Value) {
    let at = |one: &Value| {
        format!("{}/{} offset {}", clean(text(one, "topic")), one["partition"], one["offset"])
    };
    say!("{} {}  {}", text(one, "projection"), text(one, "version"), clean(text(one, "key")));
    say!("  event   {}", at(one));
    say!("  last    offset {} is the newest event passed over", one["last_offset"]);
    say!("  since   {}", one["since"].as_str().unwrap_or("not known"));
    say!("  reason  {}", text(one, "reason"));
    say!("  fault   {}", clean(text(one, "fault")));
    for discarded in items(one, "discarded") {
        say!(
            "  before  offset {} was discarded: {}",
            discarded["offset"],
            clean(text(discarded, "fault"))
        );
    }
    for other in items(one, "also") {
        say!("  also    in version {}, {}", text(other, "version"), at(other));
    }
    let event = &one["event"];
    if event.is_null() {
        say!("  the log keeps the event no more");
        return;
    }
    say!("  type    {}", event["type"].as_str().map_or("not known".to_owned(), clean));
    say!("  time    {}", event["time"].as_str().map_or("not known".to_owned(), clean));
    say!("  schema  {}  {} bytes", event["schema_id"], event["bytes"]);
    match event["unread"].as_str() {
        None => say!(
            "{}",
            clean_lines(&serde_json::to_string_pretty(&event["data"]).unwrap_or_default())
        ),
        Some(unread) => {
            say!("  unread  {}", clean(unread));
            let raw = text(event, "raw");
            say!("  raw     {}", raw.get(..RAW).unwrap_or(raw));
        }
    }
}

fn clean_lines(text: &str) -> String {
    text.lines().map(clean).collect::<Vec<_>>().join("\n")
}

async fn act(client: &Client, verb: &str, action: &Action, json: bool) -> anyhow::Result<()> {
    let (path, body) = match action.one.as_slice() {
        [projection, key] => {
            (vec!["v1", "admin", "parked", projection, key, verb], json!({"reason": action.reason}))
        }
        _ => {
            let filter: serde_json::Map<String, Value> = action
                .filter
                .query()
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.into()))
                .collect();
            let body = json!({"reason": action.reason, "expect": action.expect, "filter": filter});
            (vec!["v1", "admin", "parked", verb], body)
        }
    };
    let began = Instant::now();
    let request = client.request(Method::POST, &path, &[]).header("prefer", HELD);
    let answer = client.send(request.body(body.to_string())).await?;
    let location = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.filter(|_| answer.status() == StatusCode::ACCEPTED).map(str::to_owned);
    let mut done: Value = answer.json().await.context("the answer is no JSON")?;
    if let Some(location) = location {
        let parts: Vec<&str> = location.trim_matches('/').split('/').collect();
        if done["succeeded"].is_null() {
            bail!("the server took it on and has not decided it yet; GET {location} tells");
        }
        while done["state"] != "completed" {
            if began.elapsed() > Duration::from_secs(action.at_most) {
                let (done_so_far, all) = (&done["succeeded"], &done["matched"]);
                let told = format!(
                    "not in time: {done_so_far} of {all} are done, and it goes on; GET {location} tells"
                );
                return Err(Exit::NotInTime(told).into());
            }
            tokio::time::sleep(LOOK).await;
            done = client.send_json(client.request(Method::GET, &parts, &[])).await?;
        }
    }
    told(verb, &done, json)
}

/// The outcome; one that failed for some ends the program with 1.
fn told(verb: &str, done: &Value, json: bool) -> anyhow::Result<()> {
    let failed = items(done, "failed").count();
    if json {
        print_json(done)?;
    } else {
        say!("{verb}: {} succeeded, {failed} failed", done["succeeded"]);
        for one in items(done, "failed") {
            say!(
                "  {} {}  {}",
                text(one, "projection"),
                clean(text(one, "key")),
                clean(text(one, "reason"))
            );
        }
    }
    match failed {
        0 => Ok(()),
        failed => bail!("{failed} keys are still parked"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_one_line_whatever_others_wrote() {
        let one = json!({
            "projection": "recipes", "version": "3.1", "key": "k\u{1b}[2J", "topic": "recipes.events",
            "partition": 2, "offset": 7, "since": "2026-01-02T03:04:05.678Z", "reason": "event",
            "fault": "a\nb".repeat(40),
        });
        let row = row(&one);
        assert_eq!(row[2], "k\u{fffd}[2J");
        assert_eq!(
            (row[3].as_str(), row[4].as_str()),
            ("recipes.events/2@7", "2026-01-02 03:04:05")
        );
        assert!(row[6].ends_with('…') && !row[6].contains('\n'), "{}", row[6]);
    }

    #[test]
    fn what_failed_for_one_is_a_failure() {
        let done = |failed: Value| json!({"succeeded": 1, "failed": failed});
        assert!(told("redrive", &done(json!([])), true).is_ok());
        assert!(told("redrive", &done(json!([{"key": "k", "reason": "still"}])), true).is_err());
    }
}
