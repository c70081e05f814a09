//! Reading where mutations' subjects are seen, and refusing what shows something else.

use heck::ToSnakeCase;
use prost_reflect::{
    DescriptorPool, FieldDescriptor, Kind, MethodDescriptor, ServiceDescriptor, Value,
};

use super::fault::{ContractError, fault, place_of_method};
use super::options::{get, option, text};
use super::{Operation, Subject};

/// The operations with their subjects.
pub fn read(
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
    mut operations: Vec<Operation>,
) -> Result<Vec<Operation>, ContractError> {
    for method in service.methods() {
        let subject = subject(pool, service, &operations, &method)?;
        for operation in &mut operations {
            if operation.name == method.name() {
                operation.subject = subject;
                break;
            }
        }
    }
    Ok(operations)
}

fn subject(
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
    operations: &[Operation],
    method: &MethodDescriptor,
) -> Result<Option<Subject>, ContractError> {
    let place = place_of_method(method);
    let refuse = |problem: &str| Err(fault(&place, problem));
    let Some(Value::Message(policy)) = option(pool, &method.options(), "operation") else {
        return Ok(None);
    };
    let given = get(&policy, "subject");
    let Some(given) = given
        .as_message()
        .filter(|_| policy.has_field_by_name("subject"))
    else {
        return Ok(None);
    };
    let name = text(&get(given, "read"));
    let find = |name: &str| operations.iter().find(|operation| operation.name == name);
    let (Some(mutation), Some(read)) = (find(method.name()), find(&name)) else {
        return refuse("`subject.read` must be an operation");
    };
    let Some(reading) = service.methods().find(|method| method.name() == name) else {
        return refuse("`subject.read` must be an operation");
    };
    if mutation.idempotency == "Read" || read.idempotency != "Read" {
        return refuse("`subject` is for mutations, and its `read` must be a read");
    }
    if mutation.named_by.len() != read.named_by.len() {
        return refuse("`subject.read` is not named by as many names");
    }
    let path: Vec<_> = text(&get(given, "path"))
        .split('.')
        .map(ToSnakeCase::to_snake_case)
        .collect();
    let shown = follow(&reading, &path);
    let answered = path
        .last()
        .and_then(|last| follow(method, std::slice::from_ref(last)));
    match (shown, answered) {
        (Some(shown), Some(answered)) if record(&shown) == record(&answered) => {}
        _ => {
            return refuse("`subject.path` must lead to the record that the mutation answers with");
        }
    }
    let names = read.named_by.iter().zip(&mutation.named_by);
    let names = names.map(|(theirs, ours)| (theirs.clone(), ours.clone()));
    Ok(Some(Subject {
        read: name,
        path,
        names: names.collect(),
    }))
}

/// The field of a response to which a path leads.
fn follow(method: &MethodDescriptor, path: &[String]) -> Option<FieldDescriptor> {
    let (first, rest) = path.split_first()?;
    let first = method.output().get_field_by_name(first)?;
    rest.iter()
        .try_fold(first, |field, name| match field.kind() {
            Kind::Message(message) => message.get_field_by_name(name),
            _ => None,
        })
}

/// The message that a field holds, where it holds one.
fn record(field: &FieldDescriptor) -> Option<String> {
    match field.kind() {
        Kind::Message(message) if !field.is_list() => Some(message.full_name().to_owned()),
        _ => None,
    }
}
