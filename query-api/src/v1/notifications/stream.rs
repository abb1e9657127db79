//! `/v1/notifications/stream`: the notifications that a caller may see, as they come. They follow from
//! the events by the rules of subscriptions, and have the same ids.

use super::position::{Position, Source};
use crate::{
    state::ApiState,
    streams::Place,
    v1::{
        events::{HEARTBEAT, Pace, log_problem},
        private::{may_read, of_the_caller},
    },
};
use almanac_edge::{
    Caller, Party, Problem, ProblemType,
    query::{Parameters, bad},
};
use almanac_event_log::{
    Isolation, LogReader, LogResult, Offset, ReadLimit, StoredRecord, TopicId,
};
use almanac_schemas::{
    CodecError,
    files::SchemaFile,
    json::AnyJson,
    notifications::{Attributes, DERIVED, SOURCES, Wanted, told, told_types},
};
use axum::{
    body::Body,
    extract::{RawQuery, State},
    response::Response,
};
use bytes::Bytes;
use futures::future::select_all;
use http::{HeaderMap, HeaderValue, header};
use std::sync::Arc;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

const LIMIT: ReadLimit = ReadLimit { records: 100, bytes: 1 << 20 };
/// How long a client pauses before it comes back.
const RETRY_MS: u32 = 1_000;

pub(crate) async fn get(
    State(state): State<Arc<ApiState>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["type", "subject", "after", "ticket"])?;
    let types = types(&parameters)?;
    let subject = parameters.one("subject")?.map(str::to_owned);
    let last_event_id = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let after = last_event_id.or(parameters.one("after")?);
    let (caller, party) = match parameters.one("ticket")? {
        Some(ticket) => {
            let caller = state.tickets.redeem(ticket)?;
            let party = Party::Subject(caller.subject.clone());
            (caller, party)
        }
        None => (state.identity.caller(&headers)?, state.identity.party(&headers)),
    };
    let mut places = Vec::new();
    let topics = topics_of(&types);
    for _ in &topics {
        let place = state.streams.open(party.clone());
        places.push(place.ok_or_else(|| Problem::busy("too many streams of events are open"))?);
    }
    let position = start(&state, &topics, after).await?;
    let mut reading = JoinSet::new();
    let (sender, batches) = mpsc::channel(1);
    for (place, source) in position.sources.iter().enumerate() {
        let topic = format!("{}{}", state.options.prefix, source.name);
        let from: Vec<(u32, Offset)> = (0..).zip(source.next.iter().copied()).collect();
        let reader = state.log.browse(&topic, &from).await.map_err(|e| log_problem(&e))?;
        reading.spawn(read(place, reader, sender.clone()));
    }
    let until = Instant::now() + state.options.event_stream_time;
    let stream = Stream {
        state,
        caller,
        types,
        subject,
        position,
        batches,
        places,
        until,
        _reading: reading,
    };
    // From here on a client that loses its connection knows where to go on.
    let first = format!("retry: {RETRY_MS}\nid: {}\n\n", stream.position.encode());
    let events = futures::stream::try_unfold((stream, Some(first)), |(mut stream, first)| async {
        let text = match first {
            Some(first) => Some(first),
            None => stream.next().await.map_err(std::io::Error::other)?,
        };
        Ok::<_, std::io::Error>(text.map(|text| (Bytes::from(text), (stream, None))))
    });
    let mut response = Response::new(Body::from_stream(events));
    let kind = HeaderValue::from_static("text/event-stream");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(of_the_caller(response, "Authorization"))
}

/// The types asked for, or all that there are.
fn types(parameters: &Parameters) -> Result<Vec<String>, Problem> {
    let known = told_types();
    let asked: Vec<String> = parameters.all("type").map(str::to_owned).collect();
    if let Some(unknown) = asked.iter().find(|one| !known.contains(*one)) {
        let known: Vec<&str> = known.iter().map(String::as_str).collect();
        let shown: String = unknown.chars().take(64).collect();
        let detail = format!("nobody is told of {shown:?}; there are {}", known.join(", "));
        return Err(bad("type", &detail));
    }
    Ok(if asked.is_empty() { known.into_iter().collect() } else { asked })
}

/// The topics of events that can lead to notifications of these types.
fn topics_of(types: &[String]) -> Vec<&'static str> {
    let has = |event_type: &str| types.iter().any(|one| one == event_type);
    let leads_to = |topic: &&'static str| {
        let mut files = SchemaFile::all_newest().filter(|file| file.topic == *topic);
        let derives = *topic == almanac_schemas::analyses::TOPIC && DERIVED.into_iter().any(has);
        derives || files.any(|file| has(&file.event_type()))
    };
    SOURCES.into_iter().filter(leads_to).collect()
}

/// Where a stream begins: where a client was, or now.
async fn start(
    state: &ApiState,
    topics: &[&'static str],
    after: Option<&str>,
) -> Result<Position, Problem> {
    let mut position = Position { sources: Vec::new(), within: None };
    for name in topics {
        let topic = format!("{}{name}", state.options.prefix);
        let described = state.log.topic(&topic).await.map_err(|error| log_problem(&error))?;
        let id: TopicId = described.id;
        let mut next = Vec::new();
        for partition in 0..described.partitions {
            let end = state.log.end(&topic, partition, Isolation::Committed).await;
            next.push(end.map_err(|error| log_problem(&error))?);
        }
        position.sources.push(Source { name, id, next });
    }
    match after {
        None | Some("latest") => Ok(position),
        Some(text) if position.resume(text) => Ok(position),
        Some(_) => {
            let detail =
                "it is no position of a stream of these types; without one, a stream begins now";
            Err(Problem::new(ProblemType::BadCursor, detail))
        }
    }
}

/// What was read of a topic, with its place among those of the stream.
type Batch = (usize, LogResult<Vec<StoredRecord>>);

/// Of its own: what a reader has begun to hand out must not be dropped because another was faster.
async fn read(place: usize, mut reader: Box<dyn LogReader>, sender: mpsc::Sender<Batch>) {
    loop {
        let batch = reader.next(LIMIT, HEARTBEAT).await.map(|batch| batch.records);
        let ends = batch.is_err();
        if batch.as_ref().is_ok_and(Vec::is_empty) {
            continue;
        }
        if sender.send((place, batch)).await.is_err() || ends {
            return;
        }
    }
}

struct Stream {
    state: Arc<ApiState>,
    caller: Caller,
    types: Vec<String>,
    subject: Option<String>,
    position: Position,
    batches: mpsc::Receiver<Batch>,
    places: Vec<Place>,
    until: Instant,
    /// Dropped, they end.
    _reading: JoinSet<()>,
}

/// Why a stream breaks off: its client comes back.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("the event log cannot be read")]
    Log(#[from] almanac_event_log::LogError),
    #[error("an event cannot be read")]
    Registry(#[from] CodecError),
}

impl Stream {
    /// What is sent next; `None` at its end.
    async fn next(&mut self) -> Result<Option<String>, Broken> {
        let taken_back = select_all(self.places.iter().map(|one| Box::pin(one.is_taken_back())));
        let batch = tokio::select! {
            batch = self.batches.recv() => batch,
            () = tokio::time::sleep(HEARTBEAT) => {
                // With it, a client that nothing is told to does not read on from far behind.
                return Ok(Some(format!(": nothing new\nid: {}\n\n", self.position.encode())));
            }
            () = tokio::time::sleep_until(self.until) => return Ok(None),
            _ = taken_back => return Ok(None),
        };
        let Some((place, records)) = batch else { return Ok(None) };
        let (mut text, mut pace) = (String::new(), Pace::default());
        for stored in &records? {
            pace.after(stored.record.size()).await;
            self.tell(place, stored, &mut text).await?;
        }
        if text.is_empty() {
            text = format!("id: {}\n\n", self.position.encode());
        }
        Ok(Some(text))
    }

    /// Adds what is told of an event, and moves behind it.
    async fn tell(
        &mut self,
        place: usize,
        stored: &StoredRecord,
        text: &mut String,
    ) -> Result<(), Broken> {
        let (partition, offset) = (stored.partition, stored.offset);
        let all = self.told(place, stored).await?;
        let (count, before) = (all.len(), self.position.told_of(place, partition, offset));
        for (number, (kind, body)) in (1..).zip(all).skip(before) {
            let Some(body) = body else { continue };
            self.position.pass(place, partition, offset, (number < count).then_some(number));
            let id = self.position.encode();
            text.push_str(&format!("id: {id}\nevent: {kind}\ndata: {body}\n\n"));
        }
        self.position.pass(place, partition, offset, None);
        Ok(())
    }

    /// All that is told of an event by type, with the bodies of what this caller wants and may see.
    async fn told(
        &self,
        place: usize,
        stored: &StoredRecord,
    ) -> Result<Vec<(String, Option<String>)>, Broken> {
        let wanted = Wanted { types: &self.types, subject: self.subject.as_deref() };
        let headers = &stored.record.headers;
        let topic = self.position.sources.get(place).map_or("", |source| source.name);
        let event =
            Attributes::read(topic, |name| headers.get_str(name), stored.record.timestamp_ms);
        let (Some(event), Some(value)) = (event, stored.record.value.as_deref()) else {
            return Ok(Vec::new());
        };
        if !wanted.may_select(&event) {
            return Ok(Vec::new());
        }
        let decoded = self.state.codec.decode(value).await.and_then(|decoded| decoded.read());
        let data = match decoded {
            Ok(AnyJson(data)) => data,
            Err(error) if error.is_outage() => return Err(error.into()),
            // Consumers of the topic meet it as well.
            Err(_) => return Ok(Vec::new()),
        };
        let header = |name: &str| headers.get_str(name).map(str::to_owned);
        let may_see = |owner: &String| may_read(&self.caller, owner);
        let all = told(&event, header, data).into_iter().map(|told| {
            let is_told = wanted.selects(&told) && told.owner.as_ref().is_none_or(may_see);
            let body = is_told.then(|| told.text());
            (told.event_type, body)
        });
        Ok(all.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_topics_are_read_that_lead_to_what_is_wanted() {
        let of = |types: &[&str]| {
            topics_of(&types.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(of(&["recipe.revised"]), ["recipes.events"]);
        assert_eq!(of(&["window.lost"]), ["analyses.events"]);
        assert_eq!(of(&["task.started", "plan.listed"]), ["plans.events", "schedules.events"]);
        let all: Vec<String> = told_types().into_iter().collect();
        assert_eq!(topics_of(&all), SOURCES);
    }
}
