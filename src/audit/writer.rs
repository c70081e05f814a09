//! The thread that writes records.
//!
//! What waits together is written together, and reaches the disk by one sync.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::Loss;
use super::file::RotatingFile;
use super::record::Record;

/// How many records are written before anybody is told.
const BATCH: usize = 256;

/// What the thread is sent.
pub struct Message {
    /// Absent where somebody only wants to know that the others are written.
    pub record: Option<Record>,
    /// Told whether everything is on disk.
    pub written: Option<oneshot::Sender<bool>>,
    /// The record's place in the queue.
    pub room: Option<OwnedSemaphorePermit>,
}

pub struct Writer {
    file: Option<RotatingFile>,
    /// Where denials go, so that nobody can write others' records out of their files by being denied.
    denials: Option<RotatingFile>,
    stdout: bool,
    loss: Arc<Loss>,
}

impl Writer {
    pub fn new(
        file: Option<RotatingFile>,
        denials: Option<RotatingFile>,
        stdout: bool,
        loss: Arc<Loss>,
    ) -> Self {
        Self {
            file,
            denials,
            stdout,
            loss,
        }
    }

    /// Writes until nobody can send any more.
    pub fn run(mut self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut batch = vec![first];
            batch.extend(messages.try_iter().take(BATCH - 1));
            self.write(batch);
        }
    }

    fn write(&mut self, batch: Vec<Message>) {
        let mut asking = Vec::new();
        for Message {
            record,
            written,
            room,
        } in batch
        {
            let outcome = record.map_or(Ok(()), |record| self.append(record));
            if let Err(error) = &outcome {
                self.loss.count(&error.to_string());
            }
            if let Some(written) = written {
                asking.push((written, outcome.is_ok()));
            }
            drop(room);
        }
        if asking.is_empty() {
            return;
        }
        let synced = [&mut self.file, &mut self.denials]
            .into_iter()
            .flatten()
            .try_for_each(RotatingFile::sync);
        if let Err(error) = &synced {
            tracing::error!(cause = %error, "the audit cannot be brought to disk");
        }
        for (written, appended) in asking {
            // Who asked may have gone away.
            written.send(appended && synced.is_ok()).ok();
        }
    }

    fn append(&mut self, mut record: Record) -> io::Result<()> {
        let lost = self.loss.since.swap(0, Ordering::Relaxed);
        record.lost = (lost > 0).then_some(lost);
        let outcome = self.put(&record);
        match outcome {
            Ok(()) if lost > 0 => tracing::warn!(lost, "audit records were lost"),
            Ok(()) => {}
            // Told with the next one that can be written.
            Err(_) => {
                self.loss.since.fetch_add(lost, Ordering::Relaxed);
            }
        }
        outcome
    }

    fn put(&mut self, record: &Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let file = match (&mut self.denials, record.is_denial()) {
            (Some(denials), true) => Some(denials),
            _ => self.file.as_mut(),
        };
        if let Some(file) = file {
            file.append(&line)?;
        }
        if self.stdout {
            let mut stdout = io::stdout().lock();
            stdout.write_all(&line)?;
            stdout.flush()?;
        }
        Ok(())
    }
}
