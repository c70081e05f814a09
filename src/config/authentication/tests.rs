use super::*;
use crate::config::{Config, ConfigError, Options};

const HASH: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(Options::default(), Some(file.path()))
}

fn issuer(more: &str) -> String {
    format!(
        "[authentication]\nmethods = [\"jwt\"]\n[[authentication.jwt.issuers]]\nissuer = \"https://a\"\n{more}\n"
    )
}

fn token(more: &str) -> String {
    format!(
        "[authentication]\nmethods = [\"token\"]\n[[authentication.tokens]]\nid = \"ci\"\n{more}\n"
    )
}

fn rule(more: &str) -> String {
    format!(
        "[authentication]\nmethods = [\"certificate\"]\n[[authentication.certificate.rules]]\n{more}\n"
    )
}

fn everything() -> String {
    format!(
        r#"
[authentication]
methods = ["certificate", "access-key", "token", "jwt"]
[[authentication.certificate.rules]]
uri = "spiffe://example.org/ns/ci/*"
id = "mesh:{{uri}}"
roles = ["developer"]
attributes = {{ team = "ci" }}
[[authentication.jwt.issuers]]
issuer = "https://issuer.example"
audiences = ["proton"]
jwks-url = "https://issuer.example/jwks"
roles = ["viewer"]
grants = [{{ claim = "groups", value = "platform", roles = ["administrator"] }}]
attributes = {{ team = "/org/team" }}
[[authentication.tokens]]
id = "ci"
hash = "{HASH}"
scopes = ["read", "WaitEnvironmentDeployed"]
expires = "2027-01-31T00:00:00Z"
[[authentication.access-keys]]
access-key-id = "AKIDEXAMPLE"
secret-file = "/run/secrets/ci"
id = "ci"
"#
    )
}

#[test]
fn the_section_can_be_read_back_as_a_file() {
    let config = from_file(&everything()).unwrap();
    let again = from_file(&toml::to_string(&config).unwrap()).unwrap();
    assert_eq!(again, config);
    let section = again.authentication.unwrap();
    assert_eq!(section.jwt.unwrap().issuers[0].clock_skew, clock_skew());
    assert_eq!(section.methods[1], Proof::AccessKey);
}

#[test]
fn with_it_the_doors_may_leave_loopback_over_tls_and_the_admin_pages_may_not() {
    let beyond = "listen = \"0.0.0.0:0\"\naws-listen = \"0.0.0.0:0\"\n";
    let without = from_file(beyond).unwrap_err().to_string();
    assert!(without.contains("[authentication]"), "{without}");
    let with = from_file(&format!("{beyond}{}", everything()));
    let with = with.unwrap_err().to_string();
    assert!(with.contains("configure [tls]"), "{with}");
    assert!(!with.contains("[authentication]"), "{with}");
    let admin = format!("admin-listen = \"0.0.0.0:0\"\n{}", everything());
    assert!(from_file(&admin).is_err());
}

#[test]
fn what_could_not_be_meant_is_refused_by_its_name() {
    let audiences = "audiences = [\"proton\"]\n";
    let file = "audiences = [\"proton\"]\njwks-file = \"/a\"\n";
    for (name, text) in [
        ("methods", "[authentication]\nmethods = []\n".to_owned()),
        (
            "methods",
            token(&format!("hash = \"{HASH}\"")).replace("[\"token\"]", "[\"token\", \"token\"]"),
        ),
        (
            "jwt.issuers",
            "[authentication]\nmethods = [\"jwt\"]\n".to_owned(),
        ),
        (
            "tokens",
            issuer(file) + &format!("[[authentication.tokens]]\nid = \"a\"\nhash = \"{HASH}\"\n"),
        ),
        (
            "jwt.issuers.audiences",
            issuer("audiences = []\njwks-file = \"/a\""),
        ),
        ("jwt.issuers.jwks-url", issuer(audiences)),
        (
            "jwt.issuers.jwks-url",
            issuer(&format!("{file}jwks-url = \"https://a/b\"")),
        ),
        (
            "jwt.issuers.jwks-url",
            issuer(&format!(
                "{audiences}jwks-url = \"http://issuer.example/jwks\""
            )),
        ),
        (
            "jwt.issuers.jwks-url",
            issuer(&format!(
                "{audiences}jwks-url = \"http://127.0.0.1.example/jwks\""
            )),
        ),
        (
            "jwt.issuers.jwks-file",
            issuer(&format!("{file}ca-file = \"/a\"")),
        ),
        (
            "jwt.issuers.algorithms",
            issuer(&format!("{file}algorithms = []")),
        ),
        (
            "jwt.issuers.clock-skew",
            issuer(&format!("{file}clock-skew = \"1h\"")),
        ),
        (
            "jwt.issuers.max-lifetime",
            issuer(&format!("{file}max-lifetime = \"0\"")),
        ),
        (
            "jwt.issuers.refresh",
            issuer(&format!("{file}refresh = \"1s\"")),
        ),
        ("jwt.issuers.id", issuer(&format!("{file}id = \"{{sub\""))),
        ("jwt.issuers.id", issuer(&format!("{file}id = \"admin\""))),
        (
            "jwt.issuers.id",
            issuer(&format!("{file}id = \"{{iss}}#{{aud}}{{/exp}}\"")),
        ),
        (
            "tokens",
            token(&format!("hash = \"{HASH}\"")).replace("\"ci\"", "\"c\\u202Ei\""),
        ),
        (
            "tokens",
            token(&format!("hash = \"{HASH}\"\nscopes = [\"reads\"]")),
        ),
        (
            "tokens",
            token(&format!("hash = \"{HASH}\"\nroles = [\"\"]")),
        ),
        ("certificate.rules", rule("uri = \"spiffe://example*\"")),
        ("certificate.rules", rule("uri = \"*\"")),
        ("certificate.rules", rule("uri = \"s*\"")),
        ("certificate.rules", rule("uri = \"spiffe:*\"")),
        ("certificate.rules", rule("uri = \"spiffe:/*\"")),
        ("certificate.rules", rule("uri = \"spiffe://*\"")),
        ("certificate.rules", rule("uri = \"spiffe:///*\"")),
        ("certificate.rules", rule("dns = \"*.example\"")),
        ("certificate.rules", rule("dns = \"a\"\nsubject = \"CN=a\"")),
        ("certificate.rules", rule("dns = \"a\"\nid = \"{uri}\"")),
        ("certificate.rules", rule("roles = [\"viewer\"]")),
    ] {
        let error = from_file(&text).unwrap_err().to_string();
        let begins = format!("authentication.{name}: ");
        assert!(error.starts_with(&begins), "{text}: {error}");
    }
    from_file(&issuer(&format!(
        "{audiences}jwks-url = \"http://[::1]:8080/jwks\""
    )))
    .unwrap();
}

#[test]
fn a_method_that_no_listener_can_take_is_refused() {
    let keys = "[authentication]\nmethods = [\"access-key\"]\n[[authentication.access-keys]]\n\
                access-key-id = \"AKIDEXAMPLE\"\nsecret-file = \"/no/such\"\nid = \"ci\"\n";
    from_file(keys).unwrap();
    for (text, key) in [
        (format!("aws-listen = \"off\"\n{keys}"), "aws-listen"),
        (rule("dns = \"a\""), "client-certificates"),
    ] {
        let error = from_file(&text).unwrap_err().to_string();
        assert!(error.starts_with("authentication.methods: "), "{error}");
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn two_access_keys_with_one_secret_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let [one, same, other] = ["one", "same", "other"].map(|name| folder.path().join(name));
    std::fs::write(&one, "the secret of a caller").unwrap();
    std::fs::write(&same, "the secret of a caller\n").unwrap();
    std::fs::write(&other, "the secret of another").unwrap();
    let both = |second: &std::path::Path| {
        from_file(&format!(
            "[authentication]\nmethods = [\"access-key\"]\n\
             [[authentication.access-keys]]\naccess-key-id = \"AKIDA\"\nsecret-file = {one:?}\nid = \"a\"\n\
             [[authentication.access-keys]]\naccess-key-id = \"AKIDB\"\nsecret-file = {second:?}\nid = \"b\"\n",
        ))
    };
    both(&other).unwrap();
    for second in [&one, &same] {
        let error = both(second).unwrap_err().to_string();
        assert!(error.starts_with("authentication.access-keys: "), "{error}");
        assert!(
            error.contains("AKIDA") && error.contains("AKIDB"),
            "{error}"
        );
        assert!(!error.contains("of a caller"), "{error}");
    }
}

#[test]
fn algorithms_with_a_shared_secret_cannot_be_named() {
    for algorithm in ["HS256", "none", "rs256"] {
        let text = issuer(&format!(
            "audiences = [\"a\"]\njwks-file = \"/a\"\nalgorithms = [\"{algorithm}\"]"
        ));
        let error = from_file(&text).unwrap_err().to_string();
        assert!(
            error.contains("RS256") && error.contains("EdDSA"),
            "{error}"
        );
    }
}

#[test]
fn a_token_in_the_place_of_its_hash_is_refused_with_what_to_do_and_not_shown() {
    let secret = "pgw_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let error = from_file(&token(&format!("hash = \"{secret}\""))).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(text.contains("proton-gateway token hash"), "{text}");
    assert!(!text.contains(secret), "{text}");
}

#[test]
fn the_examples_of_the_documentation_are_accepted() {
    let text = include_str!("../../../docs/security/authentication.md");
    let blocks: Vec<&str> = text
        .split("```toml\n")
        .skip(1)
        .filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
        .collect();
    let [whole, kubernetes] = blocks[..] else {
        panic!("there are {} examples", blocks.len());
    };
    let config = from_file(whole).unwrap();
    assert_eq!(config.authentication.unwrap().methods.len(), 4);
    from_file(&format!(
        "[authentication]\nmethods = [\"jwt\"]\n{kubernetes}"
    ))
    .unwrap();
}
