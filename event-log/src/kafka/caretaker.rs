//! Looks after producers, which nobody hears from while nothing is written: those that lost their
//! brokers for good are replaced before the next write, and it is known whether writes can be
//! acknowledged.

use super::Inner;
use crate::{LogError, LogResult};
use std::{
    sync::{Arc, Weak},
    time::Instant,
};

/// Ends once the log is dropped.
pub(super) fn start(log: &Arc<Inner>) -> LogResult<()> {
    let (pause, log) = (log.options.silence, Arc::downgrade(log));
    std::thread::Builder::new()
        .name("kafka-caretaker".to_owned())
        .spawn(move || {
            while look(&log).is_some() {
                std::thread::sleep(pause);
            }
        })
        .map(drop)
        .map_err(|error| LogError::Refused {
            what: "a thread for kafka producers".to_owned(),
            source: error.into(),
        })
}

fn look(log: &Weak<Inner>) -> Option<()> {
    let log = log.upgrade()?;
    // Any topic: brokers are asked for the one that is at hand.
    let Some(topic) = log.ensured.lock().keys().next().cloned() else { return Some(()) };
    let since = Instant::now();
    let is_served = log.lanes.look_after(&log.asker, &topic);
    let mut cut_off = log.cut_off.lock();
    match (is_served, *cut_off) {
        (false, None) => {
            tracing::warn!("kafka does not answer: nothing can be written");
            *cut_off = Some(since);
        }
        (true, Some(since)) => {
            let after_s = since.elapsed().as_secs();
            tracing::info!(after_s, "kafka answers again: writes go on");
            *cut_off = None;
        }
        _ => {}
    }
    Some(())
}
