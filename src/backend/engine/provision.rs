//! Deployments under way: how they begin, how they end, and what is due when.
//!
//! Environments, service instances, pipelines and components are deployed alike. Their records
//! have a [`Rollout`] in common; what a deployment is to bring about waits in the record beside
//! what is there, and takes its place when the deployment succeeds.
//!
//! The provisioner is simulated: it provisions nothing, takes its time, succeeds, and says so. A
//! caller may report another outcome while the deployment lasts
//! (`NotifyResourceDeploymentStatusChange`). A self-managed deployment waits for that report, and
//! fails if it never comes: nothing is in progress for ever.

use prost::Message;
use prost_types::Timestamp;

use super::component;
use super::context::Context;
use super::deployment::{Action, DeploymentRecord};
use super::environment;
use super::idempotency;
use super::service_instance;
use super::service_pipeline;
use super::store::Transaction;
use crate::api::pb::deployment_state::State;
use crate::api::pb::{self, DeploymentStatus, DeploymentTargetResourceType};
use crate::error::{Error, Result};

/// What every success of the simulated provisioner says.
const SIMULATED: &str = "Simulated: nothing was provisioned.";
/// AWS's own text (User Guide, update an environment).
const CANCELLED: &str = "User initiated cancellation.";
/// Deployments that are remembered for one target; the oldest go first.
const HISTORY: u64 = 100;
/// How long the deployments of a deleted resource are remembered.
pub(super) const REMEMBERED_MILLIS: i64 = 30 * 24 * 3600 * 1000;

/// What is deployed, as the tail of its ARN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Environment(String),
    Instance { service: String, name: String },
    Pipeline { service: String },
    Component(String),
}

impl Target {
    /// `environment/prod`; [`Target::parse`] reads it back.
    pub fn tail(&self) -> String {
        match self {
            Self::Environment(name) => format!("environment/{name}"),
            Self::Instance { service, name } => {
                format!("service/{service}/service-instance/{name}")
            }
            Self::Pipeline { service } => format!("service/{service}/pipeline"),
            Self::Component(name) => format!("component/{name}"),
        }
    }

    pub fn parse(tail: &str) -> Option<Self> {
        let parts: Vec<_> = tail.split('/').collect();
        let owned = |part: &str| part.to_owned();
        match parts.as_slice() {
            ["environment", name] => Some(Self::Environment(owned(name))),
            ["service", service, "service-instance", name] => Some(Self::Instance {
                service: owned(service),
                name: owned(name),
            }),
            // The older form has an id at its end.
            ["service", service, "pipeline"] | ["service", service, "pipeline", _] => {
                Some(Self::Pipeline {
                    service: owned(service),
                })
            }
            ["component", name] => Some(Self::Component(owned(name))),
            _ => None,
        }
    }

    fn resource_type(&self) -> DeploymentTargetResourceType {
        match self {
            Self::Environment(_) => DeploymentTargetResourceType::Environment,
            Self::Instance { .. } => DeploymentTargetResourceType::ServiceInstance,
            Self::Pipeline { .. } => DeploymentTargetResourceType::ServicePipeline,
            Self::Component(_) => DeploymentTargetResourceType::Component,
        }
    }
}

/// How far the deployments of one target are.
#[derive(Clone, PartialEq, Message)]
pub struct Rollout {
    #[prost(enumeration = "DeploymentStatus", tag = "1")]
    pub status: i32,
    #[prost(string, optional, tag = "2")]
    pub message: Option<String>,
    #[prost(string, optional, tag = "3")]
    pub attempted_id: Option<String>,
    #[prost(message, optional, tag = "4")]
    pub attempted_at: Option<Timestamp>,
    #[prost(string, optional, tag = "5")]
    pub succeeded_id: Option<String>,
    #[prost(message, optional, tag = "6")]
    pub succeeded_at: Option<Timestamp>,
    /// Of the last deployment that succeeded.
    #[prost(message, repeated, tag = "7")]
    pub outputs: Vec<pb::Output>,
}

impl Rollout {
    /// Something is under way that will end by itself.
    pub fn busy(&self) -> bool {
        matches!(
            self.status(),
            DeploymentStatus::InProgress
                | DeploymentStatus::Cancelling
                | DeploymentStatus::DeleteInProgress
        )
    }

    /// Refuses unless a new deployment may begin.
    pub fn free(&self, target: &Target) -> Result<()> {
        let tail = target.tail();
        if self.busy() {
            let status = self.status().as_str_name();
            let status = status.trim_start_matches("DEPLOYMENT_STATUS_");
            return Err(Error::in_progress(
                &tail,
                format!("{tail} is {status}; wait until its deployment has ended"),
            ));
        }
        if self.status() == DeploymentStatus::DeleteFailed {
            return Err(Error::precondition(
                &tail,
                format!("the deletion of {tail} failed; it can only be deleted again"),
            ));
        }
        Ok(())
    }

    /// Takes over how a deployment ended.
    pub fn end(&mut self, ending: &Ending) {
        self.set_status(ending.status);
        self.message.clone_from(&ending.message);
        if ending.status == DeploymentStatus::Succeeded {
            self.succeeded_id = Some(ending.deployment_id.clone());
            self.succeeded_at = Some(ending.at);
            self.outputs.clone_from(&ending.outputs);
        }
    }
}

/// How a deployment ended.
#[derive(Debug, Clone)]
pub struct Ending {
    pub deployment_id: String,
    pub status: DeploymentStatus,
    pub message: Option<String>,
    pub outputs: Vec<pb::Output>,
    pub at: Timestamp,
}

impl Ending {
    /// The target is there no more.
    pub fn deleted(&self) -> bool {
        self.status == DeploymentStatus::DeleteComplete
    }

    pub fn succeeded(&self) -> bool {
        self.status == DeploymentStatus::Succeeded
    }

    /// Moves what was deployed to its place, or drops it: what was there before stays, and what
    /// was to be there by a first deployment is what the next one starts from.
    pub fn settle<S>(&self, current: &mut Option<S>, pending: &mut Option<S>) {
        if self.succeeded() {
            *current = pending.take();
        } else if current.is_some() {
            *pending = None;
        }
    }
}

/// Who ends a deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// There is nothing to do.
    AtOnce,
    /// The simulated provisioner, after its step.
    Simulated,
    /// Whoever reports the outcome.
    SelfManaged,
}

/// A deployment that is to begin.
#[derive(Debug)]
pub struct Plan {
    pub target: Target,
    pub action: Action,
    pub pace: Pace,
    /// When the target was created: tells it from earlier ones of its name.
    pub target_created_at: Option<Timestamp>,
    pub environment: String,
    pub initial: Option<State>,
    pub desired: Option<State>,
    /// Outputs that are known before; of [`Pace::AtOnce`].
    pub outputs: Vec<pb::Output>,
}

/// Begins a deployment. The caller stores the record that `rollout` belongs to.
pub fn begin(tx: &Transaction<'_>, cx: &Context, rollout: &mut Rollout, plan: Plan) -> Result<()> {
    let tail = plan.target.tail();
    make_room(tx, &tail, rollout)?;
    let listed_at = place_in_lists(tx, cx, &tail)?;
    let id = cx.new_id();
    let status = match plan.action {
        Action::Delete => DeploymentStatus::DeleteInProgress,
        Action::Create | Action::Update => DeploymentStatus::InProgress,
    };
    rollout.set_status(status);
    rollout.message = None;
    rollout.attempted_id = Some(id.clone());
    rollout.attempted_at = Some(cx.now());
    let (mut service, mut instance, mut component) = (None, None, None);
    match &plan.target {
        Target::Environment(_) => {}
        Target::Instance { service: of, name } => {
            (service, instance) = (Some(of.clone()), Some(name.clone()));
        }
        Target::Pipeline { service: of } => service = Some(of.clone()),
        Target::Component(name) => component = Some(name.clone()),
    }
    let state = |state| pb::DeploymentState { state: Some(state) };
    tx.put(&DeploymentRecord {
        action: plan.action.into(),
        target: tail.clone(),
        // What is not reported anew stays as it was.
        outputs: match plan.pace {
            Pace::AtOnce => plan.outputs,
            Pace::Simulated | Pace::SelfManaged => rollout.outputs.clone(),
        },
        simulated: plan.pace == Pace::Simulated,
        listed_at,
        view: Some(pb::Deployment {
            arn: Some(cx.arn(&format!("deployment/{id}"))),
            completed_at: None,
            component_name: component,
            created_at: Some(cx.now()),
            deployment_status: status.into(),
            deployment_status_message: None,
            environment_name: Some(plan.environment),
            id: Some(id.clone()),
            initial_state: plan.initial.map(state),
            last_attempted_deployment_id: Some(id.clone()),
            last_modified_at: Some(cx.now()),
            last_succeeded_deployment_id: rollout.succeeded_id.clone(),
            service_instance_name: instance,
            service_name: service,
            target_arn: Some(cx.arn(&tail)),
            target_resource_created_at: plan.target_created_at,
            target_resource_type: plan.target.resource_type().into(),
            target_state: plan.desired.map(state),
        }),
    })?;
    let (due, task) = match plan.pace {
        Pace::AtOnce => (cx.now_millis(), Task::Settle(id.clone())),
        Pace::Simulated => (cx.settle_at(), Task::Settle(id.clone())),
        Pace::SelfManaged => (cx.give_up_at(), Task::GiveUp(id.clone())),
    };
    schedule(tx, due, &subject(&id), task)
}

/// Forgets the oldest deployment of a target that has too many, but neither the latest one nor the
/// one that holds.
fn make_room(tx: &Transaction<'_>, tail: &str, rollout: &Rollout) -> Result<()> {
    let index = DeploymentRecord::index_of_target(tail);
    if tx.count_index::<DeploymentRecord>(&index)? < HISTORY {
        return Ok(());
    }
    let mut oldest = None;
    tx.scan_index::<DeploymentRecord>(&index, None, false, |record| {
        let id = Some(record.id());
        let kept = id == rollout.succeeded_id.as_deref() || id == rollout.attempted_id.as_deref();
        if record.ended() && !kept {
            oldest = Some(record.id().to_owned());
            return Ok(std::ops::ControlFlow::Break(()));
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    match oldest {
        Some(id) => forget(tx, &id),
        None => Ok(()),
    }
}

/// Where the next deployment of a target stands in lists, if not where it would by its time: a clock
/// that was set back does not let it stand behind those before it.
fn place_in_lists(tx: &Transaction<'_>, cx: &Context, tail: &str) -> Result<Option<Timestamp>> {
    let mut newest = None;
    let index = DeploymentRecord::index_of_target(tail);
    tx.scan_index::<DeploymentRecord>(&index, None, true, |record| {
        newest = record.listed_at();
        Ok(std::ops::ControlFlow::Break(()))
    })?;
    let now = cx.now();
    Ok(newest
        .filter(|newest| (newest.seconds, newest.nanos) > (now.seconds, now.nanos))
        .map(|newest| match newest.nanos {
            0..999_999_999 => Timestamp {
                nanos: newest.nanos + 1,
                ..newest
            },
            _ => Timestamp {
                seconds: newest.seconds.saturating_add(1),
                nanos: 0,
            },
        }))
}

/// Forgets a deployment, and what was to be done about it.
pub fn forget(tx: &Transaction<'_>, id: &str) -> Result<()> {
    tx.unschedule(&subject(id))?;
    tx.delete::<DeploymentRecord>(id).map(drop)
}

/// Has the deployments of a deleted resource forgotten after a while.
pub fn forget_history(tx: &Transaction<'_>, cx: &Context, target: &Target) -> Result<()> {
    let index = DeploymentRecord::index_of_target(&target.tail());
    for record in tx.list_index::<DeploymentRecord>(&index)? {
        let id = record.id();
        let due = cx.now_millis().saturating_add(REMEMBERED_MILLIS);
        // An earlier resource of the name may have scheduled it already.
        tx.unschedule(&subject(id))?;
        schedule(tx, due, &subject(id), Task::ForgetDeployment(id.to_owned()))?;
    }
    Ok(())
}

/// Begins the cancellation of the deployment in progress. The caller stores the record that
/// `rollout` belongs to.
///
/// API Reference: only an update can be cancelled (a component's first deployment too), and only
/// while it is in progress.
pub fn cancel(
    tx: &Transaction<'_>,
    cx: &Context,
    rollout: &mut Rollout,
    target: &Target,
) -> Result<()> {
    let tail = target.tail();
    match rollout.status() {
        DeploymentStatus::Cancelling => return Ok(()),
        DeploymentStatus::InProgress => {}
        _ => {
            return Err(Error::precondition(
                &tail,
                format!("{tail} has no deployment in progress that could be cancelled"),
            ));
        }
    }
    let mut record = current(tx, rollout)?;
    if record.action() == Action::Create && !matches!(target, Target::Component(_)) {
        return Err(Error::precondition(
            &tail,
            format!("the deployment that creates {tail} cannot be cancelled; delete it afterwards"),
        ));
    }
    rollout.set_status(DeploymentStatus::Cancelling);
    let view = record.view_mut();
    view.set_deployment_status(DeploymentStatus::Cancelling);
    view.last_modified_at = Some(cx.now());
    let id = record.id().to_owned();
    tx.put(&record)?;
    tx.unschedule(&subject(&id))?;
    schedule(tx, cx.settle_at(), &subject(&id), Task::Cancel(id.clone()))
}

/// What is still to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub tasks: u64,
    /// When the first of them is due.
    pub due_millis: Option<i64>,
    /// Deployments that have not ended.
    pub deployments: u64,
    /// When the oldest of those began.
    pub begun: Option<Timestamp>,
}

impl Backlog {
    pub fn of(tx: &Transaction<'_>) -> Result<Self> {
        let (mut tasks, mut under_way) = (0, Vec::new());
        let due_millis = tx.see_tasks(|_, _, body| {
            tasks += 1;
            if let Ok(Task::Settle(id) | Task::Cancel(id) | Task::GiveUp(id)) = Task::decode(body) {
                under_way.push(id);
            }
        })?;
        let mut backlog = Self {
            tasks,
            due_millis,
            ..Self::default()
        };
        for id in under_way {
            let record = tx.get::<DeploymentRecord>(&id)?;
            if let Some(record) = record.filter(|record| !record.ended()) {
                backlog.deployments += 1;
                let begun = record.view.and_then(|view| view.created_at);
                let time = |at: &Timestamp| (at.seconds, at.nanos);
                backlog.begun = [backlog.begun, begun]
                    .into_iter()
                    .flatten()
                    .min_by_key(time);
            }
        }
        Ok(backlog)
    }
}

/// The record of the deployment that was begun last.
pub fn current(tx: &Transaction<'_>, rollout: &Rollout) -> Result<DeploymentRecord> {
    tx.get::<DeploymentRecord>(rollout.attempted_id.as_deref().unwrap_or_default())?
        .ok_or_else(|| Error::internal("the record of a deployment in progress is missing"))
}

/// Ends a deployment, and tells its target.
fn end(
    tx: &Transaction<'_>,
    cx: &Context,
    mut record: DeploymentRecord,
    outcome: Outcome,
) -> Result<()> {
    let deletes = record.action() == Action::Delete;
    let (status, message) = match outcome {
        Outcome::Succeeded(message) if deletes => (DeploymentStatus::DeleteComplete, message),
        Outcome::Succeeded(message) => (DeploymentStatus::Succeeded, message),
        Outcome::Failed(message) if deletes => (DeploymentStatus::DeleteFailed, message),
        Outcome::Failed(message) => (DeploymentStatus::Failed, message),
        Outcome::Cancelled => (DeploymentStatus::Cancelled, Some(CANCELLED.to_owned())),
    };
    let id = record.id().to_owned();
    tx.unschedule(&subject(&id))?;
    let view = record.view_mut();
    view.set_deployment_status(status);
    view.deployment_status_message.clone_from(&message);
    view.completed_at = Some(cx.now());
    view.last_modified_at = Some(cx.now());
    if status == DeploymentStatus::Succeeded {
        view.last_succeeded_deployment_id = Some(id.clone());
    } else {
        // Outputs of a deployment that did not succeed are not there.
        record.outputs.clear();
    }
    tx.put(&record)?;
    let ending = Ending {
        deployment_id: id,
        status,
        message,
        outputs: record.outputs.clone(),
        at: cx.now(),
    };
    cx.note_ended(status);
    let target = Target::parse(&record.target)
        .ok_or_else(|| Error::internal("a deployment of something unknown"))?;
    match &target {
        Target::Environment(name) => environment::conclude(tx, name, &ending)?,
        Target::Instance { service, name } => {
            service_instance::conclude(tx, cx, service, name, &ending)?;
        }
        Target::Pipeline { service } => service_pipeline::conclude(tx, cx, service, &ending)?,
        Target::Component(name) => component::conclude(tx, cx, name, &ending)?,
    }
    if ending.deleted() {
        forget_history(tx, cx, &target)?;
    }
    Ok(())
}

enum Outcome {
    Succeeded(Option<String>),
    Failed(Option<String>),
    Cancelled,
}

/// Ends the deployment `rollout` is in with what a caller reported of it.
pub fn report(
    tx: &Transaction<'_>,
    cx: &Context,
    rollout: &Rollout,
    succeeded: bool,
    message: Option<String>,
    outputs: Vec<pb::Output>,
) -> Result<()> {
    let mut record = current(tx, rollout)?;
    if !outputs.is_empty() {
        record.outputs = outputs;
    }
    let outcome = if succeeded {
        Outcome::Succeeded(message)
    } else {
        Outcome::Failed(message)
    };
    end(tx, cx, record, outcome)
}

/// What is to be done later. Its text form is stored: never changed once released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Read and check the bundle of the template version with this key.
    Register(String),
    /// End this deployment as the simulated provisioner does.
    Settle(String),
    /// End this deployment as cancelled.
    Cancel(String),
    /// Nobody reported how this deployment went.
    GiveUp(String),
    ForgetDeployment(String),
    ForgetToken(String),
}

impl Task {
    fn encode(&self) -> String {
        let (verb, key) = match self {
            Self::Register(key) => ("register", key),
            Self::Settle(key) => ("settle", key),
            Self::Cancel(key) => ("cancel", key),
            Self::GiveUp(key) => ("give-up", key),
            Self::ForgetDeployment(key) => ("forget-deployment", key),
            Self::ForgetToken(key) => ("forget-token", key),
        };
        format!("{verb} {key}")
    }

    pub fn decode(body: &[u8]) -> Result<Self> {
        let damaged = || Error::internal("a stored task is damaged");
        let text = std::str::from_utf8(body).map_err(|_| damaged())?;
        let (verb, key) = text.split_once(' ').ok_or_else(damaged)?;
        let key = key.to_owned();
        Ok(match verb {
            "register" => Self::Register(key),
            "settle" => Self::Settle(key),
            "cancel" => Self::Cancel(key),
            "give-up" => Self::GiveUp(key),
            "forget-deployment" => Self::ForgetDeployment(key),
            "forget-token" => Self::ForgetToken(key),
            _ => return Err(damaged()),
        })
    }
}

pub(super) fn subject(deployment_id: &str) -> String {
    format!("deployment/{deployment_id}")
}

/// Has `task` done at `due_millis`. `subject` is what [`Transaction::unschedule`] knows it by.
pub fn schedule(tx: &Transaction<'_>, due_millis: i64, subject: &str, task: Task) -> Result<()> {
    tx.schedule(due_millis, subject, task.encode().as_bytes())
}

/// Tasks that are due later than if they were put down now, and when they would be due then: the clock
/// was ahead, or steps took longer.
pub fn too_late(tx: &Transaction<'_>, cx: &Context) -> Result<Vec<(i64, i64)>> {
    let mut found = Vec::new();
    tx.see_tasks(|id, due, body| {
        let latest = match Task::decode(body) {
            Ok(Task::Register(_) | Task::Settle(_) | Task::Cancel(_)) => cx.settle_at(),
            Ok(Task::GiveUp(_)) => cx.give_up_at(),
            Ok(Task::ForgetDeployment(_)) => cx.now_millis().saturating_add(REMEMBERED_MILLIS),
            // Its time stands in the token, too.
            Ok(Task::ForgetToken(_)) | Err(_) => return,
        };
        if due > latest {
            found.push((id, latest));
        }
    })?;
    Ok(found)
}

/// Does what needs nothing but the store; registrations are done by `registration`.
pub fn perform(tx: &Transaction<'_>, cx: &Context, task: &Task) -> Result<()> {
    let unfinished = |id: &str| {
        let record = tx.get::<DeploymentRecord>(id)?;
        Ok::<_, Error>(record.filter(|record| !record.ended()))
    };
    match task {
        Task::Register(_) => Ok(()),
        Task::Settle(id) => match unfinished(id)? {
            Some(record) => {
                let message = record.simulated.then(|| SIMULATED.to_owned());
                end(tx, cx, record, Outcome::Succeeded(message))
            }
            None => Ok(()),
        },
        Task::Cancel(id) => match unfinished(id)? {
            Some(record) => end(tx, cx, record, Outcome::Cancelled),
            None => Ok(()),
        },
        Task::GiveUp(id) => match unfinished(id)? {
            Some(record) => {
                let message = format!(
                    "Nobody reported an outcome within {} s: deploy again, and report with \
                     NotifyResourceDeploymentStatusChange.",
                    cx.settings.self_managed_timeout.as_secs()
                );
                end(tx, cx, record, Outcome::Failed(Some(message)))
            }
            None => Ok(()),
        },
        Task::ForgetDeployment(id) => match tx.get::<DeploymentRecord>(id)? {
            Some(record) if record.ended() => tx.delete::<DeploymentRecord>(id).map(drop),
            _ => Ok(()),
        },
        Task::ForgetToken(key) => idempotency::forget(tx, cx, key),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::backend::engine::bucket::Buckets;
    use crate::backend::engine::context::{Quotas, Settings};
    use crate::backend::engine::store::Store;

    #[test]
    fn a_target_is_read_back_from_the_tail_of_its_arn() {
        for tail in [
            "environment/prod",
            "service/shop/service-instance/eu",
            "service/shop/pipeline",
            "component/cache",
        ] {
            assert_eq!(Target::parse(tail).unwrap().tail(), tail);
        }
        assert_eq!(Target::parse("service/shop"), None);
        assert_eq!(Target::parse("environment/a/b"), None);
    }

    /// A resource that comes and goes under one name must not leave more tasks each time.
    #[tokio::test]
    async fn forgetting_a_history_twice_leaves_one_task_for_each_deployment() {
        let store = Store::in_memory().unwrap();
        let cx = Context::new(
            SystemTime::now(),
            Arc::new(Settings {
                region: "us-east-1".to_owned(),
                account_id: "123456789012".to_owned(),
                step: Duration::ZERO,
                self_managed_timeout: Duration::from_secs(1),
                buckets: Buckets::in_folder("nowhere"),
                quotas: Quotas::default(),
            }),
            Arc::default(),
        );
        let tasks = store
            .write(move |tx| {
                let target = Target::Environment("prod".to_owned());
                for id in ["a", "b"] {
                    tx.put(&DeploymentRecord {
                        target: target.tail(),
                        view: Some(pb::Deployment {
                            id: Some(id.to_owned()),
                            ..pb::Deployment::default()
                        }),
                        ..DeploymentRecord::default()
                    })?;
                }
                forget_history(tx, &cx, &target)?;
                forget_history(tx, &cx, &target)?;
                let mut tasks = Vec::new();
                while let Some(task) = tx.next_task(&HashSet::new())? {
                    tx.finish_task(task.id)?;
                    tasks.push(Task::decode(&task.body)?);
                }
                Ok(tasks)
            })
            .await
            .unwrap();
        let forget = |id: &str| Task::ForgetDeployment(id.to_owned());
        assert_eq!(tasks, [forget("a"), forget("b")]);
    }

    #[test]
    fn a_task_is_read_back_from_its_stored_form() {
        for task in [
            Task::Register("environment/a/1".to_owned()),
            Task::GiveUp("id".to_owned()),
            Task::ForgetToken("CreateComponent/0f".to_owned()),
        ] {
            assert_eq!(Task::decode(task.encode().as_bytes()).unwrap(), task);
        }
        assert!(Task::decode(b"dance x").is_err());
    }
}
