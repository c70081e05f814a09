//! The contract as plain data, read from the descriptors and checked.

use heck::{ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind as Wire,
    MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
};

/// The package whose messages become the gateway's types.
pub const PACKAGE: &str = "proton.v1";
const SERVICE: &str = "proton.v1.ProtonService";
const OPTIONS: &str = "proton.policy.v1";

/// A fault of the contract itself.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ContractError {
    place: String,
    problem: String,
}

/// All that the generators need to know.
#[derive(Debug)]
pub struct Contract {
    pub operations: Vec<Operation>,
    pub messages: Vec<Message>,
    pub enums: Vec<Enum>,
    pub formats: Vec<Format>,
}

/// One rpc.
#[derive(Debug)]
pub struct Operation {
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
    /// Both sides have a paging token.
    pub paginated: bool,
    /// The request has a client token.
    pub client_token: bool,
    pub request: String,
    pub response: String,
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
        let operations = service
            .methods()
            .map(|method| operation(pool, &method))
            .collect::<Result<Vec<_>, _>>()?;
        let mut messages = pool
            .all_messages()
            .filter(|message| message.package_name() == PACKAGE && !message.is_map_entry())
            .map(|message| read_message(pool, &message))
            .collect::<Result<Vec<_>, _>>()?;
        mark_reach(&mut messages, &operations);
        let enums = pool
            .all_enums()
            .filter(|item| item.package_name() == PACKAGE)
            .map(|item| read_enum(pool, &item))
            .collect::<Result<Vec<_>, _>>()?;
        let resources: Vec<_> = operations.iter().map(|o| o.resource.as_str()).collect();
        for operation in &operations {
            for touched in &operation.touches {
                if !resources.contains(&touched.as_str()) {
                    return Err(fault(
                        &operation.name,
                        &format!("touches `{touched}`, which no operation addresses"),
                    ));
                }
            }
        }
        Ok(Self {
            formats: read_formats(pool)?,
            operations,
            messages,
            enums,
        })
    }
}

fn fault(place: &str, problem: &str) -> ContractError {
    ContractError {
        place: place.to_owned(),
        problem: problem.to_owned(),
    }
}

/// File and line of an rpc, as an editor understands it.
fn place(method: &MethodDescriptor) -> String {
    let file = method.parent_file();
    let line = file
        .file_descriptor_proto()
        .source_code_info
        .as_ref()
        .and_then(|info| info.location.iter().find(|l| l.path == method.path()))
        .and_then(|location| location.span.first())
        .map_or(0, |line| line + 1);
    format!("{}:{line}: rpc {}", file.name(), method.name())
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

fn option(pool: &DescriptorPool, options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = pool.get_extension_by_name(&format!("{OPTIONS}.{name}"))?;
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

fn get(message: &DynamicMessage, field: &str) -> Value {
    message
        .get_field_by_name(field)
        .map_or(Value::Bool(false), |value| value.into_owned())
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value
        .as_list()
        .unwrap_or_default()
        .iter()
        .map(text)
        .collect()
}

/// The name of an enum-valued option without its prefix, in Rust's spelling.
fn choice(pool: &DescriptorPool, message: &DynamicMessage, field: &str, kind: &str) -> String {
    let number = get(message, field).as_enum_number().unwrap_or_default();
    pool.get_enum_by_name(&format!("{OPTIONS}.{kind}"))
        .and_then(|item| item.get_value(number))
        .map(|value| {
            let prefix = kind.to_snake_case().to_uppercase();
            value
                .name()
                .trim_start_matches(&format!("{prefix}_"))
                .to_upper_camel_case()
        })
        .unwrap_or_default()
}

fn operation(pool: &DescriptorPool, method: &MethodDescriptor) -> Result<Operation, ContractError> {
    let place = place(method);
    let options = method.options();
    let Some(Value::Message(policy)) = option(pool, &options, "operation") else {
        return Err(fault(
            &place,
            "the option proton.policy.v1.operation is missing",
        ));
    };
    let level = match options
        .get_field_by_name("idempotency_level")
        .and_then(|level| level.as_enum_number())
    {
        Some(1) => "NoSideEffects",
        Some(2) => "Idempotent",
        _ => "Unknown",
    };
    let request = method.input();
    let has = |name: &str| request.get_field_by_name(name).is_some();
    let operation = Operation {
        name: method.name().to_owned(),
        method: method.name().to_snake_case(),
        summary: summary(method),
        level: level.to_owned(),
        resource: text(&get(&policy, "resource")),
        named_by: texts(&get(&policy, "named_by")),
        cache: choice(pool, &policy, "cache", "CacheClass"),
        touches: texts(&get(&policy, "touches")),
        idempotency: choice(pool, &policy, "idempotency", "IdempotencyClass"),
        paginated: has("next_token") && method.output().get_field_by_name("next_token").is_some(),
        client_token: has("client_token"),
        request: request.name().to_owned(),
        response: method.output().name().to_owned(),
    };
    check(&operation, &request, &place)?;
    Ok(operation)
}

/// Refuses options that are missing or contradict each other.
fn check(
    operation: &Operation,
    request: &MessageDescriptor,
    place: &str,
) -> Result<(), ContractError> {
    let expect =
        |holds: bool, problem: &str| holds.then_some(()).ok_or_else(|| fault(place, problem));
    let read = operation.idempotency == "Read";
    expect(!operation.resource.is_empty(), "`resource` is missing")?;
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
        operation.client_token == (operation.idempotency == "ClientToken"),
        "the class is CLIENT_TOKEN exactly where the request has a client_token",
    )?;
    for name in &operation.named_by {
        expect(
            request.get_field_by_name(name).is_some(),
            &format!("`named_by` names `{name}`, which the request does not have"),
        )?;
    }
    expect(
        operation.request == format!("{}Request", operation.name)
            && operation.response == format!("{}Response", operation.name),
        "request and response are not named after the rpc",
    )
}

fn read_message(
    pool: &DescriptorPool,
    message: &MessageDescriptor,
) -> Result<Message, ContractError> {
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
        .map(|field| read_field(pool, &field))
        .collect::<Result<Vec<_>, _>>()?;
    if presence_list && !matches!(fields.as_slice(), [only] if only.presence == Presence::List) {
        return Err(fault(
            message.full_name(),
            "a presence_list has exactly one repeated field",
        ));
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

fn read_field(pool: &DescriptorPool, field: &FieldDescriptor) -> Result<Field, ContractError> {
    let kind = match field.kind() {
        Wire::String => Kind::String,
        Wire::Int32 => Kind::Number,
        Wire::Bool => Kind::Bool,
        Wire::Enum(item) => Kind::Enum(item.name().to_owned()),
        Wire::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            Kind::Timestamp
        }
        Wire::Message(message) if message.package_name() == PACKAGE => {
            Kind::Message(message.name().to_owned())
        }
        other => {
            return Err(fault(
                field.full_name(),
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
    if matches!(kind, Kind::Number | Kind::Bool) && presence == Presence::Implicit {
        return Err(fault(
            field.full_name(),
            "a number or a boolean must be `optional`: 0 and absent are different",
        ));
    }
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
    Ok(Field {
        name: match field.name() {
            "type" => "r#type".to_owned(),
            name => name.to_owned(),
        },
        wire: field.json_name().to_owned(),
        kind,
        presence,
        required: rules
            .as_ref()
            .is_some_and(|rules| get(rules, "required").as_bool().unwrap_or_default()),
        format: rules
            .as_ref()
            .and_then(|rules| get(rules, "format").as_enum_number())
            .and_then(|number| usize::try_from(number).ok())
            .unwrap_or_default(),
        min_items: u64::from(number("min_items")),
        max_items: u64::from(number("max_items")),
        sensitive: field
            .options()
            .get_field_by_name("debug_redact")
            .and_then(|value| value.as_bool())
            .unwrap_or_default(),
    })
}

fn read_enum(pool: &DescriptorPool, item: &EnumDescriptor) -> Result<Enum, ContractError> {
    let camel = matches!(
        option(pool, &item.options(), "camel_case_wire"),
        Some(Value::Bool(true))
    );
    let prefix = format!("{}_", item.name().to_snake_case().to_uppercase());
    let values = item
        .values()
        .filter(|value| value.number() != 0)
        .map(|value| {
            let name = value.name().strip_prefix(&prefix).ok_or_else(|| {
                fault(
                    value.full_name(),
                    "the value is not prefixed with its enum's name",
                )
            })?;
            let name = if camel {
                heck::ToLowerCamelCase::to_lower_camel_case(name)
            } else {
                name.to_owned()
            };
            Ok((value.number(), name))
        })
        .collect::<Result<_, _>>()?;
    Ok(Enum {
        name: item.name().to_owned(),
        values,
    })
}

fn read_formats(pool: &DescriptorPool) -> Result<Vec<Format>, ContractError> {
    let name = format!("{OPTIONS}.Format");
    let item = pool
        .get_enum_by_name(&name)
        .ok_or_else(|| fault(&name, "the enum is missing"))?;
    item.values()
        .enumerate()
        .map(|(index, value)| {
            if usize::try_from(value.number()) != Ok(index) {
                return Err(fault(value.name(), "formats are numbered without gaps"));
            }
            let constraint = match option(pool, &value.options(), "constraint") {
                Some(Value::Message(constraint)) => constraint,
                None if index == 0 => {
                    return Ok(Format {
                        name: "Unspecified".to_owned(),
                        min_length: 0,
                        max_length: None,
                        pattern: String::new(),
                        minimum: None,
                        maximum: None,
                    });
                }
                _ => return Err(fault(value.name(), "the option constraint is missing")),
            };
            let present = |field: &str| {
                constraint
                    .descriptor()
                    .get_field_by_name(field)
                    .filter(|field| constraint.has_field(field))
                    .map(|field| constraint.get_field(&field).into_owned())
            };
            Ok(Format {
                name: value
                    .name()
                    .trim_start_matches("FORMAT_")
                    .to_upper_camel_case(),
                min_length: get(&constraint, "min_length").as_u32().map_or(0, u64::from),
                max_length: present("max_length")
                    .and_then(|v| v.as_u32())
                    .map(u64::from),
                pattern: text(&get(&constraint, "pattern")),
                minimum: present("minimum").and_then(|v| v.as_i64()),
                maximum: present("maximum").and_then(|v| v.as_i64()),
            })
        })
        .collect()
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
