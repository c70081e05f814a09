//! What operators see of a running gateway: `status` and `top`.

use proton_gateway::api::own;
use proton_gateway::api::own::gateway_service_client::GatewayServiceClient;

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
async fn a_status_waits_for_the_limits_of_its_caller() {
    let (folder, state) = state();
    let config = folder.path().join("gateway.toml");
    let limits = "[limits]\nread = { rate = \"20/s\", burst = 2 }\n";
    fs::write(&config, limits).unwrap();
    let gateway = Running::with(&state, &["--config", config.to_str().unwrap()]).await;
    let output = run(gateway.follow(&["status"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(gateway.page("/metrics").await.1.contains("limited_total"));
}

#[tokio::test]
async fn a_status_tells_what_its_caller_may_see_and_what_it_may_not() {
    let (folder, state) = state();
    let (gateway, token) = tokens::closed(folder.path(), &state, "developer").await;
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    let asked = |more: &[&str]| {
        let mut command = gateway.follow(&["status", "--token-file", file.to_str().unwrap()]);
        command.args(more);
        run(command)
    };
    let told = asked(&["--check"]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told));
    assert!(
        text(&told).contains("components: not permitted\n"),
        "{}",
        text(&told)
    );
    let told = json(&asked(&["--output", "json"]));
    assert!(told["counts"]["component"].is_null(), "{told}");
    assert_eq!(told["counts"]["environment"]["failed"], 0, "{told}");
}

#[tokio::test]
async fn a_status_is_refused_to_whom_nothing_is_permitted() {
    let (folder, state) = state();
    let (gateway, token) = tokens::closed(folder.path(), &state, "stranger").await;
    let file = folder.path().join("token");
    fs::write(&file, token).unwrap();
    let output = run(gateway.follow(&["status", "--token-file", file.to_str().unwrap()]));
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(
        text(&output).contains("PermissionDenied"),
        "{}",
        text(&output)
    );
}

/// A command at work, and what it has said so far.
struct Looking {
    child: Dies,
    told: PathBuf,
    said: PathBuf,
}

impl Looking {
    fn at(address: &str, folder: &Path, arguments: &[&str]) -> Self {
        let (told, said) = (folder.join("told"), folder.join("said"));
        let mut command = program();
        command.args(arguments).args(["--address", address]);
        command.stdin(Stdio::null());
        command.stdout(File::create(&told).unwrap());
        command.stderr(File::create(&said).unwrap());
        let child = Dies(command.spawn().unwrap());
        Self { child, told, said }
    }

    fn told(&self) -> String {
        fs::read_to_string(&self.told).unwrap()
    }

    async fn says(&mut self, text: &str) {
        eventually(text, || {
            let said = fs::read_to_string(&self.said).unwrap();
            let ended = self.child.0.try_wait().unwrap();
            assert!(ended.is_none(), "it ended ({ended:?}): {said}");
            async move { said.contains(text).then_some(()) }
        })
        .await;
    }
}

#[tokio::test]
async fn top_goes_on_when_the_gateway_is_started_again() {
    let (folder, state) = state();
    let port = free_port();
    let first = serve_again(&state, &port, &[]).await;
    let mut top = Looking::at(&port, folder.path(), &["top", "--interval", "100ms"]);
    eventually("top has looked", || async {
        (!top.told().is_empty()).then_some(())
    })
    .await;
    drop(first);
    top.says("looking again").await;
    let before = top.told().len();
    let _second = serve_again(&state, &port, &[]).await;
    eventually("top has looked again", || async {
        (top.told().len() > before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_status_that_follows_goes_on_when_the_gateway_is_started_again() {
    let (folder, gateway, _) = with_a_deployment_under_way().await;
    let state = folder.path().join("state");
    drop(gateway);
    let port = free_port();
    let long = ["--simulated-step", "1h"];
    let first = serve_again(&state, &port, &long).await;
    let mut status = Looking::at(&port, folder.path(), &["status", "--follow", "--check"]);
    // The second look begins when the first has told what is under way.
    let metrics = own::GetMetricsRequest {
        names: vec!["proton_gateway_calls_total".to_owned()],
    };
    eventually("it is looked at for the second time", || {
        let (address, metrics) = (format!("http://{port}"), metrics.clone());
        async move {
            let mut client = GatewayServiceClient::connect(address).await.ok()?;
            let told = client.get_metrics(metrics).await.ok()?.into_inner();
            let samples = told.metrics.into_iter().flat_map(|it| it.samples);
            let of_lists = |it: &own::MetricSample| {
                it.labels.get("operation").map(String::as_str) == Some("ListEnvironments")
            };
            let looks: f64 = samples.filter(of_lists).map(|it| it.value).sum();
            (looks > 1.0).then_some(())
        }
    })
    .await;
    drop(first);
    status.says("looking again").await;
    let _second = serve_again(&state, &port, &long).await;
    let mut client = Client::connect(format!("http://{port}")).await.unwrap();
    report(&mut client, pb::ResourceDeploymentStatus::Succeeded, "").await;
    let ended = eventually("the status ends", || {
        let ended = status.child.0.try_wait().unwrap();
        async move { ended }
    })
    .await;
    assert_eq!(ended.code(), Some(0), "{}", status.told());
    assert!(status.told().contains("environments  1 settled"));
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_is_said_to_be() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    for command in ["status", "top", "health"] {
        let mut asked = program();
        asked.args([command, "--address", &address]);
        let output = beside(asked).await.unwrap();
        let said = text(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("the connection to the gateway broke: "),
            "{said}"
        );
    }
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
