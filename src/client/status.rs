//! `status`: what is deployed, what of it is under way, and what needs somebody.
//!
//! Reads the gateway's lists page by page and changes nothing. How it looks is decided in [`view`].

mod view;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};
use tonic::Status;

use self::view::View;
use super::asking::{answer, within_limits};
use super::credential::{Credential, Known};
use super::endpoint::Reach;
use super::failure::{Failure, denied, pause, said};
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
        let endpoint = command.credential.endpoint(&command.reach);
        let channel = endpoint.map_err(Failure::Usage)?.connect_lazy();
        let mut view = View::new(command.output);
        // Looks since the last one that told something, which there has to be.
        let mut failed = None;
        loop {
            let looked = async { look(command.credential.over(channel.clone())?).await };
            let seen = match looked.await {
                Ok(seen) => seen,
                Err(status) => {
                    // A gateway that was there comes back.
                    let again = failed.and_then(|failed| Some((failed, pause(&status, failed)?)));
                    if let Some((before, pause)) = again {
                        view.interrupted(&said(&status));
                        tokio::time::sleep(pause.max(PAUSE)).await;
                        failed = Some(before + 1);
                        continue;
                    }
                    view.close();
                    return Err(wrong_door::failure(&status, &command.reach, &channel).await);
                }
            };
            let report = Report::of(seen, SystemTime::now(), command.stuck_after.0);
            if command.follow && report.is_under_way() {
                view.meanwhile(&report);
                failed = Some(0);
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

/// What one look has found.
#[derive(Default)]
struct Seen {
    items: Vec<Item>,
    /// Of what the caller may not see all.
    denied: BTreeSet<Kind>,
    /// How the gateway said that.
    refusal: Option<Status>,
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

/// What there is at one moment, what needs somebody first.
struct Report {
    now: SystemTime,
    items: Vec<(Standing, Item)>,
    denied: BTreeSet<Kind>,
}

impl Report {
    fn of(seen: Seen, now: SystemTime, stuck_after: Duration) -> Self {
        let standing = |item: Item| (item.standing(now, stuck_after), item);
        let mut items: Vec<_> = seen.items.into_iter().map(standing).collect();
        items.sort_by(|(a, one), (b, other)| {
            (a, one.kind, &one.name).cmp(&(b, other.kind, &other.name))
        });
        Self {
            now,
            items,
            denied: seen.denied,
        }
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

async fn look(known: Known) -> Result<Seen, Status> {
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
        let seen = |items| Seen {
            items,
            ..Seen::default()
        };
        let report = Report::of(seen(vec![settled.clone(), failed.clone()]), now, HOUR);
        let order: Vec<_> = report.items.iter().map(|(_, item)| item).collect();
        assert_eq!(order, [&failed, &settled]);
        assert!(report.needs_somebody() && !report.is_under_way());
        assert!(!Report::of(seen(vec![settled]), now, HOUR).needs_somebody());
    }

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
