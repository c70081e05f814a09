//! Everything that a store is to hold, before it does: checked as a whole, then put in one
//! transaction.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use prost_types::Timestamp;

use super::places::Placed;
use super::tree;
use crate::api::pb;
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::context::Context;
use crate::backend::engine::deployment::DeploymentRecord;
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::environment_account_connection::ConnectionRecord;
use crate::backend::engine::provision::{self, REMEMBERED_MILLIS, Task};
use crate::backend::engine::registry::{self, TemplateRecord, VersionRecord};
use crate::backend::engine::repository::RepositoryRecord;
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::store::{Record, Transaction};
use crate::backend::engine::tag;
use crate::backend::engine::template_sync::TemplateSyncRecord;
use crate::error::{Error, Result};
use pb::{DeploymentStatus, TemplateVersionStatus};

/// A record, and the file that it is from.
#[derive(Debug)]
pub struct Found<R> {
    pub file: String,
    pub record: R,
    pub tags: Vec<pb::Tag>,
}

/// A bundle that is to be stored.
#[derive(Debug)]
pub enum Packed {
    File(PathBuf),
    Bytes(Vec<u8>),
}

/// All that is to be stored.
#[derive(Debug, Default)]
pub struct Holdings {
    pub settings: Vec<Found<SettingsRecord>>,
    pub repositories: Vec<Found<RepositoryRecord>>,
    pub connections: Vec<Found<ConnectionRecord>>,
    pub templates: Vec<Found<TemplateRecord>>,
    pub template_syncs: Vec<Found<TemplateSyncRecord>>,
    pub versions: Vec<Found<VersionRecord>>,
    /// By the digest in the versions' records.
    pub bundles: BTreeMap<String, Packed>,
    pub environments: Vec<Found<EnvironmentRecord>>,
    pub services: Vec<Found<ServiceRecord>>,
    pub pipelines: Vec<Found<PipelineRecord>>,
    pub service_syncs: Vec<Found<ServiceSyncRecord>>,
    pub instances: Vec<Found<InstanceRecord>>,
    pub components: Vec<Found<ComponentRecord>>,
    pub deployments: Vec<Found<DeploymentRecord>>,
}

impl Holdings {
    /// How much there is of each kind.
    pub fn counts(&self) -> super::export::Counts {
        fn of<R: Placed>(found: &[Found<R>]) -> (&'static str, u64) {
            (R::PLURAL, found.len() as u64)
        }
        let counts = [
            of(&self.settings),
            of(&self.repositories),
            of(&self.connections),
            of(&self.templates),
            of(&self.template_syncs),
            of(&self.versions),
            of(&self.environments),
            of(&self.services),
            of(&self.pipelines),
            of(&self.service_syncs),
            of(&self.instances),
            of(&self.components),
            of(&self.deployments),
        ];
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }

    /// Puts all of it into a store that holds nothing.
    pub fn put(self, tx: &Transaction<'_>, cx: &Context) -> Result<()> {
        let templates: Vec<_> = self
            .templates
            .iter()
            .map(|found| (found.record.kind(), found.record.name.clone()))
            .collect();
        let due = due(&self, cx);
        put_each(tx, self.settings)?;
        put_each(tx, self.repositories)?;
        put_each(tx, self.connections)?;
        put_each(tx, self.templates)?;
        put_each(tx, self.template_syncs)?;
        for found in &self.versions {
            if found.record.status() == TemplateVersionStatus::RegistrationInProgress {
                let subject = registry::subject(&found.record);
                let task = Task::Register(found.record.key());
                provision::schedule(tx, cx.now_millis(), &subject, task)?;
            }
        }
        put_each(tx, self.versions)?;
        for (digest, bundle) in self.bundles {
            let bytes = match bundle {
                Packed::Bytes(bytes) => bytes,
                Packed::File(path) => {
                    let wrong = |problem| Error::invalid(format!("{}: {problem}", path.display()));
                    let bytes = tree::read(&path).map_err(wrong)?;
                    if digest_of(&bytes) != digest {
                        return Err(wrong("was changed meanwhile; repeat the import".to_owned()));
                    }
                    bytes
                }
            };
            tx.put_bundle(&digest, &bytes)?;
        }
        put_each(tx, self.environments)?;
        put_each(tx, self.services)?;
        put_each(tx, self.pipelines)?;
        put_each(tx, self.service_syncs)?;
        put_each(tx, self.instances)?;
        put_each(tx, self.components)?;
        put_each(tx, self.deployments)?;
        for (id, due_millis, task) in due {
            provision::schedule(tx, due_millis, &provision::subject(&id), task)?;
        }
        for (kind, name) in templates {
            registry::recount(tx, kind, &name)?;
        }
        Ok(())
    }
}

/// What the store knows a bundle by.
pub fn digest_of(bytes: &[u8]) -> String {
    hex::encode(crate::backend::engine::idempotency::digest(&[bytes]))
}

fn put_each<R: Placed>(tx: &Transaction<'_>, found: Vec<Found<R>>) -> Result<()> {
    for found in found {
        let tail = Placed::tail(&found.record);
        let put = tx.put(&found.record).and_then(|()| match found.tags {
            none if none.is_empty() => Ok(()),
            tags => tag::begin(tx, &tail, tags),
        });
        put.map_err(|error| Error {
            message: format!("{}: {}", found.file, error.message),
            ..error
        })?;
    }
    Ok(())
}

fn millis(time: Option<&Timestamp>) -> i64 {
    time.map_or(0, |time| {
        let seconds = time.seconds.saturating_mul(1000);
        seconds.saturating_add(i64::from(time.nanos / 1_000_000))
    })
}

/// What is to be done about the deployments: those under way end, as they would have; those of
/// what is deleted are forgotten when they would have been.
fn due(holdings: &Holdings, cx: &Context) -> Vec<(String, i64, Task)> {
    let customer_managed: BTreeSet<_> = holdings
        .environments
        .iter()
        .filter(|found| found.record.customer_managed)
        .map(|found| found.record.target().tail())
        .collect();
    let mut deletions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for Found { record, .. } in &holdings.deployments {
        let view = record.view.as_ref();
        if view.is_some_and(|view| view.deployment_status() == DeploymentStatus::DeleteComplete) {
            let at = millis(view.and_then(|view| view.completed_at.as_ref()));
            deletions.entry(&record.target).or_default().push(at);
        }
    }
    let mut due = Vec::new();
    for Found { record, .. } in &holdings.deployments {
        let id = record.id().to_owned();
        let view = record.view.clone().unwrap_or_default();
        if !record.ended() {
            due.push(match view.deployment_status() {
                DeploymentStatus::Cancelling => (id.clone(), cx.settle_at(), Task::Cancel(id)),
                _ if record.simulated => (id.clone(), cx.settle_at(), Task::Settle(id)),
                _ if customer_managed.contains(&record.target) => {
                    (id.clone(), cx.now_millis(), Task::Settle(id))
                }
                _ => (id.clone(), cx.give_up_at(), Task::GiveUp(id)),
            });
            continue;
        }
        let begun = millis(view.created_at.as_ref());
        let deleted = deletions.get(record.target.as_str()).into_iter().flatten();
        if let Some(at) = deleted.filter(|at| **at >= begun).min() {
            let forgotten = at.saturating_add(REMEMBERED_MILLIS);
            due.push((id.clone(), forgotten, Task::ForgetDeployment(id)));
        }
    }
    due
}
