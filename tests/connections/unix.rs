//! Doors that are Unix sockets.

use std::os::unix::fs::PermissionsExt;

use proton_gateway::config::connections::SocketMode;
use proton_gateway::config::{Address, Connections};
use proton_gateway::server::Listener;

use super::client::get;
use super::{PATIENCE, Served};

const OWNER: SocketMode = SocketMode(0o600);

fn socket(folder: &tempfile::TempDir) -> Address {
    Address::Unix(folder.path().join("door.sock"))
}

async fn refusal(address: &Address) -> String {
    match Listener::open(address, OWNER).await {
        Ok(_) => panic!("{address} was opened"),
        Err(problem) => problem,
    }
}

#[tokio::test]
async fn a_socket_is_served_for_its_owner_and_goes_away_at_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let address = socket(&folder);
    let served = Served::at(&address, Connections::default(), None).await;
    assert_eq!(served.address, address);
    assert_eq!(get(&address, None, "/peer").await.unwrap(), "false 0 ");
    let path = folder.path().join("door.sock");
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    served.stop.send(true).unwrap();
    tokio::time::timeout(PATIENCE, served.ended)
        .await
        .unwrap()
        .unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_may_be_opened_wider() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Connections {
        unix_socket_mode: SocketMode(0o660),
        ..Connections::default()
    };
    let _served = Served::at(&socket(&folder), limits, None).await;
    let mode = std::fs::metadata(folder.path().join("door.sock"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o660);
}

#[tokio::test]
async fn the_socket_of_a_dead_program_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let address = socket(&folder);
    // The standard library leaves the file behind, as a program does that is killed.
    drop(std::os::unix::net::UnixListener::bind(folder.path().join("door.sock")).unwrap());
    let _served = Served::at(&address, Connections::default(), None).await;
    assert_eq!(get(&address, None, "/").await.unwrap(), "ok");
}

#[tokio::test]
async fn the_socket_of_a_living_program_is_left_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let address = socket(&folder);
    let _served = Served::at(&address, Connections::default(), None).await;
    let problem = refusal(&address).await;
    assert!(
        problem.contains("another program listens there"),
        "{problem}"
    );
    assert_eq!(get(&address, None, "/").await.unwrap(), "ok");
    // One that knows nothing of our lock.
    let path = folder.path().join("foreign.sock");
    let _foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let problem = refusal(&Address::Unix(path.clone())).await;
    assert!(
        problem.contains("another program listens there"),
        "{problem}"
    );
    assert!(path.exists());
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.sock");
    std::fs::write(&path, "precious").unwrap();
    let problem = refusal(&socket(&folder)).await;
    assert!(problem.contains("no socket"), "{problem}");
    assert_eq!(std::fs::read_to_string(path).unwrap(), "precious");
}

#[tokio::test]
async fn a_socket_that_another_program_has_put_there_since_is_not_removed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("door.sock");
    let listener = Listener::open(&socket(&folder), OWNER).await.unwrap();
    std::fs::rename(&path, folder.path().join("away")).unwrap();
    let _foreign = std::os::unix::net::UnixListener::bind(&path).unwrap();
    drop(listener);
    assert!(path.exists());
}
