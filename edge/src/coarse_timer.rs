//! Deadlines of connections that cost a request next to nothing.
//!
//! hyper starts a timer for the head of every request. In tokio that is two turns of a lock that all
//! threads share: three to five hundredths of what a small answer takes. These deadlines wake nobody.
//! The connection is looked after every now and then, and hyper sees for itself whether one has passed.

use hyper::rt::{Sleep, Timer};
use std::{
    pin::{Pin, pin},
    task::{Context, Poll},
    time::{Duration, Instant},
};

const LEAST: Duration = Duration::from_millis(100);
const MOST: Duration = Duration::from_secs(5);

/// How often to look, so that a timeout is met within a quarter of it.
pub(crate) fn look_every(timeout: Duration) -> Duration {
    (timeout / 4).clamp(LEAST, MOST)
}

/// Drives a connection, and looks after it that often though nothing happens on it.
pub(crate) async fn look_after<C: Future>(connection: C, every: Duration) -> C::Output {
    let mut connection = pin!(connection);
    let mut looking = tokio::time::interval(every);
    loop {
        tokio::select! {
            biased;
            ended = &mut connection => return ended,
            _ = looking.tick() => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CoarseTimer;

impl Timer for CoarseTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(Instant::now() + duration)
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Deadline(deadline))
    }
}

struct Deadline(Instant);

impl Future for Deadline {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match Instant::now() < self.0 {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }
}

impl Sleep for Deadline {}
