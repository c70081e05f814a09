//! A gateway in this process, over each of the backends, with time in the test's hand.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use proton_gateway::admission::Guards;
use proton_gateway::api::rules::camel_case;
use proton_gateway::api::{Typed, pb};
use proton_gateway::backend::aws::Aws;
use proton_gateway::backend::engine::bucket::Buckets;
use proton_gateway::backend::engine::store::Store;
use proton_gateway::backend::engine::{Engine, Quotas, Settings};
use proton_gateway::cache::Cache;
use proton_gateway::cache::coherence::Coherence;
use proton_gateway::changes::Changes;
use proton_gateway::clock::ManualClock;
use proton_gateway::config::cache::CacheConfig;
use proton_gateway::config::idempotency::IdempotencyConfig;
use proton_gateway::config::order::OrderConfig;
use proton_gateway::edge::Arrival;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::status;
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::etag::{Etag, Expected};
use proton_gateway::gateway::{Call, Door, Gateway};
use proton_gateway::ledger::{Key, Ledger};
use proton_gateway::pipeline::condition::Compared;
use proton_gateway::pipeline::order::Order;
use proton_gateway::pipeline::{self, Extras};
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use tokio::sync::watch;

/// Which backend answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    InMemory,
    OnDisk,
    /// The SDK, HTTP, the AWS door, and the engine behind it.
    ThroughAwsDoor,
}

/// A running gateway.
pub struct World {
    pub gateway: Gateway,
    /// Where changes are published that the gateway knows of.
    pub changes: Changes,
    pub shutdown: Shutdown,
    pub engine: Engine,
    pub clock: ManualClock,
    /// Folder of the local buckets.
    pub buckets: tempfile::TempDir,
    _state: Option<tempfile::TempDir>,
    pub stop: watch::Sender<bool>,
}

/// The account of the engine.
pub const ACCOUNT: &str = "123456789012";

/// How long one simulated step takes in the tests' own time.
pub const STEP: Duration = Duration::from_secs(5);

/// A ledger in `store`.
pub async fn ledger(store: Store, clock: &ManualClock, exact: bool) -> Ledger {
    let (config, clock) = (IdempotencyConfig::default(), Arc::new(clock.clone()));
    Ledger::open(store, &config, None, clock, exact)
        .await
        .unwrap()
}

impl World {
    pub async fn over(backend: Backend) -> Self {
        Self::with_quotas(backend, Quotas::default()).await
    }

    pub async fn with_quotas(backend: Backend, quotas: Quotas) -> Self {
        Self::keeping(backend, quotas, &CacheConfig::default()).await
    }

    /// The same, whose gateway keeps answers as the configuration says.
    pub async fn keeping(backend: Backend, quotas: Quotas, cache: &CacheConfig) -> Self {
        Self::with(backend, quotas, cache, &OrderConfig::default()).await
    }

    /// The same, in which mutations wait for deployments.
    pub async fn in_order(backend: Backend, order: &OrderConfig) -> Self {
        Self::with(backend, Quotas::default(), &CacheConfig::default(), order).await
    }

    async fn with(
        backend: Backend,
        quotas: Quotas,
        cache: &CacheConfig,
        order: &OrderConfig,
    ) -> Self {
        let buckets = tempfile::tempdir().unwrap();
        let state = tempfile::tempdir().unwrap();
        // Long enough ago that nobody mistakes it for today.
        let clock = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let store = match backend {
            Backend::OnDisk => Store::open(state.path()).unwrap(),
            Backend::InMemory | Backend::ThroughAwsDoor => Store::in_memory().unwrap(),
        };
        let settings = Settings {
            region: "us-east-1".to_owned(),
            account_id: ACCOUNT.to_owned(),
            step: STEP,
            self_managed_timeout: Duration::from_secs(24 * 3600),
            buckets: Buckets::in_folder(buckets.path()),
            quotas,
        };
        let engine = Engine::new(store.clone(), Arc::new(clock.clone()), settings);
        let metrics = || Metrics::new().unwrap();
        let guards = Guards::default();
        let (stop, shutdown) = Shutdown::channel();
        let exact = backend != Backend::ThroughAwsDoor;
        let keys = match exact {
            true => store.clone(),
            false => Store::in_memory().unwrap(),
        };
        let ledger = ledger(keys, &clock, exact).await;
        let (gateway, changes) = match backend {
            Backend::InMemory | Backend::OnDisk => {
                let cache = Cache::new(cache, engine.coherence(), metrics());
                let extras = Extras {
                    cache,
                    ledger: Some(ledger.clone()),
                    compared: Compared::Within,
                    order: Order::new(order, engine.changes(), &shutdown),
                    ..Extras::default()
                };
                let pipeline = pipeline::build_with(engine.clone(), metrics(), &guards, extras);
                (Gateway::new(pipeline), engine.changes().clone())
            }
            Backend::ThroughAwsDoor => {
                let direct = Gateway::new(pipeline::build(engine.clone(), metrics(), &guards));
                let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
                tokio::spawn(server::serve(
                    listener,
                    AwsDoor::new(direct),
                    shutdown.clone(),
                ));
                let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .region(Region::new("us-east-1"))
                    .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
                    .endpoint_url(format!("http://{address}"))
                    .load()
                    .await;
                let aws = Aws::with_config(&config);
                let changes = aws.changes().clone();
                let cache = Cache::new(cache, Coherence::observed(), metrics());
                let extras = Extras {
                    cache,
                    ledger: Some(ledger.clone()),
                    order: Order::new(order, &changes, &shutdown),
                    ..Extras::default()
                };
                let pipeline = pipeline::build_with(aws, metrics(), &guards, extras);
                (Gateway::new(pipeline), changes)
            }
        };
        let gateway = gateway.with_ledger(Some(ledger));
        Self {
            gateway,
            changes,
            shutdown,
            engine,
            clock,
            buckets,
            _state: Some(state),
            stop,
        }
    }

    /// Where the engine's state is, if it is on disk.
    pub fn state(&self) -> &std::path::Path {
        self._state.as_ref().expect("a folder").path()
    }

    /// Makes one call and returns its response or its error.
    pub async fn call<T: Typed>(&self, request: T) -> Result<T::Response, Error> {
        Ok(self.expecting(request, Expected::Any).await?.0)
    }

    /// Makes one call by a caller that has seen a certain state, and returns that of the answer too.
    pub async fn expecting<T: Typed>(
        &self,
        request: T,
        expected: Expected,
    ) -> Result<(T::Response, Option<Etag>), Error> {
        let arrival = Arrival {
            request_id: "test".to_owned(),
            deadline: Instant::now() + Duration::from_secs(60),
            expected,
            ..Arrival::default()
        };
        let reply = self
            .gateway
            .call(Call::new(request.into_request(), Door::Grpc, &arrival))
            .await?;
        let response = T::from_response(reply.response);
        let response = response.expect("the response of the same operation");
        Ok((response, reply.etag))
    }

    /// Makes one call of `caller` under an idempotency key; says whether it is told again.
    pub async fn keyed<T: Typed>(
        &self,
        caller: &str,
        key: &str,
        request: T,
    ) -> Result<(T::Response, bool), Error> {
        let mut arrival = Arrival {
            deadline: Instant::now() + Duration::from_secs(60),
            key: Key::Given(key.into()),
            ..Arrival::default()
        };
        Arc::make_mut(&mut arrival.principal).id = caller.to_owned();
        let call = Call::new(request.into_request(), Door::Grpc, &arrival);
        let reply = self.gateway.call(call).await?;
        let response =
            T::from_response(reply.response).expect("the response of the same operation");
        Ok((response, reply.replayed))
    }

    /// Makes one call that must succeed.
    pub async fn ok<T: Typed + std::fmt::Debug>(&self, request: T) -> T::Response {
        let shown = format!("{request:?}");
        match self.call(request).await {
            Ok(response) => response,
            Err(error) => panic!("{shown} failed: {error:?}"),
        }
    }

    /// Makes one call that must fail, and returns (AWS's exception, our reason, text).
    pub async fn fails<T: Typed + std::fmt::Debug>(&self, request: T) -> Refusal {
        let shown = format!("{request:?}");
        match self.call(request).await {
            Ok(_) => panic!("{shown} succeeded"),
            Err(error) => Refusal::of(&error),
        }
    }

    /// Lets all that is under way end: steps of the provisioner follow one another until none
    /// is left that is due within an hour.
    pub async fn settle(&self) {
        for _ in 0..20 {
            self.step().await;
        }
    }

    /// Lets one step of the provisioner pass.
    pub async fn step(&self) {
        self.clock.advance(STEP);
        self.engine.settle().await.unwrap();
    }

    /// Puts a file into a local bucket.
    pub fn put_object(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let path = self.buckets.path().join(bucket).join(key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

/// What a caller learns from a failed call, the same over every backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub exception: &'static str,
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn of(error: &Error) -> Self {
        assert_ne!(*error.kind, ErrorKind::Internal, "a defect: {error:?}");
        let meaning = status::meaning(&error.kind);
        Self {
            exception: meaning.exception,
            reason: meaning.reason,
            message: error.message.clone(),
        }
    }

    #[track_caller]
    pub fn is(&self, exception: &str) -> &Self {
        assert_eq!(self.exception, exception, "{self:?}");
        self
    }

    #[track_caller]
    pub fn because(&self, reason: &str) -> &Self {
        assert_eq!(self.reason, reason, "{self:?}");
        self
    }

    /// Fields are named as the contract does, or as AWS does where its API is between.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let found = |text: &str| self.message.contains(text);
        assert!(found(text) || found(&camel_case(text)), "{self:?}");
        self
    }
}

/// Writes one test as three: over each backend.
#[macro_export]
macro_rules! conformance {
    ($($(#[$doc:meta])* async fn $name:ident($world:ident) $body:block)+) => {$(
        $(#[$doc])*
        mod $name {
            use super::*;

            async fn scenario($world: &$crate::support::World) $body

            #[tokio::test]
            async fn in_memory() {
                scenario(&$crate::support::World::over($crate::support::Backend::InMemory).await).await;
            }

            #[tokio::test]
            async fn on_disk() {
                scenario(&$crate::support::World::over($crate::support::Backend::OnDisk).await).await;
            }

            #[tokio::test]
            async fn through_the_aws_door() {
                scenario(&$crate::support::World::over($crate::support::Backend::ThroughAwsDoor).await).await;
            }
        }
    )+};
}

/// A tag.
pub fn tag(key: &str, value: &str) -> pb::Tag {
    pb::Tag {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    }
}
