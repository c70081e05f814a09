//! The validator's errors in words that name a place and a rule, and never a value.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use jsonschema::paths::LocationSegment;

use super::Violation;

/// How many choices or names a message lists.
const MAX_LISTED: usize = 30;

/// The place in the checked value, as `list[0].name`.
pub(super) fn place(error: &ValidationError<'_>) -> String {
    let mut path = String::new();
    for segment in error.instance_path().segments() {
        match segment {
            LocationSegment::Index(index) => path.push_str(&format!("[{index}]")),
            LocationSegment::Property(name) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(&name);
            }
        }
    }
    path
}

/// The violations behind one error of the validator, without the values.
pub(super) fn describe(error: &ValidationError<'_>) -> Vec<Violation> {
    let path = place(error);
    let child = |name: &str, message: &str| Violation::new(name, message).below(&path);
    let message = match error.kind() {
        Kind::Required { property } => {
            return vec![child(property.as_str().unwrap_or_default(), "is required")];
        }
        Kind::AdditionalProperties { unexpected } => {
            return unexpected
                .iter()
                .map(|name| child(name, "is not a property that the schema knows"))
                .collect();
        }
        Kind::Type {
            kind: TypeKind::Single(kind),
        } => format!("must be of type {kind}"),
        Kind::Type {
            kind: TypeKind::Multiple(kinds),
        } => {
            let kinds: Vec<String> = kinds.iter().map(|kind| kind.to_string()).collect();
            format!("must be of type {}", kinds.join(" or "))
        }
        Kind::Enum { options } => {
            let options = options.as_array().map(Vec::as_slice).unwrap_or_default();
            format!("must be one of {}", list(options))
        }
        // Of `pattern`, the only keyword of our own.
        Kind::Custom { message, .. } => message.clone(),
        Kind::Minimum { limit } => format!("must be at least {limit}"),
        Kind::Maximum { limit } => format!("must be at most {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("must be more than {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("must be less than {limit}"),
        Kind::MultipleOf { multiple_of } => format!("must be a multiple of {multiple_of}"),
        Kind::MinLength { limit } => format!("must have at least {limit} characters"),
        Kind::MaxLength { limit } => format!("must have at most {limit} characters"),
        Kind::MinItems { limit } => format!("must have at least {limit} items"),
        Kind::MaxItems { limit } => format!("must have at most {limit} items"),
        Kind::UniqueItems => "must not hold the same item twice".to_owned(),
        Kind::MinProperties { limit } => format!("must have at least {limit} properties"),
        Kind::MaxProperties { limit } => format!("must have at most {limit} properties"),
        Kind::AnyOf { .. } => "must match at least one alternative of its `anyOf`".to_owned(),
        Kind::OneOfNotValid { .. } => "must match one alternative of its `oneOf`".to_owned(),
        Kind::OneOfMultipleValid { .. } => {
            "must match only one alternative of its `oneOf`".to_owned()
        }
        other => format!("breaks the rule `{}` of its schema", other.keyword()),
    };
    vec![Violation::new(path, message)]
}

/// The first few items, separated by commas.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    if items.is_empty() {
        return "none".to_owned();
    }
    let mut text = items
        .iter()
        .take(MAX_LISTED)
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    if items.len() > MAX_LISTED {
        text.push_str(", …");
    }
    text
}
