use super::*;
use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use crate::error::ErrorKind;
use crate::upstream::UPSTREAM;
use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use http::{HeaderValue, Request};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = br#"{"name":"prod"}"#;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn keys() -> AccessKeys {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\n")).unwrap();
    AccessKeys::new(&[AccessKey {
        access_key_id: "AKIDEXAMPLE".to_owned(),
        secret_file: file.path().to_owned(),
        id: "ci".to_owned(),
        roles: ["viewer".to_owned()].into(),
        scopes: Default::default(),
        attributes: BTreeMap::new(),
    }])
    .unwrap()
}

/// How a request is signed.
struct Signing {
    key: &'static str,
    secret: &'static str,
    session: Option<&'static str>,
    service: &'static str,
    at: SystemTime,
    headers: Vec<(&'static str, &'static str)>,
}

impl Default for Signing {
    fn default() -> Self {
        Self {
            key: "AKIDEXAMPLE",
            secret: SECRET,
            session: None,
            service: "proton",
            at: now(),
            headers: vec![
                ("host", "gateway.example:8787"),
                ("content-type", "application/x-amz-json-1.0"),
                ("x-amz-target", "AwsProton20200720.GetEnvironment"),
                ("x-amz-user-agent", "  some   agent "),
            ],
        }
    }
}

impl Signing {
    /// The request as AWS's own library signs it.
    fn request(&self) -> Parts {
        let credentials = Credentials::new(
            self.key,
            self.secret,
            self.session.map(str::to_owned),
            None,
            "test",
        );
        let identity = credentials.into();
        let params = SigningParams::builder()
            .identity(&identity)
            .region("eu-central-1")
            .name(self.service)
            .time(self.at)
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let signable = SignableRequest::new(
            "POST",
            "http://gateway.example:8787/",
            self.headers.iter().copied(),
            SignableBody::Bytes(BODY),
        )
        .unwrap();
        let (instructions, _) = sign(signable, &params).unwrap().into_parts();
        let mut request = Request::post("/").body(()).unwrap();
        for (name, value) in &self.headers {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(*name, value);
        }
        instructions.apply_to_request_http1x(&mut request);
        request.into_parts().0
    }
}

fn prove(request: &Parts, body: &[u8], now: SystemTime) -> Result<Arc<Principal>> {
    let authorization = request.headers["authorization"].to_str().unwrap();
    keys().begin(request, authorization, now)?.prove(body)
}

/// AWS's exception and what it says.
#[track_caller]
fn refusal(outcome: Result<Arc<Principal>>) -> String {
    let error = outcome.unwrap_err();
    let ErrorKind::Unauthenticated { exception } = *error.kind else {
        panic!("{error:?}");
    };
    assert!(!error.message.contains(SECRET), "{error}");
    format!("{exception}: {error}")
}

#[track_caller]
fn assert_refused(outcome: Result<Arc<Principal>>, begins: &str) {
    let refusal = refusal(outcome);
    assert!(refusal.starts_with(begins), "{refusal}");
}

#[test]
fn what_awss_own_library_signs_is_proven() {
    let principal = prove(&Signing::default().request(), BODY, now()).unwrap();
    assert_eq!(
        (principal.id.as_str(), principal.method),
        ("ci", Method::AccessKey)
    );
    assert_eq!(principal.roles, ["viewer".to_owned()].into());
}

#[test]
fn over_http2_the_host_stands_in_the_uri() {
    let mut request = Signing::default().request();
    request.headers.remove("host");
    request.uri = "http://gateway.example:8787/".parse().unwrap();
    assert!(prove(&request, BODY, now()).is_ok());
    request.uri = "http://other.example/".parse().unwrap();
    assert_refused(prove(&request, BODY, now()), "InvalidSignatureException");
}

#[test]
fn a_request_that_was_changed_or_signed_with_another_secret_is_refused() {
    let mismatch = "InvalidSignatureException: The request signature we calculated does not match";
    let wrong = Signing {
        secret: "another secret of somebody",
        ..Signing::default()
    };
    assert_refused(prove(&wrong.request(), BODY, now()), mismatch);
    let request = Signing::default().request();
    assert_refused(prove(&request, br#"{"name":"test"}"#, now()), mismatch);
    for (name, value) in [
        ("x-amz-target", "AwsProton20200720.DeleteEnvironment"),
        ("host", "other.example"),
        ("x-amz-user-agent", "another"),
    ] {
        let mut changed = Signing::default().request();
        changed
            .headers
            .insert(name, HeaderValue::from_static(value));
        assert_refused(prove(&changed, BODY, now()), mismatch);
    }
    let mut twice = Signing::default().request();
    let target = HeaderValue::from_static("AwsProton20200720.DeleteEnvironment");
    twice.headers.append("x-amz-target", target);
    assert_refused(prove(&twice, BODY, now()), "IncompleteSignatureException");
}

#[test]
fn a_request_is_good_for_five_minutes_and_as_long_ahead() {
    let request = Signing::default().request();
    let minutes = |count: u64| Duration::from_secs(count * 60);
    assert!(prove(&request, BODY, now() + minutes(5)).is_ok());
    assert!(prove(&request, BODY, now() - minutes(5)).is_ok());
    let late = now() + minutes(5) + Duration::from_secs(1);
    assert_refused(
        prove(&request, BODY, late),
        "InvalidSignatureException: Signature expired",
    );
    let early = now() - minutes(5) - Duration::from_secs(1);
    let ahead = "InvalidSignatureException: Signature not yet current";
    assert_refused(prove(&request, BODY, early), ahead);
    // The date is signed: a new one does not help.
    let mut moved = Signing::default().request();
    moved
        .headers
        .insert("x-amz-date", HeaderValue::from_static("20270115T080500Z"));
    assert_refused(
        prove(&moved, BODY, late),
        "InvalidSignatureException: The request signature",
    );
}

#[test]
fn keys_services_and_session_tokens_of_others_are_refused() {
    let unknown = Signing {
        key: "AKIDOTHER",
        ..Signing::default()
    };
    let begins =
        "UnrecognizedClientException: The security token included in the request is invalid";
    assert_refused(prove(&unknown.request(), BODY, now()), begins);
    let session = Signing {
        session: Some("a session"),
        ..Signing::default()
    };
    assert_refused(prove(&session.request(), BODY, now()), begins);
    let service = Signing {
        service: "dynamodb",
        ..Signing::default()
    };
    let begins = "InvalidSignatureException: Credential should be scoped to correct service";
    assert_refused(prove(&service.request(), BODY, now()), begins);
}

#[test]
fn a_target_that_is_not_signed_is_refused() {
    let unsigned = Signing {
        headers: vec![("host", "gateway.example:8787")],
        ..Signing::default()
    };
    let mut request = unsigned.request();
    let target = HeaderValue::from_static("AwsProton20200720.DeleteEnvironment");
    request.headers.insert("x-amz-target", target);
    let begins = "InvalidSignatureException: 'x-amz-target' must be a 'SignedHeader'";
    assert_refused(prove(&request, BODY, now()), begins);
}

#[test]
fn an_upstream_that_is_named_must_be_signed_and_be_one() {
    let mut added = Signing::default().request();
    let payments = HeaderValue::from_static("payments");
    added.headers.insert(UPSTREAM, payments.clone());
    let begins = "InvalidSignatureException: 'proton-upstream' must be a 'SignedHeader'";
    assert_refused(prove(&added, BODY, now()), begins);

    let named = Signing {
        headers: [&Signing::default().headers[..], &[(UPSTREAM, "payments")]].concat(),
        ..Signing::default()
    };
    let mut request = named.request();
    prove(&request, BODY, now()).unwrap();
    request.headers.append(UPSTREAM, payments);
    assert_refused(prove(&request, BODY, now()), "IncompleteSignatureException");
    let mut without = named.request();
    without.headers.remove(UPSTREAM);
    assert_refused(prove(&without, BODY, now()), "IncompleteSignatureException");
}

#[test]
fn a_header_that_says_too_little_is_incomplete() {
    let request = Signing::default().request();
    let whole = request.headers["authorization"].to_str().unwrap();
    let credential = "Credential=AKIDEXAMPLE/20270115/r/proton/aws4_request";
    let headers = "SignedHeaders=host;x-amz-date;x-amz-target";
    for authorization in [
        "AWS4-HMAC-SHA256".to_owned(),
        "AWS4-HMAC-SHA256 ".to_owned(),
        format!("AWS4-HMAC-SHA256 {credential}"),
        format!("AWS4-HMAC-SHA256 {credential}, {headers}"),
        format!("AWS4-HMAC-SHA256 {credential}, {headers}, Signature=x"),
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/r/proton/aws4_request, {headers}, Signature=00"
        ),
        format!(
            "AWS4-HMAC-SHA256 {credential}, SignedHeaders=x-amz-target;x-amz-date;host, Signature=00"
        ),
        format!(
            "AWS4-HMAC-SHA256 {credential}, SignedHeaders=Host;x-amz-date;x-amz-target, Signature=00"
        ),
        format!(
            "AWS4-HMAC-SHA256 {credential}, SignedHeaders=absent;host;x-amz-date;x-amz-target, Signature=00"
        ),
        format!("AWS4-ECDSA-P256-SHA256 {credential}, {headers}, Signature=00"),
        format!("{whole}, {credential}"),
        format!("{whole}, Else=1"),
    ] {
        let outcome = keys().begin(&request, &authorization, now());
        let outcome = outcome.and_then(|signed| signed.prove(BODY));
        assert_refused(outcome, "IncompleteSignatureException");
    }
    for date in [
        "",
        "20270115",
        "2027-01-15T08:00:00Z",
        "20271315T080000Z",
        "20270115X080000Z",
    ] {
        let mut dated = Signing::default().request();
        dated
            .headers
            .insert("x-amz-date", HeaderValue::from_str(date).unwrap());
        assert_refused(prove(&dated, BODY, now()), "IncompleteSignatureException");
    }
    let mut query = Signing::default().request();
    query.uri = "/?X-Amz-Signature=00".parse().unwrap();
    assert_refused(prove(&query, BODY, now()), "IncompleteSignatureException");
}

/// Whether what a secret has signed is proven by these keys.
fn proves(keys: &AccessKeys, key: &'static str, secret: &'static str) -> bool {
    let request = Signing {
        key,
        secret,
        ..Signing::default()
    }
    .request();
    let authorization = request.headers["authorization"].to_str().unwrap();
    keys.begin(&request, authorization, now())
        .and_then(|signed| signed.prove(BODY))
        .is_ok()
}

#[test]
fn a_secret_that_cannot_be_read_again_ends_its_key_and_the_other_keys_rotate() {
    const OTHER: &str = "the secret of another caller";
    const NEW: &str = "a new secret of the first caller";
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
    let mut given = [keys().given, keys().given].concat();
    given[0].secret_file.clone_from(&first);
    given[1].secret_file.clone_from(&second);
    given[1].access_key_id = "AKIDOTHER".to_owned();
    std::fs::write(&first, SECRET).unwrap();
    std::fs::write(&second, OTHER).unwrap();
    let keys = AccessKeys::new(&given).unwrap();
    assert!(proves(&keys, "AKIDOTHER", OTHER));

    std::fs::remove_file(&second).unwrap();
    std::fs::write(&first, NEW).unwrap();
    keys.reload();
    assert!(proves(&keys, "AKIDEXAMPLE", NEW), "the first was not read");
    assert!(!proves(&keys, "AKIDEXAMPLE", SECRET));
    assert!(!proves(&keys, "AKIDOTHER", OTHER), "its file is gone");
    assert!(AccessKeys::new(&given).is_err(), "a start needs all files");

    std::fs::write(&second, OTHER).unwrap();
    keys.reload();
    assert!(proves(&keys, "AKIDOTHER", OTHER), "its file is back");
    std::fs::write(&second, NEW).unwrap();
    keys.reload();
    assert!(
        !proves(&keys, "AKIDEXAMPLE", NEW),
        "it is another's as well"
    );
    assert!(!proves(&keys, "AKIDOTHER", NEW), "it is another's as well");
    std::fs::write(&second, "short").unwrap();
    keys.reload();
    assert!(proves(&keys, "AKIDEXAMPLE", NEW), "it is its own again");
    assert!(!proves(&keys, "AKIDOTHER", OTHER), "it is not in its file");
}
