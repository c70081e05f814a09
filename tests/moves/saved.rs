//! What AWS Proton's command line has saved, taken over.

use std::fs;
use std::path::Path;

use prost_types::Timestamp;
use proton_gateway::api::pb::{self, DeploymentUpdateType};
use serde_json::{Value, json};

use crate::answers::{self, Answers};
use crate::{done, engine_on, populated, refused, shown};

/// The end of a name of a file, by which the command line's users tell answers apart.
fn ending(question: &Value) -> String {
    let text = question["resourceArn"]
        .as_str()
        .and_then(|arn| arn.splitn(6, ':').nth(5));
    let parts = [
        "serviceName",
        "environmentName",
        "componentName",
        "serviceInstanceName",
        "name",
    ];
    let named = parts.iter().filter_map(|name| question[*name].as_str());
    let mut named: Vec<_> = text.into_iter().chain(named).collect();
    named.dedup();
    named.join("-").replace(['/', ':', '.'], "-")
}

/// Times as AWS's command line prints them by default.
fn in_words(value: &mut Value) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member.as_f64() {
                    Some(seconds) if name.ends_with("At") => {
                        let time = Timestamp {
                            seconds: seconds as i64,
                            nanos: 0,
                        };
                        let text = time.to_string().replace('Z', ".000000+00:00");
                        *member = text.into();
                    }
                    _ => in_words(member),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(in_words),
        _ => {}
    }
}

/// Saves answers as a team would have: one a file, with times in both forms.
pub fn save(folder: &Path, answers: &Answers) {
    fs::create_dir_all(folder).unwrap();
    let wanted = |operation: &str| {
        let nameless = operation.ends_with("Outputs") || operation == "ListTagsForResource";
        let passing = ["Status", "Summary"]
            .iter()
            .any(|end| operation.ends_with(end));
        nameless || (operation.starts_with("Get") && !passing)
    };
    let mut number = 0;
    for (question, answer) in answers {
        let (operation, request) = question.split_once(' ').unwrap();
        let request: Value = serde_json::from_str(request).unwrap();
        let Ok(answer) = answer else { continue };
        if !wanted(operation) || !request["deploymentId"].is_null() {
            continue;
        }
        let mut answer = answer.clone();
        if number % 2 == 0 {
            in_words(&mut answer);
        }
        let file = match operation {
            "ListTagsForResource" => format!("list-tags-for-resource-{}.json", ending(&request)),
            "ListEnvironmentOutputs" => {
                format!("list-environment-outputs-{}.json", ending(&request))
            }
            "ListServiceInstanceOutputs" => {
                format!("list-service-instance-outputs-{}.json", ending(&request))
            }
            "ListServicePipelineOutputs" => {
                format!("list-service-pipeline-outputs-{}.json", ending(&request))
            }
            "ListComponentOutputs" => format!("list-component-outputs-{}.json", ending(&request)),
            // Any name will do.
            _ => format!("answer-{number}.json"),
        };
        fs::write(
            folder.join(file),
            serde_json::to_string_pretty(&answer).unwrap(),
        )
        .unwrap();
        number += 1;
    }
}

#[tokio::test]
async fn saved_answers_are_taken_over_with_their_numbers_and_outputs() {
    let world = populated::world().await;
    let before = answers::all(&world.engine).await;
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    save(&saved, &before);
    let said = done(&state, &["import", "--from", "aws", shown(&saved)]);
    assert!(said.contains("what was not saved"), "{said}");
    let after = answers::all(&engine_on(&state, &world)).await;
    let mut compared = 0;
    for (question, answer) in &before {
        let Ok(answer) = answer else { continue };
        let text = answer.to_string();
        let passing = ["IN_PROGRESS", "CANCELLING"]
            .iter()
            .any(|it| text.contains(it));
        let kept = [
            "GetAccount",
            "GetComponent",
            "GetDeployment",
            "GetEnvironment",
            "GetRepository ",
            "GetService ",
            "GetServiceInstance ",
            "GetServiceTemplate",
            "GetServiceSyncConfig",
            "GetTemplateSyncConfig",
            "ListEnvironmentOutputs",
            "ListServiceInstanceOutputs",
            "ListServicePipelineOutputs",
            "ListTagsForResource",
            "ListEnvironmentTemplateVersions",
        ];
        let ours = question.contains("deploymentId") || passing;
        if ours || !kept.iter().any(|it| question.starts_with(it)) {
            continue;
        }
        let token = r#""lastClientRequestToken":"a-token-of-a-pipeline","#;
        let expected: Value = serde_json::from_str(&text.replace(token, "")).unwrap();
        let there = after.get(question).and_then(|answer| answer.as_ref().ok());
        assert_eq!(there, Some(&expected), "{question}");
        compared += 1;
    }
    assert!(compared > 100, "{compared}");
    // Nothing is under way, and nothing is going to be.
    let nothing = after.values().flatten().map(Value::to_string);
    assert_eq!(
        nothing.filter(|text| text.contains("_IN_PROGRESS")).count(),
        0
    );
}

/// Writes some answers of our own.
pub fn written(folder: &Path, answers: &[(&str, Value)]) {
    fs::create_dir_all(folder).unwrap();
    for (file, answer) in answers {
        fs::write(folder.join(file), answer.to_string()).unwrap();
    }
}

fn arn(tail: &str) -> String {
    crate::service_fixtures::arn(tail)
}

const SERVICE_SPEC: &str = "proton: ServiceSpec\npipeline: {tests: make}\ninstances:\n- {name: eu, environment: prod, spec: {image: 'shop:1'}}\n";

/// A platform of which not everything was saved.
pub fn partial() -> Vec<(&'static str, Value)> {
    vec![
        (
            "envs.json",
            json!({"environments": [{
                "arn": arn("environment/prod"), "name": "prod", "createdAt": 1_600_000_000.5,
                "deploymentStatus": "IN_PROGRESS", "templateName": "network",
                "templateMajorVersion": "2", "templateMinorVersion": "7",
                "lastDeploymentAttemptedAt": "2021-03-31T21:28:26.537000+00:00",
                "lastDeploymentSucceededAt": "2021-03-31T21:28:26.537000+00:00",
            }]}),
        ),
        (
            "shop.json",
            json!({"service": {
                "arn": arn("service/shop"), "name": "shop", "templateName": "web", "status": "ACTIVE",
                "createdAt": "2021-03-31T21:28:26.537000+00:00", "lastModifiedAt": 1_617_226_106.537,
                "repositoryId": "acme/shop", "branchName": "main", "spec": SERVICE_SPEC,
                "pipeline": {
                    "arn": arn("service/shop/pipeline/4f0c"), "deploymentStatus": "SUCCEEDED",
                    "templateName": "web", "templateMajorVersion": "1", "templateMinorVersion": "3",
                    "createdAt": 1_617_226_106, "lastDeploymentAttemptedAt": 1_617_226_106,
                    "lastDeploymentSucceededAt": 1_617_226_106, "spec": SERVICE_SPEC,
                },
            }}),
        ),
        (
            "instances.json",
            json!({"serviceInstances": [{
            "arn": arn("service/shop/service-instance/eu"), "name": "eu", "serviceName": "shop",
            "environmentName": "prod", "templateName": "web", "templateMajorVersion": "1",
            "templateMinorVersion": "3", "createdAt": 1_617_226_106, "deploymentStatus": "SUCCEEDED",
            "lastDeploymentAttemptedAt": 1_617_226_106, "lastDeploymentSucceededAt": 1_617_226_106,
        }, {
            "arn": arn("service/shop/service-instance/us"), "name": "us", "serviceName": "shop",
            "environmentName": "elsewhere", "templateName": "web", "templateMajorVersion": "1",
            "templateMinorVersion": "3", "createdAt": 1_617_226_106, "deploymentStatus": "SUCCEEDED",
            "lastDeploymentAttemptedAt": 1_617_226_106,
        }], "nextToken": "more"}),
        ),
        (
            "eu/list-service-instance-outputs-shop-eu.json",
            json!({"outputs": [{"key": "Url", "valueString": "u"}]}),
        ),
        (
            "web-1.3.json",
            json!({"serviceTemplateVersion": {
                "arn": arn("service-template/web:1.3"), "templateName": "web", "majorVersion": "1",
                "minorVersion": "3", "status": "PUBLISHED", "createdAt": 1_617_226_106,
                "lastModifiedAt": 1_617_226_106, "recommendedMinorVersion": "3",
                "compatibleEnvironmentTemplates": [{"templateName": "network", "majorVersion": "2"}],
                "schema": "schema:\n  format: {openapi: 3.0.0}\n  service_input_type: Web\n  pipeline_input_type: P\n  types:\n    Web: {type: object, properties: {image: {type: string}}}\n    P: {type: object, properties: {tests: {type: string}}}\n",
            }}),
        ),
    ]
}

#[tokio::test]
async fn what_is_missing_is_filled_from_lists_and_told_with_what_it_prevents() {
    let world = crate::support::World::over(crate::support::Backend::InMemory).await;
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    let said = done(&state, &["import", "--from", "aws", shown(&saved)]);
    for remark in [
        "environment/prod: its spec was not saved (get-environment); an update has to give one",
        "environment/prod: was under way; it is FAILED now",
        "service/shop/service-instance/us: is left out: its environment elsewhere was not saved",
        "instances.json: the list was cut off",
        "environment-template/network: was not saved; only its name is kept",
        "environment-template/network:2.7: has neither a schema nor a bundle",
        "service-template/web:1.3: has no bundle",
    ] {
        assert!(said.contains(remark), "not said: {remark}\n{said}");
    }
    let engine = engine_on(&state, &world);
    let there = answers::all(&engine).await;
    let of = |operation: &str, request| answers::of(&there, operation, request).clone();
    let instance = of(
        "GetServiceInstance",
        json!({"serviceName": "shop", "name": "eu"}),
    );
    assert_eq!(instance["serviceInstance"]["spec"], SERVICE_SPEC);
    let which = json!({"serviceName": "shop", "serviceInstanceName": "eu"});
    let outputs = of("ListServiceInstanceOutputs", which);
    assert_eq!(outputs["outputs"][0]["key"], "Url");
    let template = of("GetServiceTemplate", json!({"name": "web"}));
    assert_eq!(template["serviceTemplate"]["recommendedVersion"], "1.3");
}

#[tokio::test]
async fn a_pipeline_goes_on_with_what_was_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    done(&state, &["import", "--from", "aws", shown(&saved)]);
    let world = crate::support::World::over(crate::support::Backend::InMemory).await;
    let engine = engine_on(&state, &world);
    let call = |request: pb::UpdateServiceInstanceRequest| {
        use proton_gateway::api::Typed;
        use tower::Service;
        let arrival = proton_gateway::edge::Arrival {
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(60),
            ..Default::default()
        };
        let door = proton_gateway::gateway::Door::Grpc;
        let call = proton_gateway::gateway::Call::new(request.into_request(), door, &arrival);
        engine.clone().call(call)
    };
    let update = |spec: &str| pb::UpdateServiceInstanceRequest {
        spec: Some(spec.to_owned()),
        ..crate::service_fixtures::update_instance("shop", "eu", None)
    };
    assert!(
        call(update(&SERVICE_SPEC.replace("shop:1", "shop:2")))
            .await
            .is_ok()
    );
    world.clock.advance(crate::support::STEP);
    engine.settle().await.unwrap();
    let there = answers::all(&engine).await;
    let service = answers::of(&there, "GetService", json!({"name": "shop"}));
    assert!(
        service["service"]["spec"]
            .as_str()
            .unwrap()
            .contains("shop:2"),
        "{service}"
    );
    // On a version of which nothing is known, nothing is deployed, and the answer says why.
    let environment = pb::UpdateEnvironmentRequest {
        spec: Some("proton: EnvironmentSpec\nspec: {}\n".to_owned()),
        ..crate::platform_fixtures::update_environment("prod", DeploymentUpdateType::CurrentVersion)
    };
    use proton_gateway::api::Typed;
    use tower::Service;
    let call = proton_gateway::gateway::Call::new(
        environment.into_request(),
        proton_gateway::gateway::Door::Grpc,
        &proton_gateway::edge::Arrival {
            deadline: std::time::Instant::now() + std::time::Duration::from_secs(60),
            ..Default::default()
        },
    );
    let refused = engine.clone().call(call).await.err().unwrap();
    assert!(
        refused.message.contains("imported without its schema"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn bad_input_and_conflicts_are_listed_with_file_and_key_and_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    let service = |created: &str, status: &str| {
        json!({"service": {"arn": arn("service/a"), "name": "a", "templateName": "web",
            "status": status, "createdAt": created}})
    };
    written(
        &saved,
        &[
            ("one.json", service("2021-03-31T21:28:26Z", "ACTIVE")),
            ("two.json", service("2022-03-31T21:28:26Z", "ACTIVE")),
            (
                "late.json",
                json!({"environment": {"name": "prod", "createdAt": "yesterday", "arn": arn("environment/prod"),
            "deploymentStatus": "FINE", "templateName": 7}}),
            ),
            (
                "other.json",
                json!({"component": {"name": "c", "arn": "arn:aws:proton:eu-west-1:999999999999:component/c"}}),
            ),
            ("outputs.json", json!({"outputs": []})),
            ("strange.json", json!({"Stacks": []})),
        ],
    );
    fs::write(saved.join("empty.json"), "").unwrap();
    fs::write(saved.join("torn.json"), "{\"service\": {").unwrap();
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    for problem in [
        "two.json: service.createdAt: differs from what one.json says",
        "late.json: environment.createdAt: must be a time",
        "late.json: environment.deploymentStatus: is none of its values",
        "late.json: environment: templateName must be a string",
        "other.json: component.arn: is of another account or region",
        "give --account-id 999999999999 --region eu-west-1",
        "outputs.json: outputs: whose they are cannot be told",
        "strange.json: is no answer",
        "empty.json: is empty",
        "torn.json: is no JSON",
    ] {
        assert!(said.contains(problem), "not said: {problem}\n{said}");
    }
    assert!(!state.exists());
}

#[tokio::test]
async fn bundles_are_taken_from_a_folder_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    let bundles = folder.path().join("bundles");
    let version = |template: &str, minor: &str| {
        json!({"environmentTemplateVersion": {
            "arn": arn(&format!("environment-template/{template}:1.{minor}")), "templateName": template,
            "majorVersion": "1", "minorVersion": minor, "status": "PUBLISHED",
            "createdAt": 1_617_226_106, "lastModifiedAt": 1_617_226_106,
        }})
    };
    written(
        &saved,
        &[
            ("a.json", version("bus", "0")),
            ("b.json", version("bus", "4")),
        ],
    );
    fs::create_dir_all(bundles.join("bus/1.0/schema")).unwrap();
    fs::create_dir_all(bundles.join("bus/1.0/infrastructure")).unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/environment-cloudformation");
    for part in ["schema", "infrastructure"] {
        for entry in fs::read_dir(example.join(part)).unwrap().flatten() {
            fs::copy(
                entry.path(),
                bundles.join("bus/1.0").join(part).join(entry.file_name()),
            )
            .unwrap();
        }
    }
    let packed = crate::platform_fixtures::environment_bundle("{zone: {type: string}}");
    fs::write(bundles.join("bus-1.4.tar.gz"), packed).unwrap();
    done(
        &state,
        &[
            "import",
            "--from",
            "aws",
            "--bundles",
            shown(&bundles),
            shown(&saved),
        ],
    );
    let out = folder.path().join("out");
    done(&state, &["export", shown(&out)]);
    for number in ["1.0", "1.4"] {
        let version = out.join("templates/environment/bus").join(number);
        assert!(
            version.join("bundle/schema/schema.yaml").exists(),
            "{number}"
        );
        assert!(version.join("bundle.tar.gz").exists(), "{number}");
    }
    fs::write(bundles.join("bus-1.4.tar.gz"), "torn").unwrap();
    let other = folder.path().join("other");
    let said = refused(
        &other,
        &[
            "import",
            "--from",
            "aws",
            "--bundles",
            shown(&bundles),
            shown(&saved),
        ],
    );
    assert!(
        said.contains("bus-1.4.tar.gz: The bundle can't be unpacked"),
        "{said}"
    );
}

#[tokio::test]
async fn what_was_taken_over_can_be_exported_and_imported_again() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    done(&state, &["import", "--from", "aws", shown(&saved)]);
    let (out, again) = (folder.path().join("out"), folder.path().join("again"));
    done(&state, &["export", shown(&out)]);
    done(&again, &["import", shown(&out)]);
}

#[test]
fn links_and_pipes_among_saved_answers_are_named_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    std::os::unix::fs::symlink(&saved, saved.join("circle")).unwrap();
    let made = std::process::Command::new("mkfifo")
        .arg(saved.join("pipe.json"))
        .status();
    assert!(made.unwrap().success());
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    for name in ["circle", "pipe.json"] {
        let problem = format!("{name}: is neither a file nor a folder");
        assert!(said.contains(&problem), "{said}");
    }
}

#[test]
fn numbers_of_versions_that_nothing_could_come_after_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (saved, state) = (folder.path().join("saved"), folder.path().join("state"));
    let most = u64::MAX.to_string();
    written(
        &saved,
        &[
            (
                "version.json",
                json!({"environmentTemplateVersion": {
                    "arn": arn(&format!("environment-template/bus:1.{most}")),
                    "templateName": "bus", "majorVersion": "1", "minorVersion": most,
                    "status": "PUBLISHED", "createdAt": 1_617_226_106, "lastModifiedAt": 1_617_226_106,
                }}),
            ),
            (
                "prod.json",
                json!({"environment": {
                    "arn": arn("environment/prod"), "name": "prod", "createdAt": 1_617_226_106,
                    "deploymentStatus": "SUCCEEDED", "templateName": "bus",
                    "templateMajorVersion": most, "templateMinorVersion": "0",
                    "lastDeploymentAttemptedAt": 1_617_226_106,
                    "lastDeploymentSucceededAt": 1_617_226_106,
                }}),
            ),
        ],
    );
    let said = refused(&state, &["import", "--from", "aws", shown(&saved)]);
    for file in ["version.json", "prod.json"] {
        let told = |line: &str| line.contains(file) && line.contains("more than 4294967295");
        assert!(said.lines().any(told), "{said}");
    }
}
