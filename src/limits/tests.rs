use super::*;
use crate::config::limits::Limits;

fn limiter_and_metrics(text: &str) -> (Limiter, Metrics) {
    let limits: Limits = toml::from_str(text).unwrap();
    let metrics = Metrics::new().unwrap();
    (Limiter::new(&limits, metrics.clone()).unwrap(), metrics)
}

fn limiter(text: &str) -> Limiter {
    limiter_and_metrics(text).0
}

fn principal(id: &str) -> Principal {
    Principal {
        id: id.to_owned(),
        method: Method::Token,
        ..(*Principal::anonymous()).clone()
    }
}

fn rpc(name: &str) -> &'static Rpc {
    Rpc::of(name).unwrap()
}

/// Whose limit refuses a read of this caller, and when to come back.
fn refusal(outcome: Result<Held>) -> (&'static str, Duration) {
    match outcome.map(drop).unwrap_err().kind.as_ref() {
        ErrorKind::Throttled {
            limit, retry_after, ..
        } => (limit, *retry_after),
        other => panic!("{other:?}"),
    }
}

fn read(limiter: &Limiter, id: &str) -> Result<Held> {
    limiter.call(rpc("GetService"), &principal(id))
}

#[tokio::test(start_paused = true)]
async fn a_burst_passes_and_a_refused_caller_who_comes_back_as_told_is_let_in() {
    let limiter = limiter("read = { rate = \"10/s\", burst = 2 }");
    drop(read(&limiter, "a").unwrap());
    drop(read(&limiter, "a").unwrap());
    let (limit, wait) = refusal(read(&limiter, "a"));
    assert_eq!((limit, wait), ("caller/read", Duration::from_millis(100)));
    tokio::time::advance(wait).await;
    assert!(read(&limiter, "a").is_ok());
}

#[tokio::test(start_paused = true)]
async fn classes_and_callers_have_buckets_of_their_own() {
    let limiter =
        limiter("read = { rate = \"1/s\", burst = 1 }\nwrite = { rate = \"1/s\", burst = 1 }");
    let write = || limiter.call(rpc("DeleteService"), &principal("a"));
    assert!(read(&limiter, "a").is_ok() && write().is_ok());
    assert_eq!(refusal(write()).0, "caller/write");
    assert!(read(&limiter, "b").is_ok());
    let wait = rpc("WaitServiceCreated");
    for _ in 0..10 {
        assert!(limiter.stream(wait, &principal("a")).is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_rpc_takes_what_it_costs() {
    let limiter = limiter(
        "read = { rate = \"1/s\", burst = 5 }\ncosts = { ListServices = 3, GetAccountSettings = 0 }",
    );
    let call = |name| limiter.call(rpc(name), &principal("a"));
    assert!(call("ListServices").is_ok());
    assert_eq!(refusal(call("ListServices")).1, Duration::from_secs(1));
    assert!(call("GetService").is_ok() && call("GetService").is_ok());
    assert!(call("GetService").is_err());
    assert!(call("GetAccountSettings").is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_override_of_the_principal_goes_before_one_of_its_roles() {
    let limiter = limiter(
        r#"
        read = { rate = "1/s", burst = 1 }
        overrides = [
            { role = "platform", read = { rate = "1/s", burst = 2 } },
            { principal = "a", read = { rate = "1/s", burst = 3 } },
            { role = "other", calls = 1 },
        ]"#,
    );
    let burst = |id: &str, roles: &[&str]| {
        let caller = Principal {
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
            ..principal(id)
        };
        let call = || limiter.call(rpc("GetService"), &caller);
        std::iter::repeat_with(call)
            .take_while(Result::is_ok)
            .count()
    };
    assert_eq!(burst("a", &["platform"]), 3);
    assert_eq!(burst("b", &["platform"]), 2);
    assert_eq!(burst("c", &[]), 1);
    assert_eq!(
        burst("d", &["other"]),
        1,
        "what it does not say is as for all"
    );
}

#[tokio::test(start_paused = true)]
async fn a_greedy_caller_takes_nothing_from_the_total_beyond_its_own() {
    let limiter =
        limiter("read = { rate = \"1/s\", burst = 2 }\ntotal = { rate = \"1/s\", burst = 4 }");
    for _ in 0..100 {
        drop(read(&limiter, "greedy"));
    }
    assert!(read(&limiter, "modest").is_ok() && read(&limiter, "modest").is_ok());
    assert_eq!(refusal(read(&limiter, "late")).0, "total/rate");
}

#[tokio::test(start_paused = true)]
async fn whom_the_total_refuses_keeps_its_own() {
    let limiter =
        limiter("read = { rate = \"1/h\", burst = 1 }\ntotal = { rate = \"1/s\", burst = 1 }");
    assert!(read(&limiter, "a").is_ok());
    let (limit, wait) = refusal(read(&limiter, "b"));
    assert_eq!(limit, "total/rate");
    tokio::time::advance(wait).await;
    assert!(read(&limiter, "b").is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_place_is_taken_until_it_is_given_back() {
    let limiter = limiter("calls = 1\nstreams = 1\ntotal = { calls = 2, streams = 2 }");
    let first = read(&limiter, "a").unwrap();
    assert_eq!(refusal(read(&limiter, "a")), ("caller/calls", LATER));
    let second = read(&limiter, "b").unwrap();
    assert_eq!(refusal(read(&limiter, "c")).0, "total/calls");
    let open = |id: &str| limiter.stream(rpc("WatchDeployment"), &principal(id));
    let _stream = open("a").unwrap();
    assert_eq!(refusal(open("a")).0, "caller/streams");
    let _other = open("b").unwrap();
    assert_eq!(refusal(open("c")).0, "total/streams");
    drop((first, second));
    assert!(read(&limiter, "a").is_ok() && read(&limiter, "c").is_ok());
}

#[tokio::test(start_paused = true)]
async fn streams_are_bounded_although_nobody_has_asked_for_it() {
    for limiter in [
        Limiter::of_streams(Metrics::new().unwrap()),
        // Not even for show: what nobody has asked for cannot be tried out.
        limiter("shadow = true\ncalls = 1"),
    ] {
        let open = |caller: &Principal| limiter.stream(rpc("WatchDeployment"), caller);
        let streams = |caller: &Principal, most| -> Vec<_> {
            let opened = std::iter::repeat_with(|| open(caller)).take(most);
            opened.map_while(Result::ok).collect()
        };
        let of_one = streams(&principal("a"), 20_000);
        assert_eq!(of_one.len(), 2_500);
        assert_eq!(refusal(open(&principal("a"))).0, "caller/streams");
        let anonymous = Principal::anonymous();
        let of_nobody = streams(&anonymous, 20_000);
        assert_eq!(of_nobody.len(), 7_500);
        assert_eq!(refusal(open(&anonymous)).0, "total/streams");
        drop(of_one);
        assert!(open(&anonymous).is_ok());
    }
    let wide = limiter("streams = 20000\ntotal = { streams = 30000 }");
    let open = || wide.stream(rpc("WatchDeployment"), &principal("a"));
    let held: Vec<_> = std::iter::repeat_with(open).take(20_001).collect();
    assert_eq!(held.iter().filter(|it| it.is_ok()).count(), 20_000);
}

#[tokio::test(start_paused = true)]
async fn other_limits_free_whom_the_ones_before_held_up() {
    let slow = "read = { rate = \"1/h\", burst = 2 }\ntotal = { rate = \"1/h\", burst = 2 }";
    let limiter = limiter(slow);
    assert!(read(&limiter, "a").is_ok() && read(&limiter, "a").is_ok());
    assert!(refusal(read(&limiter, "a")).1 > Duration::from_secs(3000));
    let fast =
        "read = { rate = \"1000/s\", burst = 100 }\ntotal = { rate = \"1000/s\", burst = 100 }";
    limiter.change(&toml::from_str(fast).unwrap());
    // Its own bucket, and then that of all, is as empty as can be, and no emptier.
    for _ in 0..2 {
        let (_, wait) = refusal(read(&limiter, "a"));
        assert_eq!(wait, Duration::from_millis(1));
        tokio::time::advance(wait).await;
    }
    assert!(read(&limiter, "a").is_ok());
}

#[tokio::test(start_paused = true)]
async fn in_the_shadow_everything_is_let_through_and_counted() {
    let (limiter, metrics) =
        limiter_and_metrics("shadow = true\ncalls = 1\nread = { rate = \"1/h\", burst = 2 }");
    let held: Vec<_> = (0..3).map(|_| read(&limiter, "a")).collect();
    assert!(held.iter().all(Result::is_ok));
    drop(held);
    assert!(read(&limiter, "a").is_ok() && read(&limiter, "a").is_ok());
    let page = metrics.page().unwrap();
    for line in [
        r#"proton_gateway_limited_total{class="read",limit="caller/calls",shadow="true"} 2"#,
        r#"proton_gateway_limited_total{class="read",limit="caller/read",shadow="true"} 1"#,
    ] {
        assert!(page.contains(line), "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_polls_are_not_limited() {
    let limiter = limiter("read = { rate = \"1/h\", burst = 1 }\ncalls = 1");
    let polls: Vec<_> = (0..10)
        .map(|_| limiter.call(rpc("GetService"), &Principal::gateway()))
        .collect();
    assert!(polls.iter().all(Result::is_ok));
    assert_eq!(limiter.remembered(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_idle_caller_is_forgotten_for_a_newcomer_and_loses_nothing() {
    let limiter = limiter("max-callers = 1\nread = { rate = \"1/s\", burst = 2 }");
    drop(read(&limiter, "a").unwrap());
    tokio::time::advance(Duration::from_secs(1)).await;
    drop(read(&limiter, "b").unwrap());
    assert_eq!(limiter.remembered(), 1);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(read(&limiter, "a").is_ok() && read(&limiter, "a").is_ok());
    assert!(read(&limiter, "a").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_busy_caller_is_not_forgotten_and_newcomers_share_one_limit() {
    let limiter = limiter("max-callers = 1\nstreams = 1\nread = { rate = \"1/h\", burst = 1 }");
    let _stream = limiter
        .stream(rpc("WatchDeployment"), &principal("a"))
        .unwrap();
    assert!(read(&limiter, "b").is_ok());
    assert!(
        read(&limiter, "c").is_err(),
        "b has used what newcomers share"
    );
    let again = limiter.stream(rpc("WatchDeployment"), &principal("a"));
    assert_eq!(refusal(again).0, "caller/streams");
}

#[test]
fn a_million_callers_take_the_room_of_those_that_are_remembered() {
    let most = 5_000;
    let limiter = limiter(&format!(
        "max-callers = {most}\nread = {{ rate = \"1000000/s\", burst = 1 }}"
    ));
    let rpc = rpc("GetService");
    let all_of = |numbers: std::ops::Range<u32>| {
        let mut caller = principal("");
        for number in numbers {
            caller.id.clear();
            caller.id.push_str(&number.to_string());
            drop(limiter.call(rpc, &caller));
        }
    };
    std::thread::scope(|threads| {
        threads.spawn(|| all_of(0..500_000));
        threads.spawn(|| all_of(500_000..1_000_000));
    });
    let remembered = limiter.remembered();
    assert!((most / 2..=most).contains(&remembered), "{remembered}");
}
