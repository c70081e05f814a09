//! What it costs to know callers, to hold them to policy and limits, and to put down what they
//! do: `layers [ROUNDS]`.
//!
//! GetService on the engine, with all of that on (a token, and a client's certificate) and off, and
//! a bare tonic handler that answers the same message from memory, with and without TLS. All are
//! processes of their own and take turns, so that what else the machine does meets all of them.
//! Then one greedy caller at twenty times its limit, and what another one notices of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod floor;
mod measure;
mod program;
mod secrets;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use pb::proton_service_client::ProtonServiceClient;
use proton_gateway::api::pb;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Channel;

use self::floor::Floor;
use self::measure::{cpu, cpu_time, median, micros};
use self::program::{Program, copy, platform, service};
use self::secrets::{Secrets, channel};

type Client = ProtonServiceClient<Channel>;

/// Calls one after the other, and at the same time, of one turn.
const CALLS: u32 = 300;
const CALLERS: u32 = 16;
const EACH: u32 = 40;
const NEVER: &str = "24h";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == floor::ARGUMENT {
        return floor::serve(arguments);
    }
    let rounds = first.parse().unwrap_or(30);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let secrets = Secrets::in_folder(folder.path());
        let state = prepared(folder.path()).await;
        layers(folder.path(), &state, &secrets, rounds).await;
        greedy(folder.path(), &state, &secrets).await;
    });
}

/// One of those that are compared.
struct Side {
    name: &'static str,
    /// The side that it is compared with.
    beside: &'static str,
    process: u32,
    client: Client,
    token: Option<AsciiMetadataValue>,
    /// Of each turn: a call's time alone, a call's time among others, CPU time of a call.
    alone: Vec<f64>,
    together: Vec<f64>,
    cpu: Vec<f64>,
    /// Ends with this.
    _program: Box<dyn std::any::Any>,
}

impl Side {
    async fn get(&self) {
        let mut request = tonic::Request::new(pb::GetServiceRequest {
            name: "sample".to_owned(),
        });
        if let Some(token) = &self.token {
            let token = token.clone();
            request.metadata_mut().insert("authorization", token);
        }
        let answer = self.client.clone().get_service(request).await;
        assert!(answer.unwrap().into_inner().service.is_some());
    }

    async fn turn(&mut self) {
        let cpu = cpu(self.process);
        let begin = Instant::now();
        for _ in 0..CALLS {
            self.get().await;
        }
        self.alone.push(micros(begin.elapsed()) / f64::from(CALLS));
        let begin = Instant::now();
        let callers = (0..CALLERS).map(|_| async {
            for _ in 0..EACH {
                self.get().await;
            }
        });
        join_all(callers).await;
        let calls = f64::from(CALLERS * EACH);
        self.together.push(micros(begin.elapsed()) / calls);
        let spent = micros(cpu_time(self.process, cpu));
        self.cpu.push(spent / (f64::from(CALLS) + calls));
    }
}

/// All sides, turn by turn.
async fn layers(folder: &Path, state: &Path, secrets: &Secrets, rounds: usize) {
    let mut sides = vec![
        floor_side("tonic", "tonic", None, secrets).await,
        floor_side("tonic, mTLS", "tonic, mTLS", Some(secrets), secrets).await,
        gateway_side("off", "tonic", folder, state, secrets).await,
        gateway_side("token", "tonic", folder, state, secrets).await,
        gateway_side("off, mTLS", "tonic, mTLS", folder, state, secrets).await,
        gateway_side("certificate", "tonic, mTLS", folder, state, secrets).await,
    ];
    for _ in 0..rounds {
        for side in &mut sides {
            side.turn().await;
        }
    }
    println!("GetService, medians of {rounds} turns: us for a call, and ratios to tonic");
    println!(
        "{:<14}{:>9}{:>7}{:>12}{:>7}{:>9}{:>7}",
        "", "alone", "ratio", "together", "ratio", "CPU", "ratio"
    );
    let medians = |side: &Side| [&side.alone, &side.together, &side.cpu].map(|all| median(all));
    for side in &sides {
        let beside = sides.iter().find(|other| other.name == side.beside);
        let (own, floor) = (medians(side), medians(beside.unwrap()));
        println!(
            "{:<14}{:>9.1}{:>7.2}{:>12.1}{:>7.2}{:>9.1}{:>7.2}",
            side.name,
            own[0],
            own[0] / floor[0],
            own[1],
            own[1] / floor[1],
            own[2],
            own[2] / floor[2]
        );
    }
    let by_name = |name| medians(sides.iter().find(|side| side.name == name).unwrap());
    for (on, off) in [("token", "off"), ("certificate", "off, mTLS")] {
        let (on_side, off_side) = (by_name(on), by_name(off));
        println!(
            "{on} beside {off}: alone {:.2}, together {:.2}, CPU {:.2}",
            on_side[0] / off_side[0],
            on_side[1] / off_side[1],
            on_side[2] / off_side[2]
        );
    }
}

async fn floor_side(
    name: &'static str,
    beside: &'static str,
    tls: Option<&Secrets>,
    secrets: &Secrets,
) -> Side {
    let floor = Floor::start(tls.map(|secrets| secrets.folder.as_path()));
    let client = connect(&floor.address, tls.is_some(), secrets).await;
    Side::new(name, beside, floor.id(), client, None, Box::new(floor))
}

async fn gateway_side(
    name: &'static str,
    beside: &'static str,
    folder: &Path,
    state: &Path,
    secrets: &Secrets,
) -> Side {
    let (tls, token) = (name != "off" && name != "token", name == "token");
    let mut sections = String::new();
    if tls {
        sections += &secrets.tls();
    }
    if !name.starts_with("off") {
        sections += &secrets.guards(&folder.join(format!("{name}.audit")));
    }
    let program = start(folder, state, name, &sections);
    let client = connect(&program.address("grpc"), tls, secrets).await;
    let token = token.then(|| secrets.bearer("steady"));
    let id = program.id();
    Side::new(name, beside, id, client, token, Box::new(program))
}

impl Side {
    fn new(
        name: &'static str,
        beside: &'static str,
        process: u32,
        client: Client,
        token: Option<AsciiMetadataValue>,
        program: Box<dyn std::any::Any>,
    ) -> Self {
        Self {
            name,
            beside,
            process,
            client,
            token,
            alone: Vec::new(),
            together: Vec::new(),
            cpu: Vec::new(),
            _program: program,
        }
    }
}

/// The gateway over a copy of the state.
fn start(folder: &Path, state: &Path, name: &str, sections: &str) -> Program {
    let own = folder.join(format!("{name}.state"));
    copy(state, &own);
    let config = folder.join(format!("{name}.toml"));
    std::fs::write(&config, sections).unwrap();
    let mut command = Program::command();
    command.args(["--simulated-step", NEVER]);
    command.arg("--state-dir").arg(own);
    command.arg("--config").arg(config);
    Program::start(command)
}

/// A folder of state with the service `sample`.
async fn prepared(folder: &Path) -> PathBuf {
    let state = folder.join("state");
    let mut command = Program::command();
    command.args(["--simulated-step", "100ms"]);
    command.arg("--state-dir").arg(&state);
    let program = Program::start(command);
    let mut client = program.client().await;
    platform(&mut client).await;
    service(&mut client, "sample").await;
    program.stop();
    state
}

/// How often each caller may read in a second.
const LIMIT: u32 = 100;
const GREED: u32 = 20;
const SPAN: Duration = Duration::from_secs(10);

/// What one caller notices when another asks for twenty times what it may.
async fn greedy(folder: &Path, state: &Path, secrets: &Secrets) {
    let limits = format!("[limits]\nread = {{ rate = \"{LIMIT}/s\", burst = {LIMIT} }}\n");
    let sections = secrets.known() + &limits;
    let program = start(folder, state, "greedy", &sections);
    let client = connect(&program.address("grpc"), false, secrets).await;
    let other = connect(&program.address("grpc"), false, secrets).await;
    let steady = || paced(client.clone(), secrets.bearer("steady"), LIMIT / 2);
    let mut ratios = Vec::new();
    for _ in 0..3 {
        let quiet = steady().await;
        let (beside, greedy) = tokio::join!(
            steady(),
            paced(other.clone(), secrets.bearer("greedy"), LIMIT * GREED)
        );
        assert_eq!(quiet.refused, 0);
        ratios.push(beside.p99() / quiet.p99());
        println!(
            "a steady caller: {} calls, {} refused, p99 {:.2} ms; beside a greedy one: {} calls, {} refused, p99 {:.2} ms; the greedy one: {} calls, {:.1} % refused",
            quiet.times.len(),
            quiet.refused,
            quiet.p99(),
            beside.times.len(),
            beside.refused,
            beside.p99(),
            greedy.times.len(),
            100.0 * greedy.refused as f64 / greedy.times.len() as f64
        );
    }
    println!(
        "p99 beside the greedy caller to p99 alone, median: {:.2}",
        median(&ratios)
    );
}

/// What a caller that goes on at a rate sees.
struct Seen {
    /// In milliseconds.
    times: Vec<f64>,
    refused: usize,
}

impl Seen {
    fn p99(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_by(f64::total_cmp);
        times[(times.len() - 1) * 99 / 100]
    }
}

/// Calls at a steady rate, whether or not the calls before have been answered.
async fn paced(client: Client, token: AsciiMetadataValue, rate: u32) -> Seen {
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let calls = u64::from(rate) * SPAN.as_secs();
    let mut running = tokio::task::JoinSet::new();
    for _ in 0..calls {
        ticks.tick().await;
        let (mut client, token) = (client.clone(), token.clone());
        running.spawn(async move {
            let mut request = tonic::Request::new(pb::GetServiceRequest {
                name: "sample".to_owned(),
            });
            request.metadata_mut().insert("authorization", token);
            let begin = Instant::now();
            let answer = client.get_service(request).await;
            (begin.elapsed(), answer.map(drop))
        });
    }
    let mut seen = Seen {
        times: Vec::new(),
        refused: 0,
    };
    while let Some(ended) = running.join_next().await {
        let (time, answer) = ended.unwrap();
        seen.times.push(micros(time) / 1000.0);
        if let Err(status) = answer {
            assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
            seen.refused += 1;
        }
    }
    seen
}

async fn connect(address: &str, tls: bool, secrets: &Secrets) -> Client {
    Client::new(channel(address, tls.then_some(secrets)).await)
}
