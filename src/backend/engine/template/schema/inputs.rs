//! One input type: checking values against it and filling in its defaults.

use std::fmt;
use std::sync::Arc;

use jsonschema::{Draft, Keyword, ValidationError, Validator};
use serde_json::Value;

use super::pattern::{Matching, Patterns, noticing};
use super::violations::{describe, list, place};
use super::walk::{Budget, alternatives};
use super::{MAX_NAME_CHARS, SchemaError, Violation, resolve};

/// How many violations are listed for one set of inputs.
const MAX_VIOLATIONS: usize = 100;

pub(super) struct Inputs {
    pub(super) name: String,
    pub(super) tree: Value,
    validator: Validator,
    patterns: Arc<Patterns>,
    declared: Vec<String>,
    open: bool,
}

/// Without the contents: a template's schema is sensitive in Proton's model.
impl fmt::Debug for Inputs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Inputs").field(&self.name).finish()
    }
}

impl Inputs {
    /// An input type whose tree was checked before.
    pub(super) fn new(
        name: &str,
        tree: Value,
        patterns: &Arc<Patterns>,
        budget: &mut Budget,
    ) -> Result<Self, SchemaError> {
        let path = resolve::type_path(name);
        if !is_object(&tree) {
            return Err(SchemaError::rule(
                path,
                "must be of `type: object`, as it is named as an input type",
            ));
        }
        let mut declared = Vec::new();
        let open = declare(&tree, &mut declared);
        if let Some(long) = declared
            .iter()
            .find(|name| name.chars().count() > MAX_NAME_CHARS)
        {
            return Err(SchemaError::rule(
                format!("{path}.properties.{long}"),
                format!("has a name of more than {MAX_NAME_CHARS} characters"),
            ));
        }
        let known = |name: &&str| declared.iter().any(|declared| declared == name);
        if let Some(missing) = required(&tree).find(|name| !open && !known(name)) {
            return Err(SchemaError::rule(
                format!("{path}.required"),
                format!("names `{missing}`, which is not among the properties"),
            ));
        }
        let validator = build(&tree, &path, patterns, budget)?;
        Ok(Self {
            name: name.to_owned(),
            tree,
            validator,
            patterns: Arc::clone(patterns),
            declared,
            open,
        })
    }

    /// Whether inputs that are not declared are allowed.
    pub(super) fn open(&self) -> bool {
        self.open
    }

    pub(super) fn knows(&self, name: &str) -> bool {
        self.open || self.declared.iter().any(|declared| declared == name)
    }

    pub(super) fn properties(&self) -> Vec<(&str, &Value)> {
        let mut found = Vec::new();
        collect_properties(&self.tree, &mut found);
        found
    }

    pub(super) fn validate(&self, values: &Value, mut budget: Budget) -> Vec<Violation> {
        let filled = match budget.filled(&self.tree, values) {
            Ok(filled) => filled,
            Err(violation) => return vec![violation],
        };
        if !budget.allows_checking(&self.tree, &filled, &self.patterns) {
            return vec![Violation::new(
                "",
                "is too much to check against the schema",
            )];
        }
        let mut violations: Vec<Violation> = match values {
            Value::Object(given) if !self.open => given
                .keys()
                .filter(|name| !self.knows(name))
                .map(|name| self.unknown(name))
                .collect(),
            _ => Vec::new(),
        };
        // `additionalProperties: false` says the same about these again.
        let unknown: Vec<String> = violations.iter().map(|known| known.path.clone()).collect();
        let (errors, gave_up) = noticing(|| self.validator.iter_errors(&filled));
        for error in errors {
            violations.extend(
                describe(&error)
                    .into_iter()
                    .filter(|violation| !unknown.contains(&violation.path)),
            );
            if violations.len() >= MAX_VIOLATIONS {
                break;
            }
        }
        not_whole(&self.tree, &filled, "", &mut violations);
        if gave_up && violations.is_empty() {
            violations.push(Violation::new(
                "",
                "holds a string that takes too long to match",
            ));
        }
        violations.truncate(MAX_VIOLATIONS);
        violations
    }

    fn unknown(&self, name: &str) -> Violation {
        let declared = self.declared.iter().map(|name| format!("`{name}`"));
        let declared: Vec<_> = declared.collect();
        Violation::new(
            name,
            format!(
                "is not an input of `{}`; its inputs are {}",
                self.name,
                list(&declared)
            ),
        )
    }

    pub(super) fn materialise(&self, values: &Value) -> Result<Value, Violation> {
        Budget::new().filled(&self.tree, values)
    }
}

/// Notes the integers of more than 64 bits. They are read as floating-point numbers, and their last
/// digits would be lost where a spec is written anew.
fn not_whole(tree: &Value, value: &Value, path: &str, found: &mut Vec<Violation>) {
    if found.len() >= MAX_VIOLATIONS {
        return;
    }
    match value {
        Value::Number(number) if number.is_f64() && only_integer(tree.get("type")) => {
            let message = "must be an integer of at most 64 bits";
            if found.iter().all(|known| known.path != path) {
                found.push(Violation::new(path, message));
            }
        }
        Value::Object(values) => {
            let properties = tree.get("properties").and_then(Value::as_object);
            let others = tree.get("additionalProperties");
            for (name, value) in values {
                let property = properties.and_then(|properties| properties.get(name));
                if let Some(schema) = property.or(others) {
                    let path = Violation::new(name, "").below(path).path;
                    not_whole(schema, value, &path, found);
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(schema) = tree.get("items") {
                    not_whole(schema, item, &format!("{path}[{index}]"), found);
                }
            }
        }
        _ => {}
    }
    // Of alternatives one cannot know which is meant; of `allOf` all are.
    for member in tree
        .get("allOf")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        not_whole(member, value, path, found);
    }
}

fn only_integer(kinds: Option<&Value>) -> bool {
    let is = |kind: &Value, name| kind.as_str() == Some(name);
    match kinds {
        Some(Value::Array(kinds)) => {
            kinds.iter().any(|kind| is(kind, "integer"))
                && !kinds.iter().any(|kind| is(kind, "number"))
        }
        Some(kind) => is(kind, "integer"),
        None => false,
    }
}

/// Whether a tree compiles, and every default in it conforms to its own schema.
pub(super) fn check(
    tree: &Value,
    path: &str,
    patterns: &Arc<Patterns>,
    budget: &mut Budget,
) -> Result<(), SchemaError> {
    build(tree, path, patterns, budget)?;
    check_defaults(tree, path, patterns, budget)
}

fn build(
    tree: &Value,
    path: &str,
    patterns: &Arc<Patterns>,
    budget: &mut Budget,
) -> Result<Validator, SchemaError> {
    if !budget.allows_building(tree) {
        return Err(SchemaError::rule(
            path,
            "is too much to read, with all types and defaults before it",
        ));
    }
    let patterns = Arc::clone(patterns);
    jsonschema::options()
        .with_draft(Draft::Draft4)
        // OpenAPI calls `format` a hint, and Proton documents no formats.
        .should_validate_formats(false)
        .with_keyword("pattern", move |_, pattern, _| {
            let found = pattern.as_str().and_then(|pattern| patterns.get(pattern));
            match found {
                Some(pattern) => {
                    Ok(Box::new(Matching(Arc::clone(pattern))) as Box<dyn for<'i> Keyword<'i>>)
                }
                None => Err(ValidationError::custom("is not a pattern of this file")),
            }
        })
        .build(tree)
        .map_err(|error| {
            let violation = Violation::new(place(&error), error.masked().to_string());
            SchemaError::Rule(violation.below(path))
        })
}

fn check_defaults(
    tree: &Value,
    path: &str,
    patterns: &Arc<Patterns>,
    budget: &mut Budget,
) -> Result<(), SchemaError> {
    let Value::Object(node) = tree else {
        return Ok(());
    };
    if let Some(default) = node.get("default") {
        let path = format!("{path}.default");
        let value = budget
            .filled(tree, default)
            .map_err(|violation| SchemaError::Rule(violation.below(&path)))?;
        if !budget.allows_checking(tree, &value, patterns) {
            return Err(SchemaError::rule(
                path,
                "is too much to check, with all defaults before it",
            ));
        }
        let validator = build(tree, &path, patterns, budget)?;
        let (mut errors, gave_up) = noticing(|| validator.iter_errors(&value));
        let broken = match errors.next() {
            Some(error) => Some(
                describe(&error)
                    .into_iter()
                    .next()
                    .unwrap_or_else(|| Violation::new("", "breaks its own schema")),
            ),
            None => gave_up.then(|| Violation::new("", "takes too long to match")),
        };
        if let Some(violation) = broken {
            return Err(SchemaError::Rule(violation.below(&path)));
        }
    }
    for (key, value) in node {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    let path = format!("{path}.properties.{name}");
                    check_defaults(property, &path, patterns, budget)?;
                }
            }
            ("items" | "not" | "additionalProperties", inner) => {
                check_defaults(inner, &format!("{path}.{key}"), patterns, budget)?;
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(members)) => {
                for (index, member) in members.iter().enumerate() {
                    let path = format!("{path}.{key}[{index}]");
                    check_defaults(member, &path, patterns, budget)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_object(tree: &Value) -> bool {
    match tree.get("type") {
        Some(Value::String(name)) => name == "object",
        Some(_) => false,
        None => {
            tree.get("properties").is_some()
                || tree
                    .get("allOf")
                    .and_then(Value::as_array)
                    .is_some_and(|members| members.iter().all(is_object))
        }
    }
}

fn required(tree: &Value) -> impl Iterator<Item = &str> {
    let names = tree.get("required").and_then(Value::as_array);
    names.into_iter().flatten().filter_map(Value::as_str)
}

/// Collects the names of all properties; true if others are allowed.
fn declare(tree: &Value, names: &mut Vec<String>) -> bool {
    if let Some(Value::Object(properties)) = tree.get("properties") {
        for name in properties.keys() {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
    }
    let mut open = matches!(
        tree.get("additionalProperties"),
        Some(Value::Bool(true) | Value::Object(_))
    );
    for member in alternatives(tree) {
        open |= declare(member, names);
    }
    open
}

fn collect_properties<'a>(tree: &'a Value, found: &mut Vec<(&'a str, &'a Value)>) {
    if let Some(Value::Object(properties)) = tree.get("properties") {
        for (name, property) in properties {
            if !found.iter().any(|(known, _)| known == name) {
                found.push((name, property));
            }
        }
    }
    for member in alternatives(tree) {
        collect_properties(member, found);
    }
}
