//! Forwards calls to AWS Proton, or to any endpoint that speaks its protocol.
//!
//! One attempt per call: the SDK's own retries are off, because who repeats a call has to know
//! whether a repeat is safe. That is [`crate::pipeline::retry`].

pub mod convert;
mod failure;
mod headers;
pub mod pace;
mod session;

use std::collections::BTreeMap;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::service_config::ServiceConfigKey;
use futures_util::future::BoxFuture;
use tower::Service;

use self::pace::{Paces, Rank};
use self::session::Clients;
use crate::api::{Idempotency, sdk};
use crate::changes::Changes;
use crate::edge::status;
use crate::error::Error;
use crate::gateway::{Call, Reply};
use crate::telemetry::Metrics;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an attempt may take where nothing is said.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);

/// Where an upstream is; everything else comes from AWS's default chain.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub region: Option<String>,
    pub profile: Option<String>,
    pub endpoint_url: Option<String>,
}

/// The AWS backend. Clones share its connections and credentials.
#[derive(Debug, Clone)]
pub struct Aws {
    clients: Clients,
    changes: Changes,
    /// Absent where calls are sent as they come.
    paces: Option<Paces>,
    attempt_timeout: Duration,
    /// Who is told of attempts; nobody where it is absent.
    metrics: Option<Metrics>,
}

impl Settings {
    /// Reads region, profile and credentials as AWS's tools do.
    pub async fn load(self) -> SdkConfig {
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(region) = self.region {
            loader = loader.region(Region::new(region));
        }
        if let Some(profile) = self.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(url) = self.endpoint_url {
            loader = loader.endpoint_url(url);
        }
        loader.load().await
    }
}

/// Where Proton is asked; nothing: at AWS's own endpoint. Variables and AWS's files say so too.
pub fn endpoint(config: &SdkConfig) -> Option<String> {
    let given = config.endpoint_url().map(str::to_owned);
    if config.get_origin("endpoint_url").is_client_config() {
        return given;
    }
    let key = ServiceConfigKey::builder()
        .service_id("Proton")
        .env("AWS_ENDPOINT_URL")
        .profile("endpoint_url")
        .build();
    let found = config.service_config().zip(key.ok());
    found
        .and_then(|(known, key)| known.load_config(key))
        .or(given)
}

impl Aws {
    /// A backend with credentials and endpoint of the caller's choice.
    pub fn with_config(config: &SdkConfig) -> Self {
        Self::of(config.clone(), BTreeMap::new(), None)
    }

    /// The same with named upstreams. Roles are assumed at `sts_endpoint_url`, or at AWS's own STS.
    pub fn of(
        unnamed: SdkConfig,
        named: BTreeMap<String, SdkConfig>,
        sts_endpoint_url: Option<String>,
    ) -> Self {
        Self {
            clients: Clients::new(unnamed, named, sts_endpoint_url),
            changes: Changes::default(),
            paces: None,
            attempt_timeout: ATTEMPT_TIMEOUT,
            metrics: None,
        }
    }

    /// The same, which asks no more at the same time than the upstream bears.
    pub fn paced(self, paces: Option<Paces>) -> Self {
        Self { paces, ..self }
    }

    /// The same, which gives an attempt up after this time, so that there is some left for another.
    pub fn giving_up_after(self, attempt_timeout: Duration) -> Self {
        Self {
            attempt_timeout,
            ..self
        }
    }

    /// The same, whose attempts `metrics` are told of.
    pub fn measured_by(self, metrics: Metrics) -> Self {
        Self {
            metrics: Some(metrics),
            ..self
        }
    }

    /// Where the names of what was changed through this gateway are published.
    pub fn changes(&self) -> &Changes {
        &self.changes
    }
}

impl Service<Call> for Aws {
    type Response = Reply;
    type Error = Error;
    type Future = BoxFuture<'static, Result<Reply, Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let identity = call.identity.clone().unwrap_or_default();
        let client = self.clients.of(&identity);
        let changes = self.changes.clone();
        let attempt_timeout = self.attempt_timeout;
        let metrics = self.metrics.clone();
        let paces = self.paces.as_ref();
        let pace = paces.map(|paces| paces.of(identity.upstream.as_ref()));
        Box::pin(async move {
            let place = match &pace {
                Some(pace) => Some(pace.turn(Rank::of(&call), call.deadline.into()).await?),
                None => None,
            };
            let left = call.deadline.saturating_duration_since(Instant::now());
            let left = left.min(attempt_timeout);
            let began = Instant::now();
            let attempt = call
                .trace
                .request(|| format!("Proton/{}", call.operation.name()));
            headers::note(&attempt, &call);
            let settings = headers::sent_with(&attempt, call.once.as_ref()).timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT.min(left))
                    .operation_timeout(left)
                    .build(),
            );
            let (operation, repeatable) = (call.operation, call.repeatable());
            let mutates = operation.policy().idempotency != Idempotency::Read;
            let name = if mutates { call.request.name() } else { None };
            // Large, and not needed on the stack of every caller.
            let outcome = Box::pin(sdk::forward(&client, settings, call.request)).await;
            let refused = outcome.as_ref().is_err_and(Error::is_refusal);
            if let Some(name) = name.filter(|_| !refused) {
                // Whatever else came of it: an outcome may be unknown.
                changes.publish(&name);
            }
            if let Some(place) = place {
                place.end(&outcome);
            }
            let outcome = outcome
                .map(|answer| Reply {
                    upstream_request_id: answer.request_id,
                    ..Reply::new(answer.response)
                })
                .map_err(|error| failure::of_operation(error, operation, repeatable));
            let failed = outcome.as_ref().err();
            let reason = failed.map(|error| status::meaning(&error.kind).reason);
            if let Some(metrics) = metrics {
                metrics.attempt(operation, reason, began.elapsed());
            }
            headers::end(&attempt, &outcome, reason);
            outcome
        })
    }
}
