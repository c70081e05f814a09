//! Tags of all resources.
//!
//! Keys of [`TagsRecord`]: the tail of the resource's ARN. A resource without tags of its
//! customer's has none. Proton's own tags (`aws:proton:…`) are derived when they are listed.

use prost::Message;

use super::component::ComponentRecord;
use super::context::Context;
use super::environment::EnvironmentRecord;
use super::environment_account_connection::ConnectionRecord;
use super::paging::Page;
use super::registry::{self, TemplateRecord, VersionRecord};
use super::repository::RepositoryRecord;
use super::service::ServiceRecord;
use super::service_instance::{self, InstanceRecord};
use super::store::{Record, Transaction};
use crate::api::pb::{self, TemplateType};
use crate::error::{Error, Result, Violation};

/// Tags of one resource that are the customer's (User Guide, tagging).
pub const MOST: usize = 50;

#[derive(Clone, PartialEq, Message)]
pub struct TagsRecord {
    #[prost(string, tag = "1")]
    pub(super) tail: String,
    /// In the order of their keys.
    #[prost(message, repeated, tag = "2")]
    pub(super) tags: Vec<pb::Tag>,
}

impl Record for TagsRecord {
    const KIND: &'static str = "tags";

    fn key(&self) -> String {
        self.tail.clone()
    }
}

/// `tags` with those of `more` added, or put in the place of those of the same key.
pub fn merged(mut tags: Vec<pb::Tag>, more: Vec<pb::Tag>) -> Vec<pb::Tag> {
    for tag in more {
        match tags.iter_mut().find(|other| other.key == tag.key) {
            Some(other) => *other = tag,
            None => tags.push(tag),
        }
    }
    tags
}

/// The order in which tags of a request are compared with those of another.
pub fn sorted(mut tags: Vec<pb::Tag>) -> Vec<pb::Tag> {
    tags.sort_by(|a, b| a.key.cmp(&b.key));
    tags
}

fn check(tags: &[pb::Tag]) -> Result<()> {
    let mut violations = Vec::new();
    for (index, tag) in tags.iter().enumerate() {
        let field = format!("tags[{index}].key");
        if tag.key().to_ascii_lowercase().starts_with("aws:") {
            violations.push(Violation::new(
                &field,
                "begins with `aws:`, which is reserved",
            ));
        }
        if tags[..index].iter().any(|other| other.key == tag.key) {
            violations.push(Violation::new(&field, "is the key of another tag too"));
        }
    }
    match violations.first() {
        None => Ok(()),
        Some(first) => Err(Error::violations(
            format!("{} {}", first.field, first.description),
            violations,
        )),
    }
}

/// Gives a new resource its first tags.
pub fn begin(tx: &Transaction<'_>, tail: &str, tags: Vec<pb::Tag>) -> Result<()> {
    check(&tags)?;
    store(tx, tail, tags)
}

fn store(tx: &Transaction<'_>, tail: &str, tags: Vec<pb::Tag>) -> Result<()> {
    if tags.len() > MOST {
        return Err(Error::invalid_field(
            "tags",
            format!(
                "a resource can have {MOST} tags; these would be {}",
                tags.len()
            ),
        ));
    }
    if tags.is_empty() {
        return forget(tx, tail);
    }
    tx.put(&TagsRecord {
        tail: tail.to_owned(),
        tags: sorted(tags),
    })
}

/// Forgets the tags of a resource that is gone.
pub fn forget(tx: &Transaction<'_>, tail: &str) -> Result<()> {
    tx.delete::<TagsRecord>(tail).map(drop)
}

/// The customer's tags of a resource.
pub fn customer(tx: &Transaction<'_>, tail: &str) -> Result<Vec<pb::Tag>> {
    Ok(tx
        .get::<TagsRecord>(tail)?
        .map(|record| record.tags)
        .unwrap_or_default())
}

/// Finds the resource with an ARN, and Proton's own tags of it (User Guide, tagging).
fn resource(tx: &Transaction<'_>, cx: &Context, arn: &str) -> Result<Vec<pb::Tag>> {
    let found = match cx.tail(arn) {
        Some(tail) => own_tags(tx, cx, tail)?,
        None => None,
    };
    let own = found.ok_or_else(|| Error::not_found("resource", arn))?;
    Ok(own
        .into_iter()
        .map(|(key, value)| pb::Tag {
            key: Some(format!("aws:proton:{key}")),
            value: Some(value),
        })
        .collect())
}

type Own = Vec<(&'static str, String)>;

/// `None` if there is no such resource. User Guide: account connections have no such tags.
fn own_tags(tx: &Transaction<'_>, cx: &Context, tail: &str) -> Result<Option<Own>> {
    let account = ("account", cx.settings.account_id.clone());
    let template = |kind, name: &str, version: Option<(&str, &str)>| {
        let noun = registry::noun(kind);
        let tail = match version {
            Some((major, minor)) => format!("{noun}/{name}:{major}.{minor}"),
            None => format!("{noun}/{name}"),
        };
        ("template", cx.arn(&tail))
    };
    let environment = |name: &str| ("environment", cx.arn(&format!("environment/{name}")));
    let service = |name: &str| ("service", cx.arn(&format!("service/{name}")));
    let instance = |of: &str, name: &str| {
        (
            "service-instance",
            cx.arn(&format!("service/{of}/service-instance/{name}")),
        )
    };
    let parts: Vec<_> = tail.splitn(2, '/').collect();
    let [noun, rest] = parts.as_slice() else {
        return Ok(None);
    };
    let kind = match *noun {
        "service-template" => TemplateType::Service,
        _ => TemplateType::Environment,
    };
    Ok(match *noun {
        "environment-template" | "service-template" => match rest.split_once(':') {
            None => tx
                .get::<TemplateRecord>(&registry::template_key(kind, rest))?
                .map(|_| vec![account, template(kind, rest, None)]),
            Some((name, number)) => {
                let (major, minor) = number.split_once('.').unwrap_or((number, ""));
                let found = match registry::version(tx, cx, kind, name, major, minor) {
                    Ok(found) => Some(found),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error),
                };
                found.map(|_: VersionRecord| {
                    vec![account, template(kind, name, Some((major, minor)))]
                })
            }
        },
        "environment" => tx.get::<EnvironmentRecord>(rest)?.map(|record| {
            vec![
                account,
                template(
                    TemplateType::Environment,
                    &record.template,
                    record.version(),
                ),
                environment(rest),
            ]
        }),
        "service" => match rest.split_once("/service-instance/") {
            None => tx.get::<ServiceRecord>(rest)?.map(|record| {
                vec![
                    account,
                    template(TemplateType::Service, &record.template, None),
                    service(rest),
                ]
            }),
            Some((of, name)) => tx
                .get::<InstanceRecord>(&service_instance::key(of, name))?
                .map(|record| {
                    vec![
                        account,
                        template(TemplateType::Service, &record.template, record.version()),
                        environment(&record.environment),
                        service(of),
                        instance(of, name),
                    ]
                }),
        },
        "component" => tx.get::<ComponentRecord>(rest)?.map(|record| {
            let mut own = vec![account, environment(&record.environment)];
            if let Some((of, name)) = record.attached_to() {
                own.push(service(of));
                own.push(instance(of, name));
            }
            own.push(("component", cx.arn(tail)));
            own
        }),
        "environment-account-connection" => tx.get::<ConnectionRecord>(rest)?.map(|_| Vec::new()),
        _ => RepositoryRecord::key_of_tail(tail)
            .map(|key| tx.get::<RepositoryRecord>(&key))
            .transpose()?
            .flatten()
            .map(|_| vec![account]),
    })
}

/// Tags of the same keys are replaced.
pub fn tag(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::TagResourceRequest,
) -> Result<pb::TagResourceResponse> {
    resource(tx, cx, &request.resource_arn)?;
    check(&request.tags)?;
    let tail = cx.tail(&request.resource_arn).unwrap_or_default();
    store(tx, tail, merged(customer(tx, tail)?, request.tags))?;
    Ok(pb::TagResourceResponse {})
}

/// Keys that are not there are no error: the model calls the operation idempotent.
pub fn untag(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UntagResourceRequest,
) -> Result<pb::UntagResourceResponse> {
    resource(tx, cx, &request.resource_arn)?;
    let tail = cx.tail(&request.resource_arn).unwrap_or_default();
    let mut tags = customer(tx, tail)?;
    tags.retain(|tag| !request.tag_keys.iter().any(|key| key == tag.key()));
    store(tx, tail, tags)?;
    Ok(pb::UntagResourceResponse {})
}

/// Both kinds of tags, in the order of their keys.
pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListTagsForResourceRequest,
) -> Result<pb::ListTagsForResourceResponse> {
    // Proton's own come on top of the customer's, and the model allows no more in an answer than a
    // resource may have of these.
    let page = Page::of(cx, &mut request)?.at_most(MOST);
    let mut tags = resource(tx, cx, &request.resource_arn)?;
    let tail = cx.tail(&request.resource_arn).unwrap_or_default();
    tags.extend(customer(tx, tail)?);
    let items = tags
        .into_iter()
        .map(|tag| ((tag.key().to_owned(), String::new()), tag))
        .collect();
    let (tags, next_token) = page.slice(items, false)?;
    Ok(pb::ListTagsForResourceResponse { tags, next_token })
}
