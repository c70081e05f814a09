//! Idempotency keys at the doors: how they are given, and how an outcome that is told again is
//! known.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use http::{HeaderMap, Request};
use http_body_util::Full;
use pb::proton_service_client::ProtonServiceClient;
use proton_gateway::backend::aws::Aws;
use proton_gateway::backend::engine::store::Store;
use proton_gateway::clock::SystemClock;
use proton_gateway::config::idempotency::IdempotencyConfig;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::ledger::Ledger;
use proton_gateway::limits::Limiter;
use proton_gateway::pipeline::Extras;
use proton_gateway::server;
use proton_gateway::upstream::Identities;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::*;

const REPLAYED: &str = "idempotency-replayed";

/// A gateway that keeps keys, and how often its backend was asked for a mutation.
async fn keeping(outcome: Result<Response, Error>) -> (Gateway, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let backend = tower::service_fn(move |call: Call| {
        let outcome = outcome.clone();
        if call.operation.name() == "CreateEnvironmentTemplate" {
            counted.fetch_add(1, Ordering::Relaxed);
        }
        async move { outcome.map(Reply::new) }
    });
    let (store, config) = (Store::in_memory().unwrap(), IdempotencyConfig::default());
    let ledger = Ledger::open(store, &config, None, Arc::new(SystemClock), false).await;
    let extras = Extras {
        ledger: Some(ledger.unwrap()),
        ..Extras::default()
    };
    let metrics = Metrics::new().unwrap();
    let pipeline = pipeline::build_with(backend, metrics, &Guards::default(), extras);
    (Gateway::new(pipeline), asked)
}

fn made() -> Response {
    Response::CreateEnvironmentTemplate(pb::CreateEnvironmentTemplateResponse {
        environment_template: Some(pb::EnvironmentTemplate {
            name: Some("bus".to_owned()),
            ..Default::default()
        }),
    })
}

async fn grpc(gateway: &Gateway, keys: &[&str], name: &str) -> Result<HeaderMap, Status> {
    let door = grpc_door::routes(gateway.clone(), waits(gateway.clone()), Health::default());
    let mut request = tonic::Request::new(pb::CreateEnvironmentTemplateRequest {
        name: name.to_owned(),
        ..Default::default()
    });
    for key in keys {
        let key = key.parse().unwrap();
        request.metadata_mut().append("idempotency-key", key);
    }
    let answer = ProtonServiceClient::new(door.unwrap())
        .create_environment_template(request)
        .await?;
    Ok(answer.metadata().clone().into_headers())
}

async fn aws(gateway: &Gateway, key: &str, name: &str) -> (u16, HeaderMap) {
    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header(
            "x-amz-target",
            "AwsProton20200720.CreateEnvironmentTemplate",
        )
        .header("idempotency-key", key)
        .body(Full::new(bytes::Bytes::from(format!(
            r#"{{"name":"{name}"}}"#
        ))))
        .unwrap();
    let answer = AwsDoor::new(gateway.clone()).oneshot(request).await;
    let answer = answer.unwrap();
    (answer.status().as_u16(), answer.headers().clone())
}

#[tokio::test]
async fn a_reply_that_is_told_again_says_so_on_both_doors() {
    let (gateway, asked) = keeping(Ok(made())).await;
    assert!(
        !grpc(&gateway, &["k"], "bus")
            .await
            .unwrap()
            .contains_key(REPLAYED)
    );
    let again = grpc(&gateway, &["k"], "bus").await.unwrap();
    assert_eq!(again[REPLAYED], "true");
    // The doors lead to the same place.
    let (status, again) = aws(&gateway, "k", "bus").await;
    assert_eq!((status, again[REPLAYED].to_str().unwrap()), (200, "true"));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_refusal_that_is_told_again_says_so_on_both_doors() {
    let refusal = Error::precondition("environment-template/bus", "delete it first");
    let (gateway, asked) = keeping(Err(refusal)).await;
    let (status, first) = aws(&gateway, "k", "bus").await;
    assert_eq!((status, first.contains_key(REPLAYED)), (400, false));
    let (status, again) = aws(&gateway, "k", "bus").await;
    assert_eq!((status, again[REPLAYED].to_str().unwrap()), (400, "true"));
    let again = grpc(&gateway, &["k"], "bus").await.unwrap_err();
    assert_eq!(again.code(), Code::FailedPrecondition);
    assert_eq!(again.metadata().get(REPLAYED).unwrap(), "true");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_key_of_another_request_is_refused_on_both_doors() {
    let (gateway, asked) = keeping(Ok(made())).await;
    grpc(&gateway, &["k"], "bus").await.unwrap();
    let refused = grpc(&gateway, &["k"], "tram").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let (status, headers) = aws(&gateway, "k", "tram").await;
    assert_eq!(status, 400);
    assert_eq!(headers["x-amzn-errortype"], "ValidationException");
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_refused_and_nothing_is_done() {
    let (gateway, asked) = keeping(Ok(made())).await;
    for keys in [&["a", "b"][..], &[""]] {
        let refused = grpc(&gateway, keys, "bus").await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{keys:?}");
        assert!(refused.message().contains("idempotency-key"), "{refused}");
    }
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_gateway_that_keeps_no_keys_refuses_them() {
    let gateway = gateway_with(Ok(made()));
    let refused = grpc(&gateway, &["k"], "bus").await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("[idempotency]"), "{refused}");
}

#[tokio::test]
async fn a_call_under_a_key_that_its_caller_gave_up_still_takes_its_place() {
    let (release, released) = tokio::sync::watch::channel(false);
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let backend = tower::service_fn(move |_: Call| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut released = released.clone();
        async move {
            released.wait_for(|released| *released).await.unwrap();
            Ok(Reply::new(made()))
        }
    });
    let (store, config) = (Store::in_memory().unwrap(), IdempotencyConfig::default());
    let ledger = Ledger::open(store, &config, None, Arc::new(SystemClock), false).await;
    let extras = Extras {
        ledger: Some(ledger.unwrap()),
        ..Extras::default()
    };
    let metrics = Metrics::new().unwrap();
    let guards = Guards {
        limiter: Limiter::new(&toml::from_str("calls = 1").unwrap(), metrics.clone()),
        ..Guards::default()
    };
    let pipeline = pipeline::build_with(backend, metrics, &guards, extras);
    let gateway = Gateway::new(pipeline).guarded_by(guards);
    {
        let given_up = grpc(&gateway, &["k"], "bus");
        tokio::pin!(given_up);
        while asked.load(Ordering::Relaxed) == 0 {
            tokio::select! {
                biased;
                _ = &mut given_up => panic!("nothing answers"),
                () = tokio::task::yield_now() => {}
            }
        }
    }
    let refused = grpc(&gateway, &["other"], "bus").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    release.send_replace(true);
    while grpc(&gateway, &["other"], "bus").await.is_err() {
        tokio::task::yield_now().await;
    }
}

/// A gateway before an upstream that says of its first call that it has failed, and what the
/// upstream got: the key and the signature of each call.
async fn before_one_that_keeps_keys() -> (Gateway, Arc<Mutex<Vec<(String, String)>>>) {
    let got = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&got);
    let answer = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
        let header = |name| {
            let value = request.headers().get(name).cloned();
            value.map_or_else(String::new, |it| it.to_str().unwrap().to_owned())
        };
        let mut seen = seen.lock().unwrap();
        seen.push((header("idempotency-key"), header("authorization")));
        let status = if seen.len() == 1 { 500 } else { 200 };
        let mut response = http::Response::new(Full::new(bytes::Bytes::from("{}")));
        *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
        async move { Ok::<_, std::convert::Infallible>(response) }
    });
    let (stop, shutdown) = Shutdown::channel();
    std::mem::forget(stop);
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(server::serve(listener, answer, shutdown));
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(format!("http://{address}"))
        .load()
        .await;
    let (store, config_of_keys) = (Store::in_memory().unwrap(), IdempotencyConfig::default());
    let clock = Arc::new(SystemClock);
    let ledger = Ledger::open(store, &config_of_keys, None, clock, false).await;
    let extras = Extras {
        ledger: Some(ledger.unwrap()),
        ..Extras::default()
    };
    let guards = Guards {
        identities: Identities::default().with_keepers([None].into()),
        ..Guards::default()
    };
    let (backend, metrics) = (Aws::with_config(&config), Metrics::new().unwrap());
    let pipeline = pipeline::build_with(backend, metrics, &guards, extras);
    (Gateway::new(pipeline), got)
}

#[tokio::test]
async fn an_upstream_that_keeps_keys_is_asked_again_under_the_same_key_for_what_may_act_twice() {
    let (gateway, got) = before_one_that_keeps_keys().await;
    let report = |key: &'static str| {
        let gateway = gateway.clone();
        async move {
            let door = grpc_door::routes(gateway.clone(), waits(gateway), Health::default());
            let mut request =
                tonic::Request::new(pb::NotifyResourceDeploymentStatusChangeRequest {
                    resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/bus".into(),
                    ..Default::default()
                });
            let key = key.parse().unwrap();
            request.metadata_mut().insert("idempotency-key", key);
            let mut client = ProtonServiceClient::new(door.unwrap());
            client
                .notify_resource_deployment_status_change(request)
                .await
        }
    };
    let lost = report("k").await.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost}");
    report("k").await.unwrap();
    report("k").await.unwrap();
    report("l").await.unwrap();
    let got = got.lock().unwrap();
    let keys: Vec<_> = got.iter().map(|(key, _)| key.as_str()).collect();
    // What is known is not asked again.
    let [first, again, other] = keys[..] else {
        panic!("{keys:?}");
    };
    assert!(
        first.len() == 43 && first == again && first != other,
        "{keys:?}"
    );
    let signed = |(_, signature): &(String, String)| signature.contains("idempotency-key");
    assert!(got.iter().all(signed), "{got:?}");
}
