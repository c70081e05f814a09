use proton_gateway::api::pb::{self, RepositoryProvider as Provider, SyncType};

use crate::platform_fixtures::*;
use crate::support::World;

/// The service `mailer` and the repository.
async fn service(world: &World) {
    mailer(world).await;
    repository(world, REPOSITORY).await;
}

fn which() -> pb::GetServiceSyncConfigRequest {
    pb::GetServiceSyncConfigRequest {
        service_name: "mailer".to_owned(),
    }
}

fn update(repository: &str) -> pb::UpdateServiceSyncConfigRequest {
    pb::UpdateServiceSyncConfigRequest {
        branch: "next".to_owned(),
        file_path: "ops.yaml".to_owned(),
        repository_name: repository.to_owned(),
        repository_provider: Provider::Github.into(),
        service_name: "mailer".to_owned(),
    }
}

fn delete() -> pb::DeleteServiceSyncConfigRequest {
    pb::DeleteServiceSyncConfigRequest {
        service_name: "mailer".to_owned(),
    }
}

crate::conformance! {
    async fn a_service_follows_a_file_of_a_repository(world) {
        service(world).await;
        let created = world.ok(new_service_sync("mailer")).await.service_sync_config.unwrap();
        assert_eq!(created, pb::ServiceSyncConfig {
            branch: some("main"),
            file_path: some("services/ops.yaml"),
            repository_name: some(REPOSITORY),
            repository_provider: Provider::Github.into(),
            service_name: some("mailer"),
        });
        assert_eq!(world.ok(which()).await.service_sync_config, Some(created));
    }

    async fn the_same_create_again_returns_the_original_and_another_is_a_conflict(world) {
        service(world).await;
        let first = world.ok(new_service_sync("mailer")).await;
        assert_eq!(world.ok(new_service_sync("mailer")).await, first);
        world.fails(pb::CreateServiceSyncConfigRequest {
            branch: "next".to_owned(),
            ..new_service_sync("mailer")
        }).await.is("ConflictException").because("ALREADY_EXISTS").says("service-sync-config/mailer");
    }

    async fn the_repository_and_the_service_must_exist(world) {
        world.fails(new_service_sync("mailer")).await.is("ValidationException").says(REPOSITORY);
        repository(world, REPOSITORY).await;
        world.fails(new_service_sync("mailer")).await.is("ValidationException").says("service_name");
    }

    async fn an_update_replaces_the_configuration(world) {
        service(world).await;
        world.ok(new_service_sync("mailer")).await;
        let updated = world.ok(update(REPOSITORY)).await.service_sync_config.unwrap();
        assert_eq!((updated.branch(), updated.file_path()), ("next", "ops.yaml"));
        assert_eq!(world.ok(which()).await.service_sync_config, Some(updated));
        world.fails(update("acme/nothing")).await.is("ResourceNotFoundException").says("acme/nothing");
    }

    async fn deleting_a_configuration_leaves_the_service_alone(world) {
        service(world).await;
        world.ok(new_service_sync("mailer")).await;
        let deleted = world.ok(delete()).await.service_sync_config.unwrap();
        assert_eq!(deleted.service_name(), "mailer");
        assert_eq!(world.ok(delete()).await.service_sync_config, None);
        let service = world.ok(pb::GetServiceRequest { name: "mailer".to_owned() }).await;
        assert_eq!(service.service.unwrap().status(), pb::ServiceStatus::Active);
    }

    async fn the_configuration_goes_with_its_service(world) {
        service(world).await;
        world.ok(new_service_sync("mailer")).await;
        world.ok(pb::DeleteServiceRequest { name: "mailer".to_owned() }).await;
        world.settle().await;
        world.fails(which()).await.is("ResourceNotFoundException").says("mailer");
        world.ok(delete_repository(REPOSITORY)).await;
    }

    async fn what_does_not_exist_cannot_be_read_or_updated(world) {
        world.fails(which()).await.is("ResourceNotFoundException").says("service sync config does not exist: mailer");
        world.fails(update(REPOSITORY)).await.is("ResourceNotFoundException").says("mailer");
    }

    async fn what_is_synced_from_a_repository_is_listed_by_its_folder(world) {
        service(world).await;
        world.ok(new_service_sync("mailer")).await;
        assert_eq!(synced(world, SyncType::ServiceSync).await, ["mailer: services on main"]);
        let status = world.ok(repository_sync("main", SyncType::ServiceSync)).await;
        assert_eq!(status.latest_sync, None);
    }

    async fn nothing_blocks_a_service_that_was_never_synced(world) {
        service(world).await;
        let of = |service: &str, instance: Option<&str>| pb::GetServiceSyncBlockerSummaryRequest {
            service_name: service.to_owned(),
            service_instance_name: instance.map(str::to_owned),
        };
        let summary = world.ok(of("mailer", Some("main"))).await.service_sync_blocker_summary.unwrap();
        assert_eq!(summary, pb::ServiceSyncBlockerSummary {
            latest_blockers: Vec::new(),
            service_instance_name: some("main"),
            service_name: some("mailer"),
        });
        world.fails(of("mailer", Some("other"))).await.is("ResourceNotFoundException").says("other");
        world.fails(of("nobody", None)).await.is("ResourceNotFoundException").says("nobody");
    }

    async fn a_blocker_that_does_not_exist_cannot_be_resolved(world) {
        world.fails(pb::UpdateServiceSyncBlockerRequest {
            id: some("b-1"),
            resolved_reason: some("Done by hand"),
        }).await.is("ResourceNotFoundException").says("b-1");
    }

    async fn an_instance_has_a_sync_status_once_its_service_is_synced(world) {
        service(world).await;
        let status = |instance: &str| pb::GetServiceInstanceSyncStatusRequest {
            service_name: "mailer".to_owned(),
            service_instance_name: instance.to_owned(),
        };
        world.fails(status("main")).await.is("ResourceNotFoundException").says("mailer");
        world.ok(new_service_sync("mailer")).await;
        assert_eq!(world.ok(status("main")).await.latest_sync, None);
        world.fails(status("other")).await.is("ResourceNotFoundException").says("other");
    }

    async fn all_parts_of_a_configuration_are_required(world) {
        world.fails(pb::CreateServiceSyncConfigRequest::default()).await.is("ValidationException")
            .says("'branch'").says("'filePath'").says("'repositoryName'").says("'serviceName'");
        world.fails(pb::UpdateServiceSyncBlockerRequest::default()).await
            .is("ValidationException").says("'id'").says("'resolvedReason'");
    }
}
