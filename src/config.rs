//! The configuration: flags over environment variables over a TOML file over defaults.
//!
//! [`Options`] is what may be given, the same names in all three places; [`Config`] is what holds.
//! Sections are given in the file only, each in a module of its own. [`file`] reads the file.

pub mod address;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod cache;
pub mod connections;
mod engine;
mod file;
pub mod grpc_web;
pub mod idempotency;
pub mod limits;
pub mod listeners;
mod options;
pub mod order;
pub mod retry;
pub mod shutdown;
mod span;
pub mod telemetry;
pub mod tls;
mod upstreams;
pub mod waits;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;
use sha2::{Digest, Sha256};

pub use self::address::Address;
use self::audit::AuditConfig;
use self::authentication::Authentication;
use self::authorization::AuthorizationConfig;
use self::cache::CacheConfig;
pub use self::connections::Connections;
pub use self::engine::EngineConfig;
use self::grpc_web::GrpcWebConfig;
use self::idempotency::IdempotencyConfig;
use self::limits::Limits;
use self::listeners::{ListenerConfig, Speaks};
pub use self::options::{AwsListen, Options, Upstream};
use self::order::OrderConfig;
use self::retry::RetryConfig;
use self::shutdown::ShutdownConfig;
pub use self::span::Span;
use self::telemetry::TelemetryConfig;
use self::tls::ClientCertificates;
pub use self::tls::Tls;
pub use self::upstreams::{AssumeRole, NamedUpstream};
use self::waits::WaitsConfig;
use crate::telemetry::{LogFormat, filter};
use crate::upstream::Identities;

/// The effective configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Config {
    /// Absent where all listeners are named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<Address>,
    pub aws_listen: AwsListen,
    pub admin_listen: SocketAddr,
    pub insecure: bool,
    pub upstream: Upstream,
    /// Where the upstream is the engine.
    #[serde(flatten)]
    pub engine: Option<EngineConfig>,
    /// Where idempotency keys are kept, unless that is the engine's state, or not given.
    #[serde(rename = "state-dir", skip_serializing_if = "Option::is_none")]
    pub ledger_dir: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_endpoint_url: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume_token_key_file: Option<PathBuf>,
    pub log: String,
    pub log_format: LogFormat,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sts_endpoint_url: Option<String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub upstream_keeps_keys: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub upstreams: BTreeMap<String, NamedUpstream>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub assume_role: Vec<AssumeRole>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits: Option<WaitsConfig>,
    /// Who may do what, where callers are authenticated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<AuthorizationConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit: Option<AuditConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Authentication>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    pub connections: Connections,
    pub cache: CacheConfig,
    pub idempotency: IdempotencyConfig,
    pub retry: RetryConfig,
    pub order: OrderConfig,
    pub telemetry: TelemetryConfig,
    pub shutdown: ShutdownConfig,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub listeners: Vec<ListenerConfig>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc_web: Option<GrpcWebConfig>,
}

/// The region of the engine's ARNs where none is given.
const DEFAULT_REGION: &str = "us-east-1";
/// The longest span that makes sense; beyond some, times cannot be computed.
pub const LONGEST_SPAN: Duration = Duration::from_secs(365 * 24 * 3600);

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("cannot read the configuration file {path}: {cause}")]
    Unreadable {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    /// Without the line itself: there may be a secret in it.
    #[error("the configuration file {path} is wrong at {place}: {problem}")]
    Malformed {
        path: PathBuf,
        place: String,
        problem: String,
    },
    #[error("{name}: {problem}")]
    Invalid { name: &'static str, problem: String },
}

impl Config {
    /// Completes `given` (flags and environment) from the file and the defaults, and checks it.
    pub fn load(given: Options, file: Option<&Path>) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => file::read(path)?,
            None => Options::default(),
        };
        Self::of(given.or(file))
    }

    fn of(options: Options) -> Result<Self, ConfigError> {
        let local = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
        let upstream = match (options.upstream, &options.upstream_endpoint_url) {
            (Some(Upstream::Engine), Some(_)) => {
                return Err(invalid(
                    "upstream-endpoint-url",
                    "the engine forwards nothing; leave it out, or set upstream to aws",
                ));
            }
            (Some(upstream), _) => upstream,
            (None, Some(_)) => Upstream::Aws,
            (None, None) => Upstream::Engine,
        };
        options.refuse_strangers(upstream)?;
        if options.authorization.is_some() && options.authentication.is_none() {
            return Err(invalid(
                "authorization",
                "nobody is held to it where callers are not known; add [authentication]",
            ));
        }
        let default_region = (upstream == Upstream::Engine).then(|| DEFAULT_REGION.to_owned());
        let engine = (upstream == Upstream::Engine).then(|| EngineConfig::of(&options));
        let idempotency = options.idempotency.unwrap_or_default();
        let keeps_keys = upstream == Upstream::Aws && idempotency.enabled;
        let ledger_dir = options.state_dir.filter(|_| keeps_keys);
        // Who names all listeners gets no others.
        let usual = options.listeners.is_empty();
        let usual_aws = match usual {
            true => AwsListen::At(local(8787).into()),
            false => AwsListen::Off,
        };
        let config = Self {
            listen: options
                .listen
                .or_else(|| usual.then(|| local(50051).into())),
            aws_listen: options.aws_listen.unwrap_or(usual_aws),
            admin_listen: options.admin_listen.unwrap_or_else(|| local(9464)),
            insecure: options.insecure.unwrap_or(false),
            upstream,
            engine,
            ledger_dir,
            idempotency,
            upstream_endpoint_url: options.upstream_endpoint_url,
            profile: options.profile,
            region: options.region.or(default_region),
            resume_token_key_file: options.resume_token_key_file,
            log: options.log.unwrap_or_else(|| "info".to_owned()),
            log_format: options.log_format.unwrap_or(LogFormat::Text),
            ready_file: options.ready_file,
            sts_endpoint_url: options.sts_endpoint_url,
            upstream_keeps_keys: options.upstream_keeps_keys.unwrap_or(false),
            upstreams: options.upstreams,
            assume_role: options.assume_role,
            waits: options.waits,
            // Callers who are known are held to what their roles allow.
            authorization: options
                .authentication
                .as_ref()
                .map(|_| AuthorizationConfig::of(&options.authorization.unwrap_or_default()))
                .transpose()?,
            limits: Limits::of(options.limits, upstream)?,
            audit: AuditConfig::of(options.audit)?,
            authentication: options.authentication,
            tls: options.tls.map(Tls::of).transpose()?,
            connections: Connections::of(&options.connections.unwrap_or_default()),
            cache: options.cache.unwrap_or_default(),
            retry: options.retry.unwrap_or_default(),
            order: options.order.unwrap_or_default(),
            telemetry: TelemetryConfig::of(options.telemetry, options.otlp_endpoint),
            shutdown: options.shutdown.unwrap_or_default(),
            listeners: options.listeners,
            grpc_web: options.grpc_web,
        };
        config.check()?;
        Ok(config)
    }

    /// Whether a URL leads to a listener of this very gateway, as far as it can be seen without
    /// asking for names.
    pub fn is_own(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<http::Uri>() else {
            return false;
        };
        let usual = if uri.scheme_str() == Some("https") {
            443
        } else {
            80
        };
        let port = uri.port_u16().unwrap_or(usual);
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let ip: IpAddr = match host.parse() {
            Ok(ip) => ip,
            Err(_) if host == "localhost" => Ipv4Addr::LOCALHOST.into(),
            Err(_) => return false,
        };
        self.all_listeners().iter().any(|listener| {
            let Address::Tcp(own) = listener.address else {
                return false;
            };
            let here = own.ip() == ip || (own.ip().is_unspecified() && ip.is_loopback());
            listener.speaks(Speaks::Aws) && here && own.port() == port
        })
    }

    fn check(&self) -> Result<(), ConfigError> {
        self.check_listeners()?;
        self.connections.check()?;
        self.cache.check()?;
        self.idempotency.check()?;
        self.retry.check()?;
        self.order.check()?;
        self.telemetry.check()?;
        self.shutdown.check()?;
        if let Some(web) = &self.grpc_web {
            web.check(self)?;
        }
        if let Some(tls) = &self.tls {
            tls.check()?;
        }
        if let Some(engine) = &self.engine {
            engine.check()?;
        }
        if let Some(region) = &self.region
            && (!region.starts_with(|first: char| first.is_ascii_alphabetic())
                || !region
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            return Err(invalid("region", "a region looks like us-east-1"));
        }
        if let Some(url) = &self.upstream_endpoint_url {
            check_url(url, "http://127.0.0.1:8787 or https://proton.example")
                .map_err(|problem| invalid("upstream-endpoint-url", problem))?;
            if self.is_own(url) {
                return Err(invalid(
                    "upstream-endpoint-url",
                    "leads to this gateway's own AWS door; move that elsewhere with aws-listen",
                ));
            }
        }
        if self.upstream_keeps_keys && self.upstream_endpoint_url.is_none() {
            return Err(invalid("upstream-keeps-keys", upstreams::NO_KEEPER));
        }
        let sts = self.sts_endpoint_url.as_deref();
        upstreams::check(&self.upstreams, &self.assume_role, sts)?;
        if !self.assume_role.is_empty() && !self.authenticates() {
            return Err(invalid(
                "assume-role",
                "callers are not told apart where they are not known; add [authentication]",
            ));
        }
        if let Some(waits) = &self.waits {
            waits.check()?;
        }
        if let Some(authentication) = &self.authentication {
            authentication.check()?;
            let listeners = self.all_listeners();
            let certificates = self
                .tls
                .as_ref()
                .is_some_and(|tls| tls.client_certificates != ClientCertificates::None)
                && listeners.iter().any(|it| it.has_tls(true));
            let aws = listeners.iter().any(|it| it.speaks(Speaks::Aws));
            authentication.check_ways(aws, certificates)?;
        }
        filter(&self.log).map_err(|problem| invalid("log", problem))?;
        Ok(())
    }

    /// As whom the upstream is asked.
    pub fn identities(&self) -> Identities {
        upstreams::identities(self.upstream_keeps_keys, &self.upstreams, &self.assume_role)
    }

    /// Whether callers have to say who they are, and to prove it. A client's certificate alone
    /// does not count: it says who may connect, not who may call what.
    pub fn authenticates(&self) -> bool {
        self.authentication.is_some()
    }

    /// What tells one configuration from another, on the record.
    pub fn digest(&self) -> String {
        // What cannot be printed is told apart from what can.
        let printed = toml::to_string(self).unwrap_or_default();
        format!("sha256:{}", hex::encode(Sha256::digest(printed)))
    }

    /// The region of ARNs.
    pub fn arn_region(&self) -> &str {
        self.region.as_deref().unwrap_or(DEFAULT_REGION)
    }
}

/// Whether this is a URL with a host, to which requests can be sent. With a user in it, it is not
/// repeated: the password would be.
fn check_url(url: &str, like: &str) -> Result<(), String> {
    let whole = url.parse::<http::Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https"))
            && url.host().is_some_and(|host| !host.is_empty())
    });
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match (whole, authority.contains('@'), url.contains('@')) {
        (true, false, _) => Ok(()),
        (_, true, _) => Err(
            "there is a user or a password in the URL, which logs would show; leave it out"
                .to_owned(),
        ),
        (false, false, true) => Err(format!("this is no URL like {like}")),
        (false, false, false) => Err(format!("{url:?} is no URL like {like}")),
    }
}

fn invalid(name: &'static str, problem: impl Into<String>) -> ConfigError {
    ConfigError::Invalid {
        name,
        problem: problem.into(),
    }
}

#[cfg(test)]
mod tests;
