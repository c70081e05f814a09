//! Versions of resources: an etag says which state of a resource a read has shown, and a mutation
//! may be held to the one that its caller has seen.
//!
//! An etag follows from what the read answers, so that it is the same whoever reads, over every
//! backend, and after a restart; nothing is stored for it. It changes with all that is shown but
//! [`PROGRESS`]. It is a plain hash: a caller who is given one has been shown, or has itself
//! written, what went into it, and the ids and times in there keep others from guessing it. A key
//! would have to be the same for all replicas.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, HeaderValue};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::api::rules::camel_case;
use crate::api::{Operation, Request, Response, Subject};
use crate::error::{Error, Result};
use crate::gateway::Call;

/// The metadata, and the header of the AWS door, that says which state an answer shows.
pub const ETAG: &str = "etag";
/// The metadata, and the header of the AWS door, by which a mutation is made conditional.
pub const EXPECTED: &str = "expected-version";
/// The same, as it is spelled where names have no hyphens.
pub const ALSO_EXPECTED: &str = "expected_version";
/// How an etag looks.
const FORM: &str = "must be the etag of a read, 22 characters";
/// What tells how the work on a resource goes, and nothing of the resource: whatever a deployment
/// leads to is shown elsewhere.
const PROGRESS: [&str; 3] = [
    "deploymentStatus",
    "deploymentStatusMessage",
    "statusMessage",
];
/// Sets our hashes apart from all others of the same texts.
const DOMAIN: &[u8] = b"proton-gateway etag 1\n";
const BYTES: usize = 16;

/// Which state of a resource was shown. Opaque to callers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Etag([u8; BYTES]);

impl Etag {
    /// The etag of what `response` shows: of a read that shows what some mutation changes, or of a
    /// mutation whose answer shows it whole.
    pub fn of(response: &Response) -> Option<Self> {
        let (read, record) = shown(response.operation())?;
        let shown = response.to_json();
        let record = shown.get(record)?;
        let mut hash = Sha256::new();
        hash.update(DOMAIN);
        feed_text(&mut hash, read.name());
        feed(&mut hash, record);
        let mut etag = [0; BYTES];
        for (ours, theirs) in etag.iter_mut().zip(hash.finalize()) {
            *ours = theirs;
        }
        Some(Self(etag))
    }

    /// As both doors send it.
    pub fn to_header(self) -> Option<HeaderValue> {
        HeaderValue::try_from(self.to_string()).ok()
    }
}

impl fmt::Display for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Etag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Etag {
    type Err = ();

    /// With or without the quotation marks of HTTP.
    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let quoted = text
            .strip_prefix('"')
            .and_then(|text| text.strip_suffix('"'));
        let bytes = URL_SAFE_NO_PAD.decode(quoted.unwrap_or(text));
        bytes
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(())
    }
}

/// The read that shows the state of a resource whole, and the name of the record, if `operation`
/// answers with that record.
fn shown(operation: Operation) -> Option<(Operation, &'static str)> {
    let policy = operation.policy();
    match &policy.subject {
        Some(subject) => match subject.path {
            [record] => Some((subject.read, record)),
            // A part of it.
            _ => None,
        },
        None => Operation::ALL.into_iter().find_map(|other| {
            let subject = other.policy().subject.as_ref()?;
            let record = subject.path.first()?;
            (subject.read == operation).then_some((operation, *record))
        }),
    }
}

/// Feeds a value but for what is progress, so that different values are different bytes. Members
/// stand in the contract's order. As JSON a long spec would take longer to write than to hash.
fn feed(hash: &mut Sha256, value: &Value) {
    match value {
        Value::String(text) => {
            hash.update(b"s");
            feed_text(hash, text);
        }
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                feed(hash, item);
            }
            hash.update(b"]");
        }
        Value::Object(members) => {
            hash.update(b"{");
            let lasting = members
                .iter()
                .filter(|(name, _)| !PROGRESS.contains(&name.as_str()));
            for (name, member) in lasting {
                // No value begins like this.
                hash.update(b",");
                feed_text(hash, name);
                feed(hash, member);
            }
            hash.update(b"}");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            hash.update(b"v");
            feed_text(hash, &value.to_string());
        }
    }
}

fn feed_text(hash: &mut Sha256, text: &str) {
    hash.update((text.len() as u64).to_le_bytes());
    hash.update(text);
}

/// Which state a caller says that it has seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// It does not say.
    #[default]
    Any,
    This(Etag),
    Unreadable,
    Several,
}

impl Expected {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut given = [EXPECTED, ALSO_EXPECTED]
            .into_iter()
            .flat_map(|name| headers.get_all(name));
        let Some(first) = given.next() else {
            return Self::Any;
        };
        if given.next().is_some() {
            return Self::Several;
        }
        let etag = first.to_str().ok().and_then(|text| text.parse().ok());
        etag.map_or(Self::Unreadable, Self::This)
    }

    /// Refuses what cannot be read, and a condition on what has no state to compare: whoever gives
    /// one must not believe that it holds.
    pub fn check(self, subject: Option<&Subject>) -> Result<()> {
        let problem = match (self, subject) {
            (Self::Any, _) | (Self::This(_), Some(_)) => return Ok(()),
            (Self::Unreadable, _) => FORM,
            (Self::Several, _) => "is given more than once; give it once",
            (Self::This(_), None) => {
                "this rpc takes none: it is for those that change, delete or cancel what a read shows with an etag; leave it out"
            }
        };
        Err(Error::invalid_field(EXPECTED, problem))
    }
}

/// What has to hold when a mutation is applied: its subject is as its caller has seen it.
#[derive(Debug, Clone)]
pub struct Condition {
    /// Shows the subject.
    pub read: Request,
    expected: Etag,
}

impl Condition {
    /// What the call asks for, if it does.
    pub fn of(call: &Call) -> Option<Self> {
        match call.expected {
            Expected::This(expected) => Some(Self {
                read: call.request.subject()?,
                expected,
            }),
            _ => None,
        }
    }

    /// Whether it holds for what the read has shown.
    pub fn check(&self, shown: &Response) -> Result<()> {
        match Etag::of(shown) {
            Some(current) if current == self.expected => Ok(()),
            current => Err(Error::stale(subject_of(&self.read), current)),
        }
    }
}

/// What `read` shows, as errors name it: `environment/prod`.
pub fn subject_of(read: &Request) -> String {
    let policy = read.operation().policy();
    let request = read.to_json();
    let names = policy
        .named_by
        .iter()
        .filter_map(|field| request.get(camel_case(field))?.as_str());
    let words: Vec<_> = std::iter::once(policy.resource).chain(names).collect();
    words.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb;

    fn shows(environment: pb::Environment) -> Etag {
        let environment = Some(environment);
        Etag::of(&Response::GetEnvironment(pb::GetEnvironmentResponse {
            environment,
        }))
        .unwrap()
    }

    fn prod() -> pb::Environment {
        pb::Environment {
            name: Some("prod".to_owned()),
            last_attempted_deployment_id: Some("1".to_owned()),
            deployment_status: pb::DeploymentStatus::InProgress.into(),
            ..pb::Environment::default()
        }
    }

    #[test]
    fn progress_alone_makes_no_new_version_and_all_else_does() {
        let failed = pb::Environment {
            deployment_status: pb::DeploymentStatus::Failed.into(),
            deployment_status_message: Some("it broke".to_owned()),
            ..prod()
        };
        assert_eq!(shows(failed), shows(prod()));
        let described = pb::Environment {
            description: Some(String::new()),
            ..prod()
        };
        let tried_again = pb::Environment {
            last_attempted_deployment_id: Some("2".to_owned()),
            ..prod()
        };
        let modified = pb::Environment {
            last_deployment_attempted_at: Some(prost_types::Timestamp {
                seconds: 1,
                nanos: 0,
            }),
            ..prod()
        };
        for other in [described, tried_again, modified] {
            assert_ne!(shows(other), shows(prod()));
        }
    }

    #[test]
    fn a_status_that_somebody_sets_is_no_progress() {
        let version = |status: pb::TemplateVersionStatus| {
            let version = pb::EnvironmentTemplateVersion {
                status: status.into(),
                ..pb::EnvironmentTemplateVersion::default()
            };
            Etag::of(&Response::GetEnvironmentTemplateVersion(
                pb::GetEnvironmentTemplateVersionResponse {
                    environment_template_version: Some(version),
                },
            ))
            .unwrap()
        };
        let published = version(pb::TemplateVersionStatus::Published);
        assert_ne!(version(pb::TemplateVersionStatus::Draft), published);
    }

    #[test]
    fn an_answer_has_an_etag_where_it_shows_the_whole_of_what_mutations_change() {
        let updated = Response::UpdateEnvironment(pb::UpdateEnvironmentResponse {
            environment: Some(prod()),
        });
        assert_eq!(Etag::of(&updated), Some(shows(prod())));
        for without in [
            Response::UpdateServicePipeline(pb::UpdateServicePipelineResponse {
                pipeline: Some(pb::ServicePipeline::default()),
            }),
            Response::ListEnvironments(pb::ListEnvironmentsResponse::default()),
            Response::DeleteEnvironment(pb::DeleteEnvironmentResponse::default()),
        ] {
            assert_eq!(Etag::of(&without), None, "{without:?}");
        }
    }

    #[test]
    fn each_subject_is_shown_by_the_first_name_of_its_path() {
        for operation in Operation::ALL {
            let Some(subject) = &operation.policy().subject else {
                continue;
            };
            let (_, record) = shown(subject.read).unwrap();
            assert_eq!(subject.path.first(), Some(&record), "{operation:?}");
        }
    }

    fn expected(given: &[(&'static str, &str)]) -> Expected {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, value.parse().unwrap());
        }
        Expected::of(&headers)
    }

    #[test]
    fn an_expected_version_is_read_under_both_names_and_with_quotation_marks() {
        let etag = shows(prod());
        let text = etag.to_string();
        assert_eq!(text.len(), 22);
        let quoted = format!("\"{text}\"");
        for (name, value) in [
            (EXPECTED, &text),
            (ALSO_EXPECTED, &text),
            (EXPECTED, &quoted),
        ] {
            assert_eq!(expected(&[(name, value)]), Expected::This(etag), "{name}");
        }
        assert_eq!(expected(&[]), Expected::Any);
    }

    #[test]
    fn what_is_no_etag_or_not_one_is_refused_by_the_name_of_the_metadata() {
        let text = shows(prod()).to_string();
        let subject = Operation::UpdateEnvironment.policy().subject.as_ref();
        for wrong in [
            expected(&[(EXPECTED, "")]),
            expected(&[(EXPECTED, "*")]),
            expected(&[(EXPECTED, &format!("W/\"{text}\""))]),
            expected(&[(EXPECTED, &format!("{text},{text}"))]),
            expected(&[(EXPECTED, &text[1..])]),
            expected(&[(EXPECTED, &text), (EXPECTED, &text)]),
            expected(&[(EXPECTED, &text), (ALSO_EXPECTED, &text)]),
        ] {
            let error = wrong.check(subject).unwrap_err();
            assert!(error.message.starts_with(EXPECTED), "{wrong:?}: {error}");
        }
        let right = expected(&[(EXPECTED, &text)]);
        assert_eq!(right.check(subject), Ok(()));
        assert!(
            right
                .check(None)
                .unwrap_err()
                .message
                .contains("takes none")
        );
    }

    #[test]
    fn a_subject_is_named_by_all_of_its_names() {
        let read = Request::GetServiceInstance(pb::GetServiceInstanceRequest {
            name: "blue".to_owned(),
            service_name: "shop".to_owned(),
        });
        assert_eq!(subject_of(&read), "service-instance/shop/blue");
    }
}
