//! The rpc `Explain`.

use std::collections::HashMap;
use std::sync::Arc;

use proton_gateway::admission::Guards;
use proton_gateway::api::own::gateway_service_server::GatewayService;
use proton_gateway::api::own::{Decision, ExplainRequest, ExplainResponse, SupposedPrincipal};
use proton_gateway::audit::Audit;
use proton_gateway::auth::Principal;
use proton_gateway::clock::SystemClock;
use proton_gateway::config::audit::AuditConfig;
use proton_gateway::deploy::Deploys;
use proton_gateway::edge::gateway_service::Own;
use proton_gateway::limits::Limiter;
use proton_gateway::telemetry::Metrics;
use tonic::{Code, Status};

use super::{Guarded, PolicyFile, caller, request};

const SHOP: &str = "@id(\"shop-owners\")
permit (principal, action in Proton::Action::\"write\", resource in Proton::Service::\"shop\")
when { principal.hasTag(\"team\") && principal.getTag(\"team\") == \"shop\" };";

fn may(operation: &str, resource: &str) -> ExplainRequest {
    ExplainRequest {
        operation: operation.to_owned(),
        resource: resource.to_owned(),
        ..Default::default()
    }
}

async fn ask(
    guarded: &Guarded,
    principal: &Arc<Principal>,
    question: ExplainRequest,
) -> Result<ExplainResponse, Status> {
    let answer = guarded.own().explain(request(principal, question)).await;
    answer.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_caller_learns_what_decides_about_itself() {
    let file = PolicyFile::with(SHOP);
    let guarded = Guarded::empty(&file.config());
    let viewer = caller("vera", &["viewer"]);
    let answer = ask(&guarded, &viewer, may("GetServiceInstance", "shop/blue"))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Allow);
    assert_eq!(answer.policy_ids, ["built-in:viewer"]);
    assert_eq!(answer.policy_version, guarded.authorizer.version());
    let answer = ask(&guarded, &viewer, may("UpdateServiceInstance", "shop/blue"))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert!(answer.policy_ids.is_empty() && !answer.out_of_scope);
}

#[tokio::test]
async fn asking_about_others_is_for_administrators() {
    let file = PolicyFile::with(SHOP);
    let guarded = Guarded::empty(&file.config());
    let question = || ExplainRequest {
        principal: Some(SupposedPrincipal {
            id: "sam".to_owned(),
            attributes: HashMap::from([("team".to_owned(), "shop".to_owned())]),
            ..Default::default()
        }),
        ..may("DeleteService", "shop")
    };
    // Saying what one would be is asking about another one, too.
    for (id, role) in [("vera", "viewer"), ("dora", "developer"), ("sam", "viewer")] {
        let refused = ask(&guarded, &caller(id, &[role]), question())
            .await
            .unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{id}: {refused:?}");
    }
    let answer = ask(&guarded, &caller("ada", &["administrator"]), question())
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Allow);
    assert_eq!(answer.policy_ids, ["shop-owners"]);
}

#[tokio::test]
async fn scopes_are_told_apart_from_policies() {
    let guarded = Guarded::empty(&Default::default());
    let mut reader = (*caller("ada", &["administrator"])).clone();
    reader.scopes.insert("read".to_owned());
    let answer = ask(&guarded, &Arc::new(reader), may("DeleteService", "shop"))
        .await
        .unwrap();
    assert_eq!(answer.decision(), Decision::Deny);
    assert!(answer.out_of_scope);
}

#[tokio::test]
async fn where_nobody_is_authorized_everything_is_allowed_and_no_policy_says_so() {
    let guarded = Guarded::empty(&Default::default());
    let open = Own::new(
        Deploys::new(guarded.gateway.clone(), guarded.waits.clone()),
        None,
    );
    let question = request(&Principal::anonymous(), may("DeleteService", "shop"));
    let answer = open.explain(question).await.unwrap().into_inner();
    assert_eq!(answer.decision(), Decision::Allow);
    assert!(answer.policy_ids.is_empty() && answer.policy_version.is_empty());
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_refused_with_the_field() {
    let guarded = Guarded::empty(&Default::default());
    let ada = caller("ada", &["administrator"]);
    for (question, field) in [
        (may("GetServce", "shop"), "operation"),
        (may("GetServiceInstance", "shop"), "resource"),
        (may("ListServices", "shop"), "resource"),
        (
            ExplainRequest {
                principal: Some(SupposedPrincipal::default()),
                ..may("GetService", "shop")
            },
            "principal.id",
        ),
    ] {
        let refused = ask(&guarded, &ada, question).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(
            refused.message().starts_with(&format!("{field}: ")),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn questions_are_limited_and_denied_ones_are_on_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let guarded = Guarded::empty(&Default::default());
    let metrics = Metrics::new().unwrap();
    let section = AuditConfig {
        file: Some(path),
        ..AuditConfig::default()
    };
    let audit = Audit::open(&section, Arc::new(SystemClock), metrics.clone()).unwrap();
    let limits = toml::from_str("read = { rate = \"1/h\", burst = 2 }").unwrap();
    let guards = Guards {
        audit: Some(audit.clone()),
        authorizer: Some(guarded.authorizer.clone()),
        limiter: Limiter::new(&limits, metrics),
        ..Guards::default()
    };
    let gateway = guarded.gateway.clone().guarded_by(guards);
    let deploys = Deploys::new(gateway, guarded.waits.clone());
    let own = Own::new(deploys, Some(guarded.authorizer.clone()));
    let vera = caller("vera", &["viewer"]);
    let about_ada = ExplainRequest {
        principal: Some(SupposedPrincipal {
            id: "ada".to_owned(),
            ..Default::default()
        }),
        ..may("DeleteService", "shop")
    };
    let ask = |question| own.explain(request(&vera, question));
    let denied = ask(about_ada).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    ask(may("GetService", "shop")).await.unwrap();
    let limited = ask(may("GetService", "shop")).await.unwrap_err();
    assert_eq!(limited.code(), Code::ResourceExhausted);
    audit.flush().await;
    let denials = std::fs::read_to_string(folder.path().join("audit.log.denials")).unwrap();
    let record: serde_json::Value = serde_json::from_str(denials.trim()).unwrap();
    assert_eq!(record["rpc"], "Explain");
    assert_eq!(record["principal"], "vera");
}
