//! Reading options: prost drops custom ones, so that they are read by reflection.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{DescriptorPool, DynamicMessage, Value};

/// The package of our options.
pub const PACKAGE: &str = "proton.policy.v1";

pub fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(&format!("{PACKAGE}.{name}"))?;
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

pub fn get(message: &DynamicMessage, field: &str) -> Value {
    message
        .get_field_by_name(field)
        .map_or(Value::Bool(false), |value| value.into_owned())
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub fn texts(value: &Value) -> Vec<String> {
    value
        .as_list()
        .unwrap_or_default()
        .iter()
        .map(text)
        .collect()
}

/// The name of an enum-valued option without its prefix, in Rust's spelling.
pub fn choice(pool: &DescriptorPool, message: &DynamicMessage, field: &str, kind: &str) -> String {
    let number = get(message, field).as_enum_number().unwrap_or_default();
    pool.get_enum_by_name(&format!("{PACKAGE}.{kind}"))
        .and_then(|item| item.get_value(number))
        .map(|value| {
            let prefix = kind.to_snake_case().to_uppercase();
            value
                .name()
                .trim_start_matches(&format!("{prefix}_"))
                .to_upper_camel_case()
        })
        .unwrap_or_default()
}
