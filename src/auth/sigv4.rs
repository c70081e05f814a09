//! Requests that are signed with an access key, as AWS's SDKs sign them (AWS Signature Version 4).
//!
//! Only signatures in the header `authorization` are read, none in the query. A request can be
//! repeated as it is within [`WINDOW`]: as with AWS itself, TLS is what keeps it from being seen.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac;
use http::HeaderMap;
use http::request::Parts;
use sha2::{Digest, Sha256};

use super::{Method, Principal, unauthenticated, unrecognized};
use crate::config::authentication::AccessKey;
use crate::error::{Error, Result};
use crate::upstream::UPSTREAM;

/// How far the time of a request may be from ours.
pub const WINDOW: Duration = Duration::from_secs(300);
/// How the header of a signed request begins.
pub const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SERVICE: &str = "proton";
/// What must be signed. Who could change the target could have another operation done.
const REQUIRED: [&str; 3] = ["host", "x-amz-date", "x-amz-target"];
const MAX_SIGNED_HEADERS: usize = 64;
/// AWS's own have forty characters.
const SECRET_LENGTHS: std::ops::RangeInclusive<usize> = 16..=1024;

/// All access keys.
pub struct AccessKeys {
    given: Vec<AccessKey>,
    keys: ArcSwap<HashMap<String, Arc<Key>>>,
}

struct Key {
    secret: Secret,
    principal: Arc<Principal>,
}

struct Secret(String);

/// A request whose headers may be right; its body decides.
pub struct Signed {
    key: Arc<Key>,
    /// All of the canonical request but the hash of the body.
    canonical: String,
    date: String,
    scope: Scope,
    signature: Vec<u8>,
}

struct Scope {
    day: String,
    region: String,
}

impl AccessKeys {
    /// Reads the secrets from their files.
    pub fn new(given: &[AccessKey]) -> std::result::Result<Self, String> {
        let (keys, problems) = read(given);
        match problems.into_iter().next() {
            Some((_, problem)) => Err(problem),
            None => Ok(Self {
                given: given.to_vec(),
                keys: ArcSwap::from_pointee(keys),
            }),
        }
    }

    pub fn files(&self) -> Vec<PathBuf> {
        self.given
            .iter()
            .map(|key| key.secret_file.clone())
            .collect()
    }

    /// Reads the secrets again. What is not in its file any more is good no more: whoever takes a
    /// secret away means that.
    pub fn reload(&self) {
        let (keys, problems) = read(&self.given);
        for (access_key_id, problem) in &problems {
            tracing::error!(
                access_key_id,
                problem,
                "an access key is refused until its secret can be read"
            );
        }
        tracing::info!(
            keys = keys.len(),
            "the secrets of the access keys were read again"
        );
        self.keys.store(Arc::new(keys));
    }

    /// Reads what a request says of its signature.
    pub fn begin(&self, request: &Parts, authorization: &str, now: SystemTime) -> Result<Signed> {
        let given = Given::read(authorization)?;
        if request.uri.query().is_some() {
            return Err(incomplete("a signed request has no query"));
        }
        if request.headers.contains_key("x-amz-security-token") {
            return Err(unrecognized(
                "The security token included in the request is invalid: the access keys of this gateway have none.",
            ));
        }
        // Who could add it could have the operation done elsewhere.
        if request.headers.contains_key(UPSTREAM) {
            if !given.headers.contains(&UPSTREAM) {
                return Err(unsigned(UPSTREAM));
            }
            one(&request.headers, UPSTREAM)?;
        }
        let date = one(&request.headers, "x-amz-date")?;
        check_date(date, now)?;
        let keys = self.keys.load();
        let key = keys.get(given.key).ok_or_else(|| {
            unrecognized("The security token included in the request is invalid: the access key id is not known.")
        })?;
        if given.day != date.get(..8).unwrap_or_default() {
            return Err(mismatch(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
            ));
        }
        if given.service != SERVICE {
            return Err(mismatch(
                "Credential should be scoped to correct service: 'proton'.",
            ));
        }
        Ok(Signed {
            key: Arc::clone(key),
            canonical: canonical(request, &given.headers)?,
            date: date.to_owned(),
            scope: Scope {
                day: given.day.to_owned(),
                region: given.region.to_owned(),
            },
            signature: given.signature,
        })
    }
}

impl Signed {
    /// Who has signed the request with this body.
    pub fn prove(self, body: &[u8]) -> Result<Arc<Principal>> {
        let request = format!("{}{}", self.canonical, hex::encode(Sha256::digest(body)));
        let Scope { day, region } = &self.scope;
        let scope = format!("{day}/{region}/{SERVICE}/aws4_request");
        let text = format!(
            "{ALGORITHM}\n{}\n{scope}\n{}",
            self.date,
            hex::encode(Sha256::digest(request))
        );
        let first = hmac_key(format!("AWS4{}", self.key.secret.0).as_bytes());
        let key = [day, region, SERVICE, "aws4_request"]
            .iter()
            .fold(first, |key, part| {
                hmac_key(hmac::sign(&key, part.as_bytes()).as_ref())
            });
        // In constant time.
        hmac::verify(&key, text.as_bytes(), &self.signature).map_err(|_| {
            mismatch(
                "The request signature we calculated does not match the signature you provided. Check your secret access key and signing method.",
            )
        })?;
        Ok(Arc::clone(&self.key.principal))
    }
}

fn hmac_key(bytes: &[u8]) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, bytes)
}

/// What the header says.
struct Given<'a> {
    key: &'a str,
    day: &'a str,
    region: &'a str,
    service: &'a str,
    headers: Vec<&'a str>,
    signature: Vec<u8>,
}

impl<'a> Given<'a> {
    fn read(authorization: &'a str) -> Result<Self> {
        let rest = authorization
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("the algorithm must be AWS4-HMAC-SHA256"))?;
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for field in rest.split(',') {
            let place = match field.trim().split_once('=') {
                Some(("Credential", value)) => (&mut credential, value),
                Some(("SignedHeaders", value)) => (&mut headers, value),
                Some(("Signature", value)) => (&mut signature, value),
                _ => return Err(incomplete("Authorization header has an unknown parameter.")),
            };
            if place.0.replace(place.1).is_some() {
                return Err(incomplete("Authorization header has a parameter twice."));
            }
        }
        let missing =
            |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
        let credential: &str = credential.ok_or_else(|| missing("Credential"))?;
        let headers: &str = headers.ok_or_else(|| missing("SignedHeaders"))?;
        let signature: &str = signature.ok_or_else(|| missing("Signature"))?;
        let parts: Vec<&str> = credential.split('/').collect();
        let [key, day, region, service, "aws4_request"] = parts[..] else {
            return Err(incomplete(
                "Credential must have 5 slash-delimited elements, as KEY/DAY/REGION/proton/aws4_request.",
            ));
        };
        let headers: Vec<&str> = headers.split(';').collect();
        let sorted = headers.windows(2).all(|pair| pair[0] < pair[1]);
        let lower = |name: &&str| !name.is_empty() && !name.contains(char::is_uppercase);
        if !sorted || !headers.iter().all(lower) || headers.len() > MAX_SIGNED_HEADERS {
            return Err(incomplete(
                "SignedHeaders must be lower-case, sorted and each there once.",
            ));
        }
        if let Some(name) = REQUIRED.iter().find(|name| !headers.contains(name)) {
            return Err(unsigned(name));
        }
        let signature = hex::decode(signature)
            .map_err(|_| incomplete("Signature must be hexadecimal digits."))?;
        Ok(Self {
            key,
            day,
            region,
            service,
            headers,
            signature,
        })
    }
}

/// The only value of a header that the gateway goes by.
fn one<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (
        values.next().and_then(|value| value.to_str().ok()),
        values.next(),
    ) {
        (Some(value), None) => Ok(value),
        _ => Err(incomplete(format!(
            "Authorization header requires existence of one '{name}' header."
        ))),
    }
}

fn check_date(date: &str, now: SystemTime) -> Result<()> {
    let wrong = || incomplete("Date must be in ISO-8601 'basic format', as 20270131T120000Z.");
    let date = date.as_bytes();
    if date.len() != 16 || !date.is_ascii() {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| String::from_utf8_lossy(&date[from..to]).into_owned();
    let text = format!(
        "{}-{}-{}{}{}:{}:{}{}",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 9),
        part(9, 11),
        part(11, 13),
        part(13, 15),
        part(15, 16),
    );
    let at = humantime::parse_rfc3339(&text).map_err(|_| wrong())?;
    if now.duration_since(at).is_ok_and(|age| age > WINDOW) {
        return Err(mismatch(
            "Signature expired: the request is more than 5 minutes old; check the clock of its sender.",
        ));
    }
    if at.duration_since(now).is_ok_and(|ahead| ahead > WINDOW) {
        return Err(mismatch(
            "Signature not yet current: the request is more than 5 minutes ahead; check the clock of its sender.",
        ));
    }
    Ok(())
}

/// The canonical request up to the hash of the body. The door knows one path only.
fn canonical(request: &Parts, signed: &[&str]) -> Result<String> {
    one(&request.headers, "x-amz-target")?;
    let mut text = format!("{}\n{}\n\n", request.method, request.uri.path());
    for name in signed {
        let mut values: Vec<&str> = Vec::new();
        for value in request.headers.get_all(*name) {
            values.push(value.to_str().map_err(|_| {
                incomplete(format!("the header '{name}' is not of ASCII characters"))
            })?);
        }
        // HTTP/2 has it elsewhere.
        if *name == "host" && values.is_empty() {
            values.extend(request.uri.authority().map(http::uri::Authority::as_str));
        }
        if values.is_empty() || (*name == "host" && values.len() > 1) {
            return Err(incomplete(format!(
                "Authorization header requires existence of one '{name}' header."
            )));
        }
        let values: Vec<String> = values.into_iter().map(trimmed).collect();
        text += &format!("{name}:{}\n", values.join(","));
    }
    text += &format!("\n{}\n", signed.join(";"));
    Ok(text)
}

/// Without spaces round it, and with one where there are several.
fn trimmed(value: &str) -> String {
    let words: Vec<&str> = value.split(' ').filter(|word| !word.is_empty()).collect();
    words.join(" ")
}

type Keys = HashMap<String, Arc<Key>>;

/// The keys whose secrets can be read, and what is wrong with the others, by the ids of the keys.
fn read(given: &[AccessKey]) -> (Keys, Vec<(&str, String)>) {
    let secrets = secrets(given);
    let owners = owners(&secrets);
    let (mut keys, mut problems) = (Keys::new(), Vec::new());
    for (key, secret) in secrets {
        match secret.and_then(|secret| alone(secret, &owners)) {
            Ok(secret) => {
                let principal = Arc::new(Principal {
                    id: key.id.clone(),
                    method: Method::AccessKey,
                    roles: key.roles.clone(),
                    scopes: key.scopes.clone(),
                    attributes: key.attributes.clone(),
                    expires: None,
                });
                let known = Arc::new(Key { secret, principal });
                keys.insert(key.access_key_id.clone(), known);
            }
            Err(problem) => problems.push((key.access_key_id.as_str(), problem)),
        }
    }
    (keys, problems)
}

/// What is wrong where keys have one secret, as far as their files can be read here.
pub fn sharing(given: &[AccessKey]) -> Option<String> {
    let secrets = secrets(given);
    let owners = owners(&secrets);
    let mut read = secrets.into_iter().filter_map(|(_, secret)| secret.ok());
    read.find_map(|secret| alone(secret, &owners).err())
}

type Outcome<T> = std::result::Result<T, String>;

fn secrets(given: &[AccessKey]) -> Vec<(&AccessKey, Outcome<Secret>)> {
    given
        .iter()
        .map(|key| (key, Secret::read(&key.secret_file)))
        .collect()
}

/// The ids of the keys that have a secret, by its digest.
type Owners<'a> = HashMap<[u8; 32], Vec<&'a str>>;

fn owners<'a>(secrets: &[(&'a AccessKey, Outcome<Secret>)]) -> Owners<'a> {
    let mut owners = Owners::new();
    for (key, secret) in secrets {
        if let Ok(secret) = secret {
            let ids = owners.entry(secret.digest()).or_default();
            ids.push(&key.access_key_id);
        }
    }
    owners
}

/// The id of a key is not part of what its secret signs: who has the secret of two could be either.
fn alone(secret: Secret, owners: &Owners<'_>) -> Outcome<Secret> {
    match owners.get(&secret.digest()) {
        Some(ids) if ids.len() > 1 => Err(format!(
            "the access keys {} have the same secret, so that one could be taken for the other; give each its own",
            ids.join(" and ")
        )),
        _ => Ok(secret),
    }
}

impl Secret {
    fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    fn read(path: &Path) -> Outcome<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the secret file {shown}: {error}"))?;
        let secret = text.trim();
        if !SECRET_LENGTHS.contains(&secret.len()) {
            return Err(format!(
                "the secret file {shown} must hold {} to {} characters",
                SECRET_LENGTHS.start(),
                SECRET_LENGTHS.end()
            ));
        }
        Ok(Self(secret.to_owned()))
    }
}

fn unsigned(name: &str) -> Error {
    mismatch(format!(
        "'{name}' must be a 'SignedHeader' in the AWS Authorization."
    ))
}

fn incomplete(text: impl Into<String>) -> Error {
    unauthenticated("IncompleteSignatureException", text)
}

fn mismatch(text: impl Into<String>) -> Error {
    unauthenticated("InvalidSignatureException", text)
}

#[cfg(test)]
mod tests;
