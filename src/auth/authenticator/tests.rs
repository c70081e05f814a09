use super::*;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::auth::Method;
use crate::auth::fixtures::Signer;
use crate::clock::SystemClock;
use crate::config::authentication::Hash;
use crate::reload::LOOK;
use http::HeaderValue;
use rustls_pki_types::CertificateDer;

const TOKEN: &str = "pgw_a-token-of-the-tests-and-of-nobody-else";

fn section(methods: &str) -> Authentication {
    let hash = String::from(Hash::of(TOKEN));
    toml::from_str(&format!(
        "methods = {methods}\n[[tokens]]\nid = \"ci\"\nhash = \"{hash}\"\n[[certificate.rules]]\ndns = \"ci\"\n"
    ))
    .unwrap()
}

async fn authenticator(methods: &str) -> Authenticator {
    let (_ask, reload) = Reload::channel();
    let clock = Arc::new(SystemClock);
    let outcome = Authenticator::new(&section(methods), &reload, clock).await;
    outcome.unwrap().0
}

fn headers(values: &[&str]) -> HeaderMap {
    let pairs = values
        .iter()
        .map(|value| (header::AUTHORIZATION, HeaderValue::from_str(value).unwrap()));
    pairs.collect()
}

fn with_certificate() -> Peer {
    let key = rcgen::KeyPair::generate().unwrap();
    let given = rcgen::CertificateParams::new(["ci".to_owned()]).unwrap();
    let der = given.self_signed(&key).unwrap().der().to_vec();
    Peer {
        certificates: vec![CertificateDer::from(der)],
        ..Peer::default()
    }
}

#[tokio::test]
async fn the_first_method_whose_credential_is_there_decides() {
    let bearer = format!("bearer {TOKEN}");
    for (methods, method) in [
        (r#"["token", "certificate"]"#, Method::Token),
        (r#"["certificate", "token"]"#, Method::Certificate),
    ] {
        let authenticator = authenticator(methods).await;
        let found = authenticator
            .identify(&headers(&[&bearer]), &with_certificate())
            .await;
        assert_eq!(found.unwrap().method, method);
        let found = authenticator
            .identify(&headers(&[&bearer]), &Peer::default())
            .await;
        assert_eq!(found.unwrap().method, Method::Token);
    }
}

#[tokio::test]
async fn a_credential_that_is_there_and_wrong_is_not_made_good_by_another() {
    let authenticator = authenticator(r#"["token", "certificate"]"#).await;
    let wrong = headers(&["Bearer pgw_wrong"]);
    let error = authenticator
        .identify(&wrong, &with_certificate())
        .await
        .unwrap_err();
    assert_eq!(error.message, "the token is not known");
}

#[tokio::test]
async fn two_credentials_in_the_headers_or_one_without_end_are_refused() {
    let authenticator = authenticator(r#"["token"]"#).await;
    let bearer = format!("Bearer {TOKEN}");
    let two = headers(&[&bearer, &bearer]);
    let error = authenticator
        .identify(&two, &Peer::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "there is more than one `authorization`; send one"
    );
    let long = headers(&[&format!("Bearer {}", "x".repeat(MAX_CREDENTIAL))]);
    let error = authenticator
        .identify(&long, &Peer::default())
        .await
        .unwrap_err();
    assert_eq!(
        error.message,
        "the credential is too long: at most 8192 bytes"
    );
}

#[tokio::test]
async fn whoever_shows_nothing_that_is_accepted_is_told_what_is() {
    let authenticator = authenticator(r#"["certificate", "token"]"#).await;
    for (values, problem) in [
        (&[][..], "there is no credential"),
        (&["Basic Y2k6Y2k="], "the credential is of no accepted kind"),
        (&["Bearer a.b.c"], "the credential is of no accepted kind"),
        (
            &["AWS4-HMAC-SHA256 Credential=x"],
            "the credential is of no accepted kind",
        ),
        (
            &["pgw_without-a-scheme"],
            "the credential is of no accepted kind",
        ),
        (&["Bearer \u{e9}"], "the credential is of no accepted kind"),
    ] {
        let error = authenticator
            .identify(&headers(values), &Peer::default())
            .await
            .unwrap_err();
        let accepted = "accepted: a client certificate, a token as `authorization: Bearer pgw_...`";
        assert_eq!(error.message, format!("{problem}; {accepted}"));
    }
}

#[tokio::test]
async fn an_authenticator_never_prints_what_it_knows() {
    assert_eq!(
        format!("{:?}", authenticator(r#"["token"]"#).await),
        "Authenticator"
    );
}

/// A token of the issuer `a`, whose key is the signer's.
fn jwt(signer: &Signer, subject: &str) -> HeaderMap {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let claims = serde_json::json!({"iss": "a", "aud": "b", "sub": subject, "exp": now + 600});
    headers(&[&format!("Bearer {}", signer.token(&claims))])
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_taken_out_of_a_file_is_worth_nothing_after_the_next_look() {
    let signer = Signer::new("old");
    let file = tempfile::NamedTempFile::new().unwrap();
    let show = |key| {
        std::fs::write(
            file.path(),
            serde_json::json!({ "keys": [key] }).to_string(),
        )
    };
    show(signer.jwk()).unwrap();
    let section: Authentication = toml::from_str(&format!(
        "methods = [\"jwt\"]\n[[jwt.issuers]]\nissuer = \"a\"\naudiences = [\"b\"]\njwks-file = {:?}\n",
        file.path()
    ))
    .unwrap();
    let (_ask, reload) = Reload::channel();
    let built = Authenticator::new(&section, &reload, Arc::new(SystemClock)).await;
    let (authenticator, background) = built.unwrap();
    let (_stop, shutdown) = Shutdown::channel();
    tokio::spawn(background.run(shutdown));
    let known = async |subject: &str| {
        let outcome = authenticator
            .identify(&jwt(&signer, subject), &Peer::default())
            .await;
        outcome.map(|principal| principal.id.clone())
    };
    assert_eq!(known("one").await.unwrap(), "a#one");
    show(Signer::new("new").jwk()).unwrap();
    let mut looks = 0;
    let refused = loop {
        // Each time another token: one that was verified is remembered.
        match known(&looks.to_string()).await {
            Ok(_) if looks < 10 => tokio::time::sleep(LOOK).await,
            outcome => break outcome.unwrap_err(),
        }
        looks += 1;
    };
    assert_eq!(refused.message, "the token is signed with an unknown key");
}
