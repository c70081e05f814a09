//! What the gateway costs: GetService and CreateService over loopback TCP, on the engine with its
//! files on a disk, next to a bare tonic handler that answers the same messages from memory.
//!
//! The floor has no edge, no pipeline, no store; the ratios at the end are what all of these
//! cost. They hold for the machine of the run only, but both sides are of the same run.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use futures_util::future::{BoxFuture, Ready, join_all, ready};
use pb::proton_service_client::ProtonServiceClient;
use pb::template_version_source_input::Source;
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
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

type Client = ProtonServiceClient<Channel>;

const ROLE: &str = "arn:aws:iam::123456789012:role/proton";
const ENVIRONMENT_SPEC: &str = "proton: EnvironmentSpec\nspec: {owner: bench}\n";
const SERVICE_SPEC: &str = "proton: ServiceSpec\npipeline: {test_command: 'true'}\ninstances:\n  - {name: main, environment: events}\n";
/// Long enough for nothing to be registered or deployed while a call is measured.
const NEVER: Duration = Duration::from_secs(24 * 3600);
/// Callers at the same time: the store commits those together that wait together.
const CALLERS: u64 = 32;

fn main() {
    let runtime = Runtime::new().unwrap();
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("criterion");
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (gateway, sample) = runtime.block_on(gateway(folder.path()));
    let floor = runtime.block_on(floor(sample));

    let mut criterion = Criterion::default()
        .configure_from_args()
        .output_directory(&output);
    for (name, client) in [("floor", floor), ("gateway", gateway)] {
        measure(&mut criterion, &runtime, name, &client);
    }
    criterion.final_summary();
    report(&output);
}

fn measure(criterion: &mut Criterion, runtime: &Runtime, name: &str, client: &Client) {
    let mut group = criterion.benchmark_group("get_service");
    group.bench_function(name, |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { get(&mut client.clone()).await });
    });
    group.finish();

    let number = AtomicU64::new(0);
    let mut group = criterion.benchmark_group("create_service");
    group.bench_function(name, |bencher| {
        bencher
            .to_async(runtime)
            .iter(|| async { create(&mut client.clone(), &number).await });
    });
    group.finish();

    let mut group = criterion.benchmark_group("create_service_together");
    group.throughput(Throughput::Elements(CALLERS));
    group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
        bencher.to_async(runtime).iter_custom(|rounds| {
            let number = &number;
            async move {
                let begin = Instant::now();
                for _ in 0..rounds {
                    join_all((0..CALLERS).map(|_| async {
                        create(&mut client.clone(), number).await;
                    }))
                    .await;
                }
                begin.elapsed()
            }
        });
    });
    group.finish();
}

async fn get(client: &mut Client) -> pb::Service {
    let request = pb::GetServiceRequest {
        name: "sample".into(),
    };
    let answer = client.get_service(request).await.unwrap();
    answer.into_inner().service.unwrap()
}

async fn create(client: &mut Client, number: &AtomicU64) -> pb::Service {
    let number = number.fetch_add(1, Ordering::Relaxed);
    let answer = client.create_service(service(&format!("n{number}"))).await;
    answer.unwrap().into_inner().service.unwrap()
}

fn service(name: &str) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        name: name.into(),
        template_name: "worker".into(),
        template_major_version: "1".into(),
        repository_connection_arn: Some(
            "arn:aws:codestar-connections:us-east-1:123456789012:connection/1".into(),
        ),
        repository_id: Some("example/orders".into()),
        branch_name: Some("main".into()),
        spec: SERVICE_SPEC.into(),
        ..Default::default()
    }
}

/// Serves the whole gateway below `folder`, fills it, and returns a client and a service that
/// was read through it.
async fn gateway(folder: &Path) -> (Client, pb::Service) {
    // What has to happen before is done at once; then the same state is opened with a provisioner
    // that does not stir.
    let (client, stop) = open(folder, Duration::ZERO).await;
    fill(client).await;
    stop.await;
    let (mut client, stop) = open(folder, NEVER).await;
    // It serves until the process ends.
    std::mem::forget(stop);
    client.create_service(service("sample")).await.unwrap();
    let sample = get(&mut client).await;
    (client, sample)
}

/// Opens the engine in `folder` behind the gRPC door. The second value closes it when awaited.
async fn open(folder: &Path, step: Duration) -> (Client, BoxFuture<'static, ()>) {
    let settings = Settings {
        region: "us-east-1".to_owned(),
        account_id: "123456789012".to_owned(),
        step,
        self_managed_timeout: NEVER,
        buckets: Buckets::in_folder(folder.join("buckets")),
        quotas: Quotas {
            services: u64::MAX,
            ..Quotas::default()
        },
    };
    let store = Store::open(&folder.join("state")).unwrap();
    let engine = Engine::new(store, Arc::new(SystemClock), settings);
    let (stop, shutdown) = Shutdown::channel();
    let worker = tokio::spawn(engine.clone().work(shutdown.clone().told()));
    let gateway = Gateway::new(pipeline::build(engine, Metrics::new().unwrap()));
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let routes = grpc_door::routes(gateway, Health::default()).unwrap();
    let door = tokio::spawn(server::serve(listener, routes, shutdown));
    let client = Client::connect(format!("http://{address}")).await.unwrap();
    let close = async move {
        stop.send_replace(true);
        worker.await.unwrap();
        door.await.unwrap();
    };
    (client, Box::pin(close))
}

/// Templates and an environment from the examples.
async fn fill(mut client: Client) {
    let source = |name: &str| {
        Some(pb::TemplateVersionSourceInput {
            source: Some(Source::S3(pb::S3ObjectSource {
                bucket: "proton-examples".into(),
                key: format!("{name}.tar.gz"),
            })),
        })
    };
    let role = Some(ROLE.to_owned());
    let settings = pb::UpdateAccountSettingsRequest {
        pipeline_service_role_arn: role.clone(),
        ..Default::default()
    };
    client.update_account_settings(settings).await.unwrap();

    let template = pb::CreateEnvironmentTemplateRequest {
        name: "bus".into(),
        ..Default::default()
    };
    client.create_environment_template(template).await.unwrap();
    let version = pb::CreateEnvironmentTemplateVersionRequest {
        template_name: "bus".into(),
        source: source("environment-cloudformation"),
        ..Default::default()
    };
    client
        .create_environment_template_version(version)
        .await
        .unwrap();
    let publish = pb::UpdateEnvironmentTemplateVersionRequest {
        template_name: "bus".into(),
        major_version: "1".into(),
        minor_version: "0".into(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    until_accepted(async || {
        client
            .update_environment_template_version(publish.clone())
            .await
    })
    .await;

    let template = pb::CreateServiceTemplateRequest {
        name: "worker".into(),
        ..Default::default()
    };
    client.create_service_template(template).await.unwrap();
    let version = pb::CreateServiceTemplateVersionRequest {
        template_name: "worker".into(),
        source: source("service-cloudformation"),
        compatible_environment_templates: vec![pb::CompatibleEnvironmentTemplateInput {
            template_name: "bus".into(),
            major_version: "1".into(),
        }],
        ..Default::default()
    };
    client
        .create_service_template_version(version)
        .await
        .unwrap();
    let publish = pb::UpdateServiceTemplateVersionRequest {
        template_name: "worker".into(),
        major_version: "1".into(),
        minor_version: "0".into(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    until_accepted(async || {
        client
            .update_service_template_version(publish.clone())
            .await
    })
    .await;

    let environment = pb::CreateEnvironmentRequest {
        name: "events".into(),
        template_name: "bus".into(),
        template_major_version: "1".into(),
        proton_service_role_arn: role,
        spec: ENVIRONMENT_SPEC.into(),
        ..Default::default()
    };
    client.create_environment(environment).await.unwrap();
    for _ in 0..600 {
        let request = pb::GetEnvironmentRequest {
            name: "events".into(),
        };
        let answer = client.get_environment(request).await.unwrap().into_inner();
        if answer.environment.unwrap().deployment_status() == pb::DeploymentStatus::Succeeded {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the environment is not deployed");
}

/// A version can be published once it is registered.
async fn until_accepted<T>(mut call: impl AsyncFnMut() -> Result<T, Status>) {
    let mut last = None;
    for _ in 0..600 {
        match call().await {
            Ok(_) => return,
            Err(status) => last = Some(status),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never accepted: {last:?}");
}

/// Serves the same two calls with nothing behind them.
async fn floor(sample: pb::Service) -> Client {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder()
        .tcp_nodelay(true)
        .add_service(Floor { sample })
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(server);
    Client::connect(format!("http://{address}")).await.unwrap()
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
