//! Templates of both kinds and their versions: numbering, publishing, recommending, deleting.
//!
//! The rpcs stand in `environment_template` and `service_template`; this is what they share: what is
//! stored in [`record`], what becomes of templates in [`template`], of their versions in [`version`].

mod record;
mod template;
mod version;

pub use self::record::{
    Major, TemplateRecord, VersionRecord, index_of, major_prefix, noun, number, template_key,
    templates_prefix,
};
pub(super) use self::record::{major_of, subject, version_key};
pub use self::template::{
    NewTemplate, create_template, delete_template, template, update_template,
};
pub(super) use self::version::recount;
pub use self::version::{
    NewVersion, VersionUpdate, create_version, delete_version, deployable, list_versions,
    predecessor, update_version, version,
};
