//! Refuses what the caller may not do, before anything is asked of the backend; and where a request
//! names no more than an id, once more when it is known what that belongs to.

use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use serde_json::json;
use tower::{Layer, Service, ServiceExt};

use crate::api::{Operation, Request};
use crate::auth::policy::Authorizer;
use crate::auth::policy::exempt;
use crate::auth::policy::resource::Resource;
use crate::cache::demand::Demand;
use crate::error::Error;
use crate::etag::Expected;
use crate::gateway::{Call, Reply};
use crate::ledger::Key;

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
            step.end((!decision.allowed).then_some("DENIED"));
            let finder = authorizer.finder(call.operation);
            if finder.is_none() || !decision.allowed {
                call.decision.set(&decision);
            }
            authorizer.enforce(&decision, &principal, rpc, &resource)?;
            let mut reply = match finder {
                None => inner.call(call).await?,
                Some(get) => {
                    let decided = call.decision.clone();
                    let asked = Asked {
                        authorizer: &authorizer,
                        call: call.clone(),
                        resource,
                    };
                    let answered = asked.answered(get, inner).await;
                    // Unless it was decided on what was found.
                    decided.set(&decision);
                    answered?
                }
            };
            authorizer
                .filter(&principal, upstream.as_deref(), &mut reply.response)
                .await;
            Ok(reply)
        })
    }
}

/// A call that names no more than an id, and may be made as far as that goes.
struct Asked<'a> {
    authorizer: &'a Authorizer,
    call: Call,
    resource: Resource,
}

impl Asked<'_> {
    /// The answer of `inner`, if the caller may have it or make it. `get` shows what it is about.
    async fn answered<S>(self, get: Operation, mut inner: S) -> Result<Reply, Error>
    where
        S: Service<Call, Response = Reply, Error = Error> + Clone + Send + 'static,
        S::Future: Send,
    {
        if get == self.call.operation {
            let reply = inner.call(self.call.clone()).await?;
            self.decide_on(&reply).await?;
            return Ok(reply);
        }
        match inner.clone().oneshot(self.finding(get)?).await {
            Ok(found) => self.decide_on(&found).await?,
            // What is not there belongs to nobody.
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
        inner.call(self.call).await
    }

    /// Asks for what the call names, as its caller.
    fn finding(&self, get: Operation) -> Result<Call, Error> {
        Ok(Call {
            operation: get,
            request: Request::from_json(get, json!({ "id": self.resource.id() }))?,
            demand: Demand::default(),
            key: Key::default(),
            expected: Expected::Any,
            ..self.call.clone()
        })
    }

    async fn decide_on(&self, found: &Reply) -> Result<(), Error> {
        let (principal, rpc) = (&self.call.principal, self.call.operation.rpc());
        let found = self.resource.clone().found_in(&found.response);
        let decision = self.authorizer.decide(principal, rpc, &found).await;
        self.call.decision.set(&decision);
        self.authorizer.enforce(&decision, principal, rpc, &found)
    }
}
