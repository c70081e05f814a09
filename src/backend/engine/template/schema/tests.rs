mod compatibility;
mod inputs;
mod reading;

use serde_json::{Value, json};

use super::*;

const SERVICE: InputType = InputType::Service;

/// A service schema with one input type, given as YAML that is indented by four spaces.
fn service(types: &str) -> Result<Schema, SchemaError> {
    Schema::parse(&format!(
        "schema:\n  format:\n    openapi: \"3.0.0\"\n  service_input_type: T\n  types:\n{types}"
    ))
}

/// A schema whose type has these properties, and further keys of the type.
fn with(properties: &Value, more: &Value) -> Schema {
    try_with(properties, more).expect("the schema is valid")
}

fn try_with(properties: &Value, more: &Value) -> Result<Schema, SchemaError> {
    let mut kind = json!({"type": "object", "properties": properties});
    for (key, value) in more.as_object().expect("a map") {
        kind[key] = value.clone();
    }
    parse_types(&json!({ "T": kind }))
}

fn parse_types(types: &Value) -> Result<Schema, SchemaError> {
    let schema = json!({"schema": {
        "format": {"openapi": "3.0.0"}, "service_input_type": "T", "types": types
    }});
    Schema::parse(&schema.to_string())
}

fn refused(types: &Value) -> String {
    parse_types(types)
        .expect_err("the schema is refused")
        .to_string()
}

fn violations(schema: &Schema, values: &Value) -> Vec<String> {
    let found = schema.validate_inputs(SERVICE, values);
    found.iter().map(ToString::to_string).collect()
}
