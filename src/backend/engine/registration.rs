//! Registration: a version's bundle is fetched, unpacked, checked, and copied into the store.
//!
//! Fetching and unpacking happen outside of any transaction; what came of it is written in one.

use super::bucket::Buckets;
use super::context::Context;
use super::idempotency::digest;
use super::registry::{self, VersionRecord};
use super::store::Transaction;
use super::template::bundle::{Bundle, Checked, Limits, TemplateKind};
use super::template::schema::Schema;
use crate::api::pb::{TemplateType, TemplateVersionStatus as Status};
use crate::error::Result;

/// A bundle that was found good.
pub struct Registered {
    bytes: Vec<u8>,
    checked: Checked,
}

/// Fetches and checks the bundle of `version`. The error is for the template's author.
pub fn examine(
    buckets: &Buckets,
    version: &VersionRecord,
    customer_managed: bool,
) -> std::result::Result<Registered, String> {
    let limits = Limits::default();
    let source = version.source.clone().unwrap_or_default();
    let bytes = buckets.read(&source.bucket, &source.key, limits.packed_bytes)?;
    let kind = match version.kind() {
        TemplateType::Service => TemplateKind::Service {
            pipeline_customer_managed: customer_managed,
        },
        TemplateType::Environment | TemplateType::Unspecified => {
            TemplateKind::Environment { customer_managed }
        }
    };
    let checked = Bundle::unpack(bytes.as_slice(), &limits)
        .and_then(|bundle| bundle.check(kind))
        .map_err(|error| error.to_string())?;
    Ok(Registered { bytes, checked })
}

/// Writes down how the registration of the version under `key` went.
pub fn conclude(
    tx: &Transaction<'_>,
    cx: &Context,
    key: &str,
    outcome: std::result::Result<Registered, String>,
) -> Result<()> {
    let Some(mut record) = tx.get::<VersionRecord>(key)? else {
        return Ok(());
    };
    if record.status() != Status::RegistrationInProgress {
        return Ok(());
    }
    record.last_modified_at = Some(cx.now());
    let outcome = match outcome {
        Ok(registered) => match compatible(tx, &record, &registered.checked.schema)? {
            Some(problem) => Err(problem),
            None => Ok(registered),
        },
        Err(problem) => Err(problem),
    };
    match outcome {
        Ok(Registered { bytes, checked }) => {
            let digest = hex::encode(digest(&[&bytes]));
            tx.put_bundle(&digest, &bytes)?;
            record.bundle = digest;
            record.schema = Some(checked.schema_text);
            record.rendering = checked
                .infrastructure
                .or(checked.instance_infrastructure)
                .map(|part| part.rendering_engine().to_owned());
            record.pipeline_rendering = checked
                .pipeline_infrastructure
                .map(|part| part.rendering_engine().to_owned());
            record.set_status(Status::Draft);
        }
        Err(problem) => {
            record.status_message = problem;
            record.set_status(Status::RegistrationFailed);
        }
    }
    tx.put(&record)
}

/// User Guide: a minor version must accept every spec that the earlier one of its major accepts.
fn compatible(
    tx: &Transaction<'_>,
    record: &VersionRecord,
    schema: &Schema,
) -> Result<Option<String>> {
    let Some(previous) = registry::predecessor(tx, record)? else {
        return Ok(None);
    };
    let Ok(before) = Schema::parse(previous.schema.as_deref().unwrap_or_default()) else {
        return Ok(None);
    };
    Ok(schema.compatible_with(&before).err().map(|problems| {
        format!(
            "The schema is not backward compatible with version {}.{}: {}. Register it as a new \
             major version.",
            previous.major,
            previous.minor,
            problems.join("; ")
        )
    }))
}
