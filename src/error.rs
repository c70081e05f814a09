//! What can go wrong with a call, as facts.
//!
//! One type for both backends and both doors. How an error looks on the wire is decided in
//! `edge::status` (gRPC) and `edge::aws_json` (AWS JSON 1.0), nowhere else.

use std::time::Duration;

use crate::etag::Etag;

/// One broken rule of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the contract's spelling: `tags[2].key`, `spec`.
    pub field: String,
    /// What is wrong and what would be right. Never holds the value of a sensitive field.
    pub description: String,
}

impl Violation {
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// Why a request was refused as invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvalidReason {
    /// A value, or a combination of values, breaks a rule.
    InvalidRequest,
    /// A token or a name was used before with other parameters.
    IdempotencyMismatch,
    /// The bytes could not be read as a request at all (AWS: `SerializationException`).
    Unreadable,
}

/// Why the state of a resource forbids the operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConflictReason {
    /// A deployment, registration or deletion is under way; it will end by itself.
    InProgress,
    /// The name is taken.
    AlreadyExists,
    /// Something else has to be changed first.
    Precondition,
    /// It is not as the caller has seen it any more.
    Stale {
        /// As it is now; absent where that is not told.
        current: Option<Etag>,
    },
}

/// Who refused, where both the gateway and the upstream could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Gateway,
    Upstream,
}

/// The cause of a failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorKind {
    /// AWS: `ValidationException`.
    Invalid {
        reason: InvalidReason,
        violations: Vec<Violation>,
    },
    /// AWS: `ResourceNotFoundException`.
    NotFound { resource: String, name: String },
    /// AWS: `ConflictException`.
    Conflict {
        reason: ConflictReason,
        /// The resource that stands in the way, as `environment/prod`.
        subject: String,
    },
    /// The gateway does not know who calls. `exception` is what AWS calls this in SigV4's terms, such
    /// as `InvalidSignatureException`.
    Unauthenticated { exception: &'static str },
    /// AWS: `AccessDeniedException`.
    AccessDenied { origin: Origin },
    /// AWS: `ThrottlingException`. A repeat after the given time makes sense.
    Throttled {
        origin: Origin,
        /// Whose limit of what it was: `caller/read`, `total/rate`, `upstream`.
        limit: &'static str,
        retry_after: Duration,
    },
    /// AWS: `ServiceQuotaExceededException`. A repeat makes no sense until something is deleted.
    QuotaExceeded { quota: String, limit: u64 },
    /// Nothing was changed, or a repeat is harmless. AWS: `InternalServerException`.
    Unavailable { retry_after: Duration },
    /// The call may or may not have been applied. AWS: `InternalServerException`.
    OutcomeUnknown,
    /// The caller's deadline passed.
    DeadlineExceeded,
    /// The operation or path does not exist.
    UnknownOperation,
    /// The gateway has a defect. AWS: `InternalServerException`.
    Internal,
}

/// What the upstream said about a failed call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upstream {
    /// AWS's error code: `ConflictException`.
    pub code: Option<String>,
    /// AWS's request id.
    pub request_id: Option<String>,
    /// When it wants to be asked again; absent where it did not say.
    pub retry_after: Option<Duration>,
}

/// A failed call: its cause, a text for people, and what the upstream said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: Box<ErrorKind>,
    /// For people. Never holds the value of a sensitive field.
    pub message: String,
    pub upstream: Option<Box<Upstream>>,
    /// It is the outcome of an earlier call with the same idempotency key.
    pub replayed: bool,
    /// The call may have been applied all the same, or may still be: the answer of an attempt of it
    /// was lost. Only where a repeat is harmless; else the kind says so.
    pub unsettled: bool,
    /// How many attempts were made of the call; 0 where nobody counted.
    pub attempts: u32,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind: Box::new(kind),
            message: message.into(),
            upstream: None,
            replayed: false,
            unsettled: false,
            attempts: 0,
        }
    }

    /// The same, told again.
    pub fn replayed(self) -> Self {
        Self {
            replayed: true,
            ..self
        }
    }

    pub fn with_upstream(mut self, upstream: Upstream) -> Self {
        self.upstream = Some(Box::new(upstream));
        self
    }

    /// The request breaks a rule that is not about one field.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Invalid {
                reason: InvalidReason::InvalidRequest,
                violations: Vec::new(),
            },
            message,
        )
    }

    /// One field of the request breaks a rule.
    pub fn invalid_field(field: impl Into<String>, description: impl Into<String>) -> Self {
        let violation = Violation::new(field, description);
        let message = format!("{}: {}", violation.field, violation.description);
        Self::new(
            ErrorKind::Invalid {
                reason: InvalidReason::InvalidRequest,
                violations: vec![violation],
            },
            message,
        )
    }

    /// Several fields break rules; `message` is what the AWS door says.
    pub fn violations(message: impl Into<String>, violations: Vec<Violation>) -> Self {
        Self::new(
            ErrorKind::Invalid {
                reason: InvalidReason::InvalidRequest,
                violations,
            },
            message,
        )
    }

    /// The same token or name with other parameters. The text is AWS's own
    /// (semantics §4.10, aws-proton-cloudformation-sample-templates#58).
    pub fn idempotency_mismatch() -> Self {
        Self::new(
            ErrorKind::Invalid {
                reason: InvalidReason::IdempotencyMismatch,
                violations: Vec::new(),
            },
            "Idempotent parameter mismatch",
        )
    }

    /// The body is not a request of this operation.
    pub fn unreadable(message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Invalid {
                reason: InvalidReason::Unreadable,
                violations: Vec::new(),
            },
            message,
        )
    }

    /// `resource` in kebab-case as in ARNs, `name` as the caller addressed it.
    pub fn not_found(resource: impl Into<String>, name: impl Into<String>) -> Self {
        let (resource, name) = (resource.into(), name.into());
        let words = resource.replace('-', " ");
        let message = format!("The requested {words} does not exist: {name}");
        Self::new(ErrorKind::NotFound { resource, name }, message)
    }

    /// Work on `subject` (`environment/prod`) is under way and will end by itself.
    pub fn in_progress(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Conflict {
                reason: ConflictReason::InProgress,
                subject: subject.into(),
            },
            message,
        )
    }

    /// The name of `subject` (`component/cache`) is taken.
    pub fn already_exists(subject: impl Into<String>) -> Self {
        let subject = subject.into();
        let message = format!("The resource already exists: {subject}");
        Self::new(
            ErrorKind::Conflict {
                reason: ConflictReason::AlreadyExists,
                subject,
            },
            message,
        )
    }

    /// `subject` stands in the way; `message` says what to do first.
    pub fn precondition(subject: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(
            ErrorKind::Conflict {
                reason: ConflictReason::Precondition,
                subject: subject.into(),
            },
            message,
        )
    }

    /// `subject` has been changed since its caller has seen it; nothing was changed by this call.
    pub fn stale(subject: impl Into<String>, current: Option<Etag>) -> Self {
        let subject = subject.into();
        let message = format!(
            "{subject} is not as it was when the expected version was read, and nothing was changed; read it again"
        );
        Self::new(
            ErrorKind::Conflict {
                reason: ConflictReason::Stale { current },
                subject,
            },
            message,
        )
    }

    /// A quota of semantics §3.3 is used up.
    pub fn quota(quota: impl Into<String>, limit: u64) -> Self {
        let quota = quota.into();
        let message = format!("The quota of {limit} {quota} is reached; delete some first");
        Self::new(ErrorKind::QuotaExceeded { quota, limit }, message)
    }

    /// The caller was known when its stream began, and has to prove again who it is.
    pub fn reauthenticate() -> Self {
        Self::new(
            ErrorKind::Unauthenticated {
                exception: "ExpiredTokenException",
            },
            "what the caller may do has changed, or its token has expired; open the stream again with a fresh token",
        )
    }

    /// The same for a request that stands in the field `name` of another one.
    pub fn in_field(mut self, name: &str) -> Self {
        if let ErrorKind::Invalid { violations, .. } = &mut *self.kind {
            for violation in violations {
                violation.field = format!("{name}.{}", violation.field);
            }
        }
        self
    }

    /// A defect or a fault of the machine. `context` is logged where the error is handled and
    /// must not hold a caller's values.
    pub fn internal(context: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, context)
    }

    /// Whether what was asked for is at fault, and not the gateway or the machine.
    pub fn is_refusal(&self) -> bool {
        matches!(
            *self.kind,
            ErrorKind::Invalid { .. }
                | ErrorKind::NotFound { .. }
                | ErrorKind::Conflict { .. }
                | ErrorKind::QuotaExceeded { .. }
        )
    }

    /// The version of the resource that is not the expected one.
    pub fn current_version(&self) -> Option<Etag> {
        match &*self.kind {
            ErrorKind::Conflict {
                reason: ConflictReason::Stale { current },
                ..
            } => *current,
            _ => None,
        }
    }

    /// Whether work that is under way stands in the way, and nothing was changed.
    pub fn is_in_progress(&self) -> bool {
        matches!(
            *self.kind,
            ErrorKind::Conflict {
                reason: ConflictReason::InProgress,
                ..
            }
        )
    }

    /// Whether the name was taken.
    pub fn is_taken(&self) -> bool {
        matches!(
            *self.kind,
            ErrorKind::Conflict {
                reason: ConflictReason::AlreadyExists,
                ..
            }
        )
    }

    pub fn is_not_found(&self) -> bool {
        matches!(*self.kind, ErrorKind::NotFound { .. })
    }

    /// Whether the same call may succeed later without anybody changing anything, and when.
    pub fn retry_after(&self) -> Option<Duration> {
        match *self.kind {
            ErrorKind::Throttled { retry_after, .. } | ErrorKind::Unavailable { retry_after } => {
                Some(retry_after)
            }
            _ => None,
        }
    }

    /// Says when the same call may succeed, where it may at all.
    pub fn set_retry_after(&mut self, when: Duration) {
        if let ErrorKind::Throttled { retry_after, .. } | ErrorKind::Unavailable { retry_after } =
            &mut *self.kind
        {
            *retry_after = when;
        }
    }

    /// What the upstream says of when it wants to be asked again.
    pub fn hint(&self) -> Option<Duration> {
        self.upstream.as_deref()?.retry_after
    }
}
