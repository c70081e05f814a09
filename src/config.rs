//! The configuration: flags over environment variables over a TOML file over defaults.
//!
//! [`Options`] is what may be given, the same names in all three places; [`Config`] is what holds.
//! Sections are given in the file only, each in a module of its own.

pub mod address;
pub mod audit;
pub mod authentication;
pub mod authorization;
pub mod cache;
pub mod connections;
pub mod grpc_web;
pub mod idempotency;
pub mod limits;
pub mod listeners;
pub mod order;
pub mod retry;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
mod upstreams;
pub mod waits;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::address::Address;
use self::audit::AuditConfig;
use self::authentication::Authentication;
use self::authorization::{AuthorizationConfig, AuthorizationOptions};
use self::cache::CacheConfig;
pub use self::connections::Connections;
use self::connections::ConnectionsOptions;
use self::grpc_web::GrpcWebConfig;
use self::idempotency::IdempotencyConfig;
use self::limits::Limits;
use self::listeners::{ListenerConfig, Speaks};
use self::order::OrderConfig;
use self::retry::RetryConfig;
use self::shutdown::ShutdownConfig;
use self::telemetry::TelemetryConfig;
pub use self::tls::Tls;
use self::tls::{ClientCertificates, TlsOptions};
pub use self::upstreams::{AssumeRole, NamedUpstream};
use self::waits::WaitsConfig;
use crate::telemetry::{LogFormat, filter};
use crate::upstream::Identities;

/// What may be given on the command line, in the environment (`PROTON_GATEWAY_…`) and, under the
/// same names, in the file.
#[derive(Debug, Default, Clone, Args, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Options {
    /// Address of the gRPC door, or unix:/a/path [default: 127.0.0.1:50051]
    #[arg(long, env = "PROTON_GATEWAY_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<Address>,
    /// Address of the AWS door, or unix:/a/path, or `off` [default: 127.0.0.1:8787]
    #[arg(long, env = "PROTON_GATEWAY_AWS_LISTEN", value_name = "ADDRESS|off")]
    pub aws_listen: Option<AwsListen>,
    /// Address of /livez, /readyz and /metrics [default: 127.0.0.1:9464]
    #[arg(long, env = "PROTON_GATEWAY_ADMIN_LISTEN", value_name = "ADDRESS")]
    pub admin_listen: Option<SocketAddr>,
    /// Lets the doors and the admin listener leave loopback although there is no TLS, or callers
    /// are not authenticated
    #[arg(long, env = "PROTON_GATEWAY_INSECURE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub insecure: Option<bool>,
    /// Folder of the engine's state [default: ./proton-data]; with --upstream aws of the
    /// idempotency keys [default: ./proton-ledger]
    #[arg(long, env = "PROTON_GATEWAY_STATE_DIR", value_name = "FOLDER")]
    pub state_dir: Option<PathBuf>,
    /// Folder with one sub-folder per bucket of template bundles [default: <state-dir>/buckets]
    #[arg(long, env = "PROTON_GATEWAY_BUCKETS_DIR", value_name = "FOLDER")]
    pub buckets_dir: Option<PathBuf>,
    /// Who answers: the embedded engine, or AWS's protocol elsewhere [default: engine, or aws if
    /// an endpoint is given]
    #[arg(
        long,
        env = "PROTON_GATEWAY_UPSTREAM",
        value_enum,
        value_name = "BACKEND"
    )]
    pub upstream: Option<Upstream>,
    /// Endpoint to forward to, instead of AWS's own
    #[arg(long, env = "PROTON_GATEWAY_UPSTREAM_ENDPOINT_URL", value_name = "URL")]
    pub upstream_endpoint_url: Option<String>,
    /// Profile of AWS's configuration files, for --upstream aws
    #[arg(long, env = "PROTON_GATEWAY_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Region, for ARNs and for signing [default: us-east-1; with --upstream aws: AWS's own chain]
    #[arg(long, env = "PROTON_GATEWAY_REGION", value_name = "REGION")]
    pub region: Option<String>,
    /// Account in the engine's ARNs [default: 123456789012]
    #[arg(long, env = "PROTON_GATEWAY_ACCOUNT_ID", value_name = "12 DIGITS")]
    pub account_id: Option<String>,
    /// How long a simulated deployment takes [default: 3s]
    #[arg(long, env = "PROTON_GATEWAY_SIMULATED_STEP", value_name = "DURATION")]
    pub simulated_step: Option<Span>,
    /// How long a self-managed deployment may wait to be reported [default: 24h]
    #[arg(
        long,
        env = "PROTON_GATEWAY_SELF_MANAGED_TIMEOUT",
        value_name = "DURATION"
    )]
    pub self_managed_timeout: Option<Span>,
    /// File of at least 32 random bytes that seals the resume tokens of waits; the same for all
    /// replicas [default: a key of this process]
    #[arg(
        long,
        env = "PROTON_GATEWAY_RESUME_TOKEN_KEY_FILE",
        value_name = "FILE"
    )]
    pub resume_token_key_file: Option<PathBuf>,
    /// What is logged, in the syntax of tracing's EnvFilter [default: info]
    #[arg(long, env = "PROTON_GATEWAY_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines look [default: text]
    #[arg(
        long,
        env = "PROTON_GATEWAY_LOG_FORMAT",
        value_enum,
        value_name = "FORMAT"
    )]
    pub log_format: Option<LogFormat>,
    /// File that is written once calls are answered: the addresses, as JSON
    #[arg(long, env = "PROTON_GATEWAY_READY_FILE", value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// Where roles are assumed, instead of AWS's own STS
    #[arg(skip)]
    pub sts_endpoint_url: Option<String>,
    #[arg(skip)]
    pub upstreams: BTreeMap<String, NamedUpstream>,
    #[arg(skip)]
    pub assume_role: Vec<AssumeRole>,
    #[arg(skip)]
    pub waits: Option<WaitsConfig>,
    #[arg(skip)]
    pub authorization: Option<AuthorizationOptions>,
    #[arg(skip)]
    pub limits: Option<Limits>,
    #[arg(skip)]
    pub audit: Option<AuditConfig>,
    /// How callers prove who they are; nobody has to where it is left out.
    #[arg(skip)]
    pub authentication: Option<Authentication>,
    /// File only.
    #[arg(skip)]
    pub tls: Option<TlsOptions>,
    /// File only.
    #[arg(skip)]
    pub connections: Option<ConnectionsOptions>,
    /// File only.
    #[arg(skip)]
    pub cache: Option<CacheConfig>,
    /// File only.
    #[arg(skip)]
    pub idempotency: Option<IdempotencyConfig>,
    /// File only.
    #[arg(skip)]
    pub retry: Option<RetryConfig>,
    /// File only.
    #[arg(skip)]
    pub order: Option<OrderConfig>,
    /// Collector of traces and metrics (OTLP over gRPC), such as http://127.0.0.1:4317; in the file
    /// telemetry.endpoint
    #[arg(long, env = "PROTON_GATEWAY_OTLP_ENDPOINT", value_name = "URL")]
    #[serde(skip)]
    pub otlp_endpoint: Option<String>,
    /// File only.
    #[arg(skip)]
    pub telemetry: Option<TelemetryConfig>,
    /// File only.
    #[arg(skip)]
    pub shutdown: Option<ShutdownConfig>,
    /// File only.
    #[arg(skip)]
    pub listeners: Vec<ListenerConfig>,
    /// File only.
    #[arg(skip)]
    pub grpc_web: Option<GrpcWebConfig>,
}

/// Who answers calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// The embedded control plane.
    Engine,
    /// AWS's protocol, spoken to AWS or to another endpoint.
    Aws,
}

/// Where the AWS door opens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum AwsListen {
    Off,
    At(Address),
}

impl FromStr for AwsListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        text.parse()
            .map(Self::At)
            .map_err(|problem| format!("{problem}, nor `off`"))
    }
}

impl TryFrom<String> for AwsListen {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<AwsListen> for String {
    fn from(listen: AwsListen) -> Self {
        match listen {
            AwsListen::Off => "off".to_owned(),
            AwsListen::At(address) => address.to_string(),
        }
    }
}

/// A duration with its unit: `250ms`, `3s`, `24h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "0" {
            return Ok(Self(Duration::ZERO));
        }
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|error| format!("{text:?} is no duration like 250ms, 3s or 24h: {error}"))
    }
}

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        humantime::format_duration(span.0).to_string()
    }
}

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

/// What only the engine uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct EngineConfig {
    pub state_dir: PathBuf,
    pub buckets_dir: PathBuf,
    pub account_id: String,
    pub simulated_step: Span,
    pub self_managed_timeout: Span,
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
            Some(path) => read(path)?,
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
    fn is_own(&self, url: &str) -> bool {
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
        upstreams::identities(&self.upstreams, &self.assume_role)
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

impl EngineConfig {
    fn of(options: &Options) -> Self {
        let state_dir = options
            .state_dir
            .clone()
            .unwrap_or_else(|| PathBuf::from("./proton-data"));
        Self {
            buckets_dir: options
                .buckets_dir
                .clone()
                .unwrap_or_else(|| state_dir.join("buckets")),
            state_dir,
            account_id: options
                .account_id
                .clone()
                .unwrap_or_else(|| "123456789012".to_owned()),
            simulated_step: options
                .simulated_step
                .unwrap_or(Span(Duration::from_secs(3))),
            self_managed_timeout: options
                .self_managed_timeout
                .unwrap_or(Span(Duration::from_secs(24 * 3600))),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        if self.account_id.len() != 12 || !self.account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(invalid("account-id", "an account id has twelve digits"));
        }
        if self.simulated_step.0 > LONGEST_SPAN {
            return Err(invalid("simulated-step", "at most 365days"));
        }
        let sensible = Duration::from_secs(1)..=LONGEST_SPAN;
        if !sensible.contains(&self.self_managed_timeout.0) {
            return Err(invalid(
                "self-managed-timeout",
                "at least 1s and at most 365days",
            ));
        }
        Ok(())
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

fn read(path: &Path) -> Result<Options, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|cause| ConfigError::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    toml::from_str(&text).map_err(|cause| ConfigError::Malformed {
        path: path.to_owned(),
        place: place(&text, cause.span().map_or(0, |span| span.start)),
        problem: without_values(cause),
    })
}

/// Where in a file something stands.
fn place(text: &str, index: usize) -> String {
    let before = text.get(..index).unwrap_or(text);
    let begun = before.rsplit('\n').next().unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    format!("line {line}, column {}", begun.chars().count() + 1)
}

/// What is wrong, and with which key, without the value that stands there.
fn without_values(mut cause: toml::de::Error) -> String {
    // With its input it would show the line.
    cause.set_input(None);
    let text = cause.to_string().trim_end().replace('\n', " ");
    let begins = ["invalid type: string ", "invalid value: string "];
    match (
        begins.iter().find(|begin| text.starts_with(**begin)),
        text.rsplit_once("\", expected "),
    ) {
        (Some(begin), Some((_, expected))) => format!("{}, expected {expected}", begin.trim_end()),
        _ => text,
    }
}

impl Options {
    /// Refuses what only the other backend uses: it would have no effect.
    fn refuse_strangers(&self, upstream: Upstream) -> Result<(), ConfigError> {
        let (given, problem): (&[_], _) = match upstream {
            Upstream::Engine => (
                &[
                    ("profile", self.profile.is_some()),
                    ("upstreams", !self.upstreams.is_empty()),
                    ("assume-role", !self.assume_role.is_empty()),
                    ("sts-endpoint-url", self.sts_endpoint_url.is_some()),
                ],
                "the engine forwards nothing; leave it out, or set upstream to aws",
            ),
            Upstream::Aws => (
                &[
                    ("state-dir", self.state_dir.is_some() && !self.keeps_keys()),
                    ("buckets-dir", self.buckets_dir.is_some()),
                    ("account-id", self.account_id.is_some()),
                    ("simulated-step", self.simulated_step.is_some()),
                    ("self-managed-timeout", self.self_managed_timeout.is_some()),
                ],
                "only the engine uses it; leave it out, or set upstream to engine",
            ),
        };
        match given.iter().find(|(_, given)| *given) {
            Some((name, _)) => Err(invalid(name, problem)),
            None => Ok(()),
        }
    }

    fn keeps_keys(&self) -> bool {
        self.idempotency.as_ref().is_none_or(|keys| keys.enabled)
    }

    /// What is given here, else what is given there.
    fn or(self, other: Self) -> Self {
        Self {
            listen: self.listen.or(other.listen),
            aws_listen: self.aws_listen.or(other.aws_listen),
            admin_listen: self.admin_listen.or(other.admin_listen),
            insecure: self.insecure.or(other.insecure),
            state_dir: self.state_dir.or(other.state_dir),
            buckets_dir: self.buckets_dir.or(other.buckets_dir),
            upstream: self.upstream.or(other.upstream),
            upstream_endpoint_url: self.upstream_endpoint_url.or(other.upstream_endpoint_url),
            profile: self.profile.or(other.profile),
            region: self.region.or(other.region),
            account_id: self.account_id.or(other.account_id),
            simulated_step: self.simulated_step.or(other.simulated_step),
            self_managed_timeout: self.self_managed_timeout.or(other.self_managed_timeout),
            resume_token_key_file: self.resume_token_key_file.or(other.resume_token_key_file),
            log: self.log.or(other.log),
            log_format: self.log_format.or(other.log_format),
            ready_file: self.ready_file.or(other.ready_file),
            // What no flag can say.
            sts_endpoint_url: other.sts_endpoint_url,
            upstreams: other.upstreams,
            assume_role: other.assume_role,
            waits: other.waits,
            authorization: other.authorization,
            limits: other.limits,
            audit: other.audit,
            authentication: other.authentication,
            tls: other.tls,
            connections: other.connections,
            cache: other.cache,
            idempotency: other.idempotency,
            retry: other.retry,
            order: other.order,
            otlp_endpoint: self.otlp_endpoint,
            telemetry: other.telemetry,
            shutdown: other.shutdown,
            listeners: other.listeners,
            grpc_web: other.grpc_web,
        }
    }
}

#[cfg(test)]
mod tests;
