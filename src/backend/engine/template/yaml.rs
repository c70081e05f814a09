//! YAML text to and from JSON values.
//!
//! Responsible for reading text that nobody has vetted: size, depth, aliases and what aliases
//! expand to are bounded, and a key that is given twice is refused. What the values mean is the
//! business of the callers. Text that holds Jinja or CloudFormation tags is not for this module.
//!
//! Error messages name a place and a rule, at most a key. They never quote a value, which may be
//! sensitive.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The largest text that is read: Proton's quota for a schema or manifest file.
pub const MAX_BYTES: usize = 2 * 1024 * 1024;

/// How deep lists and maps may be nested.
pub const MAX_DEPTH: usize = 48;

/// How many scalars, lists and maps a document may hold, aliases expanded.
const MAX_NODES: usize = 100_000;

/// How many bytes of scalars and keys a document may hold, aliases expanded.
///
/// Nodes alone are no bound: an alias repeats a scalar of any length.
const MAX_EXPANDED_BYTES: usize = 2 * MAX_BYTES;

/// Why a text is not a YAML document that is accepted here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct YamlError {
    /// What is wrong, without the place.
    pub message: String,
    /// The line, counted from 1.
    pub line: Option<u64>,
    /// The column, counted from 1.
    pub column: Option<u64>,
}

impl fmt::Display for YamlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match (self.line, self.column) {
            (Some(line), Some(column)) => write!(f, " (line {line}, column {column})"),
            (Some(line), None) => write!(f, " (line {line})"),
            _ => Ok(()),
        }
    }
}

impl YamlError {
    fn nowhere(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            line: None,
            column: None,
        }
    }
}

/// Reads one YAML document. An empty one is `null`.
///
/// `yes` and `on` are strings, and so are `010` and `1_000`: an input such as an account number
/// must not change because of how it looks. Unknown tags are refused, as they would be lost.
pub fn parse(text: &str) -> Result<Value, YamlError> {
    if text.len() > MAX_BYTES {
        return Err(YamlError::nowhere(format!(
            "the text is {} bytes long; at most {MAX_BYTES} are allowed",
            text.len()
        )));
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: MAX_DEPTH,
            flow_nesting_limit: MAX_DEPTH,
            max_nodes: MAX_NODES,
            max_total_scalar_bytes: MAX_EXPANDED_BYTES,
            max_aliases: 1_000,
            max_anchors: 1_000,
            max_merge_keys: 1_000,
            max_documents: 2,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_NODES,
            max_replay_stack_depth: 16,
        },
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        emit_comments: false,
        with_snippet: false,
    };
    let spent = Spent::default();
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        Node {
            spent: &spent,
            depth: 0,
        }
        .deserialize(deserializer)
    })
    .map_err(|error| describe(&error))
}

/// Reads one YAML document from bytes, which must be UTF-8.
pub fn parse_bytes(bytes: &[u8]) -> Result<Value, YamlError> {
    parse(utf8(bytes)?)
}

/// The bytes as text, without a byte order mark.
pub fn utf8(bytes: &[u8]) -> Result<&str, YamlError> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(error) => {
            let valid = &bytes[..error.valid_up_to()];
            let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
            Err(YamlError {
                message: "the text is not UTF-8".to_owned(),
                line: Some(line as u64),
                column: None,
            })
        }
    }
}

/// Writes a value as a YAML document that [`parse`] reads back as the same value.
pub fn render(value: &Value) -> String {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
        .ok()
        .filter(|text| parse(text).is_ok_and(|read| read == *value))
        // JSON is YAML. It is uglier, but nothing has to be quoted or guessed.
        .unwrap_or_else(|| format!("{value:#}\n"))
}

/// Bytes that a value needs at least as text: no writing is shorter than its strings and keys.
pub fn least_bytes(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len().max(1),
        Value::Array(items) => items.iter().map(least_bytes).sum(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| key.len() + least_bytes(value))
            .sum(),
        _ => 1,
    }
}

fn describe(error: &serde_saphyr::Error) -> YamlError {
    let error = error.without_snippet();
    let place = error.location();
    let message = match error {
        // The library's own words for these two tell a programmer which option to set.
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!("the key `{key}` is given twice")
        }
        serde_saphyr::Error::MultipleDocuments { .. } => {
            "the text holds more than one YAML document".to_owned()
        }
        other => {
            let full = other.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // The library appends the place, which is kept apart here.
            let message = match place {
                Some(place) => full.replace(
                    &format!(" at line {}, column {}", place.line(), place.column()),
                    "",
                ),
                None => full,
            };
            message.lines().next().unwrap_or("invalid YAML").to_owned()
        }
    };
    YamlError {
        message,
        line: place.map(|place| place.line()),
        column: place.map(|place| place.column()),
    }
}

/// What a document has cost so far.
#[derive(Default)]
struct Spent {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Spent {
    fn add<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        self.nodes.set(self.nodes.get() + 1);
        self.bytes.set(self.bytes.get().saturating_add(bytes));
        if self.nodes.get() > MAX_NODES {
            return Err(E::custom(format_args!(
                "the document holds more than {MAX_NODES} values"
            )));
        }
        if self.bytes.get() > MAX_EXPANDED_BYTES {
            return Err(E::custom(format_args!(
                "the document expands to more than {MAX_EXPANDED_BYTES} bytes"
            )));
        }
        Ok(())
    }
}

/// One value of a document.
#[derive(Clone, Copy)]
struct Node<'a> {
    spent: &'a Spent,
    depth: usize,
}

impl Node<'_> {
    fn inner<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format_args!(
                "the document is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        Ok(Self {
            depth: self.depth + 1,
            ..self
        })
    }
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value that JSON can hold")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Value, E> {
        self.spent.add(0)?;
        Ok(Value::Null)
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Value, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Value, E> {
        self.spent.add(0)?;
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        self.spent.add(0)?;
        Ok(Value::from(value))
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        self.spent.add(0)?;
        Ok(Value::from(value))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        self.spent.add(0)?;
        // serde_json would turn these into null without a word.
        Number::from_f64(value).map(Value::Number).ok_or_else(|| {
            E::custom("`.inf` and `.nan` are not allowed; put the value in quotes to mean a string")
        })
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.spent.add(value.len())?;
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        self.spent.add(value.len())?;
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        self.spent.add(0)?;
        let inner = self.inner()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        self.spent.add(0)?;
        let inner = self.inner()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<Cow<'de, str>>()? {
            self.spent.add(key.len())?;
            let value = entries.next_value_seed(inner)?;
            if map.insert(key.into_owned(), value).is_some() {
                return Err(A::Error::custom("a key is given twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(text: &str) -> YamlError {
        parse(text).expect_err("the text is refused")
    }

    #[test]
    fn words_and_numbers_that_look_like_something_else_stay_strings() {
        let value =
            parse("a: yes\nb: on\nc: 010\nd: 1_000\ne: '5'\nf: No\ng: 2024-01-01\nh: 22:30");
        assert_eq!(
            value.expect("valid"),
            json!({"a": "yes", "b": "on", "c": "010", "d": "1_000", "e": "5", "f": "No",
                   "g": "2024-01-01", "h": "22:30"})
        );
    }

    #[test]
    fn plain_scalars_keep_their_types() {
        assert_eq!(
            parse("a: 80\nb: true\nc: 1.5\nd: ~\ne:\nf: -3\ng: 123456789012").expect("valid"),
            json!({"a": 80, "b": true, "c": 1.5, "d": null, "e": null, "f": -3,
                   "g": 123_456_789_012_u64})
        );
    }

    #[test]
    fn an_empty_text_is_null_and_json_is_yaml() {
        assert_eq!(parse("# nothing\n").expect("valid"), Value::Null);
        assert_eq!(
            parse(r#"{"a": [1, {"b": "c"}]}"#).expect("valid"),
            json!({"a": [1, {"b": "c"}]})
        );
        assert_eq!(
            parse_bytes(b"\xef\xbb\xbfa: 1").expect("valid"),
            json!({"a": 1})
        );
    }

    #[test]
    fn anchors_and_merge_keys_work() {
        let text = "base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\nlist: [*b]\n";
        assert_eq!(
            parse(text).expect("valid"),
            json!({"base": {"x": 1, "y": 2}, "other": {"y": 3, "x": 1}, "list": [{"x": 1, "y": 2}]})
        );
    }

    #[test]
    fn a_key_given_twice_is_refused_with_its_place() {
        let error = refused("a: 1\nb: 2\na: 3\n");
        assert_eq!(error.line, Some(3), "{error}");
        assert!(error.to_string().contains("line 3, column 1"), "{error}");
    }

    #[test]
    fn broken_text_is_refused_with_its_place() {
        let error = refused("a: 1\nb: [1, 2\nc: 3\n");
        assert!(error.line.is_some_and(|line| line >= 2), "{error}");
        assert!(error.column.is_some(), "{error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }

    #[test]
    fn an_error_never_quotes_a_value() {
        for text in [
            "a: [hunter2\n",
            "b: &a [*a]\n",
            "a: !!int hunter2\n",
            "a: \"\\qhunter2\"\n",
            "a: \"hunter2\n",
            "a: !x hunter2\n",
            "a: hunter2\n b: c\n",
            "a: .inf # hunter2",
        ] {
            let error = refused(text);
            assert!(!error.to_string().contains("hunter2"), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let list = vec![format!("*a{}", level - 1); 10].join(", ");
            text.push_str(&format!("a{level}: &a{level} [{list}]\n"));
        }
        refused(&text);
    }

    #[test]
    fn a_long_scalar_repeated_by_aliases_is_refused() {
        let long = "x".repeat(100_000);
        let text = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 90].join(", "));
        refused(&text);
    }

    #[test]
    fn deep_nesting_is_refused_in_flow_and_block_style() {
        refused(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
        refused(&"{a: ".repeat(5_000));
        refused(&"- ".repeat(100_000));
        let block: String = (0..500)
            .map(|level| format!("{}a:\n", " ".repeat(level)))
            .collect();
        refused(&block);
        let fine = MAX_DEPTH - 2;
        parse(&format!("{}{}", "[".repeat(fine), "]".repeat(fine))).expect("not too deep");
    }

    #[test]
    fn long_and_wide_texts_are_refused() {
        refused(&"#".repeat(MAX_BYTES + 1));
        refused(&"- 1\n".repeat(MAX_NODES + 1));
    }

    #[test]
    fn several_documents_unknown_tags_and_infinity_are_refused() {
        refused("a: 1\n---\nb: 2\n");
        refused("a: !Sub x\n");
        refused("a: .inf\n");
        refused("a: 1e999\n");
        refused("a: *nobody\n");
    }

    #[test]
    fn bytes_that_are_not_text_are_refused_with_their_line() {
        let error = parse_bytes(b"a: 1\nb: \xff\n").expect_err("refused");
        assert_eq!(error.line, Some(2));
    }

    #[test]
    fn what_is_rendered_reads_back_as_the_same_value() {
        let value = json!({
            "proton": "ServiceSpec",
            "strings": ["yes", "010", "1.10", "", " x ", "a: b", "# no", "line\nbreak\n", "~", "null",
                        "${Proton::CURRENT_VAL}", "é\u{1f600}", "\t", "- a", "*x", "'", "\"", "1e3",
                        "0x1f", "x".repeat(500), "\u{0}", "<<", "=", "1_0", ".inf", "2024-01-01"],
            "numbers": [0, -1, 1.5, 1.0, u64::MAX, i64::MIN, 1e300],
            "other": [true, null, {}, [], [[]], {"a": {"b": []}}],
            "odd keys": {"yes": 1, "010": 2, "": 3, "a b": 4, "<<": 5, "null": 6, "?": 7}
        });
        assert_eq!(parse(&render(&value)).expect("valid"), value);
    }

    #[test]
    fn mangled_texts_never_cause_a_panic() {
        let text = "a: &x {b: [1, 'two', \"th\\u0072ee\"], <<: {c: ~}}\nd: |\n  text\ne: *x\n? f\n: >-\n  g\n";
        for cut in 0..text.len() {
            let _ = parse(&text[..cut]);
            for byte in b"&*!|>[]{}:-?'\"%@`#,\t\n \\0" {
                let mut mangled = text.as_bytes().to_vec();
                mangled[cut] = *byte;
                let _ = parse_bytes(&mangled);
            }
        }
    }
}
