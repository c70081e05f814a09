//! Specs: the inputs that a developer or administrator gives for an environment or a service.
//!
//! Responsible for the form of the two kinds of spec, for checking their inputs against a schema
//! and for `${Proton::CURRENT_VAL}`. Whether the environments that instances name exist and are
//! compatible is the caller's question. Callers store the text as it was given, since Proton
//! returns it verbatim; only a spec in which current values were filled in is rendered anew.

mod current;
mod environment;
mod service;
#[cfg(test)]
mod tests;

use std::fmt;

use serde_json::{Map, Value};

use super::schema::Violation;
use super::yaml::{self, YamlError};
pub use current::CURRENT_VALUE;
pub use environment::EnvironmentSpec;
pub use service::{InstanceSpec, ServiceSpec, Used};

/// The longest name of an instance or environment (API model).
const MAX_NAME_CHARS: usize = 100;

/// Which of the two kinds of spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecKind {
    Environment,
    Service,
}

impl SpecKind {
    /// The value of the key `proton`.
    fn marker(self) -> &'static str {
        match self {
            Self::Environment => "EnvironmentSpec",
            Self::Service => "ServiceSpec",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Environment => "Environment Spec",
            Self::Service => "Service Spec",
        }
    }
}

/// Why a spec is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SpecError {
    pub kind: SpecKind,
    /// Whether the text is not a spec at all, as opposed to one whose inputs break the schema.
    pub malformed: bool,
    /// Everything that is wrong. No message holds the value of an input.
    pub violations: Vec<Violation>,
    /// Where the text stops being YAML.
    pub line: Option<u64>,
    pub column: Option<u64>,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.malformed {
            // Proton's own words.
            write!(
                f,
                "The provided {} file was not correctly formatted. Please check that it is valid \
                 yaml according to the Spec definition. ",
                self.kind.name()
            )?;
        }
        for (index, violation) in self.violations.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

impl SpecError {
    fn inputs(kind: SpecKind, violations: Vec<Violation>) -> Self {
        Self {
            kind,
            malformed: false,
            violations,
            line: None,
            column: None,
        }
    }

    fn malformed(kind: SpecKind, violations: Vec<Violation>) -> Self {
        Self {
            malformed: true,
            ..Self::inputs(kind, violations)
        }
    }

    fn yaml(kind: SpecKind, error: &YamlError) -> Self {
        Self {
            line: error.line,
            column: error.column,
            ..Self::malformed(kind, vec![Violation::new("", error.to_string())])
        }
    }
}

/// `Ok` if nothing is wrong.
fn none_of(
    violations: Vec<Violation>,
    error: impl FnOnce(Vec<Violation>) -> SpecError,
) -> Result<(), SpecError> {
    if violations.is_empty() {
        Ok(())
    } else {
        Err(error(violations))
    }
}

/// Reads the text of a spec and checks its top level.
fn document(kind: SpecKind, text: &str, keys: &[&str]) -> Result<Map<String, Value>, SpecError> {
    let document = yaml::parse(text).map_err(|error| SpecError::yaml(kind, &error))?;
    let Value::Object(document) = document else {
        let message = format!(
            "The text must be a mapping with `proton: {}`",
            kind.marker()
        );
        return Err(SpecError::malformed(
            kind,
            vec![Violation::new("", message)],
        ));
    };
    let mut violations = Vec::new();
    if document.get("proton").and_then(Value::as_str) != Some(kind.marker()) {
        violations.push(Violation::new(
            "proton",
            format!("must be {}", kind.marker()),
        ));
    }
    unknown_keys(&document, keys, &mut violations);
    none_of(violations, |violations| {
        SpecError::malformed(kind, violations)
    })?;
    Ok(document)
}

fn unknown_keys(map: &Map<String, Value>, known: &[&str], violations: &mut Vec<Violation>) {
    for key in map.keys().filter(|key| !known.contains(&key.as_str())) {
        violations.push(Violation::new(
            key,
            format!(
                "is not a key of a spec here; the keys are {}",
                known.join(", ")
            ),
        ));
    }
}

/// A mapping of inputs; what is left out or left empty has none.
fn inputs_at(value: Option<Value>, path: &str, violations: &mut Vec<Violation>) -> Value {
    match value {
        None | Some(Value::Null) => Value::Object(Map::new()),
        Some(Value::Object(map)) => Value::Object(map),
        Some(_) => {
            violations.push(Violation::new(
                path,
                "must be a mapping of inputs to values",
            ));
            Value::Object(Map::new())
        }
    }
}

/// Whether a text is a resource name: `^[0-9A-Za-z]+[0-9A-Za-z_\-]*$`, 1 to 100 characters (API
/// model).
fn is_resource_name(name: &str) -> bool {
    name.len() <= MAX_NAME_CHARS
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-')
}
