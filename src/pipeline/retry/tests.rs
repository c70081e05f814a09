//! What is repeated, when, how often, and what its caller is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::*;
use crate::admission::Guards;
use crate::api::{Request, Response, pb};
use crate::auth::Principal;
use crate::backend::aws::pace;
use crate::cache::Cache;
use crate::cache::coherence::Coherence;
use crate::config::Span;
use crate::config::cache::CacheConfig;
use crate::config::retry::{Percent, RetryConfig};
use crate::edge::Arrival;
use crate::error::{InvalidReason, Origin, Upstream};
use crate::gateway::Pipeline;
use crate::pipeline::{Extras, build_with};
use crate::telemetry::Metrics;
use crate::upstream::Identity;

const SECOND: Duration = Duration::from_secs(1);

/// How the upstream takes an attempt.
#[derive(Clone)]
enum Turn {
    Answer,
    Fail(Error),
    Never,
    After(Duration, Box<Turn>),
}

/// An upstream that does as it is told, and remembers what it was asked.
#[derive(Default)]
struct Scripted {
    turns: Mutex<VecDeque<Turn>>,
    /// What it does when it was told nothing.
    otherwise: Mutex<Option<Turn>>,
    asked: Mutex<Vec<(Instant, Call)>>,
    given_up: AtomicUsize,
}

/// Counts an attempt that ends without an outcome.
struct Begun<'a>(&'a AtomicUsize, bool);

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        if !self.1 {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl Scripted {
    async fn answer(&self, call: Call) -> Result<Reply> {
        let request = call.request.clone();
        self.asked.lock().unwrap().push((Instant::now(), call));
        let told = self.turns.lock().unwrap().pop_front();
        let mut turn = told.or_else(|| self.otherwise.lock().unwrap().clone());
        let mut begun = Begun(&self.given_up, false);
        while let Some(Turn::After(pause, then)) = turn {
            tokio::time::sleep(pause).await;
            turn = Some(*then);
        }
        if let Some(Turn::Never) = turn {
            std::future::pending::<()>().await;
        }
        begun.1 = true;
        match turn {
            Some(Turn::Fail(error)) => Err(error),
            _ => Ok(Reply::new(match request {
                Request::CreateServiceInstance(_) => {
                    Response::CreateServiceInstance(pb::CreateServiceInstanceResponse::default())
                }
                _ => Response::GetEnvironment(pb::GetEnvironmentResponse::default()),
            })),
        }
    }
}

#[derive(Clone)]
struct Bench {
    upstream: Arc<Scripted>,
    pipeline: Pipeline,
    metrics: Metrics,
}

impl Bench {
    fn new(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::with(turns, |_| {})
    }

    fn with(turns: impl IntoIterator<Item = Turn>, set: impl Fn(&mut RetryConfig)) -> Self {
        Self::over(turns, set, Retries::new, None)
    }

    /// The same, behind a cache.
    fn caching(turns: impl IntoIterator<Item = Turn>) -> Self {
        let config = CacheConfig {
            enabled: true,
            ..CacheConfig::default()
        };
        let cache = Cache::new(&config, Coherence::observed(), Metrics::new().unwrap());
        Self::over(turns, |_| {}, Retries::new, cache)
    }

    fn of_engine(turns: impl IntoIterator<Item = Turn>) -> Self {
        Self::over(turns, |_| {}, Retries::of_engine, None)
    }

    fn over(
        turns: impl IntoIterator<Item = Turn>,
        set: impl Fn(&mut RetryConfig),
        retries: fn(&RetryConfig, Metrics) -> Option<Retries>,
        cache: Option<Cache>,
    ) -> Self {
        let mut config = RetryConfig::default();
        set(&mut config);
        let upstream = Arc::new(Scripted::default());
        upstream.turns.lock().unwrap().extend(turns);
        let asked = Arc::clone(&upstream);
        let backend = tower::service_fn(move |call| {
            let upstream = Arc::clone(&asked);
            async move { upstream.answer(call).await }
        });
        let metrics = Metrics::new().unwrap();
        let retries = retries(&config, metrics.clone());
        let extras = Extras {
            cache,
            retries,
            ..Extras::default()
        };
        let pipeline = build_with(backend, metrics.clone(), &Guards::default(), extras);
        Self {
            upstream,
            pipeline,
            metrics,
        }
    }

    /// The same, whose upstream always does this when it was told nothing else.
    fn otherwise(self, turn: Turn) -> Self {
        *self.upstream.otherwise.lock().unwrap() = Some(turn);
        self
    }

    async fn send(&self, call: Call) -> Result<Reply> {
        self.pipeline.clone().oneshot(call).await
    }

    fn asked(&self) -> usize {
        self.upstream.asked.lock().unwrap().len()
    }

    /// How long after `start` each attempt began.
    fn times(&self, start: Instant) -> Vec<Duration> {
        let asked = self.upstream.asked.lock().unwrap();
        asked.iter().map(|(at, _)| *at - start).collect()
    }

    /// The token of each attempt.
    fn tokens(&self) -> Vec<Option<String>> {
        let asked = self.upstream.asked.lock().unwrap();
        let token = |(_, call): &(Instant, Call)| call.request.client_token().map(str::to_owned);
        asked.iter().map(token).collect()
    }

    fn counted(&self, line: &str) -> bool {
        self.metrics.page().unwrap().contains(line)
    }
}

fn call(request: Request) -> Call {
    let arrival = Arrival {
        deadline: (Instant::now() + 60 * SECOND).into_std(),
        principal: Principal::anonymous(),
        ..Arrival::default()
    };
    Call::new(request, Door::Grpc, &arrival)
}

fn get() -> Call {
    call(Request::GetEnvironment(pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }))
}

fn poll() -> Call {
    Call {
        door: Door::Wait,
        ..get()
    }
}

fn within(deadline: Duration, call: Call) -> Call {
    Call {
        deadline: (Instant::now() + deadline).into_std(),
        ..call
    }
}

fn update() -> Call {
    call(Request::UpdateEnvironment(pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..pb::UpdateEnvironmentRequest::default()
    }))
}

fn create(token: Option<&str>) -> Call {
    call(Request::CreateServiceInstance(
        pb::CreateServiceInstanceRequest {
            name: "blue".to_owned(),
            service_name: "shop".to_owned(),
            spec: "proton: ServiceSpec".to_owned(),
            client_token: token.map(str::to_owned),
            ..pb::CreateServiceInstanceRequest::default()
        },
    ))
}

fn failed(kind: ErrorKind, message: &str) -> Turn {
    Turn::Fail(Error::new(kind, message))
}

fn throttled() -> Turn {
    Turn::Fail(throttle())
}

fn throttle() -> Error {
    let kind = ErrorKind::Throttled {
        origin: Origin::Upstream,
        limit: "upstream",
        retry_after: SECOND,
    };
    Error::new(kind, "slow down")
}

/// A throttle after which the upstream wants to be asked again after so long.
fn throttled_for(retry_after: Duration) -> Turn {
    Turn::Fail(throttle().with_upstream(Upstream {
        retry_after: Some(retry_after),
        ..Upstream::default()
    }))
}

/// Nothing was sent.
fn unavailable() -> Turn {
    let retry_after = SECOND;
    failed(ErrorKind::Unavailable { retry_after }, "nothing was sent")
}

/// The answer was lost, and a repeat is harmless.
fn lost() -> Turn {
    let retry_after = SECOND;
    let mut error = Error::new(
        ErrorKind::Unavailable { retry_after },
        "the answer was lost",
    );
    error.unsettled = true;
    Turn::Fail(error)
}

fn after(pause: Duration, turn: Turn) -> Turn {
    Turn::After(pause, Box::new(turn))
}

/// Opens the circuit of the upstream of this name, with polls alone.
async fn open(bench: &Bench, name: Option<&str>) {
    for _ in 0..10 {
        let mut poll = poll();
        poll.identity = Some(of(name));
        bench.send(poll).await.unwrap_err();
    }
}

fn of(name: Option<&str>) -> Identity {
    Identity {
        upstream: name.map(Arc::from),
        ..Identity::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttled_call_is_repeated_after_the_upstreams_hint() {
    let bench = Bench::new([throttled_for(7 * SECOND)]);
    let start = Instant::now();
    bench.send(get()).await.unwrap();
    assert_eq!(bench.times(start), [Duration::ZERO, 7 * SECOND]);
}

#[tokio::test(start_paused = true)]
async fn without_a_hint_the_pause_is_random_and_up_to_twice_as_long_each_time() {
    for error in [throttled(), unavailable()] {
        let bench = Bench::new([error.clone(), error]);
        let start = Instant::now();
        bench.send(get()).await.unwrap();
        let times = bench.times(start);
        // The timer counts whole milliseconds.
        let first = times[1] - times[0];
        let second = times[2] - times[1];
        assert!(first <= Duration::from_millis(101), "{times:?}");
        assert!(second <= Duration::from_millis(201), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn pauses_differ() {
    let mut pauses = Vec::new();
    for _ in 0..20 {
        let bench = Bench::new([throttled()]);
        let start = Instant::now();
        bench.send(get()).await.unwrap();
        pauses.push(bench.times(start)[1]);
    }
    pauses.sort();
    pauses.dedup();
    assert!(pauses.len() > 5, "{pauses:?}");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_been_applied_and_what_is_refused_is_not_repeated() {
    let retry_after = Duration::ZERO;
    for kind in [
        ErrorKind::OutcomeUnknown,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Internal,
        ErrorKind::UnknownOperation,
        ErrorKind::AccessDenied {
            origin: Origin::Upstream,
        },
        ErrorKind::Invalid {
            reason: InvalidReason::InvalidRequest,
            violations: Vec::new(),
        },
        ErrorKind::NotFound {
            resource: String::new(),
            name: String::new(),
        },
        ErrorKind::QuotaExceeded {
            quota: String::new(),
            limit: 0,
        },
        ErrorKind::Throttled {
            origin: Origin::Gateway,
            limit: "caller/read",
            retry_after,
        },
        ErrorKind::Throttled {
            origin: Origin::Upstream,
            limit: pace::LIMIT,
            retry_after,
        },
    ] {
        let bench = Bench::new([failed(kind.clone(), "no")]);
        let error = bench.send(update()).await.unwrap_err();
        assert_eq!((*error.kind, bench.asked()), (kind, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_not_applied_is_repeated_whatever_it_is() {
    for (error, call) in [
        (throttled(), update()),
        (unavailable(), update()),
        (throttled(), create(None)),
    ] {
        let bench = Bench::new([error]);
        bench.send(call).await.unwrap();
        assert_eq!(bench.asked(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_is_not_repeated() {
    let bench = Bench::new([throttled(), unavailable()]);
    for _ in 0..2 {
        bench.send(poll()).await.unwrap_err();
    }
    assert_eq!(bench.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_where_it_is_switched_off() {
    let bench = Bench::with([throttled()], |config| config.enabled = false);
    let error = bench.send(get()).await.unwrap_err();
    assert_eq!((bench.asked(), error.attempts), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_token_is_on_each_attempt_and_another_one_on_the_next_call() {
    for given in [None, Some("")] {
        let bench = Bench::new([lost(), throttled()]);
        bench.send(create(given)).await.unwrap();
        bench.send(create(given)).await.unwrap();
        let tokens: Vec<_> = bench.tokens().into_iter().map(Option::unwrap).collect();
        let (call, next) = (&tokens[..3], &tokens[3]);
        let random = Uuid::parse_str(&call[0]).unwrap();
        assert_eq!(random.get_version_num(), 4);
        assert!(call.iter().all(|token| *token == call[0]), "{call:?}");
        assert_ne!(*next, call[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_of_the_caller_stays() {
    let bench = Bench::new([lost()]);
    bench.send(create(Some("mine"))).await.unwrap();
    let mine = Some("mine".to_owned());
    assert_eq!(bench.tokens(), [mine.clone(), mine]);
}

/// It never loses an answer, and shows the token to whoever asks.
#[tokio::test(start_paused = true)]
async fn the_engine_gets_no_token_of_ours_and_what_it_could_not_do_is_repeated() {
    let bench = Bench::of_engine([unavailable()]);
    bench.send(create(None)).await.unwrap();
    assert_eq!(bench.tokens(), [None, None]);
}

#[tokio::test(start_paused = true)]
async fn there_is_no_circuit_around_the_engine() {
    let bench = Bench::of_engine([]).otherwise(unavailable());
    open(&bench, None).await;
    bench.send(get()).await.unwrap_err();
    assert!(bench.asked() > 10);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_beyond_the_deadline() {
    let bench = Bench::new([throttled_for(10 * SECOND)]);
    let start = Instant::now();
    let error = bench.send(within(10 * SECOND, get())).await.unwrap_err();
    assert_eq!((start.elapsed(), bench.asked()), (Duration::ZERO, 1));
    assert_eq!(error.message, "slow down");
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="past-deadline"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_is_told_and_how_many_attempts_there_were() {
    let bench = Bench::new([unavailable(), unavailable(), throttled()]);
    let error = bench.send(update()).await.unwrap_err();
    assert_eq!((error.message.as_str(), error.attempts), ("slow down", 3));
    assert_eq!(bench.asked(), 3);
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="repeated"} 2"#));
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="exhausted"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_is_refused_ends_the_call() {
    let bench = Bench::new([
        throttled(),
        Turn::Fail(Error::not_found("environment", "prod")),
    ]);
    let error = bench.send(get()).await.unwrap_err();
    assert!(error.is_not_found());
    assert_eq!((error.attempts, bench.asked()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn the_last_error_does_not_claim_that_nothing_was_applied_if_an_earlier_attempt_may_have_been()
 {
    let conflict = Turn::Fail(Error::already_exists("service-instance/blue"));
    for last in [throttled(), unavailable(), conflict] {
        let bench = Bench::new([lost(), unavailable(), last]);
        let error = bench.send(create(Some("mine"))).await.unwrap_err();
        let told = "; an earlier attempt of the call may have been applied";
        assert!(error.unsettled && error.message.ends_with(told), "{error}");
        assert_eq!(error.message.matches(told).count(), 1, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeat_of_what_was_surely_not_applied_leaves_nothing_unsettled() {
    let bench = Bench::new([throttled(), unavailable(), throttled()]);
    let error = bench.send(create(Some("mine"))).await.unwrap_err();
    assert!(!error.unsettled && error.message == "slow down", "{error}");
}

/// Its caller does not know the token, and would make another instance.
#[tokio::test(start_paused = true)]
async fn a_lost_call_whose_token_was_ours_is_not_said_to_be_safe_to_repeat() {
    for last in [lost(), throttled(), unavailable()] {
        let bench = Bench::new([lost(), lost(), last]);
        let error = bench.send(create(None)).await.unwrap_err();
        assert_eq!(*error.kind, ErrorKind::OutcomeUnknown, "{error}");
        assert!(
            error.message.contains("read the service-instance"),
            "{error}"
        );
        assert_eq!(error.attempts, 3);
    }
    let bench = Bench::new([throttled(), throttled(), throttled()]);
    let error = bench.send(create(None)).await.unwrap_err();
    assert!(matches!(*error.kind, ErrorKind::Throttled { .. }));
}

#[tokio::test(start_paused = true)]
async fn the_budget_bounds_repeats_when_everything_fails() {
    let bench = Bench::new([]).otherwise(throttled());
    let calls = (0..1000).map(|_| bench.send(get()));
    let failed = join_all(calls).await;
    assert!(failed.iter().all(Result::is_err));
    // A fifth of a thousand, and one in each of the ten seconds that a credit lasts.
    assert_eq!(bench.asked(), 1000 + 200 + 10);
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="over-budget"}"#));
}

#[tokio::test(start_paused = true)]
async fn each_upstream_has_a_budget_of_its_own() {
    let bench = Bench::with([], |config| config.budget = Percent(0)).otherwise(throttled());
    for (name, asked) in [(None, 30), (Some("payments"), 30)] {
        let before = bench.asked();
        let calls = (0..20).map(|_| {
            bench.send(Call {
                identity: Some(of(name)),
                ..get()
            })
        });
        join_all(calls).await;
        assert_eq!(bench.asked() - before, asked, "{name:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_refuses_calls_of_its_upstream_at_once_and_of_no_other() {
    let bench = Bench::new([]).otherwise(unavailable());
    open(&bench, Some("payments")).await;
    let asked = bench.asked();
    let refused = bench
        .send(Call {
            identity: Some(of(Some("payments"))),
            ..get()
        })
        .await
        .unwrap_err();
    assert_eq!(bench.asked(), asked);
    assert!(refused.message.contains("payments"), "{refused}");
    assert!(refused.retry_after().unwrap() > 4 * SECOND);
    let other = bench.send(get()).await.unwrap_err();
    assert_eq!(other.message, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_circuit_that_opens_between_two_attempts_leaves_the_first_ones_error() {
    let bench = Bench::new([throttled_for(2 * SECOND)]).otherwise(unavailable());
    let (error, ()) = tokio::join!(bench.send(get()), async {
        tokio::time::sleep(SECOND).await;
        open(&bench, None).await;
    });
    let error = error.unwrap_err();
    assert_eq!((error.message.as_str(), error.attempts), ("slow down", 1));
    // Of the five or six seconds one is over.
    assert!(error.retry_after().unwrap() > 3 * SECOND);
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="circuit-open"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_repeat_that_the_circuit_would_refuse() {
    let bench = Bench::new([after(SECOND, unavailable())]).otherwise(unavailable());
    let start = Instant::now();
    let (error, ()) = tokio::join!(bench.send(get()), async {
        tokio::time::sleep(SECOND / 2).await;
        for _ in 0..9 {
            bench.send(poll()).await.unwrap_err();
        }
    });
    assert_eq!(start.elapsed(), SECOND);
    assert!(error.unwrap_err().retry_after().unwrap() >= 5 * SECOND);
    assert_eq!(bench.asked(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_probe_whose_caller_goes_away_gives_its_place_back() {
    let bench = Bench::new([]).otherwise(unavailable());
    open(&bench, None).await;
    tokio::time::advance(6 * SECOND).await;
    bench.upstream.turns.lock().unwrap().push_back(Turn::Never);
    timeout(SECOND, bench.send(get())).await.unwrap_err();
    assert_eq!(bench.asked(), 11);
    *bench.upstream.otherwise.lock().unwrap() = Some(Turn::Answer);
    bench.send(get()).await.unwrap();
}

fn hedging(config: &mut RetryConfig) {
    config.hedge_after = Some(Span(SECOND));
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_slow_is_asked_for_twice_and_the_first_answer_holds() {
    let bench = Bench::with([Turn::Never, after(SECOND, Turn::Answer)], hedging);
    let start = Instant::now();
    bench.send(get()).await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND);
    assert_eq!(bench.times(start), [Duration::ZERO, SECOND]);
    let given_up = bench.upstream.given_up.load(Ordering::SeqCst);
    assert_eq!(given_up, 1, "the other one is dropped");
    assert!(bench.counted(r#"proton_gateway_hedges_total{outcome="won"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn hedges_only_reads_and_only_where_it_is_wanted() {
    for (set, call, asked) in [
        (hedging as fn(&mut RetryConfig), get(), 2),
        (hedging, update(), 1),
        (hedging, create(Some("mine")), 1),
        (hedging, poll(), 1),
        (|_| {}, get(), 1),
    ] {
        let operation = call.operation;
        let bench = Bench::with([after(5 * SECOND, Turn::Answer)], set).otherwise(Turn::Never);
        bench.send(call).await.unwrap();
        assert_eq!(bench.asked(), asked, "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_is_answered_in_time_is_asked_for_once() {
    let bench = Bench::with([after(SECOND / 2, Turn::Answer)], hedging);
    bench.send(get()).await.unwrap();
    tokio::time::sleep(5 * SECOND).await;
    assert_eq!(bench.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_fails_of_two_attempts_leaves_the_other_one_to_answer() {
    for turns in [
        [
            after(2 * SECOND, unavailable()),
            after(2 * SECOND, Turn::Answer),
        ],
        [
            after(3 * SECOND, Turn::Answer),
            after(SECOND, unavailable()),
        ],
    ] {
        let bench = Bench::with(turns, hedging);
        let start = Instant::now();
        bench.send(get()).await.unwrap();
        assert_eq!((start.elapsed(), bench.asked()), (3 * SECOND, 2));
    }
}

#[tokio::test(start_paused = true)]
async fn if_both_attempts_fail_they_count_as_two() {
    let bench = Bench::with(
        [
            after(2 * SECOND, unavailable()),
            after(2 * SECOND, throttled()),
        ],
        |config| {
            hedging(config);
            config.attempts = 1;
        },
    );
    let error = bench.send(get()).await.unwrap_err();
    assert_eq!((error.message.as_str(), error.attempts), ("slow down", 2));
}

#[tokio::test(start_paused = true)]
async fn hedges_take_from_the_budget_of_repeats() {
    let slow = || after(5 * SECOND, Turn::Answer);
    let bench = Bench::with([], hedging).otherwise(slow());
    join_all((0..100).map(|_| bench.send(get()))).await;
    assert_eq!(bench.asked(), 100 + 20 + 10);
    assert!(bench.counted(r#"proton_gateway_hedges_total{outcome="over-budget"} 70"#));
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_caller_goes_away_is_not_repeated() {
    let bench = Bench::new([throttled_for(10 * SECOND)]);
    timeout(SECOND, bench.send(get())).await.unwrap_err();
    tokio::time::sleep(60 * SECOND).await;
    assert_eq!(bench.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_repeat_that_succeeds_is_counted_and_no_error() {
    let bench = Bench::new([throttled()]);
    bench.send(get()).await.unwrap();
    assert!(bench.counted(r#"proton_gateway_retries_total{outcome="recovered"} 1"#));
    assert!(bench.counted(r#"outcome="OK"} 1"#), "the call is one");
}

/// The cache stands before: else each of them would repeat for itself.
#[tokio::test(start_paused = true)]
async fn those_who_wait_for_the_same_read_share_its_attempts() {
    let bench = Bench::caching([after(SECOND, throttled()), throttled()]);
    let replies = join_all((0..100).map(|_| bench.send(get()))).await;
    assert!(replies.iter().all(Result::is_ok));
    assert_eq!(bench.asked(), 3);
}
