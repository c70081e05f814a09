//! Several listeners, from the configuration to calls on each of them.

use hyper_util::rt::TokioIo;
use tonic::transport::{Endpoint, Uri};

use super::*;

#[tokio::test]
async fn each_listener_speaks_what_it_was_given_and_the_ready_file_names_all() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("both.sock");
    let file = folder.path().join("gateway.toml");
    let config = format!(
        "admin-listen = \"127.0.0.1:0\"\nstate-dir = {:?}\n\
         [[listeners]]\nname = \"both\"\naddress = \"unix:{}\"\nmode = \"0660\"\ndoors = [\"grpc\", \"aws\"]\n\
         [[listeners]]\nname = \"inside\"\naddress = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"sdks\"\naddress = \"127.0.0.1:0\"\ndoors = [\"aws\"]\n",
        folder.path().join("state"),
        socket.display()
    );
    fs::write(&file, config).unwrap();
    let mut command = program();
    command.arg("--config").arg(&file);
    let mut running = Running::started(command).await;

    let listeners = running.ready["listeners"].as_array().unwrap().clone();
    let names: Vec<_> = listeners
        .iter()
        .map(|it| it["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["both", "inside", "sdks"]);
    assert_eq!(
        running.address("grpc"),
        format!("unix:{}", socket.display())
    );
    for name in names {
        running.says(&format!("listener=\"{name}\"")).await;
    }

    // gRPC on the socket of both, and on the one of its own.
    let path = socket.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(TokioIo::new)
        }
    });
    let over_socket = Endpoint::from_static("http://a")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let inside = format!("http://{}", listeners[1]["address"].as_str().unwrap());
    let inside = Endpoint::from_shared(inside)
        .unwrap()
        .connect()
        .await
        .unwrap();
    for channel in [over_socket, inside] {
        let request = pb::GetAccountSettingsRequest::default();
        Client::new(channel)
            .get_account_settings(request)
            .await
            .unwrap();
    }
    // AWS JSON on the socket of both, and on the one of its own.
    let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    assert!(aws_call(stream).await.starts_with("HTTP/1.1 200"));
    let sdks = listeners[2]["address"].as_str().unwrap();
    let stream = tokio::net::TcpStream::connect(sdks).await.unwrap();
    assert!(aws_call(stream).await.starts_with("HTTP/1.1 200"));
    // The one for gRPC knows no AWS JSON.
    let inside = listeners[1]["address"].as_str().unwrap();
    let stream = tokio::net::TcpStream::connect(inside).await.unwrap();
    let answer = aws_call(stream).await;
    assert!(answer.starts_with("HTTP/1.1 415"), "{answer}");

    running.terminate();
    assert_eq!(running.ended().await.code(), Some(0), "{}", running.log());
    assert!(!socket.exists());
}

/// The answer to GetAccountSettings as AWS's SDKs ask for it.
async fn aws_call(mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let request = "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\
        content-type: application/x-amz-json-1.0\r\n\
        x-amz-target: AwsProton20200720.GetAccountSettings\r\ncontent-length: 2\r\n\r\n{}";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[test]
fn the_ready_file_of_a_gateway_that_was_killed_goes_before_the_next_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let (state, ready) = (folder.path().join("state"), folder.path().join("ready"));
    // So that it never is.
    fs::create_dir(&state).unwrap();
    fs::write(state.join("notes.txt"), "mine").unwrap();
    fs::write(&ready, "{}").unwrap();
    let start = || {
        let mut command = serve(&state);
        command.arg("--ready-file").arg(&ready);
        refused(command)
    };
    let said = start();
    assert!(said.contains("notes.txt") && !ready.exists(), "{said}");
    fs::create_dir(&ready).unwrap();
    let said = start();
    assert!(
        said.contains(&format!("cannot remove the ready file {}", ready.display())),
        "{said}"
    );
}
