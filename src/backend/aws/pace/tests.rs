use futures_util::FutureExt;

use super::*;
use crate::config::Span;

const SECOND: Duration = Duration::from_secs(1);

fn settings(start: u32) -> UpstreamLimits {
    UpstreamLimits {
        start,
        max: 16,
        queue: 20,
        queue_time: Span(10 * SECOND),
        ..UpstreamLimits::default()
    }
}

fn pace(settings: &UpstreamLimits) -> Pace {
    Pace::new(settings, Metrics::new().unwrap(), None)
}

fn throttled() -> Result<(), Error> {
    let kind = ErrorKind::Throttled {
        origin: Origin::Upstream,
        limit: "upstream",
        retry_after: SECOND,
    };
    Err(Error::new(kind, "slow down"))
}

fn later() -> Instant {
    Instant::now() + 60 * SECOND
}

/// A turn that comes at once.
fn at_once(pace: &Pace) -> Place {
    let turn = pace.turn(Rank::Read, later()).now_or_never();
    turn.expect("a free place").unwrap()
}

/// Lets all tasks do what they can.
async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

/// Waits for a turn on a task of its own, and notes when it comes; the call then ends at once.
fn wait(pace: &Pace, rank: Rank, order: &Arc<Mutex<Vec<Rank>>>) -> tokio::task::JoinHandle<bool> {
    let (pace, order) = (pace.clone(), Arc::clone(order));
    tokio::spawn(async move {
        let place = pace.turn(rank, later()).await;
        let came = place.is_ok();
        if came {
            order.lock().unwrap().push(rank);
        }
        came
    })
}

#[tokio::test(start_paused = true)]
async fn throttling_halves_the_number_once_for_all_calls_of_that_time() {
    let pace = pace(&settings(8));
    let calls: Vec<_> = (0..8).map(|_| at_once(&pace)).collect();
    tokio::time::advance(SECOND).await;
    for call in calls {
        call.end(&throttled());
    }
    assert_eq!(pace.most(), 4);
    let next = at_once(&pace);
    next.end(&throttled());
    assert_eq!(pace.most(), 2);
    for _ in 0..5 {
        at_once(&pace).end(&throttled());
    }
    assert_eq!(pace.most(), 1, "never less than the least");
}

#[tokio::test(start_paused = true)]
async fn each_round_of_good_answers_adds_one() {
    let pace = pace(&settings(4));
    let mut calls = std::collections::VecDeque::new();
    let mut answers = 0;
    while pace.most() < 8 {
        while calls.len() < pace.most() as usize {
            calls.push_back(at_once(&pace));
        }
        calls.pop_front().unwrap().end(&Ok(()));
        answers += 1;
        assert!(answers < 100);
    }
    // Rounds of 4, 5, 6 and 7.
    assert!((22..=26).contains(&answers), "{answers}");
}

#[tokio::test(start_paused = true)]
async fn it_does_not_grow_while_it_is_not_used_nor_beyond_the_most() {
    let pace = pace(&settings(8));
    for _ in 0..100 {
        at_once(&pace).end(&Ok(()));
    }
    assert_eq!(pace.most(), 8);
    for _ in 0..100 {
        let calls: Vec<_> = (0..pace.most()).map(|_| at_once(&pace)).collect();
        calls.into_iter().for_each(|call| call.end(&Ok(())));
    }
    assert_eq!(pace.most(), 16);
}

#[tokio::test(start_paused = true)]
async fn a_slow_call_takes_a_tenth_away_whether_it_was_answered_or_given_up() {
    let pace = pace(&settings(10));
    let call = at_once(&pace);
    tokio::time::advance(settings(10).slow_call.0).await;
    call.end(&Ok(()));
    assert_eq!(pace.most(), 9);
    let call = at_once(&pace);
    tokio::time::advance(settings(10).slow_call.0).await;
    drop(call);
    assert_eq!(pace.most(), 8);
}

#[tokio::test(start_paused = true)]
async fn mutations_go_before_reads_and_reads_before_polls() {
    let pace = pace(&settings(1));
    let order = Arc::default();
    let busy = at_once(&pace);
    for rank in [Rank::Poll, Rank::Read, Rank::Write] {
        wait(&pace, rank, &order);
        wait(&pace, rank, &order);
        settle().await;
    }
    busy.end(&Ok(()));
    settle().await;
    let (w, r, p) = (Rank::Write, Rank::Read, Rank::Poll);
    assert_eq!(*order.lock().unwrap(), [w, w, r, r, p, p]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_passed_over_more_than_a_few_times() {
    let pace = pace(&settings(1));
    let order = Arc::default();
    let busy = at_once(&pace);
    wait(&pace, Rank::Poll, &order);
    settle().await;
    for _ in 0..15 {
        wait(&pace, Rank::Write, &order);
    }
    settle().await;
    busy.end(&Ok(()));
    settle().await;
    let order = order.lock().unwrap();
    let place = order.iter().position(|rank| *rank == Rank::Poll);
    assert_eq!(place, Some(queue::PATIENCE as usize));
    assert_eq!(order.len(), 16);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_gives_its_place_back_whether_it_waits_or_has_its_turn() {
    let pace = pace(&settings(1));
    let busy = at_once(&pace);
    let mut gone = Box::pin(pace.turn(Rank::Write, later()));
    assert!((&mut gone).now_or_never().is_none());
    drop(gone);
    let mut told = Box::pin(pace.turn(Rank::Write, later()));
    assert!((&mut told).now_or_never().is_none());
    let mut next = Box::pin(pace.turn(Rank::Read, later()));
    assert!((&mut next).now_or_never().is_none());
    busy.end(&Ok(()));
    // It was its turn, but it never looked.
    drop(told);
    let next = next.now_or_never().expect("its turn").unwrap();
    drop(next);
    drop(at_once(&pace));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_begin_in_time_is_refused_at_once() {
    let pace = pace(&UpstreamLimits {
        max: 1,
        ..settings(1)
    });
    let call = at_once(&pace);
    tokio::time::advance(4 * SECOND).await;
    call.end(&Ok(()));
    let _busy = at_once(&pace);
    let soon = Instant::now() + SECOND;
    let refused = pace.turn(Rank::Write, soon).now_or_never();
    let error = refused.expect("an answer at once").map(drop).unwrap_err();
    let ErrorKind::Throttled {
        origin,
        limit,
        retry_after,
    } = *error.kind
    else {
        panic!("{error:?}")
    };
    assert_eq!((origin, limit), (Origin::Upstream, LIMIT));
    assert_eq!(retry_after, 2 * SECOND);
    assert!(pace.turn(Rank::Write, later()).now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_refused_by_then() {
    let pace = pace(&settings(1));
    let _busy = at_once(&pace);
    let began = Instant::now();
    let deadline = began + 3 * SECOND;
    assert!(pace.turn(Rank::Read, deadline).await.is_err());
    assert_eq!(began.elapsed(), 3 * SECOND);
    assert!(pace.turn(Rank::Read, later()).await.is_err());
    assert_eq!(began.elapsed(), 13 * SECOND);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_has_room_for_a_mutation_at_the_cost_of_a_poll() {
    let pace = pace(&UpstreamLimits {
        queue: 2,
        ..settings(1)
    });
    let order = Arc::default();
    let busy = at_once(&pace);
    let polls = [
        wait(&pace, Rank::Poll, &order),
        wait(&pace, Rank::Poll, &order),
    ];
    settle().await;
    let another = pace.turn(Rank::Poll, later()).now_or_never();
    assert!(another.expect("an answer at once").is_err());
    let write = wait(&pace, Rank::Write, &order);
    settle().await;
    busy.end(&Ok(()));
    let [first, second] = polls;
    assert!(write.await.unwrap() && first.await.unwrap());
    assert!(!second.await.unwrap(), "the last poll made room");
}

#[tokio::test(start_paused = true)]
async fn each_upstream_has_a_pace_of_its_own() {
    let metrics = Metrics::new().unwrap();
    let paces = Paces::new(&settings(8), metrics.clone()).unwrap();
    let payments: Arc<str> = Arc::from("payments");
    at_once(&paces.of(Some(&payments))).end(&throttled());
    assert_eq!(paces.of(Some(&payments)).most(), 4);
    assert_eq!(paces.of(None).most(), 8);
    let page = metrics.page().unwrap();
    let line = r#"proton_gateway_upstream_calls_allowed{upstream="payments"} 4"#;
    assert!(page.contains(line), "{page}");
    let off = UpstreamLimits {
        enabled: false,
        ..settings(8)
    };
    assert!(Paces::new(&off, metrics).is_none());
}
