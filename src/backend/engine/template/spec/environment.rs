//! `proton: EnvironmentSpec`.

use std::fmt;

use serde_json::Value;

use super::{SpecError, SpecKind, current, document, inputs_at, none_of};
use crate::backend::engine::template::schema::{InputType, Schema, Violation};

const KIND: SpecKind = SpecKind::Environment;

/// The longest key and the longest value of an output (API model).
const MAX_OUTPUT_CHARS: usize = 1_024;

fn is_output(text: &str) -> bool {
    (1..=MAX_OUTPUT_CHARS).contains(&text.chars().count())
}

/// The spec of an environment, checked against the schema of its template.
#[derive(Clone, PartialEq)]
pub struct EnvironmentSpec {
    /// The inputs with all defaults filled in. Empty if the customer manages the environment.
    pub inputs: Value,
    /// What a customer managed environment gives to the services in it, in the order of the spec.
    pub outputs: Vec<(String, String)>,
}

/// Without the contents, which are sensitive.
impl fmt::Debug for EnvironmentSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnvironmentSpec").finish_non_exhaustive()
    }
}

impl EnvironmentSpec {
    /// Reads a spec. In a customer managed environment it holds outputs instead of inputs.
    pub fn parse(text: &str, schema: &Schema, customer_managed: bool) -> Result<Self, SpecError> {
        let mut document = document(KIND, text, &["proton", "spec"])?;
        let mut violations = Vec::new();
        let given = inputs_at(document.shift_remove("spec"), "spec", &mut violations);
        none_of(violations, |violations| {
            SpecError::malformed(KIND, violations)
        })?;

        // An environment's spec replaces the whole former one.
        let why = "which only the specs of services can refer to";
        let mut violations = current::unresolved(&given, why);
        violations.extend(schema.validate_inputs(InputType::Environment, &given));
        let mut outputs = Vec::new();
        if customer_managed {
            // Only strings are allowed (User Guide, customer-managed environments), which are
            // outputs of the API model.
            for (name, value) in given.as_object().into_iter().flatten() {
                match value {
                    Value::String(text) if is_output(name) && is_output(text) => {
                        outputs.push((name.clone(), text.clone()));
                    }
                    Value::String(_) => violations.push(Violation::new(
                        name,
                        format!(
                            "must have 1 to {MAX_OUTPUT_CHARS} characters in name and value, as \
                             all outputs"
                        ),
                    )),
                    _ if violations.iter().any(|known| known.path == *name) => {}
                    _ => violations.push(Violation::new(name, "must be a string, as all outputs")),
                }
            }
        }
        let inputs = match schema.materialise(InputType::Environment, &given) {
            Ok(inputs) => inputs,
            Err(violation) => {
                // `validate_inputs` says so too.
                if violations.is_empty() {
                    violations.push(violation);
                }
                Value::Null
            }
        };
        let violations = violations
            .into_iter()
            .map(|found| found.below("spec"))
            .collect();
        none_of(violations, |violations| SpecError::inputs(KIND, violations))?;
        Ok(Self {
            inputs: if customer_managed {
                Value::Object(serde_json::Map::new())
            } else {
                inputs
            },
            outputs,
        })
    }
}
