//! What is kept of answers, over every backend: never anything that a caller knows to be over.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../faults/random.rs"]
#[allow(dead_code)]
mod random;
#[path = "../conformance/service_fixtures.rs"]
#[allow(dead_code)]
mod service_fixtures;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
#[path = "../faults/workload.rs"]
// Some messages have no other fields.
#[allow(dead_code, clippy::needless_update)]
mod workload;

mod doors;
mod effects;
mod hits;
mod model;
mod tasks;

use std::time::Duration;

use proton_gateway::backend::engine::Quotas;
use proton_gateway::config::Span;
use proton_gateway::config::cache::CacheConfig;

use support::{Backend, World};

/// A gateway that keeps everything for an hour.
async fn keeping(backend: Backend) -> World {
    let hour = Span(Duration::from_secs(3600));
    let config = CacheConfig {
        enabled: true,
        state_ttl: hour,
        definition_ttl: hour,
        transitional_ttl: hour,
        negative_ttl: hour,
        ..CacheConfig::default()
    };
    World::keeping(backend, Quotas::default(), &config).await
}
