//! How waits end, over every backend.

use proton_gateway::api::pb::{self, DeploymentUpdateType as Mode};
use proton_gateway::waits::Key;
use tonic::Code;
use tonic_types::StatusExt;

use crate::client::{Wait, client, client_with_key};
use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

fn deployed(name: &str) -> pb::WaitEnvironmentDeployedRequest {
    pb::WaitEnvironmentDeployedRequest {
        name: name.to_owned(),
        options: None,
    }
}

fn redeploy(name: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        name: name.to_owned(),
        deployment_type: Mode::CurrentVersion.into(),
        ..Default::default()
    }
}

fn cancel(name: &str) -> pb::CancelEnvironmentDeploymentRequest {
    pb::CancelEnvironmentDeploymentRequest {
        environment_name: name.to_owned(),
    }
}

async fn wait_for(
    world: &World,
    request: pb::WaitEnvironmentDeployedRequest,
) -> Wait<pb::WaitEnvironmentDeployedResponse> {
    Wait::of(
        client(world)
            .wait_environment_deployed(request)
            .await
            .unwrap(),
    )
}

conformance! {
    async fn a_success_is_told_with_the_resource_the_deployment_and_its_outputs(world) {
        platform(world).await;
        let id = world.ok(redeploy("prod")).await.environment.unwrap();
        let id = id.last_attempted_deployment_id().to_owned();
        let mut request = deployed("prod");
        request.options = Some(pb::WaitOptions {
            include_outputs: true,
            ..Default::default()
        });
        let mut wait = wait_for(world, request).await;
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        world
            .ok(pb::NotifyResourceDeploymentStatusChangeRequest {
                outputs: vec![output("Topic", "t-1")],
                ..report("environment/prod", pb::ResourceDeploymentStatus::Succeeded)
            })
            .await;
        let (told, end) = wait.rest().await;
        assert_eq!(told, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
        assert!(end.is_ok());
        let terminal = wait.terminal();
        assert!(terminal.success);
        assert_eq!(terminal.outputs, [output("Topic", "t-1")]);
        assert_eq!(terminal.deployment.unwrap().id(), id);
        let Some(pb::wait_resource::Resource::Environment(prod)) =
            terminal.resource.unwrap().resource
        else {
            panic!("not an environment");
        };
        assert_eq!(prod.name(), "prod");
        let numbers: Vec<_> = wait.events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, [1, 2, 3]);
    }

    async fn a_failure_is_told_with_its_reason_and_ends_the_stream_with_a_status(world) {
        platform(world).await;
        world.ok(redeploy("prod")).await;
        let mut wait = wait_for(world, deployed("prod")).await;
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        fail(world, "environment/prod").await;
        let (told, end) = wait.rest().await;
        assert_eq!(told, ["IN_PROGRESS to FAILED", "terminal FAILED"]);
        assert_eq!(wait.terminal().message, "out of addresses");
        let status = end.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.get_details_error_info().unwrap().reason, "WAIT_FAILED");
    }

    async fn a_failure_ends_the_stream_well_where_the_caller_wants_that(world) {
        platform(world).await;
        world.ok(redeploy("prod")).await;
        fail(world, "environment/prod").await;
        let mut request = deployed("prod");
        request.options = Some(pb::WaitOptions {
            fail_on_failure: Some(false),
            ..Default::default()
        });
        let (told, end) = wait_for(world, request).await.rest().await;
        assert_eq!(told, ["snapshot FAILED", "terminal FAILED"]);
        assert!(end.is_ok());
    }

    /// AWS's own waiters go on for 83 minutes here.
    async fn a_cancellation_ends_the_wait(world) {
        platform(world).await;
        world.ok(redeploy("prod")).await;
        let mut wait = wait_for(world, deployed("prod")).await;
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        world.ok(cancel("prod")).await;
        assert_eq!(wait.next().await.unwrap().unwrap(), "IN_PROGRESS to CANCELLING");
        world.step().await;
        let (told, end) = wait.rest().await;
        assert_eq!(told, ["CANCELLING to CANCELLED", "terminal CANCELLED"]);
        assert_eq!(end.unwrap_err().code(), Code::Aborted);
    }

    async fn a_wait_that_begins_after_an_update_does_not_see_the_state_before_it(world) {
        platform(world).await;
        let mut client = client(world);
        let mut before = Wait::of(
            client.wait_environment_deployed(deployed("prod")).await.unwrap(),
        );
        assert_eq!(before.next().await.unwrap().unwrap(), "snapshot SUCCEEDED");
        world.ok(redeploy("prod")).await;
        let mut after = Wait::of(
            client.wait_environment_deployed(deployed("prod")).await.unwrap(),
        );
        assert_eq!(after.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
    }

    async fn a_deletion_is_waited_for_and_gone_is_success(world) {
        platform(world).await;
        let name = "test".to_owned();
        world.ok(pb::DeleteEnvironmentRequest { name: name.clone() }).await;
        let request = pb::WaitEnvironmentDeletedRequest { name, options: None };
        let mut client = client(world);
        let response = client.wait_environment_deleted(request.clone()).await;
        let mut wait = Wait::of(response.unwrap());
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot DELETE_IN_PROGRESS");
        world.step().await;
        let (told, end) = wait.rest().await;
        assert_eq!(told.last().unwrap(), "terminal DELETED");
        assert!(end.is_ok() && wait.terminal().success);
        let again = client.wait_environment_deleted(request).await;
        let (told, end) = Wait::of(again.unwrap()).rest().await;
        assert_eq!(told, ["snapshot ", "terminal DELETED"]);
        assert!(end.is_ok());
    }

    async fn a_service_is_waited_for_with_its_instances_and_its_pipeline(world) {
        platform(world).await;
        world.ok(create_web("shop", &[("eu", "prod", "shop:1")])).await;
        let mut client = client(world);
        let created = client
            .wait_service_created(pb::WaitServiceCreatedRequest {
                name: "shop".to_owned(),
                options: None,
            })
            .await;
        let mut created = Wait::of(created.unwrap());
        assert_eq!(created.next().await.unwrap().unwrap(), "snapshot CREATE_IN_PROGRESS");
        let pipeline = client
            .wait_service_pipeline_deployed(pb::WaitServicePipelineDeployedRequest {
                name: "shop".to_owned(),
                options: None,
            })
            .await;
        let mut pipeline = Wait::of(pipeline.unwrap());
        assert_eq!(pipeline.next().await.unwrap().unwrap(), "snapshot ", "there is none yet");
        world.step().await;
        assert_eq!(pipeline.next().await.unwrap().unwrap(), " to IN_PROGRESS");
        world.step().await;
        let (told, end) = created.rest().await;
        assert_eq!(told, ["CREATE_IN_PROGRESS to ACTIVE", "terminal SUCCEEDED"]);
        assert!(end.is_ok());
        let (told, _) = pipeline.rest().await;
        assert_eq!(told.last().unwrap(), "terminal SUCCEEDED");
    }

    async fn a_pipeline_that_goes_before_its_service_ends_the_wait_for_it(world) {
        shop(world).await;
        world.ok(delete_service("shop")).await;
        let request = pb::WaitServicePipelineDeployedRequest {
            name: "shop".to_owned(),
            options: None,
        };
        let response = client(world).wait_service_pipeline_deployed(request).await;
        let mut wait = Wait::of(response.unwrap());
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot DELETE_IN_PROGRESS");
        succeed(world, "service/shop/pipeline").await;
        for instance in ["eu", "us"] {
            fail(world, &format!("service/shop/service-instance/{instance}")).await;
        }
        let (told, _) = wait.rest().await;
        assert_eq!(told.last().unwrap(), "terminal DELETED");
    }

    async fn a_pipeline_whose_turn_never_came_has_not_succeeded(world) {
        shop(world).await;
        let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1"), ("x", "prod", "shop:1")];
        world.ok(edit("shop", &web_spec("make test", &instances))).await;
        let request = pb::WaitServicePipelineDeployedRequest {
            name: "shop".to_owned(),
            options: None,
        };
        let response = client(world).wait_service_pipeline_deployed(request).await;
        let mut wait = Wait::of(response.unwrap());
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        fail(world, "service/shop/service-instance/x").await;
        succeed(world, "service/shop/service-instance/x").await;
        let (told, _) = wait.rest().await;
        assert_eq!(told.last().unwrap(), "terminal CANCELLED", "{told:?}");
        assert!(!wait.terminal().success);
    }

    async fn an_instance_is_waited_for_by_both_its_names(world) {
        batch(world).await;
        let spec = job_spec(&[("eu", "prod", "batch:2")]);
        world.ok(update_instance("batch", "eu", Some(spec))).await;
        let request = pb::WaitServiceInstanceDeployedRequest {
            service_name: "batch".to_owned(),
            name: "eu".to_owned(),
            options: None,
        };
        let response = client(world).wait_service_instance_deployed(request).await;
        let mut wait = Wait::of(response.unwrap());
        assert_eq!(wait.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        world.step().await;
        let (told, _) = wait.rest().await;
        assert_eq!(told, ["IN_PROGRESS to SUCCEEDED", "terminal SUCCEEDED"]);
    }

    async fn a_watch_is_pinned_to_its_deployment_whatever_follows(world) {
        platform(world).await;
        let first = world.ok(redeploy("prod")).await.environment.unwrap();
        let id = first.last_attempted_deployment_id().to_owned();
        fail(world, "environment/prod").await;
        world.ok(redeploy("prod")).await;
        let request = pb::WatchDeploymentRequest { id, options: None };
        let response = client(world).watch_deployment(request).await;
        let (told, end) = Wait::of(response.unwrap()).rest().await;
        assert_eq!(told, ["snapshot FAILED", "terminal FAILED"]);
        assert!(end.is_ok(), "a watch tells, and does not fail");
    }

    async fn a_wait_goes_on_where_another_replica_closed_and_stays_with_its_deployment(world) {
        platform(world).await;
        world.ok(redeploy("prod")).await;
        let key = Key::random().unwrap();
        let mut first = Wait::of(
            client_with_key(world, key.clone())
                .wait_environment_deployed(deployed("prod"))
                .await
                .unwrap(),
        );
        assert_eq!(first.next().await.unwrap().unwrap(), "snapshot IN_PROGRESS");
        let token = first.events[0].resume_token.clone();
        drop(first);
        fail(world, "environment/prod").await;
        world.ok(redeploy("prod")).await;
        let mut request = deployed("prod");
        request.options = Some(pb::WaitOptions {
            resume_token: token,
            ..Default::default()
        });
        let response = client_with_key(world, key).wait_environment_deployed(request).await;
        let mut resumed = Wait::of(response.unwrap());
        let (told, _) = resumed.rest().await;
        assert_eq!(told, ["snapshot IN_PROGRESS", "superseded", "terminal FAILED"]);
        let numbers: Vec<_> = resumed.events.iter().map(|event| event.sequence).collect();
        assert_eq!(numbers, [2, 3, 4]);
    }

    async fn what_is_wrong_is_told_before_there_is_a_stream(world) {
        platform(world).await;
        let mut client = client(world);
        let refusal = client.wait_environment_deployed(deployed("nowhere")).await;
        assert_eq!(refusal.unwrap_err().code(), Code::NotFound);
        let refusal = client.wait_environment_deployed(deployed("no name")).await;
        assert_eq!(refusal.unwrap_err().code(), Code::InvalidArgument);
        let refusal = client
            .wait_service_instance_deployed(pb::WaitServiceInstanceDeployedRequest::default())
            .await
            .unwrap_err();
        let violations = refusal.get_details_bad_request().unwrap().field_violations;
        assert_eq!(violations.len(), 2, "{violations:?}");
        let mut hasty = deployed("prod");
        hasty.options = Some(pb::WaitOptions {
            heartbeat_interval: Some(prost_types::Duration { seconds: 0, nanos: 1 }),
            ..Default::default()
        });
        let refusal = client.wait_environment_deployed(hasty).await.unwrap_err();
        assert!(refusal.message().contains("heartbeat_interval"), "{refusal:?}");
        let mut of_prod = Wait::of(
            client.wait_environment_deployed(deployed("prod")).await.unwrap(),
        );
        of_prod.next().await.unwrap();
        let mut foreign = deployed("test");
        foreign.options = Some(pb::WaitOptions {
            resume_token: of_prod.events[0].resume_token.clone(),
            ..Default::default()
        });
        let refusal = client.wait_environment_deployed(foreign).await.unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument);
        assert!(refusal.message().contains("another wait"), "{refusal:?}");
    }
}
