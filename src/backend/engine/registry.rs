//! Templates of both kinds and their versions: numbering, publishing, recommending, deleting.
//!
//! The rpcs stand in `environment_template` and `service_template`; this is what they share.
//!
//! Keys of [`TemplateRecord`]: `{kind}/{name}`. Keys of [`VersionRecord`]:
//! `{kind}/{template}/{major}/{minor}` with the numbers padded, so that they sort as numbers;
//! index: `bundle/{digest}`.

use prost::Message;
use prost_types::Timestamp;

use super::context::Context;
use super::environment::EnvironmentRecord;
use super::idempotency;
use super::provision::{self, Task};
use super::service_instance::InstanceRecord;
use super::service_pipeline::PipelineRecord;
use super::store::{Record, Transaction};
use super::tag;
use super::template_sync::TemplateSyncRecord;
use crate::api::pb::{self, Provisioning, TemplateType, TemplateVersionStatus as Status};
use crate::error::{Error, Result};

/// Major versions that one template may have had in its life.
const MOST_MAJORS: usize = 10_000;

#[derive(Clone, PartialEq, Message)]
pub struct TemplateRecord {
    #[prost(enumeration = "TemplateType", tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(message, optional, tag = "3")]
    pub created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "4")]
    pub last_modified_at: Option<Timestamp>,
    #[prost(string, optional, tag = "5")]
    pub description: Option<String>,
    #[prost(string, optional, tag = "6")]
    pub display_name: Option<String>,
    #[prost(string, optional, tag = "7")]
    pub encryption_key: Option<String>,
    /// Of environments, or of the pipelines of services.
    #[prost(enumeration = "Provisioning", tag = "8")]
    pub provisioning: i32,
    /// What the create request was, to know its repetition.
    #[prost(string, tag = "9")]
    pub fingerprint: String,
    #[prost(bool, tag = "10")]
    pub modified: bool,
    /// All majors there ever were, ascending: numbers are not used twice.
    #[prost(message, repeated, tag = "11")]
    pub majors: Vec<Major>,
}

/// What is known of one major version.
#[derive(Clone, PartialEq, Message)]
pub struct Major {
    #[prost(uint64, tag = "1")]
    pub number: u64,
    #[prost(uint64, tag = "2")]
    pub next_minor: u64,
    /// The highest published minor.
    #[prost(uint64, optional, tag = "3")]
    pub published: Option<u64>,
    /// The highest minor that exists.
    #[prost(uint64, optional, tag = "4")]
    pub latest: Option<u64>,
}

impl Major {
    /// The minor to use where none is named; before one is published, the one to expect.
    fn recommended(&self) -> Option<u64> {
        self.published.or(self.latest)
    }
}

#[derive(Clone, PartialEq, Message)]
pub struct VersionRecord {
    #[prost(enumeration = "TemplateType", tag = "1")]
    pub kind: i32,
    #[prost(string, tag = "2")]
    pub template: String,
    #[prost(uint64, tag = "3")]
    pub major: u64,
    #[prost(uint64, tag = "4")]
    pub minor: u64,
    #[prost(message, optional, tag = "5")]
    pub created_at: Option<Timestamp>,
    #[prost(message, optional, tag = "6")]
    pub last_modified_at: Option<Timestamp>,
    #[prost(string, optional, tag = "7")]
    pub description: Option<String>,
    #[prost(enumeration = "Status", tag = "8")]
    pub status: i32,
    #[prost(string, tag = "9")]
    pub status_message: String,
    #[prost(message, optional, tag = "10")]
    pub source: Option<pb::S3ObjectSource>,
    /// The schema file as written, once registered.
    #[prost(string, optional, tag = "11")]
    pub schema: Option<String>,
    /// Where the copy of the bundle is.
    #[prost(string, tag = "12")]
    pub bundle: String,
    #[prost(message, repeated, tag = "13")]
    pub compatible: Vec<pb::CompatibleEnvironmentTemplate>,
    #[prost(
        enumeration = "pb::ServiceTemplateSupportedComponentSourceType",
        repeated,
        tag = "14"
    )]
    pub component_sources: Vec<i32>,
    /// How the environment's or the instance's part is rendered: `jinja`, `hcl`, `codebuild`.
    #[prost(string, optional, tag = "15")]
    pub rendering: Option<String>,
    /// The same of the pipeline's part; absent where there is none.
    #[prost(string, optional, tag = "16")]
    pub pipeline_rendering: Option<String>,
}

/// How a kind of template is called in ARNs; with ` version` or `-version` also its versions.
pub fn noun(kind: TemplateType) -> &'static str {
    match kind {
        TemplateType::Service => "service-template",
        TemplateType::Environment | TemplateType::Unspecified => "environment-template",
    }
}

fn kind_key(kind: TemplateType) -> &'static str {
    match kind {
        TemplateType::Service => "service",
        TemplateType::Environment | TemplateType::Unspecified => "environment",
    }
}

pub fn template_key(kind: TemplateType, name: &str) -> String {
    format!("{}/{name}", kind_key(kind))
}

/// Before the keys of all templates of a kind.
pub fn templates_prefix(kind: TemplateType) -> String {
    format!("{}/", kind_key(kind))
}

pub(super) fn version_key(kind: TemplateType, template: &str, major: u64, minor: u64) -> String {
    format!("{}{minor:020}", major_prefix(kind, template, major))
}

/// Before the keys of all versions of a template.
fn versions_prefix(kind: TemplateType, template: &str) -> String {
    format!("{}/{template}/", kind_key(kind))
}

/// Before the keys of all minors of a major.
pub fn major_prefix(kind: TemplateType, template: &str, major: u64) -> String {
    format!("{}{major:020}/", versions_prefix(kind, template))
}

impl Record for TemplateRecord {
    const KIND: &'static str = "template";

    fn key(&self) -> String {
        template_key(self.kind(), &self.name)
    }
}

impl Record for VersionRecord {
    const KIND: &'static str = "template-version";

    fn published(key: &str) -> &str {
        key.split('/').nth(1).unwrap_or(key)
    }

    fn key(&self) -> String {
        version_key(self.kind(), &self.template, self.major, self.minor)
    }

    fn indexes(&self) -> Vec<(String, String)> {
        if self.bundle.is_empty() {
            return Vec::new();
        }
        vec![(format!("bundle/{}", self.bundle), String::new())]
    }
}

impl TemplateRecord {
    /// The tail of its ARN.
    pub fn tail(&self) -> String {
        format!("{}/{}", noun(self.kind()), self.name)
    }

    pub fn customer_managed(&self) -> bool {
        self.provisioning() == Provisioning::CustomerManaged
    }

    pub fn major(&self, number: u64) -> Option<&Major> {
        self.majors.iter().find(|major| major.number == number)
    }

    /// User Guide: the highest version among the published ones.
    pub fn recommended(&self) -> Option<(u64, u64)> {
        self.majors
            .iter()
            .rev()
            .find_map(|major| major.published.map(|minor| (major.number, minor)))
    }

    /// The recommended version as `1.0`.
    pub fn recommended_version(&self) -> Option<String> {
        self.recommended()
            .map(|(major, minor)| format!("{major}.{minor}"))
    }

    /// The recommended minor of a major, as the API shows it.
    pub fn recommended_minor(&self, major: u64) -> Option<String> {
        self.major(major)
            .and_then(Major::recommended)
            .map(|minor| minor.to_string())
    }
}

impl VersionRecord {
    /// The tail of its ARN.
    pub fn tail(&self) -> String {
        let Self {
            template,
            major,
            minor,
            ..
        } = self;
        format!("{}/{template}:{major}.{minor}", noun(self.kind()))
    }

    pub fn deployable(&self) -> bool {
        matches!(self.status(), Status::Draft | Status::Published)
    }
}

/// A version part of a request as a number. What is too large for one does not exist, nor does a
/// number in another spelling: `01`.
pub fn number(part: &str) -> Option<u64> {
    part.parse()
        .ok()
        .filter(|number: &u64| number.to_string() == part)
}

pub fn template(tx: &Transaction<'_>, kind: TemplateType, name: &str) -> Result<TemplateRecord> {
    tx.get(&template_key(kind, name))?
        .ok_or_else(|| Error::not_found(noun(kind), name))
}

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
            let published = number(major)
                .and_then(|major| template.major(major))
                .and_then(|major| major.published);
            let Some(minor) = published else {
                let mut error = version_not_found(cx, kind, name, major);
                error.message.push_str(
                    " (no minor version of it is published: publish one, or name the minor version)",
                );
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

pub(super) fn subject(record: &VersionRecord) -> String {
    format!("template-version/{}", record.key())
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
pub(super) fn recount(tx: &Transaction<'_>, kind: TemplateType, name: &str) -> Result<()> {
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

/// The index under which what is deployed on a version is found.
fn index_of_version(template: &str, major: u64, minor: u64) -> String {
    index_of(template, &major.to_string(), &minor.to_string())
}

/// The same of the numbers as the API writes them.
pub fn index_of(template: &str, major: &str, minor: &str) -> String {
    format!("version/{template}:{major}.{minor}")
}

/// Lists the minors of a major; without one, each major by its recommended minor.
pub fn list_versions<T>(
    tx: &Transaction<'_>,
    kind: TemplateType,
    name: &str,
    major: Option<&str>,
    page: &super::paging::Page,
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
pub fn predecessor(tx: &Transaction<'_>, record: &VersionRecord) -> Result<Option<VersionRecord>> {
    let prefix = major_prefix(record.kind(), &record.template, record.major);
    let mut found = None;
    tx.scan::<VersionRecord>(&prefix, None, |version| {
        if version.minor < record.minor && version.deployable() {
            found = Some(version);
        }
        Ok(std::ops::ControlFlow::Continue(()))
    })?;
    Ok(found)
}
