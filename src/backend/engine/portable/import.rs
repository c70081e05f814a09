//! From the folder to what a store is to hold.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::Field;
use super::holdings::{Found, Holdings, Packed, digest_of};
use super::places::Placed;
use super::problem::{Place, Problems};
use super::tree::{self, Tree};
use super::{FORMAT, MANIFEST, lifted};
use crate::api::pb;
use crate::backend::engine::context::Settings;
use crate::backend::engine::registry::VersionRecord;
use crate::backend::engine::template::bundle::{Bundle, Limits};

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
    let mut holdings = Holdings::default();
    let paths: Vec<String> = tree.below("").map(str::to_owned).collect();
    for (index, path) in paths.iter().enumerate() {
        told(index as u64 + 1, paths.len() as u64);
        let parts: Vec<_> = path.split('/').collect();
        match parts.as_slice() {
            ["account-settings.json"] => holdings.settings.extend(take(&tree, path, problems)),
            ["repositories", _, _] => holdings.repositories.extend(take(&tree, path, problems)),
            ["account-connections", _] => holdings.connections.extend(take(&tree, path, problems)),
            ["templates", _, _, "template.json"] => {
                holdings.templates.extend(take(&tree, path, problems));
            }
            ["templates", _, _, "sync.json"] => {
                holdings.template_syncs.extend(take(&tree, path, problems));
            }
            ["templates", _, _, _, "version.json"] => {
                version(&tree, path, problems, &mut holdings);
            }
            ["environments", _, "environment.json"] => {
                holdings.environments.extend(take(&tree, path, problems));
            }
            ["services", _, "service.json"] => {
                holdings.services.extend(take(&tree, path, problems))
            }
            ["services", _, "pipeline.json"] => {
                holdings.pipelines.extend(take(&tree, path, problems));
            }
            ["services", _, "sync.json"] => {
                holdings.service_syncs.extend(take(&tree, path, problems));
            }
            ["services", _, "instances", _, "instance.json"] => {
                holdings.instances.extend(take(&tree, path, problems));
            }
            ["components", _, "component.json"] => {
                holdings.components.extend(take(&tree, path, problems));
            }
            ["deployments", _, "deployment.json"] => {
                holdings.deployments.extend(take(&tree, path, problems));
            }
            // Texts are read with what names them.
            _ => {}
        }
    }
    count(&manifest, &holdings, problems);
    holdings.check(problems);
    tree.finish();
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

fn take<R: Placed>(tree: &Tree<'_>, path: &str, problems: &Problems) -> Option<Found<R>> {
    take_with(tree, path, problems, |_, _| ()).map(|(found, ())| found)
}

/// Reads one record; `more` takes members that are no part of it.
fn take_with<R: Placed, T>(
    tree: &Tree<'_>,
    path: &str,
    problems: &Problems,
    more: impl FnOnce(&mut Value, &Place<'_>) -> T,
) -> Option<(Found<R>, T)> {
    let mut value = tree.json(path)?;
    let place = Place::whole(path, problems);
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    lifted::settle(&mut value, &place, &mut |name| {
        tree.text(&format!("{folder}/{name}"))
    });
    let tags = match value.as_object_mut() {
        Some(members) => Field::read(members.shift_remove("tags"), &place.member("tags")),
        None => Vec::new(),
    };
    let more = more(&mut value, &place);
    let record = R::read(value, &place);
    if record.path() != path {
        let problem = format!(
            "does not go with the name of the file, which would be {}",
            record.path()
        );
        problems.add(path, R::NAMED_BY, problem);
    }
    check_tags(&tags, &place);
    let found = Found {
        file: path.to_owned(),
        record,
        tags,
    };
    Some((found, more))
}

fn check_tags(tags: &[pb::Tag], place: &Place<'_>) {
    for (index, tag) in tags.iter().enumerate() {
        let place = place.member("tags").element(index);
        if tag.key().is_empty() {
            place.member("key").wrong("is missing");
        } else if tag.key().to_ascii_lowercase().starts_with("aws:") {
            place
                .member("key")
                .wrong("begins with `aws:`, which is reserved");
        } else if tags.iter().take(index).any(|other| other.key == tag.key) {
            place.member("key").wrong("is the key of another tag too");
        }
    }
}

fn version(tree: &Tree<'_>, path: &str, problems: &Problems, holdings: &mut Holdings) {
    let taken = take_with::<VersionRecord, _>(tree, path, problems, |value, place| {
        let given = value
            .as_object_mut()
            .and_then(|it| it.shift_remove("bundleSha256"));
        <Option<String> as Field>::read(given, &place.member("bundleSha256"))
    });
    let Some((mut found, digest)) = taken else {
        return;
    };
    let folder = path.trim_end_matches("/version.json");
    let archive = format!("{folder}/bundle.tar.gz");
    if let Some(digest) = digest {
        if !tree.has(&archive) {
            problems.add(
                path,
                "bundleSha256",
                "is that of bundle.tar.gz, which is not there",
            );
        } else if let Some(bytes) = tree.bytes(&archive) {
            if hex::encode(Sha256::digest(&bytes)) != digest {
                problems.add(
                    &archive,
                    "",
                    "is not the file of which version.json has the bundleSha256",
                );
            } else {
                unpacked(tree, folder, &bytes, problems);
            }
            found.record.bundle = digest_of(&bytes);
            let bundle = Packed::File(tree.place(&archive));
            holdings.bundles.insert(found.record.bundle.clone(), bundle);
        }
    }
    holdings.versions.push(found);
}

/// Notes where the files beside an archive are not those in it: an edit of them would be lost.
fn unpacked(tree: &Tree<'_>, folder: &str, bytes: &[u8], problems: &Problems) {
    let bundle = match Bundle::unpack(bytes, &Limits::default()) {
        Ok(bundle) => bundle,
        Err(error) => {
            return problems.add(&format!("{folder}/bundle.tar.gz"), "", error.to_string());
        }
    };
    let inner = format!("{folder}/bundle/");
    let packed: BTreeMap<String, &[u8]> = bundle
        .files()
        .iter()
        .filter_map(|(name, bytes)| {
            let path = tree::unpacked(name)?;
            Some((format!("{inner}{path}"), bytes.as_slice()))
        })
        .collect();
    let paths: Vec<String> = tree.below(&inner).map(str::to_owned).collect();
    for path in &paths {
        let packed = packed.get(path).copied();
        let file = tree.bytes(path);
        if file.is_some() && file.as_deref() != packed {
            let problem = "is not what bundle.tar.gz holds, which is what counts; register what was \
                           changed as another version";
            problems.add(path, "", problem);
        }
    }
    for path in packed.keys() {
        if !tree.has(path) {
            problems.add(path, "", "is in bundle.tar.gz, but not here");
        }
    }
}
