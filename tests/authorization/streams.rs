//! Streams end when their caller may no longer have them, and only then.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use proton_gateway::api::pb::paginator_service_server::PaginatorService;
use proton_gateway::api::pb::wait_event::Event;
use proton_gateway::api::pb::wait_service_server::WaitService;
use proton_gateway::api::{Response, pb};
use proton_gateway::auth::Principal;
use proton_gateway::error::Error;
use proton_gateway::gateway::{Call, Door};
use proton_gateway::pages::Paginator;
use proton_gateway::waits::Waits;
use tonic::Code;

use super::{Guarded, PolicyFile, arrival, caller, request};

const ALL: &str = "permit (principal, action, resource);";
const WITHOUT_MALLORY: &str = "permit (principal, action, resource);
    forbid (principal == Proton::Principal::\"mallory\", action, resource);";

/// An environment that is being deployed for ever, and endless pages.
#[allow(clippy::result_large_err)]
fn upstream(call: &Call) -> Result<Response, Error> {
    match call.operation.name() {
        "GetEnvironment" => Ok(Response::GetEnvironment(pb::GetEnvironmentResponse {
            environment: Some(pb::Environment {
                deployment_status: pb::DeploymentStatus::InProgress.into(),
                ..Default::default()
            }),
        })),
        "ListServices" => Ok(Response::ListServices(pb::ListServicesResponse {
            next_token: Some(uuid()),
            ..Default::default()
        })),
        _ => Err(Error::not_found(call.operation.policy().resource, "it")),
    }
}

/// A token that has not been there yet.
fn uuid() -> String {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static PAGES: AtomicUsize = AtomicUsize::new(0);
    format!("page-{}", PAGES.fetch_add(1, Ordering::SeqCst))
}

type Events = <Waits as WaitService>::WaitEnvironmentDeployedStream;

async fn wait(guarded: &Guarded, principal: &Arc<Principal>) -> Events {
    let wanted = pb::WaitEnvironmentDeployedRequest {
        name: "prod".to_owned(),
        options: None,
    };
    let opened = guarded
        .waits
        .wait_environment_deployed(request(principal, wanted))
        .await;
    let mut events = opened.unwrap().into_inner();
    let first = next(&mut events).await.unwrap();
    assert!(matches!(first, Event::Snapshot(_)), "{first:?}");
    events
}

async fn next(events: &mut Events) -> Option<Event> {
    let item = events.next().await?;
    item.unwrap().event.unwrap().event
}

#[tokio::test]
async fn a_wait_is_closed_when_its_caller_may_no_longer_have_it_and_others_go_on() {
    let file = PolicyFile::with(ALL);
    let guarded = Guarded::over(&file.config(), upstream);
    let mut alices = wait(&guarded, &caller("alice", &[])).await;
    let mut mallorys = wait(&guarded, &caller("mallory", &[])).await;

    // Other words for the same change nothing.
    file.say(&format!("// a comment\n{ALL}"));
    guarded.authorizer.renew().await;
    assert!(mallorys.next().now_or_never().is_none());

    file.say(WITHOUT_MALLORY);
    guarded.authorizer.renew().await;
    let Some(Event::Closing(closing)) = next(&mut mallorys).await else {
        panic!("it was not closed");
    };
    assert_eq!(closing.reason(), pb::WaitClosingReason::Reauthenticate);
    assert!(mallorys.next().await.is_none());
    assert!(alices.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_wrong_change_closes_nothing() {
    let file = PolicyFile::with(ALL);
    let guarded = Guarded::over(&file.config(), upstream);
    let mut events = wait(&guarded, &caller("mallory", &[])).await;
    file.say("forbid (everybody);");
    guarded.authorizer.renew().await;
    assert!(events.next().now_or_never().is_none());
}

#[tokio::test]
async fn a_list_that_is_being_read_ends_with_a_status() {
    let file = PolicyFile::with(ALL);
    let guarded = Guarded::over(&file.config(), upstream);
    let wanted = pb::PageServicesRequest::default();
    let mut pages = Paginator::new(guarded.gateway.clone())
        .page_services(request(&caller("mallory", &[]), wanted))
        .await
        .unwrap()
        .into_inner();
    pages.next().await.unwrap().unwrap();
    file.say(WITHOUT_MALLORY);
    guarded.authorizer.renew().await;
    let end = pages.next().await.unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unauthenticated, "{end:?}");
    assert!(pages.next().await.is_none());
}

#[tokio::test]
async fn a_stream_needs_the_rpc_of_its_own_and_pages_the_list_as_well() {
    let file = PolicyFile::with(
        "permit (principal, action in [Proton::Action::\"GetEnvironment\", Proton::Action::\"PageServices\"], resource);",
    );
    let guarded = Guarded::over(&file.config(), upstream);
    let alice = caller("alice", &[]);
    let wanted = pb::WaitEnvironmentDeployedRequest {
        name: "prod".to_owned(),
        options: None,
    };
    let refused = guarded
        .waits
        .wait_environment_deployed(request(&alice, wanted))
        .await
        .err()
        .unwrap();
    assert!(
        refused
            .message()
            .contains("WaitEnvironmentDeployed on environment/prod"),
        "{refused:?}"
    );
    let wanted = pb::PageServicesRequest::default();
    let refused = Paginator::new(guarded.gateway.clone())
        .page_services(request(&alice, wanted))
        .await
        .err()
        .unwrap();
    assert!(
        refused.message().contains("ListServices on the account"),
        "{refused:?}"
    );
    assert_eq!(guarded.asked(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_change_under_load_and_no_permitted_call_fails() {
    const CHANGES: usize = 20;
    let file = PolicyFile::with(ALL);
    let guarded = Guarded::over(&file.config(), upstream);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let callers: Vec<_> = (0..4)
        .map(|number| {
            let gateway = guarded.gateway.clone();
            let stopped = stopped.clone();
            let alice = arrival(&caller("alice", &[]));
            tokio::spawn(async move {
                let mut calls = 0;
                while !*stopped.borrow() {
                    // Decisions of other resources: remembered ones alone would prove little.
                    let name = format!("shop-{number}-{}", calls % 50);
                    let request = pb::GetEnvironmentRequest { name };
                    let request = proton_gateway::api::Request::GetEnvironment(request);
                    let call = Call::new(request, Door::Grpc, &alice);
                    gateway.call(call).await.unwrap();
                    calls += 1;
                    tokio::task::yield_now().await;
                }
                calls
            })
        })
        .collect();
    let mut versions = std::collections::BTreeSet::new();
    for number in 0..CHANGES {
        let other = format!("permit (principal in Proton::Role::\"r{number}\", action, resource);");
        file.say(&format!("{ALL}\n{other}"));
        guarded.authorizer.renew().await;
        versions.insert(guarded.authorizer.version());
    }
    stop.send_replace(true);
    for caller in callers {
        assert!(caller.await.unwrap() > 0);
    }
    assert_eq!(versions.len(), CHANGES);
}

#[tokio::test]
async fn who_may_not_wait_does_not_learn_what_is_wrong_with_the_request() {
    let guarded = Guarded::over(&Default::default(), upstream);
    let wanted = pb::WaitEnvironmentDeployedRequest {
        name: "no spaces!".to_owned(),
        options: Some(pb::WaitOptions {
            resume_token: "forged".to_owned(),
            ..Default::default()
        }),
    };
    let nobody = request(&caller("nobody", &[]), wanted);
    let opened = guarded.waits.wait_environment_deployed(nobody).await;
    let Err(denied) = opened else {
        panic!("it was opened");
    };
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied:?}");
    assert!(!denied.message().contains("token"), "{denied:?}");
}
