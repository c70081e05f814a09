//! `[[listeners]]`: where the doors open, if the usual two are not enough. In the file only.
//!
//! `listen` and `aws-listen` are the short form of a listener `grpc` and a listener `aws`. Whether an
//! address may be opened without TLS or authentication is judged for all alike.

use serde::{Deserialize, Serialize};

use super::connections::SocketMode;
use super::{Address, AwsListen, Config, ConfigError, invalid};

/// The names of the short forms.
pub const GRPC: &str = "grpc";
pub const AWS: &str = "aws";
pub const ADMIN: &str = "admin";
/// More than anybody can tell apart.
const MOST: usize = 32;
const LONGEST_NAME: usize = 63;

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ListenerConfig {
    /// How it is called in logs, in the ready file, and by the health.
    pub name: String,
    /// Where it listens: an address with a port, or `unix:` and a path.
    pub address: Address,
    /// What it speaks; with both doors on one address, the content type of a request tells which.
    #[serde(default = "grpc_only")]
    pub doors: Vec<Speaks>,
    /// Of a Unix socket; absent: `connections.unix-socket-mode`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<SocketMode>,
    /// Absent: where there is a `[tls]`, and it is no Unix socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<bool>,
    /// Whether browsers of the origins in `[grpc-web]` are answered here.
    #[serde(default)]
    pub grpc_web: bool,
}

/// A door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Speaks {
    Grpc,
    Aws,
}

fn grpc_only() -> Vec<Speaks> {
    vec![Speaks::Grpc]
}

impl ListenerConfig {
    fn short(name: &str, address: &Address, door: Speaks, grpc_web: bool) -> Self {
        Self {
            name: name.to_owned(),
            address: address.clone(),
            doors: vec![door],
            mode: None,
            tls: None,
            grpc_web,
        }
    }

    pub fn speaks(&self, door: Speaks) -> bool {
        self.doors.contains(&door)
    }

    /// Whether connections are encrypted, where there is a `[tls]` if `configured`.
    pub fn has_tls(&self, configured: bool) -> bool {
        let network = matches!(self.address, Address::Tcp(_));
        network && self.tls.unwrap_or(configured)
    }

    fn check(&self, config: &Config) -> Result<(), ConfigError> {
        let name = &self.name;
        let wrong = |key: &'static str, problem: &str| {
            Err(invalid(key, format!("of the listener {name:?}: {problem}")))
        };
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=LONGEST_NAME).contains(&name.len()) || !name.bytes().all(plain) {
            return Err(invalid(
                "listeners.name",
                format!("{name:?} is no name of a-z, 0-9 and -, with 1 to {LONGEST_NAME} letters"),
            ));
        }
        let twice = self.doors.len() > 1 && self.doors.first() == self.doors.get(1);
        if self.doors.is_empty() || self.doors.len() > 2 || twice {
            return wrong("listeners.doors", "grpc, aws, or both, each once");
        }
        if let Some(mode) = self.mode {
            if matches!(self.address, Address::Tcp(_)) {
                return wrong("listeners.mode", "only a Unix socket has one");
            }
            mode.check("listeners.mode")?;
        }
        if self.tls == Some(true) {
            if matches!(self.address, Address::Unix(_)) {
                return wrong("listeners.tls", "a Unix socket speaks none; leave it out");
            }
            if config.tls.is_none() {
                return wrong("listeners.tls", "there is no certificate; configure [tls]");
            }
        }
        if self.grpc_web {
            if !self.speaks(Speaks::Grpc) {
                return wrong("listeners.grpc-web", "the gRPC door is not among its doors");
            }
            if config.grpc_web.is_none() {
                return wrong(
                    "listeners.grpc-web",
                    "no origin may call; configure [grpc-web]",
                );
            }
        }
        Ok(())
    }
}

impl Config {
    /// All listeners of the doors, the short forms first.
    pub fn all_listeners(&self) -> Vec<ListenerConfig> {
        let web = self.grpc_web.is_some();
        let grpc = self
            .listen
            .iter()
            .map(|address| ListenerConfig::short(GRPC, address, Speaks::Grpc, web));
        let aws = match &self.aws_listen {
            AwsListen::Off => None,
            AwsListen::At(address) => Some(ListenerConfig::short(AWS, address, Speaks::Aws, false)),
        };
        grpc.chain(aws)
            .chain(self.listeners.iter().cloned())
            .collect()
    }

    pub(super) fn check_listeners(&self) -> Result<(), ConfigError> {
        let listeners = self.all_listeners();
        if listeners.is_empty() || listeners.len() > MOST {
            let problem = format!("at least one listener, at most {MOST}");
            return Err(invalid("listeners", problem));
        }
        for (index, listener) in listeners.iter().enumerate() {
            listener.check(self)?;
            self.check_exposure(listener)?;
            let name = &listener.name;
            // The admin listener has it already.
            if name == ADMIN || listeners.iter().take(index).any(|it| it.name == *name) {
                return Err(invalid(
                    "listeners.name",
                    format!("{name:?} is the name of another listener already"),
                ));
            }
        }
        let admin = Address::from(self.admin_listen);
        if !admin.is_local() && !self.insecure {
            return Err(invalid(
                "admin-listen",
                format!(
                    "{admin} is not on loopback, and the admin listener has neither TLS nor authentication; add --insecure if that is meant"
                ),
            ));
        }
        // In the order in which they are named.
        let mut taken: Vec<(&str, &Address)> = Vec::new();
        let doors = listeners.iter().map(|it| (it.key(), &it.address));
        let (first, rest): (Vec<_>, Vec<_>) = doors.partition(|(key, _)| *key == "listen");
        let admin = [("admin-listen", &admin)];
        for (key, address) in first.into_iter().chain(admin).chain(rest) {
            if let Some((other, _)) = taken.iter().find(|(_, it)| it.collides(address)) {
                return Err(invalid(
                    key,
                    format!("{address} is the address of {other} already"),
                ));
            }
            taken.push((key, address));
        }
        if self.grpc_web.is_some() && !listeners.iter().any(|it| it.grpc_web) {
            return Err(invalid(
                "grpc-web",
                "no listener speaks it; set grpc-web on one of [[listeners]], or leave the section out",
            ));
        }
        Ok(())
    }

    /// Only loopback and Unix sockets are open to whoever comes.
    fn check_exposure(&self, listener: &ListenerConfig) -> Result<(), ConfigError> {
        let address = &listener.address;
        if address.is_local() || self.insecure {
            return Ok(());
        }
        let encrypted = listener.has_tls(self.tls.is_some());
        let missing = match (encrypted, self.authenticates()) {
            (true, true) => return Ok(()),
            (false, true) if self.tls.is_some() => "it has no TLS; set tls",
            (false, true) => "there is no TLS; configure [tls]",
            (true, false) => "callers are not authenticated; configure [authentication]",
            (false, false) => {
                "there is no TLS, and callers are not authenticated; configure [tls] and [authentication]"
            }
        };
        Err(invalid(
            listener.key(),
            format!(
                "{address} is not on loopback, and {missing}, or add --insecure if that is meant"
            ),
        ))
    }
}

impl ListenerConfig {
    /// The key of the configuration that names its address.
    fn key(&self) -> &'static str {
        match self.name.as_str() {
            GRPC => "listen",
            AWS => "aws-listen",
            _ => "listeners.address",
        }
    }
}
