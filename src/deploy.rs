//! Deploys: one call that creates or updates, and then tells how that ends.
//!
//! What is to be deployed and what that means for each kind of target is in [`desired`]; calls
//! that are sent again, in [`begun`]. The stream is that of the wait for the same target.

mod begun;
mod desired;

use std::pin::Pin;
use std::time::Instant;

use futures_util::{Stream, StreamExt};
use opentelemetry::KeyValue;
use tonic::metadata::MetadataValue;
use tonic::{Request as Rpc, Response as Answer, Status};

use self::begun::{Before, Begun, Keyed};
use self::desired::{Current, Desired};
use crate::api::own::{self, DeployAction};
use crate::api::pb::deployment_state::State;
use crate::api::{Request, Response, pb};
use crate::auth::Principal;
use crate::cache::demand::Demand;
use crate::edge::{Arrival, DEFAULT_DEADLINE, status};
use crate::error::{ConflictReason, Error, ErrorKind, Result};
use crate::gateway::{Call, Door, Gateway};
use crate::ledger::in_flight::InFlight;
use crate::ledger::{self, Key};
use crate::waits::{Manner, Planned, Told, Waits};

/// Answers the deploys of `GatewayService`. Clones share what was begun.
#[derive(Clone)]
pub struct Deploys {
    gateway: Gateway,
    waits: Waits,
    in_flight: InFlight<Begun>,
}

/// The items of one deploy's stream.
pub type Items<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

impl Deploys {
    pub(crate) fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    pub fn new(gateway: Gateway, waits: Waits) -> Self {
        Self {
            gateway,
            waits,
            in_flight: InFlight::default(),
        }
    }

    /// Begins what is to be deployed, or joins it, and opens the stream. Nothing is begun whose
    /// request is wrong in any part.
    async fn deploy(
        &self,
        desired: Result<Desired>,
        options: pb::WaitOptions,
        key: Key,
        arrival: &Arrival,
    ) -> Result<(Begun, Told)> {
        let desired = desired?;
        // Before all else: who may not deploy learns nothing, not even what is wrong with it.
        let admission = self
            .gateway
            .admit(desired.rpc(), &desired.get(), arrival)
            .await?;
        let keyed = self.keyed(&desired, &key, arrival)?;
        if options.resume_token.is_empty() {
            desired.validate()?;
        }
        let mut planned = self.plan(&desired, options, arrival)?;
        if planned.resumes() {
            let told = self.waits.follow(planned, admission).await?;
            return Ok((Begun::joined(None), told));
        }
        let begin = self.clone().begin(desired, keyed.clone(), arrival.clone());
        let begun = keyed.once(&self.in_flight, begin).await?;
        arrival.trace.note(|span| {
            let action = begun.action.as_str_name();
            span.add_event("begun", vec![KeyValue::new("proton.action", action)]);
        });
        if let Some(deployment) = &begun.deployment {
            planned.pin(deployment.clone());
        }
        Ok((begun, self.waits.follow(planned, admission).await?))
    }

    fn keyed(&self, desired: &Desired, key: &Key, arrival: &Arrival) -> Result<Keyed> {
        let Some(key) = key.given()? else {
            return Ok(Keyed::by(None));
        };
        let ledger = self.gateway.ledger().ok_or_else(ledger::unkept)?;
        let (caller, upstream) = (&arrival.principal.id, arrival.upstream.as_deref());
        let content = desired.content();
        let once = ledger.once(caller, upstream, desired.rpc(), key, &content);
        Ok(Keyed::by(Some(once)))
    }

    fn plan(
        &self,
        desired: &Desired,
        options: pb::WaitOptions,
        arrival: &Arrival,
    ) -> Result<Planned> {
        let manner = Manner {
            rpc: desired.rpc(),
            fails: true,
            outputs: true,
        };
        let options = Some(options);
        match desired {
            Desired::Environment(wanted) => {
                let name = wanted.name.clone();
                let wait = pb::WaitEnvironmentDeployedRequest { name, options };
                self.waits.plan(wait, manner, arrival)
            }
            Desired::ServiceInstance(wanted) => {
                let wait = pb::WaitServiceInstanceDeployedRequest {
                    name: wanted.name.clone(),
                    service_name: wanted.service_name.clone(),
                    options,
                };
                self.waits.plan(wait, manner, arrival)
            }
            Desired::ServicePipeline(wanted) => {
                let name = wanted.service_name.clone();
                let wait = pb::WaitServicePipelineDeployedRequest { name, options };
                self.waits.plan(wait, manner, arrival)
            }
        }
    }

    /// Creates or updates, unless exactly that is being deployed already.
    async fn begin(self, desired: Desired, keyed: Keyed, arrival: Arrival) -> Result<Begun> {
        let ask = |request| self.ask(request, &arrival);
        let created = match (ask(desired.get()).await, desired.create()) {
            (Ok(found), _) => {
                let current = desired.current(found.clone())?;
                if let Before::Again(before) = keyed.before(current.latest.as_ref()).await?
                    && before != current.latest
                {
                    return match self.aim(&current, &arrival).await {
                        Some(target) if desired.is(&target, &current) => {
                            Ok(Begun::joined(current.latest))
                        }
                        // It may have begun before that one, which it must not undo.
                        _ => Err(perhaps_begun()),
                    };
                }
                return self.update(&desired, found, &arrival).await;
            }
            (Err(error), Some(create)) if error.is_not_found() => match keyed.before(None).await? {
                Before::First | Before::Again(None) => ask(create).await,
                Before::Again(Some(_)) => return Err(perhaps_begun()),
            },
            (Err(error), _) => return Err(error),
        };
        match created {
            Ok(response) => Ok(Begun::new(DeployAction::Created, &response)),
            // Somebody else was faster.
            Err(error) if error.is_taken() => {
                let found = ask(desired.get()).await?;
                self.update(&desired, found, &arrival).await
            }
            Err(error) => {
                self.begun_all_the_same(error, &desired, None, &arrival)
                    .await
            }
        }
    }

    async fn update(&self, desired: &Desired, found: Response, arrival: &Arrival) -> Result<Begun> {
        let mut current = desired.current(found)?;
        if current.running || current.is_new() {
            let target = self.aim(&current, arrival).await;
            if let Some(target) = &target {
                if current.running && desired.is(target, &current) {
                    return Ok(Begun::joined(current.latest));
                }
                if current.is_new() {
                    current.tried(target);
                }
            }
        }
        match self.ask(desired.update(&current), arrival).await {
            Ok(response) => Ok(Begun::new(DeployAction::Updated, &response)),
            Err(error) => {
                let before = current.latest.as_deref();
                self.begun_all_the_same(error, desired, before, arrival)
                    .await
            }
        }
    }

    /// Looks at the target after an error that does not say that nothing was begun. What has begun
    /// since `before`, and is of what is desired, is joined, whoever began it.
    async fn begun_all_the_same(
        &self,
        error: Error,
        desired: &Desired,
        before: Option<&str>,
        arrival: &Arrival,
    ) -> Result<Begun> {
        if !may_have_begun(&error) {
            return Err(error);
        }
        // The time of the call may be what was over.
        let arrival = Arrival {
            deadline: Instant::now() + DEFAULT_DEADLINE,
            ..arrival.clone()
        };
        let found = self.ask(desired.get(), &arrival).await;
        let Ok(current) = found.and_then(|found| desired.current(found)) else {
            return Err(error);
        };
        if current.latest.as_deref() == before {
            return Err(error);
        }
        match self.aim(&current, &arrival).await {
            Some(target) if desired.is(&target, &current) => Ok(Begun::joined(current.latest)),
            _ => Err(error),
        }
    }

    /// What the latest deployment aims at.
    async fn aim(&self, current: &Current, arrival: &Arrival) -> Option<State> {
        let request = pb::GetDeploymentRequest {
            id: current.latest.clone()?,
            ..pb::GetDeploymentRequest::default()
        };
        // Whoever may deploy need not be allowed to read deployments: it learns no more than that
        // this is what it wants.
        let gateway = Arrival {
            principal: Principal::gateway(),
            ..arrival.clone()
        };
        let answer = self.ask(Request::GetDeployment(request), &gateway).await;
        // What cannot be read may be another one: the update says so, if it is.
        let Ok(Response::GetDeployment(found)) = answer else {
            return None;
        };
        found.deployment?.target_state?.state
    }

    async fn ask(&self, request: Request, arrival: &Arrival) -> Result<Response> {
        self.gateway
            .call(Call {
                // What is about to be changed is not known from memory.
                demand: Demand::FRESH,
                // It is that of the deploy.
                key: Key::Absent,
                ..Call::new(request, Door::Grpc, arrival)
            })
            .await
            .map(|reply| reply.response)
    }
}

/// What has become of the target since the first call says nothing of that call.
fn perhaps_begun() -> Error {
    Error::new(
        ErrorKind::OutcomeUnknown,
        "a deploy with this idempotency-key may have begun, and the target was changed since: look at its deployments before using another key",
    )
}

/// Whether a deployment may be under way although a create or an update ended so.
fn may_have_begun(error: &Error) -> bool {
    let unknown = matches!(
        &*error.kind,
        ErrorKind::Conflict {
            reason: ConflictReason::InProgress,
            ..
        } | ErrorKind::OutcomeUnknown
            | ErrorKind::Unavailable { .. }
            | ErrorKind::DeadlineExceeded
    );
    unknown || error.unsettled
}

/// Says for each deploy what its request is called and what its items are.
macro_rules! deploys {
    ($($method:ident: $request:ident { $field:ident } => $response:ident, $target:ident;)+) => {
        impl Deploys {
            $(/// The rpc of this name.
            pub async fn $method(
                &self,
                request: Rpc<own::$request>,
            ) -> std::result::Result<Answer<Items<own::$response>>, Status> {
                let key = Key::of(request.metadata().as_ref());
                let (_, extensions, message) = request.into_parts();
                let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
                let desired = message
                    .$field
                    .map(Desired::$target)
                    .ok_or_else(|| Error::invalid_field(stringify!($field), "is required"));
                let options = message.options.unwrap_or_default();
                let (begun, told) = self
                    .deploy(desired, options, key, &arrival)
                    .await
                    .map_err(|error| status::of(&error, None, &arrival.request_id))?;
                let items = told.map(move |event| {
                    event.map(|event| own::$response {
                        action: begun.action.into(),
                        event: Some(event),
                    })
                });
                let replayed = begun.replayed;
                let mut answer = Answer::<Items<own::$response>>::new(Box::pin(items));
                if replayed {
                    let value = MetadataValue::from_static("true");
                    answer.metadata_mut().insert(ledger::REPLAYED, value);
                }
                Ok(answer)
            })+
        }
    };
}

deploys! {
    deploy_environment:
        DeployEnvironmentRequest { environment } => DeployEnvironmentResponse, Environment;
    deploy_service_instance:
        DeployServiceInstanceRequest { service_instance } => DeployServiceInstanceResponse, ServiceInstance;
    deploy_service_pipeline:
        DeployServicePipelineRequest { service_pipeline } => DeployServicePipelineResponse, ServicePipeline;
}
