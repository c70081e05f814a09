//! The contract, written as lines in the form of `model.txt`.
//!
//! What differs from the model by design:
//! - `Request` and `Response` stand for the model's `Input` and `Output`;
//! - a list whose absence means something is wrapped in a message (`presence_list`);
//! - two constraints have shorter names; see [`RENAMED`].

use std::collections::HashSet;

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    MethodDescriptor, ReflectMessage, ServiceDescriptor, Value,
};
use proton_gateway::api::DESCRIPTORS;

const PACKAGE: &str = "proton.v1";

/// (name in the contract, name in the model)
const RENAMED: [(&str, &str); 2] = [
    (
        "NOTIFY_STATUS_MESSAGE",
        "NOTIFY_RESOURCE_DEPLOYMENT_STATUS_CHANGE_INPUT_STATUS_MESSAGE_STRING",
    ),
    ("OUTPUT_VALUE", "OUTPUT_VALUE_STRING"),
];

struct Contract {
    pool: DescriptorPool,
    service: ServiceDescriptor,
    /// Full names of the requests.
    requests: HashSet<String>,
    /// Full names of the responses.
    responses: HashSet<String>,
}

impl Contract {
    fn read() -> Self {
        let pool = DescriptorPool::decode(DESCRIPTORS).unwrap();
        let service = pool.get_service_by_name("proton.v1.ProtonService").unwrap();
        let names = |side: fn(&MethodDescriptor) -> MessageDescriptor| {
            let names = service.methods().map(|m| side(&m).full_name().to_owned());
            names.collect()
        };
        Self {
            requests: names(MethodDescriptor::input),
            responses: names(MethodDescriptor::output),
            pool,
            service,
        }
    }

    /// Messages that stand for a structure of the model.
    fn messages(&self) -> impl Iterator<Item = MessageDescriptor> + '_ {
        let reached = self.reached();
        let all = self.pool.all_messages();
        all.filter(move |m| reached.contains(m.full_name()) && !self.is_presence_list(m))
    }

    /// Full names of the messages that the operations use, at any depth.
    fn reached(&self) -> HashSet<String> {
        let mut todo: Vec<_> = self
            .service
            .methods()
            .flat_map(|method| [method.input(), method.output()])
            .collect();
        let mut reached = HashSet::new();
        while let Some(message) = todo.pop() {
            if message.package_name() == PACKAGE && reached.insert(message.full_name().to_owned()) {
                todo.extend(
                    message
                        .fields()
                        .filter_map(|f| f.kind().as_message().cloned()),
                );
            }
        }
        reached
    }

    fn option(&self, options: &DynamicMessage, name: &str) -> Option<Value> {
        let name = format!("proton.policy.v1.{name}");
        let extension = self.pool.get_extension_by_name(&name).unwrap();
        let present = options.has_extension(&extension);
        present.then(|| options.get_extension(&extension).into_owned())
    }

    fn flag(&self, options: &DynamicMessage, name: &str) -> bool {
        self.option(options, name) == Some(Value::Bool(true))
    }

    fn is_presence_list(&self, message: &MessageDescriptor) -> bool {
        self.flag(&message.options(), "presence_list")
    }

    /// The structure's name in the model.
    fn structure(&self, message: &MessageDescriptor) -> String {
        let name = message.name();
        let side = |suffix: &str, model: &str| {
            format!("{}{model}", name.strip_suffix(suffix).unwrap_or(name))
        };
        if self.requests.contains(message.full_name()) {
            side("Request", "Input")
        } else if self.responses.contains(message.full_name()) {
            side("Response", "Output")
        } else {
            name.to_owned()
        }
    }

    fn operation(&self, method: &MethodDescriptor) -> String {
        let policy = self.option(&method.options(), "operation").unwrap();
        let policy = policy.as_message().unwrap();
        format!(
            "operation {} {} {} {}",
            method.name(),
            self.structure(&method.input()),
            self.structure(&method.output()),
            choice(policy, "idempotency", "IDEMPOTENCY_CLASS_")
        )
    }

    fn pages(&self, method: &MethodDescriptor) -> Option<String> {
        let (input, output) = (method.input(), method.output());
        input.get_field_by_name("next_token")?;
        output.get_field_by_name("next_token")?;
        let mut results = output.fields().filter(FieldDescriptor::is_list);
        let result = results.next().unwrap();
        let limit = input.get_field_by_name("max_results");
        let limit = limit.map_or("-".to_owned(), |field| field.json_name().to_owned());
        Some(format!(
            "pages {} {} {limit}",
            method.name(),
            result.json_name()
        ))
    }

    fn member(&self, message: &MessageDescriptor, field: &FieldDescriptor) -> String {
        let structure = self.structure(message);
        let mut line = format!("member {structure}.{} ", field.json_name());
        line += &self.kind(field);
        let rules = self.rules(field);
        let number = |name: &str| rules.as_ref().map_or(0, |r| get(r, name).as_u32().unwrap());
        if self.required(field) {
            line += " required";
        }
        let options = field.options();
        if options.get_field_by_name("debug_redact").unwrap().as_bool() == Some(true) {
            line += " sensitive";
        }
        match (number("min_items"), number("max_items")) {
            (0, 0) => {}
            (least, 0) => line += &format!(" items={least}.."),
            (least, most) => line += &format!(" items={least}..{most}"),
        }
        if let Some(format) = self.format(field) {
            line += &format!(" shape={}", self.shape(&format));
        }
        line
    }

    fn kind(&self, field: &FieldDescriptor) -> String {
        let kind = match field.kind() {
            Kind::String => "string".to_owned(),
            Kind::Int32 => "integer".to_owned(),
            Kind::Bool => "boolean".to_owned(),
            Kind::Enum(item) => format!("enum:{}", item.name()),
            Kind::Message(m) if m.full_name() == "google.protobuf.Timestamp" => {
                "timestamp".to_owned()
            }
            Kind::Message(m) if self.is_presence_list(&m) => {
                return self.kind(&m.fields().next().unwrap());
            }
            Kind::Message(m) => format!("structure:{}", self.structure(&m)),
            other => panic!("the model has no {other:?}"),
        };
        if field.is_list() {
            format!("list:{kind}")
        } else {
            kind
        }
    }

    fn rules(&self, field: &FieldDescriptor) -> Option<DynamicMessage> {
        let rules = self.option(&field.options(), "rules")?;
        rules.as_message().cloned()
    }

    fn required(&self, field: &FieldDescriptor) -> bool {
        let rules = self.rules(field);
        rules.is_some_and(|rules| get(&rules, "required").as_bool().unwrap())
    }

    /// The name of the field's format without its prefix.
    fn format(&self, field: &FieldDescriptor) -> Option<String> {
        let format = choice(&self.rules(field)?, "format", "FORMAT_");
        (format != "UNSPECIFIED").then_some(format)
    }

    /// The model's spelling of a format: `S3Bucket` for `S3_BUCKET`.
    fn shape(&self, format: &str) -> String {
        let renamed = RENAMED.iter().find(|(ours, _)| *ours == format);
        let name = renamed.map_or(format, |(_, model)| model).replace('_', "");
        // Letter case is lost in the contract: take it from the model's list of constraints.
        let mut shapes = super::MODEL
            .lines()
            .filter_map(|line| line.strip_prefix("constraint ")?.split(' ').next());
        let shape = shapes.find(|shape| shape.to_uppercase() == name);
        shape.unwrap_or(&name).to_owned()
    }

    fn enumeration(&self, item: &EnumDescriptor) -> String {
        let camel = self.flag(&item.options(), "camel_case_wire");
        let mut line = format!("enum {}", item.name());
        let unspecified = item.get_value(0).unwrap();
        let prefix = unspecified.name().strip_suffix("UNSPECIFIED").unwrap();
        for value in item.values().filter(|value| value.number() != 0) {
            let name = value.name().strip_prefix(prefix).unwrap();
            line += " ";
            line += &if camel {
                camel_case(name)
            } else {
                name.to_owned()
            };
        }
        line
    }

    fn constraints(&self) -> Vec<String> {
        let formats = self.pool.get_enum_by_name("proton.policy.v1.Format");
        let formats = formats.unwrap();
        let values: Vec<_> = formats.values().filter(|v| v.number() != 0).collect();
        values
            .iter()
            .map(|value| {
                let constraint = self.option(&value.options(), "constraint").unwrap();
                let constraint = constraint.as_message().unwrap();
                let format = value.name().strip_prefix("FORMAT_").unwrap();
                let mut line = format!("constraint {}", self.shape(format));
                if constraint.has_field_by_name("max_length") {
                    let least = get(constraint, "min_length").as_u32().unwrap();
                    let most = get(constraint, "max_length").as_u32().unwrap();
                    line += &format!(" length={least}..{most}");
                }
                if constraint.has_field_by_name("maximum") {
                    let least = get(constraint, "minimum").as_i64().unwrap();
                    let most = get(constraint, "maximum").as_i64().unwrap();
                    line += &format!(" value={least}..{most}");
                }
                if constraint.has_field_by_name("pattern") {
                    line += &format!(" pattern={}", get(constraint, "pattern").as_str().unwrap());
                }
                line
            })
            .collect()
    }

    /// Whether the field's format refuses the empty string.
    fn refuses_empty(&self, field: &FieldDescriptor) -> bool {
        let Some(format) = self.format(field) else {
            return false;
        };
        let formats = self.pool.get_enum_by_name("proton.policy.v1.Format");
        let value = formats
            .unwrap()
            .get_value_by_name(&format!("FORMAT_{format}"));
        let constraint = self
            .option(&value.unwrap().options(), "constraint")
            .unwrap();
        let constraint = constraint.as_message().unwrap();
        let pattern = get(constraint, "pattern").as_str().unwrap().to_owned();
        get(constraint, "min_length").as_u32().unwrap() > 0
            || !regex::Regex::new(&pattern).unwrap().is_match("")
    }
}

/// All lines of the contract.
pub fn contract() -> Vec<String> {
    let contract = Contract::read();
    let mut lines = contract.constraints();
    for method in contract.service.methods() {
        lines.push(contract.operation(&method));
        lines.extend(contract.pages(&method));
    }
    for message in contract.messages() {
        let union = message.oneofs().any(|oneof| !oneof.is_synthetic());
        if union {
            lines.push(format!("union {}", contract.structure(&message)));
        }
        if message.fields().len() == 0 {
            lines.push(format!("empty {}", contract.structure(&message)));
        }
        lines.extend(message.fields().map(|f| contract.member(&message, &f)));
    }
    let mut enums: Vec<_> = contract
        .messages()
        .flat_map(|m| m.fields().collect::<Vec<_>>())
        .filter_map(|field| match field.kind() {
            Kind::Message(m) if contract.is_presence_list(&m) => m.fields().next(),
            _ => Some(field),
        })
        .filter_map(|field| field.kind().as_enum().cloned())
        .map(|item| contract.enumeration(&item))
        .collect();
    enums.sort();
    enums.dedup();
    lines.extend(enums);
    lines
}

/// The files that are compiled in, by the names that imports use.
pub fn files() -> HashSet<String> {
    let pool = Contract::read().pool;
    pool.files().map(|file| file.name().to_owned()).collect()
}

/// Strings whose empty value would pass for an absent one although the model tells them apart.
pub fn fields_that_confuse_empty_and_absent() -> Vec<String> {
    let contract = Contract::read();
    contract
        .messages()
        .flat_map(|m| m.fields().collect::<Vec<_>>())
        .filter(|field| matches!(field.kind(), Kind::String))
        .filter(|field| !field.is_list() && !field.supports_presence())
        .filter(|field| !contract.required(field) || !contract.refuses_empty(field))
        .map(|field| field.full_name().to_owned())
        .collect()
}

fn get(message: &DynamicMessage, field: &str) -> Value {
    message.get_field_by_name(field).unwrap().into_owned()
}

/// The name of an enum-valued option without its prefix.
fn choice(message: &DynamicMessage, field: &str, prefix: &str) -> String {
    let number = get(message, field).as_enum_number().unwrap();
    let field = message.descriptor().get_field_by_name(field).unwrap();
    let value = field.kind().as_enum().unwrap().get_value(number).unwrap();
    value.name().strip_prefix(prefix).unwrap().to_owned()
}

/// `deploymentStatus` for `DEPLOYMENT_STATUS`.
fn camel_case(name: &str) -> String {
    let mut out = String::new();
    for (index, word) in name.split('_').enumerate() {
        let word = word.to_lowercase();
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if index > 0 => out.extend(first.to_uppercase()),
            Some(first) => out.push(first),
            None => {}
        }
        out.push_str(letters.as_str());
    }
    out
}
