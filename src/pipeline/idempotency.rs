//! Sees to it that a mutation whose caller gave it a key takes effect once, however often it is
//! sent.
//!
//! Where the backend is the engine, it uses the key in the transaction of the call itself. Elsewhere
//! the key is put down before the call and its outcome after it; what happened in between, if the
//! gateway or the connection broke, is found out when the call is sent again: by the upstream, where
//! it keeps keys itself. What is kept, and how, is the business of [`crate::ledger`].

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use opentelemetry::KeyValue;
use prost::Message;
use tower::{Layer, Service, ServiceExt};

use super::condition::tagged;
use crate::api::{Idempotency, Request, Response, pb};
use crate::cache::demand::Demand;
use crate::edge::DEFAULT_DEADLINE;
use crate::error::{Error, ErrorKind, Result};
use crate::etag::Expected;
use crate::gateway::{Call, Reply};
use crate::ledger::in_flight::{InFlight, Joined};
use crate::ledger::probe::{self, Evidence, Verdict};
use crate::ledger::{self, Found, Ledger, Once, Outcome, is_final};

/// When to send a call again that was not applied.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub struct IdempotencyLayer {
    ledger: Option<Ledger>,
    in_flight: InFlight<Reply>,
}

impl IdempotencyLayer {
    /// Without a ledger, calls with keys are refused: a key that is ignored protects nobody.
    pub fn new(ledger: Option<Ledger>) -> Self {
        Self {
            ledger,
            in_flight: InFlight::default(),
        }
    }
}

impl<S> Layer<S> for IdempotencyLayer {
    type Service = Idempotent<S>;

    fn layer(&self, inner: S) -> Idempotent<S> {
        Idempotent {
            inner,
            shared: self.clone(),
        }
    }
}

#[derive(Clone)]
pub struct Idempotent<S> {
    inner: S,
    shared: IdempotencyLayer,
}

impl<S> Service<Call> for Idempotent<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let through = self.clone();
        Box::pin(async move {
            if call.operation.policy().idempotency == Idempotency::Read {
                return through.inner.oneshot(call).await;
            }
            match call.key.given()?.cloned() {
                None => through.inner.oneshot(call).await,
                Some(key) => through.once(call, &key).await,
            }
        })
    }
}

impl<S> Idempotent<S>
where
    S: Service<Call, Response = Reply, Error = Error> + Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    async fn once(self, call: Call, key: &str) -> Result<Reply> {
        let ledger = self.shared.ledger.as_ref().ok_or_else(ledger::unkept)?;
        let once = ledger.of_call(&call, key);
        if ledger.is_exact() {
            let (counts, once) = (ledger.clone(), Some(once));
            let step = call.trace.step("idempotency");
            let outcome = self.inner.oneshot(Call { once, ..call }).await;
            let came = counts.count(&outcome, false);
            step.note(|span| span.set_attribute(KeyValue::new("proton.idempotency", came)));
            return outcome;
        }
        let (in_flight, counts) = (self.shared.in_flight.clone(), ledger.clone());
        let step = call.trace.step("idempotency");
        let led = call.trace.clone().over(self.lead(call, once.clone()));
        let (outcome, joined) = match in_flight.run(&once, led).await {
            Joined::First(outcome) => (outcome.map(tagged), false),
            Joined::Other(Ok(reply)) => {
                let reply = Reply {
                    replayed: true,
                    ..tagged(reply)
                };
                (Ok(reply), true)
            }
            Joined::Other(Err(error)) => (Err(of_another(error)), true),
        };
        let came = counts.count(&outcome, joined);
        step.note(|span| span.set_attribute(KeyValue::new("proton.idempotency", came)));
        outcome
    }

    /// The one call that runs under its key. Nobody else does anything with the key meanwhile.
    async fn lead(self, mut call: Call, once: Once) -> Result<Reply> {
        let found = match once.look().await? {
            Found::Nothing => {
                // Before the key is put down: where it fails, nothing has begun.
                let evidence = self.evidence(&call, &once).await?;
                match once.begin(evidence.clone()).await? {
                    Found::Nothing => None,
                    Found::Begun(evidence) => Some(evidence),
                    Found::Ended(outcome) => return replayed(&call, &outcome),
                }
                .map_or((evidence, false), |evidence| (evidence, true))
            }
            Found::Begun(evidence) => (evidence, true),
            Found::Ended(outcome) => return replayed(&call, &outcome),
        };
        let (evidence, again) = found;
        // In place of one of the caller, which may be another one when it sends the call again.
        call.request.set_client_token(once.client_token());
        call.once = is_passed_on(&call).then(|| once.clone());
        // Under a condition a repeat is compared with what the first one has made of the subject.
        if call.repeatable() && !is_conditional(&call) {
            let outcome = self.inner.oneshot(call.clone()).await;
            return match outcome {
                Err(error)
                    if (again || error.unsettled) && error.is_taken() && !tells_its_own(&call) =>
                {
                    Err(perhaps_applied(error))
                }
                outcome => keep(&once, outcome).await,
            };
        }
        if again && let Some(reply) = self.look_for(&call, &once, &evidence).await? {
            return keep(&once, Ok(reply)).await;
        }
        let outcome = self.inner.clone().oneshot(call.clone()).await;
        let Err(error) = outcome else {
            return keep(&once, outcome).await;
        };
        if !may_be_applied(&error) {
            // What an earlier call was sent for may still arrive: what was known before it counts.
            if !again && !error.is_refusal() && !error.unsettled {
                once.forget().await?;
            }
            return keep(&once, Err(error)).await;
        }
        match self.look_for(&call, &once, &evidence).await {
            Ok(Some(reply)) => keep(&once, Ok(reply)).await,
            Ok(None) if error.is_in_progress() => {
                // Nothing of it is there, nor on its way: sent again, it begins anew.
                if !again && !error.unsettled {
                    once.forget().await?;
                }
                Err(error)
            }
            Ok(None) => Err(not_applied(&error)),
            // What stands in the way may be its own.
            Err(unclear) if error.is_in_progress() => Err(unclear),
            Err(_) => Err(error),
        }
    }

    /// What is to be known before a call whose repeat may act twice, or may be refused.
    async fn evidence(&self, call: &Call, once: &Once) -> Result<Vec<u8>> {
        let probed =
            call.operation.policy().idempotency == Idempotency::None && !is_passed_on(call);
        if !probed && !is_conditional(call) {
            return Ok(Vec::new());
        }
        let Some(read) = call.request.subject() else {
            return Ok(Vec::new());
        };
        match self.read(call, read).await {
            Ok(shown) => {
                let evidence = Evidence::of(once, &call.request, &shown);
                Ok(evidence.encode_to_vec())
            }
            Err(error) if error.is_not_found() => Ok(Evidence::absent().encode_to_vec()),
            // The upstream says so of the mutation as well, in its own words.
            Err(error) if error.is_refusal() => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// What the call would have answered, if it was applied; nothing, if it surely was not.
    async fn look_for(&self, call: &Call, once: &Once, evidence: &[u8]) -> Result<Option<Reply>> {
        let read = call.request.subject();
        let Some(read) = read.filter(|_| !evidence.is_empty()) else {
            return Err(unclear(call));
        };
        let evidence = Evidence::read(evidence)?;
        let shown = match self.read(call, read).await {
            Ok(shown) if !evidence.is_absent() => shown,
            Err(error) if error.is_not_found() && evidence.is_absent() => return Ok(None),
            _ => return Err(unclear(call)),
        };
        let verdict = match evidence.judge(once, &call.request, shown.clone()) {
            Verdict::PerhapsBy(id) => {
                let read = Request::GetDeployment(pb::GetDeploymentRequest {
                    id,
                    ..pb::GetDeploymentRequest::default()
                });
                match self.read(call, read).await.map_err(|_| unclear(call))? {
                    Response::GetDeployment(pb::GetDeploymentResponse {
                        deployment: Some(deployment),
                    }) => probe::confirm(&call.request, &deployment, shown),
                    _ => Verdict::Unclear,
                }
            }
            verdict => verdict,
        };
        match verdict {
            Verdict::Applied(response) => Ok(Some(Reply::new(*response))),
            Verdict::NotApplied => Ok(None),
            Verdict::Unclear | Verdict::PerhapsBy(_) => Err(unclear(call)),
        }
    }

    /// Asks the upstream, as the caller of `call`, about what it changes.
    async fn read(&self, call: &Call, request: Request) -> Result<Response> {
        let read = Call {
            operation: request.operation(),
            request,
            demand: Demand::FRESH,
            key: ledger::Key::Absent,
            expected: Expected::Any,
            // The time of the call may be what was over.
            deadline: call.deadline.max(Instant::now() + DEFAULT_DEADLINE / 4),
            ..call.clone()
        };
        Ok(self.inner.clone().oneshot(read).await?.response)
    }
}

/// Puts down what came of a call, if that is final, before its caller is told.
async fn keep(once: &Once, outcome: Result<Reply>) -> Result<Reply> {
    if is_final(&outcome)
        && let Err(error) = once.end(Outcome::encode(&outcome)).await
    {
        // Its caller is told what came of it all the same. Sent again, it is found out anew.
        tracing::error!(cause = %error, "what came of a call under an idempotency key cannot be kept");
    }
    outcome
}

fn is_conditional(call: &Call) -> bool {
    call.expected != Expected::Any
}

/// Whether the upstream sees to it itself that the call is applied once.
fn is_passed_on(call: &Call) -> bool {
    let keeps_keys = call.identity.as_ref().is_some_and(|it| it.keeps_keys);
    keeps_keys && !is_conditional(call)
}

fn replayed(call: &Call, outcome: &[u8]) -> Result<Reply> {
    Outcome::decode(call.operation, outcome)?.replayed()
}

/// Whether a call that ended so may be applied all the same. It may be what stands in its own way.
fn may_be_applied(error: &Error) -> bool {
    error.is_in_progress()
        || error.unsettled
        || matches!(
            *error.kind,
            ErrorKind::OutcomeUnknown | ErrorKind::DeadlineExceeded | ErrorKind::Internal
        )
}

/// Whether the upstream tells a call with the same token, or key, by what the first has made, so
/// that a name that is taken is that of another.
fn tells_its_own(call: &Call) -> bool {
    call.once.is_some() || call.operation.policy().idempotency == Idempotency::ClientToken
}

fn unclear(call: &Call) -> Error {
    let resource = call.operation.policy().resource;
    Error::new(
        ErrorKind::OutcomeUnknown,
        format!(
            "a call with this idempotency-key may have been applied, and that cannot be told from the {resource}: read it before using another key"
        ),
    )
}

fn not_applied(error: &Error) -> Error {
    let kind = ErrorKind::Unavailable { retry_after: AGAIN };
    Error {
        kind: Box::new(kind),
        message: format!(
            "{}; it was not applied: send it again with the same idempotency-key",
            error.message
        ),
        ..error.clone()
    }
}

fn perhaps_applied(error: Error) -> Error {
    Error {
        kind: Box::new(ErrorKind::OutcomeUnknown),
        message: format!(
            "{}; an earlier call with this idempotency-key may have made it: read it before using another key",
            error.message
        ),
        ..error
    }
}

/// The time of another caller is not that of this one.
fn of_another(error: Error) -> Error {
    match *error.kind {
        ErrorKind::DeadlineExceeded => Error::new(
            ErrorKind::Unavailable { retry_after: AGAIN },
            "another call with this idempotency-key was not answered in time; send it again",
        ),
        _ => error,
    }
}
