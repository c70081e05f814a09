//! How an error looks to a gRPC caller: the one place where causes become statuses.
//!
//! Every status carries `google.rpc.ErrorInfo`. `RetryInfo` is there exactly when a repeat makes
//! sense, together with the trailer `grpc-retry-pushback-ms` (-1: do not retry).

use std::borrow::Cow;
use std::collections::HashMap;

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::REQUEST_ID;
use crate::api::Operation;
use crate::error::{ConflictReason, Error, ErrorKind, InvalidReason, Origin, Violation};
use crate::etag::ETAG;
use crate::ledger::REPLAYED;

/// The domain of all our reasons.
pub const DOMAIN: &str = "proton-gateway";
/// AWS's id of the request behind an answer.
pub const AWS_REQUEST_ID: &str = "aws-request-id";
/// By which tonic tells that it does not know a request's compression.
const ACCEPT_ENCODING: &str = "grpc-accept-encoding";
pub(super) const PUSHBACK: &str = "grpc-retry-pushback-ms";
/// Some clients drop an answer whose trailers exceed 8 KiB, and with it the reason. The message is
/// there as text, with three bytes for what has to be escaped, and again in the details, which
/// grow by a third in base64: 1 KiB + (1 KiB + 2.5 KiB + 1 KiB of facts) * 4/3 is 7 KiB.
const MAX_MESSAGE_BYTES: usize = 1024;
/// What all violations of one refusal may take.
const MAX_VIOLATIONS_BYTES: usize = 2560;
const MAX_DESCRIPTION_BYTES: usize = 1024;
/// What one fact or name in the details may take.
const MAX_FACT_BYTES: usize = 200;

/// What both doors say about a cause: a stable reason, the gRPC code and AWS's exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub reason: &'static str,
    pub code: Code,
    pub exception: &'static str,
}

/// The table of errors.
pub fn meaning(kind: &ErrorKind) -> Meaning {
    let (reason, code, exception) = match kind {
        ErrorKind::Invalid { reason, .. } => match reason {
            InvalidReason::InvalidRequest => (
                "INVALID_REQUEST",
                Code::InvalidArgument,
                "ValidationException",
            ),
            InvalidReason::IdempotencyMismatch => (
                "IDEMPOTENCY_MISMATCH",
                Code::InvalidArgument,
                "ValidationException",
            ),
            InvalidReason::Unreadable => (
                "UNREADABLE_REQUEST",
                Code::InvalidArgument,
                "SerializationException",
            ),
        },
        ErrorKind::NotFound { .. } => (
            "RESOURCE_NOT_FOUND",
            Code::NotFound,
            "ResourceNotFoundException",
        ),
        ErrorKind::Conflict { reason, .. } => match reason {
            ConflictReason::InProgress => ("IN_PROGRESS", Code::Aborted, "ConflictException"),
            ConflictReason::AlreadyExists => {
                ("ALREADY_EXISTS", Code::AlreadyExists, "ConflictException")
            }
            ConflictReason::Precondition => (
                "PRECONDITION_FAILED",
                Code::FailedPrecondition,
                "ConflictException",
            ),
            ConflictReason::Stale { .. } => {
                ("VERSION_MISMATCH", Code::Aborted, "ConflictException")
            }
        },
        ErrorKind::Unauthenticated { exception } => {
            ("UNAUTHENTICATED", Code::Unauthenticated, *exception)
        }
        ErrorKind::AccessDenied { origin } => match origin {
            Origin::Gateway => (
                "DENIED_BY_GATEWAY",
                Code::PermissionDenied,
                "AccessDeniedException",
            ),
            Origin::Upstream => (
                "DENIED_BY_UPSTREAM",
                Code::PermissionDenied,
                "AccessDeniedException",
            ),
        },
        ErrorKind::Throttled { origin, .. } => match origin {
            Origin::Gateway => (
                "THROTTLED_BY_GATEWAY",
                Code::ResourceExhausted,
                "ThrottlingException",
            ),
            Origin::Upstream => (
                "THROTTLED_BY_UPSTREAM",
                Code::ResourceExhausted,
                "ThrottlingException",
            ),
        },
        ErrorKind::QuotaExceeded { .. } => (
            "QUOTA_EXCEEDED",
            Code::ResourceExhausted,
            "ServiceQuotaExceededException",
        ),
        ErrorKind::Unavailable { .. } => {
            ("UNAVAILABLE", Code::Unavailable, "InternalServerException")
        }
        ErrorKind::OutcomeUnknown => ("OUTCOME_UNKNOWN", Code::Unknown, "InternalServerException"),
        ErrorKind::DeadlineExceeded => (
            "DEADLINE_EXCEEDED",
            Code::DeadlineExceeded,
            "InternalServerException",
        ),
        ErrorKind::UnknownOperation => (
            "UNKNOWN_OPERATION",
            Code::Unimplemented,
            "UnknownOperationException",
        ),
        ErrorKind::Internal => ("INTERNAL", Code::Internal, "InternalServerException"),
    };
    Meaning {
        reason,
        code,
        exception,
    }
}

/// What callers are told: the text of a defect is for the log alone.
pub fn message(error: &Error) -> &str {
    match *error.kind {
        // AWS's own text for a fault of the service.
        ErrorKind::Internal => "Internal service failure",
        _ => &error.message,
    }
}

/// The beginning of `text` that takes at most `limit` bytes as `cost` counts them.
fn beginning(text: &str, limit: usize, cost: impl Fn(char) -> usize) -> Cow<'_, str> {
    const ELLIPSIS: char = '…';
    if text.chars().map(&cost).sum::<usize>() <= limit {
        return Cow::Borrowed(text);
    }
    let mut left = limit.saturating_sub(cost(ELLIPSIS));
    let kept: String = text
        .chars()
        .take_while(|character| {
            let fits = left.checked_sub(cost(*character));
            left = fits.unwrap_or(left);
            fits.is_some()
        })
        .collect();
    Cow::Owned(kept + "…")
}

/// `text`, cut so that it has at most `limit` bytes.
pub fn cut(text: &str, limit: usize) -> Cow<'_, str> {
    beginning(text, limit, char::len_utf8)
}

/// `text`, cut so that it fits into the trailer `grpc-message`.
fn cut_message(text: &str) -> Cow<'_, str> {
    beginning(text, MAX_MESSAGE_BYTES, |character| {
        if character.is_ascii_alphanumeric() {
            1
        } else {
            3 * character.len_utf8()
        }
    })
}

/// As many violations as fit, and how many there are besides.
fn add_violations(details: &mut ErrorDetails, violations: &[Violation]) {
    let mut room = MAX_VIOLATIONS_BYTES;
    for (told, violation) in violations.iter().enumerate() {
        let field = cut(&violation.field, MAX_FACT_BYTES);
        let description = cut(&violation.description, MAX_DESCRIPTION_BYTES);
        // The lengths and tags of its encoding.
        let Some(left) = room.checked_sub(field.len() + description.len() + 10) else {
            let more = violations.len() - told;
            details.add_bad_request_violation("", format!("and {more} more"));
            break;
        };
        room = left;
        details.add_bad_request_violation(field, description);
    }
}

/// The status of a failed call.
pub fn of(error: &Error, operation: Option<Operation>, request_id: &str) -> Status {
    let Meaning {
        reason,
        code,
        exception,
    } = meaning(&error.kind);
    let message = cut_message(message(error));
    let fact = |text: &str| cut(text, MAX_FACT_BYTES).into_owned();
    let mut facts = HashMap::from([("request_id".to_owned(), request_id.to_owned())]);
    if let Some(operation) = operation {
        facts.insert("operation".to_owned(), operation.name().to_owned());
    }
    let upstream = error.upstream.as_deref();
    let aws_code = upstream.and_then(|upstream| upstream.code.as_deref());
    facts.insert(
        "aws_error_code".to_owned(),
        fact(aws_code.unwrap_or(exception)),
    );
    let aws_request_id = upstream.and_then(|upstream| upstream.request_id.as_deref().map(fact));
    if let Some(id) = &aws_request_id {
        facts.insert("aws_request_id".to_owned(), id.clone());
    }
    if error.attempts > 1 {
        facts.insert("attempts".to_owned(), error.attempts.to_string());
    }
    if let Some(etag) = error.current_version() {
        facts.insert(ETAG.to_owned(), etag.to_string());
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
    match &*error.kind {
        ErrorKind::Invalid { violations, .. } => add_violations(&mut details, violations),
        ErrorKind::NotFound { resource, name } => {
            details.set_resource_info(fact(resource), fact(name), "", &*message);
        }
        ErrorKind::Conflict { subject, .. } => {
            details.add_precondition_failure_violation(reason, fact(subject), &*message);
        }
        ErrorKind::Throttled { limit, .. } => {
            details.add_quota_failure_violation(*limit, &*message);
        }
        ErrorKind::QuotaExceeded { quota, .. } => {
            details.add_quota_failure_violation(fact(quota), &*message);
        }
        _ => {}
    }
    let mut metadata = MetadataMap::new();
    if error.replayed {
        metadata.insert(REPLAYED, MetadataValue::from_static("true"));
    }
    let pushback = match error.retry_after() {
        Some(wait) => {
            details.set_retry_info(Some(wait));
            i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)
        }
        None => -1,
    };
    metadata.insert(PUSHBACK, pushback.into());
    if let Ok(id) = request_id.parse() {
        metadata.insert(REQUEST_ID, id);
    }
    if let Some(id) = aws_request_id.and_then(|id| id.parse().ok()) {
        metadata.insert(AWS_REQUEST_ID, id);
    }
    Status::with_error_details_and_metadata(code, &*message, details, metadata)
}

/// Gives a status that tonic made by itself (an unreadable or oversize message, an unknown
/// method) the details that ours have. `None` where it has them already.
pub fn complete(status: &Status, request_id: &str) -> Option<Status> {
    if status.code() == Code::Ok || !status.details().is_empty() {
        return None;
    }
    let unreadable = |text: String| Error::unreadable(text);
    let accepted = status.metadata().get(ACCEPT_ENCODING);
    let error = match status.code() {
        Code::Unimplemented if accepted.is_some() => {
            Error::new(ErrorKind::UnknownOperation, status.message())
        }
        Code::Unimplemented => Error::new(
            ErrorKind::UnknownOperation,
            "there is no such method; list the services by reflection",
        ),
        // How tonic reports a message that is no message of its type.
        Code::Internal | Code::InvalidArgument => {
            unreadable(format!("the request cannot be read: {}", status.message()))
        }
        Code::OutOfRange | Code::ResourceExhausted => {
            unreadable(format!("the request is too large: {}", status.message()))
        }
        Code::DeadlineExceeded | Code::Cancelled => {
            Error::new(ErrorKind::DeadlineExceeded, "the deadline passed")
        }
        _ => Error::internal(status.message().to_owned()),
    };
    let mut completed = of(&error, None, request_id);
    if let Some(accepted) = accepted {
        let metadata = completed.metadata_mut();
        metadata.insert(ACCEPT_ENCODING, accepted.clone());
    }
    Some(completed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_between_characters_and_says_so() {
        assert_eq!(cut("süß", 5), "süß");
        assert_eq!(cut("süßer", 6), "sü…");
        assert_eq!(cut("süßer", 5), "s…");
    }
}
