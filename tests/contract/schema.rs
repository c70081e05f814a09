//! What the command `schema` prints is the contract that was compiled in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use proton_gateway::api::{Class, DESCRIPTORS, Idempotency, Operation, PROTOS, RPCS};
use proton_gateway::schema::service_config;
use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `schema …` writes to its standard output; it must succeed.
fn schema(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO_BIN_EXE_proton-gateway"))
        .arg("schema")
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    output.stdout
}

/// All files below `folder`, by the path that an import names.
fn files(folder: &Path) -> BTreeMap<String, String> {
    fn walk(folder: &Path, below: &Path, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, below, found);
            } else {
                let name = path.strip_prefix(below).unwrap().to_str().unwrap();
                found.insert(name.to_owned(), fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

#[test]
fn the_descriptor_set_is_what_reflection_serves() {
    assert_eq!(schema(&["descriptor-set"]), DESCRIPTORS);
}

#[test]
fn a_descriptor_set_can_be_written_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("new/contract.binpb");
    assert_eq!(
        schema(&["descriptor-set", "--output", file.to_str().unwrap()]),
        b""
    );
    assert_eq!(fs::read(file).unwrap(), DESCRIPTORS);
}

#[test]
fn the_protos_are_those_that_were_compiled_in() {
    let mut sources = files(&root().join("proto"));
    sources.extend(files(&root().join("proto-grpc")));
    let compiled = PROTOS.iter();
    let compiled: BTreeMap<_, _> = compiled
        .map(|(n, t)| (n.to_string(), t.to_string()))
        .collect();
    assert!(compiled == sources, "{:?}", compiled.keys());

    let folder = tempfile::tempdir().unwrap();
    schema(&["protos", "--out", folder.path().to_str().unwrap()]);
    assert!(files(folder.path()) == sources);
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("taken");
    fs::write(&file, "").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_proton-gateway"))
        .args(["schema", "protos", "--out", file.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn the_service_config_that_is_checked_in_is_fresh() {
    let path = root().join("clients/service-config.json");
    let text = service_config::text().unwrap();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == text,
        "clients/service-config.json is stale: run `just docs`"
    );
    assert_eq!(schema(&["service-config"]), text.as_bytes());
}

/// The method configs by service and method; no method where all of a service are meant.
fn configs() -> BTreeMap<(String, Option<String>), Value> {
    let config: Value = serde_json::from_str(&service_config::text().unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for config in config["methodConfig"].as_array().unwrap() {
        for name in config["name"].as_array().unwrap() {
            let text = |key: &str| name[key].as_str().map(str::to_owned);
            let name = (text("service").unwrap(), text("method"));
            assert!(
                found.insert(name.clone(), config.clone()).is_none(),
                "{name:?} is there twice"
            );
        }
    }
    found
}

/// The config that a client uses for a method.
fn config_of(service: &str, method: &str) -> Option<Value> {
    let configs = configs();
    let of = |method: Option<&str>| configs.get(&(service.to_owned(), method.map(str::to_owned)));
    of(Some(method)).or_else(|| of(None)).cloned()
}

#[test]
fn what_clients_retry_is_what_may_be_repeated_whatever_the_message_says() {
    for operation in Operation::ALL {
        let class = operation.policy().idempotency;
        let repeats = config_of("proton.v1.ProtonService", operation.name())
            .is_some_and(|config| config.get("retryPolicy").is_some());
        let harmless = !matches!(class, Idempotency::None | Idempotency::ClientToken);
        assert_eq!(repeats, harmless, "{}", operation.name());
    }
}

#[test]
fn a_read_waits_for_a_connection_and_nothing_without_an_end_does() {
    for rpc in &RPCS {
        let config = config_of(rpc.service, rpc.method).unwrap_or_default();
        let unary_read = rpc.class == Class::Read && rpc.service != "proton.v1.PaginatorService";
        assert_eq!(config["waitForReady"] == true, unary_read, "{}", rpc.method);
        assert_eq!(config["timeout"] == "60s", unary_read, "{}", rpc.method);
    }
}

#[test]
fn deploys_are_left_to_whoever_has_their_key() {
    let service = "proton.gateway.v1.GatewayService";
    let deploys = RPCS.iter().filter(|rpc| rpc.method.starts_with("Deploy"));
    let names: BTreeSet<_> = deploys.map(|rpc| (rpc.service, rpc.method)).collect();
    assert_eq!(names.len(), 3);
    for (_, method) in names {
        assert_eq!(config_of(service, method), None, "{method}");
    }
    assert!(config_of(service, "PurgeCache").is_some());
}

#[test]
fn streams_that_change_nothing_are_named_as_whole_services() {
    let configs = configs();
    for service in ["proton.v1.WaitService", "proton.v1.PaginatorService"] {
        assert!(configs.contains_key(&(service.to_owned(), None)));
    }
}

#[test]
fn no_client_makes_more_attempts_than_grpc_allows() {
    for ((service, method), config) in configs() {
        let policy = &config["retryPolicy"];
        let attempts = policy["maxAttempts"].as_u64().unwrap();
        assert!((2..=5).contains(&attempts), "{service} {method:?}");
        assert!(policy["backoffMultiplier"].as_f64().unwrap() > 0.0);
    }
}
