//! What tests ask gateways for: an environment `bus` that is deployed, and mutations by their number.

use super::*;

pub const ROLE: &str = "arn:aws:iam::123456789012:role/proton";
pub const SPEC: &str = "proton: EnvironmentSpec\nspec: {owner: platform}\n";

pub type Client = ProtonServiceClient<Channel>;

/// An engine that has the environment template `bus`, and whose steps take so long from here on.
pub async fn with_template_and_step(state: &Path, step: &str) -> Running {
    let mut before = Running::on(state).await;
    publish_template(&before.client().await).await;
    before.terminate();
    before.ended().await;
    Running::with_step(state, step).await
}

/// Says that the deployment of `bus` has failed.
pub async fn report_failure(client: &mut Client, why: &str) {
    report(client, pb::ResourceDeploymentStatus::Failed, why).await;
}

/// Says how the deployment of `bus` has ended.
pub async fn report(client: &mut Client, status: pb::ResourceDeploymentStatus, why: &str) {
    let ended = pb::NotifyResourceDeploymentStatusChangeRequest {
        resource_arn: "arn:aws:proton:us-east-1:123456789012:environment/bus".to_owned(),
        status: status.into(),
        status_message: (!why.is_empty()).then(|| why.to_owned()),
        ..pb::NotifyResourceDeploymentStatusChangeRequest::default()
    };
    client
        .notify_resource_deployment_status_change(ended)
        .await
        .unwrap();
}

/// Registers and publishes version 1.0 of the environment template `bus` from the examples.
pub async fn publish_template(client: &Client) {
    let mut client = client.clone();
    client
        .create_environment_template(pb::CreateEnvironmentTemplateRequest {
            name: "bus".into(),
            ..Default::default()
        })
        .await
        .unwrap();
    client
        .create_environment_template_version(pb::CreateEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            source: Some(pb::TemplateVersionSourceInput {
                source: Some(Source::S3(pb::S3ObjectSource {
                    bucket: "proton-examples".into(),
                    key: "environment-cloudformation.tar.gz".into(),
                })),
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    eventually("the version is registered", || async {
        let request = pb::GetEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            major_version: "1".into(),
            minor_version: "0".into(),
        };
        let answer = client
            .clone()
            .get_environment_template_version(request)
            .await;
        let version = answer
            .unwrap()
            .into_inner()
            .environment_template_version
            .unwrap();
        match version.status() {
            pb::TemplateVersionStatus::RegistrationInProgress => None,
            pb::TemplateVersionStatus::Draft => Some(()),
            other => panic!("{other:?}: {:?}", version.status_message),
        }
    })
    .await;
    client
        .update_environment_template_version(pb::UpdateEnvironmentTemplateVersionRequest {
            template_name: "bus".into(),
            major_version: "1".into(),
            minor_version: "0".into(),
            status: pb::TemplateVersionStatus::Published.into(),
            ..Default::default()
        })
        .await
        .unwrap();
}

/// One of the mutations of which some are under way when the process dies.
pub async fn mutate(client: &mut Client, number: usize) -> Result<(), tonic::Status> {
    let name = format!("n{number}");
    if number.is_multiple_of(2) {
        let request = pb::CreateEnvironmentRequest {
            name,
            template_name: "bus".into(),
            template_major_version: "1".into(),
            proton_service_role_arn: Some(ROLE.into()),
            spec: SPEC.into(),
            ..Default::default()
        };
        client.create_environment(request).await.map(drop)
    } else {
        let request = pb::CreateServiceTemplateRequest {
            name,
            description: Some(format!("number {number}")),
            ..Default::default()
        };
        client.create_service_template(request).await.map(drop)
    }
}

/// Whether the mutation of this number is there, as it was asked for.
pub async fn is_there(client: &mut Client, number: usize) -> bool {
    let name = format!("n{number}");
    if number.is_multiple_of(2) {
        let answer = client
            .get_environment(pb::GetEnvironmentRequest { name })
            .await;
        answer.is_ok_and(|answer| {
            let environment = answer.into_inner().environment.unwrap_or_default();
            // The spec shows once it is deployed.
            environment.spec.is_none_or(|spec| spec == SPEC)
        })
    } else {
        let request = pb::GetServiceTemplateRequest { name };
        let answer = client.get_service_template(request).await;
        answer.is_ok_and(|answer| {
            let template = answer.into_inner().service_template.unwrap_or_default();
            template.description == Some(format!("number {number}"))
        })
    }
}

/// The statuses of all deployments, by id.
pub async fn deployments(client: &mut Client) -> Vec<(String, pb::DeploymentStatus)> {
    let mut found = Vec::new();
    let mut next_token = None;
    loop {
        let request = pb::ListDeploymentsRequest {
            max_results: Some(100),
            next_token,
            ..Default::default()
        };
        let page = client.list_deployments(request).await.unwrap().into_inner();
        found.extend(page.deployments.into_iter().map(|deployment| {
            let status = deployment.deployment_status();
            (deployment.id.unwrap_or_default(), status)
        }));
        next_token = page.next_token.filter(|token| !token.is_empty());
        if next_token.is_none() {
            return found;
        }
    }
}

/// What deploys the environment `bus`, with its spec in a file of `folder`.
pub fn deploy_bus(folder: &Path, spec: &str) -> Vec<String> {
    let file = folder.join("spec.yaml");
    fs::write(&file, spec).unwrap();
    [
        "deploy",
        "environment",
        "bus",
        "--template",
        "bus",
        "--template-version",
        "1",
        "--proton-service-role-arn",
        ROLE,
        "--spec",
        file.to_str().unwrap(),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Whether the environment `bus` is being deployed.
pub async fn is_under_way(client: &mut Client) -> bool {
    let request = pb::GetEnvironmentRequest {
        name: "bus".to_owned(),
    };
    client.get_environment(request).await.is_ok_and(|found| {
        let environment = found.into_inner().environment.unwrap_or_default();
        environment.deployment_status() == pb::DeploymentStatus::InProgress
    })
}
