//! Waits over an upstream that answers as the test says, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proton_gateway::admission::Guards;
use proton_gateway::api::{Operation, Response, pb};
use proton_gateway::changes::Changes;
use proton_gateway::error::{Error, ErrorKind, Origin};
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings};
use tokio::sync::watch;
use tonic::Code;

use crate::client::{Client, Wait, open};

/// An upstream with one environment.
#[derive(Clone)]
pub struct Upstream {
    answer: Arc<Mutex<Result<i32, Error>>>,
    polls: Arc<AtomicUsize>,
    /// What is never answered.
    pub hangs: Arc<Mutex<Vec<Operation>>>,
    /// When the environment was created, in seconds, and its latest deployment.
    pub made: Arc<Mutex<(i64, String)>>,
    /// What is on record of a deployment.
    pub record: Arc<Mutex<Result<i32, Error>>>,
    pub changes: Changes,
    pub stop: Arc<watch::Sender<bool>>,
    pub shutdown: Shutdown,
}

const IN_PROGRESS: i32 = pb::DeploymentStatus::InProgress as i32;
pub const SUCCEEDED: i32 = pb::DeploymentStatus::Succeeded as i32;

impl Upstream {
    pub fn new() -> Self {
        let (stop, shutdown) = Shutdown::channel();
        Self {
            answer: Arc::new(Mutex::new(Ok(IN_PROGRESS))),
            polls: Arc::default(),
            hangs: Arc::default(),
            made: Arc::new(Mutex::new((1, "d-1".to_owned()))),
            record: Arc::new(Mutex::new(Err(Error::not_found("deployment", "d-1")))),
            changes: Changes::default(),
            stop: Arc::new(stop),
            shutdown,
        }
    }

    pub fn say(&self, answer: Result<i32, Error>) {
        *self.answer.lock().unwrap() = answer;
    }

    fn polls(&self) -> usize {
        self.polls.load(Ordering::SeqCst)
    }

    pub fn gateway(&self) -> Gateway {
        let upstream = self.clone();
        let backend = tower::service_fn(move |call: Call| {
            let upstream = upstream.clone();
            async move {
                let hangs = upstream.hangs.lock().unwrap().contains(&call.operation);
                if hangs {
                    std::future::pending::<()>().await;
                }
                if call.operation != Operation::GetEnvironment {
                    let record = upstream.record.lock().unwrap().clone();
                    return record.map(|status| {
                        Reply::new(Response::GetDeployment(pb::GetDeploymentResponse {
                            deployment: Some(pb::Deployment {
                                deployment_status: status,
                                ..Default::default()
                            }),
                        }))
                    });
                }
                upstream.polls.fetch_add(1, Ordering::SeqCst);
                let answer = upstream.answer.lock().unwrap().clone();
                let (seconds, deployment) = upstream.made.lock().unwrap().clone();
                answer.map(|status| {
                    Reply::new(Response::GetEnvironment(pb::GetEnvironmentResponse {
                        environment: Some(pb::Environment {
                            deployment_status: status,
                            created_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
                            last_attempted_deployment_id: Some(deployment),
                            ..Default::default()
                        }),
                    }))
                })
            }
        });
        Gateway::new(pipeline::build(
            backend,
            Metrics::new().unwrap(),
            &Guards::default(),
        ))
    }

    pub fn client(&self) -> Client {
        let settings = Settings::with_key(Key::random().unwrap());
        open(
            self.gateway(),
            self.changes.clone(),
            settings,
            self.shutdown.clone(),
        )
    }
}

pub fn request() -> pb::WaitEnvironmentDeployedRequest {
    pb::WaitEnvironmentDeployedRequest {
        name: "prod".to_owned(),
        options: Some(pb::WaitOptions {
            // Out of the way of the tests that are about something else.
            heartbeat_interval: Some(prost_types::Duration {
                seconds: 3600,
                nanos: 0,
            }),
            ..Default::default()
        }),
    }
}

pub async fn wait(client: &Client) -> Wait<pb::WaitEnvironmentDeployedResponse> {
    Wait::of(
        client
            .clone()
            .wait_environment_deployed(request())
            .await
            .unwrap(),
    )
}

pub fn unavailable() -> Error {
    Error::new(
        ErrorKind::Unavailable {
            retry_after: Duration::from_secs(1),
        },
        "the upstream is gone",
    )
}

#[tokio::test(start_paused = true)]
async fn a_thousand_watchers_cost_the_polls_of_one() {
    let alone = Upstream::new();
    let client = alone.client();
    let mut one = wait(&client).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    alone.say(Ok(SUCCEEDED));
    let (told, _) = one.rest().await;
    assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");

    let crowded = Upstream::new();
    let client = crowded.client();
    let mut watchers = Vec::new();
    for _ in 0..1000 {
        let client = client.clone();
        watchers.push(tokio::spawn(async move { wait(&client).await }));
    }
    let mut waits = Vec::new();
    for watcher in watchers {
        waits.push(watcher.await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    crowded.say(Ok(SUCCEEDED));
    for wait in &mut waits {
        let (told, _) = wait.rest().await;
        assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
    }
    // One more: those who come while the first poll is under way share the next.
    assert!(
        crowded.polls() <= alone.polls() + 1,
        "{} polls for a thousand watchers, {} for one",
        crowded.polls(),
        alone.polls()
    );
}

#[tokio::test(start_paused = true)]
async fn polls_are_never_more_than_five_seconds_apart_and_news_need_none() {
    let upstream = Upstream::new();
    let mut waiting = wait(&upstream.client()).await;
    assert_eq!(
        waiting.next().await.unwrap().unwrap(),
        "snapshot IN_PROGRESS"
    );
    let before = upstream.polls();
    tokio::time::sleep(Duration::from_secs(50)).await;
    assert!(
        (10..=14).contains(&(upstream.polls() - before)),
        "{}",
        upstream.polls()
    );
    upstream.say(Ok(SUCCEEDED));
    let asked = tokio::time::Instant::now();
    upstream.changes.publish("prod");
    let (told, _) = waiting.rest().await;
    assert_eq!(told, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
    assert!(asked.elapsed() < Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn faults_of_the_upstream_are_told_once_and_do_not_end_the_wait() {
    let upstream = Upstream::new();
    let mut waiting = wait(&upstream.client()).await;
    assert_eq!(
        waiting.next().await.unwrap().unwrap(),
        "snapshot IN_PROGRESS"
    );
    upstream.say(Err(unavailable()));
    assert_eq!(waiting.next().await.unwrap().unwrap(), "degraded");
    let Some(pb::wait_event::Event::Degraded(degraded)) = &waiting.events.last().unwrap().event
    else {
        panic!("not degraded: {:?}", waiting.events);
    };
    let details = &degraded.status.as_ref().unwrap().details;
    assert!(
        details
            .iter()
            .any(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo")),
        "{details:?}"
    );
    tokio::time::sleep(Duration::from_secs(600)).await;
    upstream.say(Ok(SUCCEEDED));
    let (told, _) = waiting.rest().await;
    assert_eq!(told, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
}

#[tokio::test(start_paused = true)]
async fn a_throttling_upstream_is_asked_less_often_and_watchers_do_not_hurry_it() {
    let upstream = Upstream::new();
    let client = upstream.client();
    let mut waiting = wait(&client).await;
    waiting.next().await.unwrap();
    upstream.say(Err(Error::new(
        ErrorKind::Throttled {
            origin: Origin::Upstream,
            limit: "upstream",
            retry_after: Duration::from_secs(1),
        },
        "slow down",
    )));
    assert_eq!(waiting.next().await.unwrap().unwrap(), "degraded");
    let before = upstream.polls();
    for _ in 0..10 {
        upstream.changes.publish("prod");
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let polls = upstream.polls() - before;
    assert!(polls <= 10, "{polls} polls in five minutes");
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_begins_while_the_upstream_is_down_is_a_stream_all_the_same() {
    let upstream = Upstream::new();
    upstream.say(Err(unavailable()));
    let mut waiting = wait(&upstream.client()).await;
    assert_eq!(waiting.next().await.unwrap().unwrap(), "degraded");
    upstream.say(Ok(SUCCEEDED));
    let (told, _) = waiting.rest().await;
    assert_eq!(told, ["snapshot SUCCEEDED", "terminal SUCCEEDED"]);
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_heartbeats() {
    let upstream = Upstream::new();
    let mut quiet = request();
    quiet.options = None;
    let mut waiting = Wait::of(
        upstream
            .client()
            .wait_environment_deployed(quiet)
            .await
            .unwrap(),
    );
    assert_eq!(
        waiting.next().await.unwrap().unwrap(),
        "snapshot IN_PROGRESS"
    );
    let since = tokio::time::Instant::now();
    assert_eq!(waiting.next().await.unwrap().unwrap(), "heartbeat");
    assert_eq!(since.elapsed().as_secs(), 15);
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_announced_half_a_second_before() {
    let upstream = Upstream::new();
    let mut request = tonic::Request::new(request());
    request.set_timeout(Duration::from_secs(100));
    let since = tokio::time::Instant::now();
    let response = upstream.client().wait_environment_deployed(request).await;
    let mut waiting = Wait::of(response.unwrap());
    let mut told = Vec::new();
    while let Ok(Some(event)) = waiting.next().await {
        told.push(event);
        if told.len() == 2 {
            break;
        }
    }
    assert_eq!(told, ["snapshot IN_PROGRESS", "closing DEADLINE"]);
    // The test's clock stands still where the caller's goes on.
    let told = since.elapsed().as_millis();
    assert!((99_500..100_000).contains(&told), "{told}");
    assert!(!waiting.events[1].resume_token.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_lasts_too_long_has_timed_out() {
    let upstream = Upstream::new();
    let mut short = request();
    short.options.as_mut().unwrap().max_duration = Some(prost_types::Duration {
        seconds: 30,
        nanos: 0,
    });
    let response = upstream.client().wait_environment_deployed(short).await;
    let (told, end) = Wait::of(response.unwrap()).rest().await;
    assert_eq!(told, ["snapshot IN_PROGRESS", "terminal TIMED_OUT"]);
    assert_eq!(end.unwrap_err().code(), Code::DeadlineExceeded);
}

#[tokio::test(start_paused = true)]
async fn a_drain_closes_all_streams_with_tokens() {
    let upstream = Upstream::new();
    let client = upstream.client();
    let mut waits = futures_util::future::join_all((0..1000).map(|_| wait(&client))).await;
    for waiting in &mut waits {
        waiting.next().await.unwrap();
    }
    upstream.stop.send_replace(true);
    for waiting in &mut waits {
        let (told, end) = waiting.rest().await;
        assert_eq!(told, ["closing DRAIN"]);
        assert!(end.is_ok());
        assert!(!waiting.events[1].resume_token.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_nobody_knows_is_passed_on_and_ends_nothing() {
    let upstream = Upstream::new();
    let mut waiting = wait(&upstream.client()).await;
    waiting.next().await.unwrap();
    upstream.say(Ok(4711));
    let told = waiting.next().await.unwrap().unwrap();
    assert!(told.starts_with("IN_PROGRESS to "), "{told}");
    upstream.say(Ok(SUCCEEDED));
    let (told, _) = waiting.rest().await;
    assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_latest_state_and_a_count_and_slows_nobody() {
    let upstream = Upstream::new();
    let client = upstream.client();
    let mut slow = wait(&client).await;
    let mut quick = wait(&client).await;
    slow.next().await.unwrap();
    quick.next().await.unwrap();
    for status in [
        pb::DeploymentStatus::Cancelling,
        pb::DeploymentStatus::InProgress,
        pb::DeploymentStatus::Cancelling,
    ] {
        upstream.say(Ok(status.into()));
        quick.next().await.unwrap();
    }
    assert_eq!(
        slow.next().await.unwrap().unwrap(),
        "IN_PROGRESS to CANCELLING"
    );
    assert_eq!(slow.events.last().unwrap().coalesced, 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_polls_when_nobody_watches() {
    let upstream = Upstream::new();
    let mut waiting = wait(&upstream.client()).await;
    waiting.next().await.unwrap();
    drop(waiting);
    tokio::time::sleep(Duration::from_secs(30)).await;
    let polls = upstream.polls();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    assert_eq!(upstream.polls(), polls);
}
