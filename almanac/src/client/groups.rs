//! `almanac groups`: who reads the topics, and how far each is.

use super::{
    Client, Exit, Target,
    show::{clean, items, print_json, text},
};
use crate::{config::Config, say::say};
use reqwest::Method;
use serde_json::Value;

/// List consumer groups, those of others included: who is in them, and how far behind they are
///
/// Of a group that is named, each partition is shown. What a group never committed is counted by itself:
/// nobody but its consumers knows where they begin.
///
/// Examples:
///   almanac groups
///   almanac groups reporting
///   almanac groups --json | jq 'select(.lag_events > 1000).group'
#[derive(clap::Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct Groups {
    #[command(flatten)]
    target: Target,
    /// Print each group as JSON, one a line
    #[arg(long)]
    json: bool,
    /// Show groups that read no topic of this installation as well
    #[arg(long)]
    all: bool,
    /// The group with this name, and its partitions
    name: Option<String>,
}

pub(crate) async fn run(groups: &Groups, config: &Config) -> anyhow::Result<()> {
    let client = Client::new(&groups.target, config)?;
    if let Some(name) = &groups.name {
        let request = client.request(Method::GET, &["v1", "admin", "groups"], &[("group", name)]);
        let page = client.send_json(request).await?;
        let Some(group) = items(&page, "items").next() else {
            return Err(Exit::Refused(format!("there is no consumer group {}", clean(name))).into());
        };
        if groups.json {
            return print_json(group);
        }
        say!("{}", line(group));
        partitions(group).iter().for_each(|line| say!("  {line}"));
        return Ok(());
    }
    let mut others = 0;
    for group in client.all(&["v1", "admin", "groups"], &[]).await? {
        // A group of ours is told of also while it is given nothing.
        if !groups.all && group["own"] == false && items(&group, "topics").next().is_none() {
            others += 1;
            continue;
        }
        match groups.json {
            true => say!("{group}"),
            false => say!("{}", line(&group)),
        }
    }
    if others > 0 && !groups.json {
        say!("and {others} that read no topic of this installation (--all)");
    }
    Ok(())
}

fn line(group: &Value) -> String {
    let name = clean(text(group, "group"));
    let (state, members) = (text(group, "state"), items(group, "members").count());
    let lag = group["lag_events"].as_u64().unwrap_or_default();
    let mut line = format!("{name:<40} {state:<11} {members:>3} members {lag:>9} behind");
    if let Some(never @ 1..) = group["never_committed"].as_u64() {
        line.push_str(&format!("  {never} partitions never committed"));
    }
    let topics: Vec<&str> = items(group, "topics").map(|one| text(one, "topic")).collect();
    if !topics.is_empty() {
        line.push_str(&format!("  {}", clean(&topics.join(", "))));
    }
    if let Some(fault) = group["fault"].as_str() {
        line.push_str(&format!("  {}", clean(fault)));
    }
    line
}

fn partitions(group: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for topic in items(group, "topics") {
        for at in items(topic, "partitions") {
            let place = format!("{}/{}", clean(text(topic, "topic")), at["partition"]);
            let (end, member) = (&at["end"], at["member"].as_str());
            let owner = member.map_or(String::new(), |one| format!("  {}", clean(one)));
            lines.push(match at["committed"].as_u64() {
                Some(next) => {
                    let lag = at["lag_events"].as_u64().unwrap_or_default();
                    format!("{place:<28} {lag:>8} behind, at {next} of {end}{owner}")
                }
                None => format!("{place:<28} never committed, end {end}{owner}"),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_was_never_committed_is_said() {
        let group = json!({
            "group": "theirs\u{1b}[2J", "own": false, "state": "empty", "members": [], "fault": null,
            "lag_events": 6, "never_committed": 1, "topics": [{ "topic": "recipes.events",
                "lag_events": 6, "never_committed": 1, "partitions": [
                    { "partition": 0, "committed": 4, "end": 10, "lag_events": 6, "member": null },
                    { "partition": 1, "committed": null, "end": 3, "lag_events": null, "member": "m" },
                ] }],
        });
        let told = line(&group);
        assert!(told.contains("6 behind  1 partitions never committed  recipes.events"), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
        let [first, second] = &partitions(&group)[..] else { panic!("{group}") };
        assert!(first.ends_with("6 behind, at 4 of 10"), "{first}");
        assert!(second.ends_with("never committed, end 3  m"), "{second}");
    }
}
