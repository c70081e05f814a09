//! One log line and one count for every call, however it ends.
//!
//! The line names the call and its outcome. Requests themselves are logged at `debug` only, and
//! without what the contract marks as sensitive.

use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::api::Request;
use crate::edge::status;
use crate::error::{Error, ErrorKind};
use crate::gateway::{Call, Door, Reply};
use crate::telemetry::Metrics;

#[derive(Debug, Clone)]
pub struct ObserveLayer {
    metrics: Metrics,
}

impl ObserveLayer {
    pub fn new(metrics: Metrics) -> Self {
        Self { metrics }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Observe<S> {
    inner: S,
    metrics: Metrics,
}

impl<S> Service<Call> for Observe<S>
where
    S: Service<Call, Response = Reply, Error = Error>,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let request_id = call.request_id.clone();
        let record = Record::begin(&self.metrics, &call.request, call.door, request_id);
        let answer = self.inner.call(call);
        Box::pin(async move {
            let outcome = answer.await;
            record.end(&outcome);
            outcome
        })
    }
}

/// Written when dropped, so that a call whose caller went away is on the record too.
pub(super) struct Record {
    operation: &'static str,
    door: &'static str,
    request_id: String,
    started: Instant,
    metrics: Metrics,
    outcome: Option<Result<(), Error>>,
}

impl Record {
    pub(super) fn begin(
        metrics: &Metrics,
        request: &Request,
        door: Door,
        request_id: String,
    ) -> Self {
        let operation = request.operation().name();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let request = request.redacted();
            tracing::debug!(operation, request_id, %request, "call begins");
        }
        Self {
            operation,
            door: door.name(),
            request_id,
            started: Instant::now(),
            metrics: metrics.clone(),
            outcome: None,
        }
    }

    pub(super) fn end<T>(mut self, outcome: &Result<T, Error>) {
        self.outcome = Some(outcome.as_ref().map(drop).map_err(Clone::clone));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let reason = match &self.outcome {
            None => "ABANDONED",
            Some(Ok(())) => "OK",
            Some(Err(error)) => status::meaning(&error.kind).reason,
        };
        self.metrics
            .call(self.operation, self.door, reason, elapsed);
        let Self {
            operation,
            door,
            request_id,
            ..
        } = self;
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        match &self.outcome {
            // A defect of ours: the one case whose text callers do not see.
            Some(Err(error)) if *error.kind == ErrorKind::Internal => {
                tracing::error!(operation, door, request_id, outcome = reason, micros, cause = %error, "call failed");
            }
            _ => tracing::info!(
                operation,
                door,
                request_id,
                outcome = reason,
                micros,
                "call"
            ),
        }
    }
}
