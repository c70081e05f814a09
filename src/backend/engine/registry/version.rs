//! Versions of templates: numbered, published, recommended, deleted, and found for what is deployed on them.

use super::record::{
    Major, TemplateRecord, VersionRecord, index_of_version, major_prefix, noun, number, subject,
    version_key, versions_prefix,
};
use super::template::template;
use crate::api::pb::{self, TemplateType, TemplateVersionStatus as Status};
use crate::backend::engine::context::Context;
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::paging::Page;
use crate::backend::engine::provision::{self, Task};
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::store::{Record, Transaction};
use crate::backend::engine::{idempotency, tag};
use crate::error::{Error, Result};

/// Major versions that one template may have had in its life.
const MOST_MAJORS: usize = 10_000;

/// The version with this number, whatever its status.
pub fn version(
    tx: &Transaction<'_>,
    cx: &Context,
    kind: TemplateType,
    template: &str,
    major: &str,
    minor: &str,
) -> Result<VersionRecord> {
    let found = match (number(major), number(minor)) {
        (Some(major), Some(minor)) => tx.get(&version_key(kind, template, major, minor))?,
        _ => None,
    };
    found.ok_or_else(|| version_not_found(cx, kind, template, &format!("{major}.{minor}")))
}

fn version_not_found(cx: &Context, kind: TemplateType, template: &str, number: &str) -> Error {
    // AWS's text names the version by its ARN (aws-proton-public-roadmap#79).
    let noun = noun(kind);
    Error::not_found(
        format!("{noun}-version"),
        cx.arn(&format!("{noun}/{template}:{number}")),
    )
}

/// The version to deploy: the named one, which may be a draft, or the published one that the
/// major recommends.
pub fn deployable(
    tx: &Transaction<'_>,
    cx: &Context,
    kind: TemplateType,
    name: &str,
    major: &str,
    minor: Option<&str>,
) -> Result<VersionRecord> {
    let template = template(tx, kind, name)?;
    let record = match minor {
        Some(minor) => version(tx, cx, kind, name, major, minor)?,
        None => {
            let found = number(major)
                .and_then(|major| template.major(major))
                .filter(|major| major.latest.is_some());
            let Some(minor) = found.and_then(|major| major.published) else {
                let mut error = version_not_found(cx, kind, name, major);
                error.message.push_str(match found {
                    Some(_) => " (no minor version of it is published: publish one, or name the minor version)",
                    None => " (the template has no such major version)",
                });
                return Err(error);
            };
            version(tx, cx, kind, name, major, &minor.to_string())?
        }
    };
    match record.status() {
        Status::Draft | Status::Published => Ok(record),
        Status::RegistrationFailed => Err(Error::precondition(
            record.tail(),
            format!(
                "the registration of {} failed; register another version",
                record.tail()
            ),
        )),
        Status::RegistrationInProgress | Status::Unspecified => Err(Error::in_progress(
            record.tail(),
            format!(
                "{} is being registered; wait until it is DRAFT",
                record.tail()
            ),
        )),
    }
}

/// A version as its create request describes it.
pub struct NewVersion {
    pub operation: &'static str,
    pub client_token: Option<String>,
    pub fingerprint: String,
    pub kind: TemplateType,
    pub template: String,
    pub major: Option<String>,
    pub description: Option<String>,
    pub source: Option<pb::TemplateVersionSourceInput>,
    pub tags: Vec<pb::Tag>,
    pub compatible: Vec<pb::CompatibleEnvironmentTemplate>,
    pub component_sources: Vec<i32>,
}

/// Numbers the version and has its bundle read. Without a major version it begins the next
/// major; with one it is the next minor of that major, or the first, where the major is the next.
pub fn create_version(
    tx: &Transaction<'_>,
    cx: &Context,
    new: NewVersion,
) -> Result<VersionRecord> {
    let token = new.client_token.as_deref();
    if let Some(key) = idempotency::replay(tx, cx, new.operation, token, &new.fingerprint)?
        && let Some(original) = tx.get::<VersionRecord>(&key)?
    {
        return Ok(original);
    }
    let mut template = template(tx, new.kind, &new.template)?;
    let quota = cx.settings.quotas.versions_per_template;
    if tx.count::<VersionRecord>(&versions_prefix(new.kind, &new.template))? >= quota {
        return Err(Error::quota("versions per template", quota));
    }
    let beyond = || Error::quota("numbers of versions", u64::MAX);
    let last = template.majors.last().map_or(0, |major| major.number);
    let next_major = last.checked_add(1).ok_or_else(beyond)?;
    let wanted = match &new.major {
        None => next_major,
        Some(major) => number(major)
            .filter(|number| *number == next_major || template.major(*number).is_some())
            .ok_or_else(|| version_not_found(cx, new.kind, &new.template, major))?,
    };
    if wanted == next_major {
        if template.majors.len() >= MOST_MAJORS {
            return Err(Error::quota(
                "major versions in the life of a template",
                u64::try_from(MOST_MAJORS).unwrap_or(u64::MAX),
            ));
        }
        template.majors.push(Major {
            number: wanted,
            ..Major::default()
        });
    }
    let major = template
        .majors
        .iter_mut()
        .find(|major| major.number == wanted)
        .ok_or_else(|| Error::internal("a major version went missing"))?;
    let minor = major.next_minor;
    major.next_minor = minor.checked_add(1).ok_or_else(beyond)?;
    major.latest = Some(minor);
    tx.put(&template)?;

    let Some(pb::template_version_source_input::Source::S3(source)) =
        new.source.and_then(|source| source.source)
    else {
        return Err(Error::invalid_field(
            "source",
            "is required: give it an s3 object",
        ));
    };
    let record = VersionRecord {
        kind: new.kind.into(),
        template: new.template,
        major: wanted,
        minor,
        created_at: Some(cx.now()),
        last_modified_at: Some(cx.now()),
        description: new.description,
        status: Status::RegistrationInProgress.into(),
        source: Some(source),
        compatible: new.compatible,
        component_sources: new.component_sources,
        ..VersionRecord::default()
    };
    tx.put(&record)?;
    // User Guide: tags of a template go on to what is made of it later.
    let inherited = tag::customer(tx, &template.tail())?;
    tag::begin(tx, &record.tail(), tag::merged(inherited, new.tags))?;
    idempotency::remember(
        tx,
        cx,
        new.operation,
        token,
        &new.fingerprint,
        &record.key(),
    )?;
    provision::schedule(
        tx,
        cx.settle_at(),
        &subject(&record),
        Task::Register(record.key()),
    )?;
    Ok(record)
}

/// What an update changes of a version.
pub struct VersionUpdate {
    pub description: Option<String>,
    pub status: Status,
    pub compatible: Vec<pb::CompatibleEnvironmentTemplate>,
    pub component_sources: Option<Vec<i32>>,
}

/// User Guide: the only change of status is from DRAFT to PUBLISHED.
pub fn update_version(
    tx: &Transaction<'_>,
    cx: &Context,
    mut record: VersionRecord,
    update: VersionUpdate,
) -> Result<VersionRecord> {
    let publishes = match (record.status(), update.status) {
        (_, Status::Unspecified) => false,
        (Status::Draft, Status::Published) => true,
        (Status::Published, Status::Published) | (Status::Draft, Status::Draft) => false,
        (Status::RegistrationInProgress, Status::Published | Status::Draft) => {
            return Err(Error::in_progress(
                record.tail(),
                format!(
                    "{} is being registered; publish it when it is DRAFT",
                    record.tail()
                ),
            ));
        }
        (Status::RegistrationFailed, Status::Published | Status::Draft) => {
            return Err(Error::precondition(
                record.tail(),
                format!(
                    "the registration of {} failed; register another version",
                    record.tail()
                ),
            ));
        }
        _ => {
            return Err(Error::invalid_field(
                "status",
                "the only change of status is from DRAFT to PUBLISHED",
            ));
        }
    };
    record.description = update.description.or(record.description);
    if !update.compatible.is_empty() {
        record.compatible = update.compatible;
    }
    if let Some(sources) = update.component_sources {
        record.component_sources = sources;
    }
    if publishes {
        record.set_status(Status::Published);
    }
    record.last_modified_at = Some(cx.now());
    tx.put(&record)?;
    if publishes {
        recount(tx, record.kind(), &record.template)?;
    }
    Ok(record)
}

/// Writes down anew which versions a template has.
pub(in crate::backend::engine) fn recount(
    tx: &Transaction<'_>,
    kind: TemplateType,
    name: &str,
) -> Result<()> {
    let mut template = template(tx, kind, name)?;
    for major in &mut template.majors {
        (major.published, major.latest) = (None, None);
    }
    // In ascending order: the last one seen is the highest.
    tx.scan::<VersionRecord>(&versions_prefix(kind, name), None, |version| {
        if let Some(major) = template
            .majors
            .iter_mut()
            .find(|major| major.number == version.major)
        {
            major.latest = Some(version.minor);
            if version.status() == Status::Published {
                major.published = Some(version.minor);
            }
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    tx.put(&template)
}

/// API Reference: refused while something is deployed on it, for the recommended minor while its
/// major has another, and for the recommended major while there is another. Absent is deleted.
pub fn delete_version(
    tx: &Transaction<'_>,
    kind: TemplateType,
    name: &str,
    major: &str,
    minor: &str,
) -> Result<Option<VersionRecord>> {
    let (Some(major), Some(minor)) = (number(major), number(minor)) else {
        return Ok(None);
    };
    let Some(record) = tx.get::<VersionRecord>(&version_key(kind, name, major, minor))? else {
        return Ok(None);
    };
    let refuse = |problem: String| Err(Error::precondition(record.tail(), problem));
    if record.status() == Status::RegistrationInProgress {
        return Err(Error::in_progress(
            record.tail(),
            format!(
                "{} is being registered; delete it afterwards",
                record.tail()
            ),
        ));
    }
    let index = index_of_version(name, major, minor);
    let users = match kind {
        TemplateType::Service => {
            tx.count_index::<InstanceRecord>(&index)? + tx.count_index::<PipelineRecord>(&index)?
        }
        TemplateType::Environment | TemplateType::Unspecified => {
            tx.count_index::<EnvironmentRecord>(&index)?
        }
    };
    if users > 0 {
        return refuse(format!(
            "{} is deployed {users} time(s); update or delete what is deployed on it first",
            record.tail()
        ));
    }
    let template = template(tx, kind, name)?;
    let siblings = tx.count::<VersionRecord>(&major_prefix(kind, name, major))?;
    let published = template.major(major).and_then(|major| major.published);
    if published == Some(minor) && siblings > 1 {
        return refuse(format!(
            "{} is the recommended version of its major version; delete the other minor versions first",
            record.tail()
        ));
    }
    let all = tx.count::<VersionRecord>(&versions_prefix(kind, name))?;
    if template.recommended() == Some((major, minor)) && all > 1 {
        return refuse(format!(
            "{} is the recommended version of its template; delete the other versions first",
            record.tail()
        ));
    }
    tx.delete::<VersionRecord>(&record.key())?;
    idempotency::forget_resource(tx, &record.key())?;
    tag::forget(tx, &record.tail())?;
    if !record.bundle.is_empty()
        && tx.count_index::<VersionRecord>(&format!("bundle/{}", record.bundle))? == 0
    {
        tx.delete_bundle(&record.bundle)?;
    }
    recount(tx, kind, name)?;
    Ok(Some(record))
}

/// Lists the minors of a major; without one, each major by its recommended minor.
pub fn list_versions<T>(
    tx: &Transaction<'_>,
    kind: TemplateType,
    name: &str,
    major: Option<&str>,
    page: &Page,
    view: impl Fn(&TemplateRecord, VersionRecord) -> T,
) -> Result<(Vec<T>, Option<String>)> {
    let template = template(tx, kind, name)?;
    if let Some(major) = major {
        let Some(major) = number(major) else {
            return Ok((Vec::new(), None));
        };
        return page.scan(tx, &major_prefix(kind, name, major), |record| {
            Ok(Some(view(&template, record)))
        });
    }
    let mut items = Vec::new();
    for major in &template.majors {
        let Some(minor) = major.recommended() else {
            continue;
        };
        if let Some(record) =
            tx.get::<VersionRecord>(&version_key(kind, name, major.number, minor))?
        {
            let key = (format!("{:020}", major.number), String::new());
            items.push((key, view(&template, record)));
        }
    }
    page.slice(items, false)
}

/// The highest registered minor below `record` in its major, with which it must be compatible.
/// Refuses while it is open which one that is.
pub fn predecessor(tx: &Transaction<'_>, record: &VersionRecord) -> Result<Option<VersionRecord>> {
    let prefix = major_prefix(record.kind(), &record.template, record.major);
    let (mut found, mut open) = (None, None);
    tx.scan::<VersionRecord>(&prefix, None, |version| {
        if version.minor >= record.minor {
            return Ok(std::ops::ControlFlow::Break(()));
        }
        if version.status() == Status::RegistrationInProgress {
            open = Some(version.tail());
        } else if version.deployable() {
            found = Some(version);
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    match open {
        Some(tail) => Err(Error::in_progress(
            &tail,
            format!("{tail} is being registered first"),
        )),
        None => Ok(found),
    }
}
