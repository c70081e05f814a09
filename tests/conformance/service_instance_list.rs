//! Lists of service instances: filters, orders, pages.

use proton_gateway::api::pb::{
    self, ListServiceInstancesFilterBy as FilterBy, ListServiceInstancesSortBy as SortBy, SortOrder,
};

use crate::conformance;
use crate::service_fixtures::*;
use crate::support::World;

const INVALID: &str = "ValidationException";
const NOT_FOUND: &str = "ResourceNotFoundException";

/// Instances as `service/name`, in the order of the list.
async fn list(world: &World, request: pb::ListServiceInstancesRequest) -> Vec<String> {
    let response = world.ok(request).await;
    let listed = response.service_instances.iter();
    listed
        .map(|instance| format!("{}/{}", instance.service_name(), instance.name()))
        .collect()
}

fn filter(key: FilterBy, value: &str) -> pb::ListServiceInstancesRequest {
    pb::ListServiceInstancesRequest {
        filters: vec![pb::ListServiceInstancesFilter {
            key: key.into(),
            value: Some(value.to_owned()),
        }],
        ..Default::default()
    }
}

/// Three services in two environments, each created five seconds after the one before.
async fn fleet(world: &World) {
    platform(world).await;
    world
        .ok(create_job("shop-eu", &[("a", "test", "a:1")]))
        .await;
    world.step().await;
    world.ok(create_web("shop", &[("c", "prod", "a:1")])).await;
    world.step().await;
    world.ok(create_job("batch", &[("b", "prod", "a:1")])).await;
}

conformance! {
    async fn instances_are_listed_by_service_and_then_by_name(world) {
        fleet(world).await;
        let all = list(world, pb::ListServiceInstancesRequest::default()).await;
        assert_eq!(all, ["batch/b", "shop/c", "shop-eu/a"]);
        let reversed = pb::ListServiceInstancesRequest {
            sort_order: SortOrder::Descending.into(),
            ..Default::default()
        };
        assert_eq!(
            list(world, reversed).await,
            ["shop-eu/a", "shop/c", "batch/b"]
        );
        assert_eq!(instances(world, "shop").await, ["c"]);
    }

    async fn instances_are_sorted_as_asked_both_ways(world) {
        fleet(world).await;
        for (by, expected) in [
            (SortBy::Name, ["shop-eu/a", "batch/b", "shop/c"]),
            (SortBy::DeploymentStatus, ["batch/b", "shop/c", "shop-eu/a"]),
            (SortBy::TemplateName, ["batch/b", "shop-eu/a", "shop/c"]),
            (SortBy::ServiceName, ["batch/b", "shop/c", "shop-eu/a"]),
            (SortBy::EnvironmentName, ["batch/b", "shop/c", "shop-eu/a"]),
            (
                SortBy::LastDeploymentAttemptedAt,
                ["shop-eu/a", "shop/c", "batch/b"],
            ),
            (SortBy::CreatedAt, ["shop-eu/a", "shop/c", "batch/b"]),
        ] {
            let ascending = pb::ListServiceInstancesRequest {
                sort_by: by.into(),
                sort_order: SortOrder::Ascending.into(),
                ..Default::default()
            };
            let descending = pb::ListServiceInstancesRequest {
                sort_order: SortOrder::Descending.into(),
                ..ascending.clone()
            };
            assert_eq!(list(world, ascending).await, expected, "{by:?}");
            let mut expected = expected;
            expected.reverse();
            assert_eq!(
                list(world, descending).await,
                expected,
                "{by:?}, descending"
            );
        }
    }

    async fn an_absent_status_is_no_status_to_filter_by(world) {
        fleet(world).await;
        world
            .fails(filter(FilterBy::DeploymentStatus, "UNSPECIFIED"))
            .await
            .is(INVALID)
            .says("no deployment status");
    }

    async fn instances_are_filtered_by_each_key(world) {
        fleet(world).await;
        // Seconds of the creation of `shop`; the others are five seconds before and after.
        let middle = instance(world, "shop", "c").await.created_at.unwrap();
        let middle = middle.to_string();
        let without_offset = middle.trim_end_matches('Z');
        for (key, value, expected) in [
            (FilterBy::Name, "a", vec!["shop-eu/a"]),
            (FilterBy::DeploymentStatus, "IN_PROGRESS", vec!["batch/b"]),
            (FilterBy::TemplateName, "web", vec!["shop/c"]),
            (FilterBy::ServiceName, "shop", vec!["shop/c"]),
            (FilterBy::EnvironmentName, "test", vec!["shop-eu/a"]),
            (
                FilterBy::DeployedTemplateVersionStatus,
                "UP_TO_DATE",
                vec!["shop/c", "shop-eu/a"],
            ),
            (FilterBy::CreatedAtBefore, &middle, vec!["shop-eu/a"]),
            (FilterBy::CreatedAtAfter, &middle, vec!["batch/b"]),
            (
                FilterBy::LastDeploymentAttemptedAtBefore,
                &middle,
                vec!["shop-eu/a"],
            ),
            (
                FilterBy::LastDeploymentAttemptedAtAfter,
                &middle,
                vec!["batch/b"],
            ),
            (FilterBy::CreatedAtAfter, without_offset, vec!["batch/b"]),
        ] {
            assert_eq!(
                list(world, filter(key, value)).await,
                expected,
                "{key:?} {value}"
            );
        }
    }

    async fn filters_narrow_one_another_down(world) {
        fleet(world).await;
        let mut request = filter(FilterBy::EnvironmentName, "prod");
        request
            .filters
            .extend(filter(FilterBy::TemplateName, "job").filters);
        assert_eq!(list(world, request).await, ["batch/b"]);
    }

    async fn instances_behind_are_found_by_how_far(world) {
        batch(world).await;
        let behind = |class| filter(FilterBy::DeployedTemplateVersionStatus, class);
        release(world, "job", Some("1")).await;
        assert_eq!(list(world, behind("BEHIND_MINOR")).await, ["batch/eu"]);
        release(world, "job", None).await;
        assert_eq!(list(world, behind("BEHIND_MAJOR")).await, ["batch/eu"]);
        assert!(list(world, behind("UP_TO_DATE")).await.is_empty());
    }

    async fn a_filter_that_means_nothing_is_refused(world) {
        batch(world).await;
        for (key, value) in [
            (FilterBy::DeploymentStatus, "SLEEPING"),
            (FilterBy::DeployedTemplateVersionStatus, "OLD"),
            (FilterBy::CreatedAtAfter, "yesterday"),
        ] {
            world
                .fails(filter(key, value))
                .await
                .is(INVALID)
                .says("filters[0].value");
        }
        let unknown = pb::ListServiceInstancesRequest {
            service_name: Some("none".to_owned()),
            ..Default::default()
        };
        world.fails(unknown).await.is(NOT_FOUND).says("none");
    }

    async fn pages_follow_one_another_in_any_order(world) {
        fleet(world).await;
        for sort_by in [SortBy::Unspecified, SortBy::CreatedAt] {
            let mut request = pb::ListServiceInstancesRequest {
                max_results: Some(1),
                sort_by: sort_by.into(),
                ..Default::default()
            };
            let all = list(
                world,
                pb::ListServiceInstancesRequest {
                    max_results: None,
                    ..request.clone()
                },
            )
            .await;
            let mut seen = Vec::new();
            loop {
                let response = world.ok(request.clone()).await;
                let page = response.service_instances;
                assert_eq!(page.len(), 1);
                seen.push(format!("{}/{}", page[0].service_name(), page[0].name()));
                let Some(token) = response.next_token else {
                    break;
                };
                request.next_token = Some(token);
            }
            assert_eq!(seen, all);
        }
    }

    async fn a_token_belongs_to_its_filters_and_order(world) {
        fleet(world).await;
        let request = pb::ListServiceInstancesRequest {
            max_results: Some(1),
            ..Default::default()
        };
        let next_token = world.ok(request.clone()).await.next_token;
        assert!(next_token.is_some());
        let filtered = pb::ListServiceInstancesRequest {
            next_token: next_token.clone(),
            ..filter(FilterBy::EnvironmentName, "prod")
        };
        world
            .fails(filtered)
            .await
            .is(INVALID)
            .because("INVALID_REQUEST")
            .says("next_token");
        let sorted = pb::ListServiceInstancesRequest {
            next_token: next_token.clone(),
            sort_by: SortBy::Name.into(),
            ..Default::default()
        };
        world.fails(sorted).await.is(INVALID).says("next_token");
        let larger = pb::ListServiceInstancesRequest {
            next_token,
            max_results: Some(50),
            ..request
        };
        assert_eq!(list(world, larger).await, ["shop/c", "shop-eu/a"]);
    }
}
