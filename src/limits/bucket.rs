//! One bucket of a rate limit (GCRA): a single number, so that millions fit.
//!
//! Unlike a library's bucket this one can be asked whether it is full, and takes back what a
//! refused call did not use.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::limits;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Nanoseconds in which one is filled in.
    interval: u64,
    burst: u64,
}

impl From<limits::Quota> for Quota {
    fn from(quota: limits::Quota) -> Self {
        Self {
            interval: nanos(quota.rate.interval()).max(1),
            burst: quota.burst.into(),
        }
    }
}

/// What is left, as the time at which it will be full; in nanoseconds of the limiter's life.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes `cost` out, or says when there will be enough.
    pub fn take(&self, quota: Quota, cost: u32, now: u64) -> Result<(), Duration> {
        let takes = quota.interval.saturating_mul(cost.into());
        let room = quota.interval.saturating_mul(quota.burst);
        let mut missing = 0;
        let update = |full_at: u64| {
            // More than empty was made so by a slower quota, which holds no longer.
            let then = full_at.max(now).min(now.saturating_add(room));
            let taken = then.saturating_add(takes);
            missing = taken.saturating_sub(now).saturating_sub(room);
            match missing {
                0 => Some(taken),
                _ => (then < full_at).then_some(then),
            }
        };
        // Nothing to change is no failure.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
        match missing {
            0 => Ok(()),
            missing => Err(Duration::from_nanos(missing)),
        }
    }

    /// Puts back what was taken and not used.
    pub fn give_back(&self, quota: Quota, cost: u32) {
        let takes = quota.interval.saturating_mul(cost.into());
        let given = |full_at: u64| Some(full_at.saturating_sub(takes));
        // What was taken is there, unless another quota has come in between.
        let _ = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, given);
    }

    pub fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// Whole nanoseconds; those of 584 years at most.
pub fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota {
        interval: 100,
        burst: 3,
    };

    #[test]
    fn a_burst_passes_at_once_and_then_one_in_each_interval() {
        let bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(QUOTA, 1, 1000), Ok(()));
        }
        let wait = Duration::from_nanos(100);
        assert_eq!(bucket.take(QUOTA, 1, 1000), Err(wait));
        assert_eq!(bucket.take(QUOTA, 1, 1099), Err(Duration::from_nanos(1)));
        assert_eq!(bucket.take(QUOTA, 1, 1100), Ok(()));
        assert_eq!(bucket.take(QUOTA, 1, 1100), Err(wait));
    }

    #[test]
    fn a_refused_call_takes_nothing_and_one_that_costs_more_waits_longer() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(QUOTA, 2, 0), Ok(()));
        assert_eq!(bucket.take(QUOTA, 3, 0), Err(Duration::from_nanos(200)));
        assert_eq!(bucket.take(QUOTA, 1, 0), Ok(()));
        assert_eq!(bucket.take(QUOTA, 0, 0), Ok(()));
    }

    #[test]
    fn a_faster_quota_frees_who_was_held_up_by_a_slower_one() {
        let (bucket, slow) = (
            Bucket::default(),
            Quota {
                interval: 1_000_000,
                burst: 3,
            },
        );
        assert_eq!(bucket.take(slow, 3, 0), Ok(()));
        assert_eq!(bucket.take(QUOTA, 1, 0), Err(Duration::from_nanos(100)));
        assert_eq!(bucket.take(QUOTA, 1, 100), Ok(()));
        bucket.give_back(slow, 1_000_000);
        assert!(bucket.is_full(0));
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let bucket = Bucket::default();
        assert_eq!(bucket.take(QUOTA, 3, 0), Ok(()));
        bucket.give_back(QUOTA, 2);
        assert_eq!(bucket.take(QUOTA, 2, 0), Ok(()));
        assert!(!bucket.is_full(299) && bucket.is_full(300));
    }
}
