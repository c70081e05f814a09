//! The real samples, which are not part of the product.

use super::*;

#[test]
fn the_sample_environments_are_accepted_with_their_specs() {
    let Some(samples) = samples() else { return };
    let fargate = unpack_directory(&samples.join("cfn/fargate-env/v1")).check(ENVIRONMENT);
    let checked = fargate
        .map_err(|error| error.to_string())
        .map(|checked| checked.schema)
        .expect("valid");
    let spec = EnvironmentSpec::parse(
        &read(&samples.join("cfn/fargate-env/spec/spec.yaml")),
        &checked,
        false,
    );
    let inputs = spec
        .map(|spec| spec.inputs)
        .map_err(|error| error.to_string())
        .expect("valid");
    assert_eq!(inputs["vpc_cidr"], "10.0.0.0/16");

    let vpc = unpack_directory(&samples.join("codebuild/cdk-vpc-ecs-cluster/v1"))
        .check(ENVIRONMENT)
        .map_err(|error| error.to_string());
    let part = vpc
        .map(|checked| checked.infrastructure)
        .expect("valid")
        .expect("infrastructure");
    assert_eq!(part.rendering_engine(), "codebuild");
}

#[test]
fn the_sample_service_is_accepted_with_its_spec() {
    let Some(samples) = samples() else { return };
    let directory = samples.join("cfn/load-balanced-fargate-svc");
    let checked = unpack_directory(&directory.join("v1"))
        .check(SERVICE)
        .map_err(|error| error.to_string());
    let checked = checked.map(|checked| {
        (
            checked.schema,
            checked.instance_infrastructure,
            checked.pipeline_infrastructure,
        )
    });
    let (schema, instance, pipeline) = checked.expect("valid");
    assert!(instance.is_some() && pipeline.is_some());
    let spec = ServiceSpec::parse(&read(&directory.join("spec/spec.yaml")), 20)
        .map_err(|error| error.to_string())
        .expect("valid");
    let inputs = spec
        .check_instance("load-balanced-fargate-svc-prod", &schema)
        .map_err(|error| error.to_string())
        .expect("valid");
    assert_eq!(inputs["port"], 80);
    assert_eq!(inputs["image"], "public.ecr.aws/nginx/nginx:1.21");
    let pipeline = spec
        .check_pipeline(&schema)
        .map_err(|error| error.to_string())
        .expect("valid")
        .expect("a pipeline");
    assert_eq!(pipeline["dockerfile"], "Dockerfile");
}

#[test]
fn the_schemas_and_specs_of_the_user_guide_are_accepted() {
    let Some(samples) = samples() else { return };
    let guide = samples.join("user-guide");
    let schema = |name: &str| Schema::parse(&read(&guide.join(name))).expect("a valid schema");
    for (name, kind) in [
        ("schema-environment-required.yaml", InputType::Environment),
        (
            "schema-environment-customer-managed.yaml",
            InputType::Environment,
        ),
        ("codebuild-vpc-schema.yaml", InputType::Environment),
        ("schema-service-with-pipeline.yaml", InputType::Pipeline),
        ("schema-service-no-pipeline.yaml", InputType::Service),
    ] {
        assert!(schema(name).has(kind), "{name}");
    }
    for (spec, of) in [
        ("spec-environment.yaml", "schema-environment-required.yaml"),
        ("codebuild-vpc-spec.yaml", "codebuild-vpc-schema.yaml"),
    ] {
        EnvironmentSpec::parse(&read(&guide.join(spec)), &schema(of), false).expect("a valid spec");
    }
    for spec in [
        "service-sync-spec-test.yaml",
        "spec-service-edit.yaml",
        "spec-service-current-val.yaml",
    ] {
        let spec = ServiceSpec::parse(&read(&guide.join(spec)), 20)
            .map_err(|error| error.to_string())
            .expect("valid");
        let again = ServiceSpec::parse(&spec.render(), 20)
            .map_err(|error| error.to_string())
            .expect("valid");
        assert!(again == spec);
    }
    let manifest = read(&guide.join("codebuild-vpc-manifest.yaml"));
    with_manifest(&manifest)
        .check(ENVIRONMENT)
        .expect("a valid manifest");
}
