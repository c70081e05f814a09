//! Environments.
//!
//! Keys of [`EnvironmentRecord`]: the name. Indexes: `version/{template}:{major}.{minor}`,
//! `connection/{id}` and `repository/{tail of its ARN}`.

use prost::Message;
use prost_types::Timestamp;

use super::component::ComponentRecord;
use super::context::Context;
use super::deployment::{self, Action};
use super::environment_account_connection::ConnectionRecord;
use super::idempotency;
use super::paging::Page;
use super::provision::{self, Ending, Pace, Plan, Rollout, Target};
use super::registry::{self, VersionRecord};
use super::repository;
use super::service_instance::InstanceRecord;
use super::spec;
use super::store::{Record, Transaction};
use super::tag;
use super::update::{self, Mode};
use crate::api::pb::deployment_state::State;
use crate::api::pb::{
    self, DeploymentStatus, DeploymentUpdateType, EnvironmentAccountConnectionStatus, Provisioning,
    TemplateType,
};
use crate::error::{Error, Result, Violation};

const KIND: TemplateType = TemplateType::Environment;

#[derive(Clone, PartialEq, Message)]
pub struct EnvironmentRecord {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub created_at: Option<Timestamp>,
    #[prost(string, tag = "3")]
    pub template: String,
    #[prost(string, optional, tag = "4")]
    pub description: Option<String>,
    #[prost(string, optional, tag = "5")]
    pub service_role: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub component_role: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub codebuild_role: Option<String>,
    #[prost(string, optional, tag = "8")]
    pub connection: Option<String>,
    #[prost(string, optional, tag = "9")]
    pub account: Option<String>,
    #[prost(message, optional, tag = "10")]
    pub repository: Option<pb::RepositoryBranch>,
    /// The customer provides it: nothing is deployed, the spec holds its outputs.
    #[prost(bool, tag = "11")]
    pub customer_managed: bool,
    /// What is deployed.
    #[prost(message, optional, tag = "12")]
    pub current: Option<pb::EnvironmentState>,
    /// What is being deployed, or was to be by a first deployment that failed.
    #[prost(message, optional, tag = "13")]
    pub pending: Option<pb::EnvironmentState>,
    #[prost(message, optional, tag = "14")]
    pub rollout: Option<Rollout>,
    #[prost(string, tag = "15")]
    pub fingerprint: String,
    #[prost(bool, tag = "16")]
    pub modified: bool,
}

impl Record for EnvironmentRecord {
    const KIND: &'static str = "environment";

    fn key(&self) -> String {
        self.name.clone()
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
        names.extend(self.connection.iter().map(|id| format!("connection/{id}")));
        if let Some(repository) = &self.repository {
            names.push(repository::index_of(repository));
        }
        names.sort();
        names.dedup();
        names
            .into_iter()
            .map(|name| (name, self.name.clone()))
            .collect()
    }
}

impl EnvironmentRecord {
    pub fn rollout_mut(&mut self) -> &mut Rollout {
        self.rollout.get_or_insert_default()
    }

    pub fn status(&self) -> DeploymentStatus {
        self.rollout
            .as_ref()
            .map_or(DeploymentStatus::Unspecified, Rollout::status)
    }

    pub fn target(&self) -> Target {
        Target::Environment(self.name.clone())
    }

    /// Its deployments, and those of what is in it, are carried out by somebody else.
    pub fn self_managed(&self) -> bool {
        self.repository.is_some()
    }

    /// Components may be provisioned in it.
    pub fn takes_components(&self, tx: &Transaction<'_>) -> Result<bool> {
        let connected = match &self.connection {
            Some(id) => tx
                .get::<ConnectionRecord>(id)?
                .is_some_and(|connection| connection.view().component_role_arn.is_some()),
            None => false,
        };
        Ok(self.self_managed() || self.component_role.is_some() || connected)
    }

    /// Refuses a deployment that its connection would have to carry out, but which was deleted
    /// (User Guide: such an environment needs another connection first).
    fn connected(&self, tx: &Transaction<'_>) -> Result<()> {
        match &self.connection {
            Some(id) if tx.get::<ConnectionRecord>(id)?.is_none() => Err(Error::precondition(
                format!("environment-account-connection/{id}"),
                format!(
                    "the environment-account-connection/{id} was deleted; have another one \
                     accepted, and give it with the update"
                ),
            )),
            _ => Ok(()),
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

    /// The deployed version's major and minor, where something can be deployed in it. Decided
    /// here: it must have been deployed once and not be on its way out.
    pub fn ready(&self) -> Result<(&str, &str)> {
        let tail = self.target().tail();
        match (self.version(), self.status()) {
            (_, DeploymentStatus::DeleteInProgress | DeploymentStatus::DeleteFailed) => Err(
                Error::precondition(&tail, format!("{tail} is being deleted")),
            ),
            (Some(version), _) => Ok(version),
            (None, DeploymentStatus::InProgress) => Err(Error::in_progress(
                &tail,
                format!("{tail} is being created; wait until it is SUCCEEDED"),
            )),
            (None, _) => Err(Error::precondition(
                &tail,
                format!("{tail} was never deployed successfully"),
            )),
        }
    }

    /// What the next deployment starts from.
    fn base(&self) -> pb::EnvironmentState {
        self.current
            .clone()
            .or_else(|| self.pending.clone())
            .unwrap_or_default()
    }

    fn pace(&self) -> Pace {
        if self.customer_managed {
            Pace::AtOnce
        } else if self.self_managed() {
            Pace::SelfManaged
        } else {
            Pace::Simulated
        }
    }

    fn view(self, cx: &Context) -> pb::Environment {
        let rollout = self.rollout.unwrap_or_default();
        let current = self.current.unwrap_or_default();
        pb::Environment {
            arn: Some(cx.arn(&format!("environment/{}", self.name))),
            codebuild_role_arn: self.codebuild_role,
            component_role_arn: self.component_role,
            created_at: self.created_at,
            deployment_status: rollout.status,
            deployment_status_message: rollout.message,
            description: self.description,
            environment_account_connection_id: self.connection,
            environment_account_id: self.account,
            last_attempted_deployment_id: rollout.attempted_id,
            last_deployment_attempted_at: rollout.attempted_at,
            last_deployment_succeeded_at: rollout.succeeded_at,
            last_succeeded_deployment_id: rollout.succeeded_id,
            name: Some(self.name),
            proton_service_role_arn: self.service_role,
            provisioning: provisioning(self.customer_managed),
            provisioning_repository: self.repository,
            spec: current.spec,
            template_major_version: current.template_major_version,
            template_minor_version: current.template_minor_version,
            template_name: Some(self.template),
        }
    }

    fn summary(self, cx: &Context) -> pb::EnvironmentSummary {
        let rollout = self.rollout.unwrap_or_default();
        let current = self.current.unwrap_or_default();
        pb::EnvironmentSummary {
            arn: Some(cx.arn(&format!("environment/{}", self.name))),
            component_role_arn: self.component_role,
            created_at: self.created_at,
            deployment_status: rollout.status,
            deployment_status_message: rollout.message,
            description: self.description,
            environment_account_connection_id: self.connection,
            environment_account_id: self.account,
            last_attempted_deployment_id: rollout.attempted_id,
            last_deployment_attempted_at: rollout.attempted_at,
            last_deployment_succeeded_at: rollout.succeeded_at,
            last_succeeded_deployment_id: rollout.succeeded_id,
            name: Some(self.name),
            proton_service_role_arn: self.service_role,
            provisioning: provisioning(self.customer_managed),
            template_major_version: current.template_major_version,
            template_minor_version: current.template_minor_version,
            template_name: Some(self.template),
        }
    }
}

fn provisioning(customer_managed: bool) -> i32 {
    if customer_managed {
        Provisioning::CustomerManaged.into()
    } else {
        Provisioning::Unspecified.into()
    }
}

pub fn record(tx: &Transaction<'_>, name: &str) -> Result<EnvironmentRecord> {
    tx.get(name)?
        .ok_or_else(|| Error::not_found("environment", name))
}

/// User Guide: provisioning is by a service role, by an account connection or by a repository.
fn one_provisioning(role: bool, connection: bool, repository: bool) -> Result<()> {
    let fields = [
        ("proton_service_role_arn", role),
        ("environment_account_connection_id", connection),
        ("provisioning_repository", repository),
    ];
    let given = fields.iter().filter(|(_, given)| *given);
    let violations: Vec<_> = given
        .map(|(field, _)| Violation::new(*field, "cannot be given together with the others"))
        .collect();
    if violations.len() > 1 {
        return Err(Error::violations(
            "Only one of proton_service_role_arn, environment_account_connection_id and \
             provisioning_repository can be given",
            violations,
        ));
    }
    Ok(())
}

/// The connection `id`, if it can provision the environment `name`.
fn usable_connection(tx: &Transaction<'_>, id: &str, name: &str) -> Result<ConnectionRecord> {
    let field = "environment_account_connection_id";
    let connection = tx
        .get::<ConnectionRecord>(id)?
        .ok_or_else(|| Error::not_found("environment-account-connection", id))?;
    if connection.view().status() != EnvironmentAccountConnectionStatus::Connected {
        return Err(Error::invalid_field(
            field,
            "the connection is not CONNECTED",
        ));
    }
    if connection.view().environment_name() != name {
        return Err(Error::invalid_field(
            field,
            "the connection is for an environment of another name",
        ));
    }
    Ok(connection)
}

/// What of `version` and the environment do not go together.
fn check_rendering(version: &VersionRecord, self_managed: bool) -> Result<()> {
    if version.rendering.as_deref() == Some("hcl") && !self_managed {
        return Err(Error::invalid_field(
            "provisioning_repository",
            format!(
                "is required: {} holds Terraform, which is provisioned by pull request",
                version.tail()
            ),
        ));
    }
    Ok(())
}

pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateEnvironmentRequest,
) -> Result<pb::CreateEnvironmentResponse> {
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    if let Some(original) = tx.get::<EnvironmentRecord>(&request.name)? {
        let tail = original.target().tail();
        if matches!(
            original.status(),
            DeploymentStatus::DeleteInProgress | DeploymentStatus::DeleteFailed
        ) {
            original
                .rollout
                .clone()
                .unwrap_or_default()
                .free(&original.target())?;
        }
        idempotency::same_create(
            &tail,
            &original.fingerprint,
            &fingerprint,
            original.modified,
        )?;
        return Ok(pb::CreateEnvironmentResponse {
            environment: Some(original.view(cx)),
        });
    }
    one_provisioning(
        request.proton_service_role_arn.is_some(),
        request.environment_account_connection_id.is_some(),
        request.provisioning_repository.is_some(),
    )?;
    let template = registry::template(tx, KIND, &request.template_name)?;
    let version = registry::deployable(
        tx,
        cx,
        KIND,
        &request.template_name,
        &request.template_major_version,
        request.template_minor_version.as_deref(),
    )?;
    let connection = request
        .environment_account_connection_id
        .as_deref()
        .map(|id| usable_connection(tx, id, &request.name))
        .transpose()?;
    let repository = request
        .provisioning_repository
        .as_ref()
        .map(|input| repository::branch(tx, cx, input))
        .transpose()?;
    let customer_managed = template.customer_managed();
    check_rendering(&version, repository.is_some())?;
    let outputs = spec::environment(cx, &version, &request.spec, customer_managed)?;
    let quota = cx.settings.quotas.environments;
    if tx.count::<EnvironmentRecord>("")? >= quota {
        return Err(Error::quota("environments", quota));
    }
    let mut record = EnvironmentRecord {
        created_at: Some(cx.now()),
        template: request.template_name,
        description: request.description,
        service_role: request.proton_service_role_arn,
        component_role: request.component_role_arn,
        codebuild_role: request.codebuild_role_arn,
        account: connection.map(|record| record.view().environment_account_id().to_owned()),
        connection: request.environment_account_connection_id,
        repository,
        customer_managed,
        current: None,
        pending: None,
        rollout: None,
        fingerprint,
        modified: false,
        name: request.name,
    };
    let desired = state(&version, request.spec);
    tag::begin(tx, &record.target().tail(), request.tags)?;
    deploy(tx, cx, &mut record, Action::Create, Some(desired), outputs)?;
    tx.put(&record)?;
    Ok(pb::CreateEnvironmentResponse {
        environment: Some(record.view(cx)),
    })
}

fn state(version: &VersionRecord, spec: String) -> pb::EnvironmentState {
    pb::EnvironmentState {
        spec: Some(spec),
        template_major_version: Some(version.major.to_string()),
        template_minor_version: Some(version.minor.to_string()),
        template_name: Some(version.template.clone()),
    }
}

fn deploy(
    tx: &Transaction<'_>,
    cx: &Context,
    record: &mut EnvironmentRecord,
    action: Action,
    desired: Option<pb::EnvironmentState>,
    outputs: Vec<pb::Output>,
) -> Result<()> {
    let plan = Plan {
        target: record.target(),
        action,
        // A deletion's pull request is all there is to a deletion.
        pace: match record.pace() {
            Pace::SelfManaged if action == Action::Delete => Pace::Simulated,
            pace => pace,
        },
        target_created_at: record.created_at,
        environment: record.name.clone(),
        initial: record.current.clone().map(State::Environment),
        desired: desired.clone().map(State::Environment),
        outputs,
    };
    provision::begin(tx, cx, record.rollout_mut(), plan)?;
    if desired.is_some() {
        record.pending = desired;
    }
    Ok(())
}

/// Takes over how a deployment ended.
pub fn conclude(tx: &Transaction<'_>, name: &str, ending: &Ending) -> Result<()> {
    let Some(mut record) = tx.get::<EnvironmentRecord>(name)? else {
        return Ok(());
    };
    if ending.deleted() {
        tx.delete::<EnvironmentRecord>(name)?;
        return tag::forget(tx, &record.target().tail());
    }
    record.rollout_mut().end(ending);
    ending.settle(&mut record.current, &mut record.pending);
    tx.put(&record)
}

pub fn get(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::GetEnvironmentRequest,
) -> Result<pb::GetEnvironmentResponse> {
    Ok(pb::GetEnvironmentResponse {
        environment: Some(record(tx, &request.name)?.view(cx)),
    })
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListEnvironmentsRequest,
) -> Result<pb::ListEnvironmentsResponse> {
    let page = Page::of(cx, &mut request)?;
    let filters = request.environment_templates;
    let (environments, next_token) = page.scan(tx, "", |record: EnvironmentRecord| {
        let wanted = filters.is_empty()
            || filters.iter().any(|filter| {
                filter.template_name == record.template
                    && filter.major_version == record.base().template_major_version()
            });
        Ok(wanted.then(|| record.summary(cx)))
    })?;
    Ok(pb::ListEnvironmentsResponse {
        environments,
        next_token,
    })
}

pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateEnvironmentRequest,
) -> Result<pb::UpdateEnvironmentResponse> {
    let mut record = record(tx, &request.name)?;
    let mode = Mode::of(
        request.deployment_type(),
        request.template_major_version.as_deref(),
        request.template_minor_version.as_deref(),
    )?;
    if request.deployment_type() == DeploymentUpdateType::None && request.spec.is_some() {
        return Err(update::nothing_deployed("spec"));
    }
    record
        .rollout_mut()
        .free(&Target::Environment(request.name.clone()))?;
    reprovision(tx, cx, &mut record, &request)?;
    record.description = request.description.or(record.description);
    record.component_role = request.component_role_arn.or(record.component_role);
    record.codebuild_role = request.codebuild_role_arn.or(record.codebuild_role);
    record.modified = true;
    if let Some(mode) = mode {
        record.connected(tx)?;
        let base = record.base();
        let version = mode.version(
            tx,
            cx,
            KIND,
            &record.template,
            base.template_major_version(),
            base.template_minor_version(),
        )?;
        check_rendering(&version, record.self_managed())?;
        let text = request.spec.or(base.spec).unwrap_or_default();
        let outputs = spec::environment(cx, &version, &text, record.customer_managed)?;
        let desired = state(&version, text);
        deploy(tx, cx, &mut record, Action::Update, Some(desired), outputs)?;
    }
    tx.put(&record)?;
    Ok(pb::UpdateEnvironmentResponse {
        environment: Some(record.view(cx)),
    })
}

/// Changes who provisions an environment, as far as the API Reference allows it: a role for a
/// role, a connection for another one of the same account, a repository for another.
fn reprovision(
    tx: &Transaction<'_>,
    cx: &Context,
    record: &mut EnvironmentRecord,
    request: &pb::UpdateEnvironmentRequest,
) -> Result<()> {
    one_provisioning(
        request.proton_service_role_arn.is_some(),
        request.environment_account_connection_id.is_some(),
        request.provisioning_repository.is_some(),
    )?;
    if let Some(role) = &request.proton_service_role_arn {
        if record.connection.is_some() || record.repository.is_some() {
            return Err(Error::invalid_field(
                "proton_service_role_arn",
                "the environment is provisioned in another way, which cannot be changed",
            ));
        }
        record.service_role = Some(role.clone());
    }
    if let Some(id) = &request.environment_account_connection_id {
        let field = "environment_account_connection_id";
        if record.connection.is_none() {
            return Err(Error::invalid_field(
                field,
                "the environment was created without a connection, and cannot get one",
            ));
        }
        let connection = usable_connection(tx, id, &record.name)?;
        if Some(connection.view().environment_account_id()) != record.account.as_deref() {
            return Err(Error::invalid_field(
                field,
                "the connection is to another account than the environment's",
            ));
        }
        record.connection = Some(id.clone());
    }
    if let Some(input) = &request.provisioning_repository {
        if record.repository.is_none() {
            return Err(Error::invalid_field(
                "provisioning_repository",
                "the environment is not self-managed, and cannot become so",
            ));
        }
        record.repository = Some(repository::branch(tx, cx, input)?);
    }
    Ok(())
}

/// Asynchronous. What is being deleted is returned again, what is gone is an empty answer.
pub fn delete(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::DeleteEnvironmentRequest,
) -> Result<pb::DeleteEnvironmentResponse> {
    let Some(mut record) = tx.get::<EnvironmentRecord>(&request.name)? else {
        return Ok(pb::DeleteEnvironmentResponse { environment: None });
    };
    let answer = |record: EnvironmentRecord| {
        Ok(pb::DeleteEnvironmentResponse {
            environment: Some(record.view(cx)),
        })
    };
    match record.status() {
        DeploymentStatus::DeleteInProgress => return answer(record),
        DeploymentStatus::DeleteFailed => {}
        _ => {
            let target = record.target();
            record.rollout_mut().free(&target)?;
        }
    }
    let tail = record.target().tail();
    let index = format!("environment/{}", record.name);
    let instances = tx.count_index::<InstanceRecord>(&index)?;
    if instances > 0 {
        return Err(Error::precondition(
            &tail,
            format!("{tail} has {instances} service instance(s); delete them first"),
        ));
    }
    let components = tx.count_index::<ComponentRecord>(&index)?;
    if components > 0 {
        return Err(Error::precondition(
            &tail,
            format!("{tail} has {components} component(s); delete them first"),
        ));
    }
    deploy(tx, cx, &mut record, Action::Delete, None, Vec::new())?;
    tx.put(&record)?;
    answer(record)
}

pub fn cancel(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::CancelEnvironmentDeploymentRequest,
) -> Result<pb::CancelEnvironmentDeploymentResponse> {
    let mut record = record(tx, &request.environment_name)?;
    let target = record.target();
    provision::cancel(tx, cx, record.rollout_mut(), &target)?;
    tx.put(&record)?;
    Ok(pb::CancelEnvironmentDeploymentResponse {
        environment: Some(record.view(cx)),
    })
}

pub fn list_outputs(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListEnvironmentOutputsRequest,
) -> Result<pb::ListEnvironmentOutputsResponse> {
    let record = record(tx, &request.environment_name)?;
    let rollout = record.rollout.clone().unwrap_or_default();
    Ok(pb::ListEnvironmentOutputsResponse {
        next_token: None,
        outputs: deployment::outputs(tx, &record.target(), &rollout, request.deployment_id)?,
    })
}

/// Nothing was provisioned by the engine, so there is nothing to list.
pub fn list_provisioned_resources(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListEnvironmentProvisionedResourcesRequest,
) -> Result<pb::ListEnvironmentProvisionedResourcesResponse> {
    record(tx, &request.environment_name)?;
    Ok(pb::ListEnvironmentProvisionedResourcesResponse::default())
}
