//! `proton: ServiceSpec`.

use std::fmt;

use serde_json::{Map, Value, json};

use super::current::{Missing, Resolution, is_marker};
use super::{
    MAX_NAME_CHARS, SpecError, SpecKind, current, document, inputs_at, is_resource_name, none_of,
    unknown_keys,
};
use crate::backend::engine::template::schema::{InputType, Schema, Violation};
use crate::backend::engine::template::yaml;

const KIND: SpecKind = SpecKind::Service;

/// The spec of a service: its instances and, if its template has one, its pipeline.
#[derive(Clone, PartialEq)]
pub struct ServiceSpec {
    /// The inputs of the pipeline as given; `None` if the spec has no `pipeline`.
    pub pipeline: Option<Value>,
    /// In the order of the spec; names are unique.
    pub instances: Vec<InstanceSpec>,
}

/// The parts of a spec that are deployed, and by which schema.
#[derive(Debug, Clone, Copy)]
pub enum Used<'a> {
    Instances(&'a [String], &'a Schema),
    Pipeline(&'a Schema),
    Nothing,
}

impl<'a> Used<'a> {
    fn pipeline(self) -> Option<(&'a Schema, InputType)> {
        match self {
            Self::Pipeline(schema) => Some((schema, InputType::Pipeline)),
            Self::Instances(..) | Self::Nothing => None,
        }
    }

    fn instance(self, name: &str) -> Option<(&'a Schema, InputType)> {
        match self {
            Self::Instances(names, schema) if names.iter().any(|used| used == name) => {
                Some((schema, InputType::Service))
            }
            _ => None,
        }
    }
}

/// One instance of a service.
#[derive(Clone, PartialEq)]
pub struct InstanceSpec {
    pub name: String,
    /// The environment that it is deployed in.
    pub environment: String,
    /// The inputs as given, without defaults.
    pub inputs: Value,
}

/// Without the inputs, which are sensitive.
impl fmt::Debug for ServiceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServiceSpec")
            .field("instances", &self.instances)
            .finish_non_exhaustive()
    }
}

/// Without the inputs, which are sensitive.
impl fmt::Debug for InstanceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InstanceSpec")
            .field("name", &self.name)
            .field("environment", &self.environment)
            .finish_non_exhaustive()
    }
}

impl ServiceSpec {
    /// Reads a spec. Inputs are checked later: instances may be on different versions.
    pub fn parse(text: &str, max_instances: usize) -> Result<Self, SpecError> {
        let mut document = document(KIND, text, &["proton", "pipeline", "instances"])?;
        let mut violations = Vec::new();
        let pipeline = document
            .shift_remove("pipeline")
            .map(|inputs| inputs_at(Some(inputs), "pipeline", &mut violations));
        let mut instances: Vec<InstanceSpec> = Vec::new();
        match document.shift_remove("instances") {
            Some(Value::Array(listed)) if !listed.is_empty() => {
                if listed.len() > max_instances {
                    violations.push(Violation::new(
                        "instances",
                        format!("has more than {max_instances} items"),
                    ));
                }
                for (index, item) in listed.into_iter().take(max_instances).enumerate() {
                    let path = format!("instances[{index}]");
                    let mut found = Vec::new();
                    let instance = instance(item, &mut found);
                    if instances.iter().any(|other| other.name == instance.name) {
                        found.push(Violation::new(
                            "name",
                            "is the name of another instance too",
                        ));
                    }
                    violations.extend(found.into_iter().map(|violation| violation.below(&path)));
                    instances.push(instance);
                }
            }
            _ => violations.push(Violation::new(
                "instances",
                "must be a list with an instance",
            )),
        }
        none_of(violations, |violations| {
            SpecError::malformed(KIND, violations)
        })?;
        Ok(Self {
            pipeline,
            instances,
        })
    }

    /// The instance of a name, with its place in the list.
    pub fn instance(&self, name: &str) -> Option<(usize, &InstanceSpec)> {
        self.instances
            .iter()
            .enumerate()
            .find(|(_, instance)| instance.name == name)
    }

    /// Checks the inputs of one instance and returns them with all defaults filled in.
    pub fn check_instance(&self, name: &str, schema: &Schema) -> Result<Value, SpecError> {
        let Some((index, instance)) = self.instance(name) else {
            return Err(missing_instance(name));
        };
        let path = format!("instances[{index}].spec");
        check(
            &instance.inputs,
            &path,
            self.sets(),
            InputType::Service,
            schema,
        )
    }

    /// Checks the inputs of the pipeline and returns them with all defaults filled in; `None` if
    /// the template has no pipeline.
    pub fn check_pipeline(&self, schema: &Schema) -> Result<Option<Value>, SpecError> {
        let nothing = Value::Object(Map::new());
        let inputs = self.pipeline.as_ref().unwrap_or(&nothing);
        if schema.has(InputType::Pipeline) {
            return check(inputs, "pipeline", self.sets(), InputType::Pipeline, schema).map(Some);
        }
        // Real specs say `pipeline: {}` there.
        if *inputs == nothing {
            return Ok(None);
        }
        let message = "must be left out, as the template has no pipeline";
        Err(SpecError::inputs(
            KIND,
            vec![Violation::new("pipeline", message)],
        ))
    }

    /// How many sets of inputs the spec holds at most; a request has them all checked together.
    fn sets(&self) -> usize {
        self.instances.len() + 1
    }

    /// This spec with the instance of that name taken from another: replaced if there is one of
    /// the name, else added at the end.
    pub fn merge_instance(&self, other: &ServiceSpec, name: &str) -> Result<Self, SpecError> {
        let Some((_, taken)) = other.instance(name) else {
            return Err(missing_instance(name));
        };
        let mut merged = self.clone();
        match merged
            .instances
            .iter_mut()
            .find(|instance| instance.name == name)
        {
            Some(instance) => *instance = taken.clone(),
            None => merged.instances.push(taken.clone()),
        }
        Ok(merged)
    }

    /// This spec without the instance of that name.
    #[must_use]
    pub fn without_instance(&self, name: &str) -> Self {
        let mut rest = self.clone();
        rest.instances.retain(|instance| instance.name != name);
        rest
    }

    /// Replaces every `${Proton::CURRENT_VAL}` by the value at the same place in `current`, where
    /// instances are matched by their names. Where there is none, the input is left out; in what
    /// is `used` it must be one that the schema knows. Returns whether there was any.
    ///
    /// After an error the spec is half resolved and of no use.
    pub fn resolve_current(
        &mut self,
        current: &ServiceSpec,
        used: Used<'_>,
    ) -> Result<bool, SpecError> {
        let mut resolution = Resolution::new(current::NO_VALUE);
        let mut resolve = |inputs: &mut Value, before: Option<&Value>, path: &str, schema| {
            if let Some((schema, kind)) = schema {
                refuse_unknown(&mut resolution, inputs, before, path, schema, kind);
            }
            let missing = match schema {
                Some(_) => Missing::LeftOut,
                None => Missing::Unread,
            };
            resolution.resolve(inputs, before, path, missing);
        };
        if let Some(inputs) = &mut self.pipeline {
            let before = current.pipeline.as_ref();
            resolve(inputs, before, "pipeline", used.pipeline());
        }
        for (index, instance) in self.instances.iter_mut().enumerate() {
            let before = current
                .instance(&instance.name)
                .map(|(_, before)| &before.inputs);
            let path = format!("instances[{index}].spec");
            let schema = used.instance(&instance.name);
            resolve(&mut instance.inputs, before, &path, schema);
        }
        let replaced = resolution.replaced;
        none_of(resolution.violations, |violations| {
            SpecError::inputs(KIND, violations)
        })?;
        Ok(replaced)
    }

    /// The spec as YAML, which [`ServiceSpec::parse`] reads back as the same spec.
    pub fn render(&self) -> String {
        yaml::render(&self.document())
    }

    /// The same, if it has at most so many characters and can be read back: anchors of the text
    /// that was read are written out, so it may be many times as long.
    pub fn render_within(&self, max_chars: usize) -> Result<String, SpecError> {
        let refused = |message: String| SpecError::inputs(KIND, vec![Violation::new("", message)]);
        let document = self.document();
        let too_long = || {
            refused(format!(
                "The spec has more than the {max_chars} characters that are allowed, once its \
                 anchors and current values are written out"
            ))
        };
        if yaml::least_bytes(&document) > max_chars.saturating_mul(4) {
            return Err(too_long());
        }
        let text = yaml::render(&document);
        if text.chars().count() > max_chars {
            return Err(too_long());
        }
        match yaml::parse(&text) {
            Ok(read) if read == document => Ok(text),
            _ => Err(refused(
                "The spec could not be read again, once its anchors and current values are \
                 written out"
                    .to_owned(),
            )),
        }
    }

    fn document(&self) -> Value {
        let mut document = Map::new();
        document.insert("proton".to_owned(), json!(KIND.marker()));
        if let Some(inputs) = &self.pipeline {
            document.insert("pipeline".to_owned(), inputs.clone());
        }
        let instances = self.instances.iter().map(|instance| {
            json!({
                "name": instance.name,
                "environment": instance.environment,
                "spec": instance.inputs,
            })
        });
        document.insert("instances".to_owned(), instances.collect());
        Value::Object(document)
    }
}

/// A mistyped name must not be lost without a word.
fn refuse_unknown(
    resolution: &mut Resolution,
    inputs: &Value,
    before: Option<&Value>,
    path: &str,
    schema: &Schema,
    kind: InputType,
) {
    for (name, value) in inputs.as_object().into_iter().flatten() {
        let has_value = before.is_some_and(|before| before.get(name).is_some());
        if is_marker(value) && !has_value && !schema.knows(kind, name) {
            let place = format!("{path}.{name}");
            resolution.refuse(place, "but is not an input of the template");
        }
    }
}

fn missing_instance(name: &str) -> SpecError {
    let message = format!("must hold an instance named `{name}`");
    SpecError::inputs(KIND, vec![Violation::new("instances", message)])
}

fn check(
    inputs: &Value,
    path: &str,
    sets: usize,
    kind: InputType,
    schema: &Schema,
) -> Result<Value, SpecError> {
    let mut violations = current::unresolved(inputs, current::NO_VALUE);
    violations.extend(schema.validate_among(sets, kind, inputs));
    let violations = violations
        .into_iter()
        .map(|found| found.below(path))
        .collect();
    none_of(violations, |violations| SpecError::inputs(KIND, violations))?;
    schema
        .materialise(kind, inputs)
        .map_err(|violation| SpecError::inputs(KIND, vec![violation.below(path)]))
}

fn instance(item: Value, violations: &mut Vec<Violation>) -> InstanceSpec {
    let mut map = match item {
        Value::Object(map) => map,
        _ => {
            violations.push(Violation::new(
                "",
                "must be a mapping with `name` and `environment`",
            ));
            return InstanceSpec {
                name: String::new(),
                environment: String::new(),
                inputs: Value::Null,
            };
        }
    };
    unknown_keys(&map, &["name", "environment", "spec"], violations);
    let mut name = |key: &str| match map.shift_remove(key) {
        Some(Value::String(name)) if is_resource_name(&name) => name,
        _ => {
            violations.push(Violation::new(
                key,
                format!(
                    "must be a name of 1 to {MAX_NAME_CHARS} letters, digits, `-` and `_` that \
                     begins with a letter or digit; a number needs quotes"
                ),
            ));
            String::new()
        }
    };
    let (name, environment) = (name("name"), name("environment"));
    let inputs = inputs_at(map.shift_remove("spec"), "spec", violations);
    InstanceSpec {
        name,
        environment,
        inputs,
    }
}
