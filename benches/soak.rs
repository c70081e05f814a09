//! Ten minutes of mixed load against the release binary: is memory flat, and does all come back?
//!
//! `cargo bench --bench soak -- --minutes 10`. The exit status says it: 0 if memory was flat and files,
//! sockets and the gateway's own gauges are back to what they were at the start, else 1.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod program;

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use program::Program;
use proton_gateway::api::pb;
use proton_gateway::api::pb::paginator_service_client::PaginatorServiceClient;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::pb::wait_service_client::WaitServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint};

const SAMPLE: Duration = Duration::from_secs(5);
/// How long after the load all may take to come back: pollers linger, sockets close.
const SETTLE: Duration = Duration::from_secs(45);
/// Which part of the time is for warming up.
const WARM_UP: f64 = 0.3;
/// How much memory may grow over the rest of the time, in percent.
const FLAT: f64 = 5.0;
/// Descriptors that may be more at the end: the database opens readers as they are needed.
const MORE_FILES: usize = 8;
const ENVIRONMENTS: usize = 8;
/// What the gateway itself counts as long as it lasts.
const LEVELS: [&str; 4] = [
    "proton_gateway_requests_active",
    "proton_gateway_streams_open",
    "proton_gateway_pollers",
    "proton_gateway_connections_open",
];
/// Keys live so short that as many go as come: what they may take would be full after some minutes.
const CONFIG: &str = "[cache]\nenabled = true\n[waits]\npauses = [\"500ms\"]\nlinger = \"2s\"\n\
    [idempotency]\nlifetime = \"1m\"\n";

/// What the machine and the gateway say of the process.
#[derive(Debug, Clone)]
struct Sample {
    at: Duration,
    /// Bytes that are its own, and all that are resident.
    private: f64,
    resident: f64,
    files: usize,
    sockets: usize,
    gauges: BTreeMap<String, f64>,
}

/// What all callers share.
#[derive(Clone)]
struct Load {
    grpc: String,
    aws: String,
    over: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
    streams: Arc<AtomicU64>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.grpc)).unwrap();
        endpoint.connect().await.unwrap()
    }

    fn count<T>(&self, answer: &Result<T, tonic::Status>) {
        let counter = match answer {
            Ok(_) => &self.answered,
            Err(_) => &self.refused,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Reads, most of them answered from memory; and a new connection now and then.
    async fn reads(self, reader: usize) {
        while self.goes_on() {
            let mut client = ProtonServiceClient::new(self.channel().await);
            for number in 0..2000 {
                let name = format!("e{}", (reader + number) % ENVIRONMENTS);
                self.count(
                    &client
                        .get_environment(pb::GetEnvironmentRequest { name })
                        .await,
                );
                let all = pb::ListEnvironmentsRequest::default();
                self.count(&client.list_environments(all).await);
                if !self.goes_on() {
                    return;
                }
            }
        }
    }

    /// Creates, changes and deletes, so that what is stored stays as much.
    async fn writes(self, writer: usize) {
        let mut client = ProtonServiceClient::new(self.channel().await);
        for number in 0_u64.. {
            if !self.goes_on() {
                return;
            }
            let name = format!("w{writer}-{}", number % 50);
            let create = pb::CreateServiceTemplateRequest {
                name: name.clone(),
                description: Some("x".repeat(200)),
                ..Default::default()
            };
            let mut request = tonic::Request::new(create);
            let key = format!("{writer}-{number}").parse().unwrap();
            request.metadata_mut().insert("idempotency-key", key);
            self.count(&client.create_service_template(request).await);
            let update = pb::UpdateServiceTemplateRequest {
                name: name.clone(),
                description: Some(number.to_string()),
                ..Default::default()
            };
            self.count(&client.update_service_template(update).await);
            let delete = pb::DeleteServiceTemplateRequest { name };
            self.count(&client.delete_service_template(delete).await);
        }
    }

    /// Deploys, so that there is something to wait for.
    async fn deploys(self) {
        let mut client = ProtonServiceClient::new(self.channel().await);
        for number in 0_usize.. {
            if !self.goes_on() {
                return;
            }
            let update = pb::UpdateEnvironmentRequest {
                name: format!("e{}", number % ENVIRONMENTS),
                deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
                spec: Some(spec(number)),
                ..Default::default()
            };
            self.count(&client.update_environment(update).await);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// Opens waits and lists: some are read to their end, some are dropped, some with their connection.
    async fn streams(self, reader: usize) {
        for number in reader.. {
            if !self.goes_on() {
                return;
            }
            let channel = self.channel().await;
            let mut held = Vec::new();
            for index in 0..20 {
                let request = pb::WaitEnvironmentDeployedRequest {
                    name: format!("e{}", (number + index) % ENVIRONMENTS),
                    options: None,
                };
                let opened = WaitServiceClient::new(channel.clone())
                    .wait_environment_deployed(request)
                    .await;
                self.count(&opened);
                self.streams.fetch_add(1, Ordering::Relaxed);
                held.extend(opened.ok());
            }
            for (index, stream) in held.into_iter().enumerate() {
                let mut stream = stream.into_inner();
                let events = if index % 3 == 0 {
                    usize::MAX
                } else {
                    index % 3
                };
                for _ in 0..events {
                    match stream.message().await {
                        Ok(Some(_)) if self.goes_on() => {}
                        _ => break,
                    }
                }
            }
            let pages = pb::PageEnvironmentsRequest::default();
            if let Ok(pages) = PaginatorServiceClient::new(channel)
                .page_environments(pages)
                .await
            {
                let _one_page = pages.into_inner().message().await;
                self.streams.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks for what does not exist or makes no sense, by both doors, and by none.
    async fn errors(self) {
        let mut client = ProtonServiceClient::new(self.channel().await);
        for number in 0_u64.. {
            if !self.goes_on() {
                return;
            }
            for name in [format!("missing-{number}"), "no such name!".to_owned()] {
                self.count(
                    &client
                        .get_environment(pb::GetEnvironmentRequest { name })
                        .await,
                );
            }
            for text in [
                &b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\nconnection: close\r\n\r\n{}x"
                    [..],
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
                b"GET / HT",
            ] {
                for door in [&self.aws, &self.grpc] {
                    let Ok(mut stream) = TcpStream::connect(door).await else {
                        continue;
                    };
                    drop(stream.write_all(text).await);
                    let mut said = [0; 64];
                    let read = stream.read(&mut said);
                    drop(tokio::time::timeout(Duration::from_millis(50), read).await);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spec(number: usize) -> String {
    format!("proton: EnvironmentSpec\nspec: {{owner: o{number}}}\n")
}

fn sample(program: &Program, at: Duration) -> Sample {
    let folder = format!("/proc/{}", program.id());
    let status = std::fs::read_to_string(format!("{folder}/status")).unwrap();
    let kilobytes = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<f64>()
            .unwrap()
            * 1024.0
    };
    let links: Vec<_> = std::fs::read_dir(format!("{folder}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| std::fs::read_link(entry.path()).ok())
        .collect();
    let sockets = links
        .iter()
        .filter(|it| it.to_string_lossy().starts_with("socket:"))
        .count();
    Sample {
        at,
        private: kilobytes("RssAnon:"),
        resident: kilobytes("VmRSS:"),
        files: links.len(),
        sockets,
        gauges: gauges(&program.metrics()),
    }
}

impl Sample {
    /// The sum of a gauge over its labels.
    fn level(&self, name: &str) -> f64 {
        let series = self.gauges.iter();
        let of_name = series.filter(|(series, _)| series.split('{').next() == Some(name));
        // Of none that is -0.0, which looks odd.
        of_name.map(|(_, value)| value).sum::<f64>() + 0.0
    }
}

/// All gauges of the page, by name and labels.
fn gauges(page: &str) -> BTreeMap<String, f64> {
    let kinds = page.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names: Vec<_> = kinds
        .filter_map(|kind| kind.strip_suffix(" gauge"))
        .collect();
    let values = page.lines().filter(|line| !line.starts_with('#'));
    values
        .filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            let name = series.split('{').next()?;
            names.contains(&name).then_some(())?;
            Some((series.to_owned(), value.parse().ok()?))
        })
        .collect()
}

/// How much memory has grown from the end of the warm-up to the end, in percent: the slope of the line
/// that fits best.
fn growth(samples: &[Sample]) -> f64 {
    let end = samples.last().unwrap().at.as_secs_f64();
    let kept: Vec<_> = samples
        .iter()
        .map(|sample| (sample.at.as_secs_f64(), sample.private))
        .filter(|(at, _)| *at >= end * WARM_UP)
        .collect();
    let count = kept.len() as f64;
    let middle = kept.iter().map(|(at, _)| at).sum::<f64>() / count;
    let mean = kept.iter().map(|(_, bytes)| bytes).sum::<f64>() / count;
    let over: f64 = kept
        .iter()
        .map(|(at, bytes)| (at - middle) * (bytes - mean))
        .sum();
    let under: f64 = kept.iter().map(|(at, _)| (at - middle).powi(2)).sum();
    over / under * end * (1.0 - WARM_UP) / mean * 100.0
}

fn minutes() -> f64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--minutes");
    arguments
        .nth(1)
        .map_or(10.0, |text| text.parse().expect("--minutes NUMBER"))
}

fn show(sample: &Sample, load: &Load) {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{:>6.0} s  private {:>6.1} MiB  resident {:>6.1} MiB  files {:>4}  sockets {:>4}  answered {:>9}  refused {:>7}  streams {:>7}",
        sample.at.as_secs_f64(),
        sample.private / 1048576.0,
        sample.resident / 1048576.0,
        sample.files,
        sample.sockets,
        count(&load.answered),
        count(&load.refused),
        count(&load.streams),
    );
    drop(std::io::stdout().flush());
}

#[tokio::main]
async fn main() -> ExitCode {
    let length = Duration::from_secs_f64(minutes() * 60.0);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("soak.toml");
    std::fs::write(&config, CONFIG).unwrap();
    let mut command = Program::command();
    command.arg("--config").arg(&config);
    command.arg("--state-dir").arg(folder.path().join("state"));
    command.args(["--simulated-step", "1s"]);
    let program = Program::start(command);
    let load = Load {
        grpc: program.address("grpc"),
        aws: program.address("aws"),
        over: Arc::default(),
        answered: Arc::default(),
        refused: Arc::default(),
        streams: Arc::default(),
    };
    {
        let mut client = ProtonServiceClient::new(load.channel().await);
        program::environment_template(&mut client).await;
        for number in 0..ENVIRONMENTS {
            let create = pb::CreateEnvironmentRequest {
                name: format!("e{number}"),
                template_name: "bus".to_owned(),
                template_major_version: "1".to_owned(),
                proton_service_role_arn: Some(program::ROLE.to_owned()),
                spec: spec(0),
                ..Default::default()
            };
            client.create_environment(create).await.unwrap();
        }
    }
    tokio::time::sleep(SAMPLE).await;
    let before = sample(&program, Duration::ZERO);
    show(&before, &load);

    let mut callers = JoinSet::new();
    for number in 0..3 {
        callers.spawn(load.clone().reads(number));
    }
    for number in 0..2 {
        callers.spawn(load.clone().writes(number));
    }
    for number in 0..4 {
        callers.spawn(load.clone().streams(number));
    }
    callers.spawn(load.clone().deploys());
    callers.spawn(load.clone().errors());
    let began = Instant::now();
    let mut samples = Vec::new();
    while began.elapsed() < length {
        tokio::time::sleep(SAMPLE).await;
        samples.push(sample(&program, began.elapsed()));
        if samples.len().is_multiple_of(6) {
            show(samples.last().unwrap(), &load);
        }
        while let Some(ended) = callers.try_join_next() {
            ended.unwrap();
        }
    }
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let settling = Instant::now();
    let back = |after: &Sample| {
        let levels = LEVELS
            .iter()
            .all(|name| after.level(name) <= before.level(name));
        after.files <= before.files + MORE_FILES && after.sockets <= before.sockets && levels
    };
    let after = loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let after = sample(&program, began.elapsed());
        if back(&after) || settling.elapsed() > SETTLE {
            break after;
        }
    };
    show(&after, &load);
    for name in LEVELS {
        let peak = samples
            .iter()
            .map(|sample| sample.level(name))
            .fold(0.0, f64::max);
        let (before, after) = (before.level(name), after.level(name));
        println!("{name}: {before} before, {peak} at most, {after} after");
    }
    let growth = growth(&samples);
    let (flat, back) = (growth < FLAT, back(&after));
    println!(
        "memory: {growth:+.1} % over the last {:.0} % of the time: {}",
        (1.0 - WARM_UP) * 100.0,
        if flat { "flat" } else { "NOT FLAT" }
    );
    println!(
        "files: {} before, {} after; sockets: {} before, {} after: {}",
        before.files,
        after.files,
        before.sockets,
        after.sockets,
        if back { "back" } else { "NOT BACK" }
    );
    ExitCode::from(u8::from(!(flat && back)))
}
