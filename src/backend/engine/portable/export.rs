//! From a store to the folder.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::document::Document;
use super::draft::Draft;
use super::places::Placed;
use super::{FORMAT, MANIFEST, lifted, names};
use crate::api::pb;
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::context::Settings;
use crate::backend::engine::deployment::DeploymentRecord;
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::environment_account_connection::ConnectionRecord;
use crate::backend::engine::registry::{TemplateRecord, VersionRecord};
use crate::backend::engine::repository::RepositoryRecord;
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::store::Transaction;
use crate::backend::engine::tag::TagsRecord;
use crate::backend::engine::template::bundle::{Bundle, Limits};
use crate::backend::engine::template_sync::TemplateSyncRecord;
use crate::error::{Error, Result};

/// How much there is of each kind, by the name of the kind.
pub type Counts = BTreeMap<&'static str, u64>;

/// What came of an export.
#[derive(Debug)]
pub struct Exported {
    pub counts: Counts,
    pub files: usize,
}

/// Writes all that `tx` sees to the folder `root`. `told` is called with how many records are
/// written, and how many there are.
pub fn export(
    tx: &Transaction<'_>,
    settings: &Settings,
    root: &Path,
    told: &dyn Fn(u64, u64),
) -> Result<Exported> {
    let tags = tx.list::<TagsRecord>("")?;
    let mut export = Export {
        tx,
        draft: Draft::begin(root, &settings.account_id, &settings.region)
            .map_err(Error::invalid)?,
        tags: tags
            .into_iter()
            .map(|record| (record.tail, record.tags))
            .collect(),
        counts: Counts::new(),
        total: total(tx)?,
        told,
    };
    export.each::<SettingsRecord>()?;
    export.each::<RepositoryRecord>()?;
    export.each::<ConnectionRecord>()?;
    export.each::<TemplateRecord>()?;
    export.each::<TemplateSyncRecord>()?;
    export.versions()?;
    export.each::<EnvironmentRecord>()?;
    export.each::<ServiceRecord>()?;
    export.each::<PipelineRecord>()?;
    export.each::<ServiceSyncRecord>()?;
    export.each::<InstanceRecord>()?;
    export.each::<ComponentRecord>()?;
    export.each::<DeploymentRecord>()?;
    if let Some(tail) = export.tags.keys().next() {
        let problem = format!("there are tags of {tail}, which is not there");
        return Err(Error::internal(problem));
    }
    let manifest = json!({
        "format": FORMAT,
        "accountId": settings.account_id,
        "region": settings.region,
        "counts": export.counts,
    });
    export
        .draft
        .put_json(MANIFEST, manifest)
        .map_err(Error::invalid)?;
    let files = export.draft.finish().map_err(Error::invalid)?;
    Ok(Exported {
        counts: export.counts,
        files,
    })
}

/// How many records will be written.
fn total(tx: &Transaction<'_>) -> Result<u64> {
    let counts = [
        tx.count::<RepositoryRecord>("")?,
        tx.count::<ConnectionRecord>("")?,
        tx.count::<TemplateRecord>("")?,
        tx.count::<VersionRecord>("")?,
        tx.count::<EnvironmentRecord>("")?,
        tx.count::<ServiceRecord>("")?,
        tx.count::<PipelineRecord>("")?,
        tx.count::<InstanceRecord>("")?,
        tx.count::<ComponentRecord>("")?,
        tx.count::<DeploymentRecord>("")?,
    ];
    Ok(counts.iter().sum())
}

struct Export<'a> {
    tx: &'a Transaction<'a>,
    draft: Draft,
    /// Those that have not been written yet, by their resource.
    tags: BTreeMap<String, Vec<pb::Tag>>,
    counts: Counts,
    total: u64,
    told: &'a dyn Fn(u64, u64),
}

impl Export<'_> {
    fn each<R: Placed>(&mut self) -> Result<()> {
        let tx = self.tx;
        tx.scan::<R>("", None, |record| {
            self.put(&record, record.write())?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Writes one record, its long texts beside it.
    fn put<R: Placed>(&mut self, record: &R, mut value: Value) -> Result<()> {
        let path = record.path();
        let mut texts = Vec::new();
        lifted::lift(&mut value, R::PREFIX, &mut texts);
        if let Some(tags) = self.tags.remove(&record.tail()) {
            value["tags"] = tags.iter().map(Document::write).collect();
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        for (name, text) in texts {
            let beside = format!("{folder}/{name}");
            self.file(&beside, text.as_bytes())?;
        }
        self.draft.put_json(&path, value).map_err(Error::invalid)?;
        *self.counts.entry(R::PLURAL).or_default() += 1;
        (self.told)(self.counts.values().sum(), self.total);
        Ok(())
    }

    fn file(&mut self, path: &str, bytes: &[u8]) -> Result<()> {
        self.draft.put(path, bytes).map_err(Error::invalid)
    }

    fn versions(&mut self) -> Result<()> {
        let tx = self.tx;
        tx.scan::<VersionRecord>("", None, |record| {
            let mut value = record.write();
            if !record.bundle.is_empty() {
                value["bundleSha256"] = self.bundle(&record)?.into();
            }
            self.put(&record, value)?;
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Writes a version's bundle; returns its digest as `sha256sum` tells it.
    fn bundle(&mut self, record: &VersionRecord) -> Result<String> {
        let folder = record.folder();
        let bytes = self.tx.bundle(&record.bundle)?.ok_or_else(|| {
            Error::internal(format!("the bundle of {} is not there", record.tail()))
        })?;
        self.file(&format!("{folder}/bundle.tar.gz"), &bytes)?;
        // For people; what counts is the archive.
        if let Ok(bundle) = Bundle::unpack(bytes.as_slice(), &Limits::default()) {
            for (name, bytes) in bundle.files() {
                if let Some(path) = names::unpacked(name) {
                    self.file(&format!("{folder}/bundle/{path}"), bytes)?;
                }
            }
        }
        Ok(hex::encode(Sha256::digest(&bytes)))
    }
}
