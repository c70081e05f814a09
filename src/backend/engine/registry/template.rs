//! Templates: made, described, deleted.

use super::record::{TemplateRecord, VersionRecord, noun, template_key, versions_prefix};
use crate::api::pb::{self, Provisioning, TemplateType};
use crate::backend::engine::context::Context;
use crate::backend::engine::store::{Record, Transaction};
use crate::backend::engine::template_sync::TemplateSyncRecord;
use crate::backend::engine::{idempotency, tag};
use crate::error::{Error, Result};

pub fn template(tx: &Transaction<'_>, kind: TemplateType, name: &str) -> Result<TemplateRecord> {
    tx.get(&template_key(kind, name))?
        .ok_or_else(|| Error::not_found(noun(kind), name))
}

/// A template as its create request describes it.
pub struct NewTemplate {
    pub kind: TemplateType,
    pub name: String,
    pub description: Option<String>,
    pub display_name: Option<String>,
    pub encryption_key: Option<String>,
    pub provisioning: Provisioning,
    pub tags: Vec<pb::Tag>,
    pub fingerprint: String,
}

/// API guide: the same name with the same parameters returns the original.
pub fn create_template(
    tx: &Transaction<'_>,
    cx: &Context,
    new: NewTemplate,
) -> Result<TemplateRecord> {
    if let Some(original) = tx.get::<TemplateRecord>(&template_key(new.kind, &new.name))? {
        idempotency::same_create(
            &original.tail(),
            &original.fingerprint,
            &new.fingerprint,
            original.modified,
        )?;
        return Ok(original);
    }
    let quota = cx.settings.quotas.templates;
    if tx.count::<TemplateRecord>("")? >= quota {
        return Err(Error::quota("templates", quota));
    }
    let record = TemplateRecord {
        kind: new.kind.into(),
        name: new.name,
        created_at: Some(cx.now()),
        last_modified_at: Some(cx.now()),
        description: new.description,
        display_name: new.display_name,
        encryption_key: new.encryption_key,
        provisioning: new.provisioning.into(),
        fingerprint: new.fingerprint,
        modified: false,
        majors: Vec::new(),
    };
    tag::begin(tx, &record.tail(), new.tags)?;
    tx.put(&record)?;
    Ok(record)
}

pub fn update_template(
    tx: &Transaction<'_>,
    cx: &Context,
    kind: TemplateType,
    name: &str,
    description: Option<String>,
    display_name: Option<String>,
) -> Result<TemplateRecord> {
    let mut record = template(tx, kind, name)?;
    record.description = description.or(record.description);
    record.display_name = display_name.or(record.display_name);
    record.last_modified_at = Some(cx.now());
    record.modified = true;
    tx.put(&record)?;
    Ok(record)
}

/// API Reference: refused while there is a version. Absent is deleted.
pub fn delete_template(
    tx: &Transaction<'_>,
    kind: TemplateType,
    name: &str,
) -> Result<Option<TemplateRecord>> {
    let Some(record) = tx.get::<TemplateRecord>(&template_key(kind, name))? else {
        return Ok(None);
    };
    let versions = tx.count::<VersionRecord>(&versions_prefix(kind, name))?;
    if versions > 0 {
        return Err(Error::precondition(
            record.tail(),
            format!(
                "{} still has {versions} version(s); delete them first",
                record.tail()
            ),
        ));
    }
    if tx.get::<TemplateSyncRecord>(&record.key())?.is_some() {
        return Err(Error::precondition(
            record.tail(),
            format!(
                "{} is synced from a repository; delete its template sync config first",
                record.tail()
            ),
        ));
    }
    tx.delete::<TemplateRecord>(&record.key())?;
    tag::forget(tx, &record.tail())?;
    Ok(Some(record))
}
