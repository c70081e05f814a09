//! Templates and their versions, also those that were not saved but are referred to.

use super::super::answers::Known;
use super::{Builder, CUT_OFF, MOST_NUMBER, Number, found};
use crate::api::pb::{self, TemplateType, TemplateVersionStatus};
use crate::backend::engine::registry::{self, Major, TemplateRecord, VersionRecord};
use crate::backend::engine::store::Record;
use std::collections::{BTreeMap, BTreeSet};

impl Builder<'_> {
    pub(super) fn environment_template(&mut self, known: &Known) {
        let view: pb::EnvironmentTemplate = known.message(self.problems);
        self.template(
            known,
            view.recommended_version.as_deref(),
            TemplateRecord {
                kind: TemplateType::Environment.into(),
                name: view.name.unwrap_or_default(),
                created_at: view.created_at,
                last_modified_at: view.last_modified_at,
                description: view.description,
                display_name: view.display_name,
                encryption_key: view.encryption_key,
                provisioning: view.provisioning,
                modified: true,
                ..TemplateRecord::default()
            },
        );
    }

    pub(super) fn service_template(&mut self, known: &Known) {
        let view: pb::ServiceTemplate = known.message(self.problems);
        self.template(
            known,
            view.recommended_version.as_deref(),
            TemplateRecord {
                kind: TemplateType::Service.into(),
                name: view.name.unwrap_or_default(),
                created_at: view.created_at,
                last_modified_at: view.last_modified_at,
                description: view.description,
                display_name: view.display_name,
                encryption_key: view.encryption_key,
                provisioning: view.pipeline_provisioning,
                modified: true,
                ..TemplateRecord::default()
            },
        );
    }

    pub(super) fn template(
        &mut self,
        known: &Known,
        recommended: Option<&str>,
        record: TemplateRecord,
    ) {
        if let Some((major, minor)) = recommended.and_then(|number| number.split_once('.')) {
            let place = known.place(self.problems).member("recommendedVersion");
            self.refers(&place, record.kind(), &record.name, (major, minor));
        }
        self.saved
            .holdings
            .templates
            .push(found(&known.file, record));
    }

    pub(super) fn environment_version(&mut self, known: &Known) {
        let view: pb::EnvironmentTemplateVersion = known.message(self.problems);
        self.version(
            known,
            view.major_version(),
            view.minor_version(),
            VersionRecord {
                kind: TemplateType::Environment.into(),
                template: view.template_name().to_owned(),
                created_at: view.created_at,
                last_modified_at: view.last_modified_at,
                description: view.description.clone(),
                status: view.status,
                status_message: view.status_message().to_owned(),
                schema: view.schema.clone(),
                ..VersionRecord::default()
            },
        );
    }

    pub(super) fn service_version(&mut self, known: &Known) {
        let view: pb::ServiceTemplateVersion = known.message(self.problems);
        self.version(
            known,
            view.major_version(),
            view.minor_version(),
            VersionRecord {
                kind: TemplateType::Service.into(),
                template: view.template_name().to_owned(),
                created_at: view.created_at,
                last_modified_at: view.last_modified_at,
                description: view.description.clone(),
                status: view.status,
                status_message: view.status_message().to_owned(),
                schema: view.schema.clone(),
                compatible: view.compatible_environment_templates.clone(),
                component_sources: view.supported_component_sources.clone(),
                ..VersionRecord::default()
            },
        );
    }

    pub(super) fn version(
        &mut self,
        known: &Known,
        major: &str,
        minor: &str,
        mut record: VersionRecord,
    ) {
        let (Some(major), Some(minor)) = (registry::number(major), registry::number(minor)) else {
            return self
                .problems
                .add(&known.file, &known.field, "has no version numbers");
        };
        if major.max(minor) > MOST_NUMBER {
            let text = "has a version number that is more than 4294967295";
            return self.problems.add(&known.file, &known.field, text);
        }
        (record.major, record.minor) = (major, minor);
        if record.status() == TemplateVersionStatus::RegistrationInProgress {
            record.set_status(TemplateVersionStatus::RegistrationFailed);
            record.status_message = CUT_OFF.to_owned();
        }
        if !known.full && record.kind() == TemplateType::Service {
            self.remark(
                record.tail(),
                "was only saved in a list (get-service-template-version is missing): which environments it is \
                 compatible with is not known, and no new instance can be created on it",
            );
        }
        self.saved
            .holdings
            .versions
            .push(found(&known.file, record));
    }

    /// Makes the templates and versions that were not saved, and counts the numbers that are used.
    pub(super) fn templates(&mut self) {
        let there: BTreeSet<Number> = self
            .saved
            .holdings
            .versions
            .iter()
            .map(|it| {
                (
                    it.record.kind(),
                    it.record.template.clone(),
                    it.record.major,
                    it.record.minor,
                )
            })
            .collect();
        for ((kind, template, major, minor), file) in std::mem::take(&mut self.versions) {
            if there.contains(&(kind, template.clone(), major, minor)) {
                continue;
            }
            let mut record = VersionRecord {
                kind: kind.into(),
                template,
                major,
                minor,
                ..VersionRecord::default()
            };
            record.set_status(TemplateVersionStatus::Published);
            self.remark(record.tail(), "was not saved; its number is kept");
            self.saved.holdings.versions.push(found(&file, record));
        }
        let mut missing = BTreeMap::new();
        let services = self.saved.holdings.services.iter();
        let named = services.map(|it| (TemplateType::Service, &it.record.template, &it.file));
        let environments = self.saved.holdings.environments.iter();
        let named = named.chain(
            environments.map(|it| (TemplateType::Environment, &it.record.template, &it.file)),
        );
        let versions = self.saved.holdings.versions.iter();
        let named =
            named.chain(versions.map(|it| (it.record.kind(), &it.record.template, &it.file)));
        let known: BTreeSet<_> = self
            .saved
            .holdings
            .templates
            .iter()
            .map(|it| it.record.key())
            .collect();
        for (kind, name, file) in named {
            let key = registry::template_key(kind, name);
            if !name.is_empty() && !known.contains(&key) {
                missing.insert(key, (kind, name.clone(), file.clone()));
            }
        }
        for (kind, name, file) in missing.into_values() {
            let record = TemplateRecord {
                kind: kind.into(),
                name,
                modified: true,
                ..TemplateRecord::default()
            };
            self.remark(record.tail(), "was not saved; only its name is kept");
            self.saved.holdings.templates.push(found(&file, record));
        }
        let holdings = &mut self.saved.holdings;
        for template in &mut holdings.templates {
            let template = &mut template.record;
            let mut majors: BTreeMap<u64, u64> = BTreeMap::new();
            let versions = holdings.versions.iter().map(|it| &it.record);
            for version in
                versions.filter(|it| it.kind == template.kind && it.template == template.name)
            {
                let next = majors.entry(version.major).or_default();
                *next = (*next).max(version.minor + 1);
            }
            let major = |(number, next_minor)| Major {
                number,
                next_minor,
                ..Major::default()
            };
            template.majors = majors.into_iter().map(major).collect();
        }
    }
}
