//! `GetResourcesSummary`: how many there are, and how many of them are behind.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::str::FromStr;

use super::component::ComponentRecord;
use super::context::Context;
use super::environment::EnvironmentRecord;
use super::registry::{self, TemplateRecord};
use super::service::ServiceRecord;
use super::service_instance::InstanceRecord;
use super::service_pipeline::PipelineRecord;
use super::store::{Record, Transaction};
use crate::api::pb::{self, DeploymentStatus, ServiceStatus, TemplateType};
use crate::error::Result;

/// How a deployed version stands to the one that its template recommends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Staleness {
    UpToDate,
    BehindMinor,
    /// Whatever the minor.
    BehindMajor,
}

impl FromStr for Staleness {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        match text {
            "UP_TO_DATE" => Ok(Self::UpToDate),
            "BEHIND_MINOR" => Ok(Self::BehindMinor),
            "BEHIND_MAJOR" => Ok(Self::BehindMajor),
            _ => Err(()),
        }
    }
}

/// `None` where nothing is deployed. What is ahead of the recommended version, or has none to
/// compare with, is up to date.
pub fn staleness(
    template: Option<&TemplateRecord>,
    version: Option<(&str, &str)>,
) -> Option<Staleness> {
    let (major, minor) = version?;
    let (major, minor) = (registry::number(major)?, registry::number(minor)?);
    let Some((recommended_major, recommended_minor)) =
        template.and_then(TemplateRecord::recommended)
    else {
        return Some(Staleness::UpToDate);
    };
    Some(if major < recommended_major {
        Staleness::BehindMajor
    } else if major == recommended_major && minor < recommended_minor {
        Staleness::BehindMinor
    } else {
        Staleness::UpToDate
    })
}

#[derive(Default)]
struct Counts {
    total: i32,
    failed: i32,
    up_to_date: i32,
    behind_minor: i32,
    behind_major: i32,
}

impl Counts {
    fn count(&mut self, failed: bool, staleness: Option<Staleness>) {
        self.total += 1;
        self.failed += i32::from(failed);
        match staleness {
            None => {}
            Some(Staleness::UpToDate) => self.up_to_date += 1,
            Some(Staleness::BehindMinor) => self.behind_minor += 1,
            Some(Staleness::BehindMajor) => self.behind_major += 1,
        }
    }

    fn total(self) -> Option<pb::ResourceCountsSummary> {
        Some(pb::ResourceCountsSummary {
            total: Some(self.total),
            ..pb::ResourceCountsSummary::default()
        })
    }

    fn with_failed(self) -> Option<pb::ResourceCountsSummary> {
        Some(pb::ResourceCountsSummary {
            failed: Some(self.failed),
            total: Some(self.total),
            ..pb::ResourceCountsSummary::default()
        })
    }

    fn whole(self) -> Option<pb::ResourceCountsSummary> {
        Some(pb::ResourceCountsSummary {
            behind_major: Some(self.behind_major),
            behind_minor: Some(self.behind_minor),
            failed: Some(self.failed),
            total: Some(self.total),
            up_to_date: Some(self.up_to_date),
        })
    }
}

fn failed(status: DeploymentStatus) -> bool {
    matches!(
        status,
        DeploymentStatus::Failed | DeploymentStatus::DeleteFailed
    )
}

fn count<R: Record>(
    tx: &Transaction<'_>,
    prefix: &str,
    describe: impl Fn(&R) -> (bool, Option<Staleness>),
) -> Result<Counts> {
    let mut counts = Counts::default();
    tx.scan::<R>(prefix, None, |record| {
        let (failed, staleness) = describe(&record);
        counts.count(failed, staleness);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(counts)
}

/// API Reference: templates have a total only; components have no template to be behind.
pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    _: pb::GetResourcesSummaryRequest,
) -> Result<pb::GetResourcesSummaryResponse> {
    let mut templates = BTreeMap::new();
    tx.scan::<TemplateRecord>("", None, |template| {
        templates.insert(template.key(), template);
        Ok(ControlFlow::Continue(()))
    })?;
    let stale = |kind: TemplateType, name: &str, version: Option<(&str, &str)>| {
        staleness(templates.get(&registry::template_key(kind, name)), version)
    };
    let of_kind = |kind: TemplateType| {
        count::<TemplateRecord>(tx, &registry::templates_prefix(kind), |_| (false, None))
    };
    Ok(pb::GetResourcesSummaryResponse {
        counts: Some(pb::CountsSummary {
            components: count::<ComponentRecord>(tx, "", |record| (failed(record.status()), None))?
                .with_failed(),
            environment_templates: of_kind(TemplateType::Environment)?.total(),
            environments: count::<EnvironmentRecord>(tx, "", |record| {
                let stale = stale(
                    TemplateType::Environment,
                    &record.template,
                    record.version(),
                );
                (failed(record.status()), stale)
            })?
            .whole(),
            pipelines: count::<PipelineRecord>(tx, "", |record| {
                let stale = stale(TemplateType::Service, &record.template, record.version());
                (failed(record.status()), stale)
            })?
            .whole(),
            service_instances: count::<InstanceRecord>(tx, "", |record| {
                let stale = stale(TemplateType::Service, &record.template, record.version());
                (failed(record.status()), stale)
            })?
            .whole(),
            service_templates: of_kind(TemplateType::Service)?.total(),
            services: count::<ServiceRecord>(tx, "", |record| {
                let failed = !matches!(
                    record.status(),
                    ServiceStatus::Active
                        | ServiceStatus::CreateInProgress
                        | ServiceStatus::UpdateInProgress
                        | ServiceStatus::DeleteInProgress
                );
                (failed, None)
            })?
            .with_failed(),
        }),
    })
}
