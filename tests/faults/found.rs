//! What runs with faults have brought to light, one sequence of faults each.

use std::sync::Arc;

use proton_gateway::api::{Typed, pb};
use proton_gateway::error::{Error, ErrorKind};
use proton_gateway::gateway::{Pipeline, Reply};

use crate::caller::{before_faults, send};
use crate::faulty::{Fault, Faults};
use crate::ideal::Ideal;
use crate::random::Random;
use crate::service_fixtures as fixtures;
use crate::support::{Backend, World};

const LOST: Option<Fault> = Some(Fault::LostBefore("lost"));
const LOST_AFTER: Option<Fault> = Some(Fault::LostAfter("lost"));
const FINE: Option<Fault> = None;

/// A gateway whose upstream suffers what a test says, and nothing else.
struct Scene {
    world: World,
    faults: Arc<Faults>,
    gateway: Pipeline,
}

impl Scene {
    async fn new() -> Self {
        let world = World::over(Backend::InMemory).await;
        fixtures::platform(&world).await;
        // Of no interest here.
        let ideal = Arc::new(Ideal::new(World::over(Backend::InMemory).await));
        let faults = Faults::new(Random::seeded(0), ideal);
        faults.calm(true);
        let gateway = before_faults(&world, &faults, None).await;
        Self {
            world,
            faults,
            gateway,
        }
    }

    /// Sends a request while its attempts, the probes among them, suffer this.
    async fn send<T: Typed>(
        &self,
        request: T,
        faults: impl IntoIterator<Item = Option<Fault>>,
    ) -> Result<Reply, Error> {
        self.faults.script(faults);
        send(&self.gateway, request.into_request(), Some("k")).await
    }
}

#[tokio::test]
async fn a_name_that_was_taken_before_is_a_refusal_where_a_token_would_tell_ours() {
    let scene = Scene::new().await;
    scene.world.ok(fixtures::create_component("cache")).await;
    let create = || fixtures::create_component("cache");
    scene.send(create(), [LOST]).await.unwrap_err();
    let error = scene.send(create(), [FINE]).await.unwrap_err();
    assert!(error.is_taken(), "{error:?}");
}

#[tokio::test]
async fn what_is_not_there_is_refused_also_after_an_answer_was_lost() {
    let scene = Scene::new().await;
    let update = || pb::UpdateEnvironmentTemplateRequest {
        name: "nothing".to_owned(),
        description: Some("d".to_owned()),
        ..Default::default()
    };
    scene.send(update(), [FINE, LOST]).await.unwrap_err();
    let error = scene.send(update(), []).await.unwrap_err();
    assert!(error.is_not_found(), "{error:?}");
}

#[tokio::test]
async fn what_is_there_only_since_leaves_it_unknown() {
    let scene = Scene::new().await;
    let update = || pb::UpdateEnvironmentTemplateRequest {
        name: "new".to_owned(),
        description: Some("d".to_owned()),
        ..Default::default()
    };
    scene.send(update(), [FINE, LOST, LOST]).await.unwrap_err();
    let create = pb::CreateEnvironmentTemplateRequest {
        name: "new".to_owned(),
        ..Default::default()
    };
    scene.world.ok(create).await;
    let error = scene.send(update(), []).await.unwrap_err();
    assert_eq!(*error.kind, ErrorKind::OutcomeUnknown);
}

#[tokio::test]
async fn a_description_is_told_from_a_deployment_that_ends_meanwhile() {
    let scene = Scene::new().await;
    let deploy = pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
        ..Default::default()
    };
    scene.world.ok(deploy).await;
    let describe = || pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        description: Some("ours".to_owned()),
        deployment_type: pb::DeploymentUpdateType::None.into(),
        ..Default::default()
    };
    // Neither the call nor its probe.
    let error = scene
        .send(describe(), [FINE, LOST, LOST])
        .await
        .unwrap_err();
    assert_eq!(*error.kind, ErrorKind::OutcomeUnknown);
    scene.world.step().await;
    scene.send(describe(), []).await.unwrap();
    let read = pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    };
    let found = scene.world.ok(read).await.environment.unwrap();
    assert_eq!(found.description(), "ours");
}

#[tokio::test]
async fn lists_that_were_not_given_are_not_looked_for() {
    let scene = Scene::new().await;
    let update = || pb::UpdateServiceTemplateVersionRequest {
        template_name: "job".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "0".to_owned(),
        description: Some("ours".to_owned()),
        ..Default::default()
    };
    scene.world.clock.advance(crate::support::STEP);
    scene.send(update(), [FINE, LOST_AFTER]).await.unwrap();
}

#[tokio::test]
async fn a_deployment_that_may_be_the_calls_own_is_not_told_as_that_of_another() {
    let scene = Scene::new().await;
    let deploy = || pb::UpdateEnvironmentRequest {
        name: "prod".to_owned(),
        deployment_type: pb::DeploymentUpdateType::CurrentVersion.into(),
        ..Default::default()
    };
    // Its second copy is refused, and the probe is lost.
    let twice = Some(Fault::Twice(true));
    let error = scene.send(deploy(), [FINE, twice, LOST]).await.unwrap_err();
    assert_eq!(*error.kind, ErrorKind::OutcomeUnknown, "{error:?}");
    let reply = scene.send(deploy(), []).await.unwrap();
    assert!(!reply.replayed);
}

#[tokio::test]
async fn a_change_that_something_under_way_has_refused_begins_anew_whatever_came_of_that() {
    let scene = Scene::new().await;
    let version = fixtures::service_version("job", Some("1"));
    scene.world.ok(version).await;
    let publish = || pb::UpdateServiceTemplateVersionRequest {
        template_name: "job".to_owned(),
        major_version: "1".to_owned(),
        minor_version: "1".to_owned(),
        status: pb::TemplateVersionStatus::Published.into(),
        ..Default::default()
    };
    let refused = scene.send(publish(), []).await.unwrap_err();
    assert!(refused.is_in_progress(), "{refused:?}");
    scene.world.step().await;
    scene.send(publish(), []).await.unwrap();
}

#[tokio::test]
async fn tags_make_the_same_request_in_any_order() {
    let scene = Scene::new().await;
    let create = |keys: [&str; 2]| pb::CreateEnvironmentTemplateRequest {
        name: "bus".to_owned(),
        tags: keys.map(|key| crate::support::tag(key, "v")).into(),
        ..Default::default()
    };
    scene.send(create(["a", "b"]), []).await.unwrap();
    assert!(scene.send(create(["b", "a"]), []).await.unwrap().replayed);
    scene.send(create(["b", "c"]), []).await.unwrap_err();
}
