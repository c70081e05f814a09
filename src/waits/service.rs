//! `WaitService`: a request becomes a wait, and the wait a stream.

use std::pin::Pin;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, stream};
use prost::Message;
use prost_types::Duration as Span;
use tokio::time::Instant;
use tonic::{Request as Rpc, Response as Answer, Status};

use super::Waits;
use super::stream::{Waiting, Wanted};
use crate::admission::Admission;
use crate::api::pb::wait_service_server::WaitService;
use crate::api::waits::WaitPolicy;
use crate::api::{Request, pb};
use crate::edge::{Arrival, status};
use crate::error::{Error, Result};

/// How long nothing may be said where the caller does not say.
const HEARTBEAT: Duration = Duration::from_secs(15);
const HEARTBEATS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3600)];
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The request of a wait.
pub(crate) trait Wait: Message {
    type Event: Send + 'static;

    const NAME: &'static str;
    /// Whether a failure ends the stream with a status, where the caller does not say.
    const FAILS: bool;

    fn options(&mut self) -> pb::WaitOptions;

    /// What is polled.
    fn polled(&self) -> Request;

    /// What lists the outputs, where there are any.
    fn outputs(&self) -> Option<Request>;

    /// What its changes are published under.
    fn published_under(&self) -> &str;

    fn event(event: pb::WaitEvent) -> Self::Event;
}

type Events<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

/// Says for each wait what it polls, what lists its outputs, and what its names are called there.
macro_rules! waits {
    ($($wait:ident $method:ident $stream:ident: $request:ident => $response:ident,
        polls $operation:ident($polled:ident { $first:ident $(, $more:ident)* }),
        $(lists $outputs:ident($listed:ident { $($theirs:ident: $ours:ident),+ }),)?
        fails $fails:literal;)+) => {
        $(impl Wait for pb::$request {
            type Event = pb::$response;

            const NAME: &'static str = stringify!($wait);
            const FAILS: bool = $fails;

            fn options(&mut self) -> pb::WaitOptions {
                self.options.take().unwrap_or_default()
            }

            // Not all of them have more fields.
            #[allow(clippy::needless_update)]
            fn polled(&self) -> Request {
                Request::$operation(pb::$polled {
                    $first: self.$first.clone(),
                    $($more: self.$more.clone(),)*
                    ..pb::$polled::default()
                })
            }

            fn outputs(&self) -> Option<Request> {
                let listed: Vec<Request> = vec![$(Request::$outputs(pb::$listed {
                    $($theirs: self.$ours.clone(),)+
                    ..pb::$listed::default()
                }))?];
                listed.into_iter().next()
            }

            fn published_under(&self) -> &str {
                &self.$first
            }

            fn event(event: pb::WaitEvent) -> pb::$response {
                pb::$response { event: Some(event) }
            }
        })+

        #[tonic::async_trait]
        impl WaitService for Waits {
            $(type $stream = Events<pb::$response>;

            async fn $method(
                &self,
                request: Rpc<pb::$request>,
            ) -> std::result::Result<Answer<Self::$stream>, Status> {
                self.stream(request).await
            })+
        }
    };
}

waits! {
    WaitEnvironmentTemplateVersionRegistered wait_environment_template_version_registered WaitEnvironmentTemplateVersionRegisteredStream: WaitEnvironmentTemplateVersionRegisteredRequest => WaitEnvironmentTemplateVersionRegisteredResponse,
        polls GetEnvironmentTemplateVersion(GetEnvironmentTemplateVersionRequest { template_name, major_version, minor_version }),
        fails true;
    WaitServiceTemplateVersionRegistered wait_service_template_version_registered WaitServiceTemplateVersionRegisteredStream: WaitServiceTemplateVersionRegisteredRequest => WaitServiceTemplateVersionRegisteredResponse,
        polls GetServiceTemplateVersion(GetServiceTemplateVersionRequest { template_name, major_version, minor_version }),
        fails true;
    WaitEnvironmentDeployed wait_environment_deployed WaitEnvironmentDeployedStream: WaitEnvironmentDeployedRequest => WaitEnvironmentDeployedResponse,
        polls GetEnvironment(GetEnvironmentRequest { name }),
        lists ListEnvironmentOutputs(ListEnvironmentOutputsRequest { environment_name: name }),
        fails true;
    WaitEnvironmentDeleted wait_environment_deleted WaitEnvironmentDeletedStream: WaitEnvironmentDeletedRequest => WaitEnvironmentDeletedResponse,
        polls GetEnvironment(GetEnvironmentRequest { name }),
        fails true;
    WaitServiceCreated wait_service_created WaitServiceCreatedStream: WaitServiceCreatedRequest => WaitServiceCreatedResponse,
        polls GetService(GetServiceRequest { name }),
        fails true;
    WaitServiceUpdated wait_service_updated WaitServiceUpdatedStream: WaitServiceUpdatedRequest => WaitServiceUpdatedResponse,
        polls GetService(GetServiceRequest { name }),
        fails true;
    WaitServiceDeleted wait_service_deleted WaitServiceDeletedStream: WaitServiceDeletedRequest => WaitServiceDeletedResponse,
        polls GetService(GetServiceRequest { name }),
        fails true;
    WaitServiceInstanceDeployed wait_service_instance_deployed WaitServiceInstanceDeployedStream: WaitServiceInstanceDeployedRequest => WaitServiceInstanceDeployedResponse,
        polls GetServiceInstance(GetServiceInstanceRequest { service_name, name }),
        lists ListServiceInstanceOutputs(ListServiceInstanceOutputsRequest { service_name: service_name, service_instance_name: name }),
        fails true;
    WaitServicePipelineDeployed wait_service_pipeline_deployed WaitServicePipelineDeployedStream: WaitServicePipelineDeployedRequest => WaitServicePipelineDeployedResponse,
        polls GetService(GetServiceRequest { name }),
        lists ListServicePipelineOutputs(ListServicePipelineOutputsRequest { service_name: name }),
        fails true;
    WaitComponentDeployed wait_component_deployed WaitComponentDeployedStream: WaitComponentDeployedRequest => WaitComponentDeployedResponse,
        polls GetComponent(GetComponentRequest { name }),
        lists ListComponentOutputs(ListComponentOutputsRequest { component_name: name }),
        fails true;
    WaitComponentDeleted wait_component_deleted WaitComponentDeletedStream: WaitComponentDeletedRequest => WaitComponentDeletedResponse,
        polls GetComponent(GetComponentRequest { name }),
        fails true;
    WatchDeployment watch_deployment WatchDeploymentStream: WatchDeploymentRequest => WatchDeploymentResponse,
        polls GetDeployment(GetDeploymentRequest { id }),
        fails false;
}

/// How a wait differs from what its rpc does by itself.
pub(crate) struct Manner {
    /// The rpc that the stream's tokens are of.
    pub rpc: &'static str,
    /// Whether a failure ends the stream with a status, where the caller does not say.
    pub fails: bool,
    /// Whether outputs come although they were not asked for.
    pub outputs: bool,
}

/// A wait whose request has been checked.
pub(crate) struct Planned {
    wanted: Wanted,
    /// What its changes are published under.
    published_under: String,
}

impl Planned {
    /// Whether it goes on with an earlier stream.
    pub(crate) fn resumes(&self) -> bool {
        self.wanted.position.is_some()
    }

    /// The wait is for this deployment and for no other.
    pub(crate) fn pin(&mut self, deployment: String) {
        let position = self.wanted.position.get_or_insert_default();
        position.deployment = Some(deployment);
    }
}

/// The events of one stream.
pub(crate) type Told = Events<pb::WaitEvent>;

impl Waits {
    async fn stream<W: Wait>(
        &self,
        request: Rpc<W>,
    ) -> std::result::Result<Answer<Events<W::Event>>, Status> {
        let (_, extensions, message) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let manner = Manner {
            rpc: W::NAME,
            fails: W::FAILS,
            outputs: false,
        };
        let told = async {
            // Before all else: who may not wait learns nothing, not even what is wrong with it.
            let polled = message.polled();
            let admission = self.gateway.admit(W::NAME, &polled, &arrival).await?;
            let planned = self.plan(message, manner, &arrival)?;
            self.follow(planned, admission).await
        };
        let told = told
            .await
            .map_err(|error| status::of(&error, None, &arrival.request_id))?;
        Ok(Answer::new(Box::pin(told.map(|event| event.map(W::event)))))
    }

    /// Opens the stream of a wait. What is not there is the answer of the call itself: there is no
    /// stream then.
    pub(crate) async fn follow(&self, planned: Planned, admission: Admission) -> Result<Told> {
        let Planned {
            wanted,
            published_under,
        } = planned;
        let identity = admission.identity().clone();
        let watcher = self
            .pollers
            .watch(identity, &published_under, &wanted.polled);
        let waiting = Waiting::open(self.clone(), wanted, watcher, admission).await?;
        Ok(Box::pin(stream::unfold(
            waiting,
            |mut waiting| async move {
                let event = waiting.next().await?;
                Some((event, waiting))
            },
        )))
    }

    /// Checks the request of a wait.
    pub(crate) fn plan<W: Wait>(
        &self,
        mut message: W,
        manner: Manner,
        arrival: &Arrival,
    ) -> Result<Planned> {
        let polled = message.polled();
        polled.validate()?;
        let options = message.options();
        let now = Instant::now();
        let heartbeat = span(
            "options.heartbeat_interval",
            options.heartbeat_interval,
            HEARTBEAT,
            HEARTBEATS,
        )?;
        let longest = span(
            "options.max_duration",
            options.max_duration,
            LONGEST,
            [Duration::from_secs(1), LONGEST],
        )?;
        let policy =
            WaitPolicy::of(W::NAME).ok_or_else(|| Error::internal("a wait has no policy"))?;
        let wait = bound(manner.rpc, arrival, &polled);
        let position = match options.resume_token.as_str() {
            "" => None,
            token => {
                let settings = self.settings.load();
                Some(settings.key.open(token, &wait, SystemTime::now())?)
            }
        };
        let wanted = Wanted {
            policy,
            outputs: message
                .outputs()
                .filter(|_| options.include_outputs || manner.outputs),
            polled,
            wait,
            heartbeat,
            ends: now + longest,
            deadline: arrival.stream_deadline.map(Instant::from_std),
            fail_on_failure: options.fail_on_failure.unwrap_or(manner.fails),
            position,
            answer_by: Instant::from_std(arrival.deadline),
            request_id: arrival.request_id.clone(),
            trace: arrival.trace.clone(),
        };
        Ok(Planned {
            wanted,
            published_under: message.published_under().to_owned(),
        })
    }
}

/// What a resume token is bound to: the rpc, the caller, the upstream and the resource.
fn bound(rpc: &str, arrival: &Arrival, polled: &Request) -> Vec<u8> {
    let mut bytes = Vec::new();
    let caller = arrival.principal.id.as_bytes();
    let upstream = arrival.upstream.as_deref().unwrap_or_default().as_bytes();
    for part in [rpc.as_bytes(), caller, upstream, &polled.key()] {
        // With its length before it, no part is taken for the next one.
        bytes.extend((part.len() as u64).to_be_bytes());
        bytes.extend(part);
    }
    bytes
}

/// A duration of a request, if it is between the two limits.
fn span(
    field: &str,
    given: Option<Span>,
    default: Duration,
    [least, most]: [Duration; 2],
) -> Result<Duration> {
    let Some(given) = given else {
        return Ok(default);
    };
    // Only a positive one is converted: the conversion of others may overflow.
    let given = u64::try_from(given.seconds)
        .ok()
        .zip(u32::try_from(given.nanos).ok());
    let span = given
        .filter(|(_, nanos)| *nanos < 1_000_000_000)
        .map(|(seconds, nanos)| Duration::new(seconds, nanos));
    match span {
        Some(span) if (least..=most).contains(&span) => Ok(span),
        _ => Err(Error::invalid_field(
            field,
            format!("must be from {} s to {} s", least.as_secs(), most.as_secs()),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_is_none_is_refused_by_its_field_whatever_its_numbers() {
        let second = Duration::from_secs(1);
        let read = |seconds, nanos| {
            let given = Some(Span { seconds, nanos });
            span("options.max_duration", given, second, [second, LONGEST])
        };
        assert_eq!(read(2, 5).unwrap(), Duration::new(2, 5));
        for (seconds, nanos) in [
            (i64::MIN, i32::MIN),
            (i64::MAX, i32::MAX),
            (-1, 0),
            (2, -1),
            (2, 1_000_000_000),
            (0, 0),
        ] {
            let error = read(seconds, nanos).unwrap_err();
            assert!(error.message.starts_with("options.max_duration"), "{error}");
        }
    }
}
