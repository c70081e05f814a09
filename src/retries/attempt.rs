//! One attempt of a call: past the circuit, and where that is wanted, with a second one beside it
//! that is sent when the first is slow to be answered.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::{BoxFuture, Either, select};
use tower::retry::budget::Budget;
use tower::{Service, ServiceExt};

use super::{Retries, Upstream, repeat};
use crate::api::Idempotency;
use crate::error::Error;
use crate::gateway::{Call, Door, Reply};

/// Why an attempt brought no reply.
#[derive(Debug)]
pub(crate) enum Failed {
    /// It was made, and this came of it.
    Made(Error),
    /// The circuit did not let it through.
    Refused(Error),
}

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Made(error) | Failed::Refused(error) => error,
        }
    }
}

/// Makes attempts of calls of one upstream.
#[derive(Clone)]
pub(crate) struct Attempt<S> {
    inner: S,
    retries: Retries,
    upstream: Arc<Upstream>,
}

impl<S> Attempt<S> {
    pub(crate) fn new(inner: S, retries: Retries, upstream: Arc<Upstream>) -> Self {
        Self {
            inner,
            retries,
            upstream,
        }
    }
}

impl<S> Service<Call> for Attempt<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Failed;
    type Future = BoxFuture<'static, Result<Reply, Failed>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Failed>> {
        // Whether the backend is asked at all is not known yet.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let attempt = self.clone();
        let config = attempt.retries.config();
        let hedges = attempt.retries.is_remote()
            && call.door != Door::Wait
            && call.operation.policy().idempotency == Idempotency::Read;
        match config.hedge_after.filter(|_| hedges) {
            Some(after) => Box::pin(attempt.hedged(call, after.0)),
            None => Box::pin(attempt.once(call)),
        }
    }
}

impl<S> Attempt<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    async fn once(self, call: Call) -> Result<Reply, Failed> {
        let circuit = self.upstream.circuit.as_ref();
        let passage = circuit
            .map(|circuit| circuit.pass(call.deadline.into()))
            .transpose()
            .map_err(Failed::Refused)?;
        let outcome = self.inner.oneshot(call).await;
        if let Some(passage) = passage {
            passage.end(&outcome);
        }
        outcome.map_err(Failed::Made)
    }

    /// Asks a second time if there is no answer `after` this time; the first answer holds.
    async fn hedged(self, call: Call, after: Duration) -> Result<Reply, Failed> {
        let metrics = self.retries.metrics().clone();
        let mut first = pin!(self.clone().once(call.clone()));
        if let Ok(outcome) = tokio::time::timeout(after, &mut first).await {
            return outcome;
        }
        if !self.upstream.budget.withdraw() {
            metrics.hedge("over-budget");
            return first.await;
        }
        let attempt = call.attempt + 1;
        let second = pin!(self.once(Call { attempt, ..call }));
        let (outcome, won, other) = match select(first, second).await {
            Either::Left((outcome, other)) => (outcome, false, Either::Left(other)),
            Either::Right((outcome, other)) => (outcome, true, Either::Right(other)),
        };
        if is_answer(&outcome) {
            metrics.hedge(if won { "won" } else { "lost" });
            return outcome;
        }
        let later = other.await;
        if is_answer(&later) {
            metrics.hedge(if won { "lost" } else { "won" });
            return later;
        }
        metrics.hedge("failed");
        match (outcome, later) {
            // What was not let through says nothing.
            (made, Err(Failed::Refused(_))) | (Err(Failed::Refused(_)), made) => made,
            (_, Err(Failed::Made(mut error))) => {
                error.attempts = 2;
                Err(Failed::Made(error))
            }
            (_, later) => later,
        }
    }
}

/// Whether there is nothing better to come.
fn is_answer(outcome: &Result<Reply, Failed>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(Failed::Made(error)) => !repeat::may_be_repeated(error),
        Err(Failed::Refused(_)) => false,
    }
}
