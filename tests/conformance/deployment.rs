//! Records of deployments: read, listed newest first, deleted.

use std::time::Duration;

use proton_gateway::api::pb::{
    self, DeploymentStatus as Status, DeploymentTargetResourceType as Kind, deployment_state::State,
};

use proton_gateway::clock::Clock;

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";

const UNKNOWN: &str = "00000000-0000-4000-8000-000000000000";

fn get(id: &str) -> pb::GetDeploymentRequest {
    pb::GetDeploymentRequest {
        id: id.to_owned(),
        ..Default::default()
    }
}

fn delete(id: &str) -> pb::DeleteDeploymentRequest {
    pb::DeleteDeploymentRequest { id: id.to_owned() }
}

fn instance_state(state: Option<pb::DeploymentState>) -> pb::ServiceInstanceState {
    match state.and_then(|state| state.state) {
        Some(State::ServiceInstance(state)) => state,
        other => panic!("no state of a service instance: {other:?}"),
    }
}

/// The tails of the ARNs of what was deployed, in the order of the list.
async fn targets(world: &World, request: pb::ListDeploymentsRequest) -> Vec<String> {
    let response = world.ok(request).await;
    let prefix = arn("");
    let arns = response.deployments.iter();
    arns.map(|deployment| {
        deployment
            .target_arn()
            .trim_start_matches(&prefix)
            .to_owned()
    })
    .collect()
}

fn of_service(name: &str) -> pb::ListDeploymentsRequest {
    pb::ListDeploymentsRequest {
        service_name: Some(name.to_owned()),
        ..Default::default()
    }
}

/// The id of the last deployment of `batch/eu`.
async fn latest(world: &World) -> String {
    instance(world, "batch", "eu")
        .await
        .last_attempted_deployment_id
        .unwrap()
}

conformance! {
    async fn a_first_deployment_begins_from_nothing(world) {
        platform(world).await;
        world
            .ok(create_job("batch", &[("eu", "prod", "batch:1")]))
            .await;
        let id = latest(world).await;
        let running = deployment(world, &id).await;
        assert_eq!(running.arn(), arn(&format!("deployment/{id}")));
        assert_eq!(
            running.target_arn(),
            arn("service/batch/service-instance/eu")
        );
        assert_eq!(running.target_resource_type(), Kind::ServiceInstance);
        assert_eq!(
            (running.service_name(), running.service_instance_name()),
            ("batch", "eu")
        );
        assert_eq!(running.environment_name(), "prod");
        assert_eq!(running.deployment_status(), Status::InProgress);
        assert_eq!(
            (&running.initial_state, &running.completed_at),
            (&None, &None)
        );
        assert_eq!(running.created_at, now(world));
        let state = instance_state(running.target_state);
        assert_eq!(state.spec(), job_spec(&[("eu", "prod", "batch:1")]));
        assert_eq!(state.template_minor_version(), "0");
        assert!(state.last_successful_environment_deployment_id.is_some());

        world.step().await;
        let ended = deployment(world, &id).await;
        assert_eq!(ended.deployment_status(), Status::Succeeded);
        assert_eq!(ended.completed_at, now(world));
        assert_eq!(ended.last_succeeded_deployment_id, Some(id));
    }

    async fn a_later_deployment_begins_from_what_is_there(world) {
        batch(world).await;
        world
            .ok(update_instance(
                "batch",
                "eu",
                Some(job_spec(&[("eu", "prod", "batch:2")])),
            ))
            .await;
        let update = deployment(world, &latest(world).await).await;
        assert_eq!(
            instance_state(update.initial_state).spec(),
            job_spec(&[("eu", "prod", "batch:1")])
        );
        assert_eq!(
            instance_state(update.target_state).spec(),
            job_spec(&[("eu", "prod", "batch:2")])
        );
    }

    async fn a_deployment_knows_what_it_was_built_on(world) {
        shop(world).await;
        world.ok(attach_new("cache", "shop", "eu")).await;
        world.step().await;
        world.ok(update_instance("shop", "eu", None)).await;
        let id = instance(world, "shop", "eu")
            .await
            .last_attempted_deployment_id
            .unwrap();
        let state = instance_state(deployment(world, &id).await.target_state);
        assert_eq!(
            state.last_successful_service_pipeline_deployment_id,
            pipeline(world, "shop").await.last_succeeded_deployment_id,
        );
        let component = component(world, "cache")
            .await
            .last_succeeded_deployment_id
            .unwrap();
        assert_eq!(state.last_successful_component_deployment_ids, [component]);
    }

    async fn a_deployment_of_a_pipeline_is_one_of_its_service(world) {
        shop(world).await;
        let id = pipeline(world, "shop")
            .await
            .last_succeeded_deployment_id
            .unwrap();
        let found = deployment(world, &id).await;
        assert_eq!(found.target_resource_type(), Kind::ServicePipeline);
        assert_eq!(found.target_arn(), arn("service/shop/pipeline"));
        assert_eq!(
            (found.service_name(), &found.service_instance_name),
            ("shop", &None)
        );
        assert_eq!(found.environment_name(), "prod", "its first instance's");
        let Some(State::ServicePipeline(state)) = found.target_state.unwrap().state else {
            panic!("the state of something else");
        };
        assert!(state.spec().contains("make test"));
    }

    async fn a_deployment_is_found_under_its_own_names_only(world) {
        batch(world).await;
        let id = latest(world).await;
        let text = |text: &str| Some(text.to_owned());
        let all = pb::GetDeploymentRequest {
            environment_name: text("prod"),
            service_name: text("batch"),
            service_instance_name: text("eu"),
            ..get(&id)
        };
        assert_eq!(world.ok(all.clone()).await.deployment.unwrap().id(), id);
        for other in [
            pb::GetDeploymentRequest {
                environment_name: text("test"),
                ..all.clone()
            },
            pb::GetDeploymentRequest {
                service_name: text("shop"),
                ..all.clone()
            },
            pb::GetDeploymentRequest {
                service_instance_name: text("us"),
                ..all.clone()
            },
            pb::GetDeploymentRequest {
                component_name: text("cache"),
                ..all.clone()
            },
        ] {
            world
                .fails(other)
                .await
                .is(NOT_FOUND)
                .because("RESOURCE_NOT_FOUND")
                .says(&id);
        }
        let half = pb::GetDeploymentRequest {
            service_name: None,
            ..all
        };
        world.fails(half).await.is(INVALID).says("service_name");
    }

    async fn an_id_is_a_uuid_that_is_known(world) {
        world.fails(get(UNKNOWN)).await.is(NOT_FOUND).says(UNKNOWN);
        world.fails(get("latest")).await.is(INVALID).says("'id'");
        world.fails(delete("latest")).await.is(INVALID).says("'id'");
    }

    async fn deployments_are_listed_newest_first(world) {
        batch(world).await;
        world.ok(create_component("cache")).await;
        world.step().await;
        world.ok(update_instance("batch", "eu", None)).await;
        let all = targets(world, pb::ListDeploymentsRequest::default()).await;
        assert_eq!(
            all[..3],
            [
                "service/batch/service-instance/eu",
                "component/cache",
                "service/batch/service-instance/eu"
            ]
        );
        assert_eq!(all.len(), 5, "and the two environments");
        let summaries = world.ok(of_service("batch")).await.deployments;
        assert_eq!(summaries[0].deployment_status(), Status::InProgress);
        assert_eq!(summaries[1].deployment_status(), Status::Succeeded);
        assert!(
            summaries[0].created_at.unwrap().seconds > summaries[1].created_at.unwrap().seconds
        );
        assert_eq!(summaries[0].target_resource_type(), Kind::ServiceInstance);
    }

    async fn deployments_are_filtered_by_what_was_deployed(world) {
        shop(world).await;
        world.ok(create_component("cache")).await;
        world.step().await;
        let text = |text: &str| Some(text.to_owned());
        let instances = [
            "service/shop/service-instance/eu",
            "service/shop/service-instance/us",
        ];
        assert_eq!(
            targets(world, of_service("shop")).await[0],
            "service/shop/pipeline"
        );
        assert_eq!(targets(world, of_service("shop")).await.len(), 3);
        let one = pb::ListDeploymentsRequest {
            service_instance_name: text("eu"),
            ..of_service("shop")
        };
        assert_eq!(targets(world, one.clone()).await, instances[..1]);
        let component = pb::ListDeploymentsRequest {
            component_name: text("cache"),
            ..Default::default()
        };
        assert_eq!(targets(world, component).await, ["component/cache"]);
        let test = pb::ListDeploymentsRequest {
            environment_name: text("test"),
            ..Default::default()
        };
        assert_eq!(targets(world, test).await, ["environment/test"]);
        let both = pb::ListDeploymentsRequest {
            environment_name: text("test"),
            ..one.clone()
        };
        assert!(targets(world, both).await.is_empty());
        let half = pb::ListDeploymentsRequest {
            service_name: None,
            ..one
        };
        world.fails(half).await.is(INVALID).says("service_name");
    }

    async fn pages_follow_one_another_and_belong_to_their_filter(world) {
        batch(world).await;
        let mut expected = vec![latest(world).await];
        for _ in 0..2 {
            world.ok(update_instance("batch", "eu", None)).await;
            expected.insert(0, latest(world).await);
            world.step().await;
        }
        let page = |next_token| pb::ListDeploymentsRequest {
            max_results: Some(2),
            next_token,
            ..of_service("batch")
        };
        let first = world.ok(page(None)).await;
        let last = world.ok(page(first.next_token.clone())).await;
        let ids: Vec<_> = first
            .deployments
            .iter()
            .chain(&last.deployments)
            .map(|d| d.id())
            .collect();
        assert_eq!(ids, expected);
        assert_eq!(last.next_token, None);
        let filtered = pb::ListDeploymentsRequest {
            service_instance_name: Some("eu".to_owned()),
            ..page(first.next_token)
        };
        world
            .fails(filtered)
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("next_token");
    }

    async fn a_record_can_be_deleted_and_what_was_deployed_stays(world) {
        batch(world).await;
        let id = latest(world).await;
        let deleted = world.ok(delete(&id)).await.deployment.unwrap();
        assert_eq!(
            (deleted.id(), deleted.deployment_status()),
            (id.as_str(), Status::Succeeded)
        );
        world.fails(get(&id)).await.is(NOT_FOUND);
        assert_eq!(world.ok(delete(&id)).await.deployment, None);
        assert!(targets(world, of_service("batch")).await.is_empty());
        assert_eq!(
            instance_status(world, "batch", "eu").await,
            Status::Succeeded
        );
        world.ok(update_instance("batch", "eu", None)).await;
    }

    async fn a_record_of_what_is_under_way_stays(world) {
        batch(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        let id = latest(world).await;
        world
            .fails(delete(&id))
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("under way");
        world.step().await;
        world.ok(delete(&id)).await;
    }

    async fn a_cancelled_deployment_says_so(world) {
        batch(world).await;
        let first = latest(world).await;
        world.ok(update_instance("batch", "eu", None)).await;
        let id = latest(world).await;
        world
            .ok(pb::CancelServiceInstanceDeploymentRequest {
                service_name: "batch".to_owned(),
                service_instance_name: "eu".to_owned(),
            })
            .await;
        assert_eq!(
            deployment(world, &id).await.deployment_status(),
            Status::Cancelling
        );
        world.step().await;
        let cancelled = deployment(world, &id).await;
        assert_eq!(cancelled.deployment_status(), Status::Cancelled);
        assert_eq!(
            cancelled.deployment_status_message(),
            "User initiated cancellation."
        );
        assert_eq!(cancelled.completed_at, now(world));
        assert_eq!(cancelled.last_succeeded_deployment_id, Some(first));
    }

    async fn the_last_hundred_deployments_of_a_target_are_kept(world) {
        batch(world).await;
        let first = latest(world).await;
        for _ in 0..100 {
            world.ok(update_instance("batch", "eu", None)).await;
            fail(world, "service/batch/service-instance/eu").await;
        }
        let kept = world.ok(of_service("batch")).await;
        assert_eq!((kept.deployments.len(), kept.next_token), (100, None));
        assert_eq!(
            deployment(world, &first).await.id(),
            first,
            "the one that holds is never dropped"
        );
    }

    async fn the_latest_deployment_is_the_first_and_stays_although_the_clock_was_set_back(world) {
        batch(world).await;
        for _ in 0..99 {
            world.ok(update_instance("batch", "eu", None)).await;
            fail(world, "service/batch/service-instance/eu").await;
        }
        world.clock.set(world.clock.now() - Duration::from_secs(3600));
        let mut ids = Vec::new();
        for _ in 0..3 {
            world.ok(update_instance("batch", "eu", None)).await;
            ids.insert(0, latest(world).await);
            fail(world, "service/batch/service-instance/eu").await;
        }
        let listed = world.ok(of_service("batch")).await.deployments;
        let listed: Vec<_> = listed.iter().map(|it| it.id().to_owned()).collect();
        assert_eq!((listed.len(), &listed[..3]), (100, &ids[..]));
        assert_eq!(deployment(world, &ids[0]).await.created_at, now(world));
    }

    async fn the_history_of_what_was_deleted_is_kept_for_ninety_days(world) {
        batch(world).await;
        let first = deployment(world, &latest(world).await).await;
        world.ok(delete_service("batch")).await;
        let last = latest(world).await;
        world.step().await;
        let deletion = deployment(world, &last).await;
        assert_eq!(deletion.deployment_status(), Status::DeleteComplete);
        assert_eq!(deletion.target_state, None);
        assert_eq!(
            deletion.target_resource_created_at,
            first.target_resource_created_at
        );

        world
            .ok(create_job("batch", &[("eu", "prod", "batch:1")]))
            .await;
        let history = world.ok(of_service("batch")).await.deployments;
        assert_eq!(history.len(), 3);
        assert_ne!(
            history[0].target_resource_created_at,
            history[1].target_resource_created_at
        );

        world.clock.advance(Duration::from_secs(90 * 24 * 3600));
        world.engine.settle().await.unwrap();
        assert_eq!(world.ok(of_service("batch")).await.deployments.len(), 1);
        world.fails(get(&last)).await.is(NOT_FOUND);
    }
}
