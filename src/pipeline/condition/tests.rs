//! Versions over a backend that compares nothing itself.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;
use crate::admission::Guards;
use crate::api::{Request, Response, pb};
use crate::cache::Cache;
use crate::cache::coherence::Coherence;
use crate::config::cache::CacheConfig;
use crate::edge::Arrival;
use crate::error::ErrorKind;
use crate::gateway::Pipeline;
use crate::pipeline::{Extras, build_with};
use crate::telemetry::Metrics;

/// An upstream with one environment.
struct Upstream {
    description: Mutex<String>,
    /// How many updates are let through.
    gate: Semaphore,
    /// What reads fail with.
    fault: Option<Error>,
}

impl Upstream {
    async fn answer(&self, call: Call) -> Result<Reply> {
        let response = match call.request {
            Request::GetEnvironment(_) => match &self.fault {
                Some(fault) => return Err(fault.clone()),
                None => Response::GetEnvironment(pb::GetEnvironmentResponse {
                    environment: Some(self.environment()),
                }),
            },
            Request::UpdateEnvironment(update) => {
                // Others come in between.
                tokio::task::yield_now().await;
                self.gate.acquire().await.unwrap().forget();
                *self.description.lock().unwrap() = update.description.unwrap_or_default();
                Response::UpdateEnvironment(pb::UpdateEnvironmentResponse {
                    environment: Some(self.environment()),
                })
            }
            _ => Response::CancelEnvironmentDeployment(Default::default()),
        };
        Ok(Reply::new(response))
    }

    fn environment(&self) -> pb::Environment {
        pb::Environment {
            description: Some(self.description.lock().unwrap().clone()),
            ..pb::Environment::default()
        }
    }
}

struct Bench {
    upstream: Arc<Upstream>,
    pipeline: Pipeline,
}

impl Bench {
    fn new(gate: usize, fault: Option<Error>) -> Self {
        let upstream = Arc::new(Upstream {
            description: Mutex::new("a".to_owned()),
            gate: Semaphore::new(gate),
            fault,
        });
        let asked = Arc::clone(&upstream);
        let backend = tower::service_fn(move |call| {
            let upstream = Arc::clone(&asked);
            async move { upstream.answer(call).await }
        });
        let metrics = Metrics::new().unwrap();
        let config = CacheConfig {
            enabled: true,
            ..CacheConfig::default()
        };
        let extras = Extras {
            cache: Cache::new(&config, Coherence::observed(), metrics.clone()),
            ..Extras::default()
        };
        Self {
            upstream,
            pipeline: build_with(backend, metrics, &Guards::default(), extras),
        }
    }

    async fn send(&self, call: Call) -> Result<Reply> {
        self.pipeline.clone().oneshot(call).await
    }

    async fn seen(&self) -> Etag {
        self.send(get()).await.unwrap().etag.unwrap()
    }

    fn description(&self) -> String {
        self.upstream.description.lock().unwrap().clone()
    }
}

fn call(request: Request, expected: Expected) -> Call {
    let arrival = Arrival {
        expected,
        ..Arrival::default()
    };
    Call::new(request, Door::Grpc, &arrival)
}

fn get() -> Call {
    let name = "prod".to_owned();
    let request = Request::GetEnvironment(pb::GetEnvironmentRequest { name });
    call(request, Expected::Any)
}

fn update(description: &str, expected: Expected) -> Call {
    let request = Request::UpdateEnvironment(pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        description: Some(description.to_owned()),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..Default::default()
    });
    call(request, expected)
}

#[tokio::test]
async fn of_many_that_have_seen_the_same_exactly_one_is_applied() {
    let bench = Bench::new(50, None);
    let seen = Expected::This(bench.seen().await);
    let outcomes =
        join_all((0..50).map(|number| bench.send(update(&number.to_string(), seen)))).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
}

#[tokio::test]
async fn one_that_compares_waits_for_those_that_do_not() {
    let bench = Bench::new(0, None);
    let seen = Expected::This(bench.seen().await);
    let mut unconditional = Box::pin(bench.send(update("b", Expected::Any)));
    assert!((&mut unconditional).now_or_never().is_none());
    let mut conditional = Box::pin(bench.send(update("c", seen)));
    assert!((&mut conditional).now_or_never().is_none());
    bench.upstream.gate.add_permits(2);
    assert!(unconditional.await.is_ok());
    assert!(conditional.await.unwrap_err().current_version().is_some());
    assert_eq!(bench.description(), "b");
}

#[tokio::test]
async fn one_whose_caller_has_gone_away_is_seen_through_before_the_next_compares() {
    let bench = Bench::new(0, None);
    let seen = Expected::This(bench.seen().await);
    let mut gone = Box::pin(bench.send(update("b", seen)));
    for _ in 0..10 {
        assert!((&mut gone).now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(gone);
    let mut next = Box::pin(bench.send(update("c", seen)));
    assert!((&mut next).now_or_never().is_none());
    bench.upstream.gate.add_permits(2);
    assert!(next.await.unwrap_err().current_version().is_some());
    assert_eq!(bench.description(), "b");
}

#[tokio::test]
async fn nothing_is_changed_where_the_subject_cannot_be_read() {
    let retry_after = Duration::from_secs(1);
    let fault = Error::new(ErrorKind::Unavailable { retry_after }, "it is down");
    let bench = Bench::new(1, Some(fault.clone()));
    let seen = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
    let error = bench
        .send(update("b", Expected::This(seen)))
        .await
        .unwrap_err();
    assert_eq!(error.kind, fault.kind);
    assert!(error.message.contains("nothing was changed"), "{error}");
    assert_eq!(bench.description(), "a");
}

#[tokio::test]
async fn what_is_kept_has_its_version() {
    let bench = Bench::new(1, None);
    let first = bench.send(get()).await.unwrap();
    let second = bench.send(get()).await.unwrap();
    assert_eq!(second.served.unwrap().status.name(), "hit");
    assert_eq!(second.etag, first.etag);
    assert!(first.etag.is_some());
}

#[tokio::test]
async fn a_version_is_compared_with_what_is_there_and_not_with_what_is_kept() {
    let bench = Bench::new(1, None);
    let seen = bench.seen().await;
    *bench.upstream.description.lock().unwrap() = "b".to_owned();
    assert_eq!(bench.seen().await, seen);
    let error = bench
        .send(update("c", Expected::This(seen)))
        .await
        .unwrap_err();
    assert!(error.current_version().is_some_and(|now| now != seen));
    assert_eq!(bench.description(), "b");
}

#[tokio::test]
async fn a_cancellation_waits_for_nobody() {
    let bench = Bench::new(0, None);
    let seen = Expected::This(bench.seen().await);
    let mut conditional = Box::pin(bench.send(update("b", seen)));
    assert!((&mut conditional).now_or_never().is_none());
    let environment_name = "prod".to_owned();
    let cancel = Request::CancelEnvironmentDeployment(pb::CancelEnvironmentDeploymentRequest {
        environment_name,
    });
    let cancelled = bench.send(call(cancel, Expected::Any)).now_or_never();
    assert!(cancelled.unwrap().is_ok());
}

#[tokio::test]
async fn no_lock_is_left_when_nobody_has_it_or_waits_for_it() {
    let locks = Locks::default();
    let key = || Key::of(&update("b", Expected::Any)).unwrap();
    let alone = locks.alone(key()).await;
    assert!(locks.shared(key()).now_or_never().is_none());
    drop(alone);
    let (one, other) = (locks.shared(key()).await, locks.shared(key()).await);
    assert!(!locks.is_empty());
    drop((one, other));
    assert!(locks.is_empty());
}
