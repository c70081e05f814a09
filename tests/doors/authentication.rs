//! Who may come through the doors, where callers have to prove who they are.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use aws_sdk_proton::error::ProvideErrorMetadata;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use proton_gateway::admission::Guards;
use proton_gateway::api::health::HealthCheckRequest;
use proton_gateway::api::health::health_client::HealthClient;
use proton_gateway::api::pb;
use proton_gateway::api::pb::proton_service_client::ProtonServiceClient;
use proton_gateway::auth::{Authenticator, Method, Principal, tokens};
use proton_gateway::clock::SystemClock;
use proton_gateway::edge::aws_door::AwsDoor;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::gateway::{Call, Gateway, Reply};
use proton_gateway::pipeline;
use proton_gateway::reload::Reload;
use proton_gateway::server::{self, Shutdown};
use proton_gateway::telemetry::Metrics;
use serde_json::json;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::{Code, Status};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_types::StatusExt;
use tower::ServiceExt;

use super::redaction::Log;
use super::{environment, waits};

pub(super) const ACCESS_KEY: &str = "AKIDEXAMPLE";
const ISSUER: &str = "https://issuer.example";

/// Both doors, and credentials for them.
pub(super) struct World {
    gateway: Gateway,
    authenticator: Authenticator,
    /// Who made calls, as the backend sees them.
    callers: Arc<Mutex<Vec<Arc<Principal>>>>,
    pub(super) token: String,
    secret: String,
    issuer: EncodingKey,
}

impl World {
    pub(super) async fn new() -> Self {
        let callers: Arc<Mutex<Vec<_>>> = Arc::default();
        let seen = Arc::clone(&callers);
        let backend = tower::service_fn(move |call: Call| {
            seen.lock().unwrap().push(call.principal);
            std::future::ready(Ok(Reply::new(environment())))
        });
        let metrics = Metrics::new().unwrap();
        let gateway = Gateway::new(pipeline::build(backend, metrics, &Guards::default()));

        let pair =
            EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        let issuer = EncodingKey::from_ec_der(pair.unwrap().as_ref());
        let key = Jwk::from_encoding_key(&issuer, Algorithm::ES256).unwrap();
        let files = tempfile::tempdir().unwrap();
        let jwks = files.path().join("jwks");
        std::fs::write(&jwks, json!({ "keys": [key] }).to_string()).unwrap();
        let (token, secret) = (tokens::new().unwrap(), tokens::new().unwrap());
        let secret_file = files.path().join("secret");
        std::fs::write(&secret_file, &secret).unwrap();
        let section = json!({
            "methods": ["token", "jwt", "access-key"],
            "tokens": [{"id": "ci", "hash": String::from(tokens::hash_of(&token).unwrap()), "roles": ["viewer"]}],
            "jwt": {"issuers": [{"issuer": ISSUER, "audiences": ["proton"], "jwks-file": jwks}]},
            "access-keys": [{"access-key-id": ACCESS_KEY, "secret-file": secret_file, "id": "robot"}],
        });
        let section = serde_json::from_value(section).unwrap();
        let (_ask, reload) = Reload::channel();
        let clock = Arc::new(SystemClock);
        let (authenticator, _) = Authenticator::new(&section, &reload, clock).await.unwrap();
        Self {
            gateway,
            authenticator,
            callers,
            token,
            secret,
            issuer,
        }
    }

    pub(super) fn grpc(&self) -> Edge<Routes> {
        let waits = waits(self.gateway.clone());
        let door = grpc_door::routes(self.gateway.clone(), waits, Health::default()).unwrap();
        door.authenticated_by(self.authenticator.clone())
    }

    pub(super) fn aws(&self) -> AwsDoor {
        AwsDoor::new(self.gateway.clone()).authenticated_by(self.authenticator.clone())
    }

    pub(super) fn jwt(&self, audience: &str) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let claims =
            json!({"iss": ISSUER, "sub": "ci", "aud": audience, "iat": now, "exp": now + 600});
        jsonwebtoken::encode(&Header::new(Algorithm::ES256), &claims, &self.issuer).unwrap()
    }

    /// The principals of the calls that reached the backend.
    fn callers(&self) -> Vec<(String, Method)> {
        let callers = self.callers.lock().unwrap();
        let short = |caller: &Arc<Principal>| (caller.id.clone(), caller.method);
        callers.iter().map(short).collect()
    }
}

fn get() -> pb::GetEnvironmentRequest {
    pb::GetEnvironmentRequest {
        name: "prod".to_owned(),
    }
}

/// A call with these headers `authorization`.
pub(super) fn call(credentials: &[&str]) -> tonic::Request<pb::GetEnvironmentRequest> {
    let mut request = tonic::Request::new(get());
    for credential in credentials {
        let value: MetadataValue<_> = credential.parse().unwrap();
        request.metadata_mut().append("authorization", value);
    }
    request
}

async fn refusal(world: &World, credentials: &[&str]) -> Status {
    let mut client = ProtonServiceClient::new(world.grpc());
    client.get_environment(call(credentials)).await.unwrap_err()
}

#[tokio::test]
async fn a_call_on_the_grpc_door_reaches_the_backend_with_its_caller() {
    let world = World::new().await;
    let mut client = ProtonServiceClient::new(world.grpc());
    for credential in [&world.token, &world.jwt("proton")] {
        let request = call(&[&format!("Bearer {credential}")]);
        client.get_environment(request).await.unwrap();
    }
    let jwt = (format!("{ISSUER}#ci"), Method::Jwt);
    assert_eq!(world.callers(), [("ci".to_owned(), Method::Token), jwt]);
    assert!(world.callers.lock().unwrap()[0].roles.contains("viewer"));
}

#[tokio::test]
async fn a_caller_who_is_not_known_is_refused_on_the_grpc_door_with_the_reason() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let foreign = format!("Bearer {}", world.jwt("somebody"));
    for (credentials, reason) in [
        (&[][..], "there is no credential; accepted: a token"),
        (&["Bearer pgw_wrong"], "the token is not known"),
        (&[foreign.as_str()], "the token is for another audience"),
        (
            &[token.as_str(), token.as_str()],
            "there is more than one `authorization`",
        ),
        (
            &["AWS4-HMAC-SHA256 Credential=a"],
            "the credential is of no accepted kind",
        ),
    ] {
        let status = refusal(&world, credentials).await;
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().starts_with(reason), "{status}");
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "UNAUTHENTICATED");
        assert!(details.retry_info().is_none());
    }
    assert_eq!(world.callers(), []);
}

#[tokio::test]
async fn health_is_told_to_anybody_and_the_contract_is_not() {
    let world = World::new().await;
    let mut health = HealthClient::new(world.grpc());
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
    let mut reflection = ServerReflectionClient::new(world.grpc());
    let asked = reflection
        .server_reflection_info(tokio_stream::empty())
        .await;
    assert_eq!(asked.unwrap_err().code(), Code::Unauthenticated);
}

/// What the AWS door says to a request with these headers: its status, and the exception.
async fn asked(world: &World, headers: &[(&str, &str)]) -> (StatusCode, String) {
    let mut request = Request::post("/")
        .header("content-type", "application/x-amz-json-1.0")
        .header("x-amz-target", "AwsProton20200720.GetEnvironment");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = Full::new(Bytes::from_static(b"{\"name\":\"prod\"}"));
    let response = world
        .aws()
        .oneshot(request.body(body).unwrap())
        .await
        .unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let exception = body["__type"].as_str().unwrap_or_default();
    let exception = exception.rsplit('#').next().unwrap_or_default();
    (status, exception.to_owned())
}

#[tokio::test]
async fn the_aws_door_refuses_the_unsigned_as_aws_does_and_takes_bearers() {
    let world = World::new().await;
    let token = format!("Bearer {}", world.token);
    let jwt = format!("Bearer {}", world.jwt("proton"));
    let signed = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20270115/r/proton/aws4_request, SignedHeaders=host;x-amz-date;x-amz-target, Signature=00";
    for (headers, exception) in [
        (&[][..], "MissingAuthenticationTokenException"),
        (
            &[("authorization", "AWS4-HMAC-SHA256 x")],
            "IncompleteSignatureException",
        ),
        (
            &[
                ("authorization", signed),
                ("x-amz-date", "20150115T080000Z"),
            ],
            "InvalidSignatureException",
        ),
        (
            &[("authorization", signed), ("x-amz-security-token", "x")],
            "UnrecognizedClientException",
        ),
        (
            &[("authorization", "Bearer pgw_wrong")],
            "UnrecognizedClientException",
        ),
    ] {
        let answer = asked(&world, headers).await;
        assert_eq!(answer, (StatusCode::FORBIDDEN, exception.to_owned()));
    }
    assert_eq!(world.callers(), []);
    for credential in [&token, &jwt] {
        let (status, _) = asked(&world, &[("authorization", credential)]).await;
        assert_eq!(status, StatusCode::OK);
    }
    assert_eq!(world.callers().len(), 2);
}

/// AWS's own client with this secret key: what it gets, or the exception.
// AWS has closed Proton to new customers; the protocol stays what it is.
#[allow(deprecated)]
async fn sdk(address: SocketAddr, secret: &str) -> Result<(), String> {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .region(Region::new("eu-central-1"))
        .credentials_provider(Credentials::new(ACCESS_KEY, secret, None, None, "tests"))
        .endpoint_url(format!("http://{address}"))
        .load()
        .await;
    let client = aws_sdk_proton::Client::new(&config);
    match client.get_environment().name("prod").send().await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code().unwrap_or_default().to_owned()),
    }
}

#[tokio::test]
async fn awss_own_client_is_known_by_its_secret_key() {
    let world = World::new().await;
    let (_stop, shutdown) = Shutdown::channel();
    let (listener, address) = server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    tokio::spawn(server::serve(listener, world.aws(), shutdown));
    assert_eq!(sdk(address, &world.secret).await, Ok(()));
    assert_eq!(world.callers(), [("robot".to_owned(), Method::AccessKey)]);
    let refused = sdk(address, "another secret of somebody else").await;
    assert_eq!(refused, Err("InvalidSignatureException".to_owned()));
    assert_eq!(world.callers().len(), 1);
}

/// Good and bad credentials through both doors, from a thread whose own log lines are not kept:
/// what clients print is not ours.
async fn visit(world: &World, grpc: SocketAddr, aws: SocketAddr) -> Vec<String> {
    let secrets = [
        &world.token,
        &world.secret,
        &world.jwt("proton"),
        &world.jwt("somebody"),
    ]
    .map(Clone::clone);
    let shown = secrets.clone();
    let visit = move || {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        runtime.block_on(async {
            let channel = tonic::transport::Endpoint::new(format!("http://{grpc}")).unwrap();
            let mut client = ProtonServiceClient::new(channel.connect().await.unwrap());
            for secret in &shown {
                for credential in [format!("Bearer {secret}"), format!("Bearer {secret}x")] {
                    drop(client.get_environment(call(&[&credential])).await);
                }
                drop(sdk(aws, secret).await);
            }
        });
    };
    tokio::task::spawn_blocking(visit).await.unwrap();
    secrets.to_vec()
}

#[tokio::test]
async fn no_credential_is_in_a_log_line_even_at_the_finest_level() {
    let world = World::new().await;
    let (_stop, shutdown) = Shutdown::channel();
    let (grpc, aws) = (
        server::bind(([127, 0, 0, 1], 0).into()).await.unwrap(),
        server::bind(([127, 0, 0, 1], 0).into()).await.unwrap(),
    );
    tokio::spawn(server::serve(grpc.0, world.grpc(), shutdown.clone()));
    tokio::spawn(server::serve(aws.0, world.aws(), shutdown));
    let log = Log::default();
    let guard = log.listen();
    let secrets = visit(&world, grpc.1, aws.1).await;
    drop(guard);
    let text = log.text();
    for expected in [
        "refused",
        "the token is not known",
        "GetEnvironment",
        "h2::",
    ] {
        assert!(text.contains(expected), "no line with {expected}: {text}");
    }
    for secret in secrets {
        // Its last part, which is in every form that it could be printed in.
        let part = &secret[secret.len() - 20..];
        let line = text.lines().find(|line| line.contains(part));
        assert_eq!(line, None);
    }
}
