//! What a wait asks beside its poll: the deployment, its outputs.

use super::Waits;
use crate::api::{Request, Response, pb};
use crate::auth::Principal;
use crate::edge::Arrival;
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Call, Door};
use crate::upstream::Identity;

impl Waits {
    async fn ask(&self, request: Request, identity: &Identity) -> Result<Response> {
        let arrival = Arrival {
            principal: Principal::gateway(),
            ..Arrival::default()
        };
        let call = Call {
            identity: Some(identity.clone()),
            ..Call::new(request, Door::Wait, &arrival)
        };
        self.gateway.call(call).await.map(|reply| reply.response)
    }

    /// The deployment, as far as it is on record.
    pub(super) async fn deployment(
        &self,
        id: &str,
        identity: &Identity,
    ) -> Result<Option<pb::Deployment>> {
        let request = pb::GetDeploymentRequest {
            id: id.to_owned(),
            ..pb::GetDeploymentRequest::default()
        };
        match self.ask(Request::GetDeployment(request), identity).await {
            Ok(Response::GetDeployment(found)) => Ok(found.deployment),
            // What will not be answered differently later.
            Err(error) if error.is_refusal() || is_denied(&error) => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Err(Error::internal("the backend answered another operation")),
        }
    }

    /// The outputs that `request` lists: those of the given deployment, if any is given.
    pub(super) async fn outputs(
        &self,
        mut request: Request,
        deployment: Option<String>,
        identity: &Identity,
    ) -> Result<Vec<pb::Output>> {
        match &mut request {
            Request::ListEnvironmentOutputs(list) => list.deployment_id = deployment,
            Request::ListServiceInstanceOutputs(list) => list.deployment_id = deployment,
            Request::ListServicePipelineOutputs(list) => list.deployment_id = deployment,
            Request::ListComponentOutputs(list) => list.deployment_id = deployment,
            _ => {}
        }
        Ok(match self.ask(request, identity).await? {
            Response::ListEnvironmentOutputs(list) => list.outputs,
            Response::ListServiceInstanceOutputs(list) => list.outputs,
            Response::ListServicePipelineOutputs(list) => list.outputs,
            Response::ListComponentOutputs(list) => list.outputs,
            _ => Vec::new(),
        })
    }
}

fn is_denied(error: &Error) -> bool {
    matches!(
        *error.kind,
        ErrorKind::AccessDenied { .. } | ErrorKind::UnknownOperation
    )
}

/// The resource in the response of a poll.
pub(super) fn resource(response: &Response) -> Option<pb::WaitResource> {
    use pb::wait_resource::Resource;
    let resource = match response.clone() {
        Response::GetEnvironment(found) => found.environment.map(Resource::Environment),
        Response::GetEnvironmentTemplateVersion(found) => found
            .environment_template_version
            .map(Resource::EnvironmentTemplateVersion),
        Response::GetService(found) => found.service.map(Resource::Service),
        Response::GetServiceInstance(found) => {
            found.service_instance.map(Resource::ServiceInstance)
        }
        Response::GetServiceTemplateVersion(found) => found
            .service_template_version
            .map(Resource::ServiceTemplateVersion),
        Response::GetComponent(found) => found.component.map(Resource::Component),
        Response::GetDeployment(found) => found.deployment.map(Resource::Deployment),
        _ => None,
    };
    resource.map(|resource| pb::WaitResource {
        resource: Some(resource),
    })
}
