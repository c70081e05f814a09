//! `deploy/iam`: what AWS's IAM has to allow, written from the contract and the built-in roles.
//!
//! Where an action is on a kind of resource that has an ARN of its own, and names one, it is
//! allowed on that kind alone; elsewhere on `*`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, MessageDescriptor};
use proton_gateway::api::{DESCRIPTORS, Idempotency, Operation, RPCS, waits};
use serde_json::{Value, json};

const ROLES: &str = include_str!("../../src/auth/policy/roles.cedar");
/// What a managed policy may have at most, white space aside (IAM User Guide, quotas).
const LONGEST: usize = 6144;

/// The tail of the ARNs of a kind; `None` where it has none, or IAM knows none.
fn tail(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "component" => "component/*",
        "deployment" => "deployment/*",
        "environment" => "environment/*",
        "environment-account-connection" => "environment-account-connection/*",
        "environment-template" | "environment-template-version" => "environment-template/*",
        "repository" => "repository/*",
        // Pipelines are no resources to IAM; their services are.
        "service" | "service-pipeline" => "service/*",
        "service-instance" => "service/*/service-instance/*",
        "service-template" | "service-template-version" => "service-template/*",
        _ => return None,
    })
}

fn reads(operation: Operation) -> bool {
    operation.policy().idempotency == Idempotency::Read
}

/// On what the action of an operation is allowed.
fn resource(operation: Operation) -> String {
    let policy = operation.policy();
    let arn = |tail: &str| format!("arn:aws:proton:*:*:{tail}");
    match policy.named_by.last() {
        // Whatever it names has an ARN.
        Some(&"resource_arn") => arn("*"),
        // Lists are of many.
        Some(_) if !policy.paginated => tail(policy.resource).map_or("*".to_owned(), arn),
        _ => "*".to_owned(),
    }
}

/// What an operation hands on: roles, or connections to repositories.
#[derive(Default)]
struct Passes {
    roles: BTreeSet<String>,
    connections: BTreeSet<String>,
}

fn passes(operation: Operation) -> Passes {
    fn collect(message: &MessageDescriptor, found: &mut Passes) {
        for field in message.fields() {
            let name = field.name().to_owned();
            if name.ends_with("role_arn") {
                found.roles.insert(name);
            } else if name.ends_with("connection_arn") {
                found.connections.insert(name);
            } else if let Some(inner) = field.kind().as_message() {
                collect(inner, found);
            }
        }
    }
    static POOL: LazyLock<DescriptorPool> =
        LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());
    let request = format!("proton.v1.{}Request", operation.name());
    let mut found = Passes::default();
    if !reads(operation) {
        collect(&POOL.get_message_by_name(&request).unwrap(), &mut found);
    }
    found
}

/// The operations that the gateway sends for those who may call these rpcs.
fn behind(rpcs: &BTreeSet<&str>) -> BTreeSet<&'static str> {
    let mut operations = BTreeSet::new();
    let mut add = |name: &str| {
        let operation = Operation::from_name(name);
        operations.extend(operation.map(Operation::name));
    };
    for rpc in rpcs {
        add(rpc);
        if let Some(what) = rpc.strip_prefix("Page") {
            add(&format!("List{what}"));
        }
        // A deploy reads, creates or updates, and then watches.
        if let Some(what) = rpc.strip_prefix("Deploy") {
            add(&format!("Get{what}"));
            add(&format!("Update{what}"));
        }
        if *rpc == "WatchDeployment" {
            add("GetDeployment");
        }
        if let Some(wait) = waits::WaitPolicy::of(rpc) {
            add(wait.operation.name());
        }
        // What a mutation with an idempotency key, or with an expected version, has changed is read.
        let subject = Operation::from_name(rpc).and_then(|it| it.policy().subject.as_ref());
        if let Some(subject) = subject {
            add(subject.read.name());
        }
    }
    operations
}

fn all(which: impl Fn(Operation) -> bool) -> BTreeSet<&'static str> {
    let operations = Operation::ALL.iter().copied();
    operations
        .filter(|it| which(*it))
        .map(Operation::name)
        .collect()
}

/// What the built-in role `developer` may call.
fn developer() -> BTreeSet<&'static str> {
    let named = |rpc: &&str| ROLES.contains(&format!("Proton::Action::\"{rpc}\""));
    RPCS.iter().map(|rpc| rpc.method).filter(named).collect()
}

/// The policies: the name of the file and the operations.
fn policies() -> Vec<(&'static str, BTreeSet<&'static str>)> {
    vec![
        ("gateway-full", all(|_| true)),
        ("gateway-read-only", all(reads)),
        ("administrator", all(|_| true)),
        ("developer", behind(&developer())),
        ("viewer", all(reads)),
    ]
}

fn document(operations: &BTreeSet<&'static str>) -> Value {
    let mut by_resource = BTreeMap::<String, Vec<String>>::new();
    let (mut roles, mut connections) = (false, false);
    for name in operations {
        let operation = Operation::from_name(name).unwrap();
        let actions = by_resource.entry(resource(operation)).or_default();
        actions.push(format!("proton:{name}"));
        let passes = passes(operation);
        roles |= !passes.roles.is_empty();
        connections |= !passes.connections.is_empty();
    }
    let mut statements: Vec<_> = by_resource
        .into_iter()
        .map(|(resource, actions)| {
            json!({"Effect": "Allow", "Action": actions, "Resource": resource})
        })
        .collect();
    if roles {
        statements.push(json!({
            "Effect": "Allow",
            "Action": "iam:PassRole",
            "Resource": "arn:aws:iam::*:role/proton/*",
            "Condition": {"StringEquals": {"iam:PassedToService": "proton.amazonaws.com"}},
        }));
    }
    if connections {
        // One service under its old name and its new one; ARNs have either.
        for service in ["codestar-connections", "codeconnections"] {
            let condition = format!("{service}:PassedToService");
            statements.push(json!({
                "Effect": "Allow",
                "Action": format!("{service}:PassConnection"),
                "Resource": format!("arn:aws:{service}:*:*:connection/*"),
                "Condition": {"StringEquals": {condition: "proton.amazonaws.com"}},
            }));
        }
    }
    json!({"Version": "2012-10-17", "Statement": statements})
}

/// The table for people.
fn table() -> String {
    let policies = policies();
    let mut out = String::from(
        "# Which operation needs which action\n\n\
         Generated from `proto/proton/v1/proton.proto` and `src/auth/policy/roles.cedar`; a test fails when it is stale.\n\
         `just docs` renews it. Each action is `proton:` and the name of the operation.\n\n\
         | Operation | Access | Allowed on | Hands on | In |\n|---|---|---|---|---|\n",
    );
    for operation in Operation::ALL {
        let passes = passes(operation);
        let mut also = Vec::new();
        if !passes.roles.is_empty() {
            also.push("`iam:PassRole`");
        }
        if !passes.connections.is_empty() {
            also.push("`codeconnections:PassConnection`");
        }
        let holders = policies
            .iter()
            .filter(|(_, it)| it.contains(operation.name()));
        let holders: Vec<_> = holders.map(|(name, _)| *name).collect();
        let access = if reads(operation) { "read" } else { "write" };
        writeln!(
            out,
            "| {} | {access} | `{}` | {} | {} |",
            operation.name(),
            resource(operation),
            also.join(", "),
            holders.join(", "),
        )
        .unwrap();
    }
    out
}

#[test]
fn iam_policies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/iam");
    let mut files = vec![("actions.md".to_owned(), table())];
    for (name, operations) in policies() {
        let text = serde_json::to_string_pretty(&document(&operations)).unwrap();
        files.push((format!("{name}.json"), text + "\n"));
    }
    for (name, text) in files {
        let path = folder.join(&name);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(&folder).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let checked_in = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == text,
            "deploy/iam/{name} is stale: run `just docs`"
        );
    }
}

#[test]
fn a_policy_fits_into_what_iam_takes() {
    for (name, operations) in policies() {
        let text = document(&operations).to_string();
        assert!(
            text.len() <= LONGEST,
            "{name} has {} characters",
            text.len()
        );
    }
}

#[test]
fn a_developer_is_allowed_what_the_gateway_reads_for_it() {
    let developer = behind(&developer());
    // Its updates answer with a deployment, which the gateway follows.
    assert!(developer.contains("GetDeployment"));
    assert!(!developer.contains("CreateEnvironment"));
    let writes = developer
        .iter()
        .filter(|name| !reads(Operation::from_name(name).unwrap()));
    // Of AWS's managed policy for developers.
    assert_eq!(writes.count(), 7);
}
