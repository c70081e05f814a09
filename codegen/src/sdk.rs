//! The forwarders to the AWS SDK, and the conversions between its types and the contract's.
//!
//! The SDK's names follow from the model's as ours do: an operation is a method of the client, a
//! field is a `set_…` of its builder, a message is a type with the same name.

use std::fmt::Write;

use crate::contract::{Contract, Field, Kind, Message, Operation, Presence};

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    forward(&mut out, &contract.operations);
    for message in &contract.messages {
        let operation = contract
            .operations
            .iter()
            .find(|o| o.request == message.name || o.response == message.name);
        match (&message.union, operation) {
            (Some(oneof), _) => union(&mut out, message, oneof),
            (None, Some(operation)) if operation.request == message.name => {
                request(&mut out, message, operation);
            }
            (None, Some(operation)) => {
                let kind = format!("operation::{}::{}Output", operation.method, operation.name);
                from_sdk(&mut out, message, &kind);
                complete(&mut out, message, contract);
            }
            (None, None) => {
                if message.in_responses {
                    from_sdk(&mut out, message, &format!("types::{}", message.name));
                }
                match (message.in_requests, message.presence_list) {
                    (true, true) => list_to_sdk(&mut out, message),
                    (true, false) => to_sdk(&mut out, message),
                    (false, _) => {}
                }
            }
        }
    }
    out
}

fn forward(out: &mut String, operations: &[Operation]) {
    out.push_str(
        "/// Sends one attempt of `request` and reads its outcome.\n\
         pub async fn forward(client: &Client, settings: config::Builder, request: Request) -> Result<Answer> {\n    match request {\n",
    );
    for o in operations {
        let _ = writeln!(
            out,
            "        Request::{0}(request) => answer(request.send(client, settings).await, Response::{0}),",
            o.name
        );
    }
    out.push_str("    }\n}\n\n");
}

/// An expression that turns our field into what a `set_…` of the SDK takes.
fn into_sdk(field: &Field) -> String {
    let name = &field.name;
    match (&field.kind, field.presence) {
        (Kind::Enum(kind), Presence::List) => {
            format!(
                "names::<pb::{kind}, types::{kind}>(self.{name}, {})",
                field.required
            )
        }
        (Kind::Enum(kind), _) => {
            format!("name::<pb::{kind}>(self.{name}).map(types::{kind}::from)")
        }
        (Kind::Message(_), Presence::List) => format!("messages(self.{name}, {})?", field.required),
        (Kind::Message(_), _) => format!("message(self.{name})?"),
        (Kind::String, Presence::List) => format!("list(self.{name}, {})", field.required),
        (Kind::String, Presence::Implicit) => format!("Some(self.{name})"),
        _ => format!("self.{name}"),
    }
}

fn request(out: &mut String, message: &Message, operation: &Operation) {
    let Operation { name, method, .. } = operation;
    let _ = writeln!(
        out,
        "impl Send for pb::{} {{\n    type Output = operation::{method}::{name}Output;\n    type Error = operation::{method}::{name}Error;\n    \
         async fn send(self, client: &Client, settings: config::Builder) -> std::result::Result<Self::Output, Failure<Self::Error>> {{\n        \
         Ok(client.{method}()",
        message.name
    );
    for field in &message.fields {
        let setter = field.plain();
        let _ = writeln!(out, "            .set_{setter}({})", into_sdk(field));
    }
    let _ = writeln!(
        out,
        "            .customize().config_override(settings).send().await?)\n    }}\n}}\n"
    );
}

fn to_sdk(out: &mut String, message: &Message) {
    let name = &message.name;
    let _ = writeln!(
        out,
        "impl ToSdk for pb::{name} {{\n    type Sdk = types::{name};\n    fn to_sdk(self) -> std::result::Result<types::{name}, BuildError> {{\n        types::{name}::builder()"
    );
    for field in &message.fields {
        let setter = field.plain();
        let _ = writeln!(out, "            .set_{setter}({})", into_sdk(field));
    }
    // A builder of the SDK can fail exactly where the model requires a member.
    let fallible = message.fields.iter().any(|field| field.required);
    let (before, after) = if fallible {
        ("", "")
    } else {
        (".build())", "Ok(")
    };
    if fallible {
        out.push_str("            .build()\n    }\n}\n\n");
    } else {
        // Wrap what was written since the builder began.
        let start = out
            .rfind(&format!("        types::{name}::builder()"))
            .unwrap_or(out.len());
        let chain = out.split_off(start);
        let _ = writeln!(out, "        {after}{}{before}\n    }}\n}}\n", chain.trim());
    }
}

/// A message that is the bare list in the SDK: given at all, it is sent even when empty.
fn list_to_sdk(out: &mut String, message: &Message) {
    let name = &message.name;
    for field in &message.fields {
        let Kind::Enum(kind) = &field.kind else {
            continue;
        };
        let _ = writeln!(
            out,
            "impl ToSdk for pb::{name} {{\n    type Sdk = Vec<types::{kind}>;\n    fn to_sdk(self) -> std::result::Result<Self::Sdk, BuildError> {{ Ok(names::<pb::{kind}, types::{kind}>(self.{}, true).unwrap_or_default()) }}\n}}\n",
            field.name
        );
    }
}

fn from_sdk(out: &mut String, message: &Message, kind: &str) {
    let value = if message.fields.is_empty() {
        "_sdk"
    } else {
        "sdk"
    };
    let _ = writeln!(
        out,
        "impl FromSdk<{kind}> for pb::{} {{\n    fn from_sdk({value}: {kind}) -> Self {{\n        Self {{",
        message.name
    );
    for field in &message.fields {
        let name = &field.name;
        let required = field.required;
        let value = match (&field.kind, field.presence) {
            (Kind::String, Presence::List) => {
                format!("Option::from(sdk.{name}).unwrap_or_default()")
            }
            (Kind::String, _) => format!("text(sdk.{name}.into(), {required})"),
            (Kind::Timestamp, _) => format!("time(sdk.{name}.into(), {required})"),
            (Kind::Enum(kind), Presence::List) => {
                format!(
                    "numbers::<pb::{kind}, types::{kind}>(sdk.{name}.into(), types::{kind}::as_str)"
                )
            }
            (Kind::Enum(kind), _) => {
                format!(
                    "number::<pb::{kind}, types::{kind}>(sdk.{name}.into(), types::{kind}::as_str)"
                )
            }
            (Kind::Message(_), Presence::List) => format!("from_list(sdk.{name}.into())"),
            (Kind::Message(_), _) => format!("from_message(sdk.{name}.into())"),
            (Kind::Number | Kind::Bool, _) => format!("sdk.{name}.into()"),
        };
        let _ = writeln!(out, "            {name}: {value},");
    }
    out.push_str("        }\n    }\n}\n\n");
}

/// Whether a response has the messages that the model requires. Lists may be empty, and so may a
/// message that requires nothing itself.
fn complete(out: &mut String, message: &Message, contract: &Contract) {
    let never_empty = |kind: &Kind| {
        let Kind::Message(name) = kind else {
            return false;
        };
        let mut named = contract.messages.iter().filter(|m| m.name == *name);
        named.any(|m| m.fields.iter().any(|field| field.required))
    };
    let required: Vec<_> = message
        .fields
        .iter()
        .filter(|field| field.required && field.presence == Presence::Explicit)
        .filter(|field| never_empty(&field.kind))
        .map(|field| format!("given(&self.{})", field.name))
        .collect();
    let value = if required.is_empty() {
        "true".to_owned()
    } else {
        required.join(" && ")
    };
    let _ = writeln!(
        out,
        "impl Complete for pb::{} {{\n    fn is_complete(&self) -> bool {{ {value} }}\n}}\n",
        message.name
    );
}

fn union(out: &mut String, message: &Message, oneof: &str) {
    let name = &message.name;
    let path = message.union_type(oneof);
    if message.in_responses {
        let _ = writeln!(
            out,
            "impl FromSdk<types::{name}> for pb::{name} {{\n    fn from_sdk(sdk: types::{name}) -> Self {{\n        Self {{ {oneof}: match sdk {{"
        );
        for field in &message.fields {
            let member = field.variant();
            let _ = writeln!(
                out,
                "            types::{name}::{member}(member) => Some({path}::{member}(FromSdk::from_sdk(member))),"
            );
        }
        out.push_str("            _ => None,\n        } }\n    }\n}\n\n");
    }
    if message.in_requests {
        let _ = writeln!(
            out,
            "impl ToSdk for pb::{name} {{\n    type Sdk = types::{name};\n    fn to_sdk(self) -> std::result::Result<types::{name}, BuildError> {{\n        match self.{oneof} {{"
        );
        for field in &message.fields {
            let member = field.variant();
            let _ = writeln!(
                out,
                "            Some({path}::{member}(member)) => Ok(types::{name}::{member}(member.to_sdk()?)),"
            );
        }
        let _ = writeln!(
            out,
            "            None => Err(BuildError::missing_field({oneof:?}, \"one member must be given\")),\n        }}\n    }}\n}}\n"
        );
    }
}
