//! `[connections]`: how many connections there are, how long they last, and how much each may hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, LONGEST_SPAN, Span, invalid};

/// Bounds of connections, for each listener by itself.
#[derive(Debug, Default, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConnectionsOptions {
    pub max_connections: Option<usize>,
    pub max_handshakes: Option<usize>,
    pub max_streams: Option<u32>,
    pub max_header_bytes: Option<u32>,
    pub handshake_timeout: Option<Span>,
    pub max_age: Option<Span>,
    pub age_grace: Option<Span>,
    pub idle_timeout: Option<Span>,
    pub write_stall_timeout: Option<Span>,
    pub stream_stall_timeout: Option<Span>,
    pub unix_socket_mode: Option<SocketMode>,
}

/// What holds, for each listener by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Connections {
    /// Connections at the same time.
    pub max_connections: usize,
    /// Connections at the same time that have not begun to speak HTTP; then the oldest gives way.
    pub max_handshakes: usize,
    /// Calls on one HTTP/2 connection at the same time. RFC 9113 advises against fewer than 100.
    pub max_streams: u32,
    /// The largest header list of one request.
    pub max_header_bytes: u32,
    /// How long a client may take to shake hands and to begin.
    pub handshake_timeout: Span,
    /// When a connection is asked to leave, give or take a tenth. Zero: never.
    pub max_age: Span,
    /// How long calls and streams may go on after that.
    pub age_grace: Span,
    /// When a connection without a call is asked to leave. Zero: never.
    pub idle_timeout: Span,
    /// How long a connection may take nothing of what is written to it.
    pub write_stall_timeout: Span,
    /// How long a stream may take nothing of what is there for it.
    pub stream_stall_timeout: Span,
    /// Who may connect to the doors that are Unix sockets.
    pub unix_socket_mode: SocketMode,
}

impl Default for Connections {
    fn default() -> Self {
        Self::of(&ConnectionsOptions::default())
    }
}

impl Connections {
    pub fn of(given: &ConnectionsOptions) -> Self {
        let span =
            |given: Option<Span>, seconds| given.unwrap_or(Span(Duration::from_secs(seconds)));
        Self {
            max_connections: given.max_connections.unwrap_or(4096),
            max_handshakes: given.max_handshakes.unwrap_or(1024),
            max_streams: given.max_streams.unwrap_or(100),
            max_header_bytes: given.max_header_bytes.unwrap_or(16 * 1024),
            handshake_timeout: span(given.handshake_timeout, 10),
            max_age: span(given.max_age, 3600),
            age_grace: span(given.age_grace, 5 * 60),
            idle_timeout: span(given.idle_timeout, 15 * 60),
            write_stall_timeout: span(given.write_stall_timeout, 30),
            stream_stall_timeout: span(given.stream_stall_timeout, 5 * 60),
            unix_socket_mode: given.unix_socket_mode.unwrap_or(SocketMode(0o600)),
        }
    }

    pub fn check(&self) -> Result<(), ConfigError> {
        let numbers = [
            (
                "connections.max-connections",
                self.max_connections,
                1,
                1_000_000,
            ),
            (
                "connections.max-handshakes",
                self.max_handshakes,
                1,
                100_000,
            ),
            (
                "connections.max-streams",
                self.max_streams as usize,
                1,
                10_000,
            ),
            (
                "connections.max-header-bytes",
                self.max_header_bytes as usize,
                4096,
                1 << 20,
            ),
        ];
        for (name, number, least, most) in numbers {
            if !(least..=most).contains(&number) {
                return Err(invalid(name, format!("at least {least}, at most {most}")));
            }
        }
        let second = Duration::from_secs(1);
        let spans = [
            (
                "connections.handshake-timeout",
                self.handshake_timeout,
                false,
            ),
            (
                "connections.write-stall-timeout",
                self.write_stall_timeout,
                false,
            ),
            (
                "connections.stream-stall-timeout",
                self.stream_stall_timeout,
                false,
            ),
            ("connections.age-grace", self.age_grace, false),
            ("connections.max-age", self.max_age, true),
            ("connections.idle-timeout", self.idle_timeout, true),
        ];
        for (name, Span(span), may_be_off) in spans {
            let off = may_be_off && span.is_zero();
            if !off && !(second..=LONGEST_SPAN).contains(&span) {
                let or = if may_be_off { ", or 0 for never" } else { "" };
                return Err(invalid(name, format!("at least 1s, at most 365days{or}")));
            }
        }
        self.unix_socket_mode.check("connections.unix-socket-mode")
    }
}

/// Who may connect to a Unix socket, as an octal number: `0600`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SocketMode(pub u32);

impl SocketMode {
    /// An error names the key `name`.
    pub(super) fn check(self, name: &'static str) -> Result<(), ConfigError> {
        if self.0 & 0o600 != 0o600 {
            return Err(invalid(
                name,
                "the owner must be able to connect: 0600, or wider",
            ));
        }
        if self.0 & 0o002 != 0 {
            return Err(invalid(
                name,
                "everybody on this machine could connect; 0660 lets a group",
            ));
        }
        Ok(())
    }
}

impl TryFrom<String> for SocketMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| *mode <= 0o777 && text.bytes().all(|byte| byte.is_ascii_digit()))
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no mode of a file like \"0600\" or \"0660\""))
    }
}

impl From<SocketMode> for String {
    fn from(mode: SocketMode) -> Self {
        format!("{:04o}", mode.0)
    }
}
