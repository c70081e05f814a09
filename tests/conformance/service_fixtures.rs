//! Templates, environments and services that the tests of this half begin with.
//!
//! [`platform`] registers the templates `job` (no pipeline) and `web` (with one) and creates the
//! environments `prod` and `test`; [`onprem`] adds what is provisioned by pull request.

use flate2::Compression;
use flate2::write::GzEncoder;
use prost_types::Timestamp;
use proton_gateway::api::pb::{
    self, ComponentDeploymentUpdateType, DeploymentStatus, DeploymentUpdateType, Provisioning,
    RepositoryProvider, ResourceDeploymentStatus, ServiceStatus,
    ServiceTemplateSupportedComponentSourceType as Source, TemplateVersionStatus,
};
use proton_gateway::clock::{Clock, timestamp};

use crate::support::{ACCOUNT, World};

const BUCKET: &str = "bundles";
const ROLE: &str = "arn:aws:iam::123456789012:role/provisioner";
const CONNECTION: &str = "arn:aws:codestar-connections:us-east-1:123456789012:connection/c-1";

const CLOUDFORMATION: &str = "infrastructure:\n  templates:\n    - file: stack.yaml\n      \
     rendering_engine: jinja\n      template_language: cloudformation\n";
const TERRAFORM: &str = "infrastructure:\n  templates:\n    - file: \"*\"\n      \
     rendering_engine: hcl\n      template_language: terraform\n";

/// A manifest for components.
pub const MANIFEST: &str = "infrastructure:\n  templates:\n    - file: bucket.yaml\n      \
     rendering_engine: jinja\n      template_language: cloudformation\n";
pub const ENVIRONMENT_SPEC: &str = "proton: EnvironmentSpec\nspec:\n  zone: a\n";

fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, content.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// The two files of one part of a bundle.
fn part(folder: &str, terraform: bool) -> [(String, &'static str); 2] {
    if terraform {
        [
            (format!("{folder}/manifest.yaml"), TERRAFORM),
            (format!("{folder}/main.tf"), "# nothing\n"),
        ]
    } else {
        [
            (format!("{folder}/manifest.yaml"), CLOUDFORMATION),
            (format!("{folder}/stack.yaml"), "Resources: {}\n"),
        ]
    }
}

fn bundle(schema: &'static str, parts: &[(&str, bool)]) -> Vec<u8> {
    let mut files = vec![("schema/schema.yaml".to_owned(), schema)];
    for (folder, terraform) in parts {
        files.extend(part(folder, *terraform));
    }
    let files: Vec<_> = files.iter().map(|(p, c)| (p.as_str(), *c)).collect();
    archive(&files)
}

const ENVIRONMENT_SCHEMA: &str = r#"schema:
  format: { openapi: "3.0.0" }
  environment_input_type: "Network"
  types:
    Network:
      type: object
      properties:
        zone: { type: string }
"#;

const JOB_SCHEMA: &str = r#"schema:
  format: { openapi: "3.0.0" }
  service_input_type: "Job"
  types:
    Job:
      type: object
      properties:
        image: { type: string, minLength: 1 }
        port: { type: integer, minimum: 1, default: 80 }
      required: [image]
"#;

const WEB_SCHEMA: &str = r#"schema:
  format: { openapi: "3.0.0" }
  service_input_type: "Web"
  pipeline_input_type: "Pipeline"
  types:
    Web:
      type: object
      properties:
        image: { type: string, minLength: 1 }
        port: { type: integer, minimum: 1, default: 80 }
      required: [image]
    Pipeline:
      type: object
      properties:
        tests: { type: string, minLength: 1 }
      required: [tests]
"#;

/// Waits for the registration of the given versions and publishes them.
async fn publish(world: &World, versions: &[(&str, &str, &str)]) {
    world.step().await;
    for (template, major, minor) in versions {
        if template.contains("network") {
            world
                .ok(pb::UpdateEnvironmentTemplateVersionRequest {
                    template_name: (*template).to_owned(),
                    major_version: (*major).to_owned(),
                    minor_version: (*minor).to_owned(),
                    status: TemplateVersionStatus::Published.into(),
                    ..Default::default()
                })
                .await;
        } else {
            world
                .ok(pb::UpdateServiceTemplateVersionRequest {
                    template_name: (*template).to_owned(),
                    major_version: (*major).to_owned(),
                    minor_version: (*minor).to_owned(),
                    status: TemplateVersionStatus::Published.into(),
                    ..Default::default()
                })
                .await;
        }
    }
}

fn source(key: &str) -> Option<pb::TemplateVersionSourceInput> {
    let object = pb::S3ObjectSource {
        bucket: BUCKET.to_owned(),
        key: format!("{key}.tar.gz"),
    };
    Some(pb::TemplateVersionSourceInput {
        source: Some(pb::template_version_source_input::Source::S3(object)),
    })
}

async fn environment_template(world: &World, name: &str, terraform: bool) {
    let bytes = bundle(ENVIRONMENT_SCHEMA, &[("infrastructure", terraform)]);
    world.put_object(BUCKET, &format!("{name}.tar.gz"), &bytes);
    world
        .ok(pb::CreateEnvironmentTemplateRequest {
            name: name.to_owned(),
            ..Default::default()
        })
        .await;
    world
        .ok(pb::CreateEnvironmentTemplateVersionRequest {
            template_name: name.to_owned(),
            source: source(name),
            ..Default::default()
        })
        .await;
}

async fn service_template(world: &World, name: &str, terraform: bool, pipeline: bool) {
    let mut parts = vec![("instance_infrastructure", terraform)];
    if pipeline {
        parts.push(("pipeline_infrastructure", terraform));
    }
    let schema = if pipeline { WEB_SCHEMA } else { JOB_SCHEMA };
    world.put_object(BUCKET, &format!("{name}.tar.gz"), &bundle(schema, &parts));
    let provisioning = if pipeline {
        Provisioning::Unspecified
    } else {
        Provisioning::CustomerManaged
    };
    world
        .ok(pb::CreateServiceTemplateRequest {
            name: name.to_owned(),
            pipeline_provisioning: provisioning.into(),
            ..Default::default()
        })
        .await;
    world.ok(service_version(name, None)).await;
}

/// The next version of a service template; of the given major, else of a new one.
pub fn service_version(
    template: &str,
    major: Option<&str>,
) -> pb::CreateServiceTemplateVersionRequest {
    let network = if template.starts_with("tf-") {
        "tf-network"
    } else {
        "network"
    };
    pb::CreateServiceTemplateVersionRequest {
        template_name: template.to_owned(),
        major_version: major.map(str::to_owned),
        source: source(template),
        compatible_environment_templates: vec![pb::CompatibleEnvironmentTemplateInput {
            template_name: network.to_owned(),
            major_version: "1".to_owned(),
        }],
        supported_component_sources: vec![Source::DirectlyDefined.into()],
        ..Default::default()
    }
}

/// Publishes one more version of a service template and returns its number.
pub async fn release(world: &World, template: &str, major: Option<&str>) -> (String, String) {
    let version = world.ok(service_version(template, major)).await;
    let version = version.service_template_version.unwrap();
    let number = (
        version.major_version().to_owned(),
        version.minor_version().to_owned(),
    );
    publish(world, &[(template, &number.0, &number.1)]).await;
    number
}

/// A request for an environment that the engine provisions and that takes components.
pub fn create_environment(name: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        name: name.to_owned(),
        template_name: "network".to_owned(),
        template_major_version: "1".to_owned(),
        proton_service_role_arn: Some(ROLE.to_owned()),
        component_role_arn: Some(ROLE.to_owned()),
        spec: ENVIRONMENT_SPEC.to_owned(),
        ..Default::default()
    }
}

/// The templates `network`, `job` and `web`, and the environments `prod` and `test`.
pub async fn platform(world: &World) {
    environment_template(world, "network", false).await;
    world.step().await;
    service_template(world, "job", false, false).await;
    service_template(world, "web", false, true).await;
    publish(
        world,
        &[("network", "1", "0"), ("job", "1", "0"), ("web", "1", "0")],
    )
    .await;
    world.ok(create_environment("prod")).await;
    world.ok(create_environment("test")).await;
    world.step().await;
}

pub fn branch() -> pb::RepositoryBranchInput {
    pb::RepositoryBranchInput {
        provider: RepositoryProvider::Github.into(),
        name: "acme/infrastructure".to_owned(),
        branch: "main".to_owned(),
    }
}

/// The templates `tf-network`, `tf-job` and `tf-web` of Terraform, a repository for pull
/// requests, and the self-managed environment `onprem`.
pub async fn onprem(world: &World) {
    environment_template(world, "tf-network", true).await;
    world.step().await;
    service_template(world, "tf-job", true, false).await;
    service_template(world, "tf-web", true, true).await;
    publish(
        world,
        &[
            ("tf-network", "1", "0"),
            ("tf-job", "1", "0"),
            ("tf-web", "1", "0"),
        ],
    )
    .await;
    world
        .ok(pb::CreateRepositoryRequest {
            provider: RepositoryProvider::Github.into(),
            name: "acme/infrastructure".to_owned(),
            connection_arn: CONNECTION.to_owned(),
            ..Default::default()
        })
        .await;
    world
        .ok(pb::CreateEnvironmentRequest {
            name: "onprem".to_owned(),
            template_name: "tf-network".to_owned(),
            proton_service_role_arn: None,
            component_role_arn: None,
            provisioning_repository: Some(branch()),
            ..create_environment("onprem")
        })
        .await;
    succeed(world, "environment/onprem").await;
}

/// A spec without a pipeline. Each instance: its name, its environment, its image.
pub fn job_spec(instances: &[(&str, &str, &str)]) -> String {
    let mut text = "proton: ServiceSpec\ninstances:\n".to_owned();
    for (name, environment, image) in instances {
        text.push_str(&format!(
            "  - name: {name}\n    environment: {environment}\n    spec:\n      image: {image:?}\n"
        ));
    }
    text
}

/// The same with a pipeline that runs `tests`.
pub fn web_spec(tests: &str, instances: &[(&str, &str, &str)]) -> String {
    let pipeline = format!("proton: ServiceSpec\npipeline:\n  tests: {tests:?}\n");
    job_spec(instances).replacen("proton: ServiceSpec\n", &pipeline, 1)
}

/// A request for a service of the template `job`.
pub fn create_job(name: &str, instances: &[(&str, &str, &str)]) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        name: name.to_owned(),
        template_name: "job".to_owned(),
        template_major_version: "1".to_owned(),
        spec: job_spec(instances),
        ..Default::default()
    }
}

/// A request for a service of the template `web`, whose pipeline runs `make test`.
pub fn create_web(name: &str, instances: &[(&str, &str, &str)]) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        template_name: "web".to_owned(),
        spec: web_spec("make test", instances),
        repository_connection_arn: Some(CONNECTION.to_owned()),
        repository_id: Some("acme/shop".to_owned()),
        branch_name: Some("main".to_owned()),
        ..create_job(name, instances)
    }
}

/// The service `batch` of the template `job` with the instance `eu` in `prod`, deployed.
pub async fn batch(world: &World) {
    platform(world).await;
    world
        .ok(create_job("batch", &[("eu", "prod", "batch:1")]))
        .await;
    world.step().await;
    assert_eq!(status(world, "batch").await, ServiceStatus::Active);
}

/// The service `shop` of the template `web` with the instances `eu` and `us` in `prod`, deployed.
pub async fn shop(world: &World) {
    platform(world).await;
    let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1")];
    world.ok(create_web("shop", &instances)).await;
    world.step().await;
    world.step().await;
    assert_eq!(status(world, "shop").await, ServiceStatus::Active);
}

pub async fn service(world: &World, name: &str) -> pb::Service {
    let request = pb::GetServiceRequest {
        name: name.to_owned(),
    };
    world.ok(request).await.service.unwrap()
}

pub async fn status(world: &World, name: &str) -> ServiceStatus {
    service(world, name).await.status()
}

pub fn get_instance(service: &str, name: &str) -> pb::GetServiceInstanceRequest {
    pb::GetServiceInstanceRequest {
        service_name: service.to_owned(),
        name: name.to_owned(),
    }
}

pub async fn instance(world: &World, service: &str, name: &str) -> pb::ServiceInstance {
    let response = world.ok(get_instance(service, name)).await;
    response.service_instance.unwrap()
}

pub async fn instance_status(world: &World, service: &str, name: &str) -> DeploymentStatus {
    instance(world, service, name).await.deployment_status()
}

/// The names of a service's instances, in order.
pub async fn instances(world: &World, service: &str) -> Vec<String> {
    let request = pb::ListServiceInstancesRequest {
        service_name: Some(service.to_owned()),
        ..Default::default()
    };
    let response = world.ok(request).await;
    let names = response.service_instances.iter();
    names.map(|instance| instance.name().to_owned()).collect()
}

pub async fn pipeline(world: &World, name: &str) -> pb::ServicePipeline {
    service(world, name).await.pipeline.unwrap()
}

pub fn edit(name: &str, spec: &str) -> pb::UpdateServiceRequest {
    pb::UpdateServiceRequest {
        name: name.to_owned(),
        spec: Some(spec.to_owned()),
        ..Default::default()
    }
}

pub fn delete_service(name: &str) -> pb::DeleteServiceRequest {
    pb::DeleteServiceRequest {
        name: name.to_owned(),
    }
}

/// A request that adds an instance in `test` to the service `batch`.
pub fn add_instance(name: &str) -> pb::CreateServiceInstanceRequest {
    pb::CreateServiceInstanceRequest {
        service_name: "batch".to_owned(),
        name: name.to_owned(),
        spec: job_spec(&[(name, "test", "batch:7")]),
        ..Default::default()
    }
}

/// Deploys an instance on its current version with the given spec.
pub fn update_instance(
    service: &str,
    name: &str,
    spec: Option<String>,
) -> pb::UpdateServiceInstanceRequest {
    pb::UpdateServiceInstanceRequest {
        service_name: service.to_owned(),
        name: name.to_owned(),
        deployment_type: DeploymentUpdateType::CurrentVersion.into(),
        spec,
        ..Default::default()
    }
}

/// Deploys a pipeline on its current version with the given spec.
pub fn update_pipeline(service: &str, spec: String) -> pb::UpdateServicePipelineRequest {
    pb::UpdateServicePipelineRequest {
        service_name: service.to_owned(),
        deployment_type: DeploymentUpdateType::CurrentVersion.into(),
        spec,
        ..Default::default()
    }
}

/// A request for a component in `prod` that is attached to nothing.
pub fn create_component(name: &str) -> pb::CreateComponentRequest {
    pb::CreateComponentRequest {
        name: name.to_owned(),
        environment_name: Some("prod".to_owned()),
        manifest: MANIFEST.to_owned(),
        template_file: "Resources: {}\n".to_owned(),
        ..Default::default()
    }
}

/// A request for a component that is attached to an instance.
pub fn attach_new(name: &str, service: &str, instance: &str) -> pb::CreateComponentRequest {
    pb::CreateComponentRequest {
        environment_name: None,
        service_name: Some(service.to_owned()),
        service_instance_name: Some(instance.to_owned()),
        ..create_component(name)
    }
}

/// Deploys a component anew.
pub fn update_component(name: &str) -> pb::UpdateComponentRequest {
    pb::UpdateComponentRequest {
        name: name.to_owned(),
        deployment_type: ComponentDeploymentUpdateType::CurrentVersion.into(),
        ..Default::default()
    }
}

/// An update that attaches a component to an instance, or with empty names detaches it.
pub fn attach(name: &str, service: &str, instance: &str) -> pb::UpdateComponentRequest {
    pb::UpdateComponentRequest {
        service_name: Some(service.to_owned()),
        service_instance_name: Some(instance.to_owned()),
        ..update_component(name)
    }
}

/// The service `batch` with the component `cache` attached to its instance `eu`, deployed.
pub async fn attached(world: &World) {
    batch(world).await;
    world.ok(attach_new("cache", "batch", "eu")).await;
    world.step().await;
}

/// A component `cache` in `prod` that is attached to nothing, deployed.
pub async fn detached(world: &World) {
    platform(world).await;
    world.ok(create_component("cache")).await;
    world.step().await;
}

pub async fn component(world: &World, name: &str) -> pb::Component {
    let request = pb::GetComponentRequest {
        name: name.to_owned(),
    };
    world.ok(request).await.component.unwrap()
}

pub fn arn(tail: &str) -> String {
    format!("arn:aws:proton:us-east-1:{ACCOUNT}:{tail}")
}

/// Reports on what is deployed under the ARN with this tail.
pub fn report(
    tail: &str,
    status: ResourceDeploymentStatus,
) -> pb::NotifyResourceDeploymentStatusChangeRequest {
    pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: arn(tail),
        status: status.into(),
        ..Default::default()
    }
}

/// Has the deployment under way fail.
pub async fn fail(world: &World, tail: &str) {
    world
        .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
            status_message: Some("out of addresses".to_owned()),
            ..report(tail, ResourceDeploymentStatus::Failed)
        })
        .await;
}

/// Has the deployment under way succeed.
pub async fn succeed(world: &World, tail: &str) {
    world
        .ok(report(tail, ResourceDeploymentStatus::Succeeded))
        .await;
}

pub fn output(key: &str, value: &str) -> pb::Output {
    pb::Output {
        key: Some(key.to_owned()),
        value_string: Some(value.to_owned()),
    }
}

pub async fn instance_outputs(
    world: &World,
    service: &str,
    name: &str,
    deployment_id: Option<String>,
) -> Vec<pb::Output> {
    let request = pb::ListServiceInstanceOutputsRequest {
        service_name: service.to_owned(),
        service_instance_name: name.to_owned(),
        deployment_id,
        next_token: None,
    };
    world.ok(request).await.outputs
}

pub async fn deployment(world: &World, id: &str) -> pb::Deployment {
    let request = pb::GetDeploymentRequest {
        id: id.to_owned(),
        ..Default::default()
    };
    world.ok(request).await.deployment.unwrap()
}

/// The time in the test's world.
pub fn now(world: &World) -> Option<Timestamp> {
    Some(timestamp(world.clock.now()))
}
