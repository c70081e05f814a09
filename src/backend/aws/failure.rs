//! What a failed attempt of the SDK means.

use std::time::Duration;

use aws_sdk_proton::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_proton::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::session::Refused;
use crate::api::{Idempotency, Operation};
use crate::edge::aws_door::REASON;
use crate::error::{ConflictReason, Error, ErrorKind, InvalidReason, Origin, Upstream};
use crate::etag::{ETAG, Etag};

/// When to try again where the upstream does not say.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest time that an upstream is believed to want.
const LONGEST_HINT: Duration = Duration::from_secs(300);

/// Whose limit it is where the upstream throttles.
const LIMIT: &str = "upstream";

const UNREADABLE: &str = "the upstream gave no readable answer";

/// Reads the SDK's error; [`of_operation`] completes what depends on the operation.
pub(super) fn read<E>(error: SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    if let Some(refused) = refused_role(&error) {
        let origin = Origin::Upstream;
        return Error::new(ErrorKind::AccessDenied { origin }, refused.to_string());
    }
    let upstream = Upstream {
        code: error.code().map(str::to_owned),
        request_id: error.request_id().map(str::to_owned),
        retry_after: error.raw_response().and_then(hint),
    };
    let reason = error
        .raw_response()
        .and_then(|response| response.headers().get(REASON))
        .map(str::to_owned);
    let current = error
        .raw_response()
        .and_then(|response| response.headers().get(ETAG))
        .and_then(|etag| etag.parse().ok());
    let status = error
        .raw_response()
        .map_or(0, |response| response.status().as_u16());
    let message = error.message().unwrap_or_default().to_owned();
    let kind = match &error {
        SdkError::ServiceError(_) => match service(
            upstream.code.as_deref().unwrap_or_default(),
            reason.as_deref(),
            current,
            &message,
        ) {
            Some(kind) => kind,
            None => return unmodelled(status, message).with_upstream(upstream),
        },
        SdkError::DispatchFailure(failure) if failure.as_connector_error().is_some_and(refused) => {
            return unavailable("the upstream cannot be reached; nothing was sent");
        }
        SdkError::ConstructionFailure(_) => {
            return unavailable(
                "the request could not be signed: check the gateway's credentials and region",
            );
        }
        _ => ErrorKind::OutcomeUnknown,
    };
    Error::new(kind, text(message, || UNREADABLE.to_owned())).with_upstream(upstream)
}

/// When the upstream wants to be asked again: milliseconds of AWS's own header, or the seconds of HTTP's.
fn hint(response: &HttpResponse) -> Option<Duration> {
    let number = |name| {
        let value = response.headers().get(name)?;
        value.trim().parse::<u64>().ok()
    };
    let told = number("x-amz-retry-after")
        .map(Duration::from_millis)
        .or_else(|| number("retry-after").map(Duration::from_secs))?;
    Some(told.min(LONGEST_HINT))
}

/// The upstream's own text, or ours where it gave none.
fn text(message: String, ours: impl FnOnce() -> String) -> String {
    if message.is_empty() { ours() } else { message }
}

/// What an answer means whose code is none of Proton's, or cannot be read: whoever answers 3xx
/// or 4xx has not applied the call.
fn unmodelled(status: u16, message: String) -> Error {
    let invalid = ErrorKind::Invalid {
        reason: InvalidReason::InvalidRequest,
        violations: Vec::new(),
    };
    let origin = Origin::Upstream;
    let retry_after = RETRY_AFTER;
    let (kind, ours) = match status {
        300..=399 => {
            let problem = format!(
                "the upstream answered HTTP {status}, which leads elsewhere: check the gateway's upstream endpoint URL"
            );
            return Error::new(invalid, problem);
        }
        401 | 403 => (
            ErrorKind::AccessDenied { origin },
            "the upstream denies access",
        ),
        408 => (
            ErrorKind::Unavailable { retry_after },
            "the upstream gave the call up before it had read it",
        ),
        429 => (
            ErrorKind::Throttled {
                origin,
                limit: LIMIT,
                retry_after,
            },
            "the upstream has too many calls",
        ),
        400..=499 => (
            invalid,
            "the upstream refused the call; check the gateway's upstream endpoint URL as well",
        ),
        _ => (ErrorKind::OutcomeUnknown, UNREADABLE),
    };
    Error::new(kind, text(message, || format!("{ours} (HTTP {status})")))
}

/// A success that lacks what the model requires: whoever gave it need not be Proton.
pub(super) fn incomplete(request_id: Option<String>) -> Error {
    let message = "the upstream's answer lacks what the model requires";
    Error::new(ErrorKind::OutcomeUnknown, message).with_upstream(Upstream {
        request_id,
        ..Upstream::default()
    })
}

fn unavailable(message: &str) -> Error {
    let retry_after = RETRY_AFTER;
    Error::new(ErrorKind::Unavailable { retry_after }, message)
}

/// STS's refusal of the role, where that is the reason.
fn refused_role<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Refused> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref() {
            return Some(refused);
        }
        cause = error.source();
    }
    None
}

/// Whether no connection was made, so that nothing can have been applied.
fn refused(error: &aws_smithy_runtime_api::client::result::ConnectorError) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            return matches!(
                io.kind(),
                std::io::ErrorKind::ConnectionRefused
                    | std::io::ErrorKind::AddrNotAvailable
                    | std::io::ErrorKind::HostUnreachable
                    | std::io::ErrorKind::NetworkUnreachable
            );
        }
        source = cause.source();
    }
    error.is_user()
}

/// What a code of the model means; `None` where it is none.
fn service(
    code: &str,
    reason: Option<&str>,
    current: Option<Etag>,
    message: &str,
) -> Option<ErrorKind> {
    Some(match code {
        "ValidationException" => ErrorKind::Invalid {
            // AWS tells a mismatch by its text alone.
            reason: if message.contains("Idempotent parameter mismatch") {
                InvalidReason::IdempotencyMismatch
            } else {
                InvalidReason::InvalidRequest
            },
            violations: Vec::new(),
        },
        "SerializationException" => ErrorKind::Invalid {
            reason: InvalidReason::Unreadable,
            violations: Vec::new(),
        },
        "ResourceNotFoundException" => ErrorKind::NotFound {
            resource: String::new(),
            name: String::new(),
        },
        "ConflictException" => ErrorKind::Conflict {
            reason: match reason {
                Some("IN_PROGRESS") => ConflictReason::InProgress,
                Some("ALREADY_EXISTS") => ConflictReason::AlreadyExists,
                Some("VERSION_MISMATCH") => ConflictReason::Stale { current },
                Some(_) => ConflictReason::Precondition,
                None => guess(message),
            },
            subject: String::new(),
        },
        "ServiceQuotaExceededException" => ErrorKind::QuotaExceeded {
            quota: String::new(),
            limit: 0,
        },
        "ThrottlingException" | "Throttling" | "TooManyRequestsException" => ErrorKind::Throttled {
            origin: Origin::Upstream,
            limit: LIMIT,
            retry_after: RETRY_AFTER,
        },
        "AccessDeniedException"
        | "AccessDenied"
        | "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "ExpiredTokenException"
        | "IncompleteSignature"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId" => ErrorKind::AccessDenied {
            origin: Origin::Upstream,
        },
        "UnknownOperationException" => ErrorKind::UnknownOperation,
        "InternalServerException" => ErrorKind::OutcomeUnknown,
        _ => return None,
    })
}

/// AWS has one code for all conflicts; which one it is shows in its text at best.
fn guess(message: &str) -> ConflictReason {
    let message = message.to_ascii_lowercase();
    if message.contains("in progress") || message.contains("in_progress") {
        ConflictReason::InProgress
    } else if message.contains("already exists") {
        ConflictReason::AlreadyExists
    } else {
        ConflictReason::Precondition
    }
}

/// Completes an error by what the operation is: a call whose outcome is unknown, but whose repeat
/// is harmless, is merely unavailable; what was not found is the resource that was addressed.
pub(super) fn of_operation(mut error: Error, operation: Operation, repeatable: bool) -> Error {
    let policy = operation.policy();
    match &mut *error.kind {
        ErrorKind::OutcomeUnknown if repeatable => {
            *error.kind = ErrorKind::Unavailable {
                retry_after: RETRY_AFTER,
            };
            error.unsettled = policy.idempotency != Idempotency::Read;
        }
        ErrorKind::OutcomeUnknown => {
            error.message = format!(
                "{}; the call may have been applied: read the {} before repeating it",
                error.message, policy.resource
            );
        }
        ErrorKind::NotFound { resource, .. } => policy.resource.clone_into(resource),
        ErrorKind::Conflict { subject, .. } => policy.resource.clone_into(subject),
        ErrorKind::QuotaExceeded { quota, .. } => policy.resource.clone_into(quota),
        _ => {}
    }
    if let Some(hint) = error.hint() {
        error.set_retry_after(hint);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_outcome_stays_unknown_only_where_a_repeat_could_act_twice() {
        let lost = || Error::new(ErrorKind::OutcomeUnknown, "lost");
        let update = of_operation(lost(), Operation::UpdateEnvironment, false);
        assert_eq!(*update.kind, ErrorKind::OutcomeUnknown);
        assert!(update.message.contains("read the environment"), "{update}");
        let read = of_operation(lost(), Operation::GetEnvironment, true);
        assert!(matches!(*read.kind, ErrorKind::Unavailable { .. }));
    }

    #[test]
    fn what_may_have_been_applied_is_marked_where_a_repeat_is_harmless() {
        let lost = || Error::new(ErrorKind::OutcomeUnknown, "lost");
        assert!(of_operation(lost(), Operation::DeleteEnvironment, true).unsettled);
        assert!(!of_operation(lost(), Operation::GetEnvironment, true).unsettled);
        let unsent = || unavailable("nothing was sent");
        assert!(!of_operation(unsent(), Operation::DeleteEnvironment, true).unsettled);
    }
}
