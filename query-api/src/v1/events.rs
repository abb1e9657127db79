//! `/v1/events/{topic}`: domain events as CloudEvents JSON, in pages or as server-sent events.

use super::private;
use crate::{answers::Room, state::ApiState, streams::Place};
use almanac_edge::{Problem, ProblemType, Scope, conditional, query::Parameters};
use almanac_event_log::{
    Isolation, LogError, LogReader, Offset, ReadLimit, Retry, StoredRecord, TopicId,
};
use almanac_schemas::{
    CodecError,
    files::event_topics,
    json::{AnyJson, cloud_event},
};
use axum::{
    body::Body,
    extract::{Path, RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use serde_json::Value;
use std::{sync::Arc, time::Duration};

/// Records that one page looks at, matching or not.
const MAX_SCANNED: usize = 10_000;
/// A page takes no longer than this, and waits no longer than that for the next record.
const PAGE_TIME: Duration = Duration::from_secs(3);
const PAGE_WAIT: Duration = Duration::from_millis(500);
/// A stream says something at least so often, so that dead connections are noticed.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) fn log_problem(error: &LogError) -> Problem {
    match error {
        LogError::UnknownTopic { .. } => {
            Problem::new(ProblemType::NotFound, "there is no such topic of events")
        }
        LogError::OffsetOutOfRange { .. } => {
            Problem::new(ProblemType::BadCursor, "the position is outside the topic")
        }
        error if error.retry() == Retry::Later => Problem::unavailable("the event log", error),
        error => Problem::internal(error),
    }
}

/// What of a topic is wanted.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) key: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) since: Option<Timestamp>,
}

impl Wanted {
    fn accepts(&self, item: &Value, record: &StoredRecord) -> bool {
        self.key.as_ref().is_none_or(|key| record.record.key == key.as_bytes())
            && self.event_type.as_ref().is_none_or(|wanted| item["type"] == *wanted)
            && self.since.is_none_or(|since| record.record.timestamp_ms >= since.as_millisecond())
    }
}

/// Next offsets of all partitions of a topic.
#[derive(Clone)]
pub(super) struct Positions {
    topic: TopicId,
    next: Vec<Offset>,
}

impl Positions {
    pub(super) fn encode(&self) -> String {
        let offsets: Vec<String> = self.next.iter().map(Offset::to_string).collect();
        format!("{}_{}", self.topic.0.simple(), offsets.join("."))
    }

    fn decode(text: &str, topic: TopicId, partitions: usize) -> Option<Self> {
        let (id, offsets) = text.split_once('_')?;
        if id != topic.0.simple().to_string() {
            return None;
        }
        let next: Vec<Offset> =
            offsets.split('.').map(|offset| offset.parse().ok()).collect::<Option<_>>()?;
        (next.len() == partitions).then_some(Self { topic, next })
    }
}

pub(crate) async fn get(
    State(state): State<Arc<ApiState>>,
    Path(topic): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    state.identity.require(&headers, Scope::EventsRead)?;
    let known = ["after", "key", "type", "since", "limit"];
    let parameters = Parameters::parse(query.as_deref(), &known)?;
    let topic = served(&topic).ok_or_else(|| {
        let topics: Vec<&str> = event_topics().into_iter().collect();
        let detail = format!("only topics of domain events are served: {}", topics.join(", "));
        Problem::new(ProblemType::NotFound, detail)
    })?;
    let topic = format!("{}{topic}", state.options.prefix);
    let limit = parameters.limit()?;
    let wanted = Wanted {
        key: parameters.one("key")?.map(str::to_owned),
        event_type: parameters.one("type")?.map(str::to_owned),
        since: parameters.time("since")?,
    };
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = last_event_id.or(parameters.one("after")?);
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if accepts.is_some_and(|accept| accept.contains("text/event-stream")) {
        let place = state.streams.open(state.identity.party(&headers));
        let place = place.ok_or_else(|| Problem::busy("too many streams of events are open"))?;
        let positions = start(&state, &topic, after).await?;
        return stream(state, topic, positions, wanted, place).await;
    }
    let _turn = state.turn(&headers).await?;
    let positions = start(&state, &topic, after).await?;
    let (items, room, positions, _) = page(&state, &topic, positions, &wanted, limit).await?;
    let next = positions.encode();
    let body = format!("{{\"items\":[{}],\"next_cursor\":\"{next}\"}}", items.join(","));
    drop(items);
    Ok(of_the_caller(conditional::json(&headers, room.hold(body)?)))
}

/// Of topics with other names nothing is told, whoever writes to them: without a prefix, those of
/// other applications lie beside ours.
fn served(topic: &str) -> Option<&'static str> {
    event_topics().into_iter().find(|known| *known == topic)
}

/// Who may read events was decided for this caller, and no cache on the way decides it for another.
fn of_the_caller(response: Response) -> Response {
    private::of_the_caller(response, "Authorization, Accept, Accept-Encoding")
}

pub(super) async fn start(
    state: &ApiState,
    topic: &str,
    after: Option<&str>,
) -> Result<Positions, Problem> {
    let described = state.log.topic(topic).await.map_err(|error| log_problem(&error))?;
    let mut positions = Positions { topic: described.id, next: Vec::new() };
    match after {
        None | Some("beginning") => {
            for partition in 0..described.partitions {
                let start = state.log.start(topic, partition).await;
                positions.next.push(start.map_err(|error| log_problem(&error))?);
            }
        }
        Some("latest") => {
            for partition in 0..described.partitions {
                let end = state.log.end(topic, partition, Isolation::Committed).await;
                positions.next.push(end.map_err(|error| log_problem(&error))?);
            }
        }
        Some(text) => {
            let partitions = described.partitions as usize;
            positions = Positions::decode(text, described.id, partitions).ok_or_else(|| {
                Problem::new(ProblemType::BadCursor, "after is no position of this topic")
            })?;
        }
    }
    Ok(positions)
}

async fn open(
    state: &ApiState,
    topic: &str,
    positions: &Positions,
) -> Result<Box<dyn LogReader>, Problem> {
    let from: Vec<(u32, Offset)> =
        positions.next.iter().enumerate().map(|(place, next)| (place as u32, *next)).collect();
    state.log.browse(topic, &from).await.map_err(|error| log_problem(&error))
}

/// What is wanted of a topic from positions on; where that ended, and whether the topic did.
pub(super) async fn page(
    state: &ApiState,
    topic: &str,
    mut positions: Positions,
    wanted: &Wanted,
    limit: usize,
) -> Result<(Vec<String>, Room, Positions, bool), Problem> {
    let mut reader = open(state, topic, &positions).await?;
    let mut items = Vec::new();
    let (mut scanned, mut room) = (0, state.answers.page());
    // A page ends where the topic ended when it was asked for: a busy topic never does.
    let mut ends = Vec::with_capacity(positions.next.len());
    for partition in 0..positions.next.len() {
        let end = state.log.end(topic, partition as u32, Isolation::Committed).await;
        ends.push(end.map_err(|error| log_problem(&error))?);
    }
    let mut ended: Vec<bool> =
        positions.next.iter().zip(&ends).map(|(next, end)| next >= end).collect();
    let deadline = tokio::time::Instant::now() + PAGE_TIME;
    let mut pace = Pace::default();
    'page: while items.len() < limit
        && room.left() > 0
        && scanned < MAX_SCANNED
        && ended.contains(&false)
        && tokio::time::Instant::now() < deadline
    {
        let bound = ReadLimit { records: limit - items.len(), bytes: room.left() };
        let batch = reader.next(bound, PAGE_WAIT).await;
        let batch = batch.map_err(|error| log_problem(&error))?;
        if batch.records.is_empty() && batch.at_end.is_empty() {
            break;
        }
        for place in batch.at_end {
            ended[place] = true;
        }
        for record in batch.records {
            scanned += 1;
            pace.after(record.record.size()).await;
            let item = item(state, &record).await;
            let item = item.map_err(|e| Problem::unavailable("the schema registry", &e))?;
            let item = item.filter(|item| wanted.accepts(item, &record));
            let item = item.map(|item| item.to_string());
            // As JSON they are longer than they were read.
            if !room.add(item.as_ref().map_or(0, |item| item.len() + 1)) {
                break 'page;
            }
            let place = record.partition as usize;
            positions.next[place] = record.offset + 1;
            ended[place] |= positions.next[place] >= ends[place];
            items.extend(item);
        }
    }
    let is_over = !ended.contains(&false);
    Ok((items, room, positions, is_over))
}

/// Gives others their turn now and then among many records.
#[derive(Default)]
pub(super) struct Pace {
    since: usize,
}

impl Pace {
    /// After a record of this size.
    pub(super) async fn after(&mut self, bytes: usize) {
        const EACH: usize = 512;
        const TURN: usize = 64 << 10;
        self.since += bytes + EACH;
        if self.since >= TURN {
            self.since = 0;
            tokio::task::yield_now().await;
        }
    }
}

/// An event as CloudEvents JSON; `None` for what cannot be read, which consumers of the topic
/// meet as well. The error is an outage of the registry: nothing is passed over for that.
async fn item(state: &ApiState, record: &StoredRecord) -> Result<Option<Value>, CodecError> {
    let headers = &record.record.headers;
    let Some(value) = record.record.value.as_deref() else { return Ok(None) };
    let data = match state.codec.decode(value).await.and_then(|decoded| decoded.read()) {
        Ok(AnyJson(data)) => data,
        Err(error) if error.is_outage() => return Err(error),
        Err(_) => return Ok(None),
    };
    let mut item = cloud_event(|name| headers.get_str(name).map(str::to_owned), data);
    item["partition"] = record.partition.into();
    item["offset"] = record.offset.into();
    Ok(Some(item))
}

/// Server-sent events; their ids are positions, so that a client that comes back with
/// `Last-Event-ID` goes on where it was. It has to now and then: who reads nothing of a quiet topic
/// cannot be told from who does, and does not come back.
async fn stream(
    state: Arc<ApiState>,
    topic: String,
    positions: Positions,
    wanted: Wanted,
    place: Place,
) -> Result<Response, Problem> {
    let reader = open(&state, &topic, &positions).await?;
    let until = tokio::time::Instant::now() + state.options.event_stream_time;
    let events = futures::stream::try_unfold(
        (state, reader, positions, wanted, place),
        move |(state, mut reader, mut positions, wanted, place)| async move {
            let bound = ReadLimit { records: 100, bytes: 1 << 20 };
            let batch = tokio::select! {
                batch = reader.next(bound, HEARTBEAT) => batch.map_err(std::io::Error::other)?,
                () = tokio::time::sleep_until(until) => return Ok(None),
                () = place.is_taken_back() => return Ok(None),
            };
            let (mut text, mut pace) = (String::new(), Pace::default());
            for record in &batch.records {
                pace.after(record.record.size()).await;
                positions.next[record.partition as usize] = record.offset + 1;
                if let Some(item) = item(&state, record).await.map_err(std::io::Error::other)?
                    && wanted.accepts(&item, record)
                {
                    let kind = item["type"].as_str().unwrap_or("message");
                    let id = positions.encode();
                    text.push_str(&format!("id: {id}\nevent: {kind}\ndata: {item}\n\n"));
                }
            }
            if text.is_empty() {
                text.push_str(": nothing new\n\n");
            }
            let next = (state, reader, positions, wanted, place);
            Ok::<_, std::io::Error>(Some((Bytes::from(text), next)))
        },
    );
    let mut response = Response::new(Body::from_stream(events));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(of_the_caller(response))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_topics_of_the_catalogue_are_served() {
        for ours in ["plans.events", "recipes.events", "forecasts.events"] {
            assert_eq!(served(ours), Some(ours));
        }
        for other in ["payroll.events", ".events", "commands", "ingest.state", "x.plans.events", ""]
        {
            assert_eq!(served(other), None, "{other}");
        }
    }

    #[test]
    fn no_cache_keeps_events_for_others() {
        let page = of_the_caller(conditional::json(&HeaderMap::new(), "{}"));
        assert_eq!(page.headers()[header::CACHE_CONTROL], "private, no-store");
        let vary = page.headers()[header::VARY].to_str().unwrap().to_owned();
        assert!(vary.starts_with("Authorization, Accept,"), "{vary}");
    }
}
