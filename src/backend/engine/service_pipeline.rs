//! Service pipelines. A pipeline comes and goes with its service; it is deployed after the
//! instances, because its template reads their outputs.
//!
//! Keys of [`PipelineRecord`]: the service's name. Index: `version/{template}:{major}.{minor}`.

use prost::Message;
use prost_types::Timestamp;

use super::account_settings;
use super::context::Context;
use super::deployment::{self, Action, DeploymentRecord};
use super::provision::{self, Ending, Pace, Plan, Rollout, Target};
use super::registry::{self, VersionRecord};
use super::service::{self, Part, ServiceRecord};
use super::service_instance;
use super::spec;
use super::store::{Record, Transaction};
use super::template::spec::Used;
use super::update::{self, Mode};
use crate::api::pb::deployment_state::State;
use crate::api::pb::{self, DeploymentStatus, TemplateType};
use crate::error::{Error, Result};

const KIND: TemplateType = TemplateType::Service;

#[derive(Clone, PartialEq, Message)]
pub struct PipelineRecord {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub template: String,
    #[prost(message, optional, tag = "3")]
    pub created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub current: Option<pb::ServicePipelineState>,
    #[prost(message, optional, tag = "5")]
    pub pending: Option<pb::ServicePipelineState>,
    #[prost(message, optional, tag = "6")]
    pub rollout: Option<Rollout>,
}

impl Record for PipelineRecord {
    const KIND: &'static str = "service-pipeline";

    fn key(&self) -> String {
        self.service.clone()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        let mut names: Vec<_> = [&self.current, &self.pending]
            .into_iter()
            .flatten()
            .map(|state| {
                registry::index_of(
                    state.template_name(),
                    state.template_major_version(),
                    state.template_minor_version(),
                )
            })
            .collect();
        names.dedup();
        names.into_iter().map(|name| (name, self.key())).collect()
    }
}

impl PipelineRecord {
    pub fn rollout_mut(&mut self) -> &mut Rollout {
        self.rollout.get_or_insert_default()
    }

    pub fn status(&self) -> DeploymentStatus {
        self.rollout
            .as_ref()
            .map_or(DeploymentStatus::Unspecified, Rollout::status)
    }

    pub fn target(&self) -> Target {
        Target::Pipeline {
            service: self.service.clone(),
        }
    }

    /// The deployed version's major and minor.
    pub fn version(&self) -> Option<(&str, &str)> {
        self.current.as_ref().map(|state| {
            (
                state.template_major_version(),
                state.template_minor_version(),
            )
        })
    }

    /// What the next deployment starts from.
    pub fn base(&self) -> pb::ServicePipelineState {
        self.current
            .clone()
            .or_else(|| self.pending.clone())
            .unwrap_or_default()
    }

    pub fn view(self, cx: &Context) -> pb::ServicePipeline {
        let arn = cx.arn(&self.target().tail());
        let rollout = self.rollout.unwrap_or_default();
        let current = self.current.unwrap_or_default();
        pb::ServicePipeline {
            arn: Some(arn),
            created_at: self.created_at,
            deployment_status: rollout.status,
            deployment_status_message: rollout.message,
            last_attempted_deployment_id: rollout.attempted_id,
            last_deployment_attempted_at: rollout.attempted_at,
            last_deployment_succeeded_at: rollout.succeeded_at,
            last_succeeded_deployment_id: rollout.succeeded_id,
            spec: current.spec,
            template_major_version: current.template_major_version,
            template_minor_version: current.template_minor_version,
            template_name: Some(self.template),
        }
    }
}

impl PipelineRecord {
    /// The same, of one that is deployed once the rest of its service's edit is done: User Guide,
    /// "Edit a service". That deployment has no id yet.
    pub fn view_of_awaited(self, cx: &Context) -> pb::ServicePipeline {
        pb::ServicePipeline {
            deployment_status: DeploymentStatus::InProgress.into(),
            deployment_status_message: None,
            last_attempted_deployment_id: None,
            ..self.view(cx)
        }
    }
}

pub fn record(tx: &Transaction<'_>, service: &str) -> Result<PipelineRecord> {
    service::record(tx, service)?;
    tx.get(service)?
        .ok_or_else(|| Error::not_found("service-pipeline", format!("service/{service}/pipeline")))
}

/// Refuses a pipeline that nobody could provision. A Terraform pipeline goes by pull request to
/// the account's repository (User Guide, provisioning methods).
pub fn provisionable(tx: &Transaction<'_>, version: &VersionRecord) -> Result<()> {
    if version.pipeline_rendering.as_deref() == Some("hcl")
        && account_settings::pipeline_repository(tx)?.is_none()
    {
        return Err(Error::invalid(format!(
            "The pipeline of {} is Terraform, which is provisioned by pull request; set \
             pipeline_provisioning_repository with UpdateAccountSettings first",
            version.tail()
        )));
    }
    Ok(())
}

fn state(version: &VersionRecord, text: String) -> pb::ServicePipelineState {
    pb::ServicePipelineState {
        spec: Some(text),
        template_major_version: Some(version.major.to_string()),
        template_minor_version: Some(version.minor.to_string()),
        template_name: Some(version.template.clone()),
    }
}

fn of(service: &ServiceRecord, cx: &Context) -> PipelineRecord {
    PipelineRecord {
        service: service.name.clone(),
        template: service.template.clone(),
        created_at: Some(cx.now()),
        ..PipelineRecord::default()
    }
}

/// Deploys the pipeline of a service whose instances are deployed.
pub fn provision(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &ServiceRecord,
    version: &VersionRecord,
    text: String,
) -> Result<()> {
    let (mut record, action) = match tx.get::<PipelineRecord>(&service.name)? {
        Some(record) => (record, Action::Update),
        None => (of(service, cx), Action::Create),
    };
    deploy(tx, cx, &mut record, action, Some((version, text)))
}

/// The pipeline of a new service whose instances failed: it is not deployed, and says why.
pub fn fail(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &ServiceRecord,
    version: &VersionRecord,
    text: String,
    why: String,
) -> Result<()> {
    let mut record = of(service, cx);
    // Keeps the version from being deleted: the next attempt needs it.
    record.pending = Some(state(version, text));
    let rollout = record.rollout_mut();
    rollout.set_status(DeploymentStatus::Failed);
    rollout.message = Some(why);
    rollout.attempted_at = Some(cx.now());
    tx.put(&record)
}

/// Begins the deletion of a pipeline.
pub fn remove(tx: &Transaction<'_>, cx: &Context, mut record: PipelineRecord) -> Result<()> {
    deploy(tx, cx, &mut record, Action::Delete, None)
}

fn deploy(
    tx: &Transaction<'_>,
    cx: &Context,
    record: &mut PipelineRecord,
    action: Action,
    desired: Option<(&VersionRecord, String)>,
) -> Result<()> {
    let self_managed = desired
        .as_ref()
        .is_some_and(|(version, _)| version.pipeline_rendering.as_deref() == Some("hcl"));
    let desired = desired.map(|(version, text)| state(version, text));
    let environment = environment_of(tx, record)?;
    let plan = Plan {
        target: record.target(),
        action,
        pace: if self_managed {
            Pace::SelfManaged
        } else {
            Pace::Simulated
        },
        target_created_at: record.created_at,
        environment,
        initial: record.current.clone().map(State::ServicePipeline),
        desired: desired.clone().map(State::ServicePipeline),
        outputs: Vec::new(),
    };
    provision::begin(tx, cx, record.rollout_mut(), plan)?;
    if desired.is_some() {
        record.pending = desired;
    }
    tx.put(record)
}

/// A pipeline may span environments, and the API wants one for a deployment: that of the first
/// instance, or, where none is left, of the deployment before.
fn environment_of(tx: &Transaction<'_>, record: &PipelineRecord) -> Result<String> {
    if let Some(instance) = service_instance::of_service(tx, &record.service)?.first() {
        return Ok(instance.environment.clone());
    }
    let rollout = record.rollout.as_ref();
    let id = rollout.and_then(|rollout| rollout.attempted_id.as_deref());
    let before = id
        .map(|id| tx.get::<DeploymentRecord>(id))
        .transpose()?
        .flatten();
    if let Some(view) = before.and_then(|before| before.view) {
        return Ok(view.environment_name().to_owned());
    }
    // Its record was deleted.
    let spec = spec::stored(service::record(tx, &record.service)?.coming_spec())?;
    let first = spec.instances.into_iter().next();
    Ok(first.map(|first| first.environment).unwrap_or_default())
}

/// Takes over how a deployment ended, and tells the service.
pub fn conclude(tx: &Transaction<'_>, cx: &Context, service: &str, ending: &Ending) -> Result<()> {
    let Some(mut record) = tx.get::<PipelineRecord>(service)? else {
        return Ok(());
    };
    if ending.deleted() {
        tx.delete::<PipelineRecord>(service)?;
    } else {
        record.rollout_mut().end(ending);
        ending.settle(&mut record.current, &mut record.pending);
        tx.put(&record)?;
        if ending.succeeded() {
            let text = record.base().spec().to_owned();
            service::adopt(tx, service, &text, Part::Pipeline)?;
        }
    }
    service::progress(tx, cx, service)
}

pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateServicePipelineRequest,
) -> Result<pb::UpdateServicePipelineResponse> {
    let service = service::record(tx, &request.service_name)?;
    let mut record = record(tx, &request.service_name)?;
    let mode = Mode::of(
        request.deployment_type(),
        request.template_major_version.as_deref(),
        request.template_minor_version.as_deref(),
    )?;
    let answer = |record: PipelineRecord| {
        Ok(pb::UpdateServicePipelineResponse {
            pipeline: Some(record.view(cx)),
        })
    };
    service.settled()?;
    record.rollout_mut().free(&Target::Pipeline {
        service: request.service_name.clone(),
    })?;
    let base = record.base();
    let Some(mode) = mode else {
        // The spec is required even where nothing is deployed; another one would be lost.
        if request.spec != base.spec() {
            return Err(update::nothing_deployed("spec"));
        }
        return answer(record);
    };
    let version = mode.version(
        tx,
        cx,
        KIND,
        &record.template,
        base.template_major_version(),
        base.template_minor_version(),
    )?;
    provisionable(tx, &version)?;
    let mut text = request.spec;
    let mut given = spec::service(&text)?;
    let schema = spec::schema(cx, &version)?;
    let mut before = spec::stored(service.coming_spec())?;
    before.pipeline = spec::stored(base.spec())?.pipeline;
    let replaced = given
        .resolve_current(&before, Used::Pipeline(&schema))
        .map_err(|error| spec::refused(&error))?;
    if replaced {
        text = spec::rendered(&given)?;
    }
    given
        .check_pipeline(&schema)
        .map_err(|error| spec::refused(&error))?;
    service.can_take(tx, &text, Part::Pipeline)?;
    deploy(tx, cx, &mut record, Action::Update, Some((&version, text)))?;
    service::modified(tx, cx, &service.name)?;
    answer(record)
}

pub fn cancel(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::CancelServicePipelineDeploymentRequest,
) -> Result<pb::CancelServicePipelineDeploymentResponse> {
    let mut record = record(tx, &request.service_name)?;
    // User Guide: while a service is edited, its pipeline's actions are blocked.
    service::record(tx, &request.service_name)?.settled()?;
    let target = record.target();
    provision::cancel(tx, cx, record.rollout_mut(), &target)?;
    tx.put(&record)?;
    Ok(pb::CancelServicePipelineDeploymentResponse {
        pipeline: Some(record.view(cx)),
    })
}

pub fn list_outputs(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListServicePipelineOutputsRequest,
) -> Result<pb::ListServicePipelineOutputsResponse> {
    let record = record(tx, &request.service_name)?;
    let rollout = record.rollout.clone().unwrap_or_default();
    Ok(pb::ListServicePipelineOutputsResponse {
        next_token: None,
        outputs: deployment::outputs(tx, &record.target(), &rollout, request.deployment_id)?,
    })
}

/// Nothing was provisioned by the engine, so there is nothing to list.
pub fn list_provisioned_resources(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListServicePipelineProvisionedResourcesRequest,
) -> Result<pb::ListServicePipelineProvisionedResourcesResponse> {
    record(tx, &request.service_name)?;
    Ok(pb::ListServicePipelineProvisionedResourcesResponse::default())
}
