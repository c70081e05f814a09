//! What is answered at the door is what the pipeline would have answered, in every byte.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Request};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use prost::Message;
use proton_gateway::admission::Guards;
use proton_gateway::api::{self, Framed, Response, pb};
use proton_gateway::auth::policy::Authorizer;
use proton_gateway::auth::{Authenticator, tokens};
use proton_gateway::cache::Cache;
use proton_gateway::cache::coherence::Coherence;
use proton_gateway::changes::Changes;
use proton_gateway::clock::ManualClock;
use proton_gateway::config::authorization::AuthorizationConfig;
use proton_gateway::config::cache::CacheConfig;
use proton_gateway::config::grpc_web::GrpcWebConfig;
use proton_gateway::edge::compression::PAYS_FROM;
use proton_gateway::edge::grpc_door::{self, Edge};
use proton_gateway::edge::health::Health;
use proton_gateway::edge::web::Web;
use proton_gateway::error::Error;
use proton_gateway::gateway::{Call, Gateway, Pipeline, Reply};
use proton_gateway::limits::Limiter;
use proton_gateway::pipeline::{self, Extras, hits::Hits};
use proton_gateway::reload::Reload;
use proton_gateway::server::Shutdown;
use proton_gateway::telemetry::Metrics;
use proton_gateway::upstream::Identities;
use proton_gateway::waits::{self, Waits};
use serde_json::json;
use tonic::service::Routes;
use tonic_types::StatusExt;
use tower::ServiceExt;

/// Whoever is known may do everything, but for `denied`.
const POLICIES: &str = "permit (principal, action, resource);
forbid (principal == Proton::Principal::\"denied\", action, resource);";
/// The same, but nobody may get `shop`.
const STRICTER: &str = "permit (principal, action, resource);
forbid (principal, action, resource == Proton::Service::\"shop\");";
/// When the token of `guest` expires.
const GUEST_EXPIRES: &str = "2023-11-15T00:00:00Z";
const CALLERS: [&str; 4] = ["alice", "denied", "tight", "guest"];

/// A gateway with all guards before a backend that counts its changes.
struct Side {
    door: Edge<Routes>,
    authorizer: Authorizer,
    policies: tempfile::NamedTempFile,
    clock: ManualClock,
    tokens: Vec<(&'static str, String)>,
    /// Calls that came as far as the pipeline.
    calls: Arc<AtomicUsize>,
    metrics: Metrics,
}

/// An answer with all that its caller sees.
#[derive(Debug, PartialEq)]
struct Answer {
    status: http::StatusCode,
    headers: HeaderMap,
    /// Of an error: the reason and the facts, which come in any order, and how long all of it is.
    details: Option<(String, BTreeMap<String, String>, usize)>,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

fn answer(call: &Call, changes: &Mutex<u32>) -> Result<Response, Error> {
    let mut changes = changes.lock().unwrap();
    Ok(match &call.request {
        api::Request::GetService(request) if request.name == "shop" => {
            Response::GetService(pb::GetServiceResponse {
                service: Some(pb::Service {
                    name: Some(request.name.clone()),
                    description: Some(changes.to_string()),
                    ..Default::default()
                }),
            })
        }
        api::Request::GetService(request) if request.name == "large" => {
            Response::GetService(pb::GetServiceResponse {
                service: Some(pb::Service {
                    name: Some(request.name.clone()),
                    description: Some("x".repeat(2 * PAYS_FROM)),
                    ..Default::default()
                }),
            })
        }
        api::Request::ListServices(_) => {
            let service = |name: &str| pb::ServiceSummary {
                name: Some(name.to_owned()),
                ..Default::default()
            };
            let services = vec![service("shop"), service("other")];
            let next_token = Some(changes.to_string());
            Response::ListServices(pb::ListServicesResponse {
                services,
                next_token,
            })
        }
        api::Request::UpdateService(_) => {
            *changes += 1;
            Response::UpdateService(pb::UpdateServiceResponse::default())
        }
        other => return Err(Error::not_found(other.operation().policy().resource, "it")),
    })
}

impl Side {
    async fn new(hits: bool, list_filter: bool) -> Self {
        let policies = tempfile::NamedTempFile::with_suffix(".cedar").unwrap();
        std::fs::write(policies.path(), POLICIES).unwrap();
        let authorizer = Authorizer::open(&AuthorizationConfig {
            policy_files: vec![policies.path().to_owned()],
            list_filter,
            ..AuthorizationConfig::default()
        })
        .unwrap();
        let metrics = Metrics::new().unwrap();
        let limits = "read = { rate = \"1000/s\", burst = 1000 }
            overrides = [{ principal = \"tight\", read = { rate = \"1/h\", burst = 4 } }]";
        let guards = Guards {
            authorizer: Some(authorizer.clone()),
            limiter: Limiter::new(&toml::from_str(limits).unwrap(), metrics.clone()),
            identities: Identities::new(["other".to_owned()].into(), Vec::new()),
            ..Guards::default()
        };
        let changes: Arc<Mutex<u32>> = Arc::default();
        let backend = tower::service_fn(move |call: Call| {
            let answer = answer(&call, &changes);
            async move { answer.map(Reply::new) }
        });
        let hour = proton_gateway::config::Span(Duration::from_secs(3600));
        let config = CacheConfig {
            enabled: true,
            state_ttl: hour,
            negative_ttl: hour,
            ..CacheConfig::default()
        };
        let cache = Cache::new(&config, Coherence::observed(), metrics.clone()).unwrap();
        let extras = Extras {
            cache: Some(cache.clone()),
            ..Extras::default()
        };
        let pipeline = pipeline::build_with(backend, metrics.clone(), &guards, extras);
        let calls: Arc<AtomicUsize> = Arc::default();
        let counter = Arc::clone(&calls);
        let counted = Pipeline::new(tower::service_fn(move |call: Call| {
            counter.fetch_add(1, Ordering::SeqCst);
            pipeline.clone().oneshot(call)
        }));
        let hits = hits.then(|| Hits::new(cache, guards.clone(), metrics.clone()));
        let gateway = Gateway::new(counted).guarded_by(guards).with_hits(hits);
        let (stop, shutdown) = Shutdown::channel();
        // Nothing is stopped in these tests.
        std::mem::forget(stop);
        let settings = waits::Settings::with_key(waits::Key::random().unwrap());
        let waits = Waits::new(gateway.clone(), Changes::default(), settings, shutdown);
        let door = grpc_door::routes(gateway, waits, Health::default()).unwrap();

        let clock = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let tokens = CALLERS.map(|caller| (caller, tokens::new().unwrap()));
        let known = tokens.iter().map(|(caller, token)| {
            let hash = String::from(tokens::hash_of(token).unwrap());
            let expires = (*caller == "guest").then_some(GUEST_EXPIRES);
            json!({"id": caller, "hash": hash, "expires": expires})
        });
        let known: Vec<_> = known.collect();
        let section = json!({"methods": ["token"], "tokens": known});
        let section = serde_json::from_value(section).unwrap();
        let (_ask, reload) = Reload::channel();
        let clock_of_callers = Arc::new(clock.clone());
        let authenticator = Authenticator::new(&section, &reload, clock_of_callers);
        let (authenticator, _) = authenticator.await.unwrap();
        Self {
            door: door.authenticated_by(authenticator),
            authorizer,
            policies,
            clock,
            tokens: tokens.into(),
            calls,
            metrics,
        }
    }

    /// What an attempt is answered with, and whether at the door.
    async fn answer(&self, attempt: &Attempt) -> (Answer, bool) {
        let before = self.calls.load(Ordering::SeqCst);
        let request = attempt.request(&self.tokens);
        let response = self.door.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let mut headers = parts.headers;
        let details = tonic::Status::from_header_map(&headers).and_then(|status| {
            let info = status.get_details_error_info()?;
            let facts = info.metadata.into_iter().collect();
            Some((info.reason, facts, status.details().len()))
        });
        headers.remove("grpc-status-details-bin");
        let answer = Answer {
            status: parts.status,
            headers,
            details,
            trailers: collected.trailers().cloned(),
            body: collected.to_bytes(),
        };
        let passed_by = self.calls.load(Ordering::SeqCst) == before;
        (answer, passed_by)
    }

    async fn say(&self, policies: &str) {
        std::fs::write(self.policies.path(), policies).unwrap();
        self.authorizer.renew().await;
    }
}

/// A request as it is sent.
#[derive(Clone)]
struct Attempt {
    caller: Option<&'static str>,
    method: &'static str,
    body: Bytes,
    headers: Vec<(&'static str, &'static str)>,
}

impl Attempt {
    fn new(caller: &'static str, method: &'static str, message: &impl Message) -> Self {
        Self {
            caller: Some(caller),
            method,
            body: Framed::of(message).bytes().clone(),
            headers: Vec::new(),
        }
    }

    fn saying(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.push((name, value));
        self
    }

    fn of_nobody(self) -> Self {
        Self {
            caller: None,
            ..self
        }
    }

    fn with(self, body: impl Into<Bytes>) -> Self {
        Self {
            body: body.into(),
            ..self
        }
    }

    fn request(&self, tokens: &[(&str, String)]) -> Request<Full<Bytes>> {
        let mut request = Request::post(format!("/proton.v1.ProtonService/{}", self.method))
            .header("content-type", "application/grpc")
            .header("x-request-id", "the-same");
        for (caller, token) in tokens {
            if self.caller == Some(caller) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
        }
        let mut request = request.body(Full::new(self.body.clone())).unwrap();
        for (name, value) in &self.headers {
            let value = value.parse().unwrap();
            request.headers_mut().insert(*name, value);
        }
        request
    }
}

fn get(caller: &'static str, name: &str) -> Attempt {
    let name = name.to_owned();
    Attempt::new(caller, "GetService", &pb::GetServiceRequest { name })
}

fn list(caller: &'static str) -> Attempt {
    Attempt::new(caller, "ListServices", &pb::ListServicesRequest::default())
}

fn update() -> Attempt {
    let request = pb::UpdateServiceRequest {
        name: "shop".to_owned(),
        ..Default::default()
    };
    Attempt::new("alice", "UpdateService", &request)
}

/// The same gateway twice: one answers at the door what it can.
struct Both {
    quick: Side,
    plain: Side,
}

impl Both {
    async fn new(list_filter: bool) -> Self {
        Self {
            quick: Side::new(true, list_filter).await,
            plain: Side::new(false, list_filter).await,
        }
    }

    /// Makes an attempt at both, compares what comes of it, and returns whether the one with
    /// hits answered at the door although the other one had to ask its pipeline.
    async fn agree(&self, attempt: &Attempt) -> bool {
        let (quick, at_door) = self.quick.answer(attempt).await;
        let (plain, refused) = self.plain.answer(attempt).await;
        assert_eq!(quick, plain);
        at_door && !refused
    }

    /// Asks until the answer is kept and known, which is the third time.
    async fn warm(&self, attempt: &Attempt) {
        assert!(!self.agree(attempt).await);
        assert!(!self.agree(attempt).await);
        assert!(self.agree(attempt).await);
    }
}

#[tokio::test(start_paused = true)]
async fn hits_are_answered_at_the_door_and_all_else_is_not() {
    let both = Both::new(false).await;
    both.warm(&get("alice", "shop")).await;
    both.warm(&list("alice")).await;
    // Another caller has to be let through first.
    assert!(!both.agree(&get("guest", "shop")).await);
    assert!(both.agree(&get("guest", "shop")).await);
    let kept = || get("alice", "shop");
    for at_door in [
        kept().saying("cache-control", "only-if-cached"),
        kept().saying("cache-control", "max-age=9"),
        kept().saying("grpc-timeout", "5S"),
        kept().saying("grpc-accept-encoding", "gzip"),
    ] {
        assert!(both.agree(&at_door).await);
    }
    let frame = kept().body;
    let compressed = [&[1], &frame[1..]].concat();
    for not_at_door in [
        kept().saying("cache-control", "no-cache"),
        kept().saying("cache-control", "max-age=0"),
        kept().saying("grpc-encoding", "gzip"),
        kept().saying("grpc-encoding", "unknown"),
        kept().saying("content-type", "application/grpc+proto"),
        kept().saying("content-type", "application/json"),
        kept().saying("proton-upstream", "other"),
        kept().saying("proton-upstream", "nowhere"),
        kept().saying("authorization", "Bearer pgw_nobody"),
        kept().of_nobody(),
        kept().with(Bytes::new()),
        kept().with(compressed),
        kept().with(frame.slice(..frame.len() - 1)),
        kept().with([&frame[..], &frame[..]].concat()),
        get("alice", "no such name!"),
        get("alice", "missing"),
        get("denied", "shop"),
        update(),
        Attempt {
            method: "NoSuchMethod",
            ..kept()
        },
    ] {
        // What is refused is refused again; misses become hits of the pipeline.
        assert!(!both.agree(&not_at_door).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_after_its_headers_is_answered_at_the_door() {
    let both = Both::new(false).await;
    let read = get("alice", "shop");
    both.warm(&read).await;
    let later = futures_util::stream::iter([read.body.clone()]).then(|message| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, std::io::Error>(Frame::data(message))
    });
    let body = StreamBody::new(Box::pin(later));
    let request = read.request(&both.quick.tokens).map(|_| body);
    let before = both.quick.calls.load(Ordering::SeqCst);
    let response = both.quick.door.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["cache-status"], "hit");
    assert_eq!(both.quick.calls.load(Ordering::SeqCst), before);
}

#[tokio::test]
async fn whoever_no_longer_waits_is_not_answered_at_the_door() {
    let both = Both::new(false).await;
    both.warm(&get("alice", "shop")).await;
    let late = get("alice", "shop").saying("grpc-timeout", "0n");
    assert!(!both.agree(&late).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_found_is_said_by_the_pipeline() {
    let both = Both::new(false).await;
    for _ in 0..4 {
        assert!(!both.agree(&get("alice", "missing")).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_ends_what_is_answered_at_the_door() {
    let both = Both::new(false).await;
    both.warm(&get("alice", "shop")).await;
    both.warm(&list("alice")).await;
    both.agree(&update()).await;
    for read in [get("alice", "shop"), list("alice")] {
        assert!(!both.agree(&read).await);
        assert!(both.agree(&read).await);
    }
}

#[tokio::test(start_paused = true)]
async fn changed_policies_hold_for_the_next_hit() {
    let both = Both::new(false).await;
    let (shop, services) = (get("alice", "shop"), list("alice"));
    both.warm(&shop).await;
    both.warm(&services).await;
    for side in [&both.quick, &both.plain] {
        side.say(STRICTER).await;
    }
    assert!(!both.agree(&shop).await);
    assert!(!both.agree(&services).await);
    assert!(both.agree(&services).await);
    for side in [&both.quick, &both.plain] {
        side.say(POLICIES).await;
    }
    assert!(!both.agree(&shop).await);
    assert!(both.agree(&shop).await);
}

#[tokio::test(start_paused = true)]
async fn an_expired_token_is_refused_where_its_bearer_was_answered_before() {
    let both = Both::new(false).await;
    both.warm(&get("guest", "shop")).await;
    for side in [&both.quick, &both.plain] {
        side.clock.advance(Duration::from_secs(24 * 3600));
    }
    assert!(!both.agree(&get("guest", "shop")).await);
}

#[tokio::test(start_paused = true)]
async fn hits_use_up_the_limit_of_their_caller_and_are_refused_beyond_it() {
    let both = Both::new(false).await;
    let read = get("tight", "shop");
    both.warm(&read).await;
    assert!(both.agree(&read).await);
    let (refused, at_door) = both.quick.answer(&read).await;
    assert_eq!(
        (refused.headers["grpc-status"].as_bytes(), at_door),
        (&b"8"[..], true)
    );
    assert_eq!(refused, both.plain.answer(&read).await.0);
}

#[tokio::test(start_paused = true)]
async fn lists_that_are_made_for_their_caller_are_not_answered_at_the_door() {
    let both = Both::new(true).await;
    for _ in 0..4 {
        assert!(!both.agree(&list("alice")).await);
    }
    both.warm(&get("alice", "shop")).await;
}

#[tokio::test(start_paused = true)]
async fn hits_are_counted_like_other_calls() {
    let both = Both::new(false).await;
    let read = get("tight", "shop");
    both.warm(&read).await;
    for _ in 0..3 {
        both.agree(&read).await;
    }
    let counts = |side: &Side| {
        let page = side.metrics.page().unwrap();
        let counted = page.lines().filter(|line| {
            let count = line.contains("_total{") || line.contains("_count{");
            count && line.starts_with("proton_gateway_")
        });
        counted.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(counts(&both.quick), counts(&both.plain));
    assert!(counts(&both.quick).len() >= 4);
}

#[tokio::test(start_paused = true)]
async fn a_page_gets_what_is_kept_by_its_own_protocol() {
    let side = Side::new(true, false).await;
    let plain = get("alice", "shop");
    while !side.answer(&plain).await.1 {}
    let (kept, _) = side.answer(&plain).await;
    let config = GrpcWebConfig {
        allowed_origins: vec!["https://console.example".to_owned()],
        credentials: false,
        max_age: proton_gateway::config::Span(Duration::ZERO),
    };
    let web = Web::new(side.door.clone(), &config);
    let asked = side.calls.load(Ordering::SeqCst);
    for (content_type, text) in [
        ("application/grpc-web+proto", false),
        ("application/grpc-web-text", true),
    ] {
        let mut request = plain
            .clone()
            .saying("content-type", content_type)
            .saying("accept", content_type)
            .saying("origin", "https://console.example")
            .request(&side.tokens);
        if text {
            let encoded = STANDARD.encode(&plain.body);
            *request.body_mut() = Full::new(encoded.into());
        }
        let response = web.clone().oneshot(request).await.unwrap();
        assert_eq!(
            response.headers()["cache-status"],
            kept.headers["cache-status"]
        );
        let mut body = response.into_body();
        let mut sent = Vec::new();
        // Each piece is a text of its own.
        while let Some(frame) = body.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            sent.extend(match text {
                true => STANDARD.decode(data).unwrap(),
                false => data.to_vec(),
            });
        }
        let (message, end) = sent.split_at(kept.body.len());
        assert_eq!(message, kept.body);
        assert_eq!(end, b"\x80\0\0\0\x0fgrpc-status:0\r\n");
    }
    assert_eq!(
        side.calls.load(Ordering::SeqCst),
        asked,
        "it was answered at the door"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_is_sent_as_it_is_also_to_whoever_takes_it_compressed() {
    let both = Both::new(false).await;
    let asked = get("alice", "large");
    both.warm(&asked).await;
    let (kept, _) = both.quick.answer(&asked).await;
    for encodings in ["gzip", "zstd,gzip", "identity"] {
        let asked = asked.clone().saying("grpc-accept-encoding", encodings);
        let (answer, at_door) = both.quick.answer(&asked).await;
        assert!(at_door);
        assert_eq!(answer.headers.get("grpc-encoding"), None);
        assert_eq!((answer.body[0], &answer.body), (0, &kept.body));
    }
    // The pipeline compresses the same answer, and says so.
    let asked = asked.saying("grpc-accept-encoding", "zstd,gzip");
    let (answer, _) = both.plain.answer(&asked).await;
    assert_eq!(answer.headers["grpc-encoding"], "zstd");
    assert!(answer.body[0] == 1 && answer.body.len() < PAYS_FROM);
}
