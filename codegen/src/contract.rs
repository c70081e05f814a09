//! The contract as plain data, read from the descriptors and checked.

mod fault;
mod fields;
mod messages;
mod operations;
mod options;
mod rpcs;
mod subjects;
mod values;
mod waits;

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::DescriptorPool;

pub use fault::ContractError;
use fault::fault;

/// The package whose messages become the gateway's types.
pub const PACKAGE: &str = "proton.v1";
const SERVICE: &str = "proton.v1.ProtonService";

/// All that the generators need to know.
#[derive(Debug)]
pub struct Contract {
    pub operations: Vec<Operation>,
    /// The messages that operations use, at any depth. Others of the package are prost's alone.
    pub messages: Vec<Message>,
    /// Names of messages that no operation uses and that have sensitive fields.
    pub opaque: Vec<String>,
    pub waits: Vec<Wait>,
    /// What callers can call, of all services.
    pub rpcs: Vec<Rpc>,
    pub enums: Vec<Enum>,
    pub formats: Vec<Format>,
}

/// One rpc.
#[derive(Debug)]
pub struct Operation {
    /// File, line and name, for errors.
    place: String,
    /// `CreateEnvironment`.
    pub name: String,
    /// `create_environment`.
    pub method: String,
    /// The first sentence of its comment.
    pub summary: String,
    /// `NoSideEffects`, `Idempotent` or `Unknown`.
    pub level: String,
    pub resource: String,
    pub named_by: Vec<String>,
    /// `State`.
    pub cache: String,
    pub touches: Vec<String>,
    /// `NaturalCreate`.
    pub idempotency: String,
    /// It ends work, and is never limited.
    pub relieves: bool,
    /// Where what it changes is seen.
    pub subject: Option<Subject>,
    /// Both sides have a paging token.
    pub paginated: bool,
    /// The request has a client token.
    pub client_token: bool,
    pub request: String,
    pub response: String,
}

/// How a read shows what a mutation changes.
#[derive(Debug)]
pub struct Subject {
    /// `GetService`.
    pub read: String,
    /// Path in the read's response: `["service", "pipeline"]`.
    pub path: Vec<String>,
    /// What names the resource in the read's request and in the mutation's.
    pub names: Vec<(String, String)>,
}

/// One message of the package.
#[derive(Debug)]
pub struct Message {
    pub name: String,
    pub fields: Vec<Field>,
    /// The name of the one oneof, where the message is a union.
    pub union: Option<String>,
    /// A wrapper of one list; see the option `presence_list`.
    pub presence_list: bool,
    /// A request contains it, at any depth.
    pub in_requests: bool,
    /// A response contains it, at any depth.
    pub in_responses: bool,
    /// The request or the response of an operation.
    pub top: bool,
}

#[derive(Debug)]
pub struct Field {
    /// `template_name`; escaped for Rust where it is a keyword.
    pub name: String,
    /// `templateName`.
    pub wire: String,
    pub kind: Kind,
    pub presence: Presence,
    pub required: bool,
    /// Index into the contract's formats; 0 means none.
    pub format: usize,
    pub min_items: u64,
    pub max_items: u64,
    pub sensitive: bool,
    /// Not for logs: it is sensitive, or whoever knows it can repeat another's call.
    pub unlogged: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    String,
    Number,
    Bool,
    Timestamp,
    Enum(String),
    Message(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// The zero value means absent.
    Implicit,
    /// An `Option`.
    Explicit,
    /// A `Vec`.
    List,
    /// One of the members of a union.
    Member,
}

#[derive(Debug)]
pub struct Enum {
    pub name: String,
    /// (number, name on AWS's wire), without the unspecified value.
    pub values: Vec<(i32, String)>,
}

/// What a caller can call.
#[derive(Debug)]
pub struct Rpc {
    /// `proton.v1.ProtonService`.
    pub service: String,
    /// `CreateEnvironment`.
    pub method: String,
    /// It changes nothing.
    pub reads: bool,
    /// It is a wait.
    pub waits: bool,
    /// Its request may name a principal.
    pub of_principals: bool,
}

/// A wait.
#[derive(Debug)]
pub struct Wait {
    pub name: String,
    pub operation: String,
    /// Path of the status in AWS's spelling.
    pub status: String,
    /// Path of the deployment's id; empty where there is none.
    pub deployment: String,
    pub outputs: String,
    pub delay_seconds: u32,
    pub acceptors: Vec<Accepted>,
}

/// A state that ends a wait.
#[derive(Debug)]
pub struct Accepted {
    pub status: String,
    pub error: String,
    /// `Succeeded`.
    pub outcome: String,
    pub success: bool,
}

/// A named constraint.
#[derive(Debug)]
pub struct Format {
    /// `ResourceName`.
    pub name: String,
    pub min_length: u64,
    pub max_length: Option<u64>,
    pub pattern: String,
    pub minimum: Option<i64>,
    pub maximum: Option<i64>,
}

impl Field {
    /// The name as the contract spells it.
    pub fn plain(&self) -> &str {
        self.name.trim_start_matches("r#")
    }

    /// The name of a union's member in Rust.
    pub fn variant(&self) -> String {
        self.plain().to_upper_camel_case()
    }
}

impl Message {
    /// The Rust path of a union's enum below the package's module.
    pub fn union_type(&self, member: &str) -> String {
        format!(
            "pb::{}::{}",
            self.name.to_snake_case(),
            member.to_upper_camel_case()
        )
    }
}

impl Contract {
    /// Reads and checks the contract.
    pub fn read(pool: &DescriptorPool) -> Result<Self, ContractError> {
        let service = pool
            .get_service_by_name(SERVICE)
            .ok_or_else(|| fault(SERVICE, "the service is missing"))?;
        let operations = operations::read(pool, &service)?;
        let formats = values::read_formats(pool)?;
        let messages = messages::read(pool, &service, &operations, &formats)?;
        let opaque = messages::opaque(pool, &service);
        let waits = waits::read(pool, &operations)?;
        let enums = pool
            .all_enums()
            .filter(|item| item.package_name() == PACKAGE)
            .map(|item| values::read_enum(pool, &item))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            operations,
            messages,
            opaque,
            waits,
            rpcs: rpcs::read(pool),
            enums,
            formats,
        })
    }
}
