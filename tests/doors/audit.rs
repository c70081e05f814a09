//! What is on the record of calls on both doors.

use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use proton_gateway::admission::Guards;
use proton_gateway::api::pb;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::audit::Audit;
use proton_gateway::clock::SystemClock;
use proton_gateway::config::audit::AuditConfig;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door;
use proton_gateway::edge::health::Health;
use proton_gateway::error::Error;
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::telemetry::Metrics;
use serde_json::Value;
use tonic::{Code, Status};
use tower::ServiceExt;

use super::waits;

const SECRET: &str = "hunter2";

/// A gateway over a backend that does nothing of what is asked, and its audit.
fn gateway(config: &AuditConfig) -> (Gateway, Audit) {
    let backend = tower::service_fn(|_: Call| async {
        let nothing: Result<Reply, Error> = Err(Error::not_found("environment", "prod"));
        nothing
    });
    let metrics = Metrics::new().unwrap();
    let audit = Audit::open(config, Arc::new(SystemClock), metrics.clone()).unwrap();
    let guards = Guards {
        audit: Some(audit.clone()),
        ..Guards::default()
    };
    let gateway = Gateway::new(pipeline::build(backend, metrics, &guards)).guarded_by(guards);
    (gateway, audit)
}

async fn update(gateway: &Gateway) -> Status {
    let door =
        grpc_door::routes(gateway.clone(), waits(gateway.clone()), Health::default()).unwrap();
    let mut request = tonic::Request::new(pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        spec: Some(format!("password: {SECRET}")),
        description: Some(SECRET.to_owned()),
        deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
        ..pb::UpdateEnvironmentRequest::default()
    });
    let id = "build-7".parse().unwrap();
    request.metadata_mut().insert("x-request-id", id);
    let mut client = ProtonServiceClient::new(door);
    client.update_environment(request).await.unwrap_err()
}

async fn update_on_the_aws_door(gateway: &Gateway) -> u16 {
    let body = format!(
        r#"{{"name":"prod","deploymentType":"CURRENT_VERSION","spec":"{SECRET}","description":"{SECRET}"}}"#
    );
    let request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.UpdateEnvironment")
        .body(Full::new(Bytes::from(body)))
        .unwrap();
    let response = AwsDoor::new(gateway.clone()).oneshot(request).await;
    response.unwrap().status().as_u16()
}

#[tokio::test]
async fn a_mutation_is_on_the_record_by_whichever_door_it_came_and_keeps_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (gateway, audit) = gateway(&AuditConfig {
        file: Some(path.clone()),
        blocking: true,
        ..AuditConfig::default()
    });
    assert_eq!(update(&gateway).await.code(), Code::NotFound);
    assert_eq!(update_on_the_aws_door(&gateway).await, 400);
    audit.flush().await;
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains(SECRET), "{text}");
    let records: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let word = |key: &str| record[key].as_str().unwrap_or_default();
            format!("{} {} {}", word("door"), word("phase"), word("outcome"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "grpc begun ",
            "grpc ended RESOURCE_NOT_FOUND",
            "aws begun ",
            "aws ended RESOURCE_NOT_FOUND",
        ]
    );
    assert_eq!(records[0]["request_id"], "build-7");
    assert_eq!(records[1]["request_id"], "build-7");
    assert_eq!(records[0]["resource"]["names"]["name"], "prod");
}

#[tokio::test]
async fn where_nothing_can_be_put_down_mutations_are_unavailable_on_both_doors() {
    let (gateway, _) = gateway(&AuditConfig {
        file: Some("/dev/full".into()),
        blocking: true,
        ..AuditConfig::default()
    });
    let status = update(&gateway).await;
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("nothing was changed"),
        "{status:?}"
    );
    assert_eq!(update_on_the_aws_door(&gateway).await, 500);
}
