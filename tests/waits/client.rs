//! A client of `WaitService` in this process, and short forms of what it is told.

use std::time::Duration;

use proton_gateway::api::own::{self, DeployAction};
use proton_gateway::api::pb;
use proton_gateway::api::pb::wait_event::Event;
use proton_gateway::api::pb::wait_service_client::WaitServiceClient;
use proton_gateway::changes::Changes;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::Gateway;
use proton_gateway::server::Shutdown;
use proton_gateway::waits::{Key, Settings, Waits};
use tonic::service::Routes;
use tonic::{Status, Streaming};

use crate::support::World;

pub type Client = WaitServiceClient<Edge<Routes>>;

/// A client of waits that poll often: upstreams that publish no changes are polled in real time.
pub fn client(world: &World) -> Client {
    client_with_key(world, Key::random().unwrap())
}

pub fn client_with_key(world: &World, key: Key) -> Client {
    open(
        world.gateway.clone(),
        world.changes.clone(),
        Settings {
            pauses: vec![Duration::from_millis(20)],
            ..Settings::with_key(key)
        },
        world.shutdown.clone(),
    )
}

pub fn open(gateway: Gateway, changes: Changes, settings: Settings, shutdown: Shutdown) -> Client {
    let waits = Waits::new(gateway.clone(), changes, settings, shutdown);
    WaitServiceClient::new(grpc_door::routes(gateway, waits, Health::default()).unwrap())
}

/// A response that carries an event.
pub trait Carries {
    fn event(self) -> pb::WaitEvent;

    /// How a deploy came to its deployment; nothing else has an action.
    fn action(&self) -> DeployAction {
        DeployAction::Unspecified
    }
}

macro_rules! carries {
    (deploys: $($deployed:ident)+; waits: $($response:ident)+) => {
        $(impl Carries for own::$deployed {
            fn event(self) -> pb::WaitEvent {
                self.event.unwrap()
            }

            fn action(&self) -> DeployAction {
                DeployAction::try_from(self.action).unwrap()
            }
        })+
        $(impl Carries for pb::$response {
            fn event(self) -> pb::WaitEvent {
                self.event.unwrap()
            }
        })+
    };
}

carries! {
    deploys: DeployEnvironmentResponse DeployServiceInstanceResponse DeployServicePipelineResponse;
    waits: WaitComponentDeployedResponse WaitEnvironmentDeployedResponse WaitEnvironmentDeletedResponse
    WaitServiceCreatedResponse WaitServiceDeletedResponse WaitServiceInstanceDeployedResponse
    WaitServicePipelineDeployedResponse WaitServiceUpdatedResponse WatchDeploymentResponse
    WaitEnvironmentTemplateVersionRegisteredResponse
}

/// The stream of one wait.
pub struct Wait<T> {
    stream: Streaming<T>,
    /// All events so far.
    pub events: Vec<pb::WaitEvent>,
    action: DeployAction,
}

impl<T: Carries> Wait<T> {
    pub fn of(response: tonic::Response<Streaming<T>>) -> Self {
        Self {
            stream: response.into_inner(),
            events: Vec::new(),
            action: DeployAction::Unspecified,
        }
    }

    /// The next event in its short form; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<String>, Status> {
        // In paused time an hour is soon over.
        let next = tokio::time::timeout(Duration::from_secs(3600), self.stream.message());
        let Some(response) = next.await.expect("an event comes in time")? else {
            return Ok(None);
        };
        self.action = response.action();
        let event = response.event();
        let short = short(&event);
        self.events.push(event);
        Ok(Some(short))
    }

    /// What the last item says of how its deployment was come to.
    pub fn action(&self) -> DeployAction {
        self.action
    }

    /// All that follows in short forms, and how the stream ends.
    pub async fn rest(&mut self) -> (Vec<String>, Result<(), Status>) {
        let mut told = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(event)) => told.push(event),
                Ok(None) => return (told, Ok(())),
                Err(status) => return (told, Err(status)),
            }
        }
    }

    /// The terminal event, which is the last one.
    pub fn terminal(&self) -> pb::WaitTerminal {
        match self.events.last().unwrap().event.clone().unwrap() {
            Event::Terminal(terminal) => terminal,
            other => panic!("the last event is {other:?}"),
        }
    }
}

/// An event in a few words.
pub fn short(event: &pb::WaitEvent) -> String {
    match event.event.as_ref().unwrap() {
        Event::Snapshot(snapshot) => format!("snapshot {}", snapshot.status),
        Event::Transition(change) => format!("{} to {}", change.from, change.to),
        Event::Heartbeat(_) => "heartbeat".to_owned(),
        Event::Degraded(_) => "degraded".to_owned(),
        Event::Superseded(_) => "superseded".to_owned(),
        Event::Closing(closing) => {
            let reason = closing.reason().as_str_name();
            format!(
                "closing {}",
                reason.trim_start_matches("WAIT_CLOSING_REASON_")
            )
        }
        Event::Terminal(terminal) => {
            let outcome = terminal.outcome().as_str_name();
            format!("terminal {}", outcome.trim_start_matches("WAIT_OUTCOME_"))
        }
    }
}
