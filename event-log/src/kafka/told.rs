//! What librdkafka says of its connections, in our log: a wrong password, a certificate that does not
//! fit, a broker that refuses. The calls that need the connection only say that their time ran out.
//!
//! A process has dozens of clients, and each says the same: it is told once, and again while it lasts.
//! Clients that are polled only when something is asked of them are not listened to: they would tell of
//! an outage that is long over.

use almanac_errors::chain;
use parking_lot::Mutex;
use rdkafka::{
    ClientContext,
    config::RDKafkaLogLevel,
    consumer::ConsumerContext,
    error::{KafkaError, RDKafkaErrorCode},
};
use std::time::{Duration, Instant};

const AGAIN: Duration = Duration::from_secs(60);
/// Different ones that are remembered at the same time.
const REMEMBERED: usize = 64;

static TOLD: Mutex<Vec<(String, Instant)>> = Mutex::new(Vec::new());

/// For clients that listen to nothing else.
pub(super) struct Told;

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self::error(&error, reason);
    }
}

impl ConsumerContext for Told {}

pub(super) fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    if level as i32 > RDKafkaLogLevel::Error as i32 {
        tracing::debug!(facility, "kafka client: {message}");
        return;
    }
    let message = kind(message);
    if is_due(message, Instant::now()) {
        tracing::warn!("kafka client: {message}");
    }
}

/// Broker trouble comes by [`log`] as well, and says more there.
pub(super) fn error(error: &KafkaError, reason: &str) {
    tracing::debug!(error = %chain(&error), "kafka client: {reason}");
}

/// An error that somebody goes on after. Broker trouble, again, comes by [`log`].
pub(super) fn going_on(what: &str, error: &KafkaError) {
    let code = error.rdkafka_error_code();
    let away = [RDKafkaErrorCode::AllBrokersDown, RDKafkaErrorCode::BrokerTransportFailure];
    if code.is_some_and(|code| away.contains(&code)) {
        return;
    }
    let message = format!("{what}: {error}");
    if is_due(&message, Instant::now()) {
        tracing::warn!("kafka client goes on after an error: {message}");
    }
}

/// A warning that many readers have reason for at the same time.
pub(super) fn once(message: &'static str) {
    if is_first(message) {
        tracing::warn!("{message}");
    }
}

/// Whether this was not told within the last minute.
pub(super) fn is_first(message: &str) -> bool {
    is_due(message, Instant::now())
}

/// The same for all clients and every attempt: without the thread, and without how long it took and
/// how often it was so.
fn kind(message: &str) -> &str {
    let message = message
        .strip_prefix("[thrd:")
        .map_or(message, |rest| rest.split_once("]: ").map_or(message, |(_, told)| told));
    message.split_once(" (after ").map_or(message, |(told, _)| told)
}

fn is_due(message: &str, now: Instant) -> bool {
    let mut told = TOLD.lock();
    told.retain(|(_, when)| now.duration_since(*when) < AGAIN);
    if told.iter().any(|(known, _)| known == message) {
        return false;
    }
    if told.len() == REMEMBERED {
        told.remove(0);
    }
    told.push((message.to_owned(), now));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_in_a_while() {
        let said = "[thrd:sasl_ssl://127.0.0.1:9092/bootstrap]: sasl_ssl://127.0.0.1:9092/bootstrap: \
                    SASL authentication error: refused (after 3ms in state AUTH_REQ, 2 identical \
                    error(s) suppressed)";
        let kind = kind(said);
        assert_eq!(kind, "sasl_ssl://127.0.0.1:9092/bootstrap: SASL authentication error: refused");
        let now = Instant::now();
        assert!(is_due(kind, now));
        assert!(!is_due(kind, now + Duration::from_secs(59)));
        assert!(is_due("something else", now));
        assert!(is_due(kind, now + Duration::from_secs(60)));
        for number in 0..1_000 {
            is_due(&number.to_string(), now);
        }
        assert!(TOLD.lock().len() <= REMEMBERED);
    }
}
