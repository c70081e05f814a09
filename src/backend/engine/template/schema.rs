//! The input schema of a template: what a spec may say, what it must say, and the defaults.
//!
//! Responsible for reading `schema/schema.yaml`, for checking inputs against it, for filling in
//! defaults and for telling whether a new minor version still accepts old specs. Which input types
//! a kind of template needs is decided in `bundle`, the form of specs in `spec`.
//!
//! The types are OpenAPI 3.0 schemas. References between them are unfolded when the schema is
//! read, so types that refer to themselves are refused and everything that walks a schema later
//! walks a tree of bounded size.

mod compatibility;
mod inputs;
mod pattern;
mod resolve;
#[cfg(test)]
mod tests;
mod violations;
mod walk;

use std::fmt;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::yaml::{self, YamlError};
use inputs::Inputs;
use resolve::Resolver;
use walk::Budget;

/// The only value that `schema.format.openapi` may have.
const OPENAPI: &str = "3.0.0";

/// The longest name of an input: Proton fails to provision longer ones (User Guide, parameters).
const MAX_NAME_CHARS: usize = 100;

/// One broken rule. The message never holds the value that breaks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, as `list[0].name`; empty for the whole.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl Violation {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
        }
    }

    /// The same violation, of something that stands at `prefix`.
    #[must_use]
    pub fn below(self, prefix: &str) -> Self {
        Self {
            path: match (prefix.is_empty(), self.path.is_empty()) {
                (true, _) => self.path,
                (false, true) => prefix.to_owned(),
                (false, false) if self.path.starts_with('[') => format!("{prefix}{}", self.path),
                (false, false) => format!("{prefix}.{}", self.path),
            },
            message: self.message,
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "`{}` {}", self.path, self.message)
        }
    }
}

/// Why a text is not a schema that Proton would accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("{0}")]
    Yaml(#[from] YamlError),
    #[error("{0}")]
    Rule(Violation),
}

impl SchemaError {
    fn rule(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Rule(Violation::new(path, message))
    }
}

/// Which of a schema's input types is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputType {
    Environment,
    Service,
    Pipeline,
}

impl InputType {
    pub const ALL: [Self; 3] = [Self::Environment, Self::Service, Self::Pipeline];

    /// The key in the schema file.
    pub fn key(self) -> &'static str {
        match self {
            Self::Environment => "environment_input_type",
            Self::Service => "service_input_type",
            Self::Pipeline => "pipeline_input_type",
        }
    }

    /// The key as Proton's own messages spell it.
    pub fn property(self) -> &'static str {
        match self {
            Self::Environment => "environmentInputType",
            Self::Service => "serviceInputType",
            Self::Pipeline => "pipelineInputType",
        }
    }
}

/// A schema that was read and found valid. Clones are cheap.
#[derive(Debug, Clone)]
pub struct Schema {
    environment: Option<Arc<Inputs>>,
    service: Option<Arc<Inputs>>,
    pipeline: Option<Arc<Inputs>>,
}

impl Schema {
    /// Reads and checks the text of a `schema.yaml`.
    ///
    /// Which input types there are is for the caller to check.
    pub fn parse(text: &str) -> Result<Self, SchemaError> {
        let document = yaml::parse(text)?;
        let schema = map_at(document.get("schema"), "schema")?;
        let format = map_at(schema.get("format"), "schema.format")?;
        if format.get("openapi").and_then(Value::as_str) != Some(OPENAPI) {
            return Err(SchemaError::rule(
                "schema.format.openapi",
                format!("must be \"{OPENAPI}\""),
            ));
        }
        let types = map_at(schema.get("types"), "schema.types")?;
        let mut resolver = Resolver::new(types);
        let trees = types
            .keys()
            .map(|name| Ok((name.as_str(), resolver.named(name)?)))
            .collect::<Result<Vec<_>, SchemaError>>()?;
        let patterns = Arc::new(resolver.patterns());
        let mut budget = Budget::new();
        for (name, tree) in &trees {
            // Types that nothing uses are checked too: they are mistakes in waiting.
            inputs::check(tree, &resolve::type_path(name), &patterns, &mut budget)?;
        }
        let mut read = |kind: InputType| -> Result<Option<Arc<Inputs>>, SchemaError> {
            let Some(name) = schema.get(kind.key()) else {
                return Ok(None);
            };
            let path = format!("schema.{}", kind.key());
            let name = name.as_str().ok_or_else(|| {
                SchemaError::rule(&path, "must be the name of a type under `schema.types`")
            })?;
            let Some((_, tree)) = trees.iter().find(|(known, _)| *known == name) else {
                return Err(SchemaError::rule(
                    &path,
                    format!("names `{name}`, which is not defined under `schema.types`"),
                ));
            };
            let inputs = Inputs::new(name, tree.clone(), &patterns, &mut budget)?;
            Ok(Some(Arc::new(inputs)))
        };
        Ok(Self {
            environment: read(InputType::Environment)?,
            service: read(InputType::Service)?,
            pipeline: read(InputType::Pipeline)?,
        })
    }

    fn inputs(&self, kind: InputType) -> Option<&Inputs> {
        match kind {
            InputType::Environment => self.environment.as_deref(),
            InputType::Service => self.service.as_deref(),
            InputType::Pipeline => self.pipeline.as_deref(),
        }
    }

    /// Whether the schema names an input type of this kind.
    pub fn has(&self, kind: InputType) -> bool {
        self.inputs(kind).is_some()
    }

    /// The name of an input type.
    pub fn type_name(&self, kind: InputType) -> Option<&str> {
        self.inputs(kind).map(|inputs| inputs.name.as_str())
    }

    /// The inputs of a type with their schemas, in the order of the file. References are unfolded
    /// and `nullable` is written as a list of types.
    pub fn properties(&self, kind: InputType) -> Vec<(&str, &Value)> {
        self.inputs(kind)
            .map(|inputs| inputs.properties())
            .unwrap_or_default()
    }

    /// Whether a spec may give an input of this name.
    pub fn knows(&self, kind: InputType, name: &str) -> bool {
        self.inputs(kind).is_some_and(|inputs| inputs.knows(name))
    }

    /// Everything that is wrong with the given inputs, defaults taken into account.
    pub fn validate_inputs(&self, kind: InputType, values: &Value) -> Vec<Violation> {
        self.validate_among(1, kind, values)
    }

    /// The same for one of so many sets of inputs that are checked together: what all of them
    /// may cost is shared among them.
    pub fn validate_among(&self, sets: usize, kind: InputType, values: &Value) -> Vec<Violation> {
        match self.inputs(kind) {
            Some(inputs) => inputs.validate(values, Budget::shared(sets)),
            None => vec![Violation::new(
                "",
                format!("the template's schema has no `{}`", kind.key()),
            )],
        }
    }

    /// The inputs with all defaults filled in, those of nested objects too.
    ///
    /// An optional input without a default stays absent: templates test whether it `is defined`.
    /// Fails only if the defaults multiply without measure.
    pub fn materialise(&self, kind: InputType, values: &Value) -> Result<Value, Violation> {
        match self.inputs(kind) {
            Some(inputs) => inputs.materialise(values),
            None => Ok(values.clone()),
        }
    }

    /// Whether every spec that `previous` accepts is accepted by this schema too.
    ///
    /// Proton demands this of a new minor version without saying what it means beyond "no new
    /// information has to be given". Here: no new required input without a default, none removed,
    /// no change of type, nothing narrower, no input type added or dropped.
    pub fn compatible_with(&self, previous: &Schema) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        for kind in InputType::ALL {
            match (previous.inputs(kind), self.inputs(kind)) {
                (Some(old), Some(new)) => {
                    compatibility::compare(kind.key(), old, new, &mut problems)
                }
                (Some(_), None) => problems.push(format!("`{}` was dropped", kind.key())),
                (None, Some(_)) => problems.push(format!("`{}` was added", kind.key())),
                (None, None) => {}
            }
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(problems)
        }
    }
}

fn map_at<'a>(value: Option<&'a Value>, path: &str) -> Result<&'a Map<String, Value>, SchemaError> {
    match value {
        Some(Value::Object(map)) => Ok(map),
        Some(_) => Err(SchemaError::rule(path, "must be a mapping")),
        None => Err(SchemaError::rule(path, "is missing")),
    }
}
