//! Lists without what their caller may not get.
//!
//! Pages become shorter, and their tokens stay as they are: sealed, they say nothing of what is left out.

use super::resource::Resource;
use super::{Authorizer, exempt};
use crate::api::json::{ToJson, View};
use crate::api::{Operation, Response};
use crate::auth::Principal;

/// Says for each list of resources which field holds its items, and what gets one of them.
macro_rules! lists {
    ($($list:ident { $items:ident } => $get:ident;)+) => {
        /// The names of the lists that are filtered.
        #[cfg(test)]
        pub(super) const FILTERED: &[&str] = &[$(stringify!($list)),+];

        /// What gets an item of the answers of `operation`, if these are lists of resources.
        fn getter(operation: Operation) -> Option<Operation> {
            match operation {
                $(Operation::$list => Some(Operation::$get),)+
                _ => None,
            }
        }

        /// The resources of a list, in its order.
        fn resources(response: &Response, get: Operation) -> Vec<Resource> {
            let resource = |item: &dyn ToJson| Resource::item(get, &item.to_json(View::Plain));
            match response {
                $(Response::$list(page) => page.$items.iter().map(|item| resource(item)).collect(),)+
                _ => Vec::new(),
            }
        }

        /// Leaves out each item for which `kept` has no `true` at its place.
        fn keep(response: &mut Response, kept: &[bool]) {
            let mut kept = kept.iter().copied();
            match response {
                $(Response::$list(page) => page.$items.retain(|_| kept.next() == Some(true)),)+
                _ => {}
            }
        }
    };
}

lists! {
    ListComponents { components } => GetComponent;
    ListDeployments { deployments } => GetDeployment;
    ListEnvironmentAccountConnections { environment_account_connections } => GetEnvironmentAccountConnection;
    ListEnvironmentTemplateVersions { template_versions } => GetEnvironmentTemplateVersion;
    ListEnvironmentTemplates { templates } => GetEnvironmentTemplate;
    ListEnvironments { environments } => GetEnvironment;
    ListRepositories { repositories } => GetRepository;
    ListServiceInstances { service_instances } => GetServiceInstance;
    ListServiceTemplateVersions { template_versions } => GetServiceTemplateVersion;
    ListServiceTemplates { templates } => GetServiceTemplate;
    ListServices { services } => GetService;
}

impl Authorizer {
    /// Whether the answers of `operation` are not for all who may call it, or not all of them.
    pub fn depends_on_answers(&self, operation: Operation) -> bool {
        self.finder(operation).is_some() || (self.filters_lists() && getter(operation).is_some())
    }

    /// Leaves out of a list what `principal` may not get, if lists are filtered.
    pub async fn filter(
        &self,
        principal: &Principal,
        upstream: Option<&str>,
        response: &mut Response,
    ) {
        if !self.filters_lists() || exempt(principal) {
            return;
        }
        let Some(get) = getter(response.operation()) else {
            return;
        };
        let resources = resources(response, get);
        let mut kept = Vec::with_capacity(resources.len());
        for resource in resources {
            let resource = resource.at(upstream);
            kept.push(self.decide(principal, get.rpc(), &resource).await.allowed);
        }
        keep(response, &kept);
    }
}
