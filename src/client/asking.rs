//! One question to a gateway: how long its answer may take, and when it is asked again.

use std::time::Duration;

use tokio::time::{Instant, timeout};
use tonic::{Code, Status};

use super::failure::pause;

/// How long the gateway may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The answer, which has to come in time.
pub async fn answer<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(Status::unavailable(format!(
            "the gateway did not answer within {}",
            humantime::format_duration(PATIENCE)
        )))
    })
}

/// The same; asked again when a limit has to be waited for and that ends before `until`.
pub async fn within_limits<T>(
    until: Instant,
    mut ask: impl AsyncFnMut() -> Result<T, Status>,
) -> Result<T, Status> {
    let mut limited = 0;
    loop {
        let status = match ask().await {
            Err(status) if status.code() == Code::ResourceExhausted => status,
            answer => return answer,
        };
        let later = pause(&status, limited).map(|pause| Instant::now() + pause);
        match later.filter(|later| *later < until) {
            Some(later) => tokio::time::sleep_until(later).await,
            None => return Err(status),
        }
        limited += 1;
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::{ErrorDetails, StatusExt};

    use super::*;

    /// A refusal by a limit that ends after so many seconds.
    fn limited(seconds: u64) -> Status {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(seconds)));
        Status::with_error_details(Code::ResourceExhausted, "read: 50/s", details)
    }

    #[tokio::test(start_paused = true)]
    async fn a_gateway_that_says_nothing_is_not_waited_for_longer_than_that() {
        let since = Instant::now();
        let silent = answer(std::future::pending::<Result<(), _>>()).await;
        assert_eq!(since.elapsed(), PATIENCE);
        let said = silent.unwrap_err().message().to_owned();
        assert_eq!(said, "the gateway did not answer within 10s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_waited_for_and_then_the_answer_comes() {
        let since = Instant::now();
        let mut refusals = 3;
        let answer = within_limits(since + Duration::from_secs(60), async || {
            if refusals == 0 {
                return Ok("answer");
            }
            refusals -= 1;
            Err(limited(7))
        });
        assert_eq!(answer.await.unwrap(), "answer");
        assert_eq!(since.elapsed(), Duration::from_secs(21));
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_lasts_longer_than_the_patience_is_said_at_once() {
        let since = Instant::now();
        let until = since + Duration::from_secs(60);
        let refused = within_limits(until, async || Err::<(), _>(limited(61))).await;
        assert_eq!(refused.unwrap_err().message(), "read: 50/s");
        assert_eq!(since.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_no_limit_is_not_asked_again() {
        let until = Instant::now() + Duration::from_secs(60);
        let mut asked = 0;
        let refused = within_limits(until, async || {
            asked += 1;
            Err::<(), _>(Status::unavailable("gone"))
        });
        assert_eq!(refused.await.unwrap_err().message(), "gone");
        assert_eq!(asked, 1);
    }
}
