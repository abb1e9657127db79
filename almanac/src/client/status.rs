//! `almanac status` and `almanac topics`: is it well, and what is there.

use super::{
    Client, Target,
    show::{clean, items},
};
use crate::{config::Config, say::say};
use anyhow::bail;
use reqwest::Method;
use serde_json::Value;

/// Is it well? What is wrong, since when, and which runbook tells what to do
///
/// Ends with 0 if nothing is wrong, and with 1 otherwise.
///
/// Examples:
///   almanac status
///   almanac status --json | jq '.problems[].runbook'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Status {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long)]
    json: bool,
}

/// List topics: what they keep, and from which offset to which
///
/// Examples:
///   almanac topics
///   almanac topics --partitions
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Topics {
    #[command(flatten)]
    target: Target,
    /// Print each topic as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Show each partition
    #[arg(long)]
    partitions: bool,
}

/// What is not known is shown as a dash.
fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or("-")
}

pub(crate) async fn run(status: &Status, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&status.target, config)?;
    let request = client.request(Method::GET, &["v1", "admin", "status"], &[]);
    let answer = client.send_json(request).await?;
    if status.json {
        say!("{answer}");
    } else {
        say!("{}", told(&answer));
    }
    match items(&answer, "problems").count() {
        0 => Ok(()),
        1 => bail!("there is a problem"),
        n => bail!("there are {n} problems"),
    }
}

fn told(status: &Value) -> String {
    let mut lines = Vec::new();
    for instance in items(status, "instances") {
        let roles: Vec<&str> = items(instance, "roles").filter_map(Value::as_str).collect();
        let name = clean(text(instance, "name"));
        let (version, engine) = (text(status, "version"), text(status, "engine"));
        lines.push(format!(
            "almanac {version}, {engine} engine, answered by {name} ({})",
            roles.join(", ")
        ));
    }
    lines.push(String::new());
    for one in items(status, "projections") {
        let moved = one["last_progress_at"].as_str().unwrap_or("never");
        lines.push(format!(
            "projection  {:<16} {:>8} behind  {:>4} parked  moved {moved}",
            text(one, "name"),
            one["lag_events"],
            one["parked"]
        ));
    }
    for one in items(status, "rebuilds") {
        let share = one["progress"]["share"].as_f64().unwrap_or_default() * 100.0;
        let (name, state) = (text(one, "projection"), text(one, "state"));
        lines.push(format!("rebuild     {name:<16} {state} {share:.0} %"));
    }
    for one in items(status, "providers") {
        let age = one["freshness"]["age_s"].as_i64();
        let age = age.map_or("never fetched".to_owned(), |age| format!("{age} s old"));
        let outcome = text(one, "last_outcome");
        let paused = if one["paused"].is_object() { ", paused" } else { "" };
        let name = clean(text(one, "name"));
        lines.push(format!("provider    {name:<16} {outcome:<10} {age}{paused}"));
    }
    lines.push(String::new());
    let problems: Vec<&Value> = items(status, "problems").collect();
    if problems.is_empty() {
        lines.push("All is well.".to_owned());
    }
    for one in problems {
        let since = one["since"].as_str().map_or(String::new(), |since| format!(", since {since}"));
        lines.push(format!("{:<6}  {}{since}", text(one, "severity"), clean(text(one, "what"))));
        lines.push(format!("        {}", text(one, "runbook")));
    }
    lines.join("\n")
}

pub(crate) async fn topics(topics: &Topics, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&topics.target, config)?;
    for one in client.all(&["v1", "admin", "topics"], &[]).await? {
        if topics.json {
            say!("{one}");
            continue;
        }
        let keeps = match (text(&one, "keeps"), one["keeps_s"].as_u64()) {
            ("for", Some(seconds)) => format!("for {} h", seconds / 3_600),
            ("newest_of_key", _) => "newest of a key".to_owned(),
            (keeps, _) => keeps.to_owned(),
        };
        let count = items(&one, "partitions").count();
        let name = clean(text(&one, "topic"));
        let rate = one["offsets_per_s"].as_f64();
        let rate = rate.map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}/s"));
        let offsets = &one["offsets"];
        say!("{name:<26} {count:>4} partitions  {offsets:>12} offsets  {rate:>10}  kept {keeps}");
        for at in items(&one, "partitions").filter(|_| topics.partitions) {
            let open = match at["end"].as_u64() > at["stable_end"].as_u64() {
                true => format!(", a transaction is open from {}", at["stable_end"]),
                false => String::new(),
            };
            say!("  {:>4}  {} to {}{open}", at["partition"], at["start"], at["end"]);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn people_are_told_what_is_wrong() {
        let mut status = json!({
            "engine": "embedded", "version": "0.1.0",
            "instances": [{ "name": "a", "roles": ["ingestor", "worker"] }],
            "projections": [{ "name": "plans", "lag_events": 3, "parked": 0, "last_progress_at": null }],
            "providers": [{ "name": "fever\u{1b}[2J", "last_outcome": "changed", "freshness": { "age_s": 4 } }],
            "rebuilds": [], "problems": [],
        });
        let well = told(&status);
        assert!(well.contains("answered by a (ingestor, worker)"), "{well}");
        assert!(well.ends_with("All is well.") && !well.contains('\u{1b}'), "{well}");
        status["problems"] = json!([{
            "severity": "page", "what": "it stands still", "since": "2026-03-01T12:00:00Z",
            "runbook": "docs/runbooks/down.md",
        }]);
        let unwell = told(&status);
        let expected =
            "page    it stands still, since 2026-03-01T12:00:00Z\n        docs/runbooks/down.md";
        assert!(unwell.ends_with(expected), "{unwell}");
    }
}
