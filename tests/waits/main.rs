//! Waits as streams: over every backend, and over a backend that answers as the test says.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

#[path = "../conformance/service_fixtures.rs"]
#[allow(dead_code)]
mod service_fixtures;

mod authentication;
mod client;
mod deploys;
mod endings;
mod model;
mod outcomes;
mod pages;
mod scripted;
