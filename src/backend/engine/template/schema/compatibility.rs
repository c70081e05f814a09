//! Whether a newer input type accepts every input that an older one accepts.
//!
//! Proton calls it best effort, and so it is here: what cannot be compared counts as narrower.

use serde_json::{Map, Value};

use super::inputs::Inputs;

/// Limits that may only fall, and limits that may only rise, in a newer schema.
const LOWER: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];
const UPPER: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];

/// Keywords that may be dropped in a newer schema but not changed or added.
const FIXED: [&str; 5] = ["pattern", "multipleOf", "anyOf", "oneOf", "not"];

pub(super) fn compare(path: &str, old: &Inputs, new: &Inputs, problems: &mut Vec<String>) {
    // At the top an input that is not declared is refused unless the schema allows it.
    if old.open() && !new.open() {
        problems.push(format!("`{path}`: undeclared inputs are no longer allowed"));
    }
    if old.open() && new.open() {
        additional(path, &old.tree, &new.tree, problems);
    }
    schema(path, &old.tree, &new.tree, problems);
}

/// A schema below the top, where properties that are not declared are allowed unless forbidden.
fn nested(path: &str, old: &Value, new: &Value, problems: &mut Vec<String>) {
    additional(path, old, new, problems);
    schema(path, old, new, problems);
}

fn additional(path: &str, old: &Value, new: &Value, problems: &mut Vec<String>) {
    const KEY: &str = "additionalProperties";
    let limit = |tree: &'_ Value| {
        tree.get(KEY)
            .filter(|others| **others != Value::Bool(true))
            .cloned()
    };
    inner(
        path,
        KEY,
        limit(old).as_ref(),
        limit(new).as_ref(),
        problems,
    );
}

fn schema(path: &str, old: &Value, new: &Value, problems: &mut Vec<String>) {
    let mut problem = |what: String| problems.push(format!("`{path}`: {what}"));
    let (old_types, new_types) = (types(old), types(new));
    if without_null(&old_types) != without_null(&new_types) {
        problem(format!(
            "the type changed from {} to {}",
            named(&old_types),
            named(&new_types)
        ));
        return;
    }
    if old_types.contains(&"null") && !new_types.contains(&"null") {
        problem("null is no longer allowed".to_owned());
    }
    if let Some(choices) = new.get("enum").and_then(Value::as_array) {
        match old.get("enum").and_then(Value::as_array) {
            None => problem("`enum` was added".to_owned()),
            Some(before) => {
                if before.iter().any(|choice| !choices.contains(choice)) {
                    problem("`enum` lost a choice".to_owned());
                }
            }
        }
    }
    for key in LOWER {
        if raised(old.get(key), new.get(key)) {
            problem(format!("`{key}` was added or raised"));
        }
    }
    for key in UPPER {
        if lowered(old.get(key), new.get(key)) {
            problem(format!("`{key}` was added or lowered"));
        }
    }
    for (flag, limit) in [
        ("exclusiveMinimum", "minimum"),
        ("exclusiveMaximum", "maximum"),
    ] {
        if on(new, flag) && !on(old, flag) && old.get(limit) == new.get(limit) {
            problem(format!("`{flag}` was added"));
        }
    }
    if on(new, "uniqueItems") && !on(old, "uniqueItems") {
        problem("`uniqueItems` was added".to_owned());
    }
    for key in FIXED {
        if new.get(key).is_some() && new.get(key) != old.get(key) {
            problem(format!("`{key}` was added or changed"));
        }
    }
    properties(path, old, new, problems);
    inner(path, "items", old.get("items"), new.get("items"), problems);
    all_of(path, old, new, problems);
}

fn properties(path: &str, old: &Value, new: &Value, problems: &mut Vec<String>) {
    let empty = Map::new();
    let before = old
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let after = new
        .get("properties")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    for (name, property) in before {
        match after.get(name) {
            Some(now) => nested(&format!("{path}.{name}"), property, now, problems),
            None => problems.push(format!("`{path}.{name}`: the property was removed")),
        }
    }
    for name in must_be_given(new) {
        if !must_be_given(old).any(|before| before == name) {
            problems.push(format!(
                "`{path}.{name}`: the property became required and has no default"
            ));
        }
    }
}

/// The properties that a spec has to give: required, and without a default.
fn must_be_given(tree: &Value) -> impl Iterator<Item = &str> {
    let names = tree.get("required").and_then(Value::as_array);
    names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .filter(|name| {
            tree.get("properties")
                .and_then(|properties| properties.get(name)?.get("default"))
                .is_none()
        })
}

fn inner(
    path: &str,
    key: &str,
    old: Option<&Value>,
    new: Option<&Value>,
    problems: &mut Vec<String>,
) {
    match (old, new) {
        (_, None) => {}
        (Some(Value::Bool(false)), Some(_)) => {}
        (Some(old @ Value::Object(_)), Some(new @ Value::Object(_))) => {
            nested(&format!("{path}.{key}"), old, new, problems);
        }
        _ => problems.push(format!("`{path}`: `{key}` was added or narrowed")),
    }
}

fn all_of(path: &str, old: &Value, new: &Value, problems: &mut Vec<String>) {
    let members = |tree: &Value| {
        tree.get("allOf")
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    let (before, after) = (members(old), members(new));
    if before.len() != after.len() {
        problems.push(format!("`{path}`: `allOf` has other members"));
        return;
    }
    for (old, new) in before.iter().zip(&after) {
        schema(path, old, new, problems);
    }
}

fn types(tree: &Value) -> Vec<&str> {
    match tree.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn without_null<'a>(types: &[&'a str]) -> Vec<&'a str> {
    types
        .iter()
        .copied()
        .filter(|name| *name != "null")
        .collect()
}

fn named(types: &[&str]) -> String {
    match without_null(types).as_slice() {
        [] => "any".to_owned(),
        names => names.join(" or "),
    }
}

fn on(tree: &Value, flag: &str) -> bool {
    tree.get(flag) == Some(&Value::Bool(true))
}

/// Whether a lower limit shuts out values that were allowed.
fn raised(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old.and_then(Value::as_f64), new.and_then(Value::as_f64)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new > old,
    }
}

/// Whether an upper limit shuts out values that were allowed.
fn lowered(old: Option<&Value>, new: Option<&Value>) -> bool {
    match (old.and_then(Value::as_f64), new.and_then(Value::as_f64)) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(old), Some(new)) => new < old,
    }
}
