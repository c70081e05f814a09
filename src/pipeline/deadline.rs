//! Ends a call at its caller's deadline.
//!
//! The work behind may go on: a mutation that the engine has begun is applied whole, and its
//! outcome is there for the caller to read.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::error::{Error, ErrorKind};
use crate::gateway::{Call, Reply};

#[derive(Debug, Clone, Copy)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = Deadline<S>;

    fn layer(&self, inner: S) -> Deadline<S> {
        Deadline { inner }
    }
}

#[derive(Debug, Clone)]
pub struct Deadline<S> {
    inner: S,
}

impl<S> Service<Call> for Deadline<S>
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
        let deadline = tokio::time::Instant::from_std(call.deadline);
        if has_passed(call.deadline) {
            return Box::pin(std::future::ready(Err(passed(
                "the deadline had passed before the call began; nothing was changed",
            ))));
        }
        let repeatable = call.request.repeatable();
        let answer = self.inner.call(call);
        Box::pin(async move {
            tokio::time::timeout_at(deadline, answer)
                .await
                .unwrap_or_else(|_| {
                    Err(passed(if repeatable {
                        "the deadline passed; the call may have been applied, and can be repeated safely"
                    } else {
                        "the deadline passed; the call may have been applied: read the resource before repeating it"
                    }))
                })
        })
    }
}

/// Whether the caller no longer waits.
pub(super) fn has_passed(deadline: std::time::Instant) -> bool {
    deadline <= tokio::time::Instant::now().into_std()
}

fn passed(message: &str) -> Error {
    Error::new(ErrorKind::DeadlineExceeded, message)
}
