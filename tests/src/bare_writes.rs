//! Bare loops for writes: what moving the same bytes costs with nothing decided.

use almanac_event_log::{
    Append, Durability, EventLog, Headers, Isolation, ReadLimit, Record, Retention, TopicSpec,
};
use almanac_processor::{Owned, ProcessorOptions, Role, RoleError};
use async_trait::async_trait;
use axum::{Router, extract::State, response::IntoResponse, routing::post};
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

type Waiting = (Bytes, oneshot::Sender<()>);

/// A server that reads the body of a recipe as Almanac does, appends it to a file, and answers
/// once the file is synced; whoever comes meanwhile is synced together.
pub async fn serve(port: &str) {
    let (sender, mut waiting) = mpsc::channel::<Waiting>(10_000);
    std::thread::spawn(move || {
        let mut file = tempfile::tempfile().expect("a temporary file");
        let mut batch: Vec<Waiting> = Vec::new();
        while let Some(first) = waiting.blocking_recv() {
            batch.push(first);
            while let Ok(next) = waiting.try_recv() {
                batch.push(next);
            }
            let bytes: Vec<u8> = batch.iter().flat_map(|(body, _)| body.iter().copied()).collect();
            file.write_all(&bytes).expect("the file grows");
            file.sync_data().expect("it is synced");
            for (_, done) in batch.drain(..) {
                let _ = done.send(());
            }
        }
    });
    let router = Router::new().route("/v1/recipes", post(take)).with_state(sender);
    let address = format!("127.0.0.1:{port}");
    let listener = tokio::net::TcpListener::bind(address).await.expect("a port");
    let listener = axum::serve::ListenerExt::tap_io(listener, |stream| {
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await.expect("it serves");
}

async fn take(State(sender): State<mpsc::Sender<Waiting>>, body: Bytes) -> impl IntoResponse {
    let read = almanac_schemas::json::recipes::read(&body);
    assert!(matches!(read, Ok(Ok(_))), "the body is a recipe");
    let (done, synced) = oneshot::channel();
    sender.send((body.clone(), done)).await.expect("the writer lives");
    synced.await.expect("it was synced");
    (axum::http::StatusCode::CREATED, [("content-type", "application/json")], body)
}

/// What the hops of a command carry.
#[derive(Clone)]
pub struct Sizes {
    pub command: usize,
    pub event: usize,
    pub reply: usize,
}

/// Writes an event and a reply for each command, as many as wait at a time.
struct Relay {
    sizes: Sizes,
    is_transactional: bool,
    events: Arc<str>,
    replies: Arc<str>,
}

fn record(key: Bytes, size: usize) -> Record {
    let value = Some(Bytes::from(vec![b'x'; size]));
    Record { key, value, headers: Headers::default(), timestamp_ms: 0 }
}

#[async_trait]
impl Role for Relay {
    async fn own(&self, owned: Owned) -> Result<(), RoleError> {
        let mut input = owned.take_over().await?;
        let mut reader = input.reader(&*owned.log).await?;
        let limit = ReadLimit { records: 1_000, bytes: 2 << 20 };
        loop {
            let batch = tokio::select! {
                () = owned.cancelled.cancelled() => return Ok(()),
                batch = reader.next(limit, Duration::from_secs(1)) => batch?,
            };
            let Some(last) = batch.records.last() else { continue };
            let next_offset = last.offset + 1;
            let appends = batch.records.iter().flat_map(|command| {
                let (key, partition) = (command.record.key.clone(), command.partition);
                let of = |topic: &Arc<str>, size| Append {
                    topic: topic.clone(),
                    partition,
                    record: record(key.clone(), size),
                };
                [of(&self.events, self.sizes.event), of(&self.replies, self.sizes.reply)]
            });
            let appends: Vec<Append> = appends.collect();
            if self.is_transactional {
                input.commit(appends, next_offset).await?;
            } else {
                owned.log.append(appends).await?;
            }
        }
    }
}

/// What callers of the bare loop saw.
pub struct Hops {
    pub rate: f64,
    /// Of each command.
    pub milliseconds: Vec<f64>,
}

/// Produce a command, relay it, consume its reply: so many callers, each one command at a time.
pub async fn hops(
    log: Arc<dyn EventLog>,
    prefix: &str,
    partitions: u32,
    callers: u64,
    time: Duration,
    sizes: Sizes,
    is_transactional: bool,
) -> Hops {
    let topic = |name: &str| -> Arc<str> { format!("{prefix}.{name}").into() };
    let (commands, events, replies) = (topic("commands"), topic("events"), topic("replies"));
    let spec = |name: &Arc<str>| TopicSpec {
        name: name.to_string(),
        partitions,
        retention: Retention::Forever,
        durability: Durability::Synced,
    };
    log.ensure_topics(&[spec(&commands), spec(&events), spec(&replies)]).await.unwrap();
    let stop = CancellationToken::new();
    let relay = Relay { sizes: sizes.clone(), is_transactional, events, replies: replies.clone() };
    let options = ProcessorOptions::new(&format!("{prefix}.relay"), &commands, "relay");
    let running =
        tokio::spawn(almanac_processor::run(log.clone(), options, Arc::new(relay), stop.clone()));

    let waiting: Arc<Mutex<HashMap<Bytes, oneshot::Sender<()>>>> = Arc::default();
    let mut from = Vec::new();
    for partition in 0..partitions {
        from.push((partition, log.end(&replies, partition, Isolation::Committed).await.unwrap()));
    }
    let mut reader = log.read(&replies, &from).await.unwrap();
    let (answering, ended) = (waiting.clone(), stop.clone());
    let consuming = tokio::spawn(async move {
        let limit = ReadLimit { records: 2_000, bytes: 4 << 20 };
        while !ended.is_cancelled() {
            let batch = reader.next(limit, Duration::from_millis(200)).await.unwrap();
            let mut waiting = answering.lock();
            for reply in batch.records {
                if let Some(waiting) = waiting.remove(&reply.record.key) {
                    let _ = waiting.send(());
                }
            }
        }
    });

    let number = Arc::new(AtomicU64::new(0));
    let call = move |log: Arc<dyn EventLog>| {
        let (waiting, commands) = (waiting.clone(), commands.clone());
        let (number, size) = (number.clone(), sizes.command);
        async move {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let key = Bytes::from(format!("{number:036}"));
            let (sender, answered) = oneshot::channel();
            waiting.lock().insert(key.clone(), sender);
            let partition = (number % u64::from(partitions)) as u32;
            let append = Append { topic: commands, partition, record: record(key, size) };
            log.append(vec![append]).await.unwrap();
            answered.await.unwrap();
        }
    };
    // The relay is assigned its partitions before the clock starts, and everything is warm.
    for _ in 0..partitions * 50 {
        call(log.clone()).await;
    }
    let started = Instant::now();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (log, call) = (log.clone(), call.clone());
            tokio::spawn(async move {
                let mut took = Vec::new();
                while started.elapsed() < time {
                    let begun = Instant::now();
                    call(log.clone()).await;
                    took.push(begun.elapsed().as_secs_f64() * 1_000.0);
                }
                took
            })
        })
        .collect();
    let mut milliseconds = Vec::new();
    for task in tasks {
        milliseconds.extend(task.await.unwrap());
    }
    let rate = milliseconds.len() as f64 / started.elapsed().as_secs_f64();
    stop.cancel();
    consuming.await.unwrap();
    running.await.unwrap().unwrap();
    Hops { rate, milliseconds }
}
