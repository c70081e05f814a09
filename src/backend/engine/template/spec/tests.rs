use serde_json::{Value, json};

use super::*;
use crate::backend::engine::template::schema::Schema;

const MAX: usize = 20;

fn schema(key: &str, properties: &Value, required: &Value) -> Schema {
    let document = json!({"schema": {"format": {"openapi": "3.0.0"}, (key): "T",
        "types": {"T": {"type": "object", "properties": properties, "required": required}}}});
    Schema::parse(&document.to_string()).expect("the schema is valid")
}

fn environment_schema() -> Schema {
    schema(
        "environment_input_type",
        &json!({"cidr": {"type": "string", "default": "10.0.0.0/16"}, "name": {"type": "string"}}),
        &json!(["name"]),
    )
}

fn service_schema() -> Schema {
    let text = "
schema:
  format: {openapi: 3.0.0}
  service_input_type: S
  pipeline_input_type: P
  types:
    S: {type: object, properties: {port: {type: number, default: 80}, image: {type: string, minLength: 3}}}
    P: {type: object, properties: {dir: {type: string}}, required: [dir]}
";
    Schema::parse(text).expect("the schema is valid")
}

fn service(text: &str) -> ServiceSpec {
    match ServiceSpec::parse(text, MAX) {
        Ok(spec) => spec,
        Err(error) => panic!("{error}"),
    }
}

fn malformed(text: &str) -> String {
    let error = ServiceSpec::parse(text, MAX).expect_err("the spec is refused");
    assert!(error.malformed);
    let text = error.to_string();
    let documented = "The provided Service Spec file was not correctly formatted. Please check that it is valid yaml according to the Spec definition.";
    text.strip_prefix(documented)
        .expect("the documented text")
        .trim()
        .to_owned()
}

fn environment(text: &str) -> Result<EnvironmentSpec, SpecError> {
    EnvironmentSpec::parse(text, &environment_schema(), false)
}

#[test]
fn an_environment_spec_yields_its_inputs_with_defaults() {
    let spec = environment("proton: EnvironmentSpec\nspec:\n  name: a\n")
        .map_err(|error| error.to_string());
    assert_eq!(
        spec.map(|spec| spec.inputs),
        Ok(json!({"name": "a", "cidr": "10.0.0.0/16"}))
    );
}

#[test]
fn a_spec_may_be_left_out_or_empty() {
    let optional = schema(
        "environment_input_type",
        &json!({"a": {"type": "string", "default": "x"}}),
        &json!([]),
    );
    for text in [
        "proton: EnvironmentSpec",
        "proton: \"EnvironmentSpec\"\nspec:\n",
        "{proton: EnvironmentSpec, spec: {}}",
    ] {
        let spec =
            EnvironmentSpec::parse(text, &optional, false).map_err(|error| error.to_string());
        assert_eq!(
            spec.map(|spec| spec.inputs),
            Ok(json!({"a": "x"})),
            "{text}"
        );
    }
}

#[test]
fn all_violations_of_an_environment_spec_are_listed_with_their_paths() {
    let error = environment("proton: EnvironmentSpec\nspec: {cidr: 5, typo: hunter2}")
        .expect_err("refused");
    assert!(!error.malformed);
    assert_eq!(
        error.to_string(),
        "`spec.typo` is not an input of `T`; its inputs are `cidr`, `name`; `spec.name` is required; `spec.cidr` must be of type string"
    );
}

#[test]
fn a_broken_environment_spec_is_reported_in_the_documented_words() {
    let error = environment("proton: EnvironmentSpec\nspec: [a\n").expect_err("refused");
    let text = error.to_string();
    assert!(text.starts_with("The provided Environment Spec file was not correctly formatted. Please check that it is valid yaml according to the Spec definition. "), "{text}");
    assert!(text.contains("line 2, column 7"), "{text}");
    assert_eq!(error.line, Some(2));
    for wrong in [
        "",
        "a",
        "proton: ServiceSpec",
        "spec: {}",
        "proton: EnvironmentSpec\nspec: [a]",
        "proton: EnvironmentSpec\ninstances: []",
    ] {
        assert!(
            environment(wrong).is_err_and(|error| error.malformed),
            "{wrong}"
        );
    }
}

#[test]
fn a_customer_managed_environment_gives_outputs_that_are_strings() {
    let schema = schema(
        "environment_input_type",
        &json!({"VpcId": {"type": "string"}, "Cluster": {"type": "string"}}),
        &json!([]),
    );
    let spec = EnvironmentSpec::parse(
        "proton: EnvironmentSpec\nspec: {Cluster: c, VpcId: vpc-1}",
        &schema,
        true,
    )
    .map_err(|error| error.to_string())
    .expect("valid");
    assert_eq!(
        spec.outputs,
        [
            ("Cluster".to_owned(), "c".to_owned()),
            ("VpcId".to_owned(), "vpc-1".to_owned())
        ]
    );
    assert_eq!(spec.inputs, json!({}));
    let refused = |value: &str| {
        let text = format!("proton: EnvironmentSpec\nspec: {{VpcId: {value}}}");
        let refused = EnvironmentSpec::parse(&text, &schema, true);
        refused.expect_err("refused").to_string()
    };
    assert_eq!(refused("5"), "`spec.VpcId` must be of type string");
    for value in ["''", &"x".repeat(1_025)] {
        assert_eq!(
            refused(value),
            "`spec.VpcId` must have 1 to 1024 characters in name and value, as all outputs"
        );
    }
    let longest = "é".repeat(1_024);
    let text = format!("proton: EnvironmentSpec\nspec: {{VpcId: {longest}}}");
    EnvironmentSpec::parse(&text, &schema, true).expect("valid");
}

#[test]
fn a_service_spec_yields_its_instances_and_its_pipeline() {
    let spec = service(
        "proton: ServiceSpec\npipeline: {dir: a}\ninstances:\n- {name: one, environment: e, spec: {port: 1}}\n- {name: two, environment: f}\n",
    );
    assert_eq!(spec.pipeline, Some(json!({"dir": "a"})));
    assert_eq!(spec.instances.len(), 2);
    assert_eq!(spec.instances[1].environment, "f");
    assert_eq!(spec.instances[1].inputs, json!({}));
    assert_eq!(
        service("proton: ServiceSpec\ninstances: [{name: a, environment: b, spec: }]").pipeline,
        None
    );
}

#[test]
fn a_service_spec_of_another_form_is_refused_with_the_place() {
    let start = "proton: ServiceSpec\n";
    for (text, expected) in [
        (
            "instances: {}",
            "`instances` must be a list with an instance",
        ),
        (
            "instances: []",
            "`instances` must be a list with an instance",
        ),
        (
            "pipeline: {}",
            "`instances` must be a list with an instance",
        ),
        (
            "instances: [{name: a, environment: e}]\nspec: {}",
            "`spec` is not a key of a spec here; the keys are proton, pipeline, instances",
        ),
        (
            "instances: [{name: a, environment: e, port: 1}]",
            "`instances[0].port` is not a key of a spec here; the keys are name, environment, spec",
        ),
        (
            "instances: [{name: a, environment: e}, {name: a, environment: f}]",
            "`instances[1].name` is the name of another instance too",
        ),
        (
            "instances: [{name: a, environment: e, spec: [1]}]",
            "`instances[0].spec` must be a mapping of inputs to values",
        ),
        (
            "instances: [a]",
            "`instances[0]` must be a mapping with `name` and `environment`",
        ),
        (
            "pipeline: a\ninstances: [{name: a, environment: e}]",
            "`pipeline` must be a mapping of inputs to values",
        ),
    ] {
        assert_eq!(malformed(&format!("{start}{text}")), expected);
    }
    for name in [
        "-a",
        "a b",
        "",
        "5",
        "é",
        "\"${Proton::CURRENT_VAL}\"",
        &"x".repeat(101),
    ] {
        let found = malformed(&format!(
            "{start}instances: [{{name: {name}, environment: e}}]"
        ));
        assert!(
            found.starts_with("`instances[0].name` must be a name"),
            "{name}: {found}"
        );
    }
    assert!(
        malformed("proton: EnvironmentSpec\ninstances: [{name: a, environment: e}]")
            .starts_with("`proton` must be ServiceSpec")
    );
    assert!(
        malformed("proton: ServiceSpec\ninstances:\n- name: a\n  name: b\n")
            .contains("line 4, column 3")
    );
}

#[test]
fn a_service_has_at_most_as_many_instances_as_the_caller_allows() {
    let text: String = (0..21)
        .map(|n| format!("- {{name: i{n}, environment: e}}\n"))
        .collect();
    let found = malformed(&format!("proton: ServiceSpec\ninstances:\n{text}"));
    assert_eq!(found, "`instances` has more than 20 items");
    ServiceSpec::parse(&format!("proton: ServiceSpec\ninstances:\n{text}"), 21).expect("allowed");
}

#[test]
fn instances_are_checked_one_by_one() {
    let spec = service(
        "proton: ServiceSpec\ninstances: [{name: a, environment: e}, {name: b, environment: e, spec: {image: x, port: hunter2}}]",
    );
    let schema = service_schema();
    assert_eq!(spec.check_instance("a", &schema), Ok(json!({"port": 80})));
    let error = spec
        .check_instance("b", &schema)
        .expect_err("refused")
        .to_string();
    assert!(
        error.contains("`instances[1].spec.port` must be of type number"),
        "{error}"
    );
    assert!(
        error.contains("`instances[1].spec.image` must have at least 3 characters"),
        "{error}"
    );
    assert!(!error.contains("hunter2"), "{error}");
    let error = spec
        .check_instance("c", &schema)
        .expect_err("refused")
        .to_string();
    assert_eq!(error, "`instances` must hold an instance named `c`");
}

#[test]
fn the_pipeline_is_checked_if_the_template_has_one() {
    let with =
        service("proton: ServiceSpec\npipeline: {dir: a}\ninstances: [{name: a, environment: e}]");
    let without = service("proton: ServiceSpec\ninstances: [{name: a, environment: e}]");
    let empty =
        service("proton: ServiceSpec\npipeline: {}\ninstances: [{name: a, environment: e}]");
    let pipeline = service_schema();
    let none = schema("service_input_type", &json!({}), &json!([]));
    assert_eq!(
        with.check_pipeline(&pipeline),
        Ok(Some(json!({"dir": "a"})))
    );
    assert_eq!(
        without
            .check_pipeline(&pipeline)
            .expect_err("refused")
            .to_string(),
        "`pipeline.dir` is required"
    );
    assert_eq!(empty.check_pipeline(&none), Ok(None));
    assert_eq!(without.check_pipeline(&none), Ok(None));
    assert!(
        with.check_pipeline(&none)
            .expect_err("refused")
            .to_string()
            .contains("has no pipeline")
    );
}

const CURRENT: &str = "
proton: ServiceSpec
pipeline: {dir: now, deep: {list: [1, {x: 2}]}}
instances:
- {name: other, environment: e, spec: {port: 1}}
- {name: mine, environment: e, spec: {port: 8080, image: nginx}}
";

#[test]
fn current_values_are_taken_from_the_same_place_of_the_instance_of_the_same_name() {
    let mut spec = service(
        "
proton: ServiceSpec
pipeline: {dir: \"${Proton::CURRENT_VAL}\", deep: {list: [0, {x: '${Proton::CURRENT_VAL}'}]}}
instances:
- {name: mine, environment: e, spec: {port: \"${Proton::CURRENT_VAL}\", image: new}}
",
    );
    assert_eq!(
        spec.resolve_current(&service(CURRENT), Used::Nothing),
        Ok(true)
    );
    assert_eq!(
        spec.pipeline,
        Some(json!({"dir": "now", "deep": {"list": [0, {"x": 2}]}}))
    );
    assert_eq!(
        spec.instances[0].inputs,
        json!({"port": 8080, "image": "new"})
    );
}

/// The same marker everywhere, where there is and where there is no current value.
const MARKED: &str = "
proton: ServiceSpec
pipeline: {dir: \"${Proton::CURRENT_VAL}\", deep: {other: \"${Proton::CURRENT_VAL}\"}}
instances:
- {name: fresh, environment: e, spec: {port: \"${Proton::CURRENT_VAL}\"}}
- {name: mine, environment: e, spec: {size: \"${Proton::CURRENT_VAL}\", image: \"${Proton::CURRENT_VAL}\", list: [\"${Proton::CURRENT_VAL}\"]}}
";

fn paths(error: SpecError) -> Vec<String> {
    let violations = error.violations.into_iter();
    violations.map(|found| found.path).collect()
}

#[test]
fn what_has_no_current_value_is_left_out() {
    let mut spec = service(MARKED);
    let fresh = ["fresh".to_owned()];
    let used = Used::Instances(&fresh, &service_schema());
    assert_eq!(spec.resolve_current(&service(CURRENT), used), Ok(true));
    assert_eq!(spec.pipeline, Some(json!({"dir": "now", "deep": {}})));
    assert_eq!(spec.instances[0].inputs, json!({}));
    let mine = &spec.instances[1].inputs;
    assert_eq!(*mine, json!({"image": "nginx", "list": []}));
}

#[test]
fn in_what_is_used_a_marker_stands_for_an_input_and_for_no_item_of_a_list() {
    let mine = ["mine".to_owned()];
    let schema = service_schema();
    let used = Used::Instances(&mine, &schema);
    let refused = service(MARKED).resolve_current(&service(CURRENT), used);
    let refused = refused.expect_err("refused");
    assert_eq!(
        refused.to_string(),
        "`instances[1].spec.size` is ${Proton::CURRENT_VAL}, but is not an input of the template; \
         `instances[1].spec.list[0]` is ${Proton::CURRENT_VAL}, but the current spec has no value \
         there"
    );
    let text = MARKED.replace("deep:", "ports:");
    let refused = service(&text).resolve_current(&service(CURRENT), Used::Pipeline(&schema));
    assert_eq!(refused, Ok(true), "only names at the top are known");
    let text = MARKED.replace("dir:", "dri:");
    let refused = service(&text).resolve_current(&service(CURRENT), Used::Pipeline(&schema));
    assert_eq!(paths(refused.expect_err("refused")), ["pipeline.dri"]);
}

#[test]
fn a_spec_without_markers_stays_as_it_is() {
    let mut spec = service(
        "proton: ServiceSpec\ninstances: [{name: a, environment: e, spec: {image: \"x ${Proton::CURRENT_VAL}\"}}]",
    );
    let before = spec.clone();
    assert_eq!(
        spec.resolve_current(&service(CURRENT), Used::Nothing),
        Ok(false)
    );
    assert!(spec == before);
}

#[test]
fn a_marker_that_was_not_resolved_is_no_value() {
    let spec = service(
        "proton: ServiceSpec\npipeline: {dir: \"${Proton::CURRENT_VAL}\"}\ninstances: [{name: a, environment: e, spec: {image: \"${Proton::CURRENT_VAL}\"}}]",
    );
    let schema = service_schema();
    assert_eq!(
        spec.check_instance("a", &schema)
            .expect_err("refused")
            .to_string(),
        "`instances[0].spec.image` is ${Proton::CURRENT_VAL}, but the current spec has no value there"
    );
    spec.check_pipeline(&schema).expect_err("refused");
    let refused = environment("proton: EnvironmentSpec\nspec: {name: \"${Proton::CURRENT_VAL}\"}");
    assert_eq!(
        refused.expect_err("refused").to_string(),
        "`spec.name` is ${Proton::CURRENT_VAL}, which only the specs of services can refer to"
    );
}

#[test]
fn a_rendered_spec_reads_back_as_the_same_spec() {
    let spec = service(
        "
proton: ServiceSpec
pipeline: {a: 'yes', b: \"010\", c: [1, 1.5, null, {}], d: \"line\\nbreak\", e: true}
instances:
- {name: one, environment: e, spec: {port: 80, text: '# not a comment', empty: ''}}
- {name: '1e5', environment: 'null'}
",
    );
    let text = spec.render();
    assert!(text.starts_with("proton: ServiceSpec\n"), "{text}");
    assert!(service(&text) == spec, "{text}");
}

#[test]
fn one_instance_can_be_taken_from_another_spec() {
    let current = service(CURRENT);
    let other = service(
        "proton: ServiceSpec\ninstances: [{name: mine, environment: f, spec: {port: 9}}, {name: new, environment: g}]",
    );
    let merged = current
        .merge_instance(&other, "mine")
        .map_err(|error| error.to_string())
        .expect("merged");
    assert_eq!(merged.pipeline, current.pipeline);
    assert!(merged.instances[0] == current.instances[0]);
    assert!(merged.instances[1] == other.instances[0]);
    let merged = current
        .merge_instance(&other, "new")
        .map_err(|error| error.to_string())
        .expect("merged");
    assert_eq!(merged.instances.len(), 3);
    assert!(current.merge_instance(&other, "other").is_err());
    let rest = merged.without_instance("mine");
    let names: Vec<&str> = rest
        .instances
        .iter()
        .map(|instance| instance.name.as_str())
        .collect();
    assert_eq!(names, ["other", "new"]);
}

#[test]
fn a_spec_that_grows_when_its_anchors_are_written_out_is_not_rendered() {
    let long = "x".repeat(10_000);
    let text = |aliases| {
        format!(
            "proton: ServiceSpec\ninstances:\n- name: a\n  environment: e\n  spec:\n    a: &a {long}\n    l: [{}]\n",
            vec!["*a"; aliases].join(", ")
        )
    };
    let small = service(&text(1));
    let rendered = small.render_within(51_200).expect("small enough");
    assert_eq!(service(&rendered), small);
    assert_eq!(rendered, small.render());
    for aliases in [10, 60] {
        let refused = service(&text(aliases)).render_within(51_200);
        assert_eq!(
            refused.expect_err("too long").to_string(),
            "The spec has more than the 51200 characters that are allowed, once its anchors and \
             current values are written out"
        );
    }
}

#[test]
fn markers_without_a_current_value_are_listed_up_to_a_limit() {
    let markers = vec!["${Proton::CURRENT_VAL}"; 1_000];
    let text = json!({"proton": "EnvironmentSpec", "spec": {"name": "n", "l": markers}});
    let error = environment(&text.to_string()).expect_err("refused");
    assert!(error.violations.len() <= 101, "{}", error.violations.len());
    assert!(error.to_string().contains("`spec.l[99]` is"), "{error}");
}
