//! Faults of the contract, with the line where they stand.

use prost_reflect::{FieldDescriptor, FileDescriptor, MessageDescriptor, MethodDescriptor};

/// A fault of the contract itself.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ContractError {
    place: String,
    problem: String,
}

pub fn fault(place: &str, problem: &str) -> ContractError {
    ContractError {
        place: place.to_owned(),
        problem: problem.to_owned(),
    }
}

/// Where something stands, as an editor understands it.
pub fn place(file: &FileDescriptor, path: &[i32], what: &str) -> String {
    let line = file
        .file_descriptor_proto()
        .source_code_info
        .as_ref()
        .and_then(|info| info.location.iter().find(|l| l.path == path))
        .and_then(|location| location.span.first())
        .map_or(0, |line| line + 1);
    format!("{}:{line}: {what}", file.name())
}

pub fn place_of_method(method: &MethodDescriptor) -> String {
    let what = format!("rpc {}", method.name());
    place(&method.parent_file(), method.path(), &what)
}

pub fn place_of_message(message: &MessageDescriptor) -> String {
    let what = format!("message {}", message.name());
    place(&message.parent_file(), message.path(), &what)
}

pub fn place_of_field(field: &FieldDescriptor) -> String {
    let what = format!("field {}.{}", field.parent_message().name(), field.name());
    place(&field.parent_file(), field.path(), &what)
}
