//! What an upstream is told of the traces of calls, and what is told of the attempts.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use http::{HeaderMap, Response, StatusCode};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proton_gateway::admission::Guards;
use proton_gateway::api::pb;
use proton_gateway::backend::aws::Aws;
use proton_gateway::config::retry::RetryConfig;
use proton_gateway::gateway::Gateway;
use proton_gateway::pipeline::{self, Extras};
use proton_gateway::retries::Retries;
use proton_gateway::server;
use tonic::Code;

use crate::collector::{Collector, attribute, tops, tree};
use crate::*;

const THROTTLED: (u16, &str) = (
    400,
    r#"{"__type": "ThrottlingException", "message": "slow"}"#,
);
const CREATED: (u16, &str) = (200, r#"{"serviceInstance": {"name": "blue"}}"#);
const FOUND: (u16, &str) = (200, r#"{"environment": {"name": "prod"}}"#);

/// A door whose calls are forwarded to an upstream that answers these in turn.
struct World {
    door: Door,
    telemetry: Telemetry,
    /// Of the requests that came.
    headers: Arc<Mutex<Vec<HeaderMap>>>,
    _stop: tokio::sync::watch::Sender<bool>,
}

impl World {
    async fn new(telemetry: Telemetry, answers: &'static [(u16, &'static str)]) -> Self {
        let headers = Arc::<Mutex<Vec<_>>>::default();
        let came = Arc::clone(&headers);
        let answer = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let came = Arc::clone(&came);
            async move {
                let turn = {
                    let mut came = came.lock().unwrap();
                    came.push(request.headers().clone());
                    came.len()
                };
                request.into_body().collect().await.unwrap();
                let (code, body) = answers[turn - 1];
                let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                let id = format!("aws-{turn}").parse().unwrap();
                response.headers_mut().insert("x-amzn-requestid", id);
                Ok::<_, Infallible>(response)
            }
        });
        let (stop, shutdown) = Shutdown::channel();
        let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        tokio::spawn(server::serve(listener, answer, shutdown));
        let sdk = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
            .endpoint_url(format!("http://{address}"))
            .load()
            .await;
        let metrics = telemetry.metrics.clone();
        let config = RetryConfig {
            base_pause: Span(Duration::from_millis(1)),
            ..RetryConfig::default()
        };
        let extras = Extras {
            retries: Retries::new(&config, metrics.clone()),
            ..Extras::default()
        };
        let aws = Aws::with_config(&sdk).measured_by(metrics.clone());
        let pipeline = pipeline::build_with(aws, metrics, &Guards::default(), extras);
        Self {
            door: Door::to(Gateway::new(pipeline), &telemetry),
            telemetry,
            headers,
            _stop: stop,
        }
    }

    async fn create(&self, headers: &[(&'static str, &str)]) -> Code {
        let request = pb::CreateServiceInstanceRequest {
            name: "blue".to_owned(),
            service_name: "shop".to_owned(),
            spec: "proton: ServiceSpec".to_owned(),
            ..pb::CreateServiceInstanceRequest::default()
        };
        self.door.send(CREATE_INSTANCE, &request, headers).await
    }

    async fn get(&self, headers: &[(&'static str, &str)]) -> Code {
        let request = pb::GetEnvironmentRequest {
            name: "prod".to_owned(),
        };
        self.door.send(GET_ENVIRONMENT, &request, headers).await
    }

    /// A header of each request that came, if it was there.
    fn sent(&self, name: &str) -> Vec<Option<String>> {
        let headers = self.headers.lock().unwrap();
        let text = |headers: &HeaderMap| Some(headers.get(name)?.to_str().unwrap().to_owned());
        headers.iter().map(text).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_attempt_has_a_span_and_the_upstream_is_told_of_it() {
    let (collector, address) = Collector::start().await;
    let (telemetry, sender) = opened(&told(address));
    let world = World::new(telemetry, &[THROTTLED, CREATED]).await;
    let header = parent(true);
    let headers = [("traceparent", header.as_str()), ("tracestate", "a=1")];
    assert_eq!(world.create(&headers).await, Code::Ok);
    sender.end().await;
    let spans = collector.spans();
    let [call] = &tops(&spans)[..] else {
        panic!("{spans:?}");
    };
    let attempt = "Proton/CreateServiceInstance";
    assert_eq!(
        tree(&spans, call),
        format!("{CREATE_INSTANCE}({attempt}, {attempt})")
    );
    assert_eq!(attribute(&call.attributes, "proton.attempts").unwrap(), "2");
    let mut attempts: Vec<_> = spans.iter().filter(|span| span.name == attempt).collect();
    attempts.sort_by_key(|span| span.start_time_unix_nano);
    let said = |key| {
        attempts
            .iter()
            .map(move |span| attribute(&span.attributes, key))
    };
    let texts = |key| said(key).map(Option::unwrap_or_default).collect::<Vec<_>>();
    assert_eq!(texts("proton.attempt"), ["1", "2"]);
    assert_eq!(texts("aws.request_id"), ["aws-1", "aws-2"]);
    assert_eq!(texts("error.type"), ["THROTTLED_BY_UPSTREAM", ""]);
    assert!(
        attempts
            .iter()
            .all(|span| span.kind == SpanKind::Client as i32)
    );
    let told: Vec<_> = attempts
        .iter()
        .map(|span| Some(format!("00-{TRACE}-{}-01", hex::encode(&span.span_id))))
        .collect();
    assert_eq!(world.sent("traceparent"), told);
    assert_eq!(
        world.sent("tracestate"),
        [Some("a=1".to_owned()), Some("a=1".to_owned())]
    );
    let page = world.telemetry.metrics.page().unwrap();
    for labels in [
        r#"rpc_method="Proton/CreateServiceInstance",rpc_system_name="aws-api""#,
        r#"error_type="THROTTLED_BY_UPSTREAM",rpc_method="Proton/CreateServiceInstance",rpc_system_name="aws-api""#,
    ] {
        let count = format!("rpc_client_call_duration_seconds_count{{{labels}}} 1");
        assert!(page.contains(&count), "{count}\n{page}");
    }
}

#[tokio::test]
async fn a_trace_that_is_not_recorded_here_is_passed_on_as_it_came() {
    let (telemetry, _) = otlp::open(&TelemetryConfig::default()).unwrap();
    let world = World::new(telemetry, &[FOUND; 4]).await;
    for sampled in [true, false] {
        let header = parent(sampled);
        let headers = [("traceparent", header.as_str()), ("tracestate", "a=1,b=2")];
        assert_eq!(world.get(&headers).await, Code::Ok);
    }
    assert_eq!(world.get(&[("traceparent", "00-wrong")]).await, Code::Ok);
    assert_eq!(world.get(&[]).await, Code::Ok);
    let passed = [Some(parent(true)), Some(parent(false)), None, None];
    assert_eq!(world.sent("traceparent"), passed);
    let state = Some("a=1,b=2".to_owned());
    assert_eq!(world.sent("tracestate"), [state.clone(), state, None, None]);
}
