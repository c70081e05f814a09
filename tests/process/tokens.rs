//! The command `token`, and what it makes.

use super::*;

/// A gateway that knows one caller, with this role, and its token.
pub async fn closed(folder: &Path, state: &Path, role: &str) -> (Running, String) {
    let mut new = program();
    new.args(["token", "new", "--id", "ci", "--role", role]);
    let said = text(&run(new));
    let token = said.lines().find(|line| line.starts_with("pgw_")).unwrap();
    let (_, entry) = said.split_once("[[authentication.tokens]]").unwrap();
    let file = folder.join("gateway.toml");
    let section = "[authentication]\nmethods = [\"token\"]\n[[authentication.tokens]]";
    fs::write(&file, format!("{section}{entry}")).unwrap();
    let gateway = Running::with(state, &["--config", file.to_str().unwrap()]).await;
    (gateway, token.to_owned())
}

#[tokio::test]
async fn a_token_that_was_just_made_opens_a_door_that_is_closed_without() {
    let (folder, state) = state();
    let (gateway, token) = closed(folder.path(), &state, "viewer").await;
    let mut client = gateway.client().await;
    let list = pb::ListEnvironmentsRequest::default;
    let refused = client.list_environments(list()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    let mut request = tonic::Request::new(list());
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    client.list_environments(request).await.unwrap();
    let wait = ["wait", "environment-deployed", "nope"];
    let unknown = run(gateway.follow(&wait));
    assert!(
        text(&unknown).contains("Unauthenticated"),
        "{}",
        text(&unknown)
    );
    let token_file = folder.path().join("token");
    fs::write(&token_file, format!("{token}\n")).unwrap();
    let mut known = gateway.follow(&wait);
    known.arg("--token-file").arg(&token_file);
    let missing = text(&run(known));
    assert!(missing.contains("NotFound"), "{missing}");
    assert!(gateway.log().contains("refused"), "{}", gateway.log());
    assert!(!gateway.log().contains(&token), "{}", gateway.log());
}

#[test]
fn the_hash_of_a_token_is_told_and_what_is_no_token_is_refused() {
    let hash = |token: &str| {
        let mut command = program();
        command.args(["token", "hash"]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(token.as_bytes()).unwrap();
        drop(stdin);
        child.wait_with_output().unwrap()
    };
    let told = hash("pgw_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n");
    assert_eq!(
        text(&told),
        "sha256:476ad7bf7cbaeea449239ca7686ef6d5f335328891c0f05d4bb49e96d915d6ee\n"
    );
    let refused = hash("a-password");
    assert!(!refused.status.success());
    assert!(text(&refused).contains("token new"), "{}", text(&refused));
    assert!(!text(&refused).contains("a-password"));
}
