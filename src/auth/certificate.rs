//! Certificates that TLS has verified, and who their holders are.
//!
//! Whether a chain is to be trusted is for TLS to say. What is checked here again is the time: a
//! connection may outlive the certificate that opened it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::future::Cache;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Name;

use super::template::Template;
use super::{Method, Principal, expired, is_id, unrecognized};
use crate::config::authentication::CertificateRule;
use crate::error::Result;

/// Certificates that are remembered with their holders.
const MAX_REMEMBERED: u64 = 10_000;

/// The rules, and the certificates that were read already.
pub struct Certificates {
    rules: Vec<Rule>,
    remembered: Cache<[u8; 32], Known>,
}

#[derive(Clone)]
struct Known {
    begins: SystemTime,
    principal: Arc<Principal>,
}

struct Rule {
    kind: Kind,
    wanted: String,
    /// Whether anything may follow.
    open: bool,
    id: Template,
    given: CertificateRule,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Uri,
    Dns,
    Subject,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Uri => "uri",
            Self::Dns => "dns",
            Self::Subject => "subject",
        }
    }

    /// A URI is an id already; the others are told apart from those of other methods.
    fn id(self) -> &'static str {
        match self {
            Self::Uri => "{uri}",
            Self::Dns => "dns:{dns}",
            Self::Subject => "subject:{subject}",
        }
    }
}

impl Rule {
    fn new(given: &CertificateRule) -> std::result::Result<Self, String> {
        let (kind, pattern) = match (&given.uri, &given.dns, &given.subject) {
            (Some(uri), _, _) => (Kind::Uri, uri.clone()),
            (_, Some(dns), _) => (Kind::Dns, dns.to_ascii_lowercase()),
            (_, _, Some(subject)) => (Kind::Subject, subject.clone()),
            _ => return Err("a rule has one of uri, dns and subject".to_owned()),
        };
        let open = pattern.ends_with('*');
        Ok(Self {
            kind,
            wanted: pattern.trim_end_matches('*').to_owned(),
            open,
            id: Template::parse(given.id.as_deref().unwrap_or(kind.id()))?,
            given: given.clone(),
        })
    }

    fn matches<'a>(&self, names: &'a Names) -> Option<&'a str> {
        let names: &[String] = match self.kind {
            // By SPIFFE an identity has one, and with more it is nobody's.
            Kind::Uri if names.uris.len() == 1 => &names.uris,
            Kind::Uri => &[],
            Kind::Dns => &names.dns,
            Kind::Subject => std::slice::from_ref(&names.subject),
        };
        let name = names.iter().find(|name| {
            if self.open {
                name.starts_with(&self.wanted)
            } else {
                **name == self.wanted
            }
        });
        name.map(String::as_str)
    }
}

/// What a certificate calls its holder.
struct Names {
    uris: Vec<String>,
    dns: Vec<String>,
    subject: String,
}

impl Certificates {
    pub fn new(rules: &[CertificateRule]) -> std::result::Result<Self, String> {
        Ok(Self {
            rules: rules
                .iter()
                .map(Rule::new)
                .collect::<std::result::Result<_, _>>()?,
            remembered: Cache::new(MAX_REMEMBERED),
        })
    }

    /// Who holds the certificate `leaf`.
    pub async fn principal(
        &self,
        leaf: &CertificateDer<'_>,
        now: SystemTime,
    ) -> Result<Arc<Principal>> {
        let digest: [u8; 32] = Sha256::digest(leaf).into();
        let known = match self.remembered.get(&digest).await {
            Some(known) => known,
            None => {
                let known = self.read(leaf)?;
                self.remembered.insert(digest, known.clone()).await;
                known
            }
        };
        if now < known.begins {
            return Err(unrecognized("the certificate is not yet valid"));
        }
        if known.principal.expires.is_some_and(|at| at <= now) {
            return Err(expired("the certificate has expired"));
        }
        Ok(known.principal)
    }

    fn read(&self, leaf: &[u8]) -> Result<Known> {
        let malformed = || unrecognized("the certificate is malformed");
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| malformed())?;
        let names = names(&certificate).ok_or_else(malformed)?;
        if names.uris.iter().any(|uri| climbs(uri)) {
            return Err(unrecognized(
                "a URI of the certificate has the segment \".\" or \"..\": it could be taken for another",
            ));
        }
        let (rule, name) = self
            .rules
            .iter()
            .find_map(|rule| rule.matches(&names).map(|name| (rule, name)))
            .ok_or_else(|| {
                unrecognized("no rule matches the certificate: its holder is not known here")
            })?;
        let id = rule
            .id
            .fill(|placeholder| (placeholder == rule.kind.name()).then(|| name.to_owned()))
            .map_err(|_| malformed())?;
        if !is_id(&id) {
            return Err(unrecognized(
                "the name in the certificate is too long or has control characters",
            ));
        }
        let validity = certificate.validity();
        let principal = Principal {
            id,
            method: Method::Certificate,
            roles: rule.given.roles.clone(),
            scopes: BTreeSet::new(),
            attributes: rule.given.attributes.clone(),
            // The second that it names is its last one.
            expires: Some(time(validity.not_after.timestamp().saturating_add(1))),
        };
        Ok(Known {
            begins: time(validity.not_before.timestamp()),
            principal: Arc::new(principal),
        })
    }
}

/// Whether a URI has segments that lead to another place than it begins with, also encoded.
fn climbs(uri: &str) -> bool {
    let plain = uri
        .to_ascii_lowercase()
        .replace("%2e", ".")
        .replace("%2f", "/")
        .replace("%5c", "/");
    plain
        .split(['/', '\\', '?', '#'])
        .any(|segment| matches!(segment, "." | ".."))
}

fn time(seconds: i64) -> SystemTime {
    u64::try_from(seconds)
        .ok()
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
        .unwrap_or(UNIX_EPOCH)
}

fn names(certificate: &X509Certificate<'_>) -> Option<Names> {
    let mut names = Names {
        uris: Vec::new(),
        dns: Vec::new(),
        subject: subject(certificate.subject())?,
    };
    let alternative = certificate.subject_alternative_name().ok()?;
    for name in alternative
        .iter()
        .flat_map(|names| &names.value.general_names)
    {
        match name {
            GeneralName::URI(uri) => names.uris.push((*uri).to_owned()),
            GeneralName::DNSName(dns) => names.dns.push(dns.to_ascii_lowercase()),
            _ => {}
        }
    }
    Some(names)
}

/// `CN=build, O=Example`, in the order of the certificate. What could be taken for a separator is
/// escaped: no holder can write another's subject into its name.
fn subject(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for attribute in name.iter_attributes() {
        let kind = oid2abbrev(attribute.attr_type(), oid_registry())
            .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
        let mut text = format!("{kind}=");
        for character in attribute.as_str().ok()?.chars() {
            if matches!(character, ',' | '\\' | '+' | '=') {
                text.push('\\');
            }
            text.push(character);
        }
        parts.push(text);
    }
    Some(parts.join(", "))
}

#[cfg(test)]
mod tests;
