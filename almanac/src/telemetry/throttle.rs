//! Keeps warnings from filling the disk. While a server is away, each request that needs it is worth a
//! warning: clients that ask a hundred thousand times a second would write tens of megabytes of log in
//! that time. Each place in the program may say so much within a window, and how much was left out is
//! said at its end.

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
/// Of what tells what was left out, which is never left out itself.
const OWN_TARGET: &str = "almanac::left_out";

/// Clones share what they counted.
#[derive(Clone)]
pub(crate) struct Throttle {
    /// Warnings of one place within a window.
    most: u64,
    places: Arc<Mutex<HashMap<Identifier, Place>>>,
}

/// One place in the program, within this window.
struct Place {
    said: u64,
    message: String,
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

    fn left_out(&self) -> Vec<(u64, String)> {
        let places = std::mem::take(&mut *self.places.lock());
        let beyond = |place: Place| Some((place.said.checked_sub(self.most)?, place.message));
        places.into_values().filter_map(beyond).filter(|(left_out, _)| *left_out > 0).collect()
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
            Place { said: 0, message: message.0 }
        });
        place.said += 1;
        place.said <= self.most
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
    use std::io;
    use tracing_subscriber::{fmt, prelude::*};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

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
            };
            (0..10).for_each(say);
            tracing::error!("elsewhere");
            throttle.begin_window();
            (10..12).for_each(say);
            throttle.begin_window();
        });
        let text = String::from_utf8(written.0.lock().clone()).unwrap();
        let count = |part: &str| text.lines().filter(|line| line.contains(part)).count();
        assert_eq!(
            count("WARN almanac::telemetry::throttle::tests: not answered"),
            3 + 2,
            "{text}"
        );
        assert_eq!(count("news"), 12, "what is no warning is all there: {text}");
        assert_eq!(count("elsewhere"), 1, "{text}");
        assert_eq!(count("more of the same: not answered left_out=7"), 1, "{text}");
        assert_eq!(count("more of the same"), 1, "{text}");
    }
}
