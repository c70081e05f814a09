//! Repeats attempts that failed, where that is harmless, and leaves an upstream alone that fails
//! again and again.
//!
//! What is repeated, and when, is decided in [`crate::retries`]. Each attempt of a call carries the
//! same request, and so the same client token.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::retry::Retry;
use tower::{Layer, Service, ServiceExt};
use uuid::Uuid;

use crate::api::{Idempotency, Operation};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Call, Door, Reply};
use crate::retries::Retries;
use crate::retries::attempt::Attempt;
use crate::retries::repeat::Repeat;

#[derive(Clone)]
pub struct RetryLayer {
    retries: Retries,
}

impl RetryLayer {
    pub fn new(retries: Retries) -> Self {
        Self { retries }
    }
}

impl<S> Layer<S> for RetryLayer {
    type Service = Retried<S>;

    fn layer(&self, inner: S) -> Retried<S> {
        Retried {
            inner,
            retries: self.retries.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Retried<S> {
    inner: S,
    retries: Retries,
}

impl<S> Service<Call> for Retried<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        // Each attempt asks for itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let name = call
            .identity
            .as_ref()
            .and_then(|identity| identity.upstream.as_ref());
        let upstream = self.retries.upstream(name);
        let (inner, retries) = (self.inner.clone(), self.retries.clone());
        let attempt = Attempt::new(inner, retries.clone(), upstream.clone());
        if call.door == Door::Wait {
            // It has a rhythm of its own, and asks again by itself.
            return Box::pin(async move { Ok(attempt.oneshot(call).await?) });
        }
        upstream.deposit();
        let ours = retries.is_remote() && complete(&mut call);
        let operation = call.operation;
        let policy = Repeat::new(retries, upstream, call.deadline.into());
        Box::pin(async move {
            let outcome = Retry::new(policy, attempt).oneshot(call).await;
            outcome.map_err(|failed| match ours {
                true => without_token(failed.into(), operation),
                false => failed.into(),
            })
        })
    }
}

/// Gives a call a token by which a repeat is known, where it could have one and has none. Says
/// whether it did.
fn complete(call: &mut Call) -> bool {
    let takes = call.operation.policy().idempotency == Idempotency::ClientToken;
    if !takes || call.request.repeatable() {
        return false;
    }
    // As AWS's SDKs make it.
    call.request.set_client_token(Uuid::new_v4().to_string());
    true
}

/// The error of a call whose token was ours. Its caller does not know the token: if it repeats
/// the call, that is another one.
fn without_token(mut error: Error, operation: Operation) -> Error {
    if error.unsettled && error.retry_after().is_some() {
        *error.kind = ErrorKind::OutcomeUnknown;
        error.message = format!(
            "{}; the call may have been applied: read the {} before repeating it",
            error.message,
            operation.policy().resource
        );
    }
    error
}

#[cfg(test)]
mod tests;
