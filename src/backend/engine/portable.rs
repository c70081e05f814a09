//! Everything that the engine holds, as plain files: for people, for Git, and for a move.
//!
//! One folder, in format 1:
//!
//! ```text
//! manifest.json                              format, account, region, and how much there is of what
//! account-settings.json
//! repositories/{provider}/{owner}+{name}.json
//! account-connections/{id}.json
//! templates/{environment|service}/{name}/template.json, sync.json
//! templates/{…}/{name}/{major}.{minor}/version.json, schema.yaml, bundle.tar.gz, bundle/…
//! environments/{name}/environment.json
//! services/{name}/service.json, pipeline.json, sync.json
//! services/{name}/instances/{name}/instance.json
//! components/{name}/component.json
//! deployments/{id}/deployment.json
//! ```
//!
//! A spec, a manifest or an infrastructure file is a file of its own beside the JSON that names it.
//! Keys are sorted, times are RFC 3339, and nothing in it depends on when it was written: the same
//! store gives the same bytes. What passes by itself is not in it: client tokens, idempotency keys
//! and the store's secret.
//!
//! [`export`] writes the folder, [`import`] reads it, [`saved`] reads what AWS Proton's command
//! line has printed; [`holdings`] is what both give, checked, and how it gets into a store.

mod arns;
mod document;
mod draft;
pub mod export;
pub mod holdings;
pub mod import;
mod kinds;
mod lifted;
mod names;
mod parse;
mod places;
pub mod problem;
pub mod saved;
mod tags;
mod tree;

pub use self::problem::{Problem, Problems};

/// The version of the folder's format.
pub const FORMAT: u64 = 1;

/// Which file says what a folder is.
const MANIFEST: &str = "manifest.json";
