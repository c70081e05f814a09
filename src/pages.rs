//! Lists as streams of pages: `PaginatorService`.
//!
//! A stream is driven by its reader: the next page is fetched when it is asked for.

use std::pin::Pin;
use std::time::Instant;

use futures_util::{Stream, stream};
use opentelemetry::KeyValue;
use tonic::{Code, Request as Rpc, Response as Answer, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::admission::Admission;
use crate::api::pb::paginator_service_server::PaginatorService;
use crate::api::{Operation, Typed, pb};
use crate::edge::{Arrival, DEFAULT_DEADLINE, status};
use crate::error::{Error, ErrorKind, Result};
use crate::gateway::{Call, Door, Gateway};
use crate::server::Shutdown;

/// The most items that a page can have (API model, MaxPageResults).
const PAGE: u64 = 100;

/// Answers `PaginatorService`.
#[derive(Clone)]
pub struct Paginator {
    gateway: Gateway,
    shutdown: Option<Shutdown>,
}

/// The request of a list that has pages.
trait List: Typed + Clone + Default + Sync + 'static
where
    Self::Response: 'static,
{
    fn token(&self) -> Option<&str>;

    fn set_token(&mut self, token: Option<String>);

    /// Asks for no more than `most` items, where that can be asked.
    fn cap(&mut self, most: u64);

    fn next(page: &Self::Response) -> Option<&str>;

    fn items(page: &Self::Response) -> usize;

    /// Leaves the first `most` items: not every list, nor every upstream, heeds a page size.
    fn cut(page: &mut Self::Response, most: u64);
}

/// The request of a stream of pages.
trait Pages: Send + 'static {
    type List: List;
    type Page: Send + 'static;

    /// The rpc's name.
    const RPC: &'static str;

    fn parts(self) -> (Self::List, u64);

    fn page(page: <Self::List as Typed>::Response) -> Self::Page;
}

macro_rules! cap {
    ($request:ident, $most:ident, sized) => {
        let asked = $request
            .max_results
            .and_then(|asked| u64::try_from(asked).ok());
        $request.max_results = i32::try_from(asked.unwrap_or(PAGE).min($most)).ok();
    };
    ($request:ident, $most:ident,) => {
        // The list has no page size: its pages are cut.
        let _ = ($request, $most);
    };
}

/// Says for each list which field holds its items.
macro_rules! pages {
    ($($rpc:ident $method:ident $stream:ident: $request:ident => $response:ident,
        $operation:ident($list:ident => $page:ident { $items:ident }) $(, $sized:ident)?;)+) => {
        $(impl List for pb::$list {
            fn token(&self) -> Option<&str> {
                self.next_token.as_deref().filter(|token| !token.is_empty())
            }

            fn set_token(&mut self, token: Option<String>) {
                self.next_token = token;
            }

            fn cap(&mut self, most: u64) {
                let request = self;
                cap!(request, most, $($sized)?);
            }

            fn next(page: &pb::$page) -> Option<&str> {
                page.next_token.as_deref().filter(|token| !token.is_empty())
            }

            fn items(page: &pb::$page) -> usize {
                page.$items.len()
            }

            fn cut(page: &mut pb::$page, most: u64) {
                page.$items.truncate(usize::try_from(most).unwrap_or(usize::MAX));
            }
        }

        impl Pages for pb::$request {
            type List = pb::$list;
            type Page = pb::$response;

            const RPC: &'static str = stringify!($rpc);

            fn parts(self) -> (pb::$list, u64) {
                (self.request.unwrap_or_default(), self.limit)
            }

            fn page(page: pb::$page) -> pb::$response {
                pb::$response { page: Some(page) }
            }
        })+

        #[tonic::async_trait]
        impl PaginatorService for Paginator {
            $(type $stream = PageStream<pb::$response>;

            async fn $method(
                &self,
                request: Rpc<pb::$request>,
            ) -> std::result::Result<Answer<Self::$stream>, Status> {
                self.stream(Operation::$operation, request).await
            })+
        }
    };
}

type PageStream<T> = Pin<Box<dyn Stream<Item = std::result::Result<T, Status>> + Send>>;

pages! {
    PageComponentOutputs page_component_outputs PageComponentOutputsStream: PageComponentOutputsRequest => PageComponentOutputsResponse,
        ListComponentOutputs(ListComponentOutputsRequest => ListComponentOutputsResponse { outputs });
    PageComponentProvisionedResources page_component_provisioned_resources PageComponentProvisionedResourcesStream: PageComponentProvisionedResourcesRequest => PageComponentProvisionedResourcesResponse,
        ListComponentProvisionedResources(ListComponentProvisionedResourcesRequest => ListComponentProvisionedResourcesResponse { provisioned_resources });
    PageComponents page_components PageComponentsStream: PageComponentsRequest => PageComponentsResponse,
        ListComponents(ListComponentsRequest => ListComponentsResponse { components }), sized;
    PageDeployments page_deployments PageDeploymentsStream: PageDeploymentsRequest => PageDeploymentsResponse,
        ListDeployments(ListDeploymentsRequest => ListDeploymentsResponse { deployments }), sized;
    PageEnvironmentAccountConnections page_environment_account_connections PageEnvironmentAccountConnectionsStream: PageEnvironmentAccountConnectionsRequest => PageEnvironmentAccountConnectionsResponse,
        ListEnvironmentAccountConnections(ListEnvironmentAccountConnectionsRequest => ListEnvironmentAccountConnectionsResponse { environment_account_connections }), sized;
    PageEnvironmentOutputs page_environment_outputs PageEnvironmentOutputsStream: PageEnvironmentOutputsRequest => PageEnvironmentOutputsResponse,
        ListEnvironmentOutputs(ListEnvironmentOutputsRequest => ListEnvironmentOutputsResponse { outputs });
    PageEnvironmentProvisionedResources page_environment_provisioned_resources PageEnvironmentProvisionedResourcesStream: PageEnvironmentProvisionedResourcesRequest => PageEnvironmentProvisionedResourcesResponse,
        ListEnvironmentProvisionedResources(ListEnvironmentProvisionedResourcesRequest => ListEnvironmentProvisionedResourcesResponse { provisioned_resources });
    PageEnvironmentTemplateVersions page_environment_template_versions PageEnvironmentTemplateVersionsStream: PageEnvironmentTemplateVersionsRequest => PageEnvironmentTemplateVersionsResponse,
        ListEnvironmentTemplateVersions(ListEnvironmentTemplateVersionsRequest => ListEnvironmentTemplateVersionsResponse { template_versions }), sized;
    PageEnvironmentTemplates page_environment_templates PageEnvironmentTemplatesStream: PageEnvironmentTemplatesRequest => PageEnvironmentTemplatesResponse,
        ListEnvironmentTemplates(ListEnvironmentTemplatesRequest => ListEnvironmentTemplatesResponse { templates }), sized;
    PageEnvironments page_environments PageEnvironmentsStream: PageEnvironmentsRequest => PageEnvironmentsResponse,
        ListEnvironments(ListEnvironmentsRequest => ListEnvironmentsResponse { environments }), sized;
    PageRepositories page_repositories PageRepositoriesStream: PageRepositoriesRequest => PageRepositoriesResponse,
        ListRepositories(ListRepositoriesRequest => ListRepositoriesResponse { repositories }), sized;
    PageRepositorySyncDefinitions page_repository_sync_definitions PageRepositorySyncDefinitionsStream: PageRepositorySyncDefinitionsRequest => PageRepositorySyncDefinitionsResponse,
        ListRepositorySyncDefinitions(ListRepositorySyncDefinitionsRequest => ListRepositorySyncDefinitionsResponse { sync_definitions });
    PageServiceInstanceOutputs page_service_instance_outputs PageServiceInstanceOutputsStream: PageServiceInstanceOutputsRequest => PageServiceInstanceOutputsResponse,
        ListServiceInstanceOutputs(ListServiceInstanceOutputsRequest => ListServiceInstanceOutputsResponse { outputs });
    PageServiceInstanceProvisionedResources page_service_instance_provisioned_resources PageServiceInstanceProvisionedResourcesStream: PageServiceInstanceProvisionedResourcesRequest => PageServiceInstanceProvisionedResourcesResponse,
        ListServiceInstanceProvisionedResources(ListServiceInstanceProvisionedResourcesRequest => ListServiceInstanceProvisionedResourcesResponse { provisioned_resources });
    PageServiceInstances page_service_instances PageServiceInstancesStream: PageServiceInstancesRequest => PageServiceInstancesResponse,
        ListServiceInstances(ListServiceInstancesRequest => ListServiceInstancesResponse { service_instances }), sized;
    PageServicePipelineOutputs page_service_pipeline_outputs PageServicePipelineOutputsStream: PageServicePipelineOutputsRequest => PageServicePipelineOutputsResponse,
        ListServicePipelineOutputs(ListServicePipelineOutputsRequest => ListServicePipelineOutputsResponse { outputs });
    PageServicePipelineProvisionedResources page_service_pipeline_provisioned_resources PageServicePipelineProvisionedResourcesStream: PageServicePipelineProvisionedResourcesRequest => PageServicePipelineProvisionedResourcesResponse,
        ListServicePipelineProvisionedResources(ListServicePipelineProvisionedResourcesRequest => ListServicePipelineProvisionedResourcesResponse { provisioned_resources });
    PageServiceTemplateVersions page_service_template_versions PageServiceTemplateVersionsStream: PageServiceTemplateVersionsRequest => PageServiceTemplateVersionsResponse,
        ListServiceTemplateVersions(ListServiceTemplateVersionsRequest => ListServiceTemplateVersionsResponse { template_versions }), sized;
    PageServiceTemplates page_service_templates PageServiceTemplatesStream: PageServiceTemplatesRequest => PageServiceTemplatesResponse,
        ListServiceTemplates(ListServiceTemplatesRequest => ListServiceTemplatesResponse { templates }), sized;
    PageServices page_services PageServicesStream: PageServicesRequest => PageServicesResponse,
        ListServices(ListServicesRequest => ListServicesResponse { services }), sized;
    PageTagsForResource page_tags_for_resource PageTagsForResourceStream: PageTagsForResourceRequest => PageTagsForResourceResponse,
        ListTagsForResource(ListTagsForResourceRequest => ListTagsForResourceResponse { tags }), sized;
}

/// A list that is being read.
struct Reading<L: List> {
    gateway: Gateway,
    shutdown: Option<Shutdown>,
    operation: Operation,
    /// Whose list it is. A page has the time of a call, however long the stream lasts.
    arrival: Arrival,
    admission: Admission,
    /// For the next page; absent at the end.
    next: Option<L>,
    /// Items that may still come; absent where there is no limit.
    left: Option<u64>,
    seen: Seen,
}

/// Notices tokens that come round again, whatever the length of the round, with two of them in
/// memory (Brent's algorithm).
#[derive(Default)]
struct Seen {
    token: String,
    steps: u64,
    limit: u64,
}

impl Seen {
    fn again(&mut self, token: &str) -> bool {
        if self.token == token {
            return true;
        }
        self.steps += 1;
        if self.steps > self.limit {
            token.clone_into(&mut self.token);
            self.limit = self.steps * 2;
        }
        false
    }
}

impl<L: List> Reading<L> {
    /// The next page; `None` at the end.
    async fn page(&mut self) -> Result<Option<L::Response>> {
        let Some(mut request) = self.next.take() else {
            return Ok(None);
        };
        self.admission.check()?;
        match self.left {
            Some(0) => return Ok(None),
            Some(left) => request.cap(left),
            None => {}
        }
        let arrival = Arrival {
            deadline: Instant::now() + DEFAULT_DEADLINE,
            ..self.arrival.clone()
        };
        let call = Call::new(request.clone().into_request(), Door::Grpc, &arrival);
        let reply = self.gateway.call(call).await?;
        let mut page = L::from_response(reply.response)
            .ok_or_else(|| Error::internal("the backend answered another operation"))?;
        if let Some(left) = &mut self.left {
            L::cut(&mut page, *left);
            *left = left.saturating_sub(u64::try_from(L::items(&page)).unwrap_or(u64::MAX));
        }
        let items = i64::try_from(L::items(&page)).unwrap_or(i64::MAX);
        self.arrival.trace.note(|span| {
            span.add_event("page", vec![KeyValue::new("proton.items", items)]);
        });
        if let Some(token) = L::next(&page) {
            request.set_token(Some(token.to_owned()));
            self.next = Some(request);
        }
        Ok(Some(page))
    }

    /// The next item of the stream.
    async fn item(&mut self) -> Option<std::result::Result<L::Response, Status>> {
        if let Some(token) = self.next.as_ref().and_then(List::token)
            && self.seen.again(token)
        {
            self.next = None;
            return Some(Err(self.looping()));
        }
        match self.page().await {
            Ok(page) => page.map(Ok),
            Err(error) => Some(Err(status::of(
                &error,
                Some(self.operation),
                &self.arrival.request_id,
            ))),
        }
    }

    /// What ends the stream before its next page where the program is about to stop. The last page
    /// has the token to go on with.
    fn closing(&mut self) -> Option<Status> {
        let shutdown = self.shutdown.as_ref().filter(|it| it.is_told())?;
        self.next.take()?;
        let retry_after = shutdown.come_back_after();
        let error = Error::new(
            ErrorKind::Unavailable { retry_after },
            "the gateway is about to stop; go on with the next_token of the last page, at another one",
        );
        let id = &self.arrival.request_id;
        Some(status::of(&error, Some(self.operation), id))
    }

    fn looping(&self) -> Status {
        let facts = std::collections::HashMap::from([
            ("operation".to_owned(), self.operation.name().to_owned()),
            ("request_id".to_owned(), self.arrival.request_id.clone()),
        ]);
        Status::with_error_details(
            Code::Internal,
            "the upstream's page tokens go round in a loop; the list was read as far as it goes",
            ErrorDetails::with_error_info("PAGE_TOKEN_LOOP", status::DOMAIN, facts),
        )
    }
}

impl Paginator {
    pub fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            shutdown: None,
        }
    }

    /// The same, whose streams end between two pages when the program is told to stop.
    pub fn until(self, shutdown: Shutdown) -> Self {
        Self {
            shutdown: Some(shutdown),
            ..self
        }
    }

    /// Opens a stream. What is wrong with the first page is the answer of the call itself.
    async fn stream<P: Pages>(
        &self,
        operation: Operation,
        request: Rpc<P>,
    ) -> std::result::Result<Answer<PageStream<P::Page>>, Status> {
        let (_, extensions, message) = request.into_parts();
        let arrival = extensions.get::<Arrival>().cloned().unwrap_or_default();
        let (list, limit) = message.parts();
        let admission = self
            .gateway
            .admit(P::RPC, &list.clone().into_request(), &arrival)
            .await
            // What the limit makes of a page size hides what is wrong with it.
            .and_then(|admission| {
                list.clone().into_request().validate()?;
                Ok(admission)
            })
            .map_err(|error| status::of(&error, Some(operation), &arrival.request_id))?;
        let mut reading = Reading {
            gateway: self.gateway.clone(),
            shutdown: self.shutdown.clone(),
            operation,
            arrival,
            admission,
            next: Some(list),
            left: (limit > 0).then_some(limit),
            seen: Seen::default(),
        };
        let first = reading.item().await.transpose()?;
        let pages = stream::unfold((first, reading), |(first, mut reading)| async move {
            let page = match first {
                Some(page) => Ok(page),
                None => {
                    // Pending once: tonic sends what it has before it asks for more, and so asks
                    // no sooner than the reader does.
                    tokio::task::yield_now().await;
                    match reading.closing() {
                        Some(status) => Err(status),
                        None => reading.item().await?,
                    }
                }
            };
            Some((page.map(P::page), (None, reading)))
        });
        Ok(Answer::new(Box::pin(pages)))
    }
}
