//! One log line and one count for every call, however it ends; and what was decided of it, on its
//! span.
//!
//! The line names the call and its outcome. Requests themselves are logged at `debug` only, and
//! without what the contract marks as sensitive.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use futures_util::future::BoxFuture;
use opentelemetry::KeyValue;
use tower::{Layer, Service};

use crate::api::{Operation, Request};
use crate::auth::policy::{Decided, Decision};
use crate::auth::{Method, Principal};
use crate::cache::demand::Status;
use crate::edge::status;
use crate::error::{Error, ErrorKind};
use crate::gateway::{Call, Door, Reply};
use crate::telemetry::{Metrics, Trace};

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

    fn call(&mut self, mut call: Call) -> Self::Future {
        call.trace = call.trace.of_call(call.operation.name());
        call.decision = Decided::wanted();
        let subject = Subject {
            door: call.door,
            request_id: call.request_id.clone(),
            principal: Arc::clone(&call.principal),
            trace: call.trace.clone(),
        };
        let record = Record::begin(&self.metrics, &call.request, subject);
        let decision = call.decision.clone();
        let answer = self.inner.call(call);
        Box::pin(async move {
            let outcome = answer.await;
            record.end(&outcome, |reply| Decisions {
                policies: decision.get().map(|decision| &**decision),
                cache: reply.and_then(|reply| reply.served).map(|it| it.status),
                attempts: reply.map_or(1, |reply| reply.attempts),
                replayed: reply.is_some_and(|reply| reply.replayed),
            });
            outcome
        })
    }
}

/// Whose call it is, and where it came.
pub(super) struct Subject {
    pub door: Door,
    pub request_id: String,
    pub principal: Arc<Principal>,
    pub trace: Trace,
}

/// What was decided of a call on its way.
#[derive(Default)]
pub(super) struct Decisions<'a> {
    pub policies: Option<&'a Decision>,
    pub cache: Option<Status>,
    pub attempts: u32,
    pub replayed: bool,
}

/// Written when dropped, so that a call whose caller went away is on the record too.
pub(super) struct Record {
    operation: Operation,
    subject: Subject,
    started: Instant,
    metrics: Metrics,
    ended: bool,
}

impl Record {
    pub(super) fn begin(metrics: &Metrics, request: &Request, subject: Subject) -> Self {
        let operation = request.operation();
        if tracing::enabled!(tracing::Level::DEBUG) {
            let (operation, request) = (operation.name(), request.redacted());
            let request_id = &subject.request_id;
            tracing::debug!(operation, request_id, %request, "call begins");
        }
        Self {
            operation,
            subject,
            started: Instant::now(),
            metrics: metrics.clone(),
            ended: false,
        }
    }

    /// `decisions` are asked for what was decided, by the reply, if there is one.
    pub(super) fn end<'a, T>(
        mut self,
        outcome: &'a Result<T, Error>,
        decisions: impl FnOnce(Option<&'a T>) -> Decisions<'a>,
    ) {
        self.ended = true;
        let decisions = decisions(outcome.as_ref().ok());
        self.write(Some(outcome.as_ref().err()), &decisions);
    }

    /// `failure` is absent where there was no outcome.
    fn write(&self, failure: Option<Option<&Error>>, decisions: &Decisions<'_>) {
        let took = self.started.elapsed();
        let outcome = match failure {
            None => "ABANDONED",
            Some(None) => "OK",
            Some(Some(error)) => status::meaning(&error.kind).reason,
        };
        let Subject {
            door,
            request_id,
            principal,
            trace,
        } = &self.subject;
        self.metrics.call(self.operation, *door, outcome, took);
        let error = failure.flatten();
        let attempts = error.map_or(decisions.attempts, |error| error.attempts);
        let replayed = error.map_or(decisions.replayed, |error| error.replayed);
        let limit = error.and_then(|error| match &*error.kind {
            ErrorKind::Throttled { limit, .. } => Some(*limit),
            _ => None,
        });
        let known = principal.method != Method::Anonymous;
        let principal = known.then_some(principal.id.as_str());
        let policies = decisions.policies.map(Decision::policies);
        let policies = policies.filter(|policies| !policies.is_empty());
        // Mostly it is one.
        let joined;
        let policy = match policies {
            Some([one]) => Some(one.as_str()),
            Some(more) => {
                joined = more.join(",");
                Some(joined.as_str())
            }
            None => None,
        };
        let cache = decisions.cache.map(Status::name);
        trace.note(|span| {
            span.set_attribute(KeyValue::new("proton.outcome", outcome));
            for (name, value) in [
                ("proton.principal", principal),
                ("proton.policy", policy),
                ("proton.limit", limit),
                ("proton.cache", cache),
            ] {
                if let Some(value) = value {
                    span.set_attribute(KeyValue::new(name, value.to_owned()));
                }
            }
            if attempts > 1 {
                span.set_attribute(KeyValue::new("proton.attempts", i64::from(attempts)));
            }
            if replayed {
                span.set_attribute(KeyValue::new("proton.replayed", true));
            }
        });
        let operation = self.operation.name();
        let door = door.name();
        let attempts = (attempts > 1).then_some(attempts);
        let replayed = replayed.then_some(true);
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match error {
            // A defect of ours: the one case whose text callers do not see.
            Some(error) if *error.kind == ErrorKind::Internal => {
                tracing::error!(
                    operation, door, request_id, principal, policy, outcome, micros, cause = %error,
                    "call failed"
                );
            }
            _ => tracing::info!(
                operation, door, request_id, principal, policy, limit, cache, attempts, replayed,
                outcome, micros, "call"
            ),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.write(None, &Decisions::default());
        }
    }
}
