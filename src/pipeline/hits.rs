//! Answers reads with what is kept before they become calls.
//!
//! A hit asks the guards that the layers ask, in their order, and is sent as it is kept. What follows
//! from a request's bytes and its caller alone is found out once, after the pipeline has answered
//! the same question with what is kept. Here an answer is given, or a limit's refusal; whatever else
//! a call may come to, it comes to in the pipeline.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;

use super::observe::{Decisions, Record, Subject};
use super::{deadline, limit};
use crate::admission::Guards;
use crate::api::{Cache as Class, Framed, Idempotency, Operation, Request};
use crate::auth::Principal;
use crate::auth::policy::Permit;
use crate::auth::policy::resource::Resource;
use crate::cache::demand::{Served, Status};
use crate::cache::{Cache, Key};
use crate::edge::Arrival;
use crate::error::{Error, Result};
use crate::etag::Expected;
use crate::gateway::Door;
use crate::telemetry::Metrics;

/// The longest message that is remembered.
const LONGEST: usize = 4 * 1024;
/// What a question and what is known of it take, besides three times the message.
const OVERHEAD: usize = 1024;
/// Which part of the cache's size questions may take besides.
const PART: u64 = 8;

/// What is asked, by whom, and of which upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    operation: Operation,
    caller: Caller,
    upstream: Option<Arc<str>>,
    /// As it was sent.
    message: Bytes,
}

impl Question {
    /// Absent where no answer is kept.
    pub fn new(operation: Operation, message: Bytes, arrival: &Arrival) -> Option<Self> {
        let plain = arrival.expected == Expected::Any;
        let fits = message.len() <= LONGEST;
        (fits && plain && Self::is_about(operation)).then(|| Self {
            operation,
            caller: Caller(Arc::clone(&arrival.principal)),
            upstream: arrival.upstream.clone(),
            message,
        })
    }

    /// Whether answers of an operation are kept.
    pub fn is_about(operation: Operation) -> bool {
        let policy = operation.policy();
        policy.cache != Class::None && policy.idempotency == Idempotency::Read
    }

    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// Of its message, in bytes.
    pub fn size(&self) -> usize {
        self.message.len()
    }

    fn weight(&self) -> u32 {
        u32::try_from(OVERHEAD + 3 * self.message.len()).unwrap_or(u32::MAX)
    }
}

/// A caller with all that is known of it.
#[derive(Debug, Clone)]
struct Caller(Arc<Principal>);

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Caller {}

impl Hash for Caller {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// What follows from a question that the pipeline lets through.
struct Known {
    request: Request,
    key: Key,
    /// Absent where callers are not authorized.
    permit: Option<Permit>,
}

/// An answer that is ready to be sent.
#[derive(Debug)]
pub struct Hit {
    pub frame: Framed,
    pub served: Served,
    pub etag: Option<HeaderValue>,
}

/// Knows the questions that have been answered before. Clones share them.
#[derive(Clone)]
pub struct Hits(Arc<Shared>);

struct Shared {
    cache: Cache,
    guards: Guards,
    metrics: Metrics,
    known: moka::sync::Cache<Question, Arc<Known>>,
}

impl Hits {
    pub fn new(cache: Cache, guards: Guards, metrics: Metrics) -> Self {
        let known = moka::sync::Cache::builder()
            .max_capacity(cache.max_size() / PART)
            .weigher(|question: &Question, _| question.weight())
            .build();
        Self(Arc::new(Shared {
            cache,
            guards,
            metrics,
            known,
        }))
    }

    /// What the pipeline would answer with, if that is kept. Absent where the pipeline has to be
    /// asked; then nothing was taken or counted.
    pub fn answer(&self, question: &Question, arrival: &Arrival) -> Option<Result<Hit>> {
        let Shared {
            cache,
            guards,
            metrics,
            known,
        } = &*self.0;
        let operation = question.operation;
        let known = known.get(question)?;
        if deadline::has_passed(arrival.deadline) || !known.is_permitted(guards) {
            return None;
        }
        // Before the limit, which takes something: what is no hit is limited in the pipeline.
        let read = cache.begin(known.key.clone(), operation)?;
        let found = cache.look_up_framed(&read, arrival.demand)?;
        let frame = found.outcome.ok()?;

        let subject = Subject {
            door: Door::Grpc,
            request_id: arrival.request_id.clone(),
            principal: Arc::clone(&arrival.principal),
            trace: arrival.trace.clone(),
        };
        let record = Record::begin(metrics, &known.request, subject);
        let limiter = guards.limiter.as_ref();
        let outcome = match limit::let_in(limiter, operation, &arrival.principal) {
            Ok(_held) => {
                cache.count(Status::Hit);
                Ok(Hit {
                    frame,
                    served: found.served,
                    etag: found.header,
                })
            }
            Err(error) => Err(error),
        };
        record.end(&outcome, |hit| Decisions {
            policies: known.permit.as_ref().map(Permit::decision),
            cache: hit.map(|hit| hit.served.status),
            ..Decisions::default()
        });
        Some(outcome)
    }

    /// Takes note that the pipeline has answered a question with what is kept.
    pub async fn learn(&self, question: Question) {
        let Shared { guards, known, .. } = &*self.0;
        if let Ok(Some(new)) = Known::of(&question, guards).await {
            // Copied: it must not keep what came with it.
            let message = Bytes::copy_from_slice(&question.message);
            let question = Question {
                message,
                ..question
            };
            known.insert(question, Arc::new(new));
        }
    }
}

impl Known {
    /// Absent where each answer is made for its caller.
    async fn of(question: &Question, guards: &Guards) -> Result<Option<Self>> {
        let (principal, operation) = (&*question.caller.0, question.operation);
        let upstream = question.upstream.as_deref();
        let request = Request::decode(operation, &question.message)
            .map_err(|error| Error::unreadable(error.to_string()))?;
        let permit = match &guards.authorizer {
            None => None,
            Some(authorizer) if authorizer.depends_on_answers(operation) => return Ok(None),
            Some(authorizer) => {
                let resource = Resource::of(&request)?.at(upstream);
                let permit = authorizer.permit(principal, operation.rpc(), &resource);
                match permit.await {
                    Some(permit) => Some(permit),
                    None => return Ok(None),
                }
            }
        };
        let identity = guards.identities.of(principal, upstream)?;
        request.validate()?;
        Ok(Some(Self {
            key: Key::new(identity, &request),
            request,
            permit,
        }))
    }

    fn is_permitted(&self, guards: &Guards) -> bool {
        match (&guards.authorizer, &self.permit) {
            (None, _) => true,
            (Some(authorizer), Some(permit)) => authorizer.holds(permit),
            (Some(_), None) => false,
        }
    }
}
