//! `almanac trace`: what became of a write, an event or an analysis.

use super::{
    Client, Target,
    show::{clean, items, print_json, text},
};
use crate::{config::Config, say::say};
use reqwest::Method;
use serde_json::Value;

/// Follow a request, command, event or analysis: what it led to, and what became of that in the tables
///
/// The id is the Request-Id of a write, the id of an event (as `almanac consume` shows it), of an analysis
/// or of another thing that is written, or of a fetch.
///
/// Examples:
///   almanac trace 01990cb4-1c5e-7a3b-8e0f-3f8f4a1f0b7c
///   almanac trace 01990cb4-1c5e-7a3b-8e0f-3f8f4a1f0b7c.3
///   almanac trace 01990cb4-1c5e-7a3b-8e0f-3f8f4a1f0b7c --json | jq '.hops[] | {at, kind, what}'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Trace {
    #[command(flatten)]
    target: Target,
    /// Print the server's JSON instead of text for people
    #[arg(long)]
    json: bool,
    id: String,
}

pub(crate) async fn run(trace: &Trace, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&trace.target, config)?;
    let request = client.request(Method::GET, &["v1", "admin", "trace", &trace.id], &[]);
    let told = client.send_json(request).await?;
    if trace.json {
        return print_json(&told);
    }
    for hop in items(&told, "hops") {
        say!("{}", line(hop));
    }
    for note in items(&told, "notes").filter_map(Value::as_str) {
        say!("note: {}", clean(note));
    }
    if told["complete"] == false {
        say!(
            "there may be more: after {} records the bound was reached (http.trace_records, http.inspect_time)",
            told["records_read"]
        );
    }
    Ok(())
}

fn line(hop: &Value) -> String {
    let at = hop["at"].as_str().unwrap_or_default();
    let place = match hop["topic"].as_str() {
        Some(topic) => format!("{}/{}@{}", clean(topic), hop["partition"], hop["offset"]),
        None => hop["table"]["name"].as_str().map(clean).unwrap_or_default(),
    };
    let mut line =
        format!("{at:<24}  {:<8}  {place:<32}  {}", text(hop, "kind"), clean(text(hop, "what")));
    line.push_str(&format!("  id {}", clean(text(hop, "id"))));
    if let Some(cause) = hop["caused_by"].as_str().filter(|_| hop["kind"] != "table") {
        line.push_str(&format!("  by {}", clean(cause)));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hop_is_a_line() {
        let mut hop = json!({
            "kind": "event", "at": "2026-03-01T12:00:00.000Z", "topic": "x.events", "partition": 2,
            "offset": 7, "table": null, "id": "a.1", "key": "a", "what": "a\nb", "caused_by": "r",
        });
        let told = line(&hop);
        assert!(
            told.contains("x.events/2@7") && told.ends_with("a\u{fffd}b  id a.1  by r"),
            "{told}"
        );
        hop["topic"] = Value::Null;
        hop["table"] = json!({"name": "some_history"});
        assert!(line(&hop).contains("some_history"), "{hop}");
    }
}
