//! One input type: checking values against it and filling in its defaults.

use std::fmt;

use jsonschema::error::ValidationErrorKind as Kind;
use jsonschema::{Draft, PatternOptions, Validator};
use serde_json::Value;

use super::violations::{describe, list, place};
use super::walk::{alternatives, filled, is_affordable};
use super::{MAX_NAME_CHARS, SchemaError, Violation, resolve};

/// Steps that a pattern with look-around may take back before the match is given up.
const BACKTRACK_LIMIT: usize = 50_000;

/// The size of a compiled pattern.
const PATTERN_BYTES: usize = 1024 * 1024;

/// How many violations are listed for one set of inputs.
const MAX_VIOLATIONS: usize = 100;

pub(super) struct Inputs {
    pub(super) name: String,
    pub(super) tree: Value,
    validator: Validator,
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
    pub(super) fn new(name: &str, tree: Value) -> Result<Self, SchemaError> {
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
        let validator = compile(&tree, &path)?;
        Ok(Self {
            name: name.to_owned(),
            tree,
            validator,
            declared,
            open,
        })
    }

    /// Whether inputs that are not declared are allowed.
    pub(super) fn open(&self) -> bool {
        self.open
    }

    pub(super) fn properties(&self) -> Vec<(&str, &Value)> {
        let mut found = Vec::new();
        collect_properties(&self.tree, &mut found);
        found
    }

    pub(super) fn validate(&self, values: &Value) -> Vec<Violation> {
        let filled = match self.materialise(values) {
            Ok(filled) => filled,
            Err(violation) => return vec![violation],
        };
        if !is_affordable(&self.tree, &filled) {
            return vec![Violation::new(
                "",
                "is too much to check against the schema",
            )];
        }
        let mut violations: Vec<Violation> = match values {
            Value::Object(given) if !self.open => given
                .keys()
                .filter(|name| !self.declared.contains(name))
                .map(|name| self.unknown(name))
                .collect(),
            _ => Vec::new(),
        };
        // `additionalProperties: false` says the same about these again.
        let unknown: Vec<String> = violations.iter().map(|known| known.path.clone()).collect();
        for error in self.validator.iter_errors(&filled) {
            violations.extend(
                describe(&error)
                    .into_iter()
                    .filter(|violation| !unknown.contains(&violation.path)),
            );
            if violations.len() >= MAX_VIOLATIONS {
                break;
            }
        }
        violations.truncate(MAX_VIOLATIONS);
        violations
    }

    fn unknown(&self, name: &str) -> Violation {
        Violation::new(
            name,
            format!(
                "is not an input of `{}`; its inputs are {}",
                self.name,
                list(&self.declared)
            ),
        )
    }

    pub(super) fn materialise(&self, values: &Value) -> Result<Value, Violation> {
        filled(&self.tree, values)
    }
}

/// Compiles a tree, and checks every default in it against its own schema.
pub(super) fn compile(tree: &Value, path: &str) -> Result<Validator, SchemaError> {
    let validator = build(tree, path)?;
    check_defaults(tree, path)?;
    Ok(validator)
}

fn build(tree: &Value, path: &str) -> Result<Validator, SchemaError> {
    jsonschema::options()
        .with_draft(Draft::Draft4)
        // OpenAPI calls `format` a hint, and Proton documents no formats.
        .should_validate_formats(false)
        .with_pattern_options(
            PatternOptions::fancy_regex()
                .backtrack_limit(BACKTRACK_LIMIT)
                .size_limit(PATTERN_BYTES),
        )
        .build(tree)
        .map_err(|error| {
            let message = match error.kind() {
                Kind::Format { format } if format == "regex" => {
                    "is not a pattern that can be used: it is not a valid regular expression, or too large".to_owned()
                }
                _ => error.masked().to_string(),
            };
            SchemaError::Rule(Violation::new(place(&error), message).below(path))
        })
}

fn check_defaults(tree: &Value, path: &str) -> Result<(), SchemaError> {
    let Value::Object(node) = tree else {
        return Ok(());
    };
    if let Some(default) = node.get("default") {
        let path = format!("{path}.default");
        let value =
            filled(tree, default).map_err(|violation| SchemaError::Rule(violation.below(&path)))?;
        if !is_affordable(tree, &value) {
            return Err(SchemaError::rule(path, "is too much to check"));
        }
        if let Some(error) = build(tree, &path)?.iter_errors(&value).next() {
            let violation = describe(&error).into_iter().next();
            let violation =
                violation.unwrap_or_else(|| Violation::new("", "breaks its own schema"));
            return Err(SchemaError::Rule(violation.below(&path)));
        }
    }
    for (key, value) in node {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    check_defaults(property, &format!("{path}.properties.{name}"))?;
                }
            }
            ("items" | "not" | "additionalProperties", inner) => {
                check_defaults(inner, &format!("{path}.{key}"))?;
            }
            ("allOf" | "anyOf" | "oneOf", Value::Array(members)) => {
                for (index, member) in members.iter().enumerate() {
                    check_defaults(member, &format!("{path}.{key}[{index}]"))?;
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
