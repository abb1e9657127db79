//! An idempotent producer that outlives its librdkafka client.
//!
//! After what librdkafka calls a fatal error, such as a refused producer id or a gap in its numbers, a
//! client sends nothing any more. Another takes its place then. What the first had under way has
//! failed, and a new client has a new producer id: nothing of the old one comes later.

use super::told::Told;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, Producer},
};
use std::time::{Duration, Instant};

/// The least time between two clients: whatever ended one may still be there.
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Renewed {
    config: ClientConfig,
    newest: Mutex<Newest>,
}

struct Newest {
    producer: FutureProducer<Told>,
    since: Instant,
}

impl Renewed {
    pub(super) fn new(config: ClientConfig) -> Result<Self, KafkaError> {
        let newest = Newest { producer: config.create_with_context(Told)?, since: Instant::now() };
        Ok(Self { config, newest: Mutex::new(newest) })
    }

    /// The client to send with. Call it within a runtime.
    pub(super) fn get(&self) -> FutureProducer<Told> {
        let mut newest = self.newest.lock();
        let fatal = newest.producer.client().fatal_error();
        if let Some((_, reason)) = fatal.filter(|_| newest.since.elapsed() >= PAUSE) {
            match self.config.create_with_context(Told) {
                Ok(producer) => {
                    tracing::warn!(reason, "a kafka producer is replaced");
                    let ended = std::mem::replace(&mut newest.producer, producer);
                    // Dropping waits for the client's threads.
                    tokio::task::spawn_blocking(move || drop(ended));
                }
                Err(error) => tracing::warn!(%error, reason, "a kafka producer cannot be replaced"),
            }
            newest.since = Instant::now();
        }
        newest.producer.clone()
    }
}
