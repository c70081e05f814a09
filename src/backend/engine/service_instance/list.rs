//! `ListServiceInstances`: filters and orders.

use std::str::FromStr;

use prost_types::Timestamp;

use super::InstanceRecord;
use crate::api::pb::{
    self, DeploymentStatus, ListServiceInstancesFilterBy as FilterBy,
    ListServiceInstancesSortBy as SortBy, SortOrder, TemplateType,
};
use crate::backend::engine::context::Context;
use crate::backend::engine::deployment::sort_key;
use crate::backend::engine::paging::Page;
use crate::backend::engine::registry;
use crate::backend::engine::resources_summary::{Staleness, staleness};
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::store::Transaction;
use crate::error::{Error, Result};

/// A condition that listed instances meet.
enum Filter {
    Text(FilterBy, String),
    Status(DeploymentStatus),
    Staleness(Staleness),
    Before(FilterBy, Timestamp),
    After(FilterBy, Timestamp),
}

impl Filter {
    fn read(index: usize, filter: &pb::ListServiceInstancesFilter) -> Result<Self> {
        let field = |name: &str| format!("filters[{index}].{name}");
        let value = filter
            .value
            .as_deref()
            .ok_or_else(|| Error::invalid_field(field("value"), "is required"))?;
        let time = || {
            // API Reference: RFC 3339 without an offset; with one it is as clear.
            Timestamp::from_str(value).map_err(|_| {
                Error::invalid_field(field("value"), "is no time like 2026-10-07T00:00:00Z")
            })
        };
        let key = filter.key();
        Ok(match key {
            FilterBy::Unspecified => {
                return Err(Error::invalid_field(field("key"), "is required"));
            }
            FilterBy::Name
            | FilterBy::TemplateName
            | FilterBy::ServiceName
            | FilterBy::EnvironmentName => Self::Text(key, value.to_owned()),
            FilterBy::DeploymentStatus => {
                let name = format!("DEPLOYMENT_STATUS_{value}");
                let status = DeploymentStatus::from_str_name(&name)
                    .filter(|status| *status != DeploymentStatus::Unspecified);
                Self::Status(status.ok_or_else(|| {
                    Error::invalid_field(field("value"), "is no deployment status")
                })?)
            }
            FilterBy::DeployedTemplateVersionStatus => {
                Self::Staleness(Staleness::from_str(value).map_err(|()| {
                    Error::invalid_field(
                        field("value"),
                        "is none of UP_TO_DATE, BEHIND_MINOR, BEHIND_MAJOR",
                    )
                })?)
            }
            FilterBy::LastDeploymentAttemptedAtBefore | FilterBy::CreatedAtBefore => {
                Self::Before(key, time()?)
            }
            FilterBy::LastDeploymentAttemptedAtAfter | FilterBy::CreatedAtAfter => {
                Self::After(key, time()?)
            }
        })
    }

    fn met(&self, tx: &Transaction<'_>, record: &InstanceRecord) -> Result<bool> {
        let attempted_at = record.rollout.as_ref().and_then(|r| r.attempted_at);
        let time = |by: FilterBy| match by {
            FilterBy::CreatedAtBefore | FilterBy::CreatedAtAfter => record.created_at,
            _ => attempted_at,
        };
        let order = |time: &Timestamp| (time.seconds, time.nanos);
        Ok(match self {
            Self::Text(FilterBy::Name, value) => record.name == *value,
            Self::Text(FilterBy::TemplateName, value) => record.template == *value,
            Self::Text(FilterBy::ServiceName, value) => record.service == *value,
            Self::Text(_, value) => record.environment == *value,
            Self::Status(status) => record.status() == *status,
            Self::Staleness(wanted) => {
                let template = tx.get(&registry::template_key(
                    TemplateType::Service,
                    &record.template,
                ))?;
                staleness(template.as_ref(), record.version()) == Some(*wanted)
            }
            Self::Before(by, limit) => time(*by).is_some_and(|time| order(&time) < order(limit)),
            Self::After(by, limit) => time(*by).is_some_and(|time| order(&time) > order(limit)),
        })
    }
}

fn sort_by(by: SortBy, view: &pb::ServiceInstanceSummary) -> String {
    match by {
        SortBy::Name => view.name().to_owned(),
        SortBy::DeploymentStatus => view.deployment_status().as_str_name().to_owned(),
        SortBy::TemplateName => view.template_name().to_owned(),
        SortBy::EnvironmentName => view.environment_name().to_owned(),
        SortBy::LastDeploymentAttemptedAt => sort_key(view.last_deployment_attempted_at.as_ref()),
        SortBy::CreatedAt => sort_key(view.created_at.as_ref()),
        // API Reference: the default.
        SortBy::ServiceName | SortBy::Unspecified => view.service_name().to_owned(),
    }
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListServiceInstancesRequest,
) -> Result<pb::ListServiceInstancesResponse> {
    let page = Page::of(cx, &mut request)?;
    let by = request.sort_by();
    let descending = request.sort_order() == SortOrder::Descending;
    let filters = request
        .filters
        .iter()
        .enumerate()
        .map(|(index, filter)| Filter::read(index, filter))
        .collect::<Result<Vec<_>>>()?;
    let prefix = match &request.service_name {
        Some(service) => {
            if tx.get::<ServiceRecord>(service)?.is_none() {
                return Err(Error::not_found("service", service));
            }
            format!("{service}/")
        }
        None => String::new(),
    };
    let select = |record: InstanceRecord| {
        for filter in &filters {
            if !filter.met(tx, &record)? {
                return Ok(None);
            }
        }
        Ok(Some(record.summary(cx)))
    };
    // Keys are in the order of services' names only within one service: `shop-eu/a` is before
    // `shop/a`.
    let by_service = matches!(by, SortBy::Unspecified | SortBy::ServiceName);
    let in_order = request.service_name.is_some() && by_service && !descending;
    let (service_instances, next_token) = if in_order {
        page.scan(tx, &prefix, select)?
    } else {
        let mut items = Vec::new();
        tx.scan::<InstanceRecord>(&prefix, None, |record| {
            // A space is before every character of a name.
            let key = format!("{} {}", record.service, record.name);
            if let Some(view) = select(record)? {
                items.push(((sort_by(by, &view), key), view));
            }
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        page.slice(items, descending)?
    };
    Ok(pb::ListServiceInstancesResponse {
        next_token,
        service_instances,
    })
}
