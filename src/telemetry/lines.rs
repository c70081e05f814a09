//! Log lines on their way to standard error: collected for a moment, and written together.
//!
//! A call that is logged costs a copy of its line, and not a system call. Nothing is left out: where
//! standard error takes nothing, lines wait, and then those who write them.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a line waits for others.
const PAUSE: Duration = Duration::from_millis(5);
/// How much waits before those who write have to wait.
const MOST: usize = 1 << 20;
/// How long the end waits for what is left to be taken.
const PATIENCE: Duration = Duration::from_secs(1);

/// Takes lines. Clones collect into the same place.
#[derive(Clone)]
pub struct Lines(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    filled: Condvar,
    emptied: Condvar,
}

#[derive(Default)]
struct Waiting {
    text: Vec<u8>,
    ended: bool,
}

impl Lines {
    /// Starts the thread that writes to `place`.
    pub fn to(place: impl Write + Send + 'static) -> io::Result<(Self, Written)> {
        let lines = Self(Arc::default());
        let (last, ended) = channel();
        let shared = Arc::clone(&lines.0);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                shared.write_to(place);
                // Nobody may be waiting for it.
                let _ = last.send(());
            })?;
        let shared = Arc::clone(&lines.0);
        Ok((lines, Written { shared, ended }))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.0.lock();
        while waiting.text.len() >= MOST && !waiting.ended {
            waiting = waited(self.0.emptied.wait(waiting));
        }
        if waiting.text.is_empty() {
            self.0.filled.notify_one();
        }
        waiting.text.extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared {
    fn write_to(&self, mut place: impl Write) {
        let mut text = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.text.is_empty() {
                if waiting.ended {
                    return;
                }
                waiting = waited(self.filled.wait(waiting));
            }
            if !waiting.ended {
                drop(waiting);
                std::thread::sleep(PAUSE);
                waiting = self.lock();
            }
            std::mem::swap(&mut text, &mut waiting.text);
            drop(waiting);
            self.emptied.notify_all();
            // There is nobody to tell.
            let _ = place.write_all(&text);
            text.clear();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        waited(self.waiting.lock())
    }
}

fn waited<T>(lock: Result<T, PoisonError<T>>) -> T {
    lock.unwrap_or_else(PoisonError::into_inner)
}

/// Sees to it that what was logged is written before the program ends, which is when it is dropped.
pub struct Written {
    shared: Arc<Shared>,
    ended: Receiver<()>,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.shared.filled.notify_all();
        self.shared.emptied.notify_all();
        // What cannot be written is left behind.
        let _ = self.ended.recv_timeout(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was written, piece by piece.
    #[derive(Clone, Default)]
    struct Place(Arc<Mutex<Vec<u8>>>);

    impl Write for Place {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(piece);
            Ok(piece.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn every_line_is_written_before_the_end_in_its_order() {
        let place = Place::default();
        let (lines, written) = Lines::to(place.clone()).unwrap();
        let expected: String = (0..1000).map(|number| format!("line {number}\n")).collect();
        for line in expected.split_inclusive('\n') {
            lines.clone().write_all(line.as_bytes()).unwrap();
        }
        drop(written);
        let found = place.0.lock().unwrap().clone();
        assert_eq!(String::from_utf8(found).unwrap(), expected);
    }

    #[test]
    fn more_than_may_wait_is_written_as_well() {
        let place = Place::default();
        let (mut lines, written) = Lines::to(place.clone()).unwrap();
        let piece = vec![b'a'; MOST];
        for _ in 0..3 {
            lines.write_all(&piece).unwrap();
        }
        drop(written);
        assert_eq!(place.0.lock().unwrap().len(), 3 * MOST);
    }
}
