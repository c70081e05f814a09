//! Lists as streams of pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proton_gateway::admission::Guards;
use proton_gateway::api::pb::paginator_service_client::PaginatorServiceClient;
use proton_gateway::api::{Request, Response, pb};
use proton_gateway::changes::Changes;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::service::Routes;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use crate::conformance;
use crate::service_fixtures::{create_environment, output, platform, report};
use crate::support::World;

type Client = PaginatorServiceClient<Edge<Routes>>;

fn client(gateway: Gateway, shutdown: Shutdown) -> Client {
    let settings = Settings::with_key(Key::random().unwrap());
    let waits = Waits::new(gateway.clone(), Changes::default(), settings, shutdown);
    PaginatorServiceClient::new(grpc_door::routes(gateway, waits, Health::default()).unwrap())
}

fn request(
    max_results: i32,
    next_token: Option<String>,
    limit: u64,
) -> pb::PageEnvironmentTemplatesRequest {
    pb::PageEnvironmentTemplatesRequest {
        request: Some(pb::ListEnvironmentTemplatesRequest {
            max_results: Some(max_results),
            next_token,
        }),
        limit,
    }
}

async fn templates(world: &World, names: &[&str]) {
    for name in names {
        world
            .ok(pb::CreateEnvironmentTemplateRequest {
                name: (*name).to_owned(),
                ..Default::default()
            })
            .await;
    }
}

/// The names on each page that is left, and the token of the last one but one.
async fn names(
    mut pages: Streaming<pb::PageEnvironmentTemplatesResponse>,
) -> (Vec<Vec<String>>, Option<String>) {
    let (mut all, mut token) = (Vec::new(), None);
    while let Some(page) = pages.message().await.unwrap() {
        let page = page.page.unwrap();
        token = page.next_token.or(token);
        let names = page.templates.iter().map(|item| item.name().to_owned());
        all.push(names.collect());
    }
    (all, token)
}

conformance! {
    async fn all_pages_come_in_order_and_a_stream_goes_on_at_a_token(world) {
        templates(world, &["a", "b", "c", "d", "e"]).await;
        let mut client = client(world.gateway.clone(), world.shutdown.clone());
        let response = client.page_environment_templates(request(2, None, 0)).await;
        let (pages, token) = names(response.unwrap().into_inner()).await;
        assert_eq!(pages, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
        let response = client.page_environment_templates(request(2, token, 0)).await;
        let (pages, _) = names(response.unwrap().into_inner()).await;
        assert_eq!(pages, [vec!["e"]]);
    }

    async fn a_stream_ends_between_two_pages_if_the_gateway_stops_and_goes_on_at_another(world) {
        templates(world, &["a", "b", "c", "d", "e"]).await;
        let (stop, shutdown) = Shutdown::channel();
        let mut stopping = client(world.gateway.clone(), shutdown);
        let response = stopping.page_environment_templates(request(1, None, 0)).await;
        let mut pages = response.unwrap().into_inner();
        let mut seen = Vec::new();
        let mut token = None;
        let closed = loop {
            match pages.message().await {
                Ok(page) => {
                    let page = page.unwrap().page.unwrap();
                    seen.extend(page.templates.iter().map(|item| item.name().to_owned()));
                    token = page.next_token;
                    stop.send_replace(true);
                }
                Err(closed) => break closed,
            }
        };
        assert_eq!(closed.code(), Code::Unavailable);
        assert!(closed.get_details_retry_info().unwrap().retry_delay.is_some());
        let mut other = client(world.gateway.clone(), world.shutdown.clone());
        let response = other.page_environment_templates(request(10, token, 0)).await;
        let (rest, _) = names(response.unwrap().into_inner()).await;
        assert_eq!([seen, rest.concat()].concat(), ["a", "b", "c", "d", "e"]);
    }

    async fn a_limit_cuts_the_last_page(world) {
        templates(world, &["a", "b", "c", "d", "e"]).await;
        let mut client = client(world.gateway.clone(), world.shutdown.clone());
        let response = client.page_environment_templates(request(2, None, 3)).await;
        let (pages, _) = names(response.unwrap().into_inner()).await;
        assert_eq!(pages, [vec!["a", "b"], vec!["c"]]);
    }

    async fn a_limit_cuts_also_a_list_without_a_page_size(world) {
        platform(world).await;
        let output = |key: &str| output(key, "value");
        let report = pb::NotifyResourceDeploymentStatusChangeRequest {
            outputs: vec![output("a"), output("b"), output("c")],
            ..report("environment/prod", pb::ResourceDeploymentStatus::Succeeded)
        };
        world.ok(pb::UpdateEnvironmentRequest {
            name: "prod".to_owned(),
            deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
            spec: Some(create_environment("prod").spec),
            ..Default::default()
        }).await;
        world.ok(report).await;
        let mut client = client(world.gateway.clone(), world.shutdown.clone());
        let request = pb::PageEnvironmentOutputsRequest {
            request: Some(pb::ListEnvironmentOutputsRequest {
                environment_name: "prod".to_owned(),
                ..Default::default()
            }),
            limit: 2,
        };
        let mut pages = client.page_environment_outputs(request).await.unwrap().into_inner();
        let mut counts = Vec::new();
        while let Some(page) = pages.message().await.unwrap() {
            counts.push(page.page.unwrap().outputs.len());
        }
        assert_eq!(counts, [2]);
    }

    async fn a_limit_hides_no_page_size_that_could_not_be_meant(world) {
        let mut client = client(world.gateway.clone(), world.shutdown.clone());
        for max_results in [-5, 0, 1000] {
            let refusal = client
                .page_environment_templates(request(max_results, None, 3))
                .await
                .unwrap_err();
            assert_eq!(refusal.code(), Code::InvalidArgument, "{max_results}");
        }
    }

    async fn what_is_wrong_with_the_first_page_is_told_before_there_is_a_stream(world) {
        let mut client = client(world.gateway.clone(), world.shutdown.clone());
        let refusal = client
            .page_environment_templates(request(101, None, 0))
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        let refusal = client
            .page_environment_outputs(pb::PageEnvironmentOutputsRequest {
                request: Some(pb::ListEnvironmentOutputsRequest {
                    environment_name: "nowhere".to_owned(),
                    ..Default::default()
                }),
                limit: 0,
            })
            .await
            .unwrap_err();
        assert_eq!(refusal.code(), Code::NotFound);
    }
}

/// An upstream whose pages have the tokens that `token` gives them, and how often it was asked.
fn scripted(token: fn(usize) -> String) -> (Client, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let backend = tower::service_fn(move |call: Call| {
        let number = count.fetch_add(1, Ordering::SeqCst);
        async move {
            assert!(matches!(call.request, Request::ListEnvironmentTemplates(_)));
            let page = pb::ListEnvironmentTemplatesResponse {
                next_token: Some(token(number)),
                templates: Vec::new(),
            };
            Ok(Reply::new(Response::ListEnvironmentTemplates(page)))
        }
    });
    let gateway = Gateway::new(pipeline::build(
        backend,
        Metrics::new().unwrap(),
        &Guards::default(),
    ));
    let (stop, shutdown) = Shutdown::channel();
    // Nothing is stopped in these tests.
    std::mem::forget(stop);
    (client(gateway, shutdown), asked)
}

#[tokio::test]
async fn tokens_that_go_round_end_the_stream_with_an_error() {
    for round in [
        (|_| "same".to_owned()) as fn(usize) -> String,
        |number| format!("t{}", number % 7),
        |number| format!("t{}", if number < 20 { number } else { 20 + number % 3 }),
    ] {
        let (mut client, asked) = scripted(round);
        let response = client.page_environment_templates(request(2, None, 0)).await;
        let mut pages = response.unwrap().into_inner();
        let failure = loop {
            match pages.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the list seemed to end"),
                Err(failure) => break failure,
            }
        };
        let info = failure.get_details_error_info().unwrap();
        assert_eq!(info.reason, "PAGE_TOKEN_LOOP");
        assert!(asked.load(Ordering::SeqCst) < 100);
        assert!(pages.message().await.unwrap().is_none());
    }
}

#[tokio::test]
async fn a_page_is_fetched_when_the_reader_asks_for_it() {
    let (mut client, asked) = scripted(|number| format!("t{number}"));
    let response = client.page_environment_templates(request(2, None, 0)).await;
    let mut pages = response.unwrap().into_inner();
    for read in 1..5 {
        pages.message().await.unwrap().unwrap();
        // One page may be on its way.
        assert!(asked.load(Ordering::SeqCst) <= read + 1);
    }
}
