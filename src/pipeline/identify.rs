//! Settles as whom the upstream is asked, from what the caller is and which upstream it names.

use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

use crate::error::Error;
use crate::gateway::Call;
use crate::upstream::Identities;

#[derive(Debug, Clone)]
pub struct IdentifyLayer {
    identities: Identities,
}

impl IdentifyLayer {
    pub fn new(identities: Identities) -> Self {
        Self { identities }
    }
}

impl<S> Layer<S> for IdentifyLayer {
    type Service = Identify<S>;

    fn layer(&self, inner: S) -> Identify<S> {
        Identify {
            inner,
            identities: self.identities.clone(),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Identify<S> {
    inner: S,
    identities: Identities,
}

impl<S> Service<Call> for Identify<S>
where
    S: Service<Call, Error = Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Either<S::Future, Ready<Result<S::Response, Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        // A poll has the identity of those who wait for it.
        if call.identity.is_none() {
            match self
                .identities
                .of(&call.principal, call.upstream.as_deref())
            {
                Ok(identity) => call.identity = Some(identity),
                Err(error) => return Either::Right(ready(Err(error))),
            }
        }
        Either::Left(self.inner.call(call))
    }
}
