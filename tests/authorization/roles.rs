//! What the built-in roles may do: each rpc, each role, both doors.

use std::sync::{Arc, LazyLock};

use bytes::{BufMut, Bytes, BytesMut};
use http_body_util::Full;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, Value};
use proton_gateway::api::own;
use proton_gateway::api::own::gateway_service_server::GatewayServiceServer;
use proton_gateway::api::pb;
use proton_gateway::api::pb::paginator_service_server::PaginatorServiceServer;
use proton_gateway::api::pb::proton_service_server::ProtonServiceServer;
use proton_gateway::api::pb::wait_service_server::WaitServiceServer;
use proton_gateway::api::{DESCRIPTORS, Operation, RPCS, Request, Rpc};
use proton_gateway::auth::Principal;
use proton_gateway::config::authorization::AuthorizationConfig;
use proton_gateway::error::{ErrorKind, Origin};
use proton_gateway::gateway::{Call, Door};
use proton_gateway::pages::Paginator;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::{Guarded, arrival, caller};

const ROLES: [&str; 3] = ["administrator", "developer", "viewer"];
/// For each rpc what each role may do.
const TABLE: &str = include_str!("roles.txt");

/// The services of the gRPC door, without what stands round them.
fn services(guarded: &Guarded) -> Routes {
    Routes::new(ProtonServiceServer::new(guarded.gateway.clone()))
        .add_service(WaitServiceServer::new(guarded.waits.clone()))
        .add_service(PaginatorServiceServer::new(Paginator::new(
            guarded.gateway.clone(),
        )))
        .add_service(GatewayServiceServer::new(guarded.own()))
        .prepare()
}

/// A request that is well formed as far as that is looked at before the caller's permission.
fn body(rpc: &Rpc) -> Vec<u8> {
    match rpc.method {
        "DeployEnvironment" => own::DeployEnvironmentRequest {
            environment: Some(pb::CreateEnvironmentRequest {
                name: "prod".to_owned(),
                spec: "proton: EnvironmentSpec".to_owned(),
                template_name: "vpc".to_owned(),
                template_major_version: "1".to_owned(),
                ..Default::default()
            }),
            options: None,
        }
        .encode_to_vec(),
        "DeployServiceInstance" => own::DeployServiceInstanceRequest {
            service_instance: Some(pb::CreateServiceInstanceRequest {
                name: "blue".to_owned(),
                service_name: "shop".to_owned(),
                spec: "proton: ServiceSpec".to_owned(),
                ..Default::default()
            }),
            options: None,
        }
        .encode_to_vec(),
        "DeployServicePipeline" => own::DeployServicePipelineRequest {
            service_pipeline: Some(pb::UpdateServicePipelineRequest {
                service_name: "shop".to_owned(),
                spec: "proton: ServiceSpec".to_owned(),
                deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
                ..Default::default()
            }),
            options: None,
        }
        .encode_to_vec(),
        "Explain" => own::ExplainRequest {
            operation: "ListServices".to_owned(),
            ..Default::default()
        }
        .encode_to_vec(),
        _ => {
            static POOL: LazyLock<DescriptorPool> =
                LazyLock::new(|| DescriptorPool::decode(DESCRIPTORS).unwrap());
            let service = POOL.get_service_by_name(rpc.service).unwrap();
            let method = service.methods().find(|m| m.name() == rpc.method).unwrap();
            let mut message = DynamicMessage::new(method.input());
            for field in method.input().fields() {
                if field.kind() == Kind::String && !field.is_list() {
                    let text = match field.name() {
                        "id" => "01234567-89ab-4def-8123-456789abcdef",
                        _ => "1",
                    };
                    message.set_field(&field, Value::String(text.to_owned()));
                }
            }
            message.encode_to_vec()
        }
    }
}

/// Whether the gRPC door's services refuse it.
async fn refused_by_services(services: Routes, rpc: &Rpc, principal: &Arc<Principal>) -> bool {
    let body = body(rpc);
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(body.len()).unwrap());
    frame.extend_from_slice(&body);
    let mut request = http::Request::post(format!("/{}/{}", rpc.service, rpc.method))
        .header("content-type", "application/grpc")
        .body(Body::new(Full::<Bytes>::from(frame.freeze())))
        .unwrap();
    request.extensions_mut().insert(arrival(principal));
    let response = services.oneshot(request).await.unwrap();
    // A stream that was opened has no status yet.
    let Some(status) = Status::from_header_map(response.headers()) else {
        return false;
    };
    assert!(
        ![Code::Unimplemented, Code::Internal].contains(&status.code()),
        "{}: {status:?}",
        rpc.method
    );
    if status.code() != Code::PermissionDenied {
        return false;
    }
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.reason, "DENIED_BY_GATEWAY");
    let named = status
        .message()
        .contains(&format!("call {} on", rpc.method));
    // A deploy that was let in may be refused what it calls.
    assert!(named || rpc.method.starts_with("Deploy"), "{status:?}");
    named
}

/// Whether the AWS door's way refuses it.
async fn refused_by_aws_door(
    guarded: &Guarded,
    operation: Operation,
    principal: &Arc<Principal>,
) -> bool {
    // What must be there for the bytes to be a request at all.
    let compatible = [serde_json::json!({"templateName": "bus", "majorVersion": "1"})];
    let body = serde_json::json!({
        "compatibleEnvironmentTemplates": compatible, "tags": [], "tagKeys": []
    });
    let request = Request::from_json(operation, body).unwrap();
    let call = Call::new(request, Door::Aws, &arrival(principal));
    let error = guarded.gateway.call(call).await.unwrap_err();
    let denied = ErrorKind::AccessDenied {
        origin: Origin::Gateway,
    };
    *error.kind == denied
}

#[tokio::test]
async fn each_role_may_do_on_both_doors_what_the_table_says() {
    let guarded = Guarded::empty(&AuthorizationConfig::default());
    let services = services(&guarded);
    let mut table = Vec::new();
    for rpc in &RPCS {
        let mut line = format!("{:<42}", rpc.method);
        for role in ROLES {
            let principal = caller("alice", &[role]);
            let before = guarded.asked();
            let refused = refused_by_services(services.clone(), rpc, &principal).await;
            if let Some(operation) = Operation::from_name(rpc.method) {
                let there = refused_by_aws_door(&guarded, operation, &principal).await;
                assert_eq!(there, refused, "the doors differ: {} {role}", rpc.method);
            }
            if refused {
                assert_eq!(guarded.asked(), before, "{} asked the backend", rpc.method);
            }
            line.push_str(if refused { " no " } else { " yes" });
        }
        table.push(line.trim_end().to_owned());
    }
    let expected: Vec<_> = TABLE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    for (index, line) in table.iter().enumerate() {
        assert_eq!(Some(&line.as_str()), expected.get(index), "in roles.txt");
    }
    assert_eq!(table.len(), expected.len());
}

#[tokio::test]
async fn a_caller_without_a_role_may_only_ask_about_itself() {
    let guarded = Guarded::empty(&AuthorizationConfig::default());
    let services = services(&guarded);
    let nobody = caller("nobody", &["no-such-role"]);
    for rpc in &RPCS {
        let refused = refused_by_services(services.clone(), rpc, &nobody).await;
        assert_eq!(refused, rpc.method != "Explain", "{}", rpc.method);
    }
    assert_eq!(guarded.asked(), 0);
}

#[tokio::test]
async fn what_exists_and_what_does_not_is_refused_in_the_same_words() {
    let request = || {
        Request::GetComponent(pb::GetComponentRequest {
            name: "cache".to_owned(),
        })
    };
    let developer = caller("dora", &["developer"]);
    let mut told = Vec::new();
    for exists in [false, true] {
        let guarded = Guarded::over(&AuthorizationConfig::default(), move |call| match exists {
            true => Ok(proton_gateway::api::Response::GetComponent(
                pb::GetComponentResponse::default(),
            )),
            false => Err(proton_gateway::error::Error::not_found(
                call.operation.policy().resource,
                "cache",
            )),
        });
        let call = Call::new(request(), Door::Grpc, &arrival(&developer));
        told.push(guarded.gateway.call(call).await.unwrap_err());
    }
    assert_eq!(told[0], told[1]);
    assert!(told[0].message.contains("component/cache"), "{}", told[0]);
}

#[tokio::test]
async fn the_gateways_own_polls_pass_and_anonymous_callers_do_not() {
    let guarded = Guarded::empty(&AuthorizationConfig::default());
    for (principal, passes) in [
        (Principal::gateway(), true),
        (Principal::anonymous(), false),
    ] {
        let request = Request::GetService(pb::GetServiceRequest {
            name: "shop".to_owned(),
        });
        let call = Call::new(request, Door::Grpc, &arrival(&principal));
        let error = guarded.gateway.call(call).await.unwrap_err();
        assert_eq!(error.is_not_found(), passes, "{error}");
    }
}
