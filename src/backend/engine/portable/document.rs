//! Records and messages as JSON for people, and back: names of the API, times in RFC 3339.
//!
//! Reading never stops at the first problem, and takes nothing that it does not understand.

use prost_types::Timestamp;
use serde_json::{Map, Value};

use super::problem::Place;
use crate::api::json::{At, FromJson, Names, ToJson, View, name_of, number_of};
use crate::api::rules::{Check, Format, Rules};

/// What is said of a time that cannot be.
pub const IMPOSSIBLE: &str = "must be a time between the years 1970 and 9999";

/// Whether a time can be sorted and written: in the years 1970 to 9999.
pub fn is_possible(time: &Timestamp) -> bool {
    (0..253_402_300_800).contains(&time.seconds)
}

/// Something that is written as one JSON value.
pub trait Document: Default {
    fn write(&self) -> Value;
    /// Problems are noted; what could not be read is as if it were absent.
    fn read(value: Value, place: &Place<'_>) -> Self;
}

/// A field of a record. One that is empty is left out.
pub trait Field: Default {
    fn write(&self) -> Option<Value>;
    fn read(value: Option<Value>, place: &Place<'_>) -> Self;
}

impl Field for String {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.as_str().into())
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        Option::<Self>::read(value, place).unwrap_or_default()
    }
}

impl Field for Option<String> {
    fn write(&self) -> Option<Value> {
        self.as_deref().map(Value::from)
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => absent(place, "must be a text"),
        }
    }
}

impl Field for bool {
    fn write(&self) -> Option<Value> {
        self.then_some(Value::Bool(true))
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        match value {
            None | Some(Value::Null) => false,
            Some(Value::Bool(flag)) => flag,
            Some(_) => absent(place, "must be true or false"),
        }
    }
}

impl Field for u64 {
    fn write(&self) -> Option<Value> {
        Some((*self).into())
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        match value.as_ref().map(Value::as_u64) {
            Some(Some(number)) if number <= u64::from(u32::MAX) => number,
            Some(Some(_)) => absent(place, "is more than 4294967295"),
            Some(None) => absent(place, "must be a whole number"),
            None => absent(place, "is missing"),
        }
    }
}

impl Field for Option<Timestamp> {
    fn write(&self) -> Option<Value> {
        self.map(|time| time.to_string().into())
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        match value {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => match text.parse() {
                Ok(time) if is_possible(&time) => Some(time),
                Ok(_) => absent(place, IMPOSSIBLE),
                Err(_) => absent(place, "must be a time like 2026-01-31T08:30:00Z"),
            },
            Some(_) => absent(place, "must be a time like 2026-01-31T08:30:00Z"),
        }
    }
}

impl<D: Document> Field for Option<D> {
    fn write(&self) -> Option<Value> {
        self.as_ref().map(D::write)
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        match value {
            None | Some(Value::Null) => None,
            Some(value) => Some(D::read(value, place)),
        }
    }
}

impl<D: Document> Field for Vec<D> {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(D::write).collect())
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        elements(value, place, D::read)
    }
}

impl Field for Vec<String> {
    fn write(&self) -> Option<Value> {
        (!self.is_empty()).then(|| self.iter().map(|text| Value::from(text.as_str())).collect())
    }

    fn read(value: Option<Value>, place: &Place<'_>) -> Self {
        elements(value, place, |value, place| Field::read(Some(value), place))
    }
}

fn elements<T>(
    value: Option<Value>,
    place: &Place<'_>,
    read: impl Fn(Value, &Place<'_>) -> T,
) -> Vec<T> {
    match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| read(item, &place.element(index)))
            .collect(),
        Some(_) => absent(place, "must be a list"),
    }
}

fn absent<T: Default>(place: &Place<'_>, problem: &str) -> T {
    place.wrong(problem);
    T::default()
}

/// A field that may be a text.
pub trait Text {
    fn text(&self) -> Option<&str>;
}

impl Text for String {
    fn text(&self) -> Option<&str> {
        Some(self.as_str()).filter(|text| !text.is_empty())
    }
}

impl Text for Option<String> {
    fn text(&self) -> Option<&str> {
        self.as_deref()
    }
}

/// Notes where a text is none of the contract's `format`.
pub fn formed(field: &impl Text, format: &str, place: &Place<'_>) {
    let format = Format::of(format);
    debug_assert!(format.is_some(), "the contract has no such format");
    if let Some((format, text)) = format.zip(field.text()) {
        place.violated(format.violations(text));
    }
}

/// Numbers that stand for names of the enum `E`.
pub trait Numbers: Default {
    fn write<E: Names>(&self) -> Option<Value>;
    fn read<E: Names>(value: Option<Value>, place: &Place<'_>) -> Self;
}

impl Numbers for i32 {
    fn write<E: Names>(&self) -> Option<Value> {
        name_of::<E>(*self).map(Value::from)
    }

    fn read<E: Names>(value: Option<Value>, place: &Place<'_>) -> Self {
        match value {
            None | Some(Value::Null) => 0,
            Some(Value::String(name)) if E::NAMES.iter().any(|(_, known)| *known == name) => {
                number_of::<E>(&name)
            }
            Some(_) => {
                let names: Vec<_> = E::NAMES.iter().map(|(_, name)| *name).collect();
                absent(place, &format!("must be one of {}", names.join(", ")))
            }
        }
    }
}

impl Numbers for Vec<i32> {
    fn write<E: Names>(&self) -> Option<Value> {
        let names: Vec<Value> = self.iter().filter_map(Numbers::write::<E>).collect();
        (!names.is_empty()).then(|| names.into())
    }

    fn read<E: Names>(value: Option<Value>, place: &Place<'_>) -> Self {
        elements(value, place, |value, place| {
            Numbers::read::<E>(Some(value), place)
        })
    }
}

/// The members of an object; problems are noted.
pub fn members(value: Value, place: &Place<'_>) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => absent(place, "must be an object"),
    }
}

/// Notes the members that nobody has taken.
pub fn nothing_left(members: &Map<String, Value>, place: &Place<'_>) {
    for name in members.keys() {
        place.member(name).wrong("is not known here");
    }
}

/// Writes a record as one object, and reads it back: `[Enum]` is one of the enum's names, `as "Format"`
/// a text in that format of the contract. Names that stand in files are never changed once released.
macro_rules! document {
    ($record:ty { $($field:ident $key:literal $([$names:ty])? $(as $format:literal)?),* $(,)? }) => {
        impl $crate::backend::engine::portable::document::Document for $record {
            fn write(&self) -> serde_json::Value {
                let mut members = serde_json::Map::new();
                $(
                    if let Some(value) = document!(@write self.$field $(, $names)?) {
                        members.insert($key.to_owned(), value);
                    }
                )*
                members.into()
            }

            #[allow(clippy::field_reassign_with_default)]
            fn read(
                value: serde_json::Value,
                place: &$crate::backend::engine::portable::problem::Place<'_>,
            ) -> Self {
                let mut members =
                    $crate::backend::engine::portable::document::members(value, place);
                let mut record = Self::default();
                $(
                    record.$field = document!(
                        @read members.shift_remove($key), &place.member($key) $(, $names)?
                    );
                    $($crate::backend::engine::portable::document::formed(
                        &record.$field, $format, &place.member($key),
                    );)?
                )*
                $crate::backend::engine::portable::document::nothing_left(&members, place);
                record
            }
        }
    };
    (@write $field:expr) => {
        $crate::backend::engine::portable::document::Field::write(&$field)
    };
    (@write $field:expr, $names:ty) => {
        $crate::backend::engine::portable::document::Numbers::write::<$names>(&$field)
    };
    (@read $value:expr, $place:expr) => {
        $crate::backend::engine::portable::document::Field::read($value, $place)
    };
    (@read $value:expr, $place:expr, $names:ty) => {
        $crate::backend::engine::portable::document::Numbers::read::<$names>($value, $place)
    };
}
pub(super) use document;

/// Writes a message of the contract by its own codec.
pub fn write_message(message: &impl ToJson) -> Value {
    message.to_json(View::Plain)
}

/// Reads a message of the contract; notes each member that is wrong, and each that it does not have.
pub fn read_message<M: FromJson + ToJson + Default>(value: Value, place: &Place<'_>) -> M {
    let members = members(value, place);
    let mut good = Map::new();
    for (name, value) in members {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        match M::from_json(alone.into(), &At::root()) {
            Ok(message) => {
                compare(
                    &value,
                    message.to_json(View::Plain).get(&name),
                    &place.member(&name),
                );
                good.insert(name, value);
            }
            // The text names the member.
            Err(error) => place.wrong(error.message),
        }
    }
    M::from_json(good.into(), &At::root()).unwrap_or_default()
}

/// Notes what of a value was not understood: it is not there when it is written again.
fn compare(given: &Value, written: Option<&Value>, place: &Place<'_>) {
    match (given, written) {
        (Value::Null, _) => {}
        (Value::Array(given), None) if given.is_empty() => {}
        (Value::String(given), None) if given.is_empty() => {}
        (Value::Object(given), Some(Value::Object(written))) => {
            for (name, value) in given {
                compare(value, written.get(name), &place.member(name));
            }
        }
        (Value::Array(given), Some(Value::Array(written))) if given.len() == written.len() => {
            for (index, (given, written)) in given.iter().zip(written).enumerate() {
                compare(given, Some(written), &place.element(index));
            }
        }
        (Value::String(given), Some(Value::String(written))) if given == written => {}
        (Value::Number(given), Some(Value::Number(written)))
            if given.as_f64() == written.as_f64() => {}
        (Value::Bool(given), Some(Value::Bool(written))) if given == written => {}
        (Value::String(_), None) => place.wrong("is not known here, or not one of its values"),
        _ => place.wrong("is not known here"),
    }
}

/// Reads a message of which the contract's rules hold, as it came with a request.
pub fn read_checked<M>(value: Value, place: &Place<'_>) -> M
where
    M: FromJson + ToJson + Rules + Default,
{
    let message: M = read_message(value, place);
    let mut violations = Check::values(&message);
    // Made of names, which may have letters that the model has in no ARN; and a request can have
    // longer roles than the model shows.
    violations.retain(|violation| !["arn", "role_arn"].contains(&violation.field.as_str()));
    place.violated(violations);
    message
}

/// Messages as documents, read by `read_message` or `read_checked`.
macro_rules! messages {
    ($read:ident $($message:ty),* $(,)?) => {$(
        impl $crate::backend::engine::portable::document::Document for $message {
            fn write(&self) -> serde_json::Value {
                $crate::backend::engine::portable::document::write_message(self)
            }

            fn read(
                value: serde_json::Value,
                place: &$crate::backend::engine::portable::problem::Place<'_>,
            ) -> Self {
                $crate::backend::engine::portable::document::$read(value, place)
            }
        }
    )*};
}
pub(super) use messages;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::pb;
    use crate::backend::engine::environment::EnvironmentRecord;
    use crate::backend::engine::portable::Problems;
    use crate::backend::engine::provision::Rollout;

    fn read<D: Document>(value: Value) -> (D, Vec<String>) {
        let problems = Problems::default();
        let read = D::read(value, &Place::whole("f", &problems));
        let (found, _) = problems.finish();
        (read, found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_record_comes_back_with_its_times_to_the_nanosecond() {
        let time = |nanos| {
            Some(Timestamp {
                seconds: 1_700_000_000,
                nanos,
            })
        };
        let record = EnvironmentRecord {
            name: "prod".to_owned(),
            created_at: time(123_456_789),
            template: "bus".to_owned(),
            description: Some(String::new()),
            current: Some(pb::EnvironmentState {
                spec: Some("a: \"b\"\n".to_owned()),
                template_name: Some("bus".to_owned()),
                ..pb::EnvironmentState::default()
            }),
            rollout: Some(Rollout {
                status: pb::DeploymentStatus::Failed.into(),
                attempted_at: time(0),
                ..Rollout::default()
            }),
            modified: true,
            ..EnvironmentRecord::default()
        };
        let (back, problems) = read::<EnvironmentRecord>(record.write());
        assert_eq!(back, record);
        assert_eq!(problems, [""; 0]);
    }

    #[test]
    fn reading_goes_on_after_each_problem() {
        let (_, problems) = read::<EnvironmentRecord>(json!({
            "name": 7,
            "createdAt": "soon",
            "colour": "red",
            "current": {"spec": [], "templatName": "bus"},
            "deployment": {"status": "FINE", "outputs": [{"key": "a"}, {"key": 1}]},
            "modified": "yes",
        }));
        let expected = [
            "f: colour: is not known here",
            "f: createdAt: must be a time like 2026-01-31T08:30:00Z",
            "f: current: spec must be a string",
            "f: current.templatName: is not known here, or not one of its values",
            "f: deployment.outputs[1]: key must be a string",
            "f: deployment.status: must be one of ",
            "f: modified: must be true or false",
            "f: name: must be a text",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:#?}");
        for (problem, expected) in problems.iter().zip(expected) {
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
