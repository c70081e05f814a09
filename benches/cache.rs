//! What an answer costs that is kept, and one that has to be asked for: `cache [ROUNDS [PART]]`,
//! where a part is `reads`, `pages`, `creations`, `forwarding`, `telemetry` or `instructions`.
//!
//! Next to the gateway stands a bare tonic handler that answers the same messages from memory. All
//! are processes of their own and take turns, so that what else the machine does meets all of them;
//! one client asks all of them alike, and leaves the answers as they come. The gateway has everything
//! on: a token, policies, limits, an audit, metrics, and a log line for each call, as by default.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../tests/telemetry/collector.rs"]
mod collector;
mod distance;
mod floor;
mod measure;
mod program;
mod raw;
mod secrets;

use std::any::Any;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt};
use prost::Message;
use proton_gateway::api::pb;

use self::floor::{BUILT_PAGE, Floor};
use self::measure::{Callgrind, cpu, cpu_time, median, micros};
use self::program::{BINARY, Program, copy, new_service, platform, service};
use self::raw::Caller;
use self::secrets::{Secrets, channel};

const NEVER: &str = "24h";
/// Services that the state has.
const SERVICES: u32 = 100;
/// Of one turn: calls one after the other, callers at the same time, and the calls of each.
const READS: Turn = Turn(100, 32, 40);
/// An account has a thousand services, and counting more would be measured too.
const CREATIONS: Turn = Turn(20, 32, 1);
const CREATING_TURNS: usize = 16;

const GET: &str = "/proton.v1.ProtonService/GetService";
const LIST: &str = "/proton.v1.ProtonService/ListServices";
const CREATE: &str = "/proton.v1.ProtonService/CreateService";

/// To a server that is far and back.
const FAR: Duration = Duration::from_millis(10);
/// Long enough for nothing to end while it is measured.
const CACHE: &str = "[cache]\nenabled = true\nstate-ttl = \"1h\"\n";

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|it| !it.starts_with("--"));
    let first = arguments.next().unwrap_or_default();
    if first == floor::ARGUMENT {
        return floor::serve(arguments);
    }
    let rounds = first.parse().unwrap_or(30);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = Place::prepared(folder.path()).await;
        let only = arguments.next();
        let wanted = |part| only.as_deref().is_none_or(|only| only == part);
        if wanted("reads") {
            reads(&place, rounds).await;
        }
        if wanted("pages") {
            pages(&place, rounds).await;
        }
        if wanted("creations") {
            creations(&place, rounds.min(CREATING_TURNS)).await;
        }
        if wanted("forwarding") {
            forwarding(&place, rounds).await;
        }
        if wanted("telemetry") {
            telemetry(&place, rounds).await;
        }
        if wanted("instructions") {
            instructions(&place).await;
        }
    });
}

async fn reads(place: &Place, rounds: usize) {
    let get = |caller: Caller| asks(caller, GET, named("s1"));
    let tls = place.secrets.tls() + CACHE;
    let mut sides = vec![
        place.floor("tonic", false, get).await,
        place.gateway("hit", CACHE, false, get).await,
        place.quiet_gateway("hit, no log", CACHE, get).await,
        place
            .gateway("miss", CACHE, false, |caller| {
                get(caller.saying("cache-control", "no-cache"))
            })
            .await,
        place.gateway("no cache", "", false, get).await,
        place.floor("tonic, mTLS", true, get).await.and_first(),
        place.gateway("hit, mTLS", &tls, true, get).await,
    ];
    compare("GetService", &mut sides, READS, rounds).await;
}

async fn pages(place: &Place, rounds: usize) {
    let list = |caller: Caller| asks(caller, LIST, page());
    let mut sides = vec![
        place.floor("tonic encodes", false, list).await,
        place
            .floor("tonic builds", false, |caller| {
                asks(caller, BUILT_PAGE, page())
            })
            .await,
        place.gateway("hit of a page", CACHE, false, list).await,
        place.gateway("page, no cache", "", false, list).await,
    ];
    compare("ListServices, a page of 100", &mut sides, READS, rounds).await;
}

async fn creations(place: &Place, rounds: usize) {
    let create = |caller: Caller| {
        let created = Arc::new(AtomicU32::new(0));
        call(move || {
            let number = created.fetch_add(1, Ordering::Relaxed);
            let message = new_service(&format!("n{number}")).encode_to_vec();
            let caller = caller.clone();
            async move { drop(caller.call(CREATE, message.into()).await.unwrap()) }
        })
    };
    let mut sides = vec![
        place.floor("tonic creates", false, create).await,
        place.gateway("engine creates", "", false, create).await,
    ];
    compare("CreateService", &mut sides, CREATIONS, rounds).await;
}

/// The SDK as a client of an AWS door, and the gateway between the two; both beside the door, and as
/// far from it as a region of AWS may be.
async fn forwarding(place: &Place, rounds: usize) {
    let upstream = place.start("upstream", own_binary(), "", "warn");
    let near = upstream.address("aws");
    let far = distance::distant(near.clone(), FAR / 2).await;
    let get = |caller: Caller| asks(caller, GET, named("s1"));
    let fresh = |caller: Caller| get(caller.saying("cache-control", "no-cache"));
    let between = |name: &str, door: &str, sections: &str| {
        let mut command = own_binary();
        let endpoint = format!("http://{door}");
        command.args(["--upstream", "aws", "--upstream-endpoint-url", &endpoint]);
        command.args(["--region", "us-east-1"]);
        command.env("AWS_ACCESS_KEY_ID", "test");
        command.env("AWS_SECRET_ACCESS_KEY", "test");
        command.arg("--state-dir").arg(place.folder.join(name));
        let sections = place.guarded(name, sections);
        place.start_without_state(name, command, &sections, "info")
    };
    let missed = between("missed", &near, CACHE);
    let mut sides = vec![
        Side::new("SDK", upstream.id(), sdk(&near).await, Box::new(())),
        place
            .side("forwarded", between("forwarded", &near, ""), false, get)
            .await,
        place.side("missed", missed, false, fresh).await,
        place
            .side("hit before it", between("hits", &near, CACHE), false, get)
            .await,
        Side::new("SDK, far", upstream.id(), sdk(&far).await, Box::new(())).and_first(),
        place
            .side("forwarded, far", between("far", &far, ""), false, get)
            .await,
    ];
    compare("GetService through the SDK", &mut sides, READS, rounds).await;
}

/// Asks an AWS door by the SDK.
async fn sdk(door: &str) -> Call {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "bench"))
        .endpoint_url(format!("http://{door}"))
        .load()
        .await;
    #[allow(deprecated)]
    let sdk = aws_sdk_proton::Client::new(&config);
    call(move || {
        let sdk = sdk.clone();
        async move {
            #[allow(deprecated)]
            let request = sdk.get_service();
            drop(request.name("s1").send().await.unwrap());
        }
    })
}

/// What is kept, with no traces, and with a part of the calls traced. The collector is this process.
async fn telemetry(place: &Place, rounds: usize) {
    let (_collector, address) = collector::Collector::start().await;
    let get = |caller: Caller| asks(caller, GET, named("s1"));
    let traced = |ratio: &str| {
        let endpoint = format!("endpoint = \"http://{address}\"");
        format!("{CACHE}[telemetry]\n{endpoint}\nsample-ratio = {ratio}\n")
    };
    let unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let mut sides = vec![
        place.gateway("off", CACHE, false, get).await,
        place.gateway("not sampled", &traced("0"), false, get).await,
        place
            .gateway("not by its caller", &traced("0"), false, |caller| {
                get(caller.saying("traceparent", unsampled))
            })
            .await,
        place.gateway("1 %", &traced("0.01"), false, get).await,
        place.gateway("100 %", &traced("1"), false, get).await,
    ];
    compare("GetService that is kept, traced", &mut sides, READS, rounds).await;
}

fn named(name: &str) -> Bytes {
    let name = name.to_owned();
    pb::GetServiceRequest { name }.encode_to_vec().into()
}

fn page() -> Bytes {
    let max_results = Some(100);
    let next_token = None;
    pb::ListServicesRequest {
        max_results,
        next_token,
    }
    .encode_to_vec()
    .into()
}

/// One call of a side.
type Call = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

fn call<F>(one: impl Fn() -> F + Send + Sync + 'static) -> Call
where
    F: Future<Output = ()> + Send + 'static,
{
    Arc::new(move || one().boxed())
}

fn asks(caller: Caller, path: &'static str, message: Bytes) -> Call {
    call(move || {
        let (caller, message) = (caller.clone(), message.clone());
        async move { drop(caller.call(path, message).await.unwrap()) }
    })
}

fn own_binary() -> Command {
    Program::run_by(Command::new(BINARY))
}

/// What all sides are made of.
struct Place {
    folder: PathBuf,
    state: PathBuf,
    secrets: Secrets,
}

impl Place {
    async fn prepared(folder: &Path) -> Self {
        let place = Self {
            folder: folder.to_owned(),
            state: folder.join("state"),
            secrets: Secrets::in_folder(folder),
        };
        let mut command = Program::command();
        command.args(["--simulated-step", "10ms"]);
        command.arg("--state-dir").arg(&place.state);
        let program = Program::start(command);
        let mut client = program.client().await;
        platform(&mut client).await;
        for number in 1..SERVICES {
            let new = new_service(&format!("s{number}"));
            client.create_service(new).await.unwrap();
        }
        service(&mut client, "last").await;
        let answer = client.get_service(pb::GetServiceRequest::decode(named("s1")).unwrap());
        let answer = answer.await.unwrap().into_inner();
        std::fs::write(folder.join(floor::SERVICE), answer.encode_to_vec()).unwrap();
        let answer = client.list_services(pb::ListServicesRequest::decode(page()).unwrap());
        let answer = answer.await.unwrap().into_inner();
        assert_eq!(answer.services.len(), 100);
        std::fs::write(folder.join(floor::PAGE), answer.encode_to_vec()).unwrap();
        program.stop();
        place
    }

    /// The gateway over a copy of the state.
    fn start(&self, name: &str, mut command: Command, sections: &str, log: &str) -> Program {
        let own = self.folder.join(format!("{name}.state"));
        copy(&self.state, &own);
        command.args(["--simulated-step", NEVER]);
        command.arg("--state-dir").arg(own);
        self.start_without_state(name, command, sections, log)
    }

    fn start_without_state(
        &self,
        name: &str,
        mut command: Command,
        sections: &str,
        log: &str,
    ) -> Program {
        let config = self.folder.join(format!("{name}.toml"));
        std::fs::write(&config, sections).unwrap();
        command.arg("--config").arg(config).args(["--log", log]);
        command.stderr(File::create(self.folder.join(format!("{name}.log"))).unwrap());
        Program::start(command)
    }

    /// The sections of all guards, and others.
    fn guarded(&self, name: &str, sections: &str) -> String {
        let audit = self.folder.join(format!("{name}.audit"));
        self.secrets.guards(&audit) + sections
    }

    async fn gateway(
        &self,
        name: &'static str,
        sections: &str,
        tls: bool,
        asks: impl Fn(Caller) -> Call,
    ) -> Side {
        let sections = self.guarded(name, sections);
        let program = self.start(name, own_binary(), &sections, "info");
        self.side(name, program, tls, asks).await
    }

    async fn quiet_gateway(
        &self,
        name: &'static str,
        sections: &str,
        asks: impl Fn(Caller) -> Call,
    ) -> Side {
        let sections = self.guarded(name, sections);
        let program = self.start(name, own_binary(), &sections, "warn");
        self.side(name, program, false, asks).await
    }

    async fn side(
        &self,
        name: &'static str,
        program: Program,
        tls: bool,
        asks: impl Fn(Caller) -> Call,
    ) -> Side {
        let caller = self.caller(&program.address("grpc"), tls).await;
        Side::new(name, program.id(), asks(caller), Box::new(program))
    }

    async fn floor(&self, name: &'static str, tls: bool, asks: impl Fn(Caller) -> Call) -> Side {
        let floor = Floor::answering(Some(&self.folder), tls.then_some(&self.folder));
        let caller = self.caller(&floor.address, tls).await;
        Side::new(name, floor.id(), asks(caller), Box::new(floor))
    }

    async fn caller(&self, address: &str, tls: bool) -> Caller {
        let channel = channel(address, tls.then_some(&self.secrets)).await;
        Caller::new(channel, self.secrets.bearer("steady"))
    }
}

/// How many calls a turn has: one after the other, callers at the same time, and of each of them.
#[derive(Clone, Copy)]
struct Turn(u32, u32, u32);

/// One of those that are compared.
struct Side {
    name: &'static str,
    /// It and those after it are compared with it.
    first: bool,
    process: u32,
    call: Call,
    /// Of each turn, in microseconds: a call alone, a call among others, CPU time of a call.
    alone: Vec<f64>,
    together: Vec<f64>,
    cpu: Vec<f64>,
    /// Ends with this.
    _program: Box<dyn Any>,
}

impl Side {
    fn new(name: &'static str, process: u32, call: Call, program: Box<dyn Any>) -> Self {
        Self {
            name,
            first: false,
            process,
            call,
            alone: Vec::new(),
            together: Vec::new(),
            cpu: Vec::new(),
            _program: program,
        }
    }

    fn and_first(self) -> Self {
        Self {
            first: true,
            ..self
        }
    }

    async fn turn(&mut self, Turn(alone, callers, each): Turn) {
        let spent = cpu(self.process);
        let begin = Instant::now();
        for _ in 0..alone {
            (self.call)().await;
        }
        self.alone.push(micros(begin.elapsed()) / f64::from(alone));
        let begin = Instant::now();
        self.together(callers, each).await;
        let calls = f64::from(callers * each);
        self.together.push(micros(begin.elapsed()) / calls);
        let spent = micros(cpu_time(self.process, spent));
        self.cpu.push(spent / (f64::from(alone) + calls));
    }

    async fn together(&self, callers: u32, each: u32) {
        let mut running = tokio::task::JoinSet::new();
        for _ in 0..callers {
            let call = Arc::clone(&self.call);
            running.spawn(async move {
                for _ in 0..each {
                    call().await;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended.unwrap();
        }
    }

    fn medians(&self) -> [f64; 3] {
        [&self.alone, &self.together, &self.cpu].map(|all| median(all))
    }
}

/// All sides, turn by turn; ratios are those to the first side.
async fn compare(what: &str, sides: &mut [Side], turn: Turn, rounds: usize) {
    // Nothing is kept yet.
    for side in &mut *sides {
        side.together(1, 10).await;
    }
    for _ in 0..rounds {
        for side in &mut *sides {
            side.turn(turn).await;
        }
    }
    let Turn(_, callers, _) = turn;
    println!("\n{what}: medians of {rounds} turns, and ratios to the first line");
    println!(
        "{:<18}{:>10}{:>7}{:>16}{:>7}{:>10}{:>7}",
        "",
        "alone us",
        "ratio",
        format!("{callers} callers /s"),
        "ratio",
        "CPU us",
        "ratio"
    );
    let mut floor = [1.0; 3];
    for (place, side) in sides.iter().enumerate() {
        let own = side.medians();
        if place == 0 || side.first {
            floor = own;
        }
        println!(
            "{:<18}{:>10.1}{:>7.2}{:>16.0}{:>7.2}{:>10.1}{:>7.2}",
            side.name,
            own[0],
            own[0] / floor[0],
            1e6 / own[1],
            floor[1] / own[1],
            own[2],
            own[2] / floor[2]
        );
    }
}

/// Instructions of one call, as valgrind counts them, where that is installed.
async fn instructions(place: &Place) {
    println!("\ninstructions of a call, by callgrind");
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("not counted: valgrind is not installed");
        return;
    }
    let get = |caller: Caller| asks(caller, GET, named("s1"));
    let list = |caller: Caller| asks(caller, LIST, page());
    let built = |caller: Caller| asks(caller, BUILT_PAGE, page());
    type Asks<'a> = &'a dyn Fn(Caller) -> Call;
    let sides: [(&'static str, Option<&str>, Asks<'_>); 7] = [
        ("tonic", None, &get),
        ("hit", Some(CACHE), &get),
        ("no cache", Some(""), &get),
        ("tonic encodes", None, &list),
        ("tonic builds", None, &built),
        ("hit of a page", Some(CACHE), &list),
        ("page, no cache", Some(""), &list),
    ];
    for (name, sections, asks) in sides {
        let mut counts = Vec::new();
        // Twice: what is counted besides calls is the same.
        for calls in [200, 1200] {
            let out = format!("callgrind.{}", name.replace([' ', ','], ""));
            let out = Callgrind::into(Path::new(env!("CARGO_TARGET_TMPDIR")).join(out));
            let side = match sections {
                None => {
                    let own = out.of(&std::env::current_exe().unwrap());
                    let floor = Floor::run(own, Some(&place.folder), None);
                    let caller = place.caller(&floor.address, false).await;
                    Side::new(name, floor.id(), asks(caller), Box::new(floor))
                }
                Some(sections) => {
                    let sections = place.guarded("counted", sections);
                    let command = Program::run_by(out.of(Path::new(BINARY)));
                    let program = place.start("counted", command, &sections, "info");
                    place.side(name, program, false, asks).await
                }
            };
            side.together(8, calls / 8).await;
            program::ask_to_end(side.process);
            counts.push(out.total());
        }
        println!("{name:<18}{:>10.0}", (counts[1] - counts[0]) / 1000.0);
    }
}
