//! The configuration read again (SIGHUP).

use proton_gateway::config::authentication::Hash;
use tonic::Code;
use tonic::metadata::AsciiMetadataValue;

use super::*;

/// Tokens as `proton-gateway token new` makes them.
const FIRST: &str = "pgw_0123456789012345678901234567890123456789012";
const SECOND: &str = "pgw_9876543210987654321098765432109876543210987";

/// A configuration in which `token` is good, with so many calls in a burst.
fn config(token: &str, burst: u32, more: &str) -> String {
    let hash = String::from(Hash::of(token));
    format!(
        "{more}\n[authentication]\nmethods = [\"token\"]\n\
         [[authentication.tokens]]\nid = \"ci\"\nroles = [\"viewer\"]\nhash = {hash:?}\n\
         [limits]\nread = {{ rate = \"1/h\", burst = {burst} }}\n"
    )
}

/// What a caller with `token` is answered.
async fn ask(client: &Client, token: &str) -> Code {
    let mut request = tonic::Request::new(pb::GetAccountSettingsRequest::default());
    let bearer: AsciiMetadataValue = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    match client.clone().get_account_settings(request).await {
        Ok(_) => Code::Ok,
        Err(status) => status.code(),
    }
}

async fn configuration(running: &Running) -> serde_json::Value {
    let (_, text) = running.page("/healthz").await;
    let page: serde_json::Value = serde_json::from_str(&text).unwrap();
    page["configuration"].clone()
}

#[tokio::test]
async fn what_can_change_does_what_cannot_is_named_and_what_is_wrong_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("gateway.toml");
    fs::write(&file, config(FIRST, 1, "")).unwrap();
    let state = folder.path().join("state");
    let running = Running::with(&state, &["--config", file.to_str().unwrap()]).await;
    let client = running.client().await;
    assert_eq!(ask(&client, FIRST).await, Code::Ok);
    assert_eq!(ask(&client, FIRST).await, Code::ResourceExhausted);
    assert_eq!(ask(&client, SECOND).await, Code::Unauthenticated);

    // The limits and the tokens; the region has to wait.
    let new = config(SECOND, 1000, "region = \"eu-west-1\"");
    fs::write(&file, &new).unwrap();
    running.signal("HUP");
    running.says("takes effect after a restart: region").await;
    eventually("the new token is good, and the limit is wide", || async {
        (ask(&client, SECOND).await == Code::Ok).then_some(())
    })
    .await;
    assert_eq!(ask(&client, SECOND).await, Code::Ok);
    assert_eq!(ask(&client, FIRST).await, Code::Unauthenticated);
    let pending = serde_json::json!({ "current": false, "needs-a-restart": ["region"] });
    assert_eq!(configuration(&running).await, pending);
    let metric = || async { running.page("/metrics").await.1 };
    assert!(
        metric()
            .await
            .contains("proton_gateway_configuration_current 0")
    );

    // A wrong one changes nothing.
    fs::write(&file, config(FIRST, 1, "log = \"inof\"")).unwrap();
    running.signal("HUP");
    running
        .says("the configuration is wrong; the one before holds")
        .await;
    eventually("the health says so", || async {
        let now = configuration(&running).await;
        let problem = now["problem"].as_str().unwrap_or_default().to_owned();
        problem.starts_with("log: ").then_some(())
    })
    .await;
    assert_eq!(ask(&client, SECOND).await, Code::Ok);

    // What holds is what the file says again.
    fs::write(&file, config(SECOND, 1000, "")).unwrap();
    running.signal("HUP");
    eventually("nothing is pending", || async {
        (configuration(&running).await["current"] == true).then_some(())
    })
    .await;
    assert!(
        metric()
            .await
            .contains("proton_gateway_configuration_current 1")
    );
    assert_eq!(running.page("/readyz").await.0, 200);
}
