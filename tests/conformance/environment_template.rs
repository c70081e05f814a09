use proton_gateway::api::pb::{self, Provisioning, TemplateType};

use crate::platform_fixtures::*;
use crate::support::tag;

fn delete(name: &str) -> pb::DeleteEnvironmentTemplateRequest {
    pb::DeleteEnvironmentTemplateRequest {
        name: name.to_owned(),
    }
}

fn described(description: &str) -> pb::CreateEnvironmentTemplateRequest {
    pb::CreateEnvironmentTemplateRequest {
        description: some(description),
        ..new_environment_template("bus")
    }
}

crate::conformance! {
    async fn a_new_template_is_what_was_asked_for_and_recommends_no_version(world) {
        let created = world.ok(pb::CreateEnvironmentTemplateRequest {
            description: some("Events for all"),
            display_name: some("Event bus"),
            encryption_key: some("arn:aws:kms:us-east-1:123456789012:key/1"),
            provisioning: Provisioning::CustomerManaged.into(),
            ..new_environment_template("bus")
        }).await.environment_template.unwrap();
        assert_eq!(created, pb::EnvironmentTemplate {
            arn: Some(arn("environment-template/bus")),
            created_at: after(0),
            description: some("Events for all"),
            display_name: some("Event bus"),
            encryption_key: some("arn:aws:kms:us-east-1:123456789012:key/1"),
            last_modified_at: after(0),
            name: some("bus"),
            provisioning: Provisioning::CustomerManaged.into(),
            recommended_version: None,
        });
        assert_eq!(environment_template(world, "bus").await, created);
    }

    async fn the_same_create_again_returns_the_original(world) {
        let request = |tags: [pb::Tag; 2]| pb::CreateEnvironmentTemplateRequest {
            tags: tags.to_vec(),
            ..described("first")
        };
        let first = world.ok(request([tag("a", "1"), tag("b", "2")])).await;
        world.step().await;
        let again = world.ok(request([tag("b", "2"), tag("a", "1")])).await;
        assert_eq!(first, again);
    }

    async fn a_create_of_the_same_name_with_other_parameters_is_a_mismatch(world) {
        world.ok(described("first")).await;
        world.fails(described("second")).await
            .is("ValidationException").because("IDEMPOTENCY_MISMATCH").says("Idempotent parameter mismatch");
    }

    async fn the_same_create_after_an_update_is_a_conflict(world) {
        world.ok(described("first")).await;
        world.ok(pb::UpdateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            display_name: some("Bus"),
            ..Default::default()
        }).await;
        world.fails(described("first")).await
            .is("ConflictException").because("ALREADY_EXISTS").says("environment-template/bus");
    }

    async fn an_update_changes_what_it_mentions(world) {
        world.ok(described("first")).await;
        world.step().await;
        let updated = world.ok(pb::UpdateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            display_name: some("Bus"),
            ..Default::default()
        }).await.environment_template.unwrap();
        assert_eq!(updated.description(), "first");
        assert_eq!(updated.display_name(), "Bus");
        assert_eq!(updated.created_at, after(0));
        assert_eq!(updated.last_modified_at, after(5));
        assert_eq!(environment_template(world, "bus").await, updated);
    }

    async fn a_description_can_be_emptied(world) {
        world.ok(described("first")).await;
        world.ok(pb::UpdateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            description: some(""),
            ..Default::default()
        }).await;
        assert_eq!(environment_template(world, "bus").await.description(), "");
    }

    async fn what_does_not_exist_cannot_be_read_or_updated(world) {
        world.fails(pb::GetEnvironmentTemplateRequest { name: "bus".to_owned() }).await
            .is("ResourceNotFoundException").because("RESOURCE_NOT_FOUND").says("environment template does not exist: bus");
        world.fails(pb::UpdateEnvironmentTemplateRequest {
            name: "bus".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException");
    }

    async fn templates_are_listed_by_name_in_pages(world) {
        for name in ["c", "a", "b"] {
            world.ok(new_environment_template(name)).await;
        }
        let page = |next_token| pb::ListEnvironmentTemplatesRequest {
            max_results: Some(2),
            next_token,
        };
        let names = |page: &pb::ListEnvironmentTemplatesResponse| -> Vec<String> {
            page.templates.iter().map(|template| template.name().to_owned()).collect()
        };
        let first = world.ok(page(None)).await;
        assert_eq!(names(&first), ["a", "b"]);
        // What comes before the page's end meanwhile does not move the next one.
        world.ok(new_environment_template("aa")).await;
        let second = world.ok(page(first.next_token)).await;
        assert_eq!(names(&second), ["c"]);
        assert_eq!(second.next_token, None);
    }

    async fn a_token_of_another_list_is_refused(world) {
        for name in ["a", "b"] {
            world.ok(new_environment_template(name)).await;
        }
        let first = world.ok(pb::ListEnvironmentTemplatesRequest {
            max_results: Some(1),
            next_token: None,
        }).await;
        world.fails(pb::ListServiceTemplatesRequest {
            max_results: Some(1),
            next_token: first.next_token,
        }).await.is("ValidationException").says("next_token");
    }

    async fn a_template_is_deleted_once_and_deleting_it_again_is_an_empty_success(world) {
        let created = world.ok(new_environment_template("bus")).await.environment_template;
        assert_eq!(world.ok(delete("bus")).await.environment_template, created);
        world.fails(pb::GetEnvironmentTemplateRequest { name: "bus".to_owned() }).await
            .is("ResourceNotFoundException");
        assert_eq!(world.ok(delete("bus")).await.environment_template, None);
    }

    async fn a_template_with_a_version_is_not_deleted(world) {
        world.ok(new_environment_template("bus")).await;
        world.ok(new_environment_version("bus")).await;
        world.fails(delete("bus")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("1 version");
    }

    async fn a_template_that_is_synced_is_not_deleted(world) {
        world.ok(new_environment_template("bus")).await;
        repository(world, REPOSITORY).await;
        world.ok(pb::CreateTemplateSyncConfigRequest {
            branch: "main".to_owned(),
            repository_name: REPOSITORY.to_owned(),
            repository_provider: pb::RepositoryProvider::Github.into(),
            template_name: "bus".to_owned(),
            template_type: TemplateType::Environment.into(),
            ..Default::default()
        }).await;
        world.fails(delete("bus")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("sync");
    }

    async fn a_template_made_anew_begins_with_version_1_0(world) {
        bus(world).await;
        world.ok(delete_environment_version("bus", "1.0")).await;
        world.ok(delete("bus")).await;
        world.ok(new_environment_template("bus")).await;
        let version = registered(world, new_environment_version("bus")).await;
        assert_eq!((version.major_version(), version.minor_version()), ("1", "0"));
    }

    async fn names_and_page_sizes_are_checked(world) {
        world.fails(new_environment_template("")).await
            .is("ValidationException").says("'name'");
        world.fails(new_environment_template("a b")).await
            .is("ValidationException").says("'name'");
        world.fails(new_environment_template(&"a".repeat(101))).await
            .is("ValidationException").says("less than or equal to 100");
        for size in [0, 101] {
            world.fails(pb::ListEnvironmentTemplatesRequest {
                max_results: Some(size),
                next_token: None,
            }).await.is("ValidationException").says("'maxResults'");
        }
    }
}
