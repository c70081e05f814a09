use proton_gateway::api::pb::{self, RepositoryProvider};

use crate::platform_fixtures::*;
use crate::support::World;

async fn settings(world: &World) -> pb::AccountSettings {
    let response = world.ok(pb::GetAccountSettingsRequest {}).await;
    response.account_settings.unwrap()
}

crate::conformance! {
    async fn an_account_that_nobody_has_set_up_has_empty_settings(world) {
        assert_eq!(settings(world).await, pb::AccountSettings::default());
    }

    async fn what_an_update_does_not_mention_stays_and_an_empty_role_is_taken_away(world) {
        world.ok(pb::UpdateAccountSettingsRequest {
            pipeline_service_role_arn: some(ROLE),
            ..Default::default()
        }).await;
        let updated = world.ok(pb::UpdateAccountSettingsRequest {
            pipeline_codebuild_role_arn: some(OTHER_ROLE),
            ..Default::default()
        }).await.account_settings.unwrap();
        assert_eq!(updated.pipeline_service_role_arn(), ROLE);
        assert_eq!(updated.pipeline_codebuild_role_arn(), OTHER_ROLE);
        assert_eq!(settings(world).await, updated);

        world.ok(pb::UpdateAccountSettingsRequest {
            pipeline_service_role_arn: some(""),
            ..Default::default()
        }).await;
        let left = settings(world).await;
        assert_eq!(left.pipeline_service_role_arn, None);
        assert_eq!(left.pipeline_codebuild_role_arn(), OTHER_ROLE);
    }

    async fn the_repository_of_pipelines_is_shown_with_its_arn_until_it_is_deleted(world) {
        repository(world, REPOSITORY).await;
        world.ok(pb::UpdateAccountSettingsRequest {
            pipeline_provisioning_repository: Some(branch(REPOSITORY)),
            ..Default::default()
        }).await;
        let shown = settings(world).await.pipeline_provisioning_repository.unwrap();
        assert_eq!(shown.arn(), arn("repository/github:acme/infrastructure"));
        assert_eq!(shown.name(), REPOSITORY);
        assert_eq!(shown.branch(), "main");
        assert_eq!(shown.provider(), RepositoryProvider::Github);

        world.ok(pb::UpdateAccountSettingsRequest {
            delete_pipeline_provisioning_repository: Some(true),
            ..Default::default()
        }).await;
        assert_eq!(settings(world).await.pipeline_provisioning_repository, None);
    }

    async fn a_repository_cannot_be_given_and_deleted_at_once(world) {
        repository(world, REPOSITORY).await;
        world.fails(pb::UpdateAccountSettingsRequest {
            delete_pipeline_provisioning_repository: Some(true),
            pipeline_provisioning_repository: Some(branch(REPOSITORY)),
            ..Default::default()
        }).await.is("ValidationException").because("INVALID_REQUEST")
            .says("delete_pipeline_provisioning_repository");
    }

    async fn a_repository_that_is_not_registered_is_refused_and_changes_nothing(world) {
        world.fails(pb::UpdateAccountSettingsRequest {
            pipeline_service_role_arn: some(ROLE),
            pipeline_provisioning_repository: Some(branch("acme/nothing")),
            ..Default::default()
        }).await.is("ValidationException").says("acme/nothing");
        assert_eq!(settings(world).await, pb::AccountSettings::default());
    }

    async fn a_role_must_be_the_arn_of_a_role(world) {
        world.fails(pb::UpdateAccountSettingsRequest {
            pipeline_service_role_arn: some("proton"),
            ..Default::default()
        }).await.is("ValidationException").says("'pipelineServiceRoleArn'");
    }
}
