//! Registered repositories.
//!
//! Keys of [`RepositoryRecord`]: `{provider}/{owner/name}`, as in ARNs. Records that use a
//! repository stand under the index `repository/{key}`.

use prost::Message;

use super::account_settings::SettingsRecord;
use super::context::Context;
use super::environment::EnvironmentRecord;
use super::idempotency;
use super::paging::Page;
use super::service_sync::ServiceSyncRecord;
use super::store::{Record, Transaction};
use super::tag;
use super::template_sync::TemplateSyncRecord;
use crate::api::pb::{self, RepositoryProvider as Provider};
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
pub struct RepositoryRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) view: Option<pb::Repository>,
    #[prost(string, tag = "2")]
    pub(super) fingerprint: String,
}

impl Record for RepositoryRecord {
    const KIND: &'static str = "repository";

    fn key(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        key(view.provider(), view.name())
    }
}

impl RepositoryRecord {
    /// The key of the repository with this tail of an ARN: `repository/github:owner/name`.
    pub fn key_of_tail(tail: &str) -> Option<String> {
        let (provider, name) = tail.strip_prefix("repository/")?.split_once(':')?;
        Some(format!("{provider}/{name}"))
    }

    fn into_view(self) -> pb::Repository {
        self.view.unwrap_or_default()
    }
}

pub(super) fn provider_name(provider: Provider) -> &'static str {
    match provider {
        Provider::Github => "github",
        Provider::GithubEnterprise => "github_enterprise",
        Provider::Bitbucket => "bitbucket",
        Provider::Unspecified => "unknown",
    }
}

pub(super) fn key(provider: Provider, name: &str) -> String {
    format!("{}/{name}", provider_name(provider))
}

pub(super) fn tail(provider: Provider, name: &str) -> String {
    format!("repository/{}:{name}", provider_name(provider))
}

/// The index under which what uses a repository is found.
pub fn index(provider: Provider, name: &str) -> String {
    format!("repository/{}", key(provider, name))
}

/// The same of a branch of it.
pub fn index_of(branch: &pb::RepositoryBranch) -> String {
    index(branch.provider(), branch.name())
}

/// Whether the repository is registered.
pub fn exists(tx: &Transaction<'_>, provider: Provider, name: &str) -> Result<bool> {
    Ok(tx.get::<RepositoryRecord>(&key(provider, name))?.is_some())
}

fn view(tx: &Transaction<'_>, provider: Provider, name: &str) -> Result<pb::Repository> {
    tx.get::<RepositoryRecord>(&key(provider, name))?
        .map(RepositoryRecord::into_view)
        .ok_or_else(|| Error::not_found("repository", key(provider, name)))
}

/// A branch of a registered repository.
pub fn branch(
    tx: &Transaction<'_>,
    cx: &Context,
    input: &pb::RepositoryBranchInput,
) -> Result<pb::RepositoryBranch> {
    view(tx, input.provider(), &input.name)?;
    Ok(pb::RepositoryBranch {
        arn: Some(cx.arn(&tail(input.provider(), &input.name))),
        branch: Some(input.branch.clone()),
        name: Some(input.name.clone()),
        provider: input.provider,
    })
}

/// Nothing documented says what a repetition does; the model calls it idempotent, so the same
/// parameters return the original.
pub fn create(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::CreateRepositoryRequest,
) -> Result<pb::CreateRepositoryResponse> {
    request.tags = tag::sorted(request.tags);
    let fingerprint = idempotency::fingerprint(&request);
    let provider = request.provider();
    let tail = tail(provider, &request.name);
    if let Some(original) = tx.get::<RepositoryRecord>(&key(provider, &request.name))? {
        if original.fingerprint != fingerprint {
            return Err(Error::already_exists(tail));
        }
        return Ok(pb::CreateRepositoryResponse {
            repository: Some(original.into_view()),
        });
    }
    let quota = cx.settings.quotas.repositories;
    if tx.count::<RepositoryRecord>("")? >= quota {
        return Err(Error::quota("repositories", quota));
    }
    let view = pb::Repository {
        arn: Some(cx.arn(&tail)),
        connection_arn: Some(request.connection_arn),
        encryption_key: request.encryption_key,
        name: Some(request.name),
        provider: provider.into(),
    };
    tag::begin(tx, &tail, request.tags)?;
    tx.put(&RepositoryRecord {
        view: Some(view.clone()),
        fingerprint,
    })?;
    Ok(pb::CreateRepositoryResponse {
        repository: Some(view),
    })
}

pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::GetRepositoryRequest,
) -> Result<pb::GetRepositoryResponse> {
    Ok(pb::GetRepositoryResponse {
        repository: Some(view(tx, request.provider(), &request.name)?),
    })
}

pub fn list(
    tx: &Transaction<'_>,
    cx: &Context,
    mut request: pb::ListRepositoriesRequest,
) -> Result<pb::ListRepositoriesResponse> {
    let page = Page::of(cx, &mut request)?;
    let (repositories, next_token) = page.scan(tx, "", |record: RepositoryRecord| {
        let view = record.into_view();
        Ok(Some(pb::RepositorySummary {
            arn: view.arn,
            connection_arn: view.connection_arn,
            name: view.name,
            provider: view.provider,
        }))
    })?;
    Ok(pb::ListRepositoriesResponse {
        next_token,
        repositories,
    })
}

/// Only the link goes; refused while something uses it.
pub fn delete(
    tx: &Transaction<'_>,
    _: &Context,
    request: pb::DeleteRepositoryRequest,
) -> Result<pb::DeleteRepositoryResponse> {
    let provider = request.provider();
    let key = key(provider, &request.name);
    let Some(record) = tx.get::<RepositoryRecord>(&key)? else {
        return Ok(pb::DeleteRepositoryResponse { repository: None });
    };
    let tail = tail(provider, &request.name);
    let index = index(provider, &request.name);
    let users = [
        (
            "an environment",
            tx.count_index::<EnvironmentRecord>(&index)?,
        ),
        (
            "the account settings",
            tx.count_index::<SettingsRecord>(&index)?,
        ),
        (
            "a template sync config",
            tx.count_index::<TemplateSyncRecord>(&index)?,
        ),
        (
            "a service sync config",
            tx.count_index::<ServiceSyncRecord>(&index)?,
        ),
    ];
    if let Some((user, _)) = users.iter().find(|(_, count)| *count > 0) {
        return Err(Error::precondition(
            &tail,
            format!("{tail} is used by {user}; change or delete that first"),
        ));
    }
    tx.delete::<RepositoryRecord>(&key)?;
    tag::forget(tx, &tail)?;
    Ok(pb::DeleteRepositoryResponse {
        repository: Some(record.into_view()),
    })
}
