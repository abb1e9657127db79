//! Consumer groups: who reads the topics of this installation, and how far each is. Those of others are
//! told as well: whoever consumes events directly is nobody whom Almanac knows.

use super::{answer, cut, log_problem};
use crate::{state::ApiState, v1::cursor};
use almanac_edge::{Problem, Scope, openapi::Fragment, openapi_fragment, query::Parameters};
use almanac_errors::chain;
use almanac_event_log::{GroupDescription, GroupNames, GroupState, Isolation, LogResult, Offset};
use axum::{
    extract::{RawQuery, State},
    response::Response,
};
use futures::{StreamExt, TryStreamExt, stream};
use http::HeaderMap;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

pub(crate) const OPENAPI: Fragment = openapi_fragment!("groups.openapi.json");

/// Partitions that are asked about at once.
const AT_ONCE: usize = 16;
/// Kafka's own bound for names in its requests is higher; no group has such a name.
const LONGEST_NAME: usize = 1_000;

type Place = (Arc<str>, u32);

pub(super) async fn groups(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["group", "limit", "cursor"])?;
    let (limit, wanted) = (parameters.limit()?, parameters.one("group")?);
    let bound = format!("groups {wanted:?}");
    let after = parameters.one("cursor")?;
    let after = after.map(|text| cursor::decode::<String>(&bound, text)).transpose()?;
    state.identity.require(&headers, Scope::OperatorRead)?;
    let _turn = state.turn(&headers).await?;
    let known = match wanted {
        Some(name) => GroupNames { names: vec![name.to_owned()], ..GroupNames::default() },
        None => {
            let known = state.log.groups(state.options.inspect.groups).await;
            known.map_err(|error| log_problem(&error))?
        }
    };
    let left = known.names.into_iter().filter(|name| after.as_ref().is_none_or(|one| name > one));
    let (names, next) = cut(&bound, limit, left.map(|name| (name.clone(), name)));
    let telling = tokio::time::timeout(state.options.inspect.time, told(&state, &names));
    let items = telling.await.map_err(|_| {
        Problem::busy("the groups could not be told in time; ask for fewer of them with limit")
    })?;
    let items = items.map_err(|error| log_problem(&error))?;
    let next: Value = serde_json::from_str(&next).unwrap_or_default();
    let body = json!({
        "items": items,
        "next_cursor": next,
        "left_off": known.left_off,
        "unheard": known.unheard,
    });
    Ok(answer(&headers, &body))
}

async fn told(state: &ApiState, names: &[String]) -> LogResult<Vec<Value>> {
    let mut places: Vec<Place> = Vec::new();
    for spec in &state.options.installation.topics {
        let name: Arc<str> = spec.name.as_str().into();
        places.extend((0..spec.partitions).map(|partition| (name.clone(), partition)));
    }
    let can_be = |name: &&String| !name.contains('\0') && name.len() <= LONGEST_NAME;
    let names: Vec<String> = names.iter().filter(can_be).cloned().collect();
    let described = state.log.describe_groups(&names, &places).await?;
    let ours: BTreeSet<Place> = places.into_iter().collect();
    let groups: Vec<Group> = described
        .into_iter()
        .filter(|one| one.state != GroupState::Dead)
        .map(|one| Group::of(one, &ours))
        .collect();
    let topics: BTreeSet<&Arc<str>> = groups.iter().flat_map(|one| &one.topics).collect();
    let asked = ours.iter().filter(|(topic, _)| topics.contains(topic)).cloned();
    let asked: Vec<Place> = asked.collect();
    let ends: HashMap<Place, Offset> = stream::iter(asked)
        .map(|place| end(state, place))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    Ok(groups.iter().map(|one| one.item(&state.options.prefix, &ends)).collect())
}

async fn end(state: &ApiState, place: Place) -> LogResult<(Place, Offset)> {
    let end = state.log.end(&place.0, place.1, Isolation::Committed).await?;
    Ok((place, end))
}

/// A group, and what it has to do with topics of this installation.
struct Group {
    described: GroupDescription,
    /// That it has committed positions of, or that its members are given partitions of.
    topics: BTreeSet<Arc<str>>,
    committed: HashMap<Place, Offset>,
    owners: HashMap<Place, usize>,
}

impl Group {
    fn of(described: GroupDescription, ours: &BTreeSet<Place>) -> Self {
        let committed: HashMap<Place, Offset> = described
            .committed
            .iter()
            .map(|one| ((one.topic.clone(), one.partition), one.next_offset))
            .collect();
        let mut owners = HashMap::new();
        for (number, member) in described.members.iter().enumerate() {
            let places = member.assigned.iter().filter(|place| ours.contains(*place));
            owners.extend(places.map(|place| (place.clone(), number)));
        }
        let topics =
            committed.keys().chain(owners.keys()).map(|(topic, _)| topic.clone()).collect();
        Self { described, topics, committed, owners }
    }

    fn item(&self, prefix: &str, ends: &HashMap<Place, Offset>) -> Value {
        let GroupDescription { name, state, members, fault, .. } = &self.described;
        let mut topics: BTreeMap<&Arc<str>, Topic> = BTreeMap::new();
        for ((topic, partition), end) in ends {
            if self.topics.contains(topic) {
                topics.entry(topic).or_default().0.push((*partition, *end));
            }
        }
        let (mut lag, mut never, mut told) = (0, 0, Vec::new());
        for (topic, Topic(mut ends)) in topics {
            ends.sort_unstable();
            let (mut topic_lag, mut topic_never, mut partitions) = (0, 0, Vec::new());
            for (partition, end) in ends {
                let place = (topic.clone(), partition);
                let committed = self.committed.get(&place);
                let behind = committed.map(|next| end.saturating_sub(*next));
                topic_lag += behind.unwrap_or(0);
                topic_never += u64::from(committed.is_none());
                partitions.push(json!({
                    "partition": partition,
                    "committed": committed,
                    "end": end,
                    "lag_events": behind,
                    "member": self.owners.get(&place).map(|number| &members[*number].id),
                }));
            }
            lag += topic_lag;
            never += topic_never;
            told.push(json!({
                "topic": topic.strip_prefix(prefix).unwrap_or(topic),
                "lag_events": topic_lag,
                "never_committed": topic_never,
                "partitions": partitions,
            }));
        }
        let members: Vec<Value> = members
            .iter()
            .map(|member| {
                json!({
                    "id": member.id,
                    "client": member.client,
                    "instance": member.instance,
                    "host": member.host,
                    "partitions": member.assigned.len(),
                })
            })
            .collect();
        json!({
            "group": name,
            "own": name.strip_prefix(prefix).is_some_and(|name| name.starts_with("almanac-")),
            "state": state.as_str(),
            "members": members,
            "lag_events": lag,
            "never_committed": never,
            "topics": told,
            "fault": fault.as_ref().map(|fault| chain(fault).to_string()),
        })
    }
}

/// Partitions with their ends.
#[derive(Default)]
struct Topic(Vec<(u32, Offset)>);

#[cfg(test)]
mod tests {
    use super::*;
    use almanac_event_log::{GroupMemberDescription, InputPosition};

    #[test]
    fn partitions_never_committed_are_counted_beside_the_lag() {
        let topic: Arc<str> = "x.facts".into();
        let place = |partition| (topic.clone(), partition);
        let ours: BTreeSet<Place> = (0..3).map(place).collect();
        let member = GroupMemberDescription {
            id: "m".to_owned(),
            client: "c".to_owned(),
            instance: None,
            host: None,
            assigned: vec![place(1), ("another's".into(), 0)],
        };
        let described = GroupDescription {
            name: "theirs".to_owned(),
            state: GroupState::Stable,
            members: vec![member],
            committed: vec![InputPosition { topic: topic.clone(), partition: 0, next_offset: 4 }],
            fault: None,
        };
        let ends = HashMap::from([(place(0), 10), (place(1), 7), (place(2), 0)]);
        let told = Group::of(described, &ours).item("x.", &ends);
        assert_eq!((&told["lag_events"], &told["never_committed"]), (&json!(6), &json!(2)));
        let topics = told["topics"].as_array().unwrap();
        assert_eq!((topics.len(), &topics[0]["topic"]), (1, &json!("facts")));
        let at = |partition: usize| &topics[0]["partitions"][partition];
        assert_eq!((&at(0)["committed"], &at(0)["lag_events"]), (&json!(4), &json!(6)));
        assert_eq!((&at(1)["lag_events"], &at(1)["member"]), (&Value::Null, &json!("m")));
        assert_eq!(told["own"], false);
    }
}
