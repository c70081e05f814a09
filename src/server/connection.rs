//! The life of one connection: it begins, it speaks, and it is asked to leave.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls_pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tower::Service;

use super::beginning::{Beginning, Beginnings};
use super::listener::Io;
use super::outgoing::Streams;
use super::peer::{Activity, Introduced, Peer};
use super::steady::Steady;
use super::tls::{self, Tls};
use super::together::together;
use super::version::{self, Begun, Version};
use super::{PATIENCE, Shutdown, fraction};
use crate::config::Connections;

/// What a client may send on one stream, and on all streams of a connection, before we have read
/// it: this much is held besides what `edge::budget` counts.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 256 * 1024;
/// What one stream may hold for its client beyond the message that is being sent.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client has reset before they were looked at, and that we have reset for its
/// errors: beyond, the connection ends.
const PENDING_RESETS: usize = 20;
const ERROR_RESETS: usize = 128;
/// How often a silent HTTP/2 connection is asked whether it is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);
/// How often it is looked whether a connection is idle.
const LOOK: Duration = Duration::from_secs(10);
/// How often it is said that all places are taken.
const REMINDER: Duration = Duration::from_secs(60);
/// When an idle connection is asked to leave where others wait for its place.
const PRESSED: Duration = Duration::from_secs(30);
/// How long an idle connection that was asked to leave may take.
const LEAVE: Duration = Duration::from_secs(10);
/// How long a connection may take beyond a drain: the listener says first who is still there.
const OVERDUE: Duration = Duration::from_secs(1);
/// How long a connection that has not begun when the program is told to stop may take to begin. Its
/// client may have sent a call already.
const LAST_WORD: Duration = Duration::from_millis(500);

/// What all connections of one listener share.
pub(super) struct House {
    pub(super) limits: Connections,
    pub(super) tls: Option<Tls>,
    pub(super) places: Arc<Semaphore>,
    /// Who has a place and has made no call yet: the oldest gives way where there is none left.
    pub(super) strangers: Beginnings,
    pub(super) full: Full,
    pub(super) shutdown: Shutdown,
}

/// When it was last said that there is no place.
#[derive(Default)]
pub(super) struct Full(Mutex<Option<Instant>>);

impl Full {
    fn say(&self, places: usize) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_some_and(|at| at.elapsed() < REMINDER) {
            return;
        }
        *said = Some(Instant::now());
        tracing::warn!(
            places,
            "all places of a listener are taken: connections without a call give way to others; see connections.max-connections"
        );
    }
}

/// A connection that speaks.
struct Guest {
    version: Version,
    io: Begun<Box<dyn Io>>,
    certificates: Vec<CertificateDer<'static>>,
    _place: OwnedSemaphorePermit,
}

impl House {
    /// Serves one connection to its end.
    pub(super) async fn host<S, B>(
        &self,
        io: Box<dyn Io>,
        address: Option<SocketAddr>,
        mut beginning: Beginning,
        service: S,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let limit = self.limits.handshake_timeout.0;
        let displaced = beginning.displaced();
        let begun = tokio::select! {
            begun = tokio::time::timeout(limit, self.receive(io, &beginning)) => begun,
            _ = displaced => {
                tracing::debug!("a connection that had not begun gave way to others");
                return;
            }
            () = self.last_word() => return,
        };
        drop(beginning);
        match begun {
            Ok(Ok(guest)) => self.serve(guest, address, service).await,
            // Broken and silent connections are the client's business.
            Ok(Err(error)) => tracing::debug!(cause = %error, "a connection broke"),
            Err(_) => tracing::debug!("a connection stayed silent"),
        }
    }

    /// Shakes hands, learns the version, and finds a place.
    async fn receive(&self, io: Box<dyn Io>, beginning: &Beginning) -> io::Result<Guest> {
        let io = Steady::new(io, self.limits.write_stall_timeout.0);
        let io = version::first_word(io).await?;
        beginning.speaks();
        let mut certificates = Vec::new();
        let io: Box<dyn Io> = match &self.tls {
            None => Box::new(io),
            Some(tls) => {
                let stream = TlsAcceptor::from(tls.current()).accept(io).await?;
                if let Some(chain) = stream.get_ref().1.peer_certificates() {
                    certificates = chain
                        .iter()
                        .cloned()
                        .map(CertificateDer::into_owned)
                        .collect();
                }
                Box::new(stream)
            }
        };
        let (version, io) = version::begin(io).await?;
        let place = match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => place,
            Err(_) => {
                self.full.say(self.limits.max_connections);
                self.strangers.displace();
                let place = Arc::clone(&self.places).acquire_owned();
                place.await.map_err(io::Error::other)?
            }
        };
        Ok(Guest {
            version,
            io,
            certificates,
            _place: place,
        })
    }

    async fn serve<S, B>(&self, guest: Guest, address: Option<SocketAddr>, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + 'static,
        S::Future: Send + 'static,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let valid = guest.certificates.first().and_then(tls::left);
        let (mut stranger, _) = self.strangers.enter();
        let displaced = stranger.displaced();
        let activity = Arc::new(Activity::of(stranger));
        let service = Introduced {
            peer: Arc::new(Peer {
                address,
                certificates: guest.certificates,
            }),
            activity: Arc::clone(&activity),
            inner: service,
        };
        let builder = builder(guest.version, &self.limits);
        let (io, turns) = together(guest.io);
        let connection =
            builder.serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
        tokio::pin!(connection);
        let grace = tokio::select! {
            // First: what was sent already is read before the connection is asked to leave.
            biased;
            ended = turns.of(connection.as_mut()) => return said(ended),
            grace = self.time_to_leave(&activity, valid) => grace,
            () = gives_way(displaced, &activity) => {
                tracing::debug!("a connection without a call gave way to others");
                // What has come meanwhile is still answered.
                if activity.quiet().is_some() {
                    return;
                }
                LEAVE
            }
        };
        // GOAWAY, or the last answer of HTTP/1: what is under way goes on.
        connection.as_mut().graceful_shutdown();
        tokio::select! {
            ended = turns.of(connection) => said(ended),
            // Not every client obeys, and a Watch never ends by itself.
            () = sleep(grace) => tracing::debug!("a connection did not leave in time"),
            () = self.drained() => {}
        }
    }

    /// Returns when the connection has to leave: how long it may take.
    /// `valid` is how long the client's certificate is good: then it has to show one again.
    async fn time_to_leave(&self, activity: &Activity, valid: Option<Duration>) -> Duration {
        let age = self.limits.max_age.0;
        let age = (!age.is_zero()).then(|| jittered(age));
        let old = async {
            match age.into_iter().chain(valid).min() {
                Some(age) => sleep(age).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = old => self.limits.age_grace.0,
            () = self.idle(activity) => LEAVE,
            () = self.shutdown.clone().told() => self.shutdown.drain() + OVERDUE,
        }
    }

    /// Returns when nothing has been under way for too long.
    async fn idle(&self, activity: &Activity) {
        let idle = self.limits.idle_timeout.0;
        let most = if idle.is_zero() { Duration::MAX } else { idle };
        loop {
            sleep(LOOK.min(most)).await;
            let pressed = self.places.available_permits() == 0;
            let most = if pressed { most.min(PRESSED) } else { most };
            if activity.quiet().is_some_and(|quiet| quiet >= most) {
                return;
            }
        }
    }

    /// Returns when the drain is over.
    async fn drained(&self) {
        self.shutdown.clone().told().await;
        sleep(self.shutdown.drain() + OVERDUE).await;
    }

    /// Returns when it is too late to begin.
    async fn last_word(&self) {
        self.shutdown.clone().told().await;
        sleep(LAST_WORD).await;
    }
}

/// Returns when a connection has to give way on which nobody has made a call yet.
async fn gives_way(displaced: oneshot::Receiver<()>, activity: &Activity) {
    // The sender goes away as well when a call is made.
    drop(displaced.await);
    if activity.is_known() {
        std::future::pending().await
    }
}

fn said(ended: Result<(), Box<dyn std::error::Error + Send + Sync>>) {
    if let Err(error) = ended {
        tracing::debug!(cause = %error, "a connection broke");
    }
}

/// Give or take a tenth: connections that began together do not come back together.
fn jittered(age: Duration) -> Duration {
    age.mul_f64(0.9 + 0.2 * fraction())
}

fn builder(version: Version, limits: &Connections) -> auto::Builder<Streams> {
    let builder = auto::Builder::new(Streams {
        patience: limits.stream_stall_timeout.0,
    });
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
        .max_concurrent_streams(limits.max_streams)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(limits.max_header_bytes)
        .max_send_buf_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(Some(PENDING_RESETS))
        .max_local_error_reset_streams(Some(ERROR_RESETS))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .keep_alive_timeout(PATIENCE);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_differ_by_a_tenth_at_most() {
        let age = Duration::from_secs(1000);
        let ages: Vec<_> = (0..100).map(|_| jittered(age)).collect();
        let sensible = Duration::from_secs(900)..=Duration::from_secs(1100);
        assert!(ages.iter().all(|age| sensible.contains(age)), "{ages:?}");
        assert!(ages.iter().any(|other| *other != ages[0]));
    }
}
