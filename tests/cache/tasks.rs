//! What changes by itself, without a call.

use proton_gateway::api::pb;

use super::keeping;
use super::support::{Backend, World};

/// Begins to register a version that cannot be registered, and returns its status.
async fn begin(world: &World) -> pb::GetEnvironmentTemplateVersionRequest {
    world
        .ok(pb::CreateEnvironmentTemplateRequest {
            name: "net".to_owned(),
            ..Default::default()
        })
        .await;
    let source = pb::S3ObjectSource {
        bucket: "no-such-bucket".to_owned(),
        key: "net.tar.gz".to_owned(),
    };
    world
        .ok(pb::CreateEnvironmentTemplateVersionRequest {
            template_name: "net".to_owned(),
            source: Some(pb::TemplateVersionSourceInput {
                source: Some(pb::template_version_source_input::Source::S3(source)),
            }),
            ..Default::default()
        })
        .await;
    pb::GetEnvironmentTemplateVersionRequest {
        template_name: "net".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
    }
}

async fn status(world: &World, of: &pb::GetEnvironmentTemplateVersionRequest) -> i32 {
    let found = world.ok(of.clone()).await;
    found.environment_template_version.unwrap().status
}

#[tokio::test]
async fn what_the_engine_ends_by_itself_is_seen_at_once() {
    use pb::TemplateVersionStatus::{RegistrationFailed, RegistrationInProgress};
    for backend in [Backend::InMemory, Backend::OnDisk] {
        let world = keeping(backend).await;
        let version = begin(&world).await;
        for _ in 0..2 {
            let now = status(&world, &version).await;
            assert_eq!(now, i32::from(RegistrationInProgress));
        }
        world.settle().await;
        let now = status(&world, &version).await;
        assert_eq!(now, i32::from(RegistrationFailed), "{backend:?}");
    }
}
