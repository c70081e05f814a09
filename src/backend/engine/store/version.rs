//! Counts the mutations of the store, so that what was read before one is known.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of the state that readers see. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Version {
    begun: Arc<AtomicU64>,
    ended: Arc<AtomicU64>,
}

impl Version {
    /// A mutation begins: no reader sees anything of it yet.
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    /// It has ended: each reader that begins now sees all of it, or none of it ever.
    pub(super) fn end(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of the state; absent while it is changing.
    pub fn settled(&self) -> Option<u64> {
        // In this order: what has begun by the second has ended by the first.
        let ended = self.ended.load(Ordering::SeqCst);
        let begun = self.begun.load(Ordering::SeqCst);
        (begun == ended).then_some(begun)
    }
}
