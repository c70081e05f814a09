//! Streams: one span each, with what happens as events.

use proton_gateway::api::pb;
use tonic::Code;

use crate::collector::{Collector, attribute, tops, tree};
use crate::support::{Backend, World};
use crate::*;

const PAGES: &str = "proton.v1.PaginatorService/PageEnvironmentTemplates";
const WAIT: &str = "proton.v1.WaitService/WaitEnvironmentTemplateVersionRegistered";

#[tokio::test]
async fn a_list_has_a_span_with_an_event_for_each_page_and_a_span_for_each_call() {
    let (collector, address) = Collector::start().await;
    let (telemetry, sender) = opened(&told(address));
    let world = World::over(Backend::InMemory).await;
    for name in ["a", "b", "c"] {
        let template = pb::CreateEnvironmentTemplateRequest {
            name: name.to_owned(),
            ..pb::CreateEnvironmentTemplateRequest::default()
        };
        world.ok(template).await;
    }
    let door = Door::to(world.gateway.clone(), &telemetry);
    let list = pb::PageEnvironmentTemplatesRequest {
        request: Some(pb::ListEnvironmentTemplatesRequest {
            max_results: Some(2),
            ..pb::ListEnvironmentTemplatesRequest::default()
        }),
        ..pb::PageEnvironmentTemplatesRequest::default()
    };
    assert_eq!(door.send(PAGES, &list, &[]).await, Code::Ok);
    let page = telemetry.metrics.page().unwrap();
    let open = r#"proton_gateway_streams_open{kind="page"} 0"#;
    assert!(page.contains(open), "{page}");
    sender.end().await;
    let spans = collector.spans();
    let stream = tops(&spans).remove(0);
    let call = "ListEnvironmentTemplates(engine.transaction)";
    assert_eq!(tree(&spans, &stream), format!("{PAGES}({call}, {call})"));
    let items: Vec<_> = stream
        .events
        .iter()
        .map(|event| {
            (
                &*event.name,
                attribute(&event.attributes, "proton.items").unwrap(),
            )
        })
        .collect();
    assert_eq!(items, [("page", "2".to_owned()), ("page", "1".to_owned())]);
}

#[tokio::test]
async fn a_wait_has_a_span_with_its_events() {
    let (collector, address) = Collector::start().await;
    let (telemetry, sender) = opened(&told(address));
    let world = World::over(Backend::InMemory).await;
    let door = Door::to(world.gateway.clone(), &telemetry);
    let nothing = pb::WaitEnvironmentTemplateVersionRegisteredRequest {
        template_name: "vpc".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        options: None,
    };
    assert_eq!(door.send(WAIT, &nothing, &[]).await, Code::NotFound);
    // What is not there may have been deleted, which is what is waited for.
    let gone = pb::WaitEnvironmentDeletedRequest {
        name: "prod".to_owned(),
        options: None,
    };
    let path = "proton.v1.WaitService/WaitEnvironmentDeleted";
    assert_eq!(door.send(path, &gone, &[]).await, Code::Ok);
    sender.end().await;
    let spans = collector.spans();
    let streams = tops(&spans);
    assert_eq!(streams[0].name, WAIT);
    let names: Vec<_> = streams[1].events.iter().map(|event| &*event.name).collect();
    assert!(names.ends_with(&["terminal"]), "{names:?}");
}
