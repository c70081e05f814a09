//! A caller that repeats each change under its key until it knows what came of it, and the check
//! that each was made once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proton_gateway::admission::Guards;
use proton_gateway::api::{Idempotency, Request, Response, pb};
use proton_gateway::backend::engine::store::Store;
use proton_gateway::config::Span;
use proton_gateway::config::retry::{CircuitConfig, RetryConfig};
use proton_gateway::edge::Arrival;
use proton_gateway::error::{Error, ErrorKind, Result};
use proton_gateway::gateway::{Call, Door, Pipeline, Reply};
use proton_gateway::ledger::Key;
use proton_gateway::pipeline::{self, Extras};
use proton_gateway::retries::Retries;
use proton_gateway::telemetry::Metrics;
use proton_gateway::upstream::Identities;
use tower::util::BoxCloneSyncService;
use tower::{Service, ServiceExt};

use crate::faulty::{Faults, Faulty};
use crate::ideal::Ideal;
use crate::inventory::{ask, difference, inventory};
use crate::random::Random;
use crate::service_fixtures;
use crate::support::{Backend, World, ledger};
use crate::workload::{Change, Workload};

/// How often a caller sends the same before it gives up.
const REPEATS: usize = 30;
/// After so many changes, what is set aside is taken up again.
const ASIDE: usize = 5;
/// How many of a hundred calls the gateway may repeat by itself.
const BUDGET: usize = 20;

/// Where things go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Where {
    /// Between the gateway and its upstream.
    Upstream,
    /// The same, and nobody else does anything as long as a change is not done.
    UpstreamOfOne,
    /// Between the gateway and one that is its upstream, which keeps keys.
    Gateway,
    /// Between the caller and the gateway, which stands on the engine.
    Caller,
}

/// What came of the changes.
#[derive(Debug, Default)]
pub struct Tally {
    pub made: usize,
    pub refused: usize,
    /// What nobody knows, by operation.
    pub unknown: BTreeMap<&'static str, usize>,
    /// How often callers have sent something.
    pub calls: usize,
    /// How often a change was sent to the upstream.
    pub attempts: usize,
}

impl Tally {
    /// Enough happened for the test to mean something, and little stayed unknown.
    pub fn check(&self) {
        let unknown: usize = self.unknown.values().sum();
        let all = self.made + self.refused + unknown;
        assert!(self.made * 3 > all, "too little was made: {self:?}");
        assert!(unknown * 50 < all, "too much is unknown: {self:?}");
        let most = self.calls + self.calls * BUDGET / 100;
        assert!(self.attempts <= most, "too many attempts: {self:?}");
    }
}

/// What is known of a change in the end.
#[derive(Debug)]
enum Known {
    Made,
    Refused(Error),
    Unknown(Error),
    Aside,
}

pub struct Caller {
    world: World,
    ideal: Arc<Ideal>,
    faults: Arc<Faults>,
    gateway: Pipeline,
    random: Random,
    workload: Workload,
    aside: Vec<Change>,
    broken: Vec<String>,
    pub tally: Tally,
    place: Where,
}

async fn platform() -> World {
    let world = World::over(Backend::InMemory).await;
    service_fixtures::shop(&world).await;
    let request = service_fixtures::create_job("batch", &[("eu", "prod", "batch:1")]);
    world.ok(request).await;
    world.step().await;
    world
}

/// A gateway whose upstream is the engine of `world`, with faults in between.
pub async fn before_faults(
    world: &World,
    faults: &Arc<Faults>,
    retries: Option<Retries>,
) -> Pipeline {
    let backend = Faulty::new(world.engine.clone(), Arc::clone(faults));
    before(world, backend, Identities::default(), retries).await
}

/// A gateway whose upstream is the gateway of `world`, with faults in between.
async fn before_gateway(world: &World, faults: &Arc<Faults>) -> Pipeline {
    let gateway = world.gateway.clone();
    let upstream = tower::service_fn(move |call: Call| {
        let gateway = gateway.clone();
        // What arrives there is the request and the key.
        let key = call
            .once
            .map_or(Key::Absent, |once| Key::Given(once.passed_on().into()));
        let arrival = Arrival {
            request_id: call.request_id,
            deadline: call.deadline,
            key,
            ..Arrival::default()
        };
        async move {
            gateway
                .call(Call::new(call.request, Door::Aws, &arrival))
                .await
        }
    });
    let backend = Faulty::new(BoxCloneSyncService::new(upstream), Arc::clone(faults));
    let identities = Identities::default().with_keepers([None].into());
    before(world, backend, identities, retries()).await
}

async fn before<S>(
    world: &World,
    backend: Faulty<S>,
    identities: Identities,
    retries: Option<Retries>,
) -> Pipeline
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    let ledger = ledger(Store::in_memory().unwrap(), &world.clock, false).await;
    let extras = Extras {
        ledger: Some(ledger),
        retries,
        ..Extras::default()
    };
    let guards = Guards {
        identities,
        ..Guards::default()
    };
    let metrics = Metrics::new().unwrap();
    pipeline::build_with(backend, metrics, &guards, extras)
}

/// The gateway's own repeats: at once, and within a budget that does not depend on how fast the
/// test runs.
fn retries() -> Option<Retries> {
    let at_once = Span(Duration::ZERO);
    let config = RetryConfig {
        base_pause: at_once,
        max_pause: at_once,
        reserve: 0,
        circuit: CircuitConfig {
            enabled: false,
            ..CircuitConfig::default()
        },
        ..RetryConfig::default()
    };
    Retries::new(&config, Metrics::new().unwrap())
}

/// The gateway of `world`, which stands on the engine, with faults before it.
fn behind_faults(world: &World, faults: &Arc<Faults>) -> Pipeline {
    let gateway = world.gateway.clone();
    let exact = tower::service_fn(move |call: Call| {
        let gateway = gateway.clone();
        async move { gateway.call(call).await }
    });
    BoxCloneSyncService::new(Faulty::new(exact, Arc::clone(faults)))
}

/// Sends a request, under a key if there is one.
pub async fn send(gateway: &Pipeline, request: Request, key: Option<&str>) -> Result<Reply> {
    let arrival = Arrival {
        request_id: "test".to_owned(),
        deadline: Instant::now() + Duration::from_secs(60),
        key: key.map_or(Key::Absent, |key| Key::Given(key.into())),
        ..Arrival::default()
    };
    let call = Call::new(request, Door::Grpc, &arrival);
    gateway.clone().oneshot(call).await
}

impl Caller {
    pub async fn new(place: Where) -> Self {
        let (world, ideal) = (platform().await, platform().await);
        let ideal = Arc::new(Ideal::new(ideal));
        let faults = Faults::new(Random::seeded(0), Arc::clone(&ideal));
        let gateway = match place {
            Where::Upstream | Where::UpstreamOfOne => {
                before_faults(&world, &faults, retries()).await
            }
            Where::Gateway => before_gateway(&world, &faults).await,
            Where::Caller => behind_faults(&world, &faults),
        };
        Self {
            world,
            ideal,
            faults,
            gateway,
            random: Random::seeded(0),
            workload: Workload::new(""),
            aside: Vec::new(),
            broken: Vec::new(),
            tally: Tally::default(),
            place,
        }
    }

    /// From here on all depends on `seed`, and nothing on what was before.
    pub fn begin(&mut self, seed: u64, own: &str) {
        self.faults.begin(Random::seeded(seed));
        self.random = Random::seeded(!seed);
        self.workload = Workload::new(own);
    }

    /// Wants so many changes, one after the other.
    pub async fn wants(&mut self, changes: usize) {
        for number in 0..changes {
            if number % ASIDE == 0 {
                self.take_up().await;
            }
            let gently = !self.aside.is_empty();
            let change = self.workload.next(&mut self.random, gently);
            self.want(change).await;
            if self.random.chance(50) {
                self.step().await;
            }
        }
        self.take_up().await;
    }

    /// Lets all end that is under way.
    async fn settle(&mut self) {
        self.faults.calm(true);
        // What is late arrives.
        let read = Request::GetAccountSettings(pb::GetAccountSettingsRequest::default());
        drop(send(&self.gateway, read, None).await);
        for _ in 0..4 {
            self.step().await;
        }
        self.faults.calm(false);
        self.tally.attempts = self.faults.attempts();
    }

    /// What is not as if each change had been made once.
    pub async fn broken(&mut self) -> Vec<String> {
        self.settle().await;
        let (ideal, real) = (
            inventory(&self.ideal.world).await,
            inventory(&self.world).await,
        );
        let mut broken = std::mem::take(&mut self.broken);
        broken.extend(self.ideal.wrong());
        broken.extend(difference(&ideal, &real));
        broken
    }

    async fn take_up(&mut self) {
        for change in std::mem::take(&mut self.aside) {
            self.want(change).await;
        }
    }

    async fn want(&mut self, mut change: Change) {
        let first = change.begun.is_none();
        change.begun.get_or_insert(self.ideal.changes());
        let known = self.know(&change, first).await;
        let has = self.ideal.has(&change.key);
        let right = match &known {
            Known::Aside => return self.aside.push(change),
            Known::Made => {
                self.tally.made += 1;
                has || self.is_that_of_another(&change)
            }
            Known::Refused(_) => {
                self.tally.refused += 1;
                !has
            }
            Known::Unknown(error) => {
                let operation = change.request.operation().name();
                *self.tally.unknown.entry(operation).or_default() += 1;
                match self.place {
                    Where::Upstream => self.cannot_be_known(&change, error).await,
                    Where::UpstreamOfOne => change.request.subject().is_none(),
                    Where::Gateway | Where::Caller => false,
                }
            }
        };
        if !right {
            let problem = format!("{change:?}: {known:?}, and it was made: {has}");
            self.broken.push(problem);
        }
    }

    async fn know(&mut self, change: &Change, first: bool) -> Known {
        for repeat in 0..REPEATS {
            if let Some(known) = self.send(change).await {
                return known;
            }
            if self.place == Where::UpstreamOfOne {
                continue;
            }
            if first && repeat == 0 && change.may_wait() && self.random.chance(20) {
                return Known::Aside;
            }
            if self.random.chance(20) {
                self.step().await;
            }
        }
        // Now or never.
        self.faults.calm(true);
        drop(self.once(change).await);
        let last = self.once(change).await;
        self.faults.calm(false);
        match last {
            Err(error) if *error.kind == ErrorKind::OutcomeUnknown => Known::Unknown(error),
            last => match self.means(last) {
                Some(known) => known,
                None => panic!("{change:?} goes on for ever"),
            },
        }
    }

    /// Whether a change is a deployment that names nothing that others do not name as well, and one of
    /// them has begun since; or a cancellation, and another has stopped the deployment: it is as good as
    /// its own.
    fn is_that_of_another(&self, change: &Change) -> bool {
        let begun = change.begun.unwrap();
        let (key, request) = (&change.key, &change.request);
        match request {
            Request::UpdateEnvironment(update) if update.spec.is_none() => {
                self.ideal.was_disturbed(key, request, begun)
            }
            _ if request.operation().policy().relieves => {
                self.ideal.was_done_by_another(key, request, begun)
            }
            _ => false,
        }
    }

    /// Whether no probe can know what became of a change: nothing shows it, the name is taken by
    /// what may be its own, or others have changed the same thing since, or it is gone.
    async fn cannot_be_known(&self, change: &Change, error: &Error) -> bool {
        let begun = change.begun.unwrap();
        match change.request.operation().policy().idempotency {
            Idempotency::None => {
                let Some(read) = change.request.subject() else {
                    return true;
                };
                // Their records say themselves that they were modified when a registration or a
                // deployment ends.
                let by_itself = matches!(
                    change.request,
                    Request::UpdateService(_)
                        | Request::UpdateEnvironmentTemplateVersion(_)
                        | Request::UpdateServiceTemplateVersion(_)
                );
                by_itself
                    || self
                        .ideal
                        .was_disturbed(&change.key, &change.request, begun)
                    || ask(&self.world, read).await.is_err()
            }
            Idempotency::NaturalCreate | Idempotency::Model => {
                error.message.contains("already exists")
            }
            _ => false,
        }
    }

    /// Sends a change, sometimes in two copies at the same time.
    async fn send(&mut self, change: &Change) -> Option<Known> {
        if !self.random.chance(15) {
            return self.means(self.once(change).await);
        }
        let (one, other) = tokio::join!(self.once(change), self.once(change));
        self.tally.calls += 1;
        match (self.means(one), self.means(other)) {
            (Some(Known::Made), Some(Known::Refused(error)))
            | (Some(Known::Refused(error)), Some(Known::Made)) => {
                let problem = format!("{change:?} was made, and its copy refused: {error:?}");
                self.broken.push(problem);
                Some(Known::Made)
            }
            (known, other) => known.or(other),
        }
    }

    fn means(&mut self, outcome: Result<Reply>) -> Option<Known> {
        self.tally.calls += 1;
        match outcome {
            Ok(reply) => {
                if let Response::CreateEnvironmentAccountConnection(made) = reply.response {
                    let made = made.environment_account_connection.unwrap();
                    self.workload.connections.extend(made.id);
                }
                Some(Known::Made)
            }
            Err(error) => match *error.kind {
                ErrorKind::Unavailable { .. }
                | ErrorKind::Throttled { .. }
                | ErrorKind::OutcomeUnknown => None,
                _ => Some(Known::Refused(error)),
            },
        }
    }

    async fn once(&self, change: &Change) -> Result<Reply> {
        send(&self.gateway, change.request.clone(), Some(&change.key)).await
    }

    async fn step(&self) {
        self.world.step().await;
        self.ideal.world.step().await;
    }
}
