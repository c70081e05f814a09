//! Numbers that have to be counted: from time to time, and before somebody sees them.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::Metrics;

/// How often they are counted if nobody wants to see them.
const PERIOD: Duration = Duration::from_secs(15);
/// What was counted so shortly ago is not counted again.
const FRESH: Duration = Duration::from_secs(1);
/// How long one who wants to see them waits for a count; then what there is is shown.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many wait for one at most.
const MOST: usize = 64;

/// Asks for a count. What is sent goes away when it is over.
pub(super) type Ask = mpsc::Sender<oneshot::Sender<()>>;

impl Metrics {
    /// Has `count` done every [`PERIOD`], and whenever somebody wants to see what it counts, at most once
    /// in [`FRESH`]. Call it once, and run what it returns; that never ends by itself.
    pub fn counted<C, F>(&self, count: C) -> impl Future<Output = ()> + use<C, F>
    where
        C: Fn() -> F,
        F: Future<Output = ()>,
    {
        let (ask, mut asked) = mpsc::channel(MOST);
        drop(self.0.ask.set(ask));
        async move {
            let mut asking = None;
            loop {
                count().await;
                let counted = Instant::now();
                // Whoever has asked goes on.
                drop(asking.take());
                asking = loop {
                    match timeout_at(counted + PERIOD, asked.recv()).await {
                        Ok(Some(early)) if counted.elapsed() < FRESH => drop(early),
                        Ok(Some(asking)) => break Some(asking),
                        Ok(None) => std::future::pending().await,
                        Err(_) => break None,
                    }
                };
            }
        }
    }

    /// Returns once what has to be counted is fresh, if that is soon.
    pub async fn refresh(&self) {
        let Some(ask) = self.0.ask.get() else {
            return;
        };
        let fresh = async {
            let (asking, over) = oneshot::channel::<()>();
            if ask.send(asking).await.is_ok() {
                // Nothing is ever sent: it goes away.
                drop(over.await);
            }
        };
        drop(timeout(PATIENCE, fresh).await);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::{advance, sleep};

    use super::*;

    /// Metrics that are counted, and how often they were.
    fn counted() -> (Metrics, Arc<AtomicUsize>) {
        let (metrics, counts) = (Metrics::new().unwrap(), Arc::new(AtomicUsize::new(0)));
        let counting = Arc::clone(&counts);
        tokio::spawn(metrics.counted(move || {
            let counting = Arc::clone(&counting);
            async move {
                counting.fetch_add(1, Ordering::Relaxed);
            }
        }));
        (metrics, counts)
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_asks_has_it_counted_once_in_a_second() {
        let (metrics, counts) = counted();
        let count = || counts.load(Ordering::Relaxed);
        for _ in 0..10 {
            metrics.refresh().await;
        }
        assert_eq!(count(), 1);
        advance(FRESH).await;
        tokio::join!(metrics.refresh(), metrics.refresh());
        assert_eq!(count(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_counted_from_time_to_time_although_nobody_asks() {
        let (_metrics, counts) = counted();
        sleep(PERIOD * 3 + FRESH).await;
        assert_eq!(counts.load(Ordering::Relaxed), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_count_that_lasts_keeps_nobody_for_long() {
        let metrics = Metrics::new().unwrap();
        metrics.refresh().await;
        tokio::spawn(metrics.counted(std::future::pending));
        let began = Instant::now();
        metrics.refresh().await;
        assert_eq!(began.elapsed(), PATIENCE);
    }
}
