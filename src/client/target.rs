//! What is waited for or deployed: the words of the command line, and the rpcs behind them.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use clap::{Args, Subcommand};
use tokio_stream::StreamExt;
use tonic::{Request, Status};

use super::credential::Known;
use crate::api::own::gateway_service_client::GatewayServiceClient;
use crate::api::own::{self, DeployAction};
use crate::api::pb;
use crate::api::pb::wait_event::Event;
use crate::api::pb::wait_resource::Resource;
use crate::api::pb::wait_service_client::WaitServiceClient;

/// One item of a stream.
pub struct Told {
    pub action: Option<DeployAction>,
    pub event: pb::WaitEvent,
}

impl Told {
    /// The deployment that the event is about, where it says so.
    pub fn deployment(&self) -> Option<String> {
        let resource = match self.event.event.as_ref()? {
            Event::Snapshot(snapshot) => snapshot.resource.as_ref()?,
            Event::Transition(change) => change.resource.as_ref()?,
            _ => return None,
        };
        match resource.resource.as_ref()? {
            Resource::Environment(it) => it.last_attempted_deployment_id.clone(),
            Resource::ServiceInstance(it) => it.last_attempted_deployment_id.clone(),
            Resource::Service(it) => it.pipeline.as_ref()?.last_attempted_deployment_id.clone(),
            _ => None,
        }
    }
}

pub type Stream = Pin<Box<dyn tokio_stream::Stream<Item = Result<Told, Status>> + Send>>;

/// What to wait for.
#[derive(Debug, Clone, Subcommand)]
pub enum WaitTarget {
    /// The latest deployment of an environment
    EnvironmentDeployed { name: String },
    /// The deletion of an environment
    EnvironmentDeleted { name: String },
    /// The creation of a service with its instances and its pipeline
    ServiceCreated { name: String },
    /// An update of a service
    ServiceUpdated { name: String },
    /// The deletion of a service
    ServiceDeleted { name: String },
    /// The latest deployment of a service instance
    ServiceInstanceDeployed {
        name: String,
        /// The instance's service
        #[arg(long)]
        service: String,
    },
    /// The latest deployment of a service's pipeline
    ServicePipelineDeployed { service: String },
    /// The latest deployment of a component
    ComponentDeployed { name: String },
    /// The deletion of a component
    ComponentDeleted { name: String },
    /// The registration of a version of an environment template
    EnvironmentTemplateVersionRegistered {
        template: String,
        /// As 1.0
        version: Version,
    },
    /// The registration of a version of a service template
    ServiceTemplateVersionRegistered {
        template: String,
        /// As 1.0
        version: Version,
    },
    /// One deployment, whatever its target
    Deployment { id: String },
}

/// A template version: major and minor.
#[derive(Debug, Clone)]
pub struct Version {
    major: String,
    minor: String,
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match split(text) {
            Ok((major, Some(minor))) => Ok(Self { major, minor }),
            _ => Err("a version looks like 1.0".to_owned()),
        }
    }
}

/// `1` or `1.0`.
fn split(text: &str) -> Result<(String, Option<String>), String> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (major, minor) = match text.split_once('.') {
        Some((major, minor)) => (major, Some(minor)),
        None => (text, None),
    };
    if number(major) && minor.is_none_or(number) {
        Ok((major.to_owned(), minor.map(str::to_owned)))
    } else {
        Err(format!("{text:?} is no version like 1 or 1.0"))
    }
}

/// What to deploy.
#[derive(Debug, Clone, Subcommand)]
pub enum DeployTarget {
    /// Create or update an environment
    Environment {
        name: String,
        /// The environment template
        #[arg(long)]
        template: String,
        /// As 1 or 1.0; with 1 a new environment gets the latest minor version of 1, and an
        /// existing one stays at its own
        #[arg(long, value_name = "VERSION")]
        template_version: MajorVersion,
        #[command(flatten)]
        spec: Spec,
        /// Role with which Proton provisions
        #[arg(long, value_name = "ARN")]
        proton_service_role_arn: Option<String>,
        /// Role for provisioning by CodeBuild
        #[arg(long, value_name = "ARN")]
        codebuild_role_arn: Option<String>,
        /// Role for the components of the environment
        #[arg(long, value_name = "ARN")]
        component_role_arn: Option<String>,
        /// Connection to the account in which to provision
        #[arg(long, value_name = "ID")]
        environment_account_connection_id: Option<String>,
        /// What the environment is for
        #[arg(long, value_name = "TEXT")]
        description: Option<String>,
    },
    /// Create or update an instance of a service
    ServiceInstance {
        name: String,
        /// The instance's service
        #[arg(long)]
        service: String,
        /// As 1 or 1.0 [default: the instance's, or the latest]
        #[arg(long, value_name = "VERSION")]
        template_version: Option<MajorVersion>,
        #[command(flatten)]
        spec: Spec,
    },
    /// Update the pipeline of a service
    ServicePipeline {
        service: String,
        /// As 1 or 1.0 [default: the pipeline's]
        #[arg(long, value_name = "VERSION")]
        template_version: Option<MajorVersion>,
        #[command(flatten)]
        spec: Spec,
    },
}

/// A template version whose minor part may be left out.
#[derive(Debug, Clone)]
pub struct MajorVersion {
    major: String,
    minor: Option<String>,
}

impl std::str::FromStr for MajorVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        split(text).map(|(major, minor)| Self { major, minor })
    }
}

/// Where the spec is.
#[derive(Debug, Clone, Args)]
pub struct Spec {
    /// File with the spec, or - for the standard input
    #[arg(long = "spec", value_name = "FILE")]
    file: PathBuf,
}

impl Spec {
    fn read(&self) -> Result<String, String> {
        let mut text = String::new();
        if self.file == Path::new("-") {
            std::io::stdin().read_to_string(&mut text).map(drop)
        } else {
            std::fs::read_to_string(&self.file).map(|read| text = read)
        }
        .map_err(|error| format!("cannot read the spec {}: {error}", self.file.display()))?;
        Ok(text)
    }
}

/// A deploy that is ready to be sent.
pub struct Deploy {
    key: String,
    desired: Desired,
}

enum Desired {
    Environment(pb::CreateEnvironmentRequest),
    ServiceInstance(pb::CreateServiceInstanceRequest),
    ServicePipeline(pb::UpdateServicePipelineRequest),
}

impl DeployTarget {
    /// Reads what belongs to it.
    pub fn prepare(self, key: String) -> Result<Deploy, String> {
        let parts = |version: Option<MajorVersion>| match version {
            Some(version) => (Some(version.major), version.minor),
            None => (None, None),
        };
        let desired = match self {
            Self::Environment {
                name,
                template,
                template_version,
                spec,
                proton_service_role_arn,
                codebuild_role_arn,
                component_role_arn,
                environment_account_connection_id,
                description,
            } => Desired::Environment(pb::CreateEnvironmentRequest {
                name,
                template_name: template,
                template_major_version: template_version.major,
                template_minor_version: template_version.minor,
                spec: spec.read()?,
                proton_service_role_arn,
                codebuild_role_arn,
                component_role_arn,
                environment_account_connection_id,
                description,
                ..pb::CreateEnvironmentRequest::default()
            }),
            Self::ServiceInstance {
                name,
                service,
                template_version,
                spec,
            } => {
                let (template_major_version, template_minor_version) = parts(template_version);
                Desired::ServiceInstance(pb::CreateServiceInstanceRequest {
                    name,
                    service_name: service,
                    spec: spec.read()?,
                    template_major_version,
                    template_minor_version,
                    ..pb::CreateServiceInstanceRequest::default()
                })
            }
            Self::ServicePipeline {
                service,
                template_version,
                spec,
            } => {
                let (template_major_version, template_minor_version) = parts(template_version);
                Desired::ServicePipeline(pb::UpdateServicePipelineRequest {
                    service_name: service,
                    spec: spec.read()?,
                    template_major_version,
                    template_minor_version,
                    ..pb::UpdateServicePipelineRequest::default()
                })
            }
        };
        Ok(Deploy { key, desired })
    }
}

pub enum Target {
    Wait(WaitTarget),
    Deploy(Box<Deploy>),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wait(target) => target.fmt(f),
            Self::Deploy(deploy) => match &deploy.desired {
                Desired::Environment(it) => write!(f, "environment {}", it.name),
                Desired::ServiceInstance(it) => {
                    write!(f, "service instance {}/{}", it.service_name, it.name)
                }
                Desired::ServicePipeline(it) => write!(f, "pipeline of {}", it.service_name),
            },
        }
    }
}

impl fmt::Display for WaitTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EnvironmentDeployed { name } | Self::EnvironmentDeleted { name } => {
                write!(f, "environment {name}")
            }
            Self::ServiceCreated { name }
            | Self::ServiceUpdated { name }
            | Self::ServiceDeleted { name } => write!(f, "service {name}"),
            Self::ServiceInstanceDeployed { name, service } => {
                write!(f, "service instance {service}/{name}")
            }
            Self::ServicePipelineDeployed { service } => write!(f, "pipeline of {service}"),
            Self::ComponentDeployed { name } | Self::ComponentDeleted { name } => {
                write!(f, "component {name}")
            }
            Self::EnvironmentTemplateVersionRegistered { template, version } => write!(
                f,
                "environment template {template} {}.{}",
                version.major, version.minor
            ),
            Self::ServiceTemplateVersionRegistered { template, version } => write!(
                f,
                "service template {template} {}.{}",
                version.major, version.minor
            ),
            Self::Deployment { id } => write!(f, "deployment {id}"),
        }
    }
}

/// Calls an rpc of `WaitService`, and takes the events out of its items.
macro_rules! wait {
    ($client:ident.$rpc:ident($request:ident { $($field:ident: $value:expr),+ }), $options:ident) => {{
        let request = pb::$request { $($field: $value.clone(),)+ options: Some($options) };
        let stream = $client.$rpc(request).await?.into_inner();
        Ok(Box::pin(stream.map(|item| {
            item.map(|item| Told { action: None, event: item.event.unwrap_or_default() })
        })))
    }};
}

/// Calls an rpc of `GatewayService` with the deploy's key.
macro_rules! deploy {
    ($client:ident.$rpc:ident($request:ident { $field:ident: $value:expr }), $options:ident, $key:expr) => {{
        let mut request = Request::new(own::$request {
            $field: Some($value.clone()),
            options: Some($options),
        });
        let key = $key
            .parse()
            .map_err(|_| Status::invalid_argument("the idempotency key must be printable ASCII"))?;
        request.metadata_mut().insert("idempotency-key", key);
        let stream = $client.$rpc(request).await?.into_inner();
        Ok(Box::pin(stream.map(|item| {
            item.map(|item| Told {
                action: Some(item.action()),
                event: item.event.unwrap_or_default(),
            })
        })))
    }};
}

impl Target {
    /// Opens the stream, or goes on with it.
    pub async fn open(&self, channel: Known, options: pb::WaitOptions) -> Result<Stream, Status> {
        match self {
            Self::Wait(target) => target.open(channel, options).await,
            Self::Deploy(deploy) => deploy.open(channel, options).await,
        }
    }
}

impl Deploy {
    async fn open(&self, channel: Known, options: pb::WaitOptions) -> Result<Stream, Status> {
        let mut client = GatewayServiceClient::new(channel);
        match &self.desired {
            Desired::Environment(wanted) => deploy!(
                client.deploy_environment(DeployEnvironmentRequest {
                    environment: wanted
                }),
                options,
                self.key
            ),
            Desired::ServiceInstance(wanted) => deploy!(
                client.deploy_service_instance(DeployServiceInstanceRequest {
                    service_instance: wanted
                }),
                options,
                self.key
            ),
            Desired::ServicePipeline(wanted) => deploy!(
                client.deploy_service_pipeline(DeployServicePipelineRequest {
                    service_pipeline: wanted
                }),
                options,
                self.key
            ),
        }
    }
}

impl WaitTarget {
    async fn open(&self, channel: Known, options: pb::WaitOptions) -> Result<Stream, Status> {
        let mut client = WaitServiceClient::new(channel);
        match self {
            Self::EnvironmentDeployed { name } => wait!(
                client.wait_environment_deployed(WaitEnvironmentDeployedRequest { name: name }),
                options
            ),
            Self::EnvironmentDeleted { name } => wait!(
                client.wait_environment_deleted(WaitEnvironmentDeletedRequest { name: name }),
                options
            ),
            Self::ServiceCreated { name } => wait!(
                client.wait_service_created(WaitServiceCreatedRequest { name: name }),
                options
            ),
            Self::ServiceUpdated { name } => wait!(
                client.wait_service_updated(WaitServiceUpdatedRequest { name: name }),
                options
            ),
            Self::ServiceDeleted { name } => wait!(
                client.wait_service_deleted(WaitServiceDeletedRequest { name: name }),
                options
            ),
            Self::ServiceInstanceDeployed { name, service } => wait!(
                client.wait_service_instance_deployed(WaitServiceInstanceDeployedRequest {
                    name: name,
                    service_name: service
                }),
                options
            ),
            Self::ServicePipelineDeployed { service } => wait!(
                client.wait_service_pipeline_deployed(WaitServicePipelineDeployedRequest {
                    name: service
                }),
                options
            ),
            Self::ComponentDeployed { name } => wait!(
                client.wait_component_deployed(WaitComponentDeployedRequest { name: name }),
                options
            ),
            Self::ComponentDeleted { name } => wait!(
                client.wait_component_deleted(WaitComponentDeletedRequest { name: name }),
                options
            ),
            Self::EnvironmentTemplateVersionRegistered { template, version } => wait!(
                client.wait_environment_template_version_registered(
                    WaitEnvironmentTemplateVersionRegisteredRequest {
                        template_name: template,
                        major_version: version.major,
                        minor_version: version.minor
                    }
                ),
                options
            ),
            Self::ServiceTemplateVersionRegistered { template, version } => wait!(
                client.wait_service_template_version_registered(
                    WaitServiceTemplateVersionRegisteredRequest {
                        template_name: template,
                        major_version: version.major,
                        minor_version: version.minor
                    }
                ),
                options
            ),
            Self::Deployment { id } => wait!(
                client.watch_deployment(WatchDeploymentRequest { id: id }),
                options
            ),
        }
    }
}
