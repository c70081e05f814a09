//! Two gateways behind a balancer are restarted in turn, under load, and no caller notices.
//!
//! What clients do here by themselves is what gRPC clients do: a call of which the connection's end says
//! that it was not processed is sent again. Everything else that goes wrong fails the test.

mod balancer;
mod http1;
mod pair;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::atomic::AtomicBool;

use pb::wait_event::Event;
use pb::wait_service_client::WaitServiceClient;
use proton_gateway::api::own::DeployEnvironmentRequest;
use proton_gateway::api::own::gateway_service_client::GatewayServiceClient;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use tonic::{Request, Status};

use self::balancer::Balancer;
use self::pair::Pair;
use super::drain::forward;
use super::*;

const RESTARTS: usize = 20;
const CALLERS: usize = 8;
/// Each is deployed to, and waited for, over and over.
const ENVIRONMENTS: usize = 12;
/// How long a deployment takes: longer than a restart.
const STEP: &str = "3s";
const CONFIG: &str = "[shutdown]\nnotice = \"300ms\"\ndrain = \"10s\"\nspread = \"300ms\"\n\
    [waits]\npauses = [\"500ms\"]\n";
/// How often calls were sent again, by what was said of the ones before.
#[derive(Clone, Default)]
struct Repeats(Arc<Mutex<BTreeMap<&'static str, usize>>>);

/// Why a call was surely not processed, if it was not: it never had a connection, or its stream was
/// refused (RFC 9113, 8.7), as every gRPC client sends again (gRFC A6, transparent retries).
fn unprocessed(status: &Status) -> Option<&'static str> {
    let mut chain = String::new();
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        chain.push_str(&format!("{error}; "));
        cause = error.source();
    }
    let said = |text: &str| chain.contains(text);
    if said("tcp connect error") || said("Connection refused") {
        Some("not connected")
    } else if said("refused stream") {
        Some("refused")
    } else if said("connection error received: not a result of an error") {
        Some("beyond the last stream of a GOAWAY")
    } else if said("operation was canceled") {
        Some("not sent: the connection was leaving")
    } else {
        None
    }
}

impl Repeats {
    /// What a call comes to that is sent again as often as nothing was processed.
    async fn call<T, F>(&self, what: &str, mut call: impl FnMut() -> F) -> T
    where
        F: Future<Output = Result<T, Status>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match call().await {
                Ok(answer) => return answer,
                Err(status) => {
                    let Some(why) = unprocessed(&status) else {
                        panic!("{what} failed: {status:?}");
                    };
                    assert!(Instant::now() < deadline, "{what}: {status:?}");
                    *self.0.lock().unwrap().entry(why).or_default() += 1;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What all clients share.
#[derive(Clone)]
struct Load {
    channels: Vec<Channel>,
    repeats: Repeats,
    over: Arc<AtomicBool>,
    calls: Arc<AtomicUsize>,
    waits: Arc<AtomicUsize>,
    resumed: Arc<AtomicUsize>,
}

impl Load {
    fn goes_on(&self) -> bool {
        !self.over.load(Ordering::Relaxed)
    }

    /// Reads and writes, one after the other.
    async fn calls(self, caller: usize) {
        let client = Client::new(self.channels[caller % self.channels.len()].clone());
        let mut number = 0;
        while self.goes_on() {
            let name = format!("t{caller}-{number}");
            number += 1;
            let create = || async {
                let mut request = Request::new(pb::CreateServiceTemplateRequest {
                    name: name.clone(),
                    ..Default::default()
                });
                let key = name.parse().unwrap();
                request.metadata_mut().insert("idempotency-key", key);
                client.clone().create_service_template(request).await
            };
            self.repeats.call("a write", create).await;
            let read = || async {
                let name = name.clone();
                let request = pb::GetServiceTemplateRequest { name };
                client.clone().get_service_template(request).await
            };
            let found = self.repeats.call("a read", read).await.into_inner();
            assert_eq!(found.service_template.unwrap().name, Some(name.clone()));
            // There may be a thousand of them.
            let delete = || async {
                let mut request =
                    Request::new(pb::DeleteServiceTemplateRequest { name: name.clone() });
                let key = format!("delete-{name}").parse().unwrap();
                request.metadata_mut().insert("idempotency-key", key);
                client.clone().delete_service_template(request).await
            };
            self.repeats.call("a deletion", delete).await;
            self.calls.fetch_add(3, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Deploys to an environment, follows that to its end, and begins anew.
    async fn deploys(self, environment: usize) {
        let client = GatewayServiceClient::new(self.channel(environment));
        let mut number = 0;
        while self.goes_on() {
            number += 1;
            let key = format!("d{environment}-{number}");
            let open = |token: String| {
                let request = DeployEnvironmentRequest {
                    environment: Some(pb::CreateEnvironmentRequest {
                        name: format!("e{environment}"),
                        template_name: "bus".into(),
                        template_major_version: "1".into(),
                        proton_service_role_arn: Some(ROLE.into()),
                        spec: format!("proton: EnvironmentSpec\nspec: {{owner: o{number}}}\n"),
                        ..Default::default()
                    }),
                    options: Some(resuming(token)),
                };
                let mut request = Request::new(request);
                let key = key.parse().unwrap();
                request.metadata_mut().insert("idempotency-key", key);
                let mut client = client.clone();
                async move { client.deploy_environment(request).await }
            };
            let mut position = Position::default();
            while !position.ended {
                let opened = self
                    .repeats
                    .call("a deploy", || open(position.token.clone()));
                let mut items = opened.await.into_inner();
                while let Some(item) = items.message().await.unwrap() {
                    position.take(item.event.unwrap());
                }
                self.go_on(&mut position).await;
            }
        }
    }

    /// Waits for whatever is deployed to an environment, over and over.
    async fn follows(self, environment: usize) {
        let client = WaitServiceClient::new(self.channel(environment));
        while self.goes_on() {
            let open = |token: String| {
                let request = pb::WaitEnvironmentDeployedRequest {
                    name: format!("e{environment}"),
                    options: Some(resuming(token)),
                };
                let mut client = client.clone();
                async move { client.wait_environment_deployed(request).await }
            };
            let mut position = Position::default();
            while !position.ended {
                let opened = self.repeats.call("a wait", || open(position.token.clone()));
                let mut items = opened.await.into_inner();
                while let Some(item) = items.message().await.unwrap() {
                    position.take(item.event.unwrap());
                }
                self.go_on(&mut position).await;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    fn channel(&self, environment: usize) -> Channel {
        self.channels[environment % self.channels.len()].clone()
    }

    /// After the end of a stream: waits as long as the gateway wants it, if the wait goes on.
    async fn go_on(&self, position: &mut Position) {
        if position.ended {
            self.waits.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let pause = position
            .closing
            .take()
            .expect("a stream ends with its wait, or says that it closes");
        self.resumed.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(pause).await;
    }
}

fn resuming(resume_token: String) -> pb::WaitOptions {
    pb::WaitOptions {
        resume_token,
        ..Default::default()
    }
}

/// How far a wait has come.
#[derive(Default)]
struct Position {
    sequence: u64,
    token: String,
    closing: Option<Duration>,
    ended: bool,
}

impl Position {
    fn take(&mut self, event: pb::WaitEvent) {
        assert!(
            !self.ended && self.closing.is_none(),
            "nothing comes after the end"
        );
        assert_eq!(
            event.sequence,
            self.sequence + 1,
            "no event is lost or told twice"
        );
        self.sequence = event.sequence;
        self.token = event.resume_token;
        match event.event.unwrap() {
            Event::Terminal(end) => {
                assert!(end.success, "{end:?}");
                self.ended = true;
            }
            Event::Closing(closing) => {
                assert_eq!(closing.reason(), pb::WaitClosingReason::Drain);
                let pause = closing.reconnect_after.unwrap();
                self.closing = Some(pause.try_into().unwrap());
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rolling_restarts_fail_no_call_and_lose_no_wait() {
    let (folder, state) = state();
    let engine = with_template_and_step(&state, STEP).await;

    let (mut pair, address) = Pair::before(&engine, folder.path(), ("grpc", "off")).await;

    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    let load = Load {
        // Two callers, or three environments, on each: what one connection loses, others lose as well.
        channels: (0..4).map(|_| endpoint.connect_lazy()).collect(),
        repeats: Repeats::default(),
        over: Arc::default(),
        calls: Arc::default(),
        waits: Arc::default(),
        resumed: Arc::default(),
    };
    let mut clients = JoinSet::new();
    for caller in 0..CALLERS {
        clients.spawn(load.clone().calls(caller));
    }
    for environment in 0..ENVIRONMENTS {
        clients.spawn(load.clone().deploys(environment));
    }
    let mut client = Client::new(load.channels[0].clone());
    for environment in 0..ENVIRONMENTS {
        eventually("an environment is there", || {
            let mut client = client.clone();
            async move {
                let name = format!("e{environment}");
                let request = pb::GetEnvironmentRequest { name };
                client.get_environment(request).await.ok()
            }
        })
        .await;
        clients.spawn(load.clone().follows(environment));
    }

    for number in 0..RESTARTS {
        pair.restart(number % 2).await;
        // Whoever has failed, has failed.
        while let Some(ended) = clients.try_join_next() {
            ended.unwrap();
        }
    }
    load.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.unwrap();
    }
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (calls, waits, resumed) = (count(&load.calls), count(&load.waits), count(&load.resumed));
    let repeats = load.repeats.0.lock().unwrap().clone();
    println!("{calls} calls, {waits} waits, resumed {resumed} times, sent again: {repeats:?}");
    assert!(calls > 100 * CALLERS / 8, "{calls}");
    assert!(waits > 2 * ENVIRONMENTS, "{waits}");
    assert!(resumed > RESTARTS, "{resumed}");
    drop(
        client
            .get_account_settings(pb::GetAccountSettingsRequest::default())
            .await
            .unwrap(),
    );
}
