//! Everything as plain files, and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::{answers, done, engine_on, populated, refused, shown};

/// All files of a folder, by their paths in it.
pub fn files(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            } else {
                let path = entry.path();
                let name = shown(path.strip_prefix(root).unwrap()).to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[track_caller]
pub fn assert_same(one: &Path, other: &Path) {
    let (one, other) = (files(one), files(other));
    let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&one), names(&other));
    for (name, bytes) in &one {
        assert!(
            other[name] == *bytes,
            "{name} differs:\n{}\n{}",
            String::from_utf8_lossy(bytes),
            String::from_utf8_lossy(&other[name])
        );
    }
}

/// A populated world, and what it exports.
pub async fn exported() -> (crate::support::World, tempfile::TempDir, PathBuf) {
    let world = populated::world().await;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("export");
    done(world.state(), &["export", shown(&root)]);
    (world, folder, root)
}

#[tokio::test]
async fn an_export_that_is_imported_and_exported_again_is_the_same_to_the_byte() {
    let (world, folder, first) = exported().await;
    let (state, second) = (folder.path().join("state"), folder.path().join("second"));
    done(&state, &["import", shown(&first)]);
    done(&state, &["export", shown(&second)]);
    assert_same(&first, &second);
    drop(world);
}

#[tokio::test]
async fn what_was_imported_answers_as_the_original_but_for_client_tokens() {
    let (world, folder, root) = exported().await;
    let state = folder.path().join("state");
    done(&state, &["import", shown(&root)]);
    let plain = |answers: answers::Answers| -> answers::Answers {
        let strip = |value: serde_json::Value| {
            let text = value.to_string();
            let token = r#""lastClientRequestToken":"a-token-of-a-pipeline","#;
            serde_json::from_str(&text.replace(token, "")).unwrap()
        };
        let answers = answers.into_iter();
        answers
            .map(|(question, answer)| (question, answer.map(strip)))
            .collect()
    };
    let before = plain(answers::all(&world.engine).await);
    let after = plain(answers::all(&engine_on(&state, &world)).await);
    assert_eq!(answers::differences(&before, &after), [""; 0]);
}

#[tokio::test]
async fn what_was_under_way_goes_on_after_an_import() {
    let (world, folder, root) = exported().await;
    let state = folder.path().join("state");
    done(&state, &["import", shown(&root)]);
    let engine = engine_on(&state, &world);
    // Imported at the time of this machine, which is later than that of the world.
    world
        .clock
        .advance(std::time::Duration::from_secs(20 * 365 * 24 * 3600));
    for _ in 0..5 {
        world.clock.advance(crate::support::STEP);
        engine.settle().await.unwrap();
    }
    let there = answers::all(&engine).await;
    let of = |operation: &str, request| answers::of(&there, operation, request).clone();
    let named = |name: &str| json!({ "name": name });
    assert_eq!(
        of("GetService", named("fresh"))["service"]["status"],
        "ACTIVE"
    );
    let cancelled = of("GetEnvironment", named("test"));
    assert_eq!(cancelled["environment"]["deploymentStatus"], "CANCELLED");
    // Nobody has reported on it.
    assert_eq!(
        of("GetService", named("local"))["service"]["status"],
        "CREATE_FAILED"
    );
    let which = json!({"templateName": "job", "majorVersion": "1", "minorVersion": "1"});
    let version = of("GetServiceTemplateVersion", which);
    assert_eq!(version["serviceTemplateVersion"]["status"], "DRAFT");
}

#[tokio::test]
async fn no_secret_is_in_an_export() {
    let (world, _folder, root) = exported().await;
    for (name, bytes) in files(&root) {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        assert!(!text.contains("a-token-of-a-pipeline"), "{name}");
    }
    drop(world);
}

#[tokio::test]
async fn an_earlier_export_is_brought_up_to_date_in_its_place() {
    let (world, folder, root) = exported().await;
    fs::write(root.join("README.md"), "ours").unwrap();
    let kept = root.join("environments/events/environment.json");
    let before = fs::metadata(&kept).unwrap().modified().unwrap();
    world.settle().await;
    world
        .ok(crate::platform_fixtures::delete_environment("broken"))
        .await;
    world.settle().await;
    done(world.state(), &["export", shown(&root)]);
    assert!(!root.join("environments/broken").exists());
    assert!(root.join("README.md").exists());
    assert_eq!(fs::metadata(&kept).unwrap().modified().unwrap(), before);
    let anew = folder.path().join("anew");
    done(world.state(), &["export", shown(&anew)]);
    fs::remove_file(root.join("README.md")).unwrap();
    assert_same(&root, &anew);
}

/// Puts `to` in the place of `from` in a file.
#[track_caller]
pub fn edit(root: &Path, file: &str, from: &str, to: &str) {
    let path = root.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} has no {from}: {text}");
    fs::write(&path, text.replacen(from, to, 1)).unwrap();
}

#[tokio::test]
async fn all_that_is_wrong_in_a_folder_is_said_with_file_and_field_and_changes_nothing() {
    let (world, folder, root) = exported().await;
    drop(world);
    let events = "environments/events/environment.json";
    edit(
        &root,
        events,
        "\"createdAt\": \"20",
        "\"createdAt\": \"soon 20",
    );
    edit(
        &root,
        events,
        "\"templateName\": \"bus\"",
        "\"templatName\": \"bus\"",
    );
    edit(
        &root,
        events,
        "\"status\": \"FAILED\"",
        "\"status\": \"BROKEN\"",
    );
    edit(
        &root,
        "environments/events/current.spec.yaml",
        "spec:",
        "\"spec:",
    );
    edit(
        &root,
        "services/shop/service.json",
        "\"templateName\": \"web\"",
        "\"templateName\": \"webs\"",
    );
    edit(
        &root,
        "services/shop/instances/eu/instance.json",
        "\"environmentName\": \"prod\"",
        "\"environmentName\": 7",
    );
    edit(&root, "components/cache/component.json", "{", "");
    fs::remove_file(root.join("components/alone/manifest.yaml")).unwrap();
    // As a power cut leaves it.
    fs::write(root.join("environments/prod/current.spec.yaml"), "").unwrap();
    fs::write(root.join("services/shop/notes.txt"), "x").unwrap();
    let deployments: Vec<_> = fs::read_dir(root.join("deployments"))
        .unwrap()
        .flatten()
        .collect();
    fs::remove_dir_all(deployments[0].path()).unwrap();
    fs::write(root.join("templates/service/job/1.0/bundle.tar.gz"), "x").unwrap();
    fs::write(
        root.join("templates/service/web/1.0/bundle/schema/schema.yaml"),
        "x",
    )
    .unwrap();
    edit(
        &root,
        "templates/environment/bus/2.0/version.json",
        "\"majorVersion\": 2",
        "\"majorVersion\": 9",
    );
    let state = folder.path().join("state");
    let said = refused(&state, &["import", shown(&root)]);
    for problem in [
        "environments/events/environment.json: createdAt: must be a time",
        "environments/events/environment.json: current.templatName: is not known here",
        "environments/events/environment.json: deployment.status: must be one of",
        "environments/events/environment.json: current.spec: is no YAML",
        "environments/prod/environment.json: current.spec: is no mapping",
        "services/shop/service.json: templateName: there is no service template `webs`",
        "services/shop/instances/eu/instance.json: environmentName: must be a text",
        "components/cache/component.json: is no JSON",
        "components/alone/component.json: manifest: names manifest.yaml, which is not there",
        "services/shop/notes.txt: belongs to nothing",
        "manifest.json: counts.deployments: is ",
        "templates/service/job/1.0/bundle.tar.gz: is not the file",
        "templates/service/web/1.0/bundle/schema/schema.yaml: is not what bundle.tar.gz holds",
        "templates/environment/bus/2.0/version.json: majorVersion: ",
    ] {
        assert!(said.contains(problem), "not said: {problem}\n{said}");
    }
    assert!(!state.exists());
}

#[tokio::test]
async fn nothing_is_imported_into_a_store_that_is_not_empty() {
    let (world, folder, root) = exported().await;
    let state = folder.path().join("state");
    done(&state, &["import", shown(&root), "--check"]);
    assert!(!state.exists());
    done(&state, &["import", shown(&root)]);
    let said = refused(&state, &["import", shown(&root)]);
    assert!(said.contains("is not empty"), "{said}");
    let said = refused(world.state(), &["import", shown(&root)]);
    assert!(said.contains("in use"), "{said}");
}

#[tokio::test]
async fn an_export_of_another_account_or_of_a_later_format_is_refused() {
    let (world, folder, root) = exported().await;
    drop(world);
    let state = folder.path().join("state");
    let other = ["--account-id", "999999999999", "import", shown(&root)];
    let said = refused(&state, &other);
    assert!(said.contains("give --account-id 123456789012"), "{said}");
    edit(&root, "manifest.json", "\"format\": 1", "\"format\": 2");
    let said = refused(&state, &["import", shown(&root)]);
    assert!(said.contains("manifest.json: format: is 2"), "{said}");
}

#[tokio::test]
async fn what_would_never_end_or_could_not_be_used_is_not_taken_in() {
    let (world, folder, root) = exported().await;
    drop(world);
    let schema = "templates/environment/bus/1.0/schema.yaml";
    assert!(root.join(schema).is_file());
    fs::write(root.join(schema), "{{{").unwrap();
    let service = "services/shop/service.json";
    let status = (
        "\"status\": \"ACTIVE\"",
        "\"status\": \"DELETE_IN_PROGRESS\"",
    );
    edit(&root, service, status.0, status.1);
    let said = refused(&folder.path().join("state"), &["import", shown(&root)]);
    let about = |file: &str| said.lines().any(|line| line.contains(file));
    let version = "templates/environment/bus/1.0/version.json";
    assert!(about(version) || about(schema), "{said}");
    assert!(
        about(service) && said.contains("`underWay` is missing"),
        "{said}"
    );
}
