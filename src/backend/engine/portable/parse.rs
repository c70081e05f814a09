//! Bytes as text, and text as JSON, as shells and editors write them.
//!
//! PowerShell's `>` writes UTF-16, some editors put a mark at the beginning. What JSON leaves open is
//! not left open here: a member that is given twice is a problem, not the last one.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::Place;

/// What editors put at the beginning of a text.
const MARK: char = '\u{feff}';

/// The bytes as text. UTF-16 is known by its mark; a mark of UTF-8 stays, as it may be meant.
pub fn text(bytes: Vec<u8>) -> Result<String, &'static str> {
    let (order, rest): (fn([u8; 2]) -> u16, _) = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => (u16::from_le_bytes, rest),
        [0xfe, 0xff, rest @ ..] => (u16::from_be_bytes, rest),
        _ => return String::from_utf8(bytes).map_err(|_| "is not UTF-8"),
    };
    let (pairs, []) = rest.as_chunks() else {
        return Err("is not UTF-16: its last letter is cut off");
    };
    let letters = char::decode_utf16(pairs.iter().copied().map(order));
    letters
        .collect::<Result<_, _>>()
        .map_err(|_| "is not UTF-16")
}

/// The text as JSON; what is wrong with it is noted.
pub fn json(text: &str, place: &Place<'_>) -> Option<Value> {
    let text = text.strip_prefix(MARK).unwrap_or(text);
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Once(place).deserialize(&mut reader);
    match value.and_then(|value| reader.end().map(|()| value)) {
        Ok(value) => Some(value),
        Err(error) => {
            place.wrong(format!("is no JSON: {error}"));
            None
        }
    }
}

/// Reads a value of which each member is given once.
struct Once<'p, 'a>(&'p Place<'a>);

impl<'de> DeserializeSeed<'de> for Once<'_, '_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once<'_, '_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(Once(&self.0.element(read.len())))? {
            read.push(item);
        }
        Ok(read.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let place = self.0.member(&name);
            let value = members.next_value_seed(Once(&place))?;
            if read.insert(name, value).is_some() {
                place.wrong("is given twice; keep one of them");
            }
        }
        Ok(read.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::problem::Problems;
    use super::*;

    fn read(text: &str) -> (Option<Value>, Vec<String>) {
        let problems = Problems::default();
        let value = json(text, &Place::whole("f", &problems));
        let (found, _) = problems.finish();
        (value, found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn utf_16_is_read_in_both_orders_and_a_mark_is_no_json() {
        let expected = "{\"name\": \"Ä𝄞\"}";
        let marked = format!("{MARK}{expected}");
        let little: Vec<u8> = marked.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let big: Vec<u8> = marked.encode_utf16().flat_map(u16::to_be_bytes).collect();
        for bytes in [little, big, marked.into_bytes()] {
            let text = text(bytes).unwrap();
            assert_eq!(read(&text), (Some(json!({"name": "Ä𝄞"})), Vec::new()));
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (bytes, problem) in [
            (
                &b"\xff\xfe{\x00}"[..],
                "is not UTF-16: its last letter is cut off",
            ),
            (b"\xff\xfe\x00\xd8{\x00", "is not UTF-16"),
            (b"\xff{}", "is not UTF-8"),
        ] {
            assert_eq!(text(bytes.to_vec()), Err(problem));
        }
    }

    #[test]
    fn a_member_that_is_given_twice_is_named() {
        let (_, problems) = read(r#"{"a": [1, {"b": 1, "b": 1}], "c": {"a": 1}, "a": null}"#);
        assert_eq!(
            problems,
            [
                "f: a: is given twice; keep one of them",
                "f: a[1].b: is given twice; keep one of them"
            ]
        );
    }

    #[test]
    fn values_are_what_they_are_elsewhere() {
        let text = r#"{"a": [null, true, -1, 18446744073709551615, 1.5, "\u00e4"], "b": {}}"#;
        let expected: Value = serde_json::from_str(text).unwrap();
        assert_eq!(read(text), (Some(expected), Vec::new()));
    }

    #[test]
    fn what_is_nested_too_deeply_or_goes_on_after_its_end_is_no_json() {
        for text in [&"[".repeat(100_000), "{} {}", "", "{\"a\": 1e999}"] {
            let (value, problems) = read(text);
            assert_eq!(value, None);
            assert!(problems[0].starts_with("f: is no JSON: "), "{problems:?}");
        }
    }
}
