use super::*;

/// A section with which callers are known.
macro_rules! known {
    () => {
        "[authentication]\nmethods = [\"token\"]\n[[authentication.tokens]]\nid = \"ci\"\n\
         hash = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\n"
    };
}

fn from_file(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(Options::default(), Some(file.path()))
}

#[test]
fn without_anything_given_the_engine_serves_on_loopback() {
    let config = Config::load(Options::default(), None).unwrap();
    assert_eq!(config.upstream, Upstream::Engine);
    assert!(config.listen.unwrap().is_local() && config.admin_listen.ip().is_loopback());
    let engine = config.engine.unwrap();
    assert_eq!(engine.buckets_dir, engine.state_dir.join("buckets"));
}

#[test]
fn a_flag_beats_the_file_and_the_file_beats_the_default() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        file.path(),
        "region = \"eu-west-1\"\naccount-id = \"000000000001\"\n",
    )
    .unwrap();
    let flags = Options {
        region: Some("eu-central-1".into()),
        ..Options::default()
    };
    let config = Config::load(flags, Some(file.path())).unwrap();
    assert_eq!(config.arn_region(), "eu-central-1");
    assert_eq!(config.engine.unwrap().account_id, "000000000001");
}

#[test]
fn an_unknown_key_is_refused_with_its_name() {
    let error = from_file("lisen = \"127.0.0.1:1\"\n").unwrap_err();
    assert!(error.to_string().contains("lisen"), "{error}");
}

#[test]
fn an_error_of_the_file_tells_the_key_and_the_place_and_never_the_value() {
    const SECRET: &str = "wJalrXUtnFEMIK7MDENG";
    for (text, named, place) in [
        (
            format!("[authentication]\n[[authentication.tokens]]\ntoken = \"{SECRET}\""),
            "token",
            "line 3, column 1:",
        ),
        (
            format!(
                "[[authentication.access-keys]]\naccess-key-id = \"AKID\"\n secret = \"{SECRET}\""
            ),
            "secret",
            "line 3, column 2:",
        ),
        (
            format!("[authentication]\ntokens = \"{SECRET}\""),
            "authentication.tokens",
            "line 2, column 10:",
        ),
        (
            format!("insecure = \"{SECRET}\\\", expected {SECRET}\""),
            "insecure",
            "line 1, column 12:",
        ),
        (format!("region = {SECRET}"), "", "line 1, column 10:"),
        (format!("region = \"{SECRET}"), "", "line 1, column "),
    ] {
        let error = from_file(&text).unwrap_err();
        let told = error.to_string();
        assert!(told.contains(named) && told.contains(place), "{told}");
        let all = format!("{told} {error:?}");
        assert!(!all.contains(SECRET), "{all}");
    }
}

#[test]
fn a_url_with_a_user_is_refused_and_not_shown() {
    for (name, text) in [
        ("upstream-endpoint-url", "upstream-endpoint-url = \"URL\""),
        (
            "upstreams",
            "upstream = \"aws\"\n[upstreams.a]\nendpoint-url = \"URL\"",
        ),
        (
            "sts-endpoint-url",
            "upstream = \"aws\"\nsts-endpoint-url = \"URL\"",
        ),
        (
            "authentication.jwt.issuers.jwks-url",
            "[authentication]\nmethods = [\"jwt\"]\n[[authentication.jwt.issuers]]\n\
             issuer = \"a\"\naudiences = [\"a\"]\njwks-url = \"URL\"",
        ),
    ] {
        for url in [
            "https://me:secret@host/x",
            "https://me:se cret@host",
            "me:secret@host",
        ] {
            let error = from_file(&text.replace("URL", url))
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("{name}: ")), "{error}");
            assert!(!error.contains("cret"), "{error}");
        }
        let at = from_file(&text.replace("URL", "https://host/realms/@me"));
        assert!(at.is_ok(), "{at:?}");
    }
}

#[test]
fn listening_beyond_loopback_needs_tls_and_authentication_or_the_insecure_flag() {
    for key in ["listen", "aws-listen", "admin-listen"] {
        let text = format!("{key} = \"0.0.0.0:0\"\n");
        let error = from_file(&text).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
        assert!(error.contains("--insecure"), "{error}");
        from_file(&format!("{text}insecure = true")).unwrap();
    }
    let error = from_file("listen = \"0.0.0.0:0\"").unwrap_err().to_string();
    assert!(error.contains("[tls] and [authentication]"), "{error}");
    from_file("aws-listen = \"off\"").unwrap();
    from_file("listen = \"unix:/run/a.sock\"\naws-listen = \"unix:/run/b.sock\"").unwrap();
    let error = from_file("listen = \"unix:/run/a.sock\"\naws-listen = \"unix:/run/a.sock\"");
    assert!(error.unwrap_err().to_string().starts_with("aws-listen: "));
}

#[test]
fn an_endpoint_means_forwarding_unless_the_engine_was_asked_for() {
    let url = "upstream-endpoint-url = \"http://127.0.0.1:1\"\n";
    assert_eq!(from_file(url).unwrap().upstream, Upstream::Aws);
    assert!(from_file(&format!("{url}upstream = \"engine\"")).is_err());
}

#[test]
fn the_effective_configuration_can_be_read_back_as_a_file() {
    let upstreams = concat!(
        "upstream = \"aws\"\n",
        known!(),
        "[[assume-role]]\nrole = \"developer\"\nrole-arn = \"arn:aws:iam::123456789012:role/a\"\n\
        session-tags = { team = \"{team}\" }\n\
        [upstreams.payments]\nregion = \"eu-west-1\"\n"
    );
    for text in [
        "simulated-step = \"250ms\"",
        "upstream = \"aws\"",
        "[waits]\npauses = [\"1s\", \"2s\"]\nlinger = \"1m\"",
        upstreams,
        concat!(
            known!(),
            "[authorization]\npolicy-files = [\"a.cedar\", \"teams\"]\nlist-filter = true"
        ),
        "listen = \"unix:/run/a.sock\"\n[connections]\nmax-age = \"0\"\nunix-socket-mode = \"0660\"",
        "[cache]\nenabled = true\nmax-size = \"16MiB\"\nstate-ttl = \"0\"",
        "[retry]\nbudget = \"10%\"\nhedge-after = \"500ms\"\n[retry.circuit]\nfailures = \"100 %\"",
        "[order]\nenabled = true\nqueue = 2\nwait = \"90s\"",
        "admin-listen = \"127.0.0.1:0\"\n[[listeners]]\nname = \"both\"\naddress = \"unix:/run/a.sock\"\nmode = \"0660\"\ndoors = [\"aws\", \"grpc\"]\n",
        "[[listeners]]\nname = \"page\"\naddress = \"127.0.0.1:0\"\ngrpc-web = true\n[grpc-web]\nallowed-origins = [\"http://localhost:3000\"]\ncredentials = true\n",
        "[shutdown]\nnotice = \"0\"\ndrain = \"25s\"\nspread = \"30s\"",
    ] {
        let config = from_file(text).unwrap();
        let again = from_file(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
    }
}

#[test]
fn what_could_not_be_meant_is_refused_by_its_name() {
    for (name, text) in [
        ("log", "log = \"inof\""),
        ("log", "log = \"info,hyper=loud\""),
        ("simulated-step", "simulated-step = \"3000years\""),
        ("self-managed-timeout", "self-managed-timeout = \"2years\""),
        ("self-managed-timeout", "self-managed-timeout = \"1ms\""),
        ("region", "region = \"-1\""),
        ("region", "region = \"\""),
        (
            "upstream-endpoint-url",
            "upstream-endpoint-url = \"http://\"",
        ),
        (
            "upstream-endpoint-url",
            "upstream-endpoint-url = \"http://:80/\"",
        ),
        (
            "upstream-endpoint-url",
            "upstream-endpoint-url = \"http://localhost:8787\"",
        ),
        (
            "upstream-endpoint-url",
            "upstream-endpoint-url = \"http://[::1]:9/\"\naws-listen = \"[::1]:9\"",
        ),
        (
            "upstream-endpoint-url",
            "upstream-endpoint-url = \"ftp://a\"",
        ),
        ("profile", "profile = \"work\""),
        (
            "state-dir",
            "upstream = \"aws\"\nstate-dir = \"a\"\n[idempotency]\nenabled = false",
        ),
        ("idempotency.lifetime", "[idempotency]\nlifetime = \"9h\""),
        ("idempotency.max-size", "[idempotency]\nmax-size = \"1KiB\""),
        (
            "account-id",
            "upstream = \"aws\"\naccount-id = \"000000000001\"",
        ),
        (
            "admin-listen",
            "listen = \"127.0.0.1:1\"\nadmin-listen = \"127.0.0.1:1\"",
        ),
        ("aws-listen", "aws-listen = \"127.0.0.1:50051\""),
        ("waits.pauses", "[waits]\npauses = []"),
        ("waits.pauses", "[waits]\npauses = [\"1ms\"]"),
        ("upstreams", "[upstreams.payments]"),
        ("upstream-keeps-keys", "upstream-keeps-keys = true"),
        (
            "upstream-keeps-keys",
            "upstream = \"aws\"\nupstream-keeps-keys = true",
        ),
        (
            "upstreams",
            "upstream = \"aws\"\n[upstreams.payments]\nkeeps-keys = true",
        ),
        (
            "upstreams",
            "upstream = \"aws\"\n[upstreams.payments]\nendpoint-url = \"ftp://a\"",
        ),
        (
            "assume-role",
            "upstream = \"aws\"\n[[assume-role]]\nrole-arn = \"proton\"",
        ),
        (
            "assume-role",
            "upstream = \"aws\"\n[[assume-role]]\nupstream = \"payments\"",
        ),
        (
            "assume-role",
            "upstream = \"aws\"\n[[assume-role]]\nsession-name = \"a\"",
        ),
        (
            "assume-role",
            "upstream = \"aws\"\n[[assume-role]]\nrole-arn = \"arn:aws:iam::123456789012:role/a\"\nduration = \"1m\"",
        ),
        ("authorization", "[authorization]\nlist-filter = true"),
        (
            "authorization.built-in-roles",
            concat!(known!(), "[authorization]\nbuilt-in-roles = false"),
        ),
        (
            "authorization.policy-files",
            concat!(known!(), "[authorization]\npolicy-files = [\"\"]"),
        ),
        (
            "authorization.policy-files",
            concat!(known!(), "[authorization]\npolicy-files = [\"a\", \"a\"]"),
        ),
        (
            "connections.max-connections",
            "[connections]\nmax-connections = 0",
        ),
        (
            "connections.max-header-bytes",
            "[connections]\nmax-header-bytes = 1",
        ),
        ("connections.max-age", "[connections]\nmax-age = \"1ms\""),
        (
            "connections.handshake-timeout",
            "[connections]\nhandshake-timeout = \"0\"",
        ),
        (
            "connections.unix-socket-mode",
            "[connections]\nunix-socket-mode = \"0066\"",
        ),
        (
            "connections.unix-socket-mode",
            "[connections]\nunix-socket-mode = \"0666\"",
        ),
        (
            "aws-listen",
            "listen = \"unix:a\"\naws-listen = \"unix:./a\"",
        ),
        (
            "aws-listen",
            "listen = \"unix:/tmp/a\"\naws-listen = \"unix:/tmp/../tmp/a\"",
        ),
        ("cache.max-size", "[cache]\nmax-size = \"1KiB\""),
        ("cache.state-ttl", "[cache]\nstate-ttl = \"2days\""),
        ("retry.attempts", "[retry]\nattempts = 0"),
        ("retry.base-pause", "[retry]\nbase-pause = \"0\""),
        ("retry.max-pause", "[retry]\nmax-pause = \"10ms\""),
        (
            "retry.attempt-timeout",
            "[retry]\nattempt-timeout = \"1ms\"",
        ),
        ("retry.reserve", "[retry]\nreserve = 100000"),
        ("retry.hedge-after", "[retry]\nhedge-after = \"15s\""),
        ("retry.circuit.window", "[retry.circuit]\nwindow = \"10ms\""),
        (
            "retry.circuit.min-attempts",
            "[retry.circuit]\nmin-attempts = 0",
        ),
        (
            "retry.circuit.failures",
            "[retry.circuit]\nfailures = \"0%\"",
        ),
        (
            "retry.circuit.open-time",
            "[retry.circuit]\nopen-time = \"0\"",
        ),
        (
            "retry.circuit.max-open-time",
            "[retry.circuit]\nmax-open-time = \"4s\"",
        ),
        ("order.queue", "[order]\nqueue = 0"),
        ("order.queue", "[order]\nqueue = 9\ntotal = 8"),
        ("order.total", "[order]\ntotal = 1000000"),
        ("order.wait", "[order]\nwait = \"0\""),
        (
            "listeners.name",
            "[[listeners]]\nname = \"A\"\naddress = \"127.0.0.1:1\"",
        ),
        (
            "listeners.name",
            "listen = \"127.0.0.1:1\"\n[[listeners]]\nname = \"grpc\"\naddress = \"127.0.0.1:2\"",
        ),
        (
            "listeners.name",
            "[[listeners]]\nname = \"admin\"\naddress = \"127.0.0.1:1\"",
        ),
        (
            "listeners.doors",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ndoors = []",
        ),
        (
            "listeners.doors",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ndoors = [\"aws\", \"aws\"]",
        ),
        (
            "listeners.mode",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\nmode = \"0600\"",
        ),
        (
            "listeners.mode",
            "[[listeners]]\nname = \"a\"\naddress = \"unix:/run/a\"\nmode = \"0666\"",
        ),
        (
            "listeners.tls",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ntls = true",
        ),
        (
            "listeners.address",
            "[[listeners]]\nname = \"a\"\naddress = \"0.0.0.0:1\"",
        ),
        (
            "listeners.address",
            "listen = \"127.0.0.1:1\"\n[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"",
        ),
        (
            "listeners.grpc-web",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ngrpc-web = true",
        ),
        (
            "listeners.grpc-web",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\ndoors = [\"aws\"]\ngrpc-web = true",
        ),
        (
            "grpc-web",
            "[[listeners]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n[grpc-web]\nallowed-origins = [\"http://a\"]",
        ),
        (
            "grpc-web.allowed-origins",
            "[grpc-web]\nallowed-origins = []",
        ),
        (
            "grpc-web.allowed-origins",
            "[grpc-web]\nallowed-origins = [\"*\", \"http://a\"]",
        ),
        (
            "grpc-web.allowed-origins",
            "[grpc-web]\nallowed-origins = [\"http://a/\"]",
        ),
        (
            "grpc-web.allowed-origins",
            "[grpc-web]\nallowed-origins = [\"*\"]",
        ),
        (
            "grpc-web.credentials",
            "[grpc-web]\nallowed-origins = [\"*\"]\ncredentials = true",
        ),
        (
            "grpc-web.max-age",
            "[grpc-web]\nallowed-origins = [\"http://a\"]\nmax-age = \"2days\"",
        ),
        ("shutdown.notice", "[shutdown]\nnotice = \"1h\""),
        ("shutdown.drain", "[shutdown]\ndrain = \"0\""),
        ("shutdown.spread", "[shutdown]\nspread = \"1h\""),
        ("tls.certificate-file", "[tls]\nkey-file = \"a\""),
        ("tls.key-file", "[tls]\ncertificate-file = \"a\""),
        (
            "tls.client-ca-file",
            "[tls]\ncertificate-file = \"a\"\nkey-file = \"a\"\nclient-certificates = \"required\"",
        ),
        (
            "tls.client-certificates",
            "[tls]\ncertificate-file = \"a\"\nkey-file = \"a\"\nclient-ca-file = \"a\"",
        ),
        (
            "tls.certificate-file",
            "[tls]\ncertificate-file = \"/no/such\"\nkey-file = \"a\"",
        ),
    ] {
        let error = from_file(text).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{name}: ")), "{text}: {error}");
    }
    for text in [
        "log = \"warn,proton_gateway=DEBUG,[call{door=aws}]=trace\"",
        "listen = \"127.0.0.1:0\"\nadmin-listen = \"127.0.0.1:0\"",
        "upstream-endpoint-url = \"https://[::1]:8443/base\"\nprofile = \"work\"",
    ] {
        from_file(text).unwrap();
    }
}
