//! Changes under idempotency keys, while answers are lost, calls come twice or late, and the
//! upstream throttles: each is made once. All chance comes from a seed, which is printed;
//! `PROTON_FAULTS_SEED` fixes it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

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

#[tokio::test]
async fn ten_thousand_changes() {
    let mut caller = Caller::new(Where::Upstream, random::seed("ten_thousand_changes")).await;
    let begun = std::time::Instant::now();
    caller.wants(1_000).await;
    eprintln!("{:?} {:?}", begun.elapsed(), caller.tally);
    let broken = caller.broken().await;
    eprintln!("{:?}", begun.elapsed());
    assert!(broken.is_empty(), "{}: {:#?}", broken.len(), broken);
}

#[tokio::test]
async fn exact() {
    let mut caller = Caller::new(Where::Caller, random::seed("exact")).await;
    let begun = std::time::Instant::now();
    caller.wants(1_000).await;
    eprintln!("{:?} {:?}", begun.elapsed(), caller.tally);
    let broken = caller.broken().await;
    assert!(broken.is_empty(), "{}: {:#?}", broken.len(), broken);
}
