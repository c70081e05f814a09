//! One set of policies: read from files, checked against the schema, and asked.

mod source;

use std::sync::LazyLock;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use sha2::{Digest, Sha256};

pub use self::source::PolicyError;
use self::source::{BUILT_IN, Owners, Source, read};
use super::resource::Resource;
use super::schema::{self, NAMESPACE, PRINCIPAL};
use crate::api::Rpc;
use crate::auth::{Method, Principal};
use crate::config::authorization::AuthorizationConfig;

/// The roles that have a meaning by themselves.
pub const ROLES: [&str; 3] = ["administrator", "developer", "viewer"];
const BUILT_IN_ROLES: &str = include_str!("roles.cedar");
const ALWAYS: &str = include_str!("always.cedar");

/// Policies that hold together. The schema and the actions come with them.
#[derive(Debug)]
pub struct Policies {
    set: PolicySet,
    vocabulary: &'static Vocabulary,
    /// The same for the same policies.
    version: String,
}

/// What one set of policies says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    /// The ids of the policies that decided; none where nothing permits.
    pub policies: Vec<String>,
}

/// The schema, compiled.
#[derive(Debug)]
struct Vocabulary {
    schema: Schema,
    actions: Entities,
}

static VOCABULARY: LazyLock<Result<Vocabulary, String>> = LazyLock::new(|| {
    let (schema, _) =
        Schema::from_cedarschema_str(&schema::TEXT).map_err(|error| error.to_string())?;
    let actions = schema
        .action_entities()
        .map_err(|error| error.to_string())?;
    Ok(Vocabulary { schema, actions })
});

impl Policies {
    /// Reads and checks what `config` names.
    pub fn load(config: &AuthorizationConfig) -> Result<Self, PolicyError> {
        let mut sources = Vec::new();
        let built_in = |text: &str| Source {
            path: BUILT_IN.into(),
            text: text.to_owned(),
            ours: true,
        };
        sources.push(built_in(ALWAYS));
        if config.built_in_roles {
            sources.push(built_in(BUILT_IN_ROLES));
        }
        for path in &config.policy_files {
            read(path, &mut sources)?;
        }
        Self::of(&sources)
    }

    /// Only what the roles mean by themselves.
    fn of_roles() -> Result<Self, PolicyError> {
        Self::load(&AuthorizationConfig::default())
    }

    fn of(sources: &[Source]) -> Result<Self, PolicyError> {
        let vocabulary = VOCABULARY
            .as_ref()
            .map_err(|problem| PolicyError::BuiltIn(problem.clone()))?;
        let mut set = PolicySet::new();
        let mut owners = Owners::new();
        let mut version = Sha256::new();
        for (index, source) in sources.iter().enumerate() {
            source.add_to(&mut set, &mut owners, index)?;
            version.update((source.text.len() as u64).to_be_bytes());
            version.update(&source.text);
        }
        let validator = Validator::new(vocabulary.schema.clone());
        let found = validator.validate(&set, ValidationMode::Strict);
        if let Some(error) = found.validation_errors().next() {
            let owner = owners
                .get(error.policy_id())
                .and_then(|index| sources.get(*index));
            return Err(match owner {
                Some(source) => source.wrong(&DetailedError::from(error), &error.to_string()),
                None => PolicyError::BuiltIn(error.to_string()),
            });
        }
        for warning in found.validation_warnings() {
            tracing::warn!(problem = %warning, "a policy looks wrong");
        }
        Ok(Self {
            set,
            vocabulary,
            version: hex::encode(version.finalize()).chars().take(16).collect(),
        })
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    /// What the policies say. What cannot be evaluated permits nothing.
    pub fn ask(&self, principal: &Principal, rpc: &Rpc, resource: &Resource) -> Answer {
        let refused = |problem: String| {
            tracing::error!(rpc = rpc.method, problem, "a policy decision failed");
            Answer {
                allowed: false,
                policies: Vec::new(),
            }
        };
        match self.evaluate(principal, rpc, resource) {
            Ok(answer) => answer,
            Err(problem) => refused(problem),
        }
    }

    fn evaluate(
        &self,
        principal: &Principal,
        rpc: &Rpc,
        resource: &Resource,
    ) -> Result<Answer, String> {
        let action = uid("Action", rpc.method)?;
        let caller = uid("Principal", &principal.id)?;
        let subject = uid(&schema::type_name(resource.kind), &resource.id())?;
        let mut entities = vec![caller_entity(&caller, principal)?];
        if subject != caller {
            entities.push(match resource.kind {
                PRINCIPAL => caller_entity(&subject, &unknown(resource.name()))?,
                _ => resource_entity(&subject, resource)?,
            });
        }
        let action_entity = self.vocabulary.actions.get(&action);
        entities.extend(action_entity.cloned());
        let entities =
            Entities::from_entities(entities, None).map_err(|error| error.to_string())?;
        let request = Request::new(caller, action, subject, Context::empty(), None)
            .map_err(|error| error.to_string())?;
        let response = Authorizer::new().is_authorized(&request, &self.set, &entities);
        let errors: Vec<_> = response
            .diagnostics()
            .errors()
            .map(ToString::to_string)
            .collect();
        if !errors.is_empty() {
            // A prohibition that cannot be evaluated must not become a permission.
            return Err(errors.join("; "));
        }
        let mut policies: Vec<_> = response
            .diagnostics()
            .reason()
            .map(ToString::to_string)
            .collect();
        policies.sort();
        Ok(Answer {
            allowed: response.decision() == Decision::Allow,
            policies,
        })
    }
}

/// The built-in roles that allow `rpc` by themselves.
pub fn roles_for(rpc: &Rpc, resource: &Resource) -> Vec<&'static str> {
    static OF_ROLES: LazyLock<Option<Policies>> = LazyLock::new(|| Policies::of_roles().ok());
    let allows = |role: &&str| {
        OF_ROLES.as_ref().is_some_and(|policies| {
            let mut holder = unknown("");
            holder.roles.insert((*role).to_owned());
            policies.ask(&holder, rpc, resource).allowed
        })
    };
    ROLES.into_iter().filter(allows).collect()
}

/// A caller of whom nothing is known but the id.
fn unknown(id: &str) -> Principal {
    Principal {
        id: id.to_owned(),
        method: Method::Token,
        roles: Default::default(),
        scopes: Default::default(),
        attributes: Default::default(),
        expires: None,
    }
}

fn uid(kind: &str, id: &str) -> Result<EntityUid, String> {
    let kind: EntityTypeName = format!("{NAMESPACE}::{kind}")
        .parse()
        .map_err(|error| format!("{kind}: {error}"))?;
    Ok(EntityUid::from_type_name_and_id(kind, EntityId::new(id)))
}

fn text(value: &str) -> RestrictedExpression {
    RestrictedExpression::new_string(value.to_owned())
}

fn caller_entity(uid: &EntityUid, principal: &Principal) -> Result<Entity, String> {
    let roles = principal.roles.iter();
    let parents: Result<Vec<_>, _> = roles.clone().map(|role| self::uid("Role", role)).collect();
    let attributes = [
        ("method".to_owned(), text(principal.method.name())),
        ("name".to_owned(), text(&principal.id)),
        (
            "roles".to_owned(),
            RestrictedExpression::new_set(roles.map(|role| text(role))),
        ),
    ];
    let tags = principal.attributes.iter();
    let tags = tags.map(|(name, value)| (name.clone(), text(value)));
    Entity::new_with_tags(uid.clone(), attributes, parents?, tags)
        .map_err(|error| error.to_string())
}

fn resource_entity(uid: &EntityUid, resource: &Resource) -> Result<Entity, String> {
    let containers = resource.containers.iter();
    let containers: Result<Vec<_>, _> = containers
        .map(|(kind, id)| self::uid(&schema::type_name(kind), id))
        .collect();
    let facts = resource.facts.iter();
    let attributes = facts
        .map(|(name, value)| ((*name).to_owned(), text(value)))
        .chain([("name".to_owned(), text(resource.name()))]);
    let tags = resource
        .tags
        .iter()
        .map(|(key, value)| (key.clone(), text(value)));
    Entity::new_with_tags(uid.clone(), attributes, containers?, tags)
        .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
