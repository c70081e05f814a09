//! Gives answers the version of what they show, and holds mutations to the version that their
//! callers have seen.
//!
//! A backend that can compare and change in one transaction does it itself. For all others the
//! subject is read here, compared, and changed only then, while other mutations of it that come
//! through this gateway wait. What changes it elsewhere in between is not seen.

mod locks;

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service, ServiceExt};

use self::locks::Locks;
use super::subject::Key;
use crate::api::Idempotency;
use crate::cache::demand::Demand;
use crate::error::{Error, Result};
use crate::etag::{Condition, Etag, Expected};
use crate::gateway::{Call, Door, Reply};

/// Who compares versions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Compared {
    /// This layer, before the mutation.
    #[default]
    Before,
    /// The backend, in the mutation's transaction.
    Within,
}

#[derive(Clone)]
pub struct ConditionLayer {
    locks: Option<Locks>,
}

impl ConditionLayer {
    pub fn new(compared: Compared) -> Self {
        Self {
            locks: (compared == Compared::Before).then(Locks::default),
        }
    }
}

impl<S> Layer<S> for ConditionLayer {
    type Service = Conditional<S>;

    fn layer(&self, inner: S) -> Conditional<S> {
        Conditional {
            inner,
            locks: self.locks.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Conditional<S> {
    inner: S,
    /// Absent where the backend compares.
    locks: Option<Locks>,
}

impl<S> Service<Call> for Conditional<S>
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
        if call.door == Door::Wait {
            // Nobody is given its etag.
            return Box::pin(self.inner.call(call));
        }
        let mutates = call.operation.policy().idempotency != Idempotency::Read;
        let key = if mutates { Key::of(&call) } else { None };
        // The one that is ready.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        match (&self.locks, key) {
            (Some(locks), Some(key)) => {
                let locks = locks.clone();
                Box::pin(async move { mutate(inner, locks, key, call).await.map(tagged) })
            }
            _ => {
                let answer = inner.call(call);
                Box::pin(async move { answer.await.map(tagged) })
            }
        }
    }
}

/// The reply with the version of what it shows.
pub(super) fn tagged(reply: Reply) -> Reply {
    Reply {
        etag: Etag::of(&reply.response),
        ..reply
    }
}

async fn mutate<S>(mut inner: S, locks: Locks, key: Key, call: Call) -> Result<Reply>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    let Some(condition) = Condition::of(&call) else {
        // What ends work changes nothing that a condition is about.
        let _held = match call.operation.policy().relieves {
            true => None,
            false => Some(locks.shared(key).await),
        };
        return inner.call(call).await;
    };
    let held = locks.alone(key).await;
    let read = Call {
        operation: condition.read.operation(),
        request: condition.read.clone(),
        expected: Expected::Any,
        demand: Demand::FRESH,
        ..call.clone()
    };
    let shown = inner.clone().oneshot(read).await.map_err(not_compared)?;
    condition.check(&shown.response)?;
    // It is seen through although its caller goes away: nobody compares with the state before it
    // while it may still be applied.
    let mutation = tokio::spawn(async move {
        let _held = held;
        inner.oneshot(call).await
    });
    mutation
        .await
        .unwrap_or_else(|_| Err(Error::internal("a conditional mutation broke off")))
}

/// Why the subject could not be read. What does not exist is not there for the mutation either.
fn not_compared(error: Error) -> Error {
    if error.is_not_found() {
        return error;
    }
    let message = format!(
        "the expected version could not be compared, and nothing was changed: {}",
        error.message
    );
    Error { message, ..error }
}

#[cfg(test)]
mod tests;
