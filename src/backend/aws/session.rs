//! Clients of the SDK: one for each identity, each with credentials of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{self, ProvideCredentials, future};
use aws_sdk_proton::Client;
use aws_sdk_proton::config::{IdentityCache, SharedCredentialsProvider};
use aws_sdk_sts::error::ProvideErrorMetadata;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use moka::sync::Cache;

use super::CONNECT_TIMEOUT;
use crate::upstream::{Identity, Session};

/// How many identities have their clients and credentials kept; the least used are forgotten.
const IDENTITIES: u64 = 10_000;
/// How long an identity that nobody asks for is kept.
const IDLE: Duration = Duration::from_secs(3600);

/// All clients. Clones share them.
#[derive(Debug, Clone)]
pub struct Clients {
    unnamed: SdkConfig,
    named: BTreeMap<String, SdkConfig>,
    sts_endpoint_url: Option<String>,
    clients: Cache<Identity, Client>,
}

impl Clients {
    pub fn new(
        unnamed: SdkConfig,
        named: BTreeMap<String, SdkConfig>,
        sts_endpoint_url: Option<String>,
    ) -> Self {
        Self {
            unnamed,
            named,
            sts_endpoint_url,
            clients: Cache::builder()
                .max_capacity(IDENTITIES)
                .time_to_idle(IDLE)
                .build(),
        }
    }

    /// The client for `identity`. What it is asked for goes out with its credentials alone.
    pub fn of(&self, identity: &Identity) -> Client {
        self.clients
            .get_with_by_ref(identity, || self.connect(identity))
    }

    fn connect(&self, identity: &Identity) -> Client {
        // Names are checked where identities are made.
        let upstream = identity.upstream.as_deref();
        let config = upstream
            .and_then(|name| self.named.get(name))
            .unwrap_or(&self.unnamed);
        let mut builder = aws_sdk_proton::config::Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .build(),
            );
        if let Some(session) = &identity.session {
            let assumed = Assumed {
                sts: self.sts(config),
                session: Session::clone(session),
            };
            builder = builder
                .credentials_provider(SharedCredentialsProvider::new(assumed))
                // Goes with the client, so that what is kept has one bound.
                .identity_cache(IdentityCache::lazy().build());
        }
        Client::from_conf(builder.build())
    }

    fn sts(&self, config: &SdkConfig) -> aws_sdk_sts::Client {
        // The endpoint of the configuration is Proton's.
        let mut config = config.clone().into_builder();
        config.set_endpoint_url(self.sts_endpoint_url.clone());
        aws_sdk_sts::Client::new(&config.build())
    }
}

/// Credentials of a session that STS gives out; the SDK asks again before they expire.
#[derive(Debug)]
struct Assumed {
    sts: aws_sdk_sts::Client,
    session: Session,
}

/// STS refuses the role.
#[derive(Debug, thiserror::Error)]
#[error("the role {role_arn} cannot be assumed: {code}")]
pub struct Refused {
    pub role_arn: String,
    pub code: String,
}

impl Assumed {
    async fn assume(&self) -> provider::Result {
        let session = &self.session;
        let mut request = self
            .sts
            .assume_role()
            .role_arn(&session.role_arn)
            .role_session_name(&session.name)
            .set_external_id(session.external_id.clone())
            .set_source_identity(session.source_identity.clone())
            .duration_seconds(i32::try_from(session.duration.as_secs()).unwrap_or(i32::MAX));
        for (key, value) in &session.tags {
            let tag = aws_sdk_sts::types::Tag::builder().key(key).value(value);
            request = request.tags(tag.build().map_err(CredentialsError::unhandled)?);
        }
        let assumed = request.send().await.map_err(|error| match error.code() {
            Some(code) if error.as_service_error().is_some() => {
                CredentialsError::provider_error(Refused {
                    role_arn: session.role_arn.clone(),
                    code: code.to_owned(),
                })
            }
            _ => CredentialsError::provider_error(error),
        })?;
        let given = assumed
            .credentials
            .ok_or_else(|| CredentialsError::unhandled("STS gave no credentials"))?;
        let expires = given.expiration.try_into().ok();
        Ok(Credentials::new(
            given.access_key_id,
            given.secret_access_key,
            Some(given.session_token),
            expires,
            "AssumeRole",
        ))
    }
}

impl ProvideCredentials for Assumed {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(self.assume())
    }
}
