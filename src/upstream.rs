//! As whom the upstream is asked: the named upstream, and the IAM role that is assumed there.
//!
//! Rules say which callers get which role. How a role is assumed is the backend's business
//! (`backend::aws::session`). What is asked for one identity is never shared with another.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Method, Principal};
use crate::error::{Error, ErrorKind, Origin, Result};

/// The metadata, and the header of the AWS door, by which a caller names an upstream.
pub const UPSTREAM: &str = "proton-upstream";
/// The longest session name and source identity (AWS STS API Reference, AssumeRole).
const MAX_NAME: usize = 64;
/// The longest value of a session tag (AWS STS API Reference, Tag).
const MAX_TAG: usize = 256;

/// As whom the upstream is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The named upstream; absent for the one that is not named.
    pub upstream: Option<Arc<str>>,
    /// Whether that one keeps idempotency keys.
    pub keeps_keys: bool,
    /// The role that is assumed; absent: the gateway's own credentials.
    pub session: Option<Arc<Session>>,
}

/// A session of an IAM role, as `sts:AssumeRole` takes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Session {
    pub role_arn: String,
    pub external_id: Option<String>,
    pub name: String,
    pub source_identity: Option<String>,
    /// Ordered by key.
    pub tags: Vec<(String, String)>,
    pub duration: Duration,
}

/// Which callers get which role. All that is given must match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// A principal's id; a `*` at its end stands for any rest.
    pub principal: Option<String>,
    /// A role that the principal has.
    pub role: Option<String>,
    /// The upstream that is asked.
    pub upstream: Option<String>,
    /// Absent: the gateway's own credentials.
    pub assume: Option<Assume>,
}

/// The role of a rule. Texts may hold `{principal}` and `{name}` of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assume {
    pub role_arn: String,
    pub external_id: Option<String>,
    pub session_name: String,
    pub source_identity: Option<String>,
    pub session_tags: BTreeMap<String, String>,
    pub duration: Duration,
}

/// Knows the named upstreams and the rules. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Identities {
    upstreams: Arc<BTreeSet<String>>,
    /// Those that keep idempotency keys; `None` is the one without a name.
    keepers: Arc<BTreeSet<Option<String>>>,
    rules: Arc<Vec<Rule>>,
}

impl Identities {
    /// The first rule that matches holds. Where there are rules, a caller that matches none is
    /// denied: the gateway's own credentials may do more than it should.
    pub fn new(upstreams: BTreeSet<String>, rules: Vec<Rule>) -> Self {
        Self {
            upstreams: Arc::new(upstreams),
            keepers: Arc::default(),
            rules: Arc::new(rules),
        }
    }

    /// The same, where these upstreams keep idempotency keys; `None` is the one without a name.
    pub fn with_keepers(self, keepers: BTreeSet<Option<String>>) -> Self {
        Self {
            keepers: Arc::new(keepers),
            ..self
        }
    }

    /// As whom the upstream is asked for this caller.
    pub fn of(&self, principal: &Principal, upstream: Option<&str>) -> Result<Identity> {
        let keeps_keys = self.keepers.contains(&upstream.map(str::to_owned));
        let upstream = upstream.map(|name| self.named(name)).transpose()?;
        let none_asks = matches!(principal.method, Method::Gateway);
        if self.rules.is_empty() || none_asks {
            return Ok(Identity {
                upstream,
                keeps_keys,
                session: None,
            });
        }
        let Some(rule) = self
            .rules
            .iter()
            .find(|rule| rule.matches(principal, upstream.as_deref()))
        else {
            return Err(denied(
                "no rule of `assume-role` is for this caller; add one, or give it one of the roles there",
            ));
        };
        let session = match &rule.assume {
            Some(assume) => Some(Arc::new(assume.session(principal)?)),
            None => None,
        };
        Ok(Identity {
            upstream,
            keeps_keys,
            session,
        })
    }

    fn named(&self, name: &str) -> Result<Arc<str>> {
        match self.upstreams.get(name) {
            Some(known) => Ok(Arc::from(known.as_str())),
            None => Err(Error::invalid_field(
                UPSTREAM,
                "names no upstream of this gateway; leave it out for the one that has no name",
            )),
        }
    }
}

impl Rule {
    fn matches(&self, principal: &Principal, upstream: Option<&str>) -> bool {
        let of_principal =
            self.principal
                .as_deref()
                .is_none_or(|pattern| match pattern.strip_suffix('*') {
                    Some(beginning) => principal.id.starts_with(beginning),
                    None => principal.id == pattern,
                });
        let of_role = self
            .role
            .as_ref()
            .is_none_or(|role| principal.roles.contains(role));
        let of_upstream = self
            .upstream
            .as_deref()
            .is_none_or(|wanted| upstream == Some(wanted));
        of_principal && of_role && of_upstream
    }
}

impl Assume {
    fn session(&self, principal: &Principal) -> Result<Session> {
        let name =
            |text: &str| filled(text, principal).map(|text| confined(&text, MAX_NAME, is_of_name));
        let tags = self.session_tags.iter().map(|(key, text)| {
            let value = confined(&filled(text, principal)?, MAX_TAG, is_of_tag);
            Ok((key.clone(), value))
        });
        Ok(Session {
            role_arn: self.role_arn.clone(),
            external_id: self.external_id.clone(),
            name: name(&self.session_name)?,
            source_identity: self.source_identity.as_deref().map(name).transpose()?,
            tags: tags.collect::<Result<_>>()?,
            duration: self.duration,
        })
    }
}

/// Text before the first name between braces, the name, and the text after it.
fn split(text: &str) -> Option<(&str, &str, &str)> {
    let (before, after) = text.split_once('{')?;
    let (name, after) = after.split_once('}')?;
    Some((before, name, after))
}

/// Whether each brace in the text is closed.
pub fn is_whole(text: &str) -> bool {
    let mut rest = text;
    while let Some((before, name, after)) = split(rest) {
        if before.contains('}') || name.contains('{') {
            return false;
        }
        rest = after;
    }
    !rest.contains(['{', '}'])
}

/// The text with what it says of the caller.
fn filled(text: &str, principal: &Principal) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, name, after)) = split(rest) {
        let value = match name {
            "principal" => Some(&principal.id),
            attribute => principal.attributes.get(attribute),
        };
        let value = value.ok_or_else(|| {
            denied(format!(
                "the caller has no attribute {name:?}, which the role that is assumed for it needs"
            ))
        })?;
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled.push_str(rest);
    Ok(filled)
}

/// What AWS takes: other characters become `-`, and what is too long ends with a digest, so that
/// two callers are never one.
fn confined(text: &str, most: usize, takes: fn(char) -> bool) -> String {
    use sha2::{Digest, Sha256};
    let kept: String = text
        .chars()
        .map(|letter| if takes(letter) { letter } else { '-' })
        .collect();
    if kept == text && (2..=most).contains(&kept.chars().count()) {
        return kept;
    }
    let digest = hex::encode(&Sha256::digest(text)[..8]);
    let beginning: String = kept.chars().take(most - digest.len() - 1).collect();
    format!("{beginning}.{digest}")
}

/// `[\w+=,.@-]` (AWS STS API Reference, AssumeRole).
fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || "_+=,.@-".contains(letter)
}

/// `[\p{L}\p{Z}\p{N}_.:/=+\-@]` (AWS STS API Reference, Tag).
fn is_of_tag(letter: char) -> bool {
    letter.is_alphanumeric() || letter == ' ' || "_.:/=+-@".contains(letter)
}

fn denied(message: impl Into<String>) -> Error {
    let origin = Origin::Gateway;
    Error::new(ErrorKind::AccessDenied { origin }, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(id: &str, role: &str, team: Option<&str>) -> Principal {
        Principal {
            id: id.to_owned(),
            roles: [role.to_owned()].into(),
            attributes: team
                .map(|team| ("team".to_owned(), team.to_owned()))
                .into_iter()
                .collect(),
            ..Principal::clone(&Principal::anonymous())
        }
    }

    fn assume(role_arn: &str) -> Assume {
        Assume {
            role_arn: role_arn.to_owned(),
            external_id: None,
            session_name: "proton-gateway".to_owned(),
            source_identity: None,
            session_tags: BTreeMap::new(),
            duration: Duration::from_secs(3600),
        }
    }

    fn rule(principal: Option<&str>, role: Option<&str>, assume: Option<Assume>) -> Rule {
        Rule {
            principal: principal.map(str::to_owned),
            role: role.map(str::to_owned),
            upstream: None,
            assume,
        }
    }

    #[test]
    fn the_first_rule_that_matches_holds_and_who_matches_none_is_denied() {
        let identities = Identities::new(
            BTreeSet::new(),
            vec![
                rule(Some("ci-*"), None, Some(assume("deployer"))),
                rule(None, Some("developer"), Some(assume("reader"))),
                rule(Some("root"), None, None),
            ],
        );
        let role = |id, role| {
            let identity = identities.of(&caller(id, role, None), None)?;
            Ok::<_, Error>(identity.session.map(|session| session.role_arn.clone()))
        };
        assert_eq!(
            role("ci-7", "developer").unwrap().as_deref(),
            Some("deployer")
        );
        assert_eq!(role("ann", "developer").unwrap().as_deref(), Some("reader"));
        assert_eq!(role("root", "viewer").unwrap(), None);
        let denied = role("ann", "viewer").unwrap_err();
        assert!(
            matches!(*denied.kind, ErrorKind::AccessDenied { .. }),
            "{denied}"
        );
    }

    #[test]
    fn callers_of_one_role_and_the_same_tags_share_an_identity_and_others_do_not() {
        let tagged = Assume {
            session_tags: [("team".to_owned(), "{team}".to_owned())].into(),
            ..assume("deployer")
        };
        let identities = Identities::new(BTreeSet::new(), vec![rule(None, None, Some(tagged))]);
        let of = |id, team| identities.of(&caller(id, "developer", team), None);
        assert_eq!(
            of("ann", Some("blue")).unwrap(),
            of("bob", Some("blue")).unwrap()
        );
        assert_ne!(
            of("ann", Some("blue")).unwrap(),
            of("bob", Some("red")).unwrap()
        );
        let missing = of("ann", None).unwrap_err();
        assert!(missing.message.contains("team"), "{missing}");
    }

    #[test]
    fn an_upstream_is_known_by_its_name_only() {
        let names = BTreeSet::from(["payments".to_owned()]);
        let identities = Identities::new(names, Vec::new());
        let anybody = Principal::anonymous();
        let named = identities.of(&anybody, Some("payments")).unwrap();
        assert_eq!(named.upstream.as_deref(), Some("payments"));
        assert_ne!(named, identities.of(&anybody, None).unwrap());
        let unknown = identities.of(&anybody, Some("billing")).unwrap_err();
        assert!(
            matches!(*unknown.kind, ErrorKind::Invalid { .. }),
            "{unknown}"
        );
    }

    #[test]
    fn what_a_caller_is_called_is_no_template() {
        let named = Assume {
            session_tags: [("team".to_owned(), "{team}-{x}".to_owned())].into(),
            ..assume("deployer")
        };
        let mut caller = caller("ann", "developer", Some("{x}"));
        caller
            .attributes
            .insert("x".to_owned(), "{team}".to_owned());
        let session = named.session(&caller).unwrap();
        // Braces are none of the letters that a tag may have.
        assert!(session.tags[0].1.starts_with("-x---team-"), "{session:?}");
        assert!(is_whole("a{b}c") && is_whole("") && !is_whole("a{b") && !is_whole("a}b{c}"));
    }

    #[test]
    fn names_are_made_fit_for_sts_without_two_callers_becoming_one() {
        let fit = |text: &str| confined(text, MAX_NAME, is_of_name);
        assert_eq!(fit("ann@example.com"), "ann@example.com");
        let (one, other) = (fit("spiffe://a/b"), fit("spiffe:-/a/b"));
        assert_ne!(one, other);
        let long = fit(&"x".repeat(500));
        assert!(long.len() <= MAX_NAME && long != fit(&"x".repeat(501)));
        for text in ["", "a", "ü", "spiffe://a/b"] {
            let name = fit(text);
            assert!((2..=MAX_NAME).contains(&name.len()), "{name}");
            assert!(name.chars().all(is_of_name), "{name}");
        }
    }
}
