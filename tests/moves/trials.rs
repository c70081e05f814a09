//! A trial finds what an import would refuse; both leave a place as it was.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::folder::{exported, files};
use crate::saved::{partial, written};
use crate::{done, in_folder, refused, shown};

/// What both say, which is the same; what is in `place` stays as it was.
#[track_caller]
fn both_refuse(place: &Path, state: &Path, import: &[&str]) -> String {
    let before = kept(place);
    let trial = refused(state, &[import, &["--check"]].concat());
    let real = refused(state, import);
    assert_eq!(trial, real);
    assert_eq!(kept(place), before);
    real
}

/// Names and digests of all files but SQLite's index of its log, which every look at it makes anew.
fn kept(place: &Path) -> Vec<(String, String)> {
    let files = files(place).into_iter();
    files
        .filter(|(name, _)| !name.ends_with("-shm"))
        .map(|(name, bytes)| (name, hex::encode(Sha256::digest(bytes))))
        .collect()
}

/// Gives the record in a file these tags.
fn tag(file: &Path, tags: Value) {
    let mut record: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    record["tags"] = tags;
    fs::write(file, record.to_string()).unwrap();
}

fn many_tags() -> Value {
    (0..51)
        .map(|number| json!({"key": format!("k{number}"), "value": "v"}))
        .collect()
}

#[tokio::test]
async fn tags_that_no_resource_can_have_are_found_by_a_trial_and_by_an_import() {
    let (world, folder, root) = exported().await;
    drop(world);
    tag(
        &root.join("environments/events/environment.json"),
        many_tags(),
    );
    let twice = json!([{"key": "a", "value": "1"}, {"key": "a", "value": "2"}]);
    tag(&root.join("services/shop/service.json"), twice);
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let said = both_refuse(place.path(), &state, &["import", shown(&root)]);
    for problem in [
        "environments/events/environment.json: tags: are 51, and a resource can have 50",
        "services/shop/service.json: tags[1].key: is the key of another tag too",
    ] {
        assert!(said.contains(problem), "not said: {problem}\n{said}");
    }
    drop(folder);
}

#[test]
fn tags_that_were_saved_are_checked_in_their_own_file() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    fs::create_dir_all(saved.join("eu")).unwrap();
    written(&saved, &partial());
    let twice = json!([
        {"key": "aws:proton:account", "value": "1"},
        {"key": "a", "value": "1"},
        {"key": "a", "value": "2"},
    ]);
    for (file, tags) in [
        ("list-tags-for-resource-service-shop.json", twice),
        ("list-tags-for-resource-environment-prod.json", many_tags()),
    ] {
        fs::write(saved.join(file), json!({"tags": tags}).to_string()).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let import = ["import", "--from", "aws", shown(&saved)];
    let said = both_refuse(place.path(), &state, &import);
    for problem in [
        "list-tags-for-resource-service-shop.json: tags[2].key: is the key of another tag too",
        "list-tags-for-resource-environment-prod.json: tags: are 51",
    ] {
        assert!(said.contains(problem), "not said: {problem}\n{said}");
    }
}

#[tokio::test]
async fn a_trial_finds_what_is_wrong_with_the_state_directory() {
    let (world, folder, root) = exported().await;
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    done(&at("full"), &["import", shown(&root)]);
    fs::create_dir(at("foreign")).unwrap();
    fs::write(at("foreign/thesis.txt"), "mine").unwrap();
    fs::write(at("file"), "").unwrap();
    fs::create_dir(at("database")).unwrap();
    fs::write(at("database/proton.db"), "not of this program").unwrap();
    for (name, problem) in [
        ("full", "is not empty"),
        ("foreign", "holds thesis.txt, which is not the gateway's"),
        ("file", "cannot use the state directory"),
        ("file/below", "cannot use the state directory"),
        ("database", "it is not a database of this program"),
    ] {
        let said = both_refuse(place.path(), &at(name), &["import", shown(&root)]);
        assert!(
            said.contains(problem) && said.contains(name),
            "{name}: {said}"
        );
    }
    let trial = refused(world.state(), &["import", "--check", shown(&root)]);
    assert!(trial.contains("in use"), "{trial}");
    drop(folder);
}

#[tokio::test]
async fn a_trial_that_succeeds_leaves_no_trace() {
    let (world, folder, root) = exported().await;
    drop(world);
    let place = tempfile::tempdir().unwrap();
    fs::create_dir_all(place.path().join("there/buckets")).unwrap();
    for state in ["absent/deep/state", "there"] {
        let state = place.path().join(state);
        done(&state, &["import", "--check", shown(&root)]);
    }
    assert!(files(place.path()).is_empty());
    assert!(!place.path().join("absent").exists());
    drop(folder);
}

#[tokio::test]
async fn an_import_that_fails_at_its_end_leaves_nothing_and_can_be_repeated() {
    let (world, folder, root) = exported().await;
    drop(world);
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("deep/state");
    let said = without_room(&state, &["import", shown(&root)]);
    assert!(said.contains("nothing was imported"), "{said}");
    assert!(
        !place.path().join("deep").exists(),
        "{:?}",
        files(place.path())
    );
    done(&state, &["import", shown(&root)]);
    drop(folder);
}

/// Runs the program where no file can be longer than 64 KiB, as on a disk that is full.
fn without_room(state: &Path, arguments: &[&str]) -> String {
    let script = "trap '' XFSZ; ulimit -f 64; exec \"$0\" \"$@\"";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_proton-gateway")])
        .args(["--state-dir", shown(state)])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    said
}

#[tokio::test]
async fn a_trial_that_has_no_room_says_where() {
    let (world, folder, root) = exported().await;
    drop(world);
    // More than SQLite keeps in memory.
    for name in ["prod", "events", "far", "onprem"] {
        let spec = root.join(format!("environments/{name}/current.spec.yaml"));
        let text = fs::read_to_string(&spec).unwrap();
        fs::write(&spec, format!("{}{text}", "# long\n".repeat(1 << 18))).unwrap();
    }
    let place = tempfile::tempdir().unwrap();
    let state = place.path().join("state");
    let said = without_room(&state, &["import", "--check", shown(&root)]);
    assert!(said.contains("TMPDIR"), "{said}");
    assert!(files(place.path()).is_empty());
    drop(folder);
}

#[tokio::test]
async fn an_empty_store_takes_an_import() {
    let (world, folder, root) = exported().await;
    drop(world);
    let state = folder.path().join("state");
    drop(proton_gateway::backend::engine::store::Store::open(&state).unwrap());
    done(&state, &["import", "--check", shown(&root)]);
    done(&state, &["import", shown(&root)]);
    assert_eq!(in_folder(&state), ["lock", "proton.db"]);
}
