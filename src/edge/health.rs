//! The standard health service: `Check`, `Watch` and `List`; and what the admin page says of the health.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::Stream;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;
use tonic::{Request, Response, Status};

use super::{Arrival, status};
use crate::api::health::health_check_response::ServingStatus;
use crate::api::health::health_server;
use crate::api::health::{
    HealthCheckRequest, HealthCheckResponse, HealthListRequest, HealthListResponse,
};
use crate::error::{Error, ErrorKind};
use crate::server::Peer;

/// The services whose state is told. The empty name is the whole server.
const SERVICES: &[&str] = &[
    "",
    "proton.v1.ProtonService",
    "proton.v1.WaitService",
    "proton.v1.PaginatorService",
    "proton.gateway.v1.GatewayService",
];

/// What answers depend on, by the names that can be asked for as those of services can. Listeners are
/// `listener.` and their names.
pub const STORE: &str = "store";
pub const UPSTREAM: &str = "upstream";

/// How many watches one connection may have: they are given to anybody. So all together are bounded
/// by the bound of connections, and nobody's watches keep another from having one.
const MAX_WATCHES: usize = 8;
/// When a client that has too many may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether calls are answered now, and how all is that this depends on. Clones share the state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: watch::Sender<State>,
    watches: Watches,
}

/// How many watches each connection has; none is here that has none.
type Watches = Arc<Mutex<HashMap<usize, usize>>>;

#[derive(Debug, Clone, Default)]
struct State {
    /// The program has begun to serve, and was not told to stop.
    serving: bool,
    /// Watches end.
    over: bool,
    dependencies: BTreeMap<String, Dependency>,
    configuration: Configuration,
}

/// What answers depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Dependency {
    able: bool,
    /// Without it no call is answered.
    needed: bool,
}

/// How what holds differs from what the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Configuration {
    #[default]
    Current,
    /// The file is wrong, as the text says; what held before holds.
    Refused(String),
    /// These keys have other values in the file, and hold after a restart.
    Pending(Vec<String>),
}

impl State {
    fn answers(&self) -> bool {
        self.serving && self.dependencies.values().all(|it| it.able || !it.needed)
    }

    /// Whether a service, or what a service depends on, is as it should be. Nothing if there is none.
    fn of(&self, name: &str) -> Option<bool> {
        if SERVICES.contains(&name) {
            return Some(self.answers());
        }
        self.dependencies.get(name).map(|it| it.able)
    }
}

/// One watch of a connection.
struct Watching {
    /// Kept, so that its address names this connection alone.
    peer: Arc<Peer>,
    watches: Watches,
}

impl Watching {
    fn begin(watches: &Watches, peer: &Arc<Peer>) -> Result<Self, Error> {
        let mut all = watches.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(Arc::as_ptr(peer).addr()).or_default();
        if *count >= MAX_WATCHES {
            return Err(Error::new(
                ErrorKind::Unavailable {
                    retry_after: RETRY_AFTER,
                },
                format!("a connection has at most {MAX_WATCHES} watches of the health; end one"),
            ));
        }
        *count += 1;
        Ok(Self {
            peer: Arc::clone(peer),
            watches: Arc::clone(watches),
        })
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut all = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = all.entry(Arc::as_ptr(&self.peer).addr()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Health {
    pub fn set_serving(&self, serving: bool) {
        self.change(|state| state.serving = serving);
    }

    /// Says whether something is there that no call is answered without; says it again whenever that
    /// may have changed.
    pub fn needs(&self, name: &str, able: bool) {
        self.depend(name, able, true);
    }

    /// The same for what some calls are answered without.
    pub fn uses(&self, name: &str, able: bool) {
        self.depend(name, able, false);
    }

    fn depend(&self, name: &str, able: bool, needed: bool) {
        self.change(|state| {
            let dependency = Dependency { able, needed };
            state.dependencies.insert(name.to_owned(), dependency);
        });
    }

    /// Says how what holds differs from what the file says.
    pub fn configured(&self, configuration: Configuration) {
        self.change(|state| state.configuration = configuration);
    }

    /// Ends all watches: they would not end by themselves, and keep their connections.
    pub fn end_watches(&self) {
        self.change(|state| state.over = true);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let told = |state: &State| {
                let able = state.dependencies.values().map(|it| it.able);
                (state.answers(), state.over, able.collect::<Vec<_>>())
            };
            let before = told(state);
            change(state);
            told(state) != before
        });
    }

    pub fn is_serving(&self) -> bool {
        self.state.borrow().answers()
    }

    /// All that is known, for people and their scripts.
    pub fn page(&self) -> serde_json::Value {
        let state = self.state.borrow();
        let dependencies: BTreeMap<_, _> = state
            .dependencies
            .iter()
            .map(|(name, it)| {
                let value = serde_json::json!({ "able": it.able, "needed": it.needed });
                (name.clone(), value)
            })
            .collect();
        let configuration = match &state.configuration {
            Configuration::Current => serde_json::json!({ "current": true }),
            Configuration::Refused(problem) => {
                serde_json::json!({ "current": false, "problem": problem })
            }
            Configuration::Pending(keys) => {
                serde_json::json!({ "current": false, "needs-a-restart": keys })
            }
        };
        serde_json::json!({
            "serving": state.answers(),
            "dependencies": dependencies,
            "configuration": configuration,
        })
    }
}

fn arrival(request: &Request<HealthCheckRequest>) -> Arrival {
    request.extensions().get().cloned().unwrap_or_default()
}

fn response(serving: bool) -> HealthCheckResponse {
    let status = if serving {
        ServingStatus::Serving
    } else {
        ServingStatus::NotServing
    };
    HealthCheckResponse {
        status: status.into(),
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let name = &request.get_ref().service;
        let Some(able) = self.state.borrow().of(name) else {
            let error = Error::not_found("service", name);
            return Err(status::of(&error, None, &arrival(&request).request_id));
        };
        Ok(Response::new(response(able)))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let state = self.state.borrow();
        let names = SERVICES.iter().copied();
        let statuses: HashMap<_, _> = names
            .chain(state.dependencies.keys().map(String::as_str))
            .filter_map(|name| Some((name.to_owned(), response(state.of(name)?))))
            .collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    /// Ends with the program only; a service that does not exist may appear in a later version, so the
    /// standard asks for SERVICE_UNKNOWN and an open stream.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let arrival = arrival(&request);
        let watching = Watching::begin(&self.watches, &arrival.peer)
            .map_err(|error| status::of(&error, None, &arrival.request_id))?;
        let name = request.into_inner().service;
        let mut last = None;
        let states = WatchStream::new(self.state.subscribe())
            .take_while(|state| !state.over)
            .filter_map(move |state| {
                // It lasts as long as the stream does.
                let _ = &watching;
                let now = match state.of(&name) {
                    Some(able) => response(able),
                    None => HealthCheckResponse {
                        status: ServingStatus::ServiceUnknown.into(),
                    },
                };
                (last.replace(now) != Some(now)).then_some(Ok(now))
            });
        Ok(Response::new(Box::pin(states)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_answered_while_the_program_serves_and_what_it_needs_is_there() {
        let health = Health::default();
        health.needs(STORE, true);
        health.set_serving(true);
        assert!(health.is_serving());
        health.needs(STORE, false);
        assert!(!health.is_serving());
        health.needs(STORE, true);
        health.uses(UPSTREAM, false);
        assert!(health.is_serving());
        health.set_serving(false);
        health.needs(STORE, true);
        assert!(!health.is_serving());
    }

    #[test]
    fn the_page_names_what_is_depended_on_and_what_the_file_has_changed() {
        let health = Health::default();
        health.set_serving(true);
        health.needs(STORE, true);
        health.uses(UPSTREAM, false);
        health.configured(Configuration::Pending(vec!["listen".to_owned()]));
        assert_eq!(
            health.page(),
            serde_json::json!({
                "serving": true,
                "dependencies": {
                    "store": { "able": true, "needed": true },
                    "upstream": { "able": false, "needed": false },
                },
                "configuration": { "current": false, "needs-a-restart": ["listen"] },
            })
        );
    }

    #[tokio::test]
    async fn a_watch_tells_of_one_dependency_and_ends_when_all_do() {
        use health_server::Health as _;
        let health = Health::default();
        health.uses(UPSTREAM, true);
        let request = Request::new(HealthCheckRequest {
            service: UPSTREAM.to_owned(),
        });
        let mut states = health.watch(request).await.unwrap().into_inner();
        let told = |able| Some(response(able));
        assert_eq!(states.next().await.map(Result::unwrap), told(true));
        health.needs(STORE, false);
        health.uses(UPSTREAM, false);
        assert_eq!(states.next().await.map(Result::unwrap), told(false));
        health.end_watches();
        assert!(states.next().await.is_none());
    }

    fn watch_of(peer: &Arc<Peer>) -> Request<HealthCheckRequest> {
        let mut request = Request::new(HealthCheckRequest::default());
        request.extensions_mut().insert(Arrival {
            peer: Arc::clone(peer),
            ..Arrival::default()
        });
        request
    }

    #[tokio::test]
    async fn a_connection_has_few_watches_and_another_one_has_its_own() {
        use health_server::Health as _;
        let health = Health::default();
        let (one, another) = (Arc::default(), Arc::default());
        let mut watches = Vec::new();
        for _ in 0..MAX_WATCHES {
            watches.push(health.watch(watch_of(&one)).await.unwrap());
        }
        let Err(refused) = health.watch(watch_of(&one)).await else {
            panic!("one more than are allowed");
        };
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(health.watch(watch_of(&another)).await.is_ok());
        watches.pop();
        assert!(health.watch(watch_of(&one)).await.is_ok());
        watches.clear();
        assert!(health.watches.lock().unwrap().is_empty());
    }
}
