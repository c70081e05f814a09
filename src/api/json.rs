//! AWS JSON 1.0, as far as it concerns values: how messages become objects and back.
//!
//! Members that a message does not have are ignored, as AWS does; a member of the wrong type is
//! unreadable. Names of enum values that the contract does not know keep their identity as a
//! number outside of the contract's range, so that nothing mistakes them for a known one.

use std::collections::HashMap;
use std::fmt;
use std::marker::PhantomData;
use std::sync::{LazyLock, Mutex};

use prost_types::Timestamp;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What stands for a sensitive value where it must not be shown.
const BLANK: &str = "[REDACTED]";

/// How much of a value is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// All of it: for the caller.
    Plain,
    /// Without what the contract marks as sensitive: for logs.
    Redacted,
    /// The value itself is sensitive.
    Hidden,
}

impl View {
    /// The view of a sensitive field.
    pub fn hiding(self) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Redacted | Self::Hidden => Self::Hidden,
        }
    }
}

/// A message that can be written.
pub trait ToJson {
    fn to_json(&self, view: View) -> Value;
}

/// A message that can be read.
pub trait FromJson: Sized {
    fn from_json(value: Value, at: &At<'_>) -> Result<Self>;
}

/// A value of a field: `None` and JSON's `null` are absent.
pub trait FieldValue: Sized {
    fn to_field(&self, view: View) -> Option<Value>;
    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self>;
}

/// Where a value stands in a document.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    parent: Option<&'a At<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Root,
    Member(&'a str),
    Element(usize),
}

impl<'a> At<'a> {
    pub fn root() -> Self {
        Self {
            parent: None,
            step: Step::Root,
        }
    }

    fn member(&'a self, name: &'a str) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Member(name),
        }
    }

    fn element(&'a self, index: usize) -> At<'a> {
        At {
            parent: Some(self),
            step: Step::Element(index),
        }
    }

    fn expected<T>(&self, what: &str) -> Result<T> {
        Err(Error::unreadable(format!("{self} must be {what}")))
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.parent, self.step) {
            (Some(parent), Step::Member(name)) if matches!(parent.step, Step::Root) => {
                f.write_str(name)
            }
            (Some(parent), Step::Member(name)) => write!(f, "{parent}.{name}"),
            (Some(parent), Step::Element(index)) => write!(f, "{parent}[{index}]"),
            _ => f.write_str("the body"),
        }
    }
}

/// An object being written.
#[derive(Debug, Default)]
pub struct Object(Map<String, Value>);

impl Object {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn put(&mut self, name: &str, value: &impl FieldValue, view: View) {
        if let Some(value) = value.to_field(view) {
            let shown = match view {
                View::Hidden => Value::from(BLANK),
                View::Plain | View::Redacted => value,
            };
            self.0.insert(name.to_owned(), shown);
        }
    }

    pub fn member(&mut self, name: &str, value: &impl ToJson, view: View) {
        self.0.insert(name.to_owned(), value.to_json(view));
    }

    pub fn finish(self) -> Value {
        Value::Object(self.0)
    }
}

/// The members of an object being read.
#[derive(Debug)]
pub struct Fields<'a> {
    members: Map<String, Value>,
    at: &'a At<'a>,
}

impl<'a> Fields<'a> {
    pub fn of(value: Value, at: &'a At<'a>) -> Result<Self> {
        match value {
            Value::Object(members) => Ok(Self { members, at }),
            _ => at.expected("an object"),
        }
    }

    /// An object with at most one member that is not null.
    pub fn of_union(value: Value, at: &'a At<'a>) -> Result<Self> {
        let mut fields = Self::of(value, at)?;
        fields
            .members
            .retain(|name, value| !value.is_null() && name != "__type");
        if fields.members.len() > 1 {
            return at.expected("an object with exactly one member");
        }
        Ok(fields)
    }

    pub fn take<T: FieldValue>(&mut self, name: &str) -> Result<T> {
        let value = self.members.remove(name).filter(|value| !value.is_null());
        T::from_field(value, &self.at.member(name))
    }

    /// A list that has so many items at least, if it is there.
    pub fn take_list<T>(&mut self, name: &str, least: usize) -> Result<Vec<T>>
    where
        Vec<T>: FieldValue,
    {
        match self.members.get(name).and_then(Value::as_array) {
            Some(items) if items.len() < least => {
                let at = self.at.member(name).to_string();
                Err(super::rules::violated(vec![super::rules::too_few(
                    at, least,
                )]))
            }
            _ => self.take(name),
        }
    }

    /// A list that must be there, although it may be empty.
    pub fn require<T: FieldValue>(&mut self, name: &str) -> Result<T> {
        match self.members.get(name) {
            None | Some(Value::Null) => {
                let at = self.at.member(name).to_string();
                Err(super::rules::violated(vec![super::rules::missing(at)]))
            }
            Some(_) => self.take(name),
        }
    }

    pub fn no_member<T>(&self) -> Result<T> {
        match self.members.keys().next() {
            Some(unknown) => Err(Error::unreadable(format!(
                "{} has no member `{unknown}`",
                self.at
            ))),
            None => self.at.expected("an object with exactly one member"),
        }
    }
}

impl FieldValue for String {
    fn to_field(&self, _: View) -> Option<Value> {
        (!self.is_empty()).then(|| Value::from(self.as_str()))
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        Ok(Option::<String>::from_field(value, at)?.unwrap_or_default())
    }
}

impl FieldValue for Option<String> {
    fn to_field(&self, _: View) -> Option<Value> {
        self.as_deref().map(Value::from)
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        match value {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => at.expected("a string"),
        }
    }
}

impl FieldValue for Option<i32> {
    fn to_field(&self, _: View) -> Option<Value> {
        self.map(Value::from)
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        match value {
            None => Ok(None),
            Some(value) => match value.as_i64().map(i32::try_from) {
                Some(Ok(number)) => Ok(Some(number)),
                _ => at.expected("a whole number of 32 bits"),
            },
        }
    }
}

impl FieldValue for Option<bool> {
    fn to_field(&self, _: View) -> Option<Value> {
        self.map(Value::from)
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        match value {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(_) => at.expected("true or false"),
        }
    }
}

impl FieldValue for Option<Timestamp> {
    /// Seconds since the epoch, to the millisecond.
    fn to_field(&self, _: View) -> Option<Value> {
        self.map(|time| {
            #[allow(clippy::cast_precision_loss)]
            let seconds = time.seconds as f64 + f64::from(time.nanos / 1_000_000) / 1e3;
            Value::from(seconds)
        })
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        let Some(value) = value else { return Ok(None) };
        match value.as_f64() {
            Some(seconds) if seconds.abs() < 1e12 => {
                #[allow(clippy::cast_possible_truncation)]
                let (whole, nanos) = (
                    seconds.floor() as i64,
                    ((seconds - seconds.floor()) * 1e3).round() as i32 * 1_000_000,
                );
                let mut time = Timestamp {
                    seconds: whole,
                    nanos,
                };
                time.normalize();
                Ok(Some(time))
            }
            _ => at.expected("a time in seconds since the epoch"),
        }
    }
}

impl<M: ToJson + FromJson> FieldValue for Option<M> {
    fn to_field(&self, view: View) -> Option<Value> {
        self.as_ref().map(|message| message.to_json(view))
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        value.map(|value| M::from_json(value, at)).transpose()
    }
}

/// Empty lists of the contract are absent on the wire only where they were absent; AWS writes
/// empty lists, and so do we.
impl<M: ToJson + FromJson> FieldValue for Vec<M> {
    fn to_field(&self, view: View) -> Option<Value> {
        Some(self.iter().map(|message| message.to_json(view)).collect())
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        elements(value, at, M::from_json)
    }
}

impl FieldValue for Vec<String> {
    fn to_field(&self, _: View) -> Option<Value> {
        Some(self.iter().map(|text| Value::from(text.as_str())).collect())
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        elements(value, at, |value, at| match value {
            Value::String(text) => Ok(text),
            _ => at.expected("a string"),
        })
    }
}

fn elements<T>(
    value: Option<Value>,
    at: &At<'_>,
    read: impl Fn(Value, &At<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .into_iter()
            .enumerate()
            .map(|(index, item)| read(item, &at.element(index)))
            .collect(),
        Some(_) => at.expected("a list"),
    }
}

/// The names of an enum's values on AWS's wire.
pub trait Names {
    const NAMES: &'static [(i32, &'static str)];
}

/// A number of the enum `E`, or several.
#[derive(Debug)]
pub struct Named<E, T>(T, PhantomData<E>);

impl<E: Names, T: Clone> Named<E, T> {
    pub fn of(value: &T) -> Self {
        Self(value.clone(), PhantomData)
    }

    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<E: Names> FieldValue for Named<E, i32> {
    fn to_field(&self, _: View) -> Option<Value> {
        name_of::<E>(self.0).map(Value::from)
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        let number = match value {
            None => 0,
            Some(Value::String(name)) => number_of::<E>(&name),
            Some(_) => return at.expected("a string"),
        };
        Ok(Self(number, PhantomData))
    }
}

impl<E: Names> FieldValue for Named<E, Vec<i32>> {
    fn to_field(&self, view: View) -> Option<Value> {
        Some(list_json::<E>(&self.0, view))
    }

    fn from_field(value: Option<Value>, at: &At<'_>) -> Result<Self> {
        let value = value.unwrap_or_else(|| Value::Array(Vec::new()));
        Ok(Self(list_from_json::<E>(value, at)?, PhantomData))
    }
}

/// A list of enum values.
pub fn list_json<E: Names>(numbers: &[i32], _: View) -> Value {
    numbers
        .iter()
        .filter_map(|number| name_of::<E>(*number).map(Value::from))
        .collect()
}

/// Reads what [`list_json`] writes.
pub fn list_from_json<E: Names>(value: Value, at: &At<'_>) -> Result<Vec<i32>> {
    elements(Some(value), at, |value, at| match value {
        Value::String(name) => Ok(number_of::<E>(&name)),
        _ => at.expected("a string"),
    })
}

/// The lowest number that stands for a name which the contract does not know.
const UNKNOWN_BASE: i32 = 1 << 30;
/// The most unknown names that are remembered; upstreams have a handful.
const UNKNOWN_NAMES: usize = 1024;
/// The longest unknown name that is remembered.
const UNKNOWN_LENGTH: usize = 128;

static UNKNOWN: LazyLock<Mutex<HashMap<i32, &'static str>>> = LazyLock::new(Mutex::default);

/// The number of a name; one outside of the contract's range if the contract does not know it.
/// It is the same in every process.
pub fn number_of<E: Names>(name: &str) -> i32 {
    if let Some((number, _)) = E::NAMES.iter().find(|(_, known)| *known == name) {
        return *number;
    }
    let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
    });
    #[allow(clippy::cast_possible_wrap)]
    let low = (hash & 0x3fff_ffff) as i32;
    UNKNOWN_BASE | low
}

/// Like [`number_of`], for a name that an upstream sent: it can be written again.
pub fn number_of_upstream<E: Names>(name: &str) -> i32 {
    let number = number_of::<E>(name);
    if number >= UNKNOWN_BASE
        && name.len() <= UNKNOWN_LENGTH
        && let Ok(mut unknown) = UNKNOWN.lock()
        && unknown.len() < UNKNOWN_NAMES
    {
        // Leaked on purpose: bounded by the two limits above.
        unknown
            .entry(number)
            .or_insert_with(|| Box::leak(name.to_owned().into_boxed_str()));
    }
    number
}

/// The name of a number; none for 0, which is absent.
pub fn name_of<E: Names>(number: i32) -> Option<&'static str> {
    match E::NAMES.iter().find(|(known, _)| *known == number) {
        Some((_, name)) => Some(name),
        None => UNKNOWN.lock().ok()?.get(&number).copied(),
    }
}

/// `Debug` of every message: its JSON without what is sensitive.
pub fn redacted(message: &dyn ToJson, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{}", message.to_json(View::Redacted))
}
