//! The program as a process: what survives its death, who may use a state directory, how it
//! ends, and what it says when it cannot begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod acknowledged;
mod between;
mod calls;
mod configuration;
mod drain;
mod following;
mod killed;
mod listeners;
mod looking;
mod reload;
mod retries;
mod rolling;
mod running;
mod secrets;
mod state_directory;
mod stopping;
mod tokens;
mod wrong_door;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pb::proton_service_client::ProtonServiceClient;
use pb::template_version_source_input::Source;
use proton_gateway::api::pb;
use tempfile::TempDir;
use tokio::sync::Notify;
use tonic::transport::Channel;

use calls::*;
use running::*;
