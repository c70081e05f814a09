//! Waits of callers who are known.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proton_gateway::api::pb;
use proton_gateway::auth::{Authenticator, tokens};
use proton_gateway::clock::SystemClock;
use proton_gateway::reload::Reload;
use proton_gateway::waits::{Key, Settings};
use tonic::{Code, Request};

use crate::client::{Client, Wait, authenticated};
use crate::scripted::{Upstream, request};

/// How long the token of the caller `soon` is good.
const SOON: Duration = Duration::from_secs(600);

/// A client, and the tokens of two callers: one who stays, and one whose token expires soon.
struct World {
    client: Client,
    stays: String,
    soon: String,
    /// Lives as long as waits go on.
    _upstream: Upstream,
}

async fn world() -> World {
    let (stays, soon) = (tokens::new().unwrap(), tokens::new().unwrap());
    let hash = |token| String::from(tokens::hash_of(token).unwrap());
    let end = humantime::format_rfc3339(SystemTime::now() + SOON);
    let section = format!(
        "methods = [\"token\"]\n[[tokens]]\nid = \"stays\"\nhash = {:?}\n[[tokens]]\nid = \"soon\"\nhash = {:?}\nexpires = \"{end}\"\n",
        hash(&stays),
        hash(&soon),
    );
    let (_ask, reload) = Reload::channel();
    let section = toml::from_str(&section).unwrap();
    let (authenticator, _) = Authenticator::new(&section, &reload, Arc::new(SystemClock))
        .await
        .unwrap();
    let upstream = Upstream::new();
    let client = authenticated(
        upstream.gateway(),
        upstream.changes.clone(),
        Settings::with_key(Key::random().unwrap()),
        upstream.shutdown.clone(),
        authenticator,
    );
    World {
        client,
        stays,
        soon,
        _upstream: upstream,
    }
}

fn by(
    token: &str,
    request: pb::WaitEnvironmentDeployedRequest,
) -> Request<pb::WaitEnvironmentDeployedRequest> {
    let mut request = Request::new(request);
    let value = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", value);
    request
}

#[tokio::test(start_paused = true)]
async fn a_wait_closes_when_its_callers_token_expires() {
    let mut world = world().await;
    let response = world
        .client
        .wait_environment_deployed(by(&world.soon, request()))
        .await
        .unwrap();
    let began = tokio::time::Instant::now();
    let (told, end) = Wait::of(response).rest().await;
    assert_eq!(told, ["snapshot IN_PROGRESS", "closing REAUTHENTICATE"]);
    assert!(end.is_ok(), "{end:?}");
    assert!(began.elapsed() <= SOON + Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_resume_token_of_another_caller_is_refused() {
    let mut world = world().await;
    let response = world
        .client
        .wait_environment_deployed(by(&world.stays, request()))
        .await
        .unwrap();
    let mut wait = Wait::of(response);
    wait.next().await.unwrap();
    let mut resumed = request();
    let options = resumed.options.get_or_insert_default();
    options.resume_token = wait.events[0].resume_token.clone();
    let foreign = by(&world.soon, resumed.clone());
    let refused = world.client.wait_environment_deployed(foreign).await;
    let status = refused.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("caller"), "{status}");
    let own = by(&world.stays, resumed);
    assert!(world.client.wait_environment_deployed(own).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_wait_of_nobody_is_refused_before_it_begins() {
    let mut world = world().await;
    let refused = world.client.wait_environment_deployed(request()).await;
    assert_eq!(refused.unwrap_err().code(), Code::Unauthenticated);
}
