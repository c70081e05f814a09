//! Listeners, connections, and the end of both.
//!
//! One accept loop for the three listeners, so that each connection has the same bounds, and a
//! drain ends on time even if a stream never does.

mod beginning;
mod connection;
mod listener;
mod outgoing;
mod peer;
mod steady;
pub mod tls;
mod together;
mod version;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures_util::FutureExt;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tower::Service;

use self::beginning::Beginnings;
use self::connection::{Full, House};
pub use self::listener::Listener;
pub use self::peer::{Peer, Unknown};
use self::tls::Tls;
use crate::config::Connections;
use crate::config::shutdown::ShutdownConfig;
use crate::telemetry::Metrics;

/// How long a client may take to send its headers (HTTP/1), or to answer a ping (HTTP/2).
const PATIENCE: Duration = Duration::from_secs(20);
/// How the paths begin of requests for the health. They are answered to anybody, so they are no calls
/// that keep a connection.
pub const PROBES: &str = "/grpc.health.v1.Health/";

/// Tells all parts of the program to stop, and how. Clones tell the same.
#[derive(Debug, Clone)]
pub struct Shutdown {
    stop: watch::Receiver<bool>,
    times: Arc<ArcSwap<ShutdownConfig>>,
}

impl Shutdown {
    /// The sender stops everything by sending `true`, or by going away.
    pub fn channel() -> (watch::Sender<bool>, Self) {
        Self::after(&ShutdownConfig::default())
    }

    /// The same, as `config` says.
    pub fn after(config: &ShutdownConfig) -> (watch::Sender<bool>, Self) {
        let (sender, stop) = watch::channel(false);
        let shutdown = Self {
            stop,
            times: Arc::new(ArcSwap::from_pointee(config.clone())),
        };
        (sender, shutdown)
    }

    /// Returns when the program has to stop.
    pub async fn told(mut self) {
        // An error means that the sender is gone, which stops us as well.
        drop(self.stop.wait_for(|stop| *stop).await);
    }

    /// Whether the program has to stop.
    pub fn is_told(&self) -> bool {
        *self.stop.borrow() || self.stop.has_changed().is_err()
    }

    /// Other times hold from now on, for all clones.
    pub fn change(&self, config: &ShutdownConfig) {
        self.times.store(Arc::new(config.clone()));
    }

    /// How long calls are still taken after the program was told, before its parts are.
    pub fn notice(&self) -> Duration {
        self.times.load().notice.0
    }

    /// How long calls in flight may go on after that.
    pub fn drain(&self) -> Duration {
        self.times.load().drain.0
    }

    /// When one whose stream was closed should come back: each at another time, so that they do not
    /// all come at once.
    pub fn come_back_after(&self) -> Duration {
        self.times.load().spread.0.mul_f64(fraction())
    }
}

/// A number from 0 to 1, at random.
fn fraction() -> f64 {
    let mut random = [0; 4];
    // Without randomness it is 0.
    let _ = getrandom::fill(&mut random);
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}

/// Binds `address`, and says which one it became: port 0 takes any free one.
pub async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), String> {
    listener::network(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

/// What is served where, and within which bounds.
pub struct Server {
    listener: Listener,
    tls: Option<Tls>,
    limits: Connections,
    /// Who is told of connections, and what the listener is called.
    counted: Option<(Metrics, String)>,
}

impl Server {
    /// Plain text, with the default bounds.
    pub fn new(listener: impl Into<Listener>) -> Self {
        Self {
            listener: listener.into(),
            tls: None,
            limits: Connections::default(),
            counted: None,
        }
    }

    /// The same, whose connections `metrics` are told of.
    pub fn counted_by(self, metrics: Metrics, name: &str) -> Self {
        Self {
            counted: Some((metrics, name.to_owned())),
            ..self
        }
    }

    /// Speaks TLS, where that is given and the listener is no Unix socket.
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls.filter(|_| self.listener.is_network());
        self
    }

    pub fn within(mut self, limits: Connections) -> Self {
        self.limits = limits;
        self
    }

    /// Serves HTTP/1 and HTTP/2 until told to stop, then drains.
    pub async fn serve<S, B>(self, service: S, shutdown: Shutdown)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self {
            listener,
            tls,
            limits,
            counted,
        } = self;
        let beginnings = Beginnings::new(limits.max_handshakes);
        let house = Arc::new(House {
            places: Arc::new(Semaphore::new(limits.max_connections)),
            // Places bound them.
            strangers: Beginnings::new(usize::MAX),
            full: Full::default(),
            limits,
            tls,
            shutdown: shutdown.clone(),
        });
        // Each connection holds a sender; nothing is ever sent.
        let (present, mut gone) = mpsc::channel::<Infallible>(1);
        let stop = shutdown.clone().told();
        tokio::pin!(stop);
        let welcome = |io, address| {
            let (house, present) = (Arc::clone(&house), present.clone());
            let level = counted
                .as_ref()
                .map(|(metrics, name)| metrics.connection(name));
            let ((beginning, full), service) = (beginnings.enter(), service.clone());
            tokio::spawn(async move {
                house.host(io, address, beginning, service).await;
                drop((present, level));
            });
            full
        };
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = &mut stop => break,
            };
            let (io, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: one that has not begun has one to give, and
                    // others may end.
                    tracing::warn!(cause = %error, "cannot accept a connection");
                    beginnings.displace();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if welcome(io, address) {
                // Who has come before is listened to before it has to give way.
                tokio::task::yield_now().await;
            }
        }
        // Whoever the kernel has let in already may have sent a call: it is served, and asked to leave.
        for _ in 0..listener::BACKLOG {
            let Some(Ok((io, address))) = listener.accept().now_or_never() else {
                break;
            };
            welcome(io, address);
        }
        drop((listener, present));
        let drain = shutdown.drain();
        if tokio::time::timeout(drain, gone.recv()).await.is_err() {
            tracing::warn!(?drain, "calls were still in flight when the drain ended");
        }
    }
}

/// Serves plain text on `listener`, with the default bounds, until told to stop; then drains.
pub async fn serve<S, B>(listener: impl Into<Listener>, service: S, shutdown: Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    Server::new(listener).serve(service, shutdown).await;
}

#[cfg(test)]
mod tests {
    use super::version::PREFACE;
    use super::*;
    use http_body_util::Empty;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    const HOUR: Duration = Duration::from_secs(3600);

    /// A server that answers everything with an empty page.
    async fn empty_pages() -> (watch::Sender<bool>, SocketAddr) {
        pages_within(Connections::default()).await
    }

    /// The same with so many places, where nobody has to leave for being idle.
    async fn pages_in_places(max_connections: usize) -> (watch::Sender<bool>, SocketAddr) {
        let hour = crate::config::Span(HOUR);
        let limits = Connections {
            max_connections,
            handshake_timeout: hour,
            idle_timeout: hour,
            ..Connections::default()
        };
        pages_within(limits).await
    }

    async fn pages_within(limits: Connections) -> (watch::Sender<bool>, SocketAddr) {
        let (stop, shutdown) = Shutdown::channel();
        let (listener, address) = bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let pages = tower::service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        tokio::spawn(Server::new(listener).within(limits).serve(pages, shutdown));
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

    #[tokio::test(start_paused = true)]
    async fn where_all_places_are_taken_an_idle_connection_makes_room() {
        let (_stop, address) = pages_in_places(1).await;
        let began = tokio::time::Instant::now();
        let mut idle = TcpStream::connect(address).await.unwrap();
        idle.write_all(PREFACE).await.unwrap();
        idle.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        // It has its place once the server speaks.
        idle.read_u8().await.unwrap();
        let mut waiting = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
        waiting.write_all(request).await.unwrap();
        let mut answer = String::new();
        waiting.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(began.elapsed() < HOUR / 10);
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_made_no_call_gives_way_at_once_where_all_places_are_taken() {
        let (_stop, address) = pages_in_places(2).await;
        let request = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let mut known = TcpStream::connect(address).await.unwrap();
        known.write_all(request).await.unwrap();
        let mut answer = [0; 12];
        known.read_exact(&mut answer).await.unwrap();
        for _ in 0..5 {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            stranger.write_all(PREFACE).await.unwrap();
            stranger
                .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
                .await
                .unwrap();
            let began = tokio::time::Instant::now();
            // It has its place once the server speaks.
            stranger.read_u8().await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(1));
            // Kept open.
            std::mem::forget(stranger);
        }
        let began = tokio::time::Instant::now();
        let mut other = TcpStream::connect(address).await.unwrap();
        other.write_all(request).await.unwrap();
        other.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        known.write_all(request).await.unwrap();
        known.read_exact(&mut answer).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(1));
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
