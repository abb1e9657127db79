//! Listening, within bounds that no client moves; and draining.

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
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
            head_timeout: Duration::from_secs(30),
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
    http.timer(TokioTimer::new())
        .header_read_timeout(options.head_timeout)
        .max_buf_size(MAX_HEAD_BYTES);
    let service = TowerToHyperService::new(router);
    let connections = Arc::new(Semaphore::new(options.max_connections));
    let draining = GracefulShutdown::new();
    loop {
        let (stream, place) = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = accept(&listener, &connections, options.max_connections) => accepted,
        };
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(options.write_timeout));
        let connection = http.serve_connection(TokioIo::new(Box::pin(stream)), service.clone());
        let connection = draining.watch(connection);
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    draining.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
    max_connections: usize,
) -> (TcpStream, OwnedSemaphorePermit) {
    let place = match connections.clone().try_acquire_owned() {
        Ok(place) => place,
        Err(_) => {
            tracing::warn!(max_connections, "all connections are taken; new ones wait");
            match connections.clone().acquire_owned().await {
                Ok(place) => place,
                // Nobody closes it.
                Err(_) => std::future::pending().await,
            }
        }
    };
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are written at once; waiting to fill a segment only delays them.
                let _ = stream.set_nodelay(true);
                return (stream, place);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
