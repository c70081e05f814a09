//! Who calls: principals, how callers prove that they are one, and what they may do.

mod authenticator;
mod certificate;
#[cfg(test)]
mod fixtures;
pub mod jwt;
mod key_sets;
pub mod policy;
pub mod sigv4;
mod sources;
pub mod template;
pub mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

pub use self::authenticator::{Authenticator, Background, Identified};
use crate::error::{Error, ErrorKind};

/// The longest id of a principal.
const MAX_ID: usize = 512;

/// Whether a text can be a principal's id, by whatever method: one line that reads as it is written
/// in logs, in the audit and in policies.
pub fn is_id(text: &str) -> bool {
    (1..=MAX_ID).contains(&text.len()) && !text.contains(misleads)
}

/// Controls, ends of lines, and what changes the direction of text.
fn misleads(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A caller, as far as the gateway knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Unique among all callers: what policies, limits and the audit know it by.
    pub id: String,
    pub method: Method,
    /// Names of the roles that it was given, built in or of the platform's own.
    pub roles: BTreeSet<String>,
    /// What it is confined to, whatever its roles allow: `read`, `write`, `wait`, or names of rpcs.
    /// Empty: to nothing.
    pub scopes: BTreeSet<String>,
    /// What else is known of it, for policies and for session tags.
    pub attributes: BTreeMap<String, String>,
    /// When it has to prove again who it is.
    pub expires: Option<SystemTime>,
}

/// How a caller proved who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// Not at all: no authentication is configured.
    Anonymous,
    Certificate,
    Jwt,
    Token,
    /// An AWS access key, by SigV4.
    AccessKey,
    /// The gateway asks for itself: a poller.
    Gateway,
}

impl Method {
    /// How the method is called in logs, metrics, policies and the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Certificate => "certificate",
            Self::Jwt => "jwt",
            Self::Token => "token",
            Self::AccessKey => "access-key",
            Self::Gateway => "gateway",
        }
    }
}

static ANONYMOUS: LazyLock<Arc<Principal>> =
    LazyLock::new(|| Arc::new(Principal::unproved("anonymous", Method::Anonymous)));
static GATEWAY: LazyLock<Arc<Principal>> =
    LazyLock::new(|| Arc::new(Principal::unproved("gateway", Method::Gateway)));

impl Principal {
    fn unproved(id: &str, method: Method) -> Self {
        Self {
            id: id.to_owned(),
            method,
            roles: BTreeSet::new(),
            scopes: BTreeSet::new(),
            attributes: BTreeMap::new(),
            expires: None,
        }
    }

    /// The caller where no authentication is configured.
    pub fn anonymous() -> Arc<Self> {
        Arc::clone(&ANONYMOUS)
    }

    /// The gateway itself, whose polls answer callers that were authorized before.
    pub fn gateway() -> Arc<Self> {
        Arc::clone(&GATEWAY)
    }
}

/// A caller that is not known; `exception` is what AWS calls the reason.
fn unauthenticated(exception: &'static str, text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unauthenticated { exception }, text)
}

fn unrecognized(text: impl Into<String>) -> Error {
    unauthenticated("UnrecognizedClientException", text)
}

fn expired(text: impl Into<String>) -> Error {
    unauthenticated("ExpiredTokenException", text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_line_that_reads_as_it_is_written() {
        let long = "a".repeat(MAX_ID + 1);
        for text in [
            "a",
            "spiffe://a/b",
            "subject:CN=Jörg, O=ßß",
            "名前",
            &long[1..],
        ] {
            assert!(is_id(text), "{text:?}");
        }
        for text in [
            "",
            "a\nb",
            "a\0",
            "a\u{7f}",
            "a\u{85}",
            "a\u{2028}b",
            "a\u{2029}",
            "a\u{202e}b",
            "a\u{2066}",
            "a\u{200f}",
            "a\u{61c}",
            &long,
        ] {
            assert!(!is_id(text), "{text:?}");
        }
    }
}
