//! When a circuit opens, whom it lets through, and when it closes.

use super::*;
use crate::api::{Response, pb};
use crate::error::Origin;

const SECOND: Duration = Duration::from_secs(1);

fn circuit() -> Arc<Circuit> {
    let metrics = Metrics::new().unwrap();
    let config = CircuitConfig::default();
    Arc::new(Circuit::new(&config, "payments".to_owned(), metrics))
}

fn later() -> Instant {
    Instant::now() + 600 * SECOND
}

fn answer() -> Result<Reply> {
    Ok(Reply::new(Response::GetEnvironment(
        pb::GetEnvironmentResponse::default(),
    )))
}

fn error(kind: ErrorKind) -> Result<Reply> {
    Err(Error::new(kind, "what happened"))
}

fn lost() -> Result<Reply> {
    let retry_after = SECOND;
    error(ErrorKind::Unavailable { retry_after })
}

fn throttled(limit: &'static str) -> Result<Reply> {
    error(ErrorKind::Throttled {
        origin: Origin::Upstream,
        limit,
        retry_after: SECOND,
    })
}

fn attempt(circuit: &Arc<Circuit>, outcome: &Result<Reply>) {
    circuit.pass(later()).unwrap().end(outcome);
}

fn attempts(circuit: &Arc<Circuit>, count: usize, outcome: &Result<Reply>) {
    (0..count).for_each(|_| attempt(circuit, outcome));
}

fn opened() -> Arc<Circuit> {
    let circuit = circuit();
    attempts(&circuit, 10, &lost());
    assert!(is_open(&circuit));
    circuit
}

/// The same, at the time of its first probe.
async fn half_open() -> Arc<Circuit> {
    let circuit = opened();
    pass(6.0).await;
    circuit
}

fn is_open(circuit: &Arc<Circuit>) -> bool {
    circuit.closed_to_all_for().is_some()
}

async fn pass(seconds: f64) {
    tokio::time::advance(Duration::from_secs_f64(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn it_opens_when_half_of_at_least_ten_attempts_have_failed() {
    for (answered, failed, opens) in [(0, 9, false), (0, 10, true), (5, 5, true), (6, 5, false)] {
        let circuit = circuit();
        attempts(&circuit, answered, &answer());
        attempts(&circuit, failed, &lost());
        assert_eq!(is_open(&circuit), opens, "{answered} and {failed}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_tells_that_the_upstream_fails_is_a_failure() {
    let invalid = Err(Error::invalid("no"));
    let denied = error(ErrorKind::AccessDenied {
        origin: Origin::Upstream,
    });
    for (outcome, opens) in [
        (lost(), true),
        (error(ErrorKind::OutcomeUnknown), true),
        (error(ErrorKind::DeadlineExceeded), true),
        (throttled("upstream"), false),
        (throttled(pace::LIMIT), false),
        (invalid, false),
        (denied, false),
        (error(ErrorKind::Internal), false),
        (answer(), false),
    ] {
        let circuit = circuit();
        attempts(&circuit, 10, &outcome);
        assert_eq!(is_open(&circuit), opens, "{outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_not_sent_does_not_outweigh_failures_and_what_was_throttled_does() {
    for (limit, opens) in [(pace::LIMIT, true), ("upstream", false)] {
        let circuit = circuit();
        attempts(&circuit, 100, &throttled(limit));
        attempts(&circuit, 10, &lost());
        assert_eq!(is_open(&circuit), opens, "{limit}");
    }
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_after_the_window() {
    let circuit = circuit();
    attempts(&circuit, 5, &lost());
    pass(5.0).await;
    attempts(&circuit, 4, &lost());
    pass(5.5).await;
    attempts(&circuit, 5, &lost());
    assert!(!is_open(&circuit), "the first five are too old");
    attempt(&circuit, &lost());
    assert!(is_open(&circuit), "four and six are ten");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_refused_while_it_is_open_and_told_where_and_for_how_long() {
    let circuit = opened();
    pass(2.0).await;
    let refusal = circuit.pass(later()).err().unwrap();
    let left = refusal.retry_after().unwrap();
    assert!(matches!(*refusal.kind, ErrorKind::Unavailable { .. }));
    assert!((3 * SECOND..=4 * SECOND).contains(&left), "{left:?}");
    for part in ["payments", "circuit", "nothing was sent"] {
        assert!(refusal.message.contains(part), "{refusal}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_lets_one_probe_through_after_its_time_and_closes_if_it_is_answered() {
    let circuit = half_open().await;
    let probe = circuit.pass(later()).unwrap();
    assert!(circuit.pass(later()).is_err(), "one at a time");
    probe.end(&answer());
    attempts(&circuit, 9, &lost());
    assert!(!is_open(&circuit), "what was before is forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_refused_or_throttled_probe_closes_it_as_well() {
    for outcome in [Err(Error::invalid("no")), throttled("upstream")] {
        let circuit = half_open().await;
        attempt(&circuit, &outcome);
        attempts(&circuit, 2, &answer());
    }
}

#[tokio::test(start_paused = true)]
async fn each_probe_that_fails_doubles_the_time_up_to_a_minute() {
    let circuit = opened();
    let mut spans = vec![circuit.closed_to_all_for().unwrap()];
    for _ in 0..6 {
        tokio::time::advance(*spans.last().unwrap()).await;
        attempt(&circuit, &lost());
        spans.push(circuit.closed_to_all_for().unwrap());
    }
    for (span, seconds) in spans.into_iter().zip([5, 10, 20, 40, 60, 60, 60]) {
        let least = seconds * SECOND;
        assert!((least..=least.mul_f64(1.2)).contains(&span), "{span:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn after_it_was_closed_it_opens_for_the_shortest_time_again() {
    let circuit = half_open().await;
    attempt(&circuit, &lost());
    pass(12.0).await;
    attempt(&circuit, &answer());
    attempts(&circuit, 10, &lost());
    assert!(circuit.closed_to_all_for().unwrap() <= 6 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_probe_gives_its_place_back() {
    let circuit = half_open().await;
    drop(circuit.pass(later()).unwrap());
    attempt(&circuit, &answer());
    attempts(&circuit, 2, &answer());
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_was_not_sent_gives_its_place_back() {
    let circuit = half_open().await;
    attempt(&circuit, &throttled(pace::LIMIT));
    let _probe = circuit.pass(later()).unwrap();
    assert!(circuit.pass(later()).is_err(), "it is half-open still");
}

#[tokio::test(start_paused = true)]
async fn what_began_before_it_opened_says_nothing_of_now() {
    let circuit = circuit();
    let (early, late) = (
        circuit.pass(later()).unwrap(),
        circuit.pass(later()).unwrap(),
    );
    attempts(&circuit, 10, &lost());
    early.end(&answer());
    assert!(is_open(&circuit));
    pass(6.0).await;
    let probe = circuit.pass(later()).unwrap();
    late.end(&lost());
    probe.end(&answer());
    attempts(&circuit, 2, &answer());
}

/// A caller in a hurry must not close an upstream to all others.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_its_caller_cut_off_counts_only_if_it_had_its_time() {
    for (seconds, opens) in [(1, false), (4, false), (5, true)] {
        for ends in [true, false] {
            let circuit = circuit();
            let begun: Vec<_> = (0..10)
                .map(|_| circuit.pass(Instant::now() + seconds * SECOND).unwrap())
                .collect();
            tokio::time::advance(seconds * SECOND).await;
            for passage in begun {
                match ends {
                    true => passage.end(&lost()),
                    false => drop(passage),
                }
            }
            assert_eq!(is_open(&circuit), opens, "{seconds} s, ended: {ends}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_before_its_deadline_says_nothing() {
    let circuit = circuit();
    let begun: Vec<_> = (0..100).map(|_| circuit.pass(later()).unwrap()).collect();
    pass(30.0).await;
    drop(begun);
    assert!(!is_open(&circuit));
}

#[tokio::test(start_paused = true)]
async fn its_state_and_what_it_refuses_are_counted() {
    let metrics = Metrics::new().unwrap();
    let config = CircuitConfig::default();
    let name = "payments".to_owned();
    let circuit = Arc::new(Circuit::new(&config, name, metrics.clone()));
    let shown = |line: &str| {
        let page = metrics.page().unwrap();
        assert!(page.contains(line), "{page}");
    };
    shown("proton_gateway_circuit_state{upstream=\"payments\"} 0");
    attempts(&circuit, 10, &lost());
    shown("proton_gateway_circuit_state{upstream=\"payments\"} 2");
    drop(circuit.pass(later()));
    shown("proton_gateway_circuit_refused_total{upstream=\"payments\"} 1");
    pass(6.0).await;
    let probe = circuit.pass(later()).unwrap();
    shown("proton_gateway_circuit_state{upstream=\"payments\"} 1");
    probe.end(&answer());
    shown("proton_gateway_circuit_state{upstream=\"payments\"} 0");
}
