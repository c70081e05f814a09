//! What is remembered of callers, of a bounded number of them.
//!
//! Where there is no room, a caller is forgotten of whom nothing is known: all buckets full, no
//! call and no stream. If none is found at once, the newcomer shares the state of all newcomers,
//! so that forgetting never gives anybody more than its due.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use super::bucket::Bucket;

/// Each has a lock of its own.
const SHARDS: usize = 16;
/// How many callers are looked at for one to forget.
const LOOKS: usize = 8;

/// What is remembered of one caller.
#[derive(Debug, Default)]
pub struct Caller {
    /// One for each class.
    pub buckets: [Bucket; 3],
    pub calls: AtomicU32,
    pub streams: AtomicU32,
}

/// A caller's state, or that of all newcomers for whom there was no room.
#[derive(Debug)]
pub struct Remembered {
    pub caller: Arc<Caller>,
    pub shared: bool,
}

/// All callers that are remembered.
#[derive(Debug)]
pub struct Callers {
    shards: Vec<Mutex<Shard>>,
    /// Of each shard.
    room: usize,
    hasher: RandomState,
    newcomers: Arc<Caller>,
}

#[derive(Debug, Default)]
struct Shard {
    /// By a keyed hash of the id, whose length is not ours to bound. Two callers with the same hash
    /// would share their limits.
    known: HashMap<u64, Arc<Caller>, BuildHasherDefault<Hashed>>,
    /// The same callers, the one to be looked at next first.
    order: VecDeque<u64>,
}

/// Leaves a key as it is: it is a hash already.
#[derive(Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl Callers {
    /// Remembers at most `most` callers.
    pub fn at_most(most: u32) -> Self {
        let most = usize::try_from(most).unwrap_or(usize::MAX).max(1);
        let shards = SHARDS.min(most);
        Self {
            shards: (0..shards).map(|_| Mutex::default()).collect(),
            room: most / shards,
            hasher: RandomState::new(),
            newcomers: Arc::default(),
        }
    }

    /// The state of the principal `id`.
    pub fn get(&self, id: &str, now: u64) -> Remembered {
        let key = self.hasher.hash_one(id);
        // Not the bits by which the shard sorts its callers.
        let place = usize::try_from((key >> 32) % self.shards.len() as u64).unwrap_or_default();
        let shard = self.shards.get(place);
        let caller = shard.and_then(|shard| {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.get(key, self.room, now)
        });
        Remembered {
            shared: caller.is_none(),
            caller: caller.unwrap_or_else(|| Arc::clone(&self.newcomers)),
        }
    }

    /// How many callers are remembered.
    pub fn count(&self) -> usize {
        let count = |shard: &Mutex<Shard>| {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.known.len()
        };
        self.shards.iter().map(count).sum()
    }
}

impl Shard {
    fn get(&mut self, key: u64, room: usize, now: u64) -> Option<Arc<Caller>> {
        if let Some(caller) = self.known.get(&key) {
            return Some(Arc::clone(caller));
        }
        if self.known.len() >= room && !self.forget_one(now) {
            return None;
        }
        let caller = Arc::<Caller>::default();
        self.known.insert(key, Arc::clone(&caller));
        self.order.push_back(key);
        Some(caller)
    }

    fn forget_one(&mut self, now: u64) -> bool {
        for _ in 0..LOOKS {
            let Some(key) = self.order.pop_front() else {
                return false;
            };
            let idle = self.known.get(&key).is_none_or(|caller| {
                // Whoever has a call or a stream holds a clone; they are made under this lock.
                Arc::strong_count(caller) == 1 && caller.buckets.iter().all(|b| b.is_full(now))
            });
            if idle {
                self.known.remove(&key);
                return true;
            }
            self.order.push_back(key);
        }
        false
    }
}
