//! How waits end where something else goes wrong at the same time, in paused time.

use std::time::Duration;

use proton_gateway::api::{Operation, pb};
use proton_gateway::error::{Error, ErrorKind, Origin};
use tonic::Code;

use crate::client::Wait;
use crate::scripted::{SUCCEEDED, Upstream, request, unavailable, wait};

#[tokio::test(start_paused = true)]
async fn a_deletion_is_noticed_although_the_name_is_taken_again_at_once() {
    let upstream = Upstream::new();
    let deletion = pb::WaitEnvironmentDeletedRequest {
        name: "prod".to_owned(),
        options: request().options,
    };
    let response = upstream.client().wait_environment_deleted(deletion).await;
    let mut waiting = Wait::of(response.unwrap());
    waiting.next().await.unwrap();
    *upstream.made.lock().unwrap() = (2, "d-2".to_owned());
    let (told, end) = waiting.rest().await;
    assert_eq!(told.last().unwrap(), "terminal DELETED");
    end.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drain_while_a_stream_opens_is_told_as_one() {
    let upstream = Upstream::new();
    upstream
        .hangs
        .lock()
        .unwrap()
        .push(Operation::GetEnvironment);
    let client = upstream.client();
    let opening = tokio::spawn(async move { wait(&client).await });
    tokio::time::sleep(Duration::from_millis(1500)).await;
    upstream.stop.send_replace(true);
    let (told, end) = opening.await.unwrap().rest().await;
    assert_eq!(told, ["closing DRAIN"]);
    end.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stream_opens_although_the_upstream_hangs_and_what_is_seen_later_is_told() {
    let upstream = Upstream::new();
    upstream
        .hangs
        .lock()
        .unwrap()
        .push(Operation::GetEnvironment);
    let since = tokio::time::Instant::now();
    let mut waiting = wait(&upstream.client()).await;
    assert!(
        since.elapsed() <= Duration::from_secs(11),
        "{:?}",
        since.elapsed()
    );
    upstream.hangs.lock().unwrap().clear();
    upstream.say(Ok(SUCCEEDED));
    let (told, _) = waiting.rest().await;
    // The poll that hung may be told before.
    assert!(
        told.ends_with(&[
            "snapshot SUCCEEDED".to_owned(),
            "terminal SUCCEEDED".to_owned()
        ]),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_denied_ends_a_stream_that_was_opened_before_the_first_look() {
    let upstream = Upstream::new();
    upstream
        .hangs
        .lock()
        .unwrap()
        .push(Operation::GetEnvironment);
    let mut waiting = wait(&upstream.client()).await;
    upstream.hangs.lock().unwrap().clear();
    let origin = Origin::Upstream;
    let kind = ErrorKind::AccessDenied { origin };
    upstream.say(Err(Error::new(kind, "not for you")));
    let (_, end) = waiting.rest().await;
    assert_eq!(end.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_although_its_record_cannot_be_read() {
    let upstream = Upstream::new();
    let mut waiting = wait(&upstream.client()).await;
    waiting.next().await.unwrap();
    upstream
        .hangs
        .lock()
        .unwrap()
        .push(Operation::GetDeployment);
    upstream.say(Ok(SUCCEEDED));
    let since = tokio::time::Instant::now();
    let (told, end) = waiting.rest().await;
    assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
    assert!(
        since.elapsed() < Duration::from_secs(15),
        "{:?}",
        since.elapsed()
    );
    end.unwrap();
}

#[tokio::test(start_paused = true)]
async fn how_a_superseded_deployment_ended_is_asked_until_it_is_known() {
    let upstream = Upstream::new();
    let pinned = "11111111-1111-1111-1111-111111111111";
    *upstream.made.lock().unwrap() = (1, pinned.to_owned());
    let mut waiting = wait(&upstream.client()).await;
    waiting.next().await.unwrap();
    *upstream.record.lock().unwrap() = Err(unavailable());
    *upstream.made.lock().unwrap() = (1, "d-2".to_owned());
    assert_eq!(waiting.next().await.unwrap().unwrap(), "superseded");
    assert_eq!(waiting.next().await.unwrap().unwrap(), "degraded");
    *upstream.record.lock().unwrap() = Ok(SUCCEEDED);
    let (told, end) = waiting.rest().await;
    assert_eq!(told, ["terminal SUCCEEDED"]);
    end.unwrap();
}
