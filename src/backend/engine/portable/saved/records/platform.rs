//! Environments, components and deployments.

use super::super::answers::Known;
use super::{Builder, CUT_OFF, ended, found, is_deployed, was_deleted};
use crate::api::pb::{self, DeploymentStatus, Provisioning, TemplateType};
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::deployment::{Action, DeploymentRecord};
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::provision::{Rollout, Target};
use crate::backend::engine::service_instance::InstanceRecord;

impl Builder<'_> {
    pub(super) fn environment(&mut self, known: &Known) {
        let view: pb::Environment = known.message(self.problems);
        let name = view.name().to_owned();
        let target = Target::Environment(name.clone());
        let tail = target.tail();
        if let Some(why) = was_deleted(view.deployment_status()) {
            return self.leave_out(target, why);
        }
        let versioned = self.refers(
            &known.place(self.problems),
            TemplateType::Environment,
            view.template_name(),
            (view.template_major_version(), view.template_minor_version()),
        );
        let state = pb::EnvironmentState {
            spec: view.spec.clone(),
            template_name: view.template_name.clone(),
            template_major_version: view.template_major_version.clone(),
            template_minor_version: view.template_minor_version.clone(),
        };
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message.clone(),
            attempted_id: view.last_attempted_deployment_id.clone(),
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id.clone(),
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let deployed = view.spec.is_some() || is_deployed(&rollout);
        if deployed && view.spec.is_none() {
            self.remark(
                &tail,
                "its spec was not saved (get-environment); an update has to give one",
            );
        }
        if let Some(branch) = &view.provisioning_repository {
            self.needs_repository(&known.file, branch.provider(), branch.name());
        }
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
            current: deployed.then(|| state.clone()),
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

    pub(super) fn component(&mut self, known: &Known) {
        let view: pb::Component = known.message(self.problems);
        let target = Target::Component(view.name().to_owned());
        let tail = target.tail();
        if let Some(why) = was_deleted(view.deployment_status()) {
            return self.leave_out(target, why);
        }
        let holdings = &self.saved.holdings;
        if !holdings
            .environments
            .iter()
            .any(|it| it.record.name == view.environment_name())
        {
            let why = format!("its environment {} was not saved", view.environment_name());
            return self.leave_out(target, &why);
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
        let rollout = Rollout {
            status: view.deployment_status,
            message: view.deployment_status_message,
            attempted_id: view.last_attempted_deployment_id,
            attempted_at: view.last_deployment_attempted_at,
            succeeded_id: view.last_succeeded_deployment_id,
            succeeded_at: view.last_deployment_succeeded_at,
            outputs: Vec::new(),
        };
        let deployed = is_deployed(&rollout);
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

    pub(super) fn deployment(&mut self, known: &Known) {
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
            listed_at: None,
        };
        self.saved
            .holdings
            .deployments
            .push(found(&known.file, record));
    }
}
