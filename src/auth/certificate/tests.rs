use super::*;
use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

/// 2027-01-15.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().unwrap())
}

/// A certificate that is valid in 2027.
fn certificate(names: &[SanType], subject: &[(DnType, &str)]) -> CertificateDer<'static> {
    let mut given = CertificateParams::default();
    given.not_before = date_time_ymd(2027, 1, 1);
    given.not_after = date_time_ymd(2028, 1, 1);
    given.subject_alt_names = names.to_vec();
    given.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in subject {
        given.distinguished_name.push(kind.clone(), *value);
    }
    let key = KeyPair::generate().unwrap();
    given.self_signed(&key).unwrap().der().clone()
}

fn rules() -> Certificates {
    let rule = |more: &str| -> CertificateRule { toml::from_str(more).unwrap() };
    Certificates::new(&[
        rule("uri = \"spiffe://example.org/ns/a/sa/b\"\nroles = [\"administrator\"]"),
        rule("uri = \"spiffe://example.org/*\"\nattributes = { mesh = \"yes\" }"),
        rule("dns = \"CI.example.org\""),
        rule("dns = \"build-*\"\nid = \"machine:{dns}\""),
        rule("subject = \"CN=build, O=Example\""),
    ])
    .unwrap()
}

async fn known(leaf: &CertificateDer<'_>) -> Result<Arc<Principal>> {
    rules().principal(leaf, UNIX_EPOCH + NOW).await
}

#[tokio::test]
async fn the_first_rule_that_matches_a_name_says_who_holds_the_certificate() {
    let build = [
        (DnType::CommonName, "build"),
        (DnType::OrganizationName, "Example"),
    ];
    for (names, subject, id) in [
        (
            vec![uri("spiffe://example.org/ns/a/sa/b")],
            &[][..],
            "spiffe://example.org/ns/a/sa/b",
        ),
        (
            vec![uri("spiffe://example.org/ns/x")],
            &[],
            "spiffe://example.org/ns/x",
        ),
        (
            vec![dns("other.example.org"), dns("ci.example.org")],
            &[],
            "dns:ci.example.org",
        ),
        (vec![dns("build-7")], &[], "machine:build-7"),
        (vec![], &build[..], "subject:CN=build, O=Example"),
    ] {
        let principal = known(&certificate(&names, subject)).await.unwrap();
        assert_eq!(
            (principal.id.as_str(), principal.method),
            (id, Method::Certificate)
        );
        assert_eq!(
            principal.roles.contains("administrator"),
            id.ends_with("/sa/b")
        );
        assert!(principal.expires > Some(UNIX_EPOCH + NOW));
    }
}

#[tokio::test]
async fn a_certificate_that_no_rule_matches_is_nobodys() {
    let reason = "no rule matches the certificate: its holder is not known here";
    for (names, subject) in [
        (vec![], &[][..]),
        (vec![uri("spiffe://example.org")], &[]),
        (vec![uri("spiffe://example.org.evil/ns/a")], &[]),
        (vec![uri("SPIFFE://example.org/ns/a/sa/b")], &[]),
        // By SPIFFE two identities are none.
        (
            vec![uri("spiffe://example.org/a"), uri("spiffe://example.org/b")],
            &[],
        ),
        (vec![dns("ci.example.org.evil")], &[]),
        (vec![uri("ci.example.org")], &[]),
        // A name that looks like two parts of a subject.
        (vec![], &[(DnType::CommonName, "build, O=Example")]),
    ] {
        let error = known(&certificate(&names, subject)).await.unwrap_err();
        assert_eq!(error.message, reason, "{names:?} {subject:?}");
    }
}

#[tokio::test]
async fn a_uri_that_leads_elsewhere_than_it_begins_is_nobodys() {
    for path in [
        "ns/ci/../admin",
        "./ns",
        "ns/..",
        "ns/%2e%2E/admin",
        "ns/.%2e",
        "ns/..?a",
    ] {
        let name = format!("spiffe://example.org/{path}");
        let error = known(&certificate(&[uri(&name)], &[])).await.unwrap_err();
        assert!(error.message.contains("\"..\""), "{name}: {error}");
    }
    for path in ["ns/...", "ns/.hidden", "ns/a..b", "ns/a."] {
        let name = format!("spiffe://example.org/{path}");
        assert_eq!(
            known(&certificate(&[uri(&name)], &[])).await.unwrap().id,
            name
        );
    }
}

#[tokio::test]
async fn a_name_that_is_no_id_is_nobodys() {
    let long = format!("build-{}", "a".repeat(crate::auth::MAX_ID));
    for name in [
        uri("spiffe://example.org/a\nb"),
        uri("spiffe://example.org/\0"),
        dns(&long),
    ] {
        let error = known(&certificate(std::slice::from_ref(&name), &[]))
            .await
            .unwrap_err();
        assert!(
            error.message.contains("too long or has"),
            "{name:?}: {error}"
        );
    }
}

#[tokio::test]
async fn a_certificate_is_good_only_in_its_time_also_if_it_is_known_already() {
    let certificates = rules();
    let leaf = certificate(&[dns("build-1")], &[]);
    let day = Duration::from_secs(24 * 3600);
    let now = UNIX_EPOCH + NOW;
    assert!(certificates.principal(&leaf, now).await.is_ok());
    let early = certificates
        .principal(&leaf, now - 20 * day)
        .await
        .unwrap_err();
    assert_eq!(early.message, "the certificate is not yet valid");
    let late = certificates
        .principal(&leaf, now + 400 * day)
        .await
        .unwrap_err();
    assert_eq!(late.message, "the certificate has expired");
}

#[tokio::test]
async fn a_certificate_is_read_once() {
    let certificates = rules();
    let leaf = certificate(&[dns("build-1")], &[]);
    let now = UNIX_EPOCH + NOW;
    let first = certificates.principal(&leaf, now).await.unwrap();
    let second = certificates.principal(&leaf, now).await.unwrap();
    assert!(Arc::ptr_eq(&first, &second), "it was read again");
}

#[tokio::test]
async fn bytes_that_are_no_certificate_are_refused() {
    let whole = certificate(&[dns("build-1")], &[]);
    for bytes in [&b""[..], b"no certificate", &whole[..whole.len() / 2]] {
        let error = known(&CertificateDer::from(bytes)).await.unwrap_err();
        assert_eq!(error.message, "the certificate is malformed");
    }
}
