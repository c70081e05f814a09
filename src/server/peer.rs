//! Who is at the other end, and whether it has anything under way.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use tower::Service;

use super::PROBES;
use super::beginning::Beginning;
use super::outgoing::Outgoing;

/// Who is at the other end of a connection. Each request has it among its extensions, as
/// `Arc<Peer>`.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Absent on a Unix socket.
    pub address: Option<SocketAddr>,
    /// The verified chain of the client's certificate, its own first; empty where it gave none.
    pub certificates: Vec<CertificateDer<'static>>,
}

/// Tells each request of a connection who sends it, and counts the calls that are under way.
#[derive(Clone)]
pub(super) struct Introduced<S> {
    pub(super) peer: Arc<Peer>,
    pub(super) activity: Arc<Activity>,
    pub(super) inner: S,
}

impl<S, A, B> Service<Request<A>> for Introduced<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = Response<Outgoing<B>>;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Self::Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        request.extensions_mut().insert(Arc::clone(&self.peer));
        let probe = request.uri().path().starts_with(PROBES);
        let busy = (!probe).then(|| self.activity.begin());
        let activity = Arc::clone(&self.activity);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let response = answer.await?;
            let busy = match response.extensions().get() {
                Some(Unknown) => busy.and_then(Busy::of_nobody),
                None => busy.inspect(|_| activity.becomes_known()),
            };
            Ok(response.map(|body| Outgoing::new(body, busy)))
        })
    }
}

/// Among an answer's extensions: its caller is not known. Such requests keep no connection, else
/// anybody could keep one by being refused now and then.
#[derive(Debug, Clone)]
pub struct Unknown;

/// What is under way on one connection.
pub(super) struct Activity {
    under_way: AtomicUsize,
    quiet_since: Mutex<Instant>,
    known: AtomicBool,
    /// Its place among those on which nobody has made a call yet.
    stranger: Mutex<Option<Beginning>>,
}

impl Activity {
    #[cfg(test)]
    pub(super) fn new() -> Self {
        Self::of(super::beginning::Beginnings::new(1).enter().0)
    }

    /// Of a connection that has this place among strangers.
    pub(super) fn of(stranger: Beginning) -> Self {
        Self {
            under_way: AtomicUsize::new(0),
            quiet_since: Mutex::new(Instant::now()),
            known: AtomicBool::new(false),
            stranger: Mutex::new(Some(stranger)),
        }
    }

    /// Somebody has made a call who may.
    fn becomes_known(&self) {
        if !self.known.swap(true, Ordering::AcqRel) {
            let mut stranger = self.stranger.lock().unwrap_or_else(PoisonError::into_inner);
            drop(stranger.take());
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Busy {
            activity: Arc::clone(self),
            counts: true,
        }
    }

    /// For how long nothing has been under way; `None` while something is.
    pub(super) fn quiet(&self) -> Option<Duration> {
        let since = *self
            .quiet_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (self.under_way.load(Ordering::Acquire) == 0).then(|| since.elapsed())
    }
}

/// Held by a request until its answer is handed over.
pub(super) struct Busy {
    activity: Arc<Activity>,
    counts: bool,
}

impl Busy {
    /// Ends as if nothing had been under way.
    fn of_nobody(mut self) -> Option<Self> {
        self.counts = false;
        None
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if self.counts {
            // The time first: who sees the count at zero sees it.
            *self
                .activity
                .quiet_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        self.activity.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_quiet_from_the_end_of_its_last_request() {
        let activity = Arc::new(Activity::new());
        let second = Duration::from_secs(1);
        tokio::time::advance(second).await;
        assert_eq!(activity.quiet(), Some(second));
        let (one, two) = (activity.begin(), activity.begin());
        drop(one);
        tokio::time::advance(second).await;
        assert_eq!(activity.quiet(), None);
        drop(two);
        assert_eq!(activity.quiet(), Some(Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn whom_nobody_knows_and_who_probes_does_not_disturb_the_quiet() {
        let activity = Arc::new(Activity::new());
        let second = Duration::from_secs(1);
        let answers = tower::service_fn(|request: Request<()>| async move {
            let mut response = Response::new(());
            if request.uri().path() == "/unknown" {
                response.extensions_mut().insert(Unknown);
            }
            Ok::<_, std::convert::Infallible>(response)
        });
        for (path, quiet) in [
            ("/unknown", second),
            ("/grpc.health.v1.Health/Check", 2 * second),
            ("/known", Duration::ZERO),
        ] {
            tokio::time::advance(second).await;
            let mut introduced = Introduced {
                peer: Arc::default(),
                activity: Arc::clone(&activity),
                inner: answers,
            };
            let request = Request::get(path).body(()).unwrap();
            drop(introduced.call(request).await.unwrap());
            assert_eq!(activity.quiet(), Some(quiet), "{path}");
        }
    }
}
