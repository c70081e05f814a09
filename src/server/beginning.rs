//! Connections that have not begun yet: shaking hands, or silent.
//!
//! They cost a descriptor and little else, but anybody can open them. They are counted apart from
//! connections that speak, and where there are too many the oldest gives way: a good client is done
//! within a few round trips, and what is oldest is the likeliest to be none. Accepting goes on all the
//! while, so a flood delays nobody.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

/// All that are beginning on one listener. Clones share them.
#[derive(Clone)]
pub(super) struct Beginnings {
    most: usize,
    all: Arc<Mutex<All>>,
}

#[derive(Default)]
struct All {
    next: u64,
    /// By age: the first is the oldest. Who is dropped here has to give way.
    places: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One of them.
pub(super) struct Beginning {
    number: u64,
    of: Beginnings,
    displaced: oneshot::Receiver<()>,
}

impl Beginnings {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            all: Arc::default(),
        }
    }

    /// Takes one more in.
    pub(super) fn enter(&self) -> Beginning {
        let (place, displaced) = oneshot::channel();
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.places.len() >= self.most {
            all.places.pop_first();
        }
        let number = all.next;
        all.next += 1;
        all.places.insert(number, place);
        Beginning {
            number,
            of: self.clone(),
            displaced,
        }
    }

    /// Lets the oldest give way, if there is one.
    pub(super) fn displace(&self) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.places.pop_first();
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.all.lock().unwrap().places.len()
    }
}

impl Beginning {
    /// Returns when this one has to give way.
    pub(super) async fn displaced(&mut self) {
        // Nothing is ever sent: the sender goes away.
        drop((&mut self.displaced).await);
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        let mut all = self.of.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    #[test]
    fn the_oldest_gives_way_and_who_has_begun_makes_room() {
        let all = Beginnings::new(2);
        let (mut first, mut second) = (all.enter(), all.enter());
        assert!(first.displaced().now_or_never().is_none());
        let mut third = all.enter();
        assert!(first.displaced().now_or_never().is_some());
        assert!(second.displaced().now_or_never().is_none());
        assert!(third.displaced().now_or_never().is_none());
        drop((first, third));
        let _fourth = all.enter();
        assert!(second.displaced().now_or_never().is_none());
        assert_eq!(all.count(), 2);
        drop(second);
        assert_eq!(all.count(), 1);
    }
}
