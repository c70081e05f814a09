//! What tests of templates, environments and their surroundings begin with.

use flate2::Compression;
use flate2::write::GzEncoder;
use prost_types::Timestamp;
use proton_gateway::api::pb::{
    self, DeploymentUpdateType, Provisioning, RepositoryProvider, ResourceDeploymentStatus,
    TemplateVersionStatus,
};

use crate::support::{ACCOUNT, World};

pub const ROLE: &str = "arn:aws:iam::123456789012:role/proton";
pub const OTHER_ROLE: &str = "arn:aws:iam::123456789012:role/proton-2";
pub const CODE_CONNECTION: &str =
    "arn:aws:codestar-connections:us-east-1:123456789012:connection/1";
pub const REPOSITORY: &str = "acme/infrastructure";
/// The bucket of the bundles that tests make.
pub const BUCKET: &str = "bundles";

pub fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

pub fn arn(tail: &str) -> String {
    format!("arn:aws:proton:us-east-1:{ACCOUNT}:{tail}")
}

/// The time that many seconds after the world began.
pub fn after(seconds: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_700_000_000 + seconds,
        nanos: 0,
    })
}

/// A well-formed id of nothing.
pub const NO_ID: &str = "00000000-0000-4000-8000-000000000000";

// Bundles.

const MANIFEST: &str = "infrastructure: {templates: [{file: cloudformation.yaml, rendering_engine: jinja, template_language: cloudformation}]}";

/// A tar.gz archive of files with these paths and texts.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        archive
            .append_data(&mut header, path, text.as_bytes())
            .unwrap();
    }
    archive.into_inner().unwrap().finish().unwrap()
}

/// A schema file: `inputs` are the properties of its one type, of which none is required.
pub fn schema(kind: &str, inputs: &str) -> String {
    format!(
        "schema: {{format: {{openapi: '3.0.0'}}, {kind}_input_type: Inputs, \
         types: {{Inputs: {{type: object, properties: {inputs}}}}}}}"
    )
}

/// A bundle of an environment with these inputs.
pub fn environment_bundle(inputs: &str) -> Vec<u8> {
    archive(&[
        ("schema/schema.yaml", &schema("environment", inputs)),
        ("infrastructure/manifest.yaml", MANIFEST),
        ("infrastructure/cloudformation.yaml", "Resources: {}"),
    ])
}

/// A bundle of a service with these inputs and without a pipeline.
pub fn service_bundle(inputs: &str) -> Vec<u8> {
    archive(&[
        ("schema/schema.yaml", &schema("service", inputs)),
        ("instance_infrastructure/manifest.yaml", MANIFEST),
        (
            "instance_infrastructure/cloudformation.yaml",
            "Resources: {}",
        ),
    ])
}

fn source(bucket: &str, key: &str) -> Option<pb::TemplateVersionSourceInput> {
    let (bucket, key) = (bucket.to_owned(), key.to_owned());
    Some(pb::TemplateVersionSourceInput {
        source: Some(pb::template_version_source_input::Source::S3(
            pb::S3ObjectSource { bucket, key },
        )),
    })
}

/// The object with this key in the tests' own bucket.
pub fn object(key: &str) -> Option<pb::TemplateVersionSourceInput> {
    source(BUCKET, key)
}

/// An example bundle.
pub fn example(name: &str) -> Option<pb::TemplateVersionSourceInput> {
    source("proton-examples", &format!("{name}.tar.gz"))
}

// Environment templates.

pub fn new_environment_template(name: &str) -> pb::CreateEnvironmentTemplateRequest {
    pb::CreateEnvironmentTemplateRequest {
        name: name.to_owned(),
        ..Default::default()
    }
}

pub async fn environment_template(world: &World, name: &str) -> pb::EnvironmentTemplate {
    let response = world
        .ok(pb::GetEnvironmentTemplateRequest {
            name: name.to_owned(),
        })
        .await;
    response.environment_template.unwrap()
}

/// A request for the next major version, with the example of an event bus.
pub fn new_environment_version(template: &str) -> pb::CreateEnvironmentTemplateVersionRequest {
    pb::CreateEnvironmentTemplateVersionRequest {
        template_name: template.to_owned(),
        source: example("environment-cloudformation"),
        ..Default::default()
    }
}

/// The same for the next minor version of a major.
pub fn new_environment_minor(
    template: &str,
    major: &str,
) -> pb::CreateEnvironmentTemplateVersionRequest {
    pb::CreateEnvironmentTemplateVersionRequest {
        major_version: some(major),
        ..new_environment_version(template)
    }
}

pub fn which_environment_version(
    template: &str,
    number: &str,
) -> pb::GetEnvironmentTemplateVersionRequest {
    let (major, minor) = number.split_once('.').unwrap();
    pb::GetEnvironmentTemplateVersionRequest {
        template_name: template.to_owned(),
        major_version: major.to_owned(),
        minor_version: minor.to_owned(),
    }
}

pub async fn environment_version(
    world: &World,
    template: &str,
    number: &str,
) -> pb::EnvironmentTemplateVersion {
    let response = world.ok(which_environment_version(template, number)).await;
    response.environment_template_version.unwrap()
}

/// Creates a version and returns it once its registration has ended.
pub async fn registered(
    world: &World,
    request: pb::CreateEnvironmentTemplateVersionRequest,
) -> pb::EnvironmentTemplateVersion {
    let response = world.ok(request).await;
    let version = response.environment_template_version.unwrap();
    world.step().await;
    let number = format!("{}.{}", version.major_version(), version.minor_version());
    environment_version(world, version.template_name(), &number).await
}

pub fn publish_environment_version(
    template: &str,
    number: &str,
) -> pb::UpdateEnvironmentTemplateVersionRequest {
    let which = which_environment_version(template, number);
    pb::UpdateEnvironmentTemplateVersionRequest {
        template_name: which.template_name,
        major_version: which.major_version,
        minor_version: which.minor_version,
        status: TemplateVersionStatus::Published.into(),
        ..Default::default()
    }
}

pub fn delete_environment_version(
    template: &str,
    number: &str,
) -> pb::DeleteEnvironmentTemplateVersionRequest {
    let which = which_environment_version(template, number);
    pb::DeleteEnvironmentTemplateVersionRequest {
        template_name: which.template_name,
        major_version: which.major_version,
        minor_version: which.minor_version,
    }
}

/// Creates a version, has it registered, and publishes it.
pub async fn published(world: &World, request: pb::CreateEnvironmentTemplateVersionRequest) {
    let version = registered(world, request).await;
    assert_eq!(
        version.status(),
        TemplateVersionStatus::Draft,
        "{version:?}"
    );
    let number = format!("{}.{}", version.major_version(), version.minor_version());
    world
        .ok(publish_environment_version(
            version.template_name(),
            &number,
        ))
        .await;
}

/// The template `bus` with the published version 1.0: the example of an event bus.
pub async fn bus(world: &World) {
    world.ok(new_environment_template("bus")).await;
    published(world, new_environment_version("bus")).await;
}

/// The template `given`, whose customers bring their environments along and give the outputs
/// `vpc` and `zone`, with the published version 1.0.
pub async fn given(world: &World) {
    world
        .ok(pb::CreateEnvironmentTemplateRequest {
            provisioning: Provisioning::CustomerManaged.into(),
            ..new_environment_template("given")
        })
        .await;
    let outputs = schema("environment", "{vpc: {type: string}, zone: {type: string}}");
    world.put_object(
        BUCKET,
        "given",
        &archive(&[("schema/schema.yaml", &outputs)]),
    );
    published(
        world,
        pb::CreateEnvironmentTemplateVersionRequest {
            source: object("given"),
            ..new_environment_version("given")
        },
    )
    .await;
}

/// The template `storage`, which is provisioned by pull requests, with the published version 1.0,
/// and the repository for them.
pub async fn storage(world: &World) {
    repository(world, REPOSITORY).await;
    world.ok(new_environment_template("storage")).await;
    published(
        world,
        pb::CreateEnvironmentTemplateVersionRequest {
            source: example("environment-terraform"),
            ..new_environment_version("storage")
        },
    )
    .await;
}

// Environments.

pub const SPEC: &str = "proton: EnvironmentSpec\nspec:\n  owner: platform # who else\n";
pub const OTHER_SPEC: &str =
    "proton: EnvironmentSpec\nspec: {owner: platform, retention_days: 2}\n";

/// A request for an environment of the template `bus`.
pub fn new_environment(name: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        name: name.to_owned(),
        template_name: "bus".to_owned(),
        template_major_version: "1".to_owned(),
        spec: SPEC.to_owned(),
        proton_service_role_arn: some(ROLE),
        ..Default::default()
    }
}

/// A request for a self-managed environment of the template `storage`.
pub fn new_storage(name: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        template_name: "storage".to_owned(),
        spec: "proton: EnvironmentSpec\nspec: {cost_center: '4711'}\n".to_owned(),
        proton_service_role_arn: None,
        provisioning_repository: Some(branch(REPOSITORY)),
        ..new_environment(name)
    }
}

/// A request for a customer-managed environment of the template `given`.
pub fn new_given(name: &str) -> pb::CreateEnvironmentRequest {
    pb::CreateEnvironmentRequest {
        template_name: "given".to_owned(),
        spec: "proton: EnvironmentSpec\nspec: {vpc: vpc-1, zone: a}\n".to_owned(),
        ..new_environment(name)
    }
}

pub async fn environment(world: &World, name: &str) -> pb::Environment {
    let response = world.ok(which_environment(name)).await;
    response.environment.unwrap()
}

pub fn which_environment(name: &str) -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: name.to_owned(),
    }
}

/// The environment `prod`, deployed on version 1.0 of the template `bus`.
pub async fn prod(world: &World) {
    bus(world).await;
    world.ok(new_environment("prod")).await;
    world.step().await;
}

pub fn update_environment(
    name: &str,
    deployment_type: DeploymentUpdateType,
) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        name: name.to_owned(),
        deployment_type: deployment_type.into(),
        ..Default::default()
    }
}

pub fn delete_environment(name: &str) -> pb::DeleteEnvironmentRequest {
    pb::DeleteEnvironmentRequest {
        name: name.to_owned(),
    }
}

pub fn cancel_environment(name: &str) -> pb::CancelEnvironmentDeploymentRequest {
    pb::CancelEnvironmentDeploymentRequest {
        environment_name: name.to_owned(),
    }
}

/// The report of how the deployment of an environment went.
pub fn report(
    environment: &str,
    status: ResourceDeploymentStatus,
) -> pb::NotifyResourceDeploymentStatusChangeRequest {
    pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: arn(&format!("environment/{environment}")),
        status: status.into(),
        ..Default::default()
    }
}

/// The outputs of an environment, as `key=value`.
pub async fn outputs(world: &World, environment: &str) -> Vec<String> {
    let response = world
        .ok(pb::ListEnvironmentOutputsRequest {
            environment_name: environment.to_owned(),
            ..Default::default()
        })
        .await;
    let shown = |output: &pb::Output| format!("{}={}", output.key(), output.value_string());
    response.outputs.iter().map(shown).collect()
}

// What environments are provisioned through.

pub fn new_repository(name: &str) -> pb::CreateRepositoryRequest {
    pb::CreateRepositoryRequest {
        name: name.to_owned(),
        provider: RepositoryProvider::Github.into(),
        connection_arn: CODE_CONNECTION.to_owned(),
        ..Default::default()
    }
}

pub fn delete_repository(name: &str) -> pb::DeleteRepositoryRequest {
    pb::DeleteRepositoryRequest {
        name: name.to_owned(),
        provider: RepositoryProvider::Github.into(),
    }
}

/// Registers a repository.
pub async fn repository(world: &World, name: &str) {
    world.ok(new_repository(name)).await;
}

/// The main branch of a repository.
pub fn branch(name: &str) -> pb::RepositoryBranchInput {
    pb::RepositoryBranchInput {
        branch: "main".to_owned(),
        name: name.to_owned(),
        provider: RepositoryProvider::Github.into(),
    }
}

pub fn new_connection(environment: &str) -> pb::CreateEnvironmentAccountConnectionRequest {
    pb::CreateEnvironmentAccountConnectionRequest {
        environment_name: environment.to_owned(),
        management_account_id: "210987654321".to_owned(),
        role_arn: some(ROLE),
        ..Default::default()
    }
}

/// Requests a connection for an environment and returns its id.
pub async fn requested(world: &World, environment: &str) -> String {
    let response = world.ok(new_connection(environment)).await;
    let connection = response.environment_account_connection.unwrap();
    connection.id().to_owned()
}

pub fn accept(id: &str) -> pb::AcceptEnvironmentAccountConnectionRequest {
    pb::AcceptEnvironmentAccountConnectionRequest { id: id.to_owned() }
}

pub fn reject(id: &str) -> pb::RejectEnvironmentAccountConnectionRequest {
    pb::RejectEnvironmentAccountConnectionRequest { id: id.to_owned() }
}

pub fn disconnect(id: &str) -> pb::DeleteEnvironmentAccountConnectionRequest {
    pb::DeleteEnvironmentAccountConnectionRequest { id: id.to_owned() }
}

/// Requests and accepts a connection for an environment and returns its id.
pub async fn connected(world: &World, environment: &str) -> String {
    let id = requested(world, environment).await;
    world.ok(accept(&id)).await;
    id
}

// Service templates and services.

pub fn new_service_template(name: &str) -> pb::CreateServiceTemplateRequest {
    pb::CreateServiceTemplateRequest {
        name: name.to_owned(),
        pipeline_provisioning: Provisioning::CustomerManaged.into(),
        ..Default::default()
    }
}

pub fn compatible(template: &str, major: &str) -> pb::CompatibleEnvironmentTemplateInput {
    pb::CompatibleEnvironmentTemplateInput {
        template_name: template.to_owned(),
        major_version: major.to_owned(),
    }
}

/// A request for the next major version of a service template, for environments of the template
/// `bus`. The bundle has to be in the bucket.
pub fn new_service_version(template: &str) -> pb::CreateServiceTemplateVersionRequest {
    pb::CreateServiceTemplateVersionRequest {
        template_name: template.to_owned(),
        source: object("service"),
        compatible_environment_templates: vec![compatible("bus", "1")],
        ..Default::default()
    }
}

pub fn which_service_version(template: &str, number: &str) -> pb::GetServiceTemplateVersionRequest {
    let (major, minor) = number.split_once('.').unwrap();
    pb::GetServiceTemplateVersionRequest {
        template_name: template.to_owned(),
        major_version: major.to_owned(),
        minor_version: minor.to_owned(),
    }
}

pub async fn service_version(
    world: &World,
    template: &str,
    number: &str,
) -> pb::ServiceTemplateVersion {
    let response = world.ok(which_service_version(template, number)).await;
    response.service_template_version.unwrap()
}

pub fn publish_service_version(
    template: &str,
    number: &str,
) -> pb::UpdateServiceTemplateVersionRequest {
    let which = which_service_version(template, number);
    pb::UpdateServiceTemplateVersionRequest {
        template_name: which.template_name,
        major_version: which.major_version,
        minor_version: which.minor_version,
        status: TemplateVersionStatus::Published.into(),
        ..Default::default()
    }
}

pub fn delete_service_version(
    template: &str,
    number: &str,
) -> pb::DeleteServiceTemplateVersionRequest {
    let which = which_service_version(template, number);
    pb::DeleteServiceTemplateVersionRequest {
        template_name: which.template_name,
        major_version: which.major_version,
        minor_version: which.minor_version,
    }
}

/// The service template `worker`, without a pipeline, and the bundle of its versions.
pub async fn worker_template(world: &World) {
    let inputs = "{size: {type: integer, default: 1}}";
    world.put_object(BUCKET, "service", &service_bundle(inputs));
    world.ok(new_service_template("worker")).await;
}

/// The service template `worker` with the published version 1.0.
pub async fn worker(world: &World) {
    worker_template(world).await;
    world.ok(new_service_version("worker")).await;
    world.step().await;
    world.ok(publish_service_version("worker", "1.0")).await;
}

/// A request for a service of the template `worker` with one instance, `main`, in `prod`.
pub fn new_service(name: &str) -> pb::CreateServiceRequest {
    pb::CreateServiceRequest {
        name: name.to_owned(),
        template_name: "worker".to_owned(),
        template_major_version: "1".to_owned(),
        spec: "proton: ServiceSpec\ninstances: [{name: main, environment: prod}]\n".to_owned(),
        ..Default::default()
    }
}

/// The service `mailer` with one instance, `main`, in the environment `prod`.
pub async fn mailer(world: &World) {
    prod(world).await;
    worker(world).await;
    world.ok(new_service("mailer")).await;
    world.settle().await;
}

/// A request for a component that is attached to nothing.
pub fn new_component(name: &str, environment: &str) -> pb::CreateComponentRequest {
    pb::CreateComponentRequest {
        name: name.to_owned(),
        environment_name: some(environment),
        manifest: MANIFEST.to_owned(),
        template_file: "Resources: {}".to_owned(),
        ..Default::default()
    }
}

// Syncs.

/// A request to sync the environment template with this name.
pub fn new_template_sync(template: &str) -> pb::CreateTemplateSyncConfigRequest {
    pb::CreateTemplateSyncConfigRequest {
        branch: "main".to_owned(),
        repository_name: REPOSITORY.to_owned(),
        repository_provider: RepositoryProvider::Github.into(),
        subdirectory: None,
        template_name: template.to_owned(),
        template_type: pb::TemplateType::Environment.into(),
    }
}

pub fn new_service_sync(service: &str) -> pb::CreateServiceSyncConfigRequest {
    pb::CreateServiceSyncConfigRequest {
        branch: "main".to_owned(),
        file_path: "services/ops.yaml".to_owned(),
        repository_name: REPOSITORY.to_owned(),
        repository_provider: RepositoryProvider::Github.into(),
        service_name: service.to_owned(),
    }
}

/// What is synced from the repository, as `target: directory on branch`.
pub async fn synced(world: &World, sync_type: pb::SyncType) -> Vec<String> {
    let response = world
        .ok(pb::ListRepositorySyncDefinitionsRequest {
            repository_name: REPOSITORY.to_owned(),
            repository_provider: RepositoryProvider::Github.into(),
            sync_type: sync_type.into(),
            ..Default::default()
        })
        .await;
    let shown = |definition: &pb::RepositorySyncDefinition| {
        assert_eq!(definition.parent(), REPOSITORY);
        let (target, directory) = (definition.target(), definition.directory());
        format!("{target}: {directory} on {}", definition.branch())
    };
    response.sync_definitions.iter().map(shown).collect()
}

/// A question for the sync of a branch of the repository.
pub fn repository_sync(
    branch: &str,
    sync_type: pb::SyncType,
) -> pb::GetRepositorySyncStatusRequest {
    pb::GetRepositorySyncStatusRequest {
        branch: branch.to_owned(),
        repository_name: REPOSITORY.to_owned(),
        repository_provider: RepositoryProvider::Github.into(),
        sync_type: sync_type.into(),
    }
}
