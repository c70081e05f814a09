//! Bundles of saved template versions, from a folder: `{template}/{major}.{minor}.tar.gz`,
//! `{template}-{major}.{minor}.tar.gz`, or unpacked in `{template}/{major}.{minor}/`, each also below
//! `environment/` or `service/` where two templates share a name.

use std::fs;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Saved;
use crate::api::pb::{TemplateType, TemplateVersionStatus};
use crate::backend::engine::portable::holdings::{Packed, digest_of};
use crate::backend::engine::portable::problem::Problems;
use crate::backend::engine::portable::tree;
use crate::backend::engine::registry::{self, VersionRecord};
use crate::backend::engine::template::bundle::{Bundle, Checked, Limits, TemplateKind};

/// Gives each version its bundle, or says what it means that there is none.
pub fn add(saved: &mut Saved, folder: Option<&Path>, problems: &Problems) -> Result<(), String> {
    if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
        return Err(format!("{} is not a folder", folder.display()));
    }
    let mut remarks = Vec::new();
    let holdings = &mut saved.holdings;
    for found in &mut holdings.versions {
        let record = &mut found.record;
        let key = registry::template_key(record.kind(), &record.template);
        let template = holdings
            .templates
            .iter()
            .find(|it| registry::template_key(it.record.kind(), &it.record.name) == key);
        let customer_managed = template.is_some_and(|it| it.record.customer_managed());
        let has_pipeline = record.kind() == TemplateType::Service && !customer_managed;
        let path = folder.and_then(|folder| place(folder, record));
        let Some(path) = path else {
            // Whether there is a pipeline follows from the template, how it is rendered does not.
            record.pipeline_rendering = has_pipeline.then(|| "unknown".to_owned());
            if record.status() != TemplateVersionStatus::RegistrationFailed {
                remarks.push((record.tail(), missing(record)));
            }
            continue;
        };
        let kind = match record.kind() {
            TemplateType::Service => TemplateKind::Service {
                pipeline_customer_managed: customer_managed,
            },
            _ => TemplateKind::Environment { customer_managed },
        };
        match checked(&path, kind) {
            Ok((bytes, checked)) => take(
                record,
                &path,
                &checked,
                problems,
                &bytes,
                &mut holdings.bundles,
            ),
            Err(problem) => problems.add(&path.display().to_string(), "", problem),
        }
    }
    for (subject, text) in remarks {
        saved.remark(subject, text);
    }
    Ok(())
}

fn missing(record: &VersionRecord) -> &'static str {
    match record.schema {
        Some(_) => {
            "has no bundle: specs are checked by its schema, but its infrastructure is in no export"
        }
        None => {
            "has neither a schema nor a bundle: what is on it can be read, but not deployed; register \
             another version, and move it there"
        }
    }
}

fn place(folder: &Path, record: &VersionRecord) -> Option<PathBuf> {
    let VersionRecord {
        template,
        major,
        minor,
        ..
    } = record;
    let kind = match record.kind() {
        TemplateType::Service => "service",
        _ => "environment",
    };
    let name = |end: &str| {
        [
            format!("{template}/{major}.{minor}{end}"),
            format!("{template}-{major}.{minor}{end}"),
        ]
    };
    let names: Vec<String> = [name(".tar.gz"), name("")].concat();
    let below = names.iter().map(|name| folder.join(kind).join(name));
    let paths = below.chain(names.iter().map(|name| folder.join(name)));
    paths.into_iter().find(|path| path.exists())
}

fn checked(path: &Path, kind: TemplateKind) -> Result<(Vec<u8>, Checked), String> {
    let bytes = if path.is_dir() {
        pack(path)?
    } else {
        tree::read(path)?
    };
    let checked = Bundle::unpack(bytes.as_slice(), &Limits::default())
        .and_then(|bundle| bundle.check(kind))
        .map_err(|error| error.to_string())?;
    Ok((bytes, checked))
}

fn take(
    record: &mut VersionRecord,
    path: &Path,
    checked: &Checked,
    problems: &Problems,
    bytes: &[u8],
    bundles: &mut std::collections::BTreeMap<String, Packed>,
) {
    let other = record
        .schema
        .as_ref()
        .is_some_and(|schema| schema.trim() != checked.schema_text.trim());
    if other {
        let problem = format!(
            "its schema is not the one that was saved of {}",
            record.tail()
        );
        return problems.add(&path.display().to_string(), "", problem);
    }
    record
        .schema
        .get_or_insert_with(|| checked.schema_text.clone());
    [record.rendering, record.pipeline_rendering] = checked.renderings();
    record.bundle = digest_of(bytes);
    bundles.insert(record.bundle.clone(), Packed::Bytes(bytes.to_owned()));
}

/// Packs a folder: the same files give the same bytes.
fn pack(folder: &Path) -> Result<Vec<u8>, String> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    let mut looked_into = 0;
    while let Some(folder) = folders.pop() {
        let wrong = |cause| format!("cannot read {}: {cause}", folder.display());
        for entry in fs::read_dir(&folder).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let kind = entry.file_type().map_err(wrong)?;
            if kind.is_dir() {
                looked_into += 1;
                folders.push(entry.path());
            } else if kind.is_file() {
                files.push(entry.path());
            }
            let limits = Limits::default();
            if files.len() > limits.files || looked_into > limits.entries {
                return Err("has more files or folders than a bundle may have".to_owned());
            }
        }
    }
    files.sort();
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    let wrong = |cause: std::io::Error| format!("cannot be packed: {cause}");
    for file in files {
        let bytes = tree::read(&file)?;
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        let name = file.strip_prefix(folder).unwrap_or(&file);
        archive
            .append_data(&mut header, name, bytes.as_slice())
            .map_err(wrong)?;
    }
    archive
        .into_inner()
        .and_then(GzEncoder::finish)
        .map_err(wrong)
}
