//! Changes under idempotency keys while the process that carries them out is killed again and
//! again: each is made once.

use std::sync::atomic::AtomicBool;

use proton_gateway::api::own::gateway_service_client::GatewayServiceClient;
use proton_gateway::api::own::{DeployEnvironmentRequest, DeployEnvironmentResponse};
use tokio::sync::watch;
use tonic::{Code, Request, Status};

use super::*;

const KILLS: usize = 12;
const CALLERS: usize = 4;
/// Longer than a call takes here, shorter than a start.
const PAUSE: Duration = Duration::from_millis(20);

/// Where the state of the process is.
struct Place {
    _folder: TempDir,
    state: PathBuf,
    /// The engine behind the gateway that is killed; without one, that is the engine.
    upstream: Option<Running>,
}

impl Place {
    fn engine() -> Self {
        let (folder, state) = state();
        Self {
            _folder: folder,
            state,
            upstream: None,
        }
    }

    async fn gateway() -> Self {
        let upstream = Self::engine();
        Self {
            upstream: Some(Running::with_step(&upstream.state.join("engine"), "30ms").await),
            ..upstream
        }
    }

    async fn start(&self) -> Running {
        let Some(upstream) = &self.upstream else {
            return Running::with_step(&self.state, "30ms").await;
        };
        let url = format!("http://{}", upstream.address("aws"));
        let mut command = serve(&self.state.join("ledger"));
        command.args(["--region", "us-east-1", "--upstream-endpoint-url", &url]);
        command.env("AWS_ACCESS_KEY_ID", "test");
        command.env("AWS_SECRET_ACCESS_KEY", "test");
        Running::started(command).await
    }
}

/// Chance that comes again with its seed (splitmix64).
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes).unwrap();
        let fixed = std::env::var("PROTON_FAULTS_SEED").ok();
        let seed = fixed.map_or(u64::from_le_bytes(bytes), |seed| seed.parse().unwrap());
        eprintln!("PROTON_FAULTS_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

fn keyed<T>(key: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let key = key.parse().unwrap();
    request.metadata_mut().insert("idempotency-key", key);
    request.set_timeout(PATIENCE);
    request
}

/// Whether a caller sends the same again: it does not know what came of it, or what stands in the
/// way passes by itself. A connection that breaks is `UNKNOWN` or `UNAVAILABLE`, or shows as a
/// cancelled stream.
fn again(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Aborted | Code::Cancelled | Code::Internal
    )
}

/// What one caller has made.
#[derive(Debug, Default)]
struct Made {
    versions: usize,
    deployments: usize,
    templates: usize,
}

/// A caller that makes one change after the other until it is told to stop, and repeats each with
/// its key until it is acknowledged.
struct Caller {
    name: String,
    address: watch::Receiver<String>,
    client: Option<Client>,
}

impl Caller {
    async fn client(&mut self) -> Client {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(client) = &self.client {
                return client.clone();
            }
            let address = self.address.borrow().clone();
            match Client::connect(format!("http://{address}")).await {
                Ok(client) => self.client = Some(client),
                Err(error) => {
                    assert!(Instant::now() < deadline, "{error}");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn insist<T, F>(&mut self, key: &str, mut send: impl FnMut(Client, String) -> F) -> T
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let client = self.client().await;
            match send(client, format!("{}-{key}", self.name)).await {
                Ok(answer) => return answer.into_inner(),
                Err(status) => {
                    assert!(again(&status), "{} {key}: {status:?}", self.name);
                    assert!(Instant::now() < deadline, "{} {key}: {status:?}", self.name);
                    self.client = None;
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    async fn go_on(mut self, enough: Arc<AtomicBool>, all: Arc<AtomicUsize>) -> Made {
        let mut made = Made::default();
        let environment = self.name.clone();
        self.insist("environment", |mut client, key| {
            let request = keyed(&key, new_environment(&environment, SPEC));
            async move { client.create_environment(request).await }
        })
        .await;
        made.deployments += 1;
        for number in 0.. {
            if enough.load(Ordering::Relaxed) {
                break;
            }
            all.fetch_add(1, Ordering::Relaxed);
            match number % 3 {
                0 => {
                    let name = format!("{}-{number}", self.name);
                    self.insist(&number.to_string(), |mut client, key| {
                        let request = keyed(
                            &key,
                            pb::CreateServiceTemplateRequest {
                                name: name.clone(),
                                description: Some(key.clone()),
                                ..Default::default()
                            },
                        );
                        async move { client.create_service_template(request).await }
                    })
                    .await;
                    made.templates += 1;
                }
                1 => {
                    self.insist(&number.to_string(), |mut client, key| {
                        let request = keyed(&key, new_version());
                        async move { client.create_environment_template_version(request).await }
                    })
                    .await;
                    made.versions += 1;
                }
                _ => {
                    self.insist(&number.to_string(), |mut client, key| {
                        let request = keyed(&key, redeploy(&environment));
                        async move { client.update_environment(request).await }
                    })
                    .await;
                    made.deployments += 1;
                }
            }
        }
        made
    }
}

fn new_environment(name: &str, spec: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        name: name.into(),
        template_name: "bus".into(),
        template_major_version: "1".into(),
        template_minor_version: Some("0".into()),
        proton_service_role_arn: Some(ROLE.into()),
        spec: spec.into(),
        ..Default::default()
    }
}

fn redeploy(name: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        name: name.into(),
        deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
        ..Default::default()
    }
}

fn new_version() -> pb::CreateEnvironmentTemplateVersionRequest {
    pb::CreateEnvironmentTemplateVersionRequest {
        template_name: "bus".into(),
        major_version: Some("1".into()),
        source: Some(pb::TemplateVersionSourceInput {
            source: Some(Source::S3(pb::S3ObjectSource {
                bucket: "proton-examples".into(),
                key: "environment-cloudformation.tar.gz".into(),
            })),
        }),
        ..Default::default()
    }
}

async fn deployments_of(client: &Client, environment: &str) -> usize {
    let mut found = 0;
    let mut next_token = None;
    loop {
        let request = pb::ListDeploymentsRequest {
            environment_name: Some(environment.to_owned()),
            max_results: Some(100),
            next_token,
            ..Default::default()
        };
        let answer = client.clone().list_deployments(request).await;
        let page = answer.unwrap().into_inner();
        found += page.deployments.len();
        next_token = page.next_token.filter(|token| !token.is_empty());
        if next_token.is_none() {
            return found;
        }
    }
}

async fn versions(client: &Client) -> usize {
    let mut found = 0;
    let mut next_token = None;
    loop {
        let request = pb::ListEnvironmentTemplateVersionsRequest {
            template_name: "bus".into(),
            major_version: Some("1".into()),
            max_results: Some(100),
            next_token,
        };
        let answer = client
            .clone()
            .list_environment_template_versions(request)
            .await;
        let page = answer.unwrap().into_inner();
        found += page.template_versions.len();
        next_token = page.next_token.filter(|token| !token.is_empty());
        if next_token.is_none() {
            return found;
        }
    }
}

async fn every_change_is_made_once(place: Place) {
    let mut random = Random::seeded();
    let mut running = place.start().await;
    publish_template(&running.client().await).await;
    let (tell, address) = watch::channel(running.address("grpc").to_owned());
    let enough = Arc::new(AtomicBool::new(false));
    let all = Arc::new(AtomicUsize::new(0));
    let callers: Vec<_> = (0..CALLERS)
        .map(|number| {
            let caller = Caller {
                name: format!("c{number}"),
                address: address.clone(),
                client: None,
            };
            tokio::spawn(caller.go_on(Arc::clone(&enough), Arc::clone(&all)))
        })
        .collect();
    for _ in 0..KILLS {
        let before = all.load(Ordering::Relaxed);
        eventually("some changes are made", || async {
            (all.load(Ordering::Relaxed) >= before + CALLERS).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.below(100))).await;
        running.kill();
        running = place.start().await;
        tell.send_replace(running.address("grpc").to_owned());
    }
    enough.store(true, Ordering::Relaxed);
    let mut made = Vec::new();
    for caller in callers {
        made.push(caller.await.unwrap());
    }
    let client = running.client().await;
    let created: usize = made.iter().map(|made| made.versions).sum();
    assert_eq!(versions(&client).await, 1 + created, "{made:?}");
    for (number, made) in made.iter().enumerate() {
        let found = deployments_of(&client, &format!("c{number}")).await;
        assert_eq!(found, made.deployments, "c{number}: {made:?}");
    }
    let request = pb::ListServiceTemplatesRequest {
        max_results: Some(100),
        ..Default::default()
    };
    let answer = client.clone().list_service_templates(request).await;
    let found = answer.unwrap().into_inner().templates.len();
    let created: usize = made.iter().map(|made| made.templates).sum();
    assert_eq!(found, created.min(100), "{made:?}");
    assert!(created > CALLERS, "too little was made: {made:?}");
}

/// Follows a deploy to its end, and repeats it with its key as long as the connection breaks.
async fn deploy(address: watch::Receiver<String>, key: String, spec: String) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let gateway = address.borrow().clone();
        match follow(gateway, &key, &spec).await {
            Ok(()) => return,
            Err(status) => {
                assert!(again(&status) && Instant::now() < deadline, "{status:?}");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn follow(address: String, key: &str, spec: &str) -> Result<(), Status> {
    let connected = GatewayServiceClient::connect(format!("http://{address}")).await;
    let mut client = connected.map_err(|error| Status::unavailable(error.to_string()))?;
    let request = DeployEnvironmentRequest {
        environment: Some(new_environment("prod", spec)),
        options: None,
    };
    let mut items = client
        .deploy_environment(keyed(key, request))
        .await?
        .into_inner();
    let mut last = None;
    while let Some(item) = items.message().await? {
        last = Some(item);
    }
    let ended = |item: &DeployEnvironmentResponse| {
        let event = item.event.as_ref().and_then(|event| event.event.as_ref());
        matches!(event, Some(pb::wait_event::Event::Terminal(_)))
    };
    match last.as_ref().is_some_and(ended) {
        true => Ok(()),
        false => Err(Status::unavailable("the stream was closed before its end")),
    }
}

async fn a_deploy_begins_once(place: Place) {
    const DEPLOYS: usize = 6;
    let mut random = Random::seeded();
    let mut running = place.start().await;
    publish_template(&running.client().await).await;
    let (tell, address) = watch::channel(running.address("grpc").to_owned());
    for number in 0..DEPLOYS {
        let spec = format!("proton: EnvironmentSpec\nspec: {{owner: o{number}}}\n");
        let deploy = tokio::spawn(deploy(address.clone(), number.to_string(), spec));
        tokio::time::sleep(Duration::from_millis(random.below(60))).await;
        running.kill();
        running = place.start().await;
        tell.send_replace(running.address("grpc").to_owned());
        deploy.await.unwrap();
    }
    let found = deployments_of(&running.client().await, "prod").await;
    assert_eq!(found, DEPLOYS);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_made_once_by_an_engine_that_is_killed() {
    every_change_is_made_once(Place::engine()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_made_once_by_a_gateway_that_is_killed() {
    every_change_is_made_once(Place::gateway().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_begins_once_on_an_engine_that_is_killed() {
    a_deploy_begins_once(Place::engine()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deploy_begins_once_before_a_gateway_that_is_killed() {
    a_deploy_begins_once(Place::gateway().await).await;
}
