//! Who may do what, from the doors to the backend.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;

#[path = "../conformance/service_fixtures.rs"]
#[allow(dead_code)]
mod service_fixtures;

mod command;
mod deploys;
mod explain;
mod found;
mod lists;
mod roles;
mod streams;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use proton_gateway::admission::Guards;
use proton_gateway::api::Response;
use proton_gateway::auth::policy::Authorizer;
use proton_gateway::auth::{Method, Principal};
use proton_gateway::changes::Changes;
use proton_gateway::config::authorization::AuthorizationConfig;
use proton_gateway::deploy::Deploys;
use proton_gateway::edge::Arrival;
use proton_gateway::edge::gateway_service::Own;
use proton_gateway::error::Error;
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::waits::{Key, Settings, Waits};

/// A gateway with policies, over a backend that answers as the test says.
struct Guarded {
    gateway: Gateway,
    waits: Waits,
    authorizer: Authorizer,
    /// Calls that came as far as the backend.
    asked: Arc<AtomicUsize>,
}

impl Guarded {
    fn over(
        config: &AuthorizationConfig,
        answer: impl Fn(&Call) -> Result<Response, Error> + Clone + Send + Sync + 'static,
    ) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let backend = tower::service_fn(move |call: Call| {
            counter.fetch_add(1, Ordering::SeqCst);
            let answer = answer(&call);
            async move { answer.map(Reply::new) }
        });
        let authorizer = Authorizer::open(config).unwrap();
        let guards = Guards {
            authorizer: Some(authorizer.clone()),
            ..Guards::default()
        };
        let pipeline = pipeline::build(backend, Metrics::new().unwrap(), &guards);
        let gateway = Gateway::new(pipeline).guarded_by(guards);
        let (stop, shutdown) = Shutdown::channel();
        // Nothing is stopped in these tests.
        std::mem::forget(stop);
        let settings = Settings {
            pauses: vec![Duration::from_millis(20)],
            ..Settings::with_key(Key::random().unwrap())
        };
        let waits = Waits::new(gateway.clone(), Changes::default(), settings, shutdown);
        Self {
            gateway,
            waits,
            authorizer,
            asked,
        }
    }

    /// A backend that has nothing.
    fn empty(config: &AuthorizationConfig) -> Self {
        Self::over(config, |call| {
            Err(Error::not_found(call.operation.policy().resource, "it"))
        })
    }

    fn own(&self) -> Own {
        let deploys = Deploys::new(self.gateway.clone(), self.waits.clone());
        Own::new(deploys, Some(self.authorizer.clone()))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// A caller with some roles.
fn caller(id: &str, roles: &[&str]) -> Arc<Principal> {
    Arc::new(Principal {
        id: id.to_owned(),
        method: Method::Token,
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        scopes: Default::default(),
        attributes: Default::default(),
        expires: None,
    })
}

fn arrival(principal: &Arc<Principal>) -> Arrival {
    Arrival {
        principal: Arc::clone(principal),
        ..Arrival::default()
    }
}

/// A request of `principal`, as the gRPC door hands it on.
fn request<T>(principal: &Arc<Principal>, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(arrival(principal));
    request
}

/// Policies in a file of their own.
struct PolicyFile(tempfile::NamedTempFile);

impl PolicyFile {
    fn with(text: &str) -> Self {
        let file = Self(tempfile::NamedTempFile::with_suffix(".cedar").unwrap());
        file.say(text);
        file
    }

    fn say(&self, text: &str) {
        std::fs::write(self.0.path(), text).unwrap();
    }

    fn config(&self) -> AuthorizationConfig {
        AuthorizationConfig {
            policy_files: vec![self.0.path().to_owned()],
            ..AuthorizationConfig::default()
        }
    }
}
