//! From the folder to what a store is to hold.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::Field;
use super::holdings::{Found, Holdings, Packed, digest_of};
use super::places::Placed;
use super::problem::{Place, Problems};
use super::tree::Tree;
use super::{FORMAT, MANIFEST, arns, lifted, names, tags};
use crate::api::pb::{self, TemplateType};
use crate::backend::engine::context::Settings;
use crate::backend::engine::registry::VersionRecord;
use crate::backend::engine::template::bundle::{Bundle, Limits, TemplateKind};

/// Reads the folder `root`. What is wrong in it is noted; an error says that it is no export, or
/// one that this program does not know. `told` is called with how many files are read, and how
/// many there are.
pub fn read(
    root: &Path,
    settings: &Settings,
    problems: &Problems,
    told: &dyn Fn(u64, u64),
) -> Result<Holdings, String> {
    let tree = Tree::open(root, problems)?;
    let Some(manifest) = tree.json(MANIFEST) else {
        return Ok(Holdings::default());
    };
    known(&manifest, settings)?;
    let reader = Reader {
        tree,
        settings,
        problems,
    };
    let mut holdings = Holdings::default();
    let paths: Vec<String> = reader.tree.below("").map(str::to_owned).collect();
    for (index, path) in paths.iter().enumerate() {
        told(index as u64 + 1, paths.len() as u64);
        reader.file(path, &mut holdings);
    }
    count(&manifest, &holdings, problems);
    holdings.check(problems);
    reader.tree.finish();
    Ok(holdings)
}

/// Refuses what was written in another format, or for another account: the ARNs would be wrong.
fn known(manifest: &Value, settings: &Settings) -> Result<(), String> {
    match manifest.get("format").and_then(Value::as_u64) {
        Some(FORMAT) => {}
        Some(newer) if newer > FORMAT => {
            return Err(format!(
                "{MANIFEST}: format: is {newer}, and this program knows up to {FORMAT}; use a newer one"
            ));
        }
        _ => return Err(format!("{MANIFEST}: format: must be {FORMAT}")),
    }
    let own = [
        ("accountId", &settings.account_id, "--account-id"),
        ("region", &settings.region, "--region"),
    ];
    for (key, is, flag) in own {
        match manifest.get(key).and_then(Value::as_str) {
            Some(text) if text == is => {}
            Some(text) => {
                return Err(format!(
                    "{MANIFEST}: {key}: is {text}, and this gateway's is {is}; give {flag} {text}"
                ));
            }
            None => return Err(format!("{MANIFEST}: {key}: is missing")),
        }
    }
    Ok(())
}

/// Notes where there is more or less than there was: a file may be lost.
fn count(manifest: &Value, holdings: &Holdings, problems: &Problems) {
    let counts = holdings.counts();
    let place = Place::whole(MANIFEST, problems).member("counts");
    let Some(said) = manifest.get("counts").and_then(Value::as_object) else {
        return place.wrong("is missing");
    };
    let kinds: std::collections::BTreeSet<&str> = said
        .keys()
        .map(String::as_str)
        .chain(counts.keys().copied())
        .collect();
    for kind in kinds {
        let said = said.get(kind).and_then(Value::as_u64).unwrap_or(0);
        let found = counts.get(kind).copied().unwrap_or(0);
        if said != found {
            place
                .member(kind)
                .wrong(format!("is {said}, but there are {found}"));
        }
    }
}

struct Reader<'a> {
    tree: Tree<'a>,
    settings: &'a Settings,
    problems: &'a Problems,
}

impl Reader<'_> {
    /// Reads a record into its place. Texts are read with what names them.
    fn file(&self, path: &str, holdings: &mut Holdings) {
        let parts: Vec<_> = path.split('/').collect();
        match parts.as_slice() {
            ["account-settings.json"] => holdings.settings.extend(self.take(path)),
            ["repositories", _, _] => holdings.repositories.extend(self.take(path)),
            ["account-connections", _] => holdings.connections.extend(self.take(path)),
            ["templates", _, _, "template.json"] => holdings.templates.extend(self.take(path)),
            ["templates", _, _, "sync.json"] => holdings.template_syncs.extend(self.take(path)),
            ["templates", _, _, _, "version.json"] => self.version(path, holdings),
            ["environments", _, "environment.json"] => {
                holdings.environments.extend(self.take(path));
            }
            ["services", _, "service.json"] => holdings.services.extend(self.take(path)),
            ["services", _, "pipeline.json"] => holdings.pipelines.extend(self.take(path)),
            ["services", _, "sync.json"] => holdings.service_syncs.extend(self.take(path)),
            ["services", _, "instances", _, "instance.json"] => {
                holdings.instances.extend(self.take(path));
            }
            ["components", _, "component.json"] => holdings.components.extend(self.take(path)),
            ["deployments", _, "deployment.json"] => holdings.deployments.extend(self.take(path)),
            _ => {}
        }
    }

    fn take<R: Placed>(&self, path: &str) -> Option<Found<R>> {
        self.take_with(path, |_, _| ()).map(|(found, ())| found)
    }

    /// Reads one record; `more` looks at what is no part of it, before its texts are in it.
    fn take_with<R: Placed, T>(
        &self,
        path: &str,
        more: impl FnOnce(&mut Value, &Place<'_>) -> T,
    ) -> Option<(Found<R>, T)> {
        let mut value = self.tree.json(path)?;
        let place = Place::whole(path, self.problems);
        let more = more(&mut value, &place);
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        lifted::settle(&mut value, &place, &mut |name| {
            self.tree.own_text(&format!("{folder}/{name}"))
        });
        let tags: Vec<pb::Tag> = match value.as_object_mut() {
            Some(members) => Field::read(members.shift_remove("tags"), &place.member("tags")),
            None => Vec::new(),
        };
        tags::check(tags.iter().enumerate(), &place.member("tags"));
        if R::IS_OF_ACCOUNT {
            arns::check(&value, self.settings, &place);
        }
        let record = R::read(value, &place);
        if record.path() != path {
            let problem = format!(
                "does not go with the name of the file, which would be {}",
                record.path()
            );
            self.problems.add(path, R::NAMED_BY, problem);
        }
        if !tags.is_empty() && Placed::tail(&record).is_empty() {
            place
                .member("tags")
                .wrong("are of nothing that can have tags");
        }
        let found = Found {
            file: path.to_owned(),
            record,
            tags,
        };
        Some((found, more))
    }

    fn version(&self, path: &str, holdings: &mut Holdings) {
        let taken = self.take_with::<VersionRecord, _>(path, |value, place| {
            let schema = value.pointer("/schema/file").and_then(Value::as_str);
            let schema = schema.map(str::to_owned);
            let given = value
                .as_object_mut()
                .and_then(|it| it.shift_remove("bundleSha256"));
            let digest = <Option<String> as Field>::read(given, &place.member("bundleSha256"));
            (digest, schema)
        });
        let Some((mut found, (digest, schema))) = taken else {
            return;
        };
        let folder = path.trim_end_matches("/version.json");
        let archive = format!("{folder}/bundle.tar.gz");
        if let Some(digest) = digest {
            if !self.tree.has(&archive) {
                let problem = "is that of bundle.tar.gz, which is not there";
                self.problems.add(path, "bundleSha256", problem);
            } else if let Some(bytes) = self.tree.bytes(&archive) {
                if hex::encode(Sha256::digest(&bytes)) != digest {
                    let problem = "is not the file of which version.json has the bundleSha256";
                    self.problems.add(&archive, "", problem);
                } else if let Some(bundle) = self.unpacked(folder, &bytes) {
                    let place = Place::whole(path, self.problems);
                    let beside = schema.map(|name| format!("{folder}/{name}"));
                    self.described(&bundle, &found.record, &place, beside);
                }
                found.record.bundle = digest_of(&bytes);
                let bundle = Packed::File(self.tree.place(&archive));
                holdings.bundles.insert(found.record.bundle.clone(), bundle);
            }
        }
        holdings.versions.push(found);
    }

    /// Notes where a version is said to be another than the one in the archive: specs would be
    /// checked by another schema, or deployments carried out by somebody else. The schema is in a
    /// file `beside` the record.
    fn described(
        &self,
        bundle: &Bundle,
        record: &VersionRecord,
        place: &Place<'_>,
        beside: Option<String>,
    ) {
        // What the customer provides has no part in the bundle.
        let kind = match record.kind() {
            TemplateType::Service => TemplateKind::Service {
                pipeline_customer_managed: record.pipeline_rendering.is_none(),
            },
            _ => TemplateKind::Environment {
                customer_managed: record.rendering.is_none(),
            },
        };
        let checked = match bundle.check(kind) {
            Ok(checked) => checked,
            Err(error) => {
                return place.wrong(format!("does not go with bundle.tar.gz: {error}"));
            }
        };
        const OTHER: &str = "is not the one in bundle.tar.gz, which is what counts; register what \
                             was changed as another version";
        let [rendering, pipeline_rendering] = checked.renderings();
        if rendering != record.rendering {
            place.member("rendering").wrong(OTHER);
        }
        if pipeline_rendering != record.pipeline_rendering {
            place.member("pipelineRendering").wrong(OTHER);
        }
        match (&record.schema, beside) {
            (Some(schema), _) if schema.trim() == checked.schema_text.trim() => {}
            (Some(_), Some(file)) => self.problems.add(&file, "", OTHER),
            (Some(_), None) => place.member("schema").wrong(OTHER),
            (None, None) => place
                .member("schema")
                .wrong("is missing, and bundle.tar.gz has one"),
            // It could not be read, which has been told.
            (None, Some(_)) => {}
        }
    }

    /// Notes where the files beside an archive are not those in it: an edit of them would be lost.
    fn unpacked(&self, folder: &str, bytes: &[u8]) -> Option<Bundle> {
        let bundle = match Bundle::unpack(bytes, &Limits::default()) {
            Ok(bundle) => bundle,
            Err(error) => {
                let archive = format!("{folder}/bundle.tar.gz");
                self.problems.add(&archive, "", error.to_string());
                return None;
            }
        };
        let inner = format!("{folder}/bundle/");
        let packed: BTreeMap<String, &[u8]> = bundle
            .files()
            .iter()
            .filter_map(|(name, bytes)| {
                let path = names::unpacked(name)?;
                Some((format!("{inner}{path}"), bytes.as_slice()))
            })
            .collect();
        let paths: Vec<String> = self.tree.below(&inner).map(str::to_owned).collect();
        for path in &paths {
            let packed = packed.get(path).copied();
            let file = self.tree.bytes(path);
            if file.is_some() && file.as_deref() != packed {
                let problem = "is not what bundle.tar.gz holds, which is what counts; register what was \
                               changed as another version";
                self.problems.add(path, "", problem);
            }
        }
        for path in packed.keys() {
            if !self.tree.has(path) {
                self.problems
                    .add(path, "", "is in bundle.tar.gz, but not here");
            }
        }
        Some(bundle)
    }
}
