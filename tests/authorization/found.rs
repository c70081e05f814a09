//! What is known by an id belongs to something, and who may not have that may not have it either.

use futures_util::StreamExt;
use proton_gateway::api::pb::wait_service_server::WaitService;
use proton_gateway::api::{Request, Response, Typed, pb};
use proton_gateway::config::authorization::AuthorizationConfig;
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::gateway::{Call, Door};
use tonic::Code;

use super::{Guarded, PolicyFile, arrival, caller, request};

/// An administrator may do everything but this.
const NO_ORDERS: &str = "forbid (principal, action, resource in Proton::Service::\"orders\");";
/// The same, by the attribute.
const NO_ORDERS_EITHER: &str = "forbid (principal, action, resource) when { resource has service && resource.service == \"orders\" };";

const OF_SHOP: &str = "11111111-1111-4111-8111-111111111111";
const OF_ORDERS: &str = "22222222-2222-4222-8222-222222222222";
const OF_NOTHING: &str = "33333333-3333-4333-8333-333333333333";

fn service_of(id: &str) -> &'static str {
    if id == OF_ORDERS { "orders" } else { "shop" }
}

#[allow(clippy::result_large_err)]
fn upstream(call: &Call) -> Result<Response, Error> {
    Ok(match &call.request {
        Request::GetDeployment(get) if get.id == OF_NOTHING => {
            return Err(Error::not_found("deployment", &get.id));
        }
        Request::GetDeployment(get) => Response::GetDeployment(pb::GetDeploymentResponse {
            deployment: Some(pb::Deployment {
                id: Some(get.id.clone()),
                service_name: Some(service_of(&get.id).to_owned()),
                service_instance_name: Some("blue".to_owned()),
                deployment_status: pb::DeploymentStatus::InProgress.into(),
                ..pb::Deployment::default()
            }),
        }),
        Request::ListDeployments(_) => {
            let row = |id: &str| pb::DeploymentSummary {
                id: Some(id.to_owned()),
                service_name: Some(service_of(id).to_owned()),
                service_instance_name: Some("blue".to_owned()),
                ..pb::DeploymentSummary::default()
            };
            Response::ListDeployments(pb::ListDeploymentsResponse {
                deployments: vec![row(OF_SHOP), row(OF_ORDERS)],
                next_token: None,
            })
        }
        Request::DeleteDeployment(_) => {
            Response::DeleteDeployment(pb::DeleteDeploymentResponse::default())
        }
        _ => return Err(Error::not_found(call.operation.policy().resource, "it")),
    })
}

async fn call<T: Typed>(guarded: &Guarded, message: T) -> Result<Response, Error> {
    let admin = caller("admin", &["administrator"]);
    let call = Call::new(message.into_request(), Door::Grpc, &arrival(&admin));
    guarded.gateway.call(call).await.map(|reply| reply.response)
}

fn is_denied(outcome: Result<Response, Error>) -> bool {
    match outcome {
        Ok(_) => false,
        Err(error) => {
            assert!(
                matches!(*error.kind, ErrorKind::AccessDenied { .. }),
                "{error}"
            );
            true
        }
    }
}

fn get(id: &str, service: Option<&str>) -> pb::GetDeploymentRequest {
    pb::GetDeploymentRequest {
        id: id.to_owned(),
        service_name: service.map(str::to_owned),
        ..pb::GetDeploymentRequest::default()
    }
}

fn delete(id: &str) -> pb::DeleteDeploymentRequest {
    pb::DeleteDeploymentRequest { id: id.to_owned() }
}

#[tokio::test]
async fn a_forbidden_services_deployments_are_neither_got_nor_deleted() {
    for policy in [NO_ORDERS, NO_ORDERS_EITHER] {
        let file = PolicyFile::with(policy);
        let guarded = Guarded::over(&file.config(), upstream);
        for service in [None, Some("orders"), Some("shop")] {
            let denied = is_denied(call(&guarded, get(OF_ORDERS, service)).await);
            assert!(denied, "{service:?}");
        }
        assert!(!is_denied(call(&guarded, get(OF_SHOP, None)).await));
        let before = guarded.asked();
        assert!(is_denied(call(&guarded, delete(OF_ORDERS)).await));
        // It was looked at, and not deleted.
        assert_eq!(guarded.asked(), before + 1);
        assert!(!is_denied(call(&guarded, delete(OF_SHOP)).await));
        assert!(!is_denied(call(&guarded, delete(OF_NOTHING)).await));
    }
}

#[tokio::test]
async fn without_policies_of_ones_own_nothing_is_looked_at() {
    let guarded = Guarded::over(&AuthorizationConfig::default(), upstream);
    assert!(!is_denied(call(&guarded, delete(OF_ORDERS)).await));
    assert_eq!(guarded.asked(), 1);
}

#[tokio::test]
async fn whoever_may_not_name_a_deployment_has_none_looked_at() {
    let file = PolicyFile::with("forbid (principal, action, resource is Proton::Deployment);");
    let guarded = Guarded::over(&file.config(), upstream);
    assert!(is_denied(call(&guarded, delete(OF_SHOP)).await));
    assert!(is_denied(call(&guarded, get(OF_SHOP, None)).await));
    assert_eq!(guarded.asked(), 0);
}

#[tokio::test]
async fn a_forbidden_services_deployments_are_left_out_of_filtered_lists() {
    let file = PolicyFile::with(NO_ORDERS);
    let config = AuthorizationConfig {
        list_filter: true,
        ..file.config()
    };
    let guarded = Guarded::over(&config, upstream);
    let list = pb::ListDeploymentsRequest::default();
    let Response::ListDeployments(page) = call(&guarded, list).await.unwrap() else {
        panic!("another response");
    };
    let ids: Vec<_> = page.deployments.iter().map(|it| it.id()).collect();
    assert_eq!(ids, [OF_SHOP]);
}

#[tokio::test]
async fn a_forbidden_services_deployments_are_not_watched_nor_any_more() {
    let file = PolicyFile::with(NO_ORDERS);
    let guarded = Guarded::over(&file.config(), upstream);
    let admin = caller("admin", &["administrator"]);
    let watch = async |id: &str| {
        let wanted = pb::WatchDeploymentRequest {
            id: id.to_owned(),
            options: None,
        };
        let waits = &guarded.waits;
        waits.watch_deployment(request(&admin, wanted)).await
    };
    let refused = watch(OF_ORDERS).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let nothing = watch(OF_NOTHING).await.err().unwrap();
    assert_eq!(nothing.code(), Code::NotFound);
    let mut events = watch(OF_SHOP).await.unwrap().into_inner();
    events.next().await.unwrap().unwrap();
    file.say("forbid (principal, action, resource in Proton::ServiceInstance::\"shop/blue\");");
    guarded.authorizer.renew().await;
    // It says that it closes, and ends.
    let closing = tokio::time::timeout(std::time::Duration::from_secs(20), async {
        while events.next().await.is_some() {}
    });
    closing.await.unwrap();
}
