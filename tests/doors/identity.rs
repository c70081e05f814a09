//! As whom the upstream is asked: roles that are assumed for callers, and upstreams by name. Both
//! STS and the upstreams are the test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use proton_gateway::admission::Guards;
use proton_gateway::api::pb;
use proton_gateway::api::pb::wait_service_server::WaitService;
use proton_gateway::auth::Principal;
use proton_gateway::backend::aws::Aws;
use proton_gateway::edge::Arrival;
use proton_gateway::error::{Error, ErrorKind, Origin};
use proton_gateway::gateway::{Call, Door, Gateway};
use proton_gateway::pipeline;
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use proton_gateway::upstream::{Assume, Identities, Rule};
use tokio::sync::watch;

/// What was asked of a server: the form of an STS request, or the access key of a call.
type Asked = Arc<Mutex<Vec<String>>>;

/// STS and Proton at one address.
struct Upstream {
    url: String,
    /// Forms that STS got.
    assumed: Asked,
    /// Access keys that signed calls.
    keys: Asked,
    _stop: watch::Sender<bool>,
}

/// The access key of an `Authorization` header.
fn access_key(request: &Request<hyper::body::Incoming>) -> String {
    let header = request.headers()["authorization"].to_str().unwrap();
    let after = header.split_once("Credential=").unwrap().1;
    after.split('/').next().unwrap().to_owned()
}

impl Upstream {
    async fn start() -> Self {
        let (assumed, keys) = (Asked::default(), Asked::default());
        let (forms, calls) = (assumed.clone(), keys.clone());
        let answer = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
            let (forms, calls) = (forms.clone(), calls.clone());
            async move {
                let key = access_key(&request);
                let target = request.headers().contains_key("x-amz-target");
                let body = request.into_body().collect().await.unwrap().to_bytes();
                if target {
                    calls.lock().unwrap().push(key);
                    let body =
                        r#"{"environment": {"name": "prod", "deploymentStatus": "IN_PROGRESS"}}"#;
                    return Ok::<_, Infallible>(Response::new(Full::from(body)));
                }
                let form = String::from_utf8(body.to_vec()).unwrap();
                let number = {
                    let mut forms = forms.lock().unwrap();
                    forms.push(form.clone());
                    forms.len()
                };
                Ok(sts(&form, number))
            }
        });
        let (stop, shutdown) = Shutdown::channel();
        let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        tokio::spawn(server::serve(listener, answer, shutdown));
        Self {
            url: format!("http://{address}"),
            assumed,
            keys,
            _stop: stop,
        }
    }

    async fn config(&self) -> SdkConfig {
        aws_config::defaults(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("OWN", "secret", None, None, "tests"))
            .endpoint_url(&self.url)
            .load()
            .await
    }

    fn assumed(&self) -> Vec<String> {
        self.assumed.lock().unwrap().clone()
    }

    fn keys(&self) -> BTreeSet<String> {
        self.keys.lock().unwrap().iter().cloned().collect()
    }
}

/// STS's answer: credentials that are called after the number of the request.
fn sts(form: &str, number: usize) -> Response<Full<Bytes>> {
    if form.contains("forbidden") {
        let body = "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code>\
            <Message>not you</Message></Error></ErrorResponse>";
        let mut response = Response::new(Full::from(body));
        *response.status_mut() = http::StatusCode::FORBIDDEN;
        return response;
    }
    let body = format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult>\
         <Credentials><AccessKeyId>ASIA{number}</AccessKeyId><SecretAccessKey>s</SecretAccessKey>\
         <SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>\
         </AssumeRoleResult></AssumeRoleResponse>"
    );
    Response::new(Full::from(body))
}

fn assume(role: &str) -> Assume {
    Assume {
        role_arn: format!("arn:aws:iam::123456789012:role/{role}"),
        external_id: None,
        session_name: "proton-gateway".to_owned(),
        source_identity: None,
        session_tags: BTreeMap::new(),
        duration: Duration::from_secs(3600),
    }
}

fn rule(role: &str, assume: Assume) -> Rule {
    Rule {
        principal: None,
        role: Some(role.to_owned()),
        upstream: None,
        assume: Some(assume),
    }
}

fn caller(id: &str, role: &str) -> Arrival {
    Arrival {
        principal: Arc::new(Principal {
            id: id.to_owned(),
            roles: [role.to_owned()].into(),
            ..Principal::clone(&Principal::anonymous())
        }),
        ..Arrival::default()
    }
}

async fn gateway(upstream: &Upstream, rules: Vec<Rule>) -> Gateway {
    let named = BTreeMap::new();
    let aws = Aws::of(upstream.config().await, named, Some(upstream.url.clone()));
    over(aws, Identities::new(BTreeSet::new(), rules))
}

fn over(aws: Aws, identities: Identities) -> Gateway {
    let guards = Guards {
        identities,
        ..Guards::default()
    };
    Gateway::new(pipeline::build(aws, Metrics::new().unwrap(), &guards)).guarded_by(guards)
}

async fn get(gateway: &Gateway, arrival: &Arrival) -> Result<(), Error> {
    let request = pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    };
    let request = proton_gateway::api::Request::GetEnvironment(request);
    let call = Call::new(request, Door::Grpc, arrival);
    gateway.call(call).await.map(drop)
}

#[tokio::test]
async fn callers_of_one_role_share_its_credentials_and_other_roles_have_their_own() {
    let upstream = Upstream::start().await;
    let rules = vec![
        rule("developer", assume("dev")),
        rule("viewer", assume("view")),
    ];
    let gateway = gateway(&upstream, rules).await;
    for (id, role) in [
        ("ann", "developer"),
        ("bob", "developer"),
        ("eve", "viewer"),
        ("ann", "developer"),
    ] {
        get(&gateway, &caller(id, role)).await.unwrap();
    }
    assert_eq!(upstream.assumed().len(), 2, "{:?}", upstream.assumed());
    let keys = upstream.keys.lock().unwrap().clone();
    assert_eq!(keys, ["ASIA1", "ASIA1", "ASIA2", "ASIA1"]);
    let stranger = get(&gateway, &caller("sue", "none")).await.unwrap_err();
    let origin = Origin::Gateway;
    assert_eq!(*stranger.kind, ErrorKind::AccessDenied { origin });
}

#[tokio::test]
async fn a_session_says_who_it_is_for() {
    let upstream = Upstream::start().await;
    let told = Assume {
        external_id: Some("42".to_owned()),
        session_name: "{principal}".to_owned(),
        source_identity: Some("{principal}".to_owned()),
        session_tags: [("caller".to_owned(), "{principal}".to_owned())].into(),
        ..assume("dev")
    };
    let gateway = gateway(&upstream, vec![rule("developer", told)]).await;
    get(&gateway, &caller("ann@example.com", "developer"))
        .await
        .unwrap();
    let form = upstream.assumed().remove(0);
    for part in [
        "RoleSessionName=ann%40example.com",
        "SourceIdentity=ann%40example.com",
        "Tags.member.1.Key=caller",
        "Tags.member.1.Value=ann%40example.com",
        "ExternalId=42",
        "DurationSeconds=3600",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
}

#[tokio::test]
async fn a_role_that_sts_refuses_is_named_and_nothing_is_sent() {
    let upstream = Upstream::start().await;
    let gateway = gateway(&upstream, vec![rule("developer", assume("forbidden"))]).await;
    let refused = get(&gateway, &caller("ann", "developer"))
        .await
        .unwrap_err();
    let origin = Origin::Upstream;
    assert_eq!(
        *refused.kind,
        ErrorKind::AccessDenied { origin },
        "{refused}"
    );
    assert!(refused.message.contains("role/forbidden"), "{refused}");
    assert!(upstream.keys().is_empty());
}

#[tokio::test]
async fn a_named_upstream_is_asked_where_it_is() {
    let (unnamed, payments) = (Upstream::start().await, Upstream::start().await);
    let named = BTreeMap::from([("payments".to_owned(), payments.config().await)]);
    let aws = Aws::of(unnamed.config().await, named, None);
    let names = BTreeSet::from(["payments".to_owned()]);
    let gateway = over(aws, Identities::new(names, Vec::new()));
    let to = |upstream: Option<&str>| Arrival {
        upstream: upstream.map(Arc::from),
        ..Arrival::default()
    };
    get(&gateway, &to(Some("payments"))).await.unwrap();
    assert!(unnamed.keys().is_empty());
    assert_eq!(payments.keys().len(), 1);
    get(&gateway, &to(None)).await.unwrap();
    assert_eq!(unnamed.keys().len(), 1);
    let unknown = get(&gateway, &to(Some("billing"))).await.unwrap_err();
    assert!(
        matches!(*unknown.kind, ErrorKind::Invalid { .. }),
        "{unknown}"
    );
    assert!(unknown.message.contains("proton-upstream"), "{unknown}");
}

#[tokio::test]
async fn pollers_of_different_credentials_are_kept_apart_and_those_of_the_same_are_one() {
    let upstream = Upstream::start().await;
    let rules = vec![
        rule("developer", assume("dev")),
        rule("viewer", assume("view")),
    ];
    let gateway = gateway(&upstream, rules).await;
    let waits = super::waits(gateway);
    let mut open = Vec::new();
    for (id, role) in [
        ("ann", "developer"),
        ("bob", "developer"),
        ("eve", "viewer"),
    ] {
        let mut request = tonic::Request::new(pb::WaitEnvironmentDeployedRequest {
            name: "prod".to_owned(),
            options: None,
        });
        request.extensions_mut().insert(caller(id, role));
        open.push(waits.wait_environment_deployed(request).await.unwrap());
    }
    assert_eq!(upstream.assumed().len(), 2);
    let keys: Vec<_> = upstream.keys().into_iter().collect();
    assert_eq!(keys, ["ASIA1", "ASIA2"]);
}
