//! From files to what each resource's answers say together.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use prost_types::Timestamp;
use serde_json::{Map, Value};

use super::super::problem::{Place, Problems};
use super::super::tree;
use crate::api::json::{At, FromJson, ToJson, View};
use crate::api::pb;
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
    /// Reads it as a message of the contract; problems are noted, strange members are passed over.
    pub fn message<M: FromJson + ToJson + Default>(&self, problems: &Problems) -> M {
        let place = Place::whole(&self.file, problems).member(&self.field);
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
        M::from_json(good.into(), &At::root()).unwrap_or_default()
    }
}

/// Reads all files of a folder and of those in it. An error says that there is nothing to read.
pub fn read(root: &Path, settings: &Settings, problems: &Problems) -> Result<Answers, String> {
    let files = files(root)?;
    if files.is_empty() {
        return Err(format!("{} holds no .json file", root.display()));
    }
    let mut answers = Answers::default();
    for file in files {
        let text = match tree::read(&root.join(&file)).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => {
                problems.add(&file, "", "is not UTF-8");
                continue;
            }
            Err(problem) => {
                problems.add(&file, "", problem);
                continue;
            }
        };
        if text.trim().is_empty() {
            problems.add(
                &file,
                "",
                "is empty: the command that wrote it has failed; remove it",
            );
            continue;
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(members)) => answers.take(&file, members, settings, problems),
            Ok(_) => problems.add(&file, "", "is no answer of `aws proton`"),
            Err(error) => problems.add(&file, "", format!("is no JSON: {error}")),
        }
    }
    Ok(answers)
}

fn files(root: &Path) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let wrong = |cause| format!("cannot read {}: {cause}", folder.display());
        for entry in fs::read_dir(&folder).map_err(wrong)? {
            let path = entry.map_err(wrong)?.path();
            let json = path.extension().is_some_and(|ending| ending == "json");
            if path.is_dir() {
                folders.push(path);
            } else if json && let Ok(inner) = path.strip_prefix(root) {
                found.push(inner.to_string_lossy().into_owned());
            }
            if found.len() > MOST_FILES {
                return Err(format!(
                    "{} holds more than {MOST_FILES} files",
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
        // A connection may be of the other account.
        if !matches!(kind, Kind::Connection | Kind::Settings) {
            account(&members, settings, &place);
        }
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

/// Lists of both kinds of templates, and of their versions, are called the same.
fn kind_in_list(kind: Kind, item: &Value) -> Kind {
    let service = item["arn"]
        .as_str()
        .is_some_and(|arn| arn.contains(":service-template/"));
    match kind {
        Kind::EnvironmentTemplate if service => Kind::ServiceTemplate,
        Kind::EnvironmentVersion if service => Kind::ServiceVersion,
        kind => kind,
    }
}

/// What tells one resource of a kind from the others.
fn name(kind: Kind, members: &Map<String, Value>, place: &Place<'_>) -> Option<String> {
    let names: &[&str] = match kind {
        Kind::EnvironmentTemplate
        | Kind::ServiceTemplate
        | Kind::Environment
        | Kind::Service
        | Kind::Component => &["name"],
        Kind::EnvironmentVersion | Kind::ServiceVersion => {
            &["templateName", "majorVersion", "minorVersion"]
        }
        Kind::Instance => &["serviceName", "name"],
        Kind::Deployment | Kind::Connection => &["id"],
        Kind::Repository => &["provider", "name"],
        Kind::TemplateSync => &["templateType", "templateName"],
        Kind::ServiceSync => &["serviceName"],
        Kind::Settings => &[],
    };
    let mut whole = Vec::new();
    for name in names {
        match members
            .get(*name)
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            Some(text) => whole.push(text),
            None => {
                place.member(name).wrong("is missing");
                return None;
            }
        }
    }
    Some(whole.join("/"))
}

/// Notes an ARN that this gateway would write otherwise.
fn account(members: &Map<String, Value>, settings: &Settings, place: &Place<'_>) {
    let Some(arn) = members.get("arn").and_then(Value::as_str) else {
        return;
    };
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let [_, _, _, region, account, _] = parts.as_slice() else {
        return place.member("arn").wrong("is no ARN");
    };
    if *region != settings.region || *account != settings.account_id {
        place.member("arn").wrong(format!(
            "is of another account or region than the gateway's; give --account-id {account} \
             --region {region}"
        ));
    }
}

/// Takes what another answer says of the same resource.
fn merge(known: &mut Known, mut found: Known, place: &Place<'_>) {
    // What two answers cannot differ in, if they are about the same resource.
    let fixed = ["arn", "createdAt", "templateName"];
    for (name, value) in &found.members {
        let Some(other) = known.members.get(name) else {
            continue;
        };
        let matters = (known.full && found.full) || fixed.contains(&name.as_str());
        if matters && other != value {
            place
                .member(name)
                .wrong(format!("differs from what {} says", known.file));
        }
    }
    let list = "compatibleEnvironmentTemplates";
    if known.full != found.full {
        for it in [&mut *known, &mut found] {
            if !it.full
                && it
                    .members
                    .get(list)
                    .and_then(Value::as_array)
                    .is_some_and(Vec::is_empty)
            {
                it.members.shift_remove(list);
            }
        }
    }
    let less = if found.full && !known.full {
        std::mem::replace(known, found)
    } else {
        found
    };
    for (name, value) in less.members {
        known.members.entry(name).or_insert(value);
    }
}

/// Times as the codec reads them: the command line prints them in ISO 8601, or as numbers.
fn times(value: &mut Value, place: &Place<'_>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let inner = place.member(name);
                match member {
                    Value::String(text) if name.ends_with("At") => {
                        match text.parse::<Timestamp>() {
                            Ok(time) => *member = seconds(time).into(),
                            Err(_) => inner.wrong("must be a time in ISO 8601, or in seconds"),
                        }
                    }
                    _ => times(member, &inner),
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter_mut().enumerate() {
                times(item, &place.element(index));
            }
        }
        _ => {}
    }
}

#[allow(clippy::cast_precision_loss)]
fn seconds(time: Timestamp) -> f64 {
    time.seconds as f64 + f64::from(time.nanos / 1_000_000) / 1e3
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
    let stem = plain(file.trim_end_matches(".json"));
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
    fn times_are_read_in_both_forms_that_the_command_line_prints() {
        let problems = Problems::default();
        let place = Place::whole("f", &problems);
        for text in [
            "2021-03-31T21:28:26.537000+00:00",
            "2021-03-31T23:28:26.537+02:00",
        ] {
            let mut value =
                serde_json::json!({"createdAt": text, "inner": [{"completedAt": text}]});
            times(&mut value, &place);
            assert_eq!(value["createdAt"], 1_617_226_106.537);
            assert_eq!(value["inner"][0]["completedAt"], 1_617_226_106.537);
        }
        let mut value = serde_json::json!({"createdAt": 1_617_226_106.537});
        times(&mut value, &place);
        assert!(problems.is_empty());
        times(&mut serde_json::json!({"createdAt": "yesterday"}), &place);
        assert_eq!(problems.finish().0[0].field, "createdAt");
    }

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
