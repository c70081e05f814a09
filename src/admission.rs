//! What is asked of whoever opens a call or a stream.
//!
//! The guards of calls are layers of the pipeline. A stream is no call: what it polls, the gateway
//! asks for itself. So it is admitted here, by the same guards, and leaves when it may no longer
//! stay.

use std::time::SystemTime;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::api::{Request, Rpc};
use crate::audit::Audit;
use crate::edge::Arrival;
use crate::error::{Error, Result};
use crate::gateway::{Call, Door};
use crate::limits::{Held, Limiter};
use crate::upstream::Identities;

/// The guards of calls and streams. Clones share them.
#[derive(Clone, Default)]
pub struct Guards {
    /// How much callers may ask for; absent where nothing is limited.
    pub limiter: Option<Limiter>,
    /// Who was denied; absent where nothing is put down.
    pub audit: Option<Audit>,
    /// As whom the upstream is asked.
    pub identities: Identities,
}

impl Guards {
    /// Lets a caller open a stream of `rpc` about what `request` names, or says why not.
    pub async fn admit(
        &self,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let admitted = self.decide(rpc, request, arrival).await;
        if let (Err(error), Some(audit)) = (&admitted, &self.audit) {
            let call = Call::new(request.clone(), Door::Grpc, arrival);
            audit.denied(rpc, &call, error);
        }
        admitted
    }

    async fn decide(
        &self,
        rpc: &'static Rpc,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let _ = request;
        let limiter = self.limiter.as_ref();
        let held = limiter
            .map(|limiter| limiter.stream(rpc, &arrival.principal))
            .transpose()?;
        let expires = arrival.principal.expires;
        let over = async move {
            match expires {
                Some(at) => {
                    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                    tokio::time::sleep(left).await;
                }
                None => std::future::pending().await,
            }
        };
        Ok(Admission {
            over: over.boxed().shared(),
            _held: held,
        })
    }
}

/// Held by a stream as long as it lasts.
pub struct Admission {
    over: Shared<BoxFuture<'static, ()>>,
    /// The stream's place.
    _held: Option<Held>,
}

impl Admission {
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
