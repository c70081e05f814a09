//! Services with their instances and pipelines.

use super::super::answers::Known;
use super::{Builder, CUT_OFF, found, is_deployed, settled, was_deleted};
use crate::api::pb::{self, ServiceStatus, TemplateType};
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::registry;
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;

impl Builder<'_> {
    pub(super) fn service(&mut self, known: &Known) {
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
            self.pipeline(known, &record, pipeline);
        }
        self.saved
            .holdings
            .services
            .push(found(&known.file, record));
    }

    pub(super) fn pipeline(
        &mut self,
        known: &Known,
        service: &ServiceRecord,
        view: pb::ServicePipeline,
    ) {
        let target = Target::Pipeline {
            service: service.name.clone(),
        };
        if let Some(why) = was_deleted(view.deployment_status()) {
            return self.leave_out(target, why);
        }
        let version = (view.template_major_version(), view.template_minor_version());
        let place = known.place(self.problems).member("pipeline");
        let versioned = self.refers(&place, TemplateType::Service, &service.template, version);
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
        let deployed = view.spec.is_some() || is_deployed(&rollout);
        let record = PipelineRecord {
            service: service.name.clone(),
            template: service.template.clone(),
            created_at: view.created_at,
            current: deployed.then(|| state.clone()),
            pending: (versioned && !deployed).then_some(state),
            rollout: self.rollout(&target.tail(), rollout),
        };
        self.saved
            .holdings
            .pipelines
            .push(found(&known.file, record));
    }

    pub(super) fn instance(&mut self, known: &Known) {
        let view: pb::ServiceInstance = known.message(self.problems);
        let (service, name) = (view.service_name().to_owned(), view.name().to_owned());
        let target = Target::Instance {
            service: service.clone(),
            name: name.clone(),
        };
        let tail = target.tail();
        if let Some(why) = was_deleted(view.deployment_status()) {
            return self.leave_out(target, why);
        }
        let environments = &self.saved.holdings.environments;
        if !environments
            .iter()
            .any(|known| known.record.name == view.environment_name())
        {
            let why = format!(
                "its environment {} was not saved (get-environment, list-environments)",
                view.environment_name()
            );
            return self.leave_out(target, &why);
        }
        self.needs_service(known, &view);
        let services = &self.saved.holdings.services;
        let of_service = services.iter().find(|known| known.record.name == service);
        let whole = of_service.and_then(|known| known.record.spec.clone());
        let spec = view.spec.clone().or(whole);
        if spec.is_none() {
            self.remark(&tail, "its spec was not saved (get-service-instance, get-service); an update has to give one");
        }
        let version = (view.template_major_version(), view.template_minor_version());
        let place = known.place(self.problems);
        let versioned = self.refers(&place, TemplateType::Service, view.template_name(), version);
        let given = view.spec.is_some();
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
        let deployed = given || is_deployed(&rollout);
        let record = InstanceRecord {
            service,
            name,
            environment: view.environment_name.unwrap_or_default(),
            template: view.template_name.unwrap_or_default(),
            created_at: view.created_at,
            current: deployed.then(|| state.clone()),
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
    pub(super) fn needs_service(&mut self, known: &Known, view: &pb::ServiceInstance) {
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
    pub(super) fn service_versions(&mut self) {
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
}
