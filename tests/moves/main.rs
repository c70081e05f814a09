//! A store moves: backups while it is written to, plain files and back, and what AWS Proton's
//! command line has saved.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../conformance/platform_fixtures.rs"]
#[allow(dead_code)]
mod platform_fixtures;
#[path = "../conformance/service_fixtures.rs"]
#[allow(dead_code)]
mod service_fixtures;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

mod answers;
mod backup;
mod document;
mod folder;
mod names;
mod populated;
mod refusals;
mod saved;
mod trials;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use proton_gateway::backend::engine::bucket::Buckets;
use proton_gateway::backend::engine::store::Store;
use proton_gateway::backend::engine::{Engine, Quotas, Settings};
use support::{ACCOUNT, STEP, World};

/// The program, without what the tests' own environment says to it.
fn program(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROTON_GATEWAY_") {
            command.env_remove(name);
        }
    }
    command.arg("--state-dir").arg(state).stdin(Stdio::null());
    command
}

fn run(state: &Path, arguments: &[&str]) -> Output {
    program(state).args(arguments).output().unwrap()
}

/// What a command prints that must succeed.
#[track_caller]
fn done(state: &Path, arguments: &[&str]) -> String {
    let output = run(state, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command says that must be refused.
#[track_caller]
fn refused(state: &Path, arguments: &[&str]) -> String {
    let output = run(state, arguments);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

fn settings(buckets: &Path) -> Settings {
    Settings {
        region: "us-east-1".to_owned(),
        account_id: ACCOUNT.to_owned(),
        step: STEP,
        self_managed_timeout: Duration::from_secs(24 * 3600),
        buckets: Buckets::in_folder(buckets),
        quotas: Quotas::default(),
    }
}

/// An engine on a state directory, at the time of a world.
fn engine_on(state: &Path, world: &World) -> Engine {
    let store = Store::open(state).unwrap();
    let settings = settings(world.buckets.path());
    Engine::new(store, Arc::new(world.clock.clone()), settings)
}

/// A path as an argument.
fn shown(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What stands in a folder.
fn in_folder(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
