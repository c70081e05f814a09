//! What goes wrong for a caller: whether it passes, and how it is said.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

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
    let passes = match status.code() {
        Code::Unavailable => true,
        // A quota is not there again by itself; a rate is, and says when.
        Code::ResourceExhausted => asked.is_some(),
        // A connection that breaks in the middle of a stream, or that the gateway closes for its age
        // just before; what the gateway says has details.
        Code::Unknown | Code::Cancelled => status.details().is_empty(),
        _ => false,
    };
    let own = PAUSES.get(broken).or(PAUSES.last()).copied();
    passes.then(|| own.max(asked).unwrap_or_default())
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
    let mut text = match status.message() {
        "" => format!("{:?}", status.code()),
        message => format!("{:?}: {}", status.code(), plain(message)),
    };
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
        assert!(!passes(Status::with_details(
            Code::Unknown,
            "the outcome is unknown",
            vec![0].into()
        )));
        assert!(!passes(Status::not_found("no such environment")));
    }

    #[test]
    fn a_limit_is_waited_for_as_long_as_it_says_and_a_quota_is_not() {
        let limit = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
        let limit = detailed(Code::ResourceExhausted, limit);
        assert_eq!(pause(&limit, 0), Some(Duration::from_secs(7)));
        let quota = ErrorDetails::with_quota_failure_violation("environments", "delete some");
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
    fn a_text_of_others_stays_one_line_and_commands_no_terminal() {
        let forged = Status::not_found("no\nenvironment prod: SUCCEEDED\u{1b}[2J\u{202e}ü");
        assert_eq!(
            said(&forged),
            "NotFound: no\\nenvironment prod: SUCCEEDED\\u{1b}[2J\\u{202e}ü"
        );
    }
}
