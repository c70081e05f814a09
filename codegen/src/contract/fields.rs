//! Reading fields, and refusing those for which there is no rule.

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind as Wire, Value};

use super::fault::{ContractError, fault, place_of_field};
use super::options::{get, option};
use super::{Field, Format, Kind, PACKAGE, Presence};

pub fn is_sensitive(field: &FieldDescriptor) -> bool {
    field
        .options()
        .get_field_by_name("debug_redact")
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
}

pub fn read_field(
    pool: &DescriptorPool,
    field: &FieldDescriptor,
    formats: &[Format],
) -> Result<Field, ContractError> {
    let kind = match field.kind() {
        Wire::String => Kind::String,
        Wire::Int32 => Kind::Number,
        Wire::Bool => Kind::Bool,
        Wire::Enum(item) => Kind::Enum(item.name().to_owned()),
        Wire::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            Kind::Timestamp
        }
        Wire::Message(message) if message.package_name() == PACKAGE && !field.is_map() => {
            Kind::Message(message.name().to_owned())
        }
        other => {
            return Err(fault(
                &place_of_field(field),
                &format!("the generator has no rule for a field of kind {other:?}"),
            ));
        }
    };
    let presence = if field.cardinality() == Cardinality::Repeated {
        Presence::List
    } else if field
        .containing_oneof()
        .is_some_and(|oneof| !oneof.is_synthetic())
    {
        Presence::Member
    } else if field.supports_presence() {
        Presence::Explicit
    } else {
        Presence::Implicit
    };
    let rules = match option(pool, &field.options(), "rules") {
        Some(Value::Message(rules)) => Some(rules),
        _ => None,
    };
    let number = |name: &str| {
        rules
            .as_ref()
            .and_then(|rules| get(rules, name).as_u32())
            .unwrap_or_default()
    };
    let format = rules
        .as_ref()
        .and_then(|rules| get(rules, "format").as_enum_number())
        .and_then(|number| usize::try_from(number).ok())
        .unwrap_or_default();
    let token = formats
        .get(format)
        .is_some_and(|format| format.name == "ClientToken");
    let read = Field {
        name: escape(field.name()),
        wire: field.json_name().to_owned(),
        kind,
        presence,
        required: rules
            .as_ref()
            .is_some_and(|rules| get(rules, "required").as_bool().unwrap_or_default()),
        format,
        min_items: u64::from(number("min_items")),
        max_items: u64::from(number("max_items")),
        sensitive: is_sensitive(field),
        unlogged: token || is_sensitive(field),
    };
    match unsound(&read, formats) {
        Some(problem) => Err(fault(&place_of_field(field), problem)),
        None => Ok(read),
    }
}

/// What is wrong with a field's shape or rules, for which no code could be generated or whose
/// rules would be ignored.
fn unsound(field: &Field, formats: &[Format]) -> Option<&'static str> {
    let list = field.presence == Presence::List;
    let scalar = matches!(field.kind, Kind::Number | Kind::Bool);
    if scalar && field.presence == Presence::Implicit {
        return Some("a number or a boolean must be `optional`: 0 and absent are different");
    }
    if list && (scalar || field.kind == Kind::Timestamp) {
        return Some("the generator has no rule for a list of numbers, booleans or times");
    }
    if !list && (field.min_items > 0 || field.max_items > 0) {
        return Some("`min_items` and `max_items` are for lists");
    }
    if field.max_items > 0 && field.min_items > field.max_items {
        return Some("`min_items` is greater than `max_items`");
    }
    let Some(format) = formats.get(field.format) else {
        return Some("`format` is not known");
    };
    let numeric = format.minimum.is_some() || format.maximum.is_some();
    match field.kind {
        _ if field.format == 0 => None,
        Kind::String if numeric => Some("`format` constrains numbers, and this is a string"),
        Kind::Number if !numeric => Some("`format` constrains strings, and this is a number"),
        Kind::String | Kind::Number => None,
        _ => Some("`format` is for strings and numbers"),
    }
}

/// A field's name in Rust.
fn escape(name: &str) -> String {
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do",
        "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in",
        "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
        "return", "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe",
        "unsized", "use", "virtual", "where", "while", "yield",
    ];
    if KEYWORDS.contains(&name) {
        format!("r#{name}")
    } else {
        name.to_owned()
    }
}
