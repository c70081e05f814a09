//! Listeners, connections, and the end of both.
//!
//! One accept loop for the three listeners, so that each connection has the same bounds, and a
//! drain ends on time even if a stream never does.

use std::convert::Infallible;
use std::io::{self, Cursor};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::Service;

/// Connections of one listener at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 4096;
/// Calls on one HTTP/2 connection at the same time. RFC 9113 advises against fewer.
const MAX_STREAMS: u32 = 100;
/// What a client may send on one stream, and on all streams of a connection, before we have read
/// it: this much is held besides what `edge::budget` counts.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// The largest header list of one request.
const MAX_HEADER_BYTES: u32 = 16 * 1024;
/// What an HTTP/2 connection begins with.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How long a client may take to begin, to send its headers (HTTP/1), or to answer a ping
/// (HTTP/2).
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

/// Who is at the other end of a connection. Each request has it among its extensions, as
/// `Arc<Peer>`.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Absent on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The verified chain of the client's certificate, its own first; empty where it gave none.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Tells each request of a connection who sends it.
#[derive(Clone)]
struct Introduced<S> {
    peer: Arc<Peer>,
    inner: S,
}

impl<S, B> Service<Request<B>> for Introduced<S>
where
    S: Service<Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> S::Future {
        request.extensions_mut().insert(Arc::clone(&self.peer));
        self.inner.call(request)
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
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let stop = shutdown.clone().told();
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
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, mostly: give the others time to end.
                tracing::warn!(cause = %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        drop(stream.set_nodelay(true));
        let peer = Peer {
            address: Some(address),
            certificates: Vec::new(),
        };
        let service = Introduced {
            peer: Arc::new(peer),
            inner: service.clone(),
        };
        let (watcher, stop) = (graceful.watcher(), shutdown.clone());
        tokio::spawn(async move {
            let begun = tokio::select! {
                begun = tokio::time::timeout(PATIENCE, begin(stream)) => begun,
                // Nothing has been asked yet.
                () = stop.told() => return,
            };
            let (version, stream) = match begun {
                Ok(Ok(begun)) => begun,
                // Broken and silent connections are the client's business.
                Ok(Err(error)) => {
                    tracing::debug!(cause = %error, "a connection broke");
                    return;
                }
                Err(_) => {
                    tracing::debug!("a connection stayed silent");
                    return;
                }
            };
            let builder = builder(version);
            let connection =
                builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
            if let Err(error) = watcher.watch(connection).await {
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

enum Version {
    Http1,
    Http2,
}

/// Reads as much as tells the version, which hyper would wait for without end.
async fn begin(
    mut stream: TcpStream,
) -> io::Result<(
    Version,
    impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
)> {
    let mut seen = Vec::with_capacity(PREFACE.len());
    while seen.len() < PREFACE.len() && PREFACE.starts_with(&seen) {
        let missing = PREFACE.len() - seen.len();
        if (&mut stream)
            .take(missing as u64)
            .read_buf(&mut seen)
            .await?
            == 0
        {
            break;
        }
    }
    let version = if seen == PREFACE {
        Version::Http2
    } else {
        Version::Http1
    };
    let (read, write) = stream.into_split();
    Ok((
        version,
        tokio::io::join(Cursor::new(seen).chain(read), write),
    ))
}

fn builder(version: Version) -> auto::Builder<TokioExecutor> {
    let builder = auto::Builder::new(TokioExecutor::new());
    let mut builder = match version {
        Version::Http1 => builder.http1_only(),
        Version::Http2 => builder.http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEADER_BYTES)
        .max_pending_accept_reset_streams(Some(20))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(PATIENCE);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Empty;
    use tokio::io::AsyncWriteExt;

    /// A server that answers everything with an empty page.
    async fn empty_pages() -> (watch::Sender<bool>, SocketAddr) {
        let (stop, shutdown) = Shutdown::channel();
        let (listener, address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let pages = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        tokio::spawn(serve(listener, pages, shutdown));
        (stop, address)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_does_not_begin_is_closed() {
        let (_stop, address) = empty_pages().await;
        // Nothing; the beginning of the preface; the beginning of HTTP/1.
        for beginning in [b"".as_slice(), &PREFACE[..10], b"GET / HT"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(beginning).await.unwrap();
            let mut answer = Vec::new();
            let closed = tokio::time::timeout(2 * PATIENCE, stream.read_to_end(&mut answer)).await;
            closed
                .unwrap_or_else(|_| panic!("open after {beginning:?}"))
                .unwrap();
        }
    }

    #[tokio::test]
    async fn a_request_that_comes_byte_by_byte_is_answered() {
        let (_stop, address) = empty_pages().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // Begins like the preface of HTTP/2.
        for byte in b"PROPFIND / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n" {
            stream.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
}
