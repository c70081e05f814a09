//! What no store could hold, or would never end, is refused with its file and field.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::folder::{edit, exported};
use crate::saved::{partial, written};
use crate::{done, engine_on, refused, shown};

/// Changes the record in a file.
fn change(root: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = root.join(file);
    let mut record: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut record);
    fs::write(&path, record.to_string()).unwrap();
}

fn remove(record: &mut Value, name: &str) {
    record.as_object_mut().unwrap().shift_remove(name).unwrap();
}

#[track_caller]
fn all_said(said: &str, problems: &[&str]) {
    for problem in problems {
        assert!(said.contains(problem), "not said: {problem}\n{said}");
    }
}

#[tokio::test]
async fn a_schema_that_is_not_the_one_in_the_bundle_is_refused_with_its_file() {
    let (world, folder, root) = exported().await;
    drop(world);
    let version = "templates/environment/bus/1.0";
    let schema = root.join(version).join("schema.yaml");
    let text = fs::read_to_string(&schema).unwrap();
    fs::write(&schema, format!("{text}# of another kind\n")).unwrap();
    change(&root, "templates/service/web/1.0/version.json", |record| {
        remove(record, "schema");
    });
    fs::remove_file(root.join("templates/service/web/1.0/schema.yaml")).unwrap();
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    all_said(
        &said,
        &[
            "templates/environment/bus/1.0/schema.yaml: is not the one in bundle.tar.gz, which is what counts",
            "templates/service/web/1.0/version.json: schema: is missing, and bundle.tar.gz has one",
        ],
    );
}

#[tokio::test]
async fn what_is_deployed_or_being_deployed_must_be_there() {
    let (world, folder, root) = exported().await;
    drop(world);
    for (file, member) in [
        ("environments/prod/environment.json", "current"),
        ("services/shop/instances/eu/instance.json", "current"),
        ("services/shop/pipeline.json", "current"),
        ("components/cache/component.json", "current"),
        ("environments/test/environment.json", "pending"),
        ("services/local/instances/a/instance.json", "pending"),
    ] {
        change(&root, file, |record| remove(record, member));
    }
    for lost in [
        "environments/prod/current.spec.yaml",
        "services/shop/instances/eu/current.spec.yaml",
        "services/shop/pipeline.current.spec.yaml",
    ] {
        fs::remove_file(root.join(lost)).unwrap();
    }
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    let current = "current: is missing, and deployment.status says that it was deployed";
    let pending = "pending: is missing: it is what the deployment that is under way brings about";
    all_said(
        &said,
        &[
            &format!("environments/prod/environment.json: {current}"),
            &format!("services/shop/instances/eu/instance.json: {current}"),
            &format!("services/shop/pipeline.json: {current}"),
            &format!("components/cache/component.json: {current}"),
            &format!("environments/test/environment.json: {pending}"),
            &format!("services/local/instances/a/instance.json: {pending}"),
        ],
    );
}

#[tokio::test]
async fn what_the_contract_does_not_allow_is_refused_with_its_field() {
    let (world, folder, root) = exported().await;
    drop(world);
    let long = |count: usize| Value::from("é".repeat(count));
    change(&root, "environments/prod/environment.json", |record| {
        record["description"] = long(501);
        record["createdAt"] = "-0044-03-15T12:00:00Z".into();
        record["protonServiceRoleArn"] = "proton".into();
        record["tags"] = json!([{"key": "a", "value": "v".repeat(257)}, {"key": "k".repeat(129)}]);
    });
    change(&root, "services/shop/service.json", |record| {
        record["description"] = long(501);
        record["lastModifiedAt"] = "1969-12-31T23:59:59Z".into();
    });
    change(&root, "components/cache/component.json", |record| {
        record["description"] = long(501);
    });
    let template = "# long\n".repeat(10_000);
    fs::write(
        root.join("components/cache/current.templateFile.yaml"),
        template,
    )
    .unwrap();
    change(&root, "templates/environment/bus/template.json", |record| {
        record["displayName"] = long(101);
    });
    let repository = "repositories/github/acme+infrastructure.json";
    change(&root, repository, |record| {
        record["repository"]["encryptionKey"] = "no ARN".into();
    });
    edit(
        &root,
        "account-settings.json",
        "{",
        "{\"accountSettings\": {},",
    );
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    let environment = "environments/prod/environment.json";
    let most = "must have length less than or equal to";
    all_said(
        &said,
        &[
            &format!("{environment}: description: {most} 500"),
            &format!("{environment}: createdAt: must be a time between the years 1970 and 9999"),
            &format!(
                "{environment}: protonServiceRoleArn: must satisfy regular expression pattern"
            ),
            &format!("{environment}: tags[0].value: {most} 256"),
            &format!("{environment}: tags[1].key: {most} 128"),
            &format!("services/shop/service.json: description: {most} 500"),
            "services/shop/service.json: lastModifiedAt: must be a time between",
            &format!("components/cache/component.json: description: {most} 500"),
            &format!("components/cache/component.json: current.templateFile: {most} 51200"),
            &format!("templates/environment/bus/template.json: displayName: {most} 100"),
            &format!("{repository}: repository.encryptionKey: must satisfy"),
            "account-settings.json: accountSettings: is given twice; keep one of them",
        ],
    );
}

#[tokio::test]
async fn what_would_never_end_or_belongs_to_nobody_is_refused() {
    let (world, folder, root) = exported().await;
    drop(world);
    // It waits for a part of the service, and none is on its way.
    change(&root, "services/batch/service.json", |record| {
        record["status"] = "UPDATE_IN_PROGRESS".into();
        record["underWay"] = json!({"kind": "UPDATE", "phase": "ADDING", "spec": ""});
    });
    change(&root, "environments/events/environment.json", |record| {
        record["deployment"]["status"] = "DELETE_COMPLETE".into();
    });
    change(&root, "environments/own/environment.json", |record| {
        record["deployment"]["outputs"] = json!([{"valueString": "x"}]);
    });
    change(&root, "environments/prod/environment.json", |record| {
        record["current"]["spec"]["file"] = "environment.json".into();
    });
    change(&root, "services/shop/pipeline.json", |record| {
        record["tags"] = json!([{"key": "a", "value": "b"}]);
    });
    change(&root, "templates/service/web/1.0/version.json", |record| {
        record["pipelineRendering"] = "hcl".into();
    });
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    all_said(
        &said,
        &[
            "services/batch/service.json: status: says that something is under way, and no instance",
            "environments/events/environment.json: deployment.status: says that it was deleted",
            "environments/own/environment.json: deployment.outputs[0].key: is missing",
            "environments/prod/environment.json: current.spec: names environment.json, which is not there",
            "services/shop/pipeline.json: tags: are of nothing that can have tags",
            "templates/service/web/1.0/version.json: pipelineRendering: is not the one in bundle.tar.gz",
        ],
    );
}

#[tokio::test]
async fn arns_of_another_account_are_refused_where_they_stand() {
    let (world, folder, root) = exported().await;
    drop(world);
    let deployments = fs::read_dir(root.join("deployments")).unwrap().flatten();
    let mut names: Vec<_> = deployments
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    let file = |nth: usize| format!("deployments/{}/deployment.json", names[nth]);
    change(&root, &file(0), |record| {
        record["deployment"]["targetArn"] =
            "arn:aws:proton:us-east-1:999999999999:environment/prod".into();
    });
    change(&root, &file(1), |record| {
        record["deployment"]["arn"] = "arn:aws:proton:eu-west-1:123456789012:deployment/x".into();
    });
    change(&root, &file(2), |record| {
        record["deployment"]["targetArn"] =
            "arn:aws:proton:us-east-1:123456789012:environment/nowhere".into();
    });
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    all_said(
        &said,
        &[
            &format!(
                "{}: deployment.targetArn: is of another account or region",
                file(0)
            ),
            "give --account-id 999999999999 --region us-east-1",
            &format!(
                "{}: deployment.arn: is of another account or region",
                file(1)
            ),
            &format!("{}: deployment.targetArn: is not that of `target`", file(2)),
        ],
    );
}

/// A saved answer about an environment.
fn environment(name: &str, more: Value) -> Value {
    let mut members = json!({
        "arn": crate::service_fixtures::arn(&format!("environment/{name}")), "name": name,
        "createdAt": 1_617_226_106, "deploymentStatus": "SUCCEEDED", "templateName": "network",
        "templateMajorVersion": "2", "templateMinorVersion": "7",
        "lastDeploymentAttemptedAt": 1_617_226_106,
    });
    for (name, value) in more.as_object().unwrap() {
        members[name] = value.clone();
    }
    members
}

#[test]
fn saved_answers_are_checked_by_the_contract_too() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    let one = |name: &str, more| json!({"environment": environment(name, more)});
    written(
        &saved,
        &[
            (
                "long.json",
                one("long", json!({"description": "d".repeat(501)})),
            ),
            ("unread.json", one("unread", json!({"spec": "\""}))),
            (
                "unsaid.json",
                one("unsaid", json!({"deploymentStatus": null})),
            ),
            ("early.json", one("early", json!({"createdAt": -1}))),
            ("late.json", one("late", json!({"createdAt": 1e18}))),
            (
                "bc.json",
                one("bc", json!({"createdAt": "-0044-03-15T12:00:00Z"})),
            ),
            (
                "unversioned.json",
                one("unversioned", json!({"templateMinorVersion": null})),
            ),
            (
                "list.json",
                json!({"environments": [environment("listed", json!({"provisioning": "MAGIC"}))]}),
            ),
            (
                "deployment.json",
                json!({"deployment": {
                    "arn": crate::service_fixtures::arn("deployment/x"),
                    "id": "8f0ce5b6-0c3a-4b0c-9d8e-3b0f6a1f2a10", "createdAt": 1_617_226_106,
                    "targetArn": "arn:aws:proton:us-east-1:999999999999:environment/long",
                    "deploymentStatus": "SUCCEEDED", "environmentName": "long",
                }}),
            ),
        ],
    );
    let twice = r#"{"service": {"name": "a", "name": "b", "arn": "x"}}"#;
    fs::write(saved.join("twice.json"), twice).unwrap();
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    let time = "must be a time between the years 1970 and 9999";
    all_said(
        &said,
        &[
            "long.json: environment.description: must have length less than or equal to 500",
            "unread.json: spec: is no YAML",
            "unsaid.json: deploymentStatus: is missing",
            &format!("early.json: environment.createdAt: {time}"),
            &format!("late.json: environment.createdAt: {time}"),
            &format!("bc.json: environment.createdAt: {time}"),
            "unversioned.json: templateMinorVersion: is missing",
            "list.json: environments[0].provisioning: must satisfy enum value set",
            "deployment.json: deployment.targetArn: is of another account or region",
            "twice.json: service.name: is given twice; keep one of them",
            "twice.json: service.arn: is no ARN",
        ],
    );
    assert!(!state.exists());
}

#[tokio::test]
async fn what_a_list_says_has_succeeded_is_deployed_without_its_time() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    let list = json!({"environments": [environment("prod", json!({}))]});
    written(&saved, &[("list.json", list)]);
    done(&state, &["import", "--from", "aws", shown(&saved)]);
    let out = folder.path().join("out");
    done(&state, &["export", shown(&out)]);
    let record = fs::read(out.join("environments/prod/environment.json")).unwrap();
    let record: Value = serde_json::from_slice(&record).unwrap();
    assert_eq!(record["current"]["templateMajorVersion"], "2");
    assert!(record["pending"].is_null(), "{record}");
    done(&folder.path().join("again"), &["import", shown(&out)]);
}

#[test]
fn what_was_deleted_is_left_out_with_all_that_was_saved_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    let deleted = environment("prod", json!({"deploymentStatus": "DELETE_COMPLETE"}));
    written(&saved, &partial());
    written(
        &saved,
        &[
            ("envs.json", json!({"environments": [deleted]})),
            (
                "list-tags-for-resource-environment-prod.JSON",
                json!({"tags": [{"key": "a", "value": "b"}]}),
            ),
            (
                "list-environment-outputs-prod.json",
                json!({"outputs": [{"key": "a", "valueString": "b"}]}),
            ),
        ],
    );
    let said = done(&state, &["import", "--from", "aws", shown(&saved)]);
    all_said(
        &said,
        &[
            "environment/prod: is left out: it was deleted",
            "service/shop/service-instance/eu: is left out: its environment prod was not saved",
        ],
    );
    assert!(!said.contains(" environments\n"), "{said}");
}

#[test]
fn outputs_without_a_key_are_refused_in_their_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    let outputs = json!({"outputs": [{"valueString": "b"}]});
    written(&saved, &[("list-environment-outputs-prod.json", outputs)]);
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    all_said(
        &said,
        &["list-environment-outputs-prod.json: outputs[0].key: is missing"],
    );
}

#[test]
fn two_files_that_say_different_things_of_one_resource_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    for inner in ["eu", "again"] {
        fs::create_dir_all(saved.join(inner)).unwrap();
    }
    written(&saved, &partial());
    let tags = |value: &str| json!({"tags": [{"key": "team", "value": value}]});
    written(
        &saved,
        &[
            (
                "again/list-service-instance-outputs-shop-eu.json",
                json!({"outputs": [{"key": "Url", "valueString": "other"}]}),
            ),
            ("list-tags-for-resource-service-shop.json", tags("a")),
            ("again/list-tags-for-resource-service-shop.json", tags("b")),
        ],
    );
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    all_said(
        &said,
        &[
            "outputs: differ from those in ",
            "tags: differ from those in ",
        ],
    );
}

/// A text as shells and editors of Windows write it.
fn marked(text: &str, form: &str) -> Vec<u8> {
    let text = format!("\u{feff}{text}");
    match form {
        "UTF-16LE" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "UTF-16BE" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        _ => text.into_bytes(),
    }
}

#[tokio::test]
async fn answers_that_powershell_has_saved_are_read() {
    let world = crate::support::World::over(crate::support::Backend::InMemory).await;
    let folder = tempfile::tempdir().unwrap();
    let (plain, saved) = (folder.path().join("plain"), folder.path().join("saved"));
    for root in [&plain, &saved] {
        fs::create_dir_all(root.join("eu")).unwrap();
    }
    let answers = partial();
    written(&plain, &answers);
    let forms = ["UTF-8", "UTF-16LE", "UTF-16BE"].into_iter().cycle();
    for ((file, answer), form) in answers.iter().zip(forms) {
        let text = answer.to_string().replace("make", "mäke 𝄞");
        fs::write(plain.join(file), &text).unwrap();
        fs::write(saved.join(file), marked(&text, form)).unwrap();
    }
    let mut engines = Vec::new();
    for root in [&plain, &saved] {
        let state = root.with_extension("state");
        done(&state, &["import", "--from", "aws", shown(root)]);
        let engine = engine_on(&state, &world);
        engines.push(crate::answers::all(&engine).await);
    }
    assert_eq!(
        crate::answers::differences(&engines[0], &engines[1]),
        [""; 0]
    );
}

#[tokio::test]
async fn an_export_that_an_editor_has_marked_is_imported() {
    let (world, folder, root) = exported().await;
    drop(world);
    for (file, form) in [
        ("manifest.json", "UTF-8"),
        ("environments/prod/environment.json", "UTF-16LE"),
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        fs::write(root.join(file), marked(&text, form)).unwrap();
    }
    done(&folder.path().join("state"), &["import", shown(&root)]);
}

#[test]
fn what_is_cut_off_in_utf_16_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir(&saved).unwrap();
    fs::write(saved.join("odd.json"), b"\xff\xfe{\x00}").unwrap();
    fs::write(saved.join("empty.json"), b"\xff\xfe").unwrap();
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    all_said(&said, &["odd.json: is not UTF-16", "empty.json: is empty"]);
}
