//! Who waits, in which order, and for how long.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::task::JoinHandle;

use super::*;
use crate::admission::Guards;
use crate::api::{Request, Response, pb};
use crate::cache::Cache;
use crate::cache::coherence::Coherence;
use crate::config::Span;
use crate::config::cache::CacheConfig;
use crate::edge::Arrival;
use crate::error::ErrorKind;
use crate::etag::{Etag, Expected};
use crate::gateway::{Door, Pipeline};
use crate::pipeline::{Extras, build_with};
use crate::telemetry::Metrics;

const SECOND: Duration = Duration::from_secs(1);

/// An upstream in which each update begins a deployment, unless it says that it begins none.
#[derive(Default)]
struct Upstream {
    /// What was applied, in this order.
    applied: Vec<String>,
    running: Vec<String>,
    attempts: usize,
}

impl Upstream {
    fn answer(&mut self, request: &Request) -> Result<Response> {
        self.attempts += 1;
        match request {
            Request::UpdateEnvironment(update) => {
                if self.running.contains(&update.name) {
                    return Err(Error::in_progress("environment/prod", "it is deployed"));
                }
                self.applied.extend(update.description.clone());
                if update.deployment_type() != pb::DeploymentUpdateType::None {
                    self.running.push(update.name.clone());
                }
                Ok(Response::UpdateEnvironment(Default::default()))
            }
            Request::CancelEnvironmentDeployment(_) => {
                self.applied.push("cancelled".to_owned());
                Ok(Response::CancelEnvironmentDeployment(Default::default()))
            }
            _ => Ok(self.shown()),
        }
    }

    fn shown(&self) -> Response {
        Response::GetEnvironment(pb::GetEnvironmentResponse {
            environment: Some(pb::Environment {
                description: self.applied.last().cloned(),
                ..pb::Environment::default()
            }),
        })
    }
}

struct Bench {
    upstream: Arc<Mutex<Upstream>>,
    changes: Changes,
    order: Order,
    stop: tokio::sync::watch::Sender<bool>,
    pipeline: Pipeline,
}

impl Bench {
    /// In which `prod` is being deployed.
    fn new(set: impl Fn(&mut OrderConfig)) -> Self {
        let mut config = OrderConfig {
            enabled: true,
            ..OrderConfig::default()
        };
        set(&mut config);
        let changes = Changes::default();
        let (stop, shutdown) = Shutdown::channel();
        let order = Order::new(&config, &changes, &shutdown).unwrap();
        let upstream = Arc::new(Mutex::new(Upstream {
            running: vec!["prod".to_owned()],
            ..Upstream::default()
        }));
        let asked = Arc::clone(&upstream);
        let backend = tower::service_fn(move |call: Call| {
            let response = asked.lock().unwrap().answer(&call.request);
            // As one that is far away.
            async move {
                tokio::task::yield_now().await;
                Ok(Reply::new(response?))
            }
        });
        let metrics = Metrics::new().unwrap();
        let cache = CacheConfig {
            enabled: true,
            ..CacheConfig::default()
        };
        let extras = Extras {
            cache: Cache::new(&cache, Coherence::observed(), metrics.clone()),
            order: Some(order.clone()),
            ..Extras::default()
        };
        Self {
            upstream,
            changes,
            order,
            stop,
            pipeline: build_with(backend, metrics, &Guards::default(), extras),
        }
    }

    /// Sends a call, and lets it come as far as it can.
    async fn send(&self, call: Call) -> JoinHandle<Result<Reply>> {
        let sent = tokio::spawn(self.pipeline.clone().oneshot(call));
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
        sent
    }

    async fn all(&self, descriptions: &[&str]) -> Vec<JoinHandle<Result<Reply>>> {
        let mut sent = Vec::new();
        for description in descriptions {
            sent.push(self.send(update("prod", description)).await);
        }
        sent
    }

    /// Ends all deployments.
    fn end(&self) {
        let ended = std::mem::take(&mut self.upstream.lock().unwrap().running);
        for name in ended {
            self.changes.publish(&name);
        }
    }

    fn applied(&self) -> Vec<String> {
        self.upstream.lock().unwrap().applied.clone()
    }
}

fn call(request: Request) -> Call {
    let deadline = (Instant::now() + 60 * SECOND).into_std();
    let arrival = Arrival {
        deadline,
        ..Arrival::default()
    };
    Call::new(request, Door::Grpc, &arrival)
}

fn update_as(name: &str, description: &str, mode: pb::DeploymentUpdateType) -> Call {
    call(Request::UpdateEnvironment(pb::UpdateEnvironmentRequest {
        name: name.to_owned(),
        description: Some(description.to_owned()),
        deployment_type: mode.into(),
        ..Default::default()
    }))
}

fn update(name: &str, description: &str) -> Call {
    update_as(name, description, pb::DeploymentUpdateType::CurrentVersion)
}

fn cancel() -> Call {
    call(Request::CancelEnvironmentDeployment(
        pb::CancelEnvironmentDeploymentRequest {
            environment_name: "prod".to_owned(),
        },
    ))
}

fn within(time: Duration, call: Call) -> Call {
    let deadline = (Instant::now() + time).into_std();
    Call { deadline, ..call }
}

#[track_caller]
fn refused(outcome: Option<std::result::Result<Result<Reply>, tokio::task::JoinError>>) -> Error {
    let error = outcome.expect("an answer").unwrap().unwrap_err();
    assert!(error.is_in_progress(), "{error:?}");
    error
}

#[tokio::test(start_paused = true)]
async fn they_are_applied_in_the_order_in_which_they_came() {
    let bench = Bench::new(|_| {});
    let sent = bench.all(&["a", "b", "c"]).await;
    for done in 0..=3 {
        assert_eq!(bench.applied().len(), done);
        bench.end();
        tokio::time::sleep(SECOND).await;
    }
    assert_eq!(bench.applied(), ["a", "b", "c"]);
    for sent in sent {
        assert!(sent.await.unwrap().is_ok());
    }
    assert!(bench.order.lines.is_empty());
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_while_others_wait_is_not_tried_before_them() {
    let bench = Bench::new(|_| {});
    bench.all(&["a", "b"]).await;
    let attempts = bench.upstream.lock().unwrap().attempts;
    bench.upstream.lock().unwrap().running.clear();
    // Nothing was published, so that nobody has noticed.
    let last = bench.send(update("prod", "c")).await;
    assert_eq!(bench.upstream.lock().unwrap().attempts, attempts);
    for _ in 0..3 {
        tokio::time::sleep(2 * POLL).await;
        bench.end();
    }
    assert!(last.await.unwrap().is_ok());
    assert_eq!(bench.applied(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn news_wake_whoever_waits_and_what_is_not_published_is_polled_for() {
    let bench = Bench::new(|_| {});
    let began = Instant::now();
    let told = bench.send(update("prod", "a")).await;
    tokio::time::sleep(SECOND).await;
    bench.end();
    assert!(told.await.unwrap().is_ok());
    assert_eq!(began.elapsed(), SECOND);
    let untold = bench.send(update("prod", "b")).await;
    tokio::time::sleep(SECOND).await;
    bench.upstream.lock().unwrap().running.clear();
    assert!(untold.await.unwrap().is_ok());
    assert_eq!(began.elapsed(), SECOND + POLL);
}

#[tokio::test(start_paused = true)]
async fn news_without_end_do_not_make_it_try_without_end() {
    let bench = Bench::new(|_| {});
    let _waits = bench.send(update("prod", "a")).await;
    for _ in 0..100 {
        bench.changes.publish("prod");
        tokio::time::sleep(SECOND / 100).await;
    }
    let attempts = bench.upstream.lock().unwrap().attempts;
    assert!((4..=6).contains(&attempts), "{attempts}");
}

#[tokio::test(start_paused = true)]
async fn where_as_many_wait_as_may_the_next_is_refused_at_once() {
    let bench = Bench::new(|config| config.queue = 2);
    let mut sent = bench.all(&["a", "b", "c"]).await;
    let error = refused(sent.pop().unwrap().now_or_never());
    assert!(error.message.contains("environment/prod"), "{error}");
    // Elsewhere there is room.
    let elsewhere = bench.send(update("test", "d")).await;
    assert!(elsewhere.await.unwrap().is_ok());
    bench.end();
    tokio::time::sleep(SECOND).await;
    bench.end();
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.applied(), ["d", "a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn so_is_one_that_would_wait_where_too_many_wait_for_other_resources() {
    let bench = Bench::new(|config| (config.queue, config.total) = (2, 2));
    let waiting = bench.all(&["a", "b"]).await;
    bench.upstream.lock().unwrap().running.push("test".into());
    let error = refused(bench.send(update("test", "c")).await.now_or_never());
    assert!(error.message.contains("other resources"), "{error}");
    for waits in &waiting {
        waits.abort();
    }
    tokio::time::sleep(SECOND).await;
    let waits = bench.send(update("test", "d")).await;
    bench.end();
    assert!(waits.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_no_deployment_have_no_bound() {
    let bench = Bench::new(|config| config.queue = 1);
    bench.end();
    let calls = (0..20).map(|number| {
        let update = update_as("prod", &number.to_string(), pb::DeploymentUpdateType::None);
        bench.pipeline.clone().oneshot(update)
    });
    let outcomes = futures_util::future::join_all(calls).await;
    assert!(outcomes.iter().all(Result::is_ok));
    let expected: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(bench.applied(), expected);
}

#[tokio::test(start_paused = true)]
async fn those_for_whom_there_is_no_room_once_a_deployment_begins_are_the_last() {
    let bench = Bench::new(|config| config.queue = 2);
    bench.end();
    let calls =
        ["a", "b", "c", "d"].map(|name| bench.pipeline.clone().oneshot(update("prod", name)));
    let both = futures_util::future::join(futures_util::future::join_all(calls), async {
        for _ in 0..4 {
            tokio::time::sleep(SECOND).await;
            bench.end();
        }
    });
    let outcomes: Vec<_> = both.await.0.iter().map(Result::is_ok).collect();
    assert_eq!(outcomes, [true, true, true, false]);
    assert_eq!(bench.applied(), ["a", "b", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_no_longer_than_configured_and_says_that_it_has() {
    let bench = Bench::new(|config| config.wait = Span(10 * SECOND));
    let began = Instant::now();
    let mut sent = bench.all(&["a", "b"]).await;
    let behind = refused(Some(sent.pop().unwrap().await));
    let first = refused(Some(sent.pop().unwrap().await));
    assert_eq!(began.elapsed(), 10 * SECOND);
    assert_eq!(first.message, "it is deployed (waited 10 s)");
    assert!(behind.message.contains("waited 10 s"), "{behind}");
    bench.end();
    tokio::time::sleep(10 * SECOND).await;
    assert!(bench.applied().is_empty());
    assert!(bench.order.lines.is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_is_told_so_before_its_own_deadline_has_passed() {
    let bench = Bench::new(|_| {});
    let first = bench.send(within(10 * SECOND, update("prod", "a"))).await;
    let behind = bench.send(within(SECOND, update("prod", "b"))).await;
    refused(Some(behind.await));
    refused(Some(first.await));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_leaves_the_line() {
    let bench = Bench::new(|config| config.queue = 3);
    let sent = bench.all(&["a", "b", "c"]).await;
    sent[0].abort();
    sent[1].abort();
    tokio::time::sleep(SECOND).await;
    let last = bench.send(update("prod", "d")).await;
    bench.end();
    tokio::time::sleep(SECOND).await;
    assert_eq!(bench.applied(), ["c"]);
    bench.end();
    assert!(last.await.unwrap().is_ok());
    assert_eq!(bench.applied(), ["c", "d"]);
    assert!(bench.order.lines.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_ends_work_does_not_wait_for_its_end() {
    let bench = Bench::new(|config| config.queue = 1);
    let _waits = bench.send(update("prod", "a")).await;
    let cancelled = bench.send(cancel()).await;
    assert!(cancelled.now_or_never().unwrap().unwrap().is_ok());
    assert_eq!(bench.applied(), ["cancelled"]);
}

#[tokio::test(start_paused = true)]
async fn while_one_waits_answers_are_kept_and_used() {
    let bench = Bench::new(|_| {});
    let _waits = bench.send(update("prod", "a")).await;
    let mut statuses = Vec::new();
    for _ in 0..2 {
        let name = "prod".to_owned();
        let read = call(Request::GetEnvironment(pb::GetEnvironmentRequest { name }));
        let reply = bench.send(read).await.await.unwrap().unwrap();
        statuses.push(reply.served.unwrap().status.name());
    }
    assert_eq!(statuses, ["miss", "hit"]);
}

#[tokio::test(start_paused = true)]
async fn a_version_is_compared_when_it_is_the_mutations_turn() {
    let bench = Bench::new(|_| {});
    let seen = Etag::of(&bench.upstream.lock().unwrap().shown()).unwrap();
    let expecting = |call: Call| Call {
        expected: Expected::This(seen),
        ..call
    };
    let first = bench.send(expecting(update("prod", "a"))).await;
    let second = bench.send(expecting(update("prod", "b"))).await;
    bench.end();
    assert!(first.await.unwrap().is_ok());
    bench.end();
    let error = second.await.unwrap().unwrap_err();
    assert!(matches!(
        *error.kind,
        ErrorKind::Conflict {
            reason: crate::error::ConflictReason::Stale { .. },
            ..
        }
    ));
    assert_eq!(bench.applied(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn when_the_program_stops_nobody_waits_any_more() {
    let bench = Bench::new(|_| {});
    let sent = bench.all(&["a", "b"]).await;
    let began = Instant::now();
    bench.stop.send(true).unwrap();
    for sent in sent {
        refused(Some(sent.await));
    }
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[test]
fn nobody_waits_unless_it_is_asked_for() {
    let (_stop, shutdown) = Shutdown::channel();
    let order = Order::new(&OrderConfig::default(), &Changes::default(), &shutdown);
    assert!(order.is_none());
}
