//! The contract as plain data, read from the descriptors and checked.

use std::collections::HashSet;

use heck::{ToKebabCase, ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, FileDescriptor,
    Kind as Wire, MessageDescriptor, MethodDescriptor, ReflectMessage, Value,
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
    /// The messages that operations use, at any depth. Others of the package are prost's alone.
    pub messages: Vec<Message>,
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
        let operations = service
            .methods()
            .map(|method| operation(pool, &method))
            .collect::<Result<Vec<_>, _>>()?;
        let formats = read_formats(pool)?;
        let used = used(service.methods());
        let mut messages = Vec::new();
        for message in pool.all_messages() {
            if used.contains(message.full_name()) {
                messages.push(read_message(pool, &message, &formats)?);
            } else if message.package_name() == PACKAGE {
                refuse_secrets(&message)?;
            }
        }
        mark_reach(&mut messages, &operations);
        let enums = pool
            .all_enums()
            .filter(|item| item.package_name() == PACKAGE)
            .map(|item| read_enum(pool, &item))
            .collect::<Result<Vec<_>, _>>()?;
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
        Ok(Self {
            formats,
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

/// Where something stands, as an editor understands it.
fn place(file: &FileDescriptor, path: &[i32], what: &str) -> String {
    let line = file
        .file_descriptor_proto()
        .source_code_info
        .as_ref()
        .and_then(|info| info.location.iter().find(|l| l.path == path))
        .and_then(|location| location.span.first())
        .map_or(0, |line| line + 1);
    format!("{}:{line}: {what}", file.name())
}

fn place_of_method(method: &MethodDescriptor) -> String {
    let what = format!("rpc {}", method.name());
    place(&method.parent_file(), method.path(), &what)
}

fn place_of_message(message: &MessageDescriptor) -> String {
    let what = format!("message {}", message.name());
    place(&message.parent_file(), message.path(), &what)
}

fn place_of_field(field: &FieldDescriptor) -> String {
    let what = format!("field {}.{}", field.parent_message().name(), field.name());
    place(&field.parent_file(), field.path(), &what)
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
    let place = place_of_method(method);
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
        place,
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
        operation.client_token == (operation.idempotency == "ClientToken"),
        "the class is CLIENT_TOKEN exactly where the request has a client_token",
    )?;
    for name in &operation.named_by {
        let Some(field) = request.get_field_by_name(name) else {
            let problem = format!("`named_by` has `{name}`, which the request does not have");
            return expect(false, &problem);
        };
        expect(
            !field.is_list() && matches!(field.kind(), Wire::String | Wire::Enum(_)),
            &format!("`named_by` has `{name}`, which is neither a string nor an enum"),
        )?;
    }
    expect(
        operation.request == format!("{}Request", operation.name)
            && operation.response == format!("{}Response", operation.name),
        "request and response are not named after the rpc",
    )
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

/// A message for which no code of ours is generated has prost's `Debug`, which prints all fields.
fn refuse_secrets(message: &MessageDescriptor) -> Result<(), ContractError> {
    match message.fields().find(is_sensitive) {
        Some(field) => Err(fault(
            &place_of_field(&field),
            "a message that no operation uses cannot hide a sensitive field",
        )),
        None => Ok(()),
    }
}

fn is_sensitive(field: &FieldDescriptor) -> bool {
    field
        .options()
        .get_field_by_name("debug_redact")
        .and_then(|value| value.as_bool())
        .unwrap_or_default()
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

fn read_field(
    pool: &DescriptorPool,
    field: &FieldDescriptor,
    formats: &[Format],
) -> Result<Field, ContractError> {
    let kind = match field.kind() {
        Wire::String => Kind::String,
        Wire::Int32 => Kind::Number,
        Wire::Bool => Kind::Bool,
        Wire::Enum(item) => Kind::Enum(item.name().to_owned()),
        Wire::Message(message) if message.full_name() == "google.protobuf.Timestamp" => {
            Kind::Timestamp
        }
        Wire::Message(message) if message.package_name() == PACKAGE && !field.is_map() => {
            Kind::Message(message.name().to_owned())
        }
        other => {
            return Err(fault(
                &place_of_field(field),
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
    let read = Field {
        name: escape(field.name()),
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
        sensitive: is_sensitive(field),
    };
    match unsound(&read, formats) {
        Some(problem) => Err(fault(&place_of_field(field), problem)),
        None => Ok(read),
    }
}

/// What is wrong with a field's shape or rules, for which no code could be generated or whose
/// rules would be ignored.
fn unsound(field: &Field, formats: &[Format]) -> Option<&'static str> {
    let list = field.presence == Presence::List;
    let scalar = matches!(field.kind, Kind::Number | Kind::Bool);
    if scalar && field.presence == Presence::Implicit {
        return Some("a number or a boolean must be `optional`: 0 and absent are different");
    }
    if list && (scalar || field.kind == Kind::Timestamp) {
        return Some("the generator has no rule for a list of numbers, booleans or times");
    }
    if !list && (field.min_items > 0 || field.max_items > 0) {
        return Some("`min_items` and `max_items` are for lists");
    }
    if field.max_items > 0 && field.min_items > field.max_items {
        return Some("`min_items` is greater than `max_items`");
    }
    let Some(format) = formats.get(field.format) else {
        return Some("`format` is not known");
    };
    let numeric = format.minimum.is_some() || format.maximum.is_some();
    match field.kind {
        _ if field.format == 0 => None,
        Kind::String if numeric => Some("`format` constrains numbers, and this is a string"),
        Kind::Number if !numeric => Some("`format` constrains strings, and this is a number"),
        Kind::String | Kind::Number => None,
        _ => Some("`format` is for strings and numbers"),
    }
}

/// A field's name in Rust.
fn escape(name: &str) -> String {
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "do",
        "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in",
        "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv", "pub", "ref",
        "return", "static", "struct", "trait", "true", "try", "type", "typeof", "unsafe",
        "unsized", "use", "virtual", "where", "while", "yield",
    ];
    if KEYWORDS.contains(&name) {
        format!("r#{name}")
    } else {
        name.to_owned()
    }
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
                let what = format!("value {}", value.name());
                fault(
                    &place(&item.parent_file(), value.path(), &what),
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
