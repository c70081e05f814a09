//! The standard health service: `Check`, `Watch` and `List`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
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

/// How many watches one connection may have: they are given to anybody. So all together are bounded
/// by the bound of connections, and nobody's watches keep another from having one.
const MAX_WATCHES: usize = 8;
/// When a client that has too many may ask again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Whether calls are answered now. Clones share the state.
#[derive(Debug, Clone)]
pub struct Health {
    state: watch::Sender<State>,
    watches: Watches,
}

/// How many watches each connection has; none is here that has none.
type Watches = Arc<Mutex<HashMap<usize, usize>>>;

#[derive(Debug, Clone, Copy)]
struct State {
    /// The program has begun to serve, and was not told to stop.
    serving: bool,
    /// What the backend needs is there.
    able: bool,
}

impl State {
    fn answers(self) -> bool {
        self.serving && self.able
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State {
                serving: false,
                able: true,
            }),
            watches: Watches::default(),
        }
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

    /// Says whether what the backend needs is there; says it again whenever that may have changed.
    pub fn set_able(&self, able: bool) {
        self.change(|state| state.able = able);
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = state.answers();
            change(state);
            state.answers() != before
        });
    }

    pub fn is_serving(&self) -> bool {
        self.state.borrow().answers()
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
        if !SERVICES.contains(&request.get_ref().service.as_str()) {
            let error = Error::not_found("service", &request.get_ref().service);
            return Err(status::of(&error, None, &arrival(&request).request_id));
        }
        Ok(Response::new(response(self.is_serving())))
    }

    async fn list(
        &self,
        _: Request<HealthListRequest>,
    ) -> Result<Response<HealthListResponse>, Status> {
        let statuses: HashMap<_, _> = SERVICES
            .iter()
            .map(|name| ((*name).to_owned(), response(self.is_serving())))
            .collect();
        Ok(Response::new(HealthListResponse { statuses }))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    /// Never ends by itself; a service that does not exist may appear in a later version, so the
    /// standard asks for SERVICE_UNKNOWN and an open stream.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let arrival = arrival(&request);
        let watching = Watching::begin(&self.watches, &arrival.peer)
            .map_err(|error| status::of(&error, None, &arrival.request_id))?;
        let states = WatchStream::new(self.state.subscribe()).map(move |state| {
            // It lasts as long as the stream does.
            let _ = &watching;
            state
        });
        if SERVICES.contains(&request.get_ref().service.as_str()) {
            return Ok(Response::new(Box::pin(
                states.map(|state| Ok(response(state.answers()))),
            )));
        }
        let unknown = HealthCheckResponse {
            status: ServingStatus::ServiceUnknown.into(),
        };
        let mut told = false;
        Ok(Response::new(Box::pin(states.filter_map(move |_| {
            (!std::mem::replace(&mut told, true)).then_some(Ok(unknown))
        }))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_answered_while_the_program_serves_and_the_backend_is_able() {
        let health = Health::default();
        health.set_serving(true);
        assert!(health.is_serving());
        health.set_able(false);
        assert!(!health.is_serving());
        health.set_able(true);
        assert!(health.is_serving());
        health.set_serving(false);
        health.set_able(true);
        assert!(!health.is_serving());
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
