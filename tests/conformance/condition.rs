//! Versions of resources, and mutations that are held to one.

use futures_util::future::join_all;
use proton_gateway::api::pb::{self, DeploymentUpdateType as Mode};
use proton_gateway::api::{Operation, Request, Typed};
use proton_gateway::edge::Arrival;
use proton_gateway::error::Error;
use proton_gateway::etag::{Etag, Expected};
use proton_gateway::gateway::{Call, Door};
use tower::ServiceExt;

use crate::platform_fixtures::*;
use crate::service_fixtures;
use crate::support::{Refusal, World};

/// What a caller sees of `prod`.
async fn seen(world: &World) -> Etag {
    etag(world, which_environment("prod")).await
}

async fn etag<T: Typed>(world: &World, read: T) -> Etag {
    let (_, etag) = world.expecting(read, Expected::Any).await.unwrap();
    etag.expect("a version")
}

fn described(description: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        description: some(description),
        ..update_environment("prod", Mode::None)
    }
}

fn redeployed(spec: &str) -> pb::UpdateEnvironmentRequest {
    pb::UpdateEnvironmentRequest {
        spec: some(spec),
        ..update_environment("prod", Mode::CurrentVersion)
    }
}

async fn expecting<T: Typed>(world: &World, request: T, seen: Etag) -> Result<T::Response, Error> {
    let answer = world.expecting(request, Expected::This(seen)).await;
    answer.map(|(response, _)| response)
}

/// Makes a call that must fail because it has seen another state, and returns the present one.
async fn mismatched<T: Typed>(world: &World, request: T, seen: Etag) -> Etag {
    let error = expecting(world, request, seen).await.err().unwrap();
    Refusal::of(&error)
        .is("ConflictException")
        .because("VERSION_MISMATCH")
        .says("nothing was changed");
    error.current_version().expect("the present version")
}

crate::conformance! {
    async fn an_update_with_the_version_that_was_read_is_applied(world) {
        prod(world).await;
        let seen = seen(world).await;
        expecting(world, described("Other"), seen).await.unwrap();
        assert_eq!(environment(world, "prod").await.description(), "Other");
    }

    async fn an_update_with_an_older_version_changes_nothing_and_is_told_the_present_one(world) {
        prod(world).await;
        let old = seen(world).await;
        world.ok(described("Other")).await;
        let present = mismatched(world, described("Mine"), old).await;
        assert_eq!(present, seen(world).await);
        assert_eq!(environment(world, "prod").await.description(), "Other");
        let present = mismatched(world, redeployed(OTHER_SPEC), old).await;
        expecting(world, redeployed(OTHER_SPEC), present).await.unwrap();
    }

    async fn of_fifty_updates_with_the_same_version_exactly_one_is_applied(world) {
        prod(world).await;
        let seen = seen(world).await;
        let names: Vec<_> = (0..50).map(|number| number.to_string()).collect();
        let calls = names.iter().map(|name| expecting(world, described(name), seen));
        let outcomes = join_all(calls).await;
        let applied: Vec<_> = names
            .iter()
            .zip(&outcomes)
            .filter_map(|(name, outcome)| outcome.is_ok().then_some(name.as_str()))
            .collect();
        assert_eq!(applied, [environment(world, "prod").await.description()]);
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            Refusal::of(error).because("VERSION_MISMATCH");
        }
    }

    async fn of_twenty_that_read_and_write_again_until_they_are_applied_none_is_lost(world) {
        prod(world).await;
        world.ok(described("0")).await;
        join_all((0..20).map(|_| async {
            loop {
                let (response, seen) = world
                    .expecting(which_environment("prod"), Expected::Any)
                    .await
                    .unwrap();
                let count: usize = response.environment.unwrap().description().parse().unwrap();
                let next = described(&(count + 1).to_string());
                match expecting(world, next, seen.unwrap()).await {
                    Ok(_) => break,
                    Err(error) => drop(Refusal::of(&error).because("VERSION_MISMATCH")),
                }
            }
        }))
        .await;
        assert_eq!(environment(world, "prod").await.description(), "20");
    }

    async fn a_version_is_the_same_between_reads_and_in_the_answer_that_made_it(world) {
        prod(world).await;
        let before = seen(world).await;
        assert_eq!(seen(world).await, before);
        let (_, made) = world.expecting(described("Other"), Expected::Any).await.unwrap();
        assert_ne!(made, Some(before));
        assert_eq!(made, Some(seen(world).await));
        let (_, begun) = world.expecting(redeployed(OTHER_SPEC), Expected::Any).await.unwrap();
        assert_ne!(begun, made);
        assert_eq!(begun, Some(seen(world).await));
    }

    async fn an_update_that_changes_nothing_makes_no_new_version(world) {
        prod(world).await;
        world.ok(described("Same")).await;
        let before = seen(world).await;
        world.ok(described("Same")).await;
        assert_eq!(seen(world).await, before);
    }

    async fn a_deployment_makes_a_new_version_when_it_begins_and_when_it_succeeds(world) {
        prod(world).await;
        let before = seen(world).await;
        world.ok(redeployed(OTHER_SPEC)).await;
        let begun = seen(world).await;
        world.step().await;
        let ended = seen(world).await;
        assert_ne!(begun, before);
        assert_ne!(ended, begun);
        mismatched(world, described("Mine"), begun).await;
    }

    async fn one_that_is_cancelled_leaves_the_version_with_which_it_began(world) {
        prod(world).await;
        world.ok(redeployed(OTHER_SPEC)).await;
        let begun = seen(world).await;
        let cancelled = world.expecting(cancel_environment("prod"), Expected::This(begun)).await;
        assert_eq!(cancelled.unwrap().1, Some(begun));
        world.step().await;
        assert_eq!(seen(world).await, begun);
        expecting(world, described("Other"), begun).await.unwrap();
    }

    async fn a_refused_update_makes_no_new_version(world) {
        prod(world).await;
        let before = seen(world).await;
        let bad = redeployed("proton: EnvironmentSpec\nspec: {owner: 7, nothing: 1}\n");
        let refused = expecting(world, bad, before).await.unwrap_err();
        Refusal::of(&refused).is("ValidationException");
        assert_eq!(seen(world).await, before);
    }

    async fn what_does_not_exist_is_not_found_whatever_was_expected(world) {
        let seen = "AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap();
        let error = expecting(world, described("Other"), seen).await.unwrap_err();
        Refusal::of(&error).is("ResourceNotFoundException");
        assert_eq!(error.current_version(), None);
    }

    async fn a_delete_is_held_to_a_version_as_well(world) {
        prod(world).await;
        let old = seen(world).await;
        world.ok(described("Other")).await;
        mismatched(world, delete_environment("prod"), old).await;
        let present = seen(world).await;
        expecting(world, delete_environment("prod"), present).await.unwrap();
        world.settle().await;
        world.fails(which_environment("prod")).await.is("ResourceNotFoundException");
    }

    async fn a_service_has_one_version_with_its_pipeline(world) {
        service_fixtures::shop(world).await;
        world.settle().await;
        let read = || pb::GetServiceRequest { name: "shop".to_owned() };
        let old = etag(world, read()).await;
        let instances = [("eu", "prod", "shop:1"), ("us", "prod", "shop:1")];
        let spec = || service_fixtures::web_spec("make check", &instances);
        let update = || service_fixtures::update_pipeline("shop", spec());
        let (_, made) = world.expecting(update(), Expected::This(old)).await.unwrap();
        // It answers with the pipeline alone.
        assert_eq!(made, None);
        world.settle().await;
        let present = mismatched(world, update(), old).await;
        assert_eq!(present, etag(world, read()).await);
        mismatched(world, service_fixtures::delete_service("shop"), old).await;
    }

    async fn reads_and_what_has_no_subject_take_no_version(world) {
        prod(world).await;
        let seen = seen(world).await;
        let read = expecting(world, which_environment("prod"), seen).await.err().unwrap();
        let create = expecting(world, new_environment("test"), seen).await.err().unwrap();
        for error in [read, create] {
            Refusal::of(&error).is("ValidationException").says("expected-version");
        }
    }

    /// Whether the engine is asked itself, or over the wire.
    async fn a_state_has_the_same_version_however_it_was_read(world) {
        service_fixtures::shop(world).await;
        let connection = requested(world, "elsewhere").await;
        repository(world, REPOSITORY).await;
        let environments = world.ok(pb::ListEnvironmentsRequest::default()).await.environments;
        let environment = environments.first().unwrap();
        let deployment = environment.last_attempted_deployment_id().to_owned();
        let template = environment.template_name().to_owned();
        let instances = service_fixtures::instances(world, "shop").await;
        let instance = instances.first().unwrap();
        let name = "shop".to_owned();
        let reads = [
            which_environment(environment.name()).into_request(),
            pb::GetEnvironmentTemplateRequest { name: template.clone() }.into_request(),
            which_environment_version(&template, "1.0").into_request(),
            pb::GetServiceRequest { name }.into_request(),
            service_fixtures::get_instance("shop", instance).into_request(),
            pb::GetDeploymentRequest { id: deployment, ..Default::default() }.into_request(),
            pb::GetEnvironmentAccountConnectionRequest { id: connection }.into_request(),
            pb::GetRepositoryRequest {
                name: REPOSITORY.to_owned(),
                provider: pb::RepositoryProvider::Github.into(),
            }.into_request(),
            pb::GetAccountSettingsRequest {}.into_request(),
        ];
        for progress in 0..2 {
            for read in &reads {
                let call = |read: &Request| Call::new(read.clone(), Door::Grpc, &Arrival::default());
                let through = world.gateway.call(call(read)).await;
                let through = through.unwrap_or_else(|error| panic!("{read:?}: {error:?}"));
                let direct = world.engine.clone().oneshot(call(read)).await.unwrap();
                assert_eq!(through.etag, Etag::of(&direct.response), "{progress} {read:?}");
                assert!(through.etag.is_some(), "{read:?}");
            }
            world.settle().await;
        }
    }
}

#[test]
fn all_reads_of_one_resource_that_is_changed_have_versions() {
    let subjects = Operation::ALL
        .into_iter()
        .filter_map(|operation| operation.policy().subject.as_ref());
    let mut reads: Vec<_> = subjects.map(|subject| subject.read.name()).collect();
    reads.sort_unstable();
    reads.dedup();
    assert_eq!(reads.len(), 14, "{reads:?}");
}
