use std::time::Duration;

use proton_gateway::api::pb::{
    self, EnvironmentAccountConnectionRequesterAccountType as Side,
    EnvironmentAccountConnectionStatus as Status,
};

use crate::platform_fixtures::*;
use crate::support::{ACCOUNT, World};

fn which(id: &str) -> pb::GetEnvironmentAccountConnectionRequest {
    pb::GetEnvironmentAccountConnectionRequest { id: id.to_owned() }
}

async fn connection(world: &World, id: &str) -> pb::EnvironmentAccountConnection {
    let response = world.ok(which(id)).await;
    response.environment_account_connection.unwrap()
}

fn list() -> pb::ListEnvironmentAccountConnectionsRequest {
    pb::ListEnvironmentAccountConnectionsRequest {
        requested_by: Side::ManagementAccount.into(),
        ..Default::default()
    }
}

/// Names of the environments of the listed connections, sorted: ids, which they are listed by,
/// mean nothing.
async fn names(
    world: &World,
    request: pb::ListEnvironmentAccountConnectionsRequest,
) -> Vec<String> {
    let response = world.ok(request).await;
    let name = |connection: &pb::EnvironmentAccountConnectionSummary| {
        connection.environment_name().to_owned()
    };
    let mut names: Vec<_> = response
        .environment_account_connections
        .iter()
        .map(name)
        .collect();
    names.sort();
    names
}

/// An environment `prod` that is provisioned through the connection with this id.
async fn prod_through(world: &World, id: &str) {
    bus(world).await;
    world
        .ok(pb::CreateEnvironmentRequest {
            proton_service_role_arn: None,
            environment_account_connection_id: some(id),
            ..new_environment("prod")
        })
        .await;
    world.step().await;
}

crate::conformance! {
    async fn a_requested_connection_is_pending(world) {
        let created = world.ok(pb::CreateEnvironmentAccountConnectionRequest {
            codebuild_role_arn: some(OTHER_ROLE),
            ..new_connection("prod")
        }).await.environment_account_connection.unwrap();
        let id = created.id().to_owned();
        assert_eq!(created, pb::EnvironmentAccountConnection {
            arn: Some(arn(&format!("environment-account-connection/{id}"))),
            codebuild_role_arn: some(OTHER_ROLE),
            component_role_arn: None,
            environment_account_id: some(ACCOUNT),
            environment_name: some("prod"),
            id: some(&id),
            last_modified_at: after(0),
            management_account_id: some("210987654321"),
            requested_at: after(0),
            role_arn: some(ROLE),
            status: Status::Pending.into(),
        });
        assert_eq!(connection(world, &id).await, created);
    }

    async fn accepting_connects_and_accepting_again_changes_nothing(world) {
        let id = requested(world, "prod").await;
        world.step().await;
        let accepted = world.ok(accept(&id)).await.environment_account_connection.unwrap();
        assert_eq!(accepted.status(), Status::Connected);
        assert_eq!(accepted.requested_at, after(0));
        assert_eq!(accepted.last_modified_at, after(5));
        world.step().await;
        let again = world.ok(accept(&id)).await.environment_account_connection.unwrap();
        assert_eq!(again, accepted);
    }

    async fn a_rejection_is_final(world) {
        let id = requested(world, "prod").await;
        for _ in 0..2 {
            let rejected = world.ok(reject(&id)).await.environment_account_connection.unwrap();
            assert_eq!(rejected.status(), Status::Rejected);
        }
        world.fails(accept(&id)).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("rejected");
    }

    async fn a_connection_that_nothing_uses_can_still_be_rejected(world) {
        let id = connected(world, "prod").await;
        world.ok(reject(&id)).await;
        assert_eq!(connection(world, &id).await.status(), Status::Rejected);
    }

    async fn a_connection_that_an_environment_uses_is_not_rejected(world) {
        let id = connected(world, "prod").await;
        prod_through(world, &id).await;
        world.fails(reject(&id)).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("used by an environment");
        assert_eq!(connection(world, &id).await.status(), Status::Connected);
    }

    async fn an_update_changes_the_roles_it_mentions(world) {
        let id = requested(world, "prod").await;
        world.step().await;
        let updated = world.ok(pb::UpdateEnvironmentAccountConnectionRequest {
            id: id.clone(),
            component_role_arn: some(OTHER_ROLE),
            ..Default::default()
        }).await.environment_account_connection.unwrap();
        assert_eq!(updated.role_arn(), ROLE);
        assert_eq!(updated.component_role_arn(), OTHER_ROLE);
        assert_eq!(updated.last_modified_at, after(5));
        assert_eq!(connection(world, &id).await, updated);
    }

    async fn a_connection_is_deleted_once_and_deleting_it_again_is_an_empty_success(world) {
        let id = requested(world, "prod").await;
        let deleted = world.ok(disconnect(&id)).await.environment_account_connection.unwrap();
        assert_eq!(deleted.id(), id);
        world.fails(which(&id)).await.is("ResourceNotFoundException").says(&id);
        assert_eq!(world.ok(disconnect(&id)).await.environment_account_connection, None);
    }

    async fn a_connection_can_be_deleted_although_an_environment_uses_it(world) {
        let id = connected(world, "prod").await;
        prod_through(world, &id).await;
        let deleted = world.ok(disconnect(&id)).await.environment_account_connection.unwrap();
        assert_eq!(deleted.status(), Status::Connected);
        assert_eq!(environment(world, "prod").await.environment_account_connection_id(), id);
    }

    async fn there_is_one_connection_for_an_environment(world) {
        let id = connected(world, "prod").await;
        world.fails(new_connection("prod")).await
            .is("ConflictException").because("ALREADY_EXISTS").says(&id);
        world.ok(new_connection("test")).await;
    }

    async fn a_rejected_connection_stands_in_nobodys_way(world) {
        let id = requested(world, "prod").await;
        world.ok(reject(&id)).await;
        assert_ne!(requested(world, "prod").await, id);
    }

    async fn connections_are_filtered_by_status_and_by_environment(world) {
        requested(world, "dev").await;
        connected(world, "prod").await;
        connected(world, "test").await;
        let of = |name: Option<&str>, statuses: &[Status]| pb::ListEnvironmentAccountConnectionsRequest {
            environment_name: name.map(str::to_owned),
            statuses: statuses.iter().copied().map(i32::from).collect(),
            ..list()
        };
        assert_eq!(names(world, list()).await, ["dev", "prod", "test"]);
        assert_eq!(names(world, of(None, &[Status::Connected])).await, ["prod", "test"]);
        assert_eq!(names(world, of(Some("dev"), &[])).await, ["dev"]);
        assert_eq!(names(world, of(Some("dev"), &[Status::Connected, Status::Rejected])).await, [""; 0]);
    }

    async fn connections_are_listed_in_pages(world) {
        for name in ["a", "b", "c"] {
            requested(world, name).await;
        }
        let page = |next_token| pb::ListEnvironmentAccountConnectionsRequest {
            max_results: Some(2),
            next_token,
            ..list()
        };
        let first = world.ok(page(None)).await;
        let second = world.ok(page(first.next_token)).await;
        assert_eq!(second.next_token, None);
        let mut seen: Vec<_> = first.environment_account_connections.iter()
            .chain(&second.environment_account_connections)
            .map(|connection| connection.environment_name().to_owned())
            .collect();
        seen.sort();
        assert_eq!(seen, ["a", "b", "c"]);
    }

    async fn a_token_returns_the_original_for_eight_hours(world) {
        let request = |role| pb::CreateEnvironmentAccountConnectionRequest {
            client_token: some("t-1"),
            role_arn: some(role),
            ..new_connection("prod")
        };
        let first = world.ok(request(ROLE)).await;
        assert_eq!(world.ok(request(ROLE)).await, first);
        world.fails(request(OTHER_ROLE)).await
            .is("ValidationException").because("IDEMPOTENCY_MISMATCH");
        world.clock.advance(Duration::from_secs(8 * 3600));
        world.fails(request(ROLE)).await.is("ConflictException").because("ALREADY_EXISTS");
    }

    async fn what_does_not_exist_cannot_be_read_updated_accepted_or_rejected(world) {
        world.fails(which(NO_ID)).await.is("ResourceNotFoundException").says(NO_ID);
        world.fails(accept(NO_ID)).await.is("ResourceNotFoundException").says(NO_ID);
        world.fails(reject(NO_ID)).await.is("ResourceNotFoundException").says(NO_ID);
        world.fails(pb::UpdateEnvironmentAccountConnectionRequest {
            id: NO_ID.to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException").says(NO_ID);
    }

    async fn ids_accounts_and_the_side_are_checked(world) {
        world.fails(which("prod")).await.is("ValidationException").says("'id'");
        world.fails(pb::CreateEnvironmentAccountConnectionRequest {
            management_account_id: "42".to_owned(),
            ..new_connection("prod")
        }).await.is("ValidationException").says("'managementAccountId'");
        world.fails(pb::ListEnvironmentAccountConnectionsRequest::default()).await
            .is("ValidationException").says("'requestedBy'");
    }
}
