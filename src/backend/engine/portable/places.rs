//! Where each kind of record stands in the folder.

use super::document::Document;
use super::names::part;
use crate::api::pb::TemplateType;
use crate::backend::engine::account_settings::SettingsRecord;
use crate::backend::engine::component::ComponentRecord;
use crate::backend::engine::deployment::DeploymentRecord;
use crate::backend::engine::environment::EnvironmentRecord;
use crate::backend::engine::environment_account_connection::{
    self as connection, ConnectionRecord,
};
use crate::backend::engine::registry::{TemplateRecord, VersionRecord};
use crate::backend::engine::repository::{self, RepositoryRecord};
use crate::backend::engine::service::ServiceRecord;
use crate::backend::engine::service_instance::InstanceRecord;
use crate::backend::engine::service_pipeline::PipelineRecord;
use crate::backend::engine::service_sync::ServiceSyncRecord;
use crate::backend::engine::store::Record;
use crate::backend::engine::template_sync::TemplateSyncRecord;

/// A record that has a file of its own.
pub trait Placed: Record + Document {
    /// What they are counted as.
    const PLURAL: &'static str;
    /// Which member says where it stands.
    const NAMED_BY: &'static str = "name";
    /// What the names of its long texts begin with, where it shares a folder with another record.
    const PREFIX: &'static str = "";
    /// It is of the gateway's own account, with all that it names.
    const IS_OF_ACCOUNT: bool = true;

    fn path(&self) -> String;

    /// The tail of its ARN, where it can have tags.
    fn tail(&self) -> String {
        String::new()
    }
}

fn template(kind: TemplateType, name: &str) -> String {
    let kind = match kind {
        TemplateType::Service => "service",
        TemplateType::Environment | TemplateType::Unspecified => "environment",
    };
    format!("templates/{kind}/{}", part(name))
}

fn service(name: &str) -> String {
    format!("services/{}", part(name))
}

impl Placed for SettingsRecord {
    const PLURAL: &'static str = "account-settings";

    fn path(&self) -> String {
        "account-settings.json".to_owned()
    }
}

impl Placed for RepositoryRecord {
    const PLURAL: &'static str = "repositories";
    const NAMED_BY: &'static str = "repository.name";

    fn path(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        let provider = repository::provider_name(view.provider());
        format!("repositories/{provider}/{}.json", part(view.name()))
    }

    fn tail(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        repository::tail(view.provider(), view.name())
    }
}

impl Placed for ConnectionRecord {
    const PLURAL: &'static str = "account-connections";
    const NAMED_BY: &'static str = "id";
    const IS_OF_ACCOUNT: bool = false;

    fn path(&self) -> String {
        format!("account-connections/{}.json", part(self.view().id()))
    }

    fn tail(&self) -> String {
        connection::tail(self.view().id())
    }
}

impl Placed for TemplateRecord {
    const PLURAL: &'static str = "templates";

    fn path(&self) -> String {
        format!("{}/template.json", template(self.kind(), &self.name))
    }

    fn tail(&self) -> String {
        self.tail()
    }
}

impl Placed for TemplateSyncRecord {
    const PLURAL: &'static str = "template-sync-configs";
    const NAMED_BY: &'static str = "templateSyncConfig.templateName";

    fn path(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        let folder = template(view.template_type(), view.template_name());
        format!("{folder}/sync.json")
    }
}

impl VersionRecord {
    /// Where its files are.
    pub fn folder(&self) -> String {
        let folder = template(self.kind(), &self.template);
        format!("{folder}/{}.{}", self.major, self.minor)
    }
}

impl Placed for VersionRecord {
    const PLURAL: &'static str = "template-versions";
    const NAMED_BY: &'static str = "majorVersion";

    fn path(&self) -> String {
        format!("{}/version.json", self.folder())
    }

    fn tail(&self) -> String {
        self.tail()
    }
}

impl Placed for EnvironmentRecord {
    const PLURAL: &'static str = "environments";

    fn path(&self) -> String {
        format!("environments/{}/environment.json", part(&self.name))
    }

    fn tail(&self) -> String {
        self.target().tail()
    }
}

impl Placed for ServiceRecord {
    const PLURAL: &'static str = "services";

    fn path(&self) -> String {
        format!("{}/service.json", service(&self.name))
    }

    fn tail(&self) -> String {
        self.tail()
    }
}

impl Placed for PipelineRecord {
    const PLURAL: &'static str = "service-pipelines";
    const NAMED_BY: &'static str = "serviceName";
    const PREFIX: &'static str = "pipeline.";

    fn path(&self) -> String {
        format!("{}/pipeline.json", service(&self.service))
    }
}

impl Placed for ServiceSyncRecord {
    const PLURAL: &'static str = "service-sync-configs";
    const NAMED_BY: &'static str = "serviceSyncConfig.serviceName";

    fn path(&self) -> String {
        let view = self.view.clone().unwrap_or_default();
        format!("{}/sync.json", service(view.service_name()))
    }
}

impl Placed for InstanceRecord {
    const PLURAL: &'static str = "service-instances";

    fn path(&self) -> String {
        let folder = service(&self.service);
        format!("{folder}/instances/{}/instance.json", part(&self.name))
    }

    fn tail(&self) -> String {
        self.target().tail()
    }
}

impl Placed for ComponentRecord {
    const PLURAL: &'static str = "components";

    fn path(&self) -> String {
        format!("components/{}/component.json", part(&self.name))
    }

    fn tail(&self) -> String {
        self.target().tail()
    }
}

impl Placed for DeploymentRecord {
    const PLURAL: &'static str = "deployments";
    const NAMED_BY: &'static str = "deployment.id";

    fn path(&self) -> String {
        format!("deployments/{}/deployment.json", part(self.id()))
    }
}
