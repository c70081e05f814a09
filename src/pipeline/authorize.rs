//! Refuses what the caller may not do, before anything is asked of the backend.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tower::{Layer, Service};

use crate::auth::policy::Authorizer;
use crate::auth::policy::exempt;
use crate::auth::policy::resource::Resource;
use crate::error::Error;
use crate::gateway::{Call, Reply};

#[derive(Clone)]
pub struct AuthorizeLayer {
    authorizer: Authorizer,
}

impl AuthorizeLayer {
    pub fn new(authorizer: Authorizer) -> Self {
        Self { authorizer }
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize {
            authorizer: self.authorizer.clone(),
            inner,
        }
    }
}

#[derive(Clone)]
pub struct Authorize<S> {
    authorizer: Authorizer,
    inner: S,
}

impl<S> Service<Call> for Authorize<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        if exempt(&call.principal) {
            return Box::pin(self.inner.call(call));
        }
        let authorizer = self.authorizer.clone();
        // The one that is ready.
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        Box::pin(async move {
            let step = call.trace.step("authorize");
            let principal = call.principal.clone();
            let upstream = call.upstream.clone();
            let resource = Resource::of(&call.request)?.at(upstream.as_deref());
            let rpc = call.operation.rpc();
            let decision = authorizer.decide(&principal, rpc, &resource).await;
            call.decision.set(&decision);
            step.end((!decision.allowed).then_some("DENIED"));
            authorizer.enforce(&decision, &principal, rpc, &resource)?;
            let mut reply = inner.call(call).await?;
            authorizer
                .filter(&principal, upstream.as_deref(), &mut reply.response)
                .await;
            Ok(reply)
        })
    }
}
