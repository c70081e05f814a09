//! What every call goes through, from the door to the backend. Read this first.
//!
//! Each layer asks `call.operation.policy()`; none knows an operation by name.

pub mod audit;
pub mod authorize;
pub mod cache;
pub mod condition;
pub mod deadline;
pub mod hits;
pub mod idempotency;
pub mod identify;
pub mod limit;
pub mod observe;
pub mod order;
pub mod retry;
pub mod subject;
pub mod validate;

use tower::util::{BoxCloneSyncService, option_layer};
use tower::{Service, ServiceBuilder};

use crate::admission::Guards;
use crate::cache::Cache;
use crate::error::Error;
use crate::gateway::{Call, Pipeline, Reply};
use crate::ledger::Ledger;
use crate::retries::Retries;
use crate::telemetry::Metrics;

/// Layers that a pipeline may have or not. By default it has none of them.
#[derive(Clone, Default)]
pub struct Extras {
    pub cache: Option<Cache>,
    pub ledger: Option<Ledger>,
    pub retries: Option<Retries>,
    /// Who compares versions: this pipeline, or the backend.
    pub compared: condition::Compared,
    pub order: Option<order::Order>,
}

/// Builds the pipeline over `backend` without extras.
pub fn build<B>(backend: B, metrics: Metrics, guards: &Guards) -> Pipeline
where
    B: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    B::Future: Send + 'static,
{
    build_with(backend, metrics, guards, Extras::default())
}

/// Builds the pipeline over `backend`, outermost layer first.
pub fn build_with<B>(backend: B, metrics: Metrics, guards: &Guards, extras: Extras) -> Pipeline
where
    B: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    B::Future: Send + 'static,
{
    let stack = ServiceBuilder::new()
        // Outermost: counts and logs every call once, however it ends.
        .layer(observe::ObserveLayer::new(metrics))
        // Before all work: nothing is done for a caller who no longer waits.
        .layer(deadline::DeadlineLayer)
        // Before authorization: denials are on the record as well.
        .layer(option_layer(
            guards.audit.clone().map(audit::AuditLayer::new),
        ))
        // Before validation: who may not do it learns nothing, not even what is wrong with it.
        .layer(option_layer(
            guards
                .authorizer
                .clone()
                .map(authorize::AuthorizeLayer::new),
        ))
        // After authorization: who may not call at all uses up nothing.
        .layer(option_layer(
            guards.limiter.clone().map(limit::LimitLayer::new),
        ))
        // Before all that is kept for one upstream or one role, and must not be shared.
        .layer(identify::IdentifyLayer::new(guards.identities.clone()))
        // Before the backend: a request that the model forbids never reaches it.
        .layer(validate::ValidateLayer)
        // Before the cache's mark: while one waits, nothing that it may touch would be kept. Before
        // the condition: the version is compared when it is a mutation's turn.
        .layer(option_layer(extras.order.map(|order| {
            order::OrderLayer::new(order, extras.ledger.clone())
        })))
        // After all that may refuse a call: who gets what is kept could have read it.
        .layer(option_layer(extras.cache.map(cache::CacheLayer::new)))
        // After the cache, which must know when a mutation begins; a read has no key.
        .layer(idempotency::IdempotencyLayer::new(extras.ledger))
        // After the cache: what is kept has its version already, and a version is compared with what
        // the backend says now. Before what repeats: a repeat is not compared with what it has done.
        .layer(condition::ConditionLayer::new(extras.compared))
        // Innermost: only what was sent is sent again, and nobody else sees the attempts of a call.
        .layer(option_layer(extras.retries.map(retry::RetryLayer::new)))
        .service(backend);
    BoxCloneSyncService::new(stack)
}

#[cfg(test)]
mod tests;
