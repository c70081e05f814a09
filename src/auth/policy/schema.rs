//! What policies can speak of: the Cedar schema, made of the contract.
//!
//! Knows kinds and names as the contract's options say them, and no operation by its name.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::LazyLock;

use crate::api::waits::WaitPolicy;
use crate::api::{Class, Operation, RPCS, Rpc};

/// What all names of ours stand in.
pub const NAMESPACE: &str = "Proton";
/// What requests are about that name no resource.
pub const ACCOUNT: &str = "account";
/// The kind of callers, about whom one can ask.
pub const PRINCIPAL: &str = "principal";
/// What a request may tell of its resource besides the name: the field in AWS's spelling, and the
/// attribute.
pub const FACTS: [(&str, &str); 6] = [
    ("componentName", "component"),
    ("environmentName", "environment"),
    ("repositoryName", "repository"),
    ("serviceInstanceName", "instance"),
    ("serviceName", "service"),
    ("templateName", "template"),
];

/// What a resource that is known by an id may belong to, and the attributes that name it.
pub const OWNERS: [(&str, &[&str]); 4] = [
    ("component", &["component"]),
    ("environment", &["environment"]),
    ("service", &["service"]),
    ("service-instance", &["service", "instance"]),
];

/// The upstream that has the resource, where the caller names one.
pub const UPSTREAM: &str = "upstream";

/// The kinds of resources that requests can name.
pub static KINDS: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
    Operation::ALL
        .iter()
        .map(|operation| operation.policy())
        .filter(|policy| !policy.named_by.is_empty())
        .map(|policy| policy.resource)
        .collect()
});

/// What the schema is made of, as Cedar's people write it.
pub static TEXT: LazyLock<String> = LazyLock::new(write);

/// The operation whose request says what an rpc is about.
pub fn about(rpc: &Rpc) -> Option<Operation> {
    let method = rpc.method;
    if let Some(list) = method.strip_prefix("Page") {
        return Operation::from_name(&format!("List{list}"));
    }
    let wait = match method.strip_prefix("Deploy") {
        // A deploy is followed by the wait for the same target.
        Some(target) => WaitPolicy::of(&format!("Wait{target}Deployed")),
        None => WaitPolicy::of(method),
    };
    wait.map(|wait| wait.operation)
        .or_else(|| Operation::from_name(method))
}

/// The kinds of resources that an rpc can be about.
pub fn kinds(rpc: &Rpc) -> Vec<&'static str> {
    let Some(operation) = about(rpc) else {
        // The others are about the gateway itself.
        return vec![if rpc.of_principals {
            PRINCIPAL
        } else {
            ACCOUNT
        }];
    };
    let policy = operation.policy();
    match policy.named_by.first() {
        None => vec![ACCOUNT],
        // An ARN names anything.
        Some(field) if field.ends_with("_arn") => KINDS.iter().copied().collect(),
        Some(_) => vec![policy.resource],
    }
}

/// The kind in which a kind's resources are contained, if its name says so.
pub fn container(kind: &str) -> Option<&'static str> {
    let outer = kind
        .strip_suffix("-version")
        .or_else(|| kind.starts_with("service-").then_some("service"))
        .filter(|_| !kind.ends_with("-template"))?;
    KINDS.get(outer).copied()
}

/// Whether an operation says no more of its resource than an id.
pub fn names_an_id(operation: Operation) -> bool {
    operation.policy().named_by == ["id"]
}

/// What gets the resource that an operation names by its id alone, and shows what it belongs to.
pub fn getter(operation: Operation) -> Option<Operation> {
    let get = format!("Get{}", type_name(operation.policy().resource));
    Operation::from_name(&get).filter(|get| names_an_id(operation) && names_an_id(*get))
}

/// Whether the resources of a kind are got by an id, which says nothing of what they belong to.
pub fn is_known_by_id(kind: &str) -> bool {
    static BY_ID: LazyLock<BTreeSet<&'static str>> = LazyLock::new(|| {
        let gets = Operation::ALL.iter().filter_map(|it| getter(*it));
        gets.map(|get| get.policy().resource).collect()
    });
    BY_ID.contains(kind)
}

/// The kinds in which resources of `kind` may be.
fn containers(kind: &str) -> Vec<&'static str> {
    match is_known_by_id(kind) {
        true => OWNERS.iter().map(|(owner, _)| *owner).collect(),
        false => container(kind).into_iter().collect(),
    }
}

/// How a kind is called in policies: `ServiceInstance`.
pub fn type_name(kind: &str) -> String {
    kind.split('-')
        .map(|word| {
            let (first, rest) = word.split_at_checked(1).unwrap_or_default();
            first.to_ascii_uppercase() + rest
        })
        .collect()
}

/// The groups in which an rpc's action is.
fn groups(rpc: &Rpc) -> Vec<&'static str> {
    let mut groups = vec![match rpc.class {
        Class::Read => "read",
        Class::Write => "write",
        Class::Wait => "wait",
    }];
    if Operation::from_name(rpc.method).is_some_and(|operation| operation.policy().relieves) {
        groups.push("cancel");
    }
    groups
}

fn write() -> String {
    let mut out = format!(
        "namespace {NAMESPACE} {{\n  entity Role;\n\n  entity Principal in [Role] = {{\n    \
         \"method\": String,\n    \"roles\": Set<String>,\n    \"name\": String,\n  }} tags String;\n"
    );
    for kind in KINDS.iter().copied().chain([ACCOUNT]) {
        let outer: Vec<_> = containers(kind).into_iter().map(type_name).collect();
        let within = match outer.as_slice() {
            [] => String::new(),
            outer => format!(" in [{}]", outer.join(", ")),
        };
        let _ = write!(
            out,
            "\n  entity {}{within} = {{\n    \"name\": String,\n",
            type_name(kind)
        );
        for attribute in FACTS
            .map(|(_, attribute)| attribute)
            .into_iter()
            .chain([UPSTREAM])
        {
            let _ = writeln!(out, "    {attribute:?}?: String,");
        }
        out.push_str("  } tags String;\n");
    }
    out.push_str("\n  action \"read\", \"write\", \"wait\", \"cancel\";\n");
    for rpc in &RPCS {
        let groups: Vec<_> = groups(rpc)
            .iter()
            .map(|group| format!("{group:?}"))
            .collect();
        let kinds: Vec<_> = kinds(rpc).into_iter().map(type_name).collect();
        let _ = write!(
            out,
            "\n  action {:?} in [{}] appliesTo {{\n    principal: [Principal],\n    resource: [{}],\n  }};\n",
            rpc.method,
            groups.join(", "),
            kinds.join(", ")
        );
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_contained_in_what_follows_from_the_kinds_names() {
        let contained: Vec<_> = KINDS
            .iter()
            .filter_map(|kind| Some(format!("{kind} in {}", container(kind)?)))
            .collect();
        assert_eq!(
            contained,
            [
                "environment-template-version in environment-template",
                "service-instance in service",
                "service-pipeline in service",
                "service-sync-blocker in service",
                "service-sync-config in service",
                "service-template-version in service-template",
            ]
        );
    }

    #[test]
    fn what_is_named_by_an_id_can_be_found_unless_nothing_gets_it() {
        let by_id = Operation::ALL.iter().filter(|it| names_an_id(**it));
        let hidden: Vec<_> = by_id
            .filter(|operation| getter(**operation).is_none())
            .map(|operation| operation.name())
            .collect();
        assert_eq!(hidden, ["UpdateServiceSyncBlocker"]);
        let known: Vec<_> = KINDS.iter().filter(|kind| is_known_by_id(kind)).collect();
        assert_eq!(known, [&"deployment", &"environment-account-connection"]);
    }

    #[test]
    fn each_stream_is_about_what_its_operation_is_about() {
        for (method, operation) in [
            ("PageServices", "ListServices"),
            ("WaitServiceUpdated", "GetService"),
            ("WatchDeployment", "GetDeployment"),
            ("DeployServicePipeline", "GetService"),
            ("DeployEnvironment", "GetEnvironment"),
        ] {
            let rpc = Rpc::of(method).unwrap();
            assert_eq!(about(rpc).unwrap().name(), operation);
        }
        let strangers = RPCS.iter().filter(|rpc| about(rpc).is_none());
        let strangers: Vec<_> = strangers.map(|rpc| (rpc.method, kinds(rpc))).collect();
        assert_eq!(
            strangers,
            [
                ("Explain", vec![PRINCIPAL]),
                ("PurgeCache", vec![ACCOUNT]),
                ("GetMetrics", vec![ACCOUNT]),
            ]
        );
    }
}
