//! What is asked of whoever opens a call or a stream.
//!
//! The guards of calls are layers of the pipeline. A stream is no call: what it polls, the gateway
//! asks for itself. So it is admitted here, by the same guards, and leaves when it may no longer
//! stay.

use std::sync::Arc;
use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::api::{Operation, Request, Response, Rpc};
use crate::audit::Audit;
use crate::auth::Principal;
use crate::auth::policy::resource::Resource;
use crate::auth::policy::{Authorizer, exempt};
use crate::edge::Arrival;
use crate::error::{Error, Result};
use crate::gateway::{Call, Door};
use crate::limits::{Held, Limiter};
use crate::upstream::{Identities, Identity};

/// The guards of calls and streams. Clones share them.
#[derive(Clone, Default)]
pub struct Guards {
    /// Who was denied; absent where nothing is put down.
    pub audit: Option<Audit>,
    /// Says who may do what; absent where callers are not authenticated.
    pub authorizer: Option<Authorizer>,
    /// How much callers may ask for; absent where nothing is limited.
    pub limiter: Option<Limiter>,
    /// How many streams may be open, where nothing is limited.
    pub streams: Option<Limiter>,
    /// As whom the upstream is asked.
    pub identities: Identities,
}

impl Guards {
    /// What shows what a stream about `request` is about, where the request names no more than an id:
    /// it has to be admitted to what is found as well.
    pub fn finder(&self, request: &Request, arrival: &Arrival) -> Option<Operation> {
        let authorizer = self.authorizer.as_ref();
        let authorizer = authorizer.filter(|_| !exempt(&arrival.principal))?;
        authorizer.finder(request.operation())
    }

    /// Lets a stream go on that was admitted, now that `found` is what it is about.
    pub async fn admit_to(
        &self,
        found: &Response,
        admission: Admission,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let Some(authorizer) = &self.authorizer else {
            return Ok(admission);
        };
        let resource = Resource::of(request)?.at(arrival.upstream.as_deref());
        let resource = resource.found_in(found);
        let permitted = permitted(authorizer, &arrival.principal, rpc, resource).await;
        self.put_down(rpc, request, arrival, &permitted);
        let (revoked, over) = (permitted?, admission.over.clone());
        let over = async move {
            tokio::select! {
                () = over => {}
                () = revoked => {}
            }
        };
        Ok(Admission {
            over: over.boxed().shared(),
            ..admission
        })
    }

    fn put_down<T>(
        &self,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
        admitted: &Result<T>,
    ) {
        if let (Err(error), Some(audit)) = (admitted, &self.audit) {
            let call = Call::new(request.clone(), Door::Grpc, arrival);
            audit.denied(rpc, &call, error);
        }
    }

    /// Lets a caller open a stream of `rpc` about what `request` names, or says why not.
    pub async fn admit(
        &self,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let admitted = self.decide(rpc, request, arrival).await;
        self.put_down(rpc, request, arrival, &admitted);
        admitted
    }

    async fn decide(
        &self,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let revoked = match &self.authorizer {
            Some(authorizer) if !exempt(&arrival.principal) => {
                let resource = Resource::of(request)?.at(arrival.upstream.as_deref());
                permitted(authorizer, &arrival.principal, rpc, resource).await?
            }
            _ => std::future::pending().boxed(),
        };
        let limiter = self.limiter.as_ref().or(self.streams.as_ref());
        let held = limiter
            .map(|limiter| limiter.stream(rpc, &arrival.principal))
            .transpose()?;
        let expires = arrival.principal.expires;
        let expired = async move {
            match expires {
                Some(at) => {
                    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                    tokio::time::sleep(left).await;
                }
                None => std::future::pending().await,
            }
        };
        let over = async move {
            tokio::select! {
                () = expired => {}
                () = revoked => {}
            }
        };
        let identity = self
            .identities
            .of(&arrival.principal, arrival.upstream.as_deref())?;
        Ok(Admission {
            over: over.boxed().shared(),
            identity,
            _held: held,
        })
    }
}

/// Returns what ends when the caller may no longer do what it may do now; an error if it may not.
async fn permitted(
    authorizer: &Authorizer,
    principal: &Arc<Principal>,
    rpc: &'static Rpc,
    resource: Resource,
) -> Result<BoxFuture<'static, ()>> {
    // Before the decision, so that no change is missed after it.
    let mut changes = authorizer.changes();
    authorizer.check(principal, rpc, &resource).await?;
    let (authorizer, principal) = (authorizer.clone(), Arc::clone(principal));
    Ok(async move {
        // The sender lives as long as the authorizer.
        while changes.changed().await.is_ok() {
            if authorizer.check(&principal, rpc, &resource).await.is_err() {
                return;
            }
        }
        std::future::pending().await
    }
    .boxed())
}

/// Held by a stream as long as it lasts.
pub struct Admission {
    over: Shared<BoxFuture<'static, ()>>,
    identity: Identity,
    /// The stream's place.
    _held: Option<Held>,
}

impl Admission {
    /// As whom the upstream is asked.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Returns when the caller has to prove again who it is.
    pub async fn over(&self) {
        self.over.clone().await;
    }

    /// An error if the caller has to prove again who it is.
    pub fn check(&self) -> Result<()> {
        match self.over().now_or_never() {
            None => Ok(()),
            Some(()) => Err(Error::reauthenticate()),
        }
    }
}
