//! The program as a process: what survives its death, who may use a state directory, how it
//! ends, and what it says when it cannot begin.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod drain;
mod killed;
mod listeners;
mod looking;
mod reload;
mod retries;
mod rolling;
mod secrets;
mod stopping;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pb::proton_service_client::ProtonServiceClient;
use pb::template_version_source_input::Source;
use proton_gateway::api::pb;
use tempfile::TempDir;
use tokio::sync::Notify;
use tonic::transport::Channel;

/// How long anything may take here before a test gives up: machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);
const ROLE: &str = "arn:aws:iam::123456789012:role/proton";
const SPEC: &str = "proton: EnvironmentSpec\nspec: {owner: platform}\n";

type Client = ProtonServiceClient<Channel>;

/// The program, without what the tests' own environment says to it.
fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PROTON_GATEWAY_") {
            command.env_remove(name);
        }
    }
    command
}

/// The program on free ports, with a state directory.
fn serve(state: &Path) -> Command {
    let mut command = program();
    for door in ["--listen", "--aws-listen", "--admin-listen"] {
        command.args([door, "127.0.0.1:0"]);
    }
    command.arg("--state-dir").arg(state);
    command
}

/// Runs a command that must end by itself.
fn run(mut command: Command) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("it did not end: {}", text(&output));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

/// All that was printed.
fn text(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{stdout}{stderr}")
}

/// What a command says that must fail; a panic is no message.
#[track_caller]
fn refused(command: Command) -> String {
    let output = run(command);
    let said = text(&output);
    assert!(!output.status.success(), "it succeeded: {said}");
    assert!(output.status.code().is_some(), "it was killed: {said}");
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// A gateway that answers. It dies with this value, also when a test panics.
struct Running {
    child: Child,
    files: TempDir,
    ready: serde_json::Value,
}

impl Running {
    async fn on(state: &Path) -> Self {
        Self::with_step(state, "500ms").await
    }

    async fn with_step(state: &Path, step: &str) -> Self {
        Self::with(state, &["--simulated-step", step]).await
    }

    async fn with(state: &Path, arguments: &[&str]) -> Self {
        let mut command = serve(state);
        command.args(arguments);
        Self::started(command).await
    }

    /// Runs what serves.
    async fn started(mut command: Command) -> Self {
        let files = tempfile::tempdir().unwrap();
        let ready_file = files.path().join("ready.json");
        let log = File::create(files.path().join("log")).unwrap();
        let child = command
            .arg("--ready-file")
            .arg(&ready_file)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut running = Self {
            child,
            files,
            ready: serde_json::Value::Null,
        };
        let deadline = Instant::now() + PATIENCE;
        while !ready_file.exists() {
            let ended = running.child.try_wait().unwrap();
            assert!(
                ended.is_none() && Instant::now() < deadline,
                "it does not serve ({ended:?}): {}",
                running.log()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        running.ready = serde_json::from_slice(&fs::read(&ready_file).unwrap()).unwrap();
        running
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap_or_default()
    }

    fn address(&self, door: &str) -> &str {
        self.ready[door].as_str().unwrap()
    }

    async fn client(&self) -> Client {
        let address = format!("http://{}", self.address("grpc"));
        Client::connect(address).await.unwrap()
    }

    /// The program's own client, on its way to this gateway.
    fn follow(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(arguments);
        command.env(
            "PROTON_GATEWAY_ADDRESS",
            format!("http://{}", self.address("grpc")),
        );
        command
    }

    /// Ends it as a power cut would.
    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end.
    fn terminate(&self) {
        self.signal("TERM");
    }

    fn signal(&self, name: &str) {
        // The standard library sends no signal but the last one.
        let status = Command::new("sh")
            .args(["-c", "kill -\"$1\" \"$0\""])
            .arg(self.child.id().to_string())
            .arg(name)
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits until the log has this text, which is written a moment after it was logged.
    async fn says(&self, text: &str) {
        eventually(&format!("{text:?} in {}", self.log()), || async {
            self.log().contains(text).then_some(())
        })
        .await;
    }

    /// What a page of the admin listener says: its status and its text.
    async fn page(&self, path: &str) -> (u16, String) {
        page(self.address("admin"), path).await.unwrap()
    }

    async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it goes on: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Asks for a page over HTTP/1.1: its status and its text.
async fn page(address: &str, path: &str) -> std::io::Result<(u16, String)> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((code.unwrap_or_default(), body.to_owned()))
}

/// A folder for state, below one that goes away with the test.
fn state() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    (folder, state)
}

/// Asks until the answer is `Some`.
async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut ask: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Registers and publishes version 1.0 of the environment template `bus` from the examples.
async fn publish_template(client: &Client) {
    let mut client = client.clone();
    client
        .create_environment_template(pb::CreateEnvironmentTemplateRequest {
            name: "bus".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    client
        .create_environment_template_version(pb::CreateEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            source: Some(pb::TemplateVersionSourceInput {
                source: Some(Source::S3(pb::S3ObjectSource {
                    bucket: "proton-examples".into(),
                    key: "environment-cloudformation.tar.gz".into(),
                })),
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    eventually("the version is registered", || async {
        let request = pb::GetEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            major_version: "1".into(),
            minor_version: "0".into(),
        };
        let answer = client
            .clone()
            .get_environment_template_version(request)
            .await;
        let version = answer
            .unwrap()
            .into_inner()
            .environment_template_version
            .unwrap();
        match version.status() {
            pb::TemplateVersionStatus::RegistrationInProgress => None,
            pb::TemplateVersionStatus::Draft => Some(()),
            other => panic!("{other:?}: {:?}", version.status_message),
        }
    })
    .await;
    client
        .update_environment_template_version(pb::UpdateEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            major_version: "1".into(),
            minor_version: "0".into(),
            status: pb::TemplateVersionStatus::Published.into(),
            ..Default::default()
        })
        .await
        .unwrap();
}

/// One of the mutations of which some are under way when the process dies.
async fn mutate(client: &mut Client, number: usize) -> Result<(), tonic::Status> {
    let name = format!("n{number}");
    if number.is_multiple_of(2) {
        let request = pb::CreateEnvironmentRequest {
            name,
            template_name: "bus".into(),
            template_major_version: "1".into(),
            proton_service_role_arn: Some(ROLE.into()),
            spec: SPEC.into(),
            ..Default::default()
        };
        client.create_environment(request).await.map(drop)
    } else {
        let request = pb::CreateServiceTemplateRequest {
            name,
            description: Some(format!("number {number}")),
            ..Default::default()
        };
        client.create_service_template(request).await.map(drop)
    }
}

/// Whether the mutation of this number is there, as it was asked for.
async fn is_there(client: &mut Client, number: usize) -> bool {
    let name = format!("n{number}");
    if number.is_multiple_of(2) {
        let answer = client
            .get_environment(pb::GetEnvironmentRequest { name })
            .await;
        answer.is_ok_and(|answer| {
            let environment = answer.into_inner().environment.unwrap_or_default();
            // The spec shows once it is deployed.
            environment.spec.is_none_or(|spec| spec == SPEC)
        })
    } else {
        let request = pb::GetServiceTemplateRequest { name };
        let answer = client.get_service_template(request).await;
        answer.is_ok_and(|answer| {
            let template = answer.into_inner().service_template.unwrap_or_default();
            template.description == Some(format!("number {number}"))
        })
    }
}

/// The statuses of all deployments, by id.
async fn deployments(client: &mut Client) -> Vec<(String, pb::DeploymentStatus)> {
    let mut found = Vec::new();
    let mut next_token = None;
    loop {
        let request = pb::ListDeploymentsRequest {
            max_results: Some(100),
            next_token,
            ..Default::default()
        };
        let page = client.list_deployments(request).await.unwrap().into_inner();
        found.extend(page.deployments.into_iter().map(|deployment| {
            let status = deployment.deployment_status();
            (deployment.id.unwrap_or_default(), status)
        }));
        next_token = page.next_token.filter(|token| !token.is_empty());
        if next_token.is_none() {
            return found;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill_and_every_deployment_ends() {
    const ENOUGH: usize = 200;
    let (_folder, state) = state();
    let mut first = Running::on(&state).await;
    let client = first.client().await;
    publish_template(&client).await;

    let next = Arc::new(AtomicUsize::new(0));
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let enough = Arc::new(Notify::new());
    // The callers go on until the process is gone, so it dies in the middle of their calls.
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let mut client = client.clone();
            let (next, acknowledged) = (next.clone(), acknowledged.clone());
            let enough = enough.clone();
            tokio::spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if mutate(&mut client, number).await.is_err() {
                        return;
                    }
                    let mut acknowledged = acknowledged.lock().unwrap();
                    acknowledged.push(number);
                    if acknowledged.len() == ENOUGH {
                        enough.notify_one();
                    }
                }
            })
        })
        .collect();
    tokio::time::timeout(PATIENCE, enough.notified())
        .await
        .unwrap();
    first.kill();
    for caller in callers {
        caller.await.unwrap();
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    assert!(acknowledged.len() >= ENOUGH, "{}", first.log());

    let second = Running::on(&state).await;
    let mut client = second.client().await;
    let mut lost = Vec::new();
    for number in &acknowledged {
        if !is_there(&mut client, *number).await {
            lost.push(*number);
        }
    }
    assert!(
        lost.is_empty(),
        "{} of {} acknowledged mutations are lost: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    let environments = acknowledged.iter().filter(|n| n.is_multiple_of(2)).count();
    let ended = eventually("all deployments have ended", || {
        let mut client = client.clone();
        async move {
            let found = deployments(&mut client).await;
            let ended = |status: &pb::DeploymentStatus| {
                matches!(
                    status,
                    pb::DeploymentStatus::Succeeded | pb::DeploymentStatus::Failed
                )
            };
            found
                .iter()
                .all(|(_, status)| ended(status))
                .then_some(found.len())
        }
    })
    .await;
    assert!(
        ended >= environments,
        "{ended} deployments of {environments} environments"
    );
}

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

#[tokio::test(flavor = "multi_thread")]
async fn told_to_stop_it_answers_what_it_has_begun_and_ends_well() {
    let (_folder, state) = state();
    let mut running = Running::on(&state).await;
    let client = running.client().await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    let callers: Vec<_> = (0..4)
        .map(|caller| {
            let (mut client, acknowledged) = (client.clone(), acknowledged.clone());
            tokio::spawn(async move {
                let mut number = caller * 1000 + 1;
                while mutate(&mut client, number).await.is_ok() {
                    acknowledged.lock().unwrap().push(number);
                    number += 2;
                }
            })
        })
        .collect();
    eventually("some calls are answered", || async {
        (acknowledged.lock().unwrap().len() >= 20).then_some(())
    })
    .await;
    running.terminate();
    let status = running.ended().await;
    assert_eq!(status.code(), Some(0), "{}", running.log());
    assert!(!running.files.path().join("ready.json").exists());
    for caller in callers {
        caller.await.unwrap();
    }

    let again = Running::on(&state).await;
    let mut client = again.client().await;
    let acknowledged = acknowledged.lock().unwrap().clone();
    for number in acknowledged {
        assert!(is_there(&mut client, number).await, "n{number} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_port_0_the_ready_file_says_where_it_listens() {
    let (_folder, state) = state();
    let running = Running::on(&state).await;
    for door in ["grpc", "aws", "admin"] {
        let address: std::net::SocketAddr = running.address(door).parse().unwrap();
        assert_ne!(address.port(), 0);
        std::net::TcpStream::connect(address).unwrap();
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let (_folder, state) = state();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut command = program();
    command.args(["--listen", &address, "--aws-listen", "off"]);
    command.args(["--admin-listen", "127.0.0.1:0"]);
    command.arg("--state-dir").arg(&state);
    let said = refused(command);
    assert!(
        said.contains(&format!("cannot listen on {address}")),
        "{said}"
    );
}

#[test]
fn check_config_prints_toml_that_is_a_configuration_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = program();
    // The flag's value is optional, and the command is none.
    command.args(["--simulated-step", "250ms", "--insecure", "check-config"]);
    let output = run(command);
    assert!(output.status.success(), "{}", text(&output));
    let printed = String::from_utf8(output.stdout).unwrap();
    let table: toml::Table = printed.parse().unwrap();
    assert_eq!(table["simulated-step"].as_str(), Some("250ms"));

    let file = folder.path().join("gateway.toml");
    fs::write(&file, &printed).unwrap();
    let mut command = program();
    command.arg("--config").arg(&file).arg("check-config");
    let again = run(command);
    assert_eq!(String::from_utf8(again.stdout).unwrap(), printed);
}

#[test]
fn what_is_wrong_in_flags_environment_and_file_is_named() {
    let flags = |flags: &[&str]| {
        let mut command = program();
        command.args(flags).arg("check-config");
        refused(command)
    };
    let said = flags(&["--lisen", "127.0.0.1:1"]);
    assert!(
        said.contains("--lisen") && said.contains("--listen"),
        "{said}"
    );
    let said = flags(&["--simulated-step", "soon"]);
    assert!(said.contains("soon") && said.contains("250ms"), "{said}");
    let said = flags(&["--listen", "0.0.0.0:0"]);
    assert!(said.contains("--insecure"), "{said}");
    let said = flags(&["--log", "inof"]);
    assert!(said.contains("inof"), "{said}");

    let mut command = program();
    command.env("PROTON_GATEWAY_ACCOUNT_ID", "12");
    command.arg("check-config");
    let said = refused(command);
    assert!(said.contains("account-id"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    for (content, named) in [
        ("lisen = \"127.0.0.1:1\"", "lisen"),
        ("simulated-step = 3", "simulated-step"),
        ("listen = ", "line 1"),
    ] {
        fs::write(&file, content).unwrap();
        let said = flags(&["--config", file.to_str().unwrap()]);
        assert!(said.contains(named), "{content}: {said}");
        assert!(said.contains("gateway.toml"), "{content}: {said}");
    }
    fs::remove_file(&file).unwrap();
    let said = flags(&["--config", file.to_str().unwrap()]);
    assert!(said.contains("gateway.toml"), "{said}");
}

/// What deploys the environment `bus`, with its spec in a file of `folder`.
fn deploy_bus(folder: &Path, spec: &str) -> Vec<String> {
    let file = folder.join("spec.yaml");
    fs::write(&file, spec).unwrap();
    [
        "deploy",
        "environment",
        "bus",
        "--template",
        "bus",
        "--template-version",
        "1",
        "--proton-service-role-arn",
        ROLE,
        "--spec",
        file.to_str().unwrap(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Runs a command beside what the test does.
fn beside(command: Command) -> tokio::task::JoinHandle<Output> {
    tokio::task::spawn_blocking(move || run(command))
}

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
    let mut before = Running::on(&state).await;
    publish_template(&before.client().await).await;
    before.terminate();
    before.ended().await;
    // From here on nothing ends by itself.
    let gateway = Running::with_step(&state, "1h").await;
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

    let failed = pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/bus".to_owned(),
        status: pb::ResourceDeploymentStatus::Failed.into(),
        status_message: Some("no capacity".to_owned()),
        ..pb::NotifyResourceDeploymentStatusChangeRequest::default()
    };
    client
        .notify_resource_deployment_status_change(failed)
        .await
        .unwrap();
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

/// Whether the environment `bus` is being deployed.
async fn is_under_way(client: &mut Client) -> bool {
    let request = pb::GetEnvironmentRequest {
        name: "bus".to_owned(),
    };
    client.get_environment(request).await.is_ok_and(|found| {
        let environment = found.into_inner().environment.unwrap_or_default();
        environment.deployment_status() == pb::DeploymentStatus::InProgress
    })
}

#[tokio::test]
async fn a_deploy_goes_on_when_the_gateway_is_started_again() {
    goes_on_after_a_kill(true).await;
}

#[tokio::test]
async fn a_deploy_goes_on_when_the_gateway_has_forgotten_its_tokens() {
    goes_on_after_a_kill(false).await;
}

async fn goes_on_after_a_kill(with_key: bool) {
    let (folder, state) = state();
    let mut before = Running::on(&state).await;
    publish_template(&before.client().await).await;
    before.terminate();
    before.ended().await;
    let key = folder.path().join("key");
    fs::write(&key, [7; 32]).unwrap();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().to_string()
    };
    let ready = folder.path().join("ready.json");
    let start = || {
        let mut command = program();
        command.args(["--listen", &port, "--simulated-step", "1h"]);
        command.args(["--aws-listen", "off", "--admin-listen", "127.0.0.1:0"]);
        command.arg("--state-dir").arg(&state);
        if with_key {
            command.arg("--resume-token-key-file").arg(&key);
        }
        command.arg("--ready-file").arg(&ready);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Dies(child.unwrap())
    };
    let first = start();
    eventually("the first serves", || async {
        ready.exists().then_some(())
    })
    .await;
    let mut command = program();
    command.args(deploy_bus(folder.path(), SPEC));
    command.env("PROTON_GATEWAY_ADDRESS", format!("http://{port}"));
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
    // Killed, it could not take the file away.
    fs::remove_file(&ready).unwrap();
    let _second = start();
    eventually("the second serves", || async {
        ready.exists().then_some(())
    })
    .await;
    let mut client = Client::connect(format!("http://{port}")).await.unwrap();
    let succeeded = pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/bus".to_owned(),
        status: pb::ResourceDeploymentStatus::Succeeded.into(),
        ..pb::NotifyResourceDeploymentStatusChangeRequest::default()
    };
    client
        .notify_resource_deployment_status_change(succeeded)
        .await
        .unwrap();
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

/// A process that dies with this value.
struct Dies(Child);

impl Drop for Dies {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
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

#[tokio::test]
async fn a_file_limits_callers_and_puts_down_what_they_change() {
    let (folder, state) = state();
    let audit = folder.path().join("audit.log");
    let config = folder.path().join("gateway.toml");
    let text = format!(
        "[limits]\nwrite = {{ rate = \"1/h\", burst = 1 }}\n[audit]\nfile = {audit:?}\nblocking = true\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = serve(&state);
    command.arg("--config").arg(&config);
    let mut running = Running::started(command).await;
    let mut client = running.client().await;
    let mut create = async |name: &str| {
        let request = pb::CreateEnvironmentTemplateRequest {
            name: name.to_owned(),
            ..pb::CreateEnvironmentTemplateRequest::default()
        };
        client.create_environment_template(request).await.map(drop)
    };
    create("first").await.unwrap();
    let refused = create("second").await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
    running.terminate();
    running.ended().await;
    let text = fs::read_to_string(&audit).unwrap();
    let told: Vec<_> = text
        .lines()
        .map(|line| {
            let record: serde_json::Value = serde_json::from_str(line).unwrap();
            let word = |key: &str| record[key].as_str().unwrap_or("-").to_owned();
            ["event", "phase", "outcome"].map(word).join(" ")
        })
        .collect();
    assert_eq!(
        told,
        [
            "started - -",
            "- begun -",
            "- ended OK",
            "- begun -",
            "- ended THROTTLED_BY_GATEWAY",
            "stopped - -",
        ]
    );
}

#[tokio::test]
async fn a_token_that_was_just_made_opens_a_door_that_is_closed_without() {
    let (folder, state) = state();
    let mut new = program();
    new.args(["token", "new", "--id", "ci", "--role", "viewer"]);
    let said = text(&run(new));
    let token = said.lines().find(|line| line.starts_with("pgw_")).unwrap();
    let (_, entry) = said.split_once("[[authentication.tokens]]").unwrap();
    let file = folder.path().join("gateway.toml");
    let section = "[authentication]\nmethods = [\"token\"]\n[[authentication.tokens]]";
    fs::write(&file, format!("{section}{entry}")).unwrap();
    let gateway = Running::with(&state, &["--config", file.to_str().unwrap()]).await;
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
    assert!(!gateway.log().contains(token), "{}", gateway.log());
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
