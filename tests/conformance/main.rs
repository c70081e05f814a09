//! What the API does, over every backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;

mod account_settings;
mod client_token;
mod environment;
mod environment_account_connection;
mod environment_template;
mod environment_template_version;
mod environment_update;
mod fixtures_a;
mod quotas;
mod repository;
mod resources_summary;
mod service_sync_config;
mod service_template;
mod service_template_version;
mod tags;
mod template_sync;
