//! Files that are read again while the program runs: certificates, keys, policies, key sets.
//!
//! What a file holds decides, not its times: mounted secrets are swapped by links. What to do with
//! a changed file is its reader's business.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::sync::watch;

/// How often files are looked at.
pub const LOOK: Duration = Duration::from_secs(5);
/// Entries of one folder that are looked at.
const MOST_ENTRIES: usize = 10_000;

/// Told by an operator (SIGHUP) to look at all files now. Clones are told the same.
#[derive(Debug, Clone)]
pub struct Reload(watch::Receiver<()>);

impl Reload {
    /// Each value that is sent is one request to look now.
    pub fn channel() -> (watch::Sender<()>, Self) {
        let (ask, asked) = watch::channel(());
        (ask, Self(asked))
    }

    async fn asked(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody can ask any more.
            std::future::pending::<()>().await;
        }
    }
}

/// Some files, and what was in them. A folder stands for the files directly in it.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Option<[u8; 32]>>,
    reload: Reload,
}

impl Files {
    /// Call this before the files are read for the first time: no change is missed between.
    pub fn new(paths: Vec<PathBuf>, reload: Reload) -> Self {
        let seen = paths.iter().map(digest).collect();
        Self {
            paths,
            seen,
            reload,
        }
    }

    /// Returns when one of the files has other contents, or is gone, or has come back. Looks every
    /// [`LOOK`], and at once when asked.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.reload.asked() => {}
            }
            let paths = self.paths.clone();
            let look = tokio::task::spawn_blocking(move || paths.iter().map(digest).collect());
            // A look that panics saw nothing.
            let Ok(now) = look.await else { continue };
            if std::mem::replace(&mut self.seen, now) != self.seen {
                return;
            }
        }
    }
}

fn digest(path: &PathBuf) -> Option<[u8; 32]> {
    if path.is_dir() {
        return digest_of_folder(path);
    }
    std::fs::read(path)
        .ok()
        .map(|bytes| Sha256::digest(bytes).into())
}

fn digest_of_folder(folder: &Path) -> Option<[u8; 32]> {
    let entries = std::fs::read_dir(folder).ok()?.take(MOST_ENTRIES);
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let mut all = Sha256::new();
    for path in paths.iter().filter(|path| path.is_file()) {
        all.update(Sha256::digest(path.as_os_str().as_encoded_bytes()));
        all.update(digest(path).unwrap_or_default());
    }
    Some(all.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[tokio::test(start_paused = true)]
    async fn a_file_has_changed_when_its_contents_have_or_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, "old").unwrap();
        let (_ask, reload) = Reload::channel();
        let mut files = Files::new(vec![path.clone()], reload);
        std::fs::write(&path, "old").unwrap();
        let looks = tokio::time::timeout(3 * LOOK, files.changed()).await;
        assert!(looks.is_err(), "the same contents are no change");
        std::fs::write(&path, "new").unwrap();
        files.changed().await;
        std::fs::remove_file(&path).unwrap();
        files.changed().await;
        std::fs::write(&path, "new").unwrap();
        files.changed().await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_folder_has_changed_when_a_file_in_it_has_come_changed_or_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("team.cedar");
        let (_ask, reload) = Reload::channel();
        let mut files = Files::new(vec![folder.path().to_owned()], reload);
        std::fs::write(&path, "old").unwrap();
        files.changed().await;
        std::fs::write(&path, "new").unwrap();
        files.changed().await;
        std::fs::remove_file(&path).unwrap();
        files.changed().await;
        let looks = tokio::time::timeout(3 * LOOK, files.changed()).await;
        assert!(looks.is_err(), "nothing has changed any more");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_does_not_wait_for_the_next_look() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let (ask, reload) = Reload::channel();
        let mut files = Files::new(vec![file.path().to_owned()], reload);
        let began = tokio::time::Instant::now();
        std::fs::write(file.path(), "new").unwrap();
        ask.send(()).unwrap();
        files.changed().await;
        assert!(began.elapsed() < LOOK);
        assert!(files.changed().now_or_never().is_none());
    }
}
