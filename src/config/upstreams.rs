//! `[upstreams.<name>]` and `[[assume-role]]`: more upstreams than one, and as whom they are asked.
//! In the file only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Span, check_url, invalid};
use crate::upstream::{self, Assume, Identities, Rule};

/// An upstream that callers select by its name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NamedUpstream {
    /// Endpoint to forward to, instead of AWS's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_url: Option<String>,
    /// Region, for signing; otherwise that of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Profile of AWS's configuration files; otherwise that of the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Whether it is a gateway that keeps idempotency keys itself: it is given one of its own with each
    /// mutation under a key, which can then be sent again whatever it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keeps_keys: bool,
}

/// Which callers get which role: the first rule of which all matches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AssumeRole {
    /// Id of the callers that the rule is for; `*` at the end stands for anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// Role of the callers that the rule is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Name of the upstream that the rule is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Absent: the gateway's own credentials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role_arn: Option<String>,
    /// External id that the role asks for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external_id: Option<String>,
    /// Name of the session, in which `{principal}` stands for the caller's id; left out:
    /// proton-gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_name: Option<String>,
    /// Source identity of the session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_identity: Option<String>,
    /// How long a session lasts, from 15m to 12h; left out: 1h.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration: Option<Span>,
    /// Tags of the session.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub session_tags: BTreeMap<String, String>,
}

/// Why not to say of an upstream that it keeps keys.
pub(super) const NO_KEEPER: &str = "AWS keeps none, and would carry a call out each time that it is sent; give the gateway's URL, or leave it out";

const SESSION_NAME: &str = "proton-gateway";
const DURATION: Duration = Duration::from_secs(3600);
/// What STS takes (AWS STS API Reference, AssumeRole).
const DURATIONS: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(900)..=Duration::from_secs(12 * 3600);
/// What STS takes (AWS STS API Reference, AssumeRole).
const MAX_TAGS: usize = 50;

pub(super) fn check(
    upstreams: &BTreeMap<String, NamedUpstream>,
    rules: &[AssumeRole],
    sts_endpoint_url: Option<&str>,
) -> Result<(), ConfigError> {
    for (name, upstream) in upstreams {
        if name.is_empty()
            || !name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        {
            return Err(invalid(
                "upstreams",
                format!("{name:?} is no name: letters, digits, - and _"),
            ));
        }
        if let Some(url) = &upstream.endpoint_url {
            check_url(url, "https://proton.example").map_err(|problem| {
                invalid("upstreams", format!("{name}: endpoint-url: {problem}"))
            })?;
        } else if upstream.keeps_keys {
            let problem = format!("{name}: keeps-keys: {NO_KEEPER}");
            return Err(invalid("upstreams", problem));
        }
    }
    if let Some(url) = sts_endpoint_url {
        check_url(url, "https://sts.example")
            .map_err(|problem| invalid("sts-endpoint-url", problem))?;
    }
    rules.iter().try_for_each(|rule| {
        rule.check(upstreams)
            .map_err(|problem| invalid("assume-role", problem))
    })
}

impl AssumeRole {
    fn check(&self, upstreams: &BTreeMap<String, NamedUpstream>) -> Result<(), String> {
        if let Some(name) = &self.upstream
            && !upstreams.contains_key(name)
        {
            return Err(format!("upstream: there is no [upstreams.{name}]"));
        }
        self.check_whom()?;
        let Some(arn) = &self.role_arn else {
            let own = Self {
                principal: self.principal.clone(),
                role: self.role.clone(),
                upstream: self.upstream.clone(),
                ..Self::default()
            };
            return if *self == own {
                Ok(())
            } else {
                Err("role-arn is missing; what else is said of the session needs it".to_owned())
            };
        };
        if !is_role(arn) {
            return Err(format!(
                "role-arn: {arn:?} is no ARN like arn:aws:iam::123456789012:role/proton"
            ));
        }
        if let Some(span) = self.duration
            && !DURATIONS.contains(&span.0)
        {
            return Err("duration: at least 15m and at most 12h".to_owned());
        }
        if self.session_tags.len() > MAX_TAGS {
            return Err(format!("session-tags: at most {MAX_TAGS}"));
        }
        let texts = self.session_tags.values();
        for text in texts.chain(&self.session_name).chain(&self.source_identity) {
            if !upstream::is_whole(text) {
                return Err(format!("{text:?} has a brace without the other one"));
            }
        }
        Ok(())
    }

    fn check_whom(&self) -> Result<(), String> {
        if let Some(pattern) = &self.principal {
            let before = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern.is_empty() || before.contains('*') {
                return Err(format!(
                    "principal: {pattern:?} must be an id, with at most one * at its end"
                ));
            }
        }
        if self.role.as_deref() == Some("") {
            return Err(
                "role: nobody has a role without a name; name one, or leave it out".to_owned(),
            );
        }
        if self.principal.is_none() && self.role.is_none() && self.upstream.is_none() {
            return Err(
                "a rule says nothing of whom it is for; name principal, role or upstream, or say principal = \"*\" if it is for everybody"
                    .to_owned(),
            );
        }
        Ok(())
    }

    fn rule(&self) -> Rule {
        Rule {
            principal: self.principal.clone(),
            role: self.role.clone(),
            upstream: self.upstream.clone(),
            assume: self.role_arn.clone().map(|role_arn| Assume {
                role_arn,
                external_id: self.external_id.clone(),
                session_name: self
                    .session_name
                    .clone()
                    .unwrap_or_else(|| SESSION_NAME.to_owned()),
                source_identity: self.source_identity.clone(),
                session_tags: self.session_tags.clone(),
                duration: self.duration.map_or(DURATION, |span| span.0),
            }),
        }
    }
}

fn is_role(arn: &str) -> bool {
    let parts: Vec<_> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, role] = parts[..] else {
        return false;
    };
    let name = role.strip_prefix("role/").unwrap_or_default();
    partition.starts_with("aws")
        && account.len() == 12
        && account.bytes().all(|byte| byte.is_ascii_digit())
        && !name.is_empty()
        && !name.ends_with('/')
        && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// What the configuration says of who is asked as whom.
pub(super) fn identities(
    unnamed_keeps_keys: bool,
    upstreams: &BTreeMap<String, NamedUpstream>,
    rules: &[AssumeRole],
) -> Identities {
    let names: BTreeSet<_> = upstreams.keys().cloned().collect();
    let keepers = upstreams.iter().filter(|(_, upstream)| upstream.keeps_keys);
    let keepers = keepers.map(|(name, _)| Some(name.clone()));
    let keepers = keepers.chain(unnamed_keeps_keys.then_some(None)).collect();
    Identities::new(names, rules.iter().map(AssumeRole::rule).collect()).with_keepers(keepers)
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Options};
    use super::*;
    use crate::auth::Principal;

    const KNOWN: &str = "upstream = \"aws\"\n[authentication]\nmethods = [\"token\"]\n\
        [[authentication.tokens]]\nid = \"ci\"\n\
        hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n";
    const ARN: &str = "role-arn = \"arn:aws:iam::123456789012:role/proton/ci\"";

    fn from_file(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Config::load(Options::default(), Some(file.path()))
    }

    #[test]
    fn a_rule_that_could_not_be_meant_is_refused_with_what_to_do() {
        for (rule, what) in [
            (String::new(), "principal = \"*\""),
            (ARN.to_owned(), "principal = \"*\""),
            (format!("principal = \"\"\n{ARN}"), "principal: "),
            (format!("principal = \"a*b*\"\n{ARN}"), "principal: "),
            (format!("principal = \"*a\"\n{ARN}"), "principal: "),
            (format!("role = \"\"\n{ARN}"), "role: "),
            (
                format!(
                    "role = \"a\"\n{}",
                    ARN.replace("123456789012", "abcdefghijkl")
                ),
                "role-arn: ",
            ),
            (
                format!("role = \"a\"\n{}", ARN.replace("proton/ci", "")),
                "role-arn: ",
            ),
            (
                format!("role = \"a\"\n{}", ARN.replace("/ci", "/")),
                "role-arn: ",
            ),
        ] {
            let error = from_file(&format!("{KNOWN}[[assume-role]]\n{rule}")).unwrap_err();
            let error = error.to_string();
            assert!(error.starts_with("assume-role: "), "{rule}: {error}");
            assert!(error.contains(what), "{rule}: {error}");
        }
        for whom in ["principal = \"*\"", "principal = \"a*\"", "role = \"a\""] {
            from_file(&format!("{KNOWN}[[assume-role]]\n{whom}\n{ARN}")).unwrap();
        }
    }

    #[test]
    fn rules_without_known_callers_are_refused() {
        let rule = format!("upstream = \"aws\"\n[[assume-role]]\nprincipal = \"ci\"\n{ARN}");
        let error = from_file(&rule).unwrap_err().to_string();
        assert!(error.starts_with("assume-role: "), "{error}");
        assert!(error.contains("[authentication]"), "{error}");
    }

    #[test]
    fn only_an_upstream_that_is_said_to_keep_keys_is_given_some() {
        let config = from_file(
            "upstream-endpoint-url = \"https://a\"\nupstream-keeps-keys = true\n\
             [upstreams.b]\nendpoint-url = \"https://b\"\n\
             [upstreams.c]\nendpoint-url = \"https://c\"\nkeeps-keys = true\n",
        );
        let identities = config.unwrap().identities();
        let keeps = |name| {
            let identity = identities.of(&Principal::anonymous(), name);
            identity.unwrap().keeps_keys
        };
        assert_eq!([None, Some("b"), Some("c")].map(keeps), [true, false, true]);
    }

    #[test]
    fn the_examples_of_the_documentation_are_accepted() {
        let text = include_str!("../../docs/security/upstream.md");
        let blocks: Vec<&str> = text
            .split("```toml\n")
            .skip(1)
            .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
            .collect();
        let config = from_file(&format!(
            "{}\n{}",
            blocks.concat(),
            KNOWN.replace("upstream = \"aws\"", "")
        ));
        assert_eq!(config.unwrap().assume_role.len(), 3);
    }
}
