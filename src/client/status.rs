//! `status`: what is deployed, what of it is under way, and what needs somebody.
//!
//! Reads the gateway's lists page by page and changes nothing. How it looks is decided in [`view`].

mod view;

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use tonic::Status;

use self::view::View;
use super::credential::{Credential, Known};
use super::endpoint::Reach;
use super::failure::Failure;
use super::report::Output;
use super::wrong_door;
use crate::api::pb;
use crate::api::pb::paginator_service_client::PaginatorServiceClient;
use crate::api::pb::proton_service_client::ProtonServiceClient;
use crate::config::Span;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long after one look the next one comes.
const PAUSE: Duration = Duration::from_secs(2);
/// How many services are asked for their pipelines at the same time.
const TOGETHER: usize = 8;
const NEEDS_SOMEBODY: u8 = 1;

/// What `status` is asked for.
#[derive(Debug, Clone, Args)]
pub struct StatusCommand {
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    credential: Credential,
    /// What is written to the standard output
    #[arg(long, value_enum, default_value = "text", value_name = "FORMAT")]
    output: Output,
    /// What is under way for longer counts as stuck
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    stuck_after: Span,
    /// Look again every two seconds until nothing is under way
    #[arg(long)]
    follow: bool,
    /// Exit status 1 where something has failed or is stuck
    #[arg(long)]
    check: bool,
}

/// Says what there is; the exit status says with `--check` whether it needs somebody.
pub fn status(command: &StatusCommand) -> Result<ExitCode, Failure> {
    super::on_runtime(async {
        let endpoint = command.reach.endpoint().map_err(Failure::Usage)?;
        let channel = endpoint.connect_lazy();
        let mut view = View::new(command.output);
        loop {
            let known = command.credential.over(channel.clone());
            let looked = match known {
                Ok(known) => tokio::time::timeout(PATIENCE, look(known)).await,
                Err(status) => Ok(Err(status)),
            };
            let items = match looked {
                Ok(Ok(items)) => items,
                Ok(Err(status)) => {
                    view.close();
                    let reach = &command.reach;
                    return Err(wrong_door::failure(&status, reach, &channel).await);
                }
                Err(_) => {
                    view.close();
                    let patience = humantime::format_duration(PATIENCE);
                    let text = format!("the gateway did not answer within {patience}");
                    return Err(Failure::Failed(text));
                }
            };
            let report = Report::of(items, SystemTime::now(), command.stuck_after.0);
            if command.follow && report.is_under_way() {
                view.meanwhile(&report);
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            view.close();
            super::written(view.say(&report))?;
            let needed = command.check && report.needs_somebody();
            return Ok(ExitCode::from(if needed { NEEDS_SOMEBODY } else { 0 }));
        }
    })
}

/// What can be deployed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Environment,
    Service,
    Pipeline,
    Instance,
    Component,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Environment,
        Self::Service,
        Self::Pipeline,
        Self::Instance,
        Self::Component,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Environment => "environment",
            Self::Service => "service",
            Self::Pipeline => "pipeline",
            Self::Instance => "instance",
            Self::Component => "component",
        }
    }
}

/// How it stands with something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Stuck,
    Failed,
    UnderWay,
    Cancelled,
    Settled,
}

impl Standing {
    const ALL: [Self; 5] = [
        Self::Stuck,
        Self::Failed,
        Self::UnderWay,
        Self::Cancelled,
        Self::Settled,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::UnderWay => "in progress",
            Self::Cancelled => "cancelled",
            Self::Settled => "settled",
        }
    }
}

/// Something that is or was to be deployed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Item {
    kind: Kind,
    /// With its service's, where it is part of one.
    name: String,
    /// As Proton calls it.
    status: String,
    message: String,
    /// When what the status is about began.
    since: Option<SystemTime>,
}

impl Item {
    fn standing(&self, now: SystemTime, stuck_after: Duration) -> Standing {
        let status = self.status.as_str();
        let lasts = |since: SystemTime| now.duration_since(since).unwrap_or_default();
        if status.ends_with("IN_PROGRESS") || status == "CANCELLING" {
            let stuck = self.since.is_some_and(|since| lasts(since) >= stuck_after);
            if stuck {
                Standing::Stuck
            } else {
                Standing::UnderWay
            }
        } else if status.contains("FAILED") {
            Standing::Failed
        } else if status == "CANCELLED" {
            Standing::Cancelled
        } else {
            Standing::Settled
        }
    }
}

/// What there is at one moment, what needs somebody first.
struct Report {
    now: SystemTime,
    items: Vec<(Standing, Item)>,
}

impl Report {
    fn of(items: Vec<Item>, now: SystemTime, stuck_after: Duration) -> Self {
        let standing = |item: Item| (item.standing(now, stuck_after), item);
        let mut items: Vec<_> = items.into_iter().map(standing).collect();
        items.sort_by(|(a, one), (b, other)| {
            (a, one.kind, &one.name).cmp(&(b, other.kind, &other.name))
        });
        Self { now, items }
    }

    fn count(&self, kind: Option<Kind>, standing: Option<Standing>) -> usize {
        self.items
            .iter()
            .filter(|(at, item)| {
                kind.is_none_or(|kind| kind == item.kind)
                    && standing.is_none_or(|standing| standing == *at)
            })
            .count()
    }

    /// Whether something goes on that will end by itself.
    fn is_under_way(&self) -> bool {
        self.count(None, Some(Standing::UnderWay)) > 0
    }

    fn needs_somebody(&self) -> bool {
        let is = |standing| self.count(None, Some(standing)) > 0;
        is(Standing::Failed) || is(Standing::Stuck)
    }
}

/// All items of a list, page by page.
macro_rules! all {
    ($client:expr, $rpc:ident, $request:ident, $items:ident) => {{
        let mut pages = $client
            .$rpc(pb::$request {
                request: Some(Default::default()),
                limit: 0,
            })
            .await?
            .into_inner();
        let mut items = Vec::new();
        while let Some(answer) = pages.message().await? {
            items.extend(answer.page.unwrap_or_default().$items);
        }
        items
    }};
}

async fn look(known: Known) -> Result<Vec<Item>, Status> {
    let mut lists = PaginatorServiceClient::new(known.clone());
    let mut items = Vec::new();
    for it in all!(
        lists,
        page_environments,
        PageEnvironmentsRequest,
        environments
    ) {
        items.push(Item {
            kind: Kind::Environment,
            name: it.name().to_owned(),
            status: deployment(it.deployment_status),
            message: it.deployment_status_message().to_owned(),
            since: moment(it.last_deployment_attempted_at),
        });
    }
    let services = all!(lists, page_services, PageServicesRequest, services);
    let names: Vec<_> = services.iter().map(|it| it.name().to_owned()).collect();
    for it in services {
        items.push(Item {
            kind: Kind::Service,
            name: it.name().to_owned(),
            status: service(it.status),
            message: it.status_message().to_owned(),
            since: moment(it.last_modified_at),
        });
    }
    for it in all!(
        lists,
        page_service_instances,
        PageServiceInstancesRequest,
        service_instances
    ) {
        items.push(Item {
            kind: Kind::Instance,
            name: format!("{}/{}", it.service_name(), it.name()),
            status: deployment(it.deployment_status),
            message: it.deployment_status_message().to_owned(),
            since: moment(it.last_deployment_attempted_at),
        });
    }
    for it in all!(lists, page_components, PageComponentsRequest, components) {
        let began = it.last_deployment_attempted_at.or(it.last_modified_at);
        items.push(Item {
            kind: Kind::Component,
            name: it.name().to_owned(),
            status: deployment(it.deployment_status),
            message: it.deployment_status_message().to_owned(),
            since: moment(began),
        });
    }
    let pipelines = stream::iter(names)
        .map(|name| pipeline(known.clone(), name))
        .buffered(TOGETHER);
    let pipelines: Vec<_> = pipelines.try_collect().await?;
    items.extend(pipelines.into_iter().flatten());
    Ok(items)
}

/// The pipeline of a service: no list has it.
async fn pipeline(known: Known, name: String) -> Result<Option<Item>, Status> {
    let request = pb::GetServiceRequest { name: name.clone() };
    let service = match ProtonServiceClient::new(known).get_service(request).await {
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
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn item(status: &str, lasts: Duration) -> (Item, SystemTime) {
        let now = SystemTime::UNIX_EPOCH + 100 * HOUR;
        let item = Item {
            kind: Kind::Environment,
            name: "prod".to_owned(),
            status: status.to_owned(),
            message: String::new(),
            since: Some(now - lasts),
        };
        (item, now)
    }

    #[test]
    fn every_status_of_the_contract_stands_somewhere() {
        for (status, standing) in [
            ("SUCCEEDED", Standing::Settled),
            ("ACTIVE", Standing::Settled),
            ("DELETE_COMPLETE", Standing::Settled),
            ("IN_PROGRESS", Standing::UnderWay),
            ("DELETE_IN_PROGRESS", Standing::UnderWay),
            ("CANCELLING", Standing::UnderWay),
            ("UPDATE_FAILED_CLEANUP_IN_PROGRESS", Standing::UnderWay),
            ("UPDATE_FAILED_CLEANUP_COMPLETE", Standing::Failed),
            ("UPDATE_COMPLETE_CLEANUP_FAILED", Standing::Failed),
            ("DELETE_FAILED", Standing::Failed),
            ("CANCELLED", Standing::Cancelled),
        ] {
            let (item, now) = item(status, Duration::ZERO);
            assert_eq!(item.standing(now, HOUR), standing, "{status}");
        }
    }

    #[test]
    fn what_is_under_way_for_too_long_is_stuck_and_what_has_ended_is_not() {
        let (long, now) = item("IN_PROGRESS", HOUR);
        assert_eq!(long.standing(now, HOUR), Standing::Stuck);
        assert_eq!(long.standing(now, 2 * HOUR), Standing::UnderWay);
        let (failed, now) = item("FAILED", 50 * HOUR);
        assert_eq!(failed.standing(now, HOUR), Standing::Failed);
    }

    #[test]
    fn what_needs_somebody_comes_first() {
        let (settled, now) = item("SUCCEEDED", HOUR);
        let (failed, _) = item("FAILED", HOUR);
        let report = Report::of(vec![settled.clone(), failed.clone()], now, HOUR);
        let order: Vec<_> = report.items.iter().map(|(_, item)| item).collect();
        assert_eq!(order, [&failed, &settled]);
        assert!(report.needs_somebody() && !report.is_under_way());
        assert!(!Report::of(vec![settled], now, HOUR).needs_somebody());
    }

    #[test]
    fn a_status_that_is_not_known_yet_is_shown_by_its_number() {
        assert_eq!(deployment(3), "SUCCEEDED");
        assert_eq!(deployment(77), "77");
        assert_eq!(service(6), "ACTIVE");
    }
}
