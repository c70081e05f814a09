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
mod idempotency;
mod paging;
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

use std::future::Future;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;
use tower::Service;

use self::context::{Context, Schemas};
pub use self::context::{Quotas, Settings};
use self::provision::Task;
use self::registry::{TemplateRecord, VersionRecord};
use self::store::{Store, Transaction};
use crate::api::{Idempotency, Request, Response};
use crate::changes::Changes;
use crate::clock::{Clock, epoch_millis};
use crate::error::{Error, Result};
use crate::gateway::{Call, Reply};

/// How long a task that failed is left alone before it is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(30);

/// The engine. Clones share its store.
#[derive(Clone)]
pub struct Engine {
    store: Store,
    clock: Arc<dyn Clock>,
    settings: Arc<Settings>,
    schemas: Arc<Schemas>,
    /// Wakes the worker: there may be a new task.
    changed: Arc<Notify>,
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
        Self {
            store,
            clock,
            settings: Arc::new(settings),
            schemas: Arc::default(),
            changed: Arc::default(),
        }
    }

    /// Where changes of resources are published.
    pub fn changes(&self) -> &Changes {
        self.store.changes()
    }

    fn context(&self) -> Context {
        Context::new(
            self.clock.now(),
            Arc::clone(&self.settings),
            Arc::clone(&self.schemas),
        )
    }

    async fn answer(self, call: Call) -> Result<Reply> {
        let cx = self.context();
        let request = call.request;
        let response = if call.operation.policy().idempotency == Idempotency::Read {
            self.store.read(move |tx| route(tx, &cx, request)).await?
        } else {
            let outcome = self.store.write(move |tx| route(tx, &cx, request)).await;
            self.changed.notify_one();
            outcome?
        };
        Ok(Reply {
            response,
            upstream_request_id: None,
        })
    }

    /// Does what is due, when it is due, until `stopped` returns. What is under way then is
    /// finished first, and what is not yet due is done after the next start.
    pub async fn work(self, stopped: impl Future<Output = ()>) {
        tokio::pin!(stopped);
        loop {
            let wait = match self.step().await {
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
                () = &mut stopped => return,
            }
        }
    }

    /// Does everything that is due now, and what follows from it and is due at once.
    pub async fn settle(&self) -> Result<()> {
        while matches!(self.step().await?, Step::Done) {}
        Ok(())
    }

    /// Does the next task if it is due.
    async fn step(&self) -> Result<Step> {
        let Some(stored) = self.store.read(|tx| tx.next_task()).await? else {
            return Ok(Step::Wait(None));
        };
        if stored.due_millis > epoch_millis(self.clock.now()) {
            let due = Duration::from_millis(u64::try_from(stored.due_millis).unwrap_or(0));
            return Ok(Step::Wait(Some(UNIX_EPOCH + due)));
        }
        let id = stored.id;
        if let Err(error) = self.perform(stored).await {
            tracing::error!(cause = %error, task = id, "a task failed; it is tried again");
            let later = epoch_millis(self.clock.now() + TRY_AGAIN);
            self.store
                .write(move |tx| tx.postpone_task(id, later))
                .await?;
        }
        Ok(Step::Done)
    }

    async fn perform(&self, stored: store::Task) -> Result<()> {
        let task = Task::decode(&stored.body)?;
        let registered = match &task {
            Task::Register(key) => self.examine(key.clone()).await?,
            _ => None,
        };
        let cx = self.context();
        self.store
            .write(move |tx| {
                // Another call may have made it pointless meanwhile.
                if !tx.finish_task(stored.id)? {
                    return Ok(());
                }
                match (task, registered) {
                    (Task::Register(key), Some(outcome)) => {
                        registration::conclude(tx, &cx, &key, outcome)
                    }
                    (task, _) => provision::perform(tx, &cx, &task),
                }
            })
            .await
    }

    /// Fetches and checks the bundle of the version under `key`, if that is still there.
    async fn examine(
        &self,
        key: String,
    ) -> Result<Option<std::result::Result<registration::Registered, String>>> {
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
    Wait(Option<std::time::SystemTime>),
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
