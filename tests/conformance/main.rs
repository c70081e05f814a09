#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod fixtures_b;

mod component_updates;
mod components;
mod deployments;
mod notifications;
mod service_deletions;
mod service_edits;
mod service_instance_lists;
mod service_instance_updates;
mod service_instances;
mod service_pipelines;
mod services;
