//! What a call is about, as policies see it: a kind, names, and what the request tells besides.
//!
//! A policy decides before anybody learns whether the resource exists. What is known by an id alone
//! is decided on once more when it is found: what it belongs to is seen only then.

use std::collections::BTreeMap;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::schema::{self, ACCOUNT, FACTS, KINDS, OWNERS, PRINCIPAL, UPSTREAM, container};
use crate::api::rules::camel_case;
use crate::api::{Operation, Request, Response};
use crate::edge::status::cut;
use crate::error::{Error, Result};

/// Tags of one request that are looked at; the model allows fewer.
const MOST_TAGS: usize = 200;

/// The longest names that are shown, in bytes.
const MOST_SHOWN: usize = 400;

/// What a call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// In kebab-case.
    pub kind: &'static str,
    /// Outermost first; none for the account.
    pub names: Vec<String>,
    /// The ids of what contains it, by their kinds, as far as that is known.
    pub containers: Vec<(&'static str, String)>,
    /// Attributes besides the name.
    pub facts: BTreeMap<&'static str, String>,
    /// The tags that the request carries.
    pub tags: BTreeMap<String, String>,
}

impl Resource {
    fn new(kind: &'static str, names: Vec<String>) -> Self {
        Self {
            kind,
            names,
            containers: Vec::new(),
            facts: BTreeMap::new(),
            tags: BTreeMap::new(),
        }
    }

    /// The account, and the gateway itself.
    pub fn account() -> Self {
        Self::new(ACCOUNT, Vec::new())
    }

    /// A caller, about whom somebody asks.
    pub fn principal(id: &str) -> Self {
        Self::new(PRINCIPAL, vec![id.to_owned()])
    }

    /// The same, contained in what its outermost name names.
    fn contained(mut self) -> Self {
        let outer = self.names.first().cloned();
        self.containers.extend(container(self.kind).zip(outer));
        self
    }

    /// Takes what `value` tells of it besides its names.
    fn tell(&mut self, value: &Value) {
        for (field, attribute) in FACTS {
            if let Some(text) = value.get(field).and_then(Value::as_str)
                && !text.is_empty()
            {
                self.facts.insert(attribute, text.to_owned());
            }
        }
        if !schema::is_known_by_id(self.kind) {
            return;
        }
        let owners = OWNERS.iter().filter_map(|(kind, attributes)| {
            let names = attributes.iter().map(|name| self.facts.get(name).cloned());
            Some((*kind, names.collect::<Option<Vec<_>>>()?.join("/")))
        });
        self.containers = owners.collect();
    }

    /// The same, as it was found: `value` says what it belongs to, whatever the request says.
    pub fn found(mut self, value: &Value) -> Self {
        self.facts.retain(|name, _| *name == UPSTREAM);
        self.tell(value);
        self
    }

    /// The same, as `response` shows it, which gets it.
    pub fn found_in(self, response: &Response) -> Self {
        let value = response.to_json();
        // What a response shows stands under the name of its kind.
        let field = camel_case(&self.kind.replace('-', "_"));
        self.found(value.get(field).unwrap_or(&Value::Null))
    }

    /// What `request` is about.
    pub fn of(request: &Request) -> Result<Self> {
        let value = request.to_json();
        let mut resource = Self::within(request.operation(), &value);
        resource.tell(&value);
        let tags = value.get("tags").and_then(Value::as_array);
        for tag in tags.into_iter().flatten().take(MOST_TAGS) {
            let text = |field| tag.get(field).and_then(Value::as_str).unwrap_or_default();
            let (key, value) = (text("key"), text("value"));
            let before = resource.tags.insert(key.to_owned(), value.to_owned());
            // Or the policies would see one value, and the backend perhaps the other.
            if before.is_some_and(|before| before != value) {
                return Err(Error::invalid_field("tags", "a key must not come twice"));
            }
        }
        Ok(resource)
    }

    /// The same, at the upstream that the caller names.
    pub fn at(mut self, upstream: Option<&str>) -> Self {
        if let Some(name) = upstream {
            self.facts.insert(UPSTREAM, name.to_owned());
        }
        self
    }

    /// The item of a list that `get` gets.
    pub fn item(get: Operation, value: &Value) -> Self {
        let item = Self::within(get, value);
        match schema::names_an_id(get) {
            true => item.found(value),
            // As its request would say it: what can be got is listed.
            false => item,
        }
    }

    /// What an operation is about whose request, or an item of its list, has the fields of `value`.
    fn within(operation: Operation, value: &Value) -> Self {
        let names = operation.policy().named_by.iter().map(|field| {
            let name = value.get(camel_case(field)).and_then(Value::as_str);
            name.unwrap_or_default().to_owned()
        });
        Self::named(operation, names.collect())
    }

    /// What an operation is about that is given these names, outermost first.
    pub fn named(operation: Operation, names: Vec<String>) -> Self {
        let policy = operation.policy();
        if policy.named_by.is_empty() {
            return Self::new(ACCOUNT, Vec::new());
        }
        if let ([field], [arn]) = (policy.named_by, names.as_slice())
            && field.ends_with("_arn")
        {
            let Some((kind, names)) = of_arn(arn) else {
                return Self::new(policy.resource, names);
            };
            let mut resource = Self::new(kind, names).contained();
            if let Some((outer, name)) = resource.containers.first() {
                let attribute = if *outer == "service" {
                    outer
                } else {
                    "template"
                };
                resource.facts.insert(attribute, name.clone());
            }
            return resource;
        }
        let mut resource = Self::new(policy.resource, names);
        // Not where an id of its own names it.
        if policy
            .named_by
            .first()
            .is_some_and(|field| field.ends_with("_name"))
        {
            resource = resource.contained();
        }
        for (field, name) in policy.named_by.iter().zip(&resource.names) {
            let field = camel_case(field);
            let fact = FACTS.iter().find(|(known, _)| *known == field);
            if let Some((_, attribute)) = fact.filter(|_| !name.is_empty()) {
                resource.facts.insert(attribute, name.clone());
            }
        }
        resource
    }

    /// What an operation is about, where its resource is written with `/` between the names.
    pub fn read(operation: Operation, text: &str) -> Result<Self> {
        let fields = operation.policy().named_by;
        if fields.is_empty() {
            return match text {
                "" => Ok(Self::new(ACCOUNT, Vec::new())),
                _ => Err(Error::invalid_field(
                    "resource",
                    format!("{} names no resource; leave it out", operation.name()),
                )),
            };
        }
        let names: Vec<_> = text.splitn(fields.len(), '/').map(str::to_owned).collect();
        if names.len() < fields.len() || names.iter().any(String::is_empty) {
            return Err(Error::invalid_field(
                "resource",
                format!(
                    "{} names its resource by {}",
                    operation.name(),
                    fields.join("/")
                ),
            ));
        }
        Ok(Self::named(operation, names))
    }

    /// What policies know it by among its kind.
    pub fn id(&self) -> String {
        if self.kind == ACCOUNT {
            return ACCOUNT.to_owned();
        }
        self.names.join("/")
    }

    /// The innermost name; the account has none.
    pub fn name(&self) -> &str {
        self.names.last().map_or("", String::as_str)
    }

    /// Feeds everything that policies can see of it.
    pub(super) fn digest(&self, into: &mut Sha256) {
        let mut feed = |text: &str| {
            into.update((text.len() as u64).to_be_bytes());
            into.update(text);
        };
        feed(self.kind);
        for count in [
            self.containers.len(),
            self.names.len(),
            self.facts.len(),
            self.tags.len(),
        ] {
            feed(&count.to_string());
        }
        for (kind, id) in &self.containers {
            feed(kind);
            feed(id);
        }
        self.names.iter().for_each(|name| feed(name));
        for (name, value) in &self.facts {
            feed(name);
            feed(value);
        }
        for (key, value) in &self.tags {
            feed(key);
            feed(value);
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kind {
            ACCOUNT => f.write_str("the account"),
            // Nobody has looked at the names yet.
            kind => write!(f, "{kind}/{}", cut(&self.names.join("/"), MOST_SHOWN)),
        }
    }
}

/// The kind and the names in an ARN of Proton's, if it has one of the known forms.
fn of_arn(arn: &str) -> Option<(&'static str, Vec<String>)> {
    let tail = arn.strip_prefix("arn:")?.splitn(5, ':').nth(4)?;
    let (noun, rest) = tail.split_once('/')?;
    let (kind, names) = match noun {
        "environment-template" | "service-template" => match rest.split_once(':') {
            None => (noun.to_owned(), vec![rest]),
            Some((name, number)) => {
                let version = number.split('.');
                let names = std::iter::once(name).chain(version).collect();
                (format!("{noun}-version"), names)
            }
        },
        "service" => match rest.split('/').collect::<Vec<_>>().as_slice() {
            [service] => (noun.to_owned(), vec![*service]),
            [service, "service-instance", name] => {
                ("service-instance".to_owned(), vec![*service, *name])
            }
            // The older form has an id at its end.
            [service, "pipeline"] | [service, "pipeline", _] => {
                ("service-pipeline".to_owned(), vec![*service])
            }
            _ => return None,
        },
        "repository" => {
            let (provider, name) = rest.split_once(':')?;
            let provider = provider.to_ascii_uppercase();
            return Some((KINDS.get(noun)?, vec![provider, name.to_owned()]));
        }
        _ if rest.contains('/') => return None,
        _ => (noun.to_owned(), vec![rest]),
    };
    let names = names.into_iter().map(str::to_owned).collect();
    Some((KINDS.get(kind.as_str())?, names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb;

    fn tagging(arn: &str) -> Resource {
        let request = pb::ListTagsForResourceRequest {
            resource_arn: arn.to_owned(),
            ..Default::default()
        };
        Resource::of(&Request::ListTagsForResource(request)).unwrap()
    }

    #[test]
    fn an_arn_is_what_it_names() {
        for (tail, shown) in [
            ("environment/prod", "environment/prod"),
            ("service/shop", "service/shop"),
            (
                "service/shop/service-instance/blue",
                "service-instance/shop/blue",
            ),
            ("service/shop/pipeline", "service-pipeline/shop"),
            ("service/shop/pipeline/7", "service-pipeline/shop"),
            ("service-template/web", "service-template/web"),
            (
                "service-template/web:1.2",
                "service-template-version/web/1/2",
            ),
            (
                "environment-template/vpc:1",
                "environment-template-version/vpc/1",
            ),
            (
                "repository/github:acme/templates",
                "repository/GITHUB/acme/templates",
            ),
            ("deployment/7", "deployment/7"),
        ] {
            let arn = format!("arn:aws:proton:us-east-1:123456789012:{tail}");
            assert_eq!(tagging(&arn).to_string(), shown);
        }
        let instance = tagging("arn:aws:proton:us-east-1:1:service/shop/service-instance/blue");
        assert_eq!(instance.facts["service"], "shop");
    }

    #[test]
    fn what_is_no_arn_of_a_known_form_names_nothing_but_itself() {
        for text in [
            "",
            "prod",
            "arn:aws:proton",
            "arn:a:b:c:d:service/a/b",
            "arn:a:b:c:d:what/a",
        ] {
            assert_eq!(tagging(text).to_string(), format!("tags/{text}"));
        }
    }

    #[test]
    fn a_request_tells_its_names_its_tags_and_its_template() {
        let tag = |key: &str, value: &str| pb::Tag {
            key: Some(key.to_owned()),
            value: Some(value.to_owned()),
        };
        let mut request = pb::CreateServiceRequest {
            name: "shop".to_owned(),
            template_name: "web".to_owned(),
            tags: vec![tag("team", "a"), tag("team", "a")],
            ..Default::default()
        };
        let resource = Resource::of(&Request::CreateService(request.clone())).unwrap();
        assert_eq!(resource.to_string(), "service/shop");
        assert_eq!(resource.facts["template"], "web");
        assert_eq!(resource.tags["team"], "a");
        request.tags[1] = tag("team", "b");
        let twice = Resource::of(&Request::CreateService(request)).unwrap_err();
        assert!(twice.message.starts_with("tags: "), "{twice}");
    }

    #[test]
    fn names_that_are_joined_are_read_back() {
        for (method, text) in [
            ("GetServiceInstance", "shop/blue"),
            ("GetRepository", "GITHUB/acme/templates"),
            ("GetServiceTemplateVersion", "web/1/2"),
        ] {
            let operation = Operation::from_name(method).unwrap();
            assert_eq!(Resource::read(operation, text).unwrap().id(), text);
        }
        for (method, text) in [
            ("GetServiceInstance", "shop"),
            ("ListServices", "shop"),
            ("GetService", ""),
        ] {
            let operation = Operation::from_name(method).unwrap();
            Resource::read(operation, text).unwrap_err();
        }
    }
}
