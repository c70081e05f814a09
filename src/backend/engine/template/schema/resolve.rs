//! From OpenAPI 3.0 types with references to one JSON Schema (draft 4) tree per type.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::SchemaError;
use super::pattern::{Pattern, Patterns};
use super::walk::size;

/// How many schemas a schema file may hold once its references are unfolded, per type.
///
/// It bounds what checking one value can cost. A file of the size that Proton's API returns
/// (51,200 characters) holds fewer unless it repeats types.
const MAX_SCHEMAS: usize = 4_000;

/// The same for all types of a file together.
const MAX_SCHEMAS_IN_ALL: usize = 5 * MAX_SCHEMAS;

/// How deep schemas may be nested once references are unfolded.
const MAX_DEPTH: usize = 32;

/// How many different patterns a file may hold; each may compile to megabytes.
const MAX_PATTERNS: usize = 200;

/// How many states these may have together.
const MAX_STATES: usize = 100_000;

/// How many bytes the defaults, choices and so on of all types may have, references unfolded.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// Keywords that are taken over as they are. What is in no list has no effect on validation.
const PLAIN: [&str; 15] = [
    "required",
    "enum",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "uniqueItems",
    "minProperties",
    "maxProperties",
    "default",
];

const TYPES: [&str; 6] = ["string", "number", "integer", "boolean", "array", "object"];

/// The ways in which a type of the same file is referred to in the wild.
const PREFIXES: [&str; 4] = [
    "#/schema/types/",
    "#/types/",
    "#/components/schemas/",
    "#/definitions/",
];

/// The place of a type in the file.
pub(super) fn type_path(name: &str) -> String {
    format!("schema.types.{name}")
}

pub(super) struct Resolver<'a> {
    types: &'a Map<String, Value>,
    /// The types being unfolded, to notice one that contains itself.
    open: Vec<&'a str>,
    schemas: usize,
    schemas_in_all: usize,
    patterns: Patterns,
    states: usize,
    bytes: usize,
}

impl<'a> Resolver<'a> {
    pub(super) fn new(types: &'a Map<String, Value>) -> Self {
        Self {
            types,
            open: Vec::new(),
            schemas: 0,
            schemas_in_all: 0,
            patterns: Patterns::new(),
            states: 0,
            bytes: 0,
        }
    }

    /// The tree of a type.
    pub(super) fn named(&mut self, name: &str) -> Result<Value, SchemaError> {
        self.schemas = 0;
        self.reference(name, &type_path(name), 0)
    }

    /// The patterns of all trees so far.
    pub(super) fn patterns(self) -> Patterns {
        self.patterns
    }

    fn pattern(&mut self, text: &str, path: String) -> Result<(), SchemaError> {
        if self.patterns.contains_key(text) {
            return Ok(());
        }
        if self.patterns.len() == MAX_PATTERNS {
            return Err(SchemaError::rule(
                path,
                format!("is one of more than {MAX_PATTERNS} patterns"),
            ));
        }
        let pattern = Pattern::new(text);
        self.states += pattern.as_ref().map_or(0, Pattern::states);
        let Some(pattern) = pattern.filter(|_| self.states <= MAX_STATES) else {
            return Err(SchemaError::rule(
                path,
                "is not a pattern that can be used: it is not a valid regular expression, or too \
                 large",
            ));
        };
        self.patterns.insert(text.to_owned(), Arc::new(pattern));
        Ok(())
    }

    /// A value that is taken over as it is.
    fn plain(&mut self, value: &Value, path: String) -> Result<Value, SchemaError> {
        self.bytes += size(value);
        if self.bytes > MAX_BYTES {
            return Err(SchemaError::rule(
                path,
                format!(
                    "is too large: with references unfolded at most {MAX_BYTES} bytes are allowed"
                ),
            ));
        }
        Ok(value.clone())
    }

    fn reference(&mut self, name: &str, from: &str, depth: usize) -> Result<Value, SchemaError> {
        let Some((name, schema)) = self.types.get_key_value(name) else {
            return Err(SchemaError::rule(
                from,
                format!("refers to `{name}`, which is not defined under `schema.types`"),
            ));
        };
        if self.open.contains(&name.as_str()) {
            return Err(SchemaError::rule(
                from,
                format!(
                    "refers back to `{name}` ({} → {name}); types must not contain themselves",
                    self.open.join(" → ")
                ),
            ));
        }
        self.open.push(name);
        let tree = self.schema(schema, &type_path(name), depth);
        self.open.pop();
        tree
    }

    fn schema(
        &mut self,
        schema: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<Value, SchemaError> {
        self.schemas += 1;
        self.schemas_in_all += 1;
        if self.schemas > MAX_SCHEMAS
            || self.schemas_in_all > MAX_SCHEMAS_IN_ALL
            || depth > MAX_DEPTH
        {
            return Err(SchemaError::rule(
                path,
                format!(
                    "the type is too large: with references unfolded at most {MAX_SCHEMAS} schemas \
                     and {MAX_DEPTH} levels are allowed"
                ),
            ));
        }
        let Value::Object(schema) = schema else {
            return Err(SchemaError::rule(path, "must be a mapping: a schema"));
        };
        if let Some(reference) = schema.get("$ref") {
            let name = local(reference).ok_or_else(|| {
                SchemaError::rule(
                    format!("{path}.$ref"),
                    "must name a type of this file, as `#/schema/types/Name`",
                )
            })?;
            let mut tree = self.reference(&name, &format!("{path}.$ref"), depth + 1)?;
            // OpenAPI ignores what stands beside a reference. A default is kept all the same:
            // whoever writes one there means it.
            if let (Some(default), Some(tree)) = (schema.get("default"), tree.as_object_mut()) {
                let default = self.plain(default, format!("{path}.default"))?;
                tree.insert("default".to_owned(), default);
            }
            return Ok(tree);
        }
        let mut tree = Map::new();
        for (key, value) in schema {
            let here = || format!("{path}.{key}");
            match key.as_str() {
                "type" => {
                    tree.insert(key.clone(), data_type(value, schema, here())?);
                }
                // Draft 4 forbids the empty list, which OpenAPI's users write.
                "required" if value.as_array().is_some_and(Vec::is_empty) => {}
                "required" if !value.is_array() => {
                    return Err(SchemaError::rule(
                        here(),
                        "must be a list of property names, beside `properties`",
                    ));
                }
                "enum" if value.as_array().is_none_or(Vec::is_empty) => {
                    return Err(SchemaError::rule(here(), "must be a list with a choice"));
                }
                "pattern" => {
                    let pattern = value
                        .as_str()
                        .ok_or_else(|| SchemaError::rule(here(), "must be a string"))?;
                    self.pattern(pattern, here())?;
                    tree.insert(key.clone(), value.clone());
                }
                "properties" => {
                    let Value::Object(properties) = value else {
                        return Err(SchemaError::rule(here(), "must be a mapping"));
                    };
                    let mut resolved = Map::new();
                    for (name, property) in properties {
                        let path = format!("{path}.properties.{name}");
                        resolved.insert(name.clone(), self.schema(property, &path, depth + 1)?);
                    }
                    tree.insert(key.clone(), Value::Object(resolved));
                }
                "items" | "not" => {
                    let inner = self.schema(value, &here(), depth + 1)?;
                    tree.insert(key.clone(), inner);
                }
                "additionalProperties" => {
                    let inner = match value {
                        Value::Bool(_) => value.clone(),
                        _ => self.schema(value, &here(), depth + 1)?,
                    };
                    tree.insert(key.clone(), inner);
                }
                "allOf" | "anyOf" | "oneOf" => {
                    let Value::Array(members) = value else {
                        return Err(SchemaError::rule(here(), "must be a list of schemas"));
                    };
                    let mut resolved = Vec::with_capacity(members.len());
                    for (index, member) in members.iter().enumerate() {
                        let path = format!("{path}.{key}[{index}]");
                        resolved.push(self.schema(member, &path, depth + 1)?);
                    }
                    tree.insert(key.clone(), Value::Array(resolved));
                }
                plain if PLAIN.contains(&plain) => {
                    tree.insert(key.clone(), self.plain(value, here())?);
                }
                _ => {}
            }
        }
        Ok(Value::Object(tree))
    }
}

/// The name of the type that a reference means, if it is one of the same file.
fn local(reference: &Value) -> Option<String> {
    let reference = reference.as_str()?;
    let name = PREFIXES
        .iter()
        .find_map(|prefix| reference.strip_prefix(prefix))
        .or_else(|| (!reference.contains(['#', '/', ':'])).then_some(reference))?;
    // The escapes of a JSON pointer.
    (!name.is_empty() && !name.contains('/')).then(|| name.replace("~1", "/").replace("~0", "~"))
}

fn data_type(
    value: &Value,
    schema: &Map<String, Value>,
    path: String,
) -> Result<Value, SchemaError> {
    let name = value.as_str().filter(|name| TYPES.contains(name));
    let Some(name) = name else {
        return Err(SchemaError::rule(
            path,
            format!("must be one of {}", TYPES.join(", ")),
        ));
    };
    // OpenAPI 3.0 says `nullable` where JSON Schema lists `null` among the types.
    Ok(if schema.get("nullable") == Some(&Value::Bool(true)) {
        json!([name, "null"])
    } else {
        json!(name)
    })
}
