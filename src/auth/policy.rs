//! Who may do what: Cedar policies over callers, rpcs and resources.
//!
//! What policies can speak of is in [`schema`]; what a call is about, in [`resource`]; policies
//! from files, in [`set`]. This module holds the set that counts, remembers its decisions, and
//! takes another set when the files change. A decision needs nothing but the request: nobody
//! learns from a refusal whether a resource exists. Only where a request names no more than an id is
//! it decided once more, on what is found under it.

pub mod check;
pub mod list;
pub mod resource;
pub mod schema;
pub mod set;

use std::future::Future;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use moka::future::Cache;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use self::resource::Resource;
use self::set::{Policies, PolicyError};
use super::{Method, Principal};
use crate::api::{Class, Operation, Rpc};
use crate::config::authorization::AuthorizationConfig;
use crate::error::{Error, ErrorKind, Origin, Result};
use crate::reload::{Files, Reload};

/// How many decisions are remembered; the least used ones are forgotten first.
const DECISIONS: u64 = 100_000;

/// Decides whether a caller may do something. Clones share the policies and the decisions.
#[derive(Clone)]
pub struct Authorizer {
    shared: Arc<Shared>,
}

struct Shared {
    config: AuthorizationConfig,
    policies: ArcSwap<Policies>,
    /// By everything that a decision depends on.
    decisions: Cache<[u8; 32], Arc<Decision>>,
    changed: watch::Sender<()>,
}

/// Whether somebody may do something, and why. The why is for operators, not for the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub grounds: Grounds,
    /// Which policies there were.
    pub version: String,
    /// The built-in roles that would be enough, where it is refused.
    roles: Vec<&'static str>,
}

/// Where a call's decision is put down for those who stand outside authorization. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Decided(Option<Arc<OnceLock<Arc<Decision>>>>);

impl Decided {
    /// A place that is looked at later.
    pub fn wanted() -> Self {
        Self(Some(Arc::default()))
    }

    pub fn is_wanted(&self) -> bool {
        self.0.is_some()
    }

    pub fn set(&self, decision: &Arc<Decision>) {
        if let Some(place) = &self.0 {
            // A call is decided once.
            drop(place.set(Arc::clone(decision)));
        }
    }

    pub fn get(&self) -> Option<&Arc<Decision>> {
        self.0.as_ref()?.get()
    }
}

/// That a caller may do something, as long as policies are what they were.
pub struct Permit {
    policies: Arc<Policies>,
    decision: Arc<Decision>,
}

impl Permit {
    /// Why it may.
    pub fn decision(&self) -> &Decision {
        &self.decision
    }
}

/// What a decision rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grounds {
    /// Policies with these ids; none: nothing permits it.
    Policies(Vec<String>),
    /// The caller is confined to other things, whatever policies say.
    Scopes,
}

impl Decision {
    fn of(policies: &Policies, principal: &Principal, rpc: &Rpc, resource: &Resource) -> Self {
        let answer = policies.ask(principal, rpc, resource);
        let confined = !in_scope(principal, rpc);
        let allowed = answer.allowed && !confined;
        Self {
            allowed,
            grounds: match confined {
                true => Grounds::Scopes,
                false => Grounds::Policies(answer.policies),
            },
            version: policies.version().to_owned(),
            roles: match allowed || confined {
                true => Vec::new(),
                false => set::roles_for(rpc, resource),
            },
        }
    }

    /// The ids of the policies that decided.
    pub fn policies(&self) -> &[String] {
        match &self.grounds {
            Grounds::Policies(ids) => ids,
            Grounds::Scopes => &[],
        }
    }

    /// What the caller is told: what it lacks in general terms, and nothing of the policies.
    fn refusal(&self, principal: &Principal, rpc: &Rpc, resource: &Resource) -> Error {
        let needed = match (&self.grounds, self.roles.as_slice()) {
            (Grounds::Scopes, _) => format!(
                "its token is confined to other things; it needs the scope {} or {}",
                scope_of(rpc),
                rpc.method
            ),
            (Grounds::Policies(ids), _) if !ids.is_empty() => {
                "a policy forbids it; ask who runs the gateway".to_owned()
            }
            (Grounds::Policies(_), []) => "it needs a policy that permits this".to_owned(),
            (Grounds::Policies(_), roles) => format!(
                "it needs the role {}, or a policy that permits this",
                roles.join(" or ")
            ),
        };
        Error::new(
            ErrorKind::AccessDenied {
                origin: Origin::Gateway,
            },
            format!(
                "{} is not authorized to call {} on {resource}: {needed}",
                principal.id, rpc.method
            ),
        )
    }
}

impl Authorizer {
    /// Reads the policies that `config` names.
    pub fn open(config: &AuthorizationConfig) -> std::result::Result<Self, PolicyError> {
        let policies = Policies::load(config)?;
        tracing::info!(version = policies.version(), "policies are in force");
        Ok(Self {
            shared: Arc::new(Shared {
                config: config.clone(),
                policies: ArcSwap::from_pointee(policies),
                decisions: Cache::new(DECISIONS),
                changed: watch::Sender::new(()),
            }),
        })
    }

    /// The same, and what keeps it up to date for as long as it is polled.
    pub fn watched(
        config: &AuthorizationConfig,
        reload: Reload,
    ) -> std::result::Result<(Self, impl Future<Output = ()> + Send + 'static), PolicyError> {
        // Before they are read, so that no change is missed between.
        let mut files = Files::new(config.policy_files.clone(), reload);
        let authorizer = Self::open(config)?;
        let follower = authorizer.clone();
        let follow = async move {
            loop {
                files.changed().await;
                follower.renew().await;
            }
        };
        Ok((authorizer, follow))
    }

    /// Reads the files again. If anything is wrong with them, what held before goes on holding.
    pub async fn renew(&self) {
        let config = self.shared.config.clone();
        let loaded = tokio::task::spawn_blocking(move || Policies::load(&config)).await;
        let policies = match loaded {
            Ok(Ok(policies)) => policies,
            Ok(Err(error)) => {
                let kept = self.shared.policies.load().version().to_owned();
                tracing::error!(cause = %error, version = kept, "the changed policies are wrong; those from before go on holding");
                return;
            }
            Err(error) => {
                tracing::error!(cause = %error, "the changed policies could not be read");
                return;
            }
        };
        let version = policies.version().to_owned();
        if version == self.shared.policies.load().version() {
            return;
        }
        self.shared.policies.store(Arc::new(policies));
        tracing::info!(version, "changed policies are in force");
        self.shared.changed.send_replace(());
    }

    /// Which policies are in force.
    pub fn version(&self) -> String {
        self.shared.policies.load().version().to_owned()
    }

    /// Whether lists leave out what their caller may not get.
    pub fn filters_lists(&self) -> bool {
        self.shared.config.list_filter
    }

    /// What gets the resource of `operation`, where it has to be decided on once more when it is
    /// found. The built-in policies do not speak of what a resource belongs to.
    pub fn finder(&self, operation: Operation) -> Option<Operation> {
        schema::getter(operation).filter(|_| !self.shared.config.policy_files.is_empty())
    }

    /// Tells when other policies come into force.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.shared.changed.subscribe()
    }

    /// Whether `principal` may call `rpc` on `resource`.
    pub async fn decide(
        &self,
        principal: &Principal,
        rpc: &Rpc,
        resource: &Resource,
    ) -> Arc<Decision> {
        let policies = self.shared.policies.load_full();
        self.decide_by(&policies, principal, rpc, resource).await
    }

    async fn decide_by(
        &self,
        policies: &Policies,
        principal: &Principal,
        rpc: &Rpc,
        resource: &Resource,
    ) -> Arc<Decision> {
        let key = key(policies.version(), principal, rpc, resource);
        if let Some(known) = self.shared.decisions.get(&key).await {
            return known;
        }
        let decision = Arc::new(Decision::of(policies, principal, rpc, resource));
        self.shared
            .decisions
            .insert(key, Arc::clone(&decision))
            .await;
        decision
    }

    /// That `principal` may call `rpc` on `resource`, to be asked for again later.
    pub async fn permit(
        &self,
        principal: &Principal,
        rpc: &Rpc,
        resource: &Resource,
    ) -> Option<Permit> {
        let policies = self.shared.policies.load_full();
        let decision = self.decide_by(&policies, principal, rpc, resource).await;
        decision.allowed.then_some(Permit { policies, decision })
    }

    /// Whether what was permitted still is.
    pub fn holds(&self, permit: &Permit) -> bool {
        Arc::ptr_eq(&self.shared.policies.load(), &permit.policies)
    }

    /// An error unless `principal` may call `rpc` on `resource`.
    pub async fn check(&self, principal: &Principal, rpc: &Rpc, resource: &Resource) -> Result<()> {
        if exempt(principal) {
            return Ok(());
        }
        let decision = self.decide(principal, rpc, resource).await;
        self.enforce(&decision, principal, rpc, resource)
    }

    /// The decision as an error, if it is against the caller.
    pub fn enforce(
        &self,
        decision: &Decision,
        principal: &Principal,
        rpc: &Rpc,
        resource: &Resource,
    ) -> Result<()> {
        if decision.allowed {
            return Ok(());
        }
        tracing::debug!(
            principal = principal.id,
            rpc = rpc.method,
            // Quoted: the caller wrote it.
            resource = ?resource.to_string(),
            grounds = ?decision.grounds,
            version = decision.version,
            "denied"
        );
        Err(decision.refusal(principal, rpc, resource))
    }
}

/// Whether policies say nothing about the caller: the gateway itself, whose polls answer callers
/// that were asked before.
pub fn exempt(principal: &Principal) -> bool {
    principal.method == Method::Gateway
}

/// Whether the caller's scopes leave it the rpc.
fn in_scope(principal: &Principal, rpc: &Rpc) -> bool {
    let scopes = &principal.scopes;
    scopes.is_empty() || scopes.contains(scope_of(rpc)) || scopes.contains(rpc.method)
}

fn scope_of(rpc: &Rpc) -> &'static str {
    match rpc.class {
        Class::Read => "read",
        Class::Write => "write",
        Class::Wait => "wait",
    }
}

fn key(version: &str, principal: &Principal, rpc: &Rpc, resource: &Resource) -> [u8; 32] {
    let mut digest = Sha256::new();
    let mut feed = |text: &str| {
        digest.update((text.len() as u64).to_be_bytes());
        digest.update(text);
    };
    for part in [version, &principal.id, principal.method.name(), rpc.method] {
        feed(part);
    }
    for set in [&principal.roles, &principal.scopes] {
        feed(&set.len().to_string());
        set.iter().for_each(|member| feed(member));
    }
    feed(&principal.attributes.len().to_string());
    for (name, value) in &principal.attributes {
        feed(name);
        feed(value);
    }
    resource.digest(&mut digest);
    digest.finalize().into()
}

#[cfg(test)]
mod tests;
