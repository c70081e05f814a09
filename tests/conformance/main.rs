#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod fixtures_b;

mod components;
mod deployments;
mod notifications;
mod service_instances;
mod service_pipelines;
mod services;
