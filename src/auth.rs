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
