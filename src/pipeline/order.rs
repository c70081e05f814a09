//! Lets mutations of a resource wait while a deployment of it runs, and keeps them in the order in
//! which they came.
//!
//! Who waits and who is next is in [`line`](mod@line); here is when a mutation is tried.

mod line;

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tower::{Layer, Service, ServiceExt};

use self::line::{Lines, Turn};
use super::subject::Key;
use crate::changes::Changes;
use crate::config::order::OrderConfig;
use crate::error::{Error, Result};
use crate::etag;
use crate::gateway::{Call, Reply};
use crate::ledger::Ledger;
use crate::server::Shutdown;
use crate::telemetry::metrics::Level;
use crate::telemetry::{Metrics, Trace};

/// How long a mutation that was refused rests at least, whatever is published.
const PAUSE: Duration = Duration::from_millis(250);
/// And at most: what others change is not published.
const POLL: Duration = Duration::from_secs(4);
/// What is left of a caller's time for its answer to reach it.
const MARGIN: Duration = Duration::from_millis(500);

/// The lines before all resources. Clones share them.
#[derive(Clone)]
pub struct Order {
    lines: Lines,
    changes: Changes,
    shutdown: Shutdown,
    wait: Duration,
    /// Who is told of those who wait; nobody where it is absent.
    metrics: Option<Metrics>,
}

impl Order {
    /// Lines whose waiters are woken by what is published in `changes`; absent where nobody is to
    /// wait. When the program stops, nobody waits any more.
    pub fn new(config: &OrderConfig, changes: &Changes, shutdown: &Shutdown) -> Option<Self> {
        config.enabled.then(|| Self {
            lines: Lines::new(config.queue, config.total),
            changes: changes.clone(),
            shutdown: shutdown.clone(),
            wait: config.wait.0,
            metrics: None,
        })
    }

    /// The same, whose waiters `metrics` are told of.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// When a call that comes now stops to wait.
    fn end(&self, call: &Call) -> Instant {
        let now = Instant::now();
        let left = Instant::from_std(call.deadline).saturating_duration_since(now);
        now + self.wait.min(left - MARGIN.min(left / 10))
    }

    /// What comes of `future`, if it comes while a call may wait.
    async fn while_waiting<F: Future>(&self, end: Instant, future: F) -> Option<F::Output> {
        tokio::select! {
            outcome = timeout_at(end, future) => outcome.ok(),
            () = self.shutdown.clone().told() => None,
        }
    }
}

#[derive(Clone)]
pub struct OrderLayer {
    order: Order,
    ledger: Option<Ledger>,
}

impl OrderLayer {
    /// What the ledger knows the outcome of does not wait: it changes nothing.
    pub fn new(order: Order, ledger: Option<Ledger>) -> Self {
        Self { order, ledger }
    }
}

impl<S> Layer<S> for OrderLayer {
    type Service = Ordered<S>;

    fn layer(&self, inner: S) -> Ordered<S> {
        Ordered {
            inner,
            order: self.order.clone(),
            ledger: self.ledger.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Ordered<S> {
    inner: S,
    order: Order,
    ledger: Option<Ledger>,
}

impl<S> Service<Call> for Ordered<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        // What ends work must not wait for its end. Reads and creates have no subject.
        let key = match call.operation.policy().relieves {
            true => None,
            false => Key::of(&call),
        };
        let Some(key) = key else {
            return Box::pin(self.inner.call(call));
        };
        // The one that is ready.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        let (order, ledger) = (self.order.clone(), self.ledger.clone());
        Box::pin(async move {
            if let Some(ledger) = ledger
                && ledger.knows(&call).await
            {
                return inner.oneshot(call).await;
            }
            in_turn(inner, order, key, call).await
        })
    }
}

async fn in_turn<S>(inner: S, order: Order, key: Key, call: Call) -> Result<Reply>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone,
{
    let came = Instant::now();
    let end = order.end(&call);
    let mut waiting = Waiting::not_yet(&order, &call.trace);
    let Some(mut place) = order.lines.enter(key) else {
        return Err(crowded(&call));
    };
    if !place.is_first() {
        waiting.begin();
    }
    match order.while_waiting(end, place.turn()).await {
        Some(Turn::Yours) => {}
        Some(Turn::Never) => return Err(crowded(&call)),
        None => return Err(not_its_turn(&call, came.elapsed())),
    }
    let name = call.request.name();
    // Before the first attempt, so that no change is missed after it.
    let news = name.map(|name| order.changes.listen(&name));
    let mut waits = false;
    loop {
        let refused = match inner.clone().oneshot(call.clone()).await {
            Err(error) if error.is_in_progress() => error,
            outcome => {
                waiting.went_on = true;
                return outcome;
            }
        };
        if !place.block() {
            return Err(Error {
                message: format!(
                    "{}; too many calls wait for other resources already",
                    refused.message
                ),
                ..refused
            });
        }
        if !std::mem::replace(&mut waits, true) {
            let (operation, request_id) = (call.operation.name(), &call.request_id);
            tracing::info!(operation, request_id, "call waits for a deployment");
            waiting.begin();
        }
        let rest = async {
            sleep(PAUSE).await;
            let changed = async {
                match &news {
                    Some(news) => news.notified().await,
                    None => std::future::pending().await,
                }
            };
            // Late or not: it is tried again.
            let _ = timeout(POLL - PAUSE, changed).await;
        };
        if order.while_waiting(end, rest).await.is_none() {
            return Err(waited(refused, came.elapsed()));
        }
    }
}

/// The waiting of one call, if it waits: how long, and whether it went on then.
struct Waiting {
    metrics: Option<Metrics>,
    trace: Trace,
    began: Option<(Instant, Option<Level>, Trace)>,
    went_on: bool,
}

impl Waiting {
    fn not_yet(order: &Order, trace: &Trace) -> Self {
        Self {
            metrics: order.metrics.clone(),
            trace: trace.clone(),
            began: None,
            went_on: false,
        }
    }

    fn begin(&mut self) {
        let Self { metrics, trace, .. } = self;
        self.began.get_or_insert_with(|| {
            let level = metrics.as_ref().map(Metrics::order_waiting);
            (Instant::now(), level, trace.step("order"))
        });
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some((began, _, step)) = self.began.take() else {
            return;
        };
        let outcome = if self.went_on { "went-on" } else { "gave-up" };
        if let Some(metrics) = &self.metrics {
            metrics.order_waited(outcome, began.elapsed());
        }
        step.end((!self.went_on).then_some("GAVE_UP"));
    }
}

/// The refusal of a mutation that was tried, and has waited.
fn waited(refused: Error, time: Duration) -> Error {
    let message = format!("{} (waited {} s)", refused.message, time.as_secs());
    Error { message, ..refused }
}

fn not_its_turn(call: &Call, time: Duration) -> Error {
    let subject = subject(call);
    let seconds = time.as_secs();
    Error::in_progress(
        &subject,
        format!(
            "other calls that change {subject} came before, and are not done yet (waited {seconds} s); nothing was changed"
        ),
    )
}

fn crowded(call: &Call) -> Error {
    let subject = subject(call);
    Error::in_progress(
        &subject,
        format!(
            "as many calls as may wait already do so until {subject} can be changed; nothing was changed, send it again later"
        ),
    )
}

fn subject(call: &Call) -> String {
    let read = call.request.subject();
    read.map_or_else(String::new, |read| etag::subject_of(&read))
}

#[cfg(test)]
mod tests;
