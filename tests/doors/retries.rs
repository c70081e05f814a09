//! Repeats through the SDK, in front of an upstream that fails as the test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use proton_gateway::admission::Guards;
use proton_gateway::api::{Typed, pb};
use proton_gateway::backend::aws::Aws;
use proton_gateway::config::Span;
use proton_gateway::config::retry::RetryConfig;
use proton_gateway::edge::Arrival;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::status;
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::gateway::{Call, Door, Gateway};
use proton_gateway::pipeline::{self, Extras};
use proton_gateway::retries::Retries;
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use tokio::sync::watch;
use tonic_types::StatusExt;
use tower::ServiceExt;

/// How the upstream takes one attempt.
#[derive(Clone, Copy)]
enum Turn {
    Answer(&'static str),
    Throttle(&'static [(&'static str, &'static str)]),
    Fault,
    Never,
}

const ENVIRONMENT: Turn = Turn::Answer(r#"{"environment": {"name": "prod"}}"#);
const THROTTLED: &str = r#"{"__type": "ThrottlingException", "message": "slow down"}"#;
const FAULT: &str = r#"{"__type": "InternalServerException", "message": "oops"}"#;

struct World {
    gateway: Gateway,
    /// What was sent, as JSON.
    bodies: Arc<Mutex<Vec<serde_json::Value>>>,
    _upstream: watch::Sender<bool>,
}

impl World {
    /// A gateway whose upstream does these things in turn.
    async fn new(turns: &'static [Turn], set: impl FnOnce(&mut RetryConfig)) -> Self {
        let mut config = RetryConfig {
            base_pause: Span(Duration::from_millis(1)),
            ..RetryConfig::default()
        };
        set(&mut config);
        let bodies = Arc::<Mutex<Vec<_>>>::default();
        let sent = Arc::clone(&bodies);
        let answer = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let sent = Arc::clone(&sent);
            async move {
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let turn = {
                    let mut sent = sent.lock().unwrap();
                    sent.push(serde_json::from_slice(&body).unwrap());
                    turns[sent.len() - 1]
                };
                let (code, headers, body) = match turn {
                    Turn::Answer(body) => (200, &[][..], body),
                    Turn::Throttle(headers) => (400, headers, THROTTLED),
                    Turn::Fault => (500, &[][..], FAULT),
                    Turn::Never => std::future::pending().await,
                };
                let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
                *response.status_mut() = StatusCode::from_u16(code).unwrap();
                for (name, value) in headers {
                    let value = http::HeaderValue::from_static(value);
                    response.headers_mut().insert(*name, value);
                }
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
        let aws = Aws::with_config(&sdk).giving_up_after(config.attempt_timeout.0);
        let metrics = Metrics::new().unwrap();
        let extras = Extras {
            retries: Retries::new(&config, metrics.clone()),
            ..Extras::default()
        };
        let pipeline = pipeline::build_with(aws, metrics, &Guards::default(), extras);
        Self {
            gateway: Gateway::new(pipeline),
            bodies,
            _upstream: stop,
        }
    }

    async fn send<T: Typed>(&self, request: T, deadline: Duration) -> Result<T::Response, Error> {
        let arrival = Arrival {
            deadline: Instant::now() + deadline,
            ..Arrival::default()
        };
        let call = Call::new(request.into_request(), Door::Grpc, &arrival);
        let reply = self.gateway.call(call).await?;
        Ok(T::from_response(reply.response).unwrap())
    }

    async fn get(&self) -> Result<pb::GetEnvironmentResponse, Error> {
        self.send(get(), Duration::from_secs(60)).await
    }

    fn sent(&self) -> Vec<serde_json::Value> {
        self.bodies.lock().unwrap().clone()
    }
}

fn get() -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }
}

fn create() -> pb::CreateServiceInstanceRequest {
    pb::CreateServiceInstanceRequest {
        name: "blue".to_owned(),
        service_name: "shop".to_owned(),
        spec: "proton: ServiceSpec".to_owned(),
        ..pb::CreateServiceInstanceRequest::default()
    }
}

#[tokio::test]
async fn a_call_that_the_upstream_throttles_once_succeeds_after_the_time_that_it_wants() {
    let turns = &[
        Turn::Throttle(&[("x-amz-retry-after", "30"), ("retry-after", "3600")]),
        ENVIRONMENT,
    ];
    let world = World::new(turns, |_| {}).await;
    let start = Instant::now();
    world.get().await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(30));
    assert_eq!(world.sent().len(), 2);
}

#[tokio::test]
async fn a_time_beyond_the_deadline_is_told_to_the_caller_instead_of_waited_for() {
    for (hint, told) in [("7", 7), ("86400", 300), ("soon", 1)] {
        let headers = Box::leak(Box::new([("retry-after", hint)]));
        let turns = Box::leak(Box::new([Turn::Throttle(headers)]));
        let world = World::new(turns, |config| {
            // What is not understood is waited for as if it were not there.
            config.attempts = if hint == "soon" { 1 } else { 3 };
        })
        .await;
        let error = world.send(get(), Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.retry_after(), Some(Duration::from_secs(told)));
        assert_eq!(world.sent().len(), 1, "{hint}");
    }
}

#[tokio::test]
async fn a_hung_attempt_leaves_time_for_another() {
    // Where the machine is busy, more than the first one may be given up.
    let turns = &[
        Turn::Never,
        ENVIRONMENT,
        ENVIRONMENT,
        ENVIRONMENT,
        ENVIRONMENT,
    ];
    let world = World::new(turns, |config| {
        config.attempts = 5;
        config.attempt_timeout = Span(Duration::from_millis(300));
    })
    .await;
    world.get().await.unwrap();
    assert!(world.sent().len() >= 2);
}

#[tokio::test]
async fn each_attempt_of_a_creation_carries_the_same_token_on_the_wire() {
    let turns = &[
        Turn::Fault,
        Turn::Throttle(&[]),
        Turn::Answer(r#"{"serviceInstance": {"name": "blue"}}"#),
    ];
    let world = World::new(turns, |_| {}).await;
    let created = world.send(create(), Duration::from_secs(60)).await.unwrap();
    assert_eq!(
        created.service_instance.unwrap().name.as_deref(),
        Some("blue")
    );
    let sent = world.sent();
    assert_eq!(sent.len(), 3);
    assert!(!sent[0]["clientToken"].as_str().unwrap().is_empty());
    assert!(sent.iter().all(|body| *body == sent[0]), "{sent:?}");
}

#[tokio::test]
async fn a_creation_that_may_have_been_applied_is_not_said_to_be_merely_throttled() {
    let turns = &[Turn::Fault, Turn::Throttle(&[]), Turn::Throttle(&[])];
    let world = World::new(turns, |_| {}).await;
    let error = world
        .send(create(), Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(*error.kind, ErrorKind::OutcomeUnknown, "{error}");
}

/// It has no token, and a second one would be another update.
#[tokio::test]
async fn an_update_whose_answer_was_lost_is_sent_once() {
    let world = World::new(&[Turn::Fault], |_| {}).await;
    let update = pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..pb::UpdateEnvironmentRequest::default()
    };
    let error = world
        .send(update, Duration::from_secs(60))
        .await
        .unwrap_err();
    assert_eq!(*error.kind, ErrorKind::OutcomeUnknown, "{error}");
    assert_eq!((world.sent().len(), error.attempts), (1, 1));
}

#[tokio::test]
async fn both_doors_tell_how_many_attempts_were_made_in_vain() {
    let turns = &[Turn::Fault; 6];
    let world = World::new(turns, |_| {}).await;
    let error = world.get().await.unwrap_err();
    let info = status::of(&error, None, "test").get_details_error_info();
    assert_eq!(info.unwrap().metadata["attempts"], "3");

    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetEnvironment")
        .body(Full::new(Bytes::from_static(br#"{"name":"prod"}"#)))
        .unwrap();
    let door = AwsDoor::new(world.gateway.clone());
    let headers: HeaderMap = door.oneshot(request).await.unwrap().headers().clone();
    assert_eq!(headers["x-proton-gateway-attempts"], "3");
}

#[tokio::test]
async fn one_attempt_is_not_mentioned() {
    let world = World::new(&[Turn::Fault], |config| config.attempts = 1).await;
    let error = world.get().await.unwrap_err();
    let info = status::of(&error, None, "test").get_details_error_info();
    assert!(!info.unwrap().metadata.contains_key("attempts"));
    assert_eq!(world.sent().len(), 1);
}
