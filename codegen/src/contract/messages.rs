//! Reading messages: which of them matter, their shape, and which side uses them.

use std::collections::HashSet;

use prost_reflect::{
    DescriptorPool, MessageDescriptor, MethodDescriptor, ServiceDescriptor, Value,
};

use super::fault::{ContractError, fault, place_of_message};
use super::fields::{is_sensitive, read_field};
use super::options::option;
use super::{Field, Format, Kind, Message, Operation, PACKAGE, Presence};

/// The messages that `operations`, which are the rpcs of `service`, use at any depth.
pub fn read(
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
    operations: &[Operation],
    formats: &[Format],
) -> Result<Vec<Message>, ContractError> {
    let used = used(service.methods());
    let mut messages = Vec::new();
    for message in pool.all_messages() {
        if used.contains(message.full_name()) {
            messages.push(read_message(pool, &message, formats)?);
        }
    }
    mark_reach(&mut messages, operations);
    Ok(messages)
}

/// Names of messages that no operation uses and that have sensitive fields: prost's `Debug` would
/// print them.
pub fn opaque(pool: &DescriptorPool, service: &ServiceDescriptor) -> Vec<String> {
    let used = used(service.methods());
    pool.all_messages()
        .filter(|message| message.package_name() == PACKAGE)
        .filter(|message| !used.contains(message.full_name()))
        .filter(|message| message.fields().any(|field| is_sensitive(&field)))
        .map(|message| message.name().to_owned())
        .collect()
}

/// Full names of the package's messages that the rpcs use, at any depth.
fn used(methods: impl Iterator<Item = MethodDescriptor>) -> HashSet<String> {
    let mut used = HashSet::new();
    let mut todo: Vec<_> = methods
        .flat_map(|method| [method.input(), method.output()])
        .collect();
    while let Some(message) = todo.pop() {
        if message.package_name() == PACKAGE && used.insert(message.full_name().to_owned()) {
            todo.extend(
                message
                    .fields()
                    .filter_map(|field| field.kind().as_message().cloned()),
            );
        }
    }
    used
}

fn read_message(
    pool: &DescriptorPool,
    message: &MessageDescriptor,
    formats: &[Format],
) -> Result<Message, ContractError> {
    let refuse = |problem: &str| Err(fault(&place_of_message(message), problem));
    let union = message
        .oneofs()
        .find(|oneof| !oneof.is_synthetic())
        .map(|oneof| oneof.name().to_owned());
    let presence_list = matches!(
        option(pool, &message.options(), "presence_list"),
        Some(Value::Bool(true))
    );
    let fields = message
        .fields()
        .map(|field| read_field(pool, &field, formats))
        .collect::<Result<Vec<_>, _>>()?;
    if presence_list {
        let holds = match fields.as_slice() {
            [only] => only.presence == Presence::List && matches!(only.kind, Kind::Enum(_)),
            _ => false,
        };
        if !holds {
            return refuse("a presence_list has exactly one field, a repeated enum");
        }
    }
    if union.is_some() {
        let member = |f: &Field| {
            f.presence == Presence::Member && matches!(f.kind, Kind::Message(_)) && !f.sensitive
        };
        let oneofs = message.oneofs().filter(|oneof| !oneof.is_synthetic());
        if oneofs.count() != 1 || !fields.iter().all(member) {
            return refuse("a union is one oneof of messages, none of them sensitive, and no more");
        }
    }
    Ok(Message {
        name: message.name().to_owned(),
        fields,
        union,
        presence_list,
        in_requests: false,
        in_responses: false,
        top: false,
    })
}

/// Marks which messages requests and responses contain.
fn mark_reach(messages: &mut [Message], operations: &[Operation]) {
    fn reach(messages: &mut [Message], name: &str, request: bool) {
        let Some(message) = messages.iter_mut().find(|message| message.name == name) else {
            return;
        };
        let seen = if request {
            &mut message.in_requests
        } else {
            &mut message.in_responses
        };
        if std::mem::replace(seen, true) {
            return;
        }
        let inner: Vec<_> = message
            .fields
            .iter()
            .filter_map(|field| match &field.kind {
                Kind::Message(name) => Some(name.clone()),
                _ => None,
            })
            .collect();
        for name in inner {
            reach(messages, &name, request);
        }
    }
    for operation in operations {
        reach(messages, &operation.request, true);
        reach(messages, &operation.response, false);
        for message in messages.iter_mut() {
            message.top |= message.name == operation.request || message.name == operation.response;
        }
    }
}
