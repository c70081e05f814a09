use proton_gateway::api::pb::{self, RepositoryProvider as Provider, SyncType, TemplateType};

use crate::platform_fixtures::*;
use crate::support::World;

/// The environment template `bus` and the repository.
async fn template(world: &World) {
    world.ok(new_environment_template("bus")).await;
    repository(world, REPOSITORY).await;
}

fn which(template: &str) -> pb::GetTemplateSyncConfigRequest {
    pb::GetTemplateSyncConfigRequest {
        template_name: template.to_owned(),
        template_type: TemplateType::Environment.into(),
    }
}

fn update(branch: &str) -> pb::UpdateTemplateSyncConfigRequest {
    pb::UpdateTemplateSyncConfigRequest {
        branch: branch.to_owned(),
        repository_name: REPOSITORY.to_owned(),
        repository_provider: Provider::Github.into(),
        subdirectory: None,
        template_name: "bus".to_owned(),
        template_type: TemplateType::Environment.into(),
    }
}

fn delete() -> pb::DeleteTemplateSyncConfigRequest {
    pb::DeleteTemplateSyncConfigRequest {
        template_name: "bus".to_owned(),
        template_type: TemplateType::Environment.into(),
    }
}

fn status(template: &str) -> pb::GetTemplateSyncStatusRequest {
    pb::GetTemplateSyncStatusRequest {
        template_name: template.to_owned(),
        template_type: TemplateType::Environment.into(),
        template_version: "1".to_owned(),
    }
}

crate::conformance! {
    async fn a_template_follows_a_branch_of_a_repository(world) {
        template(world).await;
        let created = world.ok(pb::CreateTemplateSyncConfigRequest {
            subdirectory: some("templates"),
            ..new_template_sync("bus")
        }).await.template_sync_config.unwrap();
        assert_eq!(created, pb::TemplateSyncConfig {
            branch: some("main"),
            repository_name: some(REPOSITORY),
            repository_provider: Provider::Github.into(),
            subdirectory: some("templates"),
            template_name: some("bus"),
            template_type: TemplateType::Environment.into(),
        });
        assert_eq!(world.ok(which("bus")).await.template_sync_config, Some(created));
    }

    async fn the_same_create_again_returns_the_original_and_another_is_a_conflict(world) {
        template(world).await;
        let first = world.ok(new_template_sync("bus")).await;
        assert_eq!(world.ok(new_template_sync("bus")).await, first);
        world.fails(pb::CreateTemplateSyncConfigRequest {
            branch: "next".to_owned(),
            ..new_template_sync("bus")
        }).await.is("ConflictException").because("ALREADY_EXISTS").says("template-sync-config");
    }

    async fn the_repository_and_the_template_must_exist(world) {
        world.ok(new_environment_template("bus")).await;
        world.fails(new_template_sync("bus")).await
            .is("ValidationException").says(REPOSITORY);
        repository(world, REPOSITORY).await;
        world.fails(pb::CreateTemplateSyncConfigRequest {
            template_type: TemplateType::Service.into(),
            ..new_template_sync("bus")
        }).await.is("ValidationException").says("service-template");
    }

    async fn an_update_replaces_the_whole_configuration(world) {
        template(world).await;
        world.ok(pb::CreateTemplateSyncConfigRequest {
            subdirectory: some("templates"),
            ..new_template_sync("bus")
        }).await;
        let updated = world.ok(update("next")).await.template_sync_config.unwrap();
        assert_eq!(updated.branch(), "next");
        assert_eq!(updated.subdirectory, None);
        assert_eq!(world.ok(which("bus")).await.template_sync_config, Some(updated));
    }

    async fn a_configuration_is_deleted_once_and_deleting_it_again_is_an_empty_success(world) {
        template(world).await;
        world.ok(new_template_sync("bus")).await;
        let deleted = world.ok(delete()).await.template_sync_config.unwrap();
        assert_eq!(deleted.template_name(), "bus");
        world.fails(which("bus")).await.is("ResourceNotFoundException");
        assert_eq!(world.ok(delete()).await.template_sync_config, None);
    }

    async fn what_does_not_exist_cannot_be_read_or_updated(world) {
        template(world).await;
        world.fails(which("bus")).await.is("ResourceNotFoundException").says("template sync config does not exist: bus");
        world.fails(status("bus")).await.is("ResourceNotFoundException").says("bus");
        world.fails(update("main")).await.is("ResourceNotFoundException").says("bus");
        world.ok(new_template_sync("bus")).await;
        world.fails(pb::UpdateTemplateSyncConfigRequest {
            repository_name: "acme/nothing".to_owned(),
            ..update("main")
        }).await.is("ResourceNotFoundException").says("acme/nothing");
    }

    async fn a_template_that_was_not_synced_yet_has_no_attempt(world) {
        template(world).await;
        world.ok(new_template_sync("bus")).await;
        let status = world.ok(status("bus")).await;
        assert_eq!(status.latest_sync, None);
        assert_eq!(status.latest_successful_sync, None);
    }

    async fn what_is_synced_from_a_repository_is_listed(world) {
        template(world).await;
        world.ok(new_service_template("worker")).await;
        world.ok(new_template_sync("bus")).await;
        world.ok(pb::CreateTemplateSyncConfigRequest {
            branch: "next".to_owned(),
            subdirectory: some("services"),
            template_type: TemplateType::Service.into(),
            ..new_template_sync("worker")
        }).await;
        assert_eq!(synced(world, SyncType::TemplateSync).await, ["bus: / on main", "worker: services on next"]);
        assert_eq!(synced(world, SyncType::ServiceSync).await, [""; 0]);
    }

    async fn nothing_is_synced_from_a_repository_that_is_not_registered(world) {
        assert_eq!(synced(world, SyncType::TemplateSync).await, [""; 0]);
        world.fails(repository_sync("main", SyncType::TemplateSync)).await
            .is("ResourceNotFoundException").says(REPOSITORY);
    }

    async fn the_state_of_a_branch_is_known_where_something_is_synced_from_it(world) {
        template(world).await;
        world.ok(new_template_sync("bus")).await;
        let status = world.ok(repository_sync("main", SyncType::TemplateSync)).await;
        assert_eq!(status.latest_sync, None);
        world.fails(repository_sync("next", SyncType::TemplateSync)).await
            .is("ResourceNotFoundException").says("next");
        world.fails(repository_sync("main", SyncType::ServiceSync)).await
            .is("ResourceNotFoundException").says("main");
    }

    async fn all_parts_of_the_address_are_required(world) {
        world.fails(pb::CreateTemplateSyncConfigRequest::default()).await.is("ValidationException")
            .says("'branch'").says("'repositoryName'").says("'repositoryProvider'").says("'templateName'").says("'templateType'");
        world.fails(pb::GetRepositorySyncStatusRequest::default()).await
            .is("ValidationException").says("'syncType'");
        world.fails(pb::ListRepositorySyncDefinitionsRequest::default()).await
            .is("ValidationException").says("'repositoryName'");
    }
}
