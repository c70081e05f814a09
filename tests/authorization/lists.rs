//! Lists that leave out what their caller may not get.

use futures_util::StreamExt;
use proton_gateway::api::pb::paginator_service_server::PaginatorService;
use proton_gateway::api::{Request, Response, pb};
use proton_gateway::config::authorization::AuthorizationConfig;
use proton_gateway::gateway::{Call, Door};
use proton_gateway::pages::Paginator;

use super::{Guarded, PolicyFile, arrival, caller, request};

/// Whoever it is may list, but get only what is the team's.
const TEAM: &str = "permit (principal, action, resource is Proton::Account);
permit (principal, action in Proton::Action::\"read\", resource is Proton::Service)
when { resource.name like \"a-*\" };";

fn names(page: &pb::ListServicesResponse) -> Vec<&str> {
    page.services.iter().map(|service| service.name()).collect()
}

/// A gateway over the services `a-shop` and `b-shop`.
fn guarded(config: &AuthorizationConfig) -> Guarded {
    Guarded::over(config, |_| {
        let service = |name: &str| pb::ServiceSummary {
            name: Some(name.to_owned()),
            ..Default::default()
        };
        Ok(Response::ListServices(pb::ListServicesResponse {
            services: vec![service("a-shop"), service("b-shop")],
            next_token: None,
        }))
    })
}

async fn listed(
    config: &AuthorizationConfig,
) -> (pb::ListServicesResponse, pb::ListServicesResponse) {
    let guarded = guarded(config);
    let alice = caller("alice", &[]);
    let list = Request::ListServices(pb::ListServicesRequest::default());
    let call = Call::new(list, Door::Aws, &arrival(&alice));
    let Response::ListServices(list) = guarded.gateway.call(call).await.unwrap().response else {
        panic!("another response");
    };
    let mut pages = Paginator::new(guarded.gateway.clone())
        .page_services(request(&alice, pb::PageServicesRequest::default()))
        .await
        .unwrap()
        .into_inner();
    let page = pages.next().await.unwrap().unwrap();
    (list, page.page.unwrap())
}

#[tokio::test]
async fn a_filtered_list_and_its_pages_have_what_their_caller_may_get() {
    let file = PolicyFile::with(TEAM);
    let config = AuthorizationConfig {
        list_filter: true,
        ..file.config()
    };
    let (list, page) = listed(&config).await;
    assert_eq!(
        (names(&list), names(&page)),
        (vec!["a-shop"], vec!["a-shop"])
    );
}

#[tokio::test]
async fn without_the_filter_a_list_is_whole() {
    let file = PolicyFile::with(TEAM);
    let (list, page) = listed(&file.config()).await;
    assert_eq!(names(&list), ["a-shop", "b-shop"]);
    assert_eq!(names(&page), ["a-shop", "b-shop"]);
}
