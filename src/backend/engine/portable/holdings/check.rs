//! Whether records fit together: what one refers to is there, and what is under way will end.

mod deployed;

use std::collections::{BTreeMap, BTreeSet};

use super::{Found, Holdings};
use crate::api::Typed;
use crate::api::pb::{self, ServiceStatus, TemplateType, TemplateVersionStatus};
use crate::backend::engine::portable::problem::Problems;
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::registry;
use crate::backend::engine::repository;
use crate::backend::engine::service_instance;
use crate::backend::engine::store::Record;
use crate::backend::engine::template::schema::Schema;

fn keys<R: Record>(found: &[Found<R>]) -> BTreeSet<String> {
    found.iter().map(|found| found.record.key()).collect()
}

/// Notes what does not fit together.
struct Check<'a> {
    problems: &'a Problems,
    versions: BTreeSet<String>,
    environments: BTreeSet<String>,
    services: BTreeSet<String>,
    instances: BTreeSet<String>,
    repositories: BTreeSet<String>,
    templates: BTreeSet<String>,
    /// Deployments that have not ended, by target.
    under_way: BTreeMap<String, String>,
}

impl Holdings {
    /// Notes all that is wrong between the records.
    pub fn check(&self, problems: &Problems) {
        let unended = self
            .deployments
            .iter()
            .filter(|found| !found.record.ended());
        let check = Check {
            problems,
            versions: keys(&self.versions),
            environments: keys(&self.environments),
            services: keys(&self.services),
            instances: keys(&self.instances),
            repositories: keys(&self.repositories),
            templates: keys(&self.templates),
            under_way: unended
                .map(|found| (found.record.target.clone(), found.record.id().to_owned()))
                .collect(),
        };
        self.check_templates(&check);
        for Found { file, record, .. } in &self.environments {
            check.name(file, "name", &record.name);
            check.template(file, TemplateType::Environment, &record.template);
            if let Some(branch) = &record.repository {
                check.repository(
                    file,
                    "provisioningRepository",
                    branch.provider(),
                    branch.name(),
                );
            }
            check.deployed(file, record);
        }
        self.check_services(&check);
        for Found { file, record, .. } in &self.components {
            check.name(file, "name", &record.name);
            check.known(
                file,
                "environmentName",
                &check.environments,
                &record.environment,
                "environment",
            );
            if let Some((service, instance)) = record.attached_to() {
                let key = service_instance::key(service, instance);
                check.known(file, "current", &check.instances, &key, "service instance");
            }
            check.deployed(file, record);
        }
        for Found { file, record, .. } in &self.deployments {
            let target = Target::parse(&record.target);
            if target.is_none() {
                check.wrong(file, "target", "is nothing that is deployed");
            }
            let arn = record.view.as_ref().map_or("", pb::Deployment::target_arn);
            let tail = arn.splitn(6, ':').nth(5);
            if tail.is_some_and(|tail| Target::parse(tail) != target) {
                check.wrong(file, "deployment.targetArn", "is not that of `target`");
            }
            let under_way = check.under_way.get(&record.target);
            if !record.ended() && under_way.is_some_and(|id| id != record.id()) {
                let problem = "is missing, and another deployment of the same target is under way";
                check.wrong(file, "deployment.completedAt", problem);
            }
            if record
                .view
                .as_ref()
                .is_none_or(|view| view.created_at.is_none())
            {
                check.wrong(file, "deployment.createdAt", "is missing");
            }
            if record.id().is_empty() {
                check.wrong(file, "deployment.id", "is missing");
            }
        }
        for Found { file, record, .. } in &self.settings {
            let view = record.view.clone().unwrap_or_default();
            if let Some(branch) = view.pipeline_provisioning_repository {
                let field = "accountSettings.pipelineProvisioningRepository";
                check.repository(file, field, branch.provider(), branch.name());
            }
        }
    }

    fn check_templates(&self, check: &Check<'_>) {
        let mut majors = BTreeMap::new();
        for Found { file, record, .. } in &self.templates {
            check.name(file, "name", &record.name);
            let numbers: Vec<_> = record.majors.iter().map(|major| major.number).collect();
            if !numbers.is_sorted_by(|a, b| a < b) {
                check.wrong(file, "majorVersions", "must be in ascending order");
            }
            for major in &record.majors {
                let key = (
                    registry::template_key(record.kind(), &record.name),
                    major.number,
                );
                majors.insert(key, major.next_minor);
            }
        }
        for Found { file, record, .. } in &self.versions {
            check.template(file, record.kind(), &record.template);
            let key = (
                registry::template_key(record.kind(), &record.template),
                record.major,
            );
            match majors.get(&key) {
                None => check.wrong(
                    file,
                    "majorVersion",
                    "is not among the template's majorVersions",
                ),
                Some(next) if record.minor >= *next => {
                    check.wrong(
                        file,
                        "minorVersion",
                        "is not below the template's nextMinor",
                    );
                }
                Some(_) => {}
            }
            if let Some(Err(error)) = record.schema.as_deref().map(Schema::parse) {
                check.wrong(file, "schema", error.to_string());
            }
            if record.status() == TemplateVersionStatus::Unspecified {
                check.wrong(file, "status", "is missing");
            }
            if record.status() == TemplateVersionStatus::RegistrationInProgress
                && record.source.is_none()
            {
                check.wrong(
                    file,
                    "source",
                    "is missing, and the version is still to be registered",
                );
            }
        }
        for Found { file, record, .. } in &self.template_syncs {
            let view = record.view.clone().unwrap_or_default();
            check.template(file, view.template_type(), view.template_name());
            let field = "templateSyncConfig.repositoryName";
            check.repository(
                file,
                field,
                view.repository_provider(),
                view.repository_name(),
            );
        }
    }

    /// Whether a part of a service is being deployed or deleted; when it ends, the service goes on.
    fn is_deploying(&self, service: &str) -> bool {
        let instances = self.instances.iter().map(|found| &found.record);
        let instances = instances.filter(|it| it.service == service);
        let pipelines = self.pipelines.iter().map(|found| &found.record);
        let pipelines = pipelines.filter(|it| it.service == service);
        let mut rollouts = instances
            .map(|it| &it.rollout)
            .chain(pipelines.map(|it| &it.rollout))
            .flatten();
        rollouts.any(Rollout::busy)
    }

    fn check_services(&self, check: &Check<'_>) {
        for Found { file, record, .. } in &self.services {
            check.name(file, "name", &record.name);
            check.template(file, TemplateType::Service, &record.template);
            check.service_spec(file, "spec", record.spec.as_deref());
            // Of a service without a spec that is being deleted there is none.
            let coming = record.work.as_ref().map(|work| work.spec.as_str());
            let coming = coming.filter(|text| !text.is_empty());
            check.service_spec(file, "underWay.spec", coming);
            if record.status == 0 {
                check.wrong(file, "status", "is missing");
            }
            // Nothing else would ever end it.
            let status = ServiceStatus::try_from(record.status);
            let busy = status.is_ok_and(|it| it.as_str_name().ends_with("IN_PROGRESS"));
            match (busy, record.work.is_some()) {
                (true, false) => {
                    let text = "says that something is under way, and `underWay` is missing";
                    check.wrong(file, "status", text);
                }
                (false, true) => {
                    check.wrong(
                        file,
                        "underWay",
                        "the status says that nothing is under way",
                    );
                }
                (true, true) if !self.is_deploying(&record.name) => {
                    let text = "says that something is under way, and no instance and no pipeline of it is";
                    check.wrong(file, "status", text);
                }
                _ => {}
            }
        }
        for Found { file, record, .. } in &self.instances {
            check.name(file, "name", &record.name);
            check.known(
                file,
                "serviceName",
                &check.services,
                &record.service,
                "service",
            );
            check.known(
                file,
                "environmentName",
                &check.environments,
                &record.environment,
                "environment",
            );
            check.deployed(file, record);
        }
        for Found { file, record, .. } in &self.pipelines {
            check.known(
                file,
                "serviceName",
                &check.services,
                &record.service,
                "service",
            );
            check.deployed(file, record);
        }
        for Found { file, record, .. } in &self.service_syncs {
            let view = record.view.clone().unwrap_or_default();
            let field = "serviceSyncConfig.serviceName";
            check.known(file, field, &check.services, view.service_name(), "service");
            let field = "serviceSyncConfig.repositoryName";
            check.repository(
                file,
                field,
                view.repository_provider(),
                view.repository_name(),
            );
        }
    }
}

impl Check<'_> {
    fn wrong(&self, file: &str, field: &str, text: impl Into<String>) {
        self.problems.add(file, field, text);
    }

    /// Checks a name by the model's rule for all of them.
    fn name(&self, file: &str, field: &str, name: &str) {
        let request = pb::GetEnvironmentRequest {
            name: name.to_owned(),
        };
        if name.is_empty() {
            self.wrong(file, field, "is missing");
        } else if request.into_request().validate().is_err() {
            self.wrong(file, field, "is no name that a resource can have");
        }
    }

    fn known(&self, file: &str, field: &str, keys: &BTreeSet<String>, key: &str, what: &str) {
        if key.is_empty() {
            self.wrong(file, field, "is missing");
        } else if !keys.contains(key) {
            self.wrong(file, field, format!("there is no {what} `{key}`"));
        }
    }

    fn template(&self, file: &str, kind: TemplateType, name: &str) {
        let key = registry::template_key(kind, name);
        if !self.templates.contains(&key) {
            let noun = registry::noun(kind).replace('-', " ");
            self.wrong(file, "templateName", format!("there is no {noun} `{name}`"));
        }
    }

    fn repository(&self, file: &str, field: &str, provider: pb::RepositoryProvider, name: &str) {
        let key = repository::key(provider, name);
        self.known(file, field, &self.repositories, &key, "repository");
    }
}
