//! The one source of time.
//!
//! Everything that stamps, expires or waits asks a [`Clock`], so that a test can move time by
//! hand. Deadlines of calls are the exception: they belong to the runtime's own timers.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use prost_types::Timestamp;
use tokio::sync::watch;

/// How long a step of the machine's clock may go unseen.
const LONGEST_SLEEP: Duration = Duration::from_secs(30);

/// A source of time.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> SystemTime;

    /// Returns when `now` has reached `deadline`, or is seen to have gone back: then it may be far off.
    fn sleep_until(&self, deadline: SystemTime) -> BoxFuture<'static, ()>;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn sleep_until(&self, deadline: SystemTime) -> BoxFuture<'static, ()> {
        Box::pin(watch_until(SystemTime::now, deadline))
    }
}

/// Sleeps until `now` says `deadline`, or less than before. The runtime's timers do not see that the
/// machine's clock is set, or that the machine was suspended; who looks often does.
async fn watch_until(now: impl Fn() -> SystemTime, deadline: SystemTime) {
    let mut seen = now();
    while let Ok(left) = deadline.duration_since(seen)
        && !left.is_zero()
    {
        tokio::time::sleep(left.min(LONGEST_SLEEP)).await;
        let before = std::mem::replace(&mut seen, now());
        if seen < before {
            return;
        }
    }
}

/// A clock that moves only when it is told to. Clones share the time.
#[derive(Debug, Clone)]
pub struct ManualClock {
    now: Arc<watch::Sender<SystemTime>>,
}

impl ManualClock {
    pub fn starting_at(now: SystemTime) -> Self {
        Self {
            now: Arc::new(watch::Sender::new(now)),
        }
    }

    /// Moves time forward and wakes who waits for it.
    pub fn advance(&self, by: Duration) {
        self.now.send_modify(|now| *now += by);
    }

    /// Moves time to where it is told to be, also back.
    pub fn set(&self, to: SystemTime) {
        self.now.send_replace(to);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        *self.now.borrow()
    }

    fn sleep_until(&self, deadline: SystemTime) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            let mut seen = *now.borrow_and_update();
            let over = now.wait_for(|now| {
                let before = std::mem::replace(&mut seen, *now);
                *now >= deadline || *now < before
            });
            // An error means that the clock is gone: time will never come, nor will anybody ask.
            if over.await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

/// A time as the contract writes it.
pub fn timestamp(time: SystemTime) -> Timestamp {
    Timestamp::from(time)
}

/// Milliseconds since the epoch; what the store sorts by.
pub fn epoch_millis(time: SystemTime) -> i64 {
    let millis = time
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_millis();
    i64::try_from(millis).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_forward_wakes_a_sleeper_soon() {
        let now = std::sync::Mutex::new(UNIX_EPOCH);
        let hour = Duration::from_secs(3600);
        let started = tokio::time::Instant::now();
        let set = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *now.lock().unwrap() += hour;
        };
        tokio::join!(watch_until(|| *now.lock().unwrap(), UNIX_EPOCH + hour), set);
        assert!(started.elapsed() <= LONGEST_SLEEP);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_set_back_wakes_a_sleeper_soon() {
        let day = Duration::from_secs(24 * 3600);
        let now = std::sync::Mutex::new(UNIX_EPOCH + day);
        let started = tokio::time::Instant::now();
        let set = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            *now.lock().unwrap() = UNIX_EPOCH;
        };
        let deadline = UNIX_EPOCH + 2 * day;
        tokio::join!(watch_until(|| *now.lock().unwrap(), deadline), set);
        assert!(started.elapsed() <= LONGEST_SLEEP);
        let clock = ManualClock::starting_at(UNIX_EPOCH + day);
        let sleeper = clock.sleep_until(deadline);
        tokio::join!(sleeper, async { clock.set(UNIX_EPOCH) });
    }

    #[tokio::test]
    async fn a_sleeper_wakes_only_when_the_manual_clock_reaches_its_deadline() {
        let clock = ManualClock::starting_at(UNIX_EPOCH);
        let sleeper = tokio::spawn(clock.sleep_until(UNIX_EPOCH + Duration::from_secs(5)));
        clock.advance(Duration::from_secs(4));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(Duration::from_secs(1));
        assert!(sleeper.await.is_ok());
    }
}
