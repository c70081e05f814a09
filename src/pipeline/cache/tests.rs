//! What is kept, for whom, and until when.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::admission::Guards;
use crate::api::{Request, Response, pb};
use crate::auth::Principal;
use crate::auth::policy::Authorizer;
use crate::cache::coherence::{Coherence, DOUBT};
use crate::cache::demand::Demand;
use crate::config::Span;
use crate::config::cache::CacheConfig;
use crate::edge::Arrival;
use crate::gateway::Pipeline;
use crate::telemetry::Metrics;
use crate::upstream::Identity;

/// How the upstream takes a call.
enum Turn {
    Fail(Error),
    /// It sees the state at once, and answers when it is told to.
    Held(oneshot::Receiver<()>),
    Never,
    Panic,
}

/// An upstream with one environment, whose description is the number of its state.
#[derive(Default)]
struct Upstream {
    turns: Mutex<VecDeque<Turn>>,
    state: AtomicUsize,
    under_way: std::sync::atomic::AtomicBool,
    asked: AtomicUsize,
}

impl Upstream {
    async fn answer(&self, call: Call) -> Result<Reply> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let turn = self.turns.lock().unwrap().pop_front();
        let mutates = call.operation.policy().idempotency != Idempotency::Read;
        if mutates {
            self.state.fetch_add(1, Ordering::SeqCst);
        }
        let state = self.state.load(Ordering::SeqCst);
        match turn {
            None => {}
            Some(Turn::Fail(error)) => return Err(error),
            Some(Turn::Held(release)) => drop(release.await),
            Some(Turn::Never) => std::future::pending().await,
            Some(Turn::Panic) => panic!("a defect"),
        }
        let status = match self.under_way.load(Ordering::SeqCst) {
            true => pb::DeploymentStatus::InProgress,
            false => pb::DeploymentStatus::Succeeded,
        };
        let environment = pb::Environment {
            description: Some(state.to_string()),
            deployment_status: status.into(),
            ..pb::Environment::default()
        };
        let response = match call.request {
            Request::UpdateEnvironment(_) => {
                Response::UpdateEnvironment(pb::UpdateEnvironmentResponse::default())
            }
            _ => Response::GetEnvironment(pb::GetEnvironmentResponse {
                environment: Some(environment),
            }),
        };
        Ok(Reply {
            upstream_request_id: Some("aws-1".to_owned()),
            ..Reply::new(response)
        })
    }
}

#[derive(Clone)]
struct Bench {
    cache: Option<Cache>,
    upstream: Arc<Upstream>,
    pipeline: Pipeline,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| {}, Coherence::observed(), &Guards::default())
    }

    fn with(set: impl Fn(&mut CacheConfig), coherence: Coherence, guards: &Guards) -> Self {
        let mut config = CacheConfig {
            enabled: true,
            ..CacheConfig::default()
        };
        set(&mut config);
        let upstream = Arc::new(Upstream::default());
        let asked = Arc::clone(&upstream);
        let backend = tower::service_fn(move |call| {
            let upstream = Arc::clone(&asked);
            async move { upstream.answer(call).await }
        });
        let metrics = Metrics::new().unwrap();
        let cache = Cache::new(&config, coherence, metrics.clone());
        let extras = crate::pipeline::Extras {
            cache: cache.clone(),
            ..Default::default()
        };
        let pipeline = crate::pipeline::build_with(backend, metrics.clone(), guards, extras);
        Self {
            cache,
            upstream,
            pipeline,
            metrics,
        }
    }

    async fn send(&self, call: Call) -> Result<Reply> {
        self.pipeline.clone().oneshot(call).await
    }

    /// What a read sees, and whence.
    async fn get(&self) -> (String, &'static str) {
        seen(self.send(get()).await)
    }

    fn spawn(&self, call: Call) -> JoinHandle<Result<Reply>> {
        let bench = self.clone();
        tokio::spawn(async move { bench.send(call).await })
    }

    /// The same, once it has reached the upstream.
    async fn begin(&self, call: Call) -> JoinHandle<Result<Reply>> {
        let before = self.asked();
        let begun = self.spawn(call);
        while self.asked() == before {
            tokio::task::yield_now().await;
        }
        begun
    }

    fn next(&self, turn: Turn) {
        self.upstream.turns.lock().unwrap().push_back(turn);
    }

    fn hold(&self) -> oneshot::Sender<()> {
        let (release, held) = oneshot::channel();
        self.next(Turn::Held(held));
        release
    }

    fn asked(&self) -> usize {
        self.upstream.asked.load(Ordering::SeqCst)
    }

    fn purge(&self) -> u64 {
        self.cache.as_ref().unwrap().purge()
    }

    /// Somebody else changes the environment.
    fn change(&self) {
        self.upstream.state.fetch_add(1, Ordering::SeqCst);
    }
}

fn call(request: Request) -> Call {
    let arrival = Arrival {
        deadline: (Instant::now() + DEFAULT_DEADLINE).into_std(),
        ..Arrival::default()
    };
    Call::new(request, Door::Grpc, &arrival)
}

fn get() -> Call {
    call(Request::GetEnvironment(pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }))
}

fn demanding(demand: Demand) -> Call {
    Call { demand, ..get() }
}

fn update() -> Call {
    call(Request::UpdateEnvironment(pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..pb::UpdateEnvironmentRequest::default()
    }))
}

fn seen(outcome: Result<Reply>) -> (String, &'static str) {
    let reply = outcome.unwrap();
    let Response::GetEnvironment(found) = reply.response else {
        panic!("not an environment");
    };
    let state = found.environment.unwrap().description.unwrap();
    (state, reply.served.unwrap().status.name())
}

fn at(state: usize, status: &'static str) -> (String, &'static str) {
    (state.to_string(), status)
}

async fn pass(seconds: f64) {
    tokio::time::advance(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_read_is_a_hit_until_its_time_is_over_give_or_take_a_tenth() {
    let bench = Bench::new();
    assert_eq!(bench.get().await, at(0, "miss"));
    bench.change();
    pass(1.79).await;
    let hit = bench.send(get()).await.unwrap();
    assert_eq!(hit.served.unwrap().age, Duration::from_millis(1790));
    assert_eq!(hit.upstream_request_id, None);
    assert_eq!(seen(Ok(hit)), at(0, "hit"));
    pass(0.42).await;
    assert_eq!(bench.get().await, at(1, "miss"));
    let page = bench.metrics.page().unwrap();
    assert!(
        page.contains(r#"proton_gateway_cache_total{status="hit"} 1"#),
        "{page}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_under_way_is_not_kept_and_ends_what_was() {
    let bench = Bench::new();
    bench.get().await;
    bench.upstream.under_way.store(true, Ordering::SeqCst);
    let fresh = bench.send(demanding(Demand::FRESH)).await;
    assert_eq!(seen(fresh), at(0, "miss"));
    assert_eq!(bench.get().await, at(0, "miss"));
    assert_eq!(bench.get().await, at(0, "miss"));
}

#[tokio::test(start_paused = true)]
async fn an_older_read_never_takes_the_place_of_a_later_one() {
    for later_is_kept in [true, false] {
        let bench = Bench::new();
        let release = bench.hold();
        let older = bench.begin(get()).await;
        pass(0.1).await;
        bench.change();
        bench
            .upstream
            .under_way
            .store(!later_is_kept, Ordering::SeqCst);
        let later = bench.send(demanding(Demand::FRESH)).await;
        assert_eq!(seen(later), at(1, "miss"));
        bench.upstream.under_way.store(false, Ordering::SeqCst);
        // Nobody joins it any more either.
        let status = if later_is_kept { "hit" } else { "miss" };
        assert_eq!(bench.get().await, at(1, status));
        release.send(()).unwrap();
        assert_eq!(seen(older.await.unwrap()), at(0, "miss"));
        assert_eq!(bench.get().await, at(1, "hit"));
    }
}

#[tokio::test(start_paused = true)]
async fn that_something_does_not_exist_is_kept_for_a_second_and_other_errors_are_not() {
    let bench = Bench::new();
    let missing = Error::not_found("environment", "prod");
    bench.next(Turn::Fail(missing.clone()));
    for _ in 0..2 {
        assert_eq!(bench.send(get()).await.unwrap_err(), missing);
    }
    assert_eq!(bench.asked(), 1);
    pass(1.11).await;
    bench.next(Turn::Fail(Error::internal("a defect")));
    assert!(bench.send(get()).await.is_err());
    assert_eq!(bench.get().await, at(0, "miss"));
}

#[tokio::test(start_paused = true)]
async fn zero_keeps_nothing() {
    let none = |config: &mut CacheConfig| {
        config.state_ttl = Span(Duration::ZERO);
        config.negative_ttl = Span(Duration::ZERO);
    };
    let bench = Bench::with(none, Coherence::observed(), &Guards::default());
    assert_eq!(bench.get().await, at(0, "miss"));
    assert_eq!(bench.get().await, at(0, "miss"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_shared_between_identities() {
    let bench = Bench::new();
    bench.get().await;
    let elsewhere = || Call {
        identity: Some(Identity {
            upstream: Some("payments".into()),
            ..Identity::default()
        }),
        ..get()
    };
    assert_eq!(seen(bench.send(elsewhere()).await), at(0, "miss"));
    bench.send(update()).await.unwrap();
    // The mutation was of another upstream.
    assert_eq!(seen(bench.send(elsewhere()).await), at(0, "hit"));
    assert_eq!(bench.get().await, at(1, "miss"));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_used_or_kept_while_a_mutation_is_under_way() {
    let bench = Bench::new();
    bench.get().await;
    let release = bench.hold();
    let mutation = bench.begin(update()).await;
    assert_eq!(bench.get().await, at(1, "bypass"));
    assert_eq!(bench.get().await, at(1, "bypass"));
    release.send(()).unwrap();
    mutation.await.unwrap().unwrap();
    assert_eq!(bench.get().await, at(1, "miss"));
    assert_eq!(bench.get().await, at(1, "hit"));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_began_before_a_mutation_is_neither_kept_nor_joined_after_it() {
    let bench = Bench::new();
    let release = bench.hold();
    let old = bench.begin(get()).await;
    bench.send(update()).await.unwrap();
    assert_eq!(bench.get().await, at(1, "miss"));
    release.send(()).unwrap();
    assert_eq!(seen(old.await.unwrap()), at(0, "miss"));
    assert_eq!(bench.get().await, at(1, "hit"));
}

#[tokio::test(start_paused = true)]
async fn a_mutation_that_is_given_up_or_fails_leaves_nothing_kept_for_as_long_as_it_may_be_applied()
{
    for unknown in [true, false] {
        let bench = Bench::new();
        bench.get().await;
        if unknown {
            let kind = ErrorKind::OutcomeUnknown;
            bench.next(Turn::Fail(Error::new(kind, "who knows")));
            bench.send(update()).await.unwrap_err();
        } else {
            bench.next(Turn::Never);
            let mutation = bench.begin(update()).await;
            mutation.abort();
            assert!(mutation.await.unwrap_err().is_cancelled());
        }
        assert_eq!(bench.get().await, at(1, "bypass"), "{unknown}");
        bench.change();
        assert_eq!(bench.get().await, at(2, "bypass"), "{unknown}");
        tokio::time::advance(DOUBT).await;
        assert_eq!(bench.get().await, at(2, "miss"), "{unknown}");
        assert_eq!(bench.get().await, at(2, "hit"), "{unknown}");
    }
}

/// The last attempt was refused, and an earlier one may still be applied.
#[tokio::test(start_paused = true)]
async fn a_refused_mutation_is_in_doubt_if_an_earlier_attempt_of_it_may_have_been_applied() {
    for (unsettled, then) in [(true, "bypass"), (false, "miss")] {
        let bench = Bench::new();
        let mut refusal = Error::precondition("environment", "no");
        refusal.unsettled = unsettled;
        bench.next(Turn::Fail(refusal));
        bench.send(update()).await.unwrap_err();
        assert_eq!(bench.get().await, at(1, then), "{unsettled}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_sees_less_than_a_wait_has_told() {
    let bench = Bench::new();
    let poll = || Call {
        door: Door::Wait,
        ..get()
    };
    bench.send(poll()).await.unwrap();
    bench.get().await;
    bench.change();
    let told = bench.send(poll()).await.unwrap();
    assert_eq!(told.served, None, "a poll was answered from what is kept");
    assert_eq!(bench.get().await, at(1, "miss"));
    assert_eq!(bench.get().await, at(1, "hit"));
    // It may have changed, and back.
    bench.send(poll()).await.unwrap();
    assert_eq!(bench.get().await, at(1, "miss"));
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_sees_the_same_deployment_under_way_ends_nothing() {
    let passing = |config: &mut CacheConfig| config.transitional_ttl = config.state_ttl;
    let bench = Bench::with(passing, Coherence::observed(), &Guards::default());
    bench.upstream.under_way.store(true, Ordering::SeqCst);
    let poll = || Call {
        door: Door::Wait,
        ..get()
    };
    bench.send(poll()).await.unwrap();
    assert_eq!(bench.get().await, at(0, "miss"));
    bench.send(poll()).await.unwrap();
    assert_eq!(bench.get().await, at(0, "hit"));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_identical_misses_make_one_call() {
    let bench = Bench::new();
    let release = bench.hold();
    let first = bench.begin(get()).await;
    let others: Vec<_> = (1..1000).map(|_| bench.spawn(get())).collect();
    pass(0.5).await;
    release.send(()).unwrap();
    assert_eq!(seen(first.await.unwrap()), at(0, "miss"));
    for other in others {
        let reply = other.await.unwrap().unwrap();
        assert_eq!(reply.served.unwrap().age, Duration::from_millis(500));
        assert_eq!(seen(Ok(reply)), at(0, "coalesced"));
    }
    assert_eq!(bench.asked(), 1);
    assert_eq!(bench.get().await, at(0, "hit"));
}

#[tokio::test(start_paused = true)]
async fn who_follows_a_read_that_hangs_asks_for_itself_after_a_while() {
    let bench = Bench::new();
    bench.next(Turn::Never);
    let hanging = bench.begin(get()).await;
    let follower = bench.spawn(get());
    let began = Instant::now();
    assert_eq!(seen(follower.await.unwrap()), at(0, "miss"));
    assert_eq!(began.elapsed(), PATIENCE);
    let late = hanging.await.unwrap().unwrap_err();
    assert_eq!(*late.kind, ErrorKind::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_on_for_its_followers_when_its_caller_goes_away_and_ends_with_the_last_of_them()
{
    let bench = Bench::new();
    let release = bench.hold();
    let leader = bench.begin(get()).await;
    let follower = bench.spawn(get());
    tokio::task::yield_now().await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    release.send(()).unwrap();
    assert_eq!(seen(follower.await.unwrap()), at(0, "coalesced"));
    assert_eq!(bench.asked(), 1);

    pass(10.0).await;
    let release = bench.hold();
    let leader = bench.begin(get()).await;
    leader.abort();
    assert!(leader.await.unwrap_err().is_cancelled());
    while !release.is_closed() {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.get().await, at(0, "miss"));
}

#[tokio::test(start_paused = true)]
async fn a_fault_is_shared_only_if_all_would_have_it() {
    let missing = Error::not_found("environment", "prod");
    for (error, asked) in [(missing, 1), (Error::internal("a defect"), 3)] {
        let bench = Bench::new();
        bench.next(Turn::Fail(error.clone()));
        let readers: Vec<_> = (0..3).map(|_| bench.spawn(get())).collect();
        let mut failed = 0;
        for reader in readers {
            failed += usize::from(reader.await.unwrap().is_err());
        }
        assert_eq!(bench.asked(), asked, "{error}");
        assert_eq!(failed, if asked == 1 { 3 } else { 1 }, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_whose_task_fails_is_made_by_its_caller() {
    let bench = Bench::new();
    bench.next(Turn::Panic);
    assert_eq!(bench.get().await, at(0, "miss"));
    assert_eq!(bench.asked(), 2);
    assert_eq!(bench.get().await, at(0, "hit"));
}

#[tokio::test(start_paused = true)]
async fn callers_get_what_they_demand_of_the_cache() {
    let bench = Bench::new();
    let only = Demand {
        only_if_cached: true,
        ..Demand::default()
    };
    let refused = bench.send(demanding(only)).await.unwrap_err();
    assert!(refused.message.contains("only-if-cached"), "{refused}");
    assert_eq!(bench.asked(), 0);
    bench.get().await;
    bench.change();
    pass(1.0).await;
    assert_eq!(seen(bench.send(demanding(only)).await), at(0, "hit"));
    let within = |seconds| Demand {
        max_age: Some(Duration::from_secs(seconds)),
        ..Demand::default()
    };
    assert_eq!(seen(bench.send(demanding(within(2))).await), at(0, "hit"));
    assert_eq!(seen(bench.send(demanding(within(1))).await), at(1, "miss"));
    bench.change();
    assert_eq!(
        seen(bench.send(demanding(Demand::FRESH)).await),
        at(2, "miss")
    );
    assert_eq!(bench.get().await, at(2, "hit"));
}

#[tokio::test(start_paused = true)]
async fn whoever_may_not_read_something_does_not_get_it_from_what_is_kept() {
    let guards = Guards {
        authorizer: Some(Authorizer::open(&Default::default()).unwrap()),
        ..Guards::default()
    };
    let bench = Bench::with(|_| {}, Coherence::observed(), &guards);
    let caller = |id: &str, roles: &[&str]| {
        let principal = Principal {
            id: id.to_owned(),
            method: crate::auth::Method::Token,
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..(*Principal::anonymous()).clone()
        };
        Call {
            principal: Arc::new(principal),
            ..get()
        }
    };
    let viewer = || caller("viewer", &["viewer"]);
    assert_eq!(seen(bench.send(viewer()).await), at(0, "miss"));
    assert_eq!(seen(bench.send(viewer()).await), at(0, "hit"));
    let denied = bench.send(caller("nobody", &[])).await.unwrap_err();
    assert!(
        matches!(*denied.kind, ErrorKind::AccessDenied { .. }),
        "{denied}"
    );
}

#[tokio::test(start_paused = true)]
async fn where_the_store_knows_of_all_changes_nothing_holds_beyond_one() {
    let version = Arc::new(Mutex::new(Some(1)));
    let known = Arc::clone(&version);
    let exact = Coherence::Exact(Arc::new(move || *known.lock().unwrap()));
    let bench = Bench::with(|_| {}, exact, &Guards::default());
    bench.get().await;
    assert_eq!(bench.get().await, at(0, "hit"));
    *version.lock().unwrap() = None;
    assert_eq!(bench.get().await, at(0, "bypass"));
    *version.lock().unwrap() = Some(2);
    bench.change();
    assert_eq!(bench.get().await, at(1, "miss"));
    let release = bench.hold();
    pass(10.0).await;
    let across = bench.begin(get()).await;
    *version.lock().unwrap() = Some(3);
    release.send(()).unwrap();
    across.await.unwrap().unwrap();
    assert_eq!(bench.get().await, at(1, "miss"));
}

#[tokio::test]
async fn after_a_purge_nothing_is_used_that_was_kept_or_was_being_read() {
    let bench = Bench::new();
    bench.get().await;
    bench.change();
    assert_eq!(bench.get().await, ("0".to_owned(), "hit"));
    bench.purge();
    assert_eq!(bench.get().await, ("1".to_owned(), "miss"));
    bench.purge();
    let release = bench.hold();
    let reading = bench.begin(get()).await;
    bench.change();
    bench.purge();
    release.send(()).unwrap();
    assert_eq!(seen(reading.await.unwrap()), ("1".to_owned(), "miss"));
    assert_eq!(bench.get().await, ("2".to_owned(), "miss"));
}

fn spare(config: &mut CacheConfig) {
    config.stale_while_revalidate = Span(Duration::from_secs(5));
    config.stale_if_error = Span(Duration::from_secs(60));
}

fn outage() -> Error {
    let retry_after = Duration::from_secs(1);
    Error::new(ErrorKind::Unavailable { retry_after }, "down")
}

#[tokio::test(start_paused = true)]
async fn an_answer_past_its_time_is_given_once_more_while_a_fresh_one_is_read() {
    let bench = Bench::with(spare, Coherence::observed(), &Guards::default());
    bench.get().await;
    tokio::time::advance(Duration::from_secs(4)).await;
    bench.change();
    let release = bench.hold();
    assert_eq!(bench.get().await, ("0".to_owned(), "stale"));
    // One reads for all.
    assert_eq!(bench.get().await, ("0".to_owned(), "stale"));
    while bench.asked() < 2 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    while bench.get().await.1 == "stale" {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.get().await, ("1".to_owned(), "hit"));
    assert_eq!(bench.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn where_the_upstream_fails_an_answer_is_given_past_its_time_but_not_for_ever() {
    let bench = Bench::with(spare, Coherence::observed(), &Guards::default());
    bench.get().await;
    tokio::time::advance(Duration::from_secs(30)).await;
    bench.next(Turn::Fail(outage()));
    assert_eq!(bench.get().await, ("0".to_owned(), "stale"));
    bench.next(Turn::Fail(Error::not_found("environment", "prod")));
    assert!(bench.send(get()).await.unwrap_err().is_not_found());
    let bench = Bench::with(spare, Coherence::observed(), &Guards::default());
    bench.get().await;
    tokio::time::advance(Duration::from_secs(63)).await;
    bench.next(Turn::Fail(outage()));
    assert_eq!(bench.send(get()).await.unwrap_err(), outage());
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_have_changed_is_never_given_past_its_time() {
    let bench = Bench::with(spare, Coherence::observed(), &Guards::default());
    bench.get().await;
    bench.send(update()).await.unwrap();
    bench.next(Turn::Fail(outage()));
    assert_eq!(bench.send(get()).await.unwrap_err(), outage());
    bench.get().await;
    tokio::time::advance(Duration::from_secs(4)).await;
    bench.purge();
    bench.next(Turn::Fail(outage()));
    assert_eq!(bench.send(get()).await.unwrap_err(), outage());
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_wants_a_young_answer_gets_none_past_its_time() {
    let bench = Bench::with(spare, Coherence::observed(), &Guards::default());
    bench.get().await;
    tokio::time::advance(Duration::from_secs(4)).await;
    let young = Demand {
        max_age: Some(Duration::from_secs(3)),
        ..Demand::default()
    };
    for demand in [young, Demand::FRESH] {
        bench.next(Turn::Fail(outage()));
        let error = bench.send(demanding(demand)).await.unwrap_err();
        assert_eq!(error, outage());
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_under_way_is_never_given_past_its_time() {
    let keep_all = |config: &mut CacheConfig| {
        spare(config);
        config.transitional_ttl = Span(Duration::from_secs(1));
    };
    let bench = Bench::with(keep_all, Coherence::observed(), &Guards::default());
    bench.upstream.under_way.store(true, Ordering::SeqCst);
    bench.get().await;
    tokio::time::advance(Duration::from_secs(2)).await;
    bench.next(Turn::Fail(outage()));
    assert_eq!(bench.send(get()).await.unwrap_err(), outage());
}

#[tokio::test]
async fn a_thousand_calls_for_the_same_ask_the_upstream_once() {
    let bench = Bench::new();
    let release = bench.hold();
    let first = bench.begin(get()).await;
    let others: Vec<_> = (1..1000).map(|_| bench.spawn(get())).collect();
    // All of them are waiting.
    for _ in 0..10_000 {
        tokio::task::yield_now().await;
    }
    release.send(()).unwrap();
    assert_eq!(seen(first.await.unwrap()).0, "0");
    for other in others {
        assert_eq!(seen(other.await.unwrap()).0, "0");
    }
    assert_eq!(bench.asked(), 1);
}
