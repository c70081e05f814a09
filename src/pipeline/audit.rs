//! Puts down who changed what, and who was denied.
//!
//! What is put down and where is in [`crate::audit`]; here is when.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::audit::Audit;
use crate::auth::policy::Decided;
use crate::error::Error;
use crate::gateway::{Call, Reply};

#[derive(Clone)]
pub struct AuditLayer {
    audit: Audit,
}

impl AuditLayer {
    pub fn new(audit: Audit) -> Self {
        Self { audit }
    }
}

impl<S> Layer<S> for AuditLayer {
    type Service = Audited<S>;

    fn layer(&self, inner: S) -> Audited<S> {
        Audited {
            inner,
            audit: self.audit.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Audited<S> {
    inner: S,
    audit: Audit,
}

impl<S> Service<Call> for Audited<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        if !call.decision.is_wanted() {
            call.decision = Decided::wanted();
        }
        let audit = self.audit.clone();
        // The one that was asked whether it is ready.
        let unready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, unready);
        Box::pin(async move {
            let entry = audit.begin(&call).await?;
            let outcome = inner.call(call).await;
            entry.end(&outcome);
            outcome
        })
    }
}
