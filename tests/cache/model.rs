//! Readers and a writer for each of some templates, all at the same time, against what must hold:
//! a read sees nothing older than what was written, or seen by anybody, before it began.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use proton_gateway::api::{Request, Response, pb};
use proton_gateway::cache::demand::Status;
use proton_gateway::edge::Arrival;
use proton_gateway::error::Error;
use proton_gateway::gateway::{Call, Door, Reply};

use super::keeping;
use super::support::{Backend, World};

const TEMPLATES: usize = 3;
const READERS: usize = 4;
const WRITES: u64 = 60;

/// One template: in the even states it exists, and its description is the state's number.
#[derive(Default)]
struct Template {
    /// The latest state that was asked for.
    begun: AtomicU64,
    /// The latest state that somebody was told of.
    told: AtomicU64,
}

async fn send(world: &World, request: Request) -> Result<Reply, Error> {
    let arrival = Arrival {
        deadline: Instant::now() + Duration::from_secs(60),
        ..Arrival::default()
    };
    world
        .gateway
        .call(Call::new(request, Door::Grpc, &arrival))
        .await
}

async fn write(world: &World, name: String, template: &Template) {
    for state in 1..=WRITES {
        let (name, description) = (name.clone(), Some(state.to_string()));
        template.begun.store(state, Ordering::SeqCst);
        let request = match state % 2 {
            1 => Request::DeleteEnvironmentTemplate(pb::DeleteEnvironmentTemplateRequest { name }),
            _ => Request::CreateEnvironmentTemplate(pb::CreateEnvironmentTemplateRequest {
                name,
                description,
                ..Default::default()
            }),
        };
        send(world, request).await.unwrap();
        template.told.fetch_max(state, Ordering::SeqCst);
    }
}

/// What a get or a list says of the template, and whether it was kept.
async fn look(world: &World, name: &str, list: bool) -> (Option<u64>, bool) {
    let request = match list {
        true => Request::ListEnvironmentTemplates(Default::default()),
        false => Request::GetEnvironmentTemplate(pb::GetEnvironmentTemplateRequest {
            name: name.to_owned(),
        }),
    };
    let number = |description: Option<String>| description.unwrap().parse().unwrap();
    match send(world, request).await {
        Ok(reply) => {
            let kept = reply.served.unwrap().status == Status::Hit;
            let found = match reply.response {
                Response::GetEnvironmentTemplate(found) => {
                    let template = found.environment_template.unwrap();
                    Some(number(template.description))
                }
                Response::ListEnvironmentTemplates(found) => found
                    .templates
                    .into_iter()
                    .find(|template| template.name.as_deref() == Some(name))
                    .map(|template| number(template.description)),
                other => panic!("{other:?}"),
            };
            (found, kept)
        }
        Err(error) if error.is_not_found() => (None, false),
        Err(error) => panic!("{error:?}"),
    }
}

async fn read(world: &World, name: &str, template: &Template, list: bool) -> bool {
    let least = template.told.load(Ordering::SeqCst);
    let (found, kept) = look(world, name, list).await;
    let most = template.begun.load(Ordering::SeqCst);
    match found {
        Some(state) => {
            assert!(
                (least..=most).contains(&state),
                "{name} was in state {state} after {least} (list: {list}, kept: {kept})"
            );
            template.told.fetch_max(state, Ordering::SeqCst);
        }
        None => {
            // In the odd states it does not exist.
            let gone = (least..=most).any(|state| state % 2 == 1);
            assert!(
                gone,
                "{name} did not exist in state {least}..={most} (list: {list})"
            );
        }
    }
    kept
}

async fn nobody_reads_what_is_over(backend: Backend) {
    let world = Arc::new(keeping(backend).await);
    let over = Arc::new(AtomicBool::new(false));
    let hits = Arc::new(AtomicUsize::new(0));
    let (mut writers, mut readers) = (Vec::new(), Vec::new());
    for index in 0..TEMPLATES {
        let (name, template) = (format!("t{index}"), Arc::new(Template::default()));
        let request = pb::CreateEnvironmentTemplateRequest {
            name: name.clone(),
            description: Some("0".to_owned()),
            ..Default::default()
        };
        world.ok(request).await;
        for reader in 0..READERS {
            let (world, over, hits) = (Arc::clone(&world), Arc::clone(&over), Arc::clone(&hits));
            let (name, template) = (name.clone(), Arc::clone(&template));
            readers.push(tokio::spawn(async move {
                while !over.load(Ordering::SeqCst) {
                    let kept = read(&world, &name, &template, reader % 2 == 1).await;
                    hits.fetch_add(usize::from(kept), Ordering::SeqCst);
                    tokio::task::yield_now().await;
                }
            }));
        }
        let (world, hits) = (Arc::clone(&world), Arc::clone(&hits));
        writers.push(tokio::spawn(async move {
            write(&world, name.clone(), &template).await;
            // What its writer reads last is what it has written last.
            for list in [false, true, false, true] {
                let (found, kept) = look(&world, &name, list).await;
                hits.fetch_add(usize::from(kept), Ordering::SeqCst);
                assert_eq!(found, Some(WRITES), "list: {list}");
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    for reader in readers {
        reader.await.unwrap();
    }
    assert!(hits.load(Ordering::SeqCst) > 0, "nothing was ever kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_is_over_in_memory() {
    nobody_reads_what_is_over(Backend::InMemory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_is_over_on_disk() {
    nobody_reads_what_is_over(Backend::OnDisk).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_what_is_over_through_the_aws_door() {
    nobody_reads_what_is_over(Backend::ThroughAwsDoor).await;
}
