//! The connections that are open: which of them is of least use when a place is wanted.

use parking_lot::Mutex;
use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
};

/// A connection is left alone for so long: whoever connects has to get a request across.
pub(super) const LEFT_ALONE: Duration = Duration::from_secs(1);

/// What is known of a connection. Bytes of a request's head do not count as use, so that one sent
/// byte by byte holds no place.
pub(super) struct Connection {
    /// Requests whose heads have come and whose answers are not handed over yet.
    answering: AtomicU32,
    /// When it was opened, or of the last bytes that its client took, in milliseconds.
    used_at: AtomicU64,
    /// Since when its client takes nothing although there is something; 0 while it does.
    blocked_at: AtomicU64,
    opened: Instant,
    shed: Notify,
}

impl Connection {
    fn now(&self) -> u64 {
        // Zero means never.
        self.opened.elapsed().as_millis() as u64 + 1
    }

    /// How long it has been of no use, if it is of none.
    fn useless_for(&self) -> Option<Duration> {
        let now = self.now();
        let since = match self.blocked_at.load(Ordering::Relaxed) {
            0 if self.answering.load(Ordering::Relaxed) > 0 => return None,
            0 => self.used_at.load(Ordering::Relaxed),
            blocked_at => blocked_at,
        };
        Some(Duration::from_millis(now.saturating_sub(since)))
    }

    /// Resolves when its place is wanted for somebody else.
    pub(super) async fn is_shed(&self) {
        self.shed.notified().await;
    }
}

/// Counts as an answer until it is dropped.
pub(super) struct Answering(Arc<Connection>);

impl Answering {
    pub(super) fn on(connection: &Arc<Connection>) -> Self {
        connection.answering.fetch_add(1, Ordering::Relaxed);
        Self(connection.clone())
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let connection = &self.0;
        connection.used_at.store(connection.now(), Ordering::Relaxed);
        connection.answering.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All of them.
#[derive(Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
    /// Told when one has ended.
    ended: Notify,
}

#[derive(Default)]
struct Open {
    connections: HashMap<u64, Arc<Connection>>,
    next: u64,
}

/// A place among them, until it is dropped.
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open.lock().connections.remove(&self.number);
        self.connections.ended.notify_one();
    }
}

impl Connections {
    /// A place, if fewer than `most` are taken.
    pub(super) fn enter(self: &Arc<Self>, most: usize) -> Option<Place> {
        let mut open = self.open.lock();
        if open.connections.len() >= most {
            return None;
        }
        let connection = Arc::new(Connection {
            answering: AtomicU32::new(0),
            used_at: AtomicU64::new(1),
            blocked_at: AtomicU64::new(0),
            opened: Instant::now(),
            shed: Notify::new(),
        });
        let number = open.next;
        open.next += 1;
        open.connections.insert(number, connection.clone());
        Some(Place { connections: self.clone(), number, connection })
    }

    /// Ends the one that has been of no use for longest, and for `at_least` so long.
    pub(super) fn shed(&self, at_least: Duration) -> bool {
        let open = self.open.lock();
        let useless = open.connections.values();
        let useless = useless.filter_map(|one| Some((one.useless_for()?, one)));
        match useless.max_by_key(|(since, _)| *since).filter(|(since, _)| *since >= at_least) {
            Some((_, connection)) => {
                connection.shed.notify_one();
                true
            }
            None => false,
        }
    }

    /// Resolves when one has ended since the last time.
    pub(super) async fn ended(&self) {
        self.ended.notified().await;
    }
}

/// A connection's bytes. What its client takes is noted.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, connection: Arc<Connection>) -> Self {
        Self { stream, connection }
    }

    fn note<T>(&self, written: Poll<T>) -> Poll<T> {
        let connection = &self.connection;
        match written {
            Poll::Ready(_) => {
                connection.used_at.store(connection.now(), Ordering::Relaxed);
                connection.blocked_at.store(0, Ordering::Relaxed);
            }
            Poll::Pending if connection.blocked_at.load(Ordering::Relaxed) == 0 => {
                connection.blocked_at.store(connection.now(), Ordering::Relaxed);
            }
            Poll::Pending => {}
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_no_use_for_longest_goes_first() {
        let connections = Arc::<Connections>::default();
        let mut places = Vec::new();
        for _ in 0..3 {
            places.push(connections.enter(3).unwrap());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(connections.enter(3).is_none());
        assert!(!connections.shed(Duration::from_secs(3_600)), "they are left alone for a while");
        let is_shed = |place: &Place| {
            let mut shed = std::pin::pin!(place.connection.shed.notified());
            shed.as_mut().enable()
        };
        // The first is answered to, so that the second is of no use for longest.
        let answering = Answering::on(&places[0].connection);
        assert!(connections.shed(Duration::ZERO));
        assert_eq!([0, 1, 2].map(|place| is_shed(&places[place])), [false, true, false]);
        drop(places.remove(1));
        // Its answer is handed over: it was of use after the other.
        drop(answering);
        assert!(connections.shed(Duration::ZERO));
        assert_eq!([0, 1].map(|place| is_shed(&places[place])), [false, true]);
        drop(places.remove(1));
        // Nobody is ended who waits for an answer, but whoever does not take it.
        let _answering = Answering::on(&places[0].connection);
        assert!(!connections.shed(Duration::ZERO));
        places[0].connection.blocked_at.store(1, Ordering::Relaxed);
        assert!(connections.shed(Duration::ZERO) && is_shed(&places[0]));
        places.clear();
        assert!(connections.open.lock().connections.is_empty());
    }
}
