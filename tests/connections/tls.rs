//! Who gets through TLS, and what happens when certificates are replaced.

use proton_gateway::config::Connections;
use proton_gateway::config::tls::{ClientCertificates, TlsVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::certificates::{Authority, Folder, Issued};
use super::client::{Client, get};
use super::{PATIENCE, Served};

/// A gateway that clients know by `servers`, and that knows clients by `clients`.
struct World {
    servers: Authority,
    clients: Authority,
    folder: Folder,
    served: Served,
}

impl World {
    async fn new(asks: ClientCertificates) -> Self {
        Self::at_least(asks, TlsVersion::V1_2).await
    }

    async fn at_least(asks: ClientCertificates, minimum: TlsVersion) -> Self {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let folder = Folder::new(&servers.issue("localhost"), &clients);
        let section = folder.section(asks, minimum);
        let served = Served::with_tls(Connections::default(), &section).await;
        Self {
            servers,
            clients,
            folder,
            served,
        }
    }

    /// What the gateway knows of a client with this certificate.
    async fn peer(&self, own: Option<&Issued>) -> Result<String, String> {
        get(
            &self.served.address,
            Some(self.servers.client(own)),
            "/peer",
        )
        .await
        .map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn a_client_with_a_good_certificate_gets_through_and_is_known_by_it() {
    for asks in [ClientCertificates::Required, ClientCertificates::Optional] {
        let world = World::new(asks).await;
        let own = world.clients.issue("builder");
        let known = world.peer(Some(&own)).await.unwrap();
        assert_eq!(known, format!("true 1 {}", hex::encode(&own.der)));
    }
}

#[tokio::test]
async fn a_client_without_a_certificate_gets_through_where_it_is_not_required() {
    let world = World::new(ClientCertificates::Optional).await;
    assert_eq!(world.peer(None).await.unwrap(), "true 0 ");
    let world = World::new(ClientCertificates::None).await;
    assert_eq!(world.peer(None).await.unwrap(), "true 0 ");
    let world = World::new(ClientCertificates::Required).await;
    world.peer(None).await.unwrap_err();
}

#[tokio::test]
async fn an_expired_certificate_and_one_of_another_authority_are_refused() {
    for asks in [ClientCertificates::Required, ClientCertificates::Optional] {
        let world = World::new(asks).await;
        let expired = world.clients.issue_until("builder", 2020);
        world.peer(Some(&expired)).await.unwrap_err();
        let stranger = Authority::new("clients").issue("builder");
        world.peer(Some(&stranger)).await.unwrap_err();
        // The gateway's own authority says nothing about clients.
        let of_servers = world.servers.issue("builder");
        world.peer(Some(&of_servers)).await.unwrap_err();
        world
            .peer(Some(&world.clients.issue("builder")))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_client_that_is_not_asked_is_not_known_by_its_certificate() {
    let world = World::new(ClientCertificates::None).await;
    let own = world.clients.issue("builder");
    assert_eq!(world.peer(Some(&own)).await.unwrap(), "true 0 ");
}

#[tokio::test]
async fn tls_1_2_is_refused_where_the_minimum_is_1_3() {
    let old: &[_] = &[&rustls::version::TLS12];
    for (minimum, gets_through) in [(TlsVersion::V1_2, true), (TlsVersion::V1_3, false)] {
        let world = World::at_least(ClientCertificates::None, minimum).await;
        let client = world.servers.client_with(None, old);
        let outcome = get(&world.served.address, Some(client), "/").await;
        assert_eq!(outcome.is_ok(), gets_through, "{minimum:?}");
        assert!(world.peer(None).await.is_ok());
    }
}

#[tokio::test]
async fn a_client_that_speaks_tls_1_1_at_most_is_refused() {
    let world = World::new(ClientCertificates::None).await;
    let mut stream = TcpStream::connect(world.served.tcp()).await.unwrap();
    stream.write_all(&tls_1_1_hello()).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    // A fatal alert (21, 2), and no hello.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
    assert_eq!((answer.len(), answer.get(5)), (7, Some(&2)), "{answer:?}");
}

/// A ClientHello that offers TLS 1.1, and no more.
fn tls_1_1_hello() -> Vec<u8> {
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    // No session; TLS_RSA_WITH_AES_128_CBC_SHA; no compression.
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4];
    record.extend([1, 0, 0, hello.len() as u8]);
    record.extend(hello);
    record
}

#[tokio::test]
async fn a_client_that_speaks_plain_text_is_not_answered() {
    let world = World::new(ClientCertificates::None).await;
    get(&world.served.address, None, "/").await.unwrap_err();
}

#[tokio::test]
async fn http_1_is_spoken_through_tls_as_well() {
    let world = World::new(ClientCertificates::None).await;
    let mut config = (*world.servers.client(None)).clone();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(world.served.tcp()).await.unwrap();
    let name = "localhost".try_into().unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector.connect(name, stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let request = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("\r\nok\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn certificates_are_replaced_without_a_failed_call() {
    let world = World::new(ClientCertificates::None).await;
    let client = || world.servers.client(None);
    let mut old = Client::connect(&world.served.address, Some(client()))
        .await
        .unwrap();
    let before = old.shown.clone().unwrap();
    let new = world.servers.issue("localhost");
    world.folder.put("cert.pem", &new.pem);
    world.folder.put("key.pem", &new.key.serialize_pem());
    world.served.ask.send(()).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        assert_eq!(old.get("/").await.unwrap(), "ok");
        let mut another = Client::connect(&world.served.address, Some(client()))
            .await
            .unwrap();
        assert_eq!(another.get("/").await.unwrap(), "ok");
        let shown = another.shown.unwrap();
        if shown == new.der {
            break;
        }
        assert_eq!(shown, before);
        assert!(std::time::Instant::now() < deadline, "the old one stays");
    }
    assert_eq!(old.get("/").await.unwrap(), "ok");
}

#[tokio::test]
async fn a_client_whose_authority_is_no_longer_trusted_is_refused_from_then_on() {
    let world = World::new(ClientCertificates::Required).await;
    // A session that it could resume must not get it in.
    let client = world.servers.client(Some(&world.clients.issue("builder")));
    let address = &world.served.address;
    let mut before = Client::connect(address, Some(client.clone()))
        .await
        .unwrap();
    before.get("/").await.unwrap();
    world.folder.put("ca.pem", &Authority::new("others").pem);
    world.served.ask.send(()).unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    while get(address, Some(client.clone()), "/").await.is_ok() {
        assert!(std::time::Instant::now() < deadline, "it still gets in");
    }
    // What was verified when it connected goes on.
    before.get("/").await.unwrap();
}
