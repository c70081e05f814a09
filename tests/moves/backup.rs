//! The store as one file: whole, consistent while it is written to, and the same when it is back.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proton_gateway::api::pb;
use proton_gateway::backend::engine::store::Store;
use serde_json::json;

use crate::support::{Backend, World};
use crate::{answers, done, engine_on, in_folder, populated, refused, service_fixtures, shown};

#[tokio::test]
async fn a_restored_backup_answers_every_read_as_the_store_did() {
    let world = populated::world().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (folder.path().join("b.db"), folder.path().join("state"));
    let before = answers::all(&world.engine).await;
    assert_eq!(
        answers::silent(&before),
        [""; 0],
        "reads that were never answered"
    );
    // The world holds the lock of its state all the while.
    let said = done(world.state(), &["backup", shown(&file)]);
    for line in [
        "checked",
        "environment",
        "bundles",
        "tasks that are due later",
    ] {
        assert!(said.contains(line), "{said}");
    }
    done(&copy, &["restore", shown(&file)]);
    let after = answers::all(&engine_on(&copy, &world)).await;
    assert_eq!(answers::differences(&before, &after), [""; 0]);
}

#[tokio::test]
async fn what_was_under_way_at_a_backup_goes_on_where_it_is_restored() {
    let world = populated::world().await;
    let folder = tempfile::tempdir().unwrap();
    let (file, copy) = (folder.path().join("b.db"), folder.path().join("state"));
    done(world.state(), &["backup", shown(&file)]);
    done(&copy, &["restore", shown(&file)]);
    let engine = engine_on(&copy, &world);
    world.settle().await;
    engine.settle().await.unwrap();
    let there = answers::all(&engine).await;
    let fresh = answers::of(&there, "GetService", json!({"name": "fresh"}));
    assert_eq!(fresh["service"]["status"], "CREATE_IN_PROGRESS");
    for _ in 0..5 {
        world.step().await;
        engine.settle().await.unwrap();
    }
    let there = answers::all(&engine).await;
    let fresh = answers::of(&there, "GetService", json!({"name": "fresh"}));
    assert_eq!(fresh["service"]["status"], "ACTIVE");
}

/// Writes template after template until told to stop; says how many are durable.
async fn load(world: Arc<World>, writer: usize, stop: Arc<AtomicBool>, count: Arc<AtomicUsize>) {
    let mut number: usize = 0;
    while !stop.load(Ordering::Relaxed) {
        let name = format!("load-{writer}-{number}");
        let description = Some("x".repeat(500));
        world
            .ok(pb::CreateServiceTemplateRequest {
                name: name.clone(),
                description,
                ..Default::default()
            })
            .await;
        if number.is_multiple_of(10) {
            world.ok(service_fixtures::create_environment(&name)).await;
        }
        number += 1;
        count.store(number, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_the_store_of_one_moment() {
    const WRITERS: usize = 4;
    let world = Arc::new(populated::world().await);
    let subjects = answers::subjects(&world.engine).await;
    let frozen = answers::about(&world.engine, &subjects).await;
    let frozen = answers::without(frozen, "load-");
    let stop = Arc::new(AtomicBool::new(false));
    let counts: Vec<_> = (0..WRITERS)
        .map(|_| Arc::new(AtomicUsize::new(0)))
        .collect();
    let writers: Vec<_> = counts
        .iter()
        .enumerate()
        .map(|(writer, count)| {
            tokio::spawn(load(world.clone(), writer, stop.clone(), count.clone()))
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.db");
    while counts
        .iter()
        .any(|count| count.load(Ordering::Relaxed) < 20)
    {
        tokio::task::yield_now().await;
    }
    let written = |counts: &[Arc<AtomicUsize>]| -> Vec<usize> {
        counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect()
    };
    let before = written(&counts);
    let (state, target) = (world.state().to_owned(), file.clone());
    tokio::task::spawn_blocking(move || done(&state, &["backup", shown(&target)]))
        .await
        .unwrap();
    let after = written(&counts);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(
        before
            .iter()
            .zip(&after)
            .all(|(before, after)| before < after),
        "nothing was written"
    );

    let copy = folder.path().join("state");
    done(&copy, &["restore", shown(&file)]);
    let engine = engine_on(&copy, &world);
    let restored = answers::without(answers::about(&engine, &subjects).await, "load-");
    assert_eq!(answers::differences(&frozen, &restored), [""; 0]);
    // Of each writer all up to some point, and that is not before the backup was begun.
    let everything = answers::all(&engine).await;
    for (writer, before) in before.iter().enumerate() {
        let there = |number: usize| {
            let question = format!(r#"GetServiceTemplate {{"name":"load-{writer}-{number}"}}"#);
            everything.get(&question).is_some_and(Result::is_ok)
        };
        let found = (0..).take_while(|number| there(*number)).count();
        assert!(found >= *before, "{writer}: {found} of {before}");
        assert!(
            (found..found + 100).all(|number| !there(number)),
            "{writer}: a hole at {found}"
        );
    }
    // What was begun is whole: it ends.
    world.clock.advance(crate::support::STEP);
    engine.settle().await.unwrap();
    let ended = answers::all(&engine).await;
    let environment = answers::of(&ended, "GetEnvironment", json!({"name": "load-0-0"}));
    assert_eq!(environment["environment"]["deploymentStatus"], "SUCCEEDED");
}

async fn small() -> (World, tempfile::TempDir) {
    let world = World::over(Backend::OnDisk).await;
    world
        .ok(crate::platform_fixtures::new_environment_template("bus"))
        .await;
    (world, tempfile::tempdir().unwrap())
}

#[tokio::test]
async fn a_backup_is_for_its_owner_only_and_takes_no_other_files_place_unasked() {
    let (world, folder) = small().await;
    let file = folder.path().join("b.db");
    done(world.state(), &["backup", shown(&file)]);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let before = fs::read(&file).unwrap();
    let said = refused(world.state(), &["backup", shown(&file)]);
    assert!(said.contains("--force"), "{said}");
    assert_eq!(fs::read(&file).unwrap(), before);
    assert_eq!(
        done(
            world.state(),
            &["backup", shown(&file), "--force", "--quiet"]
        ),
        ""
    );
    let left: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[tokio::test]
async fn what_is_not_in_a_backup_is_named() {
    let (world, folder) = small().await;
    fs::create_dir_all(world.state().join("buckets/mine")).unwrap();
    fs::write(world.state().join("buckets/mine/a.tar.gz"), "x").unwrap();
    fs::write(world.state().join("notes.txt"), "x").unwrap();
    let said = done(
        world.state(),
        &["backup", shown(&folder.path().join("b.db"))],
    );
    for name in ["buckets (1 files)", "notes.txt", "configuration"] {
        assert!(said.contains(name), "{said}");
    }
}

#[tokio::test]
async fn nothing_is_restored_over_a_store_or_into_a_folder_of_others() {
    let (world, folder) = small().await;
    let file = folder.path().join("b.db");
    done(world.state(), &["backup", shown(&file)]);
    let said = refused(world.state(), &["restore", shown(&file)]);
    assert!(said.contains("in use"), "{said}");
    let state = folder.path().join("state");
    done(&state, &["restore", shown(&file)]);
    let said = refused(&state, &["restore", shown(&file)]);
    assert!(said.contains("is not empty"), "{said}");
    let home = folder.path().join("home");
    fs::create_dir(&home).unwrap();
    fs::write(home.join("thesis.txt"), "x").unwrap();
    let said = refused(&home, &["restore", shown(&file)]);
    assert!(said.contains("thesis.txt"), "{said}");
}

#[tokio::test]
async fn what_an_interrupted_restore_has_left_is_no_store_and_stands_in_nobodys_way() {
    let (world, folder) = small().await;
    let (file, state) = (folder.path().join("b.db"), folder.path().join("state"));
    done(world.state(), &["backup", shown(&file)]);
    fs::create_dir(&state).unwrap();
    fs::write(state.join("proton.db.draft"), "half").unwrap();
    // A gateway would begin with nothing.
    let refused = Store::open(&state).err().unwrap().to_string();
    assert!(
        refused.contains("a restore that was broken off"),
        "{refused}"
    );
    done(&state, &["restore", shown(&file)]);
    assert!(!state.join("proton.db.draft").exists());
}

#[tokio::test]
async fn a_store_that_holds_nothing_takes_a_restore_and_a_log_without_its_database_does_not() {
    let (world, folder) = small().await;
    let file = folder.path().join("b.db");
    done(world.state(), &["backup", shown(&file)]);
    let at = |name: &str| folder.path().join(name);
    // Its creation was broken off.
    fs::create_dir(at("begun")).unwrap();
    fs::write(at("begun/proton.db"), "").unwrap();
    drop(Store::open(&at("unused")).unwrap());
    for name in ["begun", "unused"] {
        done(&at(name), &["restore", shown(&file)]);
        assert_eq!(in_folder(&at(name)), ["lock", "proton.db"]);
        let mode = fs::metadata(at(name).join("proton.db")).unwrap();
        assert_eq!(mode.permissions().mode() & 0o777, 0o600);
    }
    fs::create_dir(at("orphaned")).unwrap();
    fs::write(at("orphaned/proton.db-wal"), "all there is").unwrap();
    let said = refused(&at("orphaned"), &["restore", shown(&file)]);
    assert!(said.contains("move proton.db-wal away"), "{said}");
    let kept = fs::read_to_string(at("orphaned/proton.db-wal")).unwrap();
    assert_eq!(kept, "all there is");
}

#[test]
fn the_keys_of_a_forwarding_gateway_are_backed_up_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("b.db"), folder.path().join("keys"));
    drop(Store::open(&state).unwrap());
    let said = done(&state, &["--upstream", "aws", "backup", shown(&file)]);
    assert!(said.contains("idempotency keys"), "{said}");
    let other = folder.path().join("other");
    done(&other, &["--upstream", "aws", "restore", shown(&file)]);
    assert!(other.join("proton.db").exists());
}

/// Restoring `bytes` is refused, and leaves no store behind.
#[track_caller]
fn is_no_backup(folder: &Path, bytes: &[u8], why: &str) {
    let (file, state) = (folder.join("bad.db"), folder.join("bad-state"));
    fs::write(&file, bytes).unwrap();
    let said = refused(&state, &["restore", shown(&file)]);
    assert!(said.contains("bad.db") && said.contains(why), "{said}");
    assert!(!state.join("proton.db").exists());
    assert!(!state.join("proton.db.draft").exists());
}

#[tokio::test]
async fn what_is_no_whole_backup_of_a_known_version_is_refused() {
    let (world, folder) = small().await;
    let file = folder.path().join("b.db");
    done(world.state(), &["backup", shown(&file)]);
    let good = fs::read(&file).unwrap();
    is_no_backup(folder.path(), b"", "not a database of this program");
    is_no_backup(folder.path(), &[7; 4096], "not a database of this program");
    is_no_backup(folder.path(), &good[..good.len() / 2], "damaged");
    let mut without = good.clone();
    without[60..64].fill(0);
    is_no_backup(folder.path(), &without, "not a database of this program");
    let mut newer = good.clone();
    newer[60..64].copy_from_slice(&99_i32.to_be_bytes());
    is_no_backup(folder.path(), &newer, "newer version");
    let mut torn = good;
    let middle = torn.len() / 2;
    torn[middle..middle + 4096].fill(0xA5);
    is_no_backup(folder.path(), &torn, "damaged");
}

#[tokio::test]
async fn the_database_of_a_running_gateway_is_no_backup() {
    let (world, folder) = small().await;
    let database = world.state().join("proton.db");
    let said = refused(&folder.path().join("state"), &["restore", shown(&database)]);
    assert!(said.contains("not a backup"), "{said}");
    // Nor is a copy of it alone, which seems to be whole.
    let copy = folder.path().join("copy.db");
    fs::copy(&database, &copy).unwrap();
    let said = refused(&folder.path().join("state"), &["restore", shown(&copy)]);
    assert!(said.contains("`proton-gateway backup`"), "{said}");
}

#[test]
fn where_there_is_no_store_nothing_is_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("b.db");
    let said = refused(&folder.path().join("state"), &["backup", shown(&file)]);
    assert!(said.contains("there is no store in"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_backup_takes_no_place_among_the_files_of_the_store() {
    let (world, _folder) = small().await;
    let before = fs::read(world.state().join("proton.db")).unwrap();
    for name in ["proton.db", "proton.db-wal", "new.db"] {
        let file = world.state().join(name);
        let said = refused(world.state(), &["backup", "--force", shown(&file)]);
        assert!(said.contains("is in the state directory"), "{said}");
    }
    assert_eq!(fs::read(world.state().join("proton.db")).unwrap(), before);
    assert!(!world.state().join("new.db").exists());
}

#[tokio::test]
async fn a_draft_that_is_not_ours_is_refused_and_kept() {
    let (world, folder) = small().await;
    let file = folder.path().join("b.db");
    let draft = folder.path().join("b.db.draft");
    fs::write(&draft, "my own notes").unwrap();
    let said = refused(world.state(), &["backup", shown(&file)]);
    assert!(said.contains("b.db.draft"), "{said}");
    assert_eq!(fs::read_to_string(&draft).unwrap(), "my own notes");
    let theirs = folder.path().join("theirs");
    fs::rename(&draft, &theirs).unwrap();
    std::os::unix::fs::symlink(&theirs, &draft).unwrap();
    refused(world.state(), &["backup", shown(&file)]);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "my own notes");
    // What a backup that was broken off has left is in nobody's way.
    fs::remove_file(&draft).unwrap();
    fs::write(&draft, [0; 8192]).unwrap();
    done(world.state(), &["backup", shown(&file)]);
}

#[tokio::test]
async fn a_restore_writes_through_no_link_and_waits_for_no_pipe() {
    let (world, folder) = small().await;
    let (file, state) = (folder.path().join("b.db"), folder.path().join("state"));
    done(world.state(), &["backup", shown(&file)]);
    let theirs = folder.path().join("theirs");
    fs::write(&theirs, "theirs").unwrap();
    fs::create_dir(&state).unwrap();
    std::os::unix::fs::symlink(&theirs, state.join("proton.db.draft")).unwrap();
    done(&state, &["restore", shown(&file)]);
    assert_eq!(fs::read_to_string(&theirs).unwrap(), "theirs");
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let said = refused(&folder.path().join("other"), &["restore", shown(&pipe)]);
    assert!(said.contains("is not a file"), "{said}");
}
