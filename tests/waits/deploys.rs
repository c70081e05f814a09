//! Deploys: what they begin, what they join, and how they end, over every backend.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use prost::Message;
use proton_gateway::admission::Guards;
use proton_gateway::api::own::gateway_service_client::GatewayServiceClient;
use proton_gateway::api::own::{self, DeployAction};
use proton_gateway::api::pb;
use proton_gateway::api::pb::deployment_state::State;
use proton_gateway::api::{Request as Asked, Response};
use proton_gateway::auth::Principal;
use proton_gateway::changes::Changes;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::client::{Carries, Wait};
use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

type Client = GatewayServiceClient<Edge<Routes>>;

fn client(world: &World) -> Client {
    let settings = Settings {
        pauses: vec![std::time::Duration::from_millis(20)],
        ..Settings::with_key(Key::random().unwrap())
    };
    let waits = Waits::new(
        world.gateway.clone(),
        world.changes.clone(),
        settings,
        world.shutdown.clone(),
    );
    let door = grpc_door::routes(world.gateway.clone(), waits, Health::default()).unwrap();
    GatewayServiceClient::new(door)
}

fn environment(name: &str) -> own::DeployEnvironmentRequest {
    own::DeployEnvironmentRequest {
        environment: Some(create_environment(name)),
        options: None,
    }
}

fn keyed(
    request: own::DeployEnvironmentRequest,
    key: &str,
) -> Request<own::DeployEnvironmentRequest> {
    let mut request = Request::new(request);
    request
        .metadata_mut()
        .insert("idempotency-key", key.parse().unwrap());
    request
}

/// A deploy that has told of its first event, by which its action is known.
struct Begun<T> {
    wait: Wait<T>,
    first: String,
}

impl<T: Carries> Begun<T> {
    async fn of(response: Result<tonic::Response<tonic::Streaming<T>>, Status>) -> Self {
        let mut wait = Wait::of(response.unwrap());
        let first = wait.next().await.unwrap().unwrap();
        Self { wait, first }
    }
}

/// Deployments of the environment, whatever became of them.
async fn deployments(world: &World, name: &str) -> usize {
    let request = pb::ListDeploymentsRequest {
        environment_name: Some(name.to_owned()),
        ..Default::default()
    };
    world.ok(request).await.deployments.len()
}

fn reason(status: &Status) -> String {
    status.get_details_error_info().unwrap().reason
}

conformance! {
    async fn what_does_not_exist_is_created_and_followed_to_its_end(world) {
        platform(world).await;
        let mut begun = Begun::of(client(world).deploy_environment(environment("new")).await).await;
        assert_eq!(begun.first, "snapshot IN_PROGRESS");
        assert_eq!(begun.wait.action(), DeployAction::Created);
        world.settle().await;
        let (told, end) = begun.wait.rest().await;
        assert_eq!(told, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
        end.unwrap();
    }

    async fn its_events_are_sent_as_they_are_whatever_its_caller_offers(world) {
        platform(world).await;
        let mut client = client(world).accept_compressed(CompressionEncoding::Gzip);
        let events = client.deploy_environment(environment("new")).await.unwrap();
        assert!(!events.metadata().contains_key("grpc-encoding"), "{events:?}");
    }

    async fn what_exists_is_updated(world) {
        platform(world).await;
        let before = deployments(world, "prod").await;
        let begun = Begun::of(client(world).deploy_environment(environment("prod")).await).await;
        assert_eq!(begun.first, "snapshot IN_PROGRESS");
        assert_eq!(begun.wait.action(), DeployAction::Updated);
        assert_eq!(deployments(world, "prod").await, before + 1);
    }

    async fn an_environment_of_another_template_is_left_alone(world) {
        platform(world).await;
        let before = deployments(world, "prod").await;
        let mut request = environment("prod");
        request.environment.as_mut().unwrap().template_name = "another".to_owned();
        let refused = client(world).deploy_environment(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
        assert_eq!(deployments(world, "prod").await, before);
    }

    async fn the_same_while_it_runs_is_joined(world) {
        platform(world).await;
        let mut client = client(world);
        let _first = Begun::of(client.deploy_environment(environment("new")).await).await;
        let second = Begun::of(client.deploy_environment(environment("new")).await).await;
        assert_eq!(second.wait.action(), DeployAction::Joined);
        assert_eq!(deployments(world, "new").await, 1);
    }

    async fn the_same_at_the_same_time_is_begun_once(world) {
        platform(world).await;
        for name in ["prod", "new"] {
            let before = match name {
                "prod" => deployments(world, name).await,
                _ => 0,
            };
            let client = client(world);
            let calls = (0..6).map(|_| {
                let mut client = client.clone();
                tokio::spawn(async move { client.deploy_environment(environment(name)).await })
            });
            let mut joined = 0;
            for call in calls.collect::<Vec<_>>() {
                let begun = Begun::of(call.await.unwrap()).await;
                joined += usize::from(begun.wait.action() == DeployAction::Joined);
            }
            // The same creation again may be answered as the first one.
            assert!(name == "new" || joined == 5, "{joined} joined {name}");
            assert_eq!(deployments(world, name).await, before + 1, "{name}");
        }
    }

    async fn what_failed_at_first_is_repaired_by_the_next_deploy(world) {
        platform(world).await;
        let mut client = client(world);
        let _first = Begun::of(client.deploy_environment(environment("new")).await).await;
        fail(world, "environment/new").await;
        let mut again = Begun::of(client.deploy_environment(environment("new")).await).await;
        assert_eq!(again.wait.action(), DeployAction::Updated);
        world.settle().await;
        assert_eq!(again.wait.rest().await.0, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
    }

    async fn what_failed_at_first_can_be_repaired_by_another_version(world) {
        batch(world).await;
        let mut client = client(world);
        let mut version = (Some("1".to_owned()), Some("0".to_owned()));
        let to = [release(world, "job", Some("1")).await, release(world, "job", None).await];
        let mut to = to.into_iter();
        loop {
            let request = own::DeployServiceInstanceRequest {
                service_instance: Some(pb::CreateServiceInstanceRequest {
                    template_major_version: version.0.clone(),
                    template_minor_version: version.1.clone(),
                    ..add_instance("us")
                }),
                options: None,
            };
            let begun = Begun::of(client.deploy_service_instance(request).await).await;
            let us = instance(world, "batch", "us").await;
            let tried = deployment(world, us.last_attempted_deployment_id()).await;
            let Some(State::ServiceInstance(tried)) = tried.target_state.unwrap().state else {
                panic!("not an instance");
            };
            assert_eq!((tried.template_major_version, tried.template_minor_version), version);
            drop(begun);
            fail(world, "service/batch/service-instance/us").await;
            let Some((major, minor)) = to.next() else { break };
            version = (Some(major), Some(minor));
        }
    }

    async fn the_same_key_begins_nothing_again_even_after_the_end(world) {
        platform(world).await;
        let mut client = client(world);
        let _first = Begun::of(client.deploy_environment(keyed(environment("new"), "build-1")).await).await;
        world.settle().await;
        let mut again = Begun::of(client.deploy_environment(keyed(environment("new"), "build-1")).await).await;
        assert_eq!(again.first, "snapshot SUCCEEDED");
        assert_eq!(again.wait.action(), DeployAction::Joined);
        assert_eq!(again.wait.rest().await.0, ["terminal SUCCEEDED"]);
        assert_eq!(deployments(world, "new").await, 1);
    }

    async fn the_same_key_for_something_else_is_refused(world) {
        platform(world).await;
        let mut client = client(world);
        let _first = Begun::of(client.deploy_environment(keyed(environment("new"), "build-1")).await).await;
        let other = client.deploy_environment(keyed(environment("other"), "build-1")).await.unwrap_err();
        assert_eq!(other.code(), Code::InvalidArgument);
        assert_eq!(reason(&other), "IDEMPOTENCY_MISMATCH");
        assert_eq!(deployments(world, "other").await, 0);
    }

    async fn a_failure_is_told_and_ends_the_stream_with_a_status(world) {
        platform(world).await;
        let mut begun = Begun::of(client(world).deploy_environment(environment("new")).await).await;
        fail(world, "environment/new").await;
        let (told, end) = begun.wait.rest().await;
        assert_eq!(told, ["IN_PROGRESS to FAILED", "terminal FAILED"]);
        assert_eq!(end.unwrap_err().code(), Code::FailedPrecondition);
    }

    async fn a_resumed_stream_changes_nothing(world) {
        platform(world).await;
        let mut client = client(world);
        let begun = Begun::of(client.deploy_environment(environment("new")).await).await;
        world.settle().await;
        let mut request = environment("new");
        request.options = Some(pb::WaitOptions {
            resume_token: begun.wait.events[0].resume_token.clone(),
            ..Default::default()
        });
        let resumed = Begun::of(client.deploy_environment(request).await).await;
        assert_eq!(resumed.wait.action(), DeployAction::Joined);
        assert_eq!(deployments(world, "new").await, 1);
    }

    async fn a_deploy_whose_answer_was_lost_undoes_nothing_that_was_begun_since(world) {
        platform(world).await;
        let request = environment("prod");
        let content = request.environment.as_ref().unwrap().encode_to_vec();
        let ledger = world.gateway.ledger().unwrap();
        let caller = &Principal::anonymous().id;
        let once = ledger.once(caller, None, "DeployEnvironment", "k", &content);
        let get = pb::GetEnvironmentRequest { name: "prod".to_owned() };
        let prod = world.ok(get).await.environment.unwrap();
        // A gateway that was killed has left nothing but what it knew before: one text.
        let name = prod.last_attempted_deployment_id.unwrap();
        let before = pb::GetEnvironmentRequest { name };
        once.begin(before.encode_to_vec()).await.unwrap();
        let newer = pb::UpdateEnvironmentRequest {
            name: "prod".to_owned(),
            spec: Some(format!("{ENVIRONMENT_SPEC}\n# Another one.\n")),
            deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
            ..Default::default()
        };
        world.ok(newer).await;
        world.settle().await;
        let count = deployments(world, "prod").await;
        let again = client(world).deploy_environment(keyed(request, "k")).await.unwrap_err();
        assert_eq!(reason(&again), "OUTCOME_UNKNOWN");
        assert_eq!(deployments(world, "prod").await, count);
    }

    async fn a_deploy_that_is_told_again_says_so(world) {
        platform(world).await;
        let mut client = client(world);
        let mut replayed = Vec::new();
        for _ in 0..2 {
            let answer = client.deploy_environment(keyed(environment("new"), "k")).await.unwrap();
            replayed.push(answer.metadata().contains_key("idempotency-replayed"));
        }
        assert_eq!(replayed, [false, true]);
    }

    async fn what_is_wrong_with_a_deploy_is_said_with_its_place(world) {
        let nothing = own::DeployEnvironmentRequest::default();
        let mut client = client(world);
        for (request, field) in [(nothing, "environment"), (environment("no spaces!"), "environment.name")] {
            let refused = client.deploy_environment(request).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let fields: Vec<String> = refused
                .get_details_bad_request()
                .unwrap()
                .field_violations
                .into_iter()
                .map(|violation| violation.field)
                .collect();
            assert_eq!(fields, [field]);
        }
        let long = keyed(environment("new"), &"k".repeat(256));
        let refused = client.deploy_environment(long).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("idempotency-key"), "{refused:?}");
    }

    async fn a_deploy_that_wants_more_than_what_is_under_way_does_not_join_it(world) {
        platform(world).await;
        let deploy = pb::UpdateEnvironmentRequest {
            name: "prod".to_owned(),
            deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
            ..Default::default()
        };
        world.ok(deploy).await;
        let spec = world.ok(pb::GetEnvironmentRequest { name: "prod".to_owned() }).await;
        let same = pb::CreateEnvironmentRequest {
            spec: spec.environment.unwrap().spec.unwrap(),
            ..create_environment("prod")
        };
        let mut client = client(world);
        let request = |wanted: pb::CreateEnvironmentRequest| own::DeployEnvironmentRequest {
            environment: Some(wanted),
            options: None,
        };
        let more = pb::CreateEnvironmentRequest {
            description: Some("mine".to_owned()),
            ..same.clone()
        };
        let refused = client.deploy_environment(request(more)).await.unwrap_err();
        assert_eq!(reason(&refused), "IN_PROGRESS", "{refused:?}");
        let joined = Begun::of(client.deploy_environment(request(same)).await).await;
        assert_eq!(joined.wait.action(), DeployAction::Joined);
    }

    async fn a_pipeline_that_comes_with_its_service_is_not_there_yet(world) {
        platform(world).await;
        world.ok(create_web("shop", &[("eu", "prod", "shop:1")])).await;
        let request = own::DeployServicePipelineRequest {
            service_pipeline: Some(pb::UpdateServicePipelineRequest {
                service_name: "shop".to_owned(),
                spec: web_spec("make", &[]),
                ..Default::default()
            }),
            options: None,
        };
        let early = client(world).deploy_service_pipeline(request).await.unwrap_err();
        assert_eq!(early.code(), Code::Aborted, "{early:?}");
    }

    async fn a_pipeline_is_deployed_only_where_there_is_one(world) {
        batch(world).await;
        let request = |service: &str| own::DeployServicePipelineRequest {
            service_pipeline: Some(pb::UpdateServicePipelineRequest {
                service_name: service.to_owned(),
                spec: job_spec(&[]),
                ..Default::default()
            }),
            options: None,
        };
        let mut client = client(world);
        let without = client.deploy_service_pipeline(request("batch")).await.unwrap_err();
        assert_eq!(without.code(), Code::FailedPrecondition, "{without:?}");
        let unknown = client.deploy_service_pipeline(request("nope")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound, "{unknown:?}");
    }

    async fn an_instance_is_created_then_moved_to_other_versions_of_its_template(world) {
        batch(world).await;
        let request = |version: Option<(String, String)>| {
            let (major, minor) = version.unzip();
            own::DeployServiceInstanceRequest {
                service_instance: Some(pb::CreateServiceInstanceRequest {
                    template_major_version: major,
                    template_minor_version: minor,
                    ..add_instance("us")
                }),
                options: None,
            }
        };
        let mut client = client(world);
        let mut deployed = Vec::new();
        let minor = release(world, "job", Some("1")).await;
        let major = release(world, "job", None).await;
        for version in [None, None, Some(minor), Some(major)] {
            let mut begun = Begun::of(client.deploy_service_instance(request(version)).await).await;
            world.settle().await;
            let (told, end) = begun.wait.rest().await;
            assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
            end.unwrap();
            let us = instance(world, "batch", "us").await;
            let version = format!("{}.{}", us.template_major_version(), us.template_minor_version());
            deployed.push((begun.wait.action(), version));
        }
        let version = |action, version: &str| (action, version.to_owned());
        assert_eq!(
            deployed,
            [
                version(DeployAction::Created, "1.1"),
                version(DeployAction::Updated, "1.1"),
                version(DeployAction::Updated, "1.1"),
                version(DeployAction::Updated, "2.0"),
            ]
        );
    }

    async fn a_pipeline_is_updated_and_moved_to_another_version(world) {
        shop(world).await;
        let request = |tests: &str, minor: Option<&str>| own::DeployServicePipelineRequest {
            service_pipeline: Some(pb::UpdateServicePipelineRequest {
                service_name: "shop".to_owned(),
                spec: web_spec(tests, &[("eu", "prod", "shop:1"), ("us", "prod", "shop:1")]),
                template_major_version: minor.map(|_| "1".to_owned()),
                template_minor_version: minor.map(str::to_owned),
                ..Default::default()
            }),
            options: None,
        };
        release(world, "web", Some("1")).await;
        let mut client = client(world);
        for (request, minor) in [(request("make check", None), "0"), (request("make all", Some("1")), "1")] {
            let mut begun = Begun::of(client.deploy_service_pipeline(request).await).await;
            assert_eq!(begun.wait.action(), DeployAction::Updated);
            world.settle().await;
            let (told, end) = begun.wait.rest().await;
            assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
            end.unwrap();
            assert_eq!(pipeline(world, "shop").await.template_minor_version(), minor);
        }
    }
}

fn uuid(number: i32) -> String {
    format!("00000000-0000-4000-8000-00000000000{number}")
}

/// An environment whose update begins a deployment, and is answered with `error` all the same.
fn answers_late(error: Error) -> Client {
    let begun = Arc::new(AtomicBool::new(false));
    let backend = tower::service_fn(move |call: Call| {
        let (begun, error) = (Arc::clone(&begun), error.clone());
        async move {
            let wanted = create_environment("prod");
            let response = match call.request {
                Asked::UpdateEnvironment(_) => {
                    begun.store(true, Ordering::SeqCst);
                    return Err(error);
                }
                Asked::GetEnvironment(_) => {
                    let begun = begun.load(Ordering::SeqCst);
                    Response::GetEnvironment(pb::GetEnvironmentResponse {
                        environment: Some(pb::Environment {
                            template_name: Some(wanted.template_name),
                            template_major_version: Some(wanted.template_major_version),
                            deployment_status: match begun {
                                true => pb::DeploymentStatus::InProgress.into(),
                                false => pb::DeploymentStatus::Succeeded.into(),
                            },
                            last_attempted_deployment_id: Some(uuid(begun.into())),
                            proton_service_role_arn: wanted.proton_service_role_arn,
                            component_role_arn: wanted.component_role_arn,
                            ..Default::default()
                        }),
                    })
                }
                _ => Response::GetDeployment(pb::GetDeploymentResponse {
                    deployment: Some(pb::Deployment {
                        target_state: Some(pb::DeploymentState {
                            state: Some(State::Environment(pb::EnvironmentState {
                                spec: Some(wanted.spec),
                                template_major_version: Some(wanted.template_major_version),
                                template_minor_version: wanted.template_minor_version,
                                ..Default::default()
                            })),
                        }),
                        ..Default::default()
                    }),
                }),
            };
            Ok(Reply::new(response))
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
    let settings = Settings::with_key(Key::random().unwrap());
    let waits = Waits::new(gateway.clone(), Changes::default(), settings, shutdown);
    GatewayServiceClient::new(grpc_door::routes(gateway, waits, Health::default()).unwrap())
}

#[tokio::test]
async fn what_has_begun_is_followed_although_the_answer_does_not_say_so() {
    for error in [
        Error::new(ErrorKind::OutcomeUnknown, "the answer was lost"),
        Error::in_progress("environment/prod", "somebody was faster"),
    ] {
        let said = error.to_string();
        let mut client = answers_late(error);
        let begun = Begun::of(client.deploy_environment(environment("prod")).await).await;
        assert_eq!(begun.first, "snapshot IN_PROGRESS", "{said}");
        assert_eq!(begun.wait.action(), DeployAction::Joined, "{said}");
    }
}

#[tokio::test]
async fn a_refusal_is_an_answer_whatever_has_begun_since() {
    let mut client = answers_late(Error::invalid("no such role"));
    let refused = client.deploy_environment(environment("prod")).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
}
