//! The commands `wait` and `deploy`: what they say, their exit status, and how they go on.

use super::*;

fn borrowed(arguments: &[String]) -> Vec<&str> {
    arguments.iter().map(String::as_str).collect()
}

#[tokio::test]
async fn a_deploy_creates_and_then_updates_and_says_how_that_ended() {
    let (folder, state) = state();
    let gateway = Running::on(&state).await;
    publish_template(&gateway.client().await).await;

    let arguments = deploy_bus(folder.path(), SPEC);
    let created = run(gateway.follow(&borrowed(&arguments)));
    assert_eq!(created.status.code(), Some(0), "{}", text(&created));
    let told = String::from_utf8(created.stdout).unwrap();
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[0], "environment bus: created");
    assert!(
        lines[1..]
            .iter()
            .any(|line| line.starts_with("environment bus: SUCCEEDED after")),
        "{told}"
    );

    let mut arguments = deploy_bus(folder.path(), &SPEC.replace("platform", "payments"));
    arguments.extend(["--output".to_owned(), "json".to_owned()]);
    let updated = run(gateway.follow(&borrowed(&arguments)));
    assert_eq!(updated.status.code(), Some(0), "{}", text(&updated));
    let events: Vec<serde_json::Value> = String::from_utf8(updated.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().all(|event| event["action"] == "UPDATED"));
    let last = events.last().unwrap();
    assert_eq!(last["event"], "terminal");
    assert_eq!(last["outcome"], "SUCCEEDED");

    let waited = run(gateway.follow(&["wait", "environment-deployed", "bus"]));
    assert_eq!(waited.status.code(), Some(0), "{}", text(&waited));
}

#[tokio::test]
async fn the_exit_status_tells_a_failure_from_a_timeout() {
    let (folder, state) = state();
    let gateway = with_template_and_step(&state, "1h").await;
    let mut client = gateway.client().await;

    let arguments = deploy_bus(folder.path(), SPEC);
    let deploy = beside(gateway.follow(&borrowed(&arguments)));
    eventually("the deployment begins", || {
        let mut client = client.clone();
        async move { is_under_way(&mut client).await.then_some(()) }
    })
    .await;

    let timeout = ["wait", "environment-deployed", "bus", "--timeout", "1s"];
    let late = run(gateway.follow(&timeout));
    assert_eq!(late.status.code(), Some(124), "{}", text(&late));

    report_failure(&mut client, "no capacity").await;
    let failed = deploy.await.unwrap();
    assert_eq!(failed.status.code(), Some(1), "{}", text(&failed));
    assert!(text(&failed).contains("no capacity"), "{}", text(&failed));
}

#[tokio::test]
async fn a_cancelled_deploy_has_an_exit_status_of_its_own() {
    let (folder, state) = state();
    let mut before = Running::on(&state).await;
    publish_template(&before.client().await).await;
    let arguments = deploy_bus(folder.path(), SPEC);
    let created = run(before.follow(&borrowed(&arguments)));
    assert_eq!(created.status.code(), Some(0), "{}", text(&created));
    before.terminate();
    before.ended().await;
    // Long enough to be cancelled in, and the cancellation takes as long.
    let gateway = Running::with_step(&state, "3s").await;
    let mut client = gateway.client().await;
    let arguments = deploy_bus(folder.path(), &SPEC.replace("platform", "payments"));
    let deploy = beside(gateway.follow(&borrowed(&arguments)));
    eventually("the update begins", || {
        let mut client = client.clone();
        async move { is_under_way(&mut client).await.then_some(()) }
    })
    .await;
    let cancel = pb::CancelEnvironmentDeploymentRequest {
        environment_name: "bus".to_owned(),
    };
    client.cancel_environment_deployment(cancel).await.unwrap();
    let cancelled = deploy.await.unwrap();
    assert_eq!(cancelled.status.code(), Some(2), "{}", text(&cancelled));
    assert!(
        text(&cancelled).contains("CANCELLED"),
        "{}",
        text(&cancelled)
    );
}

#[tokio::test]
async fn a_deploy_goes_on_when_the_gateway_is_started_again() {
    goes_on_after_a_kill(true, false).await;
}

#[tokio::test]
async fn a_deploy_goes_on_behind_a_proxy_when_the_gateway_is_started_again() {
    goes_on_after_a_kill(true, true).await;
}

#[tokio::test]
async fn a_deploy_goes_on_when_the_gateway_has_forgotten_its_tokens() {
    goes_on_after_a_kill(false, false).await;
}

async fn goes_on_after_a_kill(with_key: bool, behind_a_proxy: bool) {
    let (folder, state) = state();
    let mut before = Running::on(&state).await;
    publish_template(&before.client().await).await;
    before.terminate();
    before.ended().await;
    let key = folder.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let mut more = vec!["--simulated-step", "1h"];
    if with_key {
        more.extend(["--resume-token-key-file", key.to_str().unwrap()]);
    }
    let port = free_port();
    let first = serve_again(&state, &port, &more).await;
    let address = match behind_a_proxy {
        true => between::proxy(&port).await,
        false => port.clone(),
    };
    let mut command = program();
    command.args(deploy_bus(folder.path(), SPEC));
    command.env("PROTON_GATEWAY_ADDRESS", format!("http://{address}"));
    let told = folder.path().join("told");
    let mut deploy = Dies(
        command
            .stdin(Stdio::null())
            .stdout(File::create(&told).unwrap())
            .spawn()
            .unwrap(),
    );
    eventually("the deploy has its first event", || async {
        let text = fs::read_to_string(&told).unwrap();
        text.contains("IN_PROGRESS").then_some(())
    })
    .await;
    drop(first);
    let _second = serve_again(&state, &port, &more).await;
    let mut client = Client::connect(format!("http://{port}")).await.unwrap();
    report(&mut client, pb::ResourceDeploymentStatus::Succeeded, "").await;
    let status = eventually("the deploy ends", || {
        let status = deploy.0.try_wait().unwrap();
        async move { status }
    })
    .await;
    assert_eq!(
        status.code(),
        Some(0),
        "{}",
        fs::read_to_string(&told).unwrap()
    );
    assert_eq!(deployments(&mut client).await.len(), 1);
}

#[test]
fn a_token_is_shown_to_nobody_over_plain_text() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "pgw_secret").unwrap();
    let deploy = deploy_bus(folder.path(), SPEC);
    let wait = ["wait", "environment-deployed", "bus"];
    for command in [&["status"][..], &["top"], &wait, &borrowed(&deploy)] {
        let mut asked = program();
        asked.args(command).arg("--token-file").arg(&token);
        asked.args(["--address", "gateway.invalid:50051"]);
        let output = run(asked);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains("gateway.invalid:50051"), "{said}");
        assert!(said.contains("https://"), "{said}");
    }
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_said_and_wrong_usage_has_a_status_of_its_own() {
    let (_folder, state) = state();
    let gateway = Running::on(&state).await;
    let missing = run(gateway.follow(&["wait", "environment-deployed", "nope"]));
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing).contains("nope"), "{}", text(&missing));
    let invalid = run(gateway.follow(&["wait", "environment-deployed", "no spaces!"]));
    assert_eq!(invalid.status.code(), Some(1));
    assert!(text(&invalid).contains("name"), "{}", text(&invalid));
    for usage in [
        ["wait", "the-bus", "bus"],
        ["wait", "environment-deployed", "--timeout=soon"],
        ["deploy", "environment", "bus"],
    ] {
        let wrong = run(gateway.follow(&usage));
        assert_eq!(wrong.status.code(), Some(64), "{}", text(&wrong));
    }
}

#[test]
fn what_could_not_be_meant_is_wrong_usage() {
    let wait = ["wait", "environment-deployed", "bus"];
    let deploy = [
        "deploy",
        "service-pipeline",
        "shop",
        "--spec",
        "/nowhere/spec.yaml",
    ];
    for (usage, named) in [
        (wait.as_slice(), ["--timeout", "100ms"].as_slice()),
        (&wait, &["--timeout", "0s"]),
        (&wait, &["--timeout", "25h"]),
        (&wait, &["--address", "http://"]),
        (&wait, &["--address", "ftp://x"]),
        (&wait, &["--address", "unix:"]),
        (&wait, &["--ca-file", "ca.pem"]),
        (&deploy, &["--idempotency-key", ""]),
        (&deploy, &["--idempotency-key", "kö"]),
        (&deploy, &["--output", "json"]),
    ] {
        let mut command = program();
        command.args(usage).args(named);
        let wrong = run(command);
        let said = text(&wrong);
        assert_eq!(wrong.status.code(), Some(64), "{named:?}: {said}");
        assert!(
            said.contains(named[0]) || said.contains("/nowhere/spec.yaml"),
            "{said}"
        );
    }
    let mut command = program();
    command
        .args(wait)
        .args(["--address", "https://127.0.0.1:1"]);
    let wrong = run(command);
    assert_eq!(wrong.status.code(), Some(64), "{}", text(&wrong));
}

#[tokio::test]
async fn the_exit_status_tells_also_where_nothing_can_be_written() {
    let (_folder, state) = state();
    let gateway = Running::on(&state).await;
    let full = || File::options().write(true).open("/dev/full").unwrap();
    for (name, status) in [("environment-deleted", 0), ("environment-deployed", 1)] {
        let mut command = gateway.follow(&["wait", name, "nope"]);
        let mut child = Dies(command.stdout(full()).stderr(full()).spawn().unwrap());
        let ended = eventually("the wait ends", || {
            let ended = child.0.try_wait().unwrap();
            async move { ended }
        })
        .await;
        assert_eq!(ended.code(), Some(status), "{name}");
    }
}
