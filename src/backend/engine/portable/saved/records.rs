//! From what the answers say to records.

mod account;
mod nameless;
mod platform;
mod services;
mod templates;

use std::collections::BTreeMap;

use super::Saved;
use super::answers::{Answers, Kind};
use crate::api::pb::{DeploymentStatus, ServiceStatus, TemplateType};
use crate::backend::engine::portable::holdings::Found;
use crate::backend::engine::portable::problem::{Place, Problems};
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::registry;

/// What a deployment says that was under way when it was saved.
const CUT_OFF: &str = "It was under way when it was saved, and nobody ends it any more.";

/// The highest number of a version that is taken: there must be one after it.
const MOST_NUMBER: u64 = u32::MAX as u64;

/// Builds what the answers tell of, as far as they do.
pub fn build(answers: Answers, problems: &Problems) -> Saved {
    let mut saved = Saved::default();
    for (file, remark) in &answers.remarks {
        saved.remark(file, *remark);
    }
    let mut builder = Builder {
        saved,
        problems,
        versions: BTreeMap::new(),
        nameless: BTreeMap::new(),
        left_out: Vec::new(),
    };
    let known = answers.known;
    let of = |kind: Kind| {
        known
            .iter()
            .filter(move |((is, _), _)| *is == kind)
            .map(|(_, known)| known)
    };
    of(Kind::Repository).for_each(|known| builder.repository(known));
    of(Kind::Connection).for_each(|known| builder.connection(known));
    of(Kind::Settings).for_each(|known| builder.settings(known));
    of(Kind::EnvironmentTemplate).for_each(|known| builder.environment_template(known));
    of(Kind::ServiceTemplate).for_each(|known| builder.service_template(known));
    of(Kind::EnvironmentVersion).for_each(|known| builder.environment_version(known));
    of(Kind::ServiceVersion).for_each(|known| builder.service_version(known));
    of(Kind::Environment).for_each(|known| builder.environment(known));
    of(Kind::Service).for_each(|known| builder.service(known));
    of(Kind::Instance).for_each(|known| builder.instance(known));
    builder.service_versions();
    of(Kind::Component).for_each(|known| builder.component(known));
    of(Kind::Deployment).for_each(|known| builder.deployment(known));
    of(Kind::TemplateSync).for_each(|known| builder.template_sync(known));
    of(Kind::ServiceSync).for_each(|known| builder.service_sync(known));
    builder.templates();
    for outputs in &answers.outputs {
        builder.outputs(outputs);
    }
    for tags in &answers.tags {
        builder.tags(tags);
    }
    builder.saved
}

fn found<R>(file: &str, record: R) -> Found<R> {
    Found {
        file: file.to_owned(),
        record,
        tags: Vec::new(),
    }
}

/// A template, a major and a minor.
type Number = (TemplateType, String, u64, u64);

struct Builder<'a> {
    saved: Saved,
    problems: &'a Problems,
    /// Versions that something refers to, with the file that does.
    versions: BTreeMap<Number, String>,
    /// Who has outputs or tags already, with the file that says so.
    nameless: BTreeMap<String, String>,
    /// What was saved, but is not taken over.
    left_out: Vec<Target>,
}

/// Whether something is there: lists do not always say when it was deployed.
fn is_deployed(rollout: &Rollout) -> bool {
    rollout.succeeded_at.is_some() || rollout.status() == DeploymentStatus::Succeeded
}

/// Whether something is there no more, and why it is left out then.
fn was_deleted(status: DeploymentStatus) -> Option<&'static str> {
    (status == DeploymentStatus::DeleteComplete).then_some("it was deleted")
}

/// How a deployment counts that was under way.
fn ended(status: DeploymentStatus) -> Option<DeploymentStatus> {
    match status {
        DeploymentStatus::InProgress | DeploymentStatus::Cancelling => {
            Some(DeploymentStatus::Failed)
        }
        DeploymentStatus::DeleteInProgress => Some(DeploymentStatus::DeleteFailed),
        _ => None,
    }
}

/// The same of a service.
fn settled(status: ServiceStatus) -> Option<ServiceStatus> {
    match status {
        ServiceStatus::CreateInProgress | ServiceStatus::CreateFailedCleanupInProgress => {
            Some(ServiceStatus::CreateFailed)
        }
        ServiceStatus::UpdateInProgress | ServiceStatus::UpdateFailedCleanupInProgress => {
            Some(ServiceStatus::UpdateFailed)
        }
        ServiceStatus::DeleteInProgress => Some(ServiceStatus::DeleteFailed),
        _ => None,
    }
}

impl Builder<'_> {
    fn remark(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.saved.remark(subject, text);
    }

    /// Notes that a version must be there, if there is one: what was never deployed has none.
    fn refers(
        &mut self,
        place: &Place<'_>,
        kind: TemplateType,
        name: &str,
        (major, minor): (&str, &str),
    ) -> bool {
        match (registry::number(major), registry::number(minor)) {
            (Some(major), Some(minor)) if major.max(minor) > MOST_NUMBER => {
                place.wrong(format!(
                    "{name}:{major}.{minor} has a number that is more than 4294967295"
                ));
                false
            }
            (Some(major), Some(minor)) if !name.is_empty() => {
                let number = (kind, name.to_owned(), major, minor);
                self.versions
                    .entry(number)
                    .or_insert_with(|| place.file.to_owned());
                true
            }
            _ => false,
        }
    }

    /// Says why something is not taken over; nor is what was saved of it elsewhere.
    fn leave_out(&mut self, target: Target, why: &str) {
        self.remark(target.tail(), format!("is left out: {why}"));
        self.left_out.push(target);
    }

    /// A rollout whose deployment has ended, whatever was saved of it.
    fn rollout(&mut self, tail: &str, rollout: Rollout) -> Option<Rollout> {
        let Some(status) = ended(rollout.status()) else {
            return Some(rollout);
        };
        self.remark(
            tail,
            format!(
                "was under way; it is {} now",
                status
                    .as_str_name()
                    .trim_start_matches("DEPLOYMENT_STATUS_")
            ),
        );
        Some(Rollout {
            status: status.into(),
            message: Some(CUT_OFF.to_owned()),
            ..rollout
        })
    }
}
