//! How each kind of record looks in a file.

use prost_types::Timestamp;
use serde_json::{Map, Value};

use super::document::{
    Document, Field, Numbers, document, formed, members, messages, nothing_left, read_checked,
    read_message, write_message,
};
use super::problem::Place;
use crate::api::json::Names;
use crate::api::pb;
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::deployment::{Action, DeploymentRecord};
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::environment_account_connection::ConnectionRecord;
use crate::backend::engine::provision::Rollout;
use crate::backend::engine::registry::{Major, TemplateRecord, VersionRecord};
use crate::backend::engine::repository::RepositoryRecord;
use crate::backend::engine::service::{Phase, ServiceRecord, Work, WorkKind};
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::template_sync::TemplateSyncRecord;

messages!(
    read_checked
    pb::AccountSettings,
    pb::CompatibleEnvironmentTemplate,
    pb::ComponentState,
    pb::Repository,
    pb::RepositoryBranch,
    pb::S3ObjectSource,
    pb::ServiceSyncConfig,
    pb::TemplateSyncConfig,
);

// Specs are put together of several, outputs are taken from specs: both may be longer than what
// a request can have. Tags are checked together.
messages!(
    read_message
    pb::EnvironmentState,
    pb::Output,
    pb::ServiceInstanceState,
    pb::ServicePipelineState,
    pb::Tag,
);

// What is published, and the latest there is, follow from the versions.
document!(Major {
    number "number",
    next_minor "nextMinor",
});

document!(TemplateRecord {
    kind "templateType" [pb::TemplateType],
    name "name",
    created_at "createdAt",
    last_modified_at "lastModifiedAt",
    description "description" as "Description",
    display_name "displayName" as "DisplayName",
    encryption_key "encryptionKey" as "Arn",
    provisioning "provisioning" [pb::Provisioning],
    fingerprint "createdAs",
    modified "modified",
    majors "majorVersions",
});

// The bundle is a file.
document!(VersionRecord {
    kind "templateType" [pb::TemplateType],
    template "templateName",
    major "majorVersion",
    minor "minorVersion",
    created_at "createdAt",
    last_modified_at "lastModifiedAt",
    description "description" as "Description",
    status "status" [pb::TemplateVersionStatus],
    status_message "statusMessage",
    source "source",
    schema "schema" as "TemplateSchema",
    compatible "compatibleEnvironmentTemplates",
    component_sources "supportedComponentSources" [pb::ServiceTemplateSupportedComponentSourceType],
    rendering "rendering",
    pipeline_rendering "pipelineRendering",
});

document!(Rollout {
    status "status" [pb::DeploymentStatus],
    message "statusMessage",
    attempted_id "lastAttemptedDeploymentId",
    attempted_at "lastDeploymentAttemptedAt",
    succeeded_id "lastSucceededDeploymentId",
    succeeded_at "lastDeploymentSucceededAt",
    outputs "outputs",
});

document!(EnvironmentRecord {
    name "name",
    created_at "createdAt",
    template "templateName",
    description "description" as "Description",
    service_role "protonServiceRoleArn" as "Arn",
    component_role "componentRoleArn" as "RoleArn",
    codebuild_role "codebuildRoleArn" as "RoleArn",
    connection "environmentAccountConnectionId" as "EnvironmentAccountConnectionId",
    account "environmentAccountId" as "AwsAccountId",
    repository "provisioningRepository",
    customer_managed "customerManaged",
    current "current",
    pending "pending",
    rollout "deployment",
    fingerprint "createdAs",
    modified "modified",
});

impl Names for WorkKind {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Create as i32, "CREATE"),
        (Self::Update as i32, "UPDATE"),
        (Self::Delete as i32, "DELETE"),
    ];
}

impl Names for Phase {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Adding as i32, "ADDING"),
        (Self::Removing as i32, "REMOVING"),
        (Self::Pipeline as i32, "PIPELINE"),
        (Self::CleaningUp as i32, "CLEANING_UP"),
        (Self::Deleting as i32, "DELETING"),
    ];
}

document!(Work {
    kind "kind" [WorkKind],
    phase "phase" [Phase],
    spec "spec",
    added "added",
    removed "removed",
    problem "problem",
});

document!(ServiceRecord {
    name "name",
    created_at "createdAt",
    last_modified_at "lastModifiedAt",
    template "templateName",
    major "majorVersion",
    minor "minorVersion",
    description "description" as "Description",
    repository_connection_arn "repositoryConnectionArn" as "Arn",
    repository_id "repositoryId" as "RepositoryId",
    branch_name "branchName" as "GitBranchName",
    spec "spec",
    status "status" [pb::ServiceStatus],
    status_message "statusMessage",
    work "underWay",
    fingerprint "createdAs",
    modified "modified",
});

// Not the last client token: it may be a secret of a pipeline.
document!(InstanceRecord {
    service "serviceName",
    name "name",
    environment "environmentName",
    template "templateName",
    created_at "createdAt",
    current "current",
    pending "pending",
    rollout "deployment",
});

document!(PipelineRecord {
    service "serviceName",
    template "templateName",
    created_at "createdAt",
    current "current",
    pending "pending",
    rollout "deployment",
});

document!(ComponentRecord {
    name "name",
    environment "environmentName",
    created_at "createdAt",
    last_modified_at "lastModifiedAt",
    description "description" as "Description",
    manifest "manifest" as "TemplateManifestContents",
    current "current",
    pending "pending",
    rollout "deployment",
});

document!(RepositoryRecord {
    view "repository",
    fingerprint "createdAs",
});

document!(SettingsRecord { view "accountSettings" });
document!(ServiceSyncRecord { view "serviceSyncConfig" });
document!(TemplateSyncRecord { view "templateSyncConfig" });

/// Times of a message: its codec knows them in milliseconds only, and what sorts by them needs
/// all of it.
fn write_timed(mut value: Value, times: &[(&str, Option<Timestamp>)]) -> Value {
    for (name, time) in times {
        if let Some(time) = time {
            value[*name] = time.to_string().into();
        }
    }
    value
}

/// Takes a time out of the members of a message.
fn take_time(shown: &mut Map<String, Value>, name: &str, place: &Place<'_>) -> Option<Timestamp> {
    Field::read(shown.shift_remove(name), &place.member(name))
}

impl Document for ConnectionRecord {
    fn write(&self) -> Value {
        let view = self.view();
        let times = [
            ("requestedAt", view.requested_at),
            ("lastModifiedAt", view.last_modified_at),
        ];
        write_timed(write_message(view), &times)
    }

    fn read(value: Value, place: &Place<'_>) -> Self {
        let mut shown = members(value, place);
        let requested_at = take_time(&mut shown, "requestedAt", place);
        let last_modified_at = take_time(&mut shown, "lastModifiedAt", place);
        Self::of(pb::EnvironmentAccountConnection {
            requested_at,
            last_modified_at,
            ..read_checked(shown.into(), place)
        })
    }
}

impl Names for Action {
    const NAMES: &'static [(i32, &'static str)] = &[
        (Self::Create as i32, "CREATE"),
        (Self::Update as i32, "UPDATE"),
        (Self::Delete as i32, "DELETE"),
    ];
}

impl Document for DeploymentRecord {
    fn write(&self) -> Value {
        let view = self.view.clone().unwrap_or_default();
        let times = [
            ("createdAt", view.created_at),
            ("completedAt", view.completed_at),
            ("lastModifiedAt", view.last_modified_at),
            ("targetResourceCreatedAt", view.target_resource_created_at),
        ];
        let mut value = Map::new();
        let fields = [
            ("target", Field::write(&self.target)),
            ("action", Numbers::write::<Action>(&self.action)),
            ("outputs", Field::write(&self.outputs)),
            ("simulated", Field::write(&self.simulated)),
            (
                "deployment",
                Some(write_timed(write_message(&view), &times)),
            ),
        ];
        for (name, field) in fields {
            if let Some(field) = field {
                value.insert(name.to_owned(), field);
            }
        }
        value.into()
    }

    fn read(value: Value, place: &Place<'_>) -> Self {
        let mut fields = members(value, place);
        let mut take = |name: &str| (fields.shift_remove(name), place.member(name));
        let (target, action) = (take("target"), take("action"));
        let (outputs, simulated) = (take("outputs"), take("simulated"));
        let (deployment, inner) = take("deployment");
        nothing_left(&fields, place);
        let mut shown = members(deployment.unwrap_or_default(), &inner);
        let created_at = take_time(&mut shown, "createdAt", &inner);
        let completed_at = take_time(&mut shown, "completedAt", &inner);
        let last_modified_at = take_time(&mut shown, "lastModifiedAt", &inner);
        let target_resource_created_at = take_time(&mut shown, "targetResourceCreatedAt", &inner);
        let view = pb::Deployment {
            created_at,
            completed_at,
            last_modified_at,
            target_resource_created_at,
            ..read_message(shown.into(), &inner)
        };
        formed(&view.id, "DeploymentId", &inner.member("id"));
        Self {
            view: Some(view),
            target: Field::read(target.0, &target.1),
            action: Numbers::read::<Action>(action.0, &action.1),
            outputs: Field::read(outputs.0, &outputs.1),
            simulated: Field::read(simulated.0, &simulated.1),
            listed_at: None,
        }
    }
}
