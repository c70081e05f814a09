//! The standard health service: `Check`, `Watch` and `List`.

use std::collections::HashMap;
use std::pin::Pin;

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
use crate::error::Error;

/// The services whose state is told. The empty name is the whole server.
const SERVICES: &[&str] = &[
    "",
    "proton.v1.ProtonService",
    "proton.v1.WaitService",
    "proton.v1.PaginatorService",
    "proton.gateway.v1.GatewayService",
];

/// Whether calls are answered now. Clones share the state.
#[derive(Debug, Clone)]
pub struct Health {
    state: watch::Sender<State>,
}

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
            let arrival = request.extensions().get().cloned();
            let Arrival { request_id, .. } = arrival.unwrap_or_default();
            return Err(status::of(&error, None, &request_id));
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
        let states = WatchStream::new(self.state.subscribe());
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
}
