use proton_gateway::api::pb;

use crate::platform_fixtures::*;
use crate::support::{ACCOUNT, World, tag};

fn on(tail: &str, tags: &[(&str, &str)]) -> pb::TagResourceRequest {
    pb::TagResourceRequest {
        resource_arn: arn(tail),
        tags: tags.iter().map(|(key, value)| tag(key, value)).collect(),
    }
}

fn off(tail: &str, keys: &[&str]) -> pb::UntagResourceRequest {
    pb::UntagResourceRequest {
        resource_arn: arn(tail),
        tag_keys: keys.iter().map(|key| (*key).to_owned()).collect(),
    }
}

fn list(tail: &str) -> pb::ListTagsForResourceRequest {
    pb::ListTagsForResourceRequest {
        resource_arn: arn(tail),
        ..Default::default()
    }
}

/// All tags of a resource as `key=value`, without what all ARNs begin with.
async fn all(world: &World, tail: &str) -> Vec<String> {
    let shown = |tag: &pb::Tag| format!("{}={}", tag.key(), tag.value().replace(&arn(""), ""));
    let (mut request, mut found) = (list(tail), Vec::new());
    loop {
        let response = world.ok(request.clone()).await;
        found.extend(response.tags.iter().map(shown));
        request.next_token = response.next_token;
        if request.next_token.is_none() {
            return found;
        }
    }
}

/// The tags that somebody gave it.
async fn customers(world: &World, tail: &str) -> Vec<String> {
    let mut tags = all(world, tail).await;
    tags.retain(|tag| !tag.starts_with("aws:proton:"));
    tags
}

async fn template(world: &World) {
    world.ok(new_environment_template("bus")).await;
}

const BUS: &str = "environment-template/bus";

crate::conformance! {
    async fn a_resource_has_the_tags_it_was_created_with_beside_protons_own(world) {
        world.ok(pb::CreateEnvironmentTemplateRequest {
            tags: vec![tag("team", "core"), tag("Cost", "")],
            ..new_environment_template("bus")
        }).await;
        assert_eq!(all(world, BUS).await, [
            "Cost=".to_owned(),
            format!("aws:proton:account={ACCOUNT}"),
            "aws:proton:template=environment-template/bus".to_owned(),
            "team=core".to_owned(),
        ]);
    }

    async fn tags_are_added_and_replaced(world) {
        template(world).await;
        world.ok(on(BUS, &[("a", "1"), ("b", "1")])).await;
        world.ok(on(BUS, &[("c", "2"), ("a", "2")])).await;
        assert_eq!(customers(world, BUS).await, ["a=2", "b=1", "c=2"]);
    }

    async fn tags_are_taken_away_and_those_that_are_not_there_do_not_matter(world) {
        template(world).await;
        world.ok(on(BUS, &[("a", "1"), ("b", "1")])).await;
        world.ok(off(BUS, &["a", "z"])).await;
        world.ok(off(BUS, &["a"])).await;
        assert_eq!(customers(world, BUS).await, ["b=1"]);
    }

    async fn versions_inherit_what_their_template_has_when_they_are_created(world) {
        template(world).await;
        world.ok(new_environment_version("bus")).await;
        world.ok(on(BUS, &[("a", "template"), ("b", "template")])).await;
        world.ok(pb::CreateEnvironmentTemplateVersionRequest {
            tags: vec![tag("b", "version")],
            ..new_environment_version("bus")
        }).await;
        assert_eq!(customers(world, "environment-template/bus:1.0").await, [""; 0]);
        assert_eq!(customers(world, "environment-template/bus:2.0").await, ["a=template", "b=version"]);
    }

    async fn instances_inherit_the_tags_of_their_service(world) {
        prod(world).await;
        worker(world).await;
        world.ok(pb::CreateServiceRequest {
            tags: vec![tag("team", "core")],
            ..new_service("mailer")
        }).await;
        world.settle().await;
        assert_eq!(customers(world, "service/mailer").await, ["team=core"]);
        assert_eq!(customers(world, "service/mailer/service-instance/main").await, ["team=core"]);
    }

    async fn proton_tags_environments_services_and_instances_with_what_they_belong_to(world) {
        mailer(world).await;
        let account = format!("aws:proton:account={ACCOUNT}");
        assert_eq!(all(world, "environment/prod").await, [
            &account,
            "aws:proton:environment=environment/prod",
            "aws:proton:template=environment-template/bus:1.0",
        ]);
        assert_eq!(all(world, "service/mailer").await, [
            &account,
            "aws:proton:service=service/mailer",
            "aws:proton:template=service-template/worker",
        ]);
        assert_eq!(all(world, "service/mailer/service-instance/main").await, [
            &account,
            "aws:proton:environment=environment/prod",
            "aws:proton:service=service/mailer",
            "aws:proton:service-instance=service/mailer/service-instance/main",
            "aws:proton:template=service-template/worker:1.0",
        ]);
        assert_eq!(all(world, "service-template/worker:1.0").await, [
            &account,
            "aws:proton:template=service-template/worker:1.0",
        ]);
    }

    async fn repositories_and_connections_can_be_tagged(world) {
        repository(world, REPOSITORY).await;
        let repository = "repository/github:acme/infrastructure";
        world.ok(on(repository, &[("a", "1")])).await;
        assert_eq!(customers(world, repository).await, ["a=1"]);
        // Connections have no tags of Proton's.
        let connection = format!("environment-account-connection/{}", requested(world, "prod").await);
        world.ok(on(&connection, &[("a", "1")])).await;
        assert_eq!(all(world, &connection).await, ["a=1"]);
    }

    async fn components_can_be_tagged(world) {
        bus(world).await;
        world.ok(pb::CreateEnvironmentRequest {
            component_role_arn: some(ROLE),
            ..new_environment("prod")
        }).await;
        world.step().await;
        world.ok(new_component("cache", "prod")).await;
        world.ok(on("component/cache", &[("a", "1")])).await;
        assert_eq!(all(world, "component/cache").await, [
            "a=1".to_owned(),
            format!("aws:proton:account={ACCOUNT}"),
            "aws:proton:component=component/cache".to_owned(),
            "aws:proton:environment=environment/prod".to_owned(),
        ]);
    }

    async fn fifty_tags_are_the_most(world) {
        template(world).await;
        let tags = |range: std::ops::Range<usize>| pb::TagResourceRequest {
            resource_arn: arn(BUS),
            tags: range.map(|number| tag(&format!("k{number}"), "v")).collect(),
        };
        world.ok(tags(0..50)).await;
        world.ok(tags(0..50)).await;
        world.fails(tags(50..51)).await.is("ValidationException").says("50");
        assert_eq!(customers(world, BUS).await.len(), 50);
        // Proton's own are on the second page.
        for max_results in [None, Some(100)] {
            let request = pb::ListTagsForResourceRequest { max_results, ..list(BUS) };
            let first = world.ok(request.clone()).await;
            assert_eq!(first.tags.len(), 50);
            let next_token = first.next_token;
            let second = world.ok(pb::ListTagsForResourceRequest { next_token, ..request }).await;
            assert_eq!((second.tags.len(), second.next_token), (2, None));
        }
    }

    async fn keys_of_aws_are_reserved(world) {
        template(world).await;
        for key in ["aws:team", "AWS:team"] {
            world.fails(on(BUS, &[("a", "1"), (key, "core")])).await
                .is("ValidationException").says("tags[1].key").says("reserved");
        }
        assert_eq!(customers(world, BUS).await, [""; 0]);
        world.fails(pb::CreateServiceTemplateRequest {
            tags: vec![tag("aws:team", "core")],
            ..new_service_template("worker")
        }).await.is("ValidationException").says("reserved");
        world.fails(list("service-template/worker")).await.is("ResourceNotFoundException");
    }

    async fn a_key_is_given_once(world) {
        template(world).await;
        world.fails(on(BUS, &[("a", "1"), ("a", "2")])).await
            .is("ValidationException").says("tags[1].key");
    }

    async fn what_does_not_exist_has_no_tags(world) {
        template(world).await;
        for tail in ["environment-template/other", "environment-template/bus:1.0", "service/bus", "environment/bus", "stack/bus"] {
            world.fails(list(tail)).await.is("ResourceNotFoundException").says(tail);
        }
        world.fails(on("environment/prod", &[("a", "1")])).await.is("ResourceNotFoundException");
        world.fails(off("environment/prod", &["a"])).await.is("ResourceNotFoundException");
        world.fails(pb::ListTagsForResourceRequest {
            resource_arn: arn(BUS).replace(ACCOUNT, "210987654321"),
            ..Default::default()
        }).await.is("ResourceNotFoundException");
    }

    async fn tags_go_with_what_they_are_on(world) {
        template(world).await;
        world.ok(on(BUS, &[("a", "1")])).await;
        world.ok(pb::DeleteEnvironmentTemplateRequest { name: "bus".to_owned() }).await;
        template(world).await;
        assert_eq!(customers(world, BUS).await, [""; 0]);
    }

    async fn tags_are_listed_in_pages(world) {
        template(world).await;
        world.ok(on(BUS, &[("a", "1"), ("z", "1")])).await;
        let page = |next_token| pb::ListTagsForResourceRequest {
            max_results: Some(3),
            next_token,
            ..list(BUS)
        };
        let first = world.ok(page(None)).await;
        assert_eq!(first.tags.len(), 3);
        let second = world.ok(page(first.next_token)).await;
        assert_eq!(second.tags, [tag("z", "1")]);
        assert_eq!(second.next_token, None);
    }

    async fn an_arn_and_well_formed_keys_are_required(world) {
        world.fails(pb::TagResourceRequest {
            resource_arn: "prod".to_owned(),
            tags: vec![tag("", "1")],
        }).await.is("ValidationException").says("'resourceArn'").says("'tags[0].key'");
        world.fails(pb::UntagResourceRequest::default()).await
            .is("ValidationException").says("'resourceArn'");
    }
}
