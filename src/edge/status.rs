//! How an error looks to a gRPC caller: the one place where causes become statuses.
//!
//! Every status carries `google.rpc.ErrorInfo`. `RetryInfo` is there exactly when a repeat makes
//! sense, together with the trailer `grpc-retry-pushback-ms` (-1: do not retry).

use std::collections::HashMap;

use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::REQUEST_ID;
use crate::api::Operation;
use crate::error::{ConflictReason, Error, ErrorKind, InvalidReason, Origin};

/// The domain of all our reasons.
pub const DOMAIN: &str = "proton-gateway";
/// AWS's id of the request behind an answer.
pub const AWS_REQUEST_ID: &str = "aws-request-id";
const PUSHBACK: &str = "grpc-retry-pushback-ms";

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
        },
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

/// The status of a failed call.
pub fn of(error: &Error, operation: Option<Operation>, request_id: &str) -> Status {
    let Meaning {
        reason,
        code,
        exception,
    } = meaning(&error.kind);
    let mut facts = HashMap::from([("request_id".to_owned(), request_id.to_owned())]);
    if let Some(operation) = operation {
        facts.insert("operation".to_owned(), operation.name().to_owned());
    }
    let upstream = error.upstream.as_deref();
    let aws_code = upstream.and_then(|upstream| upstream.code.as_deref());
    facts.insert(
        "aws_error_code".to_owned(),
        aws_code.unwrap_or(exception).to_owned(),
    );
    let aws_request_id = upstream.and_then(|upstream| upstream.request_id.clone());
    if let Some(id) = &aws_request_id {
        facts.insert("aws_request_id".to_owned(), id.clone());
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts);
    match &*error.kind {
        ErrorKind::Invalid { violations, .. } => {
            for violation in violations {
                details.add_bad_request_violation(&violation.field, &violation.description);
            }
        }
        ErrorKind::NotFound { resource, name } => {
            details.set_resource_info(resource, name, "", message(error));
        }
        ErrorKind::Conflict { subject, .. } => {
            details.add_precondition_failure_violation(reason, subject, message(error));
        }
        ErrorKind::Throttled { origin, .. } => {
            let subject = match origin {
                Origin::Gateway => "gateway",
                Origin::Upstream => "upstream",
            };
            details.add_quota_failure_violation(subject, message(error));
        }
        ErrorKind::QuotaExceeded { quota, .. } => {
            details.add_quota_failure_violation(quota, message(error));
        }
        _ => {}
    }
    let mut metadata = MetadataMap::new();
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
    Status::with_error_details_and_metadata(code, message(error), details, metadata)
}

/// Gives a status that tonic made by itself (an unreadable or oversize message, an unknown
/// method) the details that ours have. `None` where it has them already.
pub fn complete(status: &Status, request_id: &str) -> Option<Status> {
    if status.code() == Code::Ok || !status.details().is_empty() {
        return None;
    }
    let unreadable = |text: String| Error::unreadable(text);
    let error = match status.code() {
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
    Some(of(&error, None, request_id))
}
