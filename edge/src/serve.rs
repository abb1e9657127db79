//! Listening, within bounds that no client moves; and draining.

use crate::{coarse_timer, request};
use axum::Router;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{rt::TokioIo, server::graceful::GracefulShutdown, service::TowerToHyperService};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;

/// What the head of a request may take of a connection's memory.
const MAX_HEAD_BYTES: usize = 128 << 10;
/// After a connection could not be accepted: most often there are too many open files.
const PAUSE: Duration = Duration::from_millis(250);
/// What is wrong for every new connection is said so often.
const SAID_EVERY: Duration = Duration::from_secs(60);

#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// Connections open at once; more wait with the system until one is closed.
    pub max_connections: usize,
    /// For the head of a request, and so also for the next one on an open connection.
    pub head_timeout: Duration,
    /// For a client to take some of its answer.
    pub write_timeout: Duration,
}

impl Default for ServeOptions {
    fn default() -> Self {
        Self {
            max_connections: 2_048,
            // Proxies keep connections for up to a minute, and must not meet one that just ended.
            head_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {cause}")]
pub struct ServeError {
    address: String,
    #[source]
    cause: std::io::Error,
}

pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |cause| ServeError { address: address.to_owned(), cause };
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
    let router = TowerToHyperService::new(router);
    let mut door = Door {
        listener,
        places: Arc::new(Semaphore::new(options.max_connections)),
        max_connections: options.max_connections,
        said: None,
    };
    let draining = GracefulShutdown::new();
    let look_every = coarse_timer::look_every(options.head_timeout);
    loop {
        let (stream, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = door.accept() => accepted,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(options.write_timeout));
        let router = router.clone();
        let service = service_fn(move |asked| {
            let router = router.clone();
            async move { request::answer(&router, asked).await }
        });
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service);
        let connection = draining.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = coarse_timer::look_after(connection, look_every).await {
                tracing::trace!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(door);
    draining.shutdown().await;
}

struct Door {
    listener: TcpListener,
    places: Arc<Semaphore>,
    max_connections: usize,
    /// When something was said of what keeps connections out.
    said: Option<Instant>,
}

impl Door {
    async fn accept(&mut self) -> (TcpStream, OwnedSemaphorePermit) {
        let place = match self.places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                let max_connections = self.max_connections;
                if self.may_say() {
                    tracing::warn!(max_connections, "all connections are taken; new ones wait");
                }
                match self.places.clone().acquire_owned().await {
                    Ok(place) => place,
                    // Nobody closes it.
                    Err(_) => std::future::pending().await,
                }
            }
        };
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are written at once; waiting to fill a segment only delays them.
                    let _ = stream.set_nodelay(true);
                    return (stream, place);
                }
                // Whoever was first in the queue has left already.
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    if self.may_say() {
                        tracing::warn!(%error, "cannot accept a connection");
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
