//! Deployments: their records, and the reports of those who carry them out themselves.
//!
//! Keys of [`DeploymentRecord`]: its id. Indexes, newest last: `all`, `target/{tail of its ARN}`,
//! `environment/{name}`, `service/{name}`, `instance/{service}/{name}` and `component/{name}`.

use prost::{Enumeration, Message};
use prost_types::Timestamp;

use super::context::Context;
use super::paging::Page;
use super::provision::{self, Rollout, Target};
use super::store::{Record, Transaction};
use super::{component, environment, service_instance, service_pipeline};
use crate::api::pb::{self, DeploymentStatus, ResourceDeploymentStatus};
use crate::error::{Error, Result, Violation};

/// Why something is deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub enum Action {
    Create = 0,
    Update = 1,
    Delete = 2,
}

#[derive(Clone, PartialEq, Message)]
pub struct DeploymentRecord {
    #[prost(message, optional, tag = "1")]
    pub view: Option<pb::Deployment>,
    /// The tail of the target's ARN.
    #[prost(string, tag = "2")]
    pub target: String,
    #[prost(enumeration = "Action", tag = "3")]
    pub action: i32,
    /// What it has put out, or will.
    #[prost(message, repeated, tag = "4")]
    pub outputs: Vec<pb::Output>,
    #[prost(bool, tag = "5")]
    pub simulated: bool,
    /// Where it stands in lists, if not where it does by when it was created.
    #[prost(message, optional, tag = "6")]
    pub listed_at: Option<Timestamp>,
}

impl Record for DeploymentRecord {
    const KIND: &'static str = "deployment";

    fn key(&self) -> String {
        self.id().to_owned()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        let Some(view) = &self.view else {
            return Vec::new();
        };
        let mut names = vec![
            "all".to_owned(),
            Self::index_of_target(&self.target),
            format!("environment/{}", view.environment_name()),
        ];
        if let Some(service) = &view.service_name {
            names.push(format!("service/{service}"));
            if let Some(instance) = &view.service_instance_name {
                names.push(format!("instance/{service}/{instance}"));
            }
        }
        if let Some(component) = &view.component_name {
            names.push(format!("component/{component}"));
        }
        let sort = sort_key(self.listed_at().as_ref());
        names.into_iter().map(|name| (name, sort.clone())).collect()
    }
}

/// Text that sorts as the time does.
pub fn sort_key(time: Option<&Timestamp>) -> String {
    let time = time.copied().unwrap_or_default();
    format!("{:012}.{:09}", time.seconds.max(0), time.nanos.max(0))
}

impl DeploymentRecord {
    /// The index with all deployments of one target.
    pub fn index_of_target(tail: &str) -> String {
        format!("target/{tail}")
    }

    pub fn id(&self) -> &str {
        self.view.as_ref().map_or("", pb::Deployment::id)
    }

    /// Where it stands in lists.
    pub fn listed_at(&self) -> Option<Timestamp> {
        let created_at = self.view.as_ref().and_then(|view| view.created_at);
        self.listed_at.or(created_at)
    }

    pub fn view_mut(&mut self) -> &mut pb::Deployment {
        self.view.get_or_insert_default()
    }

    /// Whether it has come to its end, good or bad.
    pub fn ended(&self) -> bool {
        self.view
            .as_ref()
            .is_some_and(|view| view.completed_at.is_some())
    }

    fn summary(self) -> pb::DeploymentSummary {
        let view = self.view.unwrap_or_default();
        pb::DeploymentSummary {
            arn: view.arn,
            completed_at: view.completed_at,
            component_name: view.component_name,
            created_at: view.created_at,
            deployment_status: view.deployment_status,
            environment_name: view.environment_name,
            id: view.id,
            last_attempted_deployment_id: view.last_attempted_deployment_id,
            last_modified_at: view.last_modified_at,
            last_succeeded_deployment_id: view.last_succeeded_deployment_id,
            service_instance_name: view.service_instance_name,
            service_name: view.service_name,
            target_arn: view.target_arn,
            target_resource_created_at: view.target_resource_created_at,
            target_resource_type: view.target_resource_type,
        }
    }
}

fn belongs_with_service(service: Option<&String>, instance: Option<&String>) -> Result<()> {
    if instance.is_some() && service.is_none() {
        return Err(Error::invalid_field(
            "service_name",
            "is required together with service_instance_name",
        ));
    }
    Ok(())
}

pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetDeploymentRequest,
) -> Result<pb::GetDeploymentResponse> {
    belongs_with_service(
        request.service_name.as_ref(),
        request.service_instance_name.as_ref(),
    )?;
    let found = tx.get::<DeploymentRecord>(&request.id)?;
    let deployment = found.and_then(|record| record.view).filter(|view| {
        // A deployment of something else than what was named is not there.
        let named = |given: &Option<String>, is: &Option<String>| given.is_none() || given == is;
        named(&request.environment_name, &view.environment_name)
            && named(&request.service_name, &view.service_name)
            && named(&request.service_instance_name, &view.service_instance_name)
            && named(&request.component_name, &view.component_name)
    });
    match deployment {
        Some(deployment) => Ok(pb::GetDeploymentResponse {
            deployment: Some(deployment),
        }),
        None => Err(Error::not_found("deployment", request.id)),
    }
}

/// Newest first. Documented for the API: all filters are optional. Decided here: they narrow one
/// another down, and a service's deployments include those of its pipeline.
pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListDeploymentsRequest,
) -> Result<pb::ListDeploymentsResponse> {
    let page = Page::of(cx, &mut request)?;
    let pb::ListDeploymentsRequest {
        component_name,
        environment_name,
        service_instance_name,
        service_name,
        ..
    } = request;
    belongs_with_service(service_name.as_ref(), service_instance_name.as_ref())?;
    let index = match (
        &component_name,
        &service_name,
        &service_instance_name,
        &environment_name,
    ) {
        (Some(component), ..) => format!("component/{component}"),
        (_, Some(service), Some(instance), _) => format!("instance/{service}/{instance}"),
        (_, Some(service), None, _) => format!("service/{service}"),
        (.., Some(environment)) => format!("environment/{environment}"),
        _ => "all".to_owned(),
    };
    let (deployments, next_token) =
        page.scan_index(tx, &index, true, |record: DeploymentRecord| {
            let summary = record.summary();
            let named =
                |given: &Option<String>, is: &Option<String>| given.is_none() || given == is;
            let wanted = named(&environment_name, &summary.environment_name)
                && named(&service_name, &summary.service_name)
                && named(&service_instance_name, &summary.service_instance_name)
                && named(&component_name, &summary.component_name);
            Ok(wanted.then_some(summary))
        })?;
    Ok(pb::ListDeploymentsResponse {
        deployments,
        next_token,
    })
}

/// Removes the record of a deployment; what was deployed stays. The API has no
/// ConflictException here, so one that is under way is refused as invalid.
pub fn delete(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::DeleteDeploymentRequest,
) -> Result<pb::DeleteDeploymentResponse> {
    let Some(record) = tx.get::<DeploymentRecord>(&request.id)? else {
        return Ok(pb::DeleteDeploymentResponse { deployment: None });
    };
    if !record.ended() {
        let text = format!(
            "The deployment {} is under way; delete it when it has ended",
            request.id
        );
        let violation = Violation::new("id", "is that of a deployment that is under way");
        return Err(Error::violations(text, vec![violation]));
    }
    provision::forget(tx, &request.id)?;
    Ok(pb::DeleteDeploymentResponse {
        deployment: record.view,
    })
}

/// The outputs of `target`: those of the given deployment, else those that hold now.
pub fn outputs(
    tx: &Transaction<'_>,
    target: &Target,
    rollout: &Rollout,
    deployment_id: Option<String>,
) -> Result<Vec<pb::Output>> {
    let Some(id) = deployment_id else {
        return Ok(rollout.outputs.clone());
    };
    match tx.get::<DeploymentRecord>(&id)? {
        Some(record) if record.target == target.tail() => Ok(if record.ended() {
            record.outputs
        } else {
            Vec::new()
        }),
        _ => Err(Error::not_found("deployment", id)),
    }
}

/// The report of whoever carries deployments out: for self-managed provisioning the only way to
/// end one. The engine takes it for simulated ones too.
///
/// Outputs without a status are taken while a deployment is in progress and after it has
/// succeeded: that is how AWS's CodeBuild samples call it.
pub fn notify(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::NotifyResourceDeploymentStatusChangeRequest,
) -> Result<pb::NotifyResourceDeploymentStatusChangeResponse> {
    let done = Ok(pb::NotifyResourceDeploymentStatusChangeResponse {});
    let target = cx
        .tail(&request.resource_arn)
        .and_then(Target::parse)
        .ok_or_else(|| Error::not_found("resource", &request.resource_arn))?;
    check_outputs(&request.outputs)?;
    let rollout = rollout_of(tx, &target, &request.resource_arn)?;
    if let Some(id) = &request.deployment_id
        && Some(id) != rollout.attempted_id.as_ref()
    {
        return Err(match tx.get::<DeploymentRecord>(id)? {
            Some(record) if record.target == target.tail() => Error::precondition(
                target.tail(),
                format!(
                    "the deployment {id} is not the latest one of {}",
                    target.tail()
                ),
            ),
            _ => Error::not_found("deployment", id),
        });
    }
    let status = request.status();
    let reported = match status {
        ResourceDeploymentStatus::Unspecified => None,
        ResourceDeploymentStatus::InProgress => Some(DeploymentStatus::InProgress),
        ResourceDeploymentStatus::Failed => Some(DeploymentStatus::Failed),
        ResourceDeploymentStatus::Succeeded => Some(DeploymentStatus::Succeeded),
    };
    if !rollout.busy() {
        return match reported {
            // A repeat of what is known, and what came after the end.
            None | Some(DeploymentStatus::Succeeded)
                if rollout.status() == DeploymentStatus::Succeeded =>
            {
                amend(tx, &target, request.status_message, request.outputs)?;
                done
            }
            // Whoever really carries out what was simulated is not as fast.
            Some(DeploymentStatus::InProgress) if was_simulated(tx, &rollout)? => {
                amend(tx, &target, None, request.outputs)?;
                done
            }
            Some(reported) if reported == rollout.status() => done,
            _ => Err(Error::precondition(
                target.tail(),
                format!("{} has no deployment in progress", target.tail()),
            )),
        };
    }
    match reported {
        Some(DeploymentStatus::Succeeded) => provision::report(
            tx,
            cx,
            &rollout,
            true,
            request.status_message,
            request.outputs,
        )?,
        Some(DeploymentStatus::Failed) => {
            provision::report(tx, cx, &rollout, false, request.status_message, Vec::new())?
        }
        _ => {
            let mut record = provision::current(tx, &rollout)?;
            if !request.outputs.is_empty() {
                record.outputs = request.outputs;
            }
            let view = record.view_mut();
            if request.status_message.is_some() {
                view.deployment_status_message
                    .clone_from(&request.status_message);
            }
            view.last_modified_at = Some(cx.now());
            tx.put(&record)?;
            if let Some(message) = request.status_message {
                change(tx, &target, |rollout| rollout.message = Some(message))?;
            }
        }
    }
    done
}

fn check_outputs(outputs: &[pb::Output]) -> Result<()> {
    for (index, output) in outputs.iter().enumerate() {
        if output.key.is_none() || output.value_string.is_none() {
            return Err(Error::invalid_field(
                format!("outputs[{index}]"),
                "has no key or no value",
            ));
        }
        if outputs[..index].iter().any(|other| other.key == output.key) {
            return Err(Error::invalid_field(
                format!("outputs[{index}].key"),
                "is the key of another output too",
            ));
        }
    }
    Ok(())
}

/// Whether the latest deployment has succeeded, and nothing was carried out for it.
fn was_simulated(tx: &Transaction<'_>, rollout: &Rollout) -> Result<bool> {
    let id = rollout.succeeded_id.clone().unwrap_or_default();
    let record = tx.get::<DeploymentRecord>(&id)?;
    Ok(rollout.status() == DeploymentStatus::Succeeded && record.is_some_and(|it| it.simulated))
}

/// Gives the last successful deployment another message and other outputs, where there are any.
fn amend(
    tx: &Transaction<'_>,
    target: &Target,
    message: Option<String>,
    outputs: Vec<pb::Output>,
) -> Result<()> {
    if message.is_none() && outputs.is_empty() {
        return Ok(());
    }
    let rollout = change(tx, target, |rollout| {
        if message.is_some() {
            rollout.message.clone_from(&message);
        }
        if !outputs.is_empty() {
            rollout.outputs.clone_from(&outputs);
        }
    })?;
    let id = rollout.succeeded_id.unwrap_or_default();
    if let Some(mut record) = tx.get::<DeploymentRecord>(&id)? {
        if message.is_some() {
            record.view_mut().deployment_status_message = message;
        }
        if !outputs.is_empty() {
            record.outputs = outputs;
        }
        tx.put(&record)?;
    }
    Ok(())
}

fn rollout_of(tx: &Transaction<'_>, target: &Target, arn: &str) -> Result<Rollout> {
    let rollout = match target {
        Target::Environment(name) => tx
            .get::<environment::EnvironmentRecord>(name)?
            .and_then(|record| record.rollout),
        Target::Instance { service, name } => tx
            .get::<service_instance::InstanceRecord>(&service_instance::key(service, name))?
            .and_then(|record| record.rollout),
        Target::Pipeline { service } => tx
            .get::<service_pipeline::PipelineRecord>(service)?
            .and_then(|record| record.rollout),
        Target::Component(name) => tx
            .get::<component::ComponentRecord>(name)?
            .and_then(|record| record.rollout),
    };
    rollout.ok_or_else(|| Error::not_found("resource", arn))
}

/// Changes the rollout of a target that is there.
fn change(
    tx: &Transaction<'_>,
    target: &Target,
    apply: impl FnOnce(&mut Rollout),
) -> Result<Rollout> {
    fn on<R: Record>(
        tx: &Transaction<'_>,
        key: &str,
        rollout: impl FnOnce(&mut R) -> &mut Rollout,
        apply: impl FnOnce(&mut Rollout),
    ) -> Result<Rollout> {
        let mut record = tx
            .get::<R>(key)?
            .ok_or_else(|| Error::internal("the target of a deployment is missing"))?;
        let rollout = rollout(&mut record);
        apply(rollout);
        let changed = rollout.clone();
        tx.put(&record)?;
        Ok(changed)
    }
    match target {
        Target::Environment(name) => {
            on(tx, name, environment::EnvironmentRecord::rollout_mut, apply)
        }
        Target::Instance { service, name } => on(
            tx,
            &service_instance::key(service, name),
            service_instance::InstanceRecord::rollout_mut,
            apply,
        ),
        Target::Pipeline { service } => on(
            tx,
            service,
            service_pipeline::PipelineRecord::rollout_mut,
            apply,
        ),
        Target::Component(name) => on(tx, name, component::ComponentRecord::rollout_mut, apply),
    }
}
