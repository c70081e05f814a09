//! Connections that have not begun yet: silent, or shaking hands; and, in a book of their own, those
//! that have begun and have not made a call yet.
//!
//! They cost a descriptor and little else, but anybody can open them. They are counted apart from
//! connections that speak, and where there are too many one gives way: the oldest of those that
//! have not said a word, else the oldest. A good client speaks as soon as it is connected, and is done
//! within a few round trips; so what is silent, or old, is the likeliest to be none. Accepting goes
//! on all the while: a flood delays nobody.

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
    silent: Places,
    speaking: Places,
}

/// By age: the first is the oldest. Whose sender is dropped has to give way.
type Places = BTreeMap<u64, oneshot::Sender<()>>;

/// One of them.
pub(super) struct Beginning {
    number: u64,
    of: Beginnings,
    displaced: oneshot::Receiver<()>,
}

impl All {
    fn displace(&mut self) {
        if self.silent.pop_first().is_none() {
            self.speaking.pop_first();
        }
    }
}

impl Beginnings {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            all: Arc::default(),
        }
    }

    /// Takes one more in, and says whether another one gave way to it.
    pub(super) fn enter(&self) -> (Beginning, bool) {
        let (place, displaced) = oneshot::channel();
        let (number, full) = self.change(|all| {
            let full = all.silent.len() + all.speaking.len() >= self.most;
            if full {
                all.displace();
            }
            let number = all.next;
            all.next += 1;
            all.silent.insert(number, place);
            (number, full)
        });
        let beginning = Beginning {
            number,
            of: self.clone(),
            displaced,
        };
        (beginning, full)
    }

    /// Lets one give way, if there is one.
    pub(super) fn displace(&self) {
        self.change(All::displace);
    }

    fn change<R>(&self, change: impl FnOnce(&mut All) -> R) -> R {
        change(&mut self.all.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Beginning {
    /// The client has said its first word.
    pub(super) fn speaks(&self) {
        self.of.change(|all| {
            // Absent where it has to give way.
            if let Some(place) = all.silent.remove(&self.number) {
                all.speaking.insert(self.number, place);
            }
        });
    }

    /// Takes what tells when this one has to give way.
    pub(super) fn displaced(&mut self) -> oneshot::Receiver<()> {
        let (_, nobody) = oneshot::channel();
        std::mem::replace(&mut self.displaced, nobody)
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.of.change(|all| {
            all.silent.remove(&self.number);
            all.speaking.remove(&self.number);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn gave_way(displaced: &mut oneshot::Receiver<()>) -> bool {
        displaced.now_or_never().is_some()
    }

    #[test]
    fn the_oldest_gives_way_and_who_has_begun_makes_room() {
        let all = Beginnings::new(2);
        let ((mut first, full), (mut second, _)) = (all.enter(), all.enter());
        assert!(!full);
        let (mut one, mut two) = (first.displaced(), second.displaced());
        assert!(!gave_way(&mut one));
        let (third, full) = all.enter();
        assert!(full);
        assert!(gave_way(&mut one) && !gave_way(&mut two));
        drop((first, third));
        let (_fourth, full) = all.enter();
        assert!(!full && !gave_way(&mut two));
    }

    #[test]
    fn the_silent_give_way_before_those_who_speak() {
        let all = Beginnings::new(2);
        let ((mut first, _), (mut second, _)) = (all.enter(), all.enter());
        let (mut one, mut two) = (first.displaced(), second.displaced());
        first.speaks();
        let (third, _) = all.enter();
        assert!(!gave_way(&mut one) && gave_way(&mut two));
        third.speaks();
        all.displace();
        assert!(gave_way(&mut one));
    }
}
