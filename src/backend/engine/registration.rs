//! Registration: a version's bundle is fetched, unpacked, checked, and copied into the store.
//!
//! Fetching, unpacking and comparing happen outside of any transaction; what came of it is written in one.

use super::bucket::Buckets;
use super::context::{Context, Schemas};
use super::idempotency::digest;
use super::registry::{self, VersionRecord};
use super::store::Transaction;
use super::template::bundle::{Bundle, Checked, Limits, TemplateKind};
use crate::api::pb::{TemplateType, TemplateVersionStatus as Status};
use crate::error::Result;

/// A bundle that was found good.
pub struct Registered {
    bytes: Vec<u8>,
    checked: Checked,
}

/// How an examination went. The error is for the template's author.
pub type Outcome = std::result::Result<Registered, String>;

/// What of the version before a new one decides whether the new one is compatible.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Predecessor {
    major: u64,
    minor: u64,
    schema: String,
}

/// The version that the one under `key` must be compatible with.
pub fn predecessor(tx: &Transaction<'_>, key: &str) -> Result<Option<Predecessor>> {
    match tx.get::<VersionRecord>(key)? {
        Some(record) => predecessor_of(tx, &record),
        None => Ok(None),
    }
}

fn predecessor_of(tx: &Transaction<'_>, record: &VersionRecord) -> Result<Option<Predecessor>> {
    Ok(
        registry::predecessor(tx, record)?.map(|previous| Predecessor {
            major: previous.major,
            minor: previous.minor,
            schema: previous.schema.unwrap_or_default(),
        }),
    )
}

/// Fetches and checks the bundle of `version`. The error is for the template's author.
pub fn examine(buckets: &Buckets, version: &VersionRecord, customer_managed: bool) -> Outcome {
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

/// Writes down how the registration of the version under `key` went. `false` if nothing was
/// written because its compatibility was judged by another predecessor than there is now.
pub fn conclude(
    tx: &Transaction<'_>,
    cx: &Context,
    key: &str,
    outcome: &Outcome,
    judged_by: &Option<Predecessor>,
    incompatible: Option<String>,
) -> Result<bool> {
    let Some(mut record) = tx.get::<VersionRecord>(key)? else {
        return Ok(true);
    };
    if record.status() != Status::RegistrationInProgress {
        return Ok(true);
    }
    if outcome.is_ok() && predecessor_of(tx, &record)? != *judged_by {
        return Ok(false);
    }
    record.last_modified_at = Some(cx.now());
    let outcome = match (outcome, incompatible) {
        (Ok(_), Some(problem)) => Err(problem),
        (Ok(registered), None) => Ok(registered),
        (Err(problem), _) => Err(problem.clone()),
    };
    match outcome {
        Ok(Registered { bytes, checked }) => {
            let digest = hex::encode(digest(&[bytes]));
            tx.put_bundle(&digest, bytes)?;
            record.bundle = digest;
            record.schema = Some(checked.schema_text.clone());
            [record.rendering, record.pipeline_rendering] = checked.renderings();
            record.set_status(Status::Draft);
        }
        Err(problem) => {
            record.status_message = problem;
            record.set_status(Status::RegistrationFailed);
        }
    }
    tx.put(&record)?;
    Ok(true)
}

/// User Guide: a minor version must accept every spec that the earlier one of its major accepts.
/// Says what is wrong otherwise.
pub fn incompatibility(
    schemas: &Schemas,
    registered: &Registered,
    previous: &Predecessor,
) -> Option<String> {
    let before = schemas.read(&previous.schema)?;
    let problems = registered.checked.schema.compatible_with(&before).err()?;
    Some(format!(
        "The schema is not backward compatible with version {}.{}: {}. Register it as a new major \
         version.",
        previous.major,
        previous.minor,
        problems.join("; ")
    ))
}

impl Registered {
    /// Spares the first use of the version the reading of its schema.
    pub fn remember(&self, schemas: &Schemas) {
        schemas.put(&self.checked.schema_text, &self.checked.schema);
    }
}
