//! Reading enums, and the enum of named constraints.

use heck::{ToLowerCamelCase, ToSnakeCase, ToUpperCamelCase};
use prost_reflect::{DescriptorPool, EnumDescriptor, ReflectMessage, Value};

use super::fault::{ContractError, fault, place};
use super::options::{self, get, option, text};
use super::{Enum, Format};

pub fn read_enum(pool: &DescriptorPool, item: &EnumDescriptor) -> Result<Enum, ContractError> {
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
                name.to_lower_camel_case()
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

pub fn read_formats(pool: &DescriptorPool) -> Result<Vec<Format>, ContractError> {
    let name = format!("{}.Format", options::PACKAGE);
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
