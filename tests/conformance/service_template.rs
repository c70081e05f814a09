use proton_gateway::api::pb::{self, Provisioning};

use crate::platform_fixtures::*;
use crate::support::World;

fn delete(name: &str) -> pb::DeleteServiceTemplateRequest {
    pb::DeleteServiceTemplateRequest {
        name: name.to_owned(),
    }
}

fn which(name: &str) -> pb::GetServiceTemplateRequest {
    pb::GetServiceTemplateRequest {
        name: name.to_owned(),
    }
}

async fn names(
    world: &World,
    max_results: i32,
    token: Option<String>,
) -> (Vec<String>, Option<String>) {
    let page = world
        .ok(pb::ListServiceTemplatesRequest {
            max_results: Some(max_results),
            next_token: token,
        })
        .await;
    let names = page
        .templates
        .iter()
        .map(|template| template.name().to_owned());
    (names.collect(), page.next_token)
}

crate::conformance! {
    async fn a_new_template_is_what_was_asked_for(world) {
        let created = world.ok(pb::CreateServiceTemplateRequest {
            description: some("Handles events"),
            display_name: some("Worker"),
            ..new_service_template("worker")
        }).await.service_template.unwrap();
        assert_eq!(created, pb::ServiceTemplate {
            arn: Some(arn("service-template/worker")),
            created_at: after(0),
            description: some("Handles events"),
            display_name: some("Worker"),
            encryption_key: None,
            last_modified_at: after(0),
            name: some("worker"),
            pipeline_provisioning: Provisioning::CustomerManaged.into(),
            recommended_version: None,
        });
        assert_eq!(world.ok(which("worker")).await.service_template, Some(created));
    }

    async fn an_environment_template_of_the_same_name_stands_in_nobodys_way(world) {
        world.ok(new_environment_template("same")).await;
        world.fails(which("same")).await.is("ResourceNotFoundException").says("service template");
        world.ok(new_service_template("same")).await;
        assert_eq!(names(world, 10, None).await, (vec!["same".to_owned()], None));
    }

    async fn a_repeated_create_is_the_original_a_mismatch_or_a_conflict(world) {
        let created = world.ok(new_service_template("worker")).await;
        assert_eq!(world.ok(new_service_template("worker")).await, created);
        world.fails(pb::CreateServiceTemplateRequest {
            pipeline_provisioning: Provisioning::Unspecified.into(),
            ..new_service_template("worker")
        }).await.is("ValidationException").because("IDEMPOTENCY_MISMATCH");
        world.ok(pb::UpdateServiceTemplateRequest {
            name: "worker".to_owned(),
            description: some("Other"),
            ..Default::default()
        }).await;
        world.fails(new_service_template("worker")).await
            .is("ConflictException").because("ALREADY_EXISTS").says("service-template/worker");
    }

    async fn an_update_changes_what_it_mentions(world) {
        world.ok(new_service_template("worker")).await;
        world.step().await;
        let updated = world.ok(pb::UpdateServiceTemplateRequest {
            name: "worker".to_owned(),
            description: some("Other"),
            ..Default::default()
        }).await.service_template.unwrap();
        assert_eq!(updated.description(), "Other");
        assert_eq!(updated.pipeline_provisioning(), Provisioning::CustomerManaged);
        assert_eq!(updated.last_modified_at, after(5));
        world.fails(pb::UpdateServiceTemplateRequest {
            name: "nobody".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException").says("nobody");
    }

    async fn templates_are_listed_by_name_in_pages(world) {
        for name in ["b", "c", "a"] {
            world.ok(new_service_template(name)).await;
        }
        let (first, token) = names(world, 2, None).await;
        assert_eq!(first, ["a", "b"]);
        assert_eq!(names(world, 2, token).await, (vec!["c".to_owned()], None));
    }

    async fn a_template_is_deleted_only_after_its_versions(world) {
        worker(world).await;
        world.fails(delete("worker")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("1 version");
        world.ok(delete_service_version("worker", "1.0")).await;
        let deleted = world.ok(delete("worker")).await.service_template.unwrap();
        assert_eq!(deleted.name(), "worker");
        assert_eq!(world.ok(delete("worker")).await.service_template, None);
    }

    async fn a_name_is_required(world) {
        world.fails(new_service_template("")).await.is("ValidationException").says("'name'");
        world.fails(which("")).await.is("ValidationException").says("'name'");
        world.fails(delete("-")).await.is("ValidationException").says("'name'");
    }
}
