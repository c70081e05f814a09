//! Many waits at once: `waits [STREAMS [ENVIRONMENTS]]`.
//!
//! Starts the program, opens the streams over its gRPC door, lets all environments be deployed,
//! and prints the polls that it took, the program's memory for a stream, and the lag from a
//! deployment's end to the event that tells of it, at the reader. Once on the engine, which tells
//! of its changes; and once before an upstream that has to be polled: an engine in a process of its
//! own, which the program reaches through its AWS door and hears nothing from.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proton_gateway::api::pb;
use proton_gateway::api::pb::wait_event::Event;
use proton_gateway::api::pb::wait_service_client::WaitServiceClient;
use tokio::sync::Semaphore;
use tonic::transport::Channel;

use self::program::{Program, environment_template};

/// Streams of one connection; the server takes a hundred.
const STREAMS_OF_CONNECTION: usize = 90;
const STEP: Duration = Duration::from_secs(60);
/// Between the first deployment and the last.
const SPREAD: Duration = Duration::from_secs(10);

/// On an engine of its own, whose state is in `folder`.
fn on_engine(folder: &Path) -> Program {
    let mut command = Program::command();
    command
        .args(["--simulated-step", &format!("{}s", STEP.as_secs())])
        .arg("--state-dir")
        .arg(folder);
    Program::start(command)
}

/// Before another one, with its state in `folder`.
fn before(upstream: &Program, folder: &Path) -> Program {
    let url = format!("http://{}", upstream.address("aws"));
    let mut command = Program::command();
    command
        .args(["--upstream-endpoint-url", &url, "--region", "us-east-1"])
        .arg("--state-dir")
        .arg(folder)
        .env("AWS_ACCESS_KEY_ID", "bench")
        .env("AWS_SECRET_ACCESS_KEY", "bench");
    Program::start(command)
}

/// How often waits have polled.
fn polls(gateway: &Program) -> u64 {
    gateway
        .metrics()
        .lines()
        .filter(|line| line.starts_with("proton_gateway_calls_total"))
        .filter(|line| line.contains(r#"door="wait""#) && line.contains("GetEnvironment\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum()
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
    let folder = tempfile::tempdir().unwrap();
    let engine = on_engine(&folder.path().join("first"));
    println!("on the engine, {streams} streams over {environments} environments");
    measure(&engine, &engine, streams, environments).await;
    // Phases of polling and of deployments are independent where there are many of both.
    let engine = on_engine(&folder.path().join("second"));
    let folder = tempfile::tempdir().unwrap();
    let gateway = before(&engine, folder.path());
    let streams = streams.min(1000);
    println!("before an upstream, {streams} streams over {environments} environments");
    measure(&gateway, &engine, streams, environments).await;
}

/// Follows deployments that `engine` carries out through `gateway`.
async fn measure(gateway: &Program, engine: &Program, streams: usize, environments: usize) {
    let mut client = engine.client().await;
    environment_template(&mut client).await;
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
    let address = format!("http://{}", gateway.address("grpc"));
    let mut connection = None;
    let mut watches = Vec::new();
    for number in 0..streams {
        if number % STREAMS_OF_CONNECTION == 0 {
            connection = WaitServiceClient::connect(address.clone()).await.ok();
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
        polls(gateway),
        polls(gateway) as f64 / environments as f64
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
