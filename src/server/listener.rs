//! Where connections come from: an address of the network, or a Unix socket.
//!
//! The file of a Unix socket belongs to the program that listens on it, and goes away with it.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixSocket};

use crate::config::Address;
use crate::config::connections::SocketMode;

/// Connections that the kernel holds until they are accepted, if it grants as many. In a flood, those
/// of good clients are among them.
pub(super) const BACKLOG: u32 = 4096;

/// Bytes to and from a client.
pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Opened; nothing is accepted yet.
pub struct Listener {
    inner: Inner,
    address: Address,
}

enum Inner {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
}

impl Listener {
    /// Opens `address`. Port 0 takes any free one.
    pub async fn open(address: &Address, mode: SocketMode) -> Result<Self, String> {
        match address {
            Address::Tcp(address) => Ok(super::bind(*address).await?.0.into()),
            Address::Unix(path) => {
                let (listener, file) = SocketFile::create(path, mode)
                    .map_err(|problem| format!("cannot listen on {address}: {problem}"))?;
                Ok(Self {
                    inner: Inner::Unix {
                        listener,
                        _file: file,
                    },
                    address: address.clone(),
                })
            }
        }
    }

    /// Where it listens, with the port that it took.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether TLS is spoken here: a Unix socket needs none, its bytes leave the kernel nowhere.
    pub(super) fn is_network(&self) -> bool {
        matches!(self.inner, Inner::Tcp(_))
    }

    /// The next connection, and the address of its client.
    pub(super) async fn accept(&self) -> io::Result<(Box<dyn Io>, Option<SocketAddr>)> {
        match &self.inner {
            Inner::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                drop(stream.set_nodelay(true));
                Ok((Box::new(stream), Some(address)))
            }
            Inner::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), None))
            }
        }
    }
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Self {
        // Only a socket that is not bound has no address.
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        Self {
            inner: Inner::Tcp(listener),
            address: address.into(),
        }
    }
}

/// Opens an address of the network, and says which one it became.
pub(super) fn network(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // A restart does not wait for the connections of the program before.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// A socket's file, removed with this value.
struct SocketFile {
    path: PathBuf,
    /// Device and inode: another program may have put its own in this place.
    identity: Option<(u64, u64)>,
    /// Locked as long as the socket is ours: of two programs that find a stale socket, one wins.
    _lock: std::fs::File,
}

impl SocketFile {
    fn create(path: &Path, mode: SocketMode) -> Result<(UnixListener, Self), String> {
        let lock = lock(path)?;
        make_way(path)?;
        let listener = (|| {
            let socket = UnixSocket::new_stream()?;
            socket.bind(path)?;
            // Before it listens: nobody connects with wider rights in between.
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode.0))?;
            socket.listen(BACKLOG)
        })()
        .map_err(|error| error.to_string())?;
        let file = Self {
            path: path.to_owned(),
            identity: identity(path),
            _lock: lock,
        };
        Ok((listener, file))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.identity.is_some() && identity(&self.path) == self.identity {
            // It may be gone already.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

/// Locks `<path>.lock`. The file stays: removing it would let two programs lock two files.
fn lock(path: &Path) -> Result<std::fs::File, String> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let beside = PathBuf::from(beside);
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&beside)
        .map_err(|error| format!("cannot open {}: {error}", beside.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err("another program listens there; stop it first".to_owned())
        }
        Err(std::fs::TryLockError::Error(error)) => {
            Err(format!("cannot lock {}: {error}", beside.display()))
        }
    }
}

/// Removes the socket of a program that is dead; refuses anything else.
fn make_way(path: &Path) -> Result<(), String> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !found.file_type().is_socket() {
        return Err("there is a file that is no socket; it is not replaced".to_owned());
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err("another program listens there; stop it first".to_owned()),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!(path = %path.display(), "replacing the socket of a program that is gone");
            std::fs::remove_file(path).map_err(|error| error.to_string())
        }
        Err(error) => Err(format!(
            "cannot tell whether a program listens there: {error}"
        )),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}
