//! What is stored of templates and their versions, and under which names.
//!
//! Keys of [`TemplateRecord`]: `{kind}/{name}`. Keys of [`VersionRecord`]:
//! `{kind}/{template}/{major}/{minor}` with the numbers padded, so that they sort as numbers;
//! index: `bundle/{digest}`.

use prost::Message;
use prost_types::Timestamp;

use crate::api::pb::{self, Provisioning, TemplateType, TemplateVersionStatus as Status};
use crate::backend::engine::store::Record;

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
    pub(super) fn recommended(&self) -> Option<u64> {
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

pub(in crate::backend::engine) fn version_key(
    kind: TemplateType,
    template: &str,
    major: u64,
    minor: u64,
) -> String {
    format!("{}{minor:020}", major_prefix(kind, template, major))
}

/// Before the keys of all versions of a template.
pub(super) fn versions_prefix(kind: TemplateType, template: &str) -> String {
    format!("{}/{template}/", kind_key(kind))
}

/// Before the keys of all minors of a major.
pub fn major_prefix(kind: TemplateType, template: &str, major: u64) -> String {
    format!("{}{major:020}/", versions_prefix(kind, template))
}

/// What the keys of all minors of a major have in common.
pub fn major_of(key: &str) -> &str {
    key.rsplit_once('/').map_or(key, |(major, _)| major)
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

pub(in crate::backend::engine) fn subject(record: &VersionRecord) -> String {
    format!("template-version/{}", record.key())
}

/// The index under which what is deployed on a version is found.
pub(super) fn index_of_version(template: &str, major: u64, minor: u64) -> String {
    index_of(template, &major.to_string(), &minor.to_string())
}

/// The same of the numbers as the API writes them.
pub fn index_of(template: &str, major: &str, minor: &str) -> String {
    format!("version/{template}:{major}.{minor}")
}
