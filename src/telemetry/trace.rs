//! The trace that a call is part of: its spans, and what is told of it to whom.
//!
//! A span is made only where the call is sampled. Where it is not, what the caller sent is passed on;
//! where nothing was sent, there is nothing.

use std::cell::Cell;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::{BoxFuture, FutureExt};
use http::HeaderMap;
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanKind, SpanRef, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;

use super::parent::{Headers, Ids, Parent};

tokio::task_local! {
    /// Of the request that is being answered, for log lines.
    static CURRENT: Ids;
}

/// The span whose request is being answered.
pub fn current() -> Option<Ids> {
    CURRENT.try_with(|ids| *ids).ok()
}

/// Decides which calls are traced. Clones decide alike.
#[derive(Clone, Default)]
pub struct Tracing(Option<Arc<Sampled>>);

struct Sampled {
    tracer: SdkTracer,
    threshold: AtomicU64,
}

impl Tracing {
    /// Traces a part of the calls without a trace context, from 0 to 1, and of the others those whose
    /// callers do.
    pub fn new(tracer: SdkTracer, ratio: f64) -> Self {
        Self(Some(Arc::new(Sampled {
            tracer,
            threshold: AtomicU64::new(threshold(ratio)),
        })))
    }

    /// Traces another part from now on.
    pub fn set_ratio(&self, ratio: f64) {
        if let Some(sampled) = &self.0 {
            sampled.threshold.store(threshold(ratio), Ordering::Relaxed);
        }
    }

    /// The trace of a request with these headers. `begin` says what its span is called and knows.
    pub fn begin(&self, headers: &HeaderMap, begin: impl FnOnce() -> Begin) -> Trace {
        let parent = Parent::of(headers);
        let sampled = self.0.as_ref().filter(|sampled| match &parent {
            Some(parent) => parent.sampled,
            None => chance() < sampled.threshold.load(Ordering::Relaxed),
        });
        match (sampled, parent) {
            (None, None) => Trace::default(),
            (None, Some(parent)) => Trace(Kind::Passed(parent)),
            (Some(sampled), parent) => {
                let Begin {
                    name,
                    attributes,
                    is_call,
                } = begin();
                let above = Context::new();
                let above = match parent {
                    Some(parent) => above.with_remote_span_context(parent.context()),
                    None => above,
                };
                let builder = SpanBuilder::from_name(name)
                    .with_kind(SpanKind::Server)
                    .with_attributes(attributes);
                Trace::made(&sampled.tracer, builder, &above, is_call)
            }
        }
    }
}

/// How the span of a request begins.
pub struct Begin {
    pub name: String,
    pub attributes: Vec<KeyValue>,
    /// The request is one call; otherwise there may be many in it.
    pub is_call: bool,
}

/// No number is below 0; all are below the largest one but that itself.
fn threshold(ratio: f64) -> u64 {
    // Saturates.
    (ratio * u64::MAX as f64) as u64
}

/// A number at random, quickly.
fn chance() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut number = state.get();
        number ^= number << 13;
        number ^= number >> 7;
        number ^= number << 17;
        state.set(number);
        // The largest one is beyond every ratio.
        number.wrapping_sub(1)
    })
}

/// The trace of a call, or a part of it. Clones are the same.
#[derive(Clone, Default)]
pub struct Trace(Kind);

#[derive(Clone, Default)]
enum Kind {
    #[default]
    None,
    /// The caller's, of which nothing is recorded here.
    Passed(Parent),
    Recorded(Arc<Recorded>),
}

struct Recorded {
    tracer: SdkTracer,
    context: Context,
    is_call: bool,
}

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ids() {
            Some(Ids { trace, span }) => write!(f, "Trace({trace}, {span})"),
            None => f.write_str("Trace"),
        }
    }
}

impl Trace {
    fn made(tracer: &SdkTracer, builder: SpanBuilder, above: &Context, is_call: bool) -> Self {
        let span = tracer.build_with_context(builder, above);
        if !span.is_recording() {
            // The program is stopping.
            return Self::default();
        }
        Self(Kind::Recorded(Arc::new(Recorded {
            tracer: tracer.clone(),
            context: above.with_span(span),
            is_call,
        })))
    }

    /// The span, where it is recorded.
    pub fn span(&self) -> Option<SpanRef<'_>> {
        match &self.0 {
            Kind::Recorded(recorded) => Some(recorded.context.span()),
            _ => None,
        }
    }

    /// What others link to.
    pub fn linked(&self) -> Option<SpanContext> {
        Some(self.span()?.span_context().clone())
    }

    /// A part of it, which ends when the last clone of it is dropped.
    pub fn step(&self, name: &'static str) -> Self {
        self.below(|| SpanBuilder::from_name(name).with_kind(SpanKind::Internal))
    }

    /// A request that is sent for it.
    pub fn request(&self, name: impl FnOnce() -> String) -> Self {
        self.below(|| SpanBuilder::from_name(name()).with_kind(SpanKind::Client))
    }

    /// The call's own, where it is one of many of a request; else this one.
    pub fn of_call(&self, name: &'static str) -> Self {
        match &self.0 {
            Kind::Recorded(recorded) if !recorded.is_call => self.step(name),
            _ => self.clone(),
        }
    }

    fn below(&self, builder: impl FnOnce() -> SpanBuilder) -> Self {
        match &self.0 {
            Kind::Recorded(recorded) => {
                Self::made(&recorded.tracer, builder(), &recorded.context, true)
            }
            other => Self(other.clone()),
        }
    }

    /// Adds what is known, where it is recorded.
    pub fn note(&self, note: impl FnOnce(&SpanRef<'_>)) {
        if let Some(span) = self.span() {
            note(&span);
        }
    }

    /// Ends it with the reason why it failed, if it did. What is said of it afterwards is lost.
    pub fn end(&self, failure: Option<&'static str>) {
        self.note(|span| {
            if let Some(reason) = failure {
                span.set_attribute(KeyValue::new("error.type", reason));
                span.set_status(Status::error(""));
            }
            span.end();
        });
    }

    /// The headers of a request that is sent for it.
    pub fn headers(&self) -> Option<Headers> {
        match &self.0 {
            Kind::None => None,
            Kind::Passed(parent) => Some(parent.headers()),
            Kind::Recorded(recorded) => Some(Headers::of(recorded.context.span().span_context())),
        }
    }

    pub fn ids(&self) -> Option<Ids> {
        match &self.0 {
            Kind::None => None,
            Kind::Passed(parent) => Some(parent.ids),
            Kind::Recorded(recorded) => {
                let span = recorded.context.span();
                let context = span.span_context();
                Some(Ids {
                    trace: context.trace_id(),
                    span: context.span_id(),
                })
            }
        }
    }

    /// What is logged in `work` names the trace.
    pub fn over<'a, T>(&self, work: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
        match self.ids() {
            Some(ids) => CURRENT.scope(ids, work).boxed(),
            None => work.boxed(),
        }
    }

    /// The same for what does not wait.
    pub fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        match self.ids() {
            Some(ids) => CURRENT.sync_scope(ids, work),
            None => work(),
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;
    use crate::telemetry::parent::TRACEPARENT;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0";

    fn tracing(ratio: f64) -> (SdkTracerProvider, Tracing) {
        let provider = SdkTracerProvider::default();
        let tracer = provider.tracer("tests");
        (provider, Tracing::new(tracer, ratio))
    }

    fn begun(tracing: &Tracing, sampled: Option<u8>) -> Trace {
        let mut headers = HeaderMap::new();
        if let Some(sampled) = sampled {
            let parent = format!("{PARENT}{sampled}");
            headers.insert(TRACEPARENT, parent.parse().unwrap());
        }
        tracing.begin(&headers, || Begin {
            name: "call".to_owned(),
            attributes: Vec::new(),
            is_call: true,
        })
    }

    #[test]
    fn the_callers_decision_holds_and_the_ratio_for_all_others() {
        for (ratio, sampled, recorded) in [
            (0.0, None, false),
            (1.0, None, true),
            (1.0, Some(0), false),
            (0.0, Some(1), true),
        ] {
            let (_provider, tracing) = tracing(ratio);
            for _ in 0..1000 {
                let trace = begun(&tracing, sampled);
                assert_eq!(trace.span().is_some(), recorded, "{ratio} {sampled:?}");
            }
        }
    }

    #[test]
    fn about_as_many_are_sampled_as_the_ratio_says_and_it_can_be_changed() {
        let (_provider, tracing) = tracing(0.0);
        tracing.set_ratio(0.25);
        let sampled = (0..10_000).filter(|_| begun(&tracing, None).span().is_some());
        let count = sampled.count();
        assert!((2_000..3_000).contains(&count), "{count}");
    }

    #[test]
    fn a_part_has_the_trace_and_a_span_of_its_own() {
        let (_provider, tracing) = tracing(1.0);
        let trace = begun(&tracing, Some(1));
        let part = trace.step("part");
        let (above, below) = (trace.ids().unwrap(), part.ids().unwrap());
        assert_eq!(above.trace.to_string(), PARENT[3..35]);
        assert_eq!(below.trace, above.trace);
        assert_ne!(below.span, above.span);
    }

    #[test]
    fn what_is_not_recorded_is_passed_on_as_it_came() {
        let trace = begun(&Tracing::default(), Some(1));
        let part = trace.step("part");
        assert_eq!(part.headers().unwrap().parent, format!("{PARENT}1"));
        assert!(begun(&Tracing::default(), None).headers().is_none());
    }

    #[tokio::test]
    async fn the_current_trace_is_that_of_what_is_being_done() {
        let trace = begun(&Tracing::default(), Some(0));
        assert_eq!(current(), None);
        trace
            .over(async { assert_eq!(current(), trace.ids()) })
            .await;
        trace.during(|| assert_eq!(current(), trace.ids()));
        assert_eq!(current(), None);
    }
}
