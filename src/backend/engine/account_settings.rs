//! Settings of the account: who provisions pipelines.
//!
//! Key of [`SettingsRecord`]: `account`; there is one account.

use prost::Message;

use super::context::Context;
use super::repository;
use super::store::{Record, Transaction};
use crate::api::pb;
use crate::error::{Error, Result};

#[derive(Clone, PartialEq, Message)]
pub struct SettingsRecord {
    #[prost(message, optional, tag = "1")]
    pub(super) view: Option<pb::AccountSettings>,
}

const KEY: &str = "account";

impl Record for SettingsRecord {
    const KIND: &'static str = "account-settings";

    fn key(&self) -> String {
        KEY.to_owned()
    }

    fn indexes(&self) -> Vec<(String, String)> {
        self.view
            .iter()
            .filter_map(|view| view.pipeline_provisioning_repository.as_ref())
            .map(|branch| (repository::index_of(branch), String::new()))
            .collect()
    }
}

fn settings(tx: &Transaction<'_>) -> Result<pb::AccountSettings> {
    let record = tx.get::<SettingsRecord>(KEY)?.unwrap_or_default();
    Ok(record.view.unwrap_or_default())
}

/// Where pull requests for pipelines go.
pub fn pipeline_repository(tx: &Transaction<'_>) -> Result<Option<pb::RepositoryBranch>> {
    Ok(settings(tx)?.pipeline_provisioning_repository)
}

/// An account that nobody has set up has empty settings.
pub fn get(
    tx: &Transaction<'_>,
    _: &Context,
    _: pb::GetAccountSettingsRequest,
) -> Result<pb::GetAccountSettingsResponse> {
    Ok(pb::GetAccountSettingsResponse {
        account_settings: Some(settings(tx)?),
    })
}

/// What is not mentioned stays; an empty role takes a role away (API Reference).
pub fn update(
    tx: &Transaction<'_>,
    cx: &Context,
    request: pb::UpdateAccountSettingsRequest,
) -> Result<pb::UpdateAccountSettingsResponse> {
    let mut view = settings(tx)?;
    let deletes = request.delete_pipeline_provisioning_repository();
    if deletes && request.pipeline_provisioning_repository.is_some() {
        return Err(Error::invalid_field(
            "delete_pipeline_provisioning_repository",
            "cannot be given together with pipeline_provisioning_repository",
        ));
    }
    let role = |given: Option<String>, is: Option<String>| match given {
        None => is,
        Some(role) => Some(role).filter(|role| !role.is_empty()),
    };
    view.pipeline_service_role_arn = role(
        request.pipeline_service_role_arn,
        view.pipeline_service_role_arn,
    );
    view.pipeline_codebuild_role_arn = role(
        request.pipeline_codebuild_role_arn,
        view.pipeline_codebuild_role_arn,
    );
    if deletes {
        view.pipeline_provisioning_repository = None;
    }
    if let Some(input) = &request.pipeline_provisioning_repository {
        // The model gives this operation no ResourceNotFoundException.
        let branch = repository::branch(tx, cx, input).map_err(|error| {
            Error::invalid_field("pipeline_provisioning_repository", error.message)
        })?;
        view.pipeline_provisioning_repository = Some(branch);
    }
    tx.put(&SettingsRecord {
        view: Some(view.clone()),
    })?;
    Ok(pb::UpdateAccountSettingsResponse {
        account_settings: Some(view),
    })
}
