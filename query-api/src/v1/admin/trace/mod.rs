//! What became of a command, a request, an event or an aggregate: its way through the topics and into the
//! tables, by keys, causes and correlation.
//!
//! Nothing says where the records of an id stand. Keys say in which partition, rows of history at which
//! offset, tokens where the command of an event is, and ids that begin with their time from where on to
//! read. What is read from there is bounded, and the answer says when the bound was reached.

mod hops;
mod search;
mod tables;

use super::{answer, log_problem};
use crate::state::ApiState;
use almanac_edge::{
    Problem, ProblemType, Scope, openapi::Fragment, openapi_fragment, query::Parameters,
};
use almanac_event_log::{LogResult, StoredRecord, partitioner::partition_of};
use almanac_schemas::{
    CONSISTENCY_TOKEN, Token,
    commands::{COMMAND, CommandRecord, REPLIES, REPLY, ReplyRecord},
    files::event_topics,
    notifications::{ATTEMPTED, DELIVERIES, DUE, DeliveryAttemptedRecord, DeliveryDueRecord},
};
use axum::{
    extract::{Path, RawQuery, State},
    response::Response,
};
use hops::Hop;
use http::HeaderMap;
use jiff::Timestamp;
use search::{Search, holds};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};
use uuid::Uuid;

pub(crate) const OPENAPI: Fragment = openapi_fragment!("trace.openapi.json");

/// No id is longer.
const LONGEST: usize = 300;
/// Between the time that an id tells and the time of its record; clocks differ as well.
const SLACK_MS: i64 = 5_000;
/// A command reaches the log within this time of the request that it is of.
const REQUEST_MS: i64 = 120_000;
/// Where an id tells no time, this much of the past is looked through.
const PAST_MS: i64 = 3_600_000;
/// Subjects of roles: what these command of a key follows from what was asked before.
const ROLES: &str = "urn:almanac:";

pub(super) async fn trace(
    State(state): State<Arc<ApiState>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Parameters::parse(query.as_deref(), &[])?;
    state.identity.require(&headers, Scope::OperatorRead)?;
    let missing = || Problem::new(ProblemType::NotFound, "nothing with this id was found");
    if id.len() > LONGEST {
        return Err(missing());
    }
    let _turn = state.turn(&headers).await?;
    let mut trace = Trace::new(&state);
    let mut hops = trace.follow(&id).await.map_err(|error| log_problem(&error))?;
    let events = std::mem::take(&mut trace.events);
    for event in &events {
        if !trace.search.has_time() {
            break;
        }
        hops.extend(tables::told(&state, event).await?);
    }
    hops.sort_by(|one, other| one.order().cmp(&other.order()));
    let complete = trace.search.is_complete();
    if hops.is_empty() && complete {
        return Err(missing());
    }
    let hops: Vec<Value> = hops.iter().map(Hop::json).collect();
    let body = json!({
        "id": id,
        "complete": complete,
        "records_read": trace.search.read(),
        "notes": trace.notes,
        "hops": hops,
    });
    Ok(answer(&headers, &body))
}

/// Whose records are wanted.
struct Wanted {
    key: String,
    /// Requests whose records are wanted, and of what follows from them.
    requests: HashSet<String>,
    /// Whether all of the key is wanted.
    is_whole: bool,
    from_ms: i64,
    /// Topics of events, without the prefix.
    topics: Vec<&'static str>,
}

struct Trace<'a> {
    state: &'a ApiState,
    search: Search<'a>,
    notes: Vec<String>,
    /// Those that were found.
    events: Vec<StoredRecord>,
}

impl<'a> Trace<'a> {
    fn new(state: &'a ApiState) -> Self {
        Self { state, search: Search::new(state), notes: Vec::new(), events: Vec::new() }
    }

    async fn follow(&mut self, id: &str) -> LogResult<Vec<Hop>> {
        let Some(mut wanted) = self.wanted(id).await? else { return self.correlated(id).await };
        let mut hops = self.commands(&mut wanted).await?;
        hops.extend(self.replies(&wanted).await?);
        for topic in wanted.topics.clone() {
            let all = [partition_of(wanted.key.as_bytes(), self.search.partitions())];
            let accept = |stored: &StoredRecord| {
                let headers = &stored.record.headers;
                let is_asked =
                    |name| headers.get_str(name).is_some_and(|one| wanted.requests.contains(one));
                let is_key = stored.record.key == wanted.key.as_bytes();
                is_key
                    && (wanted.is_whole
                        || is_asked("ce_causationid")
                        || is_asked("ce_correlationid"))
            };
            let found = self.search.scan(topic, &all, wanted.from_ms, None, accept).await?;
            hops.extend(found.iter().map(Hop::event));
            self.events.extend(found);
        }
        hops.extend(self.deliveries().await?);
        Ok(hops)
    }

    /// Whose records the id leads to, if it is known of which key.
    async fn wanted(&mut self, id: &str) -> LogResult<Option<Wanted>> {
        if let Some((key, number)) = id.split_once('.').and_then(|(key, number)| {
            Some((key, number.parse::<u64>().ok().filter(|number| *number > 0)?))
        }) && let Some((topic, event)) = self.of_history(key, number).await?
        {
            return Ok(Some(self.of_event(key, topic, event)));
        }
        let time = time_of(id);
        let partition = [partition_of(id.as_bytes(), self.search.partitions())];
        let first = self.of_history(id, 1).await?;
        let from_ms = match (time, &first) {
            (Some(time), _) => time - SLACK_MS,
            (None, Some((_, first))) => first.record.timestamp_ms - SLACK_MS,
            (None, None) => Timestamp::now().as_millisecond() - PAST_MS,
        };
        let whole = |topics| Wanted {
            key: id.to_owned(),
            requests: HashSet::new(),
            is_whole: true,
            from_ms,
            topics,
        };
        if let Some((topic, _)) = first {
            return Ok(Some(whole(vec![topic])));
        }
        let (commands, key) = (almanac_schemas::commands::TOPIC, id.as_bytes());
        let of_key = |stored: &StoredRecord| stored.record.key == key;
        let until = Some(from_ms + REQUEST_MS);
        let found = self.search.scan(commands, &partition, from_ms, until, of_key).await?;
        if let Some(command) = self.first_command(&found, |_| true).await {
            return Ok(Some(whole(self.topics_of(&command.context))));
        }
        let all: Vec<u32> = (0..self.search.partitions()).collect();
        let of_request = |stored: &StoredRecord| holds(stored, key);
        let found = self.search.scan(commands, &all, from_ms, until, of_request).await?;
        let is_it = |command: &CommandRecord| command.request_id == id || command.outcome_id == id;
        Ok(self.first_command(&found, is_it).await.map(|command| Wanted {
            topics: self.topics_of(&command.context),
            key: command.aggregate_id,
            requests: HashSet::from([command.request_id]),
            is_whole: false,
            from_ms,
        }))
    }

    fn of_event(&mut self, key: &str, topic: &'static str, event: StoredRecord) -> Wanted {
        let headers = &event.record.headers;
        let mut from_ms = event.record.timestamp_ms - SLACK_MS;
        // A request may have waited for its turn; its id tells since when.
        let request = headers.get_str("ce_correlationid").map(str::to_owned);
        if let Some(asked) = request.as_deref().and_then(time_of) {
            from_ms = from_ms.min(asked - SLACK_MS);
        }
        let requests = HashSet::from_iter(request);
        Wanted {
            key: key.to_owned(),
            is_whole: requests.is_empty(),
            requests,
            from_ms,
            topics: vec![topic],
        }
    }

    /// The event of this number among those of an aggregate, by the row of history that came of it.
    async fn of_history(
        &mut self,
        key: &str,
        number: u64,
    ) -> LogResult<Option<(&'static str, StoredRecord)>> {
        for (topic, offset) in tables::offsets(self.state, key, number).await {
            let partition = partition_of(key.as_bytes(), self.search.partitions());
            if let Some(stored) = self.search.at(topic, partition, offset).await?
                && stored.record.key == key.as_bytes()
            {
                return Ok(Some((topic, stored)));
            }
        }
        Ok(None)
    }

    fn topics_of(&self, context: &str) -> Vec<&'static str> {
        let name = format!("{context}.events");
        event_topics().into_iter().filter(|topic| *topic == name).collect()
    }

    async fn command(&self, stored: &StoredRecord) -> Option<CommandRecord> {
        let decoded = self.state.codec.decode(stored.record.value.as_deref()?).await.ok()?;
        if decoded.record() != COMMAND {
            return None;
        }
        decoded.read().ok()
    }

    async fn first_command(
        &self,
        found: &[StoredRecord],
        is_it: impl Fn(&CommandRecord) -> bool,
    ) -> Option<CommandRecord> {
        for stored in found {
            if let Some(command) = self.command(stored).await.filter(&is_it) {
                return Some(command);
            }
        }
        None
    }

    /// Those of the key that are wanted. What a role commanded follows from what was asked, so that its
    /// requests are wanted as well.
    async fn commands(&mut self, wanted: &mut Wanted) -> LogResult<Vec<Hop>> {
        let topic = almanac_schemas::commands::TOPIC;
        let partition = [partition_of(wanted.key.as_bytes(), self.search.partitions())];
        let key = wanted.key.clone().into_bytes();
        let of_key = |stored: &StoredRecord| stored.record.key == key;
        let found = self.search.scan(topic, &partition, wanted.from_ms, None, of_key).await?;
        let mut hops = Vec::new();
        let mut has_begun = wanted.is_whole;
        for stored in &found {
            let Some(command) = self.command(stored).await else { continue };
            has_begun |= wanted.requests.contains(&command.request_id);
            let follows = has_begun && command.caller.starts_with(ROLES);
            if wanted.is_whole || follows || wanted.requests.contains(&command.request_id) {
                hops.push(Hop::command(stored, &command));
                wanted.requests.insert(command.request_id);
            }
        }
        if hops.is_empty() {
            self.notes.push("no command of it is kept any more, or none led to it".to_owned());
        }
        Ok(hops)
    }

    async fn replies(&mut self, wanted: &Wanted) -> LogResult<Vec<Hop>> {
        let partition = [partition_of(wanted.key.as_bytes(), self.search.partitions())];
        let of_key = |stored: &StoredRecord| {
            wanted.requests.iter().any(|request| holds(stored, request.as_bytes()))
        };
        let found = self.search.scan(REPLIES, &partition, wanted.from_ms, None, of_key).await?;
        let mut hops = Vec::new();
        for stored in &found {
            let Some(value) = stored.record.value.as_deref() else { continue };
            let Ok(decoded) = self.state.codec.decode(value).await else { continue };
            if decoded.record() == REPLY
                && let Ok(reply) = decoded.read::<ReplyRecord>()
            {
                hops.push(Hop::reply(stored, &reply));
            }
        }
        Ok(hops)
    }

    /// Events that say that they belong to it, where no command of such an id is kept: of a fetch.
    async fn correlated(&mut self, id: &str) -> LogResult<Vec<Hop>> {
        let past = Timestamp::now().as_millisecond() - PAST_MS;
        let from_ms = time_of(id).map_or(past, |time| time - SLACK_MS);
        let all: Vec<u32> = (0..self.search.partitions()).collect();
        let mut hops = Vec::new();
        let mut commands = BTreeMap::new();
        for topic in event_topics() {
            let accept = |stored: &StoredRecord| {
                let headers = &stored.record.headers;
                let names = ["ce_id", "ce_causationid", "ce_correlationid"];
                let is_named = names.iter().any(|name| headers.get_str(name) == Some(id));
                is_named || stored.record.key == id.as_bytes()
            };
            for stored in self.search.scan(topic, &all, from_ms, None, accept).await? {
                let token = stored.record.headers.get_str(CONSISTENCY_TOKEN);
                if let Some(token) = token.and_then(|text| text.parse::<Token>().ok()) {
                    commands.insert((token.partition, token.offset), token);
                }
                hops.push(Hop::event(&stored));
                self.events.push(stored);
            }
        }
        for token in commands.into_values() {
            if !self.search.is_ours(&token) {
                continue;
            }
            let topic = almanac_schemas::commands::TOPIC;
            let found = self.search.at(topic, token.partition, token.offset).await?;
            if let Some(stored) = found
                && let Some(command) = self.command(&stored).await
            {
                hops.push(Hop::command(&stored, &command));
            }
        }
        if time_of(id).is_none() {
            self.notes.push("the id tells no time: the last hour was looked through".to_owned());
        }
        hops.extend(self.deliveries().await?);
        Ok(hops)
    }

    /// Who was told of the events.
    async fn deliveries(&mut self) -> LogResult<Vec<Hop>> {
        let first = self.events.iter().map(|stored| stored.record.timestamp_ms).min();
        let Some(first) = first else { return Ok(Vec::new()) };
        let ids = self.events.iter().filter_map(|stored| stored.record.headers.get_str("ce_id"));
        let ids: Vec<String> = ids.map(str::to_owned).collect();
        let all: Vec<u32> = (0..self.search.partitions()).collect();
        let is_of = |stored: &StoredRecord| ids.iter().any(|id| holds(stored, id.as_bytes()));
        let from_ms = first - SLACK_MS;
        let found = self.search.scan(DELIVERIES, &all, from_ms, None, is_of).await?;
        // What is told of an event beside itself has an id that begins with the event's.
        let is_theirs = |event: &str| {
            ids.iter().any(|id| {
                event
                    .strip_prefix(id.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        let mut hops = Vec::new();
        for stored in &found {
            let Some(value) = stored.record.value.as_deref() else { continue };
            let Ok(decoded) = self.state.codec.decode(value).await else { continue };
            match decoded.record() {
                DUE => hops.extend(
                    decoded
                        .read()
                        .ok()
                        .filter(|due: &DeliveryDueRecord| is_theirs(&due.event_id))
                        .map(|due| Hop::due(stored, &due)),
                ),
                ATTEMPTED => hops.extend(
                    decoded
                        .read()
                        .ok()
                        .filter(|tried: &DeliveryAttemptedRecord| is_theirs(&tried.event_id))
                        .map(|tried| Hop::attempt(stored, &tried)),
                ),
                _ => {}
            }
        }
        Ok(hops)
    }
}

/// When an id was made, where it says so.
fn time_of(id: &str) -> Option<i64> {
    let id = Uuid::try_parse(id.split('.').next()?).ok()?;
    let (seconds, nanos) = id.get_timestamp().filter(|_| id.get_version_num() == 7)?.to_unix();
    i64::try_from(seconds).ok()?.checked_mul(1_000)?.checked_add(i64::from(nanos / 1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_version_seven_tell_when_they_were_made() {
        let id = "019aca5c-7800-7000-8000-000000000001";
        assert_eq!(time_of(id), Some(0x019a_ca5c_7800));
        assert_eq!(time_of(&format!("{id}.3")), time_of(id), "of an event, its aggregate's");
        assert_eq!(time_of("8f14e45f-ceea-467f-a0e1-000000000001"), None);
        assert_eq!(time_of("fever"), None);
    }
}
