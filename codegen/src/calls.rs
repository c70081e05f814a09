//! The typed calls: operations with their policy, requests, responses, and the gRPC service.

use std::fmt::Write;

use heck::ToLowerCamelCase;

use crate::contract::{Contract, Operation};

pub fn emit(contract: &Contract) -> String {
    let mut out = String::new();
    operations(&mut out, &contract.operations);
    calls(&mut out, &contract.operations);
    service(&mut out, &contract.operations);
    out
}

fn list(items: &[String]) -> String {
    let quoted: Vec<_> = items.iter().map(|item| format!("{item:?}")).collect();
    format!("&[{}]", quoted.join(", "))
}

fn subject(operation: &Operation) -> String {
    operation.subject.as_ref().map_or_else(
        || "None".to_owned(),
        |subject| {
            let path: Vec<_> = subject
                .path
                .iter()
                .map(|name| name.to_lower_camel_case())
                .collect();
            format!(
                "Some(Subject {{ read: Operation::{}, path: {} }})",
                subject.read,
                list(&path)
            )
        },
    )
}

fn operations(out: &mut String, operations: &[Operation]) {
    let count = operations.len();
    out.push_str("/// One of the operations of the contract.\n");
    out.push_str("#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]\npub enum Operation {\n");
    for operation in operations {
        let _ = writeln!(
            out,
            "    /// {}.\n    {},",
            operation.summary, operation.name
        );
    }
    let _ = writeln!(
        out,
        "}}\n\nimpl Operation {{\n    /// All operations, in the order of the contract.\n    pub const ALL: [Self; {count}] = ["
    );
    for operation in operations {
        let _ = writeln!(out, "        Self::{},", operation.name);
    }
    out.push_str("    ];\n}\n\n");
    let _ = writeln!(out, "static POLICIES: [Policy; {count}] = [");
    for o in operations {
        let _ = writeln!(
            out,
            "    Policy {{ name: {:?}, resource: {:?}, named_by: {}, cache: Cache::{}, touches: {}, \
             idempotency: Idempotency::{}, relieves: {}, subject: {}, paginated: {}, client_token: {} }},",
            o.name,
            o.resource,
            list(&o.named_by),
            o.cache,
            list(&o.touches),
            o.idempotency,
            o.relieves,
            subject(o),
            o.paginated,
            o.client_token
        );
    }
    out.push_str("];\n\n");
}

fn calls(out: &mut String, operations: &[Operation]) {
    for (side, doc) in [
        ("Request", "The request of any operation."),
        ("Response", "The response of any operation."),
    ] {
        let _ = writeln!(
            out,
            "/// {doc}\n#[derive(Debug, Clone, PartialEq)]\npub enum {side} {{"
        );
        for o in operations {
            let _ = writeln!(out, "    {0}(pb::{0}{side}),", o.name);
        }
        out.push_str("}\n\n");
    }
    out.push_str("impl Request {\n");
    method(
        out,
        operations,
        "pub fn operation(&self) -> Operation",
        |o| format!("Self::{0}(_) => Operation::{0},", o.name),
    );
    method(out, operations, "fn rules(&self) -> &dyn Rules", |o| {
        format!("Self::{}(request) => request,", o.name)
    });
    method(out, operations, "fn json(&self) -> &dyn ToJson", |o| {
        format!("Self::{}(request) => request,", o.name)
    });
    method(
        out,
        operations,
        "/// The message of the request, encoded.\n    pub fn encoded(&self) -> Vec<u8>",
        |o| format!("Self::{}(request) => request.encode_to_vec(),", o.name),
    );
    client_tokens(out, operations);
    subjects(out, operations);
    constructor(
        out,
        operations,
        "/// Reads the request of `operation` from AWS JSON.\n    \
         pub fn from_json(operation: Operation, value: Value) -> Result<Self>",
        "FromJson::from_json(value, &At::root())",
    );
    constructor(
        out,
        operations,
        "/// Reads the request of `operation` from its message.\n    \
         pub fn decode(operation: Operation, message: &[u8]) -> std::result::Result<Self, DecodeError>",
        "Message::decode(message)",
    );
    out.push_str("}\n\nimpl Response {\n");
    method(
        out,
        operations,
        "pub fn operation(&self) -> Operation",
        |o| format!("Self::{0}(_) => Operation::{0},", o.name),
    );
    method(out, operations, "fn json(&self) -> &dyn ToJson", |o| {
        format!("Self::{}(response) => response,", o.name)
    });
    method(
        out,
        operations,
        "/// The message of the response, as gRPC sends it.\n    pub fn framed(&self) -> Framed",
        |o| format!("Self::{}(response) => Framed::of(response),", o.name),
    );
    constructor(
        out,
        operations,
        "/// Reads the response of `operation` from its message.\n    \
         pub fn decode(operation: Operation, message: &[u8]) -> std::result::Result<Self, DecodeError>",
        "Message::decode(message)",
    );
    answers(out, operations);
    out.push_str("}\n\n");
    for o in operations {
        let _ = writeln!(
            out,
            "impl Typed for pb::{0}Request {{\n    type Response = pb::{0}Response;\n    \
             fn into_request(self) -> Request {{ Request::{0}(self) }}\n    \
             fn from_response(response: Response) -> Option<Self::Response> {{ match response {{ Response::{0}(response) => Some(response), _ => None }} }}\n}}\n",
            o.name
        );
    }
}

fn client_tokens(out: &mut String, operations: &[Operation]) {
    out.push_str(
        "    /// The token by which a repeat is known, where the request has one.\n    \
         pub fn client_token(&self) -> Option<&str> {\n        match self {\n",
    );
    for o in operations.iter().filter(|o| o.client_token) {
        let _ = writeln!(
            out,
            "            Self::{}(request) => request.client_token.as_deref(),",
            o.name
        );
    }
    out.push_str("            _ => None,\n        }\n    }\n\n");
    out.push_str(
        "    /// Gives the request a token, where it has a place for one.\n    \
         pub fn set_client_token(&mut self, token: String) {\n        match self {\n",
    );
    for o in operations.iter().filter(|o| o.client_token) {
        let _ = writeln!(
            out,
            "            Self::{}(request) => request.client_token = Some(token),",
            o.name
        );
    }
    out.push_str("            _ => {}\n        }\n    }\n\n");
}

/// The reads that show what mutations change.
fn subjects(out: &mut String, operations: &[Operation]) {
    out.push_str(
        "    /// The read that shows what a mutation changes, where there is one.\n    \
         #[allow(clippy::clone_on_copy, clippy::needless_update)]\n    \
         pub fn subject(&self) -> Option<Self> {\n        match self {\n",
    );
    for o in operations {
        let Some(subject) = &o.subject else { continue };
        let names: Vec<_> = subject
            .names
            .iter()
            .map(|(theirs, ours)| format!("{theirs}: request.{ours}.clone(), "))
            .collect();
        // A read without names is of the account.
        let binding = if names.is_empty() { "_" } else { "request" };
        let _ = writeln!(
            out,
            "            Self::{}({binding}) => Some(Self::{1}(pb::{1}Request {{ {2}..Default::default() }})),",
            o.name,
            subject.read,
            names.concat()
        );
    }
    out.push_str("            _ => None,\n        }\n    }\n\n");
}

/// What mutations answer, out of what shows their subject.
fn answers(out: &mut String, operations: &[Operation]) {
    out.push_str(
        "    /// What the mutation `operation` answers whose subject is as the read `shown` shows it.\n    \
         pub fn of_subject(operation: Operation, shown: Self) -> Option<Self> {\n        match (operation, shown) {\n",
    );
    for o in operations {
        let Some(subject) = &o.subject else { continue };
        let Some((last, outer)) = subject.path.split_last() else {
            continue;
        };
        let mut value = String::from("shown");
        for (depth, name) in outer.iter().enumerate() {
            let mark = if depth == 0 { "" } else { "?" };
            let _ = write!(value, "{mark}.{name}");
        }
        let mark = if outer.is_empty() { "" } else { "?" };
        let _ = writeln!(
            out,
            "            (Operation::{0}, Self::{1}(shown)) => Some(Self::{0}(pb::{0}Response {{ {last}: {value}{mark}.{last} }})),",
            o.name, subject.read
        );
    }
    out.push_str("            _ => None,\n        }\n    }\n");
}

/// A function that makes what `operation` names.
fn constructor(out: &mut String, operations: &[Operation], signature: &str, made: &str) {
    let _ = writeln!(out, "    {signature} {{\n        match operation {{");
    for o in operations {
        let _ = writeln!(
            out,
            "            Operation::{0} => {made}.map(Self::{0}),",
            o.name
        );
    }
    out.push_str("        }\n    }\n\n");
}

fn method(
    out: &mut String,
    operations: &[Operation],
    signature: &str,
    arm: impl Fn(&Operation) -> String,
) {
    let _ = writeln!(out, "    {signature} {{\n        match self {{");
    for operation in operations {
        let _ = writeln!(out, "            {}", arm(operation));
    }
    out.push_str("        }\n    }\n\n");
}

fn service(out: &mut String, operations: &[Operation]) {
    out.push_str(
        "#[tonic::async_trait]\nimpl pb::proton_service_server::ProtonService for Gateway {\n",
    );
    for o in operations {
        let _ = writeln!(
            out,
            "    async fn {}(&self, request: tonic::Request<pb::{}>) -> std::result::Result<tonic::Response<pb::{}>, tonic::Status> {{ self.unary(request).await }}",
            o.method, o.request, o.response
        );
    }
    out.push_str("}\n");
}
