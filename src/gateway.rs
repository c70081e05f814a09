//! A request becomes a [`Call`] and goes through the pipeline: one generic function for all rpcs,
//! and the same path for both doors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use prost::Message;
use tonic::Status;
use tonic::metadata::MetadataValue;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use crate::admission::{Admission, Guards};
use crate::api::{Class, Operation, Request, Response, Rpc, Typed};
use crate::auth::Principal;
use crate::auth::policy::Decided;
use crate::cache::Cache;
use crate::cache::demand::{Demand, Served};
use crate::edge::budget::Budget;
use crate::edge::{Arrival, DEFAULT_DEADLINE, compression, status};
use crate::error::{Error, Result};
use crate::etag::{ETAG, Etag, Expected};
use crate::ledger::{Key, Ledger, Once, REPLAYED};
use crate::limits::Held;
use crate::pipeline::hits::Hits;
use crate::server::Peer;
use crate::telemetry::{Metrics, Trace};
use crate::upstream::Identity;

/// By which protocol a call came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    Grpc,
    Aws,
    /// No door: a wait of ours asks.
    Wait,
}

impl Door {
    /// How the door is called in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Aws => "aws",
            Self::Wait => "wait",
        }
    }
}

/// A call in flight.
#[derive(Debug, Clone)]
pub struct Call {
    pub operation: Operation,
    pub request: Request,
    pub door: Door,
    pub principal: Arc<Principal>,
    /// The upstream that the caller names.
    pub upstream: Option<Arc<str>>,
    /// What the caller wants of the cache.
    pub demand: Demand,
    /// By what the caller names the call.
    pub key: Key,
    /// The same, where the backend itself sees to it that the call is applied once.
    pub once: Option<Once>,
    /// Which state of what it changes the caller has seen.
    pub expected: Expected,
    /// Its place among those of its caller, as long as anything of it is under way.
    pub held: Option<Arc<Held>>,
    /// Which policies let it pass; for the record.
    pub decision: Decided,
    /// As whom the upstream is asked; settled on the way.
    pub identity: Option<Identity>,
    /// Who is at the other end of the connection; nobody where no door was used.
    pub peer: Arc<Peer>,
    /// What it is part of, as far as that is known.
    pub trace: Trace,
    /// Which attempt of the call this is; the first is 1.
    pub attempt: u32,
    /// Names the call in logs and in answers.
    pub request_id: String,
    /// When the caller stops waiting.
    pub deadline: Instant,
}

impl Call {
    pub fn new(request: Request, door: Door, arrival: &Arrival) -> Self {
        Self {
            operation: request.operation(),
            request,
            door,
            principal: Arc::clone(&arrival.principal),
            upstream: arrival.upstream.clone(),
            demand: arrival.demand,
            key: arrival.key.clone(),
            once: None,
            held: None,
            expected: arrival.expected,
            decision: Decided::default(),
            identity: None,
            peer: Arc::clone(&arrival.peer),
            trace: arrival.trace.clone(),
            attempt: 1,
            request_id: arrival.request_id.clone(),
            deadline: arrival.deadline,
        }
    }

    /// Whether it may be sent again although the first may have been applied.
    pub fn repeatable(&self) -> bool {
        self.once.is_some() || self.request.repeatable()
    }
}

/// A successful answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub response: Response,
    /// AWS's id of the request, where the backend is AWS.
    pub upstream_request_id: Option<String>,
    /// Whence it came, where answers are kept.
    pub served: Option<Served>,
    /// It is the outcome of an earlier call with the same idempotency key.
    pub replayed: bool,
    /// Which state of its resource it shows, where it shows one whole.
    pub etag: Option<Etag>,
    /// How many attempts it took, where that was more than one.
    pub attempts: u32,
}

impl Reply {
    /// The reply of a backend.
    pub fn new(response: Response) -> Self {
        Self {
            response,
            upstream_request_id: None,
            served: None,
            replayed: false,
            etag: None,
            attempts: 1,
        }
    }
}

/// What calls go through; see [`crate::pipeline`].
pub type Pipeline = BoxCloneSyncService<Call, Reply, Error>;

/// Hands calls to the pipeline. Clones share it.
#[derive(Clone)]
pub struct Gateway {
    pipeline: Pipeline,
    budget: Budget,
    guards: Guards,
    ledger: Option<Ledger>,
    cache: Option<Cache>,
    hits: Option<Hits>,
    metrics: Option<Metrics>,
    /// The longest deadline that callers may set for mutations.
    longest: Duration,
}

impl Gateway {
    pub fn new(pipeline: Pipeline) -> Self {
        Self::within(pipeline, Budget::default())
    }

    /// A gateway whose requests take no more than `budget`.
    pub fn within(pipeline: Pipeline, budget: Budget) -> Self {
        Self {
            pipeline,
            budget,
            guards: Guards::default(),
            ledger: None,
            cache: None,
            hits: None,
            metrics: None,
            longest: DEFAULT_DEADLINE,
        }
    }

    /// The same, where callers may set a later deadline for mutations.
    pub fn lasting(self, longest: Duration) -> Self {
        Self { longest, ..self }
    }

    /// Takes over the deadline that the caller of a mutation has set.
    pub fn extend(&self, arrival: &mut Arrival, rpc: impl FnOnce() -> Option<&'static Rpc>) {
        let more = self.longest > DEFAULT_DEADLINE;
        if more && rpc().is_some_and(|rpc| rpc.class == Class::Write) {
            arrival.last(self.longest);
        }
    }

    /// The same, whose deploys are kept in the ledger of its pipeline.
    pub fn with_ledger(self, ledger: Option<Ledger>) -> Self {
        Self { ledger, ..self }
    }

    /// The same, which can purge the cache of its pipeline.
    pub fn with_cache(self, cache: Option<Cache>) -> Self {
        Self { cache, ..self }
    }

    /// Where answers are kept, if they are.
    pub fn cache(&self) -> Option<&Cache> {
        self.cache.as_ref()
    }

    /// Where idempotency keys are kept, if they are.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.ledger.as_ref()
    }

    /// The same, with the guards that its pipeline has.
    pub fn guarded_by(self, guards: Guards) -> Self {
        Self { guards, ..self }
    }

    /// The same, whose gRPC door answers at once what its pipeline keeps.
    pub fn with_hits(self, hits: Option<Hits>) -> Self {
        Self { hits, ..self }
    }

    /// What is answered at the door.
    pub fn hits(&self) -> Option<&Hits> {
        self.hits.as_ref()
    }

    /// The same, which can tell its metrics.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// What is counted, if it is.
    pub fn metrics(&self) -> Option<&Metrics> {
        self.metrics.as_ref()
    }

    /// What guards its calls and streams.
    pub fn guards(&self) -> &Guards {
        &self.guards
    }

    /// Lets a caller open a stream of `rpc` about what `request` names, or says why not.
    pub async fn admit(
        &self,
        rpc: &str,
        request: &Request,
        arrival: &Arrival,
    ) -> Result<Admission> {
        let rpc = Rpc::of(rpc).ok_or_else(|| Error::internal("an rpc is not in the contract"))?;
        let mut admission = self.guards.admit(rpc, request, arrival).await?;
        if self.guards.finder(request, arrival).is_some() {
            // What a stream polls shows what it is about; the gateway asks, as for each poll.
            let asking = Arrival {
                principal: Principal::gateway(),
                deadline: arrival.deadline,
                request_id: arrival.request_id.clone(),
                ..Arrival::default()
            };
            let call = Call {
                identity: Some(admission.identity().clone()),
                ..Call::new(request.clone(), Door::Wait, &asking)
            };
            match self.call(call).await {
                Ok(found) => {
                    let found = &found.response;
                    let admitted = self
                        .guards
                        .admit_to(found, admission, rpc, request, arrival);
                    admission = admitted.await?;
                }
                // The stream says it.
                Err(error) if error.is_not_found() => {}
                Err(error) => return Err(error),
            }
        }
        // A stream is held to no state that its caller has seen.
        arrival.expected.check(None)?;
        Ok(admission)
    }

    /// What the requests of all doors may take.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Sends one call through the pipeline.
    pub async fn call(&self, call: Call) -> Result<Reply> {
        self.pipeline.clone().oneshot(call).await
    }

    /// The body of every rpc.
    pub(crate) async fn unary<T: Typed<Response: Message>>(
        &self,
        request: tonic::Request<T>,
    ) -> std::result::Result<tonic::Response<T::Response>, Status> {
        let (metadata, extensions, message) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let call = Call::new(message.into_request(), Door::Grpc, &arrival);
        let operation = call.operation;
        let outcome = self.call(call).await.and_then(|reply| {
            let (id, served) = (reply.upstream_request_id, reply.served);
            let (etag, replayed) = (reply.etag, reply.replayed);
            T::from_response(reply.response)
                .map(|response| (response, id, served, etag, replayed))
                .ok_or_else(|| Error::internal("the backend answered another operation"))
        });
        match outcome {
            Ok((response, upstream_request_id, served, etag, replayed)) => {
                let mut response = tonic::Response::new(response);
                compression::spare(&metadata, &mut response);
                if let Some(id) = upstream_request_id.and_then(|id| id.parse().ok()) {
                    response.metadata_mut().insert(status::AWS_REQUEST_ID, id);
                }
                if replayed {
                    let value = MetadataValue::from_static("true");
                    response.metadata_mut().insert(REPLAYED, value);
                }
                if let Some(etag) = etag.and_then(|etag| etag.to_string().parse().ok()) {
                    response.metadata_mut().insert(ETAG, etag);
                }
                for (name, value) in served.iter().flat_map(Served::headers) {
                    if let Ok(value) = value.parse() {
                        response.metadata_mut().insert(name, value);
                    }
                }
                Ok(response)
            }
            Err(error) => Err(status::of(&error, Some(operation), &arrival.request_id)),
        }
    }
}
