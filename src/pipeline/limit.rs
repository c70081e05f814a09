//! Refuses calls beyond the limits of their caller, or of all callers.
//!
//! Operations that end work that is under way are let through: the contract says which they are.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::api::Operation;
use crate::auth::Principal;
use crate::error::{Error, Result};
use crate::gateway::{Call, Reply};
use crate::limits::{Held, Limiter};

/// Lets a call begin that nothing forbids; it counts as long as what is returned is held.
pub(super) fn let_in(
    limiter: Option<&Limiter>,
    operation: Operation,
    principal: &Principal,
) -> Result<Option<Held>> {
    limiter
        .filter(|_| !operation.policy().relieves)
        .map(|limiter| limiter.call(operation.rpc(), principal))
        .transpose()
}

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
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let step = call.trace.step("limit");
        let let_in = let_in(Some(&self.limiter), call.operation, &call.principal);
        step.end(let_in.as_ref().err().map(|_| "THROTTLED"));
        match let_in {
            Ok(held) => {
                let held = held.map(Arc::new);
                // What goes on when the caller goes away still takes its place.
                call.held.clone_from(&held);
                let answer = self.inner.call(call);
                Box::pin(async move {
                    let _held = held;
                    answer.await
                })
            }
            Err(error) => Box::pin(std::future::ready(Err(error))),
        }
    }
}
