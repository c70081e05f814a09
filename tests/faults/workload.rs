//! What callers ask for: changes of every class of idempotency, of few names, so that many meet.
//!
//! Each asks for something that no other asks for, where there is anything to ask for: so it shows
//! whose change is there.

use proton_gateway::api::{Idempotency, Request, Typed, pb};

use crate::random::Random;
use crate::service_fixtures as fixtures;
use crate::service_fixtures::arn;
use crate::support::tag;

const ROLE: &str = "arn:aws:iam::123456789012:role/r";
const CODE_CONNECTION: &str = "arn:aws:codestar-connections:us-east-1:123456789012:connection/c-1";
/// So many names there are of each kind.
const NAMES: usize = 3;

/// One change that somebody wants.
#[derive(Debug, Clone)]
pub struct Change {
    pub key: String,
    pub request: Request,
    /// How many changes had been made when it was sent first, once it was.
    pub begun: Option<usize>,
}

impl Change {
    /// Whether it may be set aside half-way, while others change the same thing. Not where the
    /// repeat is harmless only as long as nobody does: what is created and deleted and then
    /// created again by the late repeat is known to nobody but Proton.
    pub fn may_wait(&self) -> bool {
        matches!(
            self.request.operation().policy().idempotency,
            Idempotency::None | Idempotency::ClientToken
        )
    }

    fn deletes(&self) -> bool {
        self.request.operation().name().starts_with("Delete")
    }
}

pub struct Workload {
    made: usize,
    /// Names begin so.
    own: String,
    /// The connections that there are or were.
    pub connections: Vec<String>,
}

impl Workload {
    pub fn new(own: &str) -> Self {
        Self {
            made: 0,
            own: own.to_owned(),
            connections: Vec::new(),
        }
    }

    /// The next change; with `gently`, none that deletes.
    pub fn next(&mut self, random: &mut Random, gently: bool) -> Change {
        loop {
            self.made += 1;
            let key = format!("{}key-{}", self.own, self.made);
            let request = self.request(random, self.made);
            let change = Change {
                key,
                request,
                begun: None,
            };
            if !(gently && change.deletes()) {
                return change;
            }
        }
    }

    fn request(&self, random: &mut Random, number: usize) -> Request {
        let own = &self.own;
        let mut name = |kind: &str| format!("{own}{}", random.name(kind, NAMES));
        let (template, service_template, environment) = (name("t"), name("s"), name("e"));
        let (service, instance, component) = (name("v"), name("i"), name("c"));
        let repository = format!("acme/{}", name("r"));
        let words = Some(format!("number {number}"));
        let minor = (1 + random.below(4)).to_string();
        let role = Some(format!("{ROLE}{number}"));
        let id = match self.connections.len() {
            0 => "00000000-0000-4000-8000-000000000000".to_owned(),
            there => {
                let latest = there.saturating_sub(4);
                self.connections[latest + random.below(there - latest)].clone()
            }
        };
        let spec = format!("proton: EnvironmentSpec\nspec:\n  zone: z{number}\n");
        let image = format!("image:{number}");
        let job = fixtures::job_spec(&[(&instance, "test", &image)]);
        match random.below(48) {
            0 | 1 => pb::CreateEnvironmentTemplateRequest {
                name: template,
                description: words,
                ..Default::default()
            }
            .into_request(),
            2 => pb::UpdateEnvironmentTemplateRequest {
                name: template,
                description: words,
                ..Default::default()
            }
            .into_request(),
            3 => pb::DeleteEnvironmentTemplateRequest { name: template }.into_request(),
            4 => pb::CreateServiceTemplateRequest {
                name: service_template,
                description: words,
                ..Default::default()
            }
            .into_request(),
            5 => pb::UpdateServiceTemplateRequest {
                name: service_template,
                display_name: words,
                ..Default::default()
            }
            .into_request(),
            6 => pb::DeleteServiceTemplateRequest {
                name: service_template,
            }
            .into_request(),
            7 => pb::CreateEnvironmentTemplateVersionRequest {
                description: words,
                ..version("network")
            }
            .into_request(),
            8 => pb::CreateServiceTemplateVersionRequest {
                description: words,
                ..fixtures::service_version("job", Some("1"))
            }
            .into_request(),
            9 => pb::UpdateEnvironmentTemplateVersionRequest {
                template_name: "network".to_owned(),
                major_version: "1".to_owned(),
                minor_version: minor,
                description: words,
                status: pb::TemplateVersionStatus::Published.into(),
            }
            .into_request(),
            10 => pb::UpdateServiceTemplateVersionRequest {
                template_name: "job".to_owned(),
                major_version: "1".to_owned(),
                minor_version: minor,
                description: words,
                ..Default::default()
            }
            .into_request(),
            11 => pb::DeleteEnvironmentTemplateVersionRequest {
                template_name: "network".to_owned(),
                major_version: "1".to_owned(),
                minor_version: minor,
            }
            .into_request(),
            12..=14 => pb::CreateEnvironmentRequest {
                description: words,
                spec,
                ..fixtures::create_environment(&environment)
            }
            .into_request(),
            15 => pb::UpdateEnvironmentRequest {
                name: environment,
                deployment_type: pb::DeploymentUpdateType::None.into(),
                description: words,
                ..Default::default()
            }
            .into_request(),
            16 | 17 => pb::UpdateEnvironmentRequest {
                name: environment,
                deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
                spec: Some(spec),
                ..Default::default()
            }
            .into_request(),
            18 | 19 => pb::UpdateEnvironmentRequest {
                name: environment,
                deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
                ..Default::default()
            }
            .into_request(),
            20 => pb::UpdateEnvironmentRequest {
                name: environment,
                deployment_type: pb::DeploymentUpdateType::MinorVersion.into(),
                spec: Some(spec),
                ..Default::default()
            }
            .into_request(),
            21 => pb::DeleteEnvironmentRequest { name: environment }.into_request(),
            22 | 23 => pb::CancelEnvironmentDeploymentRequest {
                environment_name: environment,
            }
            .into_request(),
            24 => pb::CreateEnvironmentAccountConnectionRequest {
                environment_name: format!("{own}x{number}"),
                management_account_id: "210987654321".to_owned(),
                role_arn: role,
                ..Default::default()
            }
            .into_request(),
            25 => pb::AcceptEnvironmentAccountConnectionRequest { id }.into_request(),
            26 => pb::RejectEnvironmentAccountConnectionRequest { id }.into_request(),
            27 => pb::UpdateEnvironmentAccountConnectionRequest {
                id,
                role_arn: role,
                ..Default::default()
            }
            .into_request(),
            28 => pb::DeleteEnvironmentAccountConnectionRequest { id }.into_request(),
            29 => pb::CreateRepositoryRequest {
                name: repository,
                provider: pb::RepositoryProvider::Github.into(),
                connection_arn: format!("{CODE_CONNECTION}{number}"),
                ..Default::default()
            }
            .into_request(),
            30 => pb::DeleteRepositoryRequest {
                name: repository,
                provider: pb::RepositoryProvider::Github.into(),
            }
            .into_request(),
            31 => pb::CreateTemplateSyncConfigRequest {
                branch: format!("b{number}"),
                repository_name: repository,
                repository_provider: pb::RepositoryProvider::Github.into(),
                subdirectory: None,
                template_name: template,
                template_type: pb::TemplateType::Environment.into(),
            }
            .into_request(),
            32 => pb::UpdateTemplateSyncConfigRequest {
                branch: format!("b{number}"),
                repository_name: repository,
                repository_provider: pb::RepositoryProvider::Github.into(),
                subdirectory: None,
                template_name: template,
                template_type: pb::TemplateType::Environment.into(),
            }
            .into_request(),
            33 => pb::DeleteTemplateSyncConfigRequest {
                template_name: template,
                template_type: pb::TemplateType::Environment.into(),
            }
            .into_request(),
            34 => pb::TagResourceRequest {
                resource_arn: arn(&format!("environment-template/{template}")),
                tags: vec![tag("k", &format!("v{number}"))],
            }
            .into_request(),
            35 => pb::UntagResourceRequest {
                resource_arn: arn(&format!("environment-template/{template}")),
                tag_keys: vec!["k".to_owned()],
            }
            .into_request(),
            36 => pb::UpdateAccountSettingsRequest {
                pipeline_codebuild_role_arn: role,
                ..Default::default()
            }
            .into_request(),
            37 => pb::CreateServiceRequest {
                description: words,
                ..fixtures::create_job(&service, &[("eu", "prod", &image)])
            }
            .into_request(),
            38 => pb::UpdateServiceRequest {
                name: service,
                description: words,
                ..Default::default()
            }
            .into_request(),
            39 => {
                let instances = [("eu", "prod", &*image), (&*instance, "test", &*image)];
                fixtures::edit(&service, &fixtures::job_spec(&instances)).into_request()
            }
            40 => fixtures::delete_service(&service).into_request(),
            41 => pb::CreateServiceInstanceRequest {
                spec: job,
                ..fixtures::add_instance(&instance)
            }
            .into_request(),
            42 => fixtures::update_instance("batch", &instance, Some(job)).into_request(),
            43 => pb::CancelServiceInstanceDeploymentRequest {
                service_name: "batch".to_owned(),
                service_instance_name: instance,
            }
            .into_request(),
            44 => {
                let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1")];
                let spec = fixtures::web_spec(&format!("make {number}"), &instances);
                fixtures::update_pipeline("shop", spec).into_request()
            }
            45 => fixtures::create_component(&component).into_request(),
            46 => match random.below(3) {
                0 => pb::DeleteComponentRequest { name: component }.into_request(),
                1 => pb::CancelComponentDeploymentRequest {
                    component_name: component,
                }
                .into_request(),
                _ => pb::UpdateComponentRequest {
                    description: words,
                    ..fixtures::update_component(&component)
                }
                .into_request(),
            },
            _ => pb::NotifyResourceDeploymentStatusChangeRequest {
                status_message: words,
                ..fixtures::report(
                    &format!("environment/{environment}"),
                    pb::ResourceDeploymentStatus::Failed,
                )
            }
            .into_request(),
        }
    }
}

fn version(template: &str) -> pb::CreateEnvironmentTemplateVersionRequest {
    let object = pb::S3ObjectSource {
        bucket: "bundles".to_owned(),
        key: format!("{template}.tar.gz"),
    };
    pb::CreateEnvironmentTemplateVersionRequest {
        template_name: template.to_owned(),
        major_version: Some("1".to_owned()),
        source: Some(pb::TemplateVersionSourceInput {
            source: Some(pb::template_version_source_input::Source::S3(object)),
        }),
        ..Default::default()
    }
}
