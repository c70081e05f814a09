//! How a deploy began, and how one that is sent again joins the first.
//!
//! Under a key it begins once: before anything is begun it is put down which deployment was the
//! latest then. What has begun since, and is of what is desired, is that of the key.

use std::future::Future;

use prost::Message;

use super::desired::Desired;
use crate::api::Response;
use crate::api::own::DeployAction;
use crate::error::{Error, Result};
use crate::ledger::in_flight::{InFlight, Joined};
use crate::ledger::{Found, Once};

/// How a deploy began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub action: DeployAction,
    /// The deployment to follow; absent where the upstream does not say.
    pub deployment: Option<String>,
    /// It is what an earlier call with the same key has begun.
    pub replayed: bool,
}

impl Begun {
    /// What the answer of a create or an update says.
    pub fn new(action: DeployAction, response: &Response) -> Self {
        Self {
            action,
            deployment: super::desired::deployment(response),
            replayed: false,
        }
    }

    /// What somebody else has begun.
    pub fn joined(deployment: Option<String>) -> Self {
        Self {
            action: DeployAction::Joined,
            deployment,
            replayed: false,
        }
    }

    /// What an earlier call with the same key has begun.
    fn again(deployment: Option<String>) -> Self {
        Self {
            replayed: true,
            ..Self::joined(deployment)
        }
    }
}

/// A deployment, as the ledger keeps it: the latest one before, or the one that has begun.
#[derive(Clone, PartialEq, Message)]
struct Deployment {
    #[prost(string, optional, tag = "1")]
    id: Option<String>,
}

impl Deployment {
    fn bytes(id: Option<String>) -> Vec<u8> {
        Self { id }.encode_to_vec()
    }

    fn read(bytes: &[u8]) -> Result<Option<String>> {
        Self::decode(bytes)
            .map(|deployment| deployment.id)
            .map_err(|error| {
                Error::internal(format!("what is kept of a deploy is damaged: {error}"))
            })
    }
}

/// What is known of a deploy under its key before it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// It is the first.
    First,
    /// One was to begin; this was the latest deployment then.
    Again(Option<String>),
}

/// The key of one deploy; without one, each is a deploy of its own.
#[derive(Debug, Clone)]
pub struct Keyed(Option<Once>);

impl Keyed {
    pub fn by(once: Option<Once>) -> Self {
        Self(once)
    }

    /// Puts down what was the latest deployment, before anything is begun.
    pub async fn before(&self, latest: Option<&String>) -> Result<Before> {
        let Some(once) = &self.0 else {
            return Ok(Before::First);
        };
        match once.begin(Deployment::bytes(latest.cloned())).await? {
            Found::Nothing => Ok(Before::First),
            Found::Begun(before) => Ok(Before::Again(Deployment::read(&before)?)),
            // Nobody else runs under the key, and whoever has ended it did not come here.
            Found::Ended(_) => Err(Error::internal("a deploy has ended while it began")),
        }
    }

    /// Runs `begin` to its end, whatever becomes of the caller, unless a call with the key has
    /// done so.
    pub async fn once(
        self,
        in_flight: &InFlight<Begun>,
        begin: impl Future<Output = Result<Begun>> + Send + 'static,
    ) -> Result<Begun> {
        let Some(once) = self.0 else {
            return tokio::spawn(begin)
                .await
                .unwrap_or_else(|_| Err(Error::internal("a deploy was cut off")));
        };
        match in_flight.run(&once.clone(), under(once, begin)).await {
            Joined::First(begun) => begun,
            Joined::Other(begun) => begun.map(|begun| Begun::again(begun.deployment)),
        }
    }
}

async fn under(once: Once, begin: impl Future<Output = Result<Begun>> + Send) -> Result<Begun> {
    if let Found::Ended(kept) = once.look().await? {
        return Ok(Begun::again(Deployment::read(&kept)?));
    }
    let begun = begin.await;
    match &begun {
        Ok(begun) => {
            once.end(Deployment::bytes(begun.deployment.clone()))
                .await?
        }
        // Nothing has begun: what stood in its way may be gone when it is sent again.
        Err(error) if error.is_refusal() => once.forget().await?,
        Err(_) => {}
    }
    begun
}

impl Desired {
    /// What makes two deploys the same.
    pub fn content(&self) -> Vec<u8> {
        match self {
            // Tags have no order.
            Self::Environment(wanted) => {
                let mut wanted = wanted.clone();
                wanted.tags.sort_by(|one, other| one.key.cmp(&other.key));
                wanted.encode_to_vec()
            }
            // A client token is not what is asked for.
            Self::ServiceInstance(wanted) => {
                let mut wanted = wanted.clone();
                wanted.client_token = None;
                wanted.tags.sort_by(|one, other| one.key.cmp(&other.key));
                wanted.encode_to_vec()
            }
            Self::ServicePipeline(wanted) => wanted.encode_to_vec(),
        }
    }
}
