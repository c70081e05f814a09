//! What goes wrong for a caller: whether it passes, and how it is said.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::between::Answered;

/// Wrong usage, as `sysexits.h` numbers it: clap's own status, 2, says that a wait was cancelled.
pub const USAGE: u8 = 64;
const FAILED: u8 = 1;
/// Pauses before a broken stream is opened again; the last one repeats.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
];

/// Why a command came to no end.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for could not be meant.
    Usage(String),
    Failed(String),
}

impl Failure {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Failed(_) => FAILED,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(text) | Self::Failed(text) => f.write_str(text),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// How long to pause before the next attempt, after `broken` others; `None` where the gateway will
/// not answer otherwise later.
pub fn pause(status: &Status, broken: usize) -> Option<Duration> {
    let asked = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    let own_words = of_the_gateway(status);
    let passes = match (Answered::behind(status), status.code()) {
        (Some(met), _) => met.passes(),
        (None, Code::Unavailable) => true,
        // A quota is not there again by itself; a rate is, and says when.
        (None, Code::ResourceExhausted) => asked.is_some() || !own_words,
        // A connection or a stream that breaks, or that is closed for its age just before; and
        // whatever a proxy calls this.
        (None, Code::Unknown | Code::Cancelled | Code::Internal | Code::DeadlineExceeded) => {
            !own_words
        }
        _ => false,
    };
    let own = PAUSES.get(broken).or(PAUSES.last()).copied();
    passes.then(|| own.max(asked).unwrap_or_default())
}

/// Whether a gateway said it, and nobody in between: its errors have a reason.
pub fn of_the_gateway(status: &Status) -> bool {
    status.get_details_error_info().is_some()
}

/// Whether the gateway itself keeps this from its caller.
pub fn denied(status: &Status) -> bool {
    status.code() == Code::PermissionDenied && of_the_gateway(status)
}

/// Whether the gateway cannot read the resume token.
pub fn token_refused(status: &Status) -> bool {
    let field = |name: &str| name == "options.resume_token";
    status.code() == Code::InvalidArgument
        && status
            .get_details_bad_request()
            .is_some_and(|request| request.field_violations.iter().any(|it| field(&it.field)))
}

/// A status in words, with what is wrong with the request.
pub fn said(status: &Status) -> String {
    let mut text = match of_transport(status) {
        Some(met) => return met,
        None if status.message().is_empty() => format!("{:?}", status.code()),
        None => format!("{:?}: {}", status.code(), plain(status.message())),
    };
    // A transport says of what it failed, and not why.
    if let Some(why) = status.source().map(cause)
        && !text.contains(&why)
    {
        text.push_str(&format!(": {}", plain(&why)));
    }
    let violations = status
        .get_details_bad_request()
        .map(|request| request.field_violations);
    for violation in violations.unwrap_or_default() {
        text.push_str(&format!(
            "\n  {}: {}",
            plain(&violation.field),
            plain(&violation.description)
        ));
    }
    text
}

/// What a transport means that hardly says it.
fn of_transport(status: &Status) -> Option<String> {
    let mut met = status.source()?;
    let broken = loop {
        match met.downcast_ref::<hyper::Error>() {
            Some(broken) => break broken,
            None => met = met.source()?,
        }
    };
    Some(if broken.is_timeout() {
        "the connection stands, but nothing comes from the gateway".to_owned()
    } else if broken.is_canceled() || broken.is_closed() || broken.is_incomplete_message() {
        "the connection to the gateway broke: it was closed without an answer".to_owned()
    } else {
        let innermost = cause(broken);
        format!("the connection to the gateway broke: {}", plain(&innermost))
    })
}

/// The innermost cause: the outer ones say that there is one.
pub fn cause(error: &dyn Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// A text of others as one line: it can neither pretend to be a line of ours nor command the
/// terminal.
pub fn plain(text: &str) -> Cow<'_, str> {
    let commands = |character: char| {
        character.is_control()
            || matches!(character, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(commands) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if commands(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tonic_types::ErrorDetails;

    use super::*;

    fn detailed(code: Code, details: ErrorDetails) -> Status {
        Status::with_error_details(code, "no", details)
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        let passes = |status: Status| pause(&status, 0).is_some();
        assert!(passes(Status::unavailable("restarting")));
        assert!(passes(Status::unknown("connection reset")));
        assert!(passes(Status::cancelled("operation was canceled")));
        assert!(!passes(Status::not_found("no such environment")));
    }

    #[test]
    fn what_breaks_in_between_passes_and_what_the_gateway_says_of_itself_does_not() {
        for code in [
            Code::Internal,
            Code::Unknown,
            Code::Cancelled,
            Code::DeadlineExceeded,
            Code::ResourceExhausted,
        ] {
            let broken = Status::new(code, "h2 protocol error: error reading a body");
            assert!(pause(&broken, 0).is_some(), "{code:?}");
            let reason = ErrorDetails::with_error_info("REASON", "proton-gateway", []);
            assert_eq!(pause(&detailed(code, reason), 0), None, "{code:?}");
        }
    }

    #[test]
    fn a_limit_is_waited_for_as_long_as_it_says_and_a_quota_is_not() {
        let limit = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let limit = detailed(Code::ResourceExhausted, limit);
        assert_eq!(pause(&limit, 0), Some(Duration::from_secs(7)));
        let mut quota = ErrorDetails::with_quota_failure_violation("environments", "delete some");
        quota.set_error_info("QUOTA_EXCEEDED", "proton-gateway", []);
        assert_eq!(pause(&detailed(Code::ResourceExhausted, quota), 0), None);
    }

    #[test]
    fn pauses_grow_and_the_last_one_repeats() {
        let gone = Status::unavailable("gone");
        let pauses = [0, 1, 100].map(|broken| pause(&gone, broken).unwrap());
        assert_eq!(pauses, [PAUSES[0], PAUSES[1], PAUSES[3]]);
    }

    #[test]
    fn only_a_refusal_of_the_token_is_one() {
        let of = |field: &str| {
            let details = ErrorDetails::with_bad_request_violation(field, "unknown");
            detailed(Code::InvalidArgument, details)
        };
        assert!(token_refused(&of("options.resume_token")));
        assert!(!token_refused(&of("environment.name")));
        assert!(!token_refused(&Status::unavailable("options.resume_token")));
    }

    #[test]
    fn a_transport_is_told_with_the_cause_and_what_tells_its_own_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let mut status = Status::unavailable("tcp connect error");
        status.set_source(Arc::new(refused));
        assert_eq!(
            said(&status),
            "Unavailable: tcp connect error: connection refused"
        );
        let mut status = Status::unavailable("connection refused");
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        status.set_source(Arc::new(refused));
        assert_eq!(said(&status), "Unavailable: connection refused");
    }

    #[test]
    fn a_text_of_others_stays_one_line_and_commands_no_terminal() {
        let forged = Status::not_found("no\nenvironment prod: SUCCEEDED\u{1b}[2J\u{202e}ü");
        assert_eq!(
            said(&forged),
            "NotFound: no\\nenvironment prod: SUCCEEDED\\u{1b}[2J\\u{202e}ü"
        );
    }
}
