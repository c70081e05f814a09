//! The contract in Rust: messages, operations with their policy, and the typed calls.
//!
//! Everything here follows from `proto/`; this is the only place that includes generated code.
//! The hand-written halves are in `api/json.rs` (AWS JSON), `api/rules.rs` (the model's
//! constraints) and `backend/aws/convert.rs` (the SDK's types).

mod framed;
pub mod json;
pub mod rules;

use std::collections::HashMap;
use std::sync::LazyLock;

use prost::{DecodeError, Message};
use serde_json::Value;

use crate::error::Result;
use crate::gateway::Gateway;
pub use framed::Framed;
use json::{At, FromJson, ToJson, View};
use rules::{Check, Rules};

/// The messages of the contract, in the modules that prost expects.
#[allow(missing_docs, clippy::all)]
mod proton {
    pub mod v1 {
        tonic::include_proto!("proton.v1");
    }
    pub mod gateway {
        pub mod v1 {
            tonic::include_proto!("proton.gateway.v1");
        }
    }
}

pub use proton::gateway::v1 as own;
pub use proton::v1 as pb;

/// The standard health service of gRPC.
#[allow(missing_docs, clippy::all)]
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}

/// A text that names fields of requests as the contract does, in the spelling of AWS's wire.
pub fn in_wire_spelling(text: &str) -> String {
    rules::in_camel_case(text, generated_rules::FIELDS)
}

/// The encoded descriptors, options included: what reflection serves.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// The `.proto` files behind [`DESCRIPTORS`]: (the path by which they are imported, text).
pub static PROTOS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/protos.rs"));

/// The table of operations as it must stand in `docs/operations.md`.
pub const OPERATIONS_DOCUMENT: &str = include_str!(concat!(env!("OUT_DIR"), "/operations.md"));

/// The bundles compiled in as bucket `proton-examples`: (key, bytes).
pub static EXAMPLES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/examples.rs"));

/// What an operation is; see `proton.policy.v1.OperationPolicy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// AWS's name of the operation, which is also the rpc's.
    pub name: &'static str,
    /// The kind of resource it addresses, in kebab-case.
    pub resource: &'static str,
    /// Request fields that name the resource, outermost first.
    pub named_by: &'static [&'static str],
    pub cache: Cache,
    /// Kinds of resources whose stored answers it makes stale.
    pub touches: &'static [&'static str],
    pub idempotency: Idempotency,
    /// It ends work that is under way, and is never refused for there being too much of it.
    pub relieves: bool,
    /// Where the state is seen that it starts from and changes.
    pub subject: Option<Subject>,
    /// It has a paging token on both sides.
    pub paginated: bool,
    /// Its request has a client token.
    pub client_token: bool,
}

/// How a read shows what a mutation changes; see `proton.policy.v1.Subject`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    pub read: Operation,
    /// Path of the record in the read's response, in AWS's spelling.
    pub path: &'static [&'static str],
}

/// How long an answer may be kept; see `proton.policy.v1.CacheClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    None,
    State,
    Definition,
}

/// What makes a repeat safe; see `proton.policy.v1.IdempotencyClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotency {
    Read,
    ClientToken,
    NaturalCreate,
    Delete,
    AsyncDelete,
    Model,
    None,
}

/// What a caller can call, as policies, limits and the audit know it. The methods of all services
/// have different names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rpc {
    /// `proton.v1.ProtonService`.
    pub service: &'static str,
    /// `CreateEnvironment`.
    pub method: &'static str,
    pub class: Class,
    /// Its request may name a principal: it is about what callers may do.
    pub of_principals: bool,
}

/// What kind of work an rpc is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Changes nothing.
    Read,
    Write,
    /// Changes nothing, and lasts.
    Wait,
}

impl Class {
    /// How the class is called in configuration, scopes and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Wait => "wait",
        }
    }
}

impl Rpc {
    /// The rpc with this method's name.
    pub fn of(method: &str) -> Option<&'static Self> {
        RPCS.iter().find(|rpc| rpc.method == method)
    }
}

include!(concat!(env!("OUT_DIR"), "/rpcs.rs"));

impl Operation {
    /// The rpc of the operation.
    pub fn rpc(self) -> &'static Rpc {
        &RPCS[self as usize]
    }

    /// What the operation is.
    pub fn policy(self) -> &'static Policy {
        &POLICIES[self as usize]
    }

    /// AWS's name of the operation, which is also the rpc's.
    pub fn name(self) -> &'static str {
        self.policy().name
    }

    /// The operation with AWS's name `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        static BY_NAME: LazyLock<HashMap<&str, Operation>> =
            LazyLock::new(|| Operation::ALL.map(|o| (o.name(), o)).into());
        BY_NAME.get(name).copied()
    }
}

/// A request that knows its response.
pub trait Typed: Sized + Send {
    type Response: Send;

    fn into_request(self) -> Request;

    /// The response, if `response` is of this operation.
    fn from_response(response: Response) -> Option<Self::Response>;
}

impl Request {
    /// The same for equal requests, and for no others.
    pub fn key(&self) -> Vec<u8> {
        let mut key = self.operation().name().as_bytes().to_vec();
        key.push(b' ');
        // The contract has no maps: each message has one encoding.
        key.extend(self.encoded());
        key
    }

    /// The first of the names by which the resource is addressed, where there is one. An ARN
    /// stands for the name in it.
    pub fn name(&self) -> Option<String> {
        let field = self.operation().policy().named_by.first()?;
        let value = self.json().to_json(View::Plain);
        let value = value.get(rules::camel_case(field))?.as_str()?;
        Some(match value.split(':').nth(5) {
            Some(tail) => tail.split('/').nth(1).unwrap_or(tail).to_owned(),
            None => value.to_owned(),
        })
    }

    /// Checks the model's constraints; the error lists all violations.
    pub fn validate(&self) -> Result<()> {
        Check::of(self.rules())
    }

    /// Whether the same call may be sent again although the first may have been applied.
    pub fn repeatable(&self) -> bool {
        match self.operation().policy().idempotency {
            Idempotency::None => false,
            // Without a token a repeat is another call.
            Idempotency::ClientToken => self.client_token().is_some_and(|token| !token.is_empty()),
            _ => true,
        }
    }

    /// The request as AWS JSON, with what must not be logged.
    pub fn to_json(&self) -> Value {
        self.json().to_json(View::Plain)
    }

    /// The request as AWS JSON with sensitive fields blanked out: fit for a log.
    pub fn redacted(&self) -> Value {
        self.json().to_json(View::Redacted)
    }
}

impl Response {
    /// The response as AWS JSON.
    pub fn to_json(&self) -> Value {
        self.json().to_json(View::Plain)
    }
}

/// What waits look at, and what ends them.
pub mod waits {
    use super::Operation;

    /// See `proton.policy.v1.WaitPolicy`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct WaitPolicy {
        /// The rpc's name.
        pub name: &'static str,
        /// What is polled.
        pub operation: Operation,
        /// Path of the status in the response, in AWS's spelling.
        pub status: &'static [&'static str],
        /// Path of the id of the latest deployment; empty where there is none.
        pub deployment: &'static [&'static str],
        /// Between the polls of AWS's own waiter.
        pub delay_seconds: u32,
        pub acceptors: &'static [Acceptor],
    }

    /// A state that ends a wait; one of status and error is empty.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Acceptor {
        pub status: &'static str,
        pub error: &'static str,
        pub outcome: Outcome,
        pub success: bool,
    }

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Outcome {
        Succeeded,
        Failed,
        Cancelled,
        Deleted,
    }

    impl WaitPolicy {
        /// The policy of the rpc with this name.
        pub fn of(name: &str) -> Option<&'static Self> {
            WAITS.iter().find(|wait| wait.name == name)
        }

        /// The longest pause between two polls of `operation`, in seconds: AWS's own waiters pause
        /// no longer. Absent where no wait polls it.
        pub fn longest_pause_seconds(operation: Operation) -> Option<u32> {
            let polling = WAITS.iter().filter(|wait| wait.operation == operation);
            polling.map(|wait| wait.delay_seconds).min()
        }

        /// What a status means for the wait, if it ends it.
        pub fn acceptor_of_status(&self, status: &str) -> Option<&'static Acceptor> {
            self.acceptors
                .iter()
                .find(|acceptor| !status.is_empty() && acceptor.status == status)
        }

        /// What an exception of the poll means for the wait, if it ends it.
        pub fn acceptor_of_error(&self, exception: &str) -> Option<&'static Acceptor> {
            self.acceptors
                .iter()
                .find(|acceptor| acceptor.error == exception)
        }
    }

    include!(concat!(env!("OUT_DIR"), "/waits.rs"));
}

include!(concat!(env!("OUT_DIR"), "/calls.rs"));

mod generated_json {
    use super::json::{At, Fields, FromJson, Named, Names, Object, ToJson, View};
    use super::json::{list_from_json, list_json, redacted};
    use super::pb;
    use crate::error::Result;
    use serde_json::Value;

    include!(concat!(env!("OUT_DIR"), "/json.rs"));
}

mod generated_rules {
    use super::pb;
    use super::rules::{Check, Format, Rule, Rules};

    pub(super) fn formats() -> impl Iterator<Item = &'static Format> {
        FORMATS.iter()
    }

    include!(concat!(env!("OUT_DIR"), "/rules.rs"));
}

/// The forwarders to AWS's SDK and the conversions of its types.
pub mod sdk {
    // AWS marks the whole SDK as deprecated since Proton closed to new customers.
    #![allow(deprecated)]
    // A member is a `T` or an `Option<T>`, and the generator does not know which.
    #![allow(clippy::useless_conversion)]

    use super::{Request, Response, pb};
    use crate::backend::aws::convert::{
        Answer, Complete, Failure, FromSdk, Send, ToSdk, answer, from_list, from_message, given,
        list, message, messages, name, names, number, numbers, text, time,
    };
    use crate::error::Result;
    use aws_sdk_proton::{Client, config, operation, types};
    use aws_smithy_types::error::operation::BuildError;

    include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
}
