//! The trace of an attempt, and the headers that tell the upstream of it and of the call's key.

use aws_sdk_proton::config::interceptors::BeforeTransmitInterceptorContextMut;
use aws_sdk_proton::config::{Builder, ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_proton::error::BoxError;
use opentelemetry::KeyValue;

use crate::error::Result;
use crate::gateway::{Call, Reply};
use crate::ledger::{IDEMPOTENCY_KEY, Once};
use crate::telemetry::Trace;
use crate::telemetry::parent::Headers;

/// Settings of an attempt that carries the trace, if there is one, and the key, if the upstream
/// keeps keys.
pub fn sent_with(trace: &Trace, once: Option<&Once>) -> Builder {
    let mut settings = Builder::new();
    if let Some(headers) = trace.headers() {
        settings = settings.interceptor(Carry(headers));
    }
    match once {
        Some(once) => settings.interceptor(Name(once.passed_on())),
        None => settings,
    }
}

/// Puts down which attempt it is.
pub fn note(attempt: &Trace, call: &Call) {
    attempt.note(|span| {
        let method = format!("Proton/{}", call.operation.name());
        span.set_attribute(KeyValue::new("rpc.system.name", "aws-api"));
        span.set_attribute(KeyValue::new("rpc.method", method));
        span.set_attribute(KeyValue::new("proton.attempt", i64::from(call.attempt)));
        let upstream = call.identity.as_ref().and_then(|it| it.upstream.as_ref());
        if let Some(upstream) = upstream {
            span.set_attribute(KeyValue::new("proton.upstream", upstream.to_string()));
        }
    });
}

/// Ends the span of an attempt.
pub fn end(attempt: &Trace, outcome: &Result<Reply>, failure: Option<&'static str>) {
    attempt.note(|span| {
        let id = match outcome {
            Ok(reply) => reply.upstream_request_id.as_deref(),
            Err(error) => {
                let upstream = error.upstream.as_deref();
                upstream.and_then(|upstream| upstream.request_id.as_deref())
            }
        };
        if let Some(id) = id {
            span.set_attribute(KeyValue::new("aws.request_id", id.to_owned()));
        }
    });
    attempt.end(failure);
}

/// Adds the headers after the request was signed: what stands between may change them.
#[derive(Debug)]
struct Carry(Headers);

impl Intercept for Carry {
    fn name(&self) -> &'static str {
        "trace"
    }

    fn modify_before_transmit(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        headers.insert("traceparent", self.0.parent.clone());
        if let Some(state) = self.0.state.as_ref().and_then(|state| state.to_str().ok()) {
            headers.insert("tracestate", state.to_owned());
        }
        Ok(())
    }
}

/// Adds the key before the request is signed: a call under another key is another call.
#[derive(Debug)]
struct Name(String);

impl Intercept for Name {
    fn name(&self) -> &'static str {
        "idempotency key"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> std::result::Result<(), BoxError> {
        let headers = context.request_mut().headers_mut();
        headers.insert(IDEMPOTENCY_KEY, self.0.clone());
        Ok(())
    }
}
