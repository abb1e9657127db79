//! Keeps warnings from filling the disk. While a server is away, each request that needs it is worth a
//! warning: clients that ask a hundred thousand times a second would write tens of megabytes of log in
//! that time. Each place in the program may say so much within a window, and how much was left out is
//! said at its end. While that goes on, what the place says is summed up once a minute.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    fmt::{Debug, Write},
    sync::Arc,
    time::Duration,
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    callsite::Identifier,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Filter};

pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// A driver that tries to connect again each second says so in several places; we say it ourselves.
const DRIVER: &str = "scylla";
/// Windows between two summaries of a place that goes on.
const SUMMED_UP: u32 = 6;
/// Of what tells what was left out, which is never left out itself.
const OWN_TARGET: &str = "almanac::left_out";

/// Clones share what they counted.
#[derive(Clone)]
pub(crate) struct Throttle {
    /// Warnings of one place within a window.
    most: u64,
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
}

/// One place in the program.
struct Place {
    message: String,
    /// Within this window.
    events: u64,
    /// Said within a window.
    most: u64,
    /// Since that was told last.
    left_out: u64,
    /// Windows since then, once it has said too much.
    untold: Option<u32>,
}

impl Place {
    /// Ends a window; what is to be told of it, and whether it is to be remembered.
    fn end_window(&mut self) -> (Option<u64>, bool) {
        self.left_out += self.events.saturating_sub(self.most);
        let is_calm = self.events <= self.most;
        self.events = 0;
        let is_due = match &mut self.untold {
            None => !is_calm,
            Some(windows) => {
                *windows += 1;
                is_calm || *windows >= SUMMED_UP
            }
        };
        if is_due {
            self.untold = Some(0);
        }
        if !is_calm {
            self.most = 0;
        }
        let told = is_due.then(|| std::mem::take(&mut self.left_out)).filter(|told| *told > 0);
        (told, !is_calm)
    }
}

impl Throttle {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, places: Arc::default() }
    }

    /// Begins a window again and again, for as long as it is polled.
    pub(crate) async fn run(self) {
        let mut windows = tokio::time::interval(WINDOW);
        loop {
            windows.tick().await;
            self.begin_window();
        }
    }

    /// Says what was left out until now.
    pub(crate) fn begin_window(&self) {
        for (left_out, message) in self.left_out() {
            tracing::warn!(target: OWN_TARGET, left_out, "more of the same: {message}");
        }
    }

    /// Says all that was left out.
    pub(crate) fn end(&self) {
        // After a window without events, nothing waits for the minute to pass.
        self.begin_window();
        self.begin_window();
    }

    fn left_out(&self) -> Vec<(u64, String)> {
        let mut left_out = Vec::new();
        self.places.lock().retain(|_, place| {
            let (told, goes_on) = place.end_window();
            left_out.extend(told.map(|told| (told, place.message.clone())));
            goes_on
        });
        left_out
    }
}

impl<S: Subscriber> Filter<S> for Throttle {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::WARN || metadata.target() == OWN_TARGET {
            return true;
        }
        let mut places = self.places.lock();
        let place = places.entry(metadata.callsite()).or_insert_with(|| {
            let mut message = Message(String::new());
            event.record(&mut message);
            let is_driver = metadata.target().split("::").next() == Some(DRIVER);
            let (message, most) = (message.0, if is_driver { 1 } else { self.most });
            Place { message, events: 0, most, left_out: 0, untold: None }
        });
        place.events += 1;
        place.events <= place.most
    }
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" {
            let _ = write!(self.0, "{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::written::Written;
    use tracing_subscriber::{fmt, prelude::*};

    #[test]
    fn a_place_says_so_much_within_a_window_and_how_much_more_there_was() {
        let (written, throttle) = (Written::default(), Throttle::new(3));
        let writer = written.clone();
        let layer = fmt::layer().with_ansi(false).with_writer(move || writer.clone());
        let log = tracing_subscriber::registry().with(layer.with_filter(throttle.clone()));
        tracing::subscriber::with_default(log, || {
            let say = |request: u32| {
                tracing::warn!(request, "not answered");
                tracing::info!(request, "news");
                tracing::warn!(target: "scylla::cluster::worker", "no control connection");
            };
            (0..10).for_each(say);
            tracing::error!("elsewhere");
            throttle.begin_window();
            // It goes on for two minutes, and then ends.
            for _ in 0..12 {
                (0..5).for_each(say);
                throttle.begin_window();
            }
            throttle.begin_window();
            (0..2).for_each(say);
            throttle.begin_window();
        });
        let text = written.text();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        let said = "WARN almanac::telemetry::throttle::tests: not answered";
        assert_eq!(count(said), 3 + 2, "{text}");
        assert_eq!(count("news"), 10 + 60 + 2, "what is no warning is all there: {text}");
        assert_eq!(count("elsewhere"), 1, "{text}");
        assert_eq!(count("worker: no control connection"), 2, "once in each outage: {text}");
        let summed_up: Vec<&str> =
            text.lines().filter(|line| line.contains("more of the same: not answered")).collect();
        let [first, then @ ..] = &*summed_up else { panic!("{text}") };
        assert!(first.contains("left_out=7"), "{text}");
        assert!(then.len() == 2 && then.iter().all(|line| line.contains("left_out=30")), "{text}");
    }
}
