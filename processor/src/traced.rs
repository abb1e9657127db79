//! Records in traces: their headers carry the span that they were written in, and who handles them goes on
//! from there.

use almanac_event_log::{
    Append, EventLog, Headers, HeadersBuilder, LogResult, Offset, StoredRecord,
};
use almanac_traces::{
    Hop, KeyValue, Parent, SpanKind,
    attributes::{self as name, number, of, text},
};

/// Of a key: ours are shorter, and those of others are not worth more.
const LONGEST_KEY: usize = 128;

/// What wrote a record, if that was traced.
pub fn parent_of(headers: &Headers) -> Option<Parent> {
    Parent::read(|name| headers.get_str(name))
}

/// Adds what carries a trace on.
pub fn put(parent: Option<&Parent>, headers: &mut HeadersBuilder) {
    if let Some(parent) = parent {
        parent.each(|name, value| {
            headers.push(name, value.as_bytes());
        });
    }
}

/// Headers that say nothing else.
pub fn headers(parent: Option<&Parent>) -> Headers {
    let Some(parent) = parent else { return Headers::default() };
    let mut headers = HeadersBuilder::with_capacity(80);
    put(Some(parent), &mut headers);
    headers.build()
}

/// Appends one record, which has no headers yet, because of a parent.
pub async fn append(
    log: &dyn EventLog,
    mut append: Append,
    parent: Option<Parent>,
) -> LogResult<Option<Offset>> {
    let Append { topic, partition, record } = &mut append;
    let hop = almanac_traces::following(
        parent,
        SpanKind::Producer,
        || format!("send {topic}"),
        || attributes("send", topic, *partition, &record.key),
    );
    record.headers = headers(hop.parent());
    let appended = log.append(vec![append]).await;
    let offset = appended.map(|offsets| offsets.first().copied().flatten());
    if let Some(span) = hop.span() {
        match &offset {
            Ok(Some(offset)) => span.set(number(name::MESSAGING_KAFKA_OFFSET, *offset)),
            Ok(None) => {}
            Err(_) => span.fail("append"),
        }
    }
    offset
}

/// A record that is handled, or was handed on to be.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    pub topic: &'a str,
    pub partition: u32,
    pub offset: Offset,
    pub key: &'a [u8],
}

/// The handling of one record. For replays nobody calls this: what happened long ago has its spans.
pub fn processing(stored: &StoredRecord) -> Hop {
    let StoredRecord { topic, partition, offset, record } = stored;
    let at = At { topic, partition: *partition, offset: *offset, key: &record.key };
    let hop = processing_at(parent_of(&record.headers), at);
    if let (Some(span), Some(value)) = (hop.span(), &record.value) {
        span.set(number(name::MESSAGING_MESSAGE_BODY_SIZE, value.len()));
    }
    hop
}

/// The same of a record that is not at hand any more.
pub fn processing_at(parent: Option<Parent>, at: At<'_>) -> Hop {
    almanac_traces::following(
        parent,
        SpanKind::Consumer,
        || format!("process {}", at.topic),
        || {
            let mut all = attributes("process", at.topic, at.partition, at.key);
            all.push(number(name::MESSAGING_KAFKA_OFFSET, at.offset));
            all
        },
    )
}

fn attributes(operation: &'static str, topic: &str, partition: u32, key: &[u8]) -> Vec<KeyValue> {
    let key = &key[..key.len().min(LONGEST_KEY)];

    vec![
        of(name::MESSAGING_OPERATION_NAME, operation),
        of(name::MESSAGING_OPERATION_TYPE, operation),
        of(name::MESSAGING_SYSTEM, almanac_traces::messaging_system()),
        text(name::MESSAGING_DESTINATION_NAME, topic),
        of(name::MESSAGING_DESTINATION_PARTITION_ID, partition.to_string()),
        text(name::MESSAGING_KAFKA_MESSAGE_KEY, &String::from_utf8_lossy(key)),
    ]
}

/// Ends the handling of a batch of so many records, some of which are traced: each names the first.
pub fn end(hops: Vec<Hop>, records: usize, fault: Option<&'static str>) {
    if let Some(fault) = fault {
        failed(&hops, fault);
    }
    if records < 2 {
        return;
    }
    let leader = hops.first().and_then(Hop::parent);
    for (place, span) in hops.iter().filter_map(Hop::span).enumerate() {
        span.set(number(name::MESSAGING_BATCH_MESSAGE_COUNT, records));
        if let Some(leader) = leader.filter(|_| place > 0) {
            span.link(leader);
        }
    }
}

/// What all of these were done for did not come about.
pub fn failed<'a>(hops: impl IntoIterator<Item = &'a Hop>, why: &'static str) {
    hops.into_iter().filter_map(Hop::span).for_each(|span| span.fail(why));
}
