//! What is to be deployed, and which of Proton's operations get there.

use crate::api::pb::DeploymentUpdateType::{CurrentVersion, MajorVersion, MinorVersion};
use crate::api::pb::deployment_state::State;
use crate::api::pb::{self, DeploymentStatus, DeploymentUpdateType, ServiceStatus};
use crate::api::{Request, Response};
use crate::error::{Error, Result};

/// What a target is to be.
#[derive(Debug, Clone)]
pub enum Desired {
    Environment(pb::CreateEnvironmentRequest),
    ServiceInstance(pb::CreateServiceInstanceRequest),
    ServicePipeline(pb::UpdateServicePipelineRequest),
}

/// What the target is.
#[derive(Debug)]
pub struct Current {
    major: Option<String>,
    minor: Option<String>,
    /// The latest deployment, whatever became of it.
    pub latest: Option<String>,
    /// Whether that one is under way.
    pub running: bool,
    /// Whether it shows all that is wanted of it besides what a deployment aims at.
    as_wanted: bool,
}

/// How an update gets to a version.
struct Move {
    kind: DeploymentUpdateType,
    major: Option<String>,
    minor: Option<String>,
}

impl Current {
    fn of(
        status: DeploymentStatus,
        deployment: Option<String>,
        major: Option<String>,
        minor: Option<String>,
    ) -> Self {
        Self {
            major,
            minor,
            latest: deployment,
            running: status == DeploymentStatus::InProgress,
            as_wanted: true,
        }
    }

    /// Whether no deployment of it has succeeded yet.
    pub fn is_new(&self) -> bool {
        self.major.is_none()
    }

    /// Takes the version that was tried for its own: from there Proton reckons where nothing has
    /// succeeded yet.
    pub fn tried(&mut self, target: &State) {
        let (_, major, minor) = aim(target);
        self.major = major.cloned();
        self.minor = minor.cloned();
    }

    /// The update that brings it to the given version.
    fn moved(&self, major: Option<&String>, minor: Option<&String>) -> Move {
        // No version differs from one that is not known.
        let other = |wanted: Option<&String>, now: &Option<String>| {
            wanted.is_some_and(|wanted| now.as_ref().is_some_and(|now| now != wanted))
        };
        let kind = match (other(major, &self.major), other(minor, &self.minor)) {
            (true, _) => MajorVersion,
            (false, true) => MinorVersion,
            (false, false) => CurrentVersion,
        };
        // With CURRENT_VERSION Proton takes no version.
        let named = |part: Option<&String>| part.filter(|_| kind != CurrentVersion).cloned();
        Move {
            kind,
            major: named(major),
            minor: named(minor),
        }
    }
}

impl Desired {
    /// The rpc that asks for it.
    pub fn rpc(&self) -> &'static str {
        match self {
            Self::Environment(_) => "DeployEnvironment",
            Self::ServiceInstance(_) => "DeployServiceInstance",
            Self::ServicePipeline(_) => "DeployServicePipeline",
        }
    }

    /// Checks the model's constraints.
    pub fn validate(&self) -> Result<()> {
        match self {
            Self::Environment(wanted) => Request::CreateEnvironment(wanted.clone())
                .validate()
                .map_err(|error| error.in_field("environment")),
            Self::ServiceInstance(wanted) => Request::CreateServiceInstance(wanted.clone())
                .validate()
                .map_err(|error| error.in_field("service_instance")),
            Self::ServicePipeline(wanted) => {
                let mut wanted = wanted.clone();
                if wanted.deployment_type() == DeploymentUpdateType::Unspecified {
                    wanted.set_deployment_type(CurrentVersion);
                }
                Request::UpdateServicePipeline(wanted)
                    .validate()
                    .map_err(|error| error.in_field("service_pipeline"))
            }
        }
    }

    /// What reads the target.
    pub fn get(&self) -> Request {
        match self {
            Self::Environment(wanted) => Request::GetEnvironment(pb::GetEnvironmentRequest {
                name: wanted.name.clone(),
            }),
            Self::ServiceInstance(wanted) => {
                Request::GetServiceInstance(pb::GetServiceInstanceRequest {
                    name: wanted.name.clone(),
                    service_name: wanted.service_name.clone(),
                })
            }
            Self::ServicePipeline(wanted) => Request::GetService(pb::GetServiceRequest {
                name: wanted.service_name.clone(),
            }),
        }
    }

    /// What creates the target; nothing creates a pipeline alone.
    pub fn create(&self) -> Option<Request> {
        match self {
            Self::Environment(wanted) => Some(Request::CreateEnvironment(wanted.clone())),
            Self::ServiceInstance(wanted) => Some(Request::CreateServiceInstance(wanted.clone())),
            Self::ServicePipeline(_) => None,
        }
    }

    /// What the target is, as the answer to [`Desired::get`] says.
    pub fn current(&self, found: Response) -> Result<Current> {
        match (self, found) {
            (Self::Environment(wanted), Response::GetEnvironment(found)) => {
                let found = found.environment.unwrap_or_default();
                if found.template_name.as_ref() != Some(&wanted.template_name) {
                    return Err(Error::precondition(
                        format!("environment/{}", wanted.name),
                        format!(
                            "the environment is of the template {}; delete it first, or name that template",
                            found.template_name()
                        ),
                    ));
                }
                let as_wanted = shows(&found, wanted);
                Ok(Current {
                    as_wanted,
                    ..Current::of(
                        found.deployment_status(),
                        found.last_attempted_deployment_id,
                        found.template_major_version,
                        found.template_minor_version,
                    )
                })
            }
            (Self::ServiceInstance(_), Response::GetServiceInstance(found)) => {
                let found = found.service_instance.unwrap_or_default();
                Ok(Current::of(
                    found.deployment_status(),
                    found.last_attempted_deployment_id,
                    found.template_major_version,
                    found.template_minor_version,
                ))
            }
            (Self::ServicePipeline(wanted), Response::GetService(found)) => {
                let service = found.service.unwrap_or_default();
                let subject = format!("service/{}", wanted.service_name);
                let found = match (service.status(), service.pipeline) {
                    (_, Some(pipeline)) => pipeline,
                    (ServiceStatus::CreateInProgress, None) => {
                        let text =
                            format!("{subject} is being created; its pipeline comes with it");
                        return Err(Error::in_progress(&subject, text));
                    }
                    (_, None) => {
                        let text =
                            "the service has no pipeline; a service gets one when it is created";
                        return Err(Error::precondition(subject, text));
                    }
                };
                Ok(Current::of(
                    found.deployment_status(),
                    found.last_attempted_deployment_id,
                    found.template_major_version,
                    found.template_minor_version,
                ))
            }
            _ => Err(Error::internal("the backend answered another operation")),
        }
    }

    /// What updates the target.
    pub fn update(&self, current: &Current) -> Request {
        let (major, minor) = self.version();
        let to = current.moved(major, minor);
        match self.clone() {
            Self::Environment(wanted) => Request::UpdateEnvironment(pb::UpdateEnvironmentRequest {
                codebuild_role_arn: wanted.codebuild_role_arn,
                component_role_arn: wanted.component_role_arn,
                deployment_type: to.kind.into(),
                description: wanted.description,
                environment_account_connection_id: wanted.environment_account_connection_id,
                name: wanted.name,
                proton_service_role_arn: wanted.proton_service_role_arn,
                provisioning_repository: wanted.provisioning_repository,
                spec: Some(wanted.spec),
                template_major_version: to.major,
                template_minor_version: to.minor,
            }),
            Self::ServiceInstance(wanted) => {
                Request::UpdateServiceInstance(pb::UpdateServiceInstanceRequest {
                    client_token: wanted.client_token,
                    deployment_type: to.kind.into(),
                    name: wanted.name,
                    service_name: wanted.service_name,
                    spec: Some(wanted.spec),
                    template_major_version: to.major,
                    template_minor_version: to.minor,
                })
            }
            Self::ServicePipeline(mut wanted) => {
                if wanted.deployment_type() == DeploymentUpdateType::Unspecified {
                    wanted.deployment_type = to.kind.into();
                    wanted.template_major_version = to.major;
                    wanted.template_minor_version = to.minor;
                }
                Request::UpdateServicePipeline(wanted)
            }
        }
    }

    /// Whether a deployment of `current` that aims at `target` is of this.
    pub fn is(&self, target: &State, current: &Current) -> bool {
        let alike = matches!(
            (self, target),
            (Self::Environment(_), State::Environment(_))
                | (Self::ServiceInstance(_), State::ServiceInstance(_))
                | (Self::ServicePipeline(_), State::ServicePipeline(_))
        );
        let fits = |wanted: Option<&String>, target: Option<&String>| {
            wanted.is_none_or(|wanted| Some(wanted) == target)
        };
        let (spec, major, minor) = aim(target);
        let (wanted_major, wanted_minor) = self.version();
        alike
            && current.as_wanted
            && spec.map(String::as_str) == Some(self.spec())
            && fits(wanted_major, major)
            && fits(wanted_minor, minor)
    }

    fn spec(&self) -> &str {
        match self {
            Self::Environment(wanted) => &wanted.spec,
            Self::ServiceInstance(wanted) => &wanted.spec,
            Self::ServicePipeline(wanted) => &wanted.spec,
        }
    }

    /// The major and the minor version that are asked for.
    fn version(&self) -> (Option<&String>, Option<&String>) {
        match self {
            Self::Environment(wanted) => (
                Some(&wanted.template_major_version),
                wanted.template_minor_version.as_ref(),
            ),
            Self::ServiceInstance(wanted) => (
                wanted.template_major_version.as_ref(),
                wanted.template_minor_version.as_ref(),
            ),
            Self::ServicePipeline(wanted) => (
                wanted.template_major_version.as_ref(),
                wanted.template_minor_version.as_ref(),
            ),
        }
    }
}

/// Whether an environment shows what is wanted of it. What is to be empty may be left out.
fn shows(found: &pb::Environment, wanted: &pb::CreateEnvironmentRequest) -> bool {
    let fits = |wanted: &Option<String>, found: &Option<String>| {
        let wanted = wanted.as_deref();
        wanted.is_none_or(|wanted| wanted == found.as_deref().unwrap_or_default())
    };
    let repository = || {
        let wanted = wanted.provisioning_repository.as_ref();
        let found = found.provisioning_repository.as_ref();
        wanted.is_none_or(|wanted| {
            found.is_some_and(|found| {
                (found.name(), found.branch(), found.provider())
                    == (&wanted.name, &wanted.branch, wanted.provider())
            })
        })
    };
    fits(&wanted.description, &found.description)
        && fits(&wanted.codebuild_role_arn, &found.codebuild_role_arn)
        && fits(&wanted.component_role_arn, &found.component_role_arn)
        && fits(
            &wanted.proton_service_role_arn,
            &found.proton_service_role_arn,
        )
        && fits(
            &wanted.environment_account_connection_id,
            &found.environment_account_connection_id,
        )
        && repository()
}

/// The spec, and the major and the minor version, that a deployment aims at.
fn aim(target: &State) -> (Option<&String>, Option<&String>, Option<&String>) {
    match target {
        State::Environment(target) => (
            target.spec.as_ref(),
            target.template_major_version.as_ref(),
            target.template_minor_version.as_ref(),
        ),
        State::ServiceInstance(target) => (
            target.spec.as_ref(),
            target.template_major_version.as_ref(),
            target.template_minor_version.as_ref(),
        ),
        State::ServicePipeline(target) => (
            target.spec.as_ref(),
            target.template_major_version.as_ref(),
            target.template_minor_version.as_ref(),
        ),
        State::Component(_) => (None, None, None),
    }
}

/// The deployment that a create or an update has begun.
pub fn deployment(response: &Response) -> Option<String> {
    match response {
        Response::CreateEnvironment(made) => made
            .environment
            .as_ref()?
            .last_attempted_deployment_id
            .clone(),
        Response::UpdateEnvironment(made) => made
            .environment
            .as_ref()?
            .last_attempted_deployment_id
            .clone(),
        Response::CreateServiceInstance(made) => made
            .service_instance
            .as_ref()?
            .last_attempted_deployment_id
            .clone(),
        Response::UpdateServiceInstance(made) => made
            .service_instance
            .as_ref()?
            .last_attempted_deployment_id
            .clone(),
        Response::UpdateServicePipeline(made) => {
            made.pipeline.as_ref()?.last_attempted_deployment_id.clone()
        }
        _ => None,
    }
}
