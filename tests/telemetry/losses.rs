//! A collector that is slow, down, or wants to know more: calls go on, and what is lost is counted.

use std::io::Write;

use proton_gateway::admission::Guards;
use proton_gateway::api::{Response, pb};
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use tonic::Code;

use crate::collector::{Collector, attribute};
use crate::*;

/// How long anything may take here: machines are shared.
const PATIENCE: Duration = Duration::from_secs(60);

/// A door over a backend that answers at once.
fn door(telemetry: &Telemetry) -> Door {
    let backend = tower::service_fn(|_: Call| async {
        let answer = pb::GetEnvironmentResponse::default();
        Ok(Reply::new(Response::GetEnvironment(answer)))
    });
    let metrics = telemetry.metrics.clone();
    let pipeline = pipeline::build(backend, metrics, &Guards::default());
    Door::to(Gateway::new(pipeline), telemetry)
}

async fn get(door: &Door) -> Code {
    let request = pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    };
    door.send(GET_ENVIRONMENT, &request, &[]).await
}

/// What was lost of `signal`.
fn lost(telemetry: &Telemetry, signal: &str) -> u64 {
    let page = telemetry.metrics.page().unwrap();
    let count = format!("proton_gateway_telemetry_lost_total{{signal=\"{signal}\"}} ");
    let line = page.lines().find_map(|line| line.strip_prefix(&count));
    line.map_or(0, |count| count.parse().unwrap())
}

/// The collector answers only when the test ends, so that a call that waited for it would as well.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_hangs_delays_no_call_and_not_the_end_for_long() {
    let (collector, address) = Collector::hanging().await;
    let config = TelemetryConfig {
        queue: 8,
        export_timeout: Span(Duration::from_millis(200)),
        ..told(address)
    };
    let (telemetry, sender) = opened(&config);
    let door = door(&telemetry);
    let calls = async {
        assert_eq!(get(&door).await, Code::Ok);
        collector.asked().await;
        for _ in 0..100 {
            assert_eq!(get(&door).await, Code::Ok);
        }
        sender.end().await;
    };
    tokio::time::timeout(PATIENCE, calls).await.unwrap();
    assert!(lost(&telemetry, "traces") > 0);
    assert_eq!(collector.spans(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_collector_that_is_down_does_not_get_is_counted() {
    // Nobody listens there any more.
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let config = TelemetryConfig {
        export_timeout: Span(Duration::from_secs(2)),
        ..told(address)
    };
    let (telemetry, sender) = opened(&config);
    let door = door(&telemetry);
    assert_eq!(get(&door).await, Code::Ok);
    tokio::time::timeout(PATIENCE, sender.end()).await.unwrap();
    assert_eq!(lost(&telemetry, "traces"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_export_has_the_headers_of_the_file_and_says_who_sends_it() {
    let (collector, address) = Collector::start().await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"authorization: Bearer s3cret\n").unwrap();
    let more = ("deployment.environment.name".to_owned(), "prod".to_owned());
    let config = TelemetryConfig {
        headers_file: Some(file.path().to_owned()),
        service_name: "gateway-a".to_owned(),
        resource_attributes: [more].into(),
        metrics: false,
        ..told(address)
    };
    let (telemetry, sender) = opened(&config);
    assert_eq!(get(&door(&telemetry)).await, Code::Ok);
    sender.end().await;
    assert_eq!(collector.header("authorization").unwrap(), "Bearer s3cret");
    let resources = collector.resources();
    let said = |key: &str| attribute(&resources[0].attributes, key).unwrap();
    assert_eq!(said("service.name"), "gateway-a");
    assert_eq!(said("service.version"), env!("CARGO_PKG_VERSION"));
    assert_eq!(said("deployment.environment.name"), "prod");
    assert!(!said("service.instance.id").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_gets_the_metrics_of_the_page_under_opentelemetrys_names() {
    let (collector, address) = Collector::start().await;
    let (telemetry, sender) = opened(&told(address));
    assert_eq!(get(&door(&telemetry)).await, Code::Ok);
    sender.end().await;
    let received = collector.metrics();
    let scopes = received.iter().flat_map(|of| &of.scope_metrics);
    let names: Vec<_> = scopes
        .flat_map(|scope| &scope.metrics)
        .map(|metric| metric.name.as_str())
        .collect();
    for name in [
        "grpc.server.call.started",
        "grpc.server.call.duration",
        "rpc.server.call.duration",
        "proton_gateway_calls",
        "process_resident_memory",
    ] {
        assert!(names.contains(&name), "{name} is not in {names:?}");
    }
}

#[tokio::test]
async fn without_a_collector_nothing_sends_and_no_call_is_recorded() {
    let (telemetry, sender) = otlp::open(&TelemetryConfig::default()).unwrap();
    assert!(sender.is_none());
    let headers = http::HeaderMap::new();
    let mut arrival = proton_gateway::edge::Arrival::default();
    let path = format!("/{GET_ENVIRONMENT}");
    drop(telemetry.grpc(&path, &headers, &mut arrival));
    assert!(arrival.trace.ids().is_none());
}
