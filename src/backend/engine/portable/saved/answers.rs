//! From files to what each resource's answers say together.

mod resource;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Map, Value};

use self::resource::{kind_in_list, merge, name, times};
use super::super::problem::{Place, Problems};
use super::super::{arns, parse, tree};
use crate::api::json::{At, FromJson, ToJson, View};
use crate::api::pb;
use crate::api::rules::{Check, Rules};
use crate::backend::engine::context::Settings;

/// Files that are read of one folder.
const MOST_FILES: usize = 100_000;

/// What an answer tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    EnvironmentTemplate,
    ServiceTemplate,
    EnvironmentVersion,
    ServiceVersion,
    Environment,
    Service,
    Instance,
    Component,
    Deployment,
    Repository,
    Connection,
    TemplateSync,
    ServiceSync,
    Settings,
}

/// The member of an answer to `get-…`, and of one to `list-…`, by which it is known.
const KINDS: &[(Kind, &str, &str)] = &[
    (
        Kind::EnvironmentTemplate,
        "environmentTemplate",
        "templates",
    ),
    (Kind::ServiceTemplate, "serviceTemplate", "templates"),
    (
        Kind::EnvironmentVersion,
        "environmentTemplateVersion",
        "templateVersions",
    ),
    (
        Kind::ServiceVersion,
        "serviceTemplateVersion",
        "templateVersions",
    ),
    (Kind::Environment, "environment", "environments"),
    (Kind::Service, "service", "services"),
    (Kind::Instance, "serviceInstance", "serviceInstances"),
    (Kind::Component, "component", "components"),
    (Kind::Deployment, "deployment", "deployments"),
    (Kind::Repository, "repository", "repositories"),
    (
        Kind::Connection,
        "environmentAccountConnection",
        "environmentAccountConnections",
    ),
    (Kind::TemplateSync, "templateSyncConfig", ""),
    (Kind::ServiceSync, "serviceSyncConfig", ""),
    (Kind::Settings, "accountSettings", ""),
];

/// Answers that tell nothing that could be kept.
const PASSING: &[&str] = &[
    "provisionedResources",
    "syncDefinitions",
    "latestSync",
    "desiredState",
    "serviceSyncBlockerSummary",
    "counts",
];

/// What is known of one resource.
#[derive(Debug)]
pub struct Known {
    /// The file that says most of it.
    pub file: String,
    /// Where in it.
    pub field: String,
    /// Of an answer to `get-…`.
    pub full: bool,
    pub members: Map<String, Value>,
}

/// An answer that does not say whose it is.
#[derive(Debug)]
pub struct Nameless {
    pub file: String,
    pub items: Value,
}

/// All that was read.
#[derive(Debug, Default)]
pub struct Answers {
    pub known: BTreeMap<(Kind, String), Known>,
    pub outputs: Vec<Nameless>,
    pub tags: Vec<Nameless>,
    /// Files that tell nothing that could be kept, and lists that were cut off.
    pub remarks: Vec<(String, &'static str)>,
}

impl Known {
    pub fn place<'a>(&'a self, problems: &'a Problems) -> Place<'a> {
        Place::whole(&self.file, problems).member(&self.field)
    }

    /// Reads it as a message of the contract; problems are noted, strange members are passed over.
    pub fn message<M: FromJson + ToJson + Rules + Default>(&self, problems: &Problems) -> M {
        let place = self.place(problems);
        let mut good = Map::new();
        // Some messages cannot be read without their lists.
        let lists = self.members.iter().filter(|(_, value)| value.is_array());
        let lists = lists.map(|(name, _)| (name.clone(), Value::Array(Vec::new())));
        let lists: Map<String, Value> = lists.collect();
        for (name, value) in &self.members {
            let mut alone = lists.clone();
            alone.insert(name.clone(), value.clone());
            match M::from_json(alone.into(), &At::root()) {
                Ok(message) => {
                    let named = message.to_json(View::Plain).get(name).is_some();
                    if name.ends_with("tatus") && !named {
                        place.member(name).wrong("is none of its values");
                    }
                    good.insert(name.clone(), value.clone());
                }
                Err(error) => place.wrong(error.message),
            }
        }
        let message = M::from_json(good.into(), &At::root()).unwrap_or_default();
        // A status has been told of, and ARNs are looked at elsewhere.
        let mut violations = Check::values(&message);
        violations.retain(|it| !it.field.ends_with("status") && !it.field.ends_with("arn"));
        place.violated(violations);
        message
    }
}

/// Reads all files of a folder and of those in it. An error says that there is nothing to read.
pub fn read(
    root: &Path,
    settings: &Settings,
    problems: &Problems,
    told: &dyn Fn(u64, u64),
) -> Result<Answers, String> {
    let files = files(root, problems)?;
    if files.is_empty() {
        return Err(format!("{} holds no .json file", root.display()));
    }
    let mut answers = Answers::default();
    let total = files.len() as u64;
    for (index, file) in files.into_iter().enumerate() {
        told(index as u64 + 1, total);
        let bytes = tree::read(&root.join(&file));
        let text = bytes.and_then(|bytes| parse::text(bytes).map_err(str::to_owned));
        let text = match text {
            Ok(text) => text,
            Err(problem) => {
                problems.add(&file, "", problem);
                continue;
            }
        };
        if text.trim_start_matches('\u{feff}').trim().is_empty() {
            problems.add(
                &file,
                "",
                "is empty: the command that wrote it has failed; remove it",
            );
            continue;
        }
        match parse::json(&text, &Place::whole(&file, problems)) {
            Some(Value::Object(members)) => answers.take(&file, members, settings, problems),
            Some(_) => problems.add(&file, "", "is no answer of `aws proton`"),
            None => {}
        }
    }
    Ok(answers)
}

fn files(root: &Path, problems: &Problems) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    let mut looked_into = 0;
    while let Some(folder) = folders.pop() {
        let wrong = |cause| format!("cannot read {}: {cause}", folder.display());
        for entry in fs::read_dir(&folder).map_err(wrong)? {
            let entry = entry.map_err(wrong)?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(wrong)?);
            let json = path
                .extension()
                .is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
            let inner = path.strip_prefix(root).unwrap_or(&path);
            let inner = inner.to_string_lossy().into_owned();
            if kind.is_dir() {
                looked_into += 1;
                folders.push(path);
            } else if !kind.is_file() {
                // A link may lead in a circle, and a pipe never ends.
                problems.add(&inner, "", "is neither a file nor a folder");
            } else if json {
                found.push(inner);
            }
            if found.len() + looked_into > MOST_FILES {
                return Err(format!(
                    "{} holds more than {MOST_FILES} files and folders",
                    root.display()
                ));
            }
        }
    }
    found.sort();
    Ok(found)
}

impl Answers {
    fn take(
        &mut self,
        file: &str,
        mut members: Map<String, Value>,
        settings: &Settings,
        problems: &Problems,
    ) {
        let cut = ["nextToken", "NextToken"].iter().any(|token| {
            members
                .get(*token)
                .and_then(Value::as_str)
                .is_some_and(|token| !token.is_empty())
        });
        if cut {
            self.remarks.push((
                file.to_owned(),
                "the list was cut off; what came after it is missing",
            ));
        }
        for (kind, get, list) in KINDS {
            if let Some(value) = members.shift_remove(*get) {
                return self.one(*kind, file, get, value, true, settings, problems);
            }
            if let Some(Value::Array(items)) = members.get(*list) {
                for (index, item) in items.iter().enumerate() {
                    let kind = kind_in_list(*kind, item);
                    let field = format!("{list}[{index}]");
                    self.one(kind, file, &field, item.clone(), false, settings, problems);
                }
                return;
            }
        }
        let nameless = |items| Nameless {
            file: file.to_owned(),
            items,
        };
        if let Some(items) = members.shift_remove("outputs") {
            self.outputs.push(nameless(items));
        } else if let Some(items) = members.shift_remove("tags") {
            self.tags.push(nameless(items));
        } else if PASSING.iter().any(|name| members.contains_key(*name)) {
            self.remarks.push((
                file.to_owned(),
                "tells nothing that could be kept; passed over",
            ));
        } else {
            problems.add(file, "", "is no answer of `aws proton get-…` or `list-…`");
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn one(
        &mut self,
        kind: Kind,
        file: &str,
        field: &str,
        mut value: Value,
        full: bool,
        settings: &Settings,
        problems: &Problems,
    ) {
        let place = Place::whole(file, problems).member(field);
        times(&mut value, &place);
        // A connection may be of the other account.
        if kind != Kind::Connection {
            arns::check(&value, settings, &place);
        }
        let Value::Object(mut members) = value else {
            return place.wrong("must be an object");
        };
        if kind == Kind::ServiceVersion && !full {
            // Lists leave it out.
            let none = || Value::Array(Vec::new());
            members
                .entry("compatibleEnvironmentTemplates")
                .or_insert_with(none);
        }
        let Some(name) = name(kind, &members, &place) else {
            return;
        };
        let found = Known {
            file: file.to_owned(),
            field: field.to_owned(),
            full,
            members,
        };
        match self.known.get_mut(&(kind, name.clone())) {
            None => drop(self.known.insert((kind, name), found)),
            Some(known) => merge(known, found, &place),
        }
    }
}

/// A nameless list as messages.
pub fn items<M: FromJson + Default>(
    nameless: &Nameless,
    name: &str,
    problems: &Problems,
) -> Vec<M> {
    let place = Place::whole(&nameless.file, problems).member(name);
    let Some(items) = nameless.items.as_array() else {
        place.wrong("must be a list");
        return Vec::new();
    };
    let read = |(index, item): (usize, &Value)| {
        M::from_json(item.clone(), &At::root()).unwrap_or_else(|error| {
            place.element(index).wrong(error.message);
            M::default()
        })
    };
    items.iter().enumerate().map(read).collect()
}

/// Whose an answer is by the name of its file: the one of `owners` with which it ends.
pub fn owner<'a>(file: &str, prefix: &str, owners: &'a [String]) -> Option<&'a str> {
    let plain = |text: &str| -> String {
        let dash = |letter: char| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '-'
            }
        };
        text.chars().map(dash).collect()
    };
    let stem = plain(&Path::new(file).with_extension("").to_string_lossy());
    let (_, rest) = stem.rsplit_once(prefix)?;
    let rest = rest.trim_start_matches('-');
    let mut matching = owners.iter().filter(|owner| plain(owner) == rest);
    match (matching.next(), matching.next()) {
        (Some(owner), None) => Some(owner),
        _ => None,
    }
}

/// A list that is the caller's own.
pub fn is_own(tag: &pb::Tag) -> bool {
    !tag.key().starts_with("aws:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_file_says_whose_its_outputs_are() {
        let owners = ["shop/eu", "shop-eu/a", "shop/eu-a"].map(str::to_owned);
        let of = |file| owner(file, "service-instance-outputs", &owners);
        assert_eq!(
            of("x/list-service-instance-outputs-shop-eu.json"),
            Some("shop/eu")
        );
        assert_eq!(of("service-instance-outputs/shop/eu.json"), Some("shop/eu"));
        // Two could be meant.
        assert_eq!(of("list-service-instance-outputs-shop-eu-a.json"), None);
        assert_eq!(of("outputs.json"), None);
    }
}
