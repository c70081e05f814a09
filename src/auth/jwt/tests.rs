use super::*;
use crate::auth::fixtures::{Shelf, Signer};
use crate::clock::ManualClock;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

/// An issuer with one key, and who trusts it.
struct World {
    signer: Signer,
    shelf: Shelf,
    clock: ManualClock,
    issuers: Issuers,
}

fn section(more: Value) -> config::Issuer {
    let mut section = json!({
        "issuer": ISSUER,
        "audiences": ["proton", "proton-test"],
        "jwks-file": "/nowhere",
        "algorithms": ["ES256", "RS256"],
    });
    for (key, value) in more.as_object().unwrap() {
        section[key] = value.clone();
    }
    serde_json::from_value(section).unwrap()
}

impl World {
    async fn new() -> Self {
        Self::with(json!({})).await
    }

    async fn with(more: Value) -> Self {
        let signer = Signer::new("a");
        let shelf = Shelf::of(&[signer.jwk()]);
        let clock = ManualClock::starting_at(UNIX_EPOCH + Duration::from_secs(NOW));
        let keys = Arc::new(KeySet::new(ISSUER, shelf.clone()));
        keys.load().await.unwrap();
        let issuer = Issuer::new(&section(more), keys).unwrap();
        Self {
            signer,
            shelf,
            issuers: Issuers::new(vec![issuer], Arc::new(clock.clone())),
            clock,
        }
    }

    async fn refusal(&self, token: &str) -> String {
        let error = self.issuers.principal(token).await.unwrap_err();
        assert!(
            token.len() < 10 || !error.message.contains(token),
            "{error}"
        );
        error.message
    }
}

/// Good claims, with some changed, or gone if null.
fn claims(changed: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "proton", "sub": "ci", "iat": NOW - 10, "nbf": NOW - 10, "exp": NOW + 600,
    });
    let fields = claims.as_object_mut().unwrap();
    for (name, value) in changed.as_object().unwrap() {
        if value.is_null() {
            fields.remove(name);
        } else {
            fields.insert(name.clone(), value.clone());
        }
    }
    claims
}

/// A token with any header and no sound signature.
fn forged(header: Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(&header), part(claims))
}

#[tokio::test]
async fn a_good_token_makes_its_bearer_known_until_it_expires() {
    let world = World::new().await;
    let token = world
        .signer
        .token(&claims(json!({"aud": ["other", "proton-test"]})));
    let principal = world.issuers.principal(&token).await.unwrap();
    assert_eq!(principal.id, "https://issuer.example#ci");
    assert_eq!(principal.method, Method::Jwt);
    assert!(principal.roles.is_empty() && principal.scopes.is_empty());
    let end = UNIX_EPOCH + Duration::from_secs(NOW + 600 + 30);
    assert_eq!(principal.expires, Some(end), "with the clock's skew");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_wrong_is_refused_with_the_reason() {
    let world = World::new().await;
    for (changed, reason) in [
        (json!({"exp": NOW - 31}), "the token has expired"),
        (json!({"exp": null}), "the token has no expiry"),
        (json!({"nbf": NOW + 31}), "the token is not yet valid"),
        (json!({"iat": NOW + 31}), "the token is not yet valid"),
        (
            json!({"aud": "somebody"}),
            "the token is for another audience",
        ),
        (
            json!({"aud": ["somebody"]}),
            "the token is for another audience",
        ),
        (json!({"aud": null}), "the token is for another audience"),
        (
            json!({"iss": "https://evil.example"}),
            "the token's issuer is not trusted",
        ),
        (
            json!({"iss": format!("{ISSUER}/")}),
            "the token's issuer is not trusted",
        ),
        (json!({"iss": null}), "the token's issuer is not trusted"),
        (json!({"sub": null}), "the token has no subject"),
        (json!({"sub": ""}), "the token has no subject"),
        (json!({"sub": 7}), "the token has no subject"),
        (
            json!({"exp": NOW + 86_400}),
            "the token's lifetime is too long: at most 1day",
        ),
        (
            json!({"exp": NOW + 86_431, "iat": null}),
            "the token's lifetime is too long: at most 1day",
        ),
        (
            json!({"exp": u64::MAX}),
            "the token's lifetime is too long: at most 1day",
        ),
        (
            json!({"exp": "soon"}),
            "the token is malformed: \"exp\" is no time",
        ),
        (
            json!({"exp": 1e300}),
            "the token is malformed: \"exp\" is no time",
        ),
        (
            json!({"nbf": -1}),
            "the token is malformed: \"nbf\" is no time",
        ),
        (
            json!({"sub": "a\nb"}),
            "the token's subject is too long or has control characters",
        ),
        (
            json!({"sub": "a\u{202e}b"}),
            "the token's subject is too long or has control characters",
        ),
        (
            json!({"sub": "x".repeat(500)}),
            "the token's subject is too long or has control characters",
        ),
    ] {
        let token = world.signer.token(&claims(changed.clone()));
        assert_eq!(world.refusal(&token).await, reason, "{changed}");
    }
    for sound in [
        json!({"exp": NOW - 29}),
        json!({"nbf": NOW + 29, "iat": null}),
        json!({"exp": NOW as f64 + 0.5}),
    ] {
        let token = world.signer.token(&claims(sound.clone()));
        assert!(world.issuers.principal(&token).await.is_ok(), "{sound}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_nobody_signed_is_refused() {
    let world = World::new().await;
    let claims = claims(json!({}));
    let good = world.signer.token(&claims);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let other = Signer::new("a").token(&claims);
    let unknown = Signer::new("b").token(&claims);
    let not_allowed = "the token's algorithm is not allowed for its issuer";
    let malformed = "the token is malformed: it is no signed JWT";
    for (token, reason) in [
        (
            forged(json!({"alg": "none", "kid": "a"}), &claims, ""),
            not_allowed,
        ),
        (
            forged(json!({"alg": "None", "kid": "a"}), &claims, signature),
            not_allowed,
        ),
        (
            forged(json!({"alg": "ES384", "kid": "a"}), &claims, signature),
            not_allowed,
        ),
        (forged(json!({"kid": "a"}), &claims, signature), malformed),
        // Allowed for the issuer, but not with this key.
        (
            forged(json!({"alg": "RS256", "kid": "a"}), &claims, signature),
            "the token is signed with an unknown key",
        ),
        (
            forged(
                json!({"alg": "ES256", "kid": "a", "crit": ["exp"]}),
                &claims,
                signature,
            ),
            "the token is malformed: it has critical extensions",
        ),
        (
            forged(
                json!({"alg": "ES256", "kid": "k".repeat(257)}),
                &claims,
                signature,
            ),
            malformed,
        ),
        (other, "the token's signature is wrong"),
        (unknown, "the token is signed with an unknown key"),
        (format!("{message}."), "the token's signature is wrong"),
        (
            format!("{message}.{}", &signature[..40]),
            "the token's signature is wrong",
        ),
        (message.to_owned(), malformed),
        (good[..good.len() / 2].to_owned(), malformed),
        (format!("{good}.{signature}"), malformed),
        (String::new(), malformed),
        ("..".to_owned(), malformed),
        ("€.€.€".to_owned(), malformed),
    ] {
        assert_eq!(world.refusal(&token).await, reason);
    }
}

/// The classic confusion: the public key is known to everybody, also as a shared secret.
#[tokio::test]
async fn a_public_key_is_no_shared_secret() {
    let world = World::new().await;
    let jwk = world.signer.jwk().to_string();
    let header = jsonwebtoken::Header {
        kid: Some("a".to_owned()),
        ..jsonwebtoken::Header::new(Algorithm::HS256)
    };
    let key = EncodingKey::from_secret(jwk.as_bytes());
    let token = jsonwebtoken::encode(&header, &claims(json!({})), &key).unwrap();
    let reason = "the token's algorithm is not allowed for its issuer";
    assert_eq!(world.refusal(&token).await, reason);
}

#[tokio::test]
async fn claims_give_roles_attributes_and_the_id() {
    let world = World::with(json!({
        "id": "k8s:{/kubernetes.io/namespace}:{sub}",
        "roles": ["viewer"],
        "grants": [
            {"claim": "groups", "value": "platform", "roles": ["administrator"]},
            {"claim": "groups", "value": "other", "roles": ["never"]},
            {"claim": "level", "value": "7", "roles": ["seven"]},
            {"claim": "/kubernetes.io/namespace", "value": "ci", "roles": ["developer"]},
        ],
        "attributes": {"team": "team", "namespace": "/kubernetes.io/namespace", "absent": "nothing", "list": "groups"},
    }))
    .await;
    let token = world.signer.token(&claims(json!({
        "groups": ["platform", "platform-other"],
        "level": 7,
        "team": "red",
        "kubernetes.io": {"namespace": "ci"},
    })));
    let principal = world.issuers.principal(&token).await.unwrap();
    assert_eq!(principal.id, "k8s:ci:ci");
    let roles: Vec<&str> = principal.roles.iter().map(String::as_str).collect();
    assert_eq!(roles, ["administrator", "developer", "seven", "viewer"]);
    let attributes: Vec<_> = principal.attributes.iter().collect();
    let expected =
        [("namespace", "ci"), ("team", "red")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(
        attributes,
        expected.iter().map(|(k, v)| (k, v)).collect::<Vec<_>>()
    );
    let without = world.signer.token(&claims(json!({})));
    let reason = "the token has no claim \"/kubernetes.io/namespace\" of one value";
    assert_eq!(world.refusal(&without).await, reason);
}

#[tokio::test]
async fn a_token_is_verified_once_and_remembered_until_it_expires() {
    let world = World::new().await;
    let token = world.signer.token(&claims(json!({"exp": NOW + 60})));
    let first = world.issuers.principal(&token).await.unwrap();
    let second = world.issuers.principal(&token).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "it was verified again");
    world.clock.advance(Duration::from_secs(91));
    assert_eq!(world.refusal(&token).await, "the token has expired");
}

#[tokio::test(start_paused = true)]
async fn a_withdrawn_key_is_worth_nothing_after_five_minutes() {
    let world = World::new().await;
    let token = world.signer.token(&claims(json!({"exp": NOW + 3600})));
    world.issuers.principal(&token).await.unwrap();
    world.shelf.show(&[Signer::new("b").jwk()]);
    let keys = &world.issuers.issuers[ISSUER].keys;
    keys.load().await.unwrap();
    assert!(world.issuers.principal(&token).await.is_ok());
    world.clock.advance(REMEMBERED);
    assert_eq!(
        world.refusal(&token).await,
        "the token is signed with an unknown key"
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_key_cannot_be_fetched_may_come_again() {
    let world = World::new().await;
    world.shelf.go_down();
    let token = Signer::new("b").token(&claims(json!({})));
    let error = world.issuers.principal(&token).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(RETRY), "{error:?}");
}
