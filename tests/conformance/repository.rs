use proton_gateway::api::pb::{self, RepositoryProvider as Provider, TemplateType};

use crate::platform_fixtures::*;
use crate::support::World;

fn which(name: &str) -> pb::GetRepositoryRequest {
    pb::GetRepositoryRequest {
        name: name.to_owned(),
        provider: Provider::Github.into(),
    }
}

/// A repository that something uses is not unlinked.
async fn is_in_use(world: &World, by: &str) {
    world
        .fails(delete_repository(REPOSITORY))
        .await
        .is("ConflictException")
        .because("PRECONDITION_FAILED")
        .says(by);
}

crate::conformance! {
    async fn a_repository_is_registered_under_its_provider_and_name(world) {
        let created = world.ok(pb::CreateRepositoryRequest {
            encryption_key: some("arn:aws:kms:us-east-1:123456789012:key/1"),
            ..new_repository(REPOSITORY)
        }).await.repository.unwrap();
        assert_eq!(created, pb::Repository {
            arn: Some(arn("repository/github:acme/infrastructure")),
            connection_arn: some(CODE_CONNECTION),
            encryption_key: some("arn:aws:kms:us-east-1:123456789012:key/1"),
            name: some(REPOSITORY),
            provider: Provider::Github.into(),
        });
        assert_eq!(world.ok(which(REPOSITORY)).await.repository, Some(created));
    }

    async fn the_same_create_again_returns_the_original(world) {
        let first = world.ok(new_repository(REPOSITORY)).await;
        assert_eq!(world.ok(new_repository(REPOSITORY)).await, first);
    }

    async fn another_create_of_the_same_name_is_a_conflict(world) {
        repository(world, REPOSITORY).await;
        world.fails(pb::CreateRepositoryRequest {
            connection_arn: format!("{CODE_CONNECTION}0"),
            ..new_repository(REPOSITORY)
        }).await.is("ConflictException").because("ALREADY_EXISTS").says("repository/github:acme/infrastructure");
    }

    async fn the_same_name_elsewhere_is_another_repository(world) {
        repository(world, REPOSITORY).await;
        let elsewhere = world.ok(pb::CreateRepositoryRequest {
            provider: Provider::Bitbucket.into(),
            ..new_repository(REPOSITORY)
        }).await.repository.unwrap();
        assert_eq!(elsewhere.arn(), arn("repository/bitbucket:acme/infrastructure"));
        world.ok(delete_repository(REPOSITORY)).await;
        world.fails(which(REPOSITORY)).await.is("ResourceNotFoundException");
    }

    async fn repositories_are_listed_by_name_in_pages(world) {
        for name in ["acme/c", "acme/a", "acme/b"] {
            repository(world, name).await;
        }
        let page = |next_token| pb::ListRepositoriesRequest {
            max_results: Some(2),
            next_token,
        };
        let names = |page: &pb::ListRepositoriesResponse| -> Vec<String> {
            page.repositories.iter().map(|repository| repository.name().to_owned()).collect()
        };
        let first = world.ok(page(None)).await;
        assert_eq!(names(&first), ["acme/a", "acme/b"]);
        assert_eq!(first.repositories[0].connection_arn(), CODE_CONNECTION);
        let second = world.ok(page(first.next_token)).await;
        assert_eq!(names(&second), ["acme/c"]);
        assert_eq!(second.next_token, None);
    }

    async fn a_repository_is_unlinked_once_and_unlinking_it_again_is_an_empty_success(world) {
        repository(world, REPOSITORY).await;
        let deleted = world.ok(delete_repository(REPOSITORY)).await.repository.unwrap();
        assert_eq!(deleted.name(), REPOSITORY);
        world.fails(which(REPOSITORY)).await.is("ResourceNotFoundException").says(REPOSITORY);
        assert_eq!(world.ok(delete_repository(REPOSITORY)).await.repository, None);
    }

    async fn a_repository_of_an_environment_is_not_unlinked(world) {
        storage(world).await;
        world.ok(new_storage("files")).await;
        is_in_use(world, "an environment").await;
    }

    async fn a_repository_of_the_account_settings_is_not_unlinked(world) {
        repository(world, REPOSITORY).await;
        world.ok(pb::UpdateAccountSettingsRequest {
            pipeline_provisioning_repository: Some(branch(REPOSITORY)),
            ..Default::default()
        }).await;
        is_in_use(world, "the account settings").await;
    }

    async fn a_repository_that_a_template_is_synced_from_is_not_unlinked(world) {
        repository(world, REPOSITORY).await;
        world.ok(new_environment_template("bus")).await;
        world.ok(new_template_sync("bus")).await;
        is_in_use(world, "a template sync config").await;
        world.ok(pb::DeleteTemplateSyncConfigRequest {
            template_name: "bus".to_owned(),
            template_type: TemplateType::Environment.into(),
        }).await;
        world.ok(delete_repository(REPOSITORY)).await;
    }

    async fn a_repository_that_a_service_is_synced_from_is_not_unlinked(world) {
        mailer(world).await;
        repository(world, REPOSITORY).await;
        world.ok(new_service_sync("mailer")).await;
        is_in_use(world, "a service sync config").await;
        world.ok(pb::DeleteServiceSyncConfigRequest { service_name: "mailer".to_owned() }).await;
        world.ok(delete_repository(REPOSITORY)).await;
    }

    async fn a_name_has_an_owner_and_a_provider_is_required(world) {
        world.fails(new_repository("infrastructure")).await.is("ValidationException").says("'name'");
        world.fails(pb::CreateRepositoryRequest {
            provider: 0,
            ..new_repository(REPOSITORY)
        }).await.is("ValidationException").says("'provider'");
        world.fails(pb::CreateRepositoryRequest {
            connection_arn: String::new(),
            ..new_repository(REPOSITORY)
        }).await.is("ValidationException").says("'connectionArn'");
    }
}
