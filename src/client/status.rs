//! `status`: what is deployed, what of it is under way, and what needs somebody.
//!
//! Reads the gateway's lists ([`look`]) and changes nothing. How it looks is decided in [`view`].

mod look;
mod view;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;

use self::look::{Seen, look};
use self::view::View;
use super::credential::Credential;
use super::endpoint::Reach;
use super::failure::{Failure, pause, said};
use super::report::Output;
use super::wrong_door;
use crate::config::Span;

/// How long after one look the next one comes.
const PAUSE: Duration = Duration::from_secs(2);
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
}
