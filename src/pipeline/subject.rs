//! Which resource a mutation changes, so that those of the same one can be told.

use std::sync::Arc;

use crate::gateway::Call;

/// A resource: the same for all mutations whose subject is seen by the same read, whoever sends
/// them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    upstream: Option<Arc<str>>,
    read: Vec<u8>,
}

impl Key {
    /// What the call changes; absent where no read shows it.
    pub fn of(call: &Call) -> Option<Self> {
        let identity = call.identity.as_ref();
        Some(Self {
            upstream: identity.and_then(|identity| identity.upstream.clone()),
            read: call.request.subject()?.key(),
        })
    }
}
