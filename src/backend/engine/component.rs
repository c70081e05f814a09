//! Components: infrastructure of a developer's own, in an environment, perhaps attached to a
//! service instance.
//!
//! Keys of [`ComponentRecord`]: the name. Indexes: `environment/{name}`, `service/{name}` and
//! `instance/{service}/{name}`; the latter two also where an attachment is under way.

use prost::Message;
use prost_types::Timestamp;
use serde_json::Value;

use super::context::Context;
use super::deployment::{self, Action};
use super::environment::{self, EnvironmentRecord};
use super::idempotency;
use super::paging::Page;
use super::provision::{self, Ending, Pace, Plan, Rollout, Target};
use super::registry;
use super::service;
use super::service_instance::{self, InstanceRecord};
use super::spec;
use super::store::{Record, Transaction};
use super::tag;
use super::template::yaml;
use crate::api::pb::deployment_state::State;
use crate::api::pb::{
    self, ComponentDeploymentUpdateType, DeploymentStatus,
    ServiceTemplateSupportedComponentSourceType as Source, TemplateType,
};
use crate::error::{Error, Result, Violation};

#[derive(Clone, PartialEq, Message)]
pub struct ComponentRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub environment: String,
    #[prost(message, optional, tag = "3")]
    pub created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub last_modified_at: Option<Timestamp>,
    #[prost(string, optional, tag = "5")]
    pub description: Option<String>,
    #[prost(string, tag = "6")]
    pub manifest: String,
    #[prost(message, optional, tag = "7")]
    pub current: Option<pb::ComponentState>,
    #[prost(message, optional, tag = "8")]
    pub pending: Option<pb::ComponentState>,
    #[prost(message, optional, tag = "9")]
    pub rollout: Option<Rollout>,
    #[prost(string, optional, tag = "10")]
    pub last_client_request_token: Option<String>,
}

impl Record for ComponentRecord {
    const KIND: &'static str = "component";

    fn key(&self) -> String {
        self.name.clone()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        let mut names = vec![format!("environment/{}", self.environment)];
        for state in [&self.current, &self.pending].into_iter().flatten() {
            if let Some((service, instance)) = attachment(state) {
                names.push(format!("service/{service}"));
                names.push(format!("instance/{service}/{instance}"));
            }
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| (name, self.name.clone()))
            .collect()
    }
}

/// The service and the instance that a state is attached to.
fn attachment(state: &pb::ComponentState) -> Option<(&str, &str)> {
    let (service, instance) = (state.service_name(), state.service_instance_name());
    (!service.is_empty() && !instance.is_empty()).then_some((service, instance))
}

impl ComponentRecord {
    pub fn rollout_mut(&mut self) -> &mut Rollout {
        self.rollout.get_or_insert_default()
    }

    pub fn status(&self) -> DeploymentStatus {
        self.rollout
            .as_ref()
            .map_or(DeploymentStatus::Unspecified, Rollout::status)
    }

    pub fn target(&self) -> Target {
        Target::Component(self.name.clone())
    }

    fn base(&self) -> Option<&pb::ComponentState> {
        self.current.as_ref().or(self.pending.as_ref())
    }

    /// The service and the instance that it is attached to.
    pub fn attached_to(&self) -> Option<(&str, &str)> {
        self.base().and_then(attachment)
    }

    fn view(self, cx: &Context) -> pb::Component {
        let arn = cx.arn(&self.target().tail());
        let attached = self
            .attached_to()
            .map(|(service, instance)| (service.to_owned(), instance.to_owned()));
        let (service_name, service_instance_name) = attached.unzip();
        let service_spec = self.base().and_then(|state| state.service_spec.clone());
        let rollout = self.rollout.unwrap_or_default();
        pb::Component {
            arn: Some(arn),
            created_at: self.created_at,
            deployment_status: rollout.status,
            deployment_status_message: rollout.message,
            description: self.description,
            environment_name: Some(self.environment),
            last_attempted_deployment_id: rollout.attempted_id,
            last_client_request_token: self.last_client_request_token,
            last_deployment_attempted_at: rollout.attempted_at,
            last_deployment_succeeded_at: rollout.succeeded_at,
            last_modified_at: self.last_modified_at,
            last_succeeded_deployment_id: rollout.succeeded_id,
            name: Some(self.name),
            service_instance_name,
            service_name,
            service_spec,
        }
    }

    fn summary(self, cx: &Context) -> pb::ComponentSummary {
        let view = self.view(cx);
        pb::ComponentSummary {
            arn: view.arn,
            created_at: view.created_at,
            deployment_status: view.deployment_status,
            deployment_status_message: view.deployment_status_message,
            environment_name: view.environment_name,
            last_attempted_deployment_id: view.last_attempted_deployment_id,
            last_deployment_attempted_at: view.last_deployment_attempted_at,
            last_deployment_succeeded_at: view.last_deployment_succeeded_at,
            last_modified_at: view.last_modified_at,
            last_succeeded_deployment_id: view.last_succeeded_deployment_id,
            name: view.name,
            service_instance_name: view.service_instance_name,
            service_name: view.service_name,
        }
    }
}

pub fn record(tx: &Transaction<'_>, name: &str) -> Result<ComponentRecord> {
    tx.get(name)?
        .ok_or_else(|| Error::not_found("component", name))
}

/// Checks the manifest that comes with a component: one infrastructure file, of CloudFormation or
/// of Terraform (User Guide, components; there is no CodeBuild for them). Says whether it is of
/// Terraform.
fn check_manifest(text: &str) -> Result<bool> {
    let wrong = |problem: &str| Err(Error::invalid_field("manifest", problem.to_owned()));
    let manifest = yaml::parse(text)
        .map_err(|error| Error::invalid_field("manifest", format!("is no YAML: {error}")))?;
    let templates = manifest
        .pointer("/infrastructure/templates")
        .and_then(Value::as_array);
    let Some([template]) = templates.map(Vec::as_slice) else {
        return wrong("must list exactly one template under infrastructure.templates");
    };
    let text = |key: &str| template.get(key).and_then(Value::as_str);
    let terraform = match (text("rendering_engine"), text("template_language")) {
        (Some("jinja"), Some("cloudformation")) => false,
        (Some("hcl"), Some("terraform")) => true,
        (Some("codebuild"), _) => {
            return wrong("names the rendering engine codebuild, which components cannot have");
        }
        _ => {
            return wrong(
                "must name rendering_engine jinja with template_language cloudformation, or hcl \
                 with terraform",
            );
        }
    };
    if text("file").is_none_or(str::is_empty) {
        return wrong("must name the file of its template");
    }
    Ok(terraform)
}

/// Both or none of the names; two empty names are none.
fn pair(service: Option<String>, instance: Option<String>) -> Result<Option<(String, String)>> {
    match (service, instance) {
        (None, None) => Ok(None),
        (Some(service), Some(instance)) if service.is_empty() && instance.is_empty() => Ok(None),
        (Some(service), Some(instance)) if !service.is_empty() && !instance.is_empty() => {
            Ok(Some((service, instance)))
        }
        (service, _) => {
            let missing = match service.is_some_and(|name| !name.is_empty()) {
                true => "service_instance_name",
                false => "service_name",
            };
            Err(Error::violations(
                "service_name and service_instance_name can only be given together",
                vec![Violation::new(missing, "is missing beside the other one")],
            ))
        }
    }
}

/// The instance that the component `name` can be attached to.
///
/// User Guide, components: its template version must allow directly defined components, and it
/// has one component at most.
fn attachable(
    tx: &Transaction<'_>,
    cx: &Context,
    name: &str,
    (service, instance): &(String, String),
) -> Result<InstanceRecord> {
    service::record(tx, service)?.settled()?;
    let record = service_instance::record(tx, service, instance)?;
    let tail = record.target().tail();
    record
        .rollout
        .clone()
        .unwrap_or_default()
        .free(&record.target())?;
    let Some((major, minor)) = record.version() else {
        return Err(Error::precondition(
            &tail,
            format!("{tail} was never deployed successfully"),
        ));
    };
    let version = registry::version(
        tx,
        cx,
        TemplateType::Service,
        &record.template,
        major,
        minor,
    )?;
    if !version
        .component_sources
        .contains(&Source::DirectlyDefined.into())
    {
        return Err(Error::invalid_field(
            "service_instance_name",
            format!(
                "{} does not support directly defined components; add DIRECTLY_DEFINED to its \
                 supported component sources",
                version.tail()
            ),
        ));
    }
    let others = tx.list_index::<ComponentRecord>(&format!("instance/{service}/{instance}"))?;
    match others.iter().find(|other| other.name != name) {
        None => Ok(record),
        Some(other) => Err(Error::precondition(
            &tail,
            format!(
                "component/{} is attached to {tail} already; detach it first",
                other.name
            ),
        )),
    }
}

/// Checks that the service spec of an attached component is one, for its instance.
fn check_service_spec(spec: Option<&str>, attached: Option<&(String, String)>) -> Result<()> {
    match (spec, attached) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Error::invalid_field(
            "service_spec",
            "can only be given while the component is attached to a service instance",
        )),
        (Some(text), Some((_, instance))) => {
            let spec = spec::service(text)
                .map_err(|error| Error::invalid_field("service_spec", error.message))?;
            match spec.instance(instance) {
                Some(_) => Ok(()),
                None => Err(Error::invalid_field(
                    "service_spec",
                    format!("has no instance named `{instance}`"),
                )),
            }
        }
    }
}

/// The environment of a component: its instance's, else the one that is named.
fn environment_of(
    tx: &Transaction<'_>,
    named: Option<&str>,
    instance: Option<&InstanceRecord>,
) -> Result<EnvironmentRecord> {
    let name = match (named, instance) {
        (None, None) => {
            return Err(Error::invalid_field(
                "environment_name",
                "is required for a component that is attached to no service instance",
            ));
        }
        (Some(named), Some(instance)) if named != instance.environment => {
            return Err(Error::invalid_field(
                "environment_name",
                format!("must be the instance's, {}", instance.environment),
            ));
        }
        (_, Some(instance)) => &instance.environment,
        (Some(named), None) => named,
    };
    let environment = environment::record(tx, name)?;
    let tail = environment.target().tail();
    environment.ready()?;
    if !environment.takes_components(tx)? {
        return Err(Error::invalid_field(
            "environment_name",
            format!(
                "{tail} has no component_role_arn, without which no component can be provisioned"
            ),
        ));
    }
    Ok(environment)
}

fn state(
    attached: Option<(String, String)>,
    service_spec: Option<String>,
    template_file: String,
) -> pb::ComponentState {
    let (service_name, service_instance_name) = attached.unzip();
    pb::ComponentState {
        service_instance_name,
        service_name,
        service_spec,
        template_file: Some(template_file),
    }
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateComponentRequest,
) -> Result<pb::CreateComponentResponse> {
    const OPERATION: &str = "CreateComponent";
    let token = request.client_token.take();
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    let answer = |record: ComponentRecord| {
        Ok(pb::CreateComponentResponse {
            component: Some(record.view(cx)),
        })
    };
    if let Some(key) = idempotency::replay(tx, cx, OPERATION, token.as_deref(), &fingerprint)?
        && let Some(original) = tx.get::<ComponentRecord>(&key)?
    {
        return answer(original);
    }
    if tx.get::<ComponentRecord>(&request.name)?.is_some() {
        return Err(Error::already_exists(format!("component/{}", request.name)));
    }
    let terraform = check_manifest(&request.manifest)?;
    let attached = pair(request.service_name, request.service_instance_name)?;
    check_service_spec(request.service_spec.as_deref(), attached.as_ref())?;
    let instance = attached
        .as_ref()
        .map(|attached| attachable(tx, cx, &request.name, attached))
        .transpose()?;
    let environment = environment_of(tx, request.environment_name.as_deref(), instance.as_ref())?;
    if terraform && !environment.self_managed() {
        return Err(Error::invalid_field(
            "manifest",
            format!(
                "names Terraform, which is provisioned by pull request, but {} has no provisioning \
                 repository",
                environment.target().tail()
            ),
        ));
    }
    let quota = cx.settings.quotas.components;
    if tx.count::<ComponentRecord>("")? >= quota {
        return Err(Error::quota("components", quota));
    }
    let mut record = ComponentRecord {
        environment: environment.name.clone(),
        created_at: Some(cx.now()),
        last_modified_at: Some(cx.now()),
        description: request.description,
        manifest: request.manifest,
        last_client_request_token: token.clone().filter(|token| !token.is_empty()),
        name: request.name,
        ..ComponentRecord::default()
    };
    let desired = state(attached, request.service_spec, request.template_file);
    tag::begin(tx, &record.target().tail(), request.tags)?;
    deploy(
        tx,
        cx,
        &mut record,
        &environment,
        Action::Create,
        Some(desired),
    )?;
    tx.put(&record)?;
    idempotency::remember(
        tx,
        cx,
        OPERATION,
        token.as_deref(),
        &fingerprint,
        &record.name,
    )?;
    answer(record)
}

fn deploy(
    tx: &Transaction<'_>,
    cx: &Context,
    record: &mut ComponentRecord,
    environment: &EnvironmentRecord,
    action: Action,
    desired: Option<pb::ComponentState>,
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
        initial: record.current.clone().map(State::Component),
        desired: desired.clone().map(State::Component),
        outputs: Vec::new(),
    };
    provision::begin(tx, cx, record.rollout_mut(), plan)?;
    if desired.is_some() {
        record.pending = desired;
    }
    Ok(())
}

/// Takes over how a deployment ended.
pub fn conclude(tx: &Transaction<'_>, cx: &Context, name: &str, ending: &Ending) -> Result<()> {
    let Some(mut record) = tx.get::<ComponentRecord>(name)? else {
        return Ok(());
    };
    if ending.deleted() {
        tx.delete::<ComponentRecord>(name)?;
        idempotency::forget_resource(tx, name)?;
        return tag::forget(tx, &record.target().tail());
    }
    record.rollout_mut().end(ending);
    record.last_modified_at = Some(cx.now());
    ending.settle(&mut record.current, &mut record.pending);
    tx.put(&record)
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetComponentRequest,
) -> Result<pb::GetComponentResponse> {
    Ok(pb::GetComponentResponse {
        component: Some(record(tx, &request.name)?.view(cx)),
    })
}

/// API Reference: an environment's components include those attached to its instances.
pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListComponentsRequest,
) -> Result<pb::ListComponentsResponse> {
    let page = Page::of(cx, &mut request)?;
    if request.service_instance_name.is_some() && request.service_name.is_none() {
        return Err(Error::invalid_field(
            "service_name",
            "is required together with service_instance_name",
        ));
    }
    let matches = |wanted: &Option<String>, is: Option<&str>| match wanted {
        None => true,
        Some(wanted) => is == Some(wanted),
    };
    let (components, next_token) = page.scan(tx, "", |record: ComponentRecord| {
        let attached = record.attached_to();
        let wanted = matches(&request.environment_name, Some(&record.environment))
            && matches(&request.service_name, attached.map(|(service, _)| service))
            && matches(
                &request.service_instance_name,
                attached.map(|(_, name)| name),
            );
        Ok(wanted.then(|| record.summary(cx)))
    })?;
    Ok(pb::ListComponentsResponse {
        components,
        next_token,
    })
}

/// User Guide, components: an attached component is detached by empty names, and cannot be moved
/// from one instance to another.
pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::UpdateComponentRequest,
) -> Result<pb::UpdateComponentResponse> {
    const OPERATION: &str = "UpdateComponent";
    let token = request.client_token.take();
    let fingerprint = idempotency::fingerprint(&request);
    let answer = |record: ComponentRecord| {
        Ok(pb::UpdateComponentResponse {
            component: Some(record.view(cx)),
        })
    };
    if let Some(key) = idempotency::replay(tx, cx, OPERATION, token.as_deref(), &fingerprint)?
        && let Some(changed) = tx.get::<ComponentRecord>(&key)?
    {
        return answer(changed);
    }
    let mut record = record(tx, &request.name)?;
    let deploys = match request.deployment_type() {
        ComponentDeploymentUpdateType::None => {
            for (field, given) in [
                ("service_name", request.service_name.is_some()),
                (
                    "service_instance_name",
                    request.service_instance_name.is_some(),
                ),
                ("service_spec", request.service_spec.is_some()),
                ("template_file", request.template_file.is_some()),
            ] {
                if given {
                    return Err(super::update::nothing_deployed(field));
                }
            }
            false
        }
        ComponentDeploymentUpdateType::CurrentVersion => true,
        ComponentDeploymentUpdateType::Unspecified => {
            return Err(Error::invalid_field("deployment_type", "is required"));
        }
    };
    let target = record.target();
    record.rollout_mut().free(&target)?;
    // API Reference: nor while the instance that it is attached to is being deployed.
    if let Some((service, instance)) = record.attached_to()
        && let Some(instance) =
            tx.get::<InstanceRecord>(&service_instance::key(service, instance))?
    {
        let rollout = instance.rollout.clone().unwrap_or_default();
        if rollout.busy() {
            rollout.free(&instance.target())?;
        }
    }
    record.description = request.description.or(record.description);
    record.last_modified_at = Some(cx.now());
    if deploys {
        let before = record.base().cloned().unwrap_or_default();
        let was = record
            .attached_to()
            .map(|(service, instance)| (service.to_owned(), instance.to_owned()));
        let mentioned = request.service_name.is_some() || request.service_instance_name.is_some();
        let attached = if mentioned {
            pair(request.service_name, request.service_instance_name)?
        } else {
            was.clone()
        };
        if let (Some(was), Some(attached)) = (&was, &attached)
            && was != attached
        {
            return Err(Error::invalid_field(
                "service_instance_name",
                format!(
                    "the component is attached to {}/{}; detach it first",
                    was.0, was.1
                ),
            ));
        }
        check_service_spec(request.service_spec.as_deref(), attached.as_ref())?;
        let instance = attached
            .as_ref()
            .map(|attached| attachable(tx, cx, &record.name, attached))
            .transpose()?;
        let environment = environment_of(tx, Some(&record.environment), instance.as_ref())?;
        let service_spec = request
            .service_spec
            .or(before.service_spec)
            .filter(|_| attached.is_some());
        let template_file = request.template_file.or(before.template_file);
        let desired = state(attached, service_spec, template_file.unwrap_or_default());
        deploy(
            tx,
            cx,
            &mut record,
            &environment,
            Action::Update,
            Some(desired),
        )?;
    }
    if let Some(token) = token.clone().filter(|token| !token.is_empty()) {
        record.last_client_request_token = Some(token);
    }
    tx.put(&record)?;
    idempotency::remember(
        tx,
        cx,
        OPERATION,
        token.as_deref(),
        &fingerprint,
        &record.name,
    )?;
    answer(record)
}

/// Asynchronous. What is being deleted is returned again, what is gone is an empty answer.
pub fn delete(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteComponentRequest,
) -> Result<pb::DeleteComponentResponse> {
    let Some(mut record) = tx.get::<ComponentRecord>(&request.name)? else {
        return Ok(pb::DeleteComponentResponse { component: None });
    };
    let target = record.target();
    match record.status() {
        DeploymentStatus::DeleteInProgress => {
            return Ok(pb::DeleteComponentResponse {
                component: Some(record.view(cx)),
            });
        }
        DeploymentStatus::DeleteFailed => {}
        _ => record.rollout_mut().free(&target)?,
    }
    // One that could never be deployed is attached to nothing that would notice.
    let attached = record.current.as_ref().and_then(attachment);
    if let Some((service, instance)) = attached {
        return Err(Error::precondition(
            target.tail(),
            format!(
                "{} is attached to service/{service}/service-instance/{instance}; detach it first",
                target.tail()
            ),
        ));
    }
    let environment = environment::record(tx, &record.environment)?;
    deploy(tx, cx, &mut record, &environment, Action::Delete, None)?;
    record.last_modified_at = Some(cx.now());
    tx.put(&record)?;
    Ok(pb::DeleteComponentResponse {
        component: Some(record.view(cx)),
    })
}

pub fn cancel(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::CancelComponentDeploymentRequest,
) -> Result<pb::CancelComponentDeploymentResponse> {
    let mut record = record(tx, &request.component_name)?;
    let target = record.target();
    provision::cancel(tx, cx, record.rollout_mut(), &target)?;
    record.last_modified_at = Some(cx.now());
    tx.put(&record)?;
    Ok(pb::CancelComponentDeploymentResponse {
        component: Some(record.view(cx)),
    })
}

pub fn list_outputs(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListComponentOutputsRequest,
) -> Result<pb::ListComponentOutputsResponse> {
    let record = record(tx, &request.component_name)?;
    let rollout = record.rollout.clone().unwrap_or_default();
    Ok(pb::ListComponentOutputsResponse {
        next_token: None,
        outputs: deployment::outputs(tx, &record.target(), &rollout, request.deployment_id)?,
    })
}

/// Nothing was provisioned by the engine, so there is nothing to list.
pub fn list_provisioned_resources(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListComponentProvisionedResourcesRequest,
) -> Result<pb::ListComponentProvisionedResourcesResponse> {
    record(tx, &request.component_name)?;
    Ok(pb::ListComponentProvisionedResourcesResponse::default())
}
