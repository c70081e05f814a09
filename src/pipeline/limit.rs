//! Refuses calls beyond the limits of their caller, or of all callers.
//!
//! Operations that end work that is under way are let through: the contract says which they are.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::error::Error;
use crate::gateway::{Call, Reply};
use crate::limits::Limiter;

#[derive(Clone)]
pub struct LimitLayer {
    limiter: Limiter,
}

impl LimitLayer {
    pub fn new(limiter: Limiter) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for LimitLayer {
    type Service = Limit<S>;

    fn layer(&self, inner: S) -> Limit<S> {
        Limit {
            inner,
            limiter: self.limiter.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Limit<S> {
    inner: S,
    limiter: Limiter,
}

impl<S> Service<Call> for Limit<S>
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
        if call.operation.policy().relieves {
            return Box::pin(self.inner.call(call));
        }
        match self.limiter.call(call.operation.rpc(), &call.principal) {
            Ok(held) => {
                let answer = self.inner.call(call);
                Box::pin(async move {
                    // Given back when the call ends, or its caller goes away.
                    let _held = held;
                    answer.await
                })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
