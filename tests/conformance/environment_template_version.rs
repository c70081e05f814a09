use std::time::Duration;

use proton_gateway::api::pb::{self, Provisioning, TemplateVersionStatus as Status};

use crate::platform_fixtures::*;
use crate::support::World;

async fn template(world: &World) {
    world.ok(new_environment_template("bus")).await;
}

/// Creates a version and returns its number.
async fn number(world: &World, request: pb::CreateEnvironmentTemplateVersionRequest) -> String {
    let version = world
        .ok(request)
        .await
        .environment_template_version
        .unwrap();
    format!("{}.{}", version.major_version(), version.minor_version())
}

/// A request for the next minor of major 1 with an object of the tests' bucket.
fn minor_from(key: &str) -> pb::CreateEnvironmentTemplateVersionRequest {
    pb::CreateEnvironmentTemplateVersionRequest {
        source: object(key),
        ..new_environment_minor("bus", "1")
    }
}

/// Has the registration of a version fail, and returns why it did.
async fn problem(world: &World, request: pb::CreateEnvironmentTemplateVersionRequest) -> String {
    let version = registered(world, request).await;
    assert_eq!(version.status(), Status::RegistrationFailed);
    assert_eq!(version.schema, None);
    version.status_message().to_owned()
}

async fn recommended(world: &World) -> Option<String> {
    environment_template(world, "bus").await.recommended_version
}

/// What a list of versions without, or with, a major version holds.
async fn listed(world: &World, major: Option<&str>) -> Vec<String> {
    let response = world
        .ok(pb::ListEnvironmentTemplateVersionsRequest {
            template_name: "bus".to_owned(),
            major_version: major.map(str::to_owned),
            ..Default::default()
        })
        .await;
    let number = |version: &pb::EnvironmentTemplateVersionSummary| {
        format!("{}.{}", version.major_version(), version.minor_version())
    };
    response.template_versions.iter().map(number).collect()
}

fn set(number: &str, status: Status) -> pb::UpdateEnvironmentTemplateVersionRequest {
    pb::UpdateEnvironmentTemplateVersionRequest {
        status: status.into(),
        ..publish_environment_version("bus", number)
    }
}

const SIZE: &str = "{size: {type: integer, default: 1}}";

crate::conformance! {
    async fn a_version_is_registered_for_a_while_and_then_a_draft_with_its_schema(world) {
        template(world).await;
        let created = world.ok(pb::CreateEnvironmentTemplateVersionRequest {
            description: some("The first"),
            ..new_environment_version("bus")
        }).await.environment_template_version.unwrap();
        assert_eq!(created, pb::EnvironmentTemplateVersion {
            arn: Some(arn("environment-template/bus:1.0")),
            created_at: after(0),
            description: some("The first"),
            last_modified_at: after(0),
            major_version: some("1"),
            minor_version: some("0"),
            recommended_minor_version: some("0"),
            schema: None,
            status: Status::RegistrationInProgress.into(),
            status_message: some(""),
            template_name: some("bus"),
        });
        world.step().await;
        let draft = environment_version(world, "bus", "1.0").await;
        assert_eq!(draft.status(), Status::Draft);
        assert_eq!(draft.status_message(), "");
        assert!(draft.schema().contains("EventBusInput"));
        assert_eq!(draft.last_modified_at, after(5));
    }

    async fn a_version_without_a_major_begins_the_next_major_and_with_one_is_its_next_minor(world) {
        template(world).await;
        assert_eq!(number(world, new_environment_version("bus")).await, "1.0");
        assert_eq!(number(world, new_environment_version("bus")).await, "2.0");
        assert_eq!(number(world, new_environment_minor("bus", "1")).await, "1.1");
        assert_eq!(number(world, new_environment_minor("bus", "2")).await, "2.1");
        assert_eq!(number(world, new_environment_minor("bus", "3")).await, "3.0");
    }

    async fn the_first_version_may_name_major_1(world) {
        template(world).await;
        assert_eq!(number(world, new_environment_minor("bus", "1")).await, "1.0");
    }

    async fn no_major_number_is_skipped(world) {
        template(world).await;
        world.fails(new_environment_minor("bus", "2")).await
            .is("ResourceNotFoundException").says("environment-template/bus:2");
    }

    async fn a_version_of_no_template_cannot_be_created_listed_or_read(world) {
        world.fails(new_environment_version("bus")).await.is("ResourceNotFoundException").says("bus");
        world.fails(pb::ListEnvironmentTemplateVersionsRequest {
            template_name: "bus".to_owned(),
            ..Default::default()
        }).await.is("ResourceNotFoundException").says("bus");
        world.fails(which_environment_version("bus", "1.0")).await
            .is("ResourceNotFoundException").says(&arn("environment-template/bus:1.0"));
    }

    async fn the_number_of_a_deleted_version_is_not_used_again(world) {
        template(world).await;
        registered(world, new_environment_version("bus")).await;
        registered(world, new_environment_minor("bus", "1")).await;
        world.ok(delete_environment_version("bus", "1.1")).await;
        assert_eq!(number(world, new_environment_minor("bus", "1")).await, "1.2");
    }

    async fn the_highest_published_version_is_recommended(world) {
        template(world).await;
        registered(world, new_environment_version("bus")).await;
        assert_eq!(recommended(world).await, None);
        world.ok(publish_environment_version("bus", "1.0")).await;
        assert_eq!(recommended(world).await, some("1.0"));
        published(world, new_environment_version("bus")).await;
        assert_eq!(recommended(world).await, some("2.0"));
        published(world, new_environment_minor("bus", "1")).await;
        assert_eq!(recommended(world).await, some("2.0"));
        // Every version names the minor that is recommended in its major.
        let first = environment_version(world, "bus", "1.0").await;
        assert_eq!(first.recommended_minor_version(), "1");
    }

    async fn a_draft_is_published_and_publishing_it_again_changes_nothing(world) {
        template(world).await;
        registered(world, new_environment_version("bus")).await;
        for _ in 0..2 {
            let version = world.ok(publish_environment_version("bus", "1.0")).await
                .environment_template_version.unwrap();
            assert_eq!(version.status(), Status::Published);
        }
    }

    async fn there_is_no_way_back_from_published(world) {
        bus(world).await;
        for status in [Status::Draft, Status::RegistrationInProgress, Status::RegistrationFailed] {
            world.fails(set("1.0", status)).await.is("ValidationException").says("status");
        }
    }

    async fn a_version_is_published_only_after_its_registration(world) {
        template(world).await;
        world.ok(new_environment_version("bus")).await;
        world.fails(publish_environment_version("bus", "1.0")).await
            .is("ConflictException").because("IN_PROGRESS").says("environment-template/bus:1.0");
    }

    async fn a_version_whose_registration_failed_is_never_published(world) {
        template(world).await;
        problem(world, minor_from("nothing")).await;
        world.fails(publish_environment_version("bus", "1.0")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("failed");
    }

    async fn an_update_changes_the_description(world) {
        bus(world).await;
        let updated = world.ok(pb::UpdateEnvironmentTemplateVersionRequest {
            description: some("Better"),
            ..set("1.0", Status::Unspecified)
        }).await.environment_template_version.unwrap();
        assert_eq!(updated.description(), "Better");
        assert_eq!(updated.status(), Status::Published);
        world.fails(set("1.7", Status::Published)).await.is("ResourceNotFoundException").says("bus:1.7");
    }

    async fn registration_fails_where_the_object_is_missing(world) {
        template(world).await;
        let problem = problem(world, minor_from("nothing")).await;
        assert!(problem.contains("s3://bundles/nothing does not exist"), "{problem}");
    }

    async fn registration_fails_where_the_object_is_no_archive(world) {
        template(world).await;
        world.put_object(BUCKET, "text", b"schema: {}");
        let problem = problem(world, minor_from("text")).await;
        assert!(problem.contains("can't be unpacked"), "{problem}");
    }

    async fn registration_fails_where_the_bundle_is_a_services(world) {
        template(world).await;
        let problem = problem(world, pb::CreateEnvironmentTemplateVersionRequest {
            source: example("service-cloudformation"),
            ..new_environment_version("bus")
        }).await;
        assert_eq!(problem, "Environment template schema is not valid: Missing property [environmentInputType]");
    }

    async fn registration_fails_where_there_is_no_manifest(world) {
        template(world).await;
        world.put_object(BUCKET, "schema-only", &archive(&[
            ("schema/schema.yaml", &schema("environment", SIZE)),
        ]));
        let problem = problem(world, minor_from("schema-only")).await;
        assert!(problem.starts_with("infrastructure/manifest.yaml: is missing"), "{problem}");
    }

    async fn registration_fails_where_the_customer_manages_and_yet_there_is_infrastructure(world) {
        world.ok(pb::CreateEnvironmentTemplateRequest {
            provisioning: Provisioning::CustomerManaged.into(),
            ..new_environment_template("bus")
        }).await;
        let problem = problem(world, new_environment_version("bus")).await;
        assert!(problem.contains("must be removed"), "{problem}");
    }

    async fn a_minor_whose_schema_refuses_what_an_earlier_one_took_is_not_registered(world) {
        template(world).await;
        world.put_object(BUCKET, "1.0", &environment_bundle(SIZE));
        world.put_object(BUCKET, "wider", &environment_bundle("{size: {type: integer, default: 1}, zone: {type: string}}"));
        world.put_object(BUCKET, "other", &environment_bundle("{size: {type: string, default: big}, zone: {type: string}}"));
        for key in ["1.0", "wider"] {
            assert_eq!(registered(world, minor_from(key)).await.status(), Status::Draft);
        }
        let problem = problem(world, minor_from("other")).await;
        assert!(problem.contains("not backward compatible with version 1.1"), "{problem}");
        assert!(problem.contains("size"), "{problem}");
        // Nothing is promised from one major to the next.
        let next = registered(world, pb::CreateEnvironmentTemplateVersionRequest {
            major_version: None,
            ..minor_from("other")
        }).await;
        assert_eq!(next.status(), Status::Draft);
    }

    async fn a_version_is_deleted_once_and_deleting_it_again_is_an_empty_success(world) {
        template(world).await;
        registered(world, new_environment_version("bus")).await;
        let deleted = world.ok(delete_environment_version("bus", "1.0")).await;
        assert_eq!(deleted.environment_template_version.unwrap().arn(), arn("environment-template/bus:1.0"));
        world.fails(which_environment_version("bus", "1.0")).await.is("ResourceNotFoundException");
        let again = world.ok(delete_environment_version("bus", "1.0")).await;
        assert_eq!(again.environment_template_version, None);
        assert_eq!(listed(world, None).await, [""; 0]);
    }

    async fn a_version_is_not_deleted_while_it_is_being_registered(world) {
        template(world).await;
        world.ok(new_environment_version("bus")).await;
        world.fails(delete_environment_version("bus", "1.0")).await
            .is("ConflictException").because("IN_PROGRESS");
    }

    async fn the_recommended_minor_goes_last_of_its_major(world) {
        bus(world).await;
        registered(world, new_environment_minor("bus", "1")).await;
        world.fails(delete_environment_version("bus", "1.0")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("recommended");
        world.ok(delete_environment_version("bus", "1.1")).await;
        world.ok(delete_environment_version("bus", "1.0")).await;
        assert_eq!(recommended(world).await, None);
    }

    async fn the_recommended_major_goes_last_of_its_template(world) {
        bus(world).await;
        published(world, new_environment_version("bus")).await;
        world.fails(delete_environment_version("bus", "2.0")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("recommended");
        world.ok(delete_environment_version("bus", "1.0")).await;
        world.ok(delete_environment_version("bus", "2.0")).await;
    }

    async fn a_version_that_is_deployed_is_not_deleted(world) {
        prod(world).await;
        world.fails(delete_environment_version("bus", "1.0")).await
            .is("ConflictException").because("PRECONDITION_FAILED").says("deployed");
        world.ok(delete_environment("prod")).await;
        world.step().await;
        world.ok(delete_environment_version("bus", "1.0")).await;
    }

    async fn minors_are_listed_by_number(world) {
        template(world).await;
        for _ in 0..11 {
            world.ok(new_environment_minor("bus", "1")).await;
        }
        let all = listed(world, Some("1")).await;
        assert_eq!(all[8..], ["1.8", "1.9", "1.10"]);
        assert_eq!(listed(world, Some("2")).await, [""; 0]);
    }

    /// The bundle of the first takes longer to read.
    async fn a_minor_is_held_against_one_that_is_registered_at_the_same_time(world) {
        template(world).await;
        let mut seed = 1_u64;
        let noise: String = (0..1_500_000).map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            char::from(b'a' + u8::try_from((seed >> 33) % 26).unwrap())
        }).collect();
        world.put_object(BUCKET, "large", &archive(&[
            ("schema/schema.yaml", &schema("environment", SIZE)),
            ("infrastructure/manifest.yaml", "infrastructure: {templates: [{file: c.yaml, rendering_engine: jinja, template_language: cloudformation}]}"),
            ("infrastructure/c.yaml", "Resources: {}"),
            ("infrastructure/README", &noise),
        ]));
        world.put_object(BUCKET, "other", &environment_bundle("{size: {type: string, default: a}}"));
        world.ok(pb::CreateEnvironmentTemplateVersionRequest {
            source: object("large"),
            ..new_environment_version("bus")
        }).await;
        world.ok(minor_from("other")).await;
        world.ok(minor_from("large")).await;
        world.step().await;
        let statuses = [
            environment_version(world, "bus", "1.0").await.status(),
            environment_version(world, "bus", "1.1").await.status(),
            environment_version(world, "bus", "1.2").await.status(),
        ];
        assert_eq!(statuses, [Status::Draft, Status::RegistrationFailed, Status::Draft]);
    }

    async fn majors_are_listed_by_the_minor_that_each_recommends(world) {
        bus(world).await;
        registered(world, new_environment_minor("bus", "1")).await;
        registered(world, new_environment_version("bus")).await;
        registered(world, new_environment_minor("bus", "2")).await;
        assert_eq!(listed(world, None).await, ["1.0", "2.1"]);
    }

    async fn versions_are_listed_in_pages(world) {
        template(world).await;
        for _ in 0..3 {
            world.ok(new_environment_version("bus")).await;
        }
        let page = |next_token| pb::ListEnvironmentTemplateVersionsRequest {
            template_name: "bus".to_owned(),
            max_results: Some(2),
            next_token,
            ..Default::default()
        };
        let first = world.ok(page(None)).await;
        assert_eq!(first.template_versions.len(), 2);
        let second = world.ok(page(first.next_token)).await;
        assert_eq!(second.template_versions[0].major_version(), "3");
        assert_eq!(second.next_token, None);
    }

    async fn a_token_is_good_for_eight_hours(world) {
        template(world).await;
        let request = || pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_environment_version("bus")
        };
        assert_eq!(number(world, request()).await, "1.0");
        world.clock.advance(Duration::from_secs(8 * 3600 - 1));
        assert_eq!(number(world, request()).await, "1.0");
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(number(world, request()).await, "2.0");
    }

    async fn a_token_returns_the_original_as_it_is_now(world) {
        template(world).await;
        let request = || pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_environment_version("bus")
        };
        world.ok(request()).await;
        world.step().await;
        let again = world.ok(request()).await.environment_template_version.unwrap();
        assert_eq!(again.status(), Status::Draft);
    }

    async fn a_token_with_other_parameters_is_a_mismatch(world) {
        template(world).await;
        let request = |description| pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            description: some(description),
            ..new_environment_version("bus")
        };
        world.ok(request("first")).await;
        world.fails(request("second")).await
            .is("ValidationException").because("IDEMPOTENCY_MISMATCH");
    }

    async fn a_token_whose_version_was_deleted_makes_a_new_one(world) {
        template(world).await;
        let request = || pb::CreateEnvironmentTemplateVersionRequest {
            client_token: some("t-1"),
            ..new_environment_version("bus")
        };
        registered(world, request()).await;
        world.ok(delete_environment_version("bus", "1.0")).await;
        assert_eq!(number(world, request()).await, "2.0");
    }

    async fn a_source_and_well_formed_numbers_are_required(world) {
        template(world).await;
        world.fails(pb::CreateEnvironmentTemplateVersionRequest {
            source: None,
            ..new_environment_version("bus")
        }).await.is("ValidationException").says("'source'");
        world.fails(new_environment_minor("bus", "01")).await
            .is("ValidationException").says("'majorVersion'");
        world.fails(which_environment_version("bus", "1.x")).await
            .is("ValidationException").says("'minorVersion'");
    }
}
