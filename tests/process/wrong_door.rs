//! What the commands of the client say where no gRPC door is, or where TLS begins and they do not know it.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use super::*;

/// What each of the commands says at `address`, which has to be an end by itself.
async fn said(address: &str, more: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let deploy = deploy_bus(folder.path(), SPEC);
    let deploy: Vec<_> = deploy.iter().map(String::as_str).collect();
    let wait = ["wait", "environment-deployed", "bus"];
    let (top, status, health) = (&["top", "--count", "1"][..], &["status"], &["health"]);
    let mut asked = Vec::new();
    for command in [status, top, health, &wait, &deploy] {
        let mut asking = program();
        asking.args(command).args(["--address", address]).args(more);
        asked.push(beside(asking));
    }
    let mut said = Vec::new();
    for asked in asked {
        let output = asked.await.unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        said.push(text(&output));
    }
    said
}

/// Certificates for `[tls]`, and the file of who has issued them.
struct Certified {
    folder: TempDir,
}

impl Certified {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let own = authority.self_signed(&key).unwrap();
        let issuer = Issuer::new(authority, key);
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = certificate.signed_by(&key, &issuer).unwrap();
        let certified = Self { folder };
        fs::write(certified.file("ca.pem"), own.pem()).unwrap();
        fs::write(certified.file("tls.crt"), certificate.pem()).unwrap();
        fs::write(certified.file("tls.key"), key.serialize_pem()).unwrap();
        certified
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A gateway whose doors speak TLS.
    async fn gateway(&self) -> Running {
        let config = format!(
            "[tls]\ncertificate-file = {:?}\nkey-file = {:?}\n",
            self.file("tls.crt"),
            self.file("tls.key")
        );
        let file = self.file("gateway.toml");
        fs::write(&file, config).unwrap();
        let state = self.file("state");
        Running::with(&state, &["--config", file.to_str().unwrap()]).await
    }
}

fn port(address: &str) -> &str {
    address.rsplit(':').next().unwrap()
}

#[tokio::test]
async fn the_aws_door_and_the_admin_listener_are_named_with_where_the_grpc_door_usually_is() {
    let (_folder, state) = state();
    let gateway = Running::on(&state).await;
    for (listener, named) in [("aws", "the AWS door"), ("admin", "the admin listener")] {
        let address = gateway.address(listener);
        for said in said(&format!("http://{address}"), &[]).await {
            let met = format!("{address} does not speak gRPC: it answers as {named} does");
            assert!(said.contains(&met), "{said}");
            assert!(said.contains("127.0.0.1:50051"), "{said}");
            assert!(!said.contains("trying again"), "{said}");
        }
    }
}

#[tokio::test]
async fn whoever_begins_without_tls_where_it_is_needed_is_told_how_to_write_it() {
    let certified = Certified::new();
    let gateway = certified.gateway().await;
    let address = gateway.address("grpc");
    for said in said(address, &[]).await {
        let met = format!("{address} speaks TLS: write https://{address}");
        assert!(said.contains(&met) && said.contains("--ca-file"), "{said}");
    }
}

#[tokio::test]
async fn whoever_begins_with_tls_where_there_is_none_is_told_how_to_write_it() {
    let (_folder, state) = state();
    let (certified, gateway) = (Certified::new(), Running::on(&state).await);
    let address = gateway.address("grpc");
    let ca = certified.file("ca.pem");
    let with_ca = ["--ca-file", ca.to_str().unwrap()];
    for said in said(&format!("https://{address}"), &with_ca).await {
        let met = format!("{address} speaks no TLS: write http://{address}");
        assert!(said.contains(&met), "{said}");
        assert!(!said.contains("trying again"), "{said}");
    }
}

#[tokio::test]
async fn the_aws_door_is_named_behind_tls_too() {
    let certified = Certified::new();
    let gateway = certified.gateway().await;
    let address = format!("localhost:{}", port(gateway.address("aws")));
    let ca = certified.file("ca.pem");
    let with_ca = ["--ca-file", ca.to_str().unwrap()];
    for said in said(&format!("https://{address}"), &with_ca).await {
        let met = format!("{address} does not speak gRPC: it answers as the AWS door does");
        assert!(said.contains(&met), "{said}");
    }
}

#[tokio::test]
async fn what_is_no_gateway_at_all_is_said_to_speak_no_grpc() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut read = [0; 1024];
                drop(stream.read(&mut read).await);
                drop(stream.write_all(b"SSH-2.0-other\r\n").await);
                drop(stream.shutdown().await);
                while stream.read(&mut read).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    for said in said(&address, &[]).await {
        assert!(
            said.contains(&format!("{address} does not speak gRPC")),
            "{said}"
        );
    }
}

#[tokio::test]
async fn a_health_that_is_asked_of_another_door_than_the_admin_listener_says_so() {
    let (_folder, state) = state();
    let (certified, gateway) = (Certified::new(), Running::on(&state).await);
    let certain = certified.gateway().await;
    for (address, met) in [
        (gateway.address("grpc"), "is it the admin listener?"),
        (gateway.address("aws"), "is it the admin listener?"),
        (certain.address("grpc"), "is it the admin listener?"),
    ] {
        let mut health = program();
        health.args(["--admin-listen", address, "health"]);
        let said = text(&beside(health).await.unwrap());
        assert!(
            said.contains(met) && said.contains("127.0.0.1:9464"),
            "{said}"
        );
        assert!(
            said.contains(address) && said.contains("--address"),
            "{said}"
        );
    }
}
