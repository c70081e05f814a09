//! `GatewayService`: what the gateway does beyond Proton's own API.
//!
//! Deploys are [`crate::deploy`]'s; what callers may do is [`crate::auth::policy`]'s.

use std::sync::Arc;
use std::time::SystemTime;

use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Arrival, compression, status};
use crate::api::Rpc;
use crate::api::own::gateway_service_server::GatewayService;
use crate::api::own::{
    self, ExplainRequest, ExplainResponse, GetMetricsRequest, GetMetricsResponse,
    PurgeCacheRequest, PurgeCacheResponse,
};
use crate::auth::policy::check::{Question, proven};
use crate::auth::policy::resource::Resource;
use crate::auth::policy::{Authorizer, Grounds, exempt};
use crate::auth::{Method, Principal};
use crate::cache::Cache;
use crate::deploy::{Deploys, Items};
use crate::error::{Error, Result};
use crate::limits::Held;

/// Answers `GatewayService`.
#[derive(Clone)]
pub struct Own {
    deploys: Deploys,
    /// Absent where callers are not authorized.
    authorizer: Option<Authorizer>,
}

impl Own {
    pub fn new(deploys: Deploys, authorizer: Option<Authorizer>) -> Self {
        Self {
            deploys,
            authorizer,
        }
    }

    async fn answer(&self, asked: ExplainRequest, arrival: &Arrival) -> Result<ExplainResponse> {
        let caller = &arrival.principal;
        let subject = match asked.principal {
            None => Arc::clone(caller),
            Some(other) => Arc::new(supposed(other)?),
        };
        let rpc = known("Explain")?;
        let _held = self.limited(rpc, arrival)?;
        let question = Question {
            operation: asked.operation,
            resource: asked.resource,
            template: asked.template,
            tags: asked.tags.into_iter().collect(),
        };
        let Some(authorizer) = &self.authorizer else {
            question.read(&subject.id)?;
            return Ok(ExplainResponse {
                decision: own::Decision::Allow.into(),
                ..ExplainResponse::default()
            });
        };
        // Whoever says what it would be is another one.
        let about = match Arc::ptr_eq(&subject, caller) {
            true => Resource::principal(&caller.id),
            false if subject.id == caller.id => Resource::principal(""),
            false => Resource::principal(&subject.id),
        };
        self.authorize(rpc, &about, arrival).await?;
        let (rpc, resource) = question.read(&subject.id)?;
        if exempt(&subject) {
            return Ok(ExplainResponse {
                decision: own::Decision::Allow.into(),
                policy_version: authorizer.version(),
                ..ExplainResponse::default()
            });
        }
        let decision = authorizer.decide(&subject, rpc, &resource).await;
        Ok(ExplainResponse {
            decision: match decision.allowed {
                true => own::Decision::Allow,
                false => own::Decision::Deny,
            }
            .into(),
            policy_ids: decision.policies().to_vec(),
            policy_version: decision.version.clone(),
            out_of_scope: decision.grounds == Grounds::Scopes,
        })
    }

    async fn purge(&self, arrival: &Arrival) -> Result<PurgeCacheResponse> {
        let rpc = known("PurgeCache")?;
        self.authorize(rpc, &Resource::account(), arrival).await?;
        let _held = self.limited(rpc, arrival)?;
        let gateway = self.deploys.gateway();
        let entries = gateway.cache().map_or(0, Cache::purge);
        let by = &arrival.principal.id;
        tracing::info!(principal = by, entries, "the cache was purged");
        if let Some(audit) = &gateway.guards().audit {
            let details = serde_json::json!({ "principal": by, "entries": entries });
            audit.event("cache-purged", details);
        }
        Ok(PurgeCacheResponse { entries })
    }

    async fn measured(
        &self,
        asked: &GetMetricsRequest,
        arrival: &Arrival,
    ) -> Result<GetMetricsResponse> {
        let rpc = known("GetMetrics")?;
        self.authorize(rpc, &Resource::account(), arrival).await?;
        let _held = self.limited(rpc, arrival)?;
        let mut read = Vec::new();
        if let Some(metrics) = self.deploys.gateway().metrics() {
            metrics.refresh().await;
            read = metrics.read(&asked.names);
        }
        Ok(GetMetricsResponse {
            metrics: read,
            read_at: Some(SystemTime::now().into()),
        })
    }

    /// Counts a call against what its caller may ask for.
    fn limited(&self, rpc: &'static Rpc, arrival: &Arrival) -> Result<Option<Held>> {
        let limiter = self.deploys.gateway().guards().limiter.as_ref();
        limiter
            .map(|limiter| limiter.call(rpc, &arrival.principal))
            .transpose()
    }

    /// Refuses a caller that may not call `rpc` on `about`, and puts that down.
    async fn authorize(
        &self,
        rpc: &'static Rpc,
        about: &Resource,
        arrival: &Arrival,
    ) -> Result<()> {
        let Some(authorizer) = &self.authorizer else {
            return Ok(());
        };
        let checked = authorizer.check(&arrival.principal, rpc, about).await;
        let audit = &self.deploys.gateway().guards().audit;
        if let (Err(error), Some(audit)) = (&checked, audit) {
            audit.denied_consultation(rpc, arrival, error);
        }
        checked.map(drop)
    }
}

fn known(method: &str) -> Result<&'static Rpc> {
    Rpc::of(method).ok_or_else(|| Error::internal("an rpc is not in the contract"))
}

/// A caller as a question describes it.
fn supposed(given: own::SupposedPrincipal) -> Result<Principal> {
    if given.id.is_empty() {
        return Err(Error::invalid_field("principal.id", "is required"));
    }
    let method = match given.method.as_str() {
        "" => Method::Token,
        name => proven(name).ok_or_else(|| {
            Error::invalid_field(
                "principal.method",
                "must be certificate, jwt, token or access-key",
            )
        })?,
    };
    Ok(Principal {
        id: given.id,
        method,
        roles: given.roles.into_iter().collect(),
        scopes: given.scopes.into_iter().collect(),
        attributes: given.attributes.into_iter().collect(),
        expires: None,
    })
}

type Answer<T> = std::result::Result<Response<T>, Status>;

/// What is sent to whoever has asked with this metadata.
fn answered<T: Message>(outcome: Result<T>, asked: &MetadataMap, arrival: &Arrival) -> Answer<T> {
    let mut response = outcome
        .map(Response::new)
        .map_err(|error| status::of(&error, None, &arrival.request_id))?;
    compression::spare(asked, &mut response);
    Ok(response)
}

#[tonic::async_trait]
impl GatewayService for Own {
    type DeployEnvironmentStream = Items<own::DeployEnvironmentResponse>;
    type DeployServiceInstanceStream = Items<own::DeployServiceInstanceResponse>;
    type DeployServicePipelineStream = Items<own::DeployServicePipelineResponse>;

    async fn deploy_environment(
        &self,
        request: Request<own::DeployEnvironmentRequest>,
    ) -> Answer<Self::DeployEnvironmentStream> {
        self.deploys.deploy_environment(request).await
    }

    async fn deploy_service_instance(
        &self,
        request: Request<own::DeployServiceInstanceRequest>,
    ) -> Answer<Self::DeployServiceInstanceStream> {
        self.deploys.deploy_service_instance(request).await
    }

    async fn deploy_service_pipeline(
        &self,
        request: Request<own::DeployServicePipelineRequest>,
    ) -> Answer<Self::DeployServicePipelineStream> {
        self.deploys.deploy_service_pipeline(request).await
    }

    async fn purge_cache(&self, request: Request<PurgeCacheRequest>) -> Answer<PurgeCacheResponse> {
        let (metadata, extensions, _) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let purged = self.purge(&arrival).await;
        answered(purged, &metadata, &arrival)
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Answer<GetMetricsResponse> {
        let (metadata, extensions, asked) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let measured = self.measured(&asked, &arrival).await;
        answered(measured, &metadata, &arrival)
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Answer<ExplainResponse> {
        let (metadata, extensions, asked) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let explained = self.answer(asked, &arrival).await;
        answered(explained, &metadata, &arrival)
    }
}
