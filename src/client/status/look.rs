//! One look at what there is: all lists page by page, and the pipelines, which no list has.
//!
//! Limits are waited for, and what the caller may not see is left out.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use super::super::asking::{answer, within_limits};
use super::super::credential::Known;
use super::super::failure::denied;
use super::{Item, Kind};
use crate::api::pb;
use crate::api::pb::paginator_service_client::PaginatorServiceClient;
use crate::api::pb::proton_service_client::ProtonServiceClient;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many services are asked for their pipelines at the same time.
const TOGETHER: usize = 8;

/// What one look has found.
#[derive(Default)]
pub struct Seen {
    pub items: Vec<Item>,
    /// Of what the caller may not see all.
    pub denied: BTreeSet<Kind>,
    /// How the gateway said that.
    pub refusal: Option<Status>,
}

impl Seen {
    /// Takes in what there is of a kind; it is no failure that the caller may not see it.
    fn take(
        &mut self,
        kind: Kind,
        found: Result<impl IntoIterator<Item = Item>, Status>,
    ) -> Result<(), Status> {
        match found {
            Ok(items) => self.items.extend(items),
            Err(status) if denied(&status) => {
                self.denied.insert(kind);
                self.refusal = Some(status);
            }
            Err(status) => return Err(status),
        }
        Ok(())
    }

    /// Refused where nothing at all may be seen.
    fn checked(self) -> Result<Self, Status> {
        match self.refusal {
            Some(refusal) if self.denied.len() == Kind::ALL.len() => Err(refusal),
            _ => Ok(self),
        }
    }
}

/// All of a list, page by page; gone on with from the last page when a limit has to be waited for.
macro_rules! all {
    ($known:expr, $until:ident, $rpc:ident, $request:ident, $items:ident) => {{
        let mut lists = PaginatorServiceClient::new($known.clone());
        let mut asked = pb::$request {
            request: Some(Default::default()),
            limit: 0,
        };
        let mut all = Vec::new();
        within_limits($until, async || {
            let mut pages = answer(lists.$rpc(asked.clone())).await?.into_inner();
            while let Some(told) = answer(pages.message()).await? {
                let page = told.page.unwrap_or_default();
                all.extend(page.$items);
                match page.next_token {
                    None => break,
                    next_token => asked.request.get_or_insert_default().next_token = next_token,
                }
            }
            Ok(())
        })
        .await
        .map(|()| all)
    }};
}

/// Looks at all lists, and at the pipelines of the services.
pub async fn look(known: Known) -> Result<Seen, Status> {
    let until = Instant::now() + PATIENCE;
    timeout_at(until, look_until(known, until))
        .await
        .unwrap_or_else(|_| {
            let patience = humantime::format_duration(PATIENCE);
            let text = format!("the gateway has not told everything within {patience}");
            Err(Status::unavailable(text))
        })
}

async fn look_until(known: Known, until: Instant) -> Result<Seen, Status> {
    let mut seen = Seen::default();
    let environments = all!(
        known,
        until,
        page_environments,
        PageEnvironmentsRequest,
        environments
    );
    seen.take(Kind::Environment, environments.map(environments_of))?;
    let services = all!(known, until, page_services, PageServicesRequest, services);
    let names: Vec<_> = services
        .iter()
        .flatten()
        .map(|it| it.name().to_owned())
        .collect();
    if services.is_err() {
        seen.denied.insert(Kind::Pipeline);
    }
    seen.take(Kind::Service, services.map(services_of))?;
    let instances = all!(
        known,
        until,
        page_service_instances,
        PageServiceInstancesRequest,
        service_instances
    );
    seen.take(Kind::Instance, instances.map(instances_of))?;
    let components = all!(
        known,
        until,
        page_components,
        PageComponentsRequest,
        components
    );
    seen.take(Kind::Component, components.map(components_of))?;
    let mut pipelines = stream::iter(names)
        .map(|name| pipeline(known.clone(), name, until))
        .buffered(TOGETHER);
    while let Some(pipeline) = pipelines.next().await {
        seen.take(Kind::Pipeline, pipeline)?;
    }
    drop(pipelines);
    seen.checked()
}

fn environments_of(all: Vec<pb::EnvironmentSummary>) -> impl Iterator<Item = Item> {
    all.into_iter().map(|it| Item {
        kind: Kind::Environment,
        name: it.name().to_owned(),
        status: deployment(it.deployment_status),
        message: it.deployment_status_message().to_owned(),
        since: moment(it.last_deployment_attempted_at),
    })
}

fn services_of(all: Vec<pb::ServiceSummary>) -> impl Iterator<Item = Item> {
    all.into_iter().map(|it| Item {
        kind: Kind::Service,
        name: it.name().to_owned(),
        status: service(it.status),
        message: it.status_message().to_owned(),
        since: moment(it.last_modified_at),
    })
}

fn instances_of(all: Vec<pb::ServiceInstanceSummary>) -> impl Iterator<Item = Item> {
    all.into_iter().map(|it| Item {
        kind: Kind::Instance,
        name: format!("{}/{}", it.service_name(), it.name()),
        status: deployment(it.deployment_status),
        message: it.deployment_status_message().to_owned(),
        since: moment(it.last_deployment_attempted_at),
    })
}

fn components_of(all: Vec<pb::ComponentSummary>) -> impl Iterator<Item = Item> {
    all.into_iter().map(|it| Item {
        kind: Kind::Component,
        name: it.name().to_owned(),
        status: deployment(it.deployment_status),
        message: it.deployment_status_message().to_owned(),
        since: moment(it.last_deployment_attempted_at.or(it.last_modified_at)),
    })
}

/// The pipeline of a service: no list has it.
async fn pipeline(known: Known, name: String, until: Instant) -> Result<Option<Item>, Status> {
    let mut client = ProtonServiceClient::new(known);
    let request = pb::GetServiceRequest { name: name.clone() };
    let found = within_limits(until, async || {
        answer(client.get_service(request.clone())).await
    });
    let service = match found.await {
        Ok(answer) => answer.into_inner().service,
        // It was deleted meanwhile.
        Err(status) if status.code() == tonic::Code::NotFound => None,
        Err(status) => return Err(status),
    };
    Ok(service.and_then(|it| it.pipeline).map(|it| Item {
        kind: Kind::Pipeline,
        name,
        status: deployment(it.deployment_status),
        message: it.deployment_status_message().to_owned(),
        since: moment(it.last_deployment_attempted_at),
    }))
}

fn deployment(status: i32) -> String {
    let known = pb::DeploymentStatus::try_from(status);
    named(
        known.map(|it| it.as_str_name()),
        "DEPLOYMENT_STATUS_",
        status,
    )
}

fn service(status: i32) -> String {
    let known = pb::ServiceStatus::try_from(status);
    named(known.map(|it| it.as_str_name()), "SERVICE_STATUS_", status)
}

/// A status without what all of its kind begin with; one that is not known yet by its number.
fn named<E>(name: Result<&'static str, E>, prefix: &str, number: i32) -> String {
    match name {
        Ok(name) => name.strip_prefix(prefix).unwrap_or(name).to_owned(),
        Err(_) => number.to_string(),
    }
}

fn moment(at: Option<prost_types::Timestamp>) -> Option<SystemTime> {
    at.and_then(|at| SystemTime::try_from(at).ok())
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    fn refusal(with_a_reason: bool) -> Status {
        let details = match with_a_reason {
            true => ErrorDetails::with_error_info("DENIED_BY_GATEWAY", "proton-gateway", []),
            false => ErrorDetails::new(),
        };
        Status::with_error_details(tonic::Code::PermissionDenied, "no", details)
    }

    #[test]
    fn what_may_not_be_seen_is_no_failure_unless_it_is_everything() {
        let mut seen = Seen::default();
        for kind in Kind::ALL {
            let so_far = std::mem::take(&mut seen);
            seen = so_far.checked().unwrap();
            seen.take(kind, Err::<Option<Item>, _>(refusal(true)))
                .unwrap();
        }
        assert!(seen.checked().is_err());
    }

    #[test]
    fn a_refusal_of_others_than_the_gateway_is_a_failure() {
        let refused = Err::<Option<Item>, _>(refusal(false));
        assert!(Seen::default().take(Kind::Service, refused).is_err());
    }

    #[test]
    fn a_status_that_is_not_known_yet_is_shown_by_its_number() {
        assert_eq!(deployment(3), "SUCCEEDED");
        assert_eq!(deployment(77), "77");
        assert_eq!(service(6), "ACTIVE");
    }
}
