//! An idempotent producer that outlives its librdkafka client.
//!
//! After what librdkafka calls a fatal error, such as a refused producer id or a gap in its numbers, a
//! client sends nothing any more. Another takes its place then. What the first had under way has
//! failed, and a new client has a new producer id: nothing of the old one comes later.
//!
//! The same goes for a client that finds no brokers while others do: see [`super::asker`].

use super::{
    KafkaOptions,
    asker::{self, Asker},
    login::Login,
    told::Told,
};
use almanac_errors::chain;
use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{FutureProducer, Producer},
};
use std::time::{Duration, Instant};

/// The least time between two clients: whatever ended one may still be there.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a client may look for brokers when it is asked whether it finds some.
const LOOK: Duration = Duration::from_secs(2);

pub(super) struct Renewed {
    options: KafkaOptions,
    config: ClientConfig,
    newest: Mutex<Newest>,
}

struct Newest {
    producer: FutureProducer<Told>,
    since: Instant,
    login: Login,
}

impl Newest {
    fn of(options: &KafkaOptions, config: &ClientConfig) -> Result<Self, KafkaError> {
        let (producer, since) = (config.create_with_context(Told)?, Instant::now());
        let mut newest = Self { producer, since, login: Login::default() };
        newest.renew_login(options);
        Ok(newest)
    }

    fn renew_login(&mut self, options: &KafkaOptions) {
        self.login.renew(options, self.producer.client());
    }
}

impl Renewed {
    /// `config` is of `options`.
    pub(super) fn new(options: &KafkaOptions, config: ClientConfig) -> Result<Self, KafkaError> {
        let newest = Mutex::new(Newest::of(options, &config)?);
        Ok(Self { options: options.clone(), config, newest })
    }

    /// The client to send with. Call it within a runtime.
    pub(super) fn get(&self) -> FutureProducer<Told> {
        let mut newest = self.newest.lock();
        let fatal = newest.producer.client().fatal_error();
        if let Some((_, reason)) = fatal.filter(|_| newest.since.elapsed() >= PAUSE) {
            match Newest::of(&self.options, &self.config) {
                Ok(another) => {
                    tracing::warn!(reason, "a kafka producer is replaced");
                    let ended = std::mem::replace(&mut *newest, another);
                    // Dropping waits for the client's threads.
                    tokio::task::spawn_blocking(move || drop(ended));
                }
                Err(error) => {
                    tracing::warn!(error = %chain(&error), reason, "a kafka producer cannot be replaced");
                    newest.since = Instant::now();
                }
            }
        }
        newest.producer.clone()
    }

    /// Whether brokers answer this producer; one that finds none where others do is replaced. Blocks.
    pub(super) fn look_after(&self, asker: &Asker, topic: &str) -> bool {
        self.newest.lock().renew_login(&self.options);
        let finds_brokers = || {
            let producer = self.newest.lock().producer.clone();
            asker::finds_brokers(producer.client(), topic, LOOK)
        };
        if finds_brokers() {
            return true;
        }
        if !asker.is_answered(topic) {
            return false;
        }
        // The outage may have ended just now.
        if finds_brokers() {
            return true;
        }
        match Newest::of(&self.options, &self.config) {
            Ok(newest) => {
                tracing::warn!("a kafka producer lost its brokers for good and is replaced");
                asker::end(std::mem::replace(&mut *self.newest.lock(), newest));
            }
            Err(error) => {
                tracing::warn!(error = %chain(&error), "a kafka producer cannot be replaced")
            }
        }
        finds_brokers()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::KafkaOptions;
    use rdkafka::{mocking::MockCluster, producer::FutureRecord};

    /// A producer of no brokers stands for one that lost them: it cannot find any again.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_producer_without_brokers_is_replaced() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("output", 1, 1).unwrap();
        let options = KafkaOptions {
            call_timeout: Duration::from_secs(3),
            ..KafkaOptions::new(cluster.bootstrap_servers())
        };
        let lost = KafkaOptions { bootstrap_servers: "127.0.0.1:1".into(), ..options.clone() };
        let asker = Asker::new(&options).unwrap();
        let config = |options: &KafkaOptions| options.idempotent_producer(Duration::ZERO);
        let renewed = Renewed::new(&lost, config(&lost)).unwrap();
        let renewed = Renewed { config: config(&options), ..renewed };
        let send = async || {
            let record = FutureRecord::<(), [u8]>::to("output").partition(0).payload(b"fact");
            renewed.get().send_result(record).map_err(drop).unwrap().await.unwrap()
        };
        assert!(send().await.is_err(), "its time runs out");
        assert!(tokio::task::block_in_place(|| renewed.look_after(&asker, "output")));
        send().await.unwrap();
        assert!(tokio::task::block_in_place(|| renewed.look_after(&asker, "output")));
    }
}
