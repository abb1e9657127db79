//! That partitions move from a process that is away to others of its role, as Kafka tells of its groups.

use super::stage::Stage;
use almanac_tests::process::{Process, client};
use reqwest::StatusCode;
use serde_json::Value;
use std::collections::BTreeMap;

/// A process in one of its groups.
struct Membership {
    /// What the group names it for as long as it counts as there.
    member: String,
    /// Topics and partitions.
    places: Vec<(String, u64)>,
}

/// What a process has in each of its groups.
pub(crate) struct Held(BTreeMap<String, Membership>);

impl Held {
    /// Once the groups are at rest, and this process has something in each.
    pub(crate) async fn by(stage: &Stage, place: usize) -> Self {
        let mut held = BTreeMap::new();
        for group in groups(stage, stage.roles[place]) {
            let what = format!("partitions of {group} at {}", stage.name(place));
            let found = stage.reader().until(&what, || held_in(stage, place, &group)).await;
            held.insert(group, found);
        }
        Self(held)
    }

    pub(crate) fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The process has the same partitions, whatever its groups name it.
    pub(crate) async fn is_still_held(&self, stage: &Stage, place: usize) {
        let now = Self::by(stage, place).await;
        for (group, Membership { places, .. }) in &self.0 {
            assert_eq!(now.0[group].places, *places, "{group}: partitions moved");
        }
    }
}

fn groups(stage: &Stage, role: &str) -> Vec<String> {
    let names = match role {
        "command-api" => vec!["decider".to_owned()],
        "ingestor" => vec!["ingestor".to_owned()],
        "worker" => vec!["worker".to_owned(), "notifications".to_owned()],
        "projector" => {
            let all = almanac_projector::all().unwrap();
            let sources = all.iter().flat_map(|one| almanac_tables::Source::of(&**one));
            sources.map(|source| format!("projector-{source}")).collect()
        }
        "query-api" => Vec::new(),
        other => panic!("{other} is no role of a cluster"),
    };
    names.iter().map(|name| stage.installation.topic(&format!("almanac-{name}"))).collect()
}

/// The group, while its partitions are shared out.
async fn at_rest(process: &Process, group: &str) -> Option<Value> {
    // A process that is busy may not answer, too: it is asked again.
    let url = process.url(&format!("/v1/admin/groups?group={group}"));
    let answer = client().get(url).send().await.ok()?;
    let is_told = answer.status() == StatusCode::OK;
    let body: Value = answer.json().await.ok()?;
    let group = is_told.then(|| body["items"][0].clone())?;
    (group["state"] == "stable").then_some(group)
}

/// What the group names this process.
fn member(stage: &Stage, place: usize, group: &Value) -> Option<String> {
    let name = group["group"].as_str()?.rsplit("almanac-").next()?;
    let instance = format!("{}-{name}", stage.name(place));
    let members = group["members"].as_array()?;
    let found = members.iter().find(|member| member["instance"] == instance)?;
    found["id"].as_str().map(str::to_owned)
}

/// Who has each partition.
fn owners(group: &Value) -> BTreeMap<(String, u64), Option<String>> {
    let topics = group["topics"].as_array().into_iter().flatten();
    let of_topic = |topic: &Value| {
        let name = topic["topic"].as_str().unwrap().to_owned();
        let partitions = topic["partitions"].as_array().unwrap().clone();
        partitions.into_iter().map(move |partition| {
            let owner = partition["member"].as_str().map(str::to_owned);
            ((name.clone(), partition["partition"].as_u64().unwrap()), owner)
        })
    };
    topics.flat_map(of_topic).collect()
}

async fn held_in(stage: &Stage, place: usize, group: &str) -> Option<Membership> {
    let group = at_rest(stage.reader(), group).await?;
    let member = member(stage, place, &group)?;
    let owners = owners(&group).into_iter();
    let own = owners.filter(|(_, owner)| owner.as_ref() == Some(&member));
    let places: Vec<_> = own.map(|(place, _)| place).collect();
    (!places.is_empty()).then_some(Membership { member, places })
}

/// Waits until others have each partition that it had, and none counts it as a member any more.
pub(crate) async fn moves_on(stage: &Stage, place: usize, held: &Held) {
    for (group, Membership { member: old, places }) in &held.0 {
        let what = format!("another owner of what {} had of {group}", stage.name(place));
        let moved = async || {
            let group = at_rest(stage.reader(), group).await?;
            let owners = owners(&group);
            let have_others = places.iter().all(|place| {
                owners.get(place).is_some_and(|owner| owner.as_ref().is_some_and(|one| one != old))
            });
            (have_others && member(stage, place, &group).is_none()).then_some(())
        };
        stage.reader().until(&what, moved).await;
    }
}

/// Waits until it is in its groups again, as another member than before: of what it had, it has nothing left to
/// commit with.
pub(crate) async fn joins_anew(stage: &Stage, place: usize, held: &Held) {
    for (group, Membership { member: old, .. }) in &held.0 {
        let what = format!("{} in {group} again", stage.name(place));
        let anew = async || {
            let group = at_rest(stage.reader(), group).await?;
            let new = member(stage, place, &group)?;
            assert_ne!(new, *old, "{group}: it was never given up");
            Some(())
        };
        stage.reader().until(&what, anew).await;
    }
}
