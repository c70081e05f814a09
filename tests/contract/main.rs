//! The contract against the facts of AWS's API model, both ways.
//!
//! `model.txt` holds the facts, one a line; `lines.rs` writes the contract in the same form. What
//! differs by design is listed there.

#![allow(clippy::unwrap_used, clippy::panic)]

mod configuration;
mod errors;
mod iam;
mod lines;
mod schema;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proton_gateway::api::{
    Cache, Class, Idempotency, OPERATIONS_DOCUMENT, Operation, RPCS, Request,
};
use serde_json::json;

const MODEL: &str = include_str!("model.txt");

/// Compares all lines that begin with one of `kinds`; the order does not matter.
fn compare(kinds: &[&str]) {
    let select = |lines: Vec<String>| -> BTreeSet<String> {
        lines
            .into_iter()
            .filter(|line| {
                kinds.contains(&line.split_once(' ').map_or(line.as_str(), |(kind, _)| kind))
            })
            .collect()
    };
    let model = select(MODEL.lines().map(str::to_owned).collect());
    let contract = select(lines::contract());
    assert!(!model.is_empty(), "the model has no {kinds:?}");
    let missing: Vec<_> = model.difference(&contract).collect();
    let surplus: Vec<_> = contract.difference(&model).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "only in the model: {missing:#?}\nonly in the contract: {surplus:#?}"
    );
}

#[test]
fn every_operation_is_the_models_and_has_its_idempotency_class() {
    compare(&["operation"]);
    assert_eq!(Operation::ALL.len(), 87);
}

#[test]
fn paginated_operations_are_the_models_paginators() {
    compare(&["pages"]);
    let paginated = Operation::ALL.iter().filter(|o| o.policy().paginated);
    assert_eq!(paginated.count(), 21);
}

#[test]
fn every_field_is_a_member_of_the_model_and_the_other_way_round() {
    compare(&["member"]);
}

#[test]
fn unions_and_empty_structures_are_the_models() {
    compare(&["union", "empty"]);
}

#[test]
fn every_enum_has_the_models_values_under_their_wire_names() {
    compare(&["enum"]);
}

#[test]
fn every_constraint_is_the_models() {
    compare(&["constraint"]);
}

#[test]
fn a_field_without_presence_is_required_and_cannot_be_empty() {
    assert_eq!(lines::fields_that_confuse_empty_and_absent(), [""; 0]);
}

#[test]
fn every_pattern_accepts_what_it_should_and_refuses_what_it_should() {
    let role = "arn:aws:iam::123456789012:role/service/proton";
    let id = "01234567-89ab-cdef-0123-456789abcdef";
    let connection = |account: &str, token: &str| json!({"environmentName": "e", "managementAccountId": account, "clientToken": token});
    let bucket =
        |name: &str| json!({"templateName": "t", "source": {"s3": {"bucket": name, "key": "k"}}});
    let component =
        |name: &str| json!({"name": "c", "deploymentType": "NONE", "serviceName": name});
    let cases = [
        (
            Operation::ListTagsForResource,
            json!({"resourceArn": "arn:aws:proton:eu-west-1:123456789012:service/shop"}),
            json!({"resourceArn": "arn:aws:proton:eu-west-1:12345678901٢:service/shop"}),
        ),
        (
            Operation::CreateEnvironmentAccountConnection,
            connection("123456789012", "token-1"),
            connection("12345678901", "token-1"),
        ),
        (
            Operation::CreateEnvironmentAccountConnection,
            connection("123456789012", ""),
            connection("123456789012", "token 1"),
        ),
        (
            Operation::GetDeployment,
            json!({"id": id}),
            json!({"id": id.to_uppercase()}),
        ),
        (
            Operation::GetEnvironmentAccountConnection,
            json!({"id": id}),
            json!({"id": "connection"}),
        ),
        (
            Operation::ListServices,
            json!({"nextToken": "YWJj"}),
            json!({"nextToken": "a-b"}),
        ),
        (
            Operation::GetRepository,
            json!({"provider": "GITHUB", "name": "owner/name"}),
            json!({"provider": "GITHUB", "name": "name"}),
        ),
        (
            Operation::GetService,
            json!({"name": "shop-1_a"}),
            json!({"name": "-shop"}),
        ),
        (
            Operation::UpdateComponent,
            component(""),
            component("no dots."),
        ),
        (
            Operation::UpdateEnvironmentAccountConnection,
            json!({"id": id, "roleArn": role}),
            json!({"id": id, "roleArn": "arn:aws:iam::123456789012:user/a"}),
        ),
        (
            Operation::UpdateAccountSettings,
            json!({"pipelineServiceRoleArn": ""}),
            json!({"pipelineServiceRoleArn": "role"}),
        ),
        (
            Operation::CreateEnvironmentTemplateVersion,
            bucket("proton-examples"),
            bucket("Proton"),
        ),
        (
            Operation::GetServiceTemplateVersion,
            json!({"templateName": "t", "majorVersion": "10", "minorVersion": "0"}),
            json!({"templateName": "t", "majorVersion": "01", "minorVersion": "0"}),
        ),
    ];
    for (operation, good, bad) in cases {
        let validated = |value| Request::from_json(operation, value)?.validate();
        assert!(validated(good.clone()).is_ok(), "{good} is refused");
        assert!(validated(bad.clone()).is_err(), "{bad} is accepted");
    }
}

#[test]
fn what_is_sensitive_is_not_printed() {
    let request = json!({
        "name": "shop", "templateName": "web", "templateMajorVersion": "1",
        "description": "s3cret", "spec": "password: s3cret",
    });
    let request = Request::from_json(Operation::CreateService, request).unwrap();
    let printed = format!("{request:?}");
    assert!(printed.contains("shop"), "{printed}");
    assert!(!printed.contains("s3cret"), "{printed}");
}

#[test]
fn reflection_serves_every_file() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("proto"), root.join("proto-grpc")];
    let mut files = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "proto")
            {
                // Without the root, with slashes: the name that an import has.
                let below = path.strip_prefix(root).unwrap().iter().skip(1);
                let names: Vec<_> = below.map(|name| name.to_str().unwrap()).collect();
                files.insert(names.join("/"));
            }
        }
    }
    let served = lines::files();
    assert!(files.len() > 2);
    for file in files {
        assert!(served.contains(&file), "{file} is not served");
    }
    assert!(served.contains("google/protobuf/timestamp.proto"));
}

#[test]
fn whatever_may_be_kept_is_made_stale_by_some_mutation() {
    let policies = Operation::ALL.map(Operation::policy);
    for read in policies.iter().filter(|p| p.cache != Cache::None) {
        assert_eq!(read.idempotency, Idempotency::Read, "{}", read.name);
        let touched = policies.iter().any(|p| p.touches.contains(&read.resource));
        assert!(touched, "nothing touches what {} returns", read.name);
    }
}

#[test]
fn a_mutation_touches_the_kind_that_it_addresses() {
    for policy in Operation::ALL.map(Operation::policy) {
        if policy.idempotency != Idempotency::Read {
            let touches = policy.touches.contains(&policy.resource);
            assert!(touches, "{} forgets {}", policy.name, policy.resource);
        }
    }
}

#[test]
fn operations_document() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, OPERATIONS_DOCUMENT).unwrap();
    }
    let checked_in = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        checked_in == OPERATIONS_DOCUMENT,
        "docs/operations.md is stale: run `just docs`"
    );
    let rows = checked_in.lines().filter(|line| line.starts_with("| "));
    assert_eq!(rows.count(), 1 + Operation::ALL.len());
}

#[test]
fn the_rpcs_are_those_of_all_services_and_their_methods_have_different_names() {
    let count = |service: &str| RPCS.iter().filter(|rpc| rpc.service == service).count();
    assert_eq!(count("proton.v1.ProtonService"), 87);
    assert_eq!(count("proton.v1.WaitService"), 12);
    assert_eq!(count("proton.v1.PaginatorService"), 21);
    let methods: BTreeSet<_> = RPCS.iter().map(|rpc| rpc.method).collect();
    assert_eq!(methods.len(), RPCS.len());
    for operation in Operation::ALL {
        let rpc = operation.rpc();
        assert_eq!(rpc.method, operation.name());
        let reads = operation.policy().idempotency == Idempotency::Read;
        assert_eq!(rpc.class == Class::Read, reads, "{}", rpc.method);
    }
}
