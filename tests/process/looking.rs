//! What operators see of a running gateway: `status` and `top`.

use super::*;

fn json(output: &Output) -> serde_json::Value {
    assert_eq!(output.status.code(), Some(0), "{}", text(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

async fn with_a_deployment_under_way() -> (TempDir, Running, Client) {
    let (folder, state) = state();
    let gateway = with_template_and_step(&state, "1h").await;
    let mut client = gateway.client().await;
    let environment = pb::CreateEnvironmentRequest {
        name: "bus".to_owned(),
        template_name: "bus".to_owned(),
        template_major_version: "1".to_owned(),
        spec: SPEC.to_owned(),
        proton_service_role_arn: Some(ROLE.to_owned()),
        ..pb::CreateEnvironmentRequest::default()
    };
    client.create_environment(environment).await.unwrap();
    (folder, gateway, client)
}

#[tokio::test]
async fn status_tells_what_is_under_way_and_then_what_has_failed() {
    let (_folder, gateway, mut client) = with_a_deployment_under_way().await;

    let under_way = json(&run(gateway.follow(&["status", "--output", "json"])));
    assert_eq!(under_way["counts"]["environment"]["in_progress"], 1);
    assert_eq!(under_way["items"][0]["name"], "bus");
    let checked = run(gateway.follow(&["status", "--check"]));
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked));
    let impatient = ["status", "--check", "--stuck-after", "0s"];
    let stuck = run(gateway.follow(&impatient));
    assert_eq!(stuck.status.code(), Some(1), "{}", text(&stuck));

    report_failure(&mut client, "no capacity").await;
    let checked = run(gateway.follow(&["status", "--follow", "--check"]));
    assert_eq!(checked.status.code(), Some(1), "{}", text(&checked));
    let told = String::from_utf8(checked.stdout).unwrap();
    assert!(told.contains("\nfailed\n  environment bus "), "{told}");
    assert!(told.contains("no capacity"), "{told}");
    assert!(!told.contains('\u{1b}'), "{told}");
}

#[tokio::test]
async fn top_tells_what_is_called_between_two_looks() {
    let (_folder, gateway, client) = with_a_deployment_under_way().await;
    let looks = ["top", "--interval", "300ms", "--count", "2"];
    let top = beside(gateway.follow(&looks));
    while !top.is_finished() {
        let name = "bus".to_owned();
        let get = pb::GetEnvironmentRequest { name };
        client.clone().get_environment(get).await.unwrap();
    }
    let top = top.await.unwrap();
    assert_eq!(top.status.code(), Some(0), "{}", text(&top));
    let told = String::from_utf8(top.stdout).unwrap();
    let busy = |line: &&str| line.starts_with("GetEnvironment ");
    assert_eq!(told.lines().filter(busy).count(), 2, "{told}");
}

#[tokio::test]
async fn what_cannot_be_written_is_said() {
    let (_folder, gateway, _) = with_a_deployment_under_way().await;
    for arguments in [
        &["status"][..],
        &["top", "--interval", "100ms", "--count", "1"],
    ] {
        let mut full = gateway.follow(arguments);
        full.stdout(File::options().write(true).open("/dev/full").unwrap());
        let full = full.stderr(Stdio::piped()).spawn().unwrap();
        let full = full.wait_with_output().unwrap();
        assert_eq!(full.status.code(), Some(1), "{arguments:?}");
        assert!(text(&full).contains("cannot write"), "{}", text(&full));
    }
}

#[test]
fn a_gateway_that_is_not_there_is_said() {
    for command in ["status", "top"] {
        let mut asked = program();
        asked.args([command, "--address", "http://127.0.0.1:9"]);
        let output = run(asked);
        assert_eq!(output.status.code(), Some(1), "{command}");
        assert!(text(&output).contains("proton-gateway: "), "{command}");
    }
}
