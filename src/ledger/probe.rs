//! Whether a mutation whose outcome is unknown was applied: its subject is read before and after.
//!
//! Only for operations whose repeat may act twice; where a repeat is harmless, the call is sent
//! again instead. Says *applied* only of what shows what was asked for, and *not applied* only of
//! what is as it was: all else stays unknown.

use prost::Message;
use serde_json::{Map, Value};

use super::Once;
use crate::api::{Policy, Request, Response, pb, rules};
use crate::error::{Error, Result};

/// Where AWS's records say which deployment was the last to begin.
const LATEST: &str = "lastAttemptedDeploymentId";
/// Where requests say how far a deployment may go; `NONE` deploys nothing.
const DEPLOYS: &str = "deploymentType";
/// What a request names, selects or hands over, and no record shows under the same name.
const NOT_SHOWN: &[&str] = &[DEPLOYS, "clientToken"];
/// By which records say that somebody has changed them.
const MODIFIED: &str = "lastModifiedAt";
/// What is shown of a deployment as what it aims at, and in a record once it has succeeded.
const AIMED: &[&str] = &["spec", "templateMajorVersion", "templateMinorVersion"];

/// What was known of a subject before a mutation of it.
#[derive(Clone, PartialEq, Message)]
pub struct Evidence {
    #[prost(bytes = "vec", tag = "1")]
    digest: Vec<u8>,
    /// The latest deployment at that time.
    #[prost(string, optional, tag = "2")]
    latest: Option<String>,
    /// What of the request was shown, where it is shown as soon as it is applied.
    #[prost(bytes = "vec", tag = "3")]
    asked: Vec<u8>,
    /// There was no such subject.
    #[prost(bool, tag = "4")]
    absent: bool,
}

/// What a probe says.
#[derive(Debug)]
pub enum Verdict {
    /// It was applied; this is what it answers.
    Applied(Box<Response>),
    /// Nothing of it was applied so far.
    NotApplied,
    /// The subject was changed, and not into what was asked for.
    Unclear,
    /// Perhaps by this deployment, if it is of what was asked for.
    PerhapsBy(String),
}

impl Evidence {
    /// What a read of the subject says.
    pub fn of(once: &Once, request: &Request, shown: &Response) -> Self {
        let policy = request.operation().policy();
        let record = record(policy, shown);
        let asked = asked(request);
        Self {
            digest: once.digest(record.to_string().as_bytes()),
            latest: latest(&record),
            asked: match asked.keys().any(|name| AIMED.contains(&name.as_str())) {
                true => Vec::new(),
                false => once.digest(part(&record, &asked).to_string().as_bytes()),
            },
            absent: false,
        }
    }

    /// There is no such subject.
    pub fn absent() -> Self {
        Self {
            absent: true,
            ..Self::default()
        }
    }

    /// Whether there was no such subject.
    pub fn is_absent(&self) -> bool {
        self.absent
    }

    /// The evidence that was kept.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        Self::decode(bytes)
            .map_err(|error| Error::internal(format!("kept evidence is damaged: {error}")))
    }

    /// What has become of the subject of `request`, now that a read shows it.
    pub fn judge(&self, once: &Once, request: &Request, shown: Response) -> Verdict {
        let policy = request.operation().policy();
        let now = Self::of(once, request, &shown);
        if now == *self {
            return Verdict::NotApplied;
        }
        let record = record(policy, &shown);
        let deploys = request.to_json();
        let deploys = deploys.get(DEPLOYS).is_some_and(|kind| kind != "NONE");
        let applied = match (now.latest == self.latest, &now.latest) {
            // It may have been stopped, or have ended before it could be: it is the same deployment.
            (true, _) if policy.relieves => match is_stopped(&record) {
                true => true,
                false => return Verdict::NotApplied,
            },
            (false, _) if policy.relieves => return Verdict::Unclear,
            // Whatever has changed: a deployment was not begun.
            (true, Some(_)) if deploys => return Verdict::NotApplied,
            (false, Some(latest)) if deploys => return Verdict::PerhapsBy(latest.clone()),
            _ => shows(&asked(request), &record),
        };
        match applied {
            true => answer(request, shown),
            // The record goes its own way, as its deployments do, and nobody has touched this.
            false if !deploys && !self.asked.is_empty() && now.asked == self.asked => {
                Verdict::NotApplied
            }
            false => Verdict::Unclear,
        }
    }
}

/// Whether the deployment that has begun meanwhile is of what was asked for.
pub fn confirm(request: &Request, deployment: &pb::Deployment, shown: Response) -> Verdict {
    let target = Response::GetDeployment(pb::GetDeploymentResponse {
        deployment: Some(deployment.clone()),
    });
    let target = target.to_json();
    let states = target
        .pointer("/deployment/targetState")
        .and_then(Value::as_object);
    let Some(state) = states.and_then(|states| states.values().next()) else {
        return Verdict::Unclear;
    };
    let asked = request.to_json();
    let aimed = AIMED
        .iter()
        .filter_map(|name| Some((name, asked.get(name)?)));
    match aimed
        .into_iter()
        .all(|(name, wanted)| state.get(name) == Some(wanted))
    {
        true => answer(request, shown),
        false => Verdict::Unclear,
    }
}

fn answer(request: &Request, shown: Response) -> Verdict {
    Response::of_subject(request.operation(), shown).map_or(Verdict::Unclear, |response| {
        Verdict::Applied(Box::new(response))
    })
}

/// The record of the subject in the read's response.
fn record(policy: &Policy, shown: &Response) -> Value {
    let path = policy
        .subject
        .as_ref()
        .map_or(&[][..], |subject| subject.path);
    let mut record = shown.to_json();
    for name in path {
        record = record.get_mut(name).map(Value::take).unwrap_or_default();
    }
    record
}

fn latest(record: &Value) -> Option<String> {
    record.get(LATEST)?.as_str().map(str::to_owned)
}

fn is_stopped(record: &Value) -> bool {
    let status = record.get("deploymentStatus").and_then(Value::as_str);
    matches!(status, Some("CANCELLING" | "CANCELLED"))
}

/// What a request wants its subject to show.
fn asked(request: &Request) -> Map<String, Value> {
    let operation = request.operation();
    // Of a list, none given is the same as an empty one, in some requests.
    let blank = Request::from_json(operation, Value::Object(Map::new()))
        .map_or(Value::Null, |blank| blank.to_json());
    let named_by = operation.policy().named_by.iter();
    let names: Vec<_> = named_by.map(|name| rules::camel_case(name)).collect();
    let Value::Object(mut asked) = request.to_json() else {
        return Map::new();
    };
    asked.retain(|name, value| {
        !names.contains(name)
            && !NOT_SHOWN.contains(&name.as_str())
            && blank.get(name) != Some(value)
    });
    asked
}

/// What the record shows of what is asked for, and when somebody has changed any of it.
fn part(record: &Value, asked: &Map<String, Value>) -> Value {
    let names = asked.keys().map(String::as_str).chain([MODIFIED]);
    names
        .map(|name| record.get(name).cloned().unwrap_or_default())
        .collect()
}

/// Whether the record shows all that was asked for, and something was.
fn shows(asked: &Map<String, Value>, record: &Value) -> bool {
    !asked.is_empty()
        && asked
            .iter()
            .all(|(name, value)| holds(record.get(name), value))
}

/// Whether what is shown has at least what is wanted. What is emptied may be left out.
fn holds(shown: Option<&Value>, wanted: &Value) -> bool {
    match (shown, wanted) {
        (None | Some(Value::Null), Value::String(text)) => text.is_empty(),
        (None, Value::Array(items)) => items.is_empty(),
        // Whether to give something up shows in its being absent; the rest of the request tells.
        (None, Value::Bool(_)) => true,
        (Some(Value::Object(shown)), Value::Object(wanted)) => wanted
            .iter()
            .all(|(name, wanted)| holds(shown.get(name), wanted)),
        (Some(Value::Array(shown)), Value::Array(wanted)) => {
            shown.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|wanted| shown.iter().any(|shown| holds(Some(shown), wanted)))
        }
        (Some(shown), wanted) => shown == wanted,
        (None, _) => false,
    }
}
