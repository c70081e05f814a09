//! What the gateway costs: GetService and CreateService over loopback TCP, on the engine with its
//! files on a disk, next to a bare tonic handler that answers the same messages from memory.
//!
//! The floor has no edge, no pipeline, no store; the ratios at the end are what all of these
//! cost. They hold for the machine of the run only, but both sides are of the same run.

#![allow(clippy::unwrap_used, clippy::panic)]

mod program;

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use futures_util::future::{BoxFuture, Ready, join_all, ready};
use pb::proton_service_client::ProtonServiceClient;
use proton_gateway::admission::Guards;
use proton_gateway::api::pb;
use proton_gateway::backend::engine::bucket::Buckets;
use proton_gateway::backend::engine::store::Store;
use proton_gateway::backend::engine::{Engine, Quotas, Settings};
use proton_gateway::clock::SystemClock;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::Gateway;
use proton_gateway::pipeline;
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{self, Key, Waits};
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, watch};
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use self::program::{new_service, platform};

type Client = ProtonServiceClient<Channel>;

/// Long enough for nothing to be deployed while a call is measured.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Callers at the same time: the store commits those together that wait together.
const CALLERS: u64 = 32;
/// Services that one copy of the state takes besides the sample: within the quota of 1,000.
const ROOM: u64 = 960;

fn main() {
    let runtime = Runtime::new().unwrap();
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut criterion = Criterion::default()
        .configure_from_args()
        .output_directory(&output);
    let gateway = runtime.block_on(Side::gateway(folder.path()));
    let floor = runtime.block_on(Side::floor(&gateway));
    // Side by side within each group: what else the machine does changes with the minutes.
    let sides = [floor, gateway].map(Mutex::new);
    let mut group = criterion.benchmark_group("get_service");
    for side in &sides {
        measure_get(&mut group, &runtime, side);
    }
    group.finish();
    for (name, callers) in [("create_service", 1), ("create_service_together", CALLERS)] {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(callers));
        for side in &sides {
            measure_create(&mut group, &runtime, side, callers);
        }
        group.finish();
    }
    criterion.final_summary();
    report(&output);
}

type Group<'a> = BenchmarkGroup<'a, WallTime>;

fn measure_get(group: &mut Group<'_>, runtime: &Runtime, side: &Mutex<Side>) {
    let (name, client) = runtime.block_on(async {
        let side = side.lock().await;
        (side.name, side.client.clone())
    });
    group.bench_function(name, |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { get(&mut client.clone()).await });
    });
}

fn measure_create(group: &mut Group<'_>, runtime: &Runtime, side: &Mutex<Side>, callers: u64) {
    let name = runtime.block_on(side.lock()).name;
    group.bench_function(name, |bencher| {
        bencher.to_async(runtime).iter_custom(|rounds| async move {
            let mut side = side.lock().await;
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                let first = side.room_for(callers).await;
                let client = &side.client;
                let begin = Instant::now();
                join_all((first..first + callers).map(|number| create(client, number))).await;
                spent += begin.elapsed();
            }
            spent
        });
    });
}

/// One of the two that are compared.
struct Side {
    name: &'static str,
    client: Client,
    /// Services that were created through the client.
    created: u64,
    /// Of the gateway only.
    engine: Option<Prepared>,
}

/// An engine's state with templates and an environment in it, of which copies are served.
struct Prepared {
    folder: PathBuf,
    copies: u32,
    /// Going away, it stops the gateway that serves the last copy.
    _stop: Option<watch::Sender<bool>>,
}

impl Side {
    async fn gateway(folder: &Path) -> Self {
        let prepared = folder.join("prepared");
        let (client, stop) = open(&prepared, Duration::ZERO).await;
        platform(&mut client.clone()).await;
        let mut side = Self {
            name: "gateway",
            client,
            created: 0,
            engine: Some(Prepared {
                folder: prepared,
                copies: 0,
                _stop: Some(stop),
            }),
        };
        side.renew().await;
        side
    }

    /// Serves the same calls with nothing behind them; every answer is one of `other`.
    async fn floor(other: &Self) -> Self {
        let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into())
            .unwrap()
            .with_nodelay(Some(true));
        let address = incoming.local_addr().unwrap();
        let sample = get(&mut other.client.clone()).await;
        let server = Server::builder()
            .add_service(Floor { sample })
            .serve_with_incoming(incoming);
        tokio::spawn(server);
        Self {
            name: "floor",
            client: Client::connect(format!("http://{address}")).await.unwrap(),
            created: 0,
            engine: None,
        }
    }

    /// Makes room for more services, not timed: an account has a thousand of them at most, and
    /// counting more than that would be measured too. Returns the number of the first.
    async fn room_for(&mut self, services: u64) -> u64 {
        if self.created + services > ROOM {
            self.renew().await;
        }
        let first = self.created;
        self.created += services;
        first
    }

    /// Begins again with nothing but the prepared state and the service `sample`.
    async fn renew(&mut self) {
        self.created = 0;
        let Some(engine) = &mut self.engine else {
            return;
        };
        engine.copies += 1;
        let copy = engine.folder.with_file_name(format!("{}", engine.copies));
        std::fs::create_dir(&copy).unwrap();
        // Nothing writes meanwhile, so the files of the database belong together.
        for file in ["proton.db", "proton.db-wal"] {
            let from = engine.folder.join(file);
            if from.exists() {
                std::fs::copy(from, copy.join(file)).unwrap();
            }
        }
        let (client, stop) = open(&copy, NEVER).await;
        self.client = client;
        engine._stop = Some(stop);
        let sample = new_service("sample");
        self.client.create_service(sample).await.unwrap();
    }
}

async fn get(client: &mut Client) -> pb::Service {
    let request = pb::GetServiceRequest {
        name: "sample".into(),
    };
    let answer = client.get_service(request).await.unwrap();
    answer.into_inner().service.unwrap()
}

async fn create(client: &Client, number: u64) -> pb::Service {
    let request = new_service(&format!("n{number}"));
    let answer = client.clone().create_service(request).await;
    answer.unwrap().into_inner().service.unwrap()
}

/// Opens the engine in `folder` behind the gRPC door, which closes with the second value.
async fn open(folder: &Path, step: Duration) -> (Client, watch::Sender<bool>) {
    let settings = Settings {
        region: "us-east-1".to_owned(),
        account_id: "123456789012".to_owned(),
        step,
        self_managed_timeout: NEVER,
        buckets: Buckets::in_folder(folder.join("buckets")),
        quotas: Quotas::default(),
    };
    let store = Store::open(folder).unwrap();
    let engine = Engine::new(store, Arc::new(SystemClock), settings);
    let (stop, shutdown) = Shutdown::channel();
    tokio::spawn(engine.clone().work(shutdown.clone().told()));
    let changes = engine.changes().clone();
    let gateway = Gateway::new(pipeline::build(
        engine,
        Metrics::new().unwrap(),
        &Guards::default(),
    ));
    let key = Key::random().unwrap();
    let waits = Waits::new(
        gateway.clone(),
        changes,
        waits::Settings::with_key(key),
        shutdown.clone(),
    );
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let routes = grpc_door::routes(gateway, waits, Health::default()).unwrap();
    tokio::spawn(server::serve(listener, routes, shutdown));
    let client = Client::connect(format!("http://{address}")).await.unwrap();
    (client, stop)
}

/// What tonic generates for a service, for two of its methods.
#[derive(Clone)]
struct Floor {
    sample: pb::Service,
}

impl NamedService for Floor {
    const NAME: &'static str = "proton.v1.ProtonService";
}

impl Service<http::Request<Body>> for Floor {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let floor = self.clone();
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/proton.v1.ProtonService/GetService" => {
                    Grpc::new(ProstCodec::default())
                        .unary(Get(floor), request)
                        .await
                }
                _ => {
                    Grpc::new(ProstCodec::default())
                        .unary(Create(floor), request)
                        .await
                }
            })
        })
    }
}

struct Get(Floor);

impl UnaryService<pb::GetServiceRequest> for Get {
    type Response = pb::GetServiceResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<pb::GetServiceRequest>) -> Self::Future {
        ready(Ok(Response::new(pb::GetServiceResponse {
            service: Some(self.0.sample.clone()),
        })))
    }
}

struct Create(Floor);

impl UnaryService<pb::CreateServiceRequest> for Create {
    type Response = pb::CreateServiceResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _: Request<pb::CreateServiceRequest>) -> Self::Future {
        ready(Ok(Response::new(pb::CreateServiceResponse {
            service: Some(self.0.sample.clone()),
        })))
    }
}

/// Prints medians and ratios of what was measured; nothing where a run measured only a part.
fn report(output: &Path) {
    println!(
        "\n{:<26}{:>12}{:>12}{:>8}",
        "median", "floor", "gateway", "ratio"
    );
    for group in ["get_service", "create_service", "create_service_together"] {
        let median = |name| median(&output.join(group).join(name));
        if let (Some(floor), Some(gateway)) = (median("floor"), median("gateway")) {
            println!(
                "{group:<26}{:>9.0} µs{:>9.0} µs{:>8.1}",
                floor / 1e3,
                gateway / 1e3,
                gateway / floor
            );
        }
    }
    println!("create_service_together is one round of {CALLERS} callers at the same time.");
}

/// In nanoseconds, from criterion's own file.
fn median(folder: &Path) -> Option<f64> {
    let file: PathBuf = folder.join("new/estimates.json");
    let estimates: serde_json::Value = serde_json::from_slice(&std::fs::read(file).ok()?).ok()?;
    estimates["median"]["point_estimate"].as_f64()
}
