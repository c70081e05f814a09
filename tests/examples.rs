//! The example bundles, as they are compiled in, with their example specs.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::Path;

use proton_gateway::api::EXAMPLES;
use proton_gateway::backend::engine::template::bundle::{Bundle, Checked, Limits, TemplateKind};
use proton_gateway::backend::engine::template::spec::{EnvironmentSpec, ServiceSpec};

fn check(name: &str, kind: TemplateKind) -> Checked {
    let key = format!("{name}.tar.gz");
    let (_, bytes) = EXAMPLES
        .iter()
        .find(|(known, _)| *known == key)
        .unwrap_or_else(|| panic!("{key} is not compiled in"));
    Bundle::unpack(*bytes, &Limits::default())
        .and_then(|bundle| bundle.check(kind))
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn spec(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("examples/specs/{name}.yaml"));
    fs::read_to_string(path).unwrap()
}

fn environment(name: &str) -> (Checked, EnvironmentSpec) {
    let kind = TemplateKind::Environment {
        customer_managed: false,
    };
    let checked = check(name, kind);
    let spec = EnvironmentSpec::parse(&spec(name), &checked.schema, false)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    (checked, spec)
}

fn service(name: &str, pipeline_customer_managed: bool) -> (Checked, ServiceSpec) {
    let kind = TemplateKind::Service {
        pipeline_customer_managed,
    };
    let checked = check(name, kind);
    let spec =
        ServiceSpec::parse(&spec(name), 20).unwrap_or_else(|error| panic!("{name}: {error}"));
    for instance in &spec.instances {
        spec.check_instance(&instance.name, &checked.schema)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    (checked, spec)
}

#[test]
fn every_folder_with_a_schema_is_compiled_in() {
    let keys: Vec<_> = EXAMPLES.iter().map(|(key, _)| *key).collect();
    assert_eq!(
        keys,
        [
            "environment-cloudformation.tar.gz",
            "environment-terraform.tar.gz",
            "service-cloudformation.tar.gz",
            "service-terraform.tar.gz",
        ]
    );
}

#[test]
fn the_environments_are_accepted_with_their_specs_and_defaults() {
    let (checked, spec) = environment("environment-cloudformation");
    assert_eq!(checked.infrastructure.unwrap().rendering_engine(), "jinja");
    assert_eq!(spec.inputs["retention_days"], 14);
    assert!(
        spec.inputs.get("alarm_email").is_none(),
        "what is optional and has no default stays absent"
    );

    let (checked, spec) = environment("environment-terraform");
    assert_eq!(checked.infrastructure.unwrap().rendering_engine(), "hcl");
    assert_eq!(spec.inputs["rotate_key"], true);
}

#[test]
fn the_service_with_a_pipeline_is_accepted_with_its_spec() {
    let (checked, spec) = service("service-cloudformation", false);
    assert!(checked.instance_infrastructure.is_some());
    assert!(checked.pipeline_infrastructure.is_some());
    let pipeline = spec.check_pipeline(&checked.schema).unwrap().unwrap();
    assert_eq!(pipeline["dockerfile"], "Dockerfile");
}

#[test]
fn the_service_without_a_pipeline_is_accepted_with_its_spec() {
    let (checked, spec) = service("service-terraform", true);
    assert!(checked.pipeline_infrastructure.is_none());
    assert_eq!(spec.check_pipeline(&checked.schema).unwrap(), None);
}

/// A walk through the examples may name the environments before the specs are read.
#[test]
fn the_instances_are_in_the_environments_that_the_documents_name() {
    for (name, customer_managed, expected) in [
        ("service-cloudformation", false, "events"),
        ("service-terraform", true, "storage"),
    ] {
        let (_, spec) = service(name, customer_managed);
        for instance in &spec.instances {
            assert_eq!(instance.environment, expected);
        }
    }
}
