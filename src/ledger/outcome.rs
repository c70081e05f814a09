//! What came of a call, as it is kept.

use prost::Message;

use crate::api::{Operation, Response};
use crate::error::{ConflictReason, Error, ErrorKind, InvalidReason, Result, Violation};
use crate::gateway::Reply;

/// What came of a call.
pub struct Outcome(Result<Reply>);

/// Whether a call has ended for good: it was applied, or it was refused and would be again as long
/// as nobody changes anything. What passes by itself may be sent again under the same key.
pub fn is_final(outcome: &Result<Reply>) -> bool {
    match outcome {
        Ok(_) => true,
        Err(error) => error.is_refusal() && !error.is_in_progress() && !error.unsettled,
    }
}

#[derive(Clone, PartialEq, Message)]
struct Kept {
    #[prost(bytes = "vec", optional, tag = "1")]
    response: Option<Vec<u8>>,
    #[prost(string, optional, tag = "2")]
    upstream_request_id: Option<String>,
    #[prost(message, optional, tag = "3")]
    refusal: Option<Refusal>,
}

#[derive(Clone, PartialEq, Message)]
struct Refusal {
    /// One of the reasons below.
    #[prost(int32, tag = "1")]
    reason: i32,
    #[prost(string, tag = "2")]
    message: String,
    /// The resource, the subject or the quota.
    #[prost(string, tag = "3")]
    about: String,
    #[prost(string, tag = "4")]
    name: String,
    #[prost(uint64, tag = "5")]
    limit: u64,
    #[prost(message, repeated, tag = "6")]
    violations: Vec<Broken>,
    #[prost(string, optional, tag = "7")]
    upstream_code: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
struct Broken {
    #[prost(string, tag = "1")]
    field: String,
    #[prost(string, tag = "2")]
    description: String,
}

// The numbers are stored, and never changed once released.
const INVALID: i32 = 1;
const MISMATCH: i32 = 2;
const UNREADABLE: i32 = 3;
const NOT_FOUND: i32 = 4;
const ALREADY_EXISTS: i32 = 5;
const PRECONDITION: i32 = 6;
const QUOTA: i32 = 7;
const STALE: i32 = 8;

impl Outcome {
    /// The outcome as it is kept.
    pub fn encode(outcome: &Result<Reply>) -> Vec<u8> {
        let kept = match outcome {
            Ok(reply) => Kept {
                response: Some(reply.response.framed().into_message().to_vec()),
                upstream_request_id: reply.upstream_request_id.clone(),
                refusal: None,
            },
            Err(error) => Kept {
                refusal: Some(Refusal::of(error)),
                ..Kept::default()
            },
        };
        kept.encode_to_vec()
    }

    /// Reads what was kept of a call of `operation`.
    pub fn decode(operation: Operation, bytes: &[u8]) -> Result<Self> {
        let damaged = |error| Error::internal(format!("a kept outcome is damaged: {error}"));
        let kept = Kept::decode(bytes).map_err(damaged)?;
        if let Some(refusal) = kept.refusal {
            return Ok(Self(Err(refusal.error())));
        }
        let response = kept.response.unwrap_or_default();
        let response = Response::decode(operation, &response).map_err(damaged)?;
        Ok(Self(Ok(Reply {
            upstream_request_id: kept.upstream_request_id,
            ..Reply::new(response)
        })))
    }

    /// The outcome, as one of an earlier call.
    pub fn replayed(self) -> Result<Reply> {
        match self.0 {
            Ok(reply) => Ok(Reply {
                replayed: true,
                ..reply
            }),
            Err(error) => Err(error.replayed()),
        }
    }
}

impl Refusal {
    fn of(error: &Error) -> Self {
        let plain = Self {
            message: error.message.clone(),
            upstream_code: error.upstream.as_ref().and_then(|it| it.code.clone()),
            ..Self::default()
        };
        match &*error.kind {
            ErrorKind::Invalid { reason, violations } => Self {
                reason: match reason {
                    InvalidReason::InvalidRequest => INVALID,
                    InvalidReason::IdempotencyMismatch => MISMATCH,
                    InvalidReason::Unreadable => UNREADABLE,
                },
                violations: violations
                    .iter()
                    .map(|violation| Broken {
                        field: violation.field.clone(),
                        description: violation.description.clone(),
                    })
                    .collect(),
                ..plain
            },
            ErrorKind::NotFound { resource, name } => Self {
                reason: NOT_FOUND,
                about: resource.clone(),
                name: name.clone(),
                ..plain
            },
            ErrorKind::Conflict { reason, subject } => Self {
                reason: match reason {
                    ConflictReason::AlreadyExists => ALREADY_EXISTS,
                    ConflictReason::Stale { .. } => STALE,
                    ConflictReason::InProgress | ConflictReason::Precondition => PRECONDITION,
                },
                about: subject.clone(),
                name: error
                    .current_version()
                    .map_or_else(String::new, |etag| etag.to_string()),
                ..plain
            },
            ErrorKind::QuotaExceeded { quota, limit } => Self {
                reason: QUOTA,
                about: quota.clone(),
                limit: *limit,
                ..plain
            },
            // Only refusals are kept.
            _ => plain,
        }
    }

    fn error(self) -> Error {
        let violations = self.violations.into_iter();
        let violations = violations.map(|broken| Violation::new(broken.field, broken.description));
        let conflict = |reason| ErrorKind::Conflict {
            reason,
            subject: self.about.clone(),
        };
        let invalid = |reason| ErrorKind::Invalid {
            reason,
            violations: violations.collect(),
        };
        let kind = match self.reason {
            NOT_FOUND => ErrorKind::NotFound {
                resource: self.about,
                name: self.name,
            },
            ALREADY_EXISTS => conflict(ConflictReason::AlreadyExists),
            PRECONDITION => conflict(ConflictReason::Precondition),
            STALE => conflict(ConflictReason::Stale {
                current: self.name.parse().ok(),
            }),
            QUOTA => ErrorKind::QuotaExceeded {
                quota: self.about,
                limit: self.limit,
            },
            MISMATCH => invalid(InvalidReason::IdempotencyMismatch),
            UNREADABLE => invalid(InvalidReason::Unreadable),
            _ => invalid(InvalidReason::InvalidRequest),
        };
        let error = Error::new(kind, self.message);
        match self.upstream_code {
            Some(code) => error.with_upstream(crate::error::Upstream {
                code: Some(code),
                ..Default::default()
            }),
            None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::pb;

    fn again(outcome: Result<Reply>) -> Result<Reply> {
        let kept = Outcome::encode(&outcome);
        Outcome::decode(Operation::DeleteService, &kept).unwrap().0
    }

    #[test]
    fn a_reply_is_kept_with_the_request_id_of_the_upstream() {
        let response = pb::DeleteServiceResponse {
            service: Some(pb::Service {
                name: Some("shop".into()),
                ..Default::default()
            }),
        };
        let reply = Reply {
            upstream_request_id: Some("r-1".into()),
            ..Reply::new(Response::DeleteService(response))
        };
        let kept = again(Ok(reply.clone())).unwrap();
        assert_eq!(kept.response, reply.response);
        assert_eq!(kept.upstream_request_id, reply.upstream_request_id);
    }

    #[test]
    fn every_refusal_that_is_final_is_kept_as_it_is() {
        let violations = vec![Violation::new("spec", "is no YAML")];
        for error in [
            Error::invalid("no"),
            Error::violations("no", violations),
            Error::idempotency_mismatch(),
            Error::unreadable("no"),
            Error::not_found("service", "shop"),
            Error::already_exists("service/shop"),
            Error::precondition("service/shop", "delete it first"),
            Error::quota("services", 1000),
            Error::stale(
                "service/shop",
                Some("AAAAAAAAAAAAAAAAAAAAAA".parse().unwrap()),
            ),
        ] {
            assert!(is_final(&Err(error.clone())), "{error}");
            assert_eq!(again(Err(error.clone())).unwrap_err(), error);
        }
    }

    #[test]
    fn what_passes_by_itself_is_not_final() {
        for kind in [
            ErrorKind::OutcomeUnknown,
            ErrorKind::Internal,
            ErrorKind::DeadlineExceeded,
        ] {
            assert!(!is_final(&Err(Error::new(kind, "no"))));
        }
        assert!(!is_final(&Err(Error::in_progress("service/shop", "wait"))));
    }
}
