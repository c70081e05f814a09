//! Repositories, account connections, settings and sync configs.

use super::super::answers::Known;
use super::{Builder, found};
use crate::api::pb;
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::environment_account_connection::ConnectionRecord;
use crate::backend::engine::repository::{self, RepositoryRecord};
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::store::Record;
use crate::backend::engine::template_sync::TemplateSyncRecord;

impl Builder<'_> {
    pub(super) fn repository(&mut self, known: &Known) {
        let view: pb::Repository = known.message(self.problems);
        let record = RepositoryRecord {
            view: Some(view),
            fingerprint: String::new(),
        };
        self.saved
            .holdings
            .repositories
            .push(found(&known.file, record));
    }

    /// A repository that something refers to.
    pub(super) fn needs_repository(
        &mut self,
        file: &str,
        provider: pb::RepositoryProvider,
        name: &str,
    ) {
        let key = repository::key(provider, name);
        if self
            .saved
            .holdings
            .repositories
            .iter()
            .any(|known| known.record.key() == key)
        {
            return;
        }
        let tail = repository::tail(provider, name);
        self.remark(
            &tail,
            "was not saved (get-repository); it has no connection, and must be registered anew",
        );
        let record = RepositoryRecord {
            view: Some(pb::Repository {
                name: Some(name.to_owned()),
                provider: provider.into(),
                ..pb::Repository::default()
            }),
            fingerprint: String::new(),
        };
        self.saved.holdings.repositories.push(found(file, record));
    }

    pub(super) fn connection(&mut self, known: &Known) {
        let record = ConnectionRecord::of(known.message(self.problems));
        self.saved
            .holdings
            .connections
            .push(found(&known.file, record));
    }

    pub(super) fn settings(&mut self, known: &Known) {
        let view: pb::AccountSettings = known.message(self.problems);
        if let Some(branch) = &view.pipeline_provisioning_repository {
            self.needs_repository(&known.file, branch.provider(), branch.name());
        }
        let record = SettingsRecord { view: Some(view) };
        self.saved
            .holdings
            .settings
            .push(found(&known.file, record));
    }

    pub(super) fn template_sync(&mut self, known: &Known) {
        let view: pb::TemplateSyncConfig = known.message(self.problems);
        self.needs_repository(
            &known.file,
            view.repository_provider(),
            view.repository_name(),
        );
        let record = TemplateSyncRecord { view: Some(view) };
        self.saved
            .holdings
            .template_syncs
            .push(found(&known.file, record));
    }

    pub(super) fn service_sync(&mut self, known: &Known) {
        let view: pb::ServiceSyncConfig = known.message(self.problems);
        self.needs_repository(
            &known.file,
            view.repository_provider(),
            view.repository_name(),
        );
        let record = ServiceSyncRecord { view: Some(view) };
        self.saved
            .holdings
            .service_syncs
            .push(found(&known.file, record));
    }
}
