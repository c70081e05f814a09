//! The section `[authentication]`: by which proofs callers are known, and what they are then.
//!
//! Secrets are not part of it: tokens stand here as hashes, secret keys in files of their own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{ConfigError, Span, invalid, is_whole};
use crate::api::Rpc;
use crate::auth::template::Template;

/// Tokens are compared one by one.
const MAX_TOKENS: usize = 1000;
/// The longest name of a role, id or attribute.
const MAX_NAME: usize = 256;
const LONGEST_SKEW: Duration = Duration::from_secs(300);
const LONGEST_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
const REFRESHES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(24 * 3600)];

/// How callers prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Authentication {
    /// What is accepted, in this order: the first whose kind of credential is there decides.
    pub methods: Vec<Proof>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub access_keys: Vec<AccessKey>,
}

/// A way to prove who one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// A certificate that TLS has verified.
    Certificate,
    /// A signed token of an issuer.
    Jwt,
    /// A token of this configuration.
    Token,
    /// A signature by SigV4, on the AWS door.
    AccessKey,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Certificate {
    /// The first that matches decides.
    pub rules: Vec<CertificateRule>,
}

/// Whose certificates are accepted, and who their holders are. One of `uri`, `dns` and `subject`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct CertificateRule {
    /// An alternative name, such as a SPIFFE id; `*` at the end stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// As `CN=build, O=Example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of `{uri}`, `{dns}` or `{subject}`, whichever was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Jwt {
    pub issuers: Vec<Issuer>,
}

/// Whose tokens are accepted, and who their bearers are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Issuer {
    /// The claim `iss`, to the letter.
    pub issuer: String,
    /// A token must be for one of them.
    pub audiences: BTreeSet<String>,
    /// Where the issuer's keys are: here or in `jwks-file`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_file: Option<PathBuf>,
    /// Certificates that may stand behind `jwks-url`, instead of the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// What is shown to `jwks-url`; read anew each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// How often keys are fetched although nobody misses one.
    #[serde(default = "refresh")]
    pub refresh: Span,
    #[serde(default = "algorithms")]
    pub algorithms: BTreeSet<Algorithm>,
    /// How far the issuer's clock may be from ours.
    #[serde(default = "clock_skew")]
    pub clock_skew: Span,
    /// From a token's issue to its end.
    #[serde(default = "max_lifetime")]
    pub max_lifetime: Span,
    /// Of claims: `{iss}#{sub}`, or `{/kubernetes.io/namespace}` for one inside another.
    #[serde(default = "id")]
    pub id: String,
    /// What every bearer is given.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// What bearers with some claim are given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
    /// Attributes, and the claims that they come from.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Roles for the bearers of a claim that is `value`, or a list in which it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Grant {
    pub claim: String,
    pub value: String,
    pub roles: BTreeSet<String>,
}

/// How tokens may be signed. A shared secret is no choice: whoever checks could sign as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

/// A token that was made with `proton-gateway token new`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Token {
    /// Of its bearer. Two tokens may have the same, so that one can take over from the other.
    pub id: String,
    pub hash: Hash,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// What its bearer is confined to, whatever its roles allow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
}

/// A key with which callers of the AWS door sign.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessKey {
    pub access_key_id: String,
    /// File with the secret key.
    pub secret_file: PathBuf,
    /// Of whoever signs with it.
    pub id: String,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

fn refresh() -> Span {
    Span(Duration::from_secs(600))
}

fn algorithms() -> BTreeSet<Algorithm> {
    BTreeSet::from([Algorithm::RS256, Algorithm::ES256])
}

fn clock_skew() -> Span {
    Span(Duration::from_secs(30))
}

fn max_lifetime() -> Span {
    Span(Duration::from_secs(24 * 3600))
}

fn id() -> String {
    "{iss}#{sub}".to_owned()
}

/// What is left of a token here: `sha256:` and 64 digits.
///
/// Anything else is read as well, and refused later: TOML's errors show the line at fault, and what
/// stands there may be a token that was put in the place of its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(from = "String", into = "String")]
pub struct Hash(Option<[u8; 32]>);

impl Hash {
    pub fn of(token: &str) -> Self {
        Self(Some(Sha256::digest(token).into()))
    }

    /// Nothing if this is no hash.
    pub fn bytes(&self) -> Option<[u8; 32]> {
        self.0
    }
}

impl From<String> for Hash {
    fn from(text: String) -> Self {
        let mut hash = [0; 32];
        let read = text
            .strip_prefix("sha256:")
            .and_then(|digits| hex::decode_to_slice(digits, &mut hash).ok());
        Self(read.map(|()| hash))
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.0.map_or_else(
            || "no hash".to_owned(),
            |hash| format!("sha256:{}", hex::encode(hash)),
        )
    }
}

/// A time as `2027-01-31T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Moment(pub SystemTime);

impl TryFrom<String> for Moment {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        humantime::parse_rfc3339(&text)
            .map(Self)
            .map_err(|error| format!("{text:?} is no time like 2027-01-31T00:00:00Z: {error}"))
    }
}

impl From<Moment> for String {
    fn from(moment: Moment) -> Self {
        humantime::format_rfc3339(moment.0).to_string()
    }
}

impl Authentication {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let name = "authentication.methods";
        if self.methods.is_empty() {
            return Err(invalid(
                name,
                "name at least one of certificate, jwt, token and access-key, or leave the section out",
            ));
        }
        let named: BTreeSet<Proof> = self.methods.iter().copied().collect();
        if named.len() < self.methods.len() {
            return Err(invalid(name, "a method is named twice"));
        }
        let rules = self.certificate.as_ref().map(|given| given.rules.len());
        let issuers = self.jwt.as_ref().map(|given| given.issuers.len());
        for (proof, name, given) in [
            (
                Proof::Certificate,
                "authentication.certificate.rules",
                rules.unwrap_or(0),
            ),
            (
                Proof::Jwt,
                "authentication.jwt.issuers",
                issuers.unwrap_or(0),
            ),
            (Proof::Token, "authentication.tokens", self.tokens.len()),
            (
                Proof::AccessKey,
                "authentication.access-keys",
                self.access_keys.len(),
            ),
        ] {
            match (named.contains(&proof), given > 0) {
                (true, false) => {
                    return Err(invalid(name, "the method is named, so give at least one"));
                }
                (false, true) => {
                    return Err(invalid(
                        name,
                        "the method is not among authentication.methods, so this has no effect",
                    ));
                }
                _ => {}
            }
        }
        let mut rules = self.certificate.iter().flat_map(|given| &given.rules);
        rules.try_for_each(CertificateRule::check)?;
        self.check_issuers()?;
        self.check_tokens()?;
        self.check_access_keys()
    }

    fn check_issuers(&self) -> Result<(), ConfigError> {
        let mut seen = BTreeSet::new();
        for issuer in self.jwt.iter().flat_map(|given| &given.issuers) {
            if !seen.insert(&issuer.issuer) {
                return Err(invalid(
                    "authentication.jwt.issuers",
                    format!("the issuer {:?} is there twice", issuer.issuer),
                ));
            }
            issuer.check()?;
        }
        Ok(())
    }

    fn check_tokens(&self) -> Result<(), ConfigError> {
        let name = "authentication.tokens";
        if self.tokens.len() > MAX_TOKENS {
            return Err(invalid(name, format!("at most {MAX_TOKENS}")));
        }
        let mut seen = BTreeSet::new();
        for token in &self.tokens {
            if token.hash.bytes().is_none() {
                return Err(invalid(
                    name,
                    format!(
                        "the hash of {:?} is not `sha256:` and 64 hexadecimal digits; `proton-gateway token hash` makes it of a token",
                        token.id
                    ),
                ));
            }
            if !seen.insert(token.hash) {
                let problem = format!("the hash of {:?} is there twice", token.id);
                return Err(invalid(name, problem));
            }
            check_names(name, [&token.id])?;
            check_given(name, &token.roles, &token.attributes)?;
            check_scopes(name, &token.scopes)?;
        }
        Ok(())
    }

    fn check_access_keys(&self) -> Result<(), ConfigError> {
        let name = "authentication.access-keys";
        let mut seen = BTreeSet::new();
        for key in &self.access_keys {
            let id = &key.access_key_id;
            let sound = (4..=128).contains(&id.len())
                && id
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !sound {
                return Err(invalid(
                    name,
                    format!("the access key id {id:?} must have 4 to 128 letters, digits and _"),
                ));
            }
            if !seen.insert(id) {
                let problem = format!("the access key id {id:?} is there twice");
                return Err(invalid(name, problem));
            }
            check_names(name, [&key.id])?;
            check_given(name, &key.roles, &key.attributes)?;
            check_scopes(name, &key.scopes)?;
        }
        Ok(())
    }
}

impl CertificateRule {
    fn check(&self) -> Result<(), ConfigError> {
        let name = "authentication.certificate.rules";
        let (word, pattern) = match (&self.uri, &self.dns, &self.subject) {
            (Some(uri), None, None) => ("uri", uri),
            (None, Some(dns), None) => ("dns", dns),
            (None, None, Some(subject)) => ("subject", subject),
            _ => return Err(invalid(name, "a rule has one of uri, dns and subject")),
        };
        let before = pattern.strip_suffix('*').unwrap_or(pattern);
        if before.is_empty() || before.contains('*') {
            return Err(invalid(
                name,
                format!("{pattern:?} must be a name, with at most one * at its end"),
            ));
        }
        // spiffe://example* would be spiffe://example.elsewhere too.
        if before.len() < pattern.len()
            && let Some((_, rest)) = before.split_once("://")
            && !rest.contains('/')
        {
            return Err(invalid(
                name,
                format!("{pattern:?} leaves the trust domain open; end it with /*"),
            ));
        }
        if let Some(id) = &self.id {
            check_template(name, id, |placeholder| placeholder == word)?;
        }
        check_given(name, &self.roles, &self.attributes)
    }
}

impl Issuer {
    fn check(&self) -> Result<(), ConfigError> {
        let name = "authentication.jwt.issuers";
        check_names(name, [&self.issuer])?;
        if self.audiences.is_empty() {
            return Err(invalid(
                "authentication.jwt.issuers.audiences",
                "name at least one: a token that was made for somebody else must not open this door",
            ));
        }
        check_names("authentication.jwt.issuers.audiences", &self.audiences)?;
        if self.algorithms.is_empty() {
            return Err(invalid(
                "authentication.jwt.issuers.algorithms",
                "name at least one, or leave it out",
            ));
        }
        match (&self.jwks_url, &self.jwks_file) {
            (Some(url), None) => check_url(url)?,
            (None, Some(_)) if self.ca_file.is_some() || self.bearer_token_file.is_some() => {
                return Err(invalid(
                    "authentication.jwt.issuers.jwks-file",
                    "ca-file and bearer-token-file are for jwks-url",
                ));
            }
            (None, Some(_)) => {}
            _ => {
                return Err(invalid(
                    "authentication.jwt.issuers.jwks-url",
                    "give either jwks-url or jwks-file",
                ));
            }
        }
        let [least, most] = REFRESHES;
        if !(least..=most).contains(&self.refresh.0) {
            return Err(invalid(
                "authentication.jwt.issuers.refresh",
                "at least 30s and at most 1day",
            ));
        }
        if self.clock_skew.0 > LONGEST_SKEW {
            return Err(invalid(
                "authentication.jwt.issuers.clock-skew",
                "at most 5m",
            ));
        }
        if self.max_lifetime.0.is_zero() || self.max_lifetime.0 > LONGEST_LIFETIME {
            return Err(invalid(
                "authentication.jwt.issuers.max-lifetime",
                "more than 0 and at most 366days",
            ));
        }
        check_template("authentication.jwt.issuers.id", &self.id, |_| true)?;
        let granted = "authentication.jwt.issuers.grants";
        for grant in &self.grants {
            check_names(granted, [&grant.claim])?;
            check_names(granted, &grant.roles)?;
        }
        check_given(name, &self.roles, &self.attributes)
    }
}

fn check_url(url: &str) -> Result<(), ConfigError> {
    let name = "authentication.jwt.issuers.jwks-url";
    let parsed = url.parse::<http::Uri>().ok().filter(|_| is_whole(url));
    let Some(parsed) = parsed else {
        let problem = format!("{url:?} is no URL like https://issuer.example/jwks");
        return Err(invalid(name, problem));
    };
    let host = parsed.host().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let local = host == "localhost"
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if parsed.scheme_str() == Some("http") && !local {
        return Err(invalid(
            name,
            format!(
                "{url:?} must be https: whoever could change the keys on their way could be anybody"
            ),
        ));
    }
    Ok(())
}

fn check_template(
    name: &'static str,
    text: &str,
    known: impl Fn(&str) -> bool,
) -> Result<(), ConfigError> {
    let template = Template::parse(text).map_err(|problem| invalid(name, problem))?;
    match template
        .placeholders()
        .find(|placeholder| !known(placeholder))
    {
        Some(placeholder) => Err(invalid(
            name,
            format!("{{{placeholder}}} in {text:?} is not what the rule matches"),
        )),
        None => Ok(()),
    }
}

fn check_given(
    name: &'static str,
    roles: &BTreeSet<String>,
    attributes: &BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    check_names(name, roles)?;
    check_names(name, attributes.keys())?;
    check_names(name, attributes.values())
}

fn check_names<'a>(
    name: &'static str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    for given in names {
        if !(1..=MAX_NAME).contains(&given.len()) || given.contains(char::is_control) {
            return Err(invalid(
                name,
                format!("{given:?} must have 1 to {MAX_NAME} bytes and no control characters"),
            ));
        }
    }
    Ok(())
}

fn check_scopes(name: &'static str, scopes: &BTreeSet<String>) -> Result<(), ConfigError> {
    let known =
        |scope: &str| matches!(scope, "read" | "write" | "wait") || Rpc::of(scope).is_some();
    match scopes.iter().find(|scope| !known(scope)) {
        Some(scope) => Err(invalid(
            name,
            format!("the scope {scope:?} is neither read, write, wait nor the name of an rpc"),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
