//! Many waits at once: `waits [STREAMS [ENVIRONMENTS]]`.
//!
//! Starts the program, opens the streams over its gRPC door, lets all environments be deployed,
//! and prints the polls that it took, the program's memory for a stream, and the lag from a
//! deployment's end to the event that tells of it, at the reader. Once on the engine, which tells
//! of its changes; and once before an upstream that has to be polled: an engine in a process of its
//! own, which the program reaches through its AWS door and hears nothing from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::pb::wait_event::Event;
use proton_gateway::api::pb::wait_service_client::WaitServiceClient;
use proton_gateway::api::pb::{self, template_version_source_input::Source};
use tokio::sync::Semaphore;
use tonic::transport::Channel;

/// Streams of one connection; the server takes a hundred.
const STREAMS_OF_CONNECTION: usize = 90;
const STEP: Duration = Duration::from_secs(60);
/// Between the first deployment and the last.
const SPREAD: Duration = Duration::from_secs(10);

/// The program, which ends with this.
struct Gateway {
    child: Child,
    _folder: tempfile::TempDir,
    grpc: String,
    aws: String,
    admin: String,
}

impl Drop for Gateway {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Gateway {
    /// On an engine of its own.
    fn on_engine() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
        command
            .args(["--simulated-step", &format!("{}s", STEP.as_secs())])
            .arg("--state-dir")
            .arg(folder.path().join("state"));
        Self::start(command, folder)
    }

    /// Before another one.
    fn before(upstream: &Self) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_proton-gateway"));
        command
            .args([
                "--upstream-endpoint-url",
                &format!("http://{}", upstream.aws),
            ])
            .args(["--region", "us-east-1"])
            .env("AWS_ACCESS_KEY_ID", "bench")
            .env("AWS_SECRET_ACCESS_KEY", "bench");
        Self::start(command, tempfile::tempdir().unwrap())
    }

    fn start(mut command: Command, folder: tempfile::TempDir) -> Self {
        let ready = folder.path().join("ready.json");
        let child = command
            .args(["--listen", "127.0.0.1:0", "--aws-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0", "--log", "warn"])
            .arg("--ready-file")
            .arg(&ready)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let addresses = loop {
            match std::fs::read_to_string(&ready) {
                Ok(text) => break text,
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let addresses: serde_json::Value = serde_json::from_str(&addresses).unwrap();
        let address = |name: &str| addresses[name].as_str().unwrap().to_owned();
        Self {
            child,
            _folder: folder,
            grpc: format!("http://{}", address("grpc")),
            aws: address("aws"),
            admin: address("admin"),
        }
    }

    /// Resident memory in bytes.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kib * 1024
    }

    /// How often waits have polled.
    fn polls(&self) -> u64 {
        let mut stream = TcpStream::connect(&self.admin).unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page.lines()
            .filter(|line| line.starts_with("proton_gateway_calls_total"))
            .filter(|line| line.contains(r#"door="wait""#) && line.contains("GetEnvironment\""))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    }
}

/// A template that environments can be made of.
async fn template(client: &mut ProtonServiceClient<Channel>) {
    client
        .create_environment_template(pb::CreateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            ..Default::default()
        })
        .await
        .unwrap();
    client
        .create_environment_template_version(pb::CreateEnvironmentTemplateVersionRequest {
            template_name: "bus".to_owned(),
            source: Some(pb::TemplateVersionSourceInput {
                source: Some(Source::S3(pb::S3ObjectSource {
                    bucket: "proton-examples".to_owned(),
                    key: "environment-cloudformation.tar.gz".to_owned(),
                })),
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    let publish = pb::UpdateEnvironmentTemplateVersionRequest {
        template_name: "bus".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    while client
        .update_environment_template_version(publish.clone())
        .await
        .is_err()
    {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Waits for one environment; the lag in microseconds.
async fn watch(
    mut client: WaitServiceClient<Channel>,
    name: String,
    open: tokio::sync::mpsc::Sender<()>,
    turn: Arc<Semaphore>,
) -> u64 {
    let request = pb::WaitEnvironmentDeployedRequest {
        name,
        options: None,
    };
    let turn = turn.acquire_owned().await.unwrap();
    let mut events = client
        .wait_environment_deployed(request)
        .await
        .unwrap()
        .into_inner();
    drop(turn);
    loop {
        match events
            .message()
            .await
            .unwrap()
            .unwrap()
            .event
            .unwrap()
            .event
            .unwrap()
        {
            Event::Snapshot(_) => open.send(()).await.unwrap(),
            Event::Terminal(terminal) => {
                let told = SystemTime::now();
                let ended = terminal.deployment.unwrap().completed_at.unwrap();
                let lag = told
                    .duration_since(ended.try_into().unwrap())
                    .unwrap_or_default();
                return u64::try_from(lag.as_micros()).unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::main]
async fn main() {
    let numbers: Vec<usize> = std::env::args()
        .filter_map(|argument| argument.parse().ok())
        .collect();
    let streams = numbers.first().copied().unwrap_or(10_000);
    let environments = numbers.get(1).copied().unwrap_or(100);
    let engine = Gateway::on_engine();
    println!("on the engine, {streams} streams over {environments} environments");
    measure(&engine, &engine, streams, environments).await;
    // Phases of polling and of deployments are independent where there are many of both.
    let engine = Gateway::on_engine();
    let gateway = Gateway::before(&engine);
    let streams = streams.min(1000);
    println!("before an upstream, {streams} streams over {environments} environments");
    measure(&gateway, &engine, streams, environments).await;
}

/// Follows deployments that `engine` carries out through `gateway`.
async fn measure(gateway: &Gateway, engine: &Gateway, streams: usize, environments: usize) {
    let mut client = ProtonServiceClient::connect(engine.grpc.clone())
        .await
        .unwrap();
    template(&mut client).await;
    let idle = gateway.memory();
    for number in 0..environments {
        client
            .create_environment(pb::CreateEnvironmentRequest {
                name: format!("e{number}"),
                template_name: "bus".to_owned(),
                template_major_version: "1".to_owned(),
                spec: "{proton: EnvironmentSpec, spec: {owner: bench}}".to_owned(),
                ..Default::default()
            })
            .await
            .unwrap();
        // Spread over two of the longest pauses between polls, so that ends meet all phases.
        tokio::time::sleep(SPREAD / u32::try_from(environments).unwrap()).await;
    }
    let (open, mut opened) = tokio::sync::mpsc::channel(streams);
    // The door reads so many requests at once and refuses more.
    let turns = Arc::new(Semaphore::new(1000));
    let mut connection = None;
    let mut watches = Vec::new();
    for number in 0..streams {
        if number % STREAMS_OF_CONNECTION == 0 {
            connection = WaitServiceClient::connect(gateway.grpc.clone()).await.ok();
        }
        let client = connection.clone().unwrap();
        let name = format!("e{}", number % environments);
        watches.push(tokio::spawn(watch(
            client,
            name,
            open.clone(),
            Arc::clone(&turns),
        )));
    }
    for _ in 0..streams {
        opened.recv().await.unwrap();
    }
    let busy = gateway.memory();
    let mut lags = Vec::new();
    for watch in watches {
        lags.push(watch.await.unwrap());
    }
    lags.sort_unstable();
    let at = |share: f64| lags[((lags.len() - 1) as f64 * share) as usize] as f64 / 1000.0;
    let mib = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
    println!(
        "polls: {} ({:.1} for each environment)",
        gateway.polls(),
        gateway.polls() as f64 / environments as f64
    );
    println!(
        "memory: {:.1} MiB idle, {:.1} MiB with all streams open, {:.1} KiB for each stream",
        mib(idle),
        mib(busy),
        busy.saturating_sub(idle) as f64 / 1024.0 / streams as f64
    );
    println!(
        "lag from the end of a deployment to its event at the reader: p50 {:.1} ms, p99 {:.1} ms, most {:.1} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
