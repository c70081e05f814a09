//! Service sync: which repository and file a service follows.
//!
//! Configurations are kept and checked; nothing is synced from Git yet, so there is no attempt
//! to tell of, and nothing that could be blocked.
//!
//! Keys of [`ServiceSyncRecord`]: the service's name. Index: `repository/{key}`.

use prost::Message;

use super::context::Context;
use super::repository;
use super::service::{self, ServiceRecord};
use super::service_instance;
use super::store::{Record, Transaction};
use super::template_sync;
use crate::api::pb;
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
pub struct ServiceSyncRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) view: Option<pb::ServiceSyncConfig>,
}

impl Record for ServiceSyncRecord {
    const KIND: &'static str = "service-sync-config";

    fn key(&self) -> String {
        self.view
            .as_ref()
            .map(|view| view.service_name().to_owned())
            .unwrap_or_default()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        self.view
            .iter()
            .map(|view| {
                let index = repository::index(view.repository_provider(), view.repository_name());
                (index, self.key())
            })
            .collect()
    }
}

impl ServiceSyncRecord {
    pub fn into_view(self) -> pb::ServiceSyncConfig {
        self.view.unwrap_or_default()
    }
}

fn view(tx: &Transaction<'_>, service: &str) -> Result<pb::ServiceSyncConfig> {
    tx.get::<ServiceSyncRecord>(service)?
        .map(ServiceSyncRecord::into_view)
        .ok_or_else(|| Error::not_found("service-sync-config", service))
}

/// The same parameters return the original, as the model calls the operation idempotent.
pub fn create(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::CreateServiceSyncConfigRequest,
) -> Result<pb::CreateServiceSyncConfigResponse> {
    template_sync::registered(tx, request.repository_provider(), &request.repository_name)?;
    if tx.get::<ServiceRecord>(&request.service_name)?.is_none() {
        return Err(Error::invalid_field(
            "service_name",
            "there is no service of this name",
        ));
    }
    let view = pb::ServiceSyncConfig {
        branch: Some(request.branch),
        file_path: Some(request.file_path),
        repository_name: Some(request.repository_name),
        repository_provider: request.repository_provider,
        service_name: Some(request.service_name),
    };
    match tx.get::<ServiceSyncRecord>(view.service_name())? {
        Some(original) if original.view.as_ref() != Some(&view) => {
            return Err(Error::already_exists(format!(
                "service-sync-config/{}",
                view.service_name()
            )));
        }
        Some(_) => {}
        None => tx.put(&ServiceSyncRecord {
            view: Some(view.clone()),
        })?,
    }
    Ok(pb::CreateServiceSyncConfigResponse {
        service_sync_config: Some(view),
    })
}

pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetServiceSyncConfigRequest,
) -> Result<pb::GetServiceSyncConfigResponse> {
    Ok(pb::GetServiceSyncConfigResponse {
        service_sync_config: Some(view(tx, &request.service_name)?),
    })
}

pub fn update(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::UpdateServiceSyncConfigRequest,
) -> Result<pb::UpdateServiceSyncConfigResponse> {
    view(tx, &request.service_name)?;
    let provider = request.repository_provider();
    if !repository::exists(tx, provider, &request.repository_name)? {
        return Err(Error::not_found("repository", request.repository_name));
    }
    let view = pb::ServiceSyncConfig {
        branch: Some(request.branch),
        file_path: Some(request.file_path),
        repository_name: Some(request.repository_name),
        repository_provider: request.repository_provider,
        service_name: Some(request.service_name),
    };
    tx.put(&ServiceSyncRecord {
        view: Some(view.clone()),
    })?;
    Ok(pb::UpdateServiceSyncConfigResponse {
        service_sync_config: Some(view),
    })
}

pub fn delete(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::DeleteServiceSyncConfigRequest,
) -> Result<pb::DeleteServiceSyncConfigResponse> {
    let found = tx.get::<ServiceSyncRecord>(&request.service_name)?;
    tx.delete::<ServiceSyncRecord>(&request.service_name)?;
    Ok(pb::DeleteServiceSyncConfigResponse {
        service_sync_config: found.map(ServiceSyncRecord::into_view),
    })
}

/// There was no attempt to sync, so the answer tells of none.
pub fn instance_status(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetServiceInstanceSyncStatusRequest,
) -> Result<pb::GetServiceInstanceSyncStatusResponse> {
    service_instance::record(tx, &request.service_name, &request.service_instance_name)?;
    view(tx, &request.service_name)?;
    Ok(pb::GetServiceInstanceSyncStatusResponse::default())
}

/// Nothing was synced, so nothing blocks it.
pub fn blockers(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetServiceSyncBlockerSummaryRequest,
) -> Result<pb::GetServiceSyncBlockerSummaryResponse> {
    service::record(tx, &request.service_name)?;
    if let Some(instance) = &request.service_instance_name {
        service_instance::record(tx, &request.service_name, instance)?;
    }
    Ok(pb::GetServiceSyncBlockerSummaryResponse {
        service_sync_blocker_summary: Some(pb::ServiceSyncBlockerSummary {
            latest_blockers: Vec::new(),
            service_instance_name: request.service_instance_name,
            service_name: Some(request.service_name),
        }),
    })
}

/// Only a sync makes blockers, so none of any id can be found.
pub fn resolve_blocker(
    _: &Transaction<'_>,
    _: &Context,
    request: pb::UpdateServiceSyncBlockerRequest,
) -> Result<pb::UpdateServiceSyncBlockerResponse> {
    Err(Error::not_found(
        "service-sync-blocker",
        request.id.unwrap_or_default(),
    ))
}
