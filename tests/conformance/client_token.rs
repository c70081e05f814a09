//! What client tokens have in common; the rest stands with the operations that take them.

use proton_gateway::api::pb;

use crate::platform_fixtures::*;
use crate::service_fixtures;
use crate::support::{Backend, World};

crate::conformance! {
    async fn a_token_does_not_return_a_later_version_of_the_same_number(world) {
        let request = || pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_environment_version("bus")
        };
        world.ok(new_environment_template("bus")).await;
        registered(world, request()).await;
        world.ok(delete_environment_version("bus", "1.0")).await;
        world.ok(pb::DeleteEnvironmentTemplateRequest { name: "bus".to_owned() }).await;
        world.ok(new_environment_template("bus")).await;
        world.ok(new_environment_version("bus")).await;
        let made = world.ok(request()).await.environment_template_version.unwrap();
        assert_eq!(made.major_version(), "2");
    }

    async fn a_token_does_not_return_a_later_component_of_the_same_name(world) {
        bus(world).await;
        world.ok(pb::CreateEnvironmentRequest {
            component_role_arn: some(ROLE),
            ..new_environment("prod")
        }).await;
        world.step().await;
        let request = || pb::CreateComponentRequest {
            client_token: some("t-1"),
            ..new_component("cache", "prod")
        };
        world.ok(request()).await;
        world.step().await;
        world.ok(pb::DeleteComponentRequest { name: "cache".to_owned() }).await;
        world.step().await;
        world.ok(new_component("cache", "prod")).await;
        world.fails(request()).await.is("ConflictException").because("ALREADY_EXISTS");
    }

    async fn a_token_whose_connection_was_deleted_can_be_used_for_another(world) {
        let request = |environment: &str| pb::CreateEnvironmentAccountConnectionRequest {
            client_token: some("t-1"),
            ..new_connection(environment)
        };
        let first = world.ok(request("prod")).await.environment_account_connection.unwrap();
        world.ok(disconnect(first.id())).await;
        let second = world.ok(request("test")).await.environment_account_connection.unwrap();
        assert_eq!(second.environment_name(), "test");
    }

    async fn a_token_belongs_to_one_operation(world) {
        bus(world).await;
        worker_template(world).await;
        world.ok(pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_environment_version("bus")
        }).await;
        world.ok(pb::CreateServiceTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_service_version("worker")
        }).await;
    }

    async fn tokens_are_told_apart_by_case(world) {
        let request = |token: &str, environment: &str| pb::CreateEnvironmentAccountConnectionRequest {
            client_token: some(token),
            ..new_connection(environment)
        };
        world.ok(request("token", "prod")).await;
        world.ok(request("TOKEN", "test")).await;
    }

    async fn an_empty_token_is_none(world) {
        world.ok(new_environment_template("bus")).await;
        let request = || pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some(""),
            ..new_environment_version("bus")
        };
        world.ok(request()).await;
        let second = world.ok(request()).await.environment_template_version.unwrap();
        assert_eq!(second.major_version(), "2");
    }

    async fn an_empty_token_is_not_shown(world) {
        service_fixtures::batch(world).await;
        let created = world.ok(pb::CreateServiceInstanceRequest {
            client_token: some(""),
            ..service_fixtures::add_instance("us")
        }).await;
        assert_eq!(created.service_instance.unwrap().last_client_request_token, None);
        let created = world.ok(pb::CreateComponentRequest {
            client_token: some(""),
            ..service_fixtures::create_component("cache")
        }).await;
        assert_eq!(created.component.unwrap().last_client_request_token, None);
    }

    async fn tokens_are_short_and_printable(world) {
        for token in ["a b", "\u{e9}", &"a".repeat(65)] {
            world.fails(pb::CreateEnvironmentTemplateVersionRequest {
                client_token: some(token),
                ..new_environment_version("bus")
            }).await.is("ValidationException").says("'clientToken'");
        }
    }
}

/// API Reference: the last client request token received.
/// Not through AWS's SDK, which makes a token of its own where there is none.
#[tokio::test]
async fn the_last_token_is_shown_until_another_is_received() {
    let world = &World::over(Backend::InMemory).await;
    service_fixtures::attached(world).await;
    for (token, shown) in [
        (Some("t-1"), "t-1"),
        (None, "t-1"),
        (Some(""), "t-1"),
        (Some("t-2"), "t-2"),
    ] {
        let client_token = token.map(str::to_owned);
        world
            .ok(pb::UpdateServiceInstanceRequest {
                client_token: client_token.clone(),
                ..service_fixtures::update_instance("batch", "eu", None)
            })
            .await;
        world.step().await;
        let instance = service_fixtures::instance(world, "batch", "eu").await;
        assert_eq!(instance.last_client_request_token(), shown, "{token:?}");
        world
            .ok(pb::UpdateComponentRequest {
                client_token,
                ..service_fixtures::update_component("cache")
            })
            .await;
        world.step().await;
        let component = service_fixtures::component(world, "cache").await;
        assert_eq!(component.last_client_request_token(), shown, "{token:?}");
    }
}
