//! Who may use a state directory, and what is said of one that cannot be used.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_has_one_process_and_the_second_says_so() {
    let (_folder, state) = state();
    let mut first = Running::on(&state).await;
    let said = refused(serve(&state));
    assert!(said.contains("in use by another proton-gateway"), "{said}");
    assert!(said.contains(state.to_str().unwrap()), "{said}");
    // The first goes on, and when it is gone the directory is free, whatever its end was.
    first.client().await;
    first.kill();
    Running::on(&state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_state_of_one_account_is_not_served_as_that_of_another() {
    let (_folder, state) = state();
    let other = ["--account-id", "999988887777", "--region", "eu-west-1"];
    // As long as there is nothing, it is nobody's.
    Running::with(&state, &other).await;
    let first = Running::on(&state).await;
    let request = pb::CreateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        ..Default::default()
    };
    let mut client = first.client().await;
    client.create_environment_template(request).await.unwrap();
    drop(first);
    let mut command = serve(&state);
    command.args(other);
    let said = refused(command);
    assert!(
        said.contains("--account-id 123456789012 --region us-east-1"),
        "{said}"
    );
    let mut export = program();
    export.arg("--state-dir").arg(&state).args(other);
    export.arg("export").arg(state.with_file_name("plain"));
    let said = refused(export);
    assert!(
        said.contains("--account-id 123456789012 --region us-east-1"),
        "{said}"
    );
    Running::on(&state).await;
}

#[test]
fn a_state_directory_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Below a regular file nobody can create anything, root included.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let said = refused(serve(&file.join("state")));
    assert!(said.contains("cannot use the state directory"), "{said}");
    assert!(said.contains(file.to_str().unwrap()), "{said}");
}

#[test]
fn a_directory_with_files_of_others_is_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    let said = refused(serve(folder.path()));
    assert!(said.contains("notes.txt"), "{said}");
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing was added: {names:?}");
}

#[test]
fn a_database_that_is_none_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("proton.db");
    let bytes = b"this is not a database, but somebody may want it back".repeat(100);
    fs::write(&database, &bytes).unwrap();
    let said = refused(serve(folder.path()));
    assert!(said.contains("proton.db"), "{said}");
    assert_eq!(fs::read(&database).unwrap(), bytes);
}
