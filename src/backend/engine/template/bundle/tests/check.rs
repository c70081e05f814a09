//! What makes an archive a bundle.

use super::*;

#[test]
fn a_cloudformation_environment_is_accepted() {
    let checked = environment()
        .unpack()
        .expect("unpacked")
        .check(ENVIRONMENT)
        .map_err(|error| error.to_string())
        .map(|checked| {
            (
                checked.schema_text,
                checked.infrastructure,
                checked.instance_infrastructure,
            )
        });
    let infrastructure = Infrastructure {
        directory: "infrastructure",
        engine: Engine::CloudFormation {
            file: "cloudformation.yaml".to_owned(),
        },
    };
    assert_eq!(
        checked,
        Ok((ENVIRONMENT_SCHEMA.to_owned(), Some(infrastructure), None))
    );
}

#[test]
fn a_terraform_part_has_all_its_files_or_the_named_one() {
    let engine = |manifest: &str| {
        with_manifest(manifest)
            .check(ENVIRONMENT)
            .map(|checked| checked.infrastructure.map(|part| part.engine))
            .map_err(|error| error.to_string())
    };
    let files = |names: &[&str]| {
        Ok(Some(Engine::Terraform {
            files: names.iter().map(|name| (*name).to_owned()).collect(),
        }))
    };
    assert_eq!(
        engine(TERRAFORM),
        files(&["main.tf", "modules/net/main.tf"])
    );
    assert_eq!(
        engine(&TERRAFORM.replace("'*'", "main.tf")),
        files(&["main.tf"])
    );
    let two = "infrastructure: {templates: [{file: modules/net/main.tf, rendering_engine: hcl, template_language: terraform}, {file: main.tf, rendering_engine: HCL, template_language: Terraform}]}";
    assert_eq!(engine(two), files(&["main.tf", "modules/net/main.tf"]));
    assert!(
        engine(&TERRAFORM.replace("'*'", "run.sh"))
            .is_err_and(|text| text.contains("must name a .tf file"))
    );
    let none = pack(&[
        ("schema/schema.yaml", ENVIRONMENT_SCHEMA),
        ("infrastructure/manifest.yaml", TERRAFORM),
    ])
    .unpack()
    .expect("unpacked");
    assert!(message(none.check(ENVIRONMENT)).contains("no .tf file in infrastructure/"));
}

#[test]
fn a_codebuild_part_keeps_its_settings_and_its_files() {
    let checked = with_manifest(CODEBUILD)
        .check(ENVIRONMENT)
        .map(|checked| checked.infrastructure);
    let Ok(Some(Infrastructure {
        engine: Engine::CodeBuild { settings, files },
        ..
    })) = checked
    else {
        panic!("not accepted as CodeBuild: {checked:?}");
    };
    assert_eq!(settings["runtimes"]["nodejs"], 16);
    assert_eq!(
        files,
        [
            "cloudformation.yaml",
            "main.tf",
            "modules/net/main.tf",
            "run.sh"
        ]
    );
}

#[test]
fn faulty_manifests_are_refused_by_name() {
    let codebuild = |settings: &str| {
        format!(
            "infrastructure: {{templates: [{{rendering_engine: codebuild, settings: {settings}}}]}}"
        )
    };
    for (manifest, expected) in [
        ("a: [", "line 1, column 4"),
        ("", "needs a list at `infrastructure.templates`"),
        ("infrastructure: {templates: {}}", "needs a list at"),
        ("infrastructure: {templates: []}", "is empty"),
        (
            "infrastructure: {templates: [a]}",
            "`infrastructure.templates[0]` must be a mapping",
        ),
        (
            "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: mustache, template_language: cloudformation}]}",
            "must have one of these forms",
        ),
        (
            "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: hcl, template_language: cloudformation}]}",
            "must have one of these forms",
        ),
        (
            "infrastructure: {templates: [{rendering_engine: jinja, template_language: cloudformation}]}",
            "`infrastructure.templates[0].file` must name a file",
        ),
        (
            "infrastructure: {templates: [{file: none.yaml, rendering_engine: jinja, template_language: cloudformation}]}",
            "names `none.yaml`, which is not in infrastructure/",
        ),
        (
            "infrastructure: {templates: [{file: ../schema/schema.yaml, rendering_engine: jinja, template_language: cloudformation}]}",
            "which is not in infrastructure/",
        ),
        (
            "infrastructure: {templates: [{file: '*', rendering_engine: jinja, template_language: cloudformation}]}",
            "names `*`",
        ),
        (
            "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: jinja, template_language: cloudformation}, {file: run.sh, rendering_engine: jinja, template_language: cloudformation}]}",
            "more than one CloudFormation file",
        ),
        (
            "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: jinja, template_language: cloudformation}, {file: '*', rendering_engine: hcl, template_language: terraform}]}",
            "mixes templates",
        ),
        (
            "infrastructure: {templates: [{rendering_engine: codebuild}]}",
            "`infrastructure.templates[0].settings` must be a mapping",
        ),
        (
            &codebuild("{image: x}"),
            "settings.provision` must list a command",
        ),
        (
            &codebuild("{provision: []}"),
            "settings.provision` must list a command",
        ),
        (
            &codebuild("{provision: a}"),
            "settings.provision` must be a list of commands",
        ),
        (
            &codebuild("{provision: [a], deprovision: [{b: c}]}"),
            "settings.deprovision` must be a list of commands",
        ),
        (
            &codebuild("{provision: [a], image: 5}"),
            "settings.image` must be a string",
        ),
        (
            &codebuild("{provision: [a], env: []}"),
            "settings.env` must be a mapping",
        ),
        (
            &codebuild("{provision: [a], env: {variables: []}}"),
            "settings.env.variables` must be a mapping",
        ),
        (
            &CODEBUILD.replace("settings", "file: x, settings"),
            ".file` has no meaning with CodeBuild",
        ),
    ] {
        let found = message(with_manifest(manifest).check(ENVIRONMENT));
        assert!(
            found.starts_with("infrastructure/manifest.yaml: "),
            "{found}"
        );
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_template_that_is_not_text_is_refused() {
    let bundle = pack(&[
        ("schema/schema.yaml", ENVIRONMENT_SCHEMA),
        ("infrastructure/manifest.yaml", CLOUDFORMATION),
    ])
    .file("infrastructure/cloudformation.yaml", b"a\n\xff")
    .unpack()
    .expect("unpacked");
    assert_eq!(
        message(bundle.check(ENVIRONMENT)),
        "infrastructure/cloudformation.yaml: the text is not UTF-8 (line 2)."
    );
}

#[test]
fn a_missing_part_is_named() {
    let only_schema = |schema: &str| {
        pack(&[("schema/schema.yaml", schema)])
            .unpack()
            .expect("unpacked")
    };
    assert!(
        message(only_schema(ENVIRONMENT_SCHEMA).check(ENVIRONMENT))
            .starts_with("infrastructure/manifest.yaml: is missing")
    );
    assert!(
        message(only_schema(PIPELINE_SCHEMA).check(SERVICE))
            .starts_with("instance_infrastructure/manifest.yaml: is missing")
    );
    assert!(
        message(only_schema(SERVICE_SCHEMA).check(NO_PIPELINE))
            .starts_with("instance_infrastructure/manifest.yaml: is missing")
    );
    let instance = pack(&[
        ("schema/schema.yaml", PIPELINE_SCHEMA),
        ("instance_infrastructure/manifest.yaml", CLOUDFORMATION),
        ("instance_infrastructure/cloudformation.yaml", "x"),
    ]);
    assert!(
        message(instance.unpack().expect("unpacked").check(SERVICE))
            .starts_with("pipeline_infrastructure/manifest.yaml: is missing")
    );
}

#[test]
fn a_schema_without_the_needed_input_type_is_refused_in_protons_words() {
    let check = |schema: &str, kind| {
        message(
            pack(&[("schema/schema.yaml", schema)])
                .unpack()
                .expect("unpacked")
                .check(kind),
        )
    };
    assert_eq!(
        check(SERVICE_SCHEMA, SERVICE),
        "Service template schema is not valid: Missing property [pipelineInputType]"
    );
    assert_eq!(
        check(ENVIRONMENT_SCHEMA, SERVICE),
        "Service template schema is not valid: Missing property [pipelineInputType]"
    );
    assert_eq!(
        check(ENVIRONMENT_SCHEMA, NO_PIPELINE),
        "Service template schema is not valid: Missing property [serviceInputType]"
    );
    assert_eq!(
        check(SERVICE_SCHEMA, ENVIRONMENT),
        "Environment template schema is not valid: Missing property [environmentInputType]"
    );
    assert!(
        check(PIPELINE_SCHEMA, NO_PIPELINE)
            .contains("`schema.pipeline_input_type` must be removed")
    );
    assert_eq!(
        check("schema:\n  format:\n\tx", ENVIRONMENT)
            .split(" (line 3")
            .count(),
        2
    );
    assert!(check("a: 1", ENVIRONMENT).starts_with(
        "Environment template schema is not valid: schema/schema.yaml: `schema` is missing"
    ));
}

#[test]
fn a_customer_managed_environment_has_a_schema_of_strings_and_nothing_else() {
    let check = |schema: &str| {
        pack(&[("schema/schema.yaml", schema), ("spec.yaml", "x")])
            .unpack()
            .expect("unpacked")
            .check(CUSTOMER_MANAGED)
    };
    assert!(check(ENVIRONMENT_SCHEMA).is_ok_and(|checked| checked.infrastructure.is_none()));
    assert!(
        message(check(&ENVIRONMENT_SCHEMA.replace("string", "number")))
            .contains("the output `a` of a customer managed environment must be of type string")
    );
    assert!(
        message(check(
            &ENVIRONMENT_SCHEMA.replace("type: string", "type: string, default: x")
        ))
        .contains("must not have a default")
    );
    let found = message(
        environment()
            .unpack()
            .expect("unpacked")
            .check(CUSTOMER_MANAGED),
    );
    assert!(
        found.starts_with("infrastructure/cloudformation.yaml: must be removed"),
        "{found}"
    );
}

#[test]
fn the_pipeline_part_is_ignored_where_the_customer_manages_pipelines() {
    let bundle = pack(&[
        ("schema/schema.yaml", SERVICE_SCHEMA),
        ("instance_infrastructure/manifest.yaml", CLOUDFORMATION),
        ("instance_infrastructure/cloudformation.yaml", "x"),
        ("pipeline_infrastructure/manifest.yaml", "broken: ["),
    ]);
    let checked = bundle.unpack().expect("unpacked").check(NO_PIPELINE);
    assert!(checked.is_ok_and(|checked| checked.pipeline_infrastructure.is_none()));
}
