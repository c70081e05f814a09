//! All there is in a world, as sorted lines: without times, and without ids that chance makes.

use std::time::{Duration, Instant};

use proton_gateway::api::{Request, Response, pb};
use proton_gateway::edge::Arrival;
use proton_gateway::error::Result;
use proton_gateway::gateway::{Call, Door, Reply};
use regex::Regex;
use serde_json::Value;

use crate::support::World;

/// Sends a request without a key.
pub async fn ask(world: &World, request: Request) -> Result<Reply> {
    let arrival = Arrival {
        request_id: "test".to_owned(),
        deadline: Instant::now() + Duration::from_secs(60),
        ..Arrival::default()
    };
    let call = Call::new(request, Door::Grpc, &arrival);
    world.gateway.call(call).await
}

/// The items of all pages.
macro_rules! list {
    ($world:ident, $operation:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let mut found: Vec<Value> = Vec::new();
        let mut next_token = None;
        loop {
            let request = pb::$request {
                $($field: $value,)*
                max_results: Some(100),
                next_token: next_token.take(),
                ..Default::default()
            };
            let reply = ask($world, Request::$operation(request)).await.unwrap();
            let Response::$operation(page) = &reply.response else { panic!("another operation") };
            next_token = page.next_token.clone().filter(|token| !token.is_empty());
            let Value::Object(shown) = reply.response.to_json() else { panic!("no object") };
            found.extend(shown.into_values().filter_map(|value| match value {
                Value::Array(items) => Some(items),
                _ => None,
            }).flatten());
            if next_token.is_none() {
                break found;
            }
        }
    }};
}

macro_rules! get {
    ($world:ident, $operation:ident, $request:ident { $($field:ident: $value:expr),* }) => {{
        let request = pb::$request { $($field: $value,)* ..Default::default() };
        match ask($world, Request::$operation(request)).await {
            Ok(reply) => reply.response.to_json(),
            Err(error) => error.message.into(),
        }
    }};
}

fn text(value: &Value, name: &str) -> String {
    value[name].as_str().unwrap_or_default().to_owned()
}

/// All there is.
pub async fn inventory(world: &World) -> Vec<String> {
    let mut all: Vec<(&str, Value)> = Vec::new();
    let mut arns = Vec::new();
    for template in list!(
        world,
        ListEnvironmentTemplates,
        ListEnvironmentTemplatesRequest {}
    ) {
        let name = text(&template, "name");
        arns.push(text(&template, "arn"));
        for version in list!(
            world,
            ListEnvironmentTemplateVersions,
            ListEnvironmentTemplateVersionsRequest {
                template_name: name.clone()
            }
        ) {
            all.push(("environment template version", version));
        }
        let sync = get!(
            world,
            GetTemplateSyncConfig,
            GetTemplateSyncConfigRequest {
                template_name: name,
                template_type: pb::TemplateType::Environment.into()
            }
        );
        all.push(("template sync", sync));
        all.push(("environment template", template));
    }
    for template in list!(world, ListServiceTemplates, ListServiceTemplatesRequest {}) {
        arns.push(text(&template, "arn"));
        for version in list!(
            world,
            ListServiceTemplateVersions,
            ListServiceTemplateVersionsRequest {
                template_name: text(&template, "name")
            }
        ) {
            all.push(("service template version", version));
        }
        all.push(("service template", template));
    }
    for environment in list!(world, ListEnvironments, ListEnvironmentsRequest {}) {
        arns.push(text(&environment, "arn"));
        let name = text(&environment, "name");
        let found = get!(world, GetEnvironment, GetEnvironmentRequest { name: name });
        all.push(("environment", found));
    }
    for service in list!(world, ListServices, ListServicesRequest {}) {
        arns.push(text(&service, "arn"));
        let name = text(&service, "name");
        all.push((
            "service",
            get!(world, GetService, GetServiceRequest { name: name }),
        ));
    }
    for instance in list!(world, ListServiceInstances, ListServiceInstancesRequest {}) {
        let (service_name, name) = (text(&instance, "serviceName"), text(&instance, "name"));
        let found = get!(
            world,
            GetServiceInstance,
            GetServiceInstanceRequest {
                service_name: service_name,
                name: name
            }
        );
        all.push(("instance", found));
    }
    for component in list!(world, ListComponents, ListComponentsRequest {}) {
        let name = text(&component, "name");
        all.push((
            "component",
            get!(world, GetComponent, GetComponentRequest { name: name }),
        ));
    }
    for side in [
        pb::EnvironmentAccountConnectionRequesterAccountType::ManagementAccount,
        pb::EnvironmentAccountConnectionRequesterAccountType::EnvironmentAccount,
    ] {
        let connections = list!(
            world,
            ListEnvironmentAccountConnections,
            ListEnvironmentAccountConnectionsRequest {
                requested_by: side.into()
            }
        );
        all.extend(
            connections
                .into_iter()
                .map(|connection| ("connection", connection)),
        );
    }
    let repositories = list!(world, ListRepositories, ListRepositoriesRequest {});
    all.extend(repositories.into_iter().map(|it| ("repository", it)));
    let deployments = list!(world, ListDeployments, ListDeploymentsRequest {});
    for deployment in deployments {
        let id = text(&deployment, "id");
        all.push((
            "deployment",
            get!(world, GetDeployment, GetDeploymentRequest { id: id }),
        ));
    }
    for arn in arns {
        for tag in list!(
            world,
            ListTagsForResource,
            ListTagsForResourceRequest {
                resource_arn: arn.clone()
            }
        ) {
            all.push(("tag", serde_json::json!({ "arn": arn, "tag": tag })));
        }
    }
    all.push((
        "settings",
        get!(world, GetAccountSettings, GetAccountSettingsRequest {}),
    ));
    let ids = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
    let mut lines: Vec<_> = all
        .into_iter()
        .map(|(what, value)| {
            let line = format!("{what} {}", timeless(value));
            ids.replace_all(&line, "ID").into_owned()
        })
        .collect();
    lines.sort();
    lines
}

fn timeless(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(name, _)| !name.ends_with("At") && !name.ends_with("Time"))
                .map(|(name, value)| (name, timeless(value)))
                .collect(),
        ),
        Value::Array(items) => items.into_iter().map(timeless).collect(),
        other => other,
    }
}

/// What only one of two inventories has: `-` the first, `+` the second.
pub fn difference(first: &[String], second: &[String]) -> Vec<String> {
    let (mut one, mut other) = (first.iter().peekable(), second.iter().peekable());
    let mut lines = Vec::new();
    loop {
        match (one.peek(), other.peek()) {
            (None, None) => return lines,
            (Some(a), Some(b)) if a == b => {
                one.next();
                other.next();
            }
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                lines.push(format!("- {a}"));
                one.next();
            }
            (_, Some(b)) => {
                lines.push(format!("+ {b}"));
                other.next();
            }
            (Some(_), None) => unreachable!("the case before"),
        }
    }
}
