//! What may be given: by flags and environment variables, and under the same names in the file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use super::address::Address;
use super::audit::AuditConfig;
use super::authentication::Authentication;
use super::authorization::AuthorizationOptions;
use super::cache::CacheConfig;
use super::connections::ConnectionsOptions;
use super::grpc_web::GrpcWebConfig;
use super::idempotency::IdempotencyConfig;
use super::limits::Limits;
use super::listeners::ListenerConfig;
use super::order::OrderConfig;
use super::retry::RetryConfig;
use super::shutdown::ShutdownConfig;
use super::telemetry::TelemetryConfig;
use super::tls::TlsOptions;
use super::upstreams::{AssumeRole, NamedUpstream};
use super::waits::WaitsConfig;
use super::{ConfigError, Span, invalid};
use crate::telemetry::LogFormat;

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
    /// Whether the upstream is a gateway that keeps idempotency keys itself: it is given one of its own
    /// with each mutation under a key, which can then be sent again whatever it is
    #[arg(skip)]
    pub upstream_keeps_keys: Option<bool>,
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

impl Options {
    /// Refuses what only the other backend uses: it would have no effect.
    pub(super) fn refuse_strangers(&self, upstream: Upstream) -> Result<(), ConfigError> {
        let (given, problem): (&[_], _) = match upstream {
            Upstream::Engine => (
                &[
                    ("profile", self.profile.is_some()),
                    ("upstream-keeps-keys", self.upstream_keeps_keys.is_some()),
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
    pub(super) fn or(self, other: Self) -> Self {
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
            upstream_keeps_keys: other.upstream_keeps_keys,
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
