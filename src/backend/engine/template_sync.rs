//! Template sync: which repository a template follows.
//!
//! Configurations are kept and checked; nothing is synced from Git yet, so there is no attempt
//! to tell of.
//!
//! Keys of [`TemplateSyncRecord`]: the template's key. Index: `repository/{key}`.

use prost::Message;

use super::context::Context;
use super::registry::{self, TemplateRecord};
use super::repository;
use super::service_sync::ServiceSyncRecord;
use super::store::{Record, Transaction};
use crate::api::pb::{self, RepositoryProvider, SyncType, TemplateType};
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
pub struct TemplateSyncRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) view: Option<pb::TemplateSyncConfig>,
}

impl Record for TemplateSyncRecord {
    const KIND: &'static str = "template-sync-config";

    fn key(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        registry::template_key(view.template_type(), view.template_name())
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

impl TemplateSyncRecord {
    fn into_view(self) -> pb::TemplateSyncConfig {
        self.view.unwrap_or_default()
    }
}

fn view(tx: &Transaction<'_>, kind: TemplateType, name: &str) -> Result<pb::TemplateSyncConfig> {
    tx.get::<TemplateSyncRecord>(&registry::template_key(kind, name))?
        .map(TemplateSyncRecord::into_view)
        .ok_or_else(|| Error::not_found("template-sync-config", name))
}

/// The model gives creates of sync configs no ResourceNotFoundException: a repository or a
/// template that is not there makes the request invalid.
pub fn registered(tx: &Transaction<'_>, provider: RepositoryProvider, name: &str) -> Result<()> {
    if repository::exists(tx, provider, name)? {
        return Ok(());
    }
    Err(Error::invalid_field(
        "repository_name",
        format!("the repository {name} is not registered; register it with CreateRepository"),
    ))
}

/// The same parameters return the original, as the model calls the operation idempotent.
pub fn create(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::CreateTemplateSyncConfigRequest,
) -> Result<pb::CreateTemplateSyncConfigResponse> {
    let kind = request.template_type();
    let key = registry::template_key(kind, &request.template_name);
    registered(tx, request.repository_provider(), &request.repository_name)?;
    if tx.get::<TemplateRecord>(&key)?.is_none() {
        return Err(Error::invalid_field(
            "template_name",
            format!("there is no {} of this name", registry::noun(kind)),
        ));
    }
    let view = pb::TemplateSyncConfig {
        branch: Some(request.branch),
        repository_name: Some(request.repository_name),
        repository_provider: request.repository_provider,
        subdirectory: request.subdirectory,
        template_name: Some(request.template_name),
        template_type: request.template_type,
    };
    match tx.get::<TemplateSyncRecord>(&key)? {
        Some(original) if original.view.as_ref() != Some(&view) => {
            return Err(Error::already_exists(format!("template-sync-config/{key}")));
        }
        Some(_) => {}
        None => tx.put(&TemplateSyncRecord {
            view: Some(view.clone()),
        })?,
    }
    Ok(pb::CreateTemplateSyncConfigResponse {
        template_sync_config: Some(view),
    })
}

pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetTemplateSyncConfigRequest,
) -> Result<pb::GetTemplateSyncConfigResponse> {
    Ok(pb::GetTemplateSyncConfigResponse {
        template_sync_config: Some(view(tx, request.template_type(), &request.template_name)?),
    })
}

/// Replaces the whole configuration: a subdirectory that is not given is taken away.
pub fn update(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::UpdateTemplateSyncConfigRequest,
) -> Result<pb::UpdateTemplateSyncConfigResponse> {
    view(tx, request.template_type(), &request.template_name)?;
    let provider = request.repository_provider();
    if !repository::exists(tx, provider, &request.repository_name)? {
        return Err(Error::not_found("repository", request.repository_name));
    }
    let view = pb::TemplateSyncConfig {
        branch: Some(request.branch),
        repository_name: Some(request.repository_name),
        repository_provider: request.repository_provider,
        subdirectory: request.subdirectory,
        template_name: Some(request.template_name),
        template_type: request.template_type,
    };
    tx.put(&TemplateSyncRecord {
        view: Some(view.clone()),
    })?;
    Ok(pb::UpdateTemplateSyncConfigResponse {
        template_sync_config: Some(view),
    })
}

pub fn delete(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::DeleteTemplateSyncConfigRequest,
) -> Result<pb::DeleteTemplateSyncConfigResponse> {
    let key = registry::template_key(request.template_type(), &request.template_name);
    let found = tx.get::<TemplateSyncRecord>(&key)?;
    tx.delete::<TemplateSyncRecord>(&key)?;
    Ok(pb::DeleteTemplateSyncConfigResponse {
        template_sync_config: found.map(TemplateSyncRecord::into_view),
    })
}

/// There was no attempt to sync, so the answer tells of none.
pub fn status(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetTemplateSyncStatusRequest,
) -> Result<pb::GetTemplateSyncStatusResponse> {
    view(tx, request.template_type(), &request.template_name)?;
    Ok(pb::GetTemplateSyncStatusResponse::default())
}

/// There was no attempt to sync, so the answer tells of none.
pub fn repository_status(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetRepositorySyncStatusRequest,
) -> Result<pb::GetRepositorySyncStatusResponse> {
    let provider = request.repository_provider();
    if !repository::exists(tx, provider, &request.repository_name)? {
        return Err(Error::not_found("repository", request.repository_name));
    }
    let definitions = definitions(tx, provider, &request.repository_name, request.sync_type())?;
    if !definitions
        .iter()
        .any(|definition| definition.branch() == request.branch)
    {
        return Err(Error::not_found(
            "repository-sync-definition",
            format!("{} on branch {}", request.repository_name, request.branch),
        ));
    }
    Ok(pb::GetRepositorySyncStatusResponse::default())
}

pub fn list_definitions(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::ListRepositorySyncDefinitionsRequest,
) -> Result<pb::ListRepositorySyncDefinitionsResponse> {
    Ok(pb::ListRepositorySyncDefinitionsResponse {
        next_token: None,
        sync_definitions: definitions(
            tx,
            request.repository_provider(),
            &request.repository_name,
            request.sync_type(),
        )?,
    })
}

/// What is synced from a repository. The parent is what a sync starts from, the repository.
fn definitions(
    tx: &Transaction<'_>,
    provider: RepositoryProvider,
    name: &str,
    kind: SyncType,
) -> Result<Vec<pb::RepositorySyncDefinition>> {
    let index = repository::index(provider, name);
    let definition = |branch: Option<String>, directory: String, target: Option<String>| {
        pb::RepositorySyncDefinition {
            branch,
            directory: Some(directory),
            parent: Some(name.to_owned()),
            target,
        }
    };
    Ok(match kind {
        SyncType::TemplateSync => tx
            .list_index::<TemplateSyncRecord>(&index)?
            .into_iter()
            .map(TemplateSyncRecord::into_view)
            .map(|view| {
                let directory = view.subdirectory.unwrap_or_else(|| "/".to_owned());
                definition(view.branch, directory, view.template_name)
            })
            .collect(),
        SyncType::ServiceSync => tx
            .list_index::<ServiceSyncRecord>(&index)?
            .into_iter()
            .map(ServiceSyncRecord::into_view)
            .map(|view| {
                let path = view.file_path.unwrap_or_default();
                let directory = path.rsplit_once('/').map_or("/", |(folder, _)| folder);
                definition(view.branch, directory.to_owned(), view.service_name)
            })
            .collect(),
        SyncType::Unspecified => Vec::new(),
    })
}
