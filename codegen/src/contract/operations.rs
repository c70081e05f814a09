//! Reading rpcs, and refusing policies that are missing or contradict each other.

use std::collections::HashSet;

use heck::{ToKebabCase, ToSnakeCase};
use prost_reflect::{DescriptorPool, Kind, MethodDescriptor, ServiceDescriptor, Value};

use super::fault::{ContractError, fault, place_of_method};
use super::options::{choice, get, option, text, texts};
use super::{Operation, subjects};

/// All rpcs of the service, in the order of the contract.
pub fn read(
    pool: &DescriptorPool,
    service: &ServiceDescriptor,
) -> Result<Vec<Operation>, ContractError> {
    let operations = service
        .methods()
        .map(|method| operation(pool, &method))
        .collect::<Result<Vec<_>, _>>()?;
    let operations = subjects::read(pool, service, operations)?;
    let resources: HashSet<_> = operations.iter().map(|o| o.resource.as_str()).collect();
    for operation in &operations {
        for touched in &operation.touches {
            if !resources.contains(touched.as_str()) {
                return Err(fault(
                    &operation.place,
                    &format!("`touches` has `{touched}`, which no operation addresses"),
                ));
            }
        }
    }
    Ok(operations)
}

/// The first sentence of the leading comment.
fn summary(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let comment = file
        .file_descriptor_proto()
        .source_code_info
        .as_ref()
        .and_then(|info| info.location.iter().find(|l| l.path == method.path()))
        .map(|location| location.leading_comments().to_owned())
        .unwrap_or_default();
    let text = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.split_once(". ") {
        Some((first, _)) => first.to_owned(),
        None => text.trim_end_matches('.').to_owned(),
    }
}

/// The rpc's `idempotency_level`.
pub fn level(method: &MethodDescriptor) -> &'static str {
    let level = method
        .options()
        .get_field_by_name("idempotency_level")
        .and_then(|level| level.as_enum_number());
    match level {
        Some(1) => "NoSideEffects",
        Some(2) => "Idempotent",
        _ => "Unknown",
    }
}

fn operation(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Operation, ContractError> {
    let place = place_of_method(method);
    let options = method.options();
    let Some(Value::Message(policy)) = option(pool, &options, "operation") else {
        return Err(fault(
            &place,
            "the option proton.policy.v1.operation is missing",
        ));
    };
    let request = method.input();
    let has = |name: &str| request.get_field_by_name(name).is_some();
    let operation = Operation {
        place,
        name: method.name().to_owned(),
        method: method.name().to_snake_case(),
        summary: summary(method),
        level: level(method).to_owned(),
        resource: text(&get(&policy, "resource")),
        named_by: texts(&get(&policy, "named_by")),
        cache: choice(pool, &policy, "cache", "CacheClass"),
        touches: texts(&get(&policy, "touches")),
        idempotency: choice(pool, &policy, "idempotency", "IdempotencyClass"),
        relieves: get(&policy, "relieves").as_bool().unwrap_or_default(),
        subject: None,
        paginated: has("next_token") && method.output().get_field_by_name("next_token").is_some(),
        client_token: has("client_token"),
        request: request.name().to_owned(),
        response: method.output().name().to_owned(),
    };
    check(&operation, method)?;
    Ok(operation)
}

/// Refuses options that are missing or contradict each other.
fn check(operation: &Operation, method: &MethodDescriptor) -> Result<(), ContractError> {
    let expect = |holds: bool, problem: &str| {
        let fault = || fault(&operation.place, problem);
        holds.then_some(()).ok_or_else(fault)
    };
    let request = method.input();
    let read = operation.idempotency == "Read";
    expect(
        !operation.summary.is_empty(),
        "the comment is missing: its first sentence says what the operation does",
    )?;
    expect(
        !method.is_client_streaming() && !method.is_server_streaming(),
        "an operation is unary",
    )?;
    expect(!operation.resource.is_empty(), "`resource` is missing")?;
    expect(
        operation.resource == operation.resource.to_kebab_case(),
        "`resource` is not in kebab-case",
    )?;
    expect(operation.cache != "Unspecified", "`cache` is missing")?;
    expect(
        operation.idempotency != "Unspecified",
        "`idempotency` is missing",
    )?;
    expect(
        read == (operation.level == "NoSideEffects"),
        "idempotency_level and the idempotency class disagree on whether this is a read",
    )?;
    expect(
        (operation.level == "Unknown") == (operation.idempotency == "None"),
        "idempotency_level and the idempotency class disagree on whether a repeat is safe",
    )?;
    expect(
        read || operation.cache == "None",
        "a mutation cannot be cached",
    )?;
    expect(
        read == operation.touches.is_empty(),
        "a mutation must say what it touches, and a read touches nothing",
    )?;
    expect(
        !(read && operation.relieves),
        "a read ends no work, so that it cannot be one that `relieves`",
    )?;
    expect(
        operation.client_token == (operation.idempotency == "ClientToken"),
        "the class is CLIENT_TOKEN exactly where the request has a client_token",
    )?;
    for name in &operation.named_by {
        let Some(field) = request.get_field_by_name(name) else {
            let problem = format!("`named_by` has `{name}`, which the request does not have");
            return expect(false, &problem);
        };
        expect(
            !field.is_list() && matches!(field.kind(), Kind::String | Kind::Enum(_)),
            &format!("`named_by` has `{name}`, which is neither a string nor an enum"),
        )?;
    }
    expect(
        operation.request == format!("{}Request", operation.name)
            && operation.response == format!("{}Response", operation.name),
        "request and response are not named after the rpc",
    )
}
