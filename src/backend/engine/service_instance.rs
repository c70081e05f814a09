//! Service instances. They come and go with their service's spec; `CreateServiceInstance` adds
//! one to a service that is there.
//!
//! Keys of [`InstanceRecord`]: `{service}/{name}`. Indexes: `environment/{name}` and
//! `version/{template}:{major}.{minor}`.

use prost::Message;
use prost_types::Timestamp;

use super::component::ComponentRecord;
use super::context::Context;
use super::deployment::{self, Action};
use super::environment::{self, EnvironmentRecord};
use super::idempotency;
use super::provision::{self, Ending, Pace, Plan, Rollout, Target};
use super::registry::{self, VersionRecord};
use super::service::{self, Part, ServiceRecord};
use super::service_pipeline::PipelineRecord;
use super::spec;
use super::store::{Record, Transaction};
use super::tag;
use super::template::spec::{ServiceSpec, Used};
use super::update::{self, Mode};
use crate::api::pb::deployment_state::State;
use crate::api::pb::{self, DeploymentStatus, DeploymentUpdateType, TemplateType};
use crate::error::{Error, Result};

mod list;

pub use list::list;

const KIND: TemplateType = TemplateType::Service;

#[derive(Clone, PartialEq, Message)]
pub struct InstanceRecord {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub environment: String,
    #[prost(string, tag = "4")]
    pub template: String,
    #[prost(message, optional, tag = "5")]
    pub created_at: Option<Timestamp>,
    /// What is deployed. Its spec is that of the whole service.
    #[prost(message, optional, tag = "6")]
    pub current: Option<pb::ServiceInstanceState>,
    /// What is being deployed, or was to be by a first deployment that failed.
    #[prost(message, optional, tag = "7")]
    pub pending: Option<pb::ServiceInstanceState>,
    #[prost(message, optional, tag = "8")]
    pub rollout: Option<Rollout>,
    #[prost(string, optional, tag = "9")]
    pub last_client_request_token: Option<String>,
}

pub fn key(service: &str, name: &str) -> String {
    format!("{service}/{name}")
}

impl Record for InstanceRecord {
    const KIND: &'static str = "service-instance";

    fn key(&self) -> String {
        key(&self.service, &self.name)
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
        names.push(format!("environment/{}", self.environment));
        names.sort();
        names.dedup();
        names.into_iter().map(|name| (name, self.key())).collect()
    }
}

impl InstanceRecord {
    pub fn rollout_mut(&mut self) -> &mut Rollout {
        self.rollout.get_or_insert_default()
    }

    pub fn status(&self) -> DeploymentStatus {
        self.rollout
            .as_ref()
            .map_or(DeploymentStatus::Unspecified, Rollout::status)
    }

    pub fn target(&self) -> Target {
        Target::Instance {
            service: self.service.clone(),
            name: self.name.clone(),
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

    /// Notes the client token of a request, if it has one.
    fn received(&mut self, token: Option<&str>) {
        if let Some(token) = token.filter(|token| !token.is_empty()) {
            self.last_client_request_token = Some(token.to_owned());
        }
    }

    /// What the next deployment starts from.
    pub fn base(&self) -> pb::ServiceInstanceState {
        self.current
            .clone()
            .or_else(|| self.pending.clone())
            .unwrap_or_default()
    }

    pub fn view(self, cx: &Context) -> pb::ServiceInstance {
        let arn = cx.arn(&self.target().tail());
        let rollout = self.rollout.unwrap_or_default();
        let current = self.current.unwrap_or_default();
        pb::ServiceInstance {
            arn: Some(arn),
            created_at: self.created_at,
            deployment_status: rollout.status,
            deployment_status_message: rollout.message,
            environment_name: Some(self.environment),
            last_attempted_deployment_id: rollout.attempted_id,
            last_client_request_token: self.last_client_request_token,
            last_deployment_attempted_at: rollout.attempted_at,
            last_deployment_succeeded_at: rollout.succeeded_at,
            last_succeeded_deployment_id: rollout.succeeded_id,
            name: Some(self.name),
            service_name: Some(self.service),
            spec: current.spec,
            template_major_version: current.template_major_version,
            template_minor_version: current.template_minor_version,
            template_name: Some(self.template),
        }
    }

    fn summary(self, cx: &Context) -> pb::ServiceInstanceSummary {
        let view = self.view(cx);
        pb::ServiceInstanceSummary {
            arn: view.arn,
            created_at: view.created_at,
            deployment_status: view.deployment_status,
            deployment_status_message: view.deployment_status_message,
            environment_name: view.environment_name,
            last_attempted_deployment_id: view.last_attempted_deployment_id,
            last_deployment_attempted_at: view.last_deployment_attempted_at,
            last_deployment_succeeded_at: view.last_deployment_succeeded_at,
            last_succeeded_deployment_id: view.last_succeeded_deployment_id,
            name: view.name,
            service_name: view.service_name,
            template_major_version: view.template_major_version,
            template_minor_version: view.template_minor_version,
            template_name: view.template_name,
        }
    }
}

pub fn record(tx: &Transaction<'_>, service: &str, name: &str) -> Result<InstanceRecord> {
    tx.get(&key(service, name))?
        .ok_or_else(|| Error::not_found("service-instance", key(service, name)))
}

/// All instances of a service, in the order of their names.
pub fn of_service(tx: &Transaction<'_>, service: &str) -> Result<Vec<InstanceRecord>> {
    tx.list(&format!("{service}/"))
}

/// The environment in which an instance with `version` can be deployed.
///
/// API Reference: its template's major version must be among the compatible ones.
pub fn environment_for(
    tx: &Transaction<'_>,
    name: &str,
    version: &VersionRecord,
) -> Result<EnvironmentRecord> {
    let environment = environment::record(tx, name)?;
    let tail = environment.target().tail();
    let (major, _) = environment.ready()?;
    let compatible = version.compatible.iter().any(|listed| {
        listed.template_name() == environment.template && listed.major_version() == major
    });
    if !compatible {
        return Err(Error::invalid_field(
            "spec",
            format!(
                "{} is not compatible with {tail}, which is on {}:{major}; choose another \
                 environment, or update the compatible environment templates of the version",
                version.tail(),
                environment.template
            ),
        ));
    }
    if version.rendering.as_deref() == Some("hcl") && !environment.self_managed() {
        return Err(Error::invalid_field(
            "spec",
            format!(
                "{} holds Terraform, which is provisioned by pull request, but {tail} has no \
                 provisioning repository",
                version.tail()
            ),
        ));
    }
    Ok(environment)
}

/// The state that a deployment with this version and spec is to bring about.
fn state(
    tx: &Transaction<'_>,
    record: &InstanceRecord,
    environment: &EnvironmentRecord,
    version: &VersionRecord,
    text: String,
) -> Result<pb::ServiceInstanceState> {
    let succeeded = |rollout: Option<Rollout>| rollout.and_then(|rollout| rollout.succeeded_id);
    let pipeline = tx.get::<PipelineRecord>(&record.service)?;
    let components = tx.list_index::<ComponentRecord>(&index_of_components(record))?;
    Ok(pb::ServiceInstanceState {
        last_successful_component_deployment_ids: components
            .into_iter()
            .filter_map(|component| succeeded(component.rollout))
            .collect(),
        last_successful_environment_deployment_id: succeeded(environment.rollout.clone()),
        last_successful_service_pipeline_deployment_id: pipeline
            .and_then(|pipeline| succeeded(pipeline.rollout)),
        spec: Some(text),
        template_major_version: Some(version.major.to_string()),
        template_minor_version: Some(version.minor.to_string()),
        template_name: Some(version.template.clone()),
    })
}

fn index_of_components(record: &InstanceRecord) -> String {
    format!("instance/{}/{}", record.service, record.name)
}

/// Refuses if a component is attached: it must be detached first.
pub fn without_component(tx: &Transaction<'_>, record: &InstanceRecord) -> Result<()> {
    let attached = tx.list_index::<ComponentRecord>(&index_of_components(record))?;
    match attached.first() {
        None => Ok(()),
        Some(component) => Err(Error::precondition(
            record.target().tail(),
            format!(
                "component/{} is attached to {}; detach it first",
                component.name,
                record.target().tail()
            ),
        )),
    }
}

/// Adds an instance of `spec` to a service and begins its deployment.
pub fn add(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &ServiceRecord,
    version: &VersionRecord,
    spec: &ServiceSpec,
    text: &str,
    name: &str,
) -> Result<InstanceRecord> {
    let (_, wanted) = spec
        .instance(name)
        .ok_or_else(|| Error::internal("an instance is not in its own spec"))?;
    let environment = environment_for(tx, &wanted.environment, version)?;
    spec.check_instance(name, &spec::schema(cx, version)?)
        .map_err(|error| spec::refused(&error))?;
    let mut record = InstanceRecord {
        service: service.name.clone(),
        name: name.to_owned(),
        environment: wanted.environment.clone(),
        template: version.template.clone(),
        created_at: Some(cx.now()),
        ..InstanceRecord::default()
    };
    let desired = state(tx, &record, &environment, version, text.to_owned())?;
    // User Guide: tags of a service go on to what is made of it later.
    let inherited = tag::customer(tx, &service.tail())?;
    tag::begin(tx, &record.target().tail(), inherited)?;
    deploy(
        tx,
        cx,
        &mut record,
        &environment,
        Action::Create,
        Some(desired),
    )?;
    tx.put(&record)?;
    Ok(record)
}

/// Begins the deletion of an instance.
pub fn remove(tx: &Transaction<'_>, cx: &Context, mut record: InstanceRecord) -> Result<()> {
    let environment = environment::record(tx, &record.environment)?;
    deploy(tx, cx, &mut record, &environment, Action::Delete, None)?;
    tx.put(&record)
}

fn deploy(
    tx: &Transaction<'_>,
    cx: &Context,
    record: &mut InstanceRecord,
    environment: &EnvironmentRecord,
    action: Action,
    desired: Option<pb::ServiceInstanceState>,
) -> Result<()> {
    let plan = Plan {
        target: record.target(),
        action,
        pace: if environment.self_managed() && action != Action::Delete {
            Pace::SelfManaged
        } else {
            Pace::Simulated
        },
        target_created_at: record.created_at,
        environment: record.environment.clone(),
        initial: record.current.clone().map(State::ServiceInstance),
        desired: desired.clone().map(State::ServiceInstance),
        outputs: Vec::new(),
    };
    provision::begin(tx, cx, record.rollout_mut(), plan)?;
    if desired.is_some() {
        record.pending = desired;
    }
    Ok(())
}

/// Takes over how a deployment ended, and tells the service.
pub fn conclude(
    tx: &Transaction<'_>,
    cx: &Context,
    service: &str,
    name: &str,
    ending: &Ending,
) -> Result<()> {
    let Some(mut record) = tx.get::<InstanceRecord>(&key(service, name))? else {
        return Ok(());
    };
    if ending.deleted() {
        tx.delete::<InstanceRecord>(&record.key())?;
        idempotency::forget_resource(tx, &record.key())?;
        tag::forget(tx, &record.target().tail())?;
    } else {
        record.rollout_mut().end(ending);
        ending.settle(&mut record.current, &mut record.pending);
        tx.put(&record)?;
        if ending.succeeded() {
            let text = record.base().spec().to_owned();
            service::adopt(tx, service, &text, Part::Instance(name))?;
        }
    }
    service::progress(tx, cx, service)
}

/// Adds an instance to a service that is there. The spec is a whole one, of which the named
/// instance alone is used.
pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateServiceInstanceRequest,
) -> Result<pb::CreateServiceInstanceResponse> {
    const OPERATION: &str = "CreateServiceInstance";
    let token = request.client_token.take();
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    let answer = |record: InstanceRecord| {
        Ok(pb::CreateServiceInstanceResponse {
            service_instance: Some(record.view(cx)),
        })
    };
    if let Some(key) = idempotency::replay(tx, cx, OPERATION, token.as_deref(), &fingerprint)?
        && let Some(original) = tx.get::<InstanceRecord>(&key)?
    {
        return answer(original);
    }
    let service = service::record(tx, &request.service_name)?;
    let key = key(&request.service_name, &request.name);
    if tx.get::<InstanceRecord>(&key)?.is_some() {
        return Err(Error::already_exists(format!(
            "service/{}/service-instance/{}",
            request.service_name, request.name
        )));
    }
    service.settled()?;
    let quota = cx.settings.quotas.instances_per_service;
    if of_service(tx, &service.name)?.len() >= quota {
        // The model gives this operation no ServiceQuotaExceededException.
        return Err(Error::invalid_field(
            "name",
            format!("the service has {quota} instances, which is the quota"),
        ));
    }
    if request.template_major_version.is_none() && request.template_minor_version.is_some() {
        return Err(Error::invalid_field(
            "template_major_version",
            "is required together with template_minor_version",
        ));
    }
    let version = match &request.template_major_version {
        Some(major) => registry::deployable(
            tx,
            cx,
            KIND,
            &service.template,
            major,
            request.template_minor_version.as_deref(),
        )?,
        None => service.version_for_new_instances(tx, cx)?,
    };
    let mut spec = spec::service(&request.spec)?;
    if spec.instance(&request.name).is_none() {
        return Err(Error::invalid_field(
            "spec",
            format!("has no instance named `{}`", request.name),
        ));
    }
    let used = std::slice::from_ref(&request.name);
    let replaced = spec
        .resolve_current(
            &spec::stored(service.coming_spec())?,
            Used::Instances(used, &spec::schema(cx, &version)?),
        )
        .map_err(|error| spec::refused(&error))?;
    let text = match replaced {
        true => spec::rendered(&spec)?,
        false => request.spec,
    };
    service.can_take(tx, &text, Part::Instance(&request.name))?;
    let mut record = add(tx, cx, &service, &version, &spec, &text, &request.name)?;
    if !request.tags.is_empty() {
        let tail = record.target().tail();
        let inherited = tag::customer(tx, &tail)?;
        tag::begin(tx, &tail, tag::merged(inherited, request.tags))?;
    }
    record.received(token.as_deref());
    tx.put(&record)?;
    service::modified(tx, cx, &service.name)?;
    idempotency::remember(tx, cx, OPERATION, token.as_deref(), &fingerprint, &key)?;
    answer(record)
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetServiceInstanceRequest,
) -> Result<pb::GetServiceInstanceResponse> {
    Ok(pb::GetServiceInstanceResponse {
        service_instance: Some(record(tx, &request.service_name, &request.name)?.view(cx)),
    })
}

/// Deploys one instance. AWS's sample pipelines pass the whole service's spec with the new image
/// in all instances, so differences elsewhere in it are no error: only the named instance's part
/// is read.
pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::UpdateServiceInstanceRequest,
) -> Result<pb::UpdateServiceInstanceResponse> {
    const OPERATION: &str = "UpdateServiceInstance";
    let token = request.client_token.take();
    let fingerprint = idempotency::fingerprint(&request);
    let answer = |record: InstanceRecord| {
        Ok(pb::UpdateServiceInstanceResponse {
            service_instance: Some(record.view(cx)),
        })
    };
    if let Some(key) = idempotency::replay(tx, cx, OPERATION, token.as_deref(), &fingerprint)?
        && let Some(changed) = tx.get::<InstanceRecord>(&key)?
    {
        return answer(changed);
    }
    let mut record = record(tx, &request.service_name, &request.name)?;
    let mode = Mode::of(
        request.deployment_type(),
        request.template_major_version.as_deref(),
        request.template_minor_version.as_deref(),
    )?;
    if request.deployment_type() == DeploymentUpdateType::None && request.spec.is_some() {
        return Err(update::nothing_deployed("spec"));
    }
    let target = record.target();
    let service = service::record(tx, &record.service)?;
    service.open_to_deployments()?;
    record.rollout_mut().free(&target)?;
    for component in tx.list_index::<ComponentRecord>(&index_of_components(&record))? {
        component
            .rollout
            .unwrap_or_default()
            .free(&Target::Component(component.name))?;
    }
    if let Some(mode) = mode {
        let base = record.base();
        let version = mode.version(
            tx,
            cx,
            KIND,
            &record.template,
            base.template_major_version(),
            base.template_minor_version(),
        )?;
        let given = request.spec.take();
        let text = wanted(cx, given, base.spec(), &service, &record, &version)?;
        service.can_take(tx, &text, Part::Instance(&record.name))?;
        let environment = environment_for(tx, &record.environment, &version)?;
        let desired = state(tx, &record, &environment, &version, text)?;
        deploy(
            tx,
            cx,
            &mut record,
            &environment,
            Action::Update,
            Some(desired),
        )?;
    }
    record.received(token.as_deref());
    tx.put(&record)?;
    service::modified(tx, cx, &record.service)?;
    idempotency::remember(
        tx,
        cx,
        OPERATION,
        token.as_deref(),
        &fingerprint,
        &record.key(),
    )?;
    answer(record)
}

/// The spec to deploy: the given one with current values filled in, else the current one.
fn wanted(
    cx: &Context,
    given: Option<String>,
    before: &str,
    service: &ServiceRecord,
    record: &InstanceRecord,
    version: &VersionRecord,
) -> Result<String> {
    let schema = spec::schema(cx, version)?;
    let Some(mut text) = given else {
        spec::stored(before)?
            .check_instance(&record.name, &schema)
            .map_err(|error| spec::refused(&error))?;
        return Ok(before.to_owned());
    };
    let mut spec = spec::service(&text)?;
    let mut current = spec::stored(service.coming_spec())?;
    let own = spec::stored(before)?;
    if own.instance(&record.name).is_some() {
        current = current
            .merge_instance(&own, &record.name)
            .map_err(|error| spec::refused(&error))?;
    }
    let used = std::slice::from_ref(&record.name);
    let replaced = spec
        .resolve_current(&current, Used::Instances(used, &schema))
        .map_err(|error| spec::refused(&error))?;
    if replaced {
        text = spec::rendered(&spec)?;
    }
    spec.check_instance(&record.name, &schema)
        .map_err(|error| spec::refused(&error))?;
    match spec.instance(&record.name) {
        Some((_, instance)) if instance.environment != record.environment => {
            Err(Error::invalid_field(
                "spec",
                format!(
                    "the instance `{}` is in the environment `{}` and cannot be moved",
                    record.name, record.environment
                ),
            ))
        }
        _ => Ok(text),
    }
}

pub fn cancel(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::CancelServiceInstanceDeploymentRequest,
) -> Result<pb::CancelServiceInstanceDeploymentResponse> {
    let mut record = record(tx, &request.service_name, &request.service_instance_name)?;
    let target = record.target();
    provision::cancel(tx, cx, record.rollout_mut(), &target)?;
    tx.put(&record)?;
    Ok(pb::CancelServiceInstanceDeploymentResponse {
        service_instance: Some(record.view(cx)),
    })
}

pub fn list_outputs(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListServiceInstanceOutputsRequest,
) -> Result<pb::ListServiceInstanceOutputsResponse> {
    let record = record(tx, &request.service_name, &request.service_instance_name)?;
    let rollout = record.rollout.clone().unwrap_or_default();
    Ok(pb::ListServiceInstanceOutputsResponse {
        next_token: None,
        outputs: deployment::outputs(tx, &record.target(), &rollout, request.deployment_id)?,
    })
}

/// Nothing was provisioned by the engine, so there is nothing to list.
pub fn list_provisioned_resources(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListServiceInstanceProvisionedResourcesRequest,
) -> Result<pb::ListServiceInstanceProvisionedResourcesResponse> {
    record(tx, &request.service_name, &request.service_instance_name)?;
    Ok(pb::ListServiceInstanceProvisionedResourcesResponse::default())
}
