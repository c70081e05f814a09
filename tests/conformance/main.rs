//! What the API does, over every backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
// Some of it is for other suites.
#[allow(dead_code)]
mod support;

mod account_settings;
mod client_token;
mod component;
mod component_update;
mod condition;
mod deployment;
mod environment;
mod environment_account_connection;
mod environment_template;
mod environment_template_version;
mod environment_update;
mod idempotency_key;
mod notification;
mod order;
mod platform_fixtures;
mod quota;
mod repository;
mod resources_summary;
mod service;
mod service_deletion;
mod service_edit;
mod service_fixtures;
mod service_instance;
mod service_instance_list;
mod service_instance_update;
mod service_pipeline;
mod service_repair;
mod service_sync;
mod service_template;
mod service_template_version;
mod tag;
mod template_sync;
