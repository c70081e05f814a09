//! The key in a request's metadata.

use std::sync::Arc;

use http::HeaderMap;

use crate::error::{Error, Result};

/// The metadata, and the header of the AWS door, by which a caller names a call.
pub const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// The metadata, and the header of the AWS door, that says that an outcome is that of an earlier call.
pub const REPLAYED: &str = "idempotency-replayed";
/// The longest key.
const MAX_KEY: usize = 255;

/// By what a caller names its call, if it does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Key {
    #[default]
    Absent,
    Given(Arc<str>),
    /// It was given, and cannot be used.
    Malformed,
}

impl Key {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(IDEMPOTENCY_KEY).iter();
        let Some(value) = given.next() else {
            return Self::Absent;
        };
        let visible = |key: &&str| key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        let key = value.to_str().ok().filter(visible);
        match key.filter(|key| (1..=MAX_KEY).contains(&key.len())) {
            Some(key) if given.next().is_none() => Self::Given(key.into()),
            _ => Self::Malformed,
        }
    }

    /// The key, if it is given.
    pub fn given(&self) -> Result<Option<&Arc<str>>> {
        match self {
            Self::Absent => Ok(None),
            Self::Given(key) => Ok(Some(key)),
            Self::Malformed => Err(Error::invalid_field(
                IDEMPOTENCY_KEY,
                format!("must be given once, with 1 to {MAX_KEY} printable ASCII characters"),
            )),
        }
    }
}

/// The gateway keeps no keys.
pub fn unkept() -> Error {
    Error::invalid_field(
        IDEMPOTENCY_KEY,
        "this gateway keeps no keys; its operator has to enable [idempotency] and give it a --state-dir",
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn key(values: &[&'static str]) -> Key {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(value));
        }
        Key::of(&headers)
    }

    #[test]
    fn a_key_is_one_text_of_printable_characters() {
        assert_eq!(key(&[]), Key::Absent);
        assert_eq!(key(&["deploy 17"]), Key::Given("deploy 17".into()));
        let long: &'static str = Box::leak("k".repeat(MAX_KEY + 1).into_boxed_str());
        for wrong in [&[""][..], &["a", "b"], &["a", "a"], &["a\tb"], &[long]] {
            let error = key(wrong).given().unwrap_err();
            assert!(error.message.contains(IDEMPOTENCY_KEY), "{error}");
        }
    }
}
