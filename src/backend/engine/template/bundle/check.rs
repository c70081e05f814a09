//! Whether an unpacked archive is a bundle of the kind that a template needs.

use std::fmt;

use serde_json::Value;

use super::{Bundle, BundleError, Infrastructure};
use crate::backend::engine::template::schema::{InputType, Schema, SchemaError};
use crate::backend::engine::template::yaml;

const ENVIRONMENT: &str = "infrastructure";
const INSTANCE: &str = "instance_infrastructure";
const PIPELINE: &str = "pipeline_infrastructure";

/// What the bundle is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateKind {
    Environment { customer_managed: bool },
    Service { pipeline_customer_managed: bool },
}

impl TemplateKind {
    fn name(self) -> &'static str {
        match self {
            Self::Environment { .. } => "Environment",
            Self::Service { .. } => "Service",
        }
    }

    /// The input types that the schema must name, in the order in which Proton misses them: an
    /// environment bundle registered as a service is told about its pipeline.
    fn input_types(self) -> &'static [InputType] {
        match self {
            Self::Environment { .. } => &[InputType::Environment],
            Self::Service {
                pipeline_customer_managed: false,
            } => &[InputType::Pipeline, InputType::Service],
            Self::Service {
                pipeline_customer_managed: true,
            } => &[InputType::Service],
        }
    }
}

/// A bundle that can be registered.
#[derive(Clone)]
pub struct Checked {
    pub schema: Schema,
    /// The schema file as it was written.
    pub schema_text: String,
    /// Of an environment; absent if the customer manages it.
    pub infrastructure: Option<Infrastructure>,
    /// Of a service.
    pub instance_infrastructure: Option<Infrastructure>,
    /// Of a service; absent if the customer manages its pipelines.
    pub pipeline_infrastructure: Option<Infrastructure>,
}

/// Without the schema's text and the settings, which are sensitive.
impl fmt::Debug for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checked")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

impl Checked {
    /// The engines that render what is deployed, and its pipeline, where there are such parts.
    pub fn renderings(&self) -> [Option<String>; 2] {
        let own = self.infrastructure.as_ref();
        let parts = [
            own.or(self.instance_infrastructure.as_ref()),
            self.pipeline_infrastructure.as_ref(),
        ];
        parts.map(|part| part.map(|part| part.rendering_engine().to_owned()))
    }
}

impl Bundle {
    /// Checks the bundle for use by a template of the given kind.
    pub fn check(&self, kind: TemplateKind) -> Result<Checked, BundleError> {
        let schema_text = self.schema_text()?;
        let schema = self.schema(kind, &schema_text)?;
        let part = |directory| Infrastructure::read(self, directory).map(Some);
        let mut checked = Checked {
            schema,
            schema_text,
            infrastructure: None,
            instance_infrastructure: None,
            pipeline_infrastructure: None,
        };
        match kind {
            TemplateKind::Environment {
                customer_managed: true,
            } => {
                self.without_infrastructure()?;
                self.outputs_only(&checked.schema)?;
            }
            TemplateKind::Environment { .. } => checked.infrastructure = part(ENVIRONMENT)?,
            TemplateKind::Service {
                pipeline_customer_managed,
            } => {
                checked.instance_infrastructure = part(INSTANCE)?;
                // A pipeline part that nobody will use does no harm.
                if !pipeline_customer_managed {
                    checked.pipeline_infrastructure = part(PIPELINE)?;
                }
            }
        }
        Ok(checked)
    }

    fn schema_text(&self) -> Result<String, BundleError> {
        let bytes = self.file(self.schema_file).unwrap_or_default();
        let text = yaml::utf8(bytes)
            .map_err(|error| BundleError::file(self.schema_file, error.to_string()))?;
        if text.chars().count() > self.schema_chars {
            return Err(BundleError::file(
                self.schema_file,
                format!(
                    "has more than the {} characters that are allowed",
                    self.schema_chars
                ),
            ));
        }
        Ok(text.to_owned())
    }

    fn schema(&self, kind: TemplateKind, text: &str) -> Result<Schema, BundleError> {
        let invalid = |problem: String| BundleError::Schema {
            kind: kind.name(),
            problem,
        };
        let schema = Schema::parse(text).map_err(|error| match error {
            SchemaError::Yaml(error) => invalid(format!("{}: {error}", self.schema_file)),
            SchemaError::Rule(rule) => invalid(format!("{}: {rule}", self.schema_file)),
        })?;
        for needed in kind.input_types() {
            if !schema.has(*needed) {
                return Err(invalid(format!("Missing property [{}]", needed.property())));
            }
        }
        let superfluous = match kind {
            TemplateKind::Service {
                pipeline_customer_managed: true,
            } => schema.has(InputType::Pipeline),
            _ => false,
        };
        if superfluous {
            return Err(invalid(format!(
                "{}: `schema.pipeline_input_type` must be removed, as the template's pipelines \
                 are managed by the customer",
                self.schema_file
            )));
        }
        Ok(schema)
    }

    fn without_infrastructure(&self) -> Result<(), BundleError> {
        match self.directory(ENVIRONMENT).next() {
            None => Ok(()),
            Some((name, _)) => Err(BundleError::file(
                format!("{ENVIRONMENT}/{name}"),
                "must be removed: the bundle of a customer managed environment has only a schema",
            )),
        }
    }

    /// The schema of a customer managed environment declares outputs: strings without defaults
    /// (User Guide, customer-managed environments).
    fn outputs_only(&self, schema: &Schema) -> Result<(), BundleError> {
        for (name, output) in schema.properties(InputType::Environment) {
            let problem = if output.get("type").and_then(Value::as_str) != Some("string") {
                "must be of type string"
            } else if output.get("default").is_some() {
                "must not have a default"
            } else {
                continue;
            };
            return Err(BundleError::Schema {
                kind: "Environment",
                problem: format!(
                    "{}: the output `{name}` of a customer managed environment {problem}",
                    self.schema_file
                ),
            });
        }
        Ok(())
    }
}
