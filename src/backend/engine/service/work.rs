//! The steps of creating, editing and deleting a service.

use std::ops::ControlFlow;

use prost::{Enumeration, Message};

use super::{ServiceRecord, forget};
use crate::api::pb::{DeploymentStatus, ServiceStatus as Status, TemplateType};
use crate::backend::engine::context::Context;
use crate::backend::engine::registry;
use crate::backend::engine::service_instance::{self, InstanceRecord};
use crate::backend::engine::service_pipeline::{self, PipelineRecord};
use crate::backend::engine::store::Transaction;
use crate::error::Result;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum WorkKind {
    Create = 0,
    Update = 1,
    Delete = 2,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Phase {
    /// New instances are deployed.
    Adding = 0,
    /// Instances that the new spec leaves out are deleted.
    Removing = 1,
    /// The pipeline is deployed.
    Pipeline = 2,
    /// New instances are deleted again, because one of them failed.
    CleaningUp = 3,
    /// Everything is deleted.
    Deleting = 4,
}

/// What is under way with a service.
#[derive(Clone, PartialEq, Message)]
pub struct Work {
    #[prost(enumeration = "WorkKind", tag = "1")]
    pub kind: i32,
    #[prost(enumeration = "Phase", tag = "2")]
    pub phase: i32,
    /// The spec that holds when all went well.
    #[prost(string, tag = "3")]
    pub spec: String,
    #[prost(string, repeated, tag = "4")]
    pub added: Vec<String>,
    #[prost(string, repeated, tag = "5")]
    pub removed: Vec<String>,
    /// What went wrong so far without ending the work.
    #[prost(string, optional, tag = "6")]
    pub problem: Option<String>,
}

/// Takes the steps that can be taken with a service that is being created, edited or deleted.
pub fn progress(tx: &Transaction<'_>, cx: &Context, name: &str) -> Result<()> {
    while let Some(mut service) = tx.get::<ServiceRecord>(name)? {
        let Some(work) = service.work.clone() else {
            return repaired(tx, cx, service);
        };
        let kind = work.kind();
        let step = match work.phase() {
            Phase::Adding => added(tx, cx, &mut service, work),
            Phase::Removing => removed(tx, cx, &mut service, work),
            Phase::Pipeline => piped(tx, cx, &mut service, work),
            Phase::CleaningUp => cleaned_up(tx, cx, &mut service, work),
            Phase::Deleting => return deleted(tx, cx, service),
        };
        let went_on = match step {
            Ok(went_on) => went_on,
            // Not for ever under way because something that a step needs is gone.
            Err(error) if error.is_refusal() => {
                let status = match kind {
                    WorkKind::Create => Status::CreateFailed,
                    WorkKind::Update => Status::UpdateFailed,
                    WorkKind::Delete => Status::DeleteFailed,
                };
                finish(cx, &mut service, status, Some(error.message));
                STOP
            }
            Err(error) => return Err(error),
        };
        tx.put(&service)?;
        if went_on.is_break() {
            break;
        }
    }
    Ok(())
}

/// A service whose creation or edit failed is well again when all parts of it have been deployed
/// one by one.
fn repaired(tx: &Transaction<'_>, cx: &Context, mut service: ServiceRecord) -> Result<()> {
    if !matches!(
        service.status(),
        Status::CreateFailed | Status::UpdateFailed
    ) {
        return Ok(());
    }
    let well = |status: DeploymentStatus| status == DeploymentStatus::Succeeded;
    let instances = service_instance::of_service(tx, &service.name)?;
    let pipeline = tx.get::<PipelineRecord>(&service.name)?;
    if instances.iter().all(|instance| well(instance.status()))
        && pipeline.is_none_or(|pipeline| well(pipeline.status()))
    {
        finish(cx, &mut service, Status::Active, None);
        tx.put(&service)?;
    }
    Ok(())
}

/// Waiting for something, or done.
const STOP: ControlFlow<()> = ControlFlow::Break(());
/// In the next phase, which may have nothing to wait for.
const GO_ON: ControlFlow<()> = ControlFlow::Continue(());

/// Those of the named instances that are there.
fn instances(
    tx: &Transaction<'_>,
    service: &ServiceRecord,
    names: &[String],
) -> Result<Vec<InstanceRecord>> {
    let mut found = Vec::new();
    for name in names {
        found.extend(tx.get::<InstanceRecord>(&service_instance::key(&service.name, name))?);
    }
    Ok(found)
}

fn busy(instances: &[InstanceRecord]) -> bool {
    instances
        .iter()
        .any(|instance| instance.rollout.as_ref().is_some_and(super::Rollout::busy))
}

fn arns(cx: &Context, instances: &[InstanceRecord]) -> String {
    let arns: Vec<_> = instances
        .iter()
        .map(|instance| cx.arn(&instance.target().tail()))
        .collect();
    arns.join(", ")
}

fn finish(cx: &Context, service: &mut ServiceRecord, status: Status, message: Option<String>) {
    service.set_status(status);
    service.status_message = message;
    service.last_modified_at = Some(cx.now());
    service.work = None;
}

fn added(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &mut ServiceRecord,
    mut work: Work,
) -> Result<ControlFlow<()>> {
    let added = instances(tx, service, &work.added)?;
    if busy(&added) {
        return Ok(STOP);
    }
    let failed: Vec<_> = added
        .iter()
        // A new pipeline may have updated one meanwhile; what was deployed before is there.
        .filter(|instance| instance.current.is_none())
        .cloned()
        .collect();
    if failed.is_empty() {
        return match work.kind() {
            WorkKind::Create => pipeline(tx, cx, service, work),
            WorkKind::Update | WorkKind::Delete => {
                for instance in instances(tx, service, &work.removed)? {
                    service_instance::remove(tx, cx, instance)?;
                }
                work.set_phase(Phase::Removing);
                service.work = Some(work);
                Ok(GO_ON)
            }
        };
    }
    if work.kind() == WorkKind::Create {
        // AWS's own text (aws-proton-cloudformation-sample-templates#47).
        let why = format!(
            "Service Instance(s): [{}] failed to deploy - canceling pipeline deployment",
            arns(cx, &failed)
        );
        let version = pipeline_version(tx, cx, service)?;
        if version.pipeline_rendering.is_some() {
            service_pipeline::fail(tx, cx, service, &version, work.spec.clone(), why)?;
        }
        let message = format!(
            "Service Instance(s): [{}] failed to deploy",
            arns(cx, &failed)
        );
        service.spec = Some(work.spec);
        finish(cx, service, Status::CreateFailed, Some(message));
        return Ok(STOP);
    }
    let message = format!(
        "Service Instance(s): [{}] failed to deploy",
        arns(cx, &failed)
    );
    for instance in added {
        service_instance::remove(tx, cx, instance)?;
    }
    work.problem = Some(message.clone());
    work.set_phase(Phase::CleaningUp);
    service.work = Some(work);
    service.set_status(Status::UpdateFailedCleanupInProgress);
    service.status_message = Some(message);
    Ok(GO_ON)
}

fn removed(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &mut ServiceRecord,
    mut work: Work,
) -> Result<ControlFlow<()>> {
    let left = instances(tx, service, &work.removed)?;
    if busy(&left) {
        return Ok(STOP);
    }
    if !left.is_empty() {
        work.problem = Some(format!(
            "Service Instance(s): [{}] could not be deleted",
            arns(cx, &left)
        ));
    }
    pipeline(tx, cx, service, work)
}

/// The version of the pipeline that is there, or of the one that the service is to get.
fn pipeline_version(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &ServiceRecord,
) -> Result<registry::VersionRecord> {
    let pipeline = tx.get::<PipelineRecord>(&service.name)?;
    let (major, minor) = match pipeline.map(|pipeline| pipeline.base()) {
        Some(base) => (
            base.template_major_version().to_owned(),
            base.template_minor_version().to_owned(),
        ),
        None => service.version(),
    };
    registry::version(
        tx,
        cx,
        TemplateType::Service,
        &service.template,
        &major,
        &minor,
    )
}

/// Has the pipeline deployed, now that the instances are there.
fn pipeline(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &mut ServiceRecord,
    mut work: Work,
) -> Result<ControlFlow<()>> {
    service.spec = Some(work.spec.clone());
    // A service has a repository exactly if it has a pipeline.
    if service.repository_id.is_some() {
        let version = pipeline_version(tx, cx, service)?;
        service_pipeline::provision(tx, cx, service, &version, work.spec.clone())?;
    }
    work.set_phase(Phase::Pipeline);
    service.work = Some(work);
    Ok(GO_ON)
}

fn piped(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &mut ServiceRecord,
    work: Work,
) -> Result<ControlFlow<()>> {
    let created = work.kind() == WorkKind::Create;
    service.spec = Some(work.spec);
    match tx.get::<PipelineRecord>(&service.name)? {
        Some(pipeline) if pipeline.rollout.as_ref().is_some_and(super::Rollout::busy) => {
            return Ok(STOP);
        }
        Some(pipeline) if pipeline.status() != DeploymentStatus::Succeeded => {
            let status = if created {
                Status::CreateFailed
            } else {
                Status::UpdateFailed
            };
            let message = "The service pipeline failed to deploy".to_owned();
            finish(cx, service, status, Some(message));
        }
        _ => match work.problem {
            Some(problem) => finish(
                cx,
                service,
                Status::UpdateCompleteCleanupFailed,
                Some(problem),
            ),
            None => finish(cx, service, Status::Active, None),
        },
    }
    Ok(STOP)
}

fn cleaned_up(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &mut ServiceRecord,
    work: Work,
) -> Result<ControlFlow<()>> {
    let left = instances(tx, service, &work.added)?;
    if busy(&left) {
        return Ok(STOP);
    }
    let status = if left.is_empty() {
        Status::UpdateFailedCleanupComplete
    } else {
        Status::UpdateFailedCleanupFailed
    };
    finish(cx, service, status, work.problem);
    Ok(STOP)
}

fn deleted(tx: &Transaction<'_>, cx: &Context, mut service: ServiceRecord) -> Result<()> {
    let left = service_instance::of_service(tx, &service.name)?;
    let pipeline = tx.get::<PipelineRecord>(&service.name)?;
    let pipeline_busy = pipeline
        .as_ref()
        .is_some_and(|pipeline| pipeline.rollout.as_ref().is_some_and(super::Rollout::busy));
    if busy(&left) || pipeline_busy {
        return Ok(());
    }
    if left.is_empty() && pipeline.is_none() {
        return forget(tx, &service);
    }
    let mut what = Vec::new();
    if !left.is_empty() {
        what.push(format!("Service Instance(s): [{}]", arns(cx, &left)));
    }
    if pipeline.is_some() {
        what.push("the service pipeline".to_owned());
    }
    let message = format!("{} could not be deleted", what.join(" and "));
    finish(cx, &mut service, Status::DeleteFailed, Some(message));
    tx.put(&service)
}
