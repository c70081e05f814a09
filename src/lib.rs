//! A gRPC gateway over the AWS Proton API, with an embedded, durable, Proton-compatible engine.

pub mod admission;
pub mod api;
pub mod audit;
pub mod auth;
pub mod backend;
pub mod cache;
pub mod changes;
pub mod client;
pub mod clock;
pub mod config;
pub mod deploy;
pub mod edge;
pub mod error;
pub mod etag;
pub mod gateway;
pub mod ledger;
pub mod limits;
pub mod pages;
pub mod pipeline;
pub mod program;
pub mod reload;
pub mod retries;
pub mod server;
pub mod telemetry;
pub mod upstream;
pub mod waits;
