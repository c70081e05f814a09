//! Listeners, connections, and the end of both.
//!
//! One accept loop for the three listeners, so that each connection has the same bounds, and a
//! drain ends on time even if a stream never does.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower::Service;

/// Connections of one listener at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Calls on one HTTP/2 connection at the same time.
const MAX_STREAMS: u32 = 256;
/// The largest header list of one request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// How long a client may take to send its headers (HTTP/1), or to answer a ping (HTTP/2).
const PATIENCE: Duration = Duration::from_secs(20);
/// How often a silent HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How long calls in flight may go on after the program was told to stop.
pub const DRAIN: Duration = Duration::from_secs(10);

/// Tells all parts of the program to stop. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// The sender stops everything by sending `true`, or by going away.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        let (stop, told) = watch::channel(false);
        (stop, Self(told))
    }

    /// Returns when the program has to stop.
    pub async fn told(mut self) {
        // An error means that the sender is gone, which stops us as well.
        drop(self.0.wait_for(|stop| *stop).await);
    }
}

/// Binds `address`, and says which one it became: port 0 takes any free one.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    let bound = listener
        .local_addr()
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    Ok((listener, bound))
}

/// Serves HTTP/1 and HTTP/2 on `listener` until told to stop, then drains.
pub async fn serve<S, B>(listener: TcpListener, service: S, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let graceful = GracefulShutdown::new();
    let places = std::sync::Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stop = shutdown.told();
    tokio::pin!(stop);
    loop {
        let accept = async {
            // The semaphore is never closed; without a place the kernel queues the connection.
            let place = places.clone().acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = &mut stop => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, mostly: give the others time to end.
                tracing::warn!(cause = %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let connection = builder()
            .serve_connection_with_upgrades(
                TokioIo::new(stream),
                TowerToHyperService::new(service.clone()),
            )
            .into_owned();
        let connection = graceful.watch(connection);
        tokio::spawn(async move {
            // Broken connections are the client's business.
            if let Err(error) = connection.await {
                tracing::debug!(cause = %error, "a connection broke");
            }
            drop(place);
        });
    }
    drop(listener);
    // Not every client obeys a GOAWAY, and a Watch never ends by itself.
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(?DRAIN, "calls were still in flight when the drain ended");
    }
}

fn builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(Some(20))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(PATIENCE);
    builder
}
