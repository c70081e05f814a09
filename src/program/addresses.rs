//! Where the program listens, for people and for scripts that wait for it.

use std::net::SocketAddr;
use std::path::Path;

use crate::config::Address;
use crate::config::listeners::{ListenerConfig, Speaks};

/// Removes the ready file that a gateway has left which was killed: nobody is ready yet.
pub fn forget(ready_file: &Path) -> Result<(), String> {
    match std::fs::remove_file(ready_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!(
            "cannot remove the ready file {} of an earlier start: {error}",
            ready_file.display()
        )),
        _ => Ok(()),
    }
}

/// All listeners, with the ports that they took.
pub struct Addresses {
    pub doors: Vec<(ListenerConfig, Address)>,
    pub admin: SocketAddr,
}

impl Addresses {
    /// Where a door is found: the first listener that has it.
    fn first(&self, door: Speaks) -> String {
        let found = self
            .doors
            .iter()
            .find(|(listener, _)| listener.speaks(door));
        found.map_or_else(|| "off".to_owned(), |(_, address)| address.to_string())
    }

    /// Logs the addresses, and writes them where a script waits for them.
    pub fn announce(&self, ready_file: Option<&Path>) -> Result<(), String> {
        let (grpc, aws) = (self.first(Speaks::Grpc), self.first(Speaks::Aws));
        for (ListenerConfig { name, doors, .. }, address) in &self.doors {
            tracing::info!(listener = name, %address, ?doors, "listening");
        }
        tracing::info!(grpc, aws, admin = %self.admin, "serving");
        let Some(path) = ready_file else {
            return Ok(());
        };
        let listeners: Vec<_> = self
            .doors
            .iter()
            .map(|(listener, address)| {
                serde_json::json!({
                    "name": listener.name,
                    "address": address.to_string(),
                    "doors": listener.doors,
                })
            })
            .collect();
        let text = serde_json::json!({
            "grpc": grpc,
            "aws": aws,
            "admin": self.admin.to_string(),
            "listeners": listeners,
        });
        // Renamed into place: nobody reads half of it.
        let mut draft = path.as_os_str().to_owned();
        draft.push(".draft");
        std::fs::write(&draft, format!("{text}\n"))
            .and_then(|()| std::fs::rename(&draft, path))
            .map_err(|error| format!("cannot write the ready file {}: {error}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_files_that_differ_in_their_extension_have_drafts_of_their_own() {
        let folder = tempfile::tempdir().unwrap();
        let addresses = Addresses {
            doors: Vec::new(),
            admin: ([127, 0, 0, 1], 2).into(),
        };
        let other = folder.path().join("ready.draft");
        std::fs::write(&other, "another program's").unwrap();
        let path = folder.path().join("ready.json");
        addresses.announce(Some(&path)).unwrap();
        assert!(path.is_file());
        assert_eq!(std::fs::read_to_string(other).unwrap(), "another program's");
    }
}
