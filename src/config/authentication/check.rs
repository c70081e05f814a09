//! What of the section could not be meant, or would have no effect.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use super::{Authentication, CertificateRule, Issuer, Proof};
use crate::api::Rpc;
use crate::auth::is_id;
use crate::auth::sigv4;
use crate::auth::template::Template;
use crate::config::{ConfigError, check_url, invalid};

/// All of them are kept in memory.
const MAX_TOKENS: usize = 10_000;
/// The longest name of a role, id or attribute.
const MAX_NAME: usize = 256;
/// Claims that do not tell bearers apart.
const OF_ALL: [&str; 5] = ["iss", "aud", "exp", "nbf", "iat"];
const LONGEST_SKEW: Duration = Duration::from_secs(300);
const LONGEST_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
const REFRESHES: [Duration; 2] = [Duration::from_secs(30), Duration::from_secs(24 * 3600)];

impl Authentication {
    pub(in crate::config) fn check(&self) -> Result<(), ConfigError> {
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
        // Files that are not on this machine are for the start to complain of.
        match sigv4::sharing(&self.access_keys) {
            Some(problem) => Err(invalid(name, problem)),
            None => Ok(()),
        }
    }

    /// Refuses what is to be proven in a way that is not open.
    pub(in crate::config) fn check_ways(
        &self,
        aws_door: bool,
        certificates: bool,
    ) -> Result<(), ConfigError> {
        let problem = if self.methods.contains(&Proof::AccessKey) && !aws_door {
            "access-key is for the AWS door, which is off; open it by aws-listen, or leave the method out"
        } else if self.methods == [Proof::Certificate] && !certificates {
            "clients are not asked for certificates, so nobody could be known; set client-ca-file and client-certificates in [tls], or add a method"
        } else {
            return Ok(());
        };
        Err(invalid("authentication.methods", problem))
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
        let open = before.len() < pattern.len();
        if open && word == "uri" && !is_of_one_domain(before) {
            return Err(invalid(
                name,
                format!("{pattern:?} leaves the trust domain open; name it, and end it with /*"),
            ));
        }
        if let Some(id) = &self.id {
            check_template(name, id, |placeholder| placeholder == word)?;
        }
        check_given(name, &self.roles, &self.attributes)
    }
}

/// Whether whatever begins like this is of the same authority: spiffe://example could go on as
/// spiffe://example.elsewhere.
fn is_of_one_domain(beginning: &str) -> bool {
    match beginning.split_once(':') {
        Some((_, rest)) if rest.starts_with('/') => rest
            .strip_prefix("//")
            .and_then(|rest| rest.split_once('/'))
            .is_some_and(|(domain, _)| !domain.is_empty()),
        Some((scheme, rest)) => scheme != "spiffe" && !rest.is_empty(),
        None => false,
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
            (Some(url), None) => check_jwks_url(url)?,
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
        let id = "authentication.jwt.issuers.id";
        check_template(id, &self.id, |_| true)?;
        let template = Template::parse(&self.id).map_err(|problem| invalid(id, problem))?;
        let tells = |claim: &str| !OF_ALL.contains(&claim.strip_prefix('/').unwrap_or(claim));
        if !template.placeholders().any(tells) {
            return Err(invalid(
                id,
                format!(
                    "{:?} would make all bearers one; add a claim that tells them apart, like {{sub}}",
                    self.id
                ),
            ));
        }
        let granted = "authentication.jwt.issuers.grants";
        for grant in &self.grants {
            check_names(granted, [&grant.claim])?;
            check_names(granted, &grant.roles)?;
        }
        check_given(name, &self.roles, &self.attributes)
    }
}

fn check_jwks_url(url: &str) -> Result<(), ConfigError> {
    let name = "authentication.jwt.issuers.jwks-url";
    check_url(url, "https://issuer.example/jwks").map_err(|problem| invalid(name, problem))?;
    let parsed: http::Uri = url
        .parse()
        .map_err(|_| invalid(name, "this is no URL like https://issuer.example/jwks"))?;
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

/// Refuses what is no name of a caller, a role or an attribute.
pub fn check_names<'a>(
    name: &'static str,
    names: impl IntoIterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    for given in names {
        if given.len() > MAX_NAME || !is_id(given) {
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
