//! Calls under an idempotency key: each takes effect once, also where Proton knows no token.

use std::time::Duration;

use proton_gateway::api::pb;

use crate::platform_fixtures::*;

const HOURS: Duration = Duration::from_secs(3600);

async fn deployments(world: &crate::support::World) -> usize {
    let listed = world.ok(pb::ListDeploymentsRequest::default()).await;
    listed.deployments.len()
}

fn redeploy(name: &str) -> pb::UpdateEnvironmentRequest {
    let mut request = pb::UpdateEnvironmentRequest {
        name: name.to_owned(),
        ..Default::default()
    };
    request.set_deployment_type(pb::DeploymentUpdateType::CurrentVersion);
    request
}

crate::conformance! {
    async fn an_update_that_is_sent_again_deploys_once(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.settle().await;
        let before = deployments(world).await;
        let (first, replayed) = world.keyed("ci", "k", redeploy("prod")).await.unwrap();
        assert!(!replayed);
        world.settle().await;
        let (second, replayed) = world.keyed("ci", "k", redeploy("prod")).await.unwrap();
        assert!(replayed);
        assert_eq!(second, first);
        assert_eq!(deployments(world).await, before + 1);
    }

    async fn a_key_belongs_to_its_caller_and_its_operation(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.settle().await;
        let before = deployments(world).await;
        for caller in ["ci", "cd"] {
            let (_, replayed) = world.keyed(caller, "k", redeploy("prod")).await.unwrap();
            assert!(!replayed, "{caller}");
            world.settle().await;
        }
        assert_eq!(deployments(world).await, before + 2);
        let request = new_environment("test");
        let (_, replayed) = world.keyed("ci", "k", request).await.unwrap();
        assert!(!replayed);
    }

    async fn a_key_with_another_request_is_refused(world) {
        world.keyed("ci", "k", new_environment_template("bus")).await.unwrap();
        let other = world.keyed("ci", "k", new_environment_template("tram")).await;
        assert_eq!(other.unwrap_err().message, "Idempotent parameter mismatch");
        world.fails(pb::GetEnvironmentTemplateRequest { name: "tram".to_owned() }).await
            .because("RESOURCE_NOT_FOUND");
    }

    async fn what_was_created_under_a_key_is_not_created_again_when_it_is_gone(world) {
        world.keyed("ci", "k", new_environment_template("bus")).await.unwrap();
        let delete = || pb::DeleteEnvironmentTemplateRequest { name: "bus".to_owned() };
        world.keyed("ci", "k", delete()).await.unwrap();
        let (_, replayed) = world.keyed("ci", "k", new_environment_template("bus")).await.unwrap();
        assert!(replayed);
        world.fails(pb::GetEnvironmentTemplateRequest { name: "bus".to_owned() }).await
            .because("RESOURCE_NOT_FOUND");
    }

    async fn a_refusal_is_told_again(world) {
        let update = || pb::UpdateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            description: some("d"),
            ..Default::default()
        };
        let first = world.keyed("ci", "k", update()).await.unwrap_err();
        assert!(first.is_not_found() && !first.replayed);
        world.ok(new_environment_template("bus")).await;
        let second = world.keyed("ci", "k", update()).await.unwrap_err();
        assert!(second.is_not_found() && second.replayed);
        let (_, replayed) = world.keyed("ci", "k2", update()).await.unwrap();
        assert!(!replayed);
    }

    async fn what_is_refused_because_a_deployment_runs_can_be_sent_again(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        let error = world.keyed("ci", "k", redeploy("prod")).await.unwrap_err();
        assert!(error.is_in_progress(), "{error:?}");
        world.settle().await;
        let (_, replayed) = world.keyed("ci", "k", redeploy("prod")).await.unwrap();
        assert!(!replayed);
    }

    async fn a_key_is_forgotten_after_eight_hours(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.settle().await;
        world.keyed("ci", "k", redeploy("prod")).await.unwrap();
        world.settle().await;
        world.clock.advance(8 * HOURS);
        let (_, replayed) = world.keyed("ci", "k", redeploy("prod")).await.unwrap();
        assert!(!replayed);
    }

    async fn calls_that_come_together_under_a_key_take_effect_once(world) {
        bus(world).await;
        world.ok(new_environment("prod")).await;
        world.settle().await;
        let before = deployments(world).await;
        let calls = (0..20).map(|_| world.keyed("ci", "k", redeploy("prod")));
        let outcomes = futures_util::future::join_all(calls).await;
        let first = outcomes.iter().flatten().filter(|(_, replayed)| !replayed);
        assert_eq!(first.count(), 1);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert_eq!(deployments(world).await, before + 1);
    }

    async fn a_key_on_a_read_changes_nothing(world) {
        world.ok(new_environment_template("bus")).await;
        let get = || pb::GetEnvironmentTemplateRequest { name: "bus".to_owned() };
        for _ in 0..2 {
            let (_, replayed) = world.keyed("ci", "k", get()).await.unwrap();
            assert!(!replayed);
        }
    }

    async fn a_client_token_that_an_sdk_makes_anew_does_not_make_another_request(world) {
        world.ok(new_environment_template("bus")).await;
        let request = |token: &str| pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some(token),
            ..new_environment_version("bus")
        };
        let (first, _) = world.keyed("ci", "k", request("t-1")).await.unwrap();
        let (second, replayed) = world.keyed("ci", "k", request("t-2")).await.unwrap();
        assert!(replayed);
        assert_eq!(second, first);
    }
}
