//! The spans of calls: which there are, what they say, and to which others they link.

use std::sync::Arc;

use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use proton_gateway::admission::Guards;
use proton_gateway::api::{Response, pb};
use proton_gateway::cache::Cache;
use proton_gateway::cache::coherence::Coherence;
use proton_gateway::config::cache::CacheConfig;
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::limits::Limiter;
use proton_gateway::pipeline::hits::Hits;
use proton_gateway::pipeline::{self, Extras};
use tokio::sync::Semaphore;
use tonic::Code;

use crate::collector::{Collector, attribute, tops, tree};
use crate::*;

/// A door whose answers are kept, over a backend that answers as often as `answers` says.
struct World {
    door: Door,
    collector: Collector,
    sender: Sender,
    answers: Arc<Semaphore>,
}

impl World {
    async fn new() -> Self {
        let (collector, address) = Collector::start().await;
        let (telemetry, sender) = opened(&told(address));
        let metrics = telemetry.metrics.clone();
        let answers = Arc::new(Semaphore::new(0));
        let allowed = Arc::clone(&answers);
        let backend = tower::service_fn(move |call: Call| {
            let allowed = Arc::clone(&allowed);
            async move {
                let _attempt = call.trace.step("backend");
                allowed.acquire().await.unwrap().forget();
                let environment = pb::Environment {
                    name: call.request.name(),
                    deployment_status: pb::DeploymentStatus::Succeeded.into(),
                    ..pb::Environment::default()
                };
                match environment.name.as_deref() {
                    Some("broken") => Err(Error::new(ErrorKind::OutcomeUnknown, "broken")),
                    _ => Ok(Reply::new(Response::GetEnvironment(
                        pb::GetEnvironmentResponse {
                            environment: Some(environment),
                        },
                    ))),
                }
            }
        });
        let config = CacheConfig {
            enabled: true,
            ..CacheConfig::default()
        };
        let cache = Cache::new(&config, Coherence::observed(), metrics.clone()).unwrap();
        let limits = "read = { rate = \"1/h\", burst = 4 }";
        let guards = Guards {
            limiter: Limiter::new(&toml::from_str(limits).unwrap(), metrics.clone()),
            ..Guards::default()
        };
        let extras = Extras {
            cache: Some(cache.clone()),
            ..Extras::default()
        };
        let pipeline = pipeline::build_with(backend, metrics.clone(), &guards, extras);
        let hits = Hits::new(cache, guards.clone(), metrics);
        let gateway = Gateway::new(pipeline)
            .guarded_by(guards)
            .with_hits(Some(hits));
        Self {
            door: Door::to(gateway, &telemetry),
            collector,
            sender,
            answers,
        }
    }

    async fn get(&self, name: &str, headers: &[(&'static str, &str)]) -> Code {
        let request = pb::GetEnvironmentRequest {
            name: name.to_owned(),
        };
        self.door.send(GET_ENVIRONMENT, &request, headers).await
    }

    /// Everything that was told.
    async fn spans(self) -> Vec<Span> {
        self.sender.end().await;
        self.collector.spans()
    }
}

#[tokio::test]
async fn a_read_is_answered_by_the_backend_then_by_the_cache_and_then_at_the_door() {
    let world = World::new().await;
    world.answers.add_permits(1);
    for _ in 0..3 {
        assert_eq!(world.get("prod", &[]).await, Code::Ok);
    }
    let spans = world.spans().await;
    let calls = tops(&spans);
    let trees: Vec<_> = calls.iter().map(|call| tree(&spans, call)).collect();
    assert_eq!(
        trees,
        [
            format!("{GET_ENVIRONMENT}(limit, cache, backend)"),
            format!("{GET_ENVIRONMENT}(limit, cache)"),
            GET_ENVIRONMENT.to_owned(),
        ]
    );
    let said = |key| -> Vec<_> {
        let said = calls.iter().map(|call| attribute(&call.attributes, key));
        said.map(Option::unwrap_or_default).collect()
    };
    assert_eq!(said("proton.cache"), ["miss", "hit", "hit"]);
    assert_eq!(said("rpc.system.name"), ["grpc"; 3]);
    assert_eq!(said("rpc.method"), [GET_ENVIRONMENT; 3]);
    assert_eq!(said("rpc.response.status_code"), ["OK"; 3]);
    let server = SpanKind::Server as i32;
    assert!(calls.iter().all(|call| call.kind == server));
}

#[tokio::test]
async fn a_call_that_waits_for_the_read_of_another_links_to_it() {
    let world = World::new().await;
    let first = world.get("prod", &[]);
    let second = world.get("prod", &[]);
    let (first, second, ()) = tokio::join!(biased; first, second, async {
        world.answers.add_permits(1);
    });
    assert_eq!((first, second), (Code::Ok, Code::Ok));
    let spans = world.spans().await;
    let calls = tops(&spans);
    let cache = |call: &Span| attribute(&call.attributes, "proton.cache").unwrap();
    let (leader, follower) = (&calls[0], &calls[1]);
    assert_eq!(
        (cache(leader), cache(follower)),
        ("miss".to_owned(), "coalesced".to_owned())
    );
    assert!(leader.links.is_empty());
    let [link] = &follower.links[..] else {
        panic!("{:?}", follower.links);
    };
    assert_eq!(link.trace_id, leader.trace_id);
    assert_eq!(link.span_id, leader.span_id);
}

#[tokio::test]
async fn a_call_is_part_of_its_callers_trace() {
    let world = World::new().await;
    world.answers.add_permits(1);
    let header = parent(true);
    let headers = [("traceparent", header.as_str()), ("tracestate", "a=1")];
    assert_eq!(world.get("prod", &headers).await, Code::Ok);
    let spans = world.spans().await;
    let [call] = &tops(&spans)[..] else {
        panic!("{spans:?}");
    };
    assert_eq!(hex::encode(&call.trace_id), TRACE);
    assert_eq!(hex::encode(&call.parent_span_id), SPAN);
    assert_eq!(call.trace_state, "a=1");
    assert!(spans.iter().all(|span| span.trace_id == call.trace_id));
}

#[tokio::test]
async fn of_a_call_that_its_caller_does_not_record_nothing_is_told() {
    let world = World::new().await;
    world.answers.add_permits(1);
    let header = parent(false);
    let headers = [("traceparent", header.as_str())];
    assert_eq!(world.get("prod", &headers).await, Code::Ok);
    assert_eq!(world.spans().await, []);
}

#[tokio::test]
async fn a_failure_and_a_refusal_say_why() {
    let world = World::new().await;
    world.answers.add_permits(9);
    assert_eq!(world.get("broken", &[]).await, Code::Unknown);
    for _ in 0..3 {
        assert_eq!(
            world.get("prod", &[("cache-control", "no-cache")]).await,
            Code::Ok
        );
    }
    let refused = world.get("prod", &[("cache-control", "no-cache")]).await;
    assert_eq!(refused, Code::ResourceExhausted);
    let spans = world.spans().await;
    let calls = tops(&spans);
    let said = |call: &Span, key: &str| attribute(&call.attributes, key).unwrap_or_default();
    let (failed, refused) = (&calls[0], &calls[4]);
    assert_eq!(said(failed, "error.type"), "UNKNOWN");
    assert_eq!(said(failed, "proton.outcome"), "OUTCOME_UNKNOWN");
    assert_eq!(failed.status.as_ref().unwrap().code, 2);
    assert_eq!(said(refused, "proton.limit"), "caller/read");
    // It is the caller's fault, and not the gateway's.
    assert_eq!(refused.status.as_ref().map_or(0, |status| status.code), 0);
    assert_eq!(tree(&spans, refused), format!("{GET_ENVIRONMENT}(limit)"));
}

#[tokio::test]
async fn an_rpc_that_nobody_knows_has_no_name_of_its_own() {
    let world = World::new().await;
    let request = pb::GetEnvironmentRequest::default();
    let path = "proton.v1.ProtonService/Whatever";
    assert_eq!(
        world.door.send(path, &request, &[]).await,
        Code::Unimplemented
    );
    let spans = world.spans().await;
    let names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!(names, ["other"]);
}
