//! What the engine and its store tell of what they do.

use pb::template_version_source_input::Source;
use proton_gateway::api::{Typed, pb};
use proton_gateway::backend::engine::Engine;
use proton_gateway::edge::Arrival;
use proton_gateway::gateway::{Call, Door as CallDoor};
use proton_gateway::telemetry::Metrics;

use crate::support::{Backend, STEP, World};
use crate::*;

const ROLE: &str = "arn:aws:iam::123456789012:role/proton";

async fn call<T: Typed>(engine: &Engine, request: T) {
    let arrival = Arrival::default();
    let call = Call::new(request.into_request(), CallDoor::Grpc, &arrival);
    engine.clone().oneshot(call).await.unwrap();
}

#[tokio::test]
async fn deployments_and_tasks_are_told_while_they_are_there_and_when_they_end() {
    let world = World::over(Backend::OnDisk).await;
    let metrics = Metrics::new().unwrap();
    let engine = world.engine.clone().measured_by(metrics.clone());
    let shows = async |lines: &[&str]| {
        engine.measure().await.unwrap();
        let page = metrics.page().unwrap();
        for line in lines {
            assert!(page.contains(&format!("{line}\n")), "{line}\n{page}");
        }
    };
    shows(&[
        "proton_gateway_tasks 0",
        "proton_gateway_deployments_in_progress 0",
    ])
    .await;
    let template = pb::CreateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        ..pb::CreateEnvironmentTemplateRequest::default()
    };
    call(&engine, template).await;
    let object = pb::S3ObjectSource {
        bucket: "proton-examples".to_owned(),
        key: "environment-cloudformation.tar.gz".to_owned(),
    };
    let version = pb::CreateEnvironmentTemplateVersionRequest {
        template_name: "bus".to_owned(),
        source: Some(pb::TemplateVersionSourceInput {
            source: Some(Source::S3(object)),
        }),
        ..pb::CreateEnvironmentTemplateVersionRequest::default()
    };
    call(&engine, version).await;
    world.clock.advance(STEP);
    engine.settle().await.unwrap();
    let publish = pb::UpdateEnvironmentTemplateVersionRequest {
        template_name: "bus".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..pb::UpdateEnvironmentTemplateVersionRequest::default()
    };
    call(&engine, publish).await;
    let environment = pb::CreateEnvironmentRequest {
        name: "prod".to_owned(),
        template_name: "bus".to_owned(),
        template_major_version: "1".to_owned(),
        spec: "proton: EnvironmentSpec\nspec: {owner: platform}\n".to_owned(),
        proton_service_role_arn: Some(ROLE.to_owned()),
        ..pb::CreateEnvironmentRequest::default()
    };
    call(&engine, environment).await;
    world.clock.advance(STEP + STEP);
    shows(&[
        "proton_gateway_tasks 1",
        "proton_gateway_task_overdue_seconds 5",
        "proton_gateway_deployments_in_progress 1",
        "proton_gateway_deployment_oldest_age_seconds 10",
    ])
    .await;
    engine.settle().await.unwrap();
    shows(&[
        "proton_gateway_deployments_in_progress 0",
        "proton_gateway_deployment_oldest_age_seconds 0",
        "proton_gateway_deployments_total{outcome=\"succeeded\"} 1",
    ])
    .await;
}
