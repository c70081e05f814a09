//! From what the answers say to records.

use std::collections::{BTreeMap, BTreeSet};

use super::Saved;
use super::answers::{self, Answers, Kind, Known};
use crate::api::pb::{
    self, DeploymentStatus, Provisioning, ServiceStatus, TemplateType, TemplateVersionStatus,
};
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::deployment::{Action, DeploymentRecord};
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::environment_account_connection::ConnectionRecord;
use crate::backend::engine::portable::holdings::Found;
use crate::backend::engine::portable::places::Placed;
use crate::backend::engine::portable::problem::Problems;
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::registry::{self, Major, TemplateRecord, VersionRecord};
use crate::backend::engine::repository::{self, RepositoryRecord};
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::store::Record;
use crate::backend::engine::template_sync::TemplateSyncRecord;

/// What a deployment says that was under way when it was saved.
const CUT_OFF: &str = "It was under way when it was saved, and nobody ends it any more.";

/// Builds what the answers tell of, as far as they do.
pub fn build(answers: Answers, problems: &Problems) -> Saved {
    let mut saved = Saved::default();
    for (file, remark) in &answers.remarks {
        saved.remark(file, *remark);
    }
    let mut builder = Builder {
        saved,
        problems,
        versions: BTreeMap::new(),
    };
    let known = answers.known;
    let of = |kind: Kind| {
        known
            .iter()
            .filter(move |((is, _), _)| *is == kind)
            .map(|(_, known)| known)
    };
    of(Kind::Repository).for_each(|known| builder.repository(known));
    of(Kind::Connection).for_each(|known| builder.connection(known));
    of(Kind::Settings).for_each(|known| builder.settings(known));
    of(Kind::EnvironmentTemplate).for_each(|known| builder.environment_template(known));
    of(Kind::ServiceTemplate).for_each(|known| builder.service_template(known));
    of(Kind::EnvironmentVersion).for_each(|known| builder.environment_version(known));
    of(Kind::ServiceVersion).for_each(|known| builder.service_version(known));
    of(Kind::Environment).for_each(|known| builder.environment(known));
    of(Kind::Service).for_each(|known| builder.service(known));
    of(Kind::Instance).for_each(|known| builder.instance(known));
    builder.service_versions();
    of(Kind::Component).for_each(|known| builder.component(known));
    of(Kind::Deployment).for_each(|known| builder.deployment(known));
    of(Kind::TemplateSync).for_each(|known| builder.template_sync(known));
    of(Kind::ServiceSync).for_each(|known| builder.service_sync(known));
    builder.templates();
    for outputs in &answers.outputs {
        builder.outputs(outputs);
    }
    for tags in &answers.tags {
        builder.tags(tags);
    }
    builder.saved
}

fn found<R>(file: &str, record: R) -> Found<R> {
    Found {
        file: file.to_owned(),
        record,
        tags: Vec::new(),
    }
}

/// A template, a major and a minor.
type Number = (TemplateType, String, u64, u64);

struct Builder<'a> {
    saved: Saved,
    problems: &'a Problems,
    /// Versions that something refers to, with the file that does.
    versions: BTreeMap<Number, String>,
}

fn ended(status: DeploymentStatus) -> Option<DeploymentStatus> {
    match status {
        DeploymentStatus::InProgress | DeploymentStatus::Cancelling => {
            Some(DeploymentStatus::Failed)
        }
        DeploymentStatus::DeleteInProgress => Some(DeploymentStatus::DeleteFailed),
        _ => None,
    }
}

fn settled(status: ServiceStatus) -> Option<ServiceStatus> {
    match status {
        ServiceStatus::CreateInProgress | ServiceStatus::CreateFailedCleanupInProgress => {
            Some(ServiceStatus::CreateFailed)
        }
        ServiceStatus::UpdateInProgress | ServiceStatus::UpdateFailedCleanupInProgress => {
            Some(ServiceStatus::UpdateFailed)
        }
        ServiceStatus::DeleteInProgress => Some(ServiceStatus::DeleteFailed),
        _ => None,
    }
}

impl Builder<'_> {
    fn remark(&mut self, subject: impl Into<String>, text: impl Into<String>) {
        self.saved.remark(subject, text);
    }

    /// Notes that a version must be there.
    fn refers(
        &mut self,
        file: &str,
        kind: TemplateType,
        name: &str,
        major: &str,
        minor: &str,
    ) -> bool {
        match (registry::number(major), registry::number(minor)) {
            (Some(major), Some(minor)) if !name.is_empty() => {
                let number = (kind, name.to_owned(), major, minor);
                self.versions
                    .entry(number)
                    .or_insert_with(|| file.to_owned());
                true
            }
            _ => false,
        }
    }

    /// A rollout whose deployment has ended, whatever was saved of it.
    fn rollout(&mut self, tail: &str, rollout: Rollout) -> Option<Rollout> {
        let Some(status) = ended(rollout.status()) else {
            return Some(rollout);
        };
        self.remark(
            tail,
            format!(
                "was under way; it is {} now",
                status
                    .as_str_name()
                    .trim_start_matches("DEPLOYMENT_STATUS_")
            ),
        );
        Some(Rollout {
            status: status.into(),
            message: Some(CUT_OFF.to_owned()),
            ..rollout
        })
    }

    fn repository(&mut self, known: &Known) {
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
    fn needs_repository(&mut self, file: &str, provider: pb::RepositoryProvider, name: &str) {
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

    fn connection(&mut self, known: &Known) {
        let record = ConnectionRecord::of(known.message(self.problems));
        self.saved
            .holdings
            .connections
            .push(found(&known.file, record));
    }

    fn settings(&mut self, known: &Known) {
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

    fn environment_template(&mut self, known: &Known) {
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

    fn service_template(&mut self, known: &Known) {
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

    fn template(&mut self, known: &Known, recommended: Option<&str>, record: TemplateRecord) {
        if let Some((major, minor)) = recommended.and_then(|number| number.split_once('.')) {
            self.refers(&known.file, record.kind(), &record.name, major, minor);
        }
        self.saved
            .holdings
            .templates
            .push(found(&known.file, record));
    }

    fn environment_version(&mut self, known: &Known) {
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

    fn service_version(&mut self, known: &Known) {
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

    fn version(&mut self, known: &Known, major: &str, minor: &str, mut record: VersionRecord) {
        let (Some(major), Some(minor)) = (registry::number(major), registry::number(minor)) else {
            return self
                .problems
                .add(&known.file, &known.field, "has no version numbers");
        };
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

    fn environment(&mut self, known: &Known) {
        let view: pb::Environment = known.message(self.problems);
        let name = view.name().to_owned();
        let tail = Target::Environment(name.clone()).tail();
        let versioned = self.refers(
            &known.file,
            TemplateType::Environment,
            view.template_name(),
            view.template_major_version(),
            view.template_minor_version(),
        );
        let state = pb::EnvironmentState {
            spec: view.spec.clone(),
            template_name: view.template_name.clone(),
            template_major_version: view.template_major_version.clone(),
            template_minor_version: view.template_minor_version.clone(),
        };
        let deployed = view.spec.is_some() || view.last_deployment_succeeded_at.is_some();
        if deployed && view.spec.is_none() {
            self.remark(
                &tail,
                "its spec was not saved (get-environment); an update has to give one",
            );
        }
        if let Some(branch) = &view.provisioning_repository {
            self.needs_repository(&known.file, branch.provider(), branch.name());
        }
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message.clone(),
            attempted_id: view.last_attempted_deployment_id.clone(),
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id.clone(),
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let record = EnvironmentRecord {
            created_at: view.created_at,
            template: view.template_name().to_owned(),
            description: view.description.clone(),
            service_role: view.proton_service_role_arn.clone(),
            component_role: view.component_role_arn.clone(),
            codebuild_role: view.codebuild_role_arn.clone(),
            connection: view.environment_account_connection_id.clone(),
            account: view.environment_account_id.clone(),
            customer_managed: view.provisioning() == Provisioning::CustomerManaged,
            current: (versioned && deployed).then(|| state.clone()),
            pending: (versioned && !deployed).then_some(state),
            rollout: self.rollout(&tail, rollout),
            repository: view.provisioning_repository,
            fingerprint: String::new(),
            modified: true,
            name,
        };
        self.saved
            .holdings
            .environments
            .push(found(&known.file, record));
    }

    fn service(&mut self, known: &Known) {
        let view: pb::Service = known.message(self.problems);
        let mut record = ServiceRecord {
            name: view.name().to_owned(),
            created_at: view.created_at,
            last_modified_at: view.last_modified_at,
            template: view.template_name().to_owned(),
            description: view.description.clone(),
            repository_connection_arn: view.repository_connection_arn.clone(),
            repository_id: view.repository_id.clone(),
            branch_name: view.branch_name.clone(),
            spec: view.spec.clone(),
            status: view.status,
            status_message: view.status_message.clone(),
            modified: true,
            ..ServiceRecord::default()
        };
        if let Some(status) = settled(record.status()) {
            record.set_status(status);
            record.status_message = Some(CUT_OFF.to_owned());
            self.remark(record.tail(), "was under way; it has failed now");
        }
        if record.repository_id.is_some() && view.pipeline.is_none() {
            self.remark(record.tail(), "its pipeline was not saved; it has none");
        }
        if let Some(pipeline) = view.pipeline {
            self.pipeline(&known.file, &record, pipeline);
        }
        self.saved
            .holdings
            .services
            .push(found(&known.file, record));
    }

    fn pipeline(&mut self, file: &str, service: &ServiceRecord, view: pb::ServicePipeline) {
        let target = Target::Pipeline {
            service: service.name.clone(),
        };
        let (major, minor) = (view.template_major_version(), view.template_minor_version());
        let versioned = self.refers(file, TemplateType::Service, &service.template, major, minor);
        let deployed = view.spec.is_some() || view.last_deployment_succeeded_at.is_some();
        let state = pb::ServicePipelineState {
            spec: view.spec.clone().or_else(|| service.spec.clone()),
            template_name: Some(service.template.clone()),
            template_major_version: view.template_major_version.clone(),
            template_minor_version: view.template_minor_version.clone(),
        };
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message,
            attempted_id: view.last_attempted_deployment_id,
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id,
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let record = PipelineRecord {
            service: service.name.clone(),
            template: service.template.clone(),
            created_at: view.created_at,
            current: (versioned && deployed).then(|| state.clone()),
            pending: (versioned && !deployed).then_some(state),
            rollout: self.rollout(&target.tail(), rollout),
        };
        self.saved.holdings.pipelines.push(found(file, record));
    }

    fn instance(&mut self, known: &Known) {
        let view: pb::ServiceInstance = known.message(self.problems);
        let (service, name) = (view.service_name().to_owned(), view.name().to_owned());
        let tail = Target::Instance {
            service: service.clone(),
            name: name.clone(),
        }
        .tail();
        let environments = &self.saved.holdings.environments;
        if !environments
            .iter()
            .any(|known| known.record.name == view.environment_name())
        {
            let problem = format!(
                "is left out: its environment {} was not saved (get-environment, list-environments)",
                view.environment_name()
            );
            return self.remark(tail, problem);
        }
        self.needs_service(known, &view);
        let services = &self.saved.holdings.services;
        let of_service = services.iter().find(|known| known.record.name == service);
        let whole = of_service.and_then(|known| known.record.spec.clone());
        let spec = view.spec.clone().or(whole);
        if spec.is_none() {
            self.remark(&tail, "its spec was not saved (get-service-instance, get-service); an update has to give one");
        }
        let (major, minor) = (view.template_major_version(), view.template_minor_version());
        let versioned = self.refers(
            &known.file,
            TemplateType::Service,
            view.template_name(),
            major,
            minor,
        );
        let deployed = view.spec.is_some() || view.last_deployment_succeeded_at.is_some();
        let state = pb::ServiceInstanceState {
            spec,
            template_name: view.template_name.clone(),
            template_major_version: view.template_major_version.clone(),
            template_minor_version: view.template_minor_version.clone(),
            ..pb::ServiceInstanceState::default()
        };
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message,
            attempted_id: view.last_attempted_deployment_id,
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id,
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let record = InstanceRecord {
            service,
            name,
            environment: view.environment_name.unwrap_or_default(),
            template: view.template_name.unwrap_or_default(),
            created_at: view.created_at,
            current: (versioned && deployed).then(|| state.clone()),
            pending: (versioned && !deployed).then_some(state),
            rollout: self.rollout(&tail, rollout),
            last_client_request_token: None,
        };
        self.saved
            .holdings
            .instances
            .push(found(&known.file, record));
    }

    /// A service of which an instance alone was saved.
    fn needs_service(&mut self, known: &Known, view: &pb::ServiceInstance) {
        let services = &self.saved.holdings.services;
        if services
            .iter()
            .any(|known| known.record.name == view.service_name())
        {
            return;
        }
        let record = ServiceRecord {
            name: view.service_name().to_owned(),
            created_at: view.created_at,
            last_modified_at: view.created_at,
            template: view.template_name().to_owned(),
            status: ServiceStatus::Active.into(),
            modified: true,
            ..ServiceRecord::default()
        };
        self.remark(
            record.tail(),
            "was not saved (get-service, list-services); it is made of its instances, without spec, \
             pipeline and repository",
        );
        self.saved
            .holdings
            .services
            .push(found(&known.file, record));
    }

    /// Completes services from their instances and pipelines. Which version they were created with
    /// is in no answer: the highest in use comes closest.
    fn service_versions(&mut self) {
        let holdings = &mut self.saved.holdings;
        let mut without = Vec::new();
        for service in &mut holdings.services {
            let service = &mut service.record;
            let instances = holdings.instances.iter().map(|it| &it.record);
            let instances: Vec<_> = instances.filter(|it| it.service == service.name).collect();
            let pipelines = holdings.pipelines.iter().map(|it| &it.record);
            let pipeline = pipelines.into_iter().find(|it| it.service == service.name);
            let numbers = instances
                .iter()
                .filter_map(|it| it.version())
                .chain(pipeline.and_then(PipelineRecord::version))
                .filter_map(|(major, minor)| registry::number(major).zip(registry::number(minor)));
            (service.major, service.minor) = numbers.max().unwrap_or((1, 0));
            // An instance has the spec of its whole service.
            let specs = instances.iter().map(|it| it.base().spec);
            let mut specs = specs.chain(pipeline.map(|it| it.base().spec));
            service.spec = service.spec.take().or_else(|| specs.find_map(|spec| spec));
            if service.spec.is_none() {
                without.push(service.tail());
            }
        }
        for tail in without {
            self.remark(
                tail,
                "its spec was not saved (get-service); its instances can be deployed with one",
            );
        }
    }

    fn component(&mut self, known: &Known) {
        let view: pb::Component = known.message(self.problems);
        let tail = Target::Component(view.name().to_owned()).tail();
        let holdings = &self.saved.holdings;
        if !holdings
            .environments
            .iter()
            .any(|it| it.record.name == view.environment_name())
        {
            let problem = format!(
                "is left out: its environment {} was not saved",
                view.environment_name()
            );
            return self.remark(tail, problem);
        }
        let attached = view
            .service_name
            .clone()
            .zip(view.service_instance_name.clone());
        let attached = attached.filter(|(service, name)| !service.is_empty() && !name.is_empty());
        let there = attached.as_ref().is_none_or(|(service, name)| {
            let same = |it: &InstanceRecord| it.service == *service && it.name == *name;
            holdings.instances.iter().any(|it| same(&it.record))
        });
        if !there {
            self.remark(
                &tail,
                "is detached: the service instance that it was attached to was not saved",
            );
        }
        self.remark(
            &tail,
            "its infrastructure file and its manifest are in no answer; an update has to give the file",
        );
        let (service_name, service_instance_name) = attached.filter(|_| there).unzip();
        let state = pb::ComponentState {
            service_name,
            service_instance_name,
            service_spec: view.service_spec.filter(|_| there),
            template_file: None,
        };
        let deployed = view.last_deployment_succeeded_at.is_some();
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message,
            attempted_id: view.last_attempted_deployment_id,
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id,
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let record = ComponentRecord {
            name: view.name.unwrap_or_default(),
            environment: view.environment_name.unwrap_or_default(),
            created_at: view.created_at,
            last_modified_at: view.last_modified_at,
            description: view.description,
            manifest: String::new(),
            current: deployed.then(|| state.clone()),
            pending: (!deployed).then_some(state),
            rollout: self.rollout(&tail, rollout),
            last_client_request_token: None,
        };
        self.saved
            .holdings
            .components
            .push(found(&known.file, record));
    }

    fn deployment(&mut self, known: &Known) {
        let mut view: pb::Deployment = known.message(self.problems);
        let tail = view
            .target_arn()
            .splitn(6, ':')
            .nth(5)
            .unwrap_or_default()
            .to_owned();
        let Some(target) = Target::parse(&tail) else {
            let field = format!("{}.targetArn", known.field);
            return self
                .problems
                .add(&known.file, &field, "is nothing that is deployed");
        };
        let deletes = matches!(
            view.deployment_status(),
            DeploymentStatus::DeleteInProgress
                | DeploymentStatus::DeleteFailed
                | DeploymentStatus::DeleteComplete
        );
        if let Some(status) = ended(view.deployment_status()) {
            view.set_deployment_status(status);
            view.deployment_status_message = Some(CUT_OFF.to_owned());
        }
        if view.completed_at.is_none() {
            view.completed_at = view.last_modified_at.or(view.created_at);
        }
        let record = DeploymentRecord {
            action: match (deletes, &view.initial_state) {
                (true, _) => Action::Delete.into(),
                (false, None) if known.full => Action::Create.into(),
                (false, _) => Action::Update.into(),
            },
            view: Some(view),
            target: target.tail(),
            outputs: Vec::new(),
            simulated: false,
        };
        self.saved
            .holdings
            .deployments
            .push(found(&known.file, record));
    }

    fn template_sync(&mut self, known: &Known) {
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

    fn service_sync(&mut self, known: &Known) {
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

    /// Makes the templates and versions that were not saved, and counts the numbers that are used.
    fn templates(&mut self) {
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

    /// Gives outputs to whom the name of their file says.
    fn outputs(&mut self, nameless: &answers::Nameless) {
        let outputs: Vec<pb::Output> = answers::items(nameless, "outputs", self.problems);
        let holdings = &mut self.saved.holdings;
        let file = nameless.file.as_str();
        let mut rollouts: Vec<(&str, String, Option<&mut Rollout>)> = Vec::new();
        let environments = holdings.environments.iter_mut().map(|it| &mut it.record);
        rollouts.extend(
            environments.map(|it| ("environment-outputs", it.name.clone(), it.rollout.as_mut())),
        );
        let instances = holdings.instances.iter_mut().map(|it| &mut it.record);
        rollouts.extend(
            instances.map(|it| ("service-instance-outputs", it.key(), it.rollout.as_mut())),
        );
        let pipelines = holdings.pipelines.iter_mut().map(|it| &mut it.record);
        rollouts.extend(
            pipelines.map(|it| ("service-pipeline-outputs", it.key(), it.rollout.as_mut())),
        );
        let components = holdings.components.iter_mut().map(|it| &mut it.record);
        rollouts.extend(
            components.map(|it| ("component-outputs", it.name.clone(), it.rollout.as_mut())),
        );
        let mut given = None;
        for prefix in [
            "environment-outputs",
            "service-instance-outputs",
            "service-pipeline-outputs",
            "component-outputs",
        ] {
            let owners: Vec<String> = rollouts
                .iter()
                .filter(|(kind, ..)| *kind == prefix)
                .map(|(_, owner, _)| owner.clone())
                .collect();
            if let Some(owner) = answers::owner(file, prefix, &owners) {
                given = Some((prefix, owner.to_owned()));
            }
        }
        let rollout = given.and_then(|(prefix, owner)| {
            rollouts
                .into_iter()
                .find(|(kind, is, _)| *kind == prefix && *is == owner)
        });
        let Some((_, _, Some(rollout))) = rollout else {
            return self.problems.add(
                file,
                "outputs",
                "whose they are cannot be told; name the file \
                 list-{environment|service-instance|service-pipeline|component}-outputs-{names}.json after \
                 something that was saved",
            );
        };
        rollout.outputs.clone_from(&outputs);
        let id = rollout.succeeded_id.clone();
        let deployments = holdings.deployments.iter_mut().map(|it| &mut it.record);
        for deployment in deployments.filter(|it| id.as_deref() == Some(it.id())) {
            deployment.outputs.clone_from(&outputs);
        }
    }

    /// Gives tags to whom the name of their file says.
    fn tags(&mut self, nameless: &answers::Nameless) {
        fn places<'a, R: Placed>(
            found: &'a mut [Found<R>],
        ) -> impl Iterator<Item = (String, &'a mut Vec<pb::Tag>)> {
            found
                .iter_mut()
                .map(|it| (Placed::tail(&it.record), &mut it.tags))
        }
        let mut tags: Vec<pb::Tag> = answers::items(nameless, "tags", self.problems);
        // Proton's own are derived.
        tags.retain(answers::is_own);
        let holdings = &mut self.saved.holdings;
        let mut owners: Vec<(String, &mut Vec<pb::Tag>)> = places(&mut holdings.environments)
            .chain(places(&mut holdings.services))
            .chain(places(&mut holdings.instances))
            .chain(places(&mut holdings.components))
            .chain(places(&mut holdings.templates))
            .chain(places(&mut holdings.versions))
            .chain(places(&mut holdings.repositories))
            .chain(places(&mut holdings.connections))
            .collect();
        let tails: Vec<String> = owners.iter().map(|(tail, _)| tail.clone()).collect();
        let owner = answers::owner(&nameless.file, "tags-for-resource", &tails);
        match owners.iter_mut().find(|(tail, _)| Some(tail.as_str()) == owner) {
            Some((_, place)) => **place = tags,
            None => self.problems.add(
                &nameless.file,
                "tags",
                "whose they are cannot be told; name the file list-tags-for-resource-{end of the ARN, with - \
                 for / and :}.json after something that was saved",
            ),
        }
    }
}
