//! The embedded, durable, Proton-compatible control plane.
//!
//! One file per kind of resource. Operations are plain functions on a transaction of the
//! [`store`]; what is to happen later is written down as a task in the same transaction, and done
//! by [`Engine::work`]. Start with [`route`].

pub mod account_settings;
pub mod bucket;
pub mod component;
pub mod context;
pub mod deployment;
pub mod environment;
pub mod environment_account_connection;
pub mod environment_template;
mod examinations;
mod idempotency;
pub mod owner;
mod paging;
pub mod portable;
pub mod provision;
mod registration;
pub mod registry;
pub mod repository;
pub mod resources_summary;
pub mod service;
pub mod service_instance;
pub mod service_pipeline;
pub mod service_sync;
pub mod service_template;
mod spec;
pub mod store;
pub mod tag;
pub mod template;
pub mod template_sync;
mod update;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tower::Service;

use self::context::{Context, Ended, Lacked, Schemas};
pub use self::context::{Quotas, Settings};
use self::examinations::Examinations;
use self::paging::Seal;
use self::provision::{Backlog, Task};
use self::registry::{TemplateRecord, VersionRecord};
use self::store::{Store, Transaction};
use crate::api::pb::DeploymentStatus;
use crate::api::{Idempotency, Request, Response};
use crate::cache::coherence::Coherence;
use crate::changes::Changes;
use crate::clock::{Clock, epoch_millis};
use crate::edge::status;
use crate::error::{Error, Result};
use crate::etag::Condition;
use crate::gateway::{Call, Reply};
use crate::telemetry::Metrics;

/// How long a task that failed is left alone before it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// How many schemas are read for one operation before it, so that it does not read them while it
/// holds up all others. One needs at most a few.
const READ_BEFORE: usize = 32;

/// The engine. Clones share its store.
#[derive(Clone)]
pub struct Engine {
    store: Store,
    clock: Arc<dyn Clock>,
    /// The latest time by which tasks may have been put down, in milliseconds since the epoch.
    latest: Arc<AtomicI64>,
    settings: Arc<Settings>,
    schemas: Arc<Schemas>,
    /// Of the tokens of pages.
    seal: Seal,
    examinations: Examinations,
    /// Wakes the worker: there may be a new task.
    changed: Arc<Notify>,
    /// Who is told of deployments; nobody where it is absent.
    metrics: Option<Metrics>,
}

/// Names the function of each operation: forgetting one does not compile.
macro_rules! routes {
    ($($operation:ident => $function:path,)+) => {
        /// Answers a request inside a transaction.
        fn route(tx: &Transaction<'_>, cx: &Context, request: Request) -> Result<Response> {
            match request {
                $(Request::$operation(request) => {
                    $function(tx, cx, request).map(Response::$operation)
                })+
            }
        }
    };
}

routes! {
    AcceptEnvironmentAccountConnection => environment_account_connection::accept,
    CreateEnvironmentAccountConnection => environment_account_connection::create,
    DeleteEnvironmentAccountConnection => environment_account_connection::delete,
    GetEnvironmentAccountConnection => environment_account_connection::get,
    ListEnvironmentAccountConnections => environment_account_connection::list,
    RejectEnvironmentAccountConnection => environment_account_connection::reject,
    UpdateEnvironmentAccountConnection => environment_account_connection::update,
    CancelComponentDeployment => component::cancel,
    CreateComponent => component::create,
    DeleteComponent => component::delete,
    GetComponent => component::get,
    ListComponentOutputs => component::list_outputs,
    ListComponentProvisionedResources => component::list_provisioned_resources,
    ListComponents => component::list,
    UpdateComponent => component::update,
    CancelEnvironmentDeployment => environment::cancel,
    CreateEnvironment => environment::create,
    DeleteEnvironment => environment::delete,
    GetEnvironment => environment::get,
    ListEnvironmentOutputs => environment::list_outputs,
    ListEnvironmentProvisionedResources => environment::list_provisioned_resources,
    ListEnvironments => environment::list,
    UpdateEnvironment => environment::update,
    CancelServiceInstanceDeployment => service_instance::cancel,
    CreateServiceInstance => service_instance::create,
    GetServiceInstance => service_instance::get,
    ListServiceInstanceOutputs => service_instance::list_outputs,
    ListServiceInstanceProvisionedResources => service_instance::list_provisioned_resources,
    ListServiceInstances => service_instance::list,
    UpdateServiceInstance => service_instance::update,
    CancelServicePipelineDeployment => service_pipeline::cancel,
    ListServicePipelineOutputs => service_pipeline::list_outputs,
    ListServicePipelineProvisionedResources => service_pipeline::list_provisioned_resources,
    UpdateServicePipeline => service_pipeline::update,
    CreateEnvironmentTemplate => environment_template::create,
    CreateEnvironmentTemplateVersion => environment_template::create_version,
    DeleteEnvironmentTemplate => environment_template::delete,
    DeleteEnvironmentTemplateVersion => environment_template::delete_version,
    GetEnvironmentTemplate => environment_template::get,
    GetEnvironmentTemplateVersion => environment_template::get_version,
    ListEnvironmentTemplateVersions => environment_template::list_versions,
    ListEnvironmentTemplates => environment_template::list,
    UpdateEnvironmentTemplate => environment_template::update,
    UpdateEnvironmentTemplateVersion => environment_template::update_version,
    CreateRepository => repository::create,
    DeleteRepository => repository::delete,
    GetRepository => repository::get,
    ListRepositories => repository::list,
    CreateService => service::create,
    DeleteService => service::delete,
    GetService => service::get,
    ListServices => service::list,
    UpdateService => service::update,
    CreateServiceSyncConfig => service_sync::create,
    DeleteServiceSyncConfig => service_sync::delete,
    GetServiceInstanceSyncStatus => service_sync::instance_status,
    GetServiceSyncBlockerSummary => service_sync::blockers,
    GetServiceSyncConfig => service_sync::get,
    UpdateServiceSyncBlocker => service_sync::resolve_blocker,
    UpdateServiceSyncConfig => service_sync::update,
    CreateServiceTemplate => service_template::create,
    CreateServiceTemplateVersion => service_template::create_version,
    DeleteServiceTemplate => service_template::delete,
    DeleteServiceTemplateVersion => service_template::delete_version,
    GetServiceTemplate => service_template::get,
    GetServiceTemplateVersion => service_template::get_version,
    ListServiceTemplateVersions => service_template::list_versions,
    ListServiceTemplates => service_template::list,
    UpdateServiceTemplate => service_template::update,
    UpdateServiceTemplateVersion => service_template::update_version,
    CreateTemplateSyncConfig => template_sync::create,
    DeleteTemplateSyncConfig => template_sync::delete,
    GetRepositorySyncStatus => template_sync::repository_status,
    GetTemplateSyncConfig => template_sync::get,
    GetTemplateSyncStatus => template_sync::status,
    ListRepositorySyncDefinitions => template_sync::list_definitions,
    UpdateTemplateSyncConfig => template_sync::update,
    DeleteDeployment => deployment::delete,
    GetDeployment => deployment::get,
    ListDeployments => deployment::list,
    NotifyResourceDeploymentStatusChange => deployment::notify,
    GetAccountSettings => account_settings::get,
    UpdateAccountSettings => account_settings::update,
    GetResourcesSummary => resources_summary::get,
    ListTagsForResource => tag::list,
    TagResource => tag::tag,
    UntagResource => tag::untag,
}

impl Engine {
    pub fn new(store: Store, clock: Arc<dyn Clock>, settings: Settings) -> Self {
        // Told by the store: a mutation may outlive its caller.
        let changed = store.committed();
        Self {
            seal: Seal::of(store.secret()),
            store,
            clock,
            // Nothing is known of the clock before the start.
            latest: Arc::new(AtomicI64::new(i64::MAX)),
            settings: Arc::new(settings),
            schemas: Arc::default(),
            examinations: Examinations::new(Arc::clone(&changed)),
            changed,
            metrics: None,
        }
    }

    /// Takes the store for the account and the region of the settings. Fails where it is that of
    /// others.
    pub async fn claim(&self) -> Result<()> {
        let settings = Arc::clone(&self.settings);
        self.store
            .write(move |tx| owner::claim(tx, &settings))
            .await
    }

    /// The same, of whose deployments and tasks `metrics` are told.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Has it recorded what is still to be done.
    pub async fn measure(&self) -> Result<()> {
        let Some(metrics) = &self.metrics else {
            return Ok(());
        };
        let backlog = self.store.read(Backlog::of).await?;
        let now = epoch_millis(self.clock.now());
        let since = |millis: i64| {
            let past = u64::try_from(now.saturating_sub(millis)).unwrap_or(0);
            Duration::from_millis(past)
        };
        let begun = backlog
            .begun
            .map(|at| at.seconds * 1000 + i64::from(at.nanos) / 1_000_000);
        metrics.tasks(
            backlog.tasks,
            backlog.due_millis.map_or(Duration::ZERO, since),
        );
        metrics.deployments_in_progress(backlog.deployments, begun.map_or(Duration::ZERO, since));
        Ok(())
    }

    /// Has it counted how deployments ended, once that holds.
    fn count<R>(&self, outcome: &Result<R>, ended: &Ended) {
        let Some(metrics) = self.metrics.as_ref().filter(|_| outcome.is_ok()) else {
            return;
        };
        for status in ended.take() {
            metrics.deployment_ended(match status {
                DeploymentStatus::Succeeded => "succeeded",
                DeploymentStatus::Cancelled => "cancelled",
                DeploymentStatus::DeleteComplete => "deleted",
                DeploymentStatus::DeleteFailed => "delete-failed",
                _ => "failed",
            });
        }
    }

    /// Where changes of resources are published.
    pub fn changes(&self) -> &Changes {
        self.store.changes()
    }

    /// What the cache has to know of changes: all of them.
    pub fn coherence(&self) -> Coherence {
        let version = self.store.version().clone();
        Coherence::Exact(Arc::new(move || version.settled()))
    }

    /// The time by which something may be put down to be done later.
    fn now(&self) -> SystemTime {
        let now = self.clock.now();
        self.latest.fetch_max(epoch_millis(now), Ordering::Relaxed);
        now
    }

    fn context(&self) -> Context {
        Context::new(
            self.now(),
            Arc::clone(&self.settings),
            Arc::clone(&self.schemas),
        )
        .sealing(self.seal.clone())
    }

    /// Runs `work` in a transaction that changes the store. A schema that it needs and that was
    /// not read lately is read outside, and the work done anew.
    async fn write<R, F>(&self, work: F) -> Result<R>
    where
        R: Send + 'static,
        F: FnOnce(&Transaction<'_>, &Context) -> Result<R> + Clone + Send + 'static,
    {
        for _ in 0..READ_BEFORE {
            let lacked = Lacked::default();
            let (cx, attempt) = (self.context().noting(lacked.clone()), work.clone());
            let ended = cx.ended();
            let outcome = self
                .store
                .write(move |tx| {
                    let outcome = attempt(tx, &cx);
                    match cx.lacks_a_schema() {
                        // Whatever came of it: it was decided without the schema.
                        true => Err(Error::internal("a schema is to be read first")),
                        false => outcome,
                    }
                })
                .await;
            let Some(text) = lacked.take() else {
                self.count(&outcome, &ended);
                return outcome;
            };
            let schemas = Arc::clone(&self.schemas);
            tokio::task::spawn_blocking(move || drop(schemas.read(&text)))
                .await
                .map_err(|_| Error::internal("a schema could not be read"))?;
        }
        let cx = self.context();
        let ended = cx.ended();
        let outcome = self.store.write(move |tx| work(tx, &cx)).await;
        self.count(&outcome, &ended);
        outcome
    }

    async fn answer(self, call: Call) -> Result<Reply> {
        let transaction = call.trace.step("engine.transaction");
        let outcome = self.transact(call).await;
        let failure = outcome.as_ref().err();
        transaction.end(failure.map(|error| status::meaning(&error.kind).reason));
        outcome
    }

    async fn transact(self, call: Call) -> Result<Reply> {
        let condition = Condition::of(&call);
        let (operation, request) = (call.operation, call.request);
        let once = call.once;
        if operation.policy().idempotency == Idempotency::Read {
            let cx = self.context();
            let read = move |tx: &Transaction<'_>| route(tx, &cx, request);
            return self.store.read(read).await.map(Reply::new);
        }
        self.write(move |tx, cx| {
            let change = || {
                if let Some(condition) = condition {
                    // In the same transaction: nobody changes it in between.
                    condition.check(&route(tx, cx, condition.read.clone())?)?;
                }
                route(tx, cx, request)
            };
            match once {
                Some(once) => once.run(tx, operation, change),
                None => change().map(|response| Ok(Reply::new(response))),
            }
        })
        .await?
    }

    /// Does what is due, when it is due, until `stopped` returns. What is under way then is
    /// finished first, except for registrations, which like all that is not yet due are done after
    /// the next start.
    pub async fn work(self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            let wait = match self.step(&self.examinations.under_way()).await {
                Ok(Step::Done) => continue,
                Ok(Step::Wait(due)) => due.map(|due| self.clock.sleep_until(due)),
                Err(error) => {
                    tracing::error!(cause = %error, "the engine's work is interrupted; it is tried again");
                    Some(self.clock.sleep_until(self.clock.now() + TRY_AGAIN))
                }
            };
            let due = async {
                match wait {
                    Some(wait) => wait.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.changed.notified() => {}
                () = &mut stopped => {
                    self.examinations.abandon();
                    return;
                }
            }
        }
    }

    /// Does everything that is due now, and what follows from it and is due at once.
    pub async fn settle(&self) -> Result<()> {
        loop {
            let under_way = self.examinations.under_way();
            match self.step(&under_way).await? {
                Step::Done => {}
                Step::Wait(_) if under_way.is_empty() => return Ok(()),
                Step::Wait(_) => self.examinations.one_of(&under_way).await,
            }
        }
    }

    /// Does the next task if it is due, or begins it if it is a registration: reading a bundle
    /// takes too long for all others to wait. Those `under_way` are passed over.
    async fn step(&self, under_way: &HashSet<i64>) -> Result<Step> {
        self.follow_the_clock().await?;
        let passed = under_way.clone();
        let next = self.store.read(move |tx| tx.next_task(&passed)).await?;
        let Some(stored) = next else {
            return Ok(Step::Wait(None));
        };
        if stored.due_millis > epoch_millis(self.clock.now()) {
            let due = Duration::from_millis(u64::try_from(stored.due_millis).unwrap_or(0));
            return Ok(Step::Wait(Some(UNIX_EPOCH + due)));
        }
        let (id, engine) = (stored.id, self.clone());
        match Task::decode(&stored.body) {
            Ok(Task::Register(key)) => {
                let major = registry::major_of(&key).to_owned();
                let registration = async move {
                    let outcome = engine.register(id, key).await;
                    if let Err(error) = engine.ended(id, outcome).await {
                        tracing::error!(cause = %error, task = id, "a failed task stays due");
                    }
                };
                self.examinations.start(id, &major, registration);
            }
            decoded => {
                let outcome = match decoded {
                    Ok(task) => self.perform(id, task).await,
                    Err(error) => Err(error),
                };
                self.ended(id, outcome).await?;
            }
        }
        Ok(Step::Done)
    }

    /// Brings forward what would be done too late because the clock was set back.
    async fn follow_the_clock(&self) -> Result<()> {
        let latest = self.latest.load(Ordering::Relaxed);
        let cx = self.context();
        let now = cx.now_millis();
        if now >= latest {
            return Ok(());
        }
        let late = self
            .store
            .read(move |tx| provision::too_late(tx, &cx))
            .await?;
        if !late.is_empty() {
            tracing::info!(
                tasks = late.len(),
                "tasks are brought forward: the clock was ahead, or steps took longer"
            );
            let bring = move |tx: &Transaction<'_>| {
                late.iter()
                    .try_for_each(|(id, due_millis)| tx.put_task_at(*id, *due_millis))
            };
            self.store.write(bring).await?;
        }
        // Unless something was put down by a later time meanwhile: then once more.
        let _ = self
            .latest
            .compare_exchange(latest, now, Ordering::Relaxed, Ordering::Relaxed);
        Ok(())
    }

    /// Puts a task off that failed.
    async fn ended(&self, id: i64, outcome: Result<()>) -> Result<()> {
        let Err(error) = outcome else {
            return Ok(());
        };
        tracing::error!(cause = %error, task = id, "a task failed; it is tried again");
        let later = epoch_millis(self.now() + TRY_AGAIN);
        self.store.write(move |tx| tx.put_task_at(id, later)).await
    }

    async fn perform(&self, id: i64, task: Task) -> Result<()> {
        self.write(move |tx, cx| {
            // Another call may have made it pointless meanwhile.
            if tx.finish_task(id)? {
                provision::perform(tx, cx, &task)?;
            }
            Ok(())
        })
        .await
    }

    /// Examines the bundle of the version under `key` and writes down what came of it.
    async fn register(&self, id: i64, key: String) -> Result<()> {
        let Some(outcome) = self.examine(key.clone()).await? else {
            return self
                .store
                .write(move |tx| tx.finish_task(id).map(drop))
                .await;
        };
        let outcome = Arc::new(outcome);
        loop {
            let (of, good) = (key.clone(), outcome.is_ok());
            let previous = self
                .store
                .read(move |tx| match good {
                    true => registration::predecessor(tx, &of),
                    false => Ok(None),
                })
                .await?;
            let (schemas, examined, judged_by) = (
                Arc::clone(&self.schemas),
                Arc::clone(&outcome),
                previous.clone(),
            );
            let incompatible = tokio::task::spawn_blocking(move || {
                let registered = examined.as_ref().as_ref().ok()?;
                registered.remember(&schemas);
                registration::incompatibility(&schemas, registered, judged_by.as_ref()?)
            })
            .await
            .map_err(|_| Error::internal("the schemas could not be compared"))?;
            let (cx, of, examined) = (self.context(), key.clone(), Arc::clone(&outcome));
            let concluded = self
                .store
                .write(move |tx| {
                    let concluded =
                        registration::conclude(tx, &cx, &of, &examined, &previous, incompatible)?;
                    if concluded {
                        tx.finish_task(id)?;
                    }
                    Ok(concluded)
                })
                .await?;
            // Otherwise the version before it was registered or deleted meanwhile.
            if concluded {
                return Ok(());
            }
        }
    }

    /// Fetches and checks the bundle of the version under `key`, if that is still there.
    async fn examine(&self, key: String) -> Result<Option<registration::Outcome>> {
        let found = self
            .store
            .read(move |tx| {
                let Some(version) = tx.get::<VersionRecord>(&key)? else {
                    return Ok(None);
                };
                let template = registry::template_key(version.kind(), &version.template);
                let customer_managed = tx
                    .get::<TemplateRecord>(&template)?
                    .is_some_and(|template| template.customer_managed());
                Ok(Some((version, customer_managed)))
            })
            .await?;
        let Some((version, customer_managed)) = found else {
            return Ok(None);
        };
        let buckets = self.settings.buckets.clone();
        tokio::task::spawn_blocking(move || {
            registration::examine(&buckets, &version, customer_managed)
        })
        .await
        .map(Some)
        // A bundle that makes the reader panic is refused, not read again and again.
        .or_else(|_| Ok(Some(Err("The bundle could not be read.".to_owned()))))
    }
}

enum Step {
    /// Something was due and was done.
    Done,
    /// Nothing is due before the given time, if ever.
    Wait(Option<SystemTime>),
}

impl Service<Call> for Engine {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        Box::pin(self.clone().answer(call))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use super::bucket::Buckets;
    use super::*;
    use crate::clock::ManualClock;

    const SCHEMA: &str =
        "schema: {format: {openapi: 3.0.0}, service_input_type: T, types: {T: {type: object}}}";

    fn engine() -> Engine {
        let clock = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(1_000));
        engine_by(&clock, Duration::ZERO)
    }

    fn engine_by(clock: &ManualClock, step: Duration) -> Engine {
        let settings = Settings {
            region: "eu-central-1".into(),
            account_id: "123456789012".into(),
            step,
            self_managed_timeout: Duration::from_secs(60),
            buckets: Buckets::in_folder(Path::new("/nonexistent")),
            quotas: Quotas::default(),
        };
        let store = Store::in_memory().unwrap();
        Engine::new(store, Arc::new(clock.clone()), settings)
    }

    const STEP: Duration = Duration::from_secs(5);
    const YEARS: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

    /// A clock that is far ahead, and what it would be if it were right.
    fn ahead() -> (ManualClock, SystemTime) {
        let right = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        (ManualClock::starting_at(right + YEARS), right)
    }

    /// Puts down a task of each kind that others wait for.
    async fn put_down(engine: &Engine) {
        let cx = engine.context();
        let all = move |tx: &Transaction<'_>| {
            let (settle_at, give_up_at) = (cx.settle_at(), cx.give_up_at());
            provision::schedule(tx, settle_at, "test", Task::Register("a".into()))?;
            provision::schedule(tx, settle_at, "test", Task::Settle("b".into()))?;
            provision::schedule(tx, settle_at, "test", Task::Cancel("c".into()))?;
            provision::schedule(tx, give_up_at, "test", Task::GiveUp("d".into()))
        };
        engine.store.write(all).await.unwrap();
    }

    async fn schedule(engine: &Engine, task: Task) {
        engine
            .store
            .write(move |tx| provision::schedule(tx, 0, "test", task))
            .await
            .unwrap();
    }

    async fn is_left(engine: &Engine) -> bool {
        let nothing = HashSet::new();
        let next = engine.store.read(move |tx| tx.next_task(&nothing)).await;
        next.unwrap().is_some()
    }

    /// Keeps all registrations from being examined.
    fn occupied(engine: &Engine) {
        for id in [-1, -2] {
            engine
                .examinations
                .start(id, &id.to_string(), std::future::pending());
        }
    }

    #[tokio::test]
    async fn other_tasks_are_done_while_a_registration_is_examined() {
        let engine = engine();
        occupied(&engine);
        tokio::task::yield_now().await;
        schedule(&engine, Task::Register("a".into())).await;
        schedule(&engine, Task::ForgetDeployment("b".into())).await;
        let begun = engine.step(&HashSet::new()).await.unwrap();
        assert!(matches!(begun, Step::Done));
        let under_way = engine.examinations.under_way();
        assert_eq!(under_way.len(), 3);
        let done = engine.step(&under_way).await.unwrap();
        assert!(matches!(done, Step::Done));
        let rest = engine.step(&under_way).await.unwrap();
        assert!(matches!(rest, Step::Wait(None)));
    }

    #[tokio::test]
    async fn a_registration_that_is_not_finished_when_the_work_stops_is_still_to_do() {
        let engine = engine();
        occupied(&engine);
        schedule(&engine, Task::Register("a".into())).await;
        let stopped = {
            let engine = engine.clone();
            async move {
                while engine.examinations.under_way().len() < 3 {
                    tokio::task::yield_now().await;
                }
            }
        };
        engine.clone().work(stopped).await;
        while !engine.examinations.under_way().is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(is_left(&engine).await);
    }

    #[tokio::test]
    async fn settling_waits_for_registrations() {
        let engine = engine();
        schedule(&engine, Task::Register("a".into())).await;
        engine.settle().await.unwrap();
        assert!(!is_left(&engine).await);
    }

    #[tokio::test]
    async fn a_schema_is_read_outside_of_the_transaction_that_needs_it() {
        let engine = engine();
        let attempts = Arc::new(AtomicUsize::new(0));
        for expected in [2, 3] {
            let counted = Arc::clone(&attempts);
            let found = engine
                .write(move |_, cx| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    Ok(cx.schema(SCHEMA).is_some())
                })
                .await;
            assert_eq!(found, Ok(true));
            assert_eq!(attempts.load(Ordering::Relaxed), expected);
        }
        let found = engine.write(|_, cx| Ok(cx.schema("no schema").is_some()));
        assert_eq!(found.await, Ok(false));
    }

    async fn left(engine: &Engine) -> u64 {
        engine.store.read(Backlog::of).await.unwrap().tasks
    }

    #[tokio::test]
    async fn what_was_put_down_by_a_clock_that_was_ahead_is_done_when_it_would_be_by_the_right_one()
    {
        let (clock, right) = ahead();
        let engine = engine_by(&clock, STEP);
        engine.settle().await.unwrap();
        put_down(&engine).await;
        clock.set(right);
        // It comes first, and hides nothing.
        let cx = engine.context();
        let first = move |tx: &Transaction<'_>| {
            let task = Task::ForgetToken("e".into());
            provision::schedule(tx, cx.give_up_at() + 1, "test", task)
        };
        engine.store.write(first).await.unwrap();
        engine.settle().await.unwrap();
        assert_eq!(left(&engine).await, 5);
        clock.advance(STEP);
        engine.settle().await.unwrap();
        assert_eq!(left(&engine).await, 2);
        clock.advance(Duration::from_secs(60) - STEP);
        engine.settle().await.unwrap();
        assert_eq!(left(&engine).await, 1);
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_before_the_start_holds_nothing_up() {
        let (clock, right) = ahead();
        let before = engine_by(&clock, STEP);
        put_down(&before).await;
        clock.set(right);
        let settings = (*before.settings).clone();
        let engine = Engine::new(before.store.clone(), Arc::new(clock.clone()), settings);
        engine.settle().await.unwrap();
        clock.advance(Duration::from_secs(60));
        engine.settle().await.unwrap();
        assert_eq!(left(&engine).await, 0);
    }

    #[tokio::test]
    async fn a_worker_that_waits_sees_that_the_clock_is_set_back() {
        let (clock, right) = ahead();
        let engine = engine_by(&clock, STEP);
        let worker = tokio::spawn(engine.clone().work(std::future::pending()));
        put_down(&engine).await;
        clock.set(right);
        let done = async {
            while left(&engine).await > 0 {
                clock.advance(STEP);
                tokio::task::yield_now().await;
            }
        };
        // Years of such steps take longer.
        let done = tokio::time::timeout(Duration::from_secs(20), done).await;
        assert!(done.is_ok());
        worker.abort();
    }
}
