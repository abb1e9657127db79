//! Listening, within bounds that no client moves; and draining.

mod connections;

use crate::{
    Gate, coarse_timer,
    limits::Limits,
    party::with_peer,
    request::{self, Before},
};
use almanac_errors::chain;
use axum::{
    Router,
    body::{Body, Bytes},
};
use connections::{Answering, Connection, Connections, LEFT_ALONE, Place, Watched};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// What the head of a request may take of a connection's memory.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// After a connection could not be accepted: most often there are too many open files.
const PAUSE: Duration = Duration::from_millis(250);
/// Where no connection can be ended for a new one, it is looked again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// What is wrong for every new connection is said so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections open at once; for more, those that are of no use are ended, or they wait with the
    /// system until one is closed.
    pub max_connections: usize,
    /// For the head of a request, and so also for the next one on an open connection.
    pub head_timeout: Duration,
    /// For a client to take some of its answer.
    pub write_timeout: Duration,
    /// What stands before the routes.
    pub before: Before,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 2_048,
            // Proxies keep connections for up to a minute, and must not meet one that just ended.
            head_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            before: Before::default(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ServeError {
    address: String,
    source: std::io::Error,
}

pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError { address: address.to_owned(), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Serves until `shutdown`, then answers what is under way.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    shutdown: CancellationToken,
) {
    let mut http = http1::Builder::new();
    http.timer(coarse_timer::CoarseTimer)
        .header_read_timeout(options.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let mut door = Door {
        listener,
        connections: Arc::default(),
        max_connections: options.max_connections,
        said: None,
    };
    let draining = GracefulShutdown::new();
    if let Some(watch) =
        options.before.gate.as_deref().and_then(Gate::limits).and_then(Limits::watch)
    {
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(watch));
    }
    let look_every = coarse_timer::look_every(options.head_timeout);
    loop {
        let (stream, peer, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = door.accept() => accepted,
        };
        let mut stream = TimeoutStream::new(Watched::new(stream, place.connection.clone()));
        stream.set_write_timeout(Some(options.write_timeout));
        let service = answering(service.clone(), options.before.clone(), place.connection.clone());
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = coarse_timer::look_after(draining.watch(connection), look_every);
        tokio::spawn(with_peer(peer.ip(), async move {
            tokio::select! {
                biased;
                ended = connection => if let Err(error) = ended {
                    tracing::trace!(error = %chain(&error), "connection ended");
                },
                () = place.connection.is_shed() => {
                    tracing::trace!(%peer, "connection ended for a new one");
                }
            }
        }));
    }
    drop(door);
    draining.shutdown().await;
}

/// The service of one connection, which notes what is being answered there.
fn answering(
    service: TowerToHyperService<Router>,
    before: Before,
    connection: Arc<Connection>,
) -> impl Service<Request<Incoming>, Response = Response<Sending>, Error = Infallible, Future: Send>
{
    service_fn(move |asked: Request<Incoming>| {
        let (service, before) = (service.clone(), before.clone());
        let answering = Answering::on(&connection);
        async move {
            let answer = request::answer(&service, &before, asked).await?;
            Ok(answer.map(|body| Sending { body, _answering: answering }))
        }
    })
}

/// An answer on its way.
struct Sending {
    body: Body,
    _answering: Answering,
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

struct Door {
    listener: TcpListener,
    connections: Arc<Connections>,
    max_connections: usize,
    /// When something was said of what keeps connections out.
    said: Option<Instant>,
}

impl Door {
    /// The next connection, once there is a place for it.
    async fn accept(&mut self) -> (TcpStream, SocketAddr, Place) {
        let (stream, peer) = self.next().await;
        loop {
            if let Some(place) = self.connections.enter(self.max_connections) {
                return (stream, peer, place);
            }
            let has_made_room = self.connections.shed(LEFT_ALONE);
            let max_connections = self.max_connections;
            if self.may_say() {
                tracing::warn!(
                    max_connections,
                    "all connections are taken; those that ask nothing or take nothing are ended \
                     for new ones"
                );
            }
            tokio::select! {
                () = self.connections.ended() => {}
                () = tokio::time::sleep(LOOK_AGAIN), if !has_made_room => {}
            }
        }
    }

    async fn next(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => {
                    // Answers are written at once; waiting to fill a segment only delays them.
                    let _ = stream.set_nodelay(true);
                    return (stream, peer);
                }
                // Whoever was first in the queue has left already.
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    if self.may_say() {
                        tracing::warn!(error = %chain(&error), "cannot accept a connection");
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    fn may_say(&mut self) -> bool {
        let may = self.said.is_none_or(|said| said.elapsed() > SAID_EVERY);
        if may {
            self.said = Some(Instant::now());
        }
        may
    }
}

fn is_of_the_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const ASKED: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    async fn server(max_connections: usize) -> (SocketAddr, CancellationToken) {
        let (listener, address) = bind("127.0.0.1:0").await.unwrap();
        let slow = get(|| async {
            tokio::time::sleep(LEFT_ALONE * 2).await;
            "slow"
        });
        let router = Router::new().route("/", get("answer")).route("/slow", slow);
        // Nobody has to wait for this to pass.
        let head_timeout = Duration::from_secs(3_600);
        let options = ServeOptions { max_connections, head_timeout, ..Default::default() };
        let shutdown = CancellationToken::new();
        tokio::spawn(serve(listener, router, options, shutdown.clone()));
        (address, shutdown)
    }

    async fn read(stream: &mut TcpStream) -> String {
        let mut part = vec![0; 1 << 12];
        let read = stream.read(&mut part).await.unwrap_or(0);
        String::from_utf8_lossy(&part[..read]).into_owned()
    }

    #[tokio::test]
    async fn who_asks_nothing_makes_room() {
        let (address, _shutdown) = server(4).await;
        let mut idle = Vec::new();
        for start in [&b""[..], b"GET / HT", ASKED] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(start).await.unwrap();
            idle.push(stream);
        }
        assert!(read(&mut idle[2]).await.ends_with("answer"));
        let mut busy = TcpStream::connect(address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // As many again, one after the other: each is answered, and stays.
        let mut late = Vec::new();
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(ASKED).await.unwrap();
            assert!(read(&mut stream).await.ends_with("answer"));
            late.push(stream);
        }
        for stream in &mut idle {
            assert_eq!(read(stream).await, "", "ended");
        }
        assert!(read(&mut busy).await.ends_with("slow"), "who waits for an answer gets it");
    }

    /// Its answers fill what the system keeps in between.
    #[tokio::test]
    async fn so_does_who_takes_nothing() {
        let (address, _shutdown) = server(1).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        tokio::spawn(async move {
            let _ = deaf.write_all(&ASKED.repeat(1_000_000)).await;
            std::future::pending::<()>().await;
        });
        let mut late = TcpStream::connect(address).await.unwrap();
        late.write_all(ASKED).await.unwrap();
        assert!(read(&mut late).await.ends_with("answer"));
    }
}
