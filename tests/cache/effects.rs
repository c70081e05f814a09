//! What each change makes stale, as the contract's `touches` say it: after any change, what is kept
//! before an upstream and what the upstream says are the same, in all reads. Chance comes from a
//! seed, which is printed; `PROTON_FAULTS_SEED` fixes it.

use std::time::{Duration, Instant};

use proton_gateway::api::{Operation, Request};
use proton_gateway::cache::demand::{Demand, Status};
use proton_gateway::edge::Arrival;
use proton_gateway::gateway::{Call, Door};
use serde_json::{Value, json};

use super::random::{Random, seed};
use super::support::{Backend, World};
use super::workload::{Change, Workload};
use super::{keeping, service_fixtures as fixtures};

const CHANGES: usize = 60;

/// What is answered, or why not; and whether it was kept.
async fn asked(world: &World, request: Request, demand: Demand) -> (Result<Value, String>, bool) {
    let arrival = Arrival {
        deadline: Instant::now() + Duration::from_secs(60),
        demand,
        ..Arrival::default()
    };
    let call = Call::new(request, Door::Grpc, &arrival);
    let reply = world.gateway.call(call).await;
    let served = reply.as_ref().ok().and_then(|reply| reply.served.as_ref());
    let kept = served.is_some_and(|served| served.status == Status::Hit);
    let answer = reply
        .map(|reply| reply.response.to_json())
        .map_err(|error| error.message);
    (answer, kept)
}

async fn ask(world: &World, request: Request, demand: Demand) -> Result<Value, String> {
    asked(world, request, demand).await.0
}

/// The reads of all that the changes are about.
fn reads() -> Vec<Request> {
    let mut reads = Vec::new();
    let mut read = |operation, fields: Value| {
        reads.push(Request::from_json(operation, fields).unwrap());
    };
    for operation in [
        Operation::ListEnvironmentTemplates,
        Operation::ListServiceTemplates,
        Operation::ListEnvironments,
        Operation::ListServices,
        Operation::ListServiceInstances,
        Operation::ListComponents,
        Operation::ListRepositories,
        Operation::ListDeployments,
        Operation::GetAccountSettings,
        Operation::GetResourcesSummary,
    ] {
        read(operation, json!({}));
    }
    for side in ["MANAGEMENT_ACCOUNT", "ENVIRONMENT_ACCOUNT"] {
        let fields = json!({"requestedBy": side});
        read(Operation::ListEnvironmentAccountConnections, fields);
    }
    let mut tags = Vec::new();
    let named = |prefix: &'static str| (0..3).map(move |number| format!("{prefix}{number}"));
    for name in named("t").chain(["network".to_owned()]) {
        read(Operation::GetEnvironmentTemplate, json!({"name": name}));
        let fields = json!({"templateName": name});
        read(Operation::ListEnvironmentTemplateVersions, fields);
        let fields = json!({"templateName": name, "templateType": "ENVIRONMENT"});
        read(Operation::GetTemplateSyncConfig, fields);
        tags.push(format!("environment-template/{name}"));
    }
    for name in named("s").chain(["job".to_owned()]) {
        read(Operation::GetServiceTemplate, json!({"name": name}));
        let fields = json!({"templateName": name});
        read(Operation::ListServiceTemplateVersions, fields);
        tags.push(format!("service-template/{name}"));
    }
    for name in named("e").chain(["prod".to_owned()]) {
        read(Operation::GetEnvironment, json!({"name": name}));
        let fields = json!({"environmentName": name});
        read(Operation::ListEnvironmentOutputs, fields);
        tags.push(format!("environment/{name}"));
    }
    for name in named("v").chain(["shop".to_owned(), "batch".to_owned()]) {
        read(Operation::GetService, json!({"name": name}));
        let fields = json!({"serviceName": name});
        read(Operation::ListServiceInstances, fields.clone());
        read(Operation::ListServicePipelineOutputs, fields.clone());
        read(Operation::GetServiceSyncConfig, fields);
        tags.push(format!("service/{name}"));
    }
    for name in named("i").chain(["eu".to_owned()]) {
        let fields = json!({"serviceName": "batch", "name": name});
        read(Operation::GetServiceInstance, fields);
        let fields = json!({"serviceName": "batch", "serviceInstanceName": name});
        read(Operation::ListServiceInstanceOutputs, fields);
        tags.push(format!("service/batch/service-instance/{name}"));
    }
    for name in named("c") {
        read(Operation::GetComponent, json!({"name": name}));
        let fields = json!({"componentName": name});
        read(Operation::ListComponentOutputs, fields);
        tags.push(format!("component/{name}"));
    }
    for name in named("r").map(|name| format!("acme/{name}")) {
        let fields = json!({"provider": "GITHUB", "name": name});
        read(Operation::GetRepository, fields);
        for sync in ["TEMPLATE_SYNC", "SERVICE_SYNC"] {
            let fields = json!({
                "repositoryProvider": "GITHUB", "repositoryName": name, "syncType": sync,
            });
            read(Operation::ListRepositorySyncDefinitions, fields);
        }
    }
    for tail in tags {
        let fields = json!({"resourceArn": fixtures::arn(&tail)});
        read(Operation::ListTagsForResource, fields);
    }
    reads
}

#[tokio::test]
async fn after_a_change_its_caller_reads_nothing_that_was_before_it_whatever_it_reads() {
    let seed = seed("effects");
    let mut random = Random::seeded(seed);
    let world = keeping(Backend::ThroughAwsDoor).await;
    fixtures::shop(&world).await;
    let batch = fixtures::create_job("batch", &[("eu", "prod", "batch:1")]);
    world.ok(batch).await;
    world.step().await;
    let mut workload = Workload::new("");
    let reads = reads();
    for read in &reads {
        drop(ask(&world, read.clone(), Demand::FRESH).await);
    }
    let (mut made, mut hits) = (0, 0);
    while made < CHANGES {
        let Change { request, .. } = workload.next(&mut random, false);
        let what = format!("{request:?}");
        let Ok(done) = ask(&world, request, Demand::default()).await else {
            continue;
        };
        made += 1;
        let id = done.pointer("/environmentAccountConnection/id");
        let id = id.and_then(Value::as_str).map(str::to_owned);
        workload.connections.extend(id);
        for read in &reads {
            let (kept, hit) = asked(&world, read.clone(), Demand::default()).await;
            hits += usize::from(hit);
            let fresh = ask(&world, read.clone(), Demand::FRESH).await;
            assert_eq!(
                kept, fresh,
                "PROTON_FAULTS_SEED={seed}: {read:?} after {what}"
            );
        }
        if random.chance(30) {
            // What ends by itself is seen when it is asked for.
            world.step().await;
            for read in &reads {
                drop(ask(&world, read.clone(), Demand::FRESH).await);
            }
        }
    }
    assert!(hits > made * reads.len() / 4, "little was kept: {hits}");
}
