use super::*;
use crate::auth::Method;
use crate::clock::SystemClock;
use crate::config::authentication::Hash;
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
