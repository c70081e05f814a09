//! Changes under idempotency keys, while answers are lost, calls come twice or late, and the
//! upstream throttles: each is made once. All chance comes from a seed, which is printed;
//! `PROTON_FAULTS_SEED` fixes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Some messages have no other fields.
#![allow(clippy::needless_update)]

mod caller;
mod faulty;
mod found;
mod ideal;
mod inventory;
mod random;
#[path = "../conformance/service_fixtures.rs"]
// Some of it is for other suites.
#[allow(dead_code)]
mod service_fixtures;
#[path = "../support/mod.rs"]
#[allow(dead_code)]
mod support;
mod workload;

use caller::{Caller, Where};
use random::Random;

/// Many changes of few names, which all depend on one seed.
async fn long(test: &str, place: Where, changes: usize) {
    let seed = random::seed(test);
    let mut caller = Caller::new(place).await;
    caller.begin(seed, "");
    caller.wants(changes).await;
    let broken = caller.broken().await;
    eprintln!("{test}: {:?}", caller.tally);
    assert!(broken.is_empty(), "PROTON_FAULTS_SEED={seed}: {broken:#?}");
    caller.tally.check();
}

/// Many seeds with few changes each, which have names of their own in their world.
async fn short(test: &str, place: Where, worlds: usize) {
    const SEEDS: usize = 25;
    let mut seed = random::seed(test);
    let fixed = random::fixed_seed().is_some();
    let (worlds, seeds) = if fixed { (1, 1) } else { (worlds, SEEDS) };
    let mut choice = Random::seeded(seed);
    for _ in 0..worlds {
        let mut caller = Caller::new(place).await;
        let mut names = String::new();
        for number in 0..seeds {
            let own = format!("w{number}");
            caller.begin(seed, &own);
            caller.wants(20).await;
            names.push_str(&format!("{own}: PROTON_FAULTS_SEED={seed}\n"));
            seed = choice.number();
        }
        let broken = caller.broken().await;
        assert!(broken.is_empty(), "{names}{broken:#?}");
    }
}

#[tokio::test]
async fn ten_thousand_changes_before_an_upstream_that_fails() {
    long("ten thousand", Where::Upstream, 10_000).await;
}

#[tokio::test]
async fn ten_thousand_changes_one_after_the_other_before_an_upstream_that_fails() {
    long("one after the other", Where::UpstreamOfOne, 10_000).await;
}

#[tokio::test]
async fn five_thousand_changes_before_a_gateway_that_fails() {
    long("before a gateway", Where::Gateway, 5_000).await;
}

#[tokio::test]
async fn two_thousand_changes_of_a_caller_that_loses_answers() {
    long("two thousand", Where::Caller, 2_000).await;
}

/// A thousand seeds, in parts that run beside each other.
macro_rules! seeds {
    ($($name:ident: $worlds:expr, $place:expr;)+) => {$(
        #[tokio::test]
        async fn $name() {
            short(stringify!($name), $place, $worlds).await;
        }
    )+};
}

seeds! {
    many_seeds_1: 10, Where::Upstream;
    many_seeds_2: 10, Where::Upstream;
    many_seeds_3: 10, Where::Upstream;
    many_seeds_4: 10, Where::Upstream;
    many_seeds_before_a_gateway: 4, Where::Gateway;
    many_seeds_of_a_caller_that_loses_answers: 4, Where::Caller;
}
