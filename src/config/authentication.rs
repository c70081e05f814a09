//! The section `[authentication]`: by which proofs callers are known, and what they are then.
//!
//! Secrets are not part of it: tokens stand here as hashes, secret keys in files of their own.

mod check;

pub(crate) use self::check::check_names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Span;

/// How callers prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Authentication {
    /// What is accepted, in this order: the first whose kind of credential is there decides.
    pub methods: Vec<Proof>,
    /// Whose client certificates are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Certificate>,
    /// Whose signed tokens are accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<Jwt>,
    /// Tokens of this configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<Token>,
    /// Keys with which AWS's clients sign.
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

/// Client certificates.
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
    /// An alternative name of a host; `*` at the end stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns: Option<String>,
    /// As `CN=build, O=Example`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Of `{uri}`, `{dns}` or `{subject}`, whichever was matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Roles of whoever holds such a certificate.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// Attributes of whoever holds such a certificate, for policies and session tags.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Tokens that somebody else issues.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Jwt {
    /// Who issues tokens.
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
    /// File with the issuer's keys; read again when it changes.
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
    /// With which a token may be signed.
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
    /// Name of the claim, or its path: `/realm_access/roles`.
    pub claim: String,
    /// What the claim has to be, or a list in it has to hold.
    pub value: String,
    /// What its bearers are given.
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
    /// What `proton-gateway token` prints: `sha256:` and 64 hexadecimal digits.
    pub hash: Hash,
    /// Roles of its bearer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// What its bearer is confined to, whatever its roles allow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    /// Attributes of its bearer, for policies and session tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
    /// When it stops to be good, such as `2027-12-31T00:00:00Z`; left out: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Moment>,
}

/// A key with which callers of the AWS door sign.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AccessKey {
    /// The id of the key.
    pub access_key_id: String,
    /// File with the secret key.
    pub secret_file: PathBuf,
    /// Of whoever signs with it.
    pub id: String,
    /// Roles of whoever signs with it.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub roles: BTreeSet<String>,
    /// What whoever signs with it is confined to, whatever the roles allow.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub scopes: BTreeSet<String>,
    /// Attributes of whoever signs with it, for policies and session tags.
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

#[cfg(test)]
mod tests;
